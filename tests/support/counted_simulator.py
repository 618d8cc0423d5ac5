"""A simulator in a process of its own that records what counts against the venues' limits, and when.

Several systems, or the lines of one, are its clients; their configuration names its URLs.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

from ipc.free_ports import free_ports
from simulator import limits
from simulator.main import run
from simulator.settings import SimSettings, VenuePorts, endpoints

__all__ = ["CountedSimulator", "Spending"]

_LISTENS_S = 30.0


@dataclass
class Spending:
    """What was spent of one limit: (time in s, units) in order; ``refused`` are the requests over it."""

    limit: int
    window_s: float
    spent: list[tuple[float, int]] = field(default_factory=list)
    refused: int = 0

    @property
    def peak(self) -> int:
        """The most that was requested within one window, refused or not."""
        most, units, first = 0, 0, 0
        for at_s, amount in self.spent:
            units += amount
            while self.spent[first][0] <= at_s - self.window_s:
                units -= self.spent[first][1]
                first += 1
            most = max(most, units)
        return most


class CountedSimulator:
    """Simulator of some venues; a context manager."""

    def __init__(self, path: Path, venues: tuple[str, ...], bases: tuple[str, ...], rate: float = 1.0) -> None:
        self._path = path / "spent"
        self.venues = venues
        ports = list(free_ports(2 * len(venues) + 1, "127.0.0.1"))
        self._ports = {name: VenuePorts(ports[2 * at], ports[2 * at + 1]) for at, name in enumerate(venues)}
        self._given = {
            "ports": {name: (one.ws, one.rest) for name, one in self._ports.items()},
            "admin_port": ports[-1],
            "venues": venues,
            "bases": bases,
            "rate": rate,
        }

    def __enter__(self) -> Self:
        command = [sys.executable, __file__, str(self._path), json.dumps(self._given)]
        self._process = subprocess.Popen(command, stdout=subprocess.PIPE)
        assert self._process.stdout is not None
        assert self._process.stdout.readline() == b"ready\n"
        return self

    def __exit__(self, *_: object) -> None:
        self._process.terminate()
        self._process.wait(_LISTENS_S)

    def config(self) -> str:
        """The part of a configuration that leads each venue to this simulator."""
        urls = endpoints(_settings(self._given))
        return "".join(f'[venues.{name}]\nws_url = "{of.ws}"\nrest_url = "{of.rest}"\n' for name, of in urls.items())

    def spending(self) -> dict[str, Spending]:
        """What was spent so far, by the limit's place and size."""
        found: dict[str, Spending] = {}
        refused: dict[str, int] = defaultdict(int)
        for line in self._path.read_text().splitlines():
            key, limit, window_s, at_s, units, is_granted = json.loads(line)
            found.setdefault(key, Spending(limit, window_s)).spent.append((at_s, units))
            refused[key] += not is_granted
        for key, one in found.items():
            one.refused = refused[key]
        return found


def _settings(given: dict[str, Any]) -> SimSettings:
    ports = {name: VenuePorts(*pair) for name, pair in given["ports"].items()}
    return SimSettings(ports, given["admin_port"], tuple(given["venues"]), tuple(given["bases"]), given["rate"], seed=1)


def main() -> None:
    """Serve until SIGTERM; append a line for each unit that is requested of a limit."""
    path, given = sys.argv[1], json.loads(sys.argv[2])
    out = open(path, "w", buffering=1)  # noqa: SIM115 - for the life of the process
    created, acquired = limits.RateLimit.__init__, limits.RateLimit.acquire
    names: dict[int, str] = {}

    def create(self: Any, limit: int, window_s: float, clock: Any) -> None:
        created(self, limit, window_s, clock)
        frame = sys._getframe(2)
        place = frame.f_globals["__name__"].removeprefix("simulator.venues.")
        names[id(self)] = f"{place} {limit} in {window_s:g} s #{len(names)}"

    def acquire(self: Any, units: int = 1) -> bool:
        is_granted = acquired(self, units)
        out.write(json.dumps([names[id(self)], self.limit, self.window_s, time.monotonic(), units, is_granted]) + "\n")
        return is_granted

    limits.RateLimit.__init__ = create  # type: ignore[method-assign]
    limits.RateLimit.acquire = acquire  # type: ignore[method-assign]

    def ready() -> None:
        sys.stdout.write("ready\n")
        sys.stdout.flush()

    run(_settings(given), ready)


if __name__ == "__main__":
    main()
