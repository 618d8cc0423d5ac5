"""Files that hold secrets: private, or refused."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import Final

_OPEN_TO_OTHERS: Final = 0o077


def read_private(path: Path) -> str:
    """Return the stripped text of a file; raise ValueError, which never repeats it, if others may read it."""
    try:
        found = path.stat()
        text = path.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(f"{path} cannot be read: {type(error).__name__}") from None
    if stat.S_IMODE(found.st_mode) & _OPEN_TO_OTHERS or found.st_uid != os.getuid():
        raise ValueError(f"{path} must be yours alone; do: chmod 600 {path}")
    return text
