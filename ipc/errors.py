"""Errors that this project raises, each with its advice and its exit code.

Errors of libraries are converted at the boundary (dial, transport, REST, board, run directory); above it only these are
caught by name.
"""

from __future__ import annotations


class ParaphinaError(Exception):
    """Expected error of any kind.

    Args:
        what: One sentence that describes the error.
        where: ``file:key``, ``venue.stream`` or a path; empty when there is none.
        advice: Next step for the user; empty when there is none.
    """

    #: Exit code of a command that ends with this error (1 degraded, 2 usage, 3 not running, 4 unknown).
    exit_code = 1

    def __init__(self, what: str, *, where: str = "", advice: str = "") -> None:
        super().__init__(what, where, advice)
        self.what = what
        self.where = where
        self.advice = advice

    def __str__(self) -> str:
        """Return the error in one line: where, what, advice."""
        place = f"{self.where}: " if self.where else ""
        advice = f" ({self.advice})" if self.advice else ""
        return f"{place}{self.what}{advice}"


class UsageError(ParaphinaError):
    """Request of the user that cannot be fulfilled as given."""

    exit_code = 2


class ConfigError(UsageError):
    """Invalid configuration; ``problems`` has a line for every one: its place, what is wrong, what would be right."""

    def __init__(self, problems: list[str]) -> None:
        super().__init__("\n".join(problems))
        self.problems = problems


class RunDirError(UsageError):
    """Unusable run directory: not ours, a link, unwritable, or with a path that is too long."""


class AlreadyRunningError(UsageError):
    """Another supervisor holds this run directory."""


class NotAnsweringError(ParaphinaError):
    """Supervisor that runs and does not answer: it is stopped, stuck or busy."""


class NotRunningError(ParaphinaError):
    """No supervisor on this run directory."""

    exit_code = 3


class UnknownStateError(ParaphinaError):
    """Unreadable run directory: the state of the system is unknown."""

    exit_code = 4


class ForeignSystemError(UnknownStateError):
    """System of another user.

    Args:
        owner: That user, as ``sudo -u`` accepts it.
        verb: Command that was refused; empty when any would be.
    """

    def __init__(self, owner: str, verb: str = "") -> None:
        command = f"sudo -u {owner} paraphina-supervisor {verb} ...".replace("  ", " ")
        super().__init__(f"refused: the system belongs to {owner}", advice=f"run: {command}")
        self.owner = owner


class RunDirLostError(UnknownStateError):
    """Run directory of a running system that was replaced, or removed and cannot be created again."""


class BoardError(UnknownStateError):
    """Missing board file, or one of another version, or not a board."""


class DecodeError(ParaphinaError, ValueError):
    """Frame or body without the structure that its venue documents."""


class FeedError(ParaphinaError):
    """Request that a feed cannot fulfil."""


class BookUnusableError(FeedError):
    """Book that must not be traded on; ``reason`` names the rule that failed."""

    def __init__(self, venue: str, symbol: str, reason: str) -> None:
        super().__init__(f"the book is not usable: {reason}", where=f"{venue}.{symbol}")
        self.reason = reason
