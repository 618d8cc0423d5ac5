"""Lock of a run directory: at most one supervisor runs on it.

It is a POSIX record lock: a fork does not inherit it (a ``flock`` would survive in every worker), and the kernel
releases it on any exit. The file is opened once only, because closing any descriptor of it releases the lock. The pid
in the file is for operators; the program never reads it.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import struct
from pathlib import Path
from typing import Final

from ipc.errors import AlreadyRunningError, RunDirError, UnknownStateError

#: struct flock on 64-bit Linux: l_type, l_whence, l_start, l_len, l_pid (fcntl(2)).
_FLOCK: Final = "hhqqi4x"


class InstanceLock:
    """Exclusive lock, held from construction until the process exits.

    Raises:
        AlreadyRunningError: Another supervisor holds it.
        RunDirError: The file cannot be created.
    """

    def __init__(self, path: Path) -> None:
        try:
            self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise RunDirError(f"the lock cannot be made: {error.strerror}", where=str(path)) from error
        try:
            fcntl.lockf(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            os.close(self._file)
            raise _already_running(path, holder_of(path)) from error
        with contextlib.suppress(OSError):  # a full disk is no reason not to start: the kernel knows the holder
            os.ftruncate(self._file, 0)
            os.pwrite(self._file, f"{os.getpid()}\n".encode(), 0)


def refuse_second(path: Path) -> None:
    """Refuse to go on while another process holds the lock; acquires nothing.

    Raises:
        AlreadyRunningError: Another supervisor holds it.
    """
    pid = holder_of(path)
    if pid is not None:
        raise _already_running(path, pid)


def _already_running(path: Path, pid: int | None) -> AlreadyRunningError:
    return AlreadyRunningError(
        f"a supervisor is already running here (pid {pid})",
        where=str(path.parent),
        advice="stop it with `paraphina-supervisor stop`, or choose another --run-dir",
    )


def holder_of(path: Path) -> int | None:
    """Return the pid of the process that holds the lock; None when it is free. Not for the holder itself.

    Raises:
        UnknownStateError: The lock belongs to another user.
    """
    try:
        file = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    except PermissionError as error:
        raise UnknownStateError(
            f"cannot check whether a supervisor is running: {error.strerror}",
            where=str(path),
            advice="ask as the user who runs it",
        ) from error
    except OSError:
        return None
    try:
        query = struct.pack(_FLOCK, fcntl.F_WRLCK, os.SEEK_SET, 0, 0, 0)
        kind, _, _, _, pid = struct.unpack(_FLOCK, fcntl.fcntl(file, fcntl.F_GETLK, query))
    finally:
        os.close(file)
    return pid if kind != fcntl.F_UNLCK else None
