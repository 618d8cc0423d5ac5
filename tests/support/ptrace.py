"""Debugger of the tests: seizes a thread with ptrace(2), stops it, and lets it go."""

from __future__ import annotations

import ctypes
import os
from types import TracebackType
from typing import Final, Self

_PTRACE_DETACH: Final = 17
_PTRACE_SEIZE: Final = 0x4206
_PTRACE_INTERRUPT: Final = 0x4207
_WALL: Final = 0x40000000
_libc: Final = ctypes.CDLL(None, use_errno=True)
_libc.ptrace.argtypes = [ctypes.c_long, ctypes.c_long, ctypes.c_void_p, ctypes.c_void_p]
_libc.ptrace.restype = ctypes.c_long


def _ptrace(request: int, thread: int) -> None:
    if _libc.ptrace(request, thread, None, None) < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))


class Debugger:
    """Debugger that holds threads while the context lasts; PermissionError where ptrace is not allowed."""

    def __init__(self, *threads: int) -> None:
        self._threads = threads

    def __enter__(self) -> Self:
        for thread in self._threads:
            _ptrace(_PTRACE_SEIZE, thread)
            _ptrace(_PTRACE_INTERRUPT, thread)
            os.waitpid(thread, _WALL)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for thread in self._threads:
            _ptrace(_PTRACE_DETACH, thread)
