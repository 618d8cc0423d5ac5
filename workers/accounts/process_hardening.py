"""Process hardening: secrets from the environment cannot be read from outside the process.

``/proc/<pid>/environ`` shows the initial environment to every process of the same user, whatever changes later, so the
values are overwritten in place. Core dumps, debuggers and ``/proc/<pid>/mem`` would still show secrets, so they are
disabled. Forked children inherit all of this.
"""

from __future__ import annotations

import ctypes
import os
import resource
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from workers.accounts.secrets import environment_names
from workers.net.proxy import variables_with_credentials

_libc: Final = ctypes.CDLL(None, use_errno=True)
_PR_SET_DUMPABLE: Final = 4
#: Fields of ``/proc/<pid>/stat`` (proc(5), numbered from 1) with the start and end of the environment.
_ENV_START, _ENV_END = 50, 51
#: First field after the name, which may contain blanks.
_STATE: Final = 3


def harden_process() -> None:
    """Protect secrets in the environment, if there are any; ``os.environ`` keeps them."""
    names = [name for name in environment_names() if os.environ.get(name)]
    names += variables_with_credentials(os.environ)
    if not names:
        return
    wanted = {os.fsencode(name) for name in names}
    for found, address, length in _entries():
        if found in wanted:
            ctypes.memset(address, ord("-"), length)
    for name in names:
        os.environ[name] = os.environ[name]  # another copy, for child programs
    _, hard = resource.getrlimit(resource.RLIMIT_CORE)
    resource.setrlimit(resource.RLIMIT_CORE, (0, hard))
    _libc.prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0)


def _entries() -> Iterator[tuple[bytes, int, int]]:
    """Yield name, and address and length of the value, of each variable in the initial environment."""
    fields = Path("/proc/self/stat").read_text(encoding="ascii", errors="replace").rpartition(")")[2].split()
    address, end = (int(fields[number - _STATE]) for number in (_ENV_START, _ENV_END))
    for entry in ctypes.string_at(address, end - address).split(b"\0"):
        name, equals, value = entry.partition(b"=")
        if equals:
            yield name, address + len(name) + 1, len(value)
        address += len(entry) + 1
