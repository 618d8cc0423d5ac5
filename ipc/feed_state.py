"""State of a subscription: books, last values, and detected losses.

Pure: messages and times go in, events for the user and requests for snapshots come out. The sockets belong to
:mod:`ipc.subscriber`. A new subscription, also one of a socket that reconnects, requests the snapshots of its books;
changes that arrive before are ignored.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final, NamedTuple

from ipc.codec import decode
from ipc.errors import DecodeError, FeedError
from ipc.events import BookDelta, BookSnapshot, Event, Gap, Heartbeat, Level, Lifecycle, Trade
from ipc.health import Reason
from ipc.lines import Line, line_of, venue_of
from ipc.log import get_log
from ipc.losses import LossLog
from ipc.replica import BAD_LEVEL, DISCONNECTED, NO_SNAPSHOT, STOPPED, SUSPENDED, WORKER_EXITED, BookReplica
from ipc.sequence import PublisherSequence, Verdict
from ipc.topics import Topic, topic_of
from ipc.trades import SeenTrades

log = get_log(__name__)

#: Time without a heartbeat after which no book of the venue is usable.
HEARTBEAT_LOST_S: Final = 3.0
#: Channel of the parent's lifecycle events, and name of their publisher, the gateway.
LIFECYCLE: Final = "lifecycle"
#: Between two requests for the same snapshot, and between a subscription, which is a request, and the first one.
_REQUEST_NS: Final = 1_500_000_000
#: Between two checks for silent venues.
_CHECK_NS: Final = 100_000_000
_NS: Final = 1_000_000_000
_HEARTBEAT_LOST: Final = "heartbeat_lost"
#: Faults that only a snapshot clears and that the worker does not know of.
_LOCAL_FAULTS: Final = frozenset({NO_SNAPSHOT, SUSPENDED, BAD_LEVEL, DISCONNECTED, "seq_gap", "drift"})


class Top(NamedTuple):
    """Best levels of one venue's book; a side is None when empty, or when the book is unusable for ``reason``."""

    venue: str
    bid: Level | None
    ask: Level | None
    age_ms: float | None
    reason: str | None


def tops_of(books: Iterable[BookReplica], now_ns: int) -> list[Top]:
    """Return the best bid and offer of books, with their ages."""
    return [
        Top(book.venue, book.best_bid, book.best_ask, book.age_ms(now_ns), None)
        if book.usable
        else Top(book.venue, None, None, book.age_ms(now_ns), book.reason)
        for book in books
    ]


class _Publisher:
    """State of one venue's publisher."""

    def __init__(self, now_ns: int) -> None:
        self.sequence = PublisherSequence()
        self.heartbeat_ns = now_ns
        #: True while the heartbeat is lost; copied to every book.
        self.is_silent = False
        #: State of the connection that explains a lost heartbeat; None when nothing more is known.
        self.connection: str | None = None
        #: True when the parent reported that the worker is stopped and not to be started.
        self.is_stopped = False
        #: Last exit of the worker that the parent reported.
        self.exited: Lifecycle | None = None
        self.books: dict[str, BookReplica] = {}
        #: Last events by channel and symbol.
        self.latest: dict[tuple[str, str], Event] = {}
        self.trades: dict[str, SeenTrades] = {}

    @property
    def silence_reason(self) -> str:
        """Reason of the books while the heartbeat is lost."""
        return STOPPED if self.is_stopped else self.connection or _HEARTBEAT_LOST


