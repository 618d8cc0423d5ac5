"""The hands of a session: what is sent and stamped for what came, and what happens between two connections."""

from __future__ import annotations

import itertools
import threading
from dataclasses import replace

import pytest
import zmq
from clocks import FakeStop
from fake_publisher import FakePublisher
from fake_venue import BTC, ETH, FakeVenue, delta, mark, snapshot, trade

from ipc.board import BUCKETS, Board, CellWord, SessionWord, StreamWord
from ipc.events import BookSnapshot, Gap, Status
from ipc.health import Phase, Reason, Stream, StreamState, code_of
from ipc.publisher import Publisher
from workers import status as reports
from workers.backoff import BackoffPolicy
from workers.net import connection as module
from workers.net import lifecycle
from workers.net.budget import MinuteBudget
from workers.net.connection import ConnectionThread, FetchedBook, Standstill
from workers.net.dial import ConnectError
from workers.net.frames import BINARY, PING, PONG, TEXT
from workers.net.lifecycle import CloseReason
from workers.net.transport import ClosedError
from workers.protocol.actions import CloseConnection, FetchBook
from workers.protocol.policy import Policy
from workers.protocol.session import MarketSession
from workers.settings import WorkerSettings
from workers.venues.venue import Ack, Continuity, Keepalive, Pong, Refused, Resync, Rule, ServerShutdown, VenueLimits

NS = 1_000_000_000
MS = 1_000_000
BOOK = "book.lighter.BTC-PERP"
EXACT = BackoffPolicy(jitter=0.0)


class FakeTransport:
    """Gives its steps one by one: frames, an error to raise, or something to call; then the server closes."""

    def __init__(self, *steps):
        self.steps = list(steps)
        self.sent, self.pongs, self.pings, self.is_closed = [], [], 0, False

    def receive(self):
        if not self.steps:
            raise ClosedError(Reason.SERVER_CLOSE, "the script is over")
        step = self.steps.pop(0)
        if isinstance(step, Exception):
            raise step
        return (step() or []) if callable(step) else step

    def send(self, message):
        self.sent.append(message)

    def ping(self):
        self.pings += 1

    def pong(self, payload):
        self.pongs.append(payload)

    def close(self):
        self.is_closed = True


class Line:
    """A connection of a fake venue on a board, on a clock and on scripted transports.

    ``transports`` are opened one after the other; an exception among them is raised instead.
    """

    def __init__(self, board, clock, venue=None, publisher=None, **settings):
        self.clock, self.board = clock, board
        self.venue = venue or FakeVenue(streams={Stream.BOOK: None, Stream.MARK: 1.0, Stream.TRADE: None})
        self.publisher = publisher or FakePublisher()
        self.fetches, self.transports, self.opened = [], [], []
        self.stop = FakeStop(clock)
        plan = self.venue.connections((BTC, ETH), self.venue.ws_url, {})[0]
        policy = Policy(stale_ns=10 * NS, ping_ns=20 * NS, pong_ns=10 * NS)
        self.session = MarketSession(self.venue, plan, (BTC, ETH), policy)
        usual = {"backoff": EXACT, "connect_timeout_ms": 15_000}
        reported = WorkerSettings("lighter", 3, "/", "", ("BTC", "ETH"), "ws://x", "http://x", **{**usual, **settings})
        self.connection = ConnectionThread(
            self.session,
            reported,
            2,
            board,
            self.publisher,
            lambda fetch, _: self.fetches.append(fetch),
            self.stop,
            open_transport=self._open,
        )
        self.row = board.session(3, 2)
        self.connection._wake = self.wake = FakeStop(clock)

    def _open(self, url, _headers, interrupter, deadline_ns):
        self.opened.append((url, deadline_ns, self.clock.now_ns))
        step = self.transports.pop(0)
        if isinstance(step, Exception):
            raise step
        return step(interrupter) if callable(step) else step

    def cell(self, stream=Stream.BOOK, market=0):
        return self.board.cell(3, market, stream)

    def stamps(self, stream=Stream.BOOK, market=0):
        """Ages in seconds of received, parsed and published; None for never."""
        words = [self.cell(stream, market)[word] for word in (0, 1, 2)]
        return [round((self.clock.now_ns - word) / NS, 3) if word else None for word in words]

    def frame(self, *items):
        return [(TEXT, self.venue.frame(*items))]

    def turn(self, *items, frames=None):
        """One turn in which a frame with these items comes; one with nothing when there are none.

        Counts are on the board afterwards.
        """
        frames = frames if frames is not None else self.frame(*items) if items else []
        self.transport = FakeTransport(frames)
        self.connection._counts.due_ns = 0
        return self.connection.process_batch(self.transport)

    def open(self):
        """Begin a connection and have both books usable."""
        self.connection._begin()
        self.connection._mark_opened()
        self.turn(snapshot(1))
        self.turn(snapshot(1, symbol="ETH-PERP"))
        self.clock.advance(1)

    def run(self, *transports):
        """Run over these transports, then stop."""

        def last(_interrupter):
            self.stop.set()
            raise ConnectError(Reason.REQUESTED, "the test is over")

        self.transports += [*transports, last]
        self.connection.run()


@pytest.fixture
def board(tmp_path):
    board = Board.create(tmp_path / "board", 1)
    yield board
    board.close()


@pytest.fixture
def new_line(board, clock, monkeypatch):
    monkeypatch.setattr(module, "time", clock)
    monkeypatch.setattr(lifecycle, "time", clock)
    monkeypatch.setattr(reports, "time", clock)
    return lambda **options: Line(board, clock, **options)


@pytest.fixture
def line(new_line):
    """A connection that is open, with both books usable, a second after their last frames."""
    line = new_line()
    line.open()
    return line


# --- a turn -------------------------------------------------------------------------------------------------------


def test_frames_are_published_in_their_order_with_the_time_of_their_receipt(line, clock):
    line.turn(frames=line.frame(delta(2, 1)) + line.frame(delta(3, 2), delta(4, 3)))
    events = line.publisher.of(BOOK)[1:]
    assert [event.venue_seq for event in events] == [2, 3, 4]
    assert {(event.recv_ns, event.recv_mono_ns) for event in events} == {(clock.time_ns(), clock.now_ns)}


def test_applied_frame_stamps_received_parsed_and_published(line):
    assert line.stamps() == [1, 1, 1]
    line.turn(delta(2, 1))
    assert line.stamps() == [0, 0, 0]
    assert line.stamps(market=1) == [1, 1, 1]
    assert line.row[SessionWord.LAST_WS_RX] == line.clock.now_ns


