from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path

import msgspec
import pytest
import zmq

from ipc import accounts as accounts_module
from ipc.accounts import Account, AccountFeed
from ipc.codec import encode
from ipc.errors import FeedError
from ipc.events import Balance, Bbo, Event, Fill, Heartbeat, Margin, Order, Payment, Position, Status
from ipc.health import Reason, Stream, StreamState
from ipc.publisher import Publisher
from ipc.remote import Listener, Network, Remote
from ipc.rundir import RunDir, replace_file
from ipc.topics import Topic

SECOND = 1_000_000_000
WHO = ("lighter", "BTC-PERP", "1", None, "desk")


def order(order_id: str, status: str = "open") -> Order:
    return Order(*WHO, order_id, None, "buy", "1", "2", "0", status, status, "limit", False)  # type: ignore[arg-type]


def position(size: str, symbol: str | None = "BTC-PERP") -> Position:
    return Position("lighter", symbol, "1", None, "desk", size, "100", None, None, None, None)


def balance(total: str, asset: str = "USDC") -> Balance:
    return Balance("lighter", None, None, None, "desk", asset, total, None)


def margin(equity: str) -> Margin:
    return Margin("lighter", None, None, None, "desk", equity, None, None, None)


def fill(fill_id: str) -> Fill:
    return Fill(*WHO, fill_id, "1", "buy", "1", "2", None, None, None)


def payment(payment_id: str) -> Payment:
    return Payment(*WHO, payment_id, "USDC", "-1", "funding")


def status(state: StreamState, reason: Reason | None = None) -> Status:
    return Status("lighter", None, None, None, Stream.ACCOUNT, state, None, reason, 1, None, 7, {})


def answered(state: StreamState) -> Status:
    """What stands behind everything else when a request was answered."""
    event = status(state)
    event.flags = ("refresh",)
    return event


class Wire:
    """Makes the messages of one worker's account and hands them on, unless they are to be lost."""

    def __init__(self, account: Account) -> None:
        self.account = account
        self.now_ns = 1_000 * SECOND
        self.epoch = 1
        self.seqs: dict[str, int] = {}
        self.asked = 0

    def send(self, event: Event, *, lost: bool = False) -> list[Event]:
        kind = type(event).__name__.lower()
        topic = f"{kind}.lighter" + ("" if isinstance(event, Heartbeat | Status) else ".desk")
        self.seqs[topic] = self.seqs.get(topic, 0) + 1
        event.epoch, event.seq = self.epoch, self.seqs[topic]
        if lost:
            return []
        told, must_ask = self.account.take(topic, event, self.now_ns)
        self.asked += must_ask
        return told

    def beat(self, times: int = 1, *, lost: bool = False) -> None:
        for _ in range(times):
            self.send(Heartbeat("lighter", None, None, None, dict(self.seqs), {}, 0, 0), lost=lost)

    def restart(self) -> None:
        self.epoch, self.seqs = self.epoch + 1, {}

    def looks(self) -> str | None:
        self.account.judge_silence(self.now_ns)
        return self.account.reason


@pytest.fixture
def wire() -> Wire:
    return Wire(Account("lighter", 1_000 * SECOND))


@pytest.fixture
def known(wire: Wire) -> Wire:
    """An account of which everything is known."""
    for event in (status(StreamState.LIVE), order("1"), position("2"), balance("10"), margin("11"), fill("f1")):
        wire.send(event)
    wire.beat(2)
    assert wire.looks() is None
    assert wire.asked == 0
    return wire


# --- the state ----------------------------------------------------------------------------------------------------


def test_nothing_is_known_until_the_worker_says_that_it_is_live(wire: Wire) -> None:
    assert (wire.looks(), wire.account.usable, wire.account.name) == ("no_snapshot", False, None)
    wire.send(status(StreamState.SUBSCRIBED))
    wire.send(position("2"))
    wire.beat(3)
    assert wire.looks() == "no_snapshot"
    wire.send(status(StreamState.LIVE))
    assert wire.account.usable
    assert wire.account.name == "desk"


