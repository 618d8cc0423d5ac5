"""REST threads: markets and funding are requested until they answer, and sockets never wait for REST."""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
import json
import threading

import pytest
from clocks import FakeStop
from fake_publisher import FakePublisher
from fake_venue import BTC, ETH, FUNDING_PATH, FakeVenue, mark, subscription

from ipc.board import Board, CellWord, SessionWord, WorkerWord
from ipc.health import Phase, Reason, Stream, StreamState, code_of, word_of
from ipc.topics import base_of
from workers.duty import LineDuty
from workers.net import rest_poller, rest_thread
from workers.net.budget import MinuteBudget
from workers.net.rest import RestError
from workers.net.rest_poller import RestPoller
from workers.net.snapshot_fetcher import SnapshotFetcher
from workers.protocol.actions import FetchBook
from workers.protocol.book_fetch import FetchState
from workers.protocol.streams import MarketStream
from workers.settings import WorkerSettings
from workers.venues.listing import Listing
from workers.venues.rows import InvalidRow
from workers.venues.venue import Poll, RestRequest, VenueLimits

NS = 1_000_000_000
MARKETS = "/markets"
RATES = b'{"BTC-PERP": "0.0001", "ETH-PERP": "-0.0002"}'
FUNDING = "funding.lighter.BTC-PERP"


def timeout(**options):
    return RestError(Reason.READ_TIMEOUT, "no answer in time", **options)


class FakeClient:
    """Answers by path with bytes, an error, or something to call; ``calls`` holds (second, path, deadline)."""

    def __init__(self, clock):
        self.answers = {MARKETS: b'["BTC", "ETH"]', FUNDING_PATH: RATES}
        self.calls = []
        self._clock, self._began = clock, clock.now_ns

    def call(self, request, deadline_s):
        self.calls.append(((self._clock.now_ns - self._began) / NS, request.path, deadline_s))
        answer = self.answers[request.path]
        answer = answer() if callable(answer) else answer
        if isinstance(answer, Exception):
            raise answer
        return answer

    def seconds(self, path):
        return [second for second, called, _ in self.calls if called == path]

    def pauses(self, path):
        seconds = self.seconds(path)
        return [round(later - earlier) for earlier, later in itertools.pairwise(seconds)]


def failing(times, then, error=None):
    """An answer that fails a number of times first."""
    left = times

    def answer():
        nonlocal left
        left -= 1
        return (error or timeout()) if left >= 0 else then

    return answer


@pytest.fixture
def board(tmp_path):
    board = Board.create(tmp_path / "board", 1)
    yield board
    board.close()


@pytest.fixture
def client(clock, monkeypatch):
    client = FakeClient(clock)
    monkeypatch.setattr(rest_thread, "RestClient", lambda *_, **__: client)
    for module in (rest_poller, rest_thread):
        monkeypatch.setattr(module, "time", clock)
    return client


def settings(**changes):
    return WorkerSettings("lighter", 3, "/", "", ("BTC", "ETH"), "ws://x", "http://x", **changes)


# --- the poll lane ------------------------------------------------------------------------------------------------


class Polling:
    """A poll lane that runs for some seconds on the clock; its finds are taken as the main thread would.

    ``is_second`` makes it that of one of two lines, which has no duty yet.
    """

    def __init__(self, board, client, clock, venue=None, *, is_second=False, **changes):
        self.board, self.client, self.clock = board, client, clock
        self.publisher = FakePublisher()
        self.found = []
        self.stop = threading.Event()
        self.lane = RestPoller(
            venue or FakeVenue(),
            settings(**changes),
            0,
            board,
            MinuteBudget(1e6),
            self.publisher,
            self._found,
            self.stop,
            duty=LineDuty(board.worker(3)) if is_second else None,
        )
        self.missing = 0
        self.worker = board.worker(3)

    def _found(self, listings):
        self.found.append([listing.base for listing in listings])
        followed = [listing for listing in listings if listing.base in {"BTC", "ETH"}]
        self.lane.poll_for(followed, self.missing)

    def run(self, seconds):
        self.lane._stop = FakeStop(self.clock, for_s=seconds)
        self.lane.run()

    def cell(self, market=0, stream=Stream.FUNDING_POLL):
        return self.board.cell(3, market, stream)


@pytest.fixture
def new_polling(board, client, clock):
    return lambda **options: Polling(board, client, clock, **options)


@pytest.fixture
def polling(new_polling):
    return new_polling()


