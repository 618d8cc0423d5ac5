"""Lock of a run directory: at most one system runs on it.

Two locks, both freed by the kernel on any exit, exclude each other's weaknesses:

* An abstract Unix socket, named after user, file system and path of the directory. It is bound before the directory is
  touched and survives its removal, but is valid only within one network namespace.
* A lock file in the directory, valid for everybody who sees the directory, but gone when the directory is removed. It
  is a POSIX record lock: a fork does not inherit it (a ``flock`` would survive in every worker). Closing any
  descriptor of the file releases it, so each process opens it once. The pid in it is for operators alone.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import os
import socket
import struct
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from ipc.errors import AlreadyRunningError, ForeignSystemError, RunDirError
from ipc.log import get_log
from ipc.rundir import RunDir
from ipc.users import owner_of
from ipc.watched_files import identity_of
from supervisor.proc import peer_of

log = get_log(__name__)

#: struct flock on 64-bit Linux: l_type, l_whence, l_start, l_len, l_pid (fcntl(2)).
_FLOCK: Final = "hhqqi4x"
#: Questions that may wait until the holder drops them.
_BACKLOG: Final = 1024
#: How long another process may take between binding the name and listening.
_BIND_S: Final = 1.0


@dataclass(frozen=True, slots=True)
class Holder:
    """Process that holds a run directory; its pid is None in another PID namespace, where it is not visible."""

    pid: int | None

    def __str__(self) -> str:
        """Return its pid in words."""
        return f"pid {self.pid}" if self.pid is not None else "in another PID namespace"


class InstanceLock:
    """Exclusive lock on a file, held from construction until the process exits.

    Raises:
        AlreadyRunningError: Another supervisor holds it.
        RunDirError: The file cannot be created.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file = _lock_file(path)

    @property
    def is_intact(self) -> bool:
        """True while the path names the locked file."""
        found = os.fstat(self._file)
        return identity_of(self._path) == (found.st_dev, found.st_ino)

    def restore(self) -> None:
        """Lock a new file in place of a lost one; raise AlreadyRunningError if another supervisor was faster."""
        lost, self._file = self._file, _lock_file(self._path)
        os.close(lost)

    def close(self) -> None:
        """Release the lock."""
        os.close(self._file)


class InstanceName:
    """Abstract Unix socket in the name of a run directory, held until the process exits; forked children close it.

    A name that another user holds, or nobody answers for, is ignored: anybody could block us with it.

    Raises:
        AlreadyRunningError: Another process of this user holds it.
    """

    def __init__(self, path: Path) -> None:
        self._listener: socket.socket | None = None
        name, deadline = name_of(path), time.monotonic() + _BIND_S
        while (listener := _listen(name)) is None:
            asked = _ask(name)
            if isinstance(asked, Holder):
                raise _already_running(path, asked)
            if asked is not None or time.monotonic() > deadline:
                log.warning("run_dir.name_taken", path=str(path), uid=asked)
                return
            time.sleep(0.01)
        self._listener = listener

    def drop_questions(self) -> None:
        """Drop the connections of those who asked for the holder; the kernel has answered them."""
        if self._listener is not None:
            with contextlib.suppress(OSError):
                while True:
                    self._listener.accept()[0].close()

    def close(self) -> None:
        """Free the name."""
        if self._listener is not None:
            self._listener.close()


class Instance:
    """Exclusive use of a run directory, which is created if it is missing.

    Raises:
        AlreadyRunningError: Another supervisor runs on it; the directory was not touched.
        RunDirError: The directory cannot be used.
    """

    def __init__(self, run_dir: RunDir) -> None:
        self.name = InstanceName(run_dir.path)
        try:
            run_dir.prepare()
            self.lock = InstanceLock(run_dir.lock)
        except BaseException:
            self.name.close()
            raise
        try:
            run_dir.remove_leftovers()
        except OSError as error:
            log.warning("run_dir.leftovers", path=str(run_dir.path), error=str(error))

    def close(self) -> None:
        """Release the directory."""
        self.lock.close()
        self.name.close()


def _lock_file(path: Path) -> int:
    """Open and lock a file; return its descriptor."""
    try:
        file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    except OSError as error:
        raise RunDirError(f"the lock cannot be made: {error.strerror}", where=str(path)) from error
    try:
        fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        os.close(file)
        raise _already_running(path.parent, holder_of(path)) from error
    with contextlib.suppress(OSError):  # a full disk is no reason not to start: the kernel knows the holder
        os.ftruncate(file, 0)
        os.pwrite(file, f"{os.getpid()}\n".encode(), 0)
    return file


def _already_running(directory: Path, holder: Holder | None) -> AlreadyRunningError:
    return AlreadyRunningError(
        f"a supervisor is already running here ({holder})" if holder else "a supervisor is already running here",
        where=str(directory),
        advice="stop it with `paraphina-supervisor stop`, or choose another --run-dir",
    )


def holder_of(path: Path) -> Holder | None:
    """Return who holds the run directory of a lock file; None when it is free. Not for the holder itself.

    Raises:
        ForeignSystemError: The lock belongs to another user.
    """
    holder = _holder_of_file(path)
    if holder is None:
        asked = _ask(name_of(path.parent))
        return asked if isinstance(asked, Holder) else None
    return holder


def _holder_of_file(path: Path) -> Holder | None:
    try:
        file = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    except PermissionError as error:
        raise ForeignSystemError(owner_of(path.parent)) from error
    except OSError:
        return None
    try:
        query = struct.pack(_FLOCK, fcntl.F_WRLCK, os.SEEK_SET, 0, 0, 0)
        kind, _, _, _, pid = struct.unpack(_FLOCK, fcntl.fcntl(file, fcntl.F_GETLK, query))
    finally:
        os.close(file)
    return None if kind == fcntl.F_UNLCK else Holder(pid or None)


def name_of(path: Path) -> bytes:
    """Return the abstract socket of a run directory.

    The file system is part of it: containers with a common network may have different directories of one path.
    """
    real = Path(os.path.realpath(path))
    existing = next(one for one in (real, *real.parents) if os.path.lexists(one))
    key = f"{existing.stat().st_dev} {real}"
    digest = hashlib.sha256(os.fsencode(key)).hexdigest()
    return f"\0paraphina-supervisor/{os.getuid()}/{digest}".encode()


def _listen(name: bytes) -> socket.socket | None:
    """Return a listening socket, or None when the name is taken."""
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
    try:
        listener.bind(name)
        listener.listen(_BACKLOG)
    except OSError as error:
        listener.close()
        if error.errno != errno.EADDRINUSE:
            raise RunDirError(f"no socket can be made in its name: {error.strerror}") from error
        return None
    return listener


def _ask(name: bytes) -> Holder | int | None:
    """Return who listens on an abstract socket: a process of this user, another user's uid, or None for nobody."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK) as client:
        try:
            client.connect(name)
            peer = peer_of(client)
        except OSError:
            return None
    return Holder(peer.pid or None) if peer.uid == os.getuid() else peer.uid
