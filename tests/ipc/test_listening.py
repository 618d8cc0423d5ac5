"""Listening sockets: lost socket files, refused peers, and limited messages; on real sockets."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest
import zmq

from ipc import listening
from ipc.descriptors import count_open
from ipc.errors import ParaphinaError
from ipc.listening import MAX_MESSAGE, ListeningSocket
from ipc.publisher import Publisher
from tests.support.zmtp import long_subscription, zmtp_subscriber

FEED = "lighter.feed"


class Sender:
    """XPUB socket on a Unix and a TCP endpoint, whose messages show who is connected."""

    def __init__(self, context: zmq.Context, path: Path, port: int) -> None:
        self.socket = context.socket(zmq.PUB)
        self.socket.setsockopt(zmq.LINGER, 0)
        self.path = path
        self.ipc, self.tcp = f"ipc://{path}", f"tcp://127.0.0.1:{port}"
        self.listening = ListeningSocket(self.socket, self.ipc)
        self.listening.bind_tcp(self.tcp)

    def reaches(self, *readers) -> bool:
        """Send a message; return whether all readers receive it soon, and drop the rest of what they received."""
        self.socket.send(b"x")
        reached = [bool(reader.socket.poll(20)) for reader in readers]
        for reader in readers:
            while reader.socket.poll(0):
                reader.socket.recv()
        return all(reached)


@pytest.fixture
def sender(context: zmq.Context, short_dir: Path, free_port: int) -> Iterator[Sender]:
    made = Sender(context, short_dir / FEED, free_port)
    yield made
    made.listening.close()


def test_nobody_joins_while_peers_are_refused_and_connected_ones_go_on(
    sender: Sender, subscriber, until: Callable[..., None]
) -> None:
    early = [subscriber(sender.ipc, ""), subscriber(sender.tcp, "")]
    until(lambda: sender.reaches(*early))
    sender.listening.refuse_peers()
    late = [subscriber(sender.ipc, ""), subscriber(sender.tcp, "")]
    for _ in range(20):
        assert sender.reaches(*early)
    assert not any(reader.socket.poll(0) for reader in late)
    sender.listening.accept_peers()
    until(lambda: sender.reaches(*early, *late))


def test_refusing_twice_and_accepting_twice_changes_nothing(sender: Sender, subscriber, until) -> None:
    for _ in range(2):
        sender.listening.refuse_peers()
    assert not sender.path.exists()
    for _ in range(2):
        sender.listening.accept_peers()
    readers = [subscriber(sender.ipc, ""), subscriber(sender.tcp, "")]
    until(lambda: sender.reaches(*readers))


@pytest.mark.parametrize("found", [None, b"of somebody else"])
def test_lost_socket_file_is_bound_again_and_nobody_is_disconnected(
    sender: Sender, subscriber, until, found: bytes | None
) -> None:
    early = subscriber(sender.ipc, "")
    until(lambda: sender.reaches(early))
    assert sender.listening.is_intact
    sender.path.unlink()
    if found is not None:
        sender.path.write_bytes(found)
    assert not sender.listening.is_intact
    sender.listening.bind()
    assert sender.listening.is_intact
    assert sender.reaches(early)
    late = subscriber(sender.ipc, "")
    until(lambda: sender.reaches(early, late))


def test_socket_file_is_not_lost_while_peers_are_refused(sender: Sender) -> None:
    sender.listening.refuse_peers()
    assert sender.listening.is_intact
    sender.path.write_bytes(b"")  # of somebody else
    sender.listening.accept_peers()
    assert not sender.listening.is_intact


def test_next_process_removes_what_one_that_refused_peers_left(sender: Sender, context) -> None:
    sender.listening.refuse_peers()
    following = ListeningSocket(context.socket(zmq.PUB), sender.ipc)
    assert [path.name for path in sender.path.parent.iterdir()] == [FEED]
    following.close()
    assert not [*sender.path.parent.iterdir()]


def test_closing_removes_no_file_of_another_process(sender: Sender, context) -> None:
    following = ListeningSocket(context.socket(zmq.PUB), sender.ipc)
    sender.listening.close()
    assert following.is_intact
    following.close()


def test_closed_socket_listens_no_longer(context, short_dir: Path, free_port: int, until) -> None:
    sender = Sender(context, short_dir / FEED, free_port)
    assert sender.listening._tcp
    sender.listening.close()

    def is_free() -> bool:
        with socket.socket() as other:
            other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            return other.connect_ex(("127.0.0.1", free_port)) != 0

    until(is_free)


def test_publisher_reports_a_directory_that_is_gone(open_publisher, short_dir: Path) -> None:
    publisher: Publisher = open_publisher(f"ipc://{short_dir}/sub.feed")
    (short_dir / "sub.feed").unlink()
    short_dir.rename(moved := short_dir.with_name(f"{short_dir.name}-moved"))
    try:
        with pytest.raises(ParaphinaError, match="cannot be bound"):
            publisher.relisten()
        assert not publisher.is_intact
    finally:
        moved.rename(short_dir)
    publisher.relisten()
    assert publisher.is_intact


def test_looking_for_the_tcp_listener_leaves_no_descriptor_open(context, short_dir: Path, free_port: int) -> None:
    sender = Sender(context, short_dir / FEED, free_port)
    before = count_open()
    with Path(os.devnull).open("rb"):
        sender.listening.refuse_peers()
        sender.listening.accept_peers()
        assert listening._tcp_listener(sender.tcp) is not None
        assert listening._tcp_listener("tcp://127.0.0.1:1") is None
    assert count_open() == before
    sender.listening.close()


def test_peer_that_sends_too_much_is_disconnected_each_time_and_memory_stays(sender: Sender, subscriber, until) -> None:
    """Without the limit this process grows by all that is sent."""
    healthy = subscriber(sender.ipc, "")
    until(lambda: sender.reaches(healthy))
    memory = psutil.Process(os.getpid()).memory_info
    before = memory().rss
    for _ in range(4):
        with zmtp_subscriber(sender.path) as flood:
            flood.sendall(long_subscription(30_000_000)[:9])
            with pytest.raises(ConnectionError):
                flood.sendall(bytes(30_000_000))
        assert sender.reaches(healthy)
    assert memory().rss - before < 15_000_000


def test_longest_subscription_that_a_peer_may_send_is_accepted(sender: Sender, subscriber, until) -> None:
    topic = "x" * (MAX_MESSAGE - 200)
    reader = subscriber(sender.ipc, topic)

    def is_reached() -> bool:
        sender.socket.send(topic.encode())
        return bool(reader.socket.poll(20))

    until(is_reached)
