"""Program that runs another one under a seccomp filter: ``refused_calls.py ERRNO NUMBER[,NUMBER] PROGRAM ARGUMENT…``.

The kernel answers the system calls with these numbers with an error, as a container runtime's older profile does.
"""

from __future__ import annotations

import ctypes
import os
import struct
import sys
from collections.abc import Sequence
from typing import Final

#: The same on every architecture but alpha.
PIDFD_SEND_SIGNAL: Final = 424
PIDFD_OPEN: Final = 434
#: By machine (``uname -m``).
SCHED_SETSCHEDULER: Final = {"x86_64": 144, "aarch64": 119}
_PR_SET_SECCOMP: Final = 22
_PR_SET_NO_NEW_PRIVS: Final = 38
_SECCOMP_MODE_FILTER: Final = 2
_SECCOMP_RET_ALLOW: Final = 0x7FFF0000
_SECCOMP_RET_ERRNO: Final = 0x00050000
_BPF_LD_W_ABS: Final = 0x20
_BPF_JEQ_K: Final = 0x15
_BPF_RET_K: Final = 0x06


class _Program(ctypes.Structure):
    """struct sock_fprog."""

    _fields_ = (("len", ctypes.c_ushort), ("filter", ctypes.c_char_p))


def _filter(error: int, numbers: Sequence[int]) -> bytes:
    """Return the filter: load the call's number, jump to the error when it is one of ``numbers``, else allow."""
    steps = [(_BPF_LD_W_ABS, 0, 0, 0)]
    steps += [(_BPF_JEQ_K, len(numbers) - index, 0, number) for index, number in enumerate(numbers)]
    steps += [(_BPF_RET_K, 0, 0, _SECCOMP_RET_ALLOW), (_BPF_RET_K, 0, 0, _SECCOMP_RET_ERRNO | error)]
    return b"".join(struct.pack("HBBI", *step) for step in steps)


def refuse(error: int, numbers: Sequence[int]) -> None:
    """Let the kernel refuse these calls from now on."""
    code = _filter(error, numbers)
    libc = ctypes.CDLL(None, use_errno=True)
    program = _Program(len(code) // 8, code)
    if libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) or libc.prctl(
        _PR_SET_SECCOMP, _SECCOMP_MODE_FILTER, ctypes.byref(program)
    ):
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))


if __name__ == "__main__":
    refuse(int(sys.argv[1]), [int(number) for number in sys.argv[2].split(",")])
    os.execvp(sys.argv[3], sys.argv[3:])  # noqa: S606 - the tests name the program