def test_last_state_of_everything_stands(known: Wire) -> None:
    account = known.account
    for event in (order("1", "filled"), order("2", "untriggered"), balance("12"), balance("1", "BTC"), margin("13")):
        assert known.send(event) == [event]
    assert set(account.open_orders) == {"2"}
    assert account.orders["1"].status == "filled"
    assert {asset: held.total for asset, held in account.balances.items()} == {"USDC": "12", "BTC": "1"}
    assert account.margin is not None
    assert account.margin.equity == "13"


@pytest.mark.parametrize("size", ["0", "0.000", "-0.0"])
def test_position_of_size_zero_is_none(known: Wire, size: str) -> None:
    assert set(known.account.positions) == {"BTC-PERP"}
    known.send(position(size))
    assert known.account.positions == {}


def test_position_without_a_symbol_of_ours_stands_under_the_venues(known: Wire) -> None:
    known.send(position("-3", None))
    assert known.account.positions["1"].size == "-3"


@pytest.mark.parametrize("make", [fill, payment])
def test_fill_and_payment_are_told_once_whatever_is_restarted(known: Wire, make: Callable[[str], Event]) -> None:
    assert len(known.send(make("a"))) == 1
    known.restart()
    assert known.send(make("a")) == []
    assert len(known.send(make("b"))) == 1
    assert known.account.repeated == 1


def test_fill_and_payment_may_share_an_id(known: Wire) -> None:
    assert len(known.send(fill("a"))) == len(known.send(payment("a"))) == 1


def test_what_was_told_is_remembered_up_to_a_bound(known: Wire, monkeypatch) -> None:
    monkeypatch.setattr(accounts_module, "_REMEMBERED", 3)
    for number in range(4):
        known.send(fill(str(number)))
    assert [len(known.send(fill(str(number)))) for number in (3, 1, 0)] == [0, 0, 1]


def test_events_of_the_market_are_not_the_accounts(known: Wire) -> None:
    assert known.send(Bbo("lighter", "BTC-PERP", "1", None, None, None, None, None)) == []


# --- when it may be wrong -----------------------------------------------------------------------------------------


def test_stream_that_is_not_live_is_named_with_its_reason(known: Wire) -> None:
    known.send(status(StreamState.BACKOFF, Reason.READ_TIMEOUT))
    assert known.looks() == "read_timeout"
    known.send(status(StreamState.CONNECTING))
    assert known.looks() == "connecting"
    known.send(status(StreamState.LIVE, Reason.READ_TIMEOUT))
    assert known.looks() is None


def test_silence_of_three_seconds_hides_the_account(known: Wire) -> None:
    known.now_ns += 3 * SECOND
    assert known.looks() is None
    known.now_ns += 1
    assert known.looks() == "heartbeat_lost"
    known.beat()
    assert known.looks() is None


def test_loss_forgets_the_state_and_asks_for_all_of_it(known: Wire) -> None:
    known.send(order("2"), lost=True)
    known.send(order("3"))
    assert known.asked == 1
    assert known.looks() == "seq_gap"
    assert known.account.lost == 1
    assert (set(known.account.orders), known.account.positions, known.account.margin) == ({"3"}, {}, None)
    for event in (order("1"), order("2"), order("3"), position("2"), balance("10"), margin("11")):
        known.send(event)
    known.beat()
    assert known.looks() == "seq_gap"
    assert known.asked == 2, "asked again, until it is answered"
    known.send(answered(StreamState.LIVE))
    assert known.looks() is None


def test_lost_tail_is_found_by_the_heartbeat_and_asked_for(known: Wire) -> None:
    known.send(position("0"), lost=True)
    known.beat()
    assert known.looks() == "seq_gap"
    assert known.asked == 1
    assert known.account.lost == 1


def test_message_that_was_the_only_one_of_its_topic_is_missed_too(known: Wire) -> None:
    known.send(payment("p"), lost=True)
    known.beat()
    assert known.looks() == "seq_gap"
    assert known.asked == 1


