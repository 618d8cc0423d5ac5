"""A worker's main thread: markets and connections, heartbeat, counts, outage and the end. No socket is opened here."""

from __future__ import annotations

import json
import threading

import msgspec
import pytest
from clocks import wait_until
from fake_publisher import FakePublisher
from fake_venue import BTC, ETH, FakeVenue, delta, snapshot

from ipc.board import ACCOUNT_SESSION, Board, CellWord, SessionWord, WorkerWord
from ipc.errors import ConfigError
from ipc.events import Heartbeat, Instrument
from ipc.health import Phase, Reason, SelfFault, Stream, StreamState, WorkerState, code_of
from ipc.raw import RawHeader, encode_line, make
from workers import budgets, heartbeat, markets, worker
from workers import status as reports
from workers.net import connection as connection_module
from workers.net import lifecycle, rest_poller, rest_thread
from workers.net.connection import ConnectionThread
from workers.net.interrupter import SocketInterrupter
from workers.net.rest import RestError
from workers.settings import WorkerSettings
from workers.venues.listing import Listing
from workers.venues.venue import ConnectionSpec as Plan

NS = 1_000_000_000


class FakeConnection:
    """What a worker sees of a connection; its thread waits until it is asked to end."""

    def __init__(self, session, settings, number, board, publisher, _fetch, stop, _tape, *, connects):
        self.connects = connects
        self.session, self.number, self.stop = session, number, stop
        self.name = session.connection.name
        self.interrupter = SocketInterrupter()
        self.row = board.session(settings.slot, number)
        self.row[SessionWord.RECONNECTS] = 99
        self.away_since_ns = 0
        self.ended, self.hurries, self.runs = None, 0, 0
        self.is_stubborn = False
        self.reported = []
        for route in session.book_streams:
            route.feed = publisher.topic(f"{route.kind}.{settings.venue}.{route.symbol}")

    def run(self):
        self.runs += 1
        (threading.Event() if self.is_stubborn else self.stop).wait(5 if self.is_stubborn else None)

    def end(self, reason):
        self.ended = reason
        self.stop.set()

    def retry_now(self):
        self.hurries += 1

    def record_books(self, tape):
        self.reported.append(tape)


class FakeRecorder:
    """Keeps what it is asked to keep."""

    def __init__(self, *_):
        self.described, self.saved, self.looks, self.is_closed = [], [], 0, False
        self.blackbox = None
        self.has_joined = False
        self.listening = None

    def describe(self, sessions, listings, options):
        self.described.append((sessions, [listing.base for listing in listings], options))

    def needs_books(self):
        self.looks += 1
        return self.has_joined

    def due_dump(self, _now_ns):
        blackbox, self.blackbox = self.blackbox, None
        return blackbox

    def save_dump(self, *blackbox):
        self.saved.append(blackbox)

    def watch_files(self, files, run_dir, exclusive):
        pass

    def close(self):
        self.is_closed = True


class FakeAccount:
    """Keeps what it receives, and that it was run."""

    watched = ()

    def __init__(self):
        self.listings, self.runs, self.over = [], [], threading.Event()
        self.publisher = FakePublisher()

    def update_listings(self, followed, listed):
        self.listings.append((followed, listed))

    def threads(self):
        return (("account", self._run),)

    def _run(self):
        self.runs.append("account")
        self.over.wait()


class NoClient:
    """REST that never answers."""

    def __init__(self, *_, **__):
        pass

    def call(self, *_):
        raise RestError(Reason.READ_TIMEOUT, "no answer in time")


class Bench:
    """A worker whose connections are fakes and whose publisher keeps what it is sent."""

    def __init__(self, board, path, venue, slot=3, **changes):
        self.board = board
        self.stop = threading.Event()
        given = {"bases": ("BTC", "ETH"), "has_parent": False, **changes}
        urls = {"ws_url": "ws://x", "rest_url": "http://x"}
        reported = WorkerSettings("lighter", slot, str(path), "inproc://x", **urls, **given)
        self.worker = worker.Worker(reported, board, self.stop)
        self.publisher = self.worker._publisher
        self.words = board.worker(slot)
        self.venue = venue

    def take(self, *listings):
        self.worker._apply_listings(list(listings))

    @property
    def connections(self):
        return self.worker._connections

    def beats(self):
        return [event for event in self.publisher.of("heartbeat.lighter") if isinstance(event, Heartbeat)]

    def route(self, symbol="BTC-PERP"):
        routes = [route for connection in self.connections for route in connection.session.book_streams]
        return next(route for route in routes if route.symbol == symbol)

    def make_usable(self, symbol, now):
        route = self.route(symbol)
        route.book_sync.on_snapshot(snapshot(5, symbol=symbol))
        route.is_published_valid, route.applied_ns = True, now


