"""Publication of an account: its ledger, its own feed, and its state on the board."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable
from typing import Final

from msgspec import UNSET

from ipc.board import CellWord, Row
from ipc.checks import checked
from ipc.events import AccountEvent, Balance, Fill, Heartbeat, Order, Payment, Position, Status
from ipc.health import Reason, Stream, StreamState
from ipc.log import get_log, without_hidden
from ipc.publisher import Publisher, TopicFeed
from ipc.rundir import AccountWords
from ipc.topics import ACCOUNT_CHANNELS, Topic
from workers.accounts.checkpoint import PublishedFills
from workers.accounts.ledger import Ledger, OnceKey, once_key
from workers.duty import LineDuty
from workers.status import stamp_data, write_state
from workers.venues.account import AccountData, AllPositions, Leg, LegName, Snapshot
from workers.venues.account_values import without_values
from workers.venues.rows import InvalidRow

log = get_log(__name__)

_MS: Final = 1_000_000
#: Number of fills, payments and closed orders that late subscribers receive.
_RECENT: Final = 500
_LEGS: Final[tuple[LegName, ...]] = ("both", "long", "short")
#: Channels of states, of which the newest counts; fills and payments are published once.
_STATES: Final = tuple(channel for channel in ACCOUNT_CHANNELS if channel not in {"fill", "payment"})


class AccountPublisher:
    """Publisher of one account; every method takes the feed's lock, so both account threads may call it.

    ``publisher`` is the account's own feed, ``describe`` writes state, reason and detail where ``status`` reads them,
    and ``published`` is the checkpoint, None for none. ``invalid_rows`` counts rows that were left out because they are
    invalid or belong to another account. Events are left out while the venue's other line has the account.
    """

    def __init__(
        self,
        venue: str,
        alias: str,
        publisher: Publisher,
        cell: Row,
        describe: Callable[[AccountWords], None],
        published: PublishedFills | None = None,
        clock: Callable[[], int] | None = None,
        duty: LineDuty | None = None,
    ) -> None:
        self.ledger = Ledger(() if published is None else published.load())
        self.invalid_rows = 0
        self._venue, self._alias = venue, alias
        self._publisher = publisher
        self._cell = cell
        self._describe = describe
        self._published = published
        self._duty = duty or LineDuty()
        self._clock = clock or time.monotonic_ns
        self._feeds = {channel: publisher.topic(Topic(channel, venue, alias)) for channel in ACCOUNT_CHANNELS}
        self._status = publisher.topic(Topic("status", venue, ""))
        self._heartbeat = publisher.topic(Topic("heartbeat", venue, ""))
        self._state: StreamState | None = None
        self._reason: Reason | None = None
        self._last_reason: Reason | None = None
        self._detail: str | None = None
        self._since_ns = 0
        #: Number of invalid rows in the last description.
        self._described_rows = 0
        #: Fills and payments that were published but are not in the checkpoint yet.
        self._new: list[OnceKey] = []

    @property
    def state(self) -> StreamState | None:
        """State that was published last."""
        return self._state

    def adopt(self) -> None:
        """Adopt the fills and payments that the other line has published, so that they are not published again."""
        if self._published is not None:
            with self._publisher.exclusive():
                self.ledger.add_published(self._published.load())

    def hand_over(self) -> None:
        """Leave the account to the other line: keep no states, for theirs are newer, and say so."""
        with self._publisher.exclusive():
            self.ledger.forget_states()
            for channel in _STATES:
                self._feeds[channel].latest.clear()
        self.publish_state(StreamState.OFF, None, "the other line follows the account")

    def restore_published(self) -> None:
        """Write the checkpoint again after it was lost, else a restart would publish every fill again."""
        if self._published is not None and self._duty.is_ours:
            with self._publisher.exclusive():
                self._published.restore(self.ledger.published())

    def restore_description(self) -> None:
        """Describe the state again after the description was lost."""
        with self._publisher.exclusive():
            self._describe(self._words())

    def apply_pushed(self, items: Iterable[AccountData]) -> int:
        """Publish what the stream pushed; return the number of invalid rows."""
        before = self.invalid_rows
        with self._publisher.exclusive():
            for item in items:
                match item:
                    case InvalidRow():
                        self._report(item)
                    case AllPositions(symbols, covers, at_ns):
                        listed = {(symbol, leg) for symbol in symbols for leg in _LEGS}
                        self._apply_all(self.ledger.flat_positions(listed, None, covers, at_ns), None)
                    case _:
                        self._apply(item, None)
            self._end_batch()
        return self.invalid_rows - before

    def push_count(self) -> int:
        """Return the number of pushes, to be read before a snapshot is requested."""
        return self.ledger.pushes

    def apply_snapshot(self, snapshot: Snapshot, asked_at: int) -> bool:
        """Publish what is new in a snapshot; return whether no push overtook any of it.

        ``asked_at`` is :meth:`push_count` before the request.
        """
        ledger = self.ledger
        overtaken = ledger.overtaken
        # An event with invalid decimals still counts as listed.
        assets = [event.asset for event in snapshot.events if isinstance(event, Balance)]
        legs = {leg for event in snapshot.events if (leg := _leg_of(event)) is not None}
        with self._publisher.exclusive():
            for row in snapshot.invalid:
                self._report(row)
            self._apply_all(snapshot.events, asked_at)
            self._apply_all(ledger.closed_unseen(snapshot.open_orders, asked_at, snapshot.orders_of), asked_at)
            self._apply_all(ledger.flat_positions(legs, asked_at, snapshot.positions_of), asked_at)
            empty = ledger.empty_balances(assets, asked_at, snapshot.balances_of)
            for balance in empty:
                balance.snapshot = True
            self._apply_all(empty, asked_at)
            self._end_batch()
            if self.invalid_rows != self._described_rows:
                self._describe(self._words())
        return ledger.overtaken == overtaken

    def missing_from_stream(self) -> int:
        """Return the number of fills that only REST reported since the last call."""
        with self._publisher.exclusive():
            count = len(self.ledger.missing_from_stream)
            self.ledger.missing_from_stream.clear()
        return count

    def publish_state(
        self,
        state: StreamState,
        reason: Reason | None,
        detail: str | None,
        *,
        attempt: int = 0,
        backoff_s: float | None = None,
    ) -> None:
        """Publish a state unless it is the last one; ``detail`` explains the reason, with secrets removed."""
        now = self._clock()
        detail = None if detail is None else without_hidden(detail)
        with self._publisher.exclusive():
            previous, self._state = self._state, state
            if (previous, self._reason, self._detail) == (state, reason, detail):
                return
            self._reason, self._detail = reason, detail
            self._last_reason = reason or self._last_reason
            # Before the board: a reader of its stamp must find a description that is at least as new.
            self._since_ns = now
            self._describe(self._words())
            write_state(self._cell, state, reason, now)
            last_ns = self._cell[CellWord.LAST_PARSED]
            event = Status(
                venue=self._venue,
                symbol=None,
                venue_symbol=None,
                exchange_ns=None,
                stream=Stream.ACCOUNT,
                state=state,
                previous=previous,
                reason=reason,
                attempt=attempt,
                backoff_s=backoff_s,
                pid=os.getpid(),
                ages_ms={"account": (now - last_ns) // _MS if last_ns else None},
            )
            self._stamp(event)
            self._publisher.send_latest(self._status, Stream.ACCOUNT, event)
        log_state = log.error if state is StreamState.FAILED else log.info
        log_state("account.state", venue=self._venue, state=state, reason=reason, text=detail, attempt=attempt or None)

    def mark_alive(self, now: int) -> None:
        """Stamp the board cell after a message or an answer of REST."""
        stamp_data(self._cell, now)

    def publish_heartbeat(self) -> None:
        """Publish the heartbeat of the account's feed."""
        with self._publisher.exclusive():
            beat = Heartbeat(
                venue=self._venue,
                symbol=None,
                venue_symbol=None,
                exchange_ns=None,
                seqs=self._publisher.last_seqs(),
                books={},
                drops=self._publisher.drops,
                rss_bytes=0,
            )
            self._stamp(beat)
            self._publisher.send(self._heartbeat, beat)

    def _apply_all(self, items: Iterable[AccountEvent | Leg], asked_at: int | None) -> None:
        for item in items:
            self._apply(item, asked_at)

    def _apply(self, item: AccountEvent | Leg, asked_at: int | None) -> None:
        """Check an event from either source, apply it to the ledger and publish what is new."""
        if not self._duty.is_ours:
            return
        event = item.position if isinstance(item, Leg) else item
        try:
            checked(event)
        except ValueError as error:
            self._report(InvalidRow(type(event).__name__.lower(), str(error)))
            return
        new = self.ledger.apply(item, asked_at)
        if new is not None:
            self._send(new)
        elif self.ledger.was_published_before(event):
            self._retain(self._feeds[_channel(event)], event)

    def _words(self) -> AccountWords:
        self._described_rows = self.invalid_rows
        rows = self.invalid_rows or UNSET
        return AccountWords(self._alias, self._state, self._last_reason, self._since_ns, self._detail, rows)

    def _report(self, row: InvalidRow) -> None:
        self.invalid_rows += 1
        error = without_values(row.error)
        log.warning("account.invalid_row", venue=self._venue, of=row.what, error=error, total=self.invalid_rows)

    def _send(self, event: AccountEvent) -> None:
        feed = self._feeds[_channel(event)]
        event.flags = ()
        self._stamp(event)
        once = once_key(event) if isinstance(event, Fill | Payment) else None
        self._number_sides(event)
        is_sent = self._publisher.send_latest(feed, _key(event), event)
        self._cell.add(CellWord.EVENTS)
        if is_sent and once is not None:
            self._new.append(once)
        _bound(feed)

    def _retain(self, feed: TopicFeed, event: AccountEvent) -> None:
        """Keep an event that an earlier process published for late subscribers."""
        self._stamp(event)
        self._number_sides(event)
        feed.latest[_key(event)] = event
        _bound(feed)

    def _number_sides(self, event: AccountEvent) -> None:
        """Give the second side of a self trade its own id."""
        if isinstance(event, Fill) and self.ledger.is_second_side(event):
            event.fill_id = f"{event.fill_id}:{event.side}"

    def _end_batch(self) -> None:
        """Publish net positions after a whole batch, and write the checkpoint."""
        for net in self.ledger.nets() if self._duty.is_ours else ():
            self._send(net)
        if self._published is not None:
            self._published.add(self._new, self.ledger.published)
        self._new.clear()

    @staticmethod
    def _stamp(event: AccountEvent | Status | Heartbeat) -> None:
        event.recv_ns, event.recv_mono_ns = time.time_ns(), time.monotonic_ns()


def _channel(event: AccountEvent) -> str:
    return type(event).__name__.lower()


def _leg_of(item: AccountEvent | Leg) -> tuple[str | None, LegName] | None:
    """Return market and leg that an item of a snapshot lists."""
    match item:
        case Leg(name, position):
            return position.venue_symbol, name
        case Position():
            return item.venue_symbol, "both"
        case _:
            return None


def _key(event: AccountEvent) -> str:
    match event:
        case Order():
            return event.order_id
        case Fill():
            return event.fill_id
        case Payment():
            return event.payment_id
        case Position():
            return event.venue_symbol or ""
        case _:
            return getattr(event, "asset", "")


def _bound(feed: TopicFeed) -> None:
    """Drop the oldest event that late subscribers would receive, but never an open order."""
    if len(feed.latest) <= _RECENT:
        return
    oldest = next((key for key, event in feed.latest.items() if not (isinstance(event, Order) and event.is_open)), None)
    if oldest is not None:
        del feed.latest[oldest]