def test_frames_are_counted(line):
    before = line.row[SessionWord.FRAMES]
    line.turn(frames=line.frame(mark()) + line.frame(Pong()))
    assert line.row[SessionWord.FRAMES] == before + 2


def test_binary_frames_are_distinguished_from_text(line, monkeypatch):
    kinds = []
    monkeypatch.setattr(line.venue, "decode", lambda _payload, binary, _markets: kinds.append(binary) or [])
    line.turn(frames=[(TEXT, b"a"), (BINARY, b"b")])
    assert kinds == [False, True]


def test_silent_turn_stamps_nothing(line):
    heard = line.row[SessionWord.LAST_WS_RX]
    line.turn()
    assert line.stamps() == [1, 1, 1]
    assert line.row[SessionWord.LAST_WS_RX] == heard


@pytest.mark.parametrize(
    "items",
    [[Pong()], [Ack("book.BTC-PERP")], [snapshot(1, symbol="DOGE-PERP")], [Refused("no", None, Reason.REFUSED)]],
)
def test_frames_that_carry_no_data_of_ours_keep_no_stream_fresh(line, items):
    line.turn(*items)
    assert line.stamps() == [1, 1, 1]
    assert line.row[SessionWord.LAST_WS_RX] == line.clock.now_ns


def test_malformed_frame_keeps_no_stream_fresh(line, events):
    line.turn(frames=[(TEXT, b"rubbish")])
    assert line.stamps() == [1, 1, 1]
    assert events("ws.malformed")[0]["session"] == "main"


def test_invalid_rows_are_counted_on_the_board(line, events):
    line.turn(mark("1_0"), mark("100"))
    line.turn(mark("-5"))
    assert len(events("ws.invalid_row")) == 2
    assert line.row[SessionWord.INVALID_ROWS] == 2


def test_book_frame_that_is_left_out_counts_as_received_only(new_line):
    line = new_line()
    line.connection._begin()
    line.connection._mark_opened()
    line.turn(delta(2, 1))
    assert line.stamps() == [0, None, None]
    assert line.publisher.of(BOOK) == []


def test_frame_that_breaks_the_book_is_a_gap_and_keeps_nothing_fresh(line):
    line.turn(delta(9, 8))
    assert isinstance(line.publisher.of(BOOK)[-1], Gap)
    assert line.stamps() == [0, 1, 1]
    assert line.cell()[CellWord.GAPS] == 1


def test_gap_that_time_brings_stamps_nothing(new_line):
    continuity = Continuity(Rule.SNAPSHOTS, Resync.RESUBSCRIBE, silence_s={Stream.BOOK: 3.0})
    line = new_line(venue=FakeVenue(streams={Stream.BOOK: None}, continuity=continuity))
    line.open()
    line.clock.advance(3)
    line.turn()
    assert isinstance(line.publisher.of(BOOK)[-1], Gap)
    assert line.stamps() == [4, 4, 4]
    assert line.cell()[CellWord.GAPS] == 1


def test_published_is_stamped_only_when_the_send_succeeded(line):
    line.publisher.is_refusing = True
    good = line.cell()[CellWord.LAST_GOOD]
    line.turn(delta(2, 1), mark())
    assert line.stamps() == [0, 0, 1]
    assert line.stamps(Stream.MARK) == [0, 0, None]
    assert line.cell()[CellWord.LAST_GOOD] == good


def test_last_good_data_is_remembered_over_connections(line):
    line.turn(delta(2, 1))
    good = line.cell()[CellWord.LAST_GOOD]
    assert good == line.cell()[CellWord.LAST_PUBLISHED] == line.clock.now_ns
    line.clock.advance(23)
    line.connection._begin()
    assert line.stamps() == [None, None, None]
    assert line.cell()[CellWord.LAST_GOOD] == good


def test_events_are_counted_by_market_whatever_caused_them(line):
    def counts():
        cells = [line.cell(), line.cell(market=1), line.cell(Stream.MARK), line.cell(Stream.TRADE)]
        return [cell[CellWord.EVENTS] for cell in cells]

    assert counts() == [1, 1, 0, 0]
    line.turn(frames=line.frame(delta(2, 1), mark()) + line.frame(delta(3, 2), trade("a"), trade("a")))
    assert counts() == [3, 1, 1, 1], "a trade that was published before is not published again"
    line.turn(delta(9, 8))  # a gap
    assert counts() == [4, 1, 1, 1]
    line.connection._finish(None, CloseReason(Reason.SERVER_CLOSE, "gone"))  # and one of the other book
    assert counts() == [4, 2, 1, 1]


def test_events_of_replaced_connections_go_on_being_counted(line, new_line):
    line.turn(delta(2, 1))
    after = new_line()
    after.open()
    assert after.cell()[CellWord.EVENTS] == 3


def durations(line, first, stream=Stream.BOOK):
    """Return the non-empty buckets of a histogram, and its sum."""
    row = line.board.stream(3, stream)
    return {bucket: row[first + bucket] for bucket in range(BUCKETS) if row[first + bucket]}, row[first + BUCKETS]


def test_handling_time_counts_from_the_read_to_the_end_of_publication(new_line):
    line = new_line()
    line.open()
    row = line.board.stream(3, Stream.BOOK)
    row.zero()
    send, clock = line.publisher.send, line.clock

    def slowly(feed, event):
        clock.advance(0.0001)
        return send(feed, event)

    line.publisher.send = slowly
    line.turn(delta(2, 1), delta(2, 1, symbol="ETH-PERP"))
    assert durations(line, StreamWord.HANDLING) == ({4: 1, 5: 1}, 300_000), "100 and 200 µs"
    line.turn(frames=[])
    assert sum(durations(line, StreamWord.HANDLING)[0].values()) == 2


def test_longest_durations_are_in_the_last_bucket(line):
    board = line.board.stream(3, Stream.BOOK)
    board.zero()
    line.turn(delta(2, 1, ns=1))
    assert durations(line, StreamWord.LAG) == ({BUCKETS - 1: 1}, line.clock.time_ns() - 1)


def test_lag_counts_from_the_venues_time_and_not_below_zero(line):
    wall = line.clock.time_ns()
    line.turn(delta(2, 1, ns=wall - 3 * MS))
    assert durations(line, StreamWord.LAG) == ({9: 1}, 3 * MS)
    line.turn(delta(3, 2, ns=wall + 5 * NS))
    assert durations(line, StreamWord.LAG) == ({9: 1, 0: 1}, 3 * MS)


