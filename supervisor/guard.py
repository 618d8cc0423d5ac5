"""Watch of a running system over its run directory: what is removed is created again, what is replaced ends the system.

The parent restores the directory, the lock, the control socket, the description and the board; workers and gateway
restore their own files (:mod:`ipc.watched_files`). A link, a directory or a file of another user in the place of one of
them, or a lock that another system holds, cannot be healed: two systems, or feeds that others can change, are worse
than none.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
import threading
import time
from pathlib import Path
from typing import Final

from ipc.board import Board
from ipc.errors import AlreadyRunningError, RunDirError, RunDirLostError
from ipc.health import Reason
from ipc.log import get_log
from ipc.rundir import RunDir, replace_file
from ipc.watched_files import Identity, WatchedFiles, identity_of
from supervisor.lock import Instance

log = get_log(__name__)

_NS: Final = 1_000_000_000
#: How often the parent checks; its files come before those of the workers, which check every second.
CHECK_NS: Final = _NS // 2
#: How often all files are touched: cleaners remove those that nobody has used for days.
_TOUCH_NS: Final = 3600 * _NS
#: Errors of the directory that another attempt does not mend.
_LASTING: Final = frozenset({errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR, errno.ELOOP})


class BoardFile:
    """File in which readers find a board.

    A mapped file without a name cannot get one again, and every process has it mapped. So a lost one is replaced by a
    copy, refreshed by :meth:`refresh` for new readers; those who have the original mapped read on in it.
    """

    def __init__(self, board: Board, path: Path) -> None:
        self._board = board
        self._path = path
        self._identity: Identity | None = identity_of(path)
        self._copy: Board | None = None

    @property
    def is_intact(self) -> bool:
        """True while the path names the board or its copy."""
        return self._identity is not None and identity_of(self._path) == self._identity

    def restore(self) -> None:
        """Publish a copy; raise BoardError without space or directory."""
        self._copy = Board.create(self._path, 0, self._board)
        self._identity = identity_of(self._path)

    def refresh(self) -> None:
        """Bring the copy, if there is one, up to date."""
        if self._copy is not None:
            self._copy.words[:] = self._board.words


class RunDirGuard:
    """Watch over the run directory of the calling process's system."""

    def __init__(self, run_dir: RunDir, instance: Instance, board: Board) -> None:
        self._run_dir = run_dir
        self._instance = instance
        self._identity = identity_of(run_dir.path)
        self._board = BoardFile(board, run_dir.board)
        self._next_touch_ns = 0
        self._is_failing = False
        self.files = WatchedFiles(run_dir.path)
        self.files.add(run_dir.board, self._board.restore, lambda: self._board.is_intact)
        with contextlib.suppress(OSError):
            certificate = run_dir.simulator_ca.read_bytes()
            self.files.add(run_dir.simulator_ca, lambda: replace_file(run_dir.simulator_ca, certificate))

    def check(self, now: int) -> None:
        """Restore what is lost; raise RunDirLostError if that is not possible."""
        self._instance.name.drop_questions()
        try:
            self._check_directory()
            self._check_entries()
            self._check_lock()
            self._touch(now)
        except (RunDirError, AlreadyRunningError) as error:
            if _is_permanent(error):
                raise RunDirLostError(error.what, where=error.where, advice=error.advice) from error
            self._report(error)
        except OSError as error:
            if _is_permanent(error):
                what = f"the run directory cannot be used: {error.strerror}"
                raise RunDirLostError(what, where=str(self._run_dir.path)) from error
            self._report(error)
        else:
            self._is_failing = False
            self.files.check()

    def _report(self, error: Exception) -> None:
        """Report, once, a failure that the next check may not have: no space, or removed again meanwhile."""
        if not self._is_failing:
            self._is_failing = True
            path = str(self._run_dir.path)
            log.warning("run_dir.not_restored", path=path, reason=Reason.RUN_DIR_LOST, error=str(error))

    def refresh_board(self) -> None:
        """Bring the copy of a board whose file was lost up to date."""
        self._board.refresh()

    def _check_directory(self) -> None:
        identity = identity_of(self._run_dir.path)
        if identity is not None and identity == self._identity:
            return
        self._run_dir.prepare()
        self._identity = identity_of(self._run_dir.path)
        log.warning("run_dir.restored", path=str(self._run_dir.path))

    def _check_entries(self) -> None:
        """Refuse a link, a directory or another user's file under one of our names."""
        for entry in self._run_dir.entries():
            try:
                found = entry.stat(follow_symlinks=False)
            except FileNotFoundError:
                continue  # a temporary file
            if stat.S_ISLNK(found.st_mode) or stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid():
                what = "a link" if stat.S_ISLNK(found.st_mode) else "a directory, or another user's file,"
                raise RunDirError(f"{what} has taken the place of our file", where=entry.path, advice="remove it")

    def _check_lock(self) -> None:
        lock = self._instance.lock
        if not lock.is_intact:
            lock.restore()
            log.warning("run_dir.restored", path=str(self._run_dir.lock))

    def _touch(self, now: int) -> None:
        """Keep cleaners away from files that nobody reads for days."""
        if now < self._next_touch_ns:
            return
        self._next_touch_ns = now + _TOUCH_NS
        paths = [Path(entry.path) for entry in self._run_dir.entries()]
        for path in (self._run_dir.path, *paths):
            with contextlib.suppress(OSError):
                os.utime(path, follow_symlinks=False)


def _is_permanent(error: Exception) -> bool:
    """Return whether another attempt cannot succeed."""
    cause = error.__cause__ if isinstance(error, RunDirError) else error
    return not isinstance(cause, OSError) or cause.errno in _LASTING


class GuardThread:
    """Thread of a process without a parent that watches its run directory until ``stop``; sets it on a loss."""

    def __init__(self, guard: RunDirGuard, stop: threading.Event) -> None:
        self.lost: RunDirLostError | None = None
        self._guard = guard
        self._stop = stop
        self._thread = threading.Thread(target=self._run, name="run directory", daemon=True)
        self._thread.start()

    def join(self) -> None:
        """Wait for the end of the thread; raise RunDirLostError if it has set ``stop``."""
        self._thread.join()
        if self.lost is not None:
            raise self.lost

    def _run(self) -> None:
        while not self._stop.wait(CHECK_NS / _NS):
            self._guard.refresh_board()
            try:
                self._guard.check(time.monotonic_ns())
            except RunDirLostError as error:
                self.lost = error
                self._stop.set()
