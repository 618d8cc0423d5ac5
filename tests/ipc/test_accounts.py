from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path

import msgspec
import pytest
import zmq
from hypothesis import given, settings
from hypothesis import strategies as st

from ipc import account_state as accounts_module
from ipc.account_state import AccountState, DeliveredOnce
from ipc.accounts import AccountFeed
from ipc.board import TCP_LISTENING, Board, WorkerWord
from ipc.codec import encode
from ipc.errors import FeedError
from ipc.events import Balance, Bbo, Event, Fill, Heartbeat, Margin, Order, Payment, Position, Status
from ipc.health import Reason, Stream, StreamState
from ipc.listener import FeedListener
from ipc.publisher import Publisher
from ipc.remote import Network, Remote
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

    def __init__(self, account: AccountState) -> None:
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
        published, must_ask = self.account.handle(topic, event, self.now_ns)
        self.asked += must_ask
        return published

    def beat(self, times: int = 1, *, lost: bool = False) -> None:
        for _ in range(times):
            self.send(Heartbeat("lighter", None, None, None, dict(self.seqs), {}, 0, 0), lost=lost)

    def restart(self) -> None:
        self.epoch, self.seqs = self.epoch + 1, {}

    def looks(self) -> str | None:
        self.account.check_silence(self.now_ns)
        return self.account.reason


@pytest.fixture
def wire() -> Wire:
    return Wire(AccountState("lighter", 1_000 * SECOND, DeliveredOnce()))


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
def test_fill_and_payment_are_delivered_once_across_restarts(known: Wire, make: Callable[[str], Event]) -> None:
    assert len(known.send(make("a"))) == 1
    known.restart()
    assert known.send(make("a")) == []
    assert len(known.send(make("b"))) == 1
    assert known.account.delivered.repeated == 1


def test_fill_and_payment_may_share_an_id(known: Wire) -> None:
    assert len(known.send(fill("a"))) == len(known.send(payment("a"))) == 1


def test_number_of_delivered_ids_is_bounded(known: Wire, monkeypatch) -> None:
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


def refreshed(event: Event) -> Event:
    event.flags = ("refresh",)
    return event


def test_loss_forgets_what_it_was_of_and_asks_for_everything(known: Wire) -> None:
    known.send(order("2"), lost=True)
    known.send(order("3"))
    assert known.asked == 1
    assert known.looks() == "seq_gap"
    assert known.account.lost == 1
    assert (set(known.account.orders), set(known.account.positions)) == ({"3"}, {"BTC-PERP"})
    known.beat()
    assert known.looks() == "seq_gap"
    assert known.asked == 2, "asked again, until it is answered"
    for event in (order("1"), order("2"), order("3"), position("2"), balance("10"), margin("11")):
        known.send(refreshed(event))
    known.send(answered(StreamState.LIVE))
    known.beat()
    assert known.looks() is None
    assert set(known.account.orders) == {"1", "2", "3"}


def test_answer_counts_once_a_heartbeat_has_counted_it(known: Wire) -> None:
    known.send(order("2"), lost=True)
    known.send(order("3"))
    known.send(refreshed(order("1")))
    known.send(refreshed(order("2")), lost=True)
    known.send(answered(StreamState.LIVE))
    assert known.looks() == "seq_gap"
    known.beat()
    assert known.looks() == "seq_gap"


def test_lost_status_loses_nothing_else(known: Wire) -> None:
    known.send(status(StreamState.BACKOFF), lost=True)
    known.send(answered(StreamState.LIVE))
    assert known.looks() is None
    assert set(known.account.orders) == {"1"}


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


def test_new_epoch_drops_everything_but_delivered_ids(known: Wire) -> None:
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


# --- any loss -----------------------------------------------------------------------------------------------------