def test_counts_reach_the_board_a_few_times_a_second(line):
    cell, clock = line.cell(), line.clock
    before = cell[CellWord.EVENTS]
    line.turn(delta(2, 1))
    assert cell[CellWord.EVENTS] == before + 1
    for seq in (2, 3):
        clock.advance(0.03)
        line.connection.process_batch(FakeTransport(line.frame(delta(seq + 1, seq))))
        assert cell[CellWord.EVENTS] == before + 1
    clock.advance(0.05)
    line.connection.process_batch(FakeTransport([]))
    assert cell[CellWord.EVENTS] == before + 3


def test_events_that_a_read_brings_to_a_stream_are_as_late_as_the_first_one(line):
    wall = line.clock.time_ns()
    line.turn(frames=line.frame(delta(2, 1, ns=wall - 9 * MS)) + line.frame(delta(3, 2, ns=wall - MS)))
    assert durations(line, StreamWord.LAG) == ({11: 2}, 18 * MS)


def test_absurd_times_do_not_stop_the_feed(line):
    row = line.board.stream(3, Stream.BOOK)
    row[StreamWord.LAG_SUM] = 2**64 - 5
    line.turn(delta(2, 1, ns=line.clock.time_ns() - 8))
    assert row[StreamWord.LAG_SUM] == 3


def test_events_of_the_past_have_neither_lag_nor_handling_time(new_line):
    venue = FakeVenue(streams={Stream.BOOK: None, Stream.TRADE: None}, replays_trades=True)
    line = new_line(venue=venue)
    line.open()
    line.turn(trade("a", ns=1))  # history after the subscription
    assert durations(line, StreamWord.LAG, Stream.TRADE) == ({}, 0)
    assert durations(line, StreamWord.HANDLING, Stream.TRADE) == ({}, 0)
    line.turn(trade("b", ns=line.clock.time_ns()))
    assert sum(durations(line, StreamWord.LAG, Stream.TRADE)[0].values()) == 1


def test_first_snapshot_of_a_connection_has_no_lag_and_later_ones_have(new_line):
    line = new_line(
        venue=FakeVenue(streams={Stream.BOOK: None}, continuity=Continuity(Rule.SNAPSHOTS, Resync.RESUBSCRIBE))
    )
    line.connection._begin()
    line.connection._mark_opened()
    line.turn(snapshot(1, ns=1))
    assert durations(line, StreamWord.LAG) == ({}, 0)
    line.turn(snapshot(2, ns=line.clock.time_ns()))
    assert durations(line, StreamWord.LAG) == ({0: 1}, 0)


def test_recorded_frames_have_no_lag(new_line):
    line = new_line(fixture_dir="/recordings")
    line.open()
    line.turn(delta(2, 1, ns=1))
    assert durations(line, StreamWord.LAG) == ({}, 0)


def with_fallback(line, status):
    """Let a venue refuse the first URL with a status; return the URLs that are tried, and the reason of the end."""
    line.session.connection = replace(line.session.connection, fallback_url="ws://x/older")
    line.run(ConnectError(Reason.REFUSED, "refused", status=status), FakeTransport(line.frame(snapshot(1))))
    return [url for url, *_ in line.opened], line.row[SessionWord.RECONNECTS]


def test_url_that_the_server_does_not_know_is_replaced_within_the_attempt(new_line):
    line = new_line()
    urls, reconnects = with_fallback(line, 400)
    assert urls[:2] == [line.session.connection.url, "ws://x/older"]
    assert line.opened[0][1] == line.opened[1][1]  # the deadline of one attempt
    assert reconnects == 1
    assert line.board.ends(3, 2)[code_of(Reason.REFUSED)] == 0


@pytest.mark.parametrize("status", [None, 403, 429, 503])
def test_another_refusal_is_no_reason_for_the_second_url(new_line, status):
    line = new_line()
    urls, _ = with_fallback(line, status)
    assert "ws://x/older" not in urls
    assert line.board.ends(3, 2)[code_of(Reason.REFUSED)] == 1


def test_ends_are_counted_by_reason_attempts_that_failed_among_them(new_line):
    line = new_line()
    refused = ConnectError(Reason.REFUSED, "nobody there")
    line.run(FakeTransport(), refused, FakeTransport(line.frame(snapshot(1))), refused)
    ends = line.board.ends(3, 2)
    counts = {reason: ends[code_of(reason)] for reason in Reason if ends[code_of(reason)]}
    assert counts == {Reason.SERVER_CLOSE: 2, Reason.REFUSED: 2, Reason.REQUESTED: 1}
    assert line.row[SessionWord.RECONNECTS] == 2


@pytest.fixture
def new_publisher(context, clock):
    def new(**options):
        return Publisher(context, "inproc://feed", 1, clock=clock.time_ns, monotonic=clock.monotonic_ns, **options)

    return new


def test_send_failure_is_logged_and_counted_and_not_taken_for_published(new_line, new_publisher, clock, events):
    publisher = new_publisher()
    line = new_line(publisher=publisher)
    line.open()
    published = publisher.published
    with publisher.exclusive():
        publisher._socket.close()
        publisher._next_look_ns = clock.now_ns + NS
    line.turn(delta(2, 1))
    assert publisher.errors == 1
    assert publisher.published == published
    assert events("publish.failed")[0]["topic"] == BOOK
    assert line.stamps() == [0, 0, 1]


def test_full_subscriber_pipe_is_logged_and_counted_and_blocks_nothing(new_line, new_publisher, context, clock, events):
    publisher = new_publisher(hwm=1)
    line = new_line(publisher=publisher)
    with context.socket(zmq.SUB) as slow:
        slow.setsockopt(zmq.RCVHWM, 1)
        slow.setsockopt(zmq.SUBSCRIBE, b"")
        slow.connect("inproc://feed")
        line.open()
        for seq in range(2, 40):
            clock.advance(0.01)
            line.turn(delta(seq, seq - 1))
    assert publisher.drops > 0
    assert events("publish.pipe_full")[0]["reason"] == "pipe_full"
    assert publisher.errors == 0
    assert line.stamps() == [0, 0, 0]


def test_ping_frame_is_answered_within_the_turn(line):
    line.turn(frames=[(PING, b"who"), (PING, memoryview(b"is there"))])
    assert line.transport.pongs == [b"who", b"is there"]


def test_pong_frame_reaches_the_session(new_line):
    venue = FakeVenue(streams={Stream.MARK: 1.0}, keepalive=Keepalive(20.0))
    line = new_line(venue=venue)
    line.connection._begin()
    line.connection._mark_opened()
    line.clock.advance(20)
    line.turn()
    assert line.transport.pings == 1
    line.turn(frames=[(PONG, b"")])
    line.clock.advance(15)
    assert line.turn() is None