def test_failed_initialisation_is_retried_indefinitely_and_each_retry_is_logged_with_its_delay(polling, client, events):
    client.answers[MARKETS] = failing(8, b'["BTC", "ETH"]')
    polling.run(400)
    assert client.pauses(MARKETS) == [5, 10, 20, 40, 60, 60, 60, 60]
    reported = events("markets.unresolved")
    assert [fields["retry_in_s"] for fields in reported] == [5, 10, 20, 40, 60, 60, 60, 60]
    assert [fields["attempt"] for fields in reported] == list(range(1, 9))
    assert {fields["reason"] for fields in reported} == {Reason.READ_TIMEOUT}
    assert len(client.seconds(FUNDING_PATH)) > 5


def test_one_line_says_that_funding_is_initialised_with_symbol_and_id(polling, client, events):
    client.answers[MARKETS] = failing(2, b'["BTC", "ETH"]')
    polling.run(8000)
    (reported,) = events("funding.initialised")
    assert reported == {"venue": "lighter", "markets": "BTC-PERP=BTC-USD,ETH-PERP=ETH-USD"}


def test_id_of_a_market_is_reported_where_the_venue_has_one(polling, events):
    polling.lane.poll_for([BTC, ETH], 0)
    assert events("funding.initialised")[0]["markets"] == "BTC-PERP=1,ETH-PERP=2"


def test_list_that_cannot_be_read_is_retried_too(polling, client, events):
    client.answers[MARKETS] = failing(3, b'["BTC"]', b"<html>")
    polling.run(60)
    assert client.pauses(MARKETS) == [5, 10, 20]
    assert {fields["reason"] for fields in events("markets.unresolved")} == {Reason.PARSE_ERRORS}
    assert polling.found == [["BTC"]]


def test_list_without_any_market_is_no_list(polling, client, events):
    """A venue in maintenance may answer so; its markets are not given up for that."""
    client.answers[MARKETS] = failing(3, b'["BTC"]', b"[]")
    polling.run(60)
    assert client.pauses(MARKETS) == [5, 10, 20]
    assert {fields["reason"] for fields in events("markets.unresolved")} == {Reason.PARSE_ERRORS}
    assert polling.found == [["BTC"]]


def test_venue_that_asks_to_wait_longer_is_waited_for(polling, client):
    limited = RestError(Reason.RATE_LIMITED, "HTTP 429", status=429, retry_after_s=33.0)
    client.answers[MARKETS] = failing(2, b'["BTC"]', limited)
    polling.run(100)
    assert client.pauses(MARKETS) == [33, 33]


def test_lane_tells_the_board_how_it_fares_with_the_list(polling, client):
    client.answers[MARKETS] = failing(2, b'["BTC"]')
    polling.run(1)
    row = polling.lane.row
    assert row[SessionWord.PHASE] == code_of(Phase.RESOLVING)
    assert row[SessionWord.LAST_REASON] == code_of(Reason.READ_TIMEOUT)
    assert row[SessionWord.NEXT_ACTION] == polling.lane._list_due_ns
    assert polling.worker[WorkerWord.RESOLVE_FAILED] == 1
    polling.run(20)
    assert row[SessionWord.PHASE] == code_of(Phase.SUBSCRIBED)
    assert row[SessionWord.NEXT_ACTION] == 0
    assert polling.worker[WorkerWord.RESOLVE_FAILED] == 0


def test_next_trouble_with_the_list_begins_at_five_seconds_again(polling, client):
    client.answers[MARKETS] = failing(3, b'["BTC"]')
    polling.run(60)
    client.answers[MARKETS] = failing(2, b'["BTC"]')
    polling.run(3700)
    assert client.pauses(MARKETS)[-2:] == [5, 10]


@pytest.mark.parametrize(("missing", "again_s"), [(0, 3600), (1, 600)])
def test_list_is_read_again_hourly_and_sooner_while_a_market_is_missing(polling, client, missing, again_s):
    polling.missing = missing
    polling.run(7300)
    assert set(client.pauses(MARKETS)) == {again_s}


@pytest.mark.parametrize(("status", "again_s"), [(404, 600), (400, 600), (429, 3600), (503, 3600), (None, 3600)])
def test_list_is_read_again_sooner_while_a_poll_is_refused_as_for_a_market_that_is_gone(
    polling, client, status, again_s
):
    """Where one request asks for all markets, one that the venue dropped is in the way of the others."""
    client.answers[FUNDING_PATH] = RestError(Reason.REFUSED, "no", status=status)
    polling.run(7300)
    assert set(client.pauses(MARKETS)) == {again_s}


