"""Outputs of a scenario: report lines, the feed, and a consumer of it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import msgspec
import zmq

from ipc.account_state import AccountState, DeliveredOnce
from ipc.codec import decode, encode
from ipc.errors import UsageError
from ipc.events import Event, Heartbeat
from ipc.feed_state import FeedState
from ipc.publisher import Publisher, TopicFeed
from ipc.topics import CHANNELS, Topic
from supervisor.scenario.clock import Clock

#: Line of the report: ``t`` and the event's fields.
Line = dict[str, Any]

#: Channels whose last event a consumer keeps.
_LAST: Final = frozenset(CHANNELS) - {"book"}
#: Stamps without meaning on a simulated clock.
_STAMPS: Final = frozenset({"schema", "epoch", "seq", "recv_ns", "recv_mono_ns", "publish_ns", "pid"})


class ScenarioReport:
    """Report lines, in order."""

    def __init__(self, clock: Clock) -> None:
        self.lines: list[Line] = []
        self._clock = clock

    def add(self, **fields: Any) -> None:
        """Add a line at the current time."""
        self.lines.append({"t": round(self._clock.t, 6), **msgspec.to_builtins(fields, enc_hook=str)})


class ObservedFeed(Publisher):
    """Publisher that delivers messages directly to a consumer, stamped with the scenario's time.

    Args:
        context: ZeroMQ context for the publisher's socket, which has no subscribers.
        name: Unique within the context.
        clock: Clock of the scenario.
        deliver: Receives each message: topic and payload.
    """

    def __init__(
        self, context: zmq.Context[zmq.Socket[bytes]], name: str, clock: Clock, deliver: Callable[[bytes, bytes], None]
    ) -> None:
        super().__init__(context, f"inproc://{name}", clock.wall(), clock=clock.wall, monotonic=clock.mono)
        self._scenario = clock
        self._deliver = deliver

    def send(self, feed: TopicFeed, event: Event) -> bool:
        """Stamp, send and deliver an event; the caller holds the publisher."""
        event.recv_ns, event.recv_mono_ns = self._scenario.wall(), self._scenario.mono()
        is_sent = super().send(feed, event)
        self._deliver(feed.name, encode(event))
        return is_sent


class Consumer:
    """Consumer of a venue's public and account feeds that reports what a program would receive.

    Args:
        venue: Venue of the feeds.
        clock: Clock of the scenario.
        report: Receives the lines.
    """

    def __init__(self, venue: str, clock: Clock, report: ScenarioReport) -> None:
        self.state = FeedState((venue,), clock.mono())
        self.account = AccountState(venue, clock.mono(), DeliveredOnce())
        self._venue = venue
        self._clock = clock
        self._report = report
        self._reported: dict[str, str | None] = {}
        self._account_reported: str | None = "no_snapshot"

    def handle(self, topic: bytes, payload: bytes) -> None:
        """Handle a message of the public feed."""
        for event in self.state.handle((topic, payload), self._clock.mono()):
            self._report_event(topic, event)
        self.report_usability()

    def handle_account(self, topic: bytes, payload: bytes) -> None:
        """Handle a message of the account feed."""
        event = decode(payload)
        if event is None:
            return
        told, _ = self.account.handle(topic.decode(), event, self._clock.mono())
        for one in told:
            self._report_event(topic, one)
        self.report_usability()

    def report_usability(self) -> None:
        """Report books and accounts that became usable or unusable."""
        now = self._clock.mono()
        self.state.check_silence(now)
        for book in self.state.books(now):
            if self._reported.get(book.symbol, "no_snapshot") != book.reason:
                self._reported[book.symbol] = book.reason
                self._report.add(book=book.symbol, usable=book.usable, reason=book.reason)
        self.account.check_silence(now)
        if self.account.name is not None and self.account.reason != self._account_reported:
            self._account_reported = self.account.reason
            self._report.add(account=self.account.name, usable=self.account.usable, reason=self.account.reason)

    def book(self, symbol: str) -> Line:
        """Return a book as the consumer holds it, with its levels even when unusable."""
        book = self.state.book(self._venue, symbol, self._clock.mono())
        bids, asks = book.indicative()
        return {"usable": book.usable, "reason": book.reason, "bids": _plain(bids), "asks": _plain(asks)}

    def last(self, topic: str) -> Line | None:
        """Return the last event of a non-book topic; None before the first.

        Raises:
            UsageError: The venue has no such topic.
        """
        wanted = Topic.parse(topic) if "." in topic else None
        if wanted is None or wanted.venue != self._venue or wanted.channel not in _LAST:
            advice = f'write mark.{self._venue}.BTC-PERP; books are in "books", an account in "account"'
            raise UsageError(f"{topic!r} is no topic of this venue with a last event", advice=advice)
        event = self.state.latest(wanted.channel, self._venue, wanted.symbol)
        return None if event is None else fields_of(event)

    def account_state(self) -> Line:
        """Return the account as the consumer holds it."""
        account = self.account
        margin = account.margin
        return {
            "usable": account.usable,
            "reason": account.reason,
            "orders": {key: fields_of(event) for key, event in account.orders.items()},
            "positions": {key: fields_of(event) for key, event in account.positions.items()},
            "balances": {key: fields_of(event) for key, event in account.balances.items()},
            "margin": None if margin is None else fields_of(margin),
        }

    def _report_event(self, topic: bytes, event: Event) -> None:
        if not isinstance(event, Heartbeat):
            self._report.add(topic=topic.decode(), **fields_of(event))


def fields_of(event: Event) -> Line:
    """Return an event's fields without the stamps of a running system."""
    return {key: value for key, value in msgspec.json.decode(encode(event)).items() if key not in _STAMPS}


def _plain(levels: Any) -> Any:
    return [list(level) for level in levels]
