"""Files that hold secrets: private, or refused."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

_OPEN_TO_OTHERS: Final = 0o077
#: For a file of root: any access of others, or that of a group to change it.
_OPEN_OF_ROOT: Final = 0o027


def read_private(path: Path) -> str:
    """Return the stripped text of a file; raise ValueError, which never repeats it, if others may read it.

    The file is this user's alone (mode 0600), or root's and granted to this user through a group or an access list,
    which shows as the group's mode: so does Kubernetes with a Secret's file and an ``fsGroup`` (mode 0440), and systemd
    with ``LoadCredential=`` (systemd.exec(5)).
    """
    try:
        found = path.stat()
        text = path.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(f"{path} cannot be read: {type(error).__name__}") from None
    if not is_private(found, os.getuid()):
        raise ValueError(f"{path} must be yours alone; do: chmod 600 {path}")
    return text


def is_private(found: os.stat_result, uid: int) -> bool:
    """Return whether only root, a user, and whom root granted a file of its own can read it."""
    if found.st_uid == uid:
        return not found.st_mode & _OPEN_TO_OTHERS
    return found.st_uid == 0 and not found.st_mode & _OPEN_OF_ROOT
