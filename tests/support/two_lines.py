"""Systems with two lines, as feeds see them: run directories with publishers of a venue's lines and of lifecycle."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from itertools import count
from typing import Any

from ipc.events import BookDelta, BookSnapshot, Event, Gap, Heartbeat, Level, Lifecycle, Trade
from ipc.health import Reason
from ipc.lines import Line, process_of
from ipc.publisher import Publisher
from ipc.rundir import RunDir
from ipc.topics import Topic

VENUE, SYMBOL = "lighter", "BTC-PERP"
BTC = (VENUE, SYMBOL)


def leaping() -> Callable[[], int]:
    """Clock by which every acquisition of a publisher accepts subscriptions."""
    ticks = count(1)
    return lambda: next(ticks) * 2_000_000_000


class LineOfBook:
    """Worker of one line with one book, whose states are numbers: state 5 is a bid of size 5."""

    def __init__(self, publisher: Publisher) -> None:
        self.publisher = publisher
        self.state = 0
        #: When it reads its frames, monotonic ns.
        self.read_ns = 0
        #: Refreshes that were requested.
        self.refreshes = 0
        self._book = publisher.topic(Topic("book", VENUE, SYMBOL))
        self._book.snapshot = self._refresh

    def step(self, state: int, *, lost: bool = False) -> None:
        """Publish the change to a state; the first one is a snapshot."""
        event = self._delta(state) if self.state else self._snapshot(state)
        self.state = state
        if lost:
            self._book.seq += 1
        else:
            self.send("book", event)

    def gap(self) -> None:
        self.state = 0
        self.send("book", Gap(VENUE, SYMBOL, "1", None, "session", Reason.READ_TIMEOUT, None, None, "reconnect"))

    def trade(self, trade_id: str, at_ns: int | None = None) -> None:
        self.send("trade", Trade(VENUE, SYMBOL, "1", at_ns, "1", "2", "buy", trade_id))

    def beat(self) -> None:
        with self.publisher.exclusive():
            seqs = self.publisher.last_seqs()
            beat = Heartbeat(VENUE, None, None, None, seqs, {}, 0, 0)
            self.publisher.send(self.publisher.topic(Topic("heartbeat", VENUE, "")), beat)

    def send(self, channel: str, event: Event) -> None:
        feed = self.publisher.topic(Topic(channel, VENUE, SYMBOL))
        with self.publisher.exclusive():
            self.publisher.send(feed, event)

    def turn(self) -> None:
        with self.publisher.exclusive():
            pass

    def _refresh(self) -> BookSnapshot | None:
        if not self.state:
            return None
        self.refreshes += 1
        event = self._snapshot(self.state)
        event.cause, event.flags = "refresh", ("refresh",)
        return event

    def _snapshot(self, state: int) -> BookSnapshot:
        bids: list[Level] = [("99", str(state))]
        event = BookSnapshot(VENUE, SYMBOL, "1", None, bids, [("100", "1")], None, state)
        event.recv_mono_ns = self.read_ns
        return event

    def _delta(self, state: int) -> BookDelta:
        event = BookDelta(VENUE, SYMBOL, "1", None, [("99", str(state))], [], state, state - 1)
        event.recv_mono_ns = self.read_ns
        return event


class TwoLineSystem:
    """System in a run directory; ``open_publisher`` makes its publishers."""

    def __init__(self, run_dir: RunDir, open_publisher: Callable[..., Publisher]) -> None:
        self.run_dir = run_dir
        self.workers: dict[Line, LineOfBook] = {}
        self._open = open_publisher
        run_dir.prepare()
        self.lifecycle = open_publisher(run_dir.feed("lifecycle"), monotonic=leaping(), refresh_ns=0)
        self._reported = 0

    def start(self, *lines: Line, epoch: int = 1) -> None:
        """Start lines; they are not described, and not reported."""
        for line in lines:
            endpoint = self.run_dir.feed(process_of(VENUE, line))
            publisher = self._open(endpoint, epoch, monotonic=leaping(), refresh_ns=0, line=line)
            self.workers[line] = LineOfBook(publisher)

    def describe(self, *lines: Line) -> None:
        """Describe the system with its lines; without any it has an only one."""
        documents: dict[Line, Any] = {
            line: {"feed": self.run_dir.feed(process_of(VENUE, line)), "tcp": None, "account": None}
            for line in lines or ("a",)
        }
        described = {**documents["a"], **({"lines": documents} if lines else {})}
        self.run_dir.write_description({"venues": {VENUE: described}})

    def report(self, event: str, line: Line = "a", **stamps: int) -> None:
        """Report an event in the life of a line's process."""
        self._reported += 1
        words = (None, None, 1, None, None, None, 0, 0, None)
        reported = Lifecycle(process_of(VENUE, line), None, None, None, event, *words)
        reported.recv_ns = reported.recv_mono_ns = stamps.get("at_ns", 0)
        feed = self.lifecycle.topic(Topic("lifecycle", process_of(VENUE, line), ""))
        with self.lifecycle.exclusive():
            self.lifecycle.send_latest(feed, "lifecycle", reported)

    def step(self, state: int, lines: Iterable[Line] = ("a", "b")) -> None:
        for line in lines:
            self.workers[line].step(state)

    def turn(self) -> None:
        """Accept subscriptions, and send what they are for."""
        for worker in self.workers.values():
            if not worker.publisher._socket.closed:
                worker.turn()
        with self.lifecycle.exclusive():
            pass
