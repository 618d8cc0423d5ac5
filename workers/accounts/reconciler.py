"""Reconciliation of an account with REST: after each login, every minute, and when something may be missing.

It also renews the login. It has its own thread, so that the account's socket never waits for it.
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
from workers.duty import LineDuty
from workers.net.lifecycle import CloseReason
from workers.venues.account import Login, PrivateVenue
from workers.venues.listing import Markets

log = get_log(__name__)

_NS: Final = 1_000_000_000
_MS: Final = 1_000_000
_TICK_S: Final = 0.2
#: Overlap with the last snapshot in requests for fills: a venue's history may lag behind its stream.
_OVERLAP_NS: Final = 300 * _NS
#: History of fills that the first snapshot requests.
_FIRST_NS: Final = 86_400 * _NS
#: Delay of another snapshot after one that a push overtook.
_SOON_NS: Final = 5 * _NS
#: Least time between snapshots that invalid rows trigger: every frame may contain one.
_LATER_NS: Final = 15 * _NS
#: Least time between two renewals of a login.
_RENEW_AGAIN_NS: Final = 10 * _NS
#: Number of periods without a snapshot after which the account is stale.
_STALE_PERIODS: Final = 3
#: Number of snapshots in a row with fills that the stream missed, after which it is replaced.
_MISSED_SNAPSHOTS: Final = 2


class StreamHandle(Protocol):
    """Interface of the account's connection for the reconciler."""

    def send(self, message: bytes) -> None:
        """Send a message."""

    def end(self, reason: Reason, text: str) -> None:
        """Reconnect."""


class _LastSnapshot(msgspec.Struct):
    """State that survives restarts."""

    alias: str
    reconciled_ns: int


