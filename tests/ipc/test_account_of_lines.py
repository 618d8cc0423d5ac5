"""Accounts of two lines: fills once by id over both, and the state of the line whose session is live."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from two_lines import VENUE, leaping

from ipc.accounts import AccountFeed
from ipc.errors import FeedError
from ipc.events import Balance, Event, Fill, Heartbeat, Lifecycle, Order, Payment, Status
from ipc.health import Reason, Stream, StreamState
from ipc.lines import Line, process_of
from ipc.listener import FeedListener
from ipc.publisher import Publisher
from ipc.remote import Network, PortPair, Remote
from ipc.rundir import RunDir
from ipc.systems import directory_event, tcp_ports
from ipc.topics import Topic

WHO = (VENUE, "BTC-PERP", "1", None, "desk")


class LineOfAccount:
    """Worker of one line with an account."""

    def __init__(self, publisher: Publisher) -> None:
        self.publisher = publisher

    def state(self, state: StreamState, reason: Reason | None = None) -> None:
        event = Status(VENUE, None, None, None, Stream.ACCOUNT, state, None, reason, 1, None, 7, {})
        self._send_latest("status", "", "account", event)

    def balance(self, total: str) -> None:
        self._send_latest("balance", "desk", "USDC", Balance(VENUE, None, None, None, "desk", "USDC", total, None))

    def order(self, order_id: str) -> None:
        order = Order(*WHO, order_id, None, "buy", "1", "2", "0", "open", "open", "limit", False)
        self._send_latest("order", "desk", order_id, order)

    def live(self, total: str) -> None:
        """Publish what there is after a login."""
        self.balance(total)
        self.state(StreamState.LIVE)

    def fill(self, fill_id: str) -> None:
        self._send("fill", "desk", Fill(*WHO, fill_id, "1", "buy", "1", "2", None, None, None))

    def payment(self, payment_id: str) -> None:
        self._send("payment", "desk", Payment(*WHO, payment_id, "USDC", "-1", "funding"))

    def beat(self) -> None:
        with self.publisher.exclusive():
            seqs = self.publisher.last_seqs()
        self._send("heartbeat", "", Heartbeat(VENUE, None, None, None, seqs, {}, 0, 0))

    def _send(self, channel: str, symbol: str, event: Event) -> None:
        feed = self.publisher.topic(Topic(channel, VENUE, symbol))
        with self.publisher.exclusive():
            self.publisher.send(feed, event)

    def _send_latest(self, channel: str, symbol: str, key: str, event: Event) -> None:
        feed = self.publisher.topic(Topic(channel, VENUE, symbol))
        with self.publisher.exclusive():
            self.publisher.send_latest(feed, key, event)


class AccountSystem:
    """System that follows lighter's account on two lines, a of which has the duty."""

    def __init__(self, run_dir: RunDir, open_publisher: Callable[..., Publisher]) -> None:
        run_dir.prepare()
        self.run_dir = run_dir
        self.lines: dict[Line, LineOfAccount] = {}
        for line in ("a", "b"):
            endpoint = run_dir.account(process_of(VENUE, line))
            publisher = open_publisher(endpoint, monotonic=leaping(), refresh_ns=0, line=line)
            self.lines[line] = LineOfAccount(publisher)
        self.lifecycle = open_publisher(run_dir.feed("lifecycle"), monotonic=leaping(), refresh_ns=0)
        self.lines["a"].live("10")
        self.lines["b"].state(StreamState.OFF)

    def describe(self, *lines: Line) -> None:
        documents = {
            line: {
                "feed": self.run_dir.feed(process_of(VENUE, line)),
                "account": self.run_dir.account(process_of(VENUE, line)),
            }
            for line in ("a", *lines)
        }
        document = {**documents["a"], **({"lines": documents} if lines else {})}
        self.run_dir.write_description({"venues": {VENUE: document}})

    def turn(self) -> None:
        for publisher in (self.lifecycle, *(line.publisher for line in self.lines.values())):
            if not publisher._socket.closed:
                with publisher.exclusive():
                    pass


