"""Reasons for which a connection to an account ends: one code and one text for each failure of any layer."""

from __future__ import annotations

from typing import Final

from ipc.errors import ConfigError, DecodeError
from ipc.health import Reason
from workers.net.dial import ConnectError
from workers.net.lifecycle import CloseReason
from workers.net.rest import RestError
from workers.net.transport import ClosedError
from workers.venues.account import LoginError

#: Errors of a login, a conversation, or a REST call.
FAILURES: Final = (LoginError, ConfigError, ConnectError, ClosedError, RestError, DecodeError)


def close_reason_of(error: Exception, secrets: tuple[str, ...]) -> CloseReason:
    """Return the reason that one of :data:`FAILURES` stands for; ``secrets`` names the credentials to check."""
    match error:
        case ConfigError():
            return CloseReason(Reason.AUTH_FAILED, "; ".join(error.problems))
        case DecodeError():
            return CloseReason(Reason.PARSE_ERRORS, error.what)
        case ConnectError(reason=Reason.AUTH_FAILED) | RestError(reason=Reason.AUTH_FAILED):
            # An HTTP status shows neither what was refused nor what to check.
            advice = f"check {' or '.join(secrets)}"
            return CloseReason(error.reason, f"the venue does not accept the credentials: {error.what}; {advice}")
        case LoginError() | ConnectError() | ClosedError() | RestError():
            return CloseReason(error.reason, error.what, getattr(error, "retry_after_s", None) or 0.0)
        case _:
            raise TypeError(f"not a failure of an account: {error!r}") from error