@pytest.mark.parametrize(("configured_ms", "period_s"), [(10_000, 10), (2_000, 2), (500, 0.5), (100, 0.5), (0, 0.5)])
def test_funding_is_polled_at_the_configured_interval_and_at_least_every_half_second(
    new_polling, client, configured_ms, period_s
):
    polling = new_polling(funding_poll_ms=configured_ms)
    polling.run(30)
    assert len(client.seconds(FUNDING_PATH)) == pytest.approx(30 / period_s, rel=0.1, abs=1)


def test_polls_run_at_a_steady_pace_whatever_they_take(polling, client, clock):
    def slow():
        clock.advance(3)
        return RATES

    client.answers[FUNDING_PATH] = slow
    polling.run(100)
    assert set(client.pauses(FUNDING_PATH)) == {10}


def test_update_seq_of_funding_counts_up(polling):
    polling.run(45)
    assert [event.seq for event in polling.publisher.of(FUNDING)] == [1, 2, 3, 4, 5]


def test_polled_funding_says_where_it_comes_from_and_is_kept_for_late_subscribers(polling, clock):
    polling.run(1)
    (event,) = polling.publisher.of(FUNDING)
    assert (event.rate, event.flags, event.polled_ns) == ("0.0001", ("rest",), event.recv_ns)
    assert clock.time_ns() - 2 * NS < event.recv_ns <= clock.time_ns()
    assert polling.publisher.latest(FUNDING) == [event]


def test_poll_stamps_its_own_stream_and_never_the_book(polling):
    polling.run(1)
    for market in (0, 1):
        cell = polling.cell(market)
        assert cell[CellWord.LAST_PARSED] == cell[CellWord.LAST_PUBLISHED] == cell[CellWord.LAST_DATA_RX] > 0
        assert (cell[CellWord.LAST_GOOD], cell[CellWord.EVENTS]) == (cell[CellWord.LAST_PUBLISHED], 1)
        assert cell[CellWord.STATE] == code_of(StreamState.LIVE)
        assert cell[CellWord.LIMIT_MS] == 30_000
        for stream in (Stream.BOOK, Stream.FUNDING, Stream.MARK):
            assert polling.cell(market, stream)[CellWord.LAST_PUBLISHED] == 0


def test_limit_of_a_poll_is_three_of_its_periods(new_polling):
    polling = new_polling(funding_poll_ms=60_000)
    polling.run(1)
    assert polling.cell()[CellWord.LIMIT_MS] == 180_000


def test_failing_poll_is_named_and_retried_indefinitely(polling, client, events):
    client.answers[FUNDING_PATH] = failing(7, RATES)
    polling.run(300)
    assert client.pauses(FUNDING_PATH)[:8] == [5, 10, 20, 40, 60, 60, 60, 10]
    reported = events("poll.failed")
    assert [fields["retry_in_s"] for fields in reported] == [5, 10, 20, 40, 60, 60, 60]
    assert {(fields["poll"], fields["stream"]) for fields in reported} == {("funding", Stream.FUNDING_POLL)}


def test_next_trouble_with_a_poll_begins_at_five_seconds_again(polling, client):
    client.answers[FUNDING_PATH] = failing(3, RATES)
    polling.run(60)
    client.answers[FUNDING_PATH] = failing(2, RATES)
    client.calls.clear()
    polling.run(60)
    assert client.pauses(FUNDING_PATH)[:3] == [5, 10, 10]


def test_answer_that_is_no_funding_is_a_failed_poll(polling, client, events):
    client.answers[FUNDING_PATH] = failing(1, RATES, b"<html>")
    polling.run(10)
    assert events("poll.failed")[0]["reason"] is Reason.PARSE_ERRORS
    assert len(polling.publisher.of(FUNDING)) == 1


def test_poll_that_fails_for_half_a_minute_is_stale_and_live_when_it_answers(polling, client):
    client.answers[FUNDING_PATH] = failing(4, RATES)
    polling.run(30)
    assert polling.cell()[CellWord.STATE] == code_of(StreamState.BACKOFF)
    assert polling.cell()[CellWord.REASON] == code_of(Reason.READ_TIMEOUT)
    assert polling.cell()[CellWord.REASON_AT] > 0
    polling.run(10)
    assert polling.cell()[CellWord.STATE] == code_of(StreamState.STALE)
    polling.run(60)
    assert polling.cell()[CellWord.STATE] == code_of(StreamState.LIVE)


