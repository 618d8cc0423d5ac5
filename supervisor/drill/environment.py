"""Simulated system for drills, with shortened limits, in a temporary directory; and the drill of its parent."""

from __future__ import annotations

import contextlib
import signal
import time
from dataclasses import replace
from importlib.util import find_spec
from typing import Final, Self

from ipc.errors import ParaphinaError
from supervisor.drill.catalogue import Conditions
from supervisor.drill.measure import Attempt, DrillTarget
from supervisor.proc import is_alive
from supervisor.status.document import read_status
from supervisor.temporary import TemporarySystem

_LIVE_WITHIN_S: Final = 60.0
#: Limit for all children to be gone after the parent is killed.
_GONE_LIMIT_S: Final = 1.0
_START_LIMIT_S: Final = 15.0
_MS: Final = 1_000_000

SHORTENED: Final = Conditions(stale_s=2.0, ping_s=1.0, pong_s=1.0, connect_s=3.0)


class DrillEnvironment:
    """Context manager that runs a simulated system; its venues speak TLS where trustme is installed.

    Args:
        venues: Venues to run.
        first_restart: ``backoff`` or ``immediate``.
    """

    def __init__(self, venues: list[str], first_restart: str = "backoff") -> None:
        self._venues = venues
        self._system = TemporarySystem()
        self.run_dir = self._system.run_dir
        self.conditions = SHORTENED if first_restart == "backoff" else replace(SHORTENED, first_s=0.0)
        self._config = self._system.path / "config.toml"
        self._config.write_text(_settings(venues, self.conditions, first_restart))

    def __enter__(self) -> Self:
        try:
            self.start()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._system.__exit__()

    def start(self) -> float:
        """Start the system, wait until every venue is live, and return how long that took, s.

        Raises:
            ParaphinaError: It did not go live.
        """
        started = time.monotonic()
        sim = ["--sim", "--sim-tls"] if find_spec("trustme") else ["--sim"]
        self._system.start(*sim, "--config", str(self._config), "--venues", ",".join(self._venues))
        while not self._is_live():
            if time.monotonic() - started > _LIVE_WITHIN_S or self._system.has_ended:
                tail = self._system.log_tail()
                raise ParaphinaError(f"the system to drill did not go live; its log ends with\n{tail}")
            time.sleep(0.02)
        return time.monotonic() - started

    def target(self) -> DrillTarget:
        """Return this system as a drill target."""
        return DrillTarget.of(self.run_dir, self.conditions)

    def kill_parent(self) -> Attempt:
        """Kill the parent, check that all children go with it, and start again."""
        process = self._system.process
        assert process is not None  # noqa: S101 - set by start()
        state = read_status(self.run_dir)
        pids = [of["pid"] for of in [*state["venues"].values(), state["gateway"], state["simulator"]] if of["pid"]]
        killed = time.monotonic_ns()
        process.send_signal(signal.SIGKILL)
        gone_ms: float | None = None
        while gone_ms is None and time.monotonic_ns() - killed < 10_000 * _MS:
            if not any(is_alive(pid) for pid in pids):
                gone_ms = round((time.monotonic_ns() - killed) / _MS, 1)
            time.sleep(0.001)
        process.wait()
        if gone_ms is None:
            return Attempt("missed", None, None, None, "processes were left behind")
        fresh_s = self.start()
        is_ok = gone_ms <= _GONE_LIMIT_S * 1000 and fresh_s <= _START_LIMIT_S
        return Attempt(
            "ok" if is_ok else "missed",
            gone_ms,
            gone_ms,
            round(fresh_s * 1000, 1),
            "all processes gone, then live again",
        )

    def _is_live(self) -> bool:
        """Return whether every venue of this parent is live; ignore what a predecessor left on the board."""
        with contextlib.suppress(ParaphinaError):
            state = read_status(self.run_dir)
            process = self._system.process
            is_ours = process is not None and state["supervisor"]["pid"] == process.pid
            return is_ours and bool(state["venues"]) and all(of["state"] == "live" for of in state["venues"].values())
        return False


def _settings(venues: list[str], of: Conditions, first_restart: str) -> str:
    """Return a configuration with short limits."""
    lines = [
        "[supervisor]",
        "blackbox_kb = 0",
        f'first_restart = "{first_restart}"',
        "tick_ms = 100",
        "[health]",
        "healthy_threshold_ms = 100",
        "watchdog_tick_ms = 100",
        "memory_limit_mb = 512",
    ]
    for venue in venues:
        lines += [
            f"[venues.{venue}]",
            f"stale_ms = {int(of.stale_s * 1000)}",
            f"ping_interval_ms = {int(of.ping_s * 1000)}",
            f"pong_timeout_ms = {int(of.pong_s * 1000)}",
            f"connect_timeout_ms = {int(of.connect_s * 1000)}",
            "read_timeout_ms = 5000",
            "funding_poll_ms = 1000",
        ]
    return "\n".join(lines) + "\n"
