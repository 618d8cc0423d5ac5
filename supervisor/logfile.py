"""The log of a system in the background: one file that all its processes append to, kept from growing for ever."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final

from ipc.log import get_log
from supervisor.config import state_path

__all__ = ["LIMIT_BYTES", "log_path", "open_log", "reopen", "rotate"]

log = get_log(__name__)

LIMIT_BYTES: Final = 50 * 1024 * 1024
_PIECE: Final = 1024 * 1024


def log_path(environ: Mapping[str, str]) -> Path:
    """Where it is."""
    return state_path(environ) / "log"


def open_log(path: Path) -> int:
    """A descriptor to write it with; it is made if need be, for its owner alone.

    Raises:
        OSError: It cannot be.
    """
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)


def rotate(path: Path, limit: int = LIMIT_BYTES, progress: Callable[[], None] = lambda: None) -> bool:
    """Once it has more than ``limit`` bytes, keep them as ``<path>.1`` and begin anew; whether it did.

    A slow disk may take long: ``progress`` is called after every piece.

    Its writers inherited the open file, so it is copied and cut, and nobody need be told. They append, and go on at its
    beginning; what they write between copy and cut is lost. On a full disk the copy is given up, so that the
    log never takes more than twice the limit.
    """
    try:
        if path.stat().st_size <= limit:
            return False
        kept = path.with_name(f"{path.name}.1")
        try:
            with path.open("rb") as old, open(kept, "wb", opener=_private) as copy:
                while piece := old.read(_PIECE):
                    copy.write(piece)
                    progress()
        except OSError as error:
            kept.unlink(missing_ok=True)
            log.warning("log.not_kept", path=str(path), error=str(error))
        os.truncate(path, 0)
    except OSError as error:
        log.warning("log.not_rotated", path=str(path), error=str(error))
        return False
    return True


def reopen(path: Path) -> None:
    """Let this process's output go to the file that has this name by now: somebody has moved the old one away."""
    try:
        descriptor = open_log(path)
    except OSError as error:
        log.warning("log.not_reopened", path=str(path), error=str(error))
        return
    for output in (1, 2):
        os.dup2(descriptor, output)
    os.close(descriptor)


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)