def test_poll_without_an_answer_yet_is_connecting_and_then_retried(polling, client, clock):
    polling.lane.poll_for([BTC, ETH], 0)
    cell = polling.cell()
    assert (cell[CellWord.STATE], cell[CellWord.REASON]) == (code_of(StreamState.CONNECTING), 0)
    client.answers[FUNDING_PATH] = failing(1, RATES)
    polling.run(3)
    assert (cell[CellWord.STATE], cell[CellWord.REASON]) == (
        code_of(StreamState.BACKOFF),
        code_of(Reason.READ_TIMEOUT),
    )
    since = cell[CellWord.SINCE]
    assert 0 < since <= clock.monotonic_ns()
    assert polling.lane.row[SessionWord.LAST_REASON] == code_of(Reason.READ_TIMEOUT)
    polling.run(10)
    assert cell[CellWord.STATE] == code_of(StreamState.LIVE)
    assert cell[CellWord.SINCE] > since


def test_failed_poll_keeps_a_market_live_within_its_limit_and_says_why(polling, client):
    polling.run(5)
    client.answers[FUNDING_PATH] = failing(9, RATES)
    polling.run(20)
    cell = polling.cell()
    assert (cell[CellWord.STATE], cell[CellWord.REASON]) == (code_of(StreamState.LIVE), code_of(Reason.READ_TIMEOUT))
    polling.run(60)
    assert cell[CellWord.STATE] == code_of(StreamState.STALE)


def test_while_the_list_is_retried_no_stream_of_the_venue_is_called_off(polling, client):
    client.answers[MARKETS] = failing(2, b'["BTC"]')
    polling.run(4)
    kinds = [*FakeVenue().streams, Stream.FUNDING_POLL]
    for market in (0, 1):
        words = {(cell[CellWord.STATE], cell[CellWord.REASON]) for cell in (polling.cell(market, of) for of in kinds)}
        assert words == {(code_of(StreamState.BACKOFF), code_of(Reason.READ_TIMEOUT))}
    polling.run(60)
    off = {polling.cell(1, of)[CellWord.STATE] for of in kinds if of is not Stream.BOOK}
    assert off == {code_of(StreamState.OFF)}, "ETH is not in the list"


def test_market_that_is_not_polled_any_more_is_off(polling):
    polling.run(5)
    assert polling.cell(1)[CellWord.STATE] == code_of(StreamState.LIVE)
    polling.lane.poll_for([BTC], 1)
    assert polling.cell(1)[CellWord.STATE] == code_of(StreamState.OFF)
    assert polling.cell(0)[CellWord.STATE] == code_of(StreamState.LIVE)


def test_market_that_the_answer_leaves_out_is_not_kept_live_by_the_others(polling, client):
    polling.run(5)
    client.answers[FUNDING_PATH] = b'{"ETH-PERP": "-0.0002"}'
    polling.run(60)
    reported, missing = polling.cell(1), polling.cell(0)
    assert reported[CellWord.STATE] == code_of(StreamState.LIVE)
    assert (missing[CellWord.STATE], missing[CellWord.REASON]) == (
        code_of(StreamState.STALE),
        code_of(Reason.UNKNOWN_MARKET),
    )
    assert reported[CellWord.LAST_PUBLISHED] - missing[CellWord.LAST_PUBLISHED] >= 50 * NS
    client.answers[FUNDING_PATH] = RATES
    polling.run(20)
    assert missing[CellWord.STATE] == code_of(StreamState.LIVE)


class RowsVenue(FakeVenue):
    """Its answers are lists of what they hold: rates by market, or errors."""

    def parse_funding(self, body):
        rows = json.loads(body)
        return [InvalidRow("rates", row) if isinstance(row, str) else rate for row in rows for rate in self._rates(row)]

    def _rates(self, row):
        return [None] if isinstance(row, str) else super().parse_funding(json.dumps(row))

    def parse_listings(self, bodies):
        rows = json.loads(bodies[0])
        return [InvalidRow("markets", row[1:]) if row[0] == "!" else Listing(base_of(row), row, row) for row in rows]


@pytest.fixture
def rows(new_polling, client):
    client.answers[FUNDING_PATH] = b'[{"BTC-PERP": "0.1"}, "no text", {"ETH-PERP": "0.2"}]'
    return new_polling(venue=RowsVenue())


def test_invalid_row_of_an_answer_is_counted_and_logged_and_the_others_are_published(rows, events):
    rows.run(1)
    assert [event.rate for event in rows.publisher.of(FUNDING)] == ["0.1"]
    (reported,) = events("rest.invalid_row")
    assert reported == {"venue": "lighter", "answer": "funding", "rows": 1, "what": "rates", "error": "no text"}
    assert rows.lane.row[SessionWord.INVALID_ROWS] == 1
    assert rows.cell()[CellWord.STATE] == code_of(StreamState.LIVE)