def test_what_the_session_wants_sent_is_sent(new_line):
    line = new_line()
    line.connection._begin()
    line.connection._mark_opened()
    line.turn()
    assert b"+book.BTC-PERP" in line.transport.sent


def test_wish_to_end_is_given_and_what_follows_it_is_void(line):
    wish = line.turn(ServerShutdown(0))
    assert (wish.reason, type(wish)) == (Reason.SERVER_SHUTDOWN, lifecycle.CloseReason)
    line.session.actions.close(Reason.ROTATION, "first")
    line.session.actions.send(b"never")
    line.session.actions.close(Reason.NO_BOOK, "second")
    wish = line.turn()
    assert wish.reason is Reason.ROTATION
    assert line.transport.sent == []


def test_fetch_is_handed_to_the_thread_that_asks_rest(new_line):
    line = new_line(venue=FakeVenue(streams={Stream.BOOK: None}, continuity=Continuity(Rule.BRIDGE, Resync.REFETCH)))
    line.connection._begin()
    line.connection._mark_opened()
    line.turn(delta(10, 5))
    (fetch,) = line.fetches
    assert (fetch.stream.symbol, fetch.purpose) == ("BTC-PERP", "bridge")


def test_fetched_book_is_published_and_never_stamps_freshness(new_line):
    line = new_line(venue=FakeVenue(streams={Stream.BOOK: None}, continuity=Continuity(Rule.BRIDGE, Resync.REFETCH)))
    line.connection._begin()
    line.connection._mark_opened()
    line.turn(delta(10, 5))
    line.clock.advance(1)
    line.connection.deliver(FetchedBook(line.fetches[0].stream, "bridge", snapshot(7), None))
    line.turn()
    assert [event.venue_seq for event in line.publisher.of(BOOK)] == [7, 10]
    assert line.stamps() == [1, None, None]
    assert line.row[SessionWord.FIRST_FRESH] == 0
    assert line.publisher.of(BOOK)[0].recv_mono_ns == line.clock.now_ns


def test_book_that_stands_still_is_resynced_and_consumers_are_sent_the_gap(line):
    stream = line.session.book_streams[0]
    line.turn(Ack("book.BTC-PERP"))
    line.connection.deliver(Standstill(stream, line.cell()[CellWord.LAST_PUBLISHED]))
    line.turn()
    assert [event.reason for event in line.publisher.of(BOOK) if isinstance(event, Gap)] == [Reason.SOFT_RESYNC]
    assert line.cell()[CellWord.GAPS] == 1
    assert line.transport.sent == [b"-book.BTC-PERP"]
    assert line.stamps() == [1, 1, 1], "a gap is no sign of life"


def test_book_that_moved_since_it_was_found_standing_is_left_alone(line):
    stream, stood_ns = line.session.book_streams[0], line.cell()[CellWord.LAST_PUBLISHED]
    line.connection.deliver(Standstill(stream, stood_ns))
    line.turn(delta(2, 1))
    assert not any(isinstance(event, Gap) for event in line.publisher.of(BOOK))
    assert line.transport.sent == []


def test_connect_over_the_budget_waits_for_it(new_line, clock, events):
    line = new_line()
    line.connection._connects = MinuteBudget(3, clock.monotonic_ns)
    line.run(FakeTransport([]))
    first, second = (at_ns for _, _, at_ns in line.opened)
    assert (second - first) / NS == pytest.approx(30, abs=1)
    assert events("ws.connect_failed")[0]["reason"] is Reason.RATE_LIMITED


def test_refresh_for_a_late_subscriber_tells_the_books_true_age_and_stamps_nothing(line, clock):
    book = line.session.book_streams[0].feed.snapshot()
    assert isinstance(book, BookSnapshot)
    assert book.flags == ("refresh",)
    assert (clock.now_ns - book.recv_mono_ns, clock.time_ns() - book.recv_ns) == (NS, NS)
    assert line.stamps() == [1, 1, 1]


def test_refresh_of_a_book_that_only_rest_gave_does_not_look_ages_old(new_line, clock):
    line = new_line(venue=FakeVenue(streams={Stream.BOOK: None}, continuity=Continuity(Rule.BRIDGE, Resync.REFETCH)))
    line.connection._begin()
    line.connection._mark_opened()
    line.turn()
    clock.advance(1)
    line.turn()
    line.connection.deliver(FetchedBook(line.fetches[0].stream, "bridge", snapshot(7), None))
    line.turn()
    book = line.session.book_streams[0].feed.snapshot()
    assert clock.now_ns - book.recv_mono_ns <= NS


def test_late_subscribers_are_sent_the_last_mark_and_no_old_trade(line):
    line.turn(mark("1"), mark("2"), trade("7"))
    assert [event.mark_price for event in line.publisher.latest("mark.lighter.BTC-PERP")] == ["2"]
    assert line.publisher.latest("trade.lighter.BTC-PERP") == []
    assert len(line.publisher.of("trade.lighter.BTC-PERP")) == 1


def test_known_trade_stamps_that_it_was_received(line):
    line.turn(trade("7"))
    line.clock.advance(1)
    line.turn(trade("7"))
    assert line.stamps(Stream.TRADE) == [0, 1, 1]


def test_run_is_fresh_by_its_usable_books_and_nothing_else(new_line):
    line = new_line()
    line.connection._begin()
    line.connection._mark_opened()
    line.row[SessionWord.FAILED_CYCLES] = 2
    line.turn(mark(), trade("1"))
    assert line.row[SessionWord.FIRST_FRESH] == 0
    line.turn(snapshot(1))
    first = line.clock.now_ns
    line.clock.advance(5)
    line.turn(delta(2, 1))
    line.clock.advance(5)
    line.turn(mark(), delta(9, 8))
    assert (line.row[SessionWord.FIRST_FRESH], line.row[SessionWord.LAST_FRESH]) == (first, first + 5 * NS)
    assert line.row[SessionWord.FAILED_CYCLES] == 0


def test_run_without_books_is_fresh_by_whatever_comes(new_line):
    line = new_line(venue=FakeVenue(streams={Stream.MARK: 1.0}))
    line.connection._begin()
    line.connection._mark_opened()
    line.turn(mark())
    assert line.row[SessionWord.FIRST_FRESH] == line.clock.now_ns


def test_thread_says_by_when_it_will_be_back(line):
    line.turn()
    assert line.row[SessionWord.DEADLINE] == line.clock.now_ns + NS


def test_cells_tell_their_limit(line):
    assert line.cell()[CellWord.LIMIT_MS] == 10_000
    assert line.cell(Stream.MARK, 1)[CellWord.LIMIT_MS] == 30_000
    assert line.cell(Stream.TRADE)[CellWord.LIMIT_MS] == 0