def test_lost_status_is_asked_for(known: Wire) -> None:
    known.send(status(StreamState.BACKOFF), lost=True)
    known.send(status(StreamState.LIVE))
    assert known.asked == 1


def test_repeated_and_late_messages_and_zombies_change_nothing(known: Wire) -> None:
    known.seqs["position.lighter.desk"] -= 1
    assert known.send(position("9")) == []
    known.epoch -= 1
    assert known.send(position("8")) == []
    assert known.account.positions["BTC-PERP"].size == "2"


def test_new_life_forgets_everything_but_what_was_told_once(known: Wire) -> None:
    known.restart()
    known.send(status(StreamState.CONNECTING))
    assert known.looks() == "no_snapshot"
    assert (known.account.orders, known.account.positions, known.account.balances) == ({}, {}, {})
    assert known.account.lost == 0
    known.send(position("1"))
    known.send(status(StreamState.LIVE))
    assert known.looks() is None


def test_lost_heartbeat_does_not_make_the_account_look_empty(known: Wire) -> None:
    known.beat(lost=True)
    known.beat(3)
    assert known.looks() is None
    assert known.account.positions["BTC-PERP"].size == "2"


def test_new_life_is_not_live_before_it_says_so(known: Wire) -> None:
    known.restart()
    known.beat(3)
    assert not known.account.usable


def test_lost_tail_is_counted_message_by_message(known: Wire) -> None:
    for size in "345":
        known.send(position(size), lost=True)
    known.beat()
    assert known.account.lost == 3


def test_orders_that_are_over_are_bounded(known: Wire) -> None:
    for number in range(20_000):
        known.send(order(str(number)))
        known.send(order(str(number), "filled"))
    assert len(known.account.orders) < 20_000


# --- the feed -----------------------------------------------------------------------------------------------------


@pytest.fixture
def publisher(open_publisher, short_dir: Path) -> Publisher:
    """A worker's account endpoint that looks for joiners in every turn."""
    ticks = count(1)
    return open_publisher(RunDir(short_dir).account("lighter"), monotonic=lambda: next(ticks) * 2 * SECOND)


@pytest.fixture
def open_feed(short_dir: Path, context: zmq.Context) -> Iterator[Callable[..., AccountFeed]]:
    made: list[AccountFeed] = []

    def make(**options: object) -> AccountFeed:
        made.append(AccountFeed(short_dir, **{"venues": ["lighter"], "context": context, **options}))  # type: ignore[arg-type]
        return made[-1]

    yield make
    for one in made:
        one.close()


def keep(publisher: Publisher, channel: str, key: str, event: Event, *, lost: bool = False) -> None:
    feed = publisher.topic(Topic(channel, "lighter", "" if channel == "status" else "desk"))
    with publisher.turn:
        if lost:
            feed.latest[key] = event
            feed.seq += 1
        else:
            publisher.send_latest(feed, key, event)


def beat(publisher: Publisher) -> None:
    feed = publisher.topic(Topic("heartbeat", "lighter", ""))
    with publisher.turn:
        publisher.send(feed, Heartbeat("lighter", None, None, None, publisher.last_seqs(), {}, 0, 0))


def test_feed_joins_late_follows_and_mends_what_it_missed(publisher: Publisher, open_feed, until) -> None:
    keep(publisher, "status", "account", status(StreamState.LIVE))
    keep(publisher, "position", "BTC-PERP", position("2"))
    keep(publisher, "order", "1", order("1"))
    feed = open_feed()
    got: list[Event] = []

    def step() -> None:
        beat(publisher)
        event = feed.poll(0.01)
        if event is not None:
            got.append(event)

    until(lambda: feed.account("lighter").usable, step)
    assert set(feed.account("lighter").open_orders) == {"1"}
    keep(publisher, "order", "2", order("2"), lost=True)
    beat(publisher)

    def wait() -> None:
        with publisher.turn:
            pass
        feed.poll(0.01)

    until(lambda: feed.account("lighter").reason == "seq_gap", wait)
    until(lambda: feed.account("lighter").usable, wait)
    assert set(feed.account("lighter").orders) == {"1", "2"}
    assert feed.account("lighter").positions["BTC-PERP"].size == "2"
    assert feed.account("lighter").lost == 1
    assert {type(event) for event in got} >= {Status, Position, Order}


