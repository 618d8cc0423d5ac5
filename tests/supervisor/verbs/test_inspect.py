"""``tail``, ``book`` and ``funding``, on feeds that the test publishes."""

from __future__ import annotations

import json
import threading
import time

import pytest
import zmq

from ipc.events import Balance, Bbo, BookSnapshot, Funding, Heartbeat, Position, Status, Trade
from ipc.health import Reason, Stream, StreamState
from ipc.publisher import Publisher
from ipc.topics import Topic
from supervisor.verbs import inspect as look

BIDS = [("64000.5", "1"), ("64000", "2"), ("63999", "3")]
ASKS = [("64001", "4"), ("64002", "5")]


def snapshot(venue="lighter", symbol="BTC-PERP", depth=None, **stamps):
    event = BookSnapshot(venue, symbol, "BTC", None, list(BIDS), list(ASKS), depth, 77)
    event.recv_mono_ns = time.monotonic_ns()
    for name, value in stamps.items():
        setattr(event, name, value)
    return event


def funding_of(venue, symbol, phase="predicted", rate="0.0001"):
    per_8h = "0.000800000000" if rate else None
    return Funding(venue, symbol, "X", None, rate, rate, "fraction_per_interval", 3600, per_8h, None, phase, "mark")


class Worker:
    """Publishes what the test gives it, to anyone who comes; beats ten times a second."""

    def __init__(self, run_dir, venue="lighter", *, account=False):
        self.venue = venue
        self._ends = threading.Event()
        self._context = zmq.Context()
        endpoint = run_dir.account(venue) if account else run_dir.feed(venue)
        self._publisher = Publisher(self._context, endpoint, time.time_ns())
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def give(self, channel, symbol, event, key="last"):
        """A late subscriber is sent this event."""
        self._publisher.topic(Topic(channel, self.venue, symbol)).latest[key] = event

    def give_book(self, make, channel="book", symbol="BTC-PERP"):
        """A late subscriber is sent the book that ``make`` makes."""
        self._publisher.topic(Topic(channel, self.venue, symbol)).snapshot = make

    def _run(self):
        beat = self._publisher.topic(Topic("heartbeat", self.venue, ""))
        while not self._ends.wait(0.02):
            with self._publisher.exclusive():
                self._publisher.send(beat, Heartbeat(self.venue, None, None, None, {}, {}, 0, 0))

    def close(self):
        self._ends.set()
        self._thread.join()
        self._publisher.close()
        self._context.term()


@pytest.fixture
def system(boards, run_dir, held_lock):
    """Lighter and paradex run, as far as anyone can see."""
    system = boards.WrittenSystem(run_dir)
    yield system
    system.board.close()


@pytest.fixture
def worker(run_dir, system):
    worker = Worker(run_dir)
    yield worker
    worker.close()


# --- errors -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("arguments", [("tail",), ("book", "lighter", "BTC-PERP"), ("funding",)], ids=" ".join)
def test_nothing_runs(cli, run_dir, arguments):
    ran = cli(*arguments)
    assert ran.code == 3
    expected = f"{run_dir.path}: no supervisor is running here (start one with: paraphina-supervisor start)\n"
    assert ran.err == f"paraphina-supervisor: {expected}"


def test_an_unknown_venue(cli, system):
    ran = cli("book", "binance", "BTC-PERP")
    assert (ran.code, ran.err) == (2, "paraphina-supervisor: no venue 'binance' here (there are lighter, paradex)\n")


def test_an_unknown_symbol(cli, system):
    ran = cli("book", "lighter", "BTC")
    assert ran.code == 2
    assert ran.err == "paraphina-supervisor: lighter has no 'BTC' here (there are BTC-PERP, ETH-PERP)\n"


def test_an_unknown_channel(cli, system):
    ran = cli("tail", "books.")
    assert ran.code == 2
    assert ran.err.startswith("paraphina-supervisor: no channel 'books' (channels are book, book20, bbo, trade")


@pytest.mark.parametrize("prefix", ["trade.ligther", "trade.light.BTC-PERP", "status.binance", "lifecycle.nobody"])
def test_a_prefix_that_no_topic_has_is_refused_and_not_waited_for(cli, system, prefix):
    ran = cli("tail", prefix)
    assert ran.code == 2
    assert f"{prefix}: no venue " in ran.err


@pytest.mark.parametrize("arguments", [("book", "lighter", "BTC-PERP"), ("funding",), ("top",)], ids=lambda a: a[0])
def test_a_description_of_another_version_is_one_error(cli, run_dir, held_lock, arguments):
    run_dir.description.write_text("{}")
    ran = cli(*arguments)
    assert (ran.code, ran.out) == (4, "")
    assert "its description is of another version" in ran.err


