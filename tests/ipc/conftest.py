"""Clocks that stand still, short directories for sockets, real sockets that are closed, and events to send."""

from __future__ import annotations

import logging
import random
import shutil
import socket
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import zmq
import zmq.auth
from ports import first_free_port

from ipc.codec import decode
from ipc.events import BookDelta, BookSnapshot, Event, Level
from ipc.publisher import Publisher
from ipc.remote import ClientKeys, load_client_keys

#: Far longer than anything takes, so that only what never comes fails.
PATIENCE_S = 15.0
SECOND = 1_000_000_000


class Clock:
    """Clock in ns that the test advances."""

    def __init__(self, now_ns: int = 1_000 * SECOND) -> None:
        self.now_ns = now_ns

    def __call__(self) -> int:
        return self.now_ns

    def advance(self, seconds: float) -> None:
        self.now_ns += int(seconds * SECOND)


class Subscriber:
    """A bare SUB socket, as a consumer without our library has one."""

    def __init__(self, context: zmq.Context, endpoint: str, *prefixes: str, hwm: int = 0) -> None:
        self.socket = context.socket(zmq.SUB)
        self.socket.setsockopt(zmq.LINGER, 0)
        self.socket.setsockopt(zmq.RCVHWM, hwm)
        self.socket.setsockopt(zmq.SNDHWM, 0)  # subscriptions beyond it would be dropped without a word
        self.socket.setsockopt(zmq.RECONNECT_IVL, 5)
        self.subscribe(*prefixes)
        self.socket.connect(endpoint)

    def subscribe(self, *prefixes: str) -> None:
        for prefix in prefixes:
            self.socket.subscribe(prefix.encode())

    def waiting(self, patience_ms: int = 0) -> list[tuple[str, Event]]:
        """All that has arrived; waits up to ``patience_ms`` for the first."""
        found = []
        while self.socket.poll(0 if found else patience_ms):
            topic, payload = self.socket.recv_multipart()
            event = decode(payload)
            assert event is not None
            found.append((topic.decode(), event))
        return found


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture(scope="session")
def until() -> Callable[..., None]:
    """Turns ``step`` until ``condition`` holds; fails when it never does."""

    def wait(condition: Callable[[], object], step: Callable[[], object] = lambda: time.sleep(0.002)) -> None:
        deadline = time.monotonic() + PATIENCE_S
        while not condition():
            assert time.monotonic() < deadline, "it never came to that"
            step()

    return wait


@pytest.fixture
def short_dir() -> Iterator[Path]:
    """A private directory whose path leaves room for socket names."""
    path = Path(tempfile.mkdtemp(dir="/tmp"))
    yield path
    shutil.rmtree(path, ignore_errors=True)


@pytest.fixture
def subscriber(context: zmq.Context) -> Iterator[Callable[..., Subscriber]]:
    """Makes subscribers: ``subscriber(endpoint, "book.", "mark.")``; closes them in the end."""
    made: list[Subscriber] = []

    def make(endpoint: str, *prefixes: str, hwm: int = 0) -> Subscriber:
        made.append(Subscriber(context, endpoint, *prefixes, hwm=hwm))
        return made[-1]

    yield make
    for one in made:
        one.socket.close()


@pytest.fixture
def open_publisher(context: zmq.Context) -> Iterator[Callable[..., Publisher]]:
    """Factory of publishers: ``open_publisher(endpoint, epoch=1)``; closes them, also when their lock is held."""
    made: list[Publisher] = []

    def make(endpoint: str, epoch: int = 1, **options: object) -> Publisher:
        made.append(Publisher(context, endpoint, epoch, **options))  # type: ignore[arg-type]
        return made[-1]

    yield make
    for one in made:
        one._socket.close()


@pytest.fixture
def curve(tmp_path: Path) -> tuple[Path, ClientKeys]:
    """A server's directory of keys, and the keys of its one client."""
    (tmp_path / "clients").mkdir()
    zmq.auth.create_certificates(tmp_path, "server")
    zmq.auth.create_certificates(tmp_path / "clients", "desk")
    for secret in tmp_path.rglob("*.key_secret"):
        secret.chmod(0o600)
    return tmp_path, load_client_keys(tmp_path / "server.key", tmp_path / "clients" / "desk.key_secret")


@pytest.fixture
def first_port() -> int:
    """First of some free ports in a row, outside the range from which the kernel takes those of connections."""
    return first_free_port(32, random.sample(range(10_000, 19_900, 33), 100))


@pytest.fixture
def free_port() -> int:
    """A port of TCP that nobody listens on."""
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


@pytest.fixture(scope="session")
def snapshot_of() -> Callable[..., BookSnapshot]:
    """Makes snapshots of lighter's BTC-PERP."""

    def make(bids: list[Level], asks: list[Level], *flags: str, symbol: str = "BTC-PERP") -> BookSnapshot:
        event = BookSnapshot("lighter", symbol, "1", None, bids, asks, None, None)
        event.flags = flags  # type: ignore[assignment]
        return event

    return make


@pytest.fixture(scope="session")
def delta_of() -> Callable[..., BookDelta]:
    """Makes changes of lighter's BTC-PERP."""

    def make(bids: list[Level], asks: list[Level], symbol: str = "BTC-PERP") -> BookDelta:
        return BookDelta("lighter", symbol, "1", None, bids, asks, None, None)

    return make


class Records(logging.Handler):
    """Keeps what was logged."""

    def __init__(self) -> None:
        super().__init__()
        self.records: list[logging.LogRecord] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.records.append(record)

    @property
    def events(self) -> list[str]:
        return [record.getMessage() for record in self.records]


@pytest.fixture
def logged() -> Iterator[Records]:
    """What the package logs during the test."""
    handler = Records()
    logger = logging.getLogger("ipc")
    level = logger.level
    logger.addHandler(handler)
    logger.setLevel(logging.DEBUG)
    yield handler
    logger.removeHandler(handler)
    logger.setLevel(level)
