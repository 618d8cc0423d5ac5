"""What is told of an account: the ledger in front of the account's own publisher, and its state on the board."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable
from typing import Final

from msgspec import UNSET

from ipc.board import CellWord, Row
from ipc.checks import checked
from ipc.events import AccountEvent, Balance, Fill, Heartbeat, Order, Payment, Position, Status
from ipc.health import Reason, Stream, StreamState, code_of
from ipc.log import get_log, without_hidden
from ipc.publisher import Publisher, TopicFeed
from ipc.rundir import AccountWords
from ipc.topics import ACCOUNT_CHANNELS, Topic
from workers.accounts.checkpoint import PublishedFills
from workers.accounts.ledger import Ledger, OnceKey, once_key
from workers.venues.account import AccountData, AllPositions, Leg, LegName, Snapshot
from workers.venues.account_values import without_values
from workers.venues.rows import InvalidRow

__all__ = ["AccountPublisher"]

log = get_log(__name__)

_MS: Final = 1_000_000
#: Fills, payments and closed orders that whoever joins is told of.
_RECENT: Final = 500
_LEGS: Final[tuple[LegName, ...]] = ("both", "long", "short")


class AccountPublisher:
    """One account, as its subscribers see it. Everything is done within the publisher's turn, by either thread.

    Args:
        venue: Whose account.
        alias: What it is called.
        publisher: The account's feed, apart from the venue's public one.
        cell: Its stream on the board.
        describe: Publish the state with its reason and text where ``status`` reads them.
        published: Remembers over restarts which fills and payments were published; None remembers nothing.
        clock: Monotonic, ns; the system's when None.

    Attributes:
        invalid_rows: Number of rows of frames and answers that were left out, because they are invalid or another
            account's.
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
    ) -> None:
        self.ledger = Ledger(() if published is None else published.load())
        self.invalid_rows = 0
        self._venue, self._alias = venue, alias
        self._publisher = publisher
        self._cell = cell
        self._describe = describe
        self._published = published
        self._clock = clock or time.monotonic_ns
        self._feeds = {channel: publisher.topic(Topic(channel, venue, alias)) for channel in ACCOUNT_CHANNELS}
        self._status = publisher.topic(Topic("status", venue, ""))
        self._heartbeat = publisher.topic(Topic("heartbeat", venue, ""))
        self._state: StreamState | None = None
        self._reason: Reason | None = None
        self._last_reason: Reason | None = None
        self._says: str | None = None
        self._since_ns = 0
        self._described_rows = 0
        #: What was published in this turn and must be remembered.
        self._new: list[OnceKey] = []

    @property
    def state(self) -> StreamState | None:
        """What was told last."""
        return self._state

    def pushed(self, items: Iterable[AccountData]) -> int:
        """Publish what the stream pushed; return how many rows were left out."""
        before = self.invalid_rows
        with self._publisher.exclusive():
            for item in items:
                match item:
                    case InvalidRow():
                        self._report(item)
                    case AllPositions(symbols, covers, at_ns):
                        listed = {(symbol, leg) for symbol in symbols for leg in _LEGS}
                        self._take_all(self.ledger.flat_positions(listed, None, covers, at_ns), None)
                    case _:
                        self._take(item, None)
            self._end_batch()
        return self.invalid_rows - before

    def asked(self) -> int:
        """To be read before REST is asked, and handed to :meth:`answered`."""
        return self.ledger.pushes

    def answered(self, snapshot: Snapshot, asked_at: int) -> bool:
        """Publish what is new in an answer; return whether no push overtook any of it."""
        ledger = self.ledger
        overtaken = ledger.overtaken
        # An event whose decimals are invalid is listed all the same.
        assets = [event.asset for event in snapshot.events if isinstance(event, Balance)]
        legs = {leg for event in snapshot.events if (leg := _leg_of(event)) is not None}
        with self._publisher.exclusive():
            for row in snapshot.invalid:
                self._report(row)
            self._take_all(snapshot.events, asked_at)
            self._take_all(ledger.closed_unseen(snapshot.open_orders, asked_at, snapshot.orders_of), asked_at)
            self._take_all(ledger.flat_positions(legs, asked_at, snapshot.positions_of), asked_at)
            empty = ledger.empty_balances(assets, asked_at, snapshot.balances_of)
            for balance in empty:
                balance.snapshot = True
            self._take_all(empty, asked_at)
            self._end_batch()
            if self.invalid_rows != self._described_rows:
                self._describe(self._words())
        return ledger.overtaken == overtaken

    def missing_from_stream(self) -> int:
        """How many fills REST told of since this was last asked, of which the stream has not told by now."""
        with self._publisher.exclusive():
            count = len(self.ledger.missing_from_stream)
            self.ledger.missing_from_stream.clear()
        return count

    def tell(
        self,
        state: StreamState,
        reason: Reason | None,
        says: str | None,
        *,
        attempt: int = 0,
        backoff_s: float | None = None,
    ) -> None:
        """The account's stream has another state; ``says`` is the reason in words, of which secrets are blotted out."""
        now = self._clock()
        says = None if says is None else without_hidden(says)
        with self._publisher.exclusive():
            previous, self._state = self._state, state
            if (previous, self._reason, self._says) == (state, reason, says):
                return
            self._reason, self._says = reason, says
            self._last_reason = reason or self._last_reason
            # Before the board: whoever read the stamp there finds words that are at least as new.
            self._since_ns = now
            self._describe(self._words())
            self._cell[CellWord.STATE] = code_of(state)
            if reason is not None:
                self._cell[CellWord.REASON] = code_of(reason)
            self._cell[CellWord.SINCE] = now
            heard = self._cell[CellWord.LAST_PARSED]
            event = Status(
                self._venue,
                None,
                None,
                None,
                Stream.ACCOUNT,
                state,
                previous,
                reason,
                attempt,
                backoff_s,
                os.getpid(),
                {"account": (now - heard) // _MS if heard else None},
            )
            self._stamp(event)
            self._publisher.send_latest(self._status, Stream.ACCOUNT, event)
        tell = log.error if state is StreamState.FAILED else log.info
        tell("account.state", venue=self._venue, state=state, reason=reason, text=says, attempt=attempt or None)

    def heard(self, now: int) -> None:
        """The account's stream is alive: a message came, or REST answered."""
        cell = self._cell
        cell[CellWord.LAST_DATA_RX] = cell[CellWord.LAST_PARSED] = cell[CellWord.LAST_PUBLISHED] = now

    def beat(self) -> None:
        """The account feed's own heartbeat."""
        with self._publisher.exclusive():
            beat = Heartbeat(self._venue, None, None, None, self._publisher.last_seqs(), {}, self._publisher.drops, 0)
            self._stamp(beat)
            self._publisher.send(self._heartbeat, beat)

    def close(self) -> None:
        """The worker ends."""
        self._publisher.close()

    # --- inside -----------------------------------------------------------------------------------------------------

    def _take_all(self, items: Iterable[AccountEvent | Leg], asked_at: int | None) -> None:
        for item in items:
            self._take(item, asked_at)

    def _take(self, item: AccountEvent | Leg, asked_at: int | None) -> None:
        """Check, note and publish: the one way of an event, whoever sent it."""
        event = item.position if isinstance(item, Leg) else item
        try:
            checked(event)
        except ValueError as error:
            self._report(InvalidRow(type(event).__name__.lower(), str(error)))
            return
        new = self.ledger.take(item, asked_at)
        if new is not None:
            self._send(new)
        elif self.ledger.is_from_earlier_life(event):
            self._keep(self._feeds[_channel(event)], event)

    def _words(self) -> AccountWords:
        self._described_rows = self.invalid_rows
        rows = self.invalid_rows or UNSET
        return AccountWords(self._alias, self._state, self._last_reason, self._since_ns, self._says, rows)

    def _report(self, row: InvalidRow) -> None:
        self.invalid_rows += 1
        error = without_values(row.error)
        log.warning("account.invalid_row", venue=self._venue, of=row.what, error=error, total=self.invalid_rows)

    def _send(self, event: AccountEvent) -> None:
        feed = self._feeds[_channel(event)]
        event.flags = ()
        self._stamp(event)
        once = once_key(event) if isinstance(event, Fill | Payment) else None
        self._name(event)
        is_sent = self._publisher.send_latest(feed, _key(event), event)
        if is_sent and once is not None:
            self._new.append(once)
        _bound(feed)

    def _keep(self, feed: TopicFeed, event: AccountEvent) -> None:
        """Have those who join later sent what an earlier life of the worker has published."""
        self._stamp(event)
        self._name(event)
        feed.latest[_key(event)] = event
        _bound(feed)

    def _name(self, event: AccountEvent) -> None:
        """Give the second side of a trade with ourselves an id of its own."""
        if isinstance(event, Fill) and self.ledger.is_second_side(event):
            event.fill_id = f"{event.fill_id}:{event.side}"

    def _end_batch(self) -> None:
        """Publish what legs lead to now that all have come, and remember what was published."""
        for net in self.ledger.nets():
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
    """Return the market and the leg that an item of an answer lists."""
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
    """Those who join are not sent the oldest any more; an open order is sent whatever its age."""
    if len(feed.latest) <= _RECENT:
        return
    oldest = next((key for key, event in feed.latest.items() if not (isinstance(event, Order) and event.is_open)), None)
    if oldest is not None:
        del feed.latest[oldest]
