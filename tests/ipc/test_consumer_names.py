"""Names of consumers: what they may be, and how a publisher counts them."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest
import zmq

from ipc import consumer_names
from ipc.accounts import AccountFeed
from ipc.aio import AsyncFeed
from ipc.consumer_names import MAX_NAMES, ConsumerNames, checked_name, default_name, name_of
from ipc.consumers import ConsumerDescription
from ipc.errors import FeedError
from ipc.feed import Feed
from ipc.publisher import Publisher

PID = os.getpid()


@pytest.mark.parametrize(
    ("argument", "name"),
    [
        ("/opt/desk/quoter.py", "quoter"),
        ("quoter", "quoter"),
        ("/opt/desk/hedger/__main__.py", "hedger"),
        ("-c", "python"),
        ("", "python"),
        ("/opt/my quoter/é\x1b[31m quoter.py", "_31m_quoter"),
        ("x" * 300, "x" * 48),
    ],
)
def test_a_name_is_the_program_with_its_pid_by_default(monkeypatch, argument: str, name: str) -> None:
    monkeypatch.setattr(sys, "argv", [argument])
    assert default_name() == checked_name(None) == f"{name}-{PID}"
    assert checked_name(default_name()) == default_name()


def test_without_arguments_there_is_a_name_too(monkeypatch) -> None:
    monkeypatch.setattr(sys, "argv", [])
    assert default_name() == f"python-{PID}"


@pytest.mark.parametrize("name", ["quoter", "q", "A.b_c-9", "x" * 64])
def test_a_name_that_is_one(name: str) -> None:
    assert checked_name(name) == name


@pytest.mark.parametrize("name", ["", "x" * 65, "my quoter", "quoter\n", "é", "\x1b[31m", "a/b", b"quoter", 7])
def test_a_name_that_is_none(name: object, short_dir: Path) -> None:
    with pytest.raises(FeedError, match="no name for a consumer"):
        checked_name(name)  # type: ignore[arg-type]
    for kind in (Feed, AsyncFeed, AccountFeed):
        with pytest.raises(FeedError, match="no name for a consumer"):
            kind(short_dir, name=name)  # type: ignore[arg-type]


def names_after(*topics: tuple[bytes, bool]) -> tuple[list[str], int]:
    names = ConsumerNames()
    for topic, is_new in topics:
        names.update(b"consumer." + topic, is_new=is_new)
    return names.names(), names.changes


def test_a_name_stays_until_the_last_consumer_of_it_leaves() -> None:
    one, other = (b"quoter", True), (b"hedger", True)
    assert names_after(one, other, one) == (["hedger", "quoter"], 2)
    assert names_after(one, one, (b"quoter", False)) == (["quoter"], 1)
    assert names_after(one, one, (b"quoter", False), (b"quoter", False)) == ([], 2)


def test_what_is_no_name_of_ours_is_ignored_with_its_end() -> None:
    for topic in (b"", b"\xff\xfe", b"\x1b[31m", b"a b", b"x" * 65):
        assert names_after((topic, True), (topic, False), (topic, False)) == ([], 0)


def test_the_number_of_names_is_bounded() -> None:
    names = ConsumerNames()
    for number in range(3 * MAX_NAMES):
        names.update(b"consumer.n%d" % number, is_new=True)
    assert len(names.names()) == MAX_NAMES
    names.update(b"consumer.n0", is_new=True)  # known: counted once more
    for number in range(3 * MAX_NAMES):
        names.update(b"consumer.n%d" % number, is_new=False)
    assert names.names() == ["n0"]


# --- with sockets -----------------------------------------------------------------------------------------------------


@pytest.fixture
def publisher(open_publisher, short_dir: Path) -> Publisher:
    return open_publisher(f"ipc://{short_dir}/lighter.feed", epoch=7)


@pytest.fixture
def names(publisher: Publisher, until) -> Callable[[list[str]], None]:
    """Wait until the publisher has exactly these names."""

    def wait(wanted: list[str]) -> None:
        def acquire() -> None:
            with publisher.exclusive():
                pass

        until(lambda: publisher.consumer_names() == wanted, acquire)

    return wait


def test_feeds_are_known_by_their_names_while_they_are_there(names, short_dir: Path) -> None:
    with Feed(short_dir, venues=["lighter"], name="quoter") as quoter:
        names(["quoter"])
        with Feed(short_dir, venues=["lighter"], name="quoter"), Feed(short_dir, venues=["lighter"]) as other:
            names(sorted(["quoter", other.name]))
            assert other.name == default_name()
        names(["quoter"])
        assert quoter.name == "quoter"
    names([])


def test_a_consumer_that_vanishes_is_forgotten_and_a_name_of_two_stays_for_one(
    names, short_dir: Path, forking_consumer
) -> None:
    with Feed(short_dir, venues=["lighter"], name="quoter"):
        process = forking_consumer("quoter")
        names(["quoter"])
        process.kill()
        process.wait()
        names(["quoter"])
    names([])


@pytest.fixture
def forking_consumer(short_dir: Path):
    """Start a consumer in a process of its own, and wait until it is connected."""
    started = []

    def start(name: str) -> subprocess.Popen[bytes]:
        program = f"""
