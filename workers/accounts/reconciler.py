"""Asking REST for the whole account: after each login, then every minute, and whenever something may be missing.

Also keeps the login alive. Runs as a thread of its own, so that the account's socket never waits for it.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from threading import Event
from typing import Final, Protocol

import msgspec

from ipc.board import Row, SessionWord
from ipc.errors import ConfigError, DecodeError
from ipc.health import Phase, Reason, StreamState, code_of
from ipc.log import get_log, hide
from ipc.rundir import RunDir, replace_file
from workers.accounts.account import AccountSide, Login, LoginError
from workers.accounts.calls import Caller
from workers.accounts.secrets import Secrets
from workers.accounts.statement import Statement
from workers.backoff import POLL_INIT, Backoff
from workers.rest import RestError
from workers.venues.venue import Markets

__all__ = ["Reconciler", "StreamHandle"]

log = get_log(__name__)

_NS: Final = 1_000_000_000
_MS: Final = 1_000_000
_TICK_S: Final = 0.2
#: Fills are asked for from this long before the last answer: a venue's history may lag behind its stream.
_OVERLAP_NS: Final = 300 * _NS
#: And from this long ago when the account was never looked at.
_FIRST_NS: Final = 86_400 * _NS
#: An answer that was overtaken by a push is asked for again soon.
_SOON_NS: Final = 5 * _NS
_RENEW_AGAIN_NS: Final = 10 * _NS
#: Without an answer for so many periods the account is stale.
_STALE_PERIODS: Final = 3


class StreamHandle(Protocol):
    """What the reconciler may ask of the account's socket."""

    def send(self, message: bytes) -> None:
        """Have a message sent."""

    def end(self, reason: Reason, text: str) -> None:
        """Have the connection made anew."""


class _Memory(msgspec.Struct):
    """What is kept over restarts."""

    alias: str
    reconciled_ns: int