# --- the recorder -----------------------------------------------------------------------------------------------------


class FakeRecorder:
    """Keeps what it receives, in its order."""

    def __init__(self, publisher):
        self.reported = []
        self._publisher = publisher

    def __getattr__(self, name):
        def tell(*what):
            assert self._publisher._is_held, "the ring has one writer at a time"
            self.reported.append((name, *what))

        return tell


@pytest.fixture
def recorded(new_line):
    """A connection with a recorder, over which a frame, a bad one, and one that breaks the book have come."""
    line = new_line()
    line.connection._recorder = line.recorder = FakeRecorder(line.publisher)
    line.recorder.schedule_dump = lambda reason: line.recorder.reported.append(("schedule_dump", reason))
    line.frames = [*line.frame(snapshot(1)), (BINARY, b"rubbish"), (PING, b""), *line.frame(delta(9, 8))]
    line.run(FakeTransport(line.frames))
    return line


def test_recorder_takes_every_message_as_it_came(recorded):
    (_, first), (_, bad), _, (_, last) = recorded.frames
    taken = [what[:3] for kind, *what in recorded.recorder.reported if kind == "frame"]
    assert taken == [[2, TEXT, first], [2, BINARY, bad], [2, TEXT, last]]


def test_recorder_takes_what_was_sent_and_when_the_connection_was_there(recorded):
    kinds = [kind for kind, *_ in recorded.recorder.reported]
    assert recorded.recorder.reported[0] == ("opened", 2, "ws://venue.test/feed")
    assert ("sent", 2, b"+book.BTC-PERP") in recorded.recorder.reported
    assert ("closed", 2, Reason.SERVER_CLOSE) in recorded.recorder.reported
    assert kinds.count("opened") == kinds.count("closed") == 1


def test_gaps_and_malformed_frames_are_reasons_to_keep_the_black_box(recorded):
    wanted = [reason for kind, reason, *_ in recorded.recorder.reported if kind == "schedule_dump"]
    assert Reason.SEQ_GAP in wanted
    assert Reason.PARSE_ERRORS in wanted


def test_recorder_takes_the_answers_of_rest(new_line):
    line = new_line(venue=FakeVenue(streams={Stream.BOOK: None}, continuity=Continuity(Rule.BRIDGE, Resync.REFETCH)))
    line.connection._recorder = recorder = FakeRecorder(line.publisher)
    line.connection._begin()
    line.connection._mark_opened()
    line.turn(delta(10, 5))
    line.connection.deliver(FetchedBook(line.fetches[0].stream, "bridge", None, Reason.READ_TIMEOUT, b"body"))
    line.turn()
    assert ("answered", 2, "BTC-PERP", "bridge", Reason.READ_TIMEOUT, b"body") in recorder.reported


def test_recorder_gets_the_books_behind_the_last_frame(line):
    recorder = FakeRecorder(line.publisher)
    line.connection._begin()
    line.connection._mark_opened()
    line.turn(snapshot(1))
    line.turn(delta(2, 1, bids=[("99", "5")]))
    with line.publisher.exclusive():
        line.connection.record_books(recorder)
    name, number, book, mono_ns, _ = next(one for one in recorder.reported if one[2].symbol == "BTC-PERP")
    assert (name, number, mono_ns) == ("book", 2, line.connection.row[SessionWord.LAST_WS_RX])
    assert (book.bids, book.venue_seq) == ([("100", "1"), ("99", "5")], 2)


def test_recorder_gets_no_book_that_is_unusable(line):
    recorder = FakeRecorder(line.publisher)
    line.connection._begin()
    line.connection._mark_opened()
    line.turn(snapshot(1))
    line.turn(delta(9, 8))
    with line.publisher.exclusive():
        line.connection.record_books(recorder)
    assert [reported[2].symbol for reported in recorder.reported] == ["ETH-PERP"]
    recorder.reported.clear()
    line.connection._finish(None, lifecycle.CloseReason(Reason.SERVER_CLOSE, "gone"))
    with line.publisher.exclusive():
        line.connection.record_books(recorder)
    assert recorder.reported == []


# --- beginning ----------------------------------------------------------------------------------------------------


def test_all_stamps_are_zero_and_the_start_is_stamped_before_connecting(line):
    seen = {}

    def look(_interrupter):
        seen["stamps"] = [line.stamps(stream, market) for stream in (Stream.BOOK, Stream.MARK) for market in (0, 1)]
        seen["row"] = [line.row[word] for word in (SessionWord.LAST_WS_RX, SessionWord.OPENED)]
        seen["fresh"] = [line.row[word] for word in (SessionWord.FIRST_FRESH, SessionWord.LAST_FRESH)]
        seen["connect_start"] = line.row[SessionWord.CONNECT_START]
        seen["phase"] = line.row[SessionWord.PHASE]
        seen["deadline"] = line.row[SessionWord.DEADLINE]
        raise ConnectError(Reason.REFUSED, "no")

    line.turn(mark())
    line.run(look)
    now = line.opened[0][2]
    assert seen == {
        "stamps": [[None] * 3] * 4,
        "row": [0, 0],
        "fresh": [0, 0],
        "connect_start": now,
        "phase": code_of(Phase.CONNECTING),
        "deadline": now + 15 * NS,
    }
    assert line.opened[0][:2] == ("ws://venue.test/feed", now + 15 * NS)


def test_reason_of_the_last_cut_does_not_end_the_next_attempt(line):
    line.connection.interrupter.interrupt(Reason.STALE_WATCHDOG)
    reasons = []
    line.run(lambda interrupter: reasons.append(interrupter.reason) or FakeTransport())
    assert reasons == [None]


def test_book_fetched_for_the_last_connection_is_forgotten(line):
    line.connection.deliver(FetchedBook(line.session.book_streams[0], "bridge", snapshot(7), None))
    line.run(FakeTransport([]))
    assert not line.connection._inbox


def test_end_that_comes_as_an_attempt_begins_is_not_lost(new_line):
    """The thread has looked whether it shall stop, and has not begun to connect."""
    line = new_line()
    connecting = line.session.connecting

    class EndsAtTheFirstLook(threading.Event):
        looks = 0

        def is_set(self):
            self.looks += 1
            if self.looks == 1:
                line.connection.end(Reason.REQUESTED)
                return False
            return super().is_set()

    line.connection.stop = EndsAtTheFirstLook()
    line.session.connecting = connecting
    reasons = []

    def dial(interrupter):
        reasons.append(interrupter.reason)
        raise ConnectError(Reason.CONNECT_TIMEOUT, "dialled for the whole of its deadline")

    line.transports = [dial]
    line.connection.run()
    assert reasons in ([], [Reason.REQUESTED])


