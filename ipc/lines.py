"""Lines of a venue: with two, a second process receives the same feed over connections of its own.

Line ``a`` has the venue's bare name everywhere, line ``b`` the name ``<venue>.b``: for its process, its files, its log
and its lifecycle events. Both publish the venue's topics.
"""

from __future__ import annotations

from typing import Final, Literal, TypeAlias

Line: TypeAlias = Literal["a", "b"]

#: Every line, the first one first.
LINES: Final[tuple[Line, ...]] = ("a", "b")


def process_of(venue: str, line: Line | None) -> str:
    """Return the name of the process of a line; None is the only line of a venue."""
    return venue if line in {None, LINES[0]} else f"{venue}.{line}"


def venue_of(process: str) -> str:
    """Return the venue of a worker's process, and any other process's name as it is."""
    return process.partition(".")[0]


def line_of(process: str) -> Line:
    """Return the line of a worker's process."""
    return "b" if process.endswith(".b") else "a"


def other_line(line: Line) -> Line:
    """Return the other one of two lines."""
    return "a" if line == "b" else "b"
