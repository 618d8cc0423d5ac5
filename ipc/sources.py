"""Sources of a feed: the lines of the systems that it reads, their names, and how a consumer chooses among them.

A feed of one system names sources ``:a`` and ``:b``. With several, systems are called ``h1``, ``h2`` and so on, the run
directories first, then those over TCP, each in the order in which they were given: ``h1:a``, ``h2:b``.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, NamedTuple

from ipc.errors import FeedError
from ipc.lines import LINES, Line

_ADVICE: Final = "a source is 'h1' (a system), ':a' (a line) or 'h1:a'"


class Source(NamedTuple):
    """Line of a system; ``host`` is empty for the only system of a feed."""

    host: str
    line: Line

    def __str__(self) -> str:
        """Return it as consumers write it: ``h1:a``, ``:a``."""
        return f"{self.host}:{self.line}"


def host_names(count: int) -> list[str]:
    """Return the names of the systems of a feed, in their order."""
    return [""] if count == 1 else [f"h{number}" for number in range(1, count + 1)]


class SourceFilter:
    """Choice among the sources of a feed.

    Args:
        texts: Chosen sources as texts, where a missing host or line means all of them; None for all sources.
        hosts: Names of the feed's systems.

    Raises:
        FeedError: A text names no source that there can be, or there is none at all.
    """

    def __init__(self, texts: Sequence[str] | None, hosts: Sequence[str]) -> None:
        if isinstance(texts, str):
            raise FeedError("sources are a list", where=repr(texts), advice=f"write [{texts!r}]")
        if texts is not None and not texts:
            raise FeedError("an empty list of sources leaves none", advice=f"leave it out for all; {_ADVICE}")
        self._chosen = None if texts is None else {one for text in texts for one in _matching(text, hosts)}

    def has(self, host: str, line: Line) -> bool:
        """Return whether a source is chosen."""
        return self._chosen is None or Source(host, line) in self._chosen


def _matching(text: str, hosts: Sequence[str]) -> list[Source]:
    """Return the possible sources that a text stands for."""
    if not isinstance(text, str) or text in {"", ":"}:
        raise FeedError("no source", where=repr(text), advice=_ADVICE)
    host, _, line = text.partition(":")
    if line and line not in LINES:
        raise FeedError("no such line", where=text, advice=f"lines are {' and '.join(LINES)}; {_ADVICE}")
    if host and host not in hosts:
        known = f"there is {', '.join(hosts)}" if hosts != [""] else "the feed has one, so leave it out: ':a'"
        raise FeedError("no such system in this feed", where=text, advice=f"{known}; {_ADVICE}")
    return [Source(name, one) for name in hosts if host in {"", name} for one in LINES if line in {"", one}]
