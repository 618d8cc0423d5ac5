"""Why a connection to an account ends: one word, one text, whoever it was that failed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from ipc.errors import ConfigError, DecodeError
from ipc.health import Reason
from workers.net.dial import ConnectError
from workers.net.rest import RestError
from workers.net.transport import ClosedError
from workers.venues.account import LoginError

__all__ = ["FAILURES", "CloseReason", "close_reason_of"]

#: What logging in, conversing and asking may fail with.
FAILURES: Final = (LoginError, ConfigError, ConnectError, ClosedError, RestError, DecodeError)


@dataclass(frozen=True, slots=True)
class CloseReason:
    """Why a connection ends, in a word and in words, and how long the venue asks to wait, s."""

    reason: Reason
    text: str
    wait_s: float = 0.0

    @property
    def is_refused(self) -> bool:
        """Whether the venue refuses the credentials, or there are none: whoever says so."""
        return self.reason is Reason.AUTH_FAILED


def close_reason_of(error: Exception, secrets: tuple[str, ...]) -> CloseReason:
    """What one of :data:`FAILURES` means; ``secrets`` are the names of those to look at when they are refused."""
    match error:
        case ConfigError():
            return CloseReason(Reason.AUTH_FAILED, "; ".join(error.problems))
        case DecodeError():
            return CloseReason(Reason.PARSE_ERRORS, error.what)
        case ConnectError(reason=Reason.AUTH_FAILED) | RestError(reason=Reason.AUTH_FAILED):
            # HTTP's words say neither what was refused nor what to look at.
            advice = f"check {' or '.join(secrets)}"
            return CloseReason(error.reason, f"the venue does not accept the credentials: {error.what}; {advice}")
        case LoginError() | ConnectError() | ClosedError() | RestError():
            return CloseReason(error.reason, error.what, getattr(error, "retry_after_s", None) or 0.0)
        case _:
            raise TypeError(f"no failure of an account's: {error!r}") from error
