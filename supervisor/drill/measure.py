"""Measurement of one drill on one venue, as a consumer sees it: detected, recovered, book fresh."""

from __future__ import annotations

import json
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, Literal

from ipc.consumer_names import name_of
from ipc.control import ControlRequest, ask
from ipc.errors import ParaphinaError
from ipc.events import BookSnapshot, Event, Gap, Lifecycle, Status
from ipc.feed import Feed
from ipc.health import Reason
from ipc.rundir import RunDir
from supervisor.drill.catalogue import Conditions, Drill

_NS: Final = 1_000_000_000
_MS: Final = 1_000_000
#: Healthy time required before the next fault: longer than hyperliquid needs for two frames, so that the
#: run in between counts as healthy.
_SETTLE_S: Final = 1.2
_SETTLE_WITHIN_S: Final = 60.0
#: Snapshot causes that do not come from the stream: refresh for a late subscriber, and REST while disconnected.
_STAND_INS: Final = frozenset({"refresh", "rest"})
#: Observation time for faults that must have no effect.
_WATCH_S: Final = 1.5
#: Extra wait after the limit, to distinguish late from never.
_OVERTIME_S: Final = 20.0
#: For the admin API on loopback, whatever proxy the environment names.
_opener: Final = urllib.request.build_opener(urllib.request.ProxyHandler({}))
_NOTICED_STATES: Final = frozenset({"resync", "stale", "backoff", "quiet", "connecting"})


@dataclass(frozen=True, slots=True)
class DrillTarget:
    """Running system on which drills are run.

    Attributes:
        run_dir: Its run directory.
        admin: Address of its simulator's admin API; None without a simulator.
        conditions: Its settings.
        has_tls: Whether its simulator speaks TLS.
    """

    run_dir: RunDir
    admin: str | None
    conditions: Conditions
    has_tls: bool = False

    @classmethod
    def of(cls, run_dir: RunDir, conditions: Conditions) -> DrillTarget:
        """Return the system that runs in a directory."""
        simulator = run_dir.describe()["simulator"]
        if simulator is None:
            return cls(run_dir, None, conditions)
        has_tls = all(urls["ws"].startswith("wss:") for urls in simulator["venues"].values())
        return cls(run_dir, simulator["admin"], conditions, has_tls)

    def hinders(self, drill: Drill, venue: str) -> str | None:
        """Return why a drill cannot run here; None when it can."""
        if not drill.applies_to(venue):
            return "there is no such fault there"
        if drill.kind == "network" and self.admin is None:
            return "only a simulator can do this"
        if drill.needs_tls and not self.has_tls:
            return "the simulated venues do not speak TLS; that takes trustme"
        return None

    def inject(self, drill: Drill, venue: str) -> None:
        """Inject the fault.

        Raises:
            ParaphinaError: The system or its simulator refused.
        """
        if drill.kind == "process":
            ask(self.run_dir.control, ControlRequest("drill", target=venue, fault=drill.name))  # type: ignore[arg-type]
            return
        body = {"fault": drill.fault or drill.name, **drill.arguments(self.conditions)}
        self._post(f"/fault/{venue}", body)

    def calm(self, drill: Drill, venue: str) -> None:
        """Clear the fault."""
        if drill.kind == "network":
            self._post(f"/fault/{venue}", {"fault": "clear"})

    def _post(self, path: str, body: dict[str, Any]) -> None:
        request = urllib.request.Request(f"{self.admin}{path}", data=json.dumps(body).encode())  # noqa: S310 - loopback admin URL
        try:
            with _opener.open(request, timeout=10):
                pass
        except urllib.error.HTTPError as error:
            raise ParaphinaError(f"the simulator refused: {error.read().decode('utf-8', 'replace')}") from error
        except OSError as error:
            raise ParaphinaError(f"the simulator does not answer: {error}") from error


@dataclass(frozen=True, slots=True)
class Attempt:
    """Result of one drill; durations in ms from the fault, None for milestones not reached.

    ``reason`` is the reported reason.
    """

    result: Literal["ok", "missed"]
    detected_ms: float | None
    recovered_ms: float | None
    fresh_ms: float | None
    note: str = ""
    reason: Reason | None = None


