"""One system, many places to look at it: all of them say the same of a fault, and at about the same time.

A fault is held until every source has shown it: ``status --json``, ``/status.json``, the overview that the page and
``top`` show, ``/metrics``, and the last event on the bus. Faults that are over at once are compared by their record.
"""

from __future__ import annotations

import json
import re
import threading
import time
import urllib.request
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import takewhile
from typing import Any, NamedTuple, Self

import pytest
from systems import VENUES, System, wait_for

from ipc.events import Lifecycle, Status
from supervisor.drill.catalogue import DRILLS, Conditions, Drill, Effect
from supervisor.drill.measure import DrillTarget
from supervisor.status.document import read_status

pytestmark = pytest.mark.integration

#: A first delay so long that everything can be read before the next attempt, and all other limits short.
CONDITIONS = Conditions(stale_s=2.0, ping_s=1.0, pong_s=1.0, first_s=3.5, connect_s=2.0)
SETTINGS = """
[supervisor]
tick_ms = 100
backoff_base_ms = 3500
backoff_cap_ms = 8000
[health]
healthy_threshold_ms = 100
watchdog_tick_ms = 100
memory_limit_mb = 192
""" + "".join(
    f"""
[venues.{venue}]
stale_ms = 2000
ping_interval_ms = 1000
pong_timeout_ms = 1000
connect_timeout_ms = 2000
read_timeout_ms = 5000
funding_poll_ms = 1000
"""
    for venue in VENUES
)
#: How much later than the first one a source may show a change, beyond the time between two of its own readings.
LATE_S = 1.0
#: Time between two readings: the overview is built once a second from a status that is read twice a second.
PERIODS_S = {"overview": 1.75}
WITHIN_S = 60.0
_HARMLESS = "none"
_SAMPLE_S = 0.1
_SERIES = re.compile(r"^(?P<name>\w+)\{(?P<labels>[^}]*)\} (?P<value>\S+)$")
_LABEL = re.compile(r'(\w+)="([^"]*)"')


class View(NamedTuple):
    """What a source says of a venue: the states of its process and its books, and why; None for what it does not say.

    The reason is that of the books or, for a process that does not run, of its end.
    """

    process: str | None
    book: str | None
    reason: str | None

    def agrees(self, other: View) -> bool:
        """Return whether nothing that both say differs."""
        return all(None in pair or pair[0] == pair[1] for pair in zip(self, other, strict=True))


class Record(NamedTuple):
    """What a source has counted of a venue: ends of its process and its sessions by reason, and gaps of its books."""

    exits: Mapping[str, int]
    ends: Mapping[str, int]
    gaps: int


@dataclass(frozen=True)
class Sample:
    """What a source said of every venue, and when it was asked and had answered."""

    source: str
    asked: float
    answered: float
    views: Mapping[str, View]
    records: Mapping[str, Record] = field(default_factory=dict)


class Sampler:
    """Looks at each source again and again, in a thread of its own; the last events come from the bus."""

    def __init__(self, system: System) -> None:
        self.errors: list[str] = []
        self._samples: deque[Sample] = deque()
        self._url = system.url
        self._stop = threading.Event()
        self._bus = dict.fromkeys(VENUES, View(None, None, None))
        self._feed = system.feed(channels=["lifecycle"])
        sources: dict[str, Callable[[], tuple[Mapping[str, View], Mapping[str, Record]]]] = {
            "status": lambda: of_status(read_status(system.run_dir)),
            "/status.json": lambda: of_status(json.loads(self._get("/status.json"))),
            "overview": lambda: (of_overview(json.loads(self._get("/state.json"))), {}),
            "/metrics": lambda: of_metrics(self._get("/metrics").decode()),
            "bus": lambda: (dict(self._bus), {}),
        }
        self._threads = [threading.Thread(target=self._sample, args=source) for source in sources.items()]
        self._threads.append(threading.Thread(target=self._listen))

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join(30)
        self._feed.close()

    def since(self, at: float) -> list[Sample]:
        """Return what was asked from a moment on."""
        return [*takewhile(lambda sample: sample.answered >= at, reversed(self._samples.copy()))][::-1]

    def _sample(self, source: str, read: Callable[[], tuple[Mapping[str, View], Mapping[str, Record]]]) -> None:
        while not self._stop.wait(_SAMPLE_S):
            asked = time.monotonic()
            try:
                views, records = read()
            except Exception as error:
                self.errors.append(f"{source}: {error!r}")
            else:
                self._samples.append(Sample(source, asked, time.monotonic(), views, records))

    def _get(self, path: str) -> bytes:
        with urllib.request.urlopen(self._url.rstrip("/") + path, timeout=20) as answer:
            body: bytes = answer.read()
            return body

    def _listen(self) -> None:
        while not self._stop.is_set():
            event = self._feed.poll(0.1)
            if isinstance(event, Lifecycle) and event.venue in self._bus:
                self._bus[event.venue] = after(event, self._bus[event.venue])
            elif isinstance(event, Status) and event.stream == "book" and "refresh" not in event.flags:
                process = self._bus[event.venue].process
                self._bus[event.venue] = View(process, event.state, event.reason)


