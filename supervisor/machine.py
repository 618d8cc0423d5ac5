"""Requirements of the machine: kernel calls that a container runtime may refuse, and /proc.

``start`` refuses to run without one of them, and ``check`` lists them all in the same words.
"""

from __future__ import annotations

import ctypes
import errno
import os
import signal
import socket
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final, TypeAlias

from ipc.errors import UsageError

#: Requirement, and the problem with it; None when it is met.
Finding: TypeAlias = tuple[str, str | None]

_PR_SET_PDEATHSIG: Final = 1
_PR_GET_PDEATHSIG: Final = 2
_PROC: Final = Path("/proc")
_REFUSALS: Final = frozenset({errno.EPERM, errno.EACCES, errno.ENOSYS})
_NEEDED: Final = "this program needs Linux 5.4 or newer"
_MOUNT: Final = "mount this one's: mount -t proc proc /proc, or unshare --mount-proc"


def findings() -> Iterator[Finding]:
    """Return each requirement with its problem; only the first when the system is not Linux."""
    is_linux = sys.platform == "linux"
    problem = _problem_with_pidfds() if is_linux else f"{sys.platform} has none; {_NEEDED}"
    yield "Linux with pidfds", problem
    if problem is None:
        yield _signals(), None
    if is_linux:
        yield "/proc of this PID namespace", _problem_with_proc()
        yield "children that die with their parent", _refused("prctl(PR_SET_PDEATHSIG)", _set_death_signal)
        yield "abstract Unix sockets", _refused("bind", _bind_abstract)
        yield "scheduling of threads", _refused("sched_setscheduler", _set_scheduling)


def require_machine() -> None:
    """Refuse to start on a machine that lacks a requirement.

    Raises:
        UsageError: Names the first one that is missing, with advice.
    """
    for what, problem in findings():
        if problem is not None:
            raise UsageError(problem, where=what)


def _problem_with_pidfds() -> str | None:
    if not hasattr(os, "pidfd_open"):
        return "this Python was built without os.pidfd_open (use one that was built on Linux 5.4 or newer)"
    return _refused("pidfd_open", lambda: os.close(os.pidfd_open(os.getpid())))


def _signals() -> str:
    """Return how children are signalled: without pidfd_send_signal by pid, which is safe until they are reaped."""
    problem = _refused("pidfd_send_signal", _signal_nothing)
    return "signals by pidfd" if problem is None else f"signals by pid: {problem}"


def _problem_with_proc() -> str | None:
    try:
        shown = (_PROC / "self").readlink().name
    except OSError:
        return f"it is not mounted ({_MOUNT})"
    return None if shown == str(os.getpid()) else f"it belongs to another PID namespace ({_MOUNT})"


def _signal_nothing() -> None:
    pidfd = os.pidfd_open(os.getpid())
    try:
        signal.pidfd_send_signal(pidfd, 0)
    finally:
        os.close(pidfd)


def _set_death_signal() -> None:
    """Set the signal that the parent's death sends to the one that is set already."""
    libc = ctypes.CDLL(None, use_errno=True)
    number = ctypes.c_int()
    if libc.prctl(_PR_GET_PDEATHSIG, ctypes.byref(number)) or libc.prctl(_PR_SET_PDEATHSIG, number):
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))


def _bind_abstract() -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener:
        listener.bind("")  # the kernel chooses an abstract name


def _set_scheduling() -> None:
    """Set the scheduling to what it is, as libzmq does in its threads; it aborts the process when that is refused."""
    os.sched_setscheduler(0, os.sched_getscheduler(0), os.sched_getparam(0))


def _refused(call: str, attempt: Callable[[], None]) -> str | None:
    """Return the problem with a kernel call, with advice; None when it works."""
    try:
        attempt()
    except OSError as error:
        if error.errno not in _REFUSALS:
            return f"{call} fails: {error.strerror}"
        advice = f"allow {call} in the seccomp profile of the container runtime, or use a newer runtime"
        if error.errno == errno.ENOSYS:
            advice = f"{_NEEDED}, this is {os.uname().release}; on a newer kernel, {advice}"
        return f"{call} is refused: {error.strerror} ({advice})"
    return None