def test_event_with_a_value_that_it_cannot_have_is_an_invalid_row(rows, client, events):
    client.answers[FUNDING_PATH] = b'[{"BTC-PERP": "1_0", "ETH-PERP": "1E-7"}]'
    rows.run(1)
    assert rows.publisher.of(FUNDING) == []
    assert [event.rate for event in rows.publisher.of("funding.lighter.ETH-PERP")] == ["0.0000001"]
    assert "not a decimal" in events("rest.invalid_row")[0]["error"]


def test_answer_of_which_no_row_can_be_read_is_a_failure(rows, client, events):
    client.answers[FUNDING_PATH] = b'["no text"]'
    rows.run(1)
    (reported,) = events("poll.failed")
    assert (reported["reason"], reported["error"]) == (Reason.PARSE_ERRORS, "no row could be read: rates: no text")


def test_invalid_rows_of_the_list_leave_the_other_markets(rows, client, events):
    client.answers[MARKETS] = b'["BTC", "!no name", "ETH"]'
    rows.run(1)
    assert rows.found == [["BTC", "ETH"]]
    assert events("rest.invalid_row")[0]["error"] == "no name"


def test_list_of_which_no_market_can_be_read_is_no_list(rows, client, events):
    client.answers[MARKETS] = failing(1, b'["BTC"]', b'["!no name", "b.t.c"]')
    rows.run(10)
    assert events("markets.unresolved")[0]["reason"] is Reason.PARSE_ERRORS
    assert rows.found == [["BTC"]]


def test_market_whose_name_cannot_be_carried_is_logged_once(rows, client, events):
    client.answers[MARKETS] = '["BTC", "币安", "a b"]'.encode()
    rows.run(8000)
    (reported,) = events("markets.nameless")
    assert reported == {"venue": "lighter", "markets": 2, "names": "'币安', 'a b'"}


@pytest.mark.parametrize("error", [TypeError, KeyError, OverflowError, MemoryError, ZeroDivisionError])
@pytest.mark.parametrize(
    ("parser", "reported"), [("parse_listings", "markets.unresolved"), ("parse_funding", "poll.failed")]
)
def test_fault_of_a_parser_is_one_reason_and_a_retry(new_polling, events, monkeypatch, parser, reported, error):
    def parse(*_):
        raise error("why")

    venue = FakeVenue()
    monkeypatch.setattr(venue, parser, parse)
    polling = new_polling(venue=venue)
    polling.run(20)
    assert {fields["reason"] for fields in events(reported)} == {Reason.PARSE_ERRORS}
    assert len(events(reported)) > 1
    assert error.__name__ in events("rest.parser_failed")[0]["error"]


def test_disproved_funding_interval_is_not_published_and_the_list_is_read(new_polling, client, clock):
    hour = 3600 * NS

    class Aging(FakeVenue):
        def parse_funding(self, body):
            events = super().parse_funding(body)
            for event in events:
                event.interval_s, event.rate_8h = 28_800, "0.1"
                event.next_funding_ns = 8 * hour if clock.now_ns - began < 60 * NS else 12 * hour
            return events

    began = clock.now_ns
    polling = new_polling(venue=Aging())
    polling.run(100)
    reported = [event.interval_s for event in polling.publisher.of(FUNDING)]
    assert reported[0] == 28_800
    assert reported[-1] is None
    assert len(client.seconds(MARKETS)) == 2


class ManyPolls(FakeVenue):
    """Besides funding it is asked for open interest, at a pace of its own."""

    def polls(self, listings):
        interest = Poll("interest", Stream.MARK, lambda _: RestRequest("/interest"), self._parse, ("BTC-PERP",), 30.0)
        return (*super().polls(listings), interest)

    def _parse(self, body):
        return [mark(body.decode())]


def test_poll_with_a_period_of_its_own_keeps_it(new_polling, client):
    client.answers["/interest"] = b"5"
    polling = new_polling(venue=ManyPolls(), funding_poll_ms=1000)
    polling.run(100)
    assert set(client.pauses("/interest")) == {30}
    assert [event.flags for event in polling.publisher.of("mark.lighter.BTC-PERP")] == [("rest",)] * 4
    assert polling.cell(0, Stream.MARK)[CellWord.LAST_PUBLISHED] == 0


def test_one_failing_poll_does_not_hold_up_another(new_polling, client):
    client.answers["/interest"] = timeout()
    polling = new_polling(venue=ManyPolls())
    polling.run(100)
    assert set(client.pauses(FUNDING_PATH)) == {10}
    assert client.pauses("/interest") == [5, 10, 20, 40]