# --- between two connections --------------------------------------------------------------------------------------


def refused():
    return ConnectError(Reason.REFUSED, "nobody listens")


def test_reconnect_delay_doubles_from_one_second_to_thirty(new_line, events):
    line = new_line()
    line.run(*[refused() for _ in range(8)])
    assert [fields["delay_s"] for fields in events("ws.backoff")] == [1, 2, 4, 8, 16, 30, 30, 30]
    starts = [opened[2] for opened in line.opened]
    pauses = [(later - earlier) / NS for earlier, later in itertools.pairwise(starts)]
    assert pauses == [1, 2, 4, 8, 16, 30, 30, 30]


def fresh_for(line, seconds):
    """A connection whose book is fresh from its first frame until the server closes."""

    def later():
        line.clock.advance(seconds)
        return line.frame(snapshot(2))

    return FakeTransport(line.frame(snapshot(1)), later)


def test_backoff_resets_after_a_healthy_run_and_the_reset_is_logged(new_line, events):
    line = new_line()
    line.run(*[refused() for _ in range(4)], fresh_for(line, 60), refused())
    assert [fields["delay_s"] for fields in events("ws.backoff")] == [1, 2, 4, 8, 1, 2]
    assert events("ws.backoff_reset") == [{"venue": "lighter", "session": "main", "healthy_s": 60}]


def test_backoff_goes_on_after_a_run_that_was_healthy_for_less_than_the_threshold(new_line, events):
    line = new_line()
    line.run(*[refused() for _ in range(3)], fresh_for(line, 59.9), refused())
    assert [fields["delay_s"] for fields in events("ws.backoff")] == [1, 2, 4, 8, 16]
    assert events("ws.backoff_reset") == []


def test_healthy_threshold_is_a_setting(new_line, events):
    line = new_line(backoff=BackoffPolicy(healthy_s=2.0, jitter=0.0))
    line.run(refused(), refused(), fresh_for(line, 2))
    assert [fields["delay_s"] for fields in events("ws.backoff")] == [1, 2, 1]


@pytest.mark.parametrize(
    ("streams", "delays_s"),
    [
        pytest.param({Stream.BOOK: None}, [1, 2, 4], id="books must be fresh"),
        pytest.param({Stream.FUNDING: None}, [1, 2, 1], id="without books it is enough to be heard"),
    ],
)
def test_long_run_with_nothing_but_pongs(new_line, events, streams, delays_s):
    line = new_line(venue=FakeVenue(streams=streams))

    def pongs():
        line.clock.advance(100)
        return line.frame(Pong())

    line.run(refused(), refused(), FakeTransport(pongs))
    assert [fields["delay_s"] for fields in events("ws.backoff")] == delays_s


def test_silent_run_without_books_earns_no_reset(new_line, events):
    line = new_line(venue=FakeVenue(streams={Stream.FUNDING: None}))

    def silence():
        line.clock.advance(100)
        return []

    line.run(refused(), refused(), FakeTransport(silence))
    assert [fields["delay_s"] for fields in events("ws.backoff")] == [1, 2, 4]


def test_subscriptions_go_out_before_anything_is_heard(new_line):
    """Aster and paradex say nothing until they are asked; a turn that listened first would cost its whole patience."""
    line = new_line()
    transport = FakeTransport()
    heard = []
    receive = transport.receive
    transport.receive = lambda: heard.append(list(transport.sent)) or receive()
    line.run(transport)
    assert len(heard[0]) == len(line.session.connection.subscriptions)


def test_venue_that_asks_to_wait_longer_is_waited_for(new_line, events):
    line = new_line()
    limited = ConnectError(Reason.RATE_LIMITED, "429", retry_after_s=17.0)
    line.run(limited, ConnectError(Reason.RATE_LIMITED, "429", retry_after_s=0.5))
    assert [fields["delay_s"] for fields in events("ws.backoff")] == [17, 2]


@pytest.mark.parametrize("reason", [Reason.ROTATION, Reason.SERVER_SHUTDOWN])
def test_planned_end_is_followed_by_the_next_connection_at_once(new_line, events, reason):
    line = new_line()
    planned = FakeTransport(line.frame(snapshot(1)), ClosedError(reason, "planned"))
    line.run(refused(), refused(), planned, refused())
    delays = [fields["delay_s"] for fields in events("ws.backoff")]
    assert delays[2] <= 0.25
    assert delays[3] == 4


def test_healthy_run_that_ends_as_planned_earns_the_first_delay_again(new_line, events):
    """A day of fresh data counts whatever ended it."""
    line = new_line()

    def later():
        line.clock.advance(60)
        return line.frame(snapshot(2), ServerShutdown(0))

    planned = FakeTransport(line.frame(snapshot(1)), later)
    line.run(*[refused() for _ in range(4)], planned, refused(), refused())
    delays = [fields["delay_s"] for fields in events("ws.backoff")]
    assert delays[:4] == [1, 2, 4, 8]
    assert delays[4] <= 0.25
    assert delays[5:] == [1, 2]
    assert len(events("ws.backoff_reset")) == 1


def test_planned_ends_in_a_row_are_not_followed_at_once_indefinitely(new_line, events):
    """A venue that gives a book and then sends everybody away would be dialled several times a second."""
    line = new_line()
    line.run(*[FakeTransport(line.frame(snapshot(1)), line.frame(ServerShutdown(0))) for _ in range(5)])
    delays = [fields["delay_s"] for fields in events("ws.backoff")]
    assert delays[0] <= 0.25
    assert delays[1:] == [1, 2, 4, 8]


def test_venue_that_announces_its_shutdown_to_every_newcomer_is_not_hammered(new_line, events):
    line = new_line()
    line.run(*[FakeTransport(line.frame(ServerShutdown(0))) for _ in range(4)])
    assert sum(fields["delay_s"] for fields in events("ws.backoff")) > 5


def test_wait_is_on_the_board_and_on_the_bus(new_line):
    line = new_line()
    seen = []

    class Wake(FakeStop):
        def wait(self, timeout=None):
            left_ns = line.row[SessionWord.NEXT_ACTION] - line.clock.now_ns
            seen.append((line.row[SessionWord.PHASE], left_ns, line.cell()[CellWord.STATE]))
            return super().wait(timeout)

    line.connection._wake = Wake(line.clock)
    line.run(refused())
    assert seen == [(code_of(Phase.BACKOFF), NS, code_of(StreamState.BACKOFF))]
    reported = [event for event in line.publisher.of("status.lighter") if event.state is StreamState.BACKOFF]
    assert {(event.reason, event.backoff_s, event.attempt) for event in reported} == {(Reason.REFUSED, 1.0, 1)}


