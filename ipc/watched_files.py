"""Files of one process in a run directory: it checks that they are still there, and creates lost ones again.

Cleaners, a logout or an operator remove files under a running system. A file that a process has open or mapped lives on
without a name, so nobody but its owner notices; each process therefore compares the names with its files every second.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Final

from ipc.errors import ParaphinaError
from ipc.health import Reason
from ipc.log import get_log

log = get_log(__name__)

#: Device and inode.
Identity = tuple[int, int]
#: How often a process checks its files.
CHECK_NS: Final = 1_000_000_000


def identity_of(path: str | Path) -> Identity | None:
    """Return device and inode of what has a name, without following a link; None when nothing has."""
    try:
        found = os.lstat(path)
    except (FileNotFoundError, NotADirectoryError):
        return None
    return found.st_dev, found.st_ino


def is_own_file(path: Path) -> bool:
    """Return whether a path names a regular file of this user."""
    try:
        found = path.lstat()
    except (FileNotFoundError, NotADirectoryError):
        return False
    return stat.S_ISREG(found.st_mode) and found.st_uid == os.getuid()


def _is_own_directory(path: Path) -> bool:
    try:
        found = path.lstat()
    except OSError:
        return False
    return stat.S_ISDIR(found.st_mode) and found.st_uid == os.getuid()


def unlink_own(path: str | Path, identity: Identity | None) -> None:
    """Remove a name if it still belongs to the file of this identity, and not to another's."""
    if identity is not None and identity_of(path) == identity:
        Path(path).unlink(missing_ok=True)


class WatchedFiles:
    """Files of this process in one directory, each with the function that creates it again."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._files: dict[Path, tuple[Callable[[], bool], Callable[[], None]]] = {}
        #: Files that could not be created again; reported once.
        self._failed: set[Path] = set()

    def add(self, path: Path, restore: Callable[[], None], is_intact: Callable[[], bool] | None = None) -> None:
        """Watch a file.

        Args:
            path: Its name.
            restore: Creates it again, or does nothing while there is nothing to write; may raise OSError or
                ParaphinaError, and is called again at the next check.
            is_intact: Returns whether the name still belongs to the file; by default, whether it names a file of ours,
                which suits one that is replaced by each writing.
        """
        self._files[path] = (is_intact or (lambda: is_own_file(path)), restore)

    def check(self) -> None:
        """Create lost files again, in a directory that is ours: only the parent process restores that."""
        if not _is_own_directory(self._directory):
            return
        for path, (is_intact, restore) in self._files.items():
            try:
                if is_intact():
                    self._failed.discard(path)
                    continue
                restore()
                if is_intact():
                    self._failed.discard(path)
                    log.warning("run_dir.restored", path=str(path))
            except (OSError, ParaphinaError) as error:
                self._report(path, error)

    def _report(self, path: Path, error: Exception) -> None:
        if path not in self._failed:
            self._failed.add(path)
            log.warning("run_dir.not_restored", path=str(path), reason=Reason.RUN_DIR_LOST, error=str(error))