@pytest.fixture
def board(tmp_path):
    board = Board.create(tmp_path / "board", 1)
    yield board
    board.close()


@pytest.fixture
def new_bench(board, tmp_path, clock, monkeypatch):
    benches = []
    monkeypatch.setattr(worker, "ConnectionThread", FakeConnection)
    monkeypatch.setattr(worker, "Publisher", lambda *_, **__: FakePublisher())
    monkeypatch.setattr(worker, "FrameRecorder", FakeRecorder)
    monkeypatch.setattr(worker, "_JOIN_S", 5.0)
    monkeypatch.setattr(rest_thread, "RestClient", NoClient)
    for module in (worker, heartbeat, connection_module, lifecycle, rest_poller, rest_thread, reports):
        monkeypatch.setattr(module, "time", clock)
    monkeypatch.setattr(clock, "sleep", lambda _: None, raising=False)

    def new(venue=None, **changes):
        venue = venue or FakeVenue()
        monkeypatch.setattr(worker, "VENUES", {"lighter": venue})
        benches.append(Bench(board, tmp_path, venue, **changes))
        return benches[-1]

    yield new
    for bench in benches:
        bench.stop.set()
        for connection in bench.connections:
            connection.stop.set()
        for name in list(bench.worker._threads._supervised):
            assert bench.worker._threads.release(name, 10)
        bench.worker._context.term()


@pytest.fixture
def bench(new_bench):
    return new_bench()


# --- markets and connections --------------------------------------------------------------------------------------


def test_connections_are_made_for_the_markets_that_the_venue_lists(bench, tmp_path):
    bench.take(ETH, BTC)
    (connection,) = bench.connections
    assert (connection.name, connection.number) == ("main", 2)
    wait_until(lambda: connection.runs == 1)
    assert [route.symbol for route in connection.session.book_streams] == ["BTC-PERP", "ETH-PERP"]
    described = json.loads((tmp_path / "lighter.json").read_bytes())
    assert described["sessions"] == ["poll", "fetch", "main"]
    assert described["markets"] == {"BTC-PERP": "BTC-USD", "ETH-PERP": "ETH-USD"}
    assert bench.worker._recorder.described == [(["poll", "fetch", "main"], ["BTC", "ETH"], {})]


def test_every_market_is_reported_of_as_an_instrument(bench):
    bench.take(BTC, ETH)
    (event,) = bench.publisher.of("instrument.lighter.BTC-PERP")
    assert isinstance(event, Instrument)
    assert event.market_id == "1"
    assert bench.publisher.latest("instrument.lighter.BTC-PERP") == [event]


def test_market_that_the_venue_does_not_list_fails_alone_and_is_reported(bench, board, events):
    bench.take(BTC)
    assert len(bench.connections) == 1
    cell = board.cell(3, 1, Stream.BOOK)
    assert cell[CellWord.STATE] == code_of(StreamState.FAILED)
    assert cell[CellWord.REASON] == code_of(Reason.UNKNOWN_MARKET)
    (status,) = bench.publisher.of("status.lighter")
    assert (status.symbol, status.state, status.reason) == ("ETH-PERP", StreamState.FAILED, Reason.UNKNOWN_MARKET)
    assert events("market.missing") == [{"venue": "lighter", "symbol": "ETH-PERP", "reason": Reason.UNKNOWN_MARKET}]
    bench.take(BTC)
    assert len(events("market.missing")) == 1


def test_venue_that_lists_none_of_the_markets_is_not_connected_to(bench, events):
    bench.take(Listing("SOL", "2", "SOL"))
    bench.worker._run_once()
    assert bench.connections == []
    assert len(events("market.missing")) == 2
    assert bench.words[WorkerWord.RESOLVED] != 0
    assert bench.words[WorkerWord.BOOKS_WANTED] == 0


def test_number_of_wanted_books_is_on_the_board_before_the_list_counts_as_applied(bench, monkeypatch):
    """A reader between the two would find that nothing is wanted."""
    seen = []
    poll_for = bench.worker._poll.poll_for

    def look(*arguments):
        seen.append((bench.words[WorkerWord.RESOLVED] != 0, bench.words[WorkerWord.BOOKS_WANTED]))
        poll_for(*arguments)

    monkeypatch.setattr(bench.worker._poll, "poll_for", look)
    bench.take(BTC, Listing("ETH", "2", "ETH-USD", status="halted"))
    assert seen == [(True, 1)]


def test_delisted_market_is_named_so(bench, events):
    bench.take(BTC, Listing("ETH", "2", "ETH-USD", status="delisted"))
    assert events("market.missing")[0]["reason"] is Reason.DELISTED


def test_list_that_has_not_changed_leaves_the_connections_alone(bench):
    bench.take(BTC, ETH)
    (connection,) = bench.connections
    bench.take(BTC, ETH)
    assert bench.connections == [connection]
    assert connection.ended is None