def test_polls_go_on_when_the_list_is_read_again_unchanged(polling):
    polling.run(1)
    schedules = polling.lane._schedules
    polling.lane.poll_for(polling.lane._listings, 0)
    assert polling.lane._schedules is schedules


def test_other_markets_are_polled_once_they_are_known(polling, client):
    polling.lane.poll_for([BTC], 1)
    assert [schedule.poll.symbols for schedule in polling.lane._schedules] == [("BTC-PERP",)]
    polling.lane.poll_for([BTC, ETH], 0)
    assert [schedule.poll.symbols for schedule in polling.lane._schedules] == [("BTC-PERP", "ETH-PERP")]


def test_lane_that_knows_its_markets_from_the_cache_polls_at_once(polling, client):
    client.answers[MARKETS] = timeout()
    polling.lane.poll_for([BTC, ETH], 0)
    polling.run(15)
    assert client.seconds(FUNDING_PATH)[0] == 0


def test_lane_that_knows_its_markets_from_the_cache_does_not_count_as_resolving(polling):
    """The parent spares a worker that resolves, also from the limit for its start."""
    polling.lane.poll_for([BTC, ETH], 0)
    polling.run(60)
    assert polling.lane.row[SessionWord.PHASE] != code_of(Phase.RESOLVING)


def test_lane_stops_when_the_worker_does(polling, client):
    polling.stop.set()
    polling.lane.run()
    assert client.calls == []


def test_deadline_of_a_call_is_announced_on_the_board(polling):
    polling.lane._announce(77)
    assert polling.lane.row[SessionWord.DEADLINE] == 77


def test_every_call_has_a_deadline(polling, client):
    polling.run(1)
    assert {path: deadline for _, path, deadline in client.calls} == {MARKETS: 20, FUNDING_PATH: 10}


# --- two lines ----------------------------------------------------------------------------------------------------


def states(polling):
    return {word_of(StreamState, polling.cell(market)[CellWord.STATE]) for market in (0, 1)}


@pytest.fixture
def second(new_polling):
    """The lane of a line without the duty, which knows the markets from the cache."""
    polling = new_polling(is_second=True)
    polling.lane.poll_for([BTC, ETH], 0)
    return polling


def test_line_without_the_duty_polls_nothing_and_its_polls_are_off(second, client):
    second.lane.read_list()  # as a worker does after it has loaded a cached list
    second.run(8000)
    assert client.calls == []
    assert states(second) == {StreamState.OFF}
    assert second.publisher.of(FUNDING) == []


def test_line_without_the_duty_wakes_no_more_often_than_an_idle_one(second):
    second.run(60)
    assert len(second.lane._stop.waits) <= 60 / 0.2 + 2


def test_line_without_the_duty_reads_the_list_once_when_there_is_no_cached_one(new_polling, client):
    polling = new_polling(is_second=True)
    client.answers[MARKETS] = failing(2, b'["BTC", "ETH"]')
    polling.run(8000)
    assert client.pauses(MARKETS) == [5, 10]
    assert polling.found == [["BTC", "ETH"]]
    assert client.seconds(FUNDING_PATH) == []
    assert states(polling) == {StreamState.OFF}


def test_line_that_gets_the_duty_polls_at_once(second, client):
    second.run(100)
    second.worker[WorkerWord.DUTY] = 1
    second.run(25)
    assert client.seconds(FUNDING_PATH)[0] == pytest.approx(100, abs=0.5)
    assert len(client.seconds(FUNDING_PATH)) == 3
    assert states(second) == {StreamState.LIVE}


def test_line_that_loses_the_duty_ends_its_polls(second, client):
    second.worker[WorkerWord.DUTY] = 1
    second.run(25)
    polled = len(client.calls)
    second.worker[WorkerWord.DUTY] = 0
    second.run(100)
    assert len(client.calls) == polled
    assert states(second) == {StreamState.OFF}


def test_duty_is_read_before_each_poll(new_polling, client, board):
    class Two(FakeVenue):
        def polls(self, listings):
            (poll,) = super().polls(listings)
            return poll, dataclasses.replace(poll, name="other", request=lambda _: RestRequest("/other"))

    def lose():
        board.worker(3)[WorkerWord.DUTY] = 0
        return RATES

    polling = new_polling(venue=Two(), is_second=True)
    polling.worker[WorkerWord.DUTY] = 1
    client.answers[FUNDING_PATH] = lose
    polling.run(30)
    assert client.seconds("/other") == []


