"""Simulator in its own process, with a client of its admin API."""

from __future__ import annotations

import base64
import contextlib
import json
import pickle
import select
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from typing import Any, Self

from simulator.settings import SimSettings, VenueUrls, admin_url, endpoints, pick_ports

__all__ = ["SimulatorProcess", "make_settings", "wait_until"]

_START_S = 30.0

#: Program that dies with its parent, prints when it is ready, and serves until stopped.
_CHILD = """
import base64, ctypes, pickle, signal, sys
ctypes.CDLL(None).prctl(1, signal.SIGKILL)
from ipc import log
from simulator.main import run
log.setup("warning")
run(pickle.loads(base64.b64decode(sys.argv[1])), lambda: print("ready", flush=True))
"""


def make_settings(**changes: Any) -> SimSettings:
    """Return settings with free ports."""
    venues = {"venues": changes["venues"]} if "venues" in changes else {}
    ports = pick_ports(**venues)
    return SimSettings(ports=ports.venues, admin_port=ports.admin, **changes)


def wait_until(condition: Callable[[], Any], timeout_s: float = 20.0) -> Any:
    """Wait until ``condition`` returns a true value, and return it."""
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        found = condition()
        if found:
            return found
        time.sleep(0.02)
    raise AssertionError(f"condition not met within {timeout_s} s: {condition}")


class SimulatorProcess:
    """Simulator for third-party clients; also a context manager."""

    def __init__(self, settings: SimSettings | None = None) -> None:
        self.settings = settings or make_settings()
        self.urls: dict[str, VenueUrls] = endpoints(self.settings)
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> Self:
        """Start it and wait until its ports listen."""
        packed = base64.b64encode(pickle.dumps(self.settings)).decode()
        self._process = subprocess.Popen([sys.executable, "-c", _CHILD, packed], stdout=subprocess.PIPE)
        assert self._process.stdout is not None
        ready, _, _ = select.select([self._process.stdout], [], [], _START_S)
        if not ready or self._process.stdout.readline() != b"ready\n":
            self.stop()
            raise AssertionError("the simulator did not start")
        return self

    def signal(self, number: int) -> None:
        """Send it a signal."""
        assert self._process is not None
        self._process.send_signal(number)

    def stop(self) -> int | None:
        """End it; its exit code."""
        process, self._process = self._process, None
        if process is None:
            return None
        process.terminate()
        try:
            code = process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            code = process.wait()
        if process.stdout is not None:
            process.stdout.close()
        return code

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *exc: object) -> None:
        self.stop()

    def ask(self, path: str, body: Any = None) -> tuple[int, Any]:
        """A request to the admin API: GET without a body, else POST; status and JSON answer."""
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(admin_url(self.settings) + path, data=data)
        try:
            with contextlib.closing(urllib.request.urlopen(request, timeout=10)) as answer:
                return answer.status, json.load(answer)
        except urllib.error.HTTPError as error:
            with error:
                return error.code, json.load(error)

    def pause(self) -> None:
        """Bring all subscribers up to date and hold the markets still."""
        assert self.ask("/pause", {})[0] == 200

    def resume(self) -> None:
        """Let the markets move again."""
        assert self.ask("/resume", {})[0] == 200

    def truth(self, venue: str, symbol: str) -> dict[str, Any]:
        """What a market's book and trades really are."""
        status, answer = self.ask(f"/truth/{venue}/{symbol}")
        assert status == 200, answer
        return answer

    def fault(self, venue: str, name: str, **arguments: Any) -> int:
        """Inject a fault; its id."""
        status, answer = self.ask(f"/fault/{venue}", {"fault": name, **arguments})
        assert status == 200, answer
        return answer["id"]

    def clear(self, venue: str) -> None:
        """End all faults of a venue."""
        self.fault(venue, "clear")

    def mend(self) -> None:
        """End all faults, and let the markets move."""
        for venue in self.urls:
            self.clear(venue)
        self.resume()

    def activity(self, venue: str, symbol: str, factor: float) -> None:
        """Make a market busier or quieter."""
        assert self.ask(f"/activity/{venue}/{symbol}", {"factor": factor})[0] == 200

    def faults(self) -> dict[str, Any]:
        """What can be ordered and what is at work."""
        return self.ask("/faults")[1]

    def stats(self, venue: str) -> dict[str, Any]:
        """Connections, subscriptions and requests of a venue."""
        return self.ask("/stats")[1]["venues"][venue]