def test_change_that_only_concerns_consumers_is_reported_and_leaves_the_connections_alone(bench):
    bench.take(BTC, ETH)
    (connection,) = bench.connections
    bench.take(Listing("BTC", "1", "BTC-USD", market_id="1", status="halted"), ETH)
    assert bench.connections == [connection]
    assert bench.publisher.of("instrument.lighter.BTC-PERP")[-1].status == "halted"


def test_funding_interval_that_changes_drops_no_book(bench):
    """Venues shorten it when markets are wild, which is no time to be without books."""
    hourly, often = (Listing("BTC", "1", "BTC-USD", funding_interval_s=hours * 3600) for hours in (8, 4))
    bench.take(hourly, ETH)
    (connection,) = bench.connections
    bench.take(often, ETH)
    assert bench.connections == [connection]
    assert bench.route("BTC-PERP").listing is often
    assert bench.publisher.of("instrument.lighter.BTC-PERP")[-1].funding_interval_s == 4 * 3600
    assert len(bench.worker._recorder.described) == 2


def test_market_that_appears_is_connected_again_with_the_others(bench):
    bench.take(BTC)
    (before,) = bench.connections
    bench.take(BTC, ETH)
    (after,) = bench.connections
    assert before.ended is Reason.CONFIG_CHANGED
    assert after is not before
    assert [route.symbol for route in after.session.book_streams] == ["BTC-PERP", "ETH-PERP"]


def test_words_of_an_ended_connection_are_zeroed(bench):
    bench.take(BTC, ETH)
    row = bench.connections[0].row
    bench.worker._disconnect(Reason.REQUESTED)
    assert row[SessionWord.RECONNECTS] == 0
    assert bench.connections == []


def test_connection_that_does_not_end_is_reported(bench, events, monkeypatch):
    monkeypatch.setattr(worker, "_JOIN_S", 0.01)
    monkeypatch.setattr(FakeConnection, "end", lambda *_: None)
    bench.take(BTC, ETH)
    (connection,) = bench.connections
    bench.worker._disconnect(Reason.REQUESTED)
    assert events("session.unstoppable")[0]["session"] == "main"
    connection.stop.set()


def test_connections_that_do_not_end_are_waited_for_together(new_bench, clock, monkeypatch):
    """The resolver cannot be interrupted: with a second for each, a worker of many sockets outlived its grace."""

    class Wide(FakeVenue):
        def connections(self, _listings, ws_url, _options):
            return tuple(Plan(f"book.{number}", ws_url, ()) for number in range(20))

    bench = new_bench(Wide())
    bench.take(BTC, ETH)
    monkeypatch.setattr(worker, "_JOIN_S", 1.0)
    began = clock.now_ns
    with monkeypatch.context() as stubborn:
        stubborn.setattr(bench.worker._threads, "release", lambda _name, timeout_s: clock.advance(timeout_s))
        bench.worker._disconnect(Reason.REQUESTED)
    assert clock.now_ns - began <= 1.01 * NS


def test_more_connections_than_the_board_can_show_are_not_made(new_bench, events):
    class Wide(FakeVenue):
        def connections(self, _listings, ws_url, _options):
            return tuple(Plan(f"book.{number}", ws_url, ()) for number in range(40))

    bench = new_bench(Wide())
    bench.take(BTC, ETH)
    assert len(bench.connections) == ACCOUNT_SESSION - 2
    assert events("worker.too_many_connections")[0]["wanted"] == 40


def test_connections_of_a_worker_are_not_renewed_together(new_bench):
    class Wide(FakeVenue):
        def connections(self, _listings, ws_url, _options):
            return tuple(Plan(f"book.{number}", ws_url, ()) for number in range(5))

    bench = new_bench(Wide())
    bench.take(BTC, ETH)
    staggers = [connection.session._policy.stagger for connection in bench.connections]
    assert len(set(staggers)) == 5
    assert all(0 <= stagger < 1 for stagger in staggers)


def test_full_disk_leaves_the_worker_undescribed_and_running(bench, events, monkeypatch):
    def full(path, data):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("workers.description.replace_file", full)
    bench.take(BTC, ETH)
    assert len(events("worker.undescribed")) == 1
    assert len(bench.connections) == 1


def test_list_that_was_read_is_remembered_and_taken_by_the_main_thread(bench, tmp_path):
    bench.worker._on_listings([BTC, ETH])
    assert bench.connections == []
    assert markets.load(tmp_path / "lighter.markets.json", ("BTC", "ETH")) == [BTC, ETH]
    bench.worker._run_once()
    assert len(bench.connections) == 1


