"""Composition of a system: its processes, their settings, addresses and board slots."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from ipc.board import PROCESSES, Board, WorkerWord
from ipc.errors import ConfigError, UsageError
from ipc.health import Stream
from ipc.lines import LINES, Line, line_of, other_line, process_of, venue_of
from ipc.log import name_process, without_hidden
from ipc.rundir import RunDir, default_path, replace_file
from simulator.settings import SimSettings
from simulator.tls import Contexts
from supervisor.child import Handover
from supervisor.config import Config, VenueConfig
from supervisor.logfile import reopen
from supervisor.proc import pid_namespace
from workers.accounts.secrets import scrub_environment
from workers.backoff import BackoffPolicy
from workers.net.proxy import Proxy
from workers.settings import WorkerSettings
from workers.venues import VENUES

if TYPE_CHECKING:
    from supervisor.serving.pages import Serving

GATEWAY: Final = "gateway"
SIMULATOR: Final = "simulator"
_DISTRIBUTION: Final = "paraphina-supervisor"


class SlotTable:
    """Board slots of processes: each name gets a free one at its first use and keeps it while the board exists."""

    def __init__(self) -> None:
        self._slots: dict[str, int] = {}

    def __getitem__(self, name: str) -> int:
        slot = self._slots.setdefault(name, len(self._slots))
        if slot >= PROCESSES:
            raise UsageError(f"no board slot is left for {name!r}", advice=f"run at most {PROCESSES} processes")
        return slot


def _streams(venue: VenueConfig) -> tuple[Stream, ...]:
    account = () if venue.account is None else (Stream.ACCOUNT,)
    return (*VENUES[venue.name].streams, Stream.FUNDING_POLL, *account)


def _shown(proxy: Proxy | None) -> str | None:
    return None if proxy is None else str(proxy)


@cache
def program_version() -> str:
    """Return the version of this program; of the one that runs, also after an upgrade on disk."""
    try:
        return version(_DISTRIBUTION)
    except PackageNotFoundError:
        return "unknown"


def worker_settings(
    config: Config,
    venue: VenueConfig,
    run_dir: RunDir,
    *,
    slot: int,
    line: Line | None = None,
    peer_slot: int | None = None,
    generation: int = 1,
    before: Handover | None = None,
    has_parent: bool = True,
) -> WorkerSettings:
    """Return the settings of a venue's worker, of one line of it where there are two."""
    venue = venue.of_line(line)
    return WorkerSettings(
        venue=venue.name,
        slot=slot,
        run_dir=str(run_dir.path),
        feed=run_dir.feed(process_of(venue.name, line)),
        bases=venue.markets,
        ws_url=venue.ws_url,
        rest_url=venue.rest_url,
        options=venue.options,
        dial=venue.dial,
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
        limit_share=config.limit_share,
        line=line,
        peer_slot=peer_slot,
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
    """Settings and addresses of a simulator that runs as a child process."""

    settings: SimSettings
    admin: str
    #: WebSocket and REST base URL by venue.
    urls: Mapping[str, tuple[str, str]]
    #: TLS contexts of the venues, created once: clients still trust a simulator that was restarted.
    tls_contexts: Contexts = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class System:
    """Supervised system: its configuration, its run directory, and the simulator that replaces the venues, if any."""

    config: Config
    run_dir: RunDir
    simulation: SimulatorPlan | None = None
    #: Loads the configuration again; None when it cannot change.
    reread: Callable[[], Config] | None = None
    #: Log file of a system that runs in the background.
    log_file: Path | None = None
    #: Slots of all processes since the board was created, including those that a reload removed.
    slot_table: SlotTable = field(default_factory=SlotTable)

    @property
    def pid(self) -> int:
        """Pid of the current process, the parent's when read there."""
        return os.getpid()

    @property
    def slots(self) -> dict[str, int]:
        """Board slots by process, in the order in which the processes are started."""
        first = [SIMULATOR] if self.simulation is not None else []
        return {name: self.slot_table[name] for name in (*first, *self.config.venues, GATEWAY, *self.second_lines)}

    @property
    def workers(self) -> list[str]:
        """Processes of all venues, the lines of a venue together."""
        return [process_of(venue.name, line) for venue in self.config.venues.values() for line in venue.lines]

    @property
    def second_lines(self) -> list[str]:
        """Processes of the lines that start after their venue's first one."""
        return [name for name in self.workers if line_of(name) != LINES[0]]

    def lines_of(self, venue: str) -> list[str]:
        """Return the processes of a venue, the first line first."""
        return [process_of(venue, line) for line in self.config.venues[venue].lines]

    def policy_of(self, name: str) -> BackoffPolicy:
        """Return the delays between the starts of a process; the first of gateway and simulator is never skipped."""
        policy = self.config.backoff
        if venue_of(name) in self.config.venues:
            return policy
        return BackoffPolicy(policy.base_s, policy.cap_s, 0.0, policy.jitter)

    def markets_of(self, name: str) -> tuple[str, ...]:
        """Return the base assets that a process follows; empty for the gateway and the simulator."""
        venue = self.config.venues.get(venue_of(name))
        return venue.markets if venue is not None else ()

    def reloaded(self) -> System:
        """Return this system with the current configuration.

        Raises:
            ConfigError: The configuration is invalid.
            UsageError: A change needs a restart of the system.
        """
        if self.reread is None:
            return self
        config = self.reread()
        missing = set(config.venues) - set(self.simulation.urls) if self.simulation is not None else set()
        if missing:
            raise UsageError(f"{', '.join(sorted(missing))} is not simulated here", advice="stop and start the system")
        return replace(self, config=config)

    def run_child(self, name: str, board: Board, generation: int, before: Handover) -> None:
        """Run a child process; called in the child after the fork. Leave the text of a configuration error behind."""
        error_file = self.run_dir.error_file(name)
        with suppress(OSError):
            error_file.unlink()
        try:
            self._run_child(name, board, generation, before)
        except ConfigError as error:
            with suppress(OSError):
                replace_file(error_file, without_hidden(str(error)).encode(errors="replace"))
            raise

    def _run_child(self, name: str, board: Board, generation: int, before: Handover) -> None:
        path = self.log_file
        if path is not None:
            signal.signal(signal.SIGUSR2, lambda *_: reopen(path))
        if name == SIMULATOR:
            from simulator.main import run

            scrub_environment()
            assert self.simulation is not None  # noqa: S101 - otherwise it has no process
            row = board.worker(self.slot_table[name])
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
            row = board.worker(self.slot_table[name])
            Gateway(self.run_dir, row, before, stop, self.config.network, self.log_file, self._server(board)).run()
            return
        from workers.worker import Worker

        venue = self.config.venues[venue_of(name)]
        scrub_environment(keep=venue.name)
        line = None if venue.line_b is None else line_of(name)
        if line not in {None, LINES[0]}:
            name_process(name)
        settings = worker_settings(
            self.config,
            venue,
            self.run_dir,
            slot=self.slot_table[name],
            line=line,
            peer_slot=None if line is None else self.slot_table[process_of(venue.name, other_line(line))],
            generation=generation,
            before=before,
        )
        Worker(settings, board, stop).run()

    def _server(self, board: Board) -> Serving | None:
        """Return the gateway's HTTP server; None when there is none."""
        config = self.config.gateway
        if config.http is None:
            return None
        from supervisor.serving.pages import Serving

        return Serving(config, config.http, self.run_dir, board, [self.slot_table[name] for name in self.config.venues])

    def describe(self) -> dict[str, Any]:
        """Return the description for readers that have only the run directory."""
        return {
            "version": program_version(),
            "pid": self.pid,
            "tick_ms": self.config.tick_ms,
            "pid_namespace": pid_namespace(),
            "log": None if self.log_file is None else str(self.log_file),
            "started_wall_ns": time.time_ns(),
            "processes": {name: {"slot": slot} for name, slot in self.slots.items()},
            "venues": {name: self._describe_venue(venue) for name, venue in self.config.venues.items()},
            "gateway": {"feed": self.run_dir.feed("lifecycle"), "http": self.http, "tcp": self._tcp("lifecycle")},
            "simulator": self._describe_simulator(),
        }

    @property
    def http(self) -> str | None:
        """URL of the status page, or ``unix:/path``; None without an HTTP server."""
        address = self.config.gateway.http
        return None if address is None else address.url

    def hints(self) -> list[str]:
        """Return lines that suggest what to try next."""
        name = next(iter(self.config.venues))
        symbol = f"{self.config.venues[name].markets[0]}-PERP"
        lines = [
            "in another terminal:",
            "  paraphina-supervisor status --watch          state of every stream, with reasons",
            f"  paraphina-supervisor book {name} {symbol}   a live order book",
            "  paraphina-supervisor tail trade.             every trade on every venue",
            f"  kill -9 $(paraphina-supervisor status --pid {name})   then watch it come back",
        ]
        if self.http is not None:
            lines.insert(0, f"in a browser: {self.http}")
        return lines if self.run_dir_is_default else [*lines, f"each with --run-dir {self.run_dir.path}"]

    @property
    def run_dir_is_default(self) -> bool:
        """True when the verbs find this system without ``--run-dir``."""
        return self.run_dir.path == default_path(os.environ)

    def _describe_venue(self, venue: VenueConfig) -> dict[str, Any]:
        described = {
            **self._describe_line(venue, venue.lines[0]),
            "symbols": [f"{base}-PERP" for base in venue.markets],
            "streams": [str(stream) for stream in _streams(venue)],
        }
        if venue.line_b is not None:
            described["lines"] = {line: self._describe_line(venue, line) for line in LINES}
        return described

    def _describe_line(self, venue: VenueConfig, line: Line | None) -> dict[str, Any]:
        """Return the addresses of a line, those that consumers connect to and those that it connects to."""
        name, way = process_of(venue.name, line), venue.of_line(line)
        return {
            "feed": self.run_dir.feed(name),
            "account": None if venue.account is None else self.run_dir.account(name),
            "tcp": self._tcp(name),
            "account_tcp": self._tcp(name, account=True),
            "ws": way.ws_url,
            "rest": way.rest_url,
            "proxy": _shown(way.dial.proxy_for(way.ws_url)),
            "rest_proxy": _shown(way.dial.proxy_for(way.rest_url)),
        }

    def _tcp(self, name: str, *, account: bool = False) -> str | None:
        """Return the TCP endpoint of a feed; None where there is none."""
        network = self.config.network
        return None if network is None else network.endpoint(name, account=account)

    def _describe_simulator(self) -> dict[str, Any] | None:
        if self.simulation is None:
            return None
        urls = {name: {"ws": ws, "rest": rest} for name, (ws, rest) in self.simulation.urls.items()}
        return {"admin": self.simulation.admin, "venues": urls}