class _Watch:
    """Observer of one venue that records when each milestone is first reached after the fault."""

    def __init__(self, feed: Feed, venue: str, symbols: list[str], drill: Drill) -> None:
        self._feed = feed
        self._venue = venue
        self._symbols = symbols
        self._is_restart = drill.effect_on(venue) == "restart"
        self.since_ns = 0
        self.detected_ns: int | None = None
        self.recovered_ns: int | None = None
        self.fresh_ns: int | None = None
        self.reason: Reason | None = None

    def is_well(self) -> bool:
        return all(self._feed.book(self._venue, symbol).usable for symbol in self._symbols)

    def drifts(self) -> int:
        return sum(self._feed.book(self._venue, symbol).drifts for symbol in self._symbols)

    def step(self, timeout_s: float) -> None:
        event = self._feed.poll(timeout_s)
        if event is None or event.venue != self._venue or not self.since_ns:
            return
        now = time.monotonic_ns()
        if event.recv_mono_ns < self.since_ns:
            return
        if self.detected_ns is None and isinstance(event, Lifecycle | Gap | Status) and self._is_notice(event):
            self.detected_ns = event.recv_mono_ns if isinstance(event, Lifecycle) else now
            self.reason = event.reason
        if self.detected_ns is None:
            return
        if self.recovered_ns is None and self._is_return(event):
            self.recovered_ns = now
        if self.recovered_ns is not None and self.fresh_ns is None and self.is_well():
            self.fresh_ns = now

    def _is_notice(self, event: Lifecycle | Gap | Status) -> bool:
        if isinstance(event, Lifecycle):
            return event.event in {"exited", "killing"}
        if self._is_restart:
            return False
        return isinstance(event, Gap) or event.state in _NOTICED_STATES

    def _is_return(self, event: Event) -> bool:
        if self._is_restart:
            return isinstance(event, Lifecycle) and event.event == "started"
        return isinstance(event, BookSnapshot) and not _STAND_INS.intersection(event.flags)

    def ms(self, at_ns: int | None) -> float | None:
        return None if at_ns is None else round((at_ns - self.since_ns) / _MS, 1)


def attempt(target: DrillTarget, drill: Drill, venue: str, symbols: list[str]) -> Attempt:
    """Run a drill once on one venue and measure it.

    Raises:
        ParaphinaError: The fault could not be injected.
    """
    channels = ("book", "lifecycle")
    with Feed(target.run_dir.path, venues=[venue], channels=channels, name=name_of("drill")) as feed:
        watch = _Watch(feed, venue, symbols, drill)
        if not _until(watch, _well_for(watch, _SETTLE_S), _SETTLE_WITHIN_S):
            return Attempt("missed", None, None, None, "the venue was not well before the fault")
        watch.since_ns = time.monotonic_ns()
        target.inject(drill, venue)
        try:
            if drill.effect_on(venue) == "none":
                return _unaffected(watch)
            return _recovered(watch, drill.limit_s(target.conditions))
        finally:
            target.calm(drill, venue)


def _recovered(watch: _Watch, limit_s: float) -> Attempt:
    _until(watch, lambda: watch.fresh_ns is not None, limit_s + _OVERTIME_S)
    times = (watch.ms(watch.detected_ns), watch.ms(watch.recovered_ns), watch.ms(watch.fresh_ns))
    if watch.fresh_ns is None:
        note = "not noticed" if watch.detected_ns is None else "not fresh again"
        return Attempt("missed", *times, note, watch.reason)
    if watch.drifts():
        return Attempt("missed", *times, "a book differed from the worker's", watch.reason)
    is_ok = watch.fresh_ns - watch.since_ns <= limit_s * _NS
    return Attempt("ok" if is_ok else "missed", *times, reason=watch.reason)


def _unaffected(watch: _Watch) -> Attempt:
    """Check that every book stays usable throughout."""
    was_hurt = _until(watch, lambda: not watch.is_well(), _WATCH_S)
    if was_hurt:
        return Attempt("missed", watch.ms(time.monotonic_ns()), None, None, "a book became unusable")
    return Attempt("ok", None, None, 0.0, "no effect, as it should be")


def _until(watch: _Watch, condition: Callable[[], bool], within_s: float) -> bool:
    deadline = time.monotonic() + within_s
    while not condition():
        if time.monotonic() > deadline:
            return False
        watch.step(0.02)
    return True


def _well_for(watch: _Watch, seconds: float) -> Callable[[], bool]:
    """Return a condition: healthy without interruption for this long."""
    since: list[float] = []

    def condition() -> bool:
        if not watch.is_well():
            since.clear()
        elif not since:
            since.append(time.monotonic())
        return bool(since) and time.monotonic() - since[0] >= seconds

    return condition