def test_restart_while_rest_is_away_subscribes_from_the_cache(new_bench, tmp_path):
    markets.save(tmp_path / "lighter.markets.json", [BTC, ETH], ("BTC", "ETH"))
    bench = new_bench()
    runner = threading.Thread(target=bench.worker.run)
    runner.start()
    wait_until(lambda: bench.connections and bench.connections[0].runs)
    (connection,) = bench.connections
    bench.stop.set()
    runner.join(10)
    assert not runner.is_alive()
    assert connection.ended is Reason.REQUESTED
    assert bench.publisher.of("status.lighter")[-1].state is StreamState.OFF
    assert bench.worker._recorder.is_closed


def test_list_is_read_though_there_is_one_in_the_cache(new_bench, tmp_path, monkeypatch):
    """It may be a week old: markets may have changed their numbers. One that is missing may be so by mistake."""
    markets.save(tmp_path / "lighter.markets.json", [BTC, ETH], ("BTC", "ETH"))
    bench = new_bench()
    asked = []
    monkeypatch.setattr(bench.worker._poll._client, "call", lambda request, _: asked.append(request.path) or b'["BTC"]')
    bench.worker._start_live()
    (cached,) = bench.connections
    wait_until(lambda: asked)
    wait_until(lambda: bench.worker._markets._unapplied)
    bench.worker._run_once()
    assert cached.ended is Reason.CONFIG_CHANGED
    routes = bench.connections[0].session.book_streams
    assert [(route.symbol, route.listing.wire) for route in routes] == [("BTC-PERP", "BTC-wire"), ("ETH-PERP", "2")]


def test_market_that_is_missing_from_the_list_is_kept_until_the_venue_refuses_it(bench, events):
    bench.take(BTC, ETH)
    (connection,) = bench.connections
    bench.worker._on_listings([BTC])
    bench.worker._run_once()
    assert bench.connections == [connection]
    assert events("markets.kept") == [{"venue": "lighter", "markets": "ETH-PERP"}]
    assert [one.base for one in markets.load(bench.worker._run_dir.market_cache("lighter"), ("BTC", "ETH"))] == [
        "BTC",
        "ETH",
    ]
    route = next(one for one in connection.session.book_streams if one.symbol == "ETH-PERP")
    route.state, route.reason = StreamState.FAILED, Reason.UNKNOWN_MARKET
    bench.worker._on_listings([BTC])
    bench.worker._run_once()
    assert [route.symbol for route in bench.connections[0].session.book_streams] == ["BTC-PERP"]
    assert [fields["symbol"] for fields in events("market.missing")] == ["ETH-PERP"]


def test_refused_request_for_a_missing_market_gives_it_up(bench):
    bench.take(BTC, ETH)
    bench.worker._poll.refused.add("ETH-PERP")
    bench.worker._on_listings([BTC])
    bench.worker._run_once()
    assert [route.symbol for route in bench.connections[0].session.book_streams] == ["BTC-PERP"]


def test_status_that_is_not_known_stops_no_market(bench):
    odd = Listing("ETH", "2", "ETH-USD", status="POST_ONLY")
    bench.take(BTC, odd)
    bench.worker._run_once()
    assert bench.words[WorkerWord.BOOKS_WANTED] == 2
    assert bench.publisher.of("instrument.lighter.ETH-PERP")[-1].status == "POST_ONLY"


def test_account_begins_once_the_venue_has_reported_what_its_markets_are_called(bench, monkeypatch):
    account, unfollowed = FakeAccount(), Listing("SOL", "2", "SOL")
    monkeypatch.setattr(bench.worker, "_account", account)
    assert account.runs == []
    bench.take(BTC, ETH, unfollowed)
    bench.take(BTC, ETH, unfollowed)
    wait_until(lambda: account.runs)
    assert account.runs == ["account"]
    assert account.listings == [((BTC, ETH), [BTC, ETH, unfollowed])] * 2
    account.over.set()


def test_watchdog_watches_lanes_and_the_books_of_every_connection(bench, board):
    bench.take(BTC, ETH)
    watched = bench.worker._watchdog._watched
    assert [(one.name, one.is_rest, len(one.books)) for one in watched] == [
        ("poll", True, 0),
        ("fetch", True, 0),
        ("main", False, 2),
    ]
    assert watched[2].books[1].at == board.cell(3, 1, Stream.BOOK).at


# --- the round ----------------------------------------------------------------------------------------------------


def test_heartbeat_comes_once_a_second(bench, clock):
    bench.worker._run_once()
    before = len(bench.beats())
    for _ in range(45):
        clock.advance(0.1)
        bench.worker._run_once()
    assert before == 1
    assert len(bench.beats()) in {5, 6}
    assert [event.seq for event in bench.beats()] == [number + 1 for number in range(len(bench.beats()))]
    assert bench.words[WorkerWord.MAIN_LOOPS] == 46