class Reconciler:
    """Reconciler of one account, run as a thread, every ``period_s``.

    ``run_dir`` keeps the time of the last snapshot, so that fills during a downtime are found.
    """

    def __init__(
        self,
        side: PrivateVenue,
        secrets: Secrets,
        alias: str,
        markets: Callable[[], Markets],
        publisher: AccountPublisher,
        runner: RestFlowRunner,
        row: Row,
        run_dir: RunDir,
        period_s: float,
        stop: Event,
        duty: LineDuty | None = None,
    ) -> None:
        self.stream: StreamHandle | None = None
        self._side = side
        self._secrets = secrets
        self._alias = alias
        self._markets = markets
        self._publisher = publisher
        self._runner = runner
        self._row = row
        self._path = run_dir.account_checkpoint(side.venue)
        self._period_ns = int(period_s * _NS)
        self._stop = stop
        self._duty = duty or LineDuty()
        self._backoff = Backoff(POLL_INIT)
        #: After a failure no request brings the next snapshot forward before this time.
        self._held_until_ns = 0
        #: Guards the login: results of one login never affect the connection of the next.
        self._lock = Lock()
        self._login: Login | None = None
        self._is_asked = False
        #: Number of snapshots with this login, and how many of the last ones had fills that the stream missed.
        self._snapshots = 0
        self._missed_snapshots = 0
        #: Whether the next snapshot is early because a push overtook the last one.
        self._is_second = False
        self._due_ns = 0
        self._renew_ns = 0
        self._answered_ns = 0
        self._reconciled_wall_ns = self._load_last_snapshot()

    def adopt(self) -> None:
        """Adopt the time of the other line's last snapshot, so that fills since then are found."""
        self._reconciled_wall_ns = max(self._reconciled_wall_ns, self._load_last_snapshot())

    def logged_in(self, login: Login) -> None:
        """Use an accepted login and request a snapshot now; any thread may call it."""
        with self._lock:
            self._login = login
            self._due_ns = self._renew_ns = self._held_until_ns = 0
            self._snapshots = self._missed_snapshots = 0
            self._answered_ns = time.monotonic_ns()

    def logged_out(self) -> None:
        """Stop using the login; any thread may call it."""
        with self._lock:
            self._login = None

    def ask(self) -> None:
        """Request a snapshot as soon as possible; any thread may call it."""
        self._is_asked = True

    def ask_later(self) -> None:
        """Request a snapshot before the period is over, after an invalid row; any thread may call it."""
        with self._lock:
            self._due_ns = min(self._due_ns, max(self._held_until_ns, self._answered_ns + _LATER_NS))

    def run(self) -> None:
        """Reconcile and renew the login until stopped."""
        self._row[SessionWord.PHASE] = code_of(Phase.SUBSCRIBED)
        while not self._stop.is_set():
            login = self._login
            if login is not None and self._duty.is_ours:
                now = time.monotonic_ns()
                if login.renew_at_ns is not None and time.time_ns() >= login.renew_at_ns and now >= self._renew_ns:
                    self._renew(login)
                elif now >= self._due_ns or (self._is_asked and now >= self._held_until_ns):
                    self._reconcile(login)
            self._stop.wait(_TICK_S)

    def _reconcile(self, login: Login) -> None:
        if self.stream_misses_fills():
            self._end(login, CloseReason(Reason.SEQ_GAP, "the stream misses fills that REST lists"))
            return
        asked_wall_ns = time.time_ns()
        since_ns = self._reconciled_wall_ns - _OVERLAP_NS if self._reconciled_wall_ns else asked_wall_ns - _FIRST_NS
        asked_at = self._publisher.push_count()
        with self._lock:
            if self._login is not login:
                return
            self._is_asked = False
            self._due_ns = time.monotonic_ns() + self._period_ns
        flow = self._side.snapshot(login, self._secrets, self._markets(), self._alias, since_ns // _MS, asked_wall_ns)
        try:
            snapshot = self._runner.run(flow)
        except FAILURES as error:
            if (reason := self._close_reason(login, error)) is not None:
                self._postpone(login, reason)
            return
        is_whole = self._publisher.apply_snapshot(snapshot, asked_at)
        if not self._duty.is_ours:
            return  # the other line will find what was left out
        if snapshot.has_all_fills:
            self._save_last_snapshot(asked_wall_ns)
        with self._lock:
            if self._login is not login:
                return
            self._backoff.reset()
            self._snapshots += 1
            self._answered_ns = time.monotonic_ns()
            self._publisher.mark_alive(self._answered_ns)
            self._publisher.publish_state(StreamState.LIVE, None, snapshot.note)
            # Once: on a busy account every snapshot is overtaken, and the next regular one is near.
            self._is_second = not is_whole and not self._is_second
            if self._is_second:
                self._due_ns = min(self._due_ns, self._answered_ns + _SOON_NS)

    def stream_misses_fills(self) -> bool:
        """Return whether snapshots in a row had fills that the open stream missed.

        The first snapshot does not count: it lists older fills.
        """
        missed = self._publisher.missing_from_stream()
        self._missed_snapshots = self._missed_snapshots + 1 if missed and self._snapshots > 1 else 0
        return self._missed_snapshots >= _MISSED_SNAPSHOTS

    def _postpone(self, login: Login, why: CloseReason) -> None:
        """Schedule the next attempt, unless the failure belongs to an earlier login."""
        with self._lock:
            if self._login is not login or not self._duty.is_ours:
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
                self._publisher.publish_state(StreamState.STALE, why.reason, why.text)

    def _renew(self, login: Login) -> None:
        self._renew_ns = time.monotonic_ns() + _RENEW_AGAIN_NS
        try:
            renewal = self._runner.run(self._side.renew(login, self._secrets, time.time_ns()))
        except FAILURES as error:
            if (reason := self._close_reason(login, error)) is not None and self._duty.is_ours:
                log.warning("account.unrenewed", venue=self._side.venue, reason=reason.reason, error=reason.text)
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

    def _close_reason(self, login: Login, error: Exception) -> CloseReason | None:
        """Return the reason of a temporary failure; close the connection when its credentials are rejected."""
        reason = close_reason_of(error, self._side.secrets)
        if not reason.is_refused:
            return reason
        self._end(login, reason)
        return None

    def _end(self, login: Login, why: CloseReason) -> None:
        """Close the connection of a login if it still exists."""
        with self._lock:
            if self._login is login:
                self._login = None
                if self.stream is not None:
                    self.stream.end(why.reason, why.text)

    def _load_last_snapshot(self) -> int:
        try:
            last = msgspec.json.decode(self._path.read_bytes(), type=_LastSnapshot)
        except (OSError, ValueError):
            return 0
        return last.reconciled_ns if last.alias == self._alias else 0

    def restore_last_snapshot(self) -> None:
        """Write the time of the last snapshot again after its file was lost."""
        if self._reconciled_wall_ns and self._duty.is_ours:
            self._save_last_snapshot(self._reconciled_wall_ns)

    def _save_last_snapshot(self, asked_wall_ns: int) -> None:
        self._reconciled_wall_ns = asked_wall_ns
        try:
            replace_file(self._path, msgspec.json.encode(_LastSnapshot(self._alias, asked_wall_ns)))
        except OSError as error:
            log.warning("account.unremembered", venue=self._side.venue, error=str(error))