def test_polls_that_were_off_for_long_are_not_stale_when_they_begin_again(second, client):
    second.worker[WorkerWord.DUTY] = 1
    second.run(25)
    second.worker[WorkerWord.DUTY] = 0
    second.run(500)
    second.worker[WorkerWord.DUTY] = 1
    client.answers[FUNDING_PATH] = timeout()
    second.run(20)
    assert states(second) == {StreamState.CONNECTING}
    second.run(60)
    assert states(second) == {StreamState.STALE}


def test_line_with_the_duty_reads_the_list_hourly(second, client):
    second.worker[WorkerWord.DUTY] = 1
    second.run(7300)
    assert set(client.pauses(MARKETS)) == {3600}


# --- whether the venue answers at all -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("error", "is_dead"),
    [
        (timeout(), True),
        (RestError(Reason.DNS_FAILED, "no answer"), False),
        (RestError(Reason.PROXY_FAILED, "HTTP 407"), False),
        (RestError(Reason.REFUSED, "HTTP 503", status=503), True),
        (RestError(Reason.REFUSED, "HTTP 404", status=404), False),
        (RestError(Reason.RATE_LIMITED, "HTTP 429", status=429), False),
        (RestError(Reason.RATE_LIMITED, "over the budget"), False),
    ],
)
def test_venue_that_does_not_answer_is_distinguished_from_one_that_refuses(polling, client, error, is_dead):
    client.answers[MARKETS] = error
    polling.run(1)
    assert bool(polling.lane.unanswered_since_ns) is is_dead


def test_silence_of_a_venue_counts_from_its_first_unanswered_call(polling, client, clock):
    client.answers[MARKETS] = failing(3, b'["BTC"]')
    began = clock.now_ns
    polling.run(20)
    assert polling.lane.unanswered_since_ns == began
    polling.run(20)
    assert polling.lane.unanswered_since_ns == 0


def test_refusal_is_an_answer(polling, client, clock):
    client.answers[MARKETS] = RestError(Reason.REFUSED, "HTTP 404", status=404)
    began = clock.now_ns
    polling.run(1)
    assert (polling.lane.unanswered_since_ns, polling.lane.answered_ns) == (0, began)


# --- the fetch lane -----------------------------------------------------------------------------------------------


class Receiver:
    """Stands for the connection that asked: keeps what it is given, and stops the lane after ``count`` of it."""

    def __init__(self, stop, count):
        self.given, self.shown = [], []
        self.is_there = True
        self._stop, self._count = stop, count

    def is_open(self):
        return self.is_there

    def deliver(self, fetched):
        fetched.stream.fetch.finish(is_rate_limited=False)
        self.given.append(fetched)
        self._end()

    def publish_rest_book(self, route, book):
        self.shown.append((route.symbol, book.venue_seq))
        self._end()

    def _end(self):
        if len(self.given) + len(self.shown) >= self._count:
            self._stop.set()


@pytest.fixture
def stop():
    return threading.Event()


@pytest.fixture
def fetching(board, client, clock, stop):
    client.answers["/book/BTC-PERP"] = b"71"
    venue = FakeVenue(limits=VenueLimits(9, 9, rest_weight_per_min=300))
    return SnapshotFetcher(
        venue, settings(), 1, board, MinuteBudget(1e6), MinuteBudget(venue.limits.rest_weight_per_min / 4), stop
    )


def route_of(listing=BTC, *, is_fetching=True):
    stream = MarketStream(Stream.BOOK, listing, subscription(listing.symbol, Stream.BOOK), None)
    if is_fetching:
        stream.fetch.request(1)
    return stream


def test_fetched_book_is_delivered_to_the_requester(fetching, stop):
    receiver, route = Receiver(stop, 1), route_of()
    fetching.request(FetchBook(route, "bridge"), receiver)
    fetching.run()
    (fetched,) = receiver.given
    assert (fetched.stream, fetched.purpose, fetched.book.venue_seq, fetched.reason) == (route, "bridge", 71, None)
    assert fetching.row[SessionWord.PHASE] == code_of(Phase.SUBSCRIBED)


@pytest.mark.parametrize(
    ("answer", "reason"),
    [(timeout(), Reason.READ_TIMEOUT), (b"<html>", Reason.PARSE_ERRORS)],
)
def test_failed_fetch_is_delivered_with_its_reason(fetching, client, stop, events, answer, reason):
    client.answers["/book/BTC-PERP"] = answer
    receiver = Receiver(stop, 1)
    fetching.request(FetchBook(route_of(), "bridge"), receiver)
    fetching.run()
    assert (receiver.given[0].book, receiver.given[0].reason) == (None, reason)
    assert events("fetch.failed")[0]["reason"] is reason


