"""Log file of a system in the background: all its processes append to it, and it is rotated by size."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final

from ipc.log import get_log
from supervisor.config import state_path

log = get_log(__name__)

#: Size at which the log is rotated.
LIMIT_BYTES: Final = 50 * 1024 * 1024
_CHUNK: Final = 1024 * 1024


def log_path(environ: Mapping[str, str]) -> Path:
    """Return the path of the log file."""
    return state_path(environ) / "log"


def open_log(path: Path) -> int:
    """Open the log file for appending, with mode 0600 if it is new; return the descriptor.

    Raises:
        OSError: It cannot be opened.
    """
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)


def rotate(path: Path, limit: int = LIMIT_BYTES, progress: Callable[[], None] = lambda: None) -> bool:
    """Copy a file larger than ``limit`` bytes to ``<path>.1`` and truncate it; return whether it was truncated.

    ``progress`` is called after every chunk, for a slow disk may take long.

    The writers inherited the open file and append, so they continue at its new beginning without a signal; lines
    written between copy and truncation are lost. On a full disk the copy is dropped, so that the log never takes more
    than twice the limit.
    """
    try:
        if path.stat().st_size <= limit:
            return False
        kept = path.with_name(f"{path.name}.1")
        try:
            with path.open("rb") as old, open(kept, "wb", opener=_private) as copy:
                while chunk := old.read(_CHUNK):
                    copy.write(chunk)
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
    """Redirect this process's output to the file of this name, after the old one was moved away."""
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