@pytest.fixture
def system(short_dir: Path, open_publisher) -> AccountSystem:
    system = AccountSystem(RunDir(short_dir / "one"), open_publisher)
    system.describe("b")
    return system


@pytest.fixture
def open_feed(context) -> Iterator[Callable[..., AccountFeed]]:
    made: list[AccountFeed] = []

    def make(*arguments: object, **options: object) -> AccountFeed:
        made.append(AccountFeed(*arguments, context=context, name="books", **options))  # type: ignore[arg-type]
        return made[-1]

    yield make
    for feed in made:
        feed.close()


@pytest.fixture
def read(until) -> Callable[..., list[Event]]:
    """Read a feed, with turns of its systems, until a condition holds; return the events but for heartbeats."""

    def read(feed: AccountFeed, condition: Callable[[], object], *systems: AccountSystem) -> list[Event]:
        got: list[Event] = []

        def step() -> None:
            for one in systems:
                one.turn()
            while (event := feed.poll(0.005)) is not None:
                got.append(event)

        until(condition, step)
        step()
        return [event for event in got if not isinstance(event, Heartbeat)]

    return read


@pytest.fixture
def feed(system, open_feed, read, clock) -> AccountFeed:
    """Feed of both lines that has read what there is; its clock stands still."""
    feed = open_feed(system.run_dir.path, clock=clock)
    read(feed, lambda: feed.account(VENUE).usable and all_joined(system), system)
    return feed


def all_joined(system: AccountSystem) -> bool:
    return all(line.publisher.consumer_names() == ["books"] for line in system.lines.values())


def balance_of(feed: AccountFeed) -> str:
    return feed.account(VENUE).balances["USDC"].total


def test_the_line_whose_session_is_live_is_shown(system, feed) -> None:
    desk = feed.account(VENUE)
    assert (str(desk.source), desk.name, desk.state, balance_of(feed)) == (":a", "desk", "live", "10")


def test_fills_and_payments_of_both_lines_are_delivered_once(system, feed, read) -> None:
    a, b = system.lines["a"], system.lines["b"]
    for line, fill_id in ((a, "1"), (b, "1"), (b, "2"), (a, "2"), (a, "3")):
        line.fill(fill_id)
        line.payment(fill_id)
    got = read(feed, lambda: feed.account(VENUE).repeated == 4, system)
    assert sorted(event.fill_id for event in got if isinstance(event, Fill)) == ["1", "2", "3"]
    assert sorted(event.payment_id for event in got if isinstance(event, Payment)) == ["1", "2", "3"]


def test_state_of_the_line_that_is_not_shown_is_not_delivered(system, feed, read) -> None:
    system.lines["b"].state(StreamState.CONNECTING)
    system.lines["b"].balance("999")
    system.lines["a"].balance("11")
    got = read(feed, lambda: balance_of(feed) == "11", system)
    assert [(type(event), event.line) for event in got] == [(Balance, "a")]


def test_a_change_of_duty_has_no_moment_without_an_account(system, feed, read) -> None:
    desk = feed.account(VENUE)
    b = system.lines["b"]
    b.order("7")
    b.live("12")
    assert read(feed, lambda: desk._states[1].usable, system) == []
    system.lines["a"].state(StreamState.BACKOFF, Reason.SERVER_CLOSE)
    seen: list[bool] = []
    got = read(feed, lambda: seen.append(desk.usable) or balance_of(feed) == "12", system)
    assert all(seen)
    assert [(type(event), event.line) for event in got] == [(Order, "b"), (Balance, "b"), (Status, "b")]
    assert {"refresh"} == {flag for event in got for flag in event.flags}
    assert (desk is feed.account(VENUE), str(desk.source), list(desk.open_orders)) == (True, ":b", ["7"])
    system.lines["a"].live("13")
    read(feed, lambda: desk._states[0].usable, system)
    assert str(desk.source) == ":b"  # no way back by itself


