"""What comes of a scenario: the lines of its report, the feed, and a consumer that listens to it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import msgspec
import zmq

from ipc.accounts import Account
from ipc.codec import decode, encode
from ipc.errors import UsageError
from ipc.events import Event, Heartbeat
from ipc.feed_state import FeedState
from ipc.publisher import Publisher, TopicFeed
from ipc.topics import CHANNELS, Topic
from supervisor.scenario.clock import Clock

__all__ = ["Consumer", "Line", "ObservedFeed", "ScenarioReport"]

#: One line of the report: ``t`` and what happened.
Line = dict[str, Any]

#: Channels of which a consumer holds the last event.
_LAST: Final = frozenset(CHANNELS) - {"book"}
#: Stamps that say nothing in a scenario, whose clock is its own.
_STAMPS: Final = frozenset({"schema", "epoch", "seq", "recv_ns", "recv_mono_ns", "publish_ns", "pid"})


class ScenarioReport:
    """The lines of a report, in their order."""

    def __init__(self, clock: Clock) -> None:
        self.lines: list[Line] = []
        self._clock = clock

    def add(self, **fields: Any) -> None:
        """Note that something happened now."""
        self.lines.append({"t": round(self._clock.t, 6), **msgspec.to_builtins(fields, enc_hook=str)})


class ObservedFeed(Publisher):
    """A worker's feed whose messages go straight to a consumer, stamped with the scenario's time.

    Args:
        context: For a socket without subscribers, which the publisher is made with.
        name: Unique within the context.
        clock: The scenario's.
        deliver: Takes each message: topic and payload.
    """

    def __init__(
        self, context: zmq.Context[zmq.Socket[bytes]], name: str, clock: Clock, deliver: Callable[[bytes, bytes], None]
    ) -> None:
        super().__init__(context, f"inproc://{name}", clock.wall(), clock=clock.wall, monotonic=clock.mono)
        self._scenario = clock
        self._deliver = deliver

    def send(self, feed: TopicFeed, event: Event) -> bool:
        """Stamp, send and deliver an event; within a turn."""
        event.recv_ns, event.recv_mono_ns = self._scenario.wall(), self._scenario.mono()
        is_sent = super().send(feed, event)
        self._deliver(feed.name, encode(event))
        return is_sent


class Consumer:
    """A subscriber of the venue's feed and of its account's, which reports what a program would be given.

    Args:
        venue: Whose feeds.
        clock: The scenario's.
        report: Takes the lines.
    """

    def __init__(self, venue: str, clock: Clock, report: ScenarioReport) -> None:
        self.mirror = FeedState((venue,), clock.mono())
        self.account = Account(venue, clock.mono())
        self._venue = venue
        self._clock = clock
        self._report = report
        self._shown: dict[str, str | None] = {}
        self._account_shown: str | None = "no_snapshot"

    def hear(self, topic: bytes, payload: bytes) -> None:
        """Take a message of the public feed."""
        for event in self.mirror.handle((topic, payload), self._clock.mono()):
            self._tell(topic, event)
        self.look()

    def hear_account(self, topic: bytes, payload: bytes) -> None:
        """Take a message of the account's feed."""
        event = decode(payload)
        if event is None:
            return
        told, _ = self.account.handle(topic.decode(), event, self._clock.mono())
        for one in told:
            self._tell(topic, one)
        self.look()

    def look(self) -> None:
        """Report books and accounts that became usable or unusable, for whatever reason."""
        now = self._clock.mono()
        self.mirror.check_silence(now)
        for book in self.mirror.books(now):
            if self._shown.get(book.symbol, "no_snapshot") != book.reason:
                self._shown[book.symbol] = book.reason
                self._report.add(book=book.symbol, usable=book.usable, reason=book.reason)
        self.account.check_silence(now)
        if self.account.name is not None and self.account.reason != self._account_shown:
            self._account_shown = self.account.reason
            self._report.add(account=self.account.name, usable=self.account.usable, reason=self.account.reason)

    def book(self, symbol: str) -> Line:
        """Return a book as a consumer has it; its levels whether usable or not."""
        book = self.mirror.book(self._venue, symbol, self._clock.mono())
        bids, asks = book.indicative()
        return {"usable": book.usable, "reason": book.reason, "bids": _plain(bids), "asks": _plain(asks)}

    def last(self, topic: str) -> Line | None:
        """Return the last event of a topic that is no book; None before the first.

        Raises:
            UsageError: It is no topic of the venue.
        """
        wanted = Topic.parse(topic) if "." in topic else None
        if wanted is None or wanted.venue != self._venue or wanted.channel not in _LAST:
            advice = f'write mark.{self._venue}.BTC-PERP; books are in "books", an account in "account"'
            raise UsageError(f"{topic!r} is no topic of this venue with a last event", advice=advice)
        event = self.mirror.latest(wanted.channel, self._venue, wanted.symbol)
        return None if event is None else fields_of(event)

    def account_state(self) -> Line:
        """Return the account as a consumer has it."""
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

    def _tell(self, topic: bytes, event: Event) -> None:
        if not isinstance(event, Heartbeat):
            self._report.add(topic=topic.decode(), **fields_of(event))


def fields_of(event: Event) -> Line:
    """Return what an event says, without the stamps of a running system."""
    return {key: value for key, value in msgspec.json.decode(encode(event)).items() if key not in _STAMPS}


def _plain(levels: Any) -> Any:
    return [list(level) for level in levels]
