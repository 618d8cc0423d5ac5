"""Secrets: from the environment or from private files, held so that they cannot be shown by accident.

A secret named ``ASTER_API_SECRET`` is taken from the variable of that name, or from the file that
``ASTER_API_SECRET_FILE`` names (mode 0600, ours, read anew at each use, so that a token can be renewed by replacing
the file), or from what the command in ``ASTER_API_SECRET_COMMAND`` prints.
"""

from __future__ import annotations

import os
import shlex
import stat
import subprocess
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final

from ipc.errors import ConfigError

__all__ = ["Secrets", "scrubbed"]

_COMMAND_S: Final = 10.0
_OPEN_TO_OTHERS: Final = 0o077


class Secrets:
    """The secrets of one venue's account, by name. Shows names, never values.

    Args:
        names: Every name that the venue may ask for.
        environ: The environment.
    """

    def __init__(self, names: tuple[str, ...], environ: Mapping[str, str]) -> None:
        self._sources: dict[str, Callable[[], str]] = {}
        for name in names:
            source = _source(name, environ)
            if source is not None:
                self._sources[name] = source

    def __repr__(self) -> str:
        return f"Secrets({', '.join(self._sources)})"

    def has(self, *names: str) -> bool:
        """Whether all of these are configured."""
        return all(name in self._sources for name in names)

    def get(self, name: str) -> str:
        """The value of a secret, read now.

        Raises:
            ConfigError: It is not configured, or cannot be read; the text never holds it.
        """
        source = self._sources.get(name)
        if source is None:
            raise ConfigError([f"environment:{name}: not set (nor {name}_FILE, nor {name}_COMMAND)"])
        return source()


def _source(name: str, environ: Mapping[str, str]) -> Callable[[], str] | None:
    if environ.get(name):
        value = environ[name]
        return lambda: value
    path = environ.get(f"{name}_FILE")
    if path:
        return lambda: _read(name, Path(path))
    command = environ.get(f"{name}_COMMAND")
    if command:
        return lambda: _run(name, command)
    return None


def _read(name: str, path: Path) -> str:
    try:
        found = path.stat()
        text = path.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError([f"environment:{name}_FILE: {path} cannot be read: {type(error).__name__}"]) from None
    if stat.S_IMODE(found.st_mode) & _OPEN_TO_OTHERS or found.st_uid != os.getuid():
        raise ConfigError([f"environment:{name}_FILE: {path} must be yours alone; do: chmod 600 {path}"])
    return text


def _run(name: str, command: str) -> str:
    try:
        done = subprocess.run(shlex.split(command), capture_output=True, timeout=_COMMAND_S, check=True, text=True)
    except (OSError, ValueError, subprocess.SubprocessError) as error:
        raise ConfigError([f"environment:{name}_COMMAND: it failed: {type(error).__name__}"]) from None
    return done.stdout.strip()


def scrubbed(environ: Mapping[str, str], names: tuple[str, ...]) -> dict[str, str]:
    """The environment without these secrets, for processes that have no business with them."""
    return {key: value for key, value in environ.items() if key not in names}