def test_late_heartbeats_are_not_made_up_for(bench, clock):
    bench.worker._run_once()
    clock.advance(30)
    for _ in range(5):
        bench.worker._run_once()
        clock.advance(0.1)
    assert len(bench.beats()) <= 3


def test_heartbeat_tells_every_topic_and_every_book(bench, clock):
    bench.take(BTC, ETH)
    bench.make_usable("BTC-PERP", clock.now_ns)
    clock.advance(0.25)
    bench.publisher.drops = 3
    bench.words[WorkerWord.RSS_BYTES] = 12345
    bench.worker._run_once()
    (beat,) = bench.beats()
    usable, missing = beat.books["BTC-PERP"], beat.books["ETH-PERP"]
    assert (usable.usable, usable.venue_seq, usable.age_ms) == (True, 5, 250)
    assert usable.crc32_top10 == bench.route().book_sync.crc32_top10()
    assert (missing.usable, missing.venue_seq, missing.age_ms, missing.crc32_top10) == (False, None, None, None)
    assert beat.seqs["instrument.lighter.BTC-PERP"] == 1
    assert (beat.drops, beat.rss_bytes) == (3, 12345)


def test_of_many_books_each_has_its_checksum_reported_in_turn(bench, clock, monkeypatch):
    monkeypatch.setattr("workers.heartbeat._MAX_CHECKSUMS", 1)
    bench.take(BTC, ETH)
    for symbol in ("BTC-PERP", "ETH-PERP"):
        bench.make_usable(symbol, clock.now_ns)
    for _ in range(4):
        bench.worker._run_once()
        clock.advance(1.0)
    reported = [
        [symbol for symbol, book in beat.books.items() if book.crc32_top10 is not None] for beat in bench.beats()
    ]
    assert reported == [["BTC-PERP"], ["ETH-PERP"], ["BTC-PERP"], ["ETH-PERP"]]


def test_usable_books_are_counted_and_their_time_remembered(bench, clock):
    bench.take(BTC, ETH)
    words = bench.words
    bench.make_usable("BTC-PERP", clock.now_ns)
    bench.worker._run_once()
    assert (words[WorkerWord.BOOKS_WANTED], words[WorkerWord.BOOKS_USABLE]) == (2, 1)
    assert words[WorkerWord.FIRST_FRESH] == 0
    bench.make_usable("ETH-PERP", clock.now_ns)
    first = clock.now_ns
    for _ in range(3):
        bench.worker._run_once()
        clock.advance(4)
    assert (words[WorkerWord.FIRST_FRESH], words[WorkerWord.LAST_FRESH]) == (first, first + 8 * NS)
    bench.worker._run_once()
    assert words[WorkerWord.LAST_FRESH] == first + 8 * NS


def test_halted_market_is_not_waited_for(bench, clock):
    bench.take(BTC, Listing("ETH", "2", "ETH-USD", status="halted"))
    bench.make_usable("BTC-PERP", clock.now_ns)
    bench.worker._run_once()
    assert bench.words[WorkerWord.BOOKS_WANTED] == 1
    assert bench.words[WorkerWord.FIRST_FRESH] == clock.now_ns


def test_board_tells_when_a_book_last_waited_for_what_the_venue_allows(bench, clock):
    bench.take(BTC, ETH)
    bench.worker._run_once()
    assert bench.words[WorkerWord.HELD_BACK] == 0
    bench.route("ETH-PERP").recovery.is_throttled = True
    bench.worker._run_once()
    held_ns = clock.now_ns
    bench.route("ETH-PERP").recovery.is_throttled = False
    clock.advance(5)
    bench.worker._run_once()
    assert bench.words[WorkerWord.HELD_BACK] == held_ns


def test_market_that_halts_or_trades_again_meanwhile_is_waited_for_accordingly(bench, clock):
    bench.take(BTC, ETH)
    bench.make_usable("BTC-PERP", clock.now_ns)
    for status, wanted in (("active", 2), ("halted", 1), ("active", 2)):
        bench.take(BTC, Listing("ETH", "2", "ETH-USD", status=status))
        bench.worker._run_once()
        assert bench.words[WorkerWord.BOOKS_WANTED] == wanted


@pytest.mark.parametrize(("status", "retry_ns"), [("active", 0), ("halted", 77)])
def test_market_that_was_given_up_is_tried_at_once_when_it_trades_again(bench, status, retry_ns):
    bench.take(BTC, Listing("ETH", "2", "ETH-USD", status="halted"))
    route = bench.route("ETH-PERP")
    route.state, route.recovery.next_attempt_ns = StreamState.FAILED, 77
    bench.take(BTC, Listing("ETH", "2", "ETH-USD", status=status))
    assert route.recovery.next_attempt_ns == retry_ns


