"""Many updates and many faults: whether a consumer ever trusts a book that is not the truth, and how soon it knows.

In one process and in fake time for the number of updates; on a running system for the time that it takes.
"""

from __future__ import annotations

import random
import threading
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Final, Self

from pipeline import Faults, Pipeline
from systems import VENUES, System

from ipc.errors import ParaphinaError, UsageError
from ipc.events import Gap

__all__ = ["BOOK_FAULTS", "Followed", "GapWatch", "follow", "quantile", "upset"]

#: What the links do.
_LINKS: Final = Faults(
    drop=0.002, repeat=0.002, swap=0.002, disconnect_per_s=0.02, lose_message=0.002, restart_per_s=0.01
)
#: What the venue itself does wrong with one book, so that it shows in the very frame.
BOOK_FAULTS: Final = (
    *("drop_delta", "duplicate_delta", "reorder_delta", "corrupt_delta", "crossed_book", "garbage", "invalid_utf8"),
    *("bad_book", "exponents", "restart_ids", "invalid_row"),
)
#: Every book has another frame within this time.
_NEXT_FRAME_S: Final = 0.6
#: The faults of a venue's own, a second.
_FAULTS_PER_S: Final = 0.3


@dataclass
class Followed:
    """What a venue's path went through.

    Attributes:
        updates: Frames that reached a session.
        messages: Events that the consumer was sent.
        checks: Books that were compared with the truth, whole; ``usable`` of them were called usable.
        faults: The venue's own faults, by name; those of the links come on top.
        gaps: Gaps that the consumer was notified of.
    """

    updates: int = 0
    messages: int = 0
    checks: int = 0
    usable: int = 0
    faults: Counter[str] = field(default_factory=Counter)
    gaps: Counter[str] = field(default_factory=Counter)

    def __str__(self) -> str:
        return (
            f"{self.updates} updates, {self.messages} messages, {self.checks} books compared, {self.usable} of them "
            f"usable, {sum(self.faults.values())} faults of the venue, {sum(self.gaps.values())} gaps"
        )


class _Watched(Pipeline):
    """Counts gaps."""

    def __init__(self, venue: str, seed: int, encoding: str, seen: Followed) -> None:
        self._seen = seen
        super().__init__(venue, seed, encoding=encoding)

    def _send(self, topic: str, event: Any) -> None:
        if isinstance(event, Gap):
            self._seen.gaps[event.reason] += 1
        super()._send(topic, event)


def follow(venue: str, seed: int, updates: int, encoding: str = "sbe") -> Followed:
    """Run until so many updates have come, with faults of links and venue; compare whole books at every checkpoint.

    Raises:
        AssertionError: A usable book was not the truth, most were unusable, or one did not come back.
    """
    seen = Followed()
    pipeline = _Watched(venue, seed, encoding, seen)
    pipeline.run(3)
    while pipeline.updates < updates:
        pipeline.faults = _LINKS
        _go_wrong(pipeline, seen)
        # A lost frame shows in the next one, so there must be one before the market is held still.
        pipeline.stage.fault("clear")
        pipeline.faults = Faults()
        pipeline.run(_NEXT_FRAME_S)
        pipeline.settle()
        seen.usable += pipeline.check()
        seen.checks += 2
        pipeline.resume()
    assert seen.usable > 0.5 * seen.checks, f"usable at {seen.usable} of {seen.checks} checkpoints"
    pipeline.faults = Faults()
    pipeline.run(15)
    pipeline.settle()
    assert pipeline.check() == 2, "without faults every book comes back"
    seen.updates, seen.messages = pipeline.updates, pipeline.messages
    return seen


def _go_wrong(pipeline: Pipeline, seen: Followed) -> None:
    """Let some seconds pass in which the venue itself goes wrong now and then."""
    left_s = pipeline.dice.uniform(0.5, 4.0)
    while left_s > 0:
        step_s = min(left_s, pipeline.dice.expovariate(_FAULTS_PER_S))
        pipeline.run(step_s)
        left_s -= step_s
        name = pipeline.dice.choice(BOOK_FAULTS)
        with suppress(UsageError):  # not a fault of this venue
            pipeline.stage.fault(name)
            seen.faults[name] += 1


class GapWatch:
    """A consumer of a running system in a thread: how long a gap takes to make a book unusable there.

    The time runs from the turn of the worker that learnt of it (``recv_mono_ns`` of the gap) until this consumer has
    read it and its book says that it is not usable. ``late_ms`` has them by venue.
    """

    def __init__(self, system: System) -> None:
        self.late_ms: dict[str, list[float]] = {venue: [] for venue in VENUES}
        self.trusted: list[str] = []
        self._feed = system.feed(channels=["book"])
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join(10)
        self._feed.close()

    def _run(self) -> None:
        while not self._stop.is_set():
            event = self._feed.poll(0.1)
            if not isinstance(event, Gap) or not event.epoch:
                continue  # no gap, or one that this consumer found itself
            usable = self._feed.book(event.venue, str(event.symbol)).usable
            self.late_ms[event.venue].append((time.monotonic_ns() - event.recv_mono_ns) / 1e6)
            if usable:
                self.trusted.append(str(event))


def upset(system: System, seconds: float, seed: int, pause_s: tuple[float, float]) -> Counter[str]:
    """Let every venue's books go wrong again and again for a while; the faults that were injected."""
    chance, ends_at, struck = random.Random(seed), time.monotonic() + seconds, Counter[str]()
    while time.monotonic() < ends_at:
        time.sleep(chance.uniform(*pause_s))
        venue, symbol = chance.choice(VENUES), chance.choice(("BTC-PERP", "ETH-PERP"))
        name = chance.choice(("drop_delta", "corrupt_delta", "crossed_book", "close", "reorder_delta"))
        with suppress(ParaphinaError, OSError):
            system.fault(venue, name, **({} if name == "close" else {"symbol": symbol}))
            struck[name] += 1
    return struck


def quantile(values: Sequence[float], share: float) -> float:
    """The value below which ``share`` of all lie; 0 of none."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))] if ordered else 0.0