def test_attempts_are_counted_on_the_board(new_line):
    line = new_line()
    attempts = []

    def refuse(_interrupter):
        attempts.append(line.row[SessionWord.ATTEMPT])
        raise refused()

    line.run(refuse, refuse, refuse)
    assert attempts == [1, 2, 3]


def test_wait_is_cut_short_when_the_venue_is_heard_of_again(new_line):
    line = new_line()
    wake = threading.Event()
    line.connection._wake = wake
    waiting = threading.Event()
    wake.clear = waiting.set
    runner = threading.Thread(target=line.run, args=(ConnectError(Reason.REFUSED, "no", retry_after_s=60.0),))
    runner.start()
    assert waiting.wait(10)
    line.connection.retry_now()
    runner.join(10)
    assert not runner.is_alive()
    assert len(line.opened) == 2


def test_venue_that_has_had_enough_is_waited_for_though_it_is_heard_of_again(new_line):
    line = new_line()
    hurried = []

    class HurriedWhileWaiting(FakeStop):
        def wait(self, timeout=None):
            line.connection.retry_now()
            hurried.append(self.is_set())
            return super().wait(timeout)

    line.connection._wake = HurriedWhileWaiting(line.clock)
    line.run(ConnectError(Reason.RATE_LIMITED, "429", retry_after_s=60.0), refused())
    assert hurried == [False, True]


def test_end_stops_the_wait_and_cuts_the_socket(new_line):
    line = new_line()

    class EndsWhileWaiting(FakeStop):
        def wait(self, timeout=None):
            line.connection.end(Reason.CONFIG_CHANGED)
            return super().wait(timeout)

    line.connection._wake = EndsWhileWaiting(line.clock)
    line.transports = [refused()]
    line.connection.run()
    assert len(line.opened) == 1
    assert line.connection.interrupter.reason is Reason.CONFIG_CHANGED


def test_end_between_a_failure_and_its_wait_is_not_waited_for(new_line):
    line = new_line()
    reported = line.connection._status.changed

    def end_then_tell(changes, **options):
        if options["backoff_s"] is not None:
            line.connection.end(Reason.REQUESTED)
        reported(changes, **options)

    line.connection._status.changed = end_then_tell
    line.transports = [refused()]
    line.connection.run()
    assert line.wake.waits == []


def test_stopped_worker_leaves_the_conversation(new_line, events):
    line = new_line()
    transport = FakeTransport(line.frame(snapshot(1)), line.stop.set)
    line.transports = [transport]
    line.connection.run()
    assert transport.is_closed
    assert events("ws.closed")[0]["reason"] is Reason.REQUESTED
    assert isinstance(line.publisher.of(BOOK)[-1], Gap)


# --- the end ------------------------------------------------------------------------------------------------------


def test_gap_is_the_first_thing_consumers_hear_of_an_end(new_line):
    line = new_line()
    line.transports = [FakeTransport(line.frame(snapshot(1)), ClosedError(Reason.READ_TIMEOUT, "silence"))]
    before = []

    class Noting(FakePublisher):
        def send(self, feed, event):
            before.append(event)
            return super().send(feed, event)

    line.connection._publisher.__class__ = Noting
    line.run()
    kinds = [type(event) for event in before]
    gap = kinds.index(Gap)
    assert isinstance(before[gap - 1], BookSnapshot | Status)
    assert before[gap].reason is Reason.READ_TIMEOUT
    backoff = next(at for at, event in enumerate(before) if isinstance(event, Status) and event.state == "backoff")
    assert gap < backoff


def test_session_that_crashes_tells_its_gaps_and_is_seen_to_have_crashed(new_line, events, monkeypatch):
    line = new_line()
    transport = FakeTransport(
        line.frame(snapshot(1)), lambda: monkeypatch.setattr(line.connection.session, "received", None)
    )
    transport.steps.append([(TEXT, b"x")])
    line.transports = [transport]
    with pytest.raises(TypeError):
        line.connection.run()
    assert transport.is_closed
    gap = line.publisher.of(BOOK)[-1]
    assert (type(gap), gap.reason) == (Gap, Reason.CRASH)
    assert line.row[SessionWord.LAST_REASON] == code_of(Reason.CRASH)
    assert line.row[SessionWord.DEADLINE] == 0
    assert events("ws.closed")[0]["reason"] is Reason.CRASH


def test_connection_whose_session_crashed_does_not_count_as_open(new_line, monkeypatch):
    line = new_line()
    monkeypatch.setattr(line.connection.session, "received", None)
    line.transports = [FakeTransport([(TEXT, b"x")])]
    with pytest.raises(TypeError):
        line.connection.run()
    assert not line.connection.is_open()


def test_streams_of_a_crashed_session_do_not_show_as_live(new_line, monkeypatch):
    """Its thread is started again only after a while."""
    line = new_line()
    transport = FakeTransport(
        line.frame(snapshot(1)), lambda: monkeypatch.setattr(line.connection.session, "received", None)
    )
    transport.steps.append([(TEXT, b"x")])
    line.transports = [transport]
    with pytest.raises(TypeError):
        line.connection.run()
    cell = line.cell()
    assert (cell[CellWord.STATE], cell[CellWord.REASON]) == (code_of(StreamState.BACKOFF), code_of(Reason.CRASH))
    reported = line.publisher.of("status.lighter")[-1]
    assert (reported.state, reported.reason, reported.backoff_s) == (StreamState.BACKOFF, Reason.CRASH, None)


def test_every_end_has_a_reason_in_the_log_and_on_the_board(new_line, events):
    line = new_line()
    line.run(
        FakeTransport(),
        FakeTransport(ClosedError(Reason.STALE_WATCHDOG, "cut")),
        ConnectError(Reason.DNS_FAILED, "no answer"),
    )
    assert [fields["reason"] for fields in events("ws.closed")] == [Reason.SERVER_CLOSE, Reason.STALE_WATCHDOG]
    assert next(fields["reason"] for fields in events("ws.connect_failed")) is Reason.DNS_FAILED
    assert {event.reason for event in line.publisher.of("status.lighter") if event.state == "backoff"} == {
        Reason.SERVER_CLOSE,
        Reason.STALE_WATCHDOG,
        Reason.DNS_FAILED,
    }


def test_ended_sessions_are_counted_and_failed_attempts_are_not(new_line):
    line = new_line()
    line.run(refused(), FakeTransport(), FakeTransport(), refused())
    assert line.row[SessionWord.RECONNECTS] == 2
    assert line.cell()[CellWord.RECONNECTS] == line.cell(Stream.MARK, 1)[CellWord.RECONNECTS] == 2


