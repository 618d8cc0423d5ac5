"""One market's truth, and lines that receive it late, lossily or not at all: messages as publishers send them.

State number n of the book has n + 1 as the size of its best bid, so that what a consumer holds says which state it is.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from heapq import heappop, heappush

from ipc.arbitration.arbitration import Arbitration
from ipc.codec import encode
from ipc.events import Bbo, BookDelta, BookSnapshot, Event, Gap, Heartbeat, Lifecycle, Mark, Trade
from ipc.health import Reason
from ipc.replica import BookReplica
from ipc.sources import Source

MS = 1_000_000
S = 1_000_000_000
SYMBOL = "BTC-PERP"
ASKS = [("101", "1")]


class Publisher:
    """Publisher of one line of a venue; its messages, encoded."""

    def __init__(self, venue: str, line: str, epoch: int = 1) -> None:
        self.venue = venue
        self.line = line
        self.epoch = epoch
        self.seqs: dict[str, int] = {}

    def restart(self) -> None:
        """Begin as the worker's next generation does."""
        self.epoch += 1
        self.seqs.clear()

    def message(self, channel: str, event: Event, *, symbol: str = SYMBOL) -> list[bytes]:
        """Return a message on a topic."""
        topic = f"{channel}.{self.venue}" + (f".{symbol}" if symbol else "")
        self.seqs[topic] = event.seq = self.seqs.get(topic, 0) + 1
        event.epoch, event.line = self.epoch, self.line  # type: ignore[assignment]
        return [topic.encode(), encode(event)]

    def snapshot(self, state: int, position: int | None, **more: object) -> list[bytes]:
        """Return the whole book of a state."""
        at = self._position(position)
        book = BookSnapshot(self.venue, SYMBOL, "1", at[0], [("100", str(state + 1))], ASKS, None, at[1], **more)  # type: ignore[arg-type]
        return self.message("book", book)

    def delta(self, state: int, position: int | None) -> list[bytes]:
        """Return the change to a state."""
        at = self._position(position)
        return self.message(
            "book", BookDelta(self.venue, SYMBOL, "1", at[0], [("100", str(state + 1))], [], at[1], None)
        )

    def gap(self, reason: Reason = Reason.SEQ_GAP) -> list[bytes]:
        """Return the loss of the book."""
        return self.message("book", Gap(self.venue, SYMBOL, "1", None, "book", reason, None, None, "resync"))

    def trade(self, trade_id: str, exchange_ns: int = 0) -> list[bytes]:
        """Return a trade."""
        return self.message("trade", Trade(self.venue, SYMBOL, "1", exchange_ns, "100", "1", "buy", trade_id))

    def bbo(self, size: str, exchange_ns: int | None) -> list[bytes]:
        """Return a best bid and offer."""
        return self.message("bbo", Bbo(self.venue, SYMBOL, "1", exchange_ns, "100", size, "101", "1"))

    def mark(self, price: str, exchange_ns: int | None) -> list[bytes]:
        """Return a mark price."""
        return self.message("mark", Mark(self.venue, SYMBOL, "1", exchange_ns, price, None, None, None, None))

    def heartbeat(self) -> list[bytes]:
        """Return a heartbeat with the true counts."""
        seqs = dict(self.seqs)
        return self.message("heartbeat", Heartbeat(self.venue, None, None, None, seqs, {}, 0, 0), symbol="")

    def exited(self, at_ns: int) -> list[bytes]:
        """Return the report of this worker's exit."""
        name = self.venue if self.line == "a" else f"{self.venue}.b"
        event = Lifecycle(name, None, None, None, "exited", Reason.KILLED, 1, 1, None, "SIGKILL", None, 0, 0, 1.0)
        event.epoch, event.seq, event.recv_mono_ns, event.recv_ns = 1, at_ns, at_ns, at_ns
        return [f"lifecycle.{name}".encode(), encode(event)]

    def _position(self, position: int | None) -> tuple[int | None, int | None]:
        """Return the venue's time and number of a state."""
        return (position, None) if self.venue not in {"lighter", "aster"} else (None, position)