def test_a_session_that_ends_before_the_other_begins_is_reported(system, feed, read) -> None:
    desk = feed.account(VENUE)
    system.lines["a"].state(StreamState.BACKOFF, Reason.SERVER_CLOSE)
    (status,) = read(feed, lambda: not desk.usable, system)
    assert (status.state, desk.reason) == ("backoff", "server_close")
    system.lines["b"].live("12")
    got = read(feed, lambda: desk.usable, system)
    assert [type(event) for event in got] == [Balance, Status]


def test_a_line_that_dies_is_noticed_by_its_connection(system, feed, read) -> None:
    desk = feed.account(VENUE)
    system.lines["b"].live("12")
    read(feed, lambda: desk._states[1].usable, system)
    system.lines["a"].fill("9")
    feed._links.links[0].socket.poll(10_000)
    system.lines["a"].publisher.close()
    got = read(feed, lambda: str(desk.source) == ":b")
    assert [type(event) for event in got] == [Fill, Balance, Status]
    assert desk.usable


def test_a_loss_is_requested_of_the_line_that_had_it(system, feed, read) -> None:
    sent = {line: of.publisher.topic(Topic("balance", VENUE, "desk")) for line, of in system.lines.items()}
    system.lines["b"].live("6")
    read(feed, lambda: feed.account(VENUE)._states[1].usable, system)
    before = sent["a"].seq
    sent["b"].seq += 1
    system.lines["b"].balance("7")
    last = sent["b"].seq
    read(feed, lambda: sent["b"].seq > last, system)
    assert (sent["a"].seq, feed.account(VENUE).lost) == (before, 1)


def test_a_line_that_appears_later_joins(short_dir: Path, open_publisher, open_feed, read) -> None:
    system = AccountSystem(RunDir(short_dir / "one"), open_publisher)
    system.describe()
    feed = open_feed(system.run_dir.path)
    read(feed, lambda: feed.account(VENUE).usable, system)
    assert system.lines["b"].publisher.consumer_names() == []
    system.describe("b")
    started = Lifecycle("lighter.b", None, None, None, "started", None, 7, 1, None, None, None, 0, 0, None)
    topic = system.lifecycle.topic(Topic("lifecycle", "lighter.b", ""))
    with system.lifecycle.exclusive():
        system.lifecycle.send_latest(topic, "lifecycle", started)
    assert not any(isinstance(event, Lifecycle) for event in read(feed, lambda: all_joined(system), system))


def test_accounts_of_two_systems(system, short_dir: Path, open_publisher, open_feed, read) -> None:
    other = AccountSystem(RunDir(short_dir / "two"), open_publisher)
    other.describe()
    feed = open_feed([system.run_dir.path, other.run_dir.path])
    read(feed, lambda: feed.account(VENUE).usable and len(feed.account(VENUE)._states) == 3, system, other)
    assert str(feed.account(VENUE).source) == "h1:a"
    with pytest.raises(FeedError, match=r"h2:b: no such source in this feed; it has h1:a, h1:b, h2:a"):
        feed.connection(VENUE, "h2:b")


def test_the_directory_of_a_remote_system_leads_to_its_lines(system, open_feed, read, context, first_port) -> None:
    network = Network("127.0.0.1", first_port, None, {"lighter.b": PortPair(first_port + 20, first_port + 21)})
    listener = FeedListener(context, network)
    for line, worker in system.lines.items():
        worker.publisher.listen(listener, process_of(VENUE, line), account=True)
    system.lifecycle.listen(listener, "lifecycle")
    documents = {
        line: {
            "tcp": network.endpoint(process_of(VENUE, line)),
            "account_tcp": network.endpoint(process_of(VENUE, line), account=True),
        }
        for line in ("a", "b")
    }
    ports = tcp_ports({"venues": {VENUE: {**documents["a"], "lines": documents}}})
    topic = system.lifecycle.topic(Topic("lifecycle", "directory", ""))
    with system.lifecycle.exclusive():
        system.lifecycle.send_latest(topic, "lifecycle", directory_event(ports, 1, 1))
    feed = open_feed(remote=Remote("127.0.0.1", first_port), venues=[VENUE])
    read(feed, lambda: feed.account(VENUE).usable and all_joined(system), system)
    assert str(feed.connection(VENUE, ":b")) == "connected"
    listener.close()
