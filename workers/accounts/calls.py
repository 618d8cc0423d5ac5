"""Carrying out a private side's courses of REST calls."""

from __future__ import annotations

from typing import Final, TypeVar

from ipc.health import Reason
from workers.accounts.account import LoginError, Steps
from workers.rest import RestClient, RestError

__all__ = ["Caller"]

T = TypeVar("T")

_DEADLINE_S: Final = 10.0


class Caller:
    """Makes the calls of one thread."""

    def __init__(self, client: RestClient) -> None:
        self._client = client

    def drive(self, steps: Steps[T]) -> T:
        """Make the calls that a course asks for, one after the other; its result.

        Raises:
            LoginError: The venue refuses the credentials.
            RestError: A call failed otherwise.
            DecodeError: An answer is not what it should be.
        """
        try:
            request = next(steps)
            while True:
                request = steps.send(self._client.call(request, _DEADLINE_S))
        except StopIteration as end:
            result: T = end.value
            return result
        except RestError as error:
            if error.reason is Reason.AUTH_FAILED:
                raise LoginError(error.what) from error
            raise
        finally:
            steps.close()
