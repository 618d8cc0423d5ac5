"""Secrets from the environment, private files or commands, kept out of logs and tracebacks.

A secret ``NAME`` comes from the variable of that name, from the file that ``NAME_FILE`` names (mode 0600, owned by this
user, read at each use, so that replacing the file renews a token), or from the output of the command in
``NAME_COMMAND``.
"""

from __future__ import annotations

import os
import shlex
import subprocess
from collections.abc import Callable, Mapping, MutableMapping
from pathlib import Path
from typing import Final

from ipc.errors import ConfigError
from ipc.log import hide
from ipc.start_directory import absolute, directory
from workers.private_file import read_private
from workers.venues import LOGIN_METHODS

#: Names of all secrets of a venue.
NAMES: Final[Mapping[str, tuple[str, ...]]] = {
    venue: tuple(dict.fromkeys(name for method in methods for name in method))
    for venue, methods in LOGIN_METHODS.items()
}
_FORMS: Final = ("", "_FILE", "_COMMAND")

_COMMAND_S: Final = 10.0


class Secrets:
    """Secrets of one venue's account; ``repr`` shows names only."""

    def __init__(self, names: tuple[str, ...], environ: Mapping[str, str]) -> None:
        self._sources: dict[str, Callable[[], str]] = {}
        for name in names:
            source = _source(name, environ)
            if source is not None:
                self._sources[name] = source

    def __repr__(self) -> str:
        return f"Secrets({', '.join(self._sources)})"

    def has(self, *names: str) -> bool:
        """Return whether all of these are configured."""
        return all(name in self._sources for name in names)

    def get(self, name: str) -> str:
        """Read and return a secret; raise ConfigError, whose text never contains it, if that fails."""
        source = self._sources.get(name)
        if source is None:
            raise ConfigError([f"environment:{name}: not set (nor {name}_FILE, nor {name}_COMMAND)"])
        value = source()
        hide(value)
        return value


def missing(venue: str) -> str:
    """Return the advice for an account without sufficient credentials."""
    methods = ", or ".join(" with ".join(method) for method in LOGIN_METHODS[venue])
    return f"no credentials; set {methods} (each may be …_FILE or …_COMMAND; see docs/accounts.md)"


def _source(name: str, environ: Mapping[str, str]) -> Callable[[], str] | None:
    if environ.get(name):
        value = environ[name]
        return lambda: value
    path = environ.get(f"{name}_FILE")
    if path:
        return lambda: _read(name, Path(absolute(path)))
    command = environ.get(f"{name}_COMMAND")
    if command:
        return lambda: _run(name, command)
    return None


def _read(name: str, path: Path) -> str:
    try:
        return read_private(path)
    except ValueError as error:
        raise ConfigError([f"environment:{name}_FILE: {error}"]) from None


def _run(name: str, command: str) -> str:
    try:
        done = subprocess.run(
            shlex.split(command), capture_output=True, timeout=_COMMAND_S, check=True, text=True, cwd=directory()
        )
    except (OSError, ValueError, subprocess.SubprocessError) as error:
        raise ConfigError([f"environment:{name}_COMMAND: it failed: {type(error).__name__}"]) from None
    return done.stdout.strip()


def scrub_environment(environ: MutableMapping[str, str] = os.environ, keep: str | None = None) -> None:
    """Remove the secrets of all venues but one from this process's environment."""
    kept = frozenset(environment_names(keep)) if keep is not None else frozenset()
    for name in environment_names():
        if name not in kept:
            environ.pop(name, None)


def environment_names(venue: str | None = None) -> tuple[str, ...]:
    """Return the environment variables for secrets of one venue, or of all."""
    venues = NAMES if venue is None else (venue,)
    return tuple(name + form for one in venues for name in NAMES[one] for form in _FORMS)
