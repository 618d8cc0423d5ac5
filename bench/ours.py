"""Measured program: a worker's own batch on a real socket, from bytes to the feed, with its black box."""

from __future__ import annotations

import gc
import tempfile
import threading
import time
from contextlib import suppress
from copy import copy
from dataclasses import replace
from pathlib import Path
from typing import Any

import zmq

from bench.frames import ASTER_SNAPSHOT, base, whole_book, wire
from bench.task import Task, TaskResult, reply
from ipc.board import Board
from ipc.events import BookSnapshot
from ipc.health import Stream
from ipc.publisher import Publisher, TopicFeed
from ipc.rundir import RunDir
from workers.net.connection import ConnectionThread, FetchedBook
from workers.net.transport import ClosedError, WebSocketTransport
from workers.protocol.actions import FetchBook
from workers.protocol.policy import Policy
from workers.protocol.session import MarketSession
from workers.protocol.streams import MarketStream
from workers.recorder import FrameRecorder
from workers.settings import WorkerSettings
from workers.venues import VENUES
from workers.venues.listing import Listing

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
_SUBSCRIBED_S = 0.3
#: Client messages, at once and a second.
_AT_ONCE = 10_000


def main() -> None:
    """Read the task, run it, print the result."""
    task = Task.of_command_line()
    with tempfile.TemporaryDirectory(prefix="pb-", dir="/dev/shm") as directory:
        connection, routes = connect(task, RunDir(Path(directory)))
        if task.subscribers:
            _accept_subscriptions(connection, task.subscribers)
        outcome = measure(task, connection, routes)
    reply(outcome)


def connect(task: Task, run_dir: RunDir) -> tuple[ConnectionThread, list[MarketStream]]:
    """Return the connection that carries the task's stream, and its streams by market."""
    venue, stream = copy(VENUES[task.venue]), _STREAMS[task.kind]
    # At a venue's own pace a thousand subscriptions take half a minute, which is not what is measured.
    venue.limits = replace(venue.limits, burst=_AT_ONCE, messages_per_s=_AT_ONCE)
    names = [(base(number), wire(task.venue, number)) for number in range(task.markets)]
    listings = [Listing(name, at_venue, at_venue, funding_interval_s=3600) for name, at_venue in names]
    context: zmq.Context[Any] = zmq.Context()
    publisher = Publisher(context, task.endpoint or run_dir.feed(task.venue), 1)
    board = Board.create(run_dir.path / "board", 1)
    recorder = FrameRecorder(task.venue, run_dir, None, 1024 * 1024, 1, context)
    bases = tuple(name for name, _ in names)
    settings = WorkerSettings(task.venue, 0, str(run_dir.path), "", bases, task.ws_url, "")
    encoding = "json" if task.kind.startswith("json") else "sbe"
    plans = venue.connections(listings, task.ws_url, {"encoding": encoding})
    plan = next(plan for plan in plans if any(stream in each.streams for each in plan.subscriptions))
    session = MarketSession(venue, plan, listings, Policy(10 * _NS, 60 * _NS, 60 * _NS))
    connection = ConnectionThread(session, settings, 2, board, publisher, _fetch, threading.Event(), recorder)
    routes = {route.listing.base: route for route in session.streams if route.kind is stream}
    return connection, [routes[name] for name in bases]


def _fetch(action: FetchBook, connection: ConnectionThread) -> None:
    """Deliver the REST snapshot for Aster's bridge."""
    (bids, asks), listing = whole_book(), action.stream.listing
    snapshot = BookSnapshot("aster", listing.symbol, listing.wire, None, bids, asks, 1000, ASTER_SNAPSHOT)
    connection.deliver(FetchedBook(action.stream, action.purpose, snapshot, None))


def _accept_subscriptions(connection: ConnectionThread, subscribers: int) -> None:
    """Wait for subscribers to connect, and make their subscriptions effective."""
    time.sleep(_SUBSCRIBED_S + 0.01 * subscribers)
    publisher = connection._publisher  # noqa: SLF001 - nothing else runs before there is a socket
    for _ in range(3):
        with publisher.exclusive():
            pass
        time.sleep(0.01)


def measure(task: Task, connection: ConnectionThread, routes: list[MarketStream]) -> TaskResult:
    """Run until every frame has been published; the clock runs once every market is warm."""
    transport = WebSocketTransport(
        connection.session.connection.url,
        interrupter=connection.interrupter,
        deadline_ns=time.monotonic_ns() + 5 * _NS,
        tick_s=0.1,
        max_message=2**24,
    )
    connection.session.opened(time.monotonic_ns())
    gc.collect()
    gc.freeze()  # as a worker inherits it from the supervisor
    process_batch, feeds = connection.process_batch, [route.feed for route in routes]
    # Beside the frames aster's markets have a snapshot each, which came by REST.
    begins = int(task.venue == "aster" and task.kind != "trade")
    while min(feed.seq for feed in feeds) < task.warm + begins:
        process_batch(transport)
    before, wall, cpu, thread = _count(feeds), time.perf_counter(), time.process_time(), time.thread_time()
    last, wanted = feeds[(task.frames - 1) % len(feeds)], (task.frames - 1) // len(feeds) + 1 + begins
    with suppress(ClosedError):
        while last.seq < wanted:
            process_batch(transport)
    thread, cpu, wall = time.thread_time() - thread, time.process_time() - cpu, time.perf_counter() - wall
    after = _count(feeds)
    return TaskResult(after - before, cpu, wall, after == task.frames + begins * len(feeds), thread)


def _count(feeds: list[TopicFeed]) -> int:
    return sum(feed.seq for feed in feeds)


if __name__ == "__main__":
    main()