@pytest.mark.parametrize("purpose", ["soft", "compare"])
def test_looking_costs_at_most_a_quarter_of_the_venues_limit(fetching, client, stop, purpose):
    receiver = Receiver(stop, 8)
    for _ in range(8):
        fetching.request(FetchBook(route_of(), purpose), receiver)
    fetching.run()
    # A book weighs 5; a quarter of 300 is 75, of which a third may go at once.
    assert [fetched.reason for fetched in receiver.given] == [None] * 5 + [Reason.RATE_LIMITED] * 3
    assert len(client.calls) == 5


def test_book_that_a_stream_waits_for_is_not_held_up_by_looking(fetching, stop):
    receiver = Receiver(stop, 16)
    for purpose in ("compare", "bridge"):
        for _ in range(8):
            fetching.request(FetchBook(route_of(), purpose), receiver)
    fetching.run()
    assert [fetched.reason for fetched in receiver.given][8:] == [None] * 8


def test_book_to_show_is_shown_when_there_is_one(fetching, client, stop):
    away, receiver = Receiver(stop, 2), Receiver(stop, 1)
    away.is_there = False
    client.answers["/book/ETH-PERP"] = timeout()
    for listing in (BTC, ETH):
        fetching.request(FetchBook(route_of(listing), "rest"), away)
    fetching.request(FetchBook(route_of(), "bridge"), receiver)
    fetching.run()
    assert away.shown == [("BTC-PERP", 71)]
    assert [fetched.purpose for fetched in receiver.given] == ["bridge"]


def test_what_waits_already_is_not_asked_for_twice(fetching, client, stop):
    """Of a REST interface that hangs books are asked for faster than calls time out, for as long as it hangs."""
    route, away, receiver = route_of(), Receiver(stop, 2), Receiver(stop, 1)
    away.is_there = False
    for _ in range(100):
        fetching.request(FetchBook(route, "rest"), away)
        fetching.request(FetchBook(route, "bridge"), receiver)
    fetching.run()
    assert (len(receiver.given), len(away.shown), len(client.calls)) == (1, 1, 2)
    stop.clear()
    receiver.given.clear()
    route.fetch.request(1)
    fetching.request(FetchBook(route, "bridge"), receiver)
    fetching.run()
    assert len(receiver.given) == 1, "what was answered can be asked for again"


def test_book_to_show_is_not_fetched_once_the_socket_is_back(fetching, client, stop):
    receiver, route = Receiver(stop, 1), route_of()
    fetching.request(FetchBook(route, "rest"), receiver)
    fetching.request(FetchBook(route, "bridge"), receiver)
    fetching.run()
    assert len(client.calls) == 1
    assert receiver.shown == []


def test_fault_of_ours_in_a_fetch_is_delivered_before_the_thread_dies_of_it(fetching, client, stop):
    client.answers["/book/BTC-PERP"] = KeyError("a fault of ours")
    receiver = Receiver(stop, 1)
    fetching.request(FetchBook(route_of(), "compare"), receiver)
    with contextlib.suppress(KeyError):
        fetching.run()
    assert [fetched.book for fetched in receiver.given] == [None]


def test_book_is_asked_for_once_however_often_it_is_wanted(fetching, client, stop):
    """A connection that ends while its questions wait asks them again; the first answer serves it."""
    receiver, again = Receiver(stop, 2), route_of()
    for route in (again, again, again, route_of()):
        fetching.request(FetchBook(route, "bridge"), receiver)
    fetching.run()
    assert len(client.calls) == 2


def test_nothing_is_asked_for_a_connection_that_is_gone(fetching, client, stop):
    gone, receiver = Receiver(stop, 1), Receiver(stop, 1)
    gone.is_there = False
    for connection in (gone, receiver):
        fetching.request(FetchBook(route_of(), "bridge"), connection)
    fetching.run()
    assert (len(gone.given), len(receiver.given), len(client.calls)) == (0, 1, 1)


def test_question_that_waits_for_others_is_known_to_wait(fetching, client, stop):
    receiver, route = Receiver(stop, 1), route_of()
    fetching.request(FetchBook(route, "bridge"), receiver)
    assert route.fetch.state is FetchState.QUEUED
    client.answers["/book/BTC-PERP"] = lambda: seen.append(route.fetch.state) or b"71"
    seen = []
    fetching.run()
    assert seen == [FetchState.IN_FLIGHT]


def test_lane_without_work_ends_when_the_worker_stops(fetching, stop):
    runner = threading.Thread(target=fetching.run)
    runner.start()
    stop.set()
    runner.join(10)
    assert not runner.is_alive()
