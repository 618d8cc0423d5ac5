"""What an account consists of within a worker, and how the watchdog looks at it."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from threading import Event
from typing import Any

import pytest
from clocks import FakeClock, FakeStop
from fake_account import ALIAS, LOGIN, SLOT, FakeClient, FakeSide, FakeTransport, fill, order
from fake_publisher import FakePublisher
from fake_venue import BTC, ETH, FakeVenue

from ipc.board import ACCOUNT_SESSION, Board, CellWord, SessionWord, WorkerWord
from ipc.health import Phase, Reason, Stream, StreamState, code_of
from ipc.rundir import RunDir
from ipc.watched_files import WatchedFiles
from workers.accounts import connection as stream
from workers.accounts import publisher as statement
from workers.accounts import runner
from workers.accounts.rest_flow import RestFlowRunner
from workers.accounts.runner import AccountRunner
from workers.budgets import Budgets
from workers.duty import LineDuty
from workers.net import lifecycle
from workers.net.frames import PONG
from workers.settings import WorkerSettings
from workers.venues import VENUES
from workers.venues.account import private_venue
from workers.venues.lighter.market_data import Lighter
from workers.venues.listing import Listing
from workers.venues.venue import VenueLimits
from workers.watchdog import Watchdog, WatchdogLimits

MS = 1_000_000


class FakeListener:
    """The feeds' listener on TCP."""

    def __init__(self, *, is_encrypted: bool) -> None:
        self.is_encrypted = is_encrypted


