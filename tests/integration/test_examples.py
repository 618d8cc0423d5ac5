"""The examples without our library, held to the rules of docs/consumers.md by a worker that misbehaves on purpose."""

from __future__ import annotations

import os
import queue
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from itertools import count
from pathlib import Path

import pytest
import zmq

from ipc.events import BookDelta, BookSnapshot, Heartbeat, HeartbeatBook
from ipc.orderbook import OrderBook
from ipc.publisher import Publisher
from ipc.rundir import RunDir
from ipc.topics import Topic

pytestmark = pytest.mark.integration

ROOT = Path(__file__).parents[2]
BTC = ("lighter", "BTC-PERP")
PATIENCE_S = 30.0


class Worker:
    """A worker of one book, which is what late subscribers and those who ask are sent while it ``answers``."""

    def __init__(self, run_dir: Path, epoch: int) -> None:
        ticks = count(1)
        self.context: zmq.Context = zmq.Context()
        endpoint = RunDir(run_dir).feed("lighter")
        self.publisher = Publisher(self.context, endpoint, epoch, monotonic=lambda: next(ticks) * 2_000_000_000)
        self.feed = self.publisher.topic(Topic("book", *BTC))
        self.beats = self.publisher.topic(Topic("heartbeat", "lighter", ""))
        self.book = OrderBook()
        self.book.apply([("99.50", "1")], [("100", "1")])
        self.answers = True
        self.feed.snapshot = lambda: self.snapshot() if self.answers else None

    def snapshot(self) -> BookSnapshot:
        event = BookSnapshot(*BTC, "1", None, self.book.bids(), self.book.asks(), None, None)
        event.flags = ("refresh",)
        return event

    def change(self, price: str, size: str) -> None:
        self.book.apply([(price, size)], [])
        with self.publisher.exclusive():
            self.publisher.send(self.feed, BookDelta(*BTC, "1", None, [(price, size)], [], None, None))

    def beat(self, *, usable: bool = True, error: int = 0) -> None:
        with self.publisher.exclusive():
            checksum = self.book.crc32_top10() + error
            books = {"BTC-PERP": HeartbeatBook(self.feed.seq, None, usable, 0, checksum)}
            beat = Heartbeat("lighter", None, None, None, self.publisher.last_seqs(), books, 0, 0)
            self.publisher.send(self.beats, beat)

    def close(self) -> None:
        self.publisher.close()
        self.context.term()


class Reader:
    """An example that runs, and what it prints: the best bid."""

    def __init__(self, command: list[str], run_dir: Path) -> None:
        command = [*command, str(run_dir), *BTC]
        env = {**os.environ, "PYTHONPATH": ""}
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=env)
        self.lines: queue.SimpleQueue[str] = queue.SimpleQueue()
        self.thread = threading.Thread(target=self.read)
        self.thread.start()

    def read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.lines.put(line)

    def best(self, worker: Worker, *, beats: bool = False) -> str:
        """The next best bid that it shows, while the worker goes on, with or without heartbeats."""
        deadline = time.monotonic() + PATIENCE_S
        while time.monotonic() < deadline:
            with worker.publisher.exclusive():
                pass
            if beats:
                worker.beat()
            try:
                line = self.lines.get(timeout=0.05)
            except queue.Empty:
                continue
            return line.replace("('", "").partition(" ")[0].rstrip("',")
        raise AssertionError("it showed nothing")

    def close(self) -> None:
        self.process.kill()
        self.process.wait()
        self.thread.join()
        assert self.process.stdout is not None
        self.process.stdout.close()


@pytest.fixture
def run_dir():
    path = Path(tempfile.mkdtemp(dir="/tmp"))
    yield path
    shutil.rmtree(path, ignore_errors=True)


@pytest.fixture(params=["plain_consumer.py", "reader.mjs"])
def reader(request, run_dir):
    """An example that shows the worker's book."""
    source = ROOT / "examples" / request.param
    if request.param.endswith(".py"):
        command = [sys.executable, str(source)]
    else:
        shutil.copy(source, run_dir)
        (run_dir / "node_modules").symlink_to(request.getfixturevalue("node_modules"))
        command = ["node", str(run_dir / source.name)]
    reader = Reader(command, run_dir)
    yield reader
    reader.close()


@pytest.fixture
def worker(run_dir):
    worker = Worker(run_dir, 10)
    yield worker
    worker.close()


def test_heartbeat_that_agrees_leaves_the_book_alone(worker, reader):
    assert reader.best(worker) == "99.50"
    worker.change("99.60", "1.0")
    worker.beat()
    worker.change("99.70", "1")
    assert [reader.best(worker), reader.best(worker)] == ["99.60", "99.70"]


@pytest.mark.parametrize("beat", [{"error": 1}, {"usable": False}], ids=["another checksum", "unusable"])
def test_heartbeat_that_disagrees_drops_the_book_until_the_next_snapshot(worker, reader, beat):
    assert reader.best(worker) == "99.50"
    worker.answers = False
    worker.beat(**beat)
    worker.change("99.60", "1")
    worker.beat()
    worker.answers = True
    worker.change("99.70", "1")
    assert reader.best(worker, beats=True) == "99.70", "the change before the answer is not shown"


def test_older_life_is_believed_when_nothing_else_is_heard_for_five_seconds(worker, reader, run_dir):
    assert reader.best(worker) == "99.50"
    worker.publisher.close()
    older = Worker(run_dir, 5)
    older.book.apply([("99.80", "1")], [])
    began = time.monotonic()
    done = threading.Event()

    def go_on() -> None:
        while not done.wait(0.2):
            older.beat()

    beats = threading.Thread(target=go_on)
    beats.start()
    try:
        assert reader.best(older) == "99.80"
        assert time.monotonic() - began > 3
    finally:
        done.set()
        beats.join()
        older.close()


def test_next_life_is_noticed_though_its_epoch_is_only_one_above(run_dir, reader):
    """So it is when the clock was set back meanwhile; a number beyond 2^53 in JavaScript would not show it."""
    epoch = 1_763_990_000_000_000_000
    first = Worker(run_dir, epoch)
    assert reader.best(first) == "99.50"
    for price in ("99.60", "99.70"):
        first.change(price, "1")
        assert reader.best(first) == price
    first.close()
    second = Worker(run_dir, epoch + 1)
    try:
        assert reader.best(second) == "99.50"
    finally:
        second.close()
