"""The account of a scenario: its connection, the ledger and the feed behind it, and what REST answers of it."""

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
from workers.accounts.close_reason import CloseReason, close_reason_of
from workers.accounts.publisher import AccountPublisher
from workers.accounts.runner import MarketLookup
from workers.accounts.secrets import Secrets
from workers.accounts.session import PrivateSession
from workers.net.frames import BINARY, PONG, TEXT, Frame
from workers.venues import private_venue
from workers.venues.account import Login, RestFlow, Snapshot
from workers.venues.venue import Listing

__all__ = ["AccountPart"]

_BEAT_NS: Final = NS
#: How far back fills are asked for.
_SINCE_NS: Final = 86_400 * NS


class AccountPart:
    """An account's connection and what is known of it.

    The worker's clock of looks (after each login, then each minute) is not played: the file says when REST is asked.

    Args:
        run: The scenario.
        feed: The account's own.

    Raises:
        UsageError: The venue does not know a credential that the file names.
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
        self._is_asked_for = bool(spec.credentials)
        self._venue = venue
        self._alias = spec.alias
        self._clock = clock
        self._report = run.report
        self._desk = run.desk
        self._row = run.board.session(0, ACCOUNT_SESSION)
        cell = run.board.cell(0, 0, Stream.ACCOUNT)
        self._statement = AccountPublisher(venue.name, spec.alias, feed, cell, lambda _says: None, clock=clock.mono)
        self._markets = MarketLookup(venue, (), ())
        self._login = Login("")
        self._talk: PrivateSession | None = None
        self._transport = _Transport(run.report, None)
        self._look: ScriptedFlow[Snapshot] | None = None
        self._beat_ns = clock.mono()

    @property
    def is_open(self) -> bool:
        """Whether the connection is open."""
        return self._talk is not None

    def list_markets(self, followed: tuple[Listing, ...]) -> None:
        """Take the markets that can be named."""
        self._markets = MarketLookup(self._venue, followed, followed)

    def open(self) -> None:
        """Log in, which may take REST calls, and open the connection."""
        if not self._is_asked_for:
            self._open(Login(""))
            return
        ScriptedFlow(self._log_in(), self._desk, "login", self._open, partial(self._failed, "login")).begin()

    def _log_in(self) -> RestFlow[Login]:
        """Log in; credentials that are none are a failure of the course, not of who begins it."""
        url = self._venue.ws_url
        return (yield from self._side.login(self._secrets, url, self._markets, self._clock.wall()))

    def _open(self, login: Login) -> None:
        self._login = login
        self._report.add(on="account", open=True)
        self._transport = _Transport(self._report, self._side.keepalive.ping)
        self._talk = PrivateSession(
            self._side,
            self._alias,
            lambda: self._markets,
            self._transport,
            login,
            self._statement,
            _Wishes(self._report),
            self._row,
            self._clock.mono,
        )
        self._talk.begin()

    def close(self, reason: Reason, text: str = "") -> None:
        """End the connection."""
        self._talk = None
        self._statement.publish_state(StreamState.BACKOFF, reason, text or None)

    def frame(self, payload: bytes, *, is_binary: bool) -> None:
        """Take a frame."""
        self._transport.frames.append((BINARY if is_binary else TEXT, payload))
        self._turn()

    def tick(self) -> None:
        """Time passed."""
        self._turn()
        if self._clock.mono() >= self._beat_ns:
            self._beat_ns += _BEAT_NS
            self._statement.publish_heartbeat()

    def _turn(self) -> None:
        end = self._talk.turn() if self._talk is not None else None
        if end is not None:
            self._report.add(on="account", close=end.reason, text=end.text)
            self.close(end.reason, end.text)

    # --- REST ---------------------------------------------------------------------------------------------------------

    def ask(self) -> None:
        """Begin to ask REST for the whole account."""
        if self._look is not None and not self._look.is_over:
            return
        now_ns = self._clock.wall()
        since_ms = (now_ns - _SINCE_NS) // 1_000_000
        steps = self._side.snapshot(self._login, self._secrets, self._markets, self._alias, since_ms, now_ns)
        asked_at = self._statement.push_count()
        self._look = ScriptedFlow(
            steps, self._desk, "account", lambda told: self._answered(told, asked_at), partial(self._failed, "account")
        )
        self._look.begin()

    def answer(self, answers: Mapping[str, bytes]) -> None:
        """Answer what is asked of the account; it is asked now when nothing waits."""
        if self._look is None or self._look.is_over:
            self.ask()
        if self._look is not None:
            self._look.give(answers)

    def _answered(self, snapshot: Snapshot, asked_at: int) -> None:
        is_whole = self._statement.apply_snapshot(snapshot, asked_at)
        self._statement.mark_alive(self._clock.mono())
        self._statement.publish_state(StreamState.LIVE, None, None)
        self._report.add(on="rest", answered="account", **({} if is_whole else {"overtaken": True}))

    def _failed(self, what: str, error: Exception) -> None:
        end: CloseReason = close_reason_of(error, self._side.secrets)
        advice = (
            {"advice": 'the file may hold invented ones: "account": {"credentials": {…}}'}
            if isinstance(error, ConfigError)
            else {}
        )
        self._report.add(on="rest", failed=what, reason=end.reason, text=end.text, **advice)


class _Wishes:
    """What the connection would have the worker ask REST; here the file says when that is."""

    def __init__(self, report: ScenarioReport) -> None:
        self._report = report

    def logged_in(self, login: Login) -> None:
        """Take note of a login, after which a worker asks."""

    def ask(self) -> None:
        """Report the wish to ask at once."""
        self._report.add(note="account.wants_rest", on="account")

    def ask_later(self) -> None:
        """Report the wish to ask soon."""
        self.ask()


class _Transport:
    """An open connection whose frames come from the file; it answers pings as a venue does."""

    def __init__(self, report: ScenarioReport, ping: bytes | None) -> None:
        self.frames: list[Frame] = []
        self._report = report
        self._ping = ping

    def receive(self) -> list[Frame]:
        """Return the frames that have come, without waiting."""
        frames, self.frames = self.frames, []
        return frames

    def send(self, message: bytes) -> None:
        """Report a message."""
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
        """End nothing."""