class Consumer:
    """Consumer of several lines, who follows the delivered events as a stranger would."""

    def __init__(self, venue: str = "lighter", lines: str = "ab", now_ns: int = 1000 * S) -> None:
        self.now_ns = now_ns
        self.venue = venue
        self.sources = [Source("", line) for line in lines]  # type: ignore[arg-type]
        self.arbitration = Arbitration([venue], self.sources, now_ns, is_remote=[False] * len(lines))
        self.publishers = [Publisher(venue, line) for line in lines]
        self.book = self.arbitration.book(venue, SYMBOL, now_ns)
        self.events: list[Event] = []
        #: The book that follows from the delivered events alone.
        self.followed = BookReplica(venue, SYMBOL)

    def receive(self, source: int, parts: list[bytes]) -> list[Event]:
        """Receive a message; return what was delivered."""
        return self._deliver(self.arbitration.handle(source, parts, self.now_ns))

    def wait(self, ms: float, *, with_beats: tuple[int, ...] = ()) -> list[Event]:
        """Let time pass with everything read, heartbeats of some lines among it; return what was delivered."""
        until, delivered = self.now_ns + int(ms * MS), []
        while self.now_ns < until:
            self.now_ns = min(until, self.now_ns + 10 * MS)
            if self.now_ns // (500 * MS) != (self.now_ns - 10 * MS) // (500 * MS):
                for source in with_beats:
                    delivered += self.receive(source, self.publishers[source].heartbeat())
            delivered += self._deliver(self.arbitration.check_silence(self.now_ns))
            delivered += self._deliver(self.arbitration.judge(self.now_ns))
        return delivered

    def disconnect(self, source: int) -> list[Event]:
        """Lose the connection to a line."""
        return self._deliver(self.arbitration.disconnected(source, self.venue, self.now_ns))

    @property
    def state(self) -> int | None:
        """State that the delivered book shows; None while it is unusable."""
        return state_of(self.book)

    def _deliver(self, events: list[Event]) -> list[Event]:
        for event in events:
            match event:
                case BookSnapshot():
                    self.followed.apply_snapshot(event)
                case BookDelta():
                    self.followed.apply_delta(event)
                case Gap():
                    self.followed.apply_gap(event)
                case _:
                    pass
        self.events += events
        if self.book.usable and self.followed.fault is None:
            assert self.followed.indicative() == self.book.indicative(), "events and book differ"
        return events


def state_of(book: BookReplica) -> int | None:
    """Return the number of the state of a book; None while it is unusable."""
    return int(book.bids()[0][1]) - 1 if book.usable else None


@dataclass
class Plan:
    """What happens to two lines of one truth.

    Attributes:
        venue: Venue, which decides on positions and limits.
        cadence_ms: Between two pushes.
        quiet: One of so many pushes is a change.
        apart_ms: By how much the pushes of the lines may differ, where positions are the times of pushes.
        fault: What strikes one of them: ``none``, ``kill``, ``stall``, ``slow`` or ``lossy``.
        seconds: How long it goes on.
    """

    venue: str
    cadence_ms: int
    quiet: int
    apart_ms: int
    fault: str
    seconds: int = 25
    changes: list[int] = field(default_factory=list)