def test_counters_of_the_publisher_and_the_threads_are_on_the_board(bench):
    bench.publisher.drops, bench.publisher.published = 4, 500
    bench.worker._threads.restarts = 2
    bench.worker._run_once()
    words = bench.words
    assert (words[WorkerWord.DROPS], words[WorkerWord.THREAD_RESTARTS]) == (4, 2)
    assert words[WorkerWord.PUBLISHED] >= 500
    assert words[WorkerWord.RSS_BYTES] > 1_000_000


def test_epoch_is_above_that_of_the_generation_before(new_bench, clock):
    future = clock.time_ns() * 2
    bench = new_bench(last_epoch=future)
    assert bench.words[WorkerWord.EPOCH] == future + 1


def test_misdeed_is_done_when_the_parent_asks_for_it(bench, monkeypatch):
    done = []
    monkeypatch.setattr(worker, "SELF_FAULTS", {SelfFault.HANG: lambda: done.append("hang")})
    bench.worker._run_once()
    bench.words[WorkerWord.SELF_FAULT] = code_of(SelfFault.HANG)
    bench.worker._run_once()
    assert done == ["hang"]


def test_books_are_reported_to_the_tape_when_it_wants_them(bench):
    bench.worker._apply_listings([BTC, ETH])
    bench.worker._run_once()
    assert [connection.reported for connection in bench.connections] == [[]]
    bench.worker._recorder.has_joined = True
    bench.worker._run_once()
    assert [connection.reported for connection in bench.connections] == [[bench.worker._recorder]]


def test_black_box_is_saved_when_it_is_due(bench):
    bench.worker._recorder.blackbox = (Reason.SEQ_GAP, b"ring")
    for _ in range(3):
        bench.worker._run_once()
    assert bench.worker._recorder.saved == [(Reason.SEQ_GAP, b"ring")]
    assert bench.worker._recorder.looks == 3


# --- outage and books by REST -------------------------------------------------------------------------------------


def test_outage_is_reported_once_each_way_and_ends_the_waiting(bench, clock, events):
    bench.take(BTC, ETH)
    (connection,) = bench.connections
    bench.worker._poll.unanswered_since_ns = clock.now_ns
    for _ in range(20):
        bench.worker._run_once()
        clock.advance(1)
    assert len(events("venue.outage")) == 1
    assert bench.words[WorkerWord.OUTAGE_SINCE] != 0
    assert connection.hurries == 0
    bench.worker._poll.unanswered_since_ns = 0
    for _ in range(5):
        bench.worker._run_once()
        clock.advance(1)
    assert len(events("venue.outage_over")) == 1
    assert bench.words[WorkerWord.OUTAGE_SINCE] == 0
    assert connection.hurries == 1
    assert [event.reason for event in bench.publisher.of("status.lighter")] == [Reason.OUTAGE] * 2


def test_venue_that_answers_polls_is_not_down_though_a_book_could_not_be_fetched(bench, clock, events):
    """Nobody asks for that book again while the socket is open and mute, and in an outage the parent mends nothing."""
    bench.take(BTC, ETH)
    bench.worker._fetch.unanswered_since_ns = clock.now_ns
    for _ in range(20):
        clock.advance(1)
        bench.worker._poll.answered_ns = clock.now_ns
        bench.worker._run_once()
    assert events("venue.outage") == []


def test_usable_book_is_no_outage(bench, clock, events):
    bench.take(BTC, ETH)
    bench.worker._poll.unanswered_since_ns = clock.now_ns
    for _ in range(20):
        bench.make_usable("BTC-PERP", clock.now_ns)
        bench.worker._run_once()
        clock.advance(1)
    assert events("venue.outage") == []


@pytest.mark.parametrize(("has_rest_book", "expected"), [(True, [3, 8, 13, 18]), (False, [])])
def test_books_of_a_socket_that_is_away_are_asked_for_by_rest(new_bench, clock, has_rest_book, expected):
    bench = new_bench(FakeVenue(has_rest_book=has_rest_book))
    bench.take(BTC, ETH)
    asked, began = [], clock.now_ns
    bench.worker._fetch.request = lambda fetch, _connection: asked.append(
        (round((clock.now_ns - began) / NS), fetch.stream.symbol, fetch.purpose)
    )
    bench.worker._run_once()
    assert asked == []
    bench.connections[0].away_since_ns = clock.now_ns
    for _ in range(200):
        bench.worker._run_once()
        clock.advance(0.1)
    assert [second for second, symbol, _ in asked if symbol == "BTC-PERP"] == expected
    assert {purpose for _, _, purpose in asked} <= {"rest"}


# --- fixture mode -------------------------------------------------------------------------------------------------


