"""Recorder of a shadow run: what a consumer receives and what the board shows, one line per second.

Every line is complete, so an interrupted run keeps its value. The recorder only listens.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO, Final

import msgspec

from ipc.consumer_names import name_of
from ipc.errors import UnknownStateError, UsageError
from ipc.events import BookDelta, BookSnapshot, Event, Funding, Gap, Lifecycle, Status
from ipc.feed import Feed
from ipc.replica import BookReplica
from ipc.rundir import RunDir
from supervisor.status.document import read_status, symbols_of

FILE: Final = "shadow.jsonl"
#: Tick on which the predecessor sampled its ages.
_TICK_S: Final = 0.25
_SAMPLES_A_LINE: Final = 4
_MS: Final = 1_000_000
_US: Final = 1_000
#: Channels recorded event by event.
_KEPT: Final = (Status, Gap, Lifecycle)


class ShadowRecorder:
    """Recorder of one system; :meth:`run` ends after the duration or when ``stop()`` returns true.

    Args:
        run_dir: The system's directory.
        directory: Target of the record.
        compress: Factor by which the system's limits, and with them the criteria, are shortened.

    Raises:
        UsageError: The directory already holds another run.
        OSError: The record cannot be written.
    """

    def __init__(self, run_dir: RunDir, directory: Path, compress: float = 1.0) -> None:
        self._run_dir = run_dir
        described = run_dir.describe()
        self._venues = symbols_of(run_dir)
        directory.mkdir(parents=True, exist_ok=True)
        self._file = _new(directory / FILE)
        self._feed = Feed(run_dir.path, channels=("book", "funding", "lifecycle"), name=name_of("shadow"))
        self._applied_ns = {(venue, symbol): 0 for venue, symbols in self._venues.items() for symbol in symbols}
        self._funding_ns = dict.fromkeys(self._venues, 0)
        self._arrived: set[tuple[str, str]] = set()
        self._crossed = dict.fromkeys(self._venues, 0)
        #: Of each venue's book events since the last line, µs: from the read frame to this consumer, and from the
        #: exchange's stamp to the read frame (which contains the difference of two clocks).
        self._delivery_us: dict[str, list[int]] = {venue: [] for venue in self._venues}
        self._lag_us: dict[str, list[int]] = {venue: [] for venue in self._venues}
        self._ages: list[dict[str, list[int]]] = []
        self._write(
            {
                "type": "meta",
                "version": described.get("version"),
                "venues": self._venues,
                "compress": compress,
                "started_wall_ns": time.time_ns(),
                "started_mono_ns": time.monotonic_ns(),
                "is_simulated": described.get("simulator") is not None,
            }
        )

    def run(
        self, duration_s: float, stop: Callable[[], bool], progress: Callable[[float, dict[str, str]], None]
    ) -> None:
        """Record for ``duration_s`` seconds.

        Args:
            duration_s: Duration of the recording.
            stop: Polled every tick; true ends the recording early.
            progress: Receives the elapsed seconds and the state of every venue, every second.
        """
        started = time.monotonic()
        due = started + _TICK_S
        while not stop() and time.monotonic() - started < duration_s:
            # Off the tick: a feed with a cadence would otherwise always be sampled at the same phase.
            self._listen_until(due - random.uniform(0.0, _TICK_S))
            ages = self._true_ages()
            self._listen_until(due)
            self._ages.append({**ages, **self._tick_ages()})
            due = max(due + _TICK_S, time.monotonic())
            if len(self._ages) == _SAMPLES_A_LINE:
                states = self._write_line()
                progress(time.monotonic() - started, states)
        self._write({"type": "end", "was_stopped": stop(), "mono_ns": time.monotonic_ns()})

    def close(self) -> None:
        """Close the record."""
        self._feed.close()
        self._file.close()

    def _listen_until(self, due: float) -> None:
        while (left := due - time.monotonic()) > 0:
            event = self._feed.poll(left)
            if event is not None:
                self._handle(event)

    def _handle(self, event: Event) -> None:
        key = (event.venue, str(event.symbol))
        if isinstance(event, BookDelta | BookSnapshot) and key in self._applied_ns:
            self._applied_ns[key] = event.recv_mono_ns
            self._arrived.add(key)
            self._crossed[event.venue] += "crossed_by_venue" in event.flags
            self._measure(event)
        elif isinstance(event, Funding) and event.venue in self._funding_ns:
            self._funding_ns[event.venue] = event.recv_mono_ns
        if isinstance(event, _KEPT):
            self._write({"type": "event", "mono_ns": time.monotonic_ns(), "event": msgspec.to_builtins(event)})

    def _measure(self, event: BookDelta | BookSnapshot) -> None:
        """Note the latency of a book event; what is published again is as old as its original."""
        if "refresh" in event.flags:
            return
        self._delivery_us[event.venue].append((time.monotonic_ns() - event.recv_mono_ns) // _US)
        if event.exchange_ns:
            self._lag_us[event.venue].append((event.recv_ns - event.exchange_ns) // _US)

    def _true_ages(self) -> dict[str, list[int]]:
        """Return the age of every book, ms; -1 before its first event."""
        now = time.monotonic_ns()
        ages: dict[str, list[int]] = {venue: [] for venue in self._venues}
        for (venue, _), applied in self._applied_ns.items():
            ages[venue].append((now - applied) // _MS if applied else -1)
        return ages

    def _tick_ages(self) -> dict[str, list[int]]:
        """Return ages as the predecessor measured them: 0 when anything arrived within the tick."""
        true = self._true_ages()
        ages = {
            f"{venue}/tick": [
                0 if (venue, symbol) in self._arrived else age for symbol, age in zip(symbols, true[venue], strict=True)
            ]
            for venue, symbols in self._venues.items()
        }
        self._arrived.clear()
        return ages

    def _books(self, venue: str) -> list[BookReplica]:
        return [self._feed.book(venue, symbol) for symbol in self._venues[venue]]

    def _write_line(self) -> dict[str, str]:
        """Write the line of a second; return the state of every venue."""
        now = time.monotonic_ns()
        state = _status(self._run_dir)
        samples, self._ages = self._ages, []
        line: dict[str, Any] = {
            "type": "second",
            "mono_ns": now,
            "wall_ns": time.time_ns(),
            "supervisor": state["supervisor"]["state"],
            "lost": self._feed.lost,
            "drifts": sum(book.drifts for book in self._feed.books()),
            "venues": {},
        }
        for venue in self._venues:
            of = state["venues"].get(venue)
            line["venues"][venue] = {
                "ages_ms": [age for sample in samples for age in sample[venue]],
                "tick_ages_ms": [age for sample in samples for age in sample[f"{venue}/tick"]],
                "usable": all(book.usable for book in self._books(venue)),
                "funding_age_ms": (now - self._funding_ns[venue]) // _MS if self._funding_ns[venue] else None,
                "crossed": self._crossed[venue],
                "delivery_us": _summary(self._delivery_us[venue]),
                "lag_us": _summary(self._lag_us[venue]),
                **({} if of is None else _board_part(of)),
            }
        self._write(line)
        return {venue: str(of.get("state", "down")) for venue, of in line["venues"].items()}

    def _write(self, line: dict[str, Any]) -> None:
        self._file.write(msgspec.json.encode(line) + b"\n")
        self._file.flush()


def _summary(values: list[int]) -> list[int] | None:
    """Return median and greatest value, and clear the list; None without any."""
    if not values:
        return None
    ordered = sorted(values)
    values.clear()
    return [ordered[len(ordered) // 2], ordered[-1]]


def _new(path: Path) -> BinaryIO:
    try:
        return path.open("xb")
    except FileExistsError as error:
        raise UsageError("a run is recorded here already", where=str(path), advice="name another directory") from error


def _status(run_dir: RunDir) -> dict[str, Any]:
    """Read the system's status; an unknown status, for instance during an upgrade, does not end the run."""
    try:
        return read_status(run_dir)
    except UnknownStateError:
        return {"supervisor": {"state": "unknown"}, "venues": {}}


def _board_part(of: dict[str, Any]) -> dict[str, Any]:
    """Return the part of a venue's status that is recorded every second."""
    return {
        "state": of["state"],
        "outage": of["outage"],
        "restarts": of["restarts"],
        "rss_bytes": of["rss_bytes"],
        "drops": of["drops"],
        "uptime_to_fresh_ms": of["time_to_fresh_ms"],
        "funding_poll": of["streams"]["funding_poll"]["age_ms"],
        "since_fork_s": of["since_s"],
        "reconnects": {name: session["reconnects"] for name, session in of["sessions"].items()},
        "reason": of["streams"]["book"]["reason"],
    }