def test_venue_that_has_had_enough_messages_is_left_in_peace_and_blames_no_worker(new_line, events):
    line = new_line()
    line.run(FakeTransport(line.frame(Refused("too many", None, Reason.RATE_LIMITED, fatal=True))))
    assert [fields["delay_s"] for fields in events("ws.backoff")] == [15]
    assert line.row[SessionWord.FAILED_CYCLES] == 0


def test_connection_whose_book_the_limit_of_rest_held_back_blames_no_worker(new_line):
    line = new_line()
    opened = line.session.opened

    def limited(*args):
        opened(*args)
        line.session.book_streams[0].fetch.finish(is_rate_limited=True)

    line.session.opened = limited
    line.run(FakeTransport(), FakeTransport())
    assert line.row[SessionWord.FAILED_CYCLES] == 0


def test_connections_without_a_usable_book_are_counted_until_one_has_one(new_line):
    line = new_line()
    counts = []

    def count(_interrupter):
        counts.append(line.row[SessionWord.FAILED_CYCLES])
        raise refused()

    line.run(FakeTransport(), FakeTransport(line.frame(mark())), count, FakeTransport(line.frame(snapshot(1))), count)
    assert counts == [2, 0]


@pytest.mark.parametrize(
    ("end", "count"),
    [
        pytest.param(None, 0, id="rates come once an hour, and trades when somebody trades"),
        pytest.param(CloseConnection(Reason.STALE_WATCHDOG, "mark is mute"), 3, id="a stream with a cadence is mute"),
    ],
)
def test_connections_without_books_are_fruitless_only_when_nothing_is_heard_or_a_stream_is_mute(new_line, end, count):
    line = new_line(venue=FakeVenue(streams={Stream.FUNDING: None}))

    def pong():
        line.clock.advance(20)
        if end is not None:
            line.session.actions.close(end.reason, end.text)
        return line.frame(Pong())

    line.run(*[FakeTransport(pong) for _ in range(3)])
    assert line.row[SessionWord.FAILED_CYCLES] == count


def test_connection_without_books_that_is_heard_again_is_no_longer_fruitless(new_line):
    line = new_line(venue=FakeVenue(streams={Stream.FUNDING: None}))

    def pong():
        line.clock.advance(20)
        return line.frame(Pong())

    counts = []

    def count(_interrupter):
        counts.append(line.row[SessionWord.FAILED_CYCLES])
        raise refused()

    line.run(FakeTransport(), FakeTransport(), count, FakeTransport(pong), count)
    assert counts == [2, 0]


@pytest.mark.parametrize(
    ("reason", "cause"),
    [
        (Reason.SEQ_GAP, "resync"),
        (Reason.CROSSED_BOOK, "resync"),
        (Reason.PARSE_ERRORS, "resync"),
        (Reason.ROTATION, "rotation"),
        (Reason.SERVER_CLOSE, "subscribe"),
        (Reason.STALE_WATCHDOG, "subscribe"),
    ],
)
def test_first_snapshot_after_an_end_says_what_it_is_for(new_line, reason, cause):
    line = new_line()
    line.run(FakeTransport(ClosedError(reason, "")), FakeTransport(line.frame(snapshot(1))))
    assert [event.cause for event in line.publisher.of(BOOK) if isinstance(event, BookSnapshot)] == [cause]


def test_session_that_wants_to_end_is_ended_with_its_reason(new_line, events):
    line = new_line(venue=FakeVenue(streams={Stream.BOOK: None}, limits=VenueLimits(9, 9, 9, max_age_s=6.0)))
    transport = FakeTransport(line.frame(snapshot(1)), lambda: line.clock.advance(5.8), [])
    line.run(transport)
    assert transport.is_closed
    assert events("ws.closed")[0]["reason"] is Reason.ROTATION


# --- while the socket is away -------------------------------------------------------------------------------------


@pytest.fixture
def away(line):
    """The socket has just gone."""
    line.connection._finish(None, lifecycle.CloseReason(Reason.SERVER_CLOSE, "gone"))
    line.row[SessionWord.PHASE] = code_of(Phase.BACKOFF)
    line.publisher.sent.clear()
    return line


def test_connection_is_away_until_it_is_open(new_line, clock):
    line = new_line()
    assert line.connection.away_since_ns == clock.now_ns
    line.open()
    assert line.connection.is_open()
    assert line.connection.away_since_ns == 0
    line.connection._finish(None, lifecycle.CloseReason(Reason.SERVER_CLOSE, "gone"))
    gone = clock.now_ns
    clock.advance(5)
    line.connection._finish(None, lifecycle.CloseReason(Reason.REFUSED, "still"))
    assert line.connection.away_since_ns == gone


def test_rest_book_is_shown_while_the_socket_is_away_and_keeps_nothing_fresh(away):
    route = away.session.book_streams[0]
    before = away.stamps()
    away.connection.publish_rest_book(route, snapshot(70))
    (event,) = away.publisher.of(BOOK)
    assert (event.flags, event.cause) == (("rest",), "rest")
    assert away.stamps() == before
    assert route.state is StreamState.REST
    assert away.cell()[CellWord.STATE] == code_of(StreamState.REST)
    assert not route.is_published_valid


def test_state_rest_is_reported_once(away):
    for seq in range(3):
        away.connection.publish_rest_book(away.session.book_streams[0], snapshot(seq))
    assert [event.state for event in away.publisher.of("status.lighter")] == [StreamState.REST]


def test_rest_book_that_comes_too_late_is_not_shown(line):
    line.publisher.sent.clear()
    line.connection.publish_rest_book(line.session.book_streams[0], snapshot(70))
    assert line.publisher.sent == []


def test_rest_book_is_not_shown_when_the_worker_stops(away):
    away.stop.set()
    away.connection.publish_rest_book(away.session.book_streams[0], snapshot(70))
    assert away.publisher.sent == []


def test_rest_book_is_no_part_of_the_stream_that_comes_after_it(away):
    away.connection.publish_rest_book(away.session.book_streams[0], snapshot(70))
    away.connection._begin()
    away.connection._mark_opened()
    away.turn(delta(71, 70))
    assert [type(event) for event in away.publisher.of(BOOK)] == [BookSnapshot]


def test_fetch_of_a_connection_that_is_away_goes_nowhere_near_its_todo(away):
    away.connection.publish_rest_book(away.session.book_streams[0], snapshot(70))
    assert not [action for action in away.session.actions.drain() if isinstance(action, FetchBook)]
    assert away.fetches == []
