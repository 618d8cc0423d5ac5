"""Sources of a feed: lines of a system, and systems on several hosts."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final, NamedTuple

from ipc.errors import FeedError
from ipc.lines import LINES, Line

_PATTERN: Final = re.compile(r"(?P<host>[A-Za-z0-9_.-]*)(:(?P<line>[a-z]))?")


class Source(NamedTuple):
    """Line of a system; ``host`` is empty for an only system, else ``h1``, ``h2`` in the arguments' order."""

    host: str
    line: Line

    def __str__(self) -> str:
        """Return the source as it is written in arguments: ``h1:a``, ``:a``."""
        return f"{self.host}:{self.line}"


def hosts(count: int) -> list[str]:
    """Return the names of that many systems."""
    return [""] if count == 1 else [f"h{number}" for number in range(1, count + 1)]


def wanted_sources(given: Sequence[str] | None, names: Sequence[str]) -> list[Source]:
    """Return the sources that are wanted of some hosts: ``h1`` both lines, ``h1:a`` one, ``:a`` one of every host.

    Raises:
        FeedError: One is no source, or is of another host.
    """
    everything = [Source(host, line) for host in names for line in LINES]
    if given is None:
        return everything
    if isinstance(given, str) or not given:
        raise FeedError("sources are a list", where=repr(given), advice='write sources=["h1:a"]')
    wanted: list[Source] = []
    for text in given:
        found = _PATTERN.fullmatch(text)
        matching = [] if found is None else [one for one in everything if _matches(one, found)]
        if not matching:
            known = ", ".join(map(str, everything))
            raise FeedError("no such source", where=repr(text), advice=f"there are {known}")
        wanted += [one for one in matching if one not in wanted]
    return wanted


def _matches(source: Source, found: re.Match[str]) -> bool:
    return found["host"] in {"", source.host} and found["line"] in {None, source.line}