class Worker:
    """A worker's account, its link to a consumer, and the consumer, who reads late and asks by the same link.

    The link loses what the test says, but for what would go unnoticed: the first message of a topic, and what answers a
    question.
    """

    def __init__(self) -> None:
        self.account = AccountState("lighter", SECOND, DeliveredOnce())
        self.epoch = 0
        self.number = 0
        self.losing = 0
        self.under_way: list[tuple[str, Event, object]] = []
        self.is_asked = True
        self.restart()

    def restart(self, _pick: int = 0) -> None:
        """Send the whole state, which only subscribers receive."""
        self.epoch += 1
        self.seqs: dict[str, int] = {}
        self.latest: dict[str, dict[str, Event]] = {}
        self.is_joined, self.is_asked = False, True
        self.tell("status", "account", status(StreamState.CONNECTING))
        for change in (self.order, self.position, self.balance, self.margin, self.fill, self.payment):
            change(0)
        self.live()

    def order(self, pick: int) -> None:
        self.tell("order", str(pick), order(str(pick), ["open", "filled", "untriggered"][self.number % 3]))

    def position(self, pick: int) -> None:
        made = position(str(self.number % 3), f"{'ABC'[pick % 3]}-PERP")
        self.tell("position", str(made.symbol), made)

    def balance(self, pick: int) -> None:
        made = balance(str(self.number), "ABC"[pick % 3])
        self.tell("balance", made.asset, made)

    def margin(self, _pick: int) -> None:
        self.tell("margin", "", margin(str(self.number)))

    def fill(self, _pick: int) -> None:
        self.tell("fill", str(self.number), fill(f"{self.epoch}.{self.number}"))

    def payment(self, _pick: int) -> None:
        self.tell("payment", str(self.number), payment(f"{self.epoch}.{self.number}"))

    def live(self, _pick: int = 0) -> None:
        self.tell("status", "account", status(StreamState.LIVE))

    def down(self, _pick: int = 0) -> None:
        self.tell("status", "account", status(StreamState.BACKOFF, Reason.SERVER_CLOSE))

    def beat(self, _pick: int = 0) -> None:
        self.send("heartbeat.lighter", Heartbeat("lighter", None, None, None, dict(self.seqs), {}, 0, 0))

    def tell(self, channel: str, key: str, event: Event) -> None:
        self.number += 1
        topic = f"{channel}.lighter" + ("" if channel == "status" else ".desk")
        self.latest.setdefault(topic, {}).pop(key, None)
        self.latest[topic][key] = event
        self.send(topic, event)

    def send(self, topic: str, event: Event, *, is_answer: bool = False) -> None:
        self.seqs[topic] = self.seqs.get(topic, 0) + 1
        copied = msgspec.structs.replace(event, epoch=self.epoch, seq=self.seqs[topic])
        if not self.is_joined:
            return
        if self.losing and self.seqs[topic] > 1 and not is_answer:
            self.losing -= 1
            return
        self.under_way.append((topic, copied, self.looks()))

    def lose(self, pick: int) -> None:
        """The next messages are lost."""
        self.losing = pick

    def answer(self, _pick: int = 0) -> None:
        """Send everything to those who requested it; the status comes last."""
        if not self.is_asked:
            return
        self.is_joined, self.is_asked = True, False
        for topic in sorted(self.latest, key=lambda topic: topic.startswith("status")):
            for event in self.latest[topic].values():
                self.send(topic, msgspec.structs.replace(event, flags=("refresh",)), is_answer=True)  # type: ignore[call-arg]

    def looks(self) -> object:
        """Check that a usable state equals the worker's."""
        states = {topic.partition(".")[0]: list(events.values()) for topic, events in self.latest.items()}
        return (
            {one.order_id: one.status for one in states.get("order", []) if one.status != "filled"},  # type: ignore[attr-defined]
            {one.symbol: one.size for one in states.get("position", []) if one.size != "0"},  # type: ignore[attr-defined]
            {one.asset: one.total for one in states.get("balance", [])},  # type: ignore[attr-defined]
            [one.equity for one in states.get("margin", [])],  # type: ignore[attr-defined]
            states["status"][-1].state,  # type: ignore[attr-defined]
        )

    def read(self, pick: int = 0) -> None:
        """The consumer takes a few messages; whenever a heartbeat has vouched for it, it must be right."""
        for _ in range(min(pick + 1, len(self.under_way))):
            topic, event, truth = self.under_way.pop(0)
            _, must_ask = self.account.handle(topic, event, 2 * SECOND)
            self.is_asked = self.is_asked or must_ask
            if isinstance(event, Heartbeat) and self.account.usable:
                assert self.knows() == truth

    def knows(self) -> object:
        account = self.account
        return (
            {one.order_id: one.status for one in account.open_orders.values()},
            {one.symbol: one.size for one in account.positions.values()},
            {one.asset: one.total for one in account.balances.values()},
            [] if account.margin is None else [account.margin.equity],
            account.state,
        )


HAPPENINGS = ("order", "position", "balance", "margin", "fill", "payment", "live", "down", "restart")
PASSINGS = ("beat", "beat", "read", "read", "read", "lose", "lose", "answer", "answer")
STEPS = st.lists(st.tuples(st.sampled_from(HAPPENINGS + PASSINGS), st.integers(0, 4)), max_size=80)


@given(STEPS)
@settings(max_examples=400)
def test_whatever_is_lost_the_account_is_right_or_not_usable_and_right_in_the_end(steps: list[tuple[str, int]]) -> None:
    worker = Worker()
    for step, pick in steps:
        getattr(worker, step)(pick)
    worker.losing = 0
    worker.live()
    for _ in range(4):
        for step in (worker.beat, worker.answer):
            step()
        worker.read(len(worker.under_way))
    worker.beat()
    worker.read(len(worker.under_way))
    assert worker.account.usable
    assert worker.knows() == worker.looks()


def test_lost_message_before_the_first_of_its_topic_is_missed(wire: Wire) -> None:
    wire.send(answered(StreamState.LIVE))
    wire.beat()
    wire.send(order("1"), lost=True)
    wire.send(order("2"))
    wire.beat()
    assert not (wire.looks() is None and set(wire.account.orders) == {"2"})


def test_answer_of_which_a_part_was_lost_is_no_answer(known: Wire) -> None:
    known.send(order("2"), lost=True)
    known.send(order("3"))
    for event, lost in ((order("1"), False), (order("2"), True), (order("3"), False), (position("2"), False)):
        event.flags = ("refresh",)
        known.send(event, lost=lost)
    known.send(answered(StreamState.LIVE))
    known.beat()
    assert not (known.looks() is None and set(known.account.orders) == {"3"})


