"""Growth of the CPU time per message with markets, subscribers and venues.

Markets and subscribers are measured on one connection as in :mod:`bench.hot_path`; the small and the large case take
turns, so that their ratio holds on a busy machine. Venues are measured in a whole system: the CPU time of each worker
by the messages that it was sent.
"""

from __future__ import annotations

import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass

from bench.feeder import Feeder
from bench.frames import encoded
from bench.latency import BOOKS
from bench.subscribers import Subscribers
from bench.system import BenchSystem, fed
from bench.task import Task, ask
from bench.verdict import Ratio, ratio
from ipc.topics import VENUES

#: As many as one connection carries, where that is fewer.
_CARRIED = {"aster": 40, "lighter": 125}
MARKETS = (1, 10, 200)
SUBSCRIBERS = (0, 1, 10, 50)
_PER_S = 1000.0
#: Frames of each market before the clock runs: books that are still filling cost more, however many there are.
_WARM = 100
_SETTLE_S = 2.0


@dataclass(frozen=True)
class Scaling:
    """CPU µs a message at each size, run by run, and how much more the largest costs than the smallest."""

    what: str
    venue: str
    us: dict[int, list[float]]
    growth: Ratio


def measure_markets(
    runs: int, frames: int, sizes: Sequence[int] = MARKETS, report: Callable[[str], None] = print
) -> Iterator[Scaling]:
    """Measure one connection with growing numbers of markets, at a thousand messages a second in all."""
    for venue in VENUES:
        possible = sorted({min(size, _CARRIED.get(venue, size)) for size in sizes})

        def at(markets: int, venue: str = venue) -> float:
            count = _WARM * markets + frames
            streams = {"book": encoded(venue, BOOKS[venue], count, markets)}
            with Feeder(venue, streams, per_s=_PER_S, markets=markets, at_once=_WARM * markets) as feeder:
                urls = feeder.ws_url, feeder.rest_url
                task = Task(venue, BOOKS[venue], count, *urls, markets=markets, warm=_WARM)
                return ask(sys.executable, "bench.ours", task).us_per_frame

        yield _grown("markets", venue, possible, runs, at, report)


def measure_subscribers(
    runs: int, frames: int, sizes: Sequence[int] = SUBSCRIBERS, report: Callable[[str], None] = print
) -> Scaling:
    """Measure one market with growing numbers of subscribers to everything."""
    venue = "lighter"
    streams = {"book": encoded(venue, BOOKS[venue], frames)}

    def at(subscribers: int) -> float:
        with ExitStack() as stack:
            directory = stack.enter_context(tempfile.TemporaryDirectory(prefix="pb-", dir="/dev/shm"))
            endpoint = f"ipc://{directory}/feed"
            stack.enter_context(Subscribers(endpoint, subscribers))
            feeder = stack.enter_context(Feeder(venue, streams, per_s=_PER_S))
            task = Task(venue, BOOKS[venue], frames, feeder.ws_url, feeder.rest_url, endpoint, subscribers)
            return ask(sys.executable, "bench.ours", task).us_per_frame

    return _grown("subscribers", venue, sizes, runs, at, report)


def measure_venues(seconds: float, per_s: int, report: Callable[[str], None] = print) -> dict[int, dict[str, float]]:
    """Return CPU µs a message of each worker by number of venues."""
    found = {}
    for count in (1, 3, len(VENUES)):
        found[count] = _venues(VENUES[:count], seconds, per_s)
        report(f"scaling {count} venues: " + "  ".join(f"{name} {us:.0f} µs" for name, us in found[count].items()))
    return found


def _grown(
    what: str, venue: str, sizes: Sequence[int], runs: int, at: Callable[[int], float], report: Callable[[str], None]
) -> Scaling:
    us: dict[int, list[float]] = {size: [] for size in sizes}
    for _ in range(runs):
        for size in sizes:
            us[size].append(at(size))
    growth = ratio(us[max(sizes)], us[min(sizes)])
    medians = "  ".join(f"{size}: {statistics.median(values):.1f} µs" for size, values in us.items())
    report(f"scaling {what:<11} {venue:<12} {medians}   growth {growth}")
    return Scaling(what, venue, us, growth)


def _venues(venues: Sequence[str], seconds: float, per_s: int) -> dict[str, float]:
    count = int((seconds + 2 * _SETTLE_S + 1) * per_s)
    with ExitStack() as stack:
        feeders = {
            venue: stack.enter_context(Feeder(venue, {"book": encoded(venue, BOOKS[venue], count)}, per_s=per_s))
            for venue in venues
        }
        system = stack.enter_context(BenchSystem(fed(feeders)))
        system.wait_live()
        time.sleep(_SETTLE_S)
        before = {venue: (system.cpu_s(venue), feeders[venue].sent) for venue in venues}
        time.sleep(seconds)
        us = {}
        for venue, (cpu_s, sent) in before.items():
            us[venue] = (system.cpu_s(venue) - cpu_s) / max(feeders[venue].sent - sent, 1) * 1e6
        return us
