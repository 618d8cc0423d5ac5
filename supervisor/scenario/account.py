"""Account side of a scenario: its connection, ledger, feed and REST answers."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Final

from ipc.board import ACCOUNT_SESSION
from ipc.errors import ConfigError, UsageError
from ipc.health import Reason, Stream, StreamState
from supervisor.scenario.clock import NS
from supervisor.scenario.form import AccountSpec
from supervisor.scenario.public import message_of
from supervisor.scenario.rest import ScriptedFlow
from supervisor.scenario.run import ScenarioRun
from supervisor.scenario.seen import ObservedFeed, ScenarioReport
from workers.accounts.close_reason import close_reason_of
from workers.accounts.publisher import AccountPublisher
from workers.accounts.runner import MarketLookup
from workers.accounts.secrets import Secrets
from workers.accounts.session import PrivateSession
from workers.net.frames import BINARY, PONG, TEXT, Frame
from workers.net.lifecycle import CloseReason
from workers.venues import private_venue
from workers.venues.account import Login, RestFlow, Snapshot
from workers.venues.listing import Listing

_BEAT_NS: Final = NS
#: Period of fills requested from REST.
_SINCE_NS: Final = 86_400 * NS


class AccountPart:
    """Account connection and its state.

    The worker's reconciliation schedule (after each login, then every minute) is not played: the file decides when REST
    is polled.

    Args:
        run: Scenario being played.
        feed: Feed of the account.

    Raises:
        UsageError: The file names a credential that the venue does not use.
    """

    def __init__(self, run: ScenarioRun, feed: ObservedFeed) -> None:
        spec = run.scenario.account or AccountSpec()
        venue, clock = run.venue, run.clock
        self._side = private_venue(venue.name, run.options)
        unknown = spec.credentials.keys() - set(self._side.secrets)
        if unknown:
            advice = f"{venue.name} has {', '.join(self._side.secrets)}"
            raise UsageError(
                f"unknown credentials {', '.join(sorted(unknown))}", where=f"{run.path}:account", advice=advice
            )
        self._secrets = Secrets(self._side.secrets, spec.credentials)
        self._has_credentials = bool(spec.credentials)
        self._venue = venue
        self._alias = spec.alias
        self._clock = clock
        self._report = run.report
        self._rest = run.rest
        self._row = run.board.session(0, ACCOUNT_SESSION)
        cell = run.board.cell(0, 0, Stream.ACCOUNT)
        self._publisher = AccountPublisher(venue.name, spec.alias, feed, cell, lambda _detail: None, clock=clock.mono)
        self._markets = MarketLookup(venue, (), ())
        self._login = Login("")
        self._session: PrivateSession | None = None
        self._transport = _Transport(run.report, None)
        self._snapshot: ScriptedFlow[Snapshot] | None = None
        self._beat_ns = clock.mono()

    @property
    def is_open(self) -> bool:
        """True while the connection is open."""
        return self._session is not None

    def list_markets(self, followed: tuple[Listing, ...]) -> None:
        """Set the markets that account rows may refer to."""
        self._markets = MarketLookup(self._venue, followed, followed)

    def open(self) -> None:
        """Log in, possibly over REST, and open the connection."""
        if not self._has_credentials:
            self._open(Login(""))
            return
        ScriptedFlow(self._log_in(), self._rest, "login", self._open, partial(self._failed, "login")).begin()

    def _log_in(self) -> RestFlow[Login]:
        """Log in; malformed credentials fail the flow, not its caller."""
        url = self._venue.ws_url
        return (yield from self._side.login(self._secrets, url, self._markets, self._clock.wall()))

    def _open(self, login: Login) -> None:
        self._login = login
        self._report.add(on="account", open=True)
        self._transport = _Transport(self._report, self._side.keepalive.ping)
        self._session = PrivateSession(
            self._side,
            self._alias,
            lambda: self._markets,
            self._transport,
            login,
            self._publisher,
            _SnapshotRequests(self._report),
            self._row,
            self._clock.mono,
        )
        self._session.begin()

    def close(self, reason: Reason, text: str = "") -> None:
        """Close the connection."""
        self._session = None
        self._publisher.publish_state(StreamState.BACKOFF, reason, text or None)

    def frame(self, payload: bytes, *, is_binary: bool) -> None:
        """Process a frame."""
        self._transport.frames.append((BINARY if is_binary else TEXT, payload))
        self._process()

    def tick(self) -> None:
        """Run the timers."""
        self._process()
        if self._clock.mono() >= self._beat_ns:
            self._beat_ns += _BEAT_NS
            self._publisher.publish_heartbeat()

    def _process(self) -> None:
        end = self._session.process_batch() if self._session is not None else None
        if end is not None:
            self._report.add(on="account", close=end.reason, text=end.text)
            self.close(end.reason, end.text)

    def ask(self) -> None:
        """Start a REST snapshot of the account."""
        if self._snapshot is not None and not self._snapshot.is_over:
            return
        now_ns = self._clock.wall()
        since_ms = (now_ns - _SINCE_NS) // 1_000_000
        steps = self._side.snapshot(self._login, self._secrets, self._markets, self._alias, since_ms, now_ns)
        asked_at = self._publisher.push_count()
        self._snapshot = ScriptedFlow(
            steps,
            self._rest,
            "account",
            lambda snapshot: self._answered(snapshot, asked_at),
            partial(self._failed, "account"),
        )
        self._snapshot.begin()

    def answer(self, answers: Mapping[str, bytes]) -> None:
        """Answer the pending account snapshot; start one when none is pending."""
        if self._snapshot is None or self._snapshot.is_over:
            self.ask()
        if self._snapshot is not None:
            self._snapshot.deliver(answers)

    def _answered(self, snapshot: Snapshot, asked_at: int) -> None:
        is_whole = self._publisher.apply_snapshot(snapshot, asked_at)
        self._publisher.mark_alive(self._clock.mono())
        self._publisher.publish_state(StreamState.LIVE, None, None)
        self._report.add(on="rest", answered="account", **({} if is_whole else {"overtaken": True}))

    def _failed(self, what: str, error: Exception) -> None:
        end: CloseReason = close_reason_of(error, self._side.secrets)
        advice = (
            {"advice": 'the file may contain placeholder credentials: "account": {"credentials": {…}}'}
            if isinstance(error, ConfigError)
            else {}
        )
        self._report.add(on="rest", failed=what, reason=end.reason, text=end.text, **advice)


class _SnapshotRequests:
    """Snapshot requests of the connection, which are only reported: the file decides when REST is polled."""

    def __init__(self, report: ScenarioReport) -> None:
        self._report = report

    def logged_in(self, login: Login) -> None:
        """Ignore a login, after which a worker would request a snapshot."""

    def ask(self) -> None:
        """Report a request for an immediate snapshot."""
        self._report.add(note="account.wants_rest", on="account")

    def ask_later(self) -> None:
        """Report a request for a snapshot soon."""
        self.ask()


class _Transport:
    """Open transport whose frames come from the file; it answers pings as a venue does."""

    def __init__(self, report: ScenarioReport, ping: bytes | None) -> None:
        self.frames: list[Frame] = []
        self._report = report
        self._ping = ping

    def receive(self) -> list[Frame]:
        """Return the pending frames without waiting."""
        frames, self.frames = self.frames, []
        return frames

    def send(self, message: bytes) -> None:
        """Report a sent message."""
        self._report.add(on="account", send=message_of(message))
        if message == self._ping:
            self.frames.append((PONG, b""))

    def ping(self) -> None:
        """Answer a ping."""
        self._report.add(on="account", send="(ping)")
        self.frames.append((PONG, b""))

    def pong(self, payload: bytes) -> None:
        """Report nothing: the library answers pings."""

    def close(self) -> None:
        """Do nothing."""
