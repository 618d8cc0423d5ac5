"""Latency through a running system: from a frame read off the socket to the event in the hands of a consumer's Feed.

Five workers are fed by a feeder each, at a set number of book frames a second; one Feed in this process reads all of
them and keeps its books. Both ends use the monotonic clock of this machine. Late events are included,
so a feed that falls behind shows in its highest percentiles. Each rate has the result of :mod:`bench.control` at the
same time: the delay of a bare message on this machine.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field

from bench.control import Control
from bench.feeder import Feeder
from bench.frames import START_MS, encoded
from bench.system import BenchSystem, fed
from bench.verdict import percentile
from ipc.events import BookDelta, BookSnapshot
from ipc.feed import Feed
from ipc.topics import VENUES

#: Kind of frames on each venue's channel ``book``.
BOOKS = {"hyperliquid": "book5", "aster": "delta", "extended": "delta", "lighter": "delta", "paradex": "delta"}
#: Frames a second and venue.
RATES = (100, 1000, 5000)
#: Frames of the start, which are not counted.
_WARM_S = 1.0
_MARGIN_S = 20.0
_MS = 1_000_000


@dataclass
class Latency:
    """Result at one rate. Times in ms; ``lost`` counts messages that the Feed missed."""

    venues: int
    per_s: int
    seconds: float
    events: int = 0
    lost: int = 0
    is_whole: bool = False
    p50: float = 0.0
    p99: float = 0.0
    p999: float = 0.0
    by_venue_p99: dict[str, float] = field(default_factory=dict)
    usable: list[str] = field(default_factory=list)
    #: p50, p99 and p99.9 of a bare message between two idle processes meanwhile.
    bare: tuple[float, float, float] = (0.0, 0.0, 0.0)


def measure(
    rates: Sequence[int], seconds: float, venues: Sequence[str] = VENUES, report: Callable[[str], None] = print
) -> Iterator[Latency]:
    """Measure each rate (frames a second and venue) for ``seconds`` on all ``venues`` at once."""
    for per_s in rates:
        found = _at(per_s, seconds, venues)
        ending = "" if found.is_whole else "  NOT every last frame came"
        report(
            f"latency {found.venues} x {per_s}/s  p50 {found.p50:.2f}  p99 {found.p99:.2f}  p99.9 {found.p999:.2f} ms"
            f" (bare message p99 {found.bare[1]:.2f})  lost {found.lost}{ending}"
        )
        yield found


def measure_all(rates: Sequence[int], seconds: float, report: Callable[[str], None] = print) -> list[Latency]:
    """Measure all venues at each rate, and one venue alone at the highest."""
    return [*measure(rates, seconds, report=report), *measure(rates[-1:], seconds, ("lighter",), report)]


def _at(per_s: int, seconds: float, venues: Sequence[str]) -> Latency:
    count = int(per_s * seconds)
    with ExitStack() as stack:
        feeders = {
            venue: stack.enter_context(Feeder(venue, {"book": encoded(venue, BOOKS[venue], count)}, per_s=per_s))
            for venue in venues
        }
        system = stack.enter_context(BenchSystem(fed(feeders)))
        place = stack.enter_context(tempfile.TemporaryDirectory(prefix="pb-", dir="/dev/shm"))
        control = Control(f"ipc://{place}/bare")
        with control, Feed(system.run_dir.path, channels=["book"]) as feed:
            ages = _follow(feed, venues, count, time.monotonic() + seconds + _MARGIN_S)
            usable = [venue for venue in venues if feed.book(venue, "BTC-PERP").usable]
    found = Latency(len(venues), per_s, seconds, usable=usable, lost=feed.lost, bare=control.late)
    found.is_whole = all(last == count for last, _ in ages.values())
    skipped = int(per_s * _WARM_S)
    by_venue = {venue: kept for venue, (_, all_ages) in ages.items() if (kept := all_ages[skipped:])}
    every = [age for one in by_venue.values() for age in one]
    found.events = len(every)
    if every:
        found.p50, found.p99, found.p999 = (percentile(every, part) for part in (0.5, 0.99, 0.999))
        found.by_venue_p99 = {venue: percentile(one, 0.99) for venue, one in by_venue.items()}
    return found


def _follow(feed: Feed, venues: Sequence[str], count: int, until: float) -> dict[str, tuple[int, list[float]]]:
    """Return by venue the number of the last frame, and the ages (ms) of all frames at delivery."""
    ages: dict[str, list[float]] = {venue: [] for venue in venues}
    last = dict.fromkeys(venues, 0)
    waiting = set(venues)
    while waiting and time.monotonic() < until:
        event = feed.poll(0.5)
        if not isinstance(event, BookDelta | BookSnapshot) or "refresh" in event.flags:
            continue
        ages[event.venue].append((time.monotonic_ns() - event.recv_mono_ns) / _MS)
        number = last[event.venue] = (event.exchange_ns or 0) // _MS - START_MS + 1
        if number == count:
            waiting.discard(event.venue)
    return {venue: (last[venue], ages[venue]) for venue in venues}