def after(event: Lifecycle, before: View) -> View:
    """Return what the bus says of a venue after an event of its process: a dead one publishes nothing more itself."""
    match event.event:
        case "exited" | "restarting" | "backoff":
            return View("backoff", "off", event.reason)
        case "started":
            return View("starting", None, None)
        case _:
            return before._replace(process=event.event)


def of_status(status: Mapping[str, Any]) -> tuple[dict[str, View], dict[str, Record]]:
    views, records = {}, {}
    for name, venue in status["venues"].items():
        book = venue["streams"]["book"]
        views[name] = View(venue["state"], book["state"], book["reason"])
        gaps = sum(market["gaps"] for stream in venue["streams"].values() for market in stream["markets"].values())
        records[name] = Record(venue["exits"], venue["session_ends"], gaps)
    return views, records


def of_overview(overview: Mapping[str, Any]) -> dict[str, View]:
    views = {}
    for venue in overview["venues"]:
        (book,) = [stream for stream in venue["streams"] if stream["name"] == "book"]
        # It has words for people in place of the process's state.
        views[venue["name"]] = View(None, book["state"], book["reason"])
    return views


def of_metrics(text: str) -> tuple[dict[str, View], dict[str, Record]]:
    lines = [found for line in text.splitlines() if (found := _SERIES.match(line)) is not None]
    series = [(found["name"], dict(_LABEL.findall(found["labels"])), float(found["value"])) for found in lines]

    def states(name: str, **wanted: str) -> str | None:
        fitting = [
            labels["state"] for of, labels, value in series if of == name and value and wanted.items() <= labels.items()
        ]
        return fitting[0] if len(fitting) == 1 else None

    def counts(name: str, **wanted: str) -> dict[str, int]:
        return {
            labels["reason"]: int(value)
            for of, labels, value in series
            if of == name and wanted.items() <= labels.items()
        }

    views, records = {}, {}
    for venue in VENUES:
        process = states("paraphina_process_state", process=venue)
        views[venue] = View(process, states("paraphina_stream_state", venue=venue, stream="book"), None)
        gaps = sum(
            value for of, labels, value in series if of == "paraphina_stream_gaps_total" and labels["venue"] == venue
        )
        records[venue] = Record(
            counts("paraphina_process_exits_total", process=venue),
            counts("paraphina_session_ends_total", venue=venue),
            int(gaps),
        )
    return views, records


# --- the faults -------------------------------------------------------------------------------------------------------


def plan() -> dict[str, list[Drill]]:
    """Return each drill once, on the venue with the least to do that has such a fault."""
    drills: dict[str, list[Drill]] = {venue: [] for venue in VENUES}
    load = dict.fromkeys(VENUES, 0.0)
    for drill in sorted(DRILLS.values(), key=lambda one: -one.limit_s(CONDITIONS)):
        venue = min((one for one in VENUES if drill.applies_to(one)), key=load.__getitem__)
        drills[venue].append(drill)
        load[venue] += drill.limit_s(CONDITIONS) if drill.effect_on(venue) != _HARMLESS else 2.0
    return drills