class FeedState:
    """State of the subscription of a ``consumer`` to one line of venues.

    ``is_remote`` is True for another machine, whose clock differs.

    ``lost`` counts messages that never arrived, ``malformed`` those that could not be decoded, ``repeated`` trades that
    were received again after a restart and suppressed.
    """

    def __init__(
        self, venues: Iterable[str], now_ns: int, *, is_remote: bool = False, consumer: str = "", line: Line = "a"
    ) -> None:
        self.lost = 0
        self.malformed = 0
        self.repeated = 0
        self._publishers = {venue: _Publisher(now_ns) for venue in (*venues, LIFECYCLE)}
        #: Publisher, topic as text and its parts, by the first frame of a message.
        self._origins: dict[bytes, tuple[_Publisher, str, Topic]] = {}
        #: Time of the last request for a snapshot, by topic; at first the time at which the book was first seen.
        self._requested_ns: dict[str, int] = {}
        self._requests: list[str] = []
        self._checked_ns = 0
        self._is_remote = is_remote
        self._line = line
        self._losses = LossLog(consumer)
        #: Time of the last resume of the machine, by the clock that its events are compared with.
        self._resumed_ns = 0

    def handle(self, parts: Sequence[bytes], now_ns: int) -> list[Event]:
        """Apply a message; return the events for the user, with a :class:`Gap` of epoch 0 before it after a loss."""
        self.check_silence(now_ns)
        origin = None
        try:
            head, payload = parts
            origin = self._origins.get(head) or self._origin(head)
            event = decode(payload)
        except (ValueError, KeyError, DecodeError) as error:
            self.malformed += 1
            log.warning("feed.malformed", error=str(error))
            return [] if origin is None else self._on_unreadable(*origin, now_ns)
        return [] if event is None else self._apply(*origin, event, now_ns)

    def snapshot_requests(self) -> list[str]:
        """Return the topics whose snapshot is needed, each once."""
        requests, self._requests = self._requests, []
        return requests

    def check_silence(self, now_ns: int) -> None:
        """Hide the books of silent venues, also those that a consumer holds; cheap to call often."""
        if now_ns - self._checked_ns < _CHECK_NS:
            return
        self._checked_ns = now_ns
        self._losses.flush(now_ns)
        for publisher in self._publishers.values():
            _update_silence(publisher, now_ns)

    def set_silence_reason(self, venue: str, reason: str | None) -> None:
        """Set the reason of a venue's books while its heartbeat is lost; None when nothing more is known."""
        publisher = self._publishers[venue]
        publisher.connection = reason
        if publisher.is_silent:
            _show_silence(publisher)

    def disconnect(self, venue: str) -> None:
        """Invalidate the books of a publisher whose connection ended, until its next snapshots."""
        for book in self._publishers[venue].books.values():
            book.invalidate(DISCONNECTED)

    def heartbeat_ns(self, venue: str) -> int:
        """Return the time of a publisher's last heartbeat, ns; that of the subscription before the first."""
        return self._publishers[venue].heartbeat_ns

    def handle_resume(self, now_ns: int, now_wall_ns: int) -> None:
        """Invalidate every book after a suspension of the machine, until a snapshot of data that was read since.

        Messages still in the pipes are older, and so is the data of a worker on this machine until it reads its venue's
        next frame.
        """
        self._resumed_ns = now_wall_ns if self._is_remote else now_ns
        for publisher in self._publishers.values():
            for book in publisher.books.values():
                book.invalidate(SUSPENDED)

    def book(self, venue: str, symbol: str, now_ns: int) -> BookReplica:
        """Return the book of a market, unusable until its first snapshot; raise FeedError if not subscribed."""
        publisher = self._publisher(venue)
        _update_silence(publisher, now_ns)
        return publisher.books.get(symbol) or self._new_book(publisher, venue, symbol, now_ns)

    def books(self, now_ns: int) -> list[BookReplica]:
        """Return every book that has been received so far."""
        for publisher in self._publishers.values():
            _update_silence(publisher, now_ns)
        return [book for publisher in self._publishers.values() for book in publisher.books.values()]

    def replace_book(self, book: BookReplica) -> None:
        """Apply later events to another book of the same market; the one before stays as it is."""
        self._publishers[book.venue].books[book.symbol] = book

    def latest(self, channel: str, venue: str, symbol: str) -> Event | None:
        """Return the last event of a channel other than ``book``; None before the first.

        For ``lifecycle``, ``venue`` names a process and ``symbol`` is ignored.
        """
        if channel == LIFECYCLE:
            return self._publishers[LIFECYCLE].latest.get((channel, venue))
        return self._publisher(venue).latest.get((channel, symbol))

    def top(self, symbol: str, now_ns: int) -> list[Top]:
        """Return the best bid and offer of a symbol on every venue that has it, with their ages."""
        venues = [venue for venue, publisher in self._publishers.items() if symbol in publisher.books]
        return tops_of([self.book(venue, symbol, now_ns) for venue in venues], now_ns)

    def _origin(self, head: bytes) -> tuple[_Publisher, str, Topic]:
        """Return publisher, text and parts of a topic (cached); raise ValueError or, if not subscribed, KeyError."""
        name = head.decode()
        topic = Topic.parse(name)
        publisher = self._publishers[LIFECYCLE if topic.channel == LIFECYCLE else topic.venue]
        self._origins[head] = origin = (publisher, name, topic)
        return origin

    def _apply(self, publisher: _Publisher, name: str, topic: Topic, event: Event, now_ns: int) -> list[Event]:
        last = publisher.sequence.last(name)
        verdict = publisher.sequence.judge(name, event.epoch, event.seq, now_ns)
        missed = 0
        if verdict is not Verdict.APPLY:
            if verdict is Verdict.NEW_EPOCH:
                self._reset(publisher, now_ns)
            elif verdict is Verdict.GAP:
                missed = event.seq - (last or 0) - 1
                self._on_lost(topic, missed, now_ns)
            else:
                return []
        if isinstance(event, Heartbeat):
            return [*self._on_heartbeat(publisher, topic.venue, event, now_ns), event]
        if isinstance(event, Lifecycle):
            self.on_lifecycle(event)
        elif topic.channel == "book":
            gap = self._invalidate(publisher, topic, (last or 0) + 1, event.seq) if missed else []
            self._apply_book(publisher, topic, event, now_ns)
            return [*gap, event]
        elif isinstance(event, Trade) and not self._is_new_trade(publisher, topic.symbol, event):
            return []
        # Lifecycle events are kept by process, though all of them come from one publisher.
        publisher.latest[topic.channel, event.venue if topic.channel == LIFECYCLE else topic.symbol] = event
        return [event]

    def _on_lost(self, topic: Topic, count: int, now_ns: int) -> None:
        self.lost += count
        self._losses.add(topic.venue, str(topic), count, now_ns)

    def _on_unreadable(self, publisher: _Publisher, name: str, topic: Topic, now_ns: int) -> list[Event]:
        """Handle a malformed message: for a book it is a loss like a missing one."""
        if topic.channel != "book":
            return []
        self._request_snapshot(name, now_ns)
        return self._invalidate(publisher, topic, (publisher.sequence.last(name) or 0) + 1, "malformed")

    def _apply_book(self, publisher: _Publisher, topic: Topic, event: Event, now_ns: int) -> None:
        book = publisher.books.get(topic.symbol) or self._new_book(publisher, topic.venue, topic.symbol, now_ns)
        if isinstance(event, BookSnapshot):
            if book.fault == NO_SNAPSHOT:
                self._requested_ns.pop(str(topic), None)  # the wait is over; a loss from here on is requested at once
            if not book.apply_snapshot(event):
                log.error("feed.drift", venue=topic.venue, symbol=topic.symbol, found_by="refresh")
            if publisher.exited is not None and _is_of_exited(event, publisher.exited):
                book.invalidate(WORKER_EXITED)
            elif self._is_before_resume(event):
                book.invalidate(SUSPENDED)
            if book.fault == BAD_LEVEL:
                self._request_snapshot(str(topic), now_ns)
            return
        if isinstance(event, Gap):
            book.apply_gap(event)
            return
        if isinstance(event, BookDelta):
            book.apply_delta(event)
        if book.fault in _LOCAL_FAULTS:
            self._request_snapshot(str(topic), now_ns)

    def _is_before_resume(self, event: BookSnapshot) -> bool:
        """Return whether a snapshot's data was read before the machine resumed; recordings are exempt."""
        read_ns = event.recv_ns if self._is_remote else event.recv_mono_ns
        return 0 < read_ns <= self._resumed_ns and "replay" not in event.flags

    def _is_new_trade(self, publisher: _Publisher, symbol: str, event: Trade) -> bool:
        """Return whether a trade is new by its id, also across restarts of the worker."""
        is_new = publisher.trades.setdefault(symbol, SeenTrades()).is_new(event.trade_id)
        self.repeated += not is_new
        return is_new

    def _invalidate(self, publisher: _Publisher, topic: Topic, expected: int | None, got: int | str) -> list[Event]:
        """Invalidate a book after a loss; return a gap for the user if the book was valid."""
        book = publisher.books.get(topic.symbol)
        if book is None:
            return []
        was_valid = book.fault is None
        book.invalidate("seq_gap")
        gap = Gap(
            venue=topic.venue,
            symbol=topic.symbol,
            venue_symbol=None,
            exchange_ns=None,
            scope="book",
            reason=Reason.SEQ_GAP,
            expected=expected,
            got=got,
            action="resync",
        )
        return [gap] if was_valid else []

    def _on_heartbeat(self, publisher: _Publisher, venue: str, beat: Heartbeat, now_ns: int) -> list[Event]:
        publisher.heartbeat_ns = now_ns
        _update_silence(publisher, now_ns)
        gaps: list[Event] = []
        for name, missed in publisher.sequence.missed_tail(beat.seqs).items():
            topic = Topic.parse(name)
            self._on_lost(topic, missed, now_ns)
            if topic.channel == "book":
                gaps += self._invalidate(publisher, topic, None, beat.seqs[name])
        for symbol, theirs in beat.books.items():
            book = publisher.books.get(symbol)
            if book is None:
                continue
            name = topic_of("book", venue, symbol)
            if theirs.seq == publisher.sequence.last(name) and not book.agrees_with(theirs):
                log.error("feed.drift", venue=venue, symbol=symbol, found_by="checksum")
            if theirs.usable and book.fault is not None:
                self._request_snapshot(name, now_ns)
        return gaps

    def on_lifecycle(self, event: Lifecycle) -> None:
        """Invalidate the books of a worker that exited, which the parent reports within milliseconds, or stopped.

        Processes of another line than this one's are passed over.
        """
        publisher = self._publishers.get(venue_of(event.venue))
        if publisher is None or line_of(event.venue) != self._line:
            return
        publisher.is_stopped = event.event == "stopped"
        if publisher.is_silent:
            _show_silence(publisher)
        if event.event != "exited":
            return
        publisher.exited = event
        for book in publisher.books.values():
            if book.recv_mono_ns < event.recv_mono_ns:  # else the next worker has already sent a snapshot
                book.invalidate(WORKER_EXITED)

    def _new_book(self, publisher: _Publisher, venue: str, symbol: str, now_ns: int) -> BookReplica:
        book = publisher.books[symbol] = BookReplica(venue, symbol)
        book.silence = publisher.silence_reason if publisher.is_silent else None
        self._requested_ns[topic_of("book", venue, symbol)] = now_ns
        return book

    def _reset(self, publisher: _Publisher, now_ns: int) -> None:
        """Drop the state of a venue whose worker restarted; its socket subscribes again by itself."""
        publisher.latest.clear()
        for book in publisher.books.values():
            book.invalidate(NO_SNAPSHOT)
            self._requested_ns[topic_of("book", book.venue, book.symbol)] = now_ns

    def _request_snapshot(self, name: str, now_ns: int) -> None:
        """Request a snapshot, but not again within the time that it may take to come."""
        if now_ns - self._requested_ns.get(name, -_REQUEST_NS) >= _REQUEST_NS:
            self._requested_ns[name] = now_ns
            self._requests.append(name)

    def _publisher(self, venue: str) -> _Publisher:
        try:
            return self._publishers[venue]
        except KeyError:
            known = ", ".join(name for name in self._publishers if name != LIFECYCLE)
            raise FeedError(f"no such venue in this feed; it has {known}", where=venue) from None


def _is_of_exited(snapshot: BookSnapshot, exited: Lifecycle) -> bool:
    """Return whether the worker that sent a snapshot has exited: the report of it may overtake its last messages.

    By both clocks: the wall clock may be set back, and the monotonic one restarts when a machine that is read over TCP
    boots. Recordings are old by both, and exempt.
    """
    is_older = snapshot.recv_mono_ns < exited.recv_mono_ns and snapshot.recv_ns < exited.recv_ns
    return is_older and "replay" not in snapshot.flags


def _update_silence(publisher: _Publisher, now_ns: int) -> None:
    """Hide or show every book of a venue; runs at every access to a book, so it visits them only after a change."""
    is_silent = now_ns - publisher.heartbeat_ns > HEARTBEAT_LOST_S * _NS
    if is_silent is publisher.is_silent:
        return
    publisher.is_silent = is_silent
    _show_silence(publisher)


def _show_silence(publisher: _Publisher) -> None:
    for book in publisher.books.values():
        book.silence = publisher.silence_reason if publisher.is_silent else None
