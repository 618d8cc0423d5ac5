"""Systems that a consumer reads: which processes they have, and at which endpoints those publish.

A system on this machine says so in ``describe.json``, one over TCP in the directory that ``lifecycle`` publishes.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple, TypeAlias

from msgspec import UNSET

from ipc.errors import FeedError, NotRunningError, UnknownStateError
from ipc.events import Lifecycle, ProcessPorts
from ipc.feed_state import LIFECYCLE
from ipc.lines import LINES, Line, process_of
from ipc.remote import Remote, tcp_endpoint
from ipc.rundir import RunDir, run_dir_of
from ipc.sources import host_names
from ipc.topics import FEED_PORTS, VENUES

#: Word of the lifecycle event that carries the directory, and the process that it names.
DIRECTORY: Final = "directory"
#: Lifecycle events of a process from which on its endpoints are described.
_ARRIVALS: Final = frozenset({"started", "live"})

#: Run directory of a system: one, or several; None for the one in the environment, else the default one.
RunDirs: TypeAlias = str | Path | Sequence[str | Path] | None
#: System over TCP: one, or several, with None for the run directory; None for no other than that.
Remotes: TypeAlias = Remote | Sequence[Remote | None] | None


class ProcessEndpoints(NamedTuple):
    """ZeroMQ endpoints of a process: of its feed, and of its account feed, if it has one."""

    feed: str
    account: str | None


class LocalSystem:
    """System of this machine.

    Attributes:
        processes: Described endpoints by process; empty before there is a description.
    """

    remote: Final = None

    def __init__(self, host: str, run_dir: RunDir) -> None:
        self.host = host
        self.run_dir = run_dir
        self.processes: dict[str, ProcessEndpoints] = {}
        self._seen: tuple[int, ...] = ()
        self._read()

    @property
    def lifecycle(self) -> str:
        """Endpoint of the lifecycle events."""
        return self.run_dir.feed(LIFECYCLE)

    def feed(self, venue: str, line: Line) -> str | None:
        """Return the endpoint of a line's feed; None for a line b that is not described."""
        described = self.processes.get(process_of(venue, line))
        if described is not None:
            return described.feed
        return self.run_dir.feed(venue) if line == LINES[0] else None

    def account(self, venue: str, line: Line) -> str | None:
        """Return the endpoint of a line's account feed; None for a line b that is not described."""
        described = self.processes.get(process_of(venue, line))
        if described is not None and described.account is not None:
            return described.account
        return self.run_dir.account(venue) if line == LINES[0] else None

    def venues(self) -> tuple[str, ...]:
        """Return the described venues, else those that there may be."""
        return tuple(name for name in self.processes if "." not in name) or VENUES

    def followed(self) -> tuple[str, ...]:
        """Return the venues whose account is followed."""
        return tuple(name for name, one in self.processes.items() if "." not in name and one.account is not None)

    def update(self, event: Lifecycle) -> bool:
        """Read the description when a process arrived; return whether it changed."""
        return event.event in _ARRIVALS and self._read()

    def _read(self) -> bool:
        try:
            found = self.run_dir.description.stat()
            seen = (found.st_mtime_ns, found.st_ino)
            if seen == self._seen:
                return False
            processes = described_processes(self.run_dir.describe())
        except (OSError, NotRunningError, UnknownStateError):
            return False
        self._seen = seen
        before, self.processes = self.processes, processes
        return before != processes


class RemoteSystem:
    """System over TCP; until its directory has arrived, and without one, line a of each venue has its fixed port.

    Attributes:
        processes: Endpoints of the directory by process; empty before there is one.
    """

    run_dir: Final = None

    def __init__(self, host: str, remote: Remote) -> None:
        self.host = host
        self.remote = remote
        self.processes: dict[str, ProcessEndpoints] = {}

    @property
    def lifecycle(self) -> str:
        """Endpoint of the lifecycle events."""
        return self.remote.endpoint(LIFECYCLE)

    def feed(self, venue: str, line: Line) -> str | None:
        """Return the endpoint of a line's feed; None for a process without a fixed port before the directory."""
        listed = self.processes.get(process_of(venue, line))
        if listed is not None:
            return listed.feed
        return self.remote.endpoint(venue) if self._is_fixed(venue, line) else None

    def account(self, venue: str, line: Line) -> str | None:
        """Return the endpoint of a line's account feed; None for a process without one."""
        listed = self.processes.get(process_of(venue, line))
        if listed is not None and listed.account is not None:
            return listed.account
        return self.remote.endpoint(venue, account=True) if self._is_fixed(venue, line) else None

    def venues(self) -> tuple[str, ...]:
        """Return the venues that there may be."""
        return VENUES

    def followed(self) -> tuple[str, ...]:
        """Return the venues whose account may be followed."""
        return VENUES

    def update(self, event: Lifecycle) -> bool:
        """Apply a directory; return whether it changed anything."""
        if event.ports is UNSET:
            return False
        before, self.processes = self.processes, {name: self._endpoints(one) for name, one in event.ports.items()}
        return before != self.processes

    def _endpoints(self, ports: ProcessPorts) -> ProcessEndpoints:
        host, account = self.remote.host, ports.account
        return ProcessEndpoints(
            tcp_endpoint(host, ports.feed), None if account is None else tcp_endpoint(host, account)
        )

    def _is_fixed(self, venue: str, line: Line) -> bool:
        return line == LINES[0] and venue in FEED_PORTS


