"""Directory that relative paths refer to: the one in which the program was started, also after the program left it."""

from __future__ import annotations

import os
from collections.abc import MutableMapping, Sequence
from typing import Final

from ipc.errors import UsageError

_REMOVED: Final = ""
#: Directory that was left; empty when it had been removed, None before it is left.
_left: str | None = None


def absolute(path: str) -> str:
    """Return ``path`` as an absolute one, relative to the directory of the start.

    Raises:
        UsageError: The path is relative, and that directory was removed.
    """
    if path.startswith("/"):
        return path
    start = _start()
    if start == _REMOVED:
        raise UsageError(
            "a relative path, but the current directory was removed", where=path, advice="give an absolute path"
        )
    return os.path.join(start, path)  # noqa: PTH118 - symbolic links before ".." are followed as the kernel does


def make_variables_absolute(environ: MutableMapping[str, str], files: Sequence[str], lists: Sequence[str]) -> None:
    """Replace relative paths in variables that libraries read: names of files, and lists separated by colons."""
    for name in files:
        if environ.get(name):
            environ[name] = absolute(environ[name])
    for name in lists:
        if environ.get(name):
            environ[name] = os.pathsep.join(path and absolute(path) for path in environ[name].split(os.pathsep))


def directory() -> str:
    """Return the directory of the start, or ``/`` if it was removed; other programs are run in it."""
    return _start() or "/"


def leave() -> None:
    """Change to ``/``, so that the directory of the start can be removed or unmounted."""
    global _left  # noqa: PLW0603 - of the process, as the current directory itself
    _left = _start()
    os.chdir("/")


def leave_if_removed() -> None:
    """Change to ``/`` if the current directory was removed: programs that we start may refuse to run in it."""
    if _current() == _REMOVED:
        leave()


def _start() -> str:
    return _current() if _left is None else _left


def _current() -> str:
    try:
        return os.getcwd()  # noqa: PTH109 - a name that is not normalised
    except FileNotFoundError:
        return _REMOVED