def test_a_book_that_does_not_come_says_why(cli, worker, monkeypatch):
    monkeypatch.setattr(look, "_FIRST_S", 0.3)
    ran = cli("book", "lighter", "BTC-PERP")
    assert ran.code == 1
    assert ran.err.startswith("paraphina-supervisor: lighter.BTC-PERP: no usable book within 0.3 s: no_snapshot")
    assert "paraphina-supervisor status" in ran.err


def test_no_funding_rate(cli, worker, monkeypatch):
    monkeypatch.setattr(look, "_FIRST_S", 0.3)
    ran = cli("funding")
    assert ran.code == 1
    assert "no funding rate within 0.3 s" in ran.err


# --- book -------------------------------------------------------------------------------------------------------------


def test_a_book_for_people_has_its_best_levels_in_the_middle(cli, worker):
    worker.give_book(snapshot)
    ran = cli("book", "lighter", "BTC-PERP", "--depth", "2")
    assert ran.code == 0
    head, *rows = ran.out.splitlines()
    assert head.startswith("lighter BTC-PERP  age ")
    assert [row.split() for row in rows] == [["64002", "5"], ["64001", "4"], ["1", "64000.5"], ["2", "64000"]]


def test_a_book_for_programs(cli, worker):
    worker.give_book(snapshot)
    shown = json.loads(cli("book", "lighter", "BTC-PERP", "--json").out)
    assert shown["bids"] == [list(level) for level in BIDS]
    assert shown["asks"] == [list(level) for level in ASKS]
    assert (shown["venue"], shown["symbol"], shown["usable"], shown["reason"]) == ("lighter", "BTC-PERP", True, None)
    assert (shown["venue_seq"], shown["age_ms"] >= 0) == (77, True)


def test_a_one_sided_book_is_shown(cli, worker):
    def bids_only():
        event = snapshot()
        event.asks = []
        return event

    worker.give_book(bids_only)
    ran = cli("book", "lighter", "BTC-PERP")
    assert (ran.code, len(ran.out.splitlines())) == (0, 4)


# --- tail -------------------------------------------------------------------------------------------------------------


def trade(trade_id="5"):
    return Trade("lighter", "BTC-PERP", "BTC", 1, "64000", "0.5", "buy", trade_id)


def test_tail_shows_as_many_as_asked_for(cli, worker):
    ran = cli("tail", "heartbeat.", "--count", "3")
    assert ran.code == 0
    assert [line.split()[0] for line in ran.out.splitlines()] == ["heartbeat.lighter"] * 3


def test_a_line_names_topic_and_fields_and_leaves_out_what_is_nothing(cli, worker):
    worker.give("trade", "BTC-PERP", trade())
    line = cli("tail", "trade.", "--count", "1").out
    assert line.startswith("trade.lighter.BTC-PERP ")
    for field in ("price=64000", "size=0.5", "side=buy", "trade_id=5"):
        assert field in line
    assert "None" not in line
    assert "epoch" not in line


def test_a_book_is_cut_in_its_line(cli, worker):
    worker.give_book(snapshot)
    line = cli("tail", "book.", "--count", "1").out
    assert "bids=[('64000.5', '1'), … 3 levels]" in line


def test_tail_for_programs_is_the_event_as_it_was_published(cli, worker):
    worker.give("trade", "BTC-PERP", trade())
    event = json.loads(cli("tail", "trade.", "--count", "1", "--json").out)
    assert (event["kind"], event["price"], event["flags"], event["seq"]) == ("trade", "64000", ["refresh"], 1)


def test_a_prefix_selects_channel_venue_and_market(cli, worker):
    worker.give("bbo", "BTC-PERP", Bbo("lighter", "BTC-PERP", "BTC", 1, "1", "1", "2", "2"))
    worker.give("bbo", "ETH-PERP", Bbo("lighter", "ETH-PERP", "ETH", 1, "1", "1", "2", "2"))
    worker.give("trade", "BTC-PERP", trade())
    for prefix, topic in (
        ("bbo.lighter.ETH", "bbo.lighter.ETH-PERP"),
        ("trade.lighter", "trade.lighter.BTC-PERP"),
        ("trade", "trade.lighter.BTC-PERP"),
    ):
        assert cli("tail", prefix, "--count", "1").out.split()[0] == topic


def test_several_prefixes_are_all_shown(cli, worker):
    worker.give("bbo", "BTC-PERP", Bbo("lighter", "BTC-PERP", "BTC", 1, "1", "1", "2", "2"))
    worker.give("trade", "BTC-PERP", trade())
    lines = cli("tail", "trade.", "bbo.", "--count", "2").out.splitlines()
    assert sorted(line.split(".")[0] for line in lines) == ["bbo", "trade"]


