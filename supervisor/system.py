"""What a system consists of: which children run what, at which addresses, in which slots of the board."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Final

from ipc.board import Board, WorkerWord
from ipc.errors import UsageError
from ipc.health import Stream
from ipc.rundir import RunDir, default_path
from simulator.settings import SimSettings
from simulator.tls import Contexts
from supervisor.child import Handover
from supervisor.config import Config, VenueConfig
from supervisor.logfile import reopen
from workers.accounts.secrets import scrub_environment
from workers.settings import WorkerSettings
from workers.venues import VENUES

__all__ = ["GATEWAY", "SIMULATOR", "SimulatorPlan", "System", "program_version", "worker_settings"]

GATEWAY: Final = "gateway"
SIMULATOR: Final = "simulator"
_DISTRIBUTION: Final = "paraphina-supervisor"
#: A venue has the same place on every board.
_SLOTS: Final = {name: slot for slot, name in enumerate((*VENUES, GATEWAY, SIMULATOR))}


def _streams(venue: VenueConfig) -> tuple[Stream, ...]:
    account = () if venue.account is None else (Stream.ACCOUNT,)
    return (*VENUES[venue.name].streams, Stream.FUNDING_POLL, *account)


def program_version() -> str:
    """The version of this program."""
    try:
        return version(_DISTRIBUTION)
    except PackageNotFoundError:
        return "unknown"


def worker_settings(
    config: Config,
    venue: VenueConfig,
    run_dir: RunDir,
    *,
    generation: int = 1,
    before: Handover | None = None,
    has_parent: bool = True,
) -> WorkerSettings:
    """What the worker of a venue is told."""
    return WorkerSettings(
        venue=venue.name,
        slot=_SLOTS[venue.name],
        run_dir=str(run_dir.path),
        feed=run_dir.feed(venue.name),
        bases=venue.markets,
        ws_url=venue.ws_url,
        rest_url=venue.rest_url,
        options=venue.options,
        stale_ms=venue.stale_ms,
        connect_timeout_ms=venue.connect_timeout_ms,
        read_timeout_ms=venue.read_timeout_ms,
        ping_interval_ms=venue.ping_interval_ms,
        pong_timeout_ms=venue.pong_timeout_ms,
        funding_poll_ms=venue.funding_poll_ms,
        watchdog_tick_ms=config.watchdog_tick_ms,
        backoff=config.backoff,
        generation=generation,
        last_epoch=before.epoch if before is not None else 0,
        last_reason=before.reason if before is not None else None,
        has_parent=has_parent,
        fixture_dir=venue.fixture_dir,
        is_paced=config.fixture_speed != "max",
        blackbox_kb=config.blackbox_kb,
        blackbox_dir=config.blackbox_dir,
        blackbox_keep=config.blackbox_keep,
        network=config.network,
        account=venue.account,
        account_period_ms=venue.account_period_ms,
    )


@dataclass(frozen=True, slots=True)
class SimulatorPlan:
    """A simulator that runs as a child: its settings, and where it is found."""

    settings: SimSettings
    admin: str
    #: WebSocket and REST base URL by venue.
    urls: Mapping[str, tuple[str, str]]
    #: How the venues speak TLS; made once, so that a simulator that is started again is trusted as before.
    tls_contexts: Contexts = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class System:
    """One system: its configuration, its directory, and the simulator in place of the venues if there is one."""

    config: Config
    run_dir: RunDir
    simulation: SimulatorPlan | None = None
    #: Reads the configuration again; None when it cannot change.
    reread: Callable[[], Config] | None = None
    #: Its log, when it runs in the background.
    log_file: Path | None = None

    @property
    def pid(self) -> int:
        """The parent's pid, when asked in the parent."""
        return os.getpid()

    @property
    def slots(self) -> dict[str, int]:
        """The children, in the order in which they are started, with their places on the board."""
        names = ([SIMULATOR] if self.simulation is not None else []) + [*self.config.venues, GATEWAY]
        return {name: _SLOTS[name] for name in names}

    def markets_of(self, name: str) -> tuple[str, ...]:
        """The base assets that a child follows; none for those that follow no market."""
        venue = self.config.venues.get(name)
        return venue.markets if venue is not None else ()

    def reloaded(self) -> System:
        """This system with its configuration as it stands now.

        Raises:
            ConfigError: It has mistakes.
            UsageError: It asks for what cannot be had without a new start.
        """
        if self.reread is None:
            return self
        config = self.reread()
        strangers = set(config.venues) - set(self.simulation.urls) if self.simulation is not None else set()
        if strangers:
            raise UsageError(f"{', '.join(sorted(strangers))} is not simulated here", advice="stop and start anew")
        return replace(self, config=config)

    def run_child(self, name: str, board: Board, generation: int, before: Handover) -> None:
        """What a child does; called in the child."""
        path = self.log_file
        if path is not None:
            signal.signal(signal.SIGUSR2, lambda *_: reopen(path))
        if name == SIMULATOR:
            from simulator.main import run

            scrub_environment()
            assert self.simulation is not None  # noqa: S101 - it would not be in the slots
            row = board.worker(_SLOTS[name])
            run(
                self.simulation.settings,
                ready=lambda: row.__setitem__(WorkerWord.FIRST_FRESH, time.monotonic_ns()),
                tls_contexts=self.simulation.tls_contexts,
            )
            return
        stop = threading.Event()
        signal.signal(signal.SIGTERM, lambda *_: stop.set())
        if name == GATEWAY:
            from supervisor.gateway import Gateway

            scrub_environment()
            row = board.worker(_SLOTS[name])
            Gateway(self.run_dir, row, before, stop, self.config.network, self.log_file).run()
            return
        from workers.worker import Worker

        scrub_environment(keep=name)
        settings = worker_settings(
            self.config, self.config.venues[name], self.run_dir, generation=generation, before=before
        )
        Worker(settings, board, stop).run()

    def describe(self) -> dict[str, Any]:
        """The system in text, for readers that have only its run directory."""
        return {
            "version": program_version(),
            "pid": self.pid,
            "log": None if self.log_file is None else str(self.log_file),
            "started_wall_ns": time.time_ns(),
            "venues": {name: self._describe_venue(venue) for name, venue in self.config.venues.items()},
            "gateway": {"slot": _SLOTS[GATEWAY], "feed": self.run_dir.feed("lifecycle"), "http": None},
            "simulator": self._describe_simulator(),
        }

    def hints(self) -> list[str]:
        """What to try next, for whoever has just started it."""
        name = next(iter(self.config.venues))
        symbol = f"{self.config.venues[name].markets[0]}-PERP"
        lines = [
            "in another terminal:",
            "  paraphina-supervisor status --watch          how every stream is, and why",
            f"  paraphina-supervisor book {name} {symbol}   a live order book",
            "  paraphina-supervisor tail trade.             every trade on every venue",
            f"  kill -9 $(paraphina-supervisor status --pid {name})   then watch it come back",
        ]
        return lines if self.run_dir_is_default else [*lines, f"each with --run-dir {self.run_dir.path}"]

    @property
    def run_dir_is_default(self) -> bool:
        """Whether the verbs find this system without being told where it is."""
        return self.run_dir.path == default_path(os.environ)

    def _describe_venue(self, venue: VenueConfig) -> dict[str, Any]:
        return {
            "slot": _SLOTS[venue.name],
            "feed": self.run_dir.feed(venue.name),
            "account": None if venue.account is None else self.run_dir.account(venue.name),
            "symbols": [f"{base}-PERP" for base in venue.markets],
            "streams": [str(stream) for stream in _streams(venue)],
            "ws": venue.ws_url,
            "rest": venue.rest_url,
        }

    def _describe_simulator(self) -> dict[str, Any] | None:
        if self.simulation is None:
            return None
        urls = {name: {"ws": ws, "rest": rest} for name, (ws, rest) in self.simulation.urls.items()}
        return {"slot": _SLOTS[SIMULATOR], "admin": self.simulation.admin, "venues": urls}
