"""What a simulation is made of: venues, markets, speed, seed and the addresses where it is served.

Pure data and pure functions, apart from :func:`pick_ports`, which asks the system for free ports.
"""

from __future__ import annotations

import random
import re
import socket
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from ipc.errors import UsageError
from ipc.topics import VENUES

__all__ = [
    "PATHS",
    "VENUES",
    "SimPorts",
    "SimSettings",
    "VenuePorts",
    "VenueUrls",
    "admin_url",
    "endpoints",
    "pick_ports",
]

#: Below Linux's ephemeral range (32768 and up): a port that is closed for a while is neither given to an outgoing
#: connection nor met by a client that happens to connect to itself.
_PORTS = range(20_000, 32_000)

_BASE = re.compile(r"[A-Z0-9]{1,20}")


@dataclass(frozen=True, slots=True)
class VenuePorts:
    """The TCP ports of one venue."""

    ws: int
    rest: int


@dataclass(frozen=True, slots=True)
class VenueUrls:
    """The URLs that a client uses instead of a venue's live ones."""

    ws: str
    rest: str


@dataclass(frozen=True, slots=True)
class SimPorts:
    """The TCP ports of a simulation."""

    venues: Mapping[str, VenuePorts]
    admin: int


@dataclass(frozen=True, slots=True)
class SimSettings:
    """A simulation.

    Attributes:
        ports: Ports by venue; every venue of ``venues`` has some.
        admin_port: Port of the admin API.
        venues: The venues that are served.
        bases: Underlyings of the perpetuals that are traded on each venue.
        rate: About how many frames a second a client sees that subscribes to everything of one venue (1 to 1000).
            Each venue has channels that go by the clock, so the least is 3 to 7; extended, which only batches, reaches
            about 550.
        seed: Same seed and same bases, same market.
        host: Address to bind.
        pace: Divides every keep-alive, age and rate-limit period (not the cadence of data), so that tests need not
            wait for them.
        greeting: Whether hyperliquid sends its text greeting.
        sbe_version: Highest version of the binary schema that paradex speaks (0 to 3).
        tls: Whether the venues speak TLS; the admin API never does.
        ca_path: Where the certificate of the authority is written, which is another one in every simulation; clients
            that are to trust it name this file in ``SSL_CERT_FILE``.
    """

    ports: Mapping[str, VenuePorts]
    admin_port: int
    venues: tuple[str, ...] = VENUES
    bases: tuple[str, ...] = ("BTC", "ETH")
    rate: float = 50.0
    seed: int = 1
    host: str = "127.0.0.1"
    pace: float = 1.0
    greeting: bool = True
    sbe_version: int = 1
    tls: bool = False
    ca_path: str = ""

    def __post_init__(self) -> None:
        """Refuse what cannot be simulated.

        Raises:
            UsageError: Unknown venue, bad base, or a number out of its range.
        """
        for venue in self.venues:
            if venue not in VENUES:
                raise UsageError(f"unknown venue {venue!r}", where="simulator", advice=f"known: {', '.join(VENUES)}")
            if venue not in self.ports:
                raise UsageError(f"no ports for {venue}", where="simulator", advice="see pick_ports")
        for base in self.bases:
            if not _BASE.fullmatch(base):
                raise UsageError(f"{base!r} is no base", where="simulator", advice="capitals and digits, as BTC")
        if not 1 <= self.rate <= 1000:
            raise UsageError(f"rate {self.rate} is out of range", where="simulator", advice="1 to 1000 frames a second")
        if self.pace <= 0 or not 0 <= self.sbe_version <= 3:
            raise UsageError("pace must be positive and sbe_version 0 to 3", where="simulator")
        if self.tls and not self.ca_path:
            raise UsageError("no place for the certificate", where="simulator", advice="TLS needs a ca_path")


#: Paths that stand behind host and port in a venue's base URLs: WebSocket, REST.
PATHS = {
    "hyperliquid": ("/ws", ""),
    "aster": ("", ""),
    "extended": ("/stream.extended.exchange/v1", "/api/v1"),
    "lighter": ("/stream", "/api/v1"),
    "paradex": ("/v1", "/v1"),
}


def endpoints(settings: SimSettings) -> dict[str, VenueUrls]:
    """The base URLs of each venue; what comes behind them is as on the live venue."""
    urls = {}
    secure = "s" if settings.tls else ""
    for venue in settings.venues:
        ports, (ws, rest) = settings.ports[venue], PATHS[venue]
        urls[venue] = VenueUrls(
            ws=f"ws{secure}://{settings.host}:{ports.ws}{ws}", rest=f"http{secure}://{settings.host}:{ports.rest}{rest}"
        )
    return urls


def admin_url(settings: SimSettings) -> str:
    """The base URL of the admin API."""
    return f"http://{settings.host}:{settings.admin_port}"


def pick_ports(venues: Iterable[str] = VENUES, host: str = "127.0.0.1") -> SimPorts:
    """Free ports for ``venues`` and the admin API; nothing keeps others from taking them before they are bound.

    Raises:
        UsageError: There are not enough free ports.
    """
    wanted = tuple(venues)
    free = _free_ports(2 * len(wanted) + 1, host)
    pairs = {venue: VenuePorts(free[2 * i], free[2 * i + 1]) for i, venue in enumerate(wanted)}
    return SimPorts(pairs, free[-1])


def _free_ports(count: int, host: str) -> list[int]:
    found: list[int] = []
    for port in random.SystemRandom().sample(_PORTS, len(_PORTS)):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((host, port))
            except OSError:
                continue
        found.append(port)
        if len(found) == count:
            return found
    raise UsageError(f"no {count} free ports", where=host, advice="end other programs that listen there")