@pytest.fixture
def recording(tmp_path):
    """A directory with a recording of a venue, and the venue."""
    venue = FakeVenue(streams={Stream.BOOK: None})
    frames = [venue.frame(snapshot(1)), venue.frame(snapshot(1, symbol="ETH-PERP")), venue.frame(delta(2, 1))]
    lines = [RawHeader(venue="lighter", listings=[msgspec.to_builtins(one) for one in (BTC, ETH)])]
    lines += [make("open", "main", NS, NS, b""), *[make("in", "main", 2 * NS, 2 * NS, one) for one in frames]]
    folder = tmp_path / "recording"
    folder.mkdir()
    (folder / "a.jsonl").write_bytes(b"".join(encode_line(line) for line in lines))
    return venue, str(folder)


@pytest.fixture
def player(new_bench, recording, monkeypatch):
    """A worker that has played a recording."""
    monkeypatch.setattr(worker, "ConnectionThread", ConnectionThread)
    venue, folder = recording
    bench = new_bench(venue, fixture_dir=folder, is_paced=False)
    bench.worker._start_fixture(folder)
    wait_until(lambda: len(bench.publisher.of("book.lighter.BTC-PERP")) == 2)
    return bench


def test_recorded_frames_are_published_as_live_ones(player):
    assert [event.venue_seq for event in player.publisher.of("book.lighter.BTC-PERP")] == [1, 2]
    assert len(player.publisher.of("book.lighter.ETH-PERP")) == 1
    assert len(player.publisher.of("instrument.lighter.BTC-PERP")) == 1


def test_watchdog_is_off_in_fixture_mode_and_the_main_thread_beats_in_its_place(player, clock, events):
    assert list(player.worker._threads._supervised) == ["player"]
    clock.advance(3600)
    player.worker._run_once()
    assert player.words[WorkerWord.BEAT] == clock.now_ns
    assert player.worker._watchdog._watched == ()
    assert {connection.row[SessionWord.PHASE] for connection in player.connections} == {code_of(Phase.REPLAYING)}
    assert events("ws.cut") == []


def test_worker_that_played_a_recording_ends_cleanly(player, monkeypatch):
    monkeypatch.setattr(worker.time, "sleep", lambda _: None)
    player.worker._stop.set()
    player.worker._shut_down()
    assert player.worker._connections == []


def test_changes_of_streams_in_a_recording_are_reported(player):
    assert [event.state for event in player.publisher.of("status.lighter") if event.stream is Stream.BOOK][-1] == "live"


def test_market_that_is_not_in_a_recording_fails_alone(new_bench, recording, monkeypatch, events):
    monkeypatch.setattr(worker, "ConnectionThread", ConnectionThread)
    venue, folder = recording
    bench = new_bench(venue, fixture_dir=folder, is_paced=False, bases=("BTC", "SOL"))
    bench.worker._start_fixture(folder)
    assert events("market.missing")[0]["symbol"] == "SOL-PERP"
    assert events("fixture.playing")[0]["records"] == 4
    cell = bench.board.cell(3, 1, Stream.BOOK)
    assert cell[CellWord.STATE] == code_of(StreamState.FAILED)


def test_what_is_played_is_not_kept_in_a_black_box_again(player):
    assert {connection._recorder for connection in player.connections} == {None}


def test_books_of_a_recording_are_usable(player):
    player.worker._run_once()
    assert player.words[WorkerWord.BOOKS_USABLE] == 2


def test_rest_is_asked_nothing_in_fixture_mode(player, clock):
    for _ in range(10):
        clock.advance(10)
        player.worker._run_once()
    assert player.worker._fetch._jobs.empty()


def test_directory_without_a_recording_ends_the_worker_with_the_mistake_named(new_bench, tmp_path):
    bench = new_bench(fixture_dir=str(tmp_path))
    with pytest.raises(ConfigError, match="no recording of lighter"):
        bench.worker.run()


# --- its files ----------------------------------------------------------------------------------------------------


def test_files_that_are_lost_are_written_again_within_a_second(bench, clock, tmp_path):
    bench.worker._on_listings([BTC, ETH])
    bench.worker._run_once()
    paths = [tmp_path / "lighter.json", tmp_path / "lighter.markets.json"]
    before = [path.read_bytes() for path in paths]
    for path in paths:
        path.unlink()
    bench.publisher.is_intact = False
    clock.advance(1)
    bench.worker._run_once()
    assert [path.read_bytes() for path in paths] == before
    assert bench.publisher.is_intact


def test_file_that_is_being_written_for_the_first_time_is_not_reported_as_lost(bench, monkeypatch, events, tmp_path):
    files, save = bench.worker._watch_files(), markets.save

    def slow(*arguments):
        files.check()  # by the main thread, meanwhile
        save(*arguments)

    monkeypatch.setattr(markets, "save", slow)
    bench.worker._on_listings([BTC, ETH])
    assert (tmp_path / "lighter.markets.json").exists()
    assert [one for one in events("run_dir.restored") if one["path"].endswith("markets.json")] == []