class Bench:
    """A runner whose publisher keeps what it is sent; ``opened`` is what the publisher was made with."""

    def __init__(self, board: Board, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.board, self.path = board, path
        self.publisher = FakePublisher()
        self.opened: tuple[Any, ...] = ()
        self.listening: list[Any] = []
        monkeypatch.setattr(runner, "Publisher", self._open)
        monkeypatch.setattr(self.publisher, "listen", lambda *a, **k: self.listening.append((a, k)), raising=False)

    def _open(self, *made_with: Any, refresh_ns: int, line: str | None) -> FakePublisher:
        self.line = line
        assert refresh_ns == 0, "an account is refreshed as a whole"
        self.opened = made_with
        return self.publisher

    def make(self, side: Any = None, venue: Any = None, listener: Any = None, stop: Any = None, **changes: Any) -> Any:
        given = {"account": ALIAS, "ws_url": "ws://x", "rest_url": "http://x", **changes}
        self.settings = WorkerSettings("lighter", SLOT, str(self.path), "inproc://x", ("BTC", "ETH"), **given)
        own = (side or FakeSide(), venue or FakeVenue(), self.settings)
        budgets = Budgets(own[1].limits, self.settings, self.board)
        shared = None if self.settings.peer_slot is None else self.board.worker(SLOT)
        return AccountRunner(*own, self.board, "context", listener, 77, stop or Event(), budgets, LineDuty(shared))

    @property
    def fills(self) -> list[Any]:
        return [event for topic, event in self.publisher.sent if topic.startswith("fill.")]

    @property
    def described(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads((self.path / "lighter.account.json").read_text())
        return found


@pytest.fixture
def board(tmp_path: Path) -> Iterator[Board]:
    board = Board.create(tmp_path / "board", 1)
    yield board
    board.close()


@pytest.fixture
def bench(board: Board, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Bench:
    return Bench(board, tmp_path, monkeypatch)


def test_it_has_an_endpoint_of_its_own(bench: Bench) -> None:
    bench.make()
    assert bench.opened == ("context", f"ipc://{bench.path}/lighter.account", 77)


def test_it_has_two_threads_and_two_sessions_behind_the_public_ones(bench: Bench) -> None:
    made = bench.make()
    assert [name for name, _ in made.threads()] == ["account", "account_rest"]
    assert [run for _, run in made.threads()] == [made.stream.run, made.reconciler.run]
    assert [(watched.name, watched.is_rest, watched.books) for watched in made.watched] == [
        ("account", False, ()),
        ("account_rest", True, ()),
    ]
    for number, watched in enumerate(made.watched):
        watched.row[SessionWord.FRAMES] = 5 + number
    rows = [bench.board.session(SLOT, ACCOUNT_SESSION + number) for number in (0, 1)]
    assert [row[SessionWord.FRAMES] for row in rows] == [5, 6]


def test_what_was_published_is_not_published_by_the_next_life_of_the_same_account(bench: Bench) -> None:
    for alias, published in ((ALIAS, 1), (ALIAS, 1), ("other", 2), (ALIAS, 2)):
        made = bench.make(account=alias)
        made.publisher.apply_pushed([fill("a", snapshot=True)])
        assert len(bench.fills) == published


def test_its_state_stands_in_the_accounts_cell(bench: Bench) -> None:
    bench.make().publisher.publish_state(StreamState.LIVE, None, None)
    cell = bench.board.cell(SLOT, 0, Stream.ACCOUNT)
    assert cell[CellWord.STATE] == code_of(StreamState.LIVE)


def test_its_state_its_reason_and_its_text_stand_in_one_file(bench: Bench) -> None:
    made = bench.make()
    assert bench.described == {"account": ALIAS, "state": None, "reason": None, "since_ns": 0, "detail": None}
    made.publisher.publish_state(StreamState.FAILED, Reason.AUTH_FAILED, "no credentials")
    since = bench.board.cell(SLOT, 0, Stream.ACCOUNT)[CellWord.SINCE]
    refused = {"state": "failed", "reason": "auth_failed", "since_ns": since, "detail": "no credentials"}
    assert bench.described == {"account": ALIAS, **refused}
    made.publisher.publish_state(StreamState.LIVE, None, None)
    since = bench.board.cell(SLOT, 0, Stream.ACCOUNT)[CellWord.SINCE]
    well = {"state": "live", "reason": "auth_failed", "since_ns": since, "detail": None}
    assert bench.described == {"account": ALIAS, **well}
    assert (bench.path / "lighter.account.json").stat().st_mode & 0o777 == 0o600


def test_words_of_an_earlier_life_are_taken_back(bench: Bench) -> None:
    bench.make().publisher.publish_state(StreamState.FAILED, Reason.AUTH_FAILED, "no credentials")
    bench.make()
    assert (bench.described["state"], bench.described["detail"]) == (None, None)


def test_words_that_cannot_be_written_are_logged_and_no_more(bench: Bench, events: Any) -> None:
    made = bench.make()
    (bench.path / "lighter.account.json").unlink()
    (bench.path / "lighter.account.json").mkdir()
    made.publisher.publish_state(StreamState.FAILED, Reason.AUTH_FAILED, "no credentials")
    assert len(events("account.undescribed")) == 1
    assert [event.state for event in bench.publisher.of("status.lighter")] == [StreamState.FAILED]


@pytest.mark.parametrize(("is_encrypted", "expected"), [(True, 1), (False, 0)])
def test_it_is_reported_over_tcp_only_when_that_is_encrypted(bench: Bench, is_encrypted: Any, expected: int) -> None:
    listener = FakeListener(is_encrypted=is_encrypted)
    bench.make(listener=listener)
    assert bench.listening == [((listener, "lighter"), {"account": True})] * expected


def test_it_has_its_part_of_the_venues_budget(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    given: list[Any] = []
    monkeypatch.setattr(runner, "RestClient", lambda _venue, _url, budget, *_, **__: given.append(budget))
    bench.make(venue=FakeVenue(limits=VenueLimits(1, 1.0, rest_weight_per_min=1000)))
    assert given[0] is given[1]
    assert given[0].acquire(350 / 3) == 0.0
    assert given[0].acquire(1) > 0.0


def test_only_its_own_secrets_are_looked_for(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TEST_KEY", "planted")
    monkeypatch.setenv("OTHER_KEY", "planted")
    made = bench.make()
    assert repr(made.stream._secrets) == "Secrets(TEST_KEY)"
    assert made.reconciler._secrets is made.stream._secrets


def test_the_socket_and_rest_know_each_other(bench: Bench) -> None:
    made = bench.make()
    assert made.reconciler.stream is made.stream
    made.stream._reconciler.logged_in(LOGIN)
    assert made.reconciler._login is LOGIN


def test_settings_reach_both_threads(bench: Bench) -> None:
    made = bench.make(account_period_ms=2500, connect_timeout_ms=4000)
    assert made.reconciler._period_ns == 2500 * MS
    assert made.stream._connect_ns == 4000 * MS


def test_ending_it_cuts_whatever_blocks(bench: Bench) -> None:
    made = bench.make()
    made.interrupt()
    assert [watched.interrupter.reason for watched in made.watched] == [Reason.REQUESTED] * 2


# --- markets ------------------------------------------------------------------------------------------------------


def test_markets_are_named_by_their_listings_and_others_by_their_names(bench: Bench) -> None:
    made = bench.make(venue=Lighter())
    followed = (Listing("BTC", "1", "BTC"), Listing("ETH", "0", "ETH"))
    made.update_listings(followed, (*followed, Listing("SOL", "2", "SOL")))
    markets = made.markets()
    assert list(markets) == ["1", "0"]
    assert (markets.get("1").symbol, markets.get("2").symbol) == ("BTC-PERP", "SOL-PERP")
    assert (markets.get("99").symbol, markets.get("99").wire) == (None, "99")


def test_markets_are_always_those_of_now(bench: Bench) -> None:
    made = bench.make()
    assert list(made.markets()) == []
    made.update_listings((BTC,), (BTC, ETH))
    assert list(made.markets()) == ["1"]
    made.update_listings((BTC, ETH), (BTC, ETH))
    assert list(made.markets()) == ["1", "2"]
    assert list(made.stream._markets()) == list(made.reconciler._markets()) == ["1", "2"]


# --- from end to end ----------------------------------------------------------------------------------------------


class Quiet(FakeTransport):
    """A venue on which nothing happens: it answers pings a tick later, while the watchdog looks on."""

    def __init__(self, clock: FakeClock, look: Callable[[], None]) -> None:
        super().__init__()
        self._clock, self._look = clock, look

    def receive(self) -> Any:
        self._clock.advance(0.2)
        self._look()
        asked = self.pings + len([message for message in self.sent if b"ping" in message])
        self.pings = 0
        self.sent.clear()
        return [(PONG, b"")] * asked


@pytest.mark.parametrize("read_timeout_ms", [30_000, 1000])
@pytest.mark.parametrize("venue", ["hyperliquid", "aster", "extended", "lighter", "paradex"])
def test_a_quiet_account_is_not_cut(
    bench: Bench, clock: FakeClock, monkeypatch: pytest.MonkeyPatch, venue: str, read_timeout_ms: int
) -> None:
    keepalive = private_venue(venue, {}).keepalive
    stop = FakeStop(clock, for_s=300)
    monkeypatch.setenv("TEST_KEY", "planted")
    made = bench.make(FakeSide(keepalive=keepalive), VENUES[venue], stop=stop)
    limits = WatchdogLimits(bench.settings.stale_ms * MS, read_timeout_ms * MS)
    watchdog = Watchdog("lighter", bench.board.worker(SLOT), limits, 0.2, None, Event(), clock.monotonic_ns)
    watchdog.watch(made.watched)
    monkeypatch.setattr(stream, "time", clock)
    monkeypatch.setattr(lifecycle, "time", clock)
    monkeypatch.setattr(statement, "time", clock)
    monkeypatch.setattr("workers.accounts.session.PrivateSession.__init__.__defaults__", (clock.monotonic_ns,))
    monkeypatch.setattr(lifecycle, "WebSocketTransport", lambda *_, **__: Quiet(clock, watchdog.check))
    made.stream.run()
    assert made.watched[0].interrupter.reason is None
    assert made.watched[0].row[SessionWord.PHASE] == code_of(Phase.SUBSCRIBED)


def test_a_frame_becomes_an_event_and_late_subscribers_are_sent_it(
    bench: Bench, clock: FakeClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    side = FakeSide()
    stop = FakeStop(clock, for_s=1)
    monkeypatch.setenv("TEST_KEY", "planted")
    made = bench.make(side, stop=stop)
    made.stream._caller = RestFlowRunner(FakeClient())
    transport = FakeTransport([side.frame(order("7"))], lambda: clock.advance(2))
    monkeypatch.setattr(stream, "time", clock)
    monkeypatch.setattr(lifecycle, "time", clock)
    monkeypatch.setattr(lifecycle, "WebSocketTransport", lambda *_, **__: transport)
    made.stream.run()
    assert [event.order_id for event in bench.publisher.latest(f"order.lighter.{ALIAS}")] == ["7"]


def test_files_that_are_lost_are_written_again(bench: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = bench.make()
    run_dir, files = RunDir(tmp_path), WatchedFiles(tmp_path)
    made.watch_files(files, run_dir)
    monkeypatch.setattr(bench.publisher, "is_intact", False)
    files.check()
    assert bench.publisher.is_intact
    assert not run_dir.account_published("lighter", ALIAS).exists(), "nothing was published"
    made.publisher.apply_pushed([fill()])
    made.publisher.publish_state(StreamState.STALE, Reason.AUTH_FAILED, "in words")
    made.reconciler._save_last_snapshot(7)
    paths = [
        run_dir.account_published("lighter", ALIAS),
        run_dir.account_description("lighter"),
        run_dir.account_checkpoint("lighter"),
    ]
    before = [path.read_bytes() for path in paths]
    for path in paths:
        path.unlink()
    files.check()
    assert [path.read_bytes() for path in paths] == before
    assert bench.described["detail"] == "in words"


def test_line_of_two_has_the_venues_memory_and_its_own_feed(bench: Bench) -> None:
    """What was published must not be published again by the other line, nor after the lines became one."""
    made = bench.make(line="b", peer_slot=1)
    assert bench.opened[1] == f"ipc://{bench.path}/lighter.b.account"
    assert bench.line == "b"
    bench.board.worker(SLOT)[WorkerWord.DUTY] = 1
    made.publisher.apply_pushed([fill("a")])
    made.publisher.publish_state(StreamState.LIVE, None, None)
    assert (bench.path / f"lighter.account.{ALIAS}.published").exists()
    assert json.loads((bench.path / "lighter.b.account.json").read_text())["state"] == "live"
    alone = bench.make()
    alone.publisher.apply_pushed([fill("a"), fill("b")])
    assert [event.fill_id for event in bench.fills] == ["a", "b"]


def test_line_that_gets_the_duty_knows_what_the_other_published(bench: Bench) -> None:
    other = bench.make(line="b", peer_slot=1)
    first = bench.make(line="a", peer_slot=2)
    bench.board.worker(SLOT)[WorkerWord.DUTY] = 1
    first.publisher.apply_pushed([fill("a")])
    first.reconciler._save_last_snapshot(77)
    other.stream._adopt()
    other.publisher.apply_pushed([fill("a")])
    assert len(bench.fills) == 1
    assert other.reconciler._reconciled_wall_ns == 77
