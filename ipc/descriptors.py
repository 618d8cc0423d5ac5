"""Limit of open file descriptors."""

from __future__ import annotations

import resource
from typing import Final

#: Largest soft limit that is asked for: programs that we start may try every descriptor below it.
_MOST: Final = 65_536


def raise_limit() -> int:
    """Raise the soft limit to the hard one, at most 65,536; return the soft limit."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _MOST if hard == resource.RLIM_INFINITY else min(hard, _MOST)
    if soft == resource.RLIM_INFINITY or soft >= wanted:
        return _MOST if soft == resource.RLIM_INFINITY else soft
    resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
    return wanted