def test_iteration_gives_events_for_ever(publisher: Publisher, open_feed, until) -> None:
    feed = open_feed()
    keep(publisher, "order", "1", order("1"))
    until(lambda: publisher.last_seqs()["order.lighter.desk"] > 1, lambda: beat(publisher))
    assert isinstance(next(event for event in feed if not isinstance(event, Heartbeat)), Order)


def test_iteration_waits_for_what_comes_later(open_feed, monkeypatch) -> None:
    feed = open_feed()
    answers: Iterator[Event | None] = iter([None, order("1")])
    monkeypatch.setattr(feed, "poll", lambda _timeout_s: next(answers))
    assert isinstance(next(iter(feed)), Order)


def test_malformed_message_is_counted_and_told_to_nobody(publisher: Publisher, open_feed, until, logged) -> None:
    feed = open_feed()
    keep(publisher, "order", "1", order("1"))
    until(lambda: feed.account("lighter").orders, lambda: (beat(publisher), feed.poll(0.01)))
    elsewhere = order("9")
    elsewhere.venue = "aster"
    with publisher.turn:
        for parts in (
            (b"order.lighter.desk",),
            (b"order.lighter.desk", b"{"),
            (b"order.lighter.\xff", encode(order("9"))),
            (b"order.aster.desk", encode(elsewhere)),
            (b"order.lighter.desk", b'{"kind":"candle"}'),
        ):
            publisher._socket.send_multipart(parts)
    until(lambda: feed.malformed == 4, lambda: feed.poll(0.01))
    assert logged.events.count("feed.malformed") == 4
    assert set(feed.account("lighter").orders) == {"1"}


def test_accounts_that_the_system_describes_are_followed(short_dir: Path, open_feed) -> None:
    venues = {"lighter": {"account": "desk"}, "aster": {"account": None}, "paradex": {}}
    replace_file(RunDir(short_dir).description, msgspec.json.encode({"venues": venues}))
    feed = open_feed(venues=None)
    assert feed.account("lighter").reason == "no_snapshot"
    with pytest.raises(FeedError, match=r"no account of it in this feed; there is lighter") as caught:
        feed.account("aster")
    assert caught.value.where == "aster"


@pytest.mark.parametrize("is_encrypted", [False, True])
def test_account_on_another_machine_is_read_over_tcp(
    publisher: Publisher, open_feed, context, free_port: int, curve, until, *, is_encrypted: bool
) -> None:
    directory, keys = curve if is_encrypted else (None, None)
    first = free_port - 9  # lighter's account has the tenth port of a system
    listener = Listener(context, Network("127.0.0.1", first, str(directory) if directory else None))
    try:
        publisher.listen(listener, "lighter", account=True)
        keep(publisher, "order", "1", order("1"))
        feed = open_feed(remote=Remote("127.0.0.1", first, keys))
        until(lambda: feed.account("lighter").orders, lambda: (beat(publisher), feed.poll(0.01)))
    finally:
        listener.close()


@pytest.mark.parametrize("description", [None, b"{", b"{}", b'{"venues": {"lighter": {}}}'])
def test_system_that_follows_no_account_has_no_such_feed(short_dir: Path, description: bytes | None) -> None:
    if description is not None:
        replace_file(RunDir(short_dir).description, description)
    with pytest.raises(FeedError, match="no account is followed here") as caught:
        AccountFeed(short_dir)
    assert caught.value.where == str(short_dir)
    assert "[venues.X] account" in caught.value.advice


def test_feed_reads_the_default_run_directory_with_a_context_of_its_own(short_dir: Path, monkeypatch) -> None:
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(short_dir))
    with AccountFeed(venues=["lighter"]) as feed:
        assert feed.poll() is None
        context = feed._context
    assert context.closed
