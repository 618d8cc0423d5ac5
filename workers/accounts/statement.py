"""What is told of an account: the ledger in front of the account's own publisher, and its state on the board."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable, Sequence
from typing import Final

from ipc.board import CellWord, Row
from ipc.events import AccountEvent, Balance, Fill, Heartbeat, Order, Payment, Position, Status
from ipc.health import Reason, Stream, StreamState, code_of
from ipc.log import get_log, without_hidden
from ipc.publisher import Publisher, TopicFeed
from ipc.rundir import AccountWords
from ipc.topics import ACCOUNT_CHANNELS, Topic
from workers.accounts.account import AllPositions, Snapshot
from workers.accounts.ledger import Ledger

__all__ = ["Statement"]

log = get_log(__name__)

_MS: Final = 1_000_000
#: Fills, payments and closed orders that whoever joins is told of.
_RECENT: Final = 500
_OPEN: Final = frozenset({"open", "untriggered"})


class Statement:
    """One account, as its subscribers see it. Everything is done within the publisher's turn, by either thread.

    Args:
        venue: Whose account.
        alias: What it is called.
        publisher: The account's feed, apart from the venue's public one.
        cell: Its stream on the board.
        describe: Publish the state with its reason and text where ``status`` reads them.
    """

    def __init__(
        self, venue: str, alias: str, publisher: Publisher, cell: Row, describe: Callable[[AccountWords], None]
    ) -> None:
        self.ledger = Ledger()
        self._venue, self._alias = venue, alias
        self._publisher = publisher
        self._cell = cell
        self._describe = describe
        self._feeds = {channel: publisher.topic(Topic(channel, venue, alias)) for channel in ACCOUNT_CHANNELS}
        self._status = publisher.topic(Topic("status", venue, ""))
        self._heartbeat = publisher.topic(Topic("heartbeat", venue, ""))
        self._state: StreamState | None = None
        self._reason: Reason | None = None
        self._last_reason: Reason | None = None
        self._says: str | None = None

    @property
    def state(self) -> StreamState | None:
        """What was told last."""
        return self._state

    def pushed(self, items: Iterable[AccountEvent | AllPositions]) -> None:
        """The stream told something."""
        with self._publisher.turn:
            for item in items:
                flat: Sequence[AccountEvent]
                flat = self.ledger.flat_positions(item.venue_symbols) if isinstance(item, AllPositions) else (item,)
                for event in flat:
                    if self.ledger.take(event):
                        self._send(event)

    def asked(self) -> int:
        """To be read before REST is asked, and handed to :meth:`answered`."""
        return self.ledger.pushes

    def answered(self, snapshot: Snapshot, asked_at: int) -> bool:
        """REST told everything; whether no push overtook any of it."""
        ledger = self.ledger
        contested = ledger.contested
        listed = [event.venue_symbol for event in snapshot.events if isinstance(event, Position)]
        with self._publisher.turn:
            for event in snapshot.events:
                if ledger.take(event, asked_at):
                    self._send(event)
            ended = ledger.closed_unseen(snapshot.open_orders, asked_at)
            missed: list[Order | Position | Balance] = [*ended, *ledger.flat_positions(listed, asked_at)]
            if snapshot.has_all_balances:
                assets = [event.asset for event in snapshot.events if isinstance(event, Balance)]
                missed += ledger.empty_balances(assets, asked_at)
            for event in missed:
                event.snapshot = True
                if ledger.take(event, asked_at):
                    self._send(event)
        return ledger.contested == contested

    def unpushed(self) -> int:
        """How many fills REST told of since this was last asked, of which the stream has not told by now."""
        with self._publisher.turn:
            count = len(self.ledger.unpushed)
            self.ledger.unpushed.clear()
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
        now = time.monotonic_ns()
        says = None if says is None else without_hidden(says)
        with self._publisher.turn:
            previous, self._state = self._state, state
            if (previous, self._reason, self._says) == (state, reason, says):
                return
            self._reason, self._says = reason, says
            self._last_reason = reason or self._last_reason
            # Before the board: whoever read the stamp there finds words that are at least as new.
            self._describe(AccountWords(self._alias, state, self._last_reason, now, says))
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
        with self._publisher.turn:
            beat = Heartbeat(self._venue, None, None, None, self._publisher.last_seqs(), {}, self._publisher.drops, 0)
            self._stamp(beat)
            self._publisher.send(self._heartbeat, beat)

    def close(self) -> None:
        """The worker ends."""
        self._publisher.close()

    # --- inside -----------------------------------------------------------------------------------------------------

    def _send(self, event: AccountEvent) -> None:
        feed = self._feeds[type(event).__name__.lower()]
        self._stamp(event)
        event.flags = ()
        key = _key(event)
        self._publisher.send_latest(feed, key, event)
        if len(feed.latest) > _RECENT:
            _forget_oldest(feed)

    @staticmethod
    def _stamp(event: AccountEvent | Status | Heartbeat) -> None:
        event.recv_ns, event.recv_mono_ns = time.time_ns(), time.monotonic_ns()


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


def _forget_oldest(feed: TopicFeed) -> None:
    """Joiners are not told of the oldest any more; an open order is told whatever its age."""
    oldest = next((key for key, event in feed.latest.items() if getattr(event, "status", "") not in _OPEN), None)
    if oldest is not None:
        del feed.latest[oldest]
