"""Fault controller: validates requests, starts and ends faults, and lists active ones."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import count
from typing import Any

import msgspec

from ipc.errors import UsageError
from ipc.health import Stream
from ipc.log import get_log
from simulator.faults import FAULTS
from simulator.faults.fault import Fault
from simulator.schedule import Job, Schedule
from simulator.venue import SimulatedVenue

log = get_log(__name__)


@dataclass(slots=True)
class _Active:
    number: int
    venue: SimulatedVenue
    fault: Fault[Any]
    request: dict[str, Any]
    since_s: float
    timer: Job | None = field(default=None)


class FaultController:
    """Faults of a simulation."""

    def __init__(self, venues: Mapping[str, SimulatedVenue], schedule: Schedule) -> None:
        self._venues = venues
        self._schedule = schedule
        self._numbers = count(1)
        self._active: dict[int, _Active] = {}

    def inject(self, venue_name: str, request: Any) -> int:
        """Start a fault at a venue; the name ``clear`` ends all of the venue's faults.

        Args:
            venue_name: Simulated venue.
            request: ``fault`` and its parameters.

        Returns:
            Number of the fault; 0 for ``clear``.

        Raises:
            UsageError: Unknown venue or fault, or invalid parameters; the advice lists valid ones.
        """
        venue = self._venues.get(venue_name)
        if venue is None:
            raise UsageError(f"no venue {venue_name!r}", where="venue", advice=", ".join(self._venues))
        if not isinstance(request, dict) or request.get("fault") not in {*FAULTS, "clear"}:
            named = request.get("fault") if isinstance(request, dict) else request
            raise UsageError(f"no fault {named!r}", where="fault", advice=", ".join([*FAULTS, "clear"]))
        if request["fault"] == "clear":
            self.clear(venue)
            return 0
        return self._start(venue, request)

    def clear(self, venue: SimulatedVenue) -> None:
        """End all faults of a venue."""
        for active in [active for active in self._active.values() if active.venue is venue]:
            self._end(active.number)

    def describe(self) -> dict[str, Any]:
        """Return available and active faults."""
        faults = {
            name: {"description": _summary(fault), "parameters": _schema(fault)} for name, fault in FAULTS.items()
        }
        now = self._schedule.mono_s()
        active = [
            {"id": one.number, "venue": one.venue.name, **one.request, "age_s": round(now - one.since_s, 3)}
            for one in self._active.values()
        ]
        return {"faults": faults, "active": active}

    def _start(self, venue: SimulatedVenue, request: dict[str, Any]) -> int:
        kind, number = FAULTS[request["fault"]], next(self._numbers)
        if kind.venues and venue.name not in kind.venues:
            raise UsageError(f"no {kind.name} at {venue.name}", where="venue", advice=", ".join(kind.venues))
        if kind.needs_tls and not venue.settings.tls:
            raise UsageError(
                f"{kind.name} needs TLS, which is off in this simulator",
                where="fault",
                advice="start the simulator with TLS",
            )
        args = _arguments(kind, venue, request)
        if args.peer is not None and not kind.can_have_peer:
            raise UsageError(f"{kind.name} strikes every client", where="peer", advice="leave it out")
        active = _Active(number, venue, kind(venue, args, lambda: self._end(number)), request, self._schedule.mono_s())
        self._active[number] = active
        venue.hooks.append(active.fault)
        log.info("sim.fault", venue=venue.name, fault=kind.name, id=number)
        if args.duration_s is not None:
            active.timer = self._schedule.once(args.duration_s, lambda: self._end(number))
        active.fault.begin()
        return number

    def _end(self, number: int) -> None:
        active = self._active.pop(number, None)
        if active is None:
            return
        if active.timer is not None:
            active.timer.cancel()
        active.venue.hooks.remove(active.fault)
        active.fault.end()
        log.info("sim.fault_over", venue=active.venue.name, fault=active.fault.name, id=number)


def _arguments(kind: type[Fault[Any]], venue: SimulatedVenue, request: dict[str, Any]) -> Any:
    given = {name: value for name, value in request.items() if name != "fault"}
    try:
        args = msgspec.convert(given, kind.parameters)
    except msgspec.ValidationError as error:
        raise UsageError(str(error), where=kind.name, advice=f"parameters: {', '.join(_schema(kind))}") from error
    symbol, stream = getattr(args, "symbol", None), getattr(args, "stream", None)
    if symbol is not None and symbol not in venue.markets:
        raise UsageError(f"no market {symbol!r}", where="symbol", advice=", ".join(venue.markets))
    if stream is not None and stream not in set(Stream):
        raise UsageError(f"no stream {stream!r}", where="stream", advice=", ".join(Stream))
    return args


def _summary(kind: type[Fault[Any]]) -> str:
    return (kind.__doc__ or "").strip().splitlines()[0]


def _schema(kind: type[Fault[Any]]) -> dict[str, Any]:
    """Return the parameters of a fault as JSON Schema properties."""
    definitions = msgspec.json.schema(kind.parameters)["$defs"]
    properties: dict[str, Any] = definitions[kind.parameters.__name__]["properties"]
    return properties
