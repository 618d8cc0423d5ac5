"""CPU per message from socket bytes to ZeroMQ, by venue: the worker's own turn over a real socket, measured.

    python bench/hot_path.py [--frames N] [--batch N] [--subscribers N]

The figure is CPU time of the measured thread divided by frames. Absolute times differ between machines and hours;
compare rows of one run.
"""

from __future__ import annotations

import argparse
import random
import statistics
import tempfile
import threading
import time
from pathlib import Path

import zmq
from feeder import Feeder
from frames import FRAMES, encoded

from ipc.board import Board
from ipc.events import BookSnapshot
from ipc.publisher import Publisher
from workers.actions import Fetch
from workers.connection import Connection
from workers.recovery import Policy
from workers.session import Session
from workers.settings import WorkerSettings
from workers.transport import ClosedError, WebSocketTransport
from workers.venues import VENUES
from workers.venues.venue import Listing

#: How each venue names the one market of these frames on the wire.
WIRES = {
    "hyperliquid": "BTC",
    "aster": "BTCUSDT",
    "extended": "BTC-USD",
    "lighter": "1",
    "paradex": "BTC-USD-PERP",
}
NS = 1_000_000_000


def snapshot(venue: str) -> BookSnapshot:
    """What REST would answer to aster's bridge: number 1000, 200 levels a side."""
    bids = [(f"{79_999 - i / 2:.1f}", "1.000") for i in range(200)]
    asks = [(f"{80_001 + i / 2:.1f}", "1.000") for i in range(200)]
    return BookSnapshot(venue, "BTC-PERP", WIRES[venue], None, bids, asks, 1000, 1000)


def measure(venue_name: str, count: int, batch: int, subscribers: int, directory: Path) -> tuple[float, int]:
    """CPU µs per frame, and how many events were published."""
    venue = VENUES[venue_name]
    frames = encoded(venue_name, count)
    listing = Listing("BTC", WIRES[venue_name], WIRES[venue_name], "1", funding_interval_s=3600)
    board = Board.create(directory / f"{venue_name}.board", 1)
    context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
    endpoint = f"ipc://{directory}/{venue_name}.feed"
    publisher = Publisher(context, endpoint, 1)
    consumers = [consumer(context, endpoint) for _ in range(subscribers)]
    settings = WorkerSettings(venue_name, 0, str(directory), endpoint, ("BTC",), "ws://x", "http://x")
    policy = Policy(10 * NS, 60 * NS, 60 * NS)
    plan = next(p for p in venue.connections([listing], "ws://127.0.0.1", {"encoding": "sbe"}) if "book" in str(p))
    session = Session(venue, plan, [listing], policy)
    connection = Connection(session, settings, 2, board, publisher, lambda *_: None, threading.Event())
    with Feeder(frames, batch) as feeder:
        url = f"ws://127.0.0.1:{feeder.port}/"
        deadline = time.monotonic_ns() + 5 * NS
        transport = WebSocketTransport(
            url, cutter=connection.cutter, deadline_ns=deadline, tick_s=0.1, max_message=2**24
        )
        session.opened(time.monotonic_ns())
        for action in session.todo.take():
            if isinstance(action, Fetch):
                session.fetched(action.route, action.purpose, snapshot(venue_name), None, time.monotonic_ns())
        started_cpu = time.thread_time()
        while publisher.published < count:
            try:
                connection.turn(transport)
            except ClosedError:
                break
        cpu_s = time.thread_time() - started_cpu
        transport.close()
    for socket in consumers:
        socket.close()
    publisher.close()
    context.term()
    return cpu_s / count * 1e6, publisher.published


def consumer(context: zmq.Context[zmq.Socket[bytes]], endpoint: str) -> zmq.Socket[bytes]:
    """A subscriber that lets everything come."""
    socket = context.socket(zmq.SUB)
    socket.setsockopt(zmq.LINGER, 0)
    socket.setsockopt(zmq.RCVHWM, 0)
    socket.subscribe(b"")
    socket.connect(endpoint)
    return socket


def main() -> None:
    """Measure every venue and print a row each."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--frames", type=int, default=20_000)
    parser.add_argument("--batch", type=int, default=1, help="frames a packet")
    parser.add_argument("--subscribers", type=int, default=0)
    parser.add_argument("--runs", type=int, default=3)
    options = parser.parse_args()
    random.seed(1)
    print(f"{'venue':<12} {'µs/frame':>9} {'min':>6} {'max':>6}  published")
    for venue in FRAMES:
        with tempfile.TemporaryDirectory(dir="/tmp") as directory:
            runs = [
                measure(venue, options.frames, options.batch, options.subscribers, Path(directory))
                for _ in range(options.runs)
            ]
        times = [run[0] for run in runs]
        print(f"{venue:<12} {statistics.median(times):>9.1f} {min(times):>6.1f} {max(times):>6.1f}  {runs[0][1]}")


if __name__ == "__main__":
    main()
