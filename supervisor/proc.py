"""States of processes, read from ``/proc``, and of the process at the other end of a socket."""

from __future__ import annotations

import os
import re
import socket
import struct
from typing import Final, NamedTuple

#: struct ucred: pid, uid, gid (unix(7)).
_UCRED: Final = "3i"
_GONE: Final = frozenset({None, "Z", "X"})
_STOPPED: Final = frozenset({"T", "t"})
_TRACED: Final = re.compile(rb"^(State:\tt|TracerPid:\t[1-9])", re.MULTILINE)


#: Fields of ``/proc/PID/stat`` behind the name: state, and the CPU time of user and kernel mode in clock ticks, the
#: resident pages (proc_pid_stat(5)).
_STATE, _UTIME, _STIME, _RSS = 0, 11, 12, 21
_TICKS_PER_S: Final = os.sysconf("SC_CLK_TCK")
_PAGE_BYTES: Final = os.sysconf("SC_PAGE_SIZE")


class Usage(NamedTuple):
    """CPU time of a process since its start, s, and its resident memory."""

    cpu_s: float
    rss_bytes: int


class Peer(NamedTuple):
    """Process at the other end of a Unix socket; its pid is 0 in another PID namespace."""

    pid: int
    uid: int


def peer_of(connection: socket.socket) -> Peer:
    """Return who listened on, or connected, the other end of a Unix socket (SO_PEERCRED); raise OSError."""
    pid, uid, _ = struct.unpack(
        _UCRED, connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize(_UCRED))
    )
    return Peer(pid, uid)


def state_of(pid: int) -> str | None:
    """Return the kernel's letter for a process's state (``R``, ``T``, ``Z`` …); None without a process."""
    fields = _stat_of(pid)
    return fields[_STATE].decode() if fields else None


def usage_of(pid: int) -> Usage | None:
    """Return what a process uses; None without a process, or for a zombie."""
    fields = _stat_of(pid)
    if len(fields) <= _RSS or fields[_STATE].decode() in _GONE:
        return None
    ticks = int(fields[_UTIME]) + int(fields[_STIME])
    return Usage(ticks / _TICKS_PER_S, int(fields[_RSS]) * _PAGE_BYTES)


def is_alive(pid: int) -> bool:
    """Return whether a process exists and is not a zombie."""
    return state_of(pid) not in _GONE


def is_stopped(pid: int) -> bool:
    """Return whether a process is stopped and so reacts to SIGKILL and SIGCONT alone."""
    return state_of(pid) in _STOPPED


def is_traced(pid: int) -> bool:
    """Return whether a debugger holds a thread of a process.

    A tracer in another PID namespace has no pid here; a thread that it stopped still shows the state.
    """
    try:
        threads = list(os.scandir(f"/proc/{pid}/task"))
    except OSError:
        return False
    return any(_TRACED.search(_status_of(thread.path)) for thread in threads)


def pid_namespace() -> int | None:
    """Return the inode of this process's PID namespace: pids mean something within it alone. None without /proc."""
    try:
        return os.stat("/proc/self/ns/pid").st_ino  # noqa: PTH116 - pathlib costs start-up time of ``status``
    except OSError:
        return None


def _stat_of(pid: int) -> list[bytes]:
    """Return the fields of a process behind its name; none without a process."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:  # noqa: PTH123 - pathlib costs start-up time
            return file.read().rpartition(b")")[2].split()
    except OSError:
        return []


def _status_of(directory: str) -> bytes:
    try:
        with open(f"{directory}/status", "rb") as file:  # noqa: PTH123
            return file.read()
    except OSError:
        return b""
