"""Execution of the REST flows of a private venue."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final, TypeVar

from ipc.errors import ConfigError, DecodeError
from ipc.health import Reason
from workers.duty import LineDuty
from workers.net.rest import RestClient, RestError
from workers.venues.account import LoginError, RestFlow
from workers.venues.account_values import fault_of
from workers.venues.venue import RestRequest

T = TypeVar("T")

_DEADLINE_S: Final = 10.0
#: Longest wait for our own rate limit before a call, s.
_MAX_WAIT_S: Final = 15.0


class RestFlowRunner:
    """Runner of REST flows in one thread; ``wait`` waits some seconds and returns true when the worker stops.

    A flow ends with RestError (``requested``) when the venue's other line gets the account.
    """

    def __init__(
        self, client: RestClient, wait: Callable[[float], object] = time.sleep, duty: LineDuty | None = None
    ) -> None:
        self._client = client
        self._wait = wait
        self._duty = duty or LineDuty()

    def run(self, flow: RestFlow[T]) -> T:
        """Make the calls of a flow, one after the other; return its result.

        Raise LoginError for rejected credentials, RestError for any other failed call, DecodeError for a malformed
        answer.
        """
        try:
            request = _send(flow, None)
            while True:
                request = self._step(flow, request)
        except StopIteration as end:
            result: T = end.value
            return result
        finally:
            flow.close()

    def _step(self, flow: RestFlow[T], request: RestRequest) -> RestRequest:
        try:
            answer: bytes | RestError = self._call(request)
        except RestError as error:
            answer = error
        return advance(flow, answer)

    def _call(self, request: RestRequest) -> bytes:
        """Make a call, waiting for our own rate limit: a flow that failed there would never end."""
        while True:
            if not self._duty.is_ours:
                raise RestError(Reason.REQUESTED, "the other line has the account")
            try:
                return self._client.call(request.made_at(time.time_ns()), _DEADLINE_S)
            except RestError as error:
                if not _is_over_budget(error) or self._wait(error.retry_after_s or 0.0):
                    raise


def advance(flow: RestFlow[T], answer: bytes | RestError) -> RestRequest:
    """Pass the answer to a flow's last request to it; return its next request.

    The flow also receives the body of a rejection, because it knows the venue's error codes.

    Raises:
        StopIteration: The flow has ended; the value is its result.
        LoginError: The venue rejects the credentials.
        RestError: The call failed for another reason.
        DecodeError: The answer is malformed.
    """
    if not isinstance(answer, RestError):
        return _send(flow, answer)
    if _is_rejection(answer):
        try:
            return _send(flow, answer.body)
        except DecodeError:
            pass
        if answer.reason is Reason.AUTH_FAILED:
            raise LoginError(answer.what) from answer
    raise answer


def _send(flow: RestFlow[T], answer: bytes | None) -> RestRequest:
    """Pass an answer to a flow, None to start it; report a failure of its parsers as DecodeError.

    The flow may end (StopIteration), find a credential unusable (ConfigError) or rejected (LoginError), or give up
    (RestError).
    """
    try:
        return flow.send(answer)  # type: ignore[arg-type]
    except (StopIteration, ConfigError, LoginError, RestError, DecodeError):
        raise
    except Exception as error:
        raise DecodeError(f"an answer cannot be read: {fault_of(error)}") from error


def _is_over_budget(error: RestError) -> bool:
    """Return whether our own rate limit prevented the call, for an acceptable wait."""
    is_ours = error.status is None and error.reason is Reason.RATE_LIMITED
    return is_ours and (error.retry_after_s or 0.0) <= _MAX_WAIT_S


def _is_rejection(error: RestError) -> bool:
    """Return whether the venue rejected the request permanently (RFC 9110 section 15.5)."""
    return error.status is not None and 400 <= error.status < 500 and error.reason is not Reason.RATE_LIMITED
