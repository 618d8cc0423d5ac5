"""Names of users, by their uid."""

from __future__ import annotations

import pwd
from functools import cache
from pathlib import Path


@cache
def user_name(uid: int) -> str | None:
    """Return a user's name; None for a uid without one. Asked once: the answer may come from a directory service."""
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return None


def sudo_name(uid: int) -> str:
    """Return a user as ``sudo -u`` accepts it: the name, or ``#`` and the uid."""
    return user_name(uid) or f"#{uid}"


def owner_of(path: Path) -> str:
    """Return the owner of a directory, or of the nearest above it that can be seen, as ``sudo -u`` accepts it."""
    try:
        return sudo_name(path.stat().st_uid)
    except OSError:
        return owner_of(path.parent)