System: TypeAlias = LocalSystem | RemoteSystem


def systems_of(run_dir: RunDirs, remote: Remotes) -> list[System]:
    """Return the systems that a consumer reads, with their names: run directories first, then those over TCP.

    One run directory is read unless ``remote`` is a system, or a list without None; several are read in any case.

    Raises:
        FeedError: There is no system, one is named twice, or one is of another type.
    """
    remotes = [remote] if remote is None or isinstance(remote, Remote) else _listed(remote, "remote")
    is_list = not (run_dir is None or isinstance(run_dir, str | Path))
    paths: list[Any] = _listed(run_dir, "run_dir") if is_list else [run_dir] if None in remotes else []
    directories = [run_dir_of(path, os.environ) for path in paths]
    others = [one for one in remotes if one is not None]
    _check_each_once([*(str(one.path) for one in directories), *(_text_of(one) for one in others)])
    names = iter(host_names(len(directories) + len(others)))
    local: list[System] = [LocalSystem(next(names), directory) for directory in directories]
    return local + [RemoteSystem(next(names), one) for one in others]


def described_processes(described: Mapping[str, Any]) -> dict[str, ProcessEndpoints]:
    """Return the endpoints of a system's workers by process; empty if its description cannot be used."""
    return _endpoints_of(described, "feed", "account")


def tcp_ports(described: Mapping[str, Any]) -> dict[str, ProcessPorts]:
    """Return the TCP ports of a system's workers by process: its directory; empty without feeds on TCP."""
    found = _endpoints_of(described, "tcp", "account_tcp")
    return {
        name: ProcessPorts(_port_of(one.feed), None if one.account is None else _port_of(one.account))
        for name, one in found.items()
    }


def directory_event(ports: Mapping[str, ProcessPorts], wall_ns: int, mono_ns: int) -> Lifecycle:
    """Return the event with which ``lifecycle`` publishes a directory."""
    event = Lifecycle(
        venue=DIRECTORY,
        symbol=None,
        venue_symbol=None,
        exchange_ns=None,
        event=DIRECTORY,
        reason=None,
        pid=None,
        generation=0,
        exit_code=None,
        signal=None,
        delay_s=None,
        failures=0,
        restarts=0,
        uptime_s=None,
        ports=dict(ports),
    )
    event.recv_ns, event.recv_mono_ns = wall_ns, mono_ns
    return event


def _endpoints_of(described: Mapping[str, Any], feed: str, account: str) -> dict[str, ProcessEndpoints]:
    found: dict[str, ProcessEndpoints] = {}
    try:
        for venue, document in described["venues"].items():
            lines = {LINES[0]: document, **document.get("lines", {})}
            for line in LINES:
                if line in lines and lines[line][feed]:
                    name = process_of(venue, line)
                    found[name] = ProcessEndpoints(str(lines[line][feed]), lines[line].get(account))
    except (KeyError, TypeError, AttributeError):
        return {}
    return found


def _port_of(endpoint: str) -> int:
    return int(endpoint.rpartition(":")[2])


def _listed(values: Any, name: str) -> list[Any]:
    if isinstance(values, str) or not isinstance(values, Iterable):
        raise FeedError("no system that can be read", where=f"{name}={values!r}", advice="give a Remote, or a list")
    return list(values)


def _text_of(remote: Remote) -> str:
    if not isinstance(remote, Remote):
        raise FeedError("no system that can be read", where=f"remote={remote!r}", advice="give a Remote, or None")
    return tcp_endpoint(remote.host, remote.port)


def _check_each_once(systems: Sequence[str]) -> None:
    if not systems:
        raise FeedError("no system to read", advice="give a run directory or a Remote")
    for number, one in enumerate(systems):
        if one in systems[:number]:
            raise FeedError("this system is given twice", where=one, advice="a feed reads each system once")