@pytest.fixture
def account(run_dir, system):
    described = json.loads(run_dir.description.read_text())
    described["venues"]["lighter"]["account"] = run_dir.account("lighter")
    run_dir.description.write_text(json.dumps(described))
    worker = Worker(run_dir, account=True)
    worker.give(
        "position", "desk", Position("lighter", "BTC-PERP", "1", None, "desk", "2", "9", None, None, None, None)
    )
    worker.give("balance", "desk", Balance("lighter", None, None, None, "desk", "USDC", "10", None))
    yield worker
    worker.close()


def test_what_an_account_holds_is_shown_when_it_is_asked_for(cli, worker, account):
    line = cli("tail", "position.", "--count", "1").out
    assert line.split()[0] == "position.lighter.desk"
    assert "size=2" in line
    shown = json.loads(cli("tail", "balance.lighter", "--count", "1", "--json").out)
    assert (shown["kind"], shown["asset"], shown["total"]) == ("balance", "USDC", "10")


def test_accounts_and_markets_are_shown_together(cli, worker, account):
    worker.give("trade", "BTC-PERP", trade())
    lines = cli("tail", "trade.", "position.", "balance.", "--count", "3").out.splitlines()
    assert sorted(line.split(".")[0] for line in lines) == ["balance", "position", "trade"]


def test_without_a_prefix_accounts_are_not_shown(cli, worker, account):
    worker.give("trade", "BTC-PERP", trade())
    assert "desk" not in cli("tail", "--count", "20").out


def test_an_account_that_is_not_followed_cannot_be_shown(cli, worker):
    ran = cli("tail", "order.", "--count", "1")
    assert ran.code != 0
    assert "[venues.X] account" in ran.err


def test_hyperliquids_deep_book_has_a_topic_of_its_own(cli, system, run_dir):
    worker = Worker(run_dir, "paradex")
    worker.give_book(lambda: snapshot("paradex", depth=20), "book20")
    assert cli("tail", "book20.", "--count", "1").out.startswith("book20.paradex.BTC-PERP ")
    worker.close()


def test_a_book_of_twenty_levels_by_rest_is_still_shown_as_a_book():
    event = snapshot("paradex", depth=20, flags=("rest",))
    event.cause = "rest"
    assert look._topic_of(event) == "book.paradex.BTC-PERP"


def test_a_status_of_one_market_is_shown_under_the_venues_topic():
    event = Status(
        "lighter", "BTC-PERP", None, None, Stream.BOOK, StreamState.STALE, None, Reason.NO_BOOK, 1, None, 1, {}
    )
    assert look._topic_of(event) == "status.lighter"


# --- funding ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def rates(worker):
    worker.give("funding", "BTC-PERP", funding_of("lighter", "BTC-PERP"))
    worker.give("funding", "ETH-PERP", funding_of("lighter", "ETH-PERP", rate=None))
    worker.give("funding", "ETH-PERP", funding_of("lighter", "ETH-PERP", "settled", "0.5"), key="settled")
    return worker


def test_funding_rates_in_a_table(cli, rates, monkeypatch):
    monkeypatch.setattr(look, "_FIRST_S", 3.0)
    ran = cli("funding")
    assert ran.code == 0
    head, *rows = [line.split() for line in ran.out.splitlines()]
    assert head[:3] == ["venue", "symbol", "rate"]
    assert rows == [
        ["lighter", "BTC-PERP", "0.0001", "1", "h", "0.0800", "%", "-"],
        ["lighter", "ETH-PERP", "?", "1", "h", "?", "-"],
    ]


def test_funding_rates_for_programs(cli, rates, monkeypatch):
    monkeypatch.setattr(look, "_FIRST_S", 3.0)
    events = [json.loads(line) for line in cli("funding", "--json").out.splitlines()]
    assert {(event["symbol"], event["rate"], event["phase"]) for event in events} == {
        ("BTC-PERP", "0.0001", "predicted"),
        ("ETH-PERP", None, "predicted"),
    }


def test_funding_does_not_wait_when_every_rate_is_there(cli, rates, boards, run_dir, monkeypatch):
    """Paradex is described but silent; with lighter alone all is there at once."""
    description = json.loads(run_dir.description.read_text())
    del description["venues"]["paradex"]
    run_dir.description.write_text(json.dumps(description))
    monkeypatch.setattr(look, "_FIRST_S", 60.0)
    began = time.monotonic()
    assert cli("funding").code == 0
    assert time.monotonic() - began < 30