def test_lost_directory_costs_nothing_else(bench, clock, tmp_path):
    bench.take(BTC, ETH)
    tmp_path.rename(tmp_path.with_name(f"{tmp_path.name}-away"))
    for _ in range(3):
        clock.advance(1)
        bench.worker._run_once()
    assert not tmp_path.exists()
    tmp_path.mkdir()
    clock.advance(1)
    bench.worker._run_once()
    assert (tmp_path / "lighter.json").exists()


# --- two lines ----------------------------------------------------------------------------------------------------


@pytest.fixture
def pair(new_bench, clock, monkeypatch):
    """Both lines of a venue, in slots 3 and 5."""
    monkeypatch.setattr(budgets, "time", clock)
    return new_bench(line="a", peer_slot=5), new_bench(slot=5, line="b", peer_slot=3)


def staggers(bench):
    return [connection.session._policy.stagger for connection in bench.connections]


def test_only_line_has_no_witness_no_cover_and_its_stagger_as_ever(bench):
    bench.take(BTC, ETH)
    policy = bench.connections[0].session._policy
    assert policy.is_covered is None
    assert policy.stagger == (3 + 2 / ACCOUNT_SESSION) / 8
    assert bench.worker._watchdog._witness is None
    assert bench.worker._watchdog._watched[2].witnessed == ()
    assert bench.connections[0].connects is None


def test_lines_spread_their_rotations_half_the_span_apart(pair):
    for bench in pair:
        bench.take(BTC, ETH)
    first, second = staggers(pair[0])[0], staggers(pair[1])[0]
    assert abs(first - second) == pytest.approx(0.5)


def test_line_is_covered_while_the_other_is_live(pair, board):
    bench = pair[0]
    bench.take(BTC, ETH)
    policy = bench.connections[0].session._policy
    answers = []
    for state in (WorkerState.STARTING, WorkerState.LIVE, WorkerState.STALE, WorkerState.BACKOFF):
        board.worker(5)[WorkerWord.STATE] = code_of(state)
        answers.append(policy.is_covered())
    assert answers == [False, True, False, False]


def test_lines_share_the_messages_of_their_sessions(pair, clock):
    venue = pair[0].venue
    for bench in pair:
        bench.take(BTC, ETH)
    paces = [bench.connections[0].session._subscriptions._bucket for bench in pair]
    assert paces[0].acquire(venue.limits.burst, clock.now_ns)
    assert not paces[1].acquire(1, clock.now_ns)


def test_main_thread_counts_what_the_other_line_spends(pair, board, clock):
    for bench in pair:
        bench.worker._run_once()
    assert pair[0].worker._line.budgets.messages.acquire(100, clock.now_ns)
    pair[1].worker._run_once()
    board.clear_worker(3, 2)
    assert not pair[1].worker._line.budgets.messages.acquire(50, clock.now_ns)


def test_book_that_stands_still_is_reported_to_its_connection(pair, board, clock):
    for bench in pair:
        bench.take(BTC, ETH)
    reports = []
    pair[0].connections[0].deliver = reports.append
    cells = [board.cell(slot, 0, Stream.BOOK) for slot in (3, 5)]
    for cell in cells:
        cell[CellWord.STATE], cell[CellWord.LAST_PUBLISHED] = code_of(StreamState.LIVE), clock.now_ns
    for _ in range(15):
        pair[0].worker._watchdog._compare(pair[0].worker._line.witness, clock.now_ns)
        clock.advance(0.2)
        cells[1][CellWord.LAST_PUBLISHED] = clock.now_ns
    assert [(one.stream.symbol, one.published_ns) for one in reports] == [
        ("BTC-PERP", cells[0][CellWord.LAST_PUBLISHED])
    ]


def test_line_without_the_duty_applies_the_list_that_the_other_reads(pair, clock):
    """A halt, a listing or a delisting reaches both lines by the one request of the line with the duty."""
    first, second = pair
    first.words[WorkerWord.DUTY] = 1
    for bench in pair:
        bench.take(BTC, Listing("ETH", "2", "ETH-USD", status="halted"))
    first.worker._on_listings([BTC, ETH])
    for bench in pair:
        bench.worker._run_once()
        clock.advance(1)
        bench.worker._run_once()
        assert [listing.status for listing in bench.worker._resolved.listings] == ["active", "active"]
    applied = second.words[WorkerWord.RESOLVED]
    clock.advance(5)
    second.worker._run_once()
    assert second.words[WorkerWord.RESOLVED] == applied, "once"


def test_line_with_the_duty_reads_no_list_of_the_other(pair, clock, monkeypatch):
    first = pair[0]
    first.words[WorkerWord.DUTY] = 1
    monkeypatch.setattr(first.worker._markets, "reload", pytest.fail)
    first.worker._run_once()
    clock.advance(2)
    first.worker._run_once()
