"""Books of the page: opened on demand, a few at a time, closed soon after the last look."""

from __future__ import annotations

import pytest
import zmq

from ipc.events import BookSnapshot
from ipc.replica import BookReplica
from ipc.rundir import RunDir
from supervisor.serving.books import BookKey, OpenBooks, book_view

KEYS = [BookKey("lighter", f"{base}-PERP") for base in ("BTC", "ETH", "SOL", "XRP", "DOGE")]


class Clock:
    """Clock that a test sets."""

    now_s = 100.0

    def __call__(self):
        return self.now_s


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def opened():
    """Number of times that a book was to be opened."""
    return []


@pytest.fixture
def books(tmp_path, clock, opened):
    with zmq.Context() as context:
        books = OpenBooks(context, RunDir(tmp_path), lambda: opened.append(1), clock)
        yield books
        books.close()


def test_a_fifth_book_is_refused_in_words(books, opened):
    for key in KEYS[:4]:
        assert books.ask(key).why == "the book is being opened"
    assert books.ask(KEYS[4]).why.startswith("4 books are open already, the most at a time")
    assert books.ask(KEYS[0]).why == "the book is being opened", "another viewer of the same book is welcome"
    assert len(opened) == 4


def test_a_book_that_was_opened_and_has_no_snapshot_says_so(books):
    books.ask(KEYS[0])
    books.read()
    view = books.ask(KEYS[0])
    assert (view.why, view.bids, view.asks, view.age_s) == ("waits for a snapshot", [], [], None)


def test_a_book_closes_ten_seconds_after_the_last_look(books, clock, opened):
    books.ask(KEYS[0])
    books.read()
    clock.now_s += 9.0
    assert books.ask(KEYS[0]).why == "waits for a snapshot"
    clock.now_s += 9.0
    books.read()
    assert books.ask(KEYS[0]).why == "waits for a snapshot"
    clock.now_s += 10.1
    books.read()
    assert books.ask(KEYS[0]).why == "the book is being opened"
    assert len(opened) == 2


def test_room_is_free_again_when_nobody_looks(books, clock):
    for key in KEYS[:4]:
        books.ask(key)
    clock.now_s += 10.1
    books.read()
    assert books.ask(KEYS[4]).why == "the book is being opened"


def snapshot(levels):
    return BookSnapshot(
        venue="lighter",
        symbol="BTC-PERP",
        venue_symbol="BTC",
        exchange_ns=None,
        bids=[(str(1000 - place), "1") for place in range(levels)],
        asks=[(str(1001 + place), "2") for place in range(levels)],
        depth=None,
        venue_seq=1,
        recv_mono_ns=5_000_000_000,
    )


def test_ten_levels_are_shown_of_a_usable_book_and_none_of_another():
    book = BookReplica("lighter", "BTC-PERP")
    book.apply_snapshot(snapshot(levels=30))
    view = book_view(KEYS[0], book, now_ns=5_500_000_000)
    assert (len(view.bids), len(view.asks), view.age_s, view.why) == (10, 10, 0.5, None)
    assert (view.bids[0], view.asks[0]) == (("1000", "1"), ("1001", "2"))
    book.invalidate("seq_gap")
    view = book_view(KEYS[0], book, now_ns=7_000_000_000)
    assert (view.bids, view.asks, view.age_s, view.why) == ([], [], 2.0, "an update was lost")