def test_answer_to_somebody_else_is_no_answer(known: Wire) -> None:
    known.send(order("2"), lost=True)
    known.send(order("3"))
    known.send(answered(StreamState.LIVE))  # all that somebody is sent who subscribes to the status
    known.beat()
    assert not (known.looks() is None and set(known.account.orders) == {"3"})


# --- the feed -----------------------------------------------------------------------------------------------------


@pytest.fixture
def publisher(open_publisher, short_dir: Path) -> Publisher:
    """Account endpoint of a worker that accepts subscriptions at every acquisition."""
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
    with publisher.exclusive():
        if lost:
            feed.latest[key] = event
            feed.seq += 1
        else:
            publisher.send_latest(feed, key, event)


def beat(publisher: Publisher) -> None:
    feed = publisher.topic(Topic("heartbeat", "lighter", ""))
    with publisher.exclusive():
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

    until(lambda: feed.account("lighter").reason == "seq_gap", lambda: feed.poll(0.01))
    until(lambda: feed.account("lighter").usable, step)
    assert set(feed.account("lighter").orders) == {"1", "2"}
    assert feed.account("lighter").positions["BTC-PERP"].size == "2"
    assert feed.account("lighter").lost == 1
    assert {type(event) for event in got} >= {Status, Position, Order}


def test_feed_logs_what_it_lost_with_its_name(publisher: Publisher, open_feed, until, caplog) -> None:
    keep(publisher, "status", "account", status(StreamState.LIVE))
    keep(publisher, "order", "0", order("0"))
    feed = open_feed(name="positions")
    until(lambda: feed.account("lighter").usable, lambda: (beat(publisher), feed.poll(0.01)))
    assert publisher.consumer_names() == [feed.name] == ["positions"]
    for order_id in ("1", "2"):
        keep(publisher, "order", order_id, order(order_id), lost=True)
    beat(publisher)
    until(lambda: feed.account("lighter").lost == 2, lambda: feed.poll(0.01))
    logged = [record.fields for record in caplog.records if record.getMessage() == "feed.lost"]
    assert logged == [{"consumer": "positions", "venue": "lighter", "topic": "heartbeat.lighter", "lost": 2}]


def test_account_that_a_consumer_holds_hides_when_the_heartbeat_is_lost(
    publisher: Publisher, open_feed, until, clock
) -> None:
    keep(publisher, "status", "account", status(StreamState.LIVE))
    feed = open_feed(clock=clock)
    account = feed.account("lighter")
    until(lambda: account.usable, lambda: (beat(publisher), feed.poll()))
    until(lambda: feed.poll(0.2) is None)
    clock.advance(3.1)
    assert feed.poll() is None
    assert account.reason == "heartbeat_lost"
    until(lambda: account.usable, lambda: (beat(publisher), feed.poll()))


def test_iteration_gives_events_without_end(publisher: Publisher, open_feed, until) -> None:
    feed = open_feed()
    keep(publisher, "order", "1", order("1"))
    until(lambda: feed.account("lighter").orders, lambda: (beat(publisher), feed.poll(0.01)))
    keep(publisher, "order", "2", order("2"))
    assert isinstance(next(event for event in feed if not isinstance(event, Heartbeat)), Order)


def test_iteration_waits_for_what_comes_later(open_feed, monkeypatch) -> None:
    feed = open_feed()
    answers: Iterator[Event | None] = iter([None, order("1")])
    monkeypatch.setattr(feed, "poll", lambda _timeout_s: next(answers))
    assert isinstance(next(iter(feed)), Order)


def test_malformed_message_is_counted_and_not_delivered(publisher: Publisher, open_feed, until, logged) -> None:
    feed = open_feed()
    keep(publisher, "order", "1", order("1"))
    until(lambda: feed.account("lighter").orders, lambda: (beat(publisher), feed.poll(0.01)))
    elsewhere = order("9")
    elsewhere.venue = "aster"
    with publisher.exclusive():
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
    run_dir = RunDir(short_dir)
    venues = {
        "lighter": {"feed": run_dir.feed("lighter"), "account": run_dir.account("lighter")},
        "aster": {"feed": run_dir.feed("aster"), "account": None},
        "paradex": {"feed": run_dir.feed("paradex")},
    }
    replace_file(run_dir.description, msgspec.json.encode({"venues": venues}))
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
    listener = FeedListener(context, Network("127.0.0.1", first, str(directory) if directory else None))
    try:
        publisher.listen(listener, "lighter", account=True)
        keep(publisher, "order", "1", order("1"))
        feed = open_feed(remote=Remote("127.0.0.1", first, keys))
        row = Board.in_memory().worker(0)
        until(
            lambda: feed.account("lighter").orders,
            lambda: (listener.serve(time.monotonic_ns(), row), beat(publisher), feed.poll(0.01)),
        )
        assert row[WorkerWord.ACCOUNT_TCP] == TCP_LISTENING
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