class Run:
    """Run of a plan with random numbers of a seed; the figures are read afterwards."""

    def __init__(self, plan: Plan, seed: int) -> None:
        self.plan = plan
        self.random = random.Random(seed)
        self.consumer = Consumer(plan.venue)
        self.begin_ns = self.consumer.now_ns
        self.unusable_ms = 0
        self.lag_ms = 0
        self.went_back = 0
        self.wrong = 0
        self._queue: list[tuple[int, int, Callable[[], object]]] = []
        #: Push times of the truth's states, ms; the first is state 0.
        self.truth = [0] + [
            at
            for at in range(plan.cadence_ms, plan.seconds * 1000, plan.cadence_ms)
            if not self.random.randrange(plan.quiet)
        ]
        self.strike_ms = self.random.randrange(8000, 11_000)
        self.heal_ms = self.strike_ms + self.random.choice((1000, 3000, 7000))
        self.struck = self.random.randrange(2)
        for source in (0, 1):
            self._plan_line(source)

    def _at(self, ms: float, what: Callable[[], object]) -> None:
        heappush(self._queue, (int(ms * MS), len(self._queue) + self.random.randrange(1000) * 0, what))

    def _plan_line(self, source: int) -> None:
        plan, chance = self.plan, self.random
        publisher = self.consumer.publishers[source]
        apart = chance.randrange(plan.apart_ms) if plan.apart_ms else 0
        base, is_struck = chance.randrange(1, 60), source == self.struck
        order = iter(range(10**9))

        def position(state: int) -> int:
            if plan.venue in {"lighter", "aster"}:
                return state + 1
            return self.begin_ns + (self.truth[state] + apart) * MS

        def send(message: Callable[[], list[bytes]], at_ms: float) -> None:
            heappush(
                self._queue,
                (int(at_ms * MS), source * 10**9 + next(order), lambda: self.consumer.receive(source, message())),
            )

        def change(state: int) -> Callable[[], list[bytes]]:
            if plan.venue == "hyperliquid":
                return lambda: publisher.snapshot(state, position(state))
            return lambda: publisher.delta(state, position(state))

        last = float(base)
        send(lambda: publisher.snapshot(0, position(0)), last)
        for beat in range(500, plan.seconds * 1000, 1000):
            if not (is_struck and plan.fault in {"kill", "stall"} and self.strike_ms <= beat < self.heal_ms):
                send(publisher.heartbeat, beat + base)
        lost = False
        for state in range(1, len(self.truth)):
            at = self.truth[state] + apart
            delay = base + chance.expovariate(1 / 5)
            is_away = is_struck and self.strike_ms <= at < self.heal_ms
            if is_away and plan.fault == "slow":
                delay += 2000
            arrival = last = max(at + delay, last + 0.001)
            if is_struck and plan.fault in {"kill", "stall"} and self.strike_ms <= arrival < self.heal_ms:
                continue
            if is_away and plan.fault == "lossy" and not chance.randrange(4):
                send(publisher.gap, arrival)
                send(self._again(publisher, state, position), arrival + 40)
                lost = True
                continue
            if is_struck and plan.fault == "kill" and arrival >= self.heal_ms and not lost:
                lost = True
                self._restart(source, publisher, position, send)
            send(change(state), arrival)
        if is_struck and plan.fault == "kill":
            heappush(self._queue, (self.strike_ms * MS, source, lambda: self.consumer.disconnect(source)))
        if is_struck and plan.fault == "stall":
            state = max(n for n, at in enumerate(self.truth) if at + apart <= self.heal_ms)
            send(lambda: publisher.snapshot(state, position(state)), self.heal_ms)

    @staticmethod
    def _again(publisher: Publisher, state: int, position: Callable[[int], int]) -> Callable[[], list[bytes]]:
        return lambda: publisher.snapshot(state, position(state), cause="resync")

    def _restart(
        self, source: int, publisher: Publisher, position: Callable[[int], int], send: Callable[..., None]
    ) -> None:
        """Come back with a snapshot that may be old, and what followed it."""
        old = self.random.choice((0, 3000, 8000)) if self.plan.venue == "extended" else 0
        first = max(n for n, at in enumerate(self.truth) if at <= max(0, self.heal_ms - old))
        heappush(self._queue, (self.heal_ms * MS - 1, source, publisher.restart))
        send(lambda: publisher.snapshot(first, position(first)), self.heal_ms)
        now = max(n for n, at in enumerate(self.truth) if at <= self.heal_ms)
        for number, state in enumerate(range(first + 1, now + 1)):
            if self.plan.venue != "hyperliquid":
                send(lambda state=state: publisher.delta(state, position(state)), self.heal_ms + 1 + number)

    def run(self) -> Run:
        """Run it in steps of a millisecond."""
        consumer, news, best = self.consumer, {}, -1
        for ms in range(self.plan.seconds * 1000):
            consumer.now_ns = self.begin_ns + ms * MS
            count = len(consumer.events)
            while self._queue and self._queue[0][0] <= ms * MS:
                heappop(self._queue)[2]()
            consumer._deliver(consumer.arbitration.check_silence(consumer.now_ns))
            consumer._deliver(consumer.arbitration.judge(consumer.now_ns))
            state = consumer.state
            if any(isinstance(event, Gap) for event in consumer.events[count:]):
                best = -1
            if state is not None:
                self.wrong += not 0 <= state < len(self.truth) or self.truth[state] > ms
                self.went_back += state < best
                best = max(best, state)
            if ms > 2000 and state is None:
                self.unusable_ms += 1
            for book in consumer.arbitration._books.values():
                for source in book._books.values():
                    known = state_of(source)
                    if known is not None:
                        news.setdefault(known, ms)
            if ms > 2000 and state is not None:
                missing = [at for number, at in news.items() if number > state]
                self.lag_ms = max(self.lag_ms, ms - min(missing)) if missing else self.lag_ms
            news = {number: at for number, at in news.items() if number > best}
        return self


def runs(plan: Plan, count: int) -> Iterator[Run]:
    """Yield runs of a plan, each with a seed of its own."""
    for seed in range(count):
        yield Run(plan, seed).run()
