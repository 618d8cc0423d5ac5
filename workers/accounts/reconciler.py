"""Asking REST for the whole account: after each login, then every minute, and whenever something may be missing.

Also keeps the login alive. Runs as a thread of its own, so that the account's socket never waits for it.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from threading import Event, Lock
from typing import Final, Protocol

import msgspec

from ipc.board import Row, SessionWord
from ipc.health import Phase, Reason, StreamState, code_of
from ipc.log import get_log, hide
from ipc.rundir import RunDir, replace_file
from workers.accounts.close_reason import FAILURES, close_reason_of
from workers.accounts.publisher import AccountPublisher
from workers.accounts.rest_flow import RestFlowRunner
from workers.accounts.secrets import Secrets
from workers.backoff import POLL_INIT, Backoff
from workers.net.lifecycle import CloseReason
from workers.venues.account import Login, PrivateVenue
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
#: At least so long after an answer a row that could not be read brings the next one forward: it may be in each frame.
_LATER_NS: Final = 15 * _NS
_RENEW_AGAIN_NS: Final = 10 * _NS
#: Without an answer for so many periods the account is stale.
_STALE_PERIODS: Final = 3
#: A stream that missed fills before so many looks in a row tells nothing; one may be missed in many ways.
_DEAF_LOOKS: Final = 2


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
        side: PrivateVenue,
        secrets: Secrets,
        alias: str,
        markets: Callable[[], Markets],
        statement: AccountPublisher,
        caller: RestFlowRunner,
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
        self._memory = run_dir.account_checkpoint(side.venue)
        self._period_ns = int(period_s * _NS)
        self._stop = stop
        self._backoff = Backoff(POLL_INIT)
        #: After a failure nobody's wish brings the next look forward.
        self._held_until_ns = 0
        #: Logins change only under it: what came of one never touches the connection of the next.
        self._lock = Lock()
        self._login: Login | None = None
        self._is_asked = False
        #: Looks with this login that were answered, and how many of the last ones found what the stream missed.
        self._looks = 0
        self._deaf_looks = 0
        #: Whether the next look comes early because an answer was overtaken.
        self._is_second = False
        self._due_ns = 0
        self._renew_ns = 0
        self._answered_ns = 0
        self._reconciled_wall_ns = self._remembered()

    def logged_in(self, login: Login) -> None:
        """A login was accepted: look at everything now. Any thread may say so."""
        with self._lock:
            self._login = login
            self._due_ns = self._renew_ns = self._held_until_ns = 0
            self._looks = self._deaf_looks = 0
            self._answered_ns = time.monotonic_ns()

    def logged_out(self) -> None:
        """There is no login. Any thread may say so."""
        with self._lock:
            self._login = None

    def ask(self) -> None:
        """Something may have been missed: look at everything as soon as may be. Any thread may say so."""
        self._is_asked = True

    def ask_later(self) -> None:
        """Look at everything before the period is over; a row of the stream was left out. Any thread may call it."""
        with self._lock:
            self._due_ns = min(self._due_ns, max(self._held_until_ns, self._answered_ns + _LATER_NS))

    def run(self) -> None:
        """Look and renew, for ever."""
        self._row[SessionWord.PHASE] = code_of(Phase.SUBSCRIBED)
        while not self._stop.is_set():
            login = self._login
            if login is not None:
                now = time.monotonic_ns()
                if login.renew_at_ns is not None and time.time_ns() >= login.renew_at_ns and now >= self._renew_ns:
                    self._renew(login)
                elif now >= self._due_ns or (self._is_asked and now >= self._held_until_ns):
                    self._reconcile(login)
            self._stop.wait(_TICK_S)

    # --- the whole account ------------------------------------------------------------------------------------------

    def _reconcile(self, login: Login) -> None:
        if self.stream_misses_fills():
            self._end(login, CloseReason(Reason.SEQ_GAP, "the stream does not tell of fills that there are"))
            return
        asked_wall_ns = time.time_ns()
        since_ns = self._reconciled_wall_ns - _OVERLAP_NS if self._reconciled_wall_ns else asked_wall_ns - _FIRST_NS
        asked_at = self._statement.asked()
        with self._lock:
            if self._login is not login:
                return
            self._is_asked = False
            self._due_ns = time.monotonic_ns() + self._period_ns
        steps = self._side.snapshot(login, self._secrets, self._markets(), self._alias, since_ns // _MS, asked_wall_ns)
        try:
            snapshot = self._caller.drive(steps)
        except FAILURES as error:
            if (told := self._failed(login, error)) is not None:
                self._put_off(login, told)
            return
        is_whole = self._statement.answered(snapshot, asked_at)
        if snapshot.has_all_fills:
            self._remember(asked_wall_ns)
        with self._lock:
            if self._login is not login:
                return
            self._backoff.reset()
            self._looks += 1
            self._answered_ns = time.monotonic_ns()
            self._statement.heard(self._answered_ns)
            self._statement.tell(StreamState.LIVE, None, snapshot.note)
            # Once: on a busy account every answer is overtaken, and the next regular look is never far.
            self._is_second = not is_whole and not self._is_second
            if self._is_second:
                self._due_ns = min(self._due_ns, self._answered_ns + _SOON_NS)

    def stream_misses_fills(self) -> bool:
        """Whether the stream, open as it is, has not told of fills that two looks in a row have found.

        The first look finds what was before it.
        """
        missed = self._statement.missing_from_stream()
        self._deaf_looks = self._deaf_looks + 1 if missed and self._looks > 1 else 0
        return self._deaf_looks >= _DEAF_LOOKS

    def _put_off(self, login: Login, why: CloseReason) -> None:
        """Look again later; what failed with an earlier login delays nothing of this one's."""
        with self._lock:
            if self._login is not login:
                return
            now = time.monotonic_ns()
            delay_ns = max(min(self._backoff.failed(0), self._period_ns), int(why.wait_s * _NS))
            self._due_ns = self._held_until_ns = now + delay_ns
            log.warning(
                "account.unreconciled",
                venue=self._side.venue,
                reason=why.reason,
                error=why.text,
                retry_in_s=round(delay_ns / _NS, 1),
            )
            if now - self._answered_ns > _STALE_PERIODS * self._period_ns:
                self._statement.tell(StreamState.STALE, why.reason, why.text)

    # --- the login --------------------------------------------------------------------------------------------------

    def _renew(self, login: Login) -> None:
        self._renew_ns = time.monotonic_ns() + _RENEW_AGAIN_NS
        try:
            renewal = self._caller.drive(self._side.renew(login, self._secrets, time.time_ns()))
        except FAILURES as error:
            if (told := self._failed(login, error)) is not None:
                log.warning("account.unrenewed", venue=self._side.venue, reason=told.reason, error=told.text)
            return
        hide(renewal.login.token)
        log.info("account.renewed", venue=self._side.venue)
        with self._lock:
            if self._login is not login or self.stream is None:
                return
            if renewal.must_reconnect:
                self._login = None
                self.stream.end(Reason.ROTATION, "the login is renewed")
                return
            self._login = renewal.login
            for message in renewal.messages:
                self.stream.send(message)

    def _failed(self, login: Login, error: Exception) -> CloseReason | None:
        """What failed, if it may pass; refused credentials end the connection that was made with them."""
        told = close_reason_of(error, self._side.secrets)
        if not told.is_refused:
            return told
        self._end(login, told)
        return None

    def _end(self, login: Login, why: CloseReason) -> None:
        """End the connection that was made with a login, if it is there still."""
        with self._lock:
            if self._login is login:
                self._login = None
                if self.stream is not None:
                    self.stream.end(why.reason, why.text)

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