class Reconciler:
    """Runs as a thread.

    Args:
        side: The venue's private side.
        secrets: Its credentials.
        alias: What the account is called.
        markets: The markets that are known now.
        statement: Takes the answers.
        caller: Makes the calls.
        row: Its words on the board.
        run_dir: Where it remembers when it asked last, so that fills of a time of absence are found.
        period_s: Between two looks at the whole account.
        stop: Set when the worker ends.
    """

    def __init__(
        self,
        side: AccountSide,
        secrets: Secrets,
        alias: str,
        markets: Callable[[], Markets],
        statement: Statement,
        caller: Caller,
        row: Row,
        run_dir: RunDir,
        period_s: float,
        stop: Event,
    ) -> None:
        self.stream: StreamHandle | None = None
        self._side = side
        self._secrets = secrets
        self._alias = alias
        self._markets = markets
        self._statement = statement
        self._caller = caller
        self._row = row
        self._memory = run_dir.account_memory(side.venue)
        self._period_ns = int(period_s * _NS)
        self._stop = stop
        self._backoff = Backoff(POLL_INIT)
        self._login: Login | None = None
        self._due_ns = 0
        self._renew_ns = 0
        self._answered_ns = 0
        self._reconciled_wall_ns = self._remembered()

    def logged_in(self, login: Login) -> None:
        """A login was accepted: look at everything now. Any thread may say so."""
        self._due_ns = 0
        self._renew_ns = 0
        self._answered_ns = time.monotonic_ns()
        self._login = login

    def logged_out(self) -> None:
        """There is no login. Any thread may say so."""
        self._login = None

    def ask(self) -> None:
        """Something may have been missed: look at everything now. Any thread may say so."""
        self._due_ns = 0

    def run(self) -> None:
        """Look and renew, for ever."""
        self._row[SessionWord.PHASE] = code_of(Phase.SUBSCRIBED)
        while not self._stop.is_set():
            login = self._login
            if login is not None:
                now = time.monotonic_ns()
                if login.renew_at_ns is not None and time.time_ns() >= login.renew_at_ns and now >= self._renew_ns:
                    self._renew(login)
                elif now >= self._due_ns:
                    self._reconcile(login)
            self._stop.wait(_TICK_S)

    # --- the whole account ------------------------------------------------------------------------------------------

    def _reconcile(self, login: Login) -> None:
        asked_wall_ns = time.time_ns()
        since_ns = self._reconciled_wall_ns - _OVERLAP_NS if self._reconciled_wall_ns else asked_wall_ns - _FIRST_NS
        asked_at = self._statement.asked()
        self._due_ns = time.monotonic_ns() + self._period_ns
        steps = self._side.snapshot(login, self._secrets, self._markets(), self._alias, since_ns // _MS, asked_wall_ns)
        try:
            snapshot = self._caller.drive(steps)
        except LoginError as error:
            self._end(error.reason, error.what)
            return
        except ConfigError as error:
            self._end(Reason.AUTH_FAILED, "; ".join(error.problems))
            return
        except (RestError, DecodeError) as error:
            self._failed(error)
            return
        self._backoff.reset()
        if not self._statement.answered(snapshot, asked_at):
            self._due_ns = time.monotonic_ns() + min(_SOON_NS, self._period_ns)
        self._answered_ns = time.monotonic_ns()
        self._statement.heard(self._answered_ns)
        if self._login is login:
            self._statement.tell(StreamState.LIVE, None, None)
        self._remember(asked_wall_ns)

    def _failed(self, error: RestError | DecodeError) -> None:
        reason = error.reason if isinstance(error, RestError) else Reason.PARSE_ERRORS
        asked_s = error.retry_after_s if isinstance(error, RestError) else None
        delay_ns = max(self._backoff.failed(0), int((asked_s or 0.0) * _NS))
        now = time.monotonic_ns()
        self._due_ns = now + min(delay_ns, max(self._period_ns, int((asked_s or 0.0) * _NS)))
        log.warning(
            "account.unreconciled",
            venue=self._side.venue,
            reason=reason,
            error=error.what,
            retry_in_s=round((self._due_ns - now) / _NS, 1),
        )
        if now - self._answered_ns > _STALE_PERIODS * self._period_ns:
            self._statement.tell(StreamState.STALE, reason, error.what)

    # --- the login --------------------------------------------------------------------------------------------------

    def _renew(self, login: Login) -> None:
        self._renew_ns = time.monotonic_ns() + _RENEW_AGAIN_NS
        try:
            renewal = self._caller.drive(self._side.renew(login, self._secrets, time.time_ns()))
        except LoginError as error:
            self._end(error.reason, error.what)
            return
        except ConfigError as error:
            self._end(Reason.AUTH_FAILED, "; ".join(error.problems))
            return
        except (RestError, DecodeError) as error:
            log.warning("account.unrenewed", venue=self._side.venue, error=error.what)
            return
        hide(renewal.login.token)
        log.info("account.renewed", venue=self._side.venue)
        if self._login is not login or self.stream is None:
            return
        if renewal.must_reconnect:
            self.stream.end(Reason.ROTATION, "the login is renewed")
            return
        self._login = renewal.login
        for message in renewal.messages:
            self.stream.send(message)

    def _end(self, reason: Reason, text: str) -> None:
        self._login = None
        if self.stream is not None:
            self.stream.end(reason, text)

    # --- over restarts ----------------------------------------------------------------------------------------------

    def _remembered(self) -> int:
        try:
            memory = msgspec.json.decode(self._memory.read_bytes(), type=_Memory)
        except (OSError, ValueError):
            return 0
        return memory.reconciled_ns if memory.alias == self._alias else 0

    def _remember(self, asked_wall_ns: int) -> None:
        self._reconciled_wall_ns = asked_wall_ns
        try:
            replace_file(self._memory, msgspec.json.encode(_Memory(self._alias, asked_wall_ns)))
        except OSError as error:
            log.warning("account.unremembered", venue=self._side.venue, error=str(error))