class Reader:
    """Injects the faults of one venue one after the other, and compares what the sources say."""

    def __init__(self, system: System, sampler: Sampler, target: DrillTarget, venue: str) -> None:
        self.failures: list[str] = []
        #: Faults that were compared while they lasted, with what all sources said.
        self.held: dict[str, View] = {}
        self._system, self._sampler, self._target, self._venue = system, sampler, target, venue

    def run(self, drills: list[Drill]) -> None:
        for drill in drills:
            try:
                self._compare(drill)
            except AssertionError as error:
                self.failures.append(f"{self._venue} {drill.name}: {error}")
            finally:
                self._target.calm(drill, self._venue)

    def _compare(self, drill: Drill) -> None:
        self._await_well("before the fault")
        before = self._record()
        began = time.monotonic()
        self._target.inject(drill, self._venue)
        effect = drill.effect_on(self._venue)
        if effect in {"restart", "reconnect"}:
            view = self._held(began, effect)
            if view is not None:
                self.held[drill.name] = view
                self._assert_in_time(began, view)
        if effect != _HARMLESS:
            wait_for(lambda: self._record() != before, WITHIN_S, what=f"a trace of it beside {before}")
        self._await_well("after the fault")
        self._assert_same_record()

    def _await_well(self, when: str) -> None:
        try:
            wait_for(self._is_well, WITHIN_S)
        except AssertionError:
            venue = read_status(self._system.run_dir)["venues"][self._venue]
            raise AssertionError(f"not well {when}: {venue['sessions']} {venue['streams']['book']}") from None

    def _held(self, began: float, effect: Effect) -> View | None:
        """Wait for what the fault leads to and return that; None for a new connection that is made at once."""

        def find() -> View | str | None:
            view = self._status()
            if view.process == "backoff" and view.reason is not None:
                return view
            if effect == "reconnect" and view.book == "backoff" and view.reason is not None:
                return view._replace(process=None)  # which is stale a moment later
            is_over = time.monotonic() - began > 0.5 and self._record().ends.get("server_shutdown")
            return "at once" if is_over and self._is_well() else None

        found = wait_for(find, WITHIN_S, 0.01, what="backoff")
        return found if isinstance(found, View) else None

    def _assert_in_time(self, began: float, view: View) -> None:
        """Every source shows the view before the next attempt, and soon after the first one that does."""
        names = {"status", "/status.json", "overview", "/metrics", "bus"}
        shown: dict[str, float] = {}

        def shows() -> bool:
            for sample in self._sampler.since(began):
                if sample.source not in shown and _shows(sample.views[self._venue], view):
                    shown[sample.source] = sample.asked
            return set(shown) == names

        try:
            wait_for(shows, CONDITIONS.first_s + 2.0, 0.05)
        except AssertionError:
            last = {one.source: tuple(one.views[self._venue]) for one in self._sampler.since(began)}
            raise AssertionError(f"{sorted(names - set(shown))} never showed {tuple(view)}, but {last}") from None
        whole = [one for one in self._sampler.since(began) if one.views[self._venue].reason == view.reason]
        first = min(one.answered for one in whole if _shows(one.views[self._venue], view))
        late = {
            name: round(asked - first, 2)
            for name, asked in shown.items()
            if asked - first > LATE_S + PERIODS_S.get(name, 0.0) and self._asked_before(name, first, asked)
        }
        assert not late, f"{tuple(view)} was shown late: {late}"

    def _asked_before(self, source: str, first: float, shown: float) -> bool:
        """Return whether a source was asked after it ought to show a change, and did not."""
        due = first + LATE_S + PERIODS_S.get(source, 0.0)
        return any(one.source == source and due < one.asked < shown for one in self._sampler.since(first))

    def _assert_same_record(self) -> None:
        """All counters are the same, once no reading is older than the last of them."""
        at = time.monotonic()

        def same() -> bool:
            records = {one.source: one.records[self._venue] for one in self._sampler.since(at) if one.records}
            return set(records) == {"status", "/status.json", "/metrics"} and len(set(map(str, records.values()))) == 1

        try:
            wait_for(same, 10.0, 0.05)
        except AssertionError:
            last = {one.source: one.records[self._venue] for one in self._sampler.since(at) if one.records}
            raise AssertionError(f"the records differ: {last}") from None

    def _status(self) -> View:
        return of_status(read_status(self._system.run_dir))[0][self._venue]

    def _record(self) -> Record:
        return of_status(read_status(self._system.run_dir))[1][self._venue]

    def _is_well(self) -> bool:
        view = self._status()
        return (view.process, view.book) == ("live", "live")


def _shows(view: View, wanted: View) -> bool:
    """Return whether a source shows a view, as far as it says anything of it."""
    return view.book is not None and view.agrees(wanted)


@pytest.fixture(scope="module")
def system() -> Iterator[System]:
    with System("--sim-tls", config=SETTINGS) as system:
        system.wait_live()
        yield system


def test_all_sources_agree_on_every_fault(system: System) -> None:
    target = DrillTarget.of(system.run_dir, CONDITIONS)
    assert target.has_tls
    with Sampler(system) as sampler, ThreadPoolExecutor(len(VENUES)) as pool:
        wait_for(lambda: len({one.source for one in sampler.since(0.0)}) == 5, what=f"all sources: {sampler.errors}")
        readers = {venue: Reader(system, sampler, target, venue) for venue in VENUES}
        runs = [pool.submit(readers[venue].run, drills) for venue, drills in plan().items()]
        for run in runs:
            run.result()
    failures = [failure for reader in readers.values() for failure in reader.failures]
    assert not failures, "\n".join(failures)
    assert not sampler.errors
    held = {name: view for reader in readers.values() for name, view in reader.held.items()}
    reasons = {name: view.reason for name, view in held.items()}
    expected = {"kill": "drill", "memory": "memory", "stop": "wedged", "close": "server_close"}
    assert {name: reasons.get(name) for name in expected} == expected
    assert len(held) >= 15, "faults that last are compared while they do"
