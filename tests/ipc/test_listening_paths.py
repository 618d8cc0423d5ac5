"""Endpoints in a run directory: they outlive the loss of their path, and never remove another's."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest
import zmq

from ipc.errors import ParaphinaError
from ipc.listening import ListeningSocket
from ipc.watched_files import identity_of


@pytest.fixture
def path(short_dir: Path) -> Path:
    return short_dir / "lighter.feed"


@pytest.fixture
def publisher(context: zmq.Context):
    with context.socket(zmq.XPUB) as publisher:
        publisher.linger = 0
        yield publisher


@pytest.fixture
def endpoint(publisher, path: Path) -> ListeningSocket:
    return ListeningSocket(publisher, f"ipc://{path}")


@pytest.fixture
def connect(context: zmq.Context, publisher, path: Path):
    """Connect a subscriber, and wait until the publisher knows it."""
    made = []

    def connect() -> zmq.Socket:
        made.append(context.socket(zmq.SUB))
        made[-1].linger, made[-1].reconnect_ivl = 0, 5
        made[-1].subscribe(str(len(made)).encode())
        made[-1].connect(f"ipc://{path}")
        assert publisher.poll(15_000)
        publisher.recv()
        return made[-1]

    yield connect
    for one in made:
        one.close()


def received(subscriber: zmq.Socket) -> bytes:
    assert subscriber.poll(15_000)
    return subscriber.recv()


def listen(path: Path) -> socket.socket:
    other = socket.socket(socket.AF_UNIX)
    other.bind(str(path))
    return other


def test_path_that_was_lost_is_bound_again_and_subscribers_stay(publisher, endpoint, path, connect) -> None:
    first = connect()
    assert endpoint.is_intact
    path.unlink()
    assert not endpoint.is_intact
    endpoint.bind()
    assert endpoint.is_intact
    second = connect()
    publisher.send(b"1 to the first")
    publisher.send(b"2 to the second")
    assert (received(first), received(second)) == (b"1 to the first", b"2 to the second")


def test_path_that_another_took_is_taken_back_by_binding_only(publisher, endpoint, path) -> None:
    path.unlink()
    with listen(path):
        others = identity_of(path)
        assert not endpoint.is_intact
        publisher.unbind(f"ipc://{path}")
        assert identity_of(path) == others
        endpoint.bind()
        assert endpoint.is_intact


def test_end_removes_the_path(endpoint, path) -> None:
    endpoint.close()
    assert not path.exists()


def test_end_leaves_a_path_that_another_took(endpoint, path) -> None:
    path.unlink()
    with listen(path):
        endpoint.close()
        assert path.is_socket()


@pytest.mark.parametrize("left", ["socket", "file"])
def test_what_a_dead_process_left_is_replaced(publisher, path, left: str) -> None:
    if left == "socket":
        listen(path).close()
    else:
        path.touch()
    assert ListeningSocket(publisher, f"ipc://{path}").is_intact


@pytest.mark.parametrize("other", ["link", "directory", "missing directory", "too long"])
def test_what_is_not_ours_is_an_error_and_stays(publisher, path, other: str) -> None:
    if other == "link":
        path.symlink_to("/dev/null")
    elif other == "directory":
        path.mkdir()
    else:
        path = path / "below" if other == "missing directory" else path.with_name("x" * 120)
    before = identity_of(path)
    with pytest.raises(ParaphinaError, match="the feed cannot be bound: ") as refused:
        ListeningSocket(publisher, f"ipc://{path}")
    assert refused.value.where == f"ipc://{path}"
    assert identity_of(path) == before
    assert publisher.closed


def test_descriptors_of_lost_paths_do_not_accumulate(publisher, endpoint, path, connect, until) -> None:
    descriptors = Path("/proc/self/fd")
    before = len(list(descriptors.iterdir()))
    for _ in range(60):
        path.unlink()
        endpoint.bind()
    until(lambda: len(list(descriptors.iterdir())) < before + 40)  # ZeroMQ's own thread closes them
    subscriber = connect()
    publisher.send(b"1")
    assert received(subscriber) == b"1"


def test_path_is_open_to_local_readers_although_tcp_is_encrypted(publisher, endpoint, path, connect) -> None:
    if not zmq.has("curve"):
        pytest.skip("libzmq without CURVE")
    publisher.curve_publickey, publisher.curve_secretkey = zmq.curve_keypair()
    publisher.curve_server = True
    path.unlink()
    endpoint.bind()
    subscriber = connect()
    publisher.send(b"1")
    assert received(subscriber) == b"1"
    assert publisher.mechanism == zmq.CURVE, "the next TCP endpoint is encrypted"


def test_endpoint_without_a_path_is_always_intact(context: zmq.Context) -> None:
    with context.socket(zmq.XPUB) as publisher:
        endpoint = ListeningSocket(publisher, "inproc://feed")
        assert (endpoint.path, endpoint.is_intact) == (None, True)
        endpoint.close()
