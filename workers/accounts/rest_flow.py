"""Carrying out a private side's courses of REST calls."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final, TypeVar

from ipc.errors import ConfigError, DecodeError
from ipc.health import Reason
from workers.net.rest import RestClient, RestError
from workers.venues.account import LoginError, RestFlow
from workers.venues.account_values import fault_of
from workers.venues.venue import RestRequest

__all__ = ["RestFlowRunner", "advance"]

T = TypeVar("T")

_DEADLINE_S: Final = 10.0
#: How long a course waits at most for our own budget, before one call.
_PATIENCE_S: Final = 15.0


class RestFlowRunner:
    """Makes the calls of one thread.

    Args:
        client: Does them.
        wait: Waits for some seconds; gives something true when there is nothing to wait for any more.
    """

    def __init__(self, client: RestClient, wait: Callable[[float], object] = time.sleep) -> None:
        self._client = client
        self._wait = wait

    def drive(self, steps: RestFlow[T]) -> T:
        """Make the calls that a course asks for, one after the other; its result.

        Raises:
            LoginError: The venue refuses the credentials.
            RestError: A call failed otherwise.
            DecodeError: An answer is not what it should be.
        """
        try:
            request = _send(steps, None)
            while True:
                request = self._step(steps, request)
        except StopIteration as end:
            result: T = end.value
            return result
        finally:
            steps.close()

    def _step(self, steps: RestFlow[T], request: RestRequest) -> RestRequest:
        try:
            answer: bytes | RestError = self._call(request)
        except RestError as error:
            answer = error
        return advance(steps, answer)

    def _call(self, request: RestRequest) -> bytes:
        """One call, when our own budget allows it: a course that was given up there would never come to its end."""
        while True:
            try:
                return self._client.call(request.made_at(time.time_ns()), _DEADLINE_S)
            except RestError as error:
                if not _is_over_budget(error) or self._wait(error.retry_after_s or 0.0):
                    raise


def advance(steps: RestFlow[T], answer: bytes | RestError) -> RestRequest:
    """Hand a course the answer to its last request; return its next one.

    A refusal goes into the course as well, which knows the venue's words for it.

    Raises:
        StopIteration: The course is over; its value is the result.
        LoginError: The venue refuses the credentials.
        RestError: The call failed otherwise.
        DecodeError: The answer is not what it should be.
    """
    if not isinstance(answer, RestError):
        return _send(steps, answer)
    if _is_refusal(answer):
        try:
            return _send(steps, answer.body)
        except DecodeError:
            pass
        if answer.reason is Reason.AUTH_FAILED:
            raise LoginError(answer.what) from answer
    raise answer


def _send(steps: RestFlow[T], answer: bytes | None) -> RestRequest:
    """Hand a course an answer, None to begin it; a fault in its parsers is an answer that cannot be read.

    Raises:
        StopIteration: The course is over.
        ConfigError: A credential cannot be used.
        LoginError: The venue refuses the credentials.
        RestError: The course gave up.
        DecodeError: The answer is not what it should be.
    """
    try:
        return steps.send(answer)  # type: ignore[arg-type]
    except (StopIteration, ConfigError, LoginError, RestError, DecodeError):
        raise
    except Exception as error:
        raise DecodeError(f"an answer cannot be read: {fault_of(error)}") from error


def _is_over_budget(error: RestError) -> bool:
    """Whether nobody was asked, for a while that can be waited for."""
    is_ours = error.status is None and error.reason is Reason.RATE_LIMITED
    return is_ours and (error.retry_after_s or 0.0) <= _PATIENCE_S


def _is_refusal(error: RestError) -> bool:
    """Whether the venue said no, rather than not now (RFC 9110 section 15.5)."""
    return error.status is not None and 400 <= error.status < 500 and error.reason is not Reason.RATE_LIMITED
