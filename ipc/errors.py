"""The errors that this project raises on purpose, each with its advice and its exit code.

Whatever a library raises is turned into one of these where it enters (dial, transport, REST, board, run directory);
above that border only these are caught by name.
"""

from __future__ import annotations

__all__ = [
    "AlreadyRunningError",
    "BoardError",
    "BookUnusableError",
    "ConfigError",
    "DecodeError",
    "FeedError",
    "NotRunningError",
    "ParaphinaError",
    "RunDirError",
    "UnknownStateError",
    "UsageError",
]


class ParaphinaError(Exception):
    """Something went wrong that can be named.

    Args:
        what: One sentence that says what is wrong.
        where: ``file:key``, ``venue.stream`` or a path; empty when there is no place to name.
        advice: What to do next; empty when nothing can be done.
    """

    #: What a command that ends with this error returns to the shell (1 degraded, 2 usage, 3 not running, 4 unknown).
    exit_code = 1

    def __init__(self, what: str, *, where: str = "", advice: str = "") -> None:
        super().__init__(what, where, advice)
        self.what = what
        self.where = where
        self.advice = advice

    def __str__(self) -> str:
        """The error in one line: where, what, advice."""
        place = f"{self.where}: " if self.where else ""
        advice = f" ({self.advice})" if self.advice else ""
        return f"{place}{self.what}{advice}"


class UsageError(ParaphinaError):
    """The user asked for something that cannot be done as asked."""

    exit_code = 2


class ConfigError(UsageError):
    """The configuration has mistakes; all of them are in ``problems``.

    Args:
        problems: One finished line a mistake: where it stands, what is wrong, what would be right.
    """

    def __init__(self, problems: list[str]) -> None:
        super().__init__("\n".join(problems))
        self.problems = problems


class RunDirError(UsageError):
    """The run directory cannot be used: not ours, a link, unwritable, or its path is too long."""


class AlreadyRunningError(UsageError):
    """Another supervisor holds this run directory."""


class NotRunningError(ParaphinaError):
    """There is no supervisor on this run directory."""

    exit_code = 3


class UnknownStateError(ParaphinaError):
    """What is in the run directory cannot be read, so nothing can be said of the system's state."""

    exit_code = 4


class BoardError(UnknownStateError):
    """The board file is missing, of another version, or not a board."""


class DecodeError(ParaphinaError, ValueError):
    """A frame or body does not have the shape that its venue documents."""


class FeedError(ParaphinaError):
    """A feed cannot give what was asked of it."""


class BookUnusableError(FeedError):
    """The book is not to be traded on; ``reason`` says which rule failed."""

    def __init__(self, venue: str, symbol: str, reason: str) -> None:
        super().__init__(f"the book is not usable: {reason}", where=f"{venue}.{symbol}")
        self.reason = reason