import sys, zmq
from ipc.feed import Feed
feed = Feed({str(short_dir)!r}, venues=["lighter"], name={name!r})
print("ready", flush=True)
while True:
    feed.poll(1.0)
"""
        process = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE)
        started.append(process)
        assert process.stdout is not None
        process.stdout.readline()
        return process

    yield start
    for process in started:
        process.kill()
        process.wait()
        process.stdout.close()


def test_a_name_is_no_subscription_and_causes_no_work(
    publisher: Publisher, names, short_dir: Path, monkeypatch
) -> None:
    applied: list[bytes] = []
    monkeypatch.setattr(publisher, "_set", lambda _, prefix: applied.append(prefix))
    context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
    socket = context.socket(zmq.SUB)
    socket.subscribe(b"consumer.quoter")
    socket.connect(f"ipc://{short_dir}/lighter.feed")
    names(["quoter"])
    assert (applied, publisher.subscriptions, publisher._refreshes.due_ns) == ([], 0, None)
    socket.close()
    names([])
    context.term()
    assert (applied, publisher.subscriptions) == ([], 0)


# --- the description --------------------------------------------------------------------------------------------------


def test_names_are_described_when_they_change_and_at_most_once_a_second() -> None:
    names = ConsumerNames()
    described: list[list[str]] = []
    publisher = SimpleNamespace(consumers=names, consumer_names=names.names)
    report = ConsumerDescription([publisher], lambda: described.append(report.names))  # type: ignore[arg-type]
    second = 1_000_000_000
    for number in range(40):  # ten seconds
        now = 100 * second + number * second // 4
        if number < 12:
            names.update(b"consumer.c%d" % number, is_new=True)
        report.update(now)
    assert [len(one) for one in described] == [1, 5, 9, 12]


def test_a_name_that_came_and_went_within_a_second_is_not_described() -> None:
    names = ConsumerNames()
    described: list[list[str]] = []
    publisher = SimpleNamespace(consumers=names, consumer_names=names.names)
    report = ConsumerDescription([publisher], lambda: described.append(report.names))  # type: ignore[arg-type]
    for is_new in (True, False):
        names.update(b"consumer.top-1", is_new=is_new)
    report.update(1)
    assert described == []


def test_names_at_all_publishers_of_a_process_are_described_each_once() -> None:
    market_data, account = ConsumerNames(), ConsumerNames()
    described: list[list[str]] = []
    publishers = [SimpleNamespace(consumers=names, consumer_names=names.names) for names in (market_data, account)]
    report = ConsumerDescription(publishers, lambda: described.append(report.names))  # type: ignore[arg-type]
    market_data.update(b"consumer.quoter", is_new=True)
    for name in (b"consumer.quoter", b"consumer.books"):
        account.update(name, is_new=True)
    report.update(1)
    account.update(b"consumer.quoter", is_new=False)
    report.update(2_000_000_000)
    account.update(b"consumer.books", is_new=False)
    report.update(4_000_000_000)
    assert described == [["books", "quoter"], ["quoter"]]


def test_names_may_be_read_while_others_change_them(publisher: Publisher) -> None:
    stop = threading.Event()

    def change() -> None:
        number = 0
        while not stop.is_set():
            with publisher.exclusive():
                publisher.consumers.update(b"consumer.c%d" % (number % 500), is_new=True)
            number += 1

    thread = threading.Thread(target=change)
    thread.start()
    for _ in range(200):
        found = publisher.consumer_names()
        assert found == sorted(found)
    stop.set()
    thread.join()


def test_a_program_of_ours_has_its_verb_in_its_name() -> None:
    assert name_of("tail") == f"tail-{PID}"
    assert consumer_names.TOPIC_PREFIX == b"consumer."
