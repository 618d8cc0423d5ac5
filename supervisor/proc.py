"""State of a process, read from ``/proc``."""

from __future__ import annotations

from typing import Final

_GONE: Final = frozenset({None, "Z", "X"})
_STOPPED: Final = frozenset({"T", "t"})


def state_of(pid: int) -> str | None:
    """Return the kernel's letter for a process's state (``R``, ``T``, ``Z`` …); None without a process."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:  # noqa: PTH123 - pathlib costs start-up time
            return file.read().rpartition(b")")[2].split()[0].decode()
    except (OSError, IndexError):
        return None


def is_alive(pid: int) -> bool:
    """Return whether a process exists and is not a zombie."""
    return state_of(pid) not in _GONE


def is_stopped(pid: int) -> bool:
    """Return whether a process is stopped and so reacts to SIGKILL and SIGCONT alone."""
    return state_of(pid) in _STOPPED
