"""Measured program: a worker's own turn on a real socket, from bytes to the feed, with its black box, as it runs."""

from __future__ import annotations

import gc
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

import zmq

from bench.frames import ASTER_SNAPSHOT, whole_book, wire
from bench.task import Outcome, Task, tell
from ipc.board import Board
from ipc.events import BookSnapshot
from ipc.health import Stream
from ipc.publisher import Publisher
from ipc.rundir import RunDir
from workers.actions import Fetch
from workers.connection import Connection, Fetched
from workers.recovery import Policy
from workers.routes import Route
from workers.session import Session
from workers.settings import WorkerSettings
from workers.tape import Tape
from workers.transport import ClosedError, WebSocketTransport
from workers.venues import VENUES
from workers.venues.venue import Listing

_NS = 1_000_000_000
_STREAMS = {
    "book20": Stream.BOOK20,
    "book5": Stream.BOOK,
    "book": Stream.BOOK,
    "delta": Stream.BOOK,
    "wide": Stream.BOOK,
    "json_book": Stream.BOOK,
    "json_delta": Stream.BOOK,
    "trade": Stream.TRADE,
}
_JOINED_S = 0.3


def main() -> None:
    """Read the task, do it, tell the outcome."""
    task = Task.of_command_line()
    with tempfile.TemporaryDirectory(prefix="pb-", dir="/dev/shm") as directory:
        connection, route = connect(task, RunDir(Path(directory)))
        if task.subscribers:
            _let_in(connection, task.subscribers)
        tell(measure(task, connection, route))


def connect(task: Task, run_dir: RunDir) -> tuple[Connection, Route]:
    """The connection that carries the task's stream, and the stream's route."""
    venue, stream = VENUES[task.venue], _STREAMS[task.kind]
    name = wire(task.venue, 0)
    listing = Listing("BTC", name, name, funding_interval_s=3600)
    context: zmq.Context[Any] = zmq.Context()
    publisher = Publisher(context, task.endpoint or run_dir.feed(task.venue), 1)
    board = Board.create(run_dir.path / "board", 1)
    tape = Tape(task.venue, run_dir, None, 1024 * 1024, 1, context)
    settings = WorkerSettings(task.venue, 0, str(run_dir.path), "", ("BTC",), task.ws_url, "")
    encoding = "json" if task.kind.startswith("json") else "sbe"
    plans = venue.connections([listing], task.ws_url, {"encoding": encoding})
    plan = next(plan for plan in plans if any(stream in each.streams for each in plan.subscriptions))
    session = Session(venue, plan, [listing], Policy(10 * _NS, 60 * _NS, 60 * _NS))
    connection = Connection(session, settings, 2, board, publisher, _fetch, threading.Event(), tape)
    return connection, next(route for route in session.routes if route.stream is stream)


def _fetch(action: Fetch, connection: Connection) -> None:
    """What REST would answer to aster's bridge."""
    book = whole_book()
    name = wire("aster", 0)
    snapshot = BookSnapshot("aster", "BTC-PERP", name, None, book.bids, book.asks, 1000, ASTER_SNAPSHOT)
    connection.deliver(Fetched(action.route, action.purpose, snapshot, None))


def _let_in(connection: Connection, subscribers: int) -> None:
    """Wait for subscribers to connect, and make their subscriptions effective."""
    time.sleep(_JOINED_S + 0.01 * subscribers)
    publisher = connection._publisher  # noqa: SLF001 - nothing else turns before there is a socket
    for _ in range(3):
        with publisher.turn:
            pass
        time.sleep(0.01)


def measure(task: Task, connection: Connection, route: Route) -> Outcome:
    """Turn until every frame has been published; the clock runs from the first one on."""
    transport = WebSocketTransport(
        connection.session.connection.url,
        cutter=connection.cutter,
        deadline_ns=time.monotonic_ns() + 5 * _NS,
        tick_s=0.1,
        max_message=2**24,
    )
    connection.session.opened(time.monotonic_ns())
    gc.collect()
    gc.freeze()  # as a worker inherits it from the supervisor
    feed = route.feed
    while not feed.seq:
        connection.turn(transport)
    before, wall, cpu, thread = feed.seq, time.perf_counter(), time.process_time(), time.thread_time()
    wanted, turn = task.frames + (task.venue == "aster" and task.kind != "trade"), connection.turn
    try:
        while feed.seq < wanted:
            turn(transport)
    except ClosedError:
        pass
    frames = feed.seq - before
    return Outcome(
        frames,
        time.process_time() - cpu,
        time.perf_counter() - wall,
        feed.seq == wanted,
        time.thread_time() - thread,
    )


if __name__ == "__main__":
    main()
