"""Health of a worker's books: counts on the board, and the heartbeat with every book's state once a second."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Final

from ipc.board import Row, WorkerWord
from ipc.events import Heartbeat, HeartbeatBook
from ipc.publisher import Publisher
from ipc.topics import Topic
from workers.protocol.streams import MarketStream

_MS: Final = 1_000_000
_PERIOD_NS: Final = 1_000_000_000
#: Checksums in one heartbeat: each takes up to 30 µs, during which the whole feed waits.
_MAX_CHECKSUMS: Final = 64


class HeartbeatPublisher:
    """Publisher of a worker's heartbeats; its methods require the publisher's lock."""

    def __init__(self, venue: str, publisher: Publisher) -> None:
        self._venue = venue
        self._publisher = publisher
        self._feed = publisher.topic(Topic("heartbeat", venue, ""))
        self._due_ns = 0
        #: Index of the first book whose checksum the next heartbeat carries.
        self._next_checked = 0

    def publish_if_due(self, now_ns: int, books: Sequence[MarketStream], rss_bytes: int) -> bool:
        """Publish the heartbeat when its second is over; return whether it was published."""
        if now_ns < self._due_ns:
            return False
        self._due_ns = max(self._due_ns + _PERIOD_NS, now_ns)
        checksums = self._checksums(books)
        beat = Heartbeat(
            venue=self._venue,
            symbol=None,
            venue_symbol=None,
            exchange_ns=None,
            seqs=self._publisher.last_seqs(),
            books={book.symbol: heartbeat_book(book, now_ns, checksums.get(book)) for book in books},
            drops=self._publisher.drops,
            rss_bytes=rss_bytes,
        )
        beat.recv_ns, beat.recv_mono_ns = time.time_ns(), now_ns
        self._publisher.send(self._feed, beat)
        return True

    def _checksums(self, books: Sequence[MarketStream]) -> dict[MarketStream, int]:
        """Return the checksums of the next usable books in rotation."""
        usable = [(book, book.book_sync) for book in books if book.is_published_valid and book.book_sync is not None]
        start = self._next_checked if self._next_checked < len(usable) else 0
        self._next_checked = start + _MAX_CHECKSUMS
        return {book: book_sync.crc32_top10() for book, book_sync in usable[start : self._next_checked]}


def heartbeat_book(stream: MarketStream, now_ns: int, checksum: int | None) -> HeartbeatBook:
    """Return the heartbeat's entry for a book; requires the publisher's lock."""
    book_sync = stream.book_sync
    return HeartbeatBook(
        seq=stream.feed.seq,
        venue_seq=book_sync.venue_seq if book_sync is not None else None,
        usable=stream.is_published_valid and book_sync is not None,
        age_ms=(now_ns - stream.applied_ns) // _MS if stream.applied_ns else None,
        crc32_top10=checksum,
    )


def count_books(words: Row, books: Sequence[MarketStream], now_ns: int, stale_ns: int) -> None:
    """Write how many books are wanted and usable, and when all of them were fresh, first and last."""
    trading = [book for book in books if book.listing.is_trading]
    usable = sum(book.is_published_valid for book in trading)
    words[WorkerWord.BOOKS_WANTED] = len(trading)
    words[WorkerWord.BOOKS_USABLE] = usable
    if any(book.recovery.is_throttled for book in trading):
        words[WorkerWord.HELD_BACK] = now_ns
    newest_ns = max((book.applied_ns for book in trading), default=0)
    if trading and usable == len(trading) and now_ns - newest_ns <= stale_ns:
        words[WorkerWord.FIRST_FRESH] = words[WorkerWord.FIRST_FRESH] or now_ns
        words[WorkerWord.LAST_FRESH] = now_ns
