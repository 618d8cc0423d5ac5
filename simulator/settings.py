"""Settings of a simulation: venues, markets, speed, seed, ports and URLs.

Pure data and functions, except :func:`pick_ports`, which asks the system for free ports.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from ipc.errors import UsageError
from ipc.free_ports import free_ports
from ipc.topics import VENUES

_BASE = re.compile(r"[A-Z0-9]{1,20}")


@dataclass(frozen=True, slots=True)
class VenuePorts:
    """TCP ports of one venue."""

    ws: int
    rest: int


@dataclass(frozen=True, slots=True)
class VenueUrls:
    """Base URLs that replace a venue's live ones."""

    ws: str
    rest: str


@dataclass(frozen=True, slots=True)
class SimPorts:
    """TCP ports of a simulation."""

    venues: Mapping[str, VenuePorts]
    admin: int


@dataclass(frozen=True, slots=True)
class SimSettings:
    """Settings of a simulation.

    Attributes:
        ports: Ports by venue; required for every venue of ``venues``.
        admin_port: Port of the admin API.
        venues: Venues to serve.
        bases: Underlyings of the perpetuals on each venue.
        rate: Approximate frames per second of a client that subscribes to everything of one venue (1 to 1000).
            Channels with a fixed cadence set a minimum of 3 to 7; extended, which only batches, reaches about 550.
        seed: Same seed and same bases give the same market.
        host: Address to bind.
        pace: Divisor of every keep-alive, age and rate-limit period (not of the cadence of data), which makes tests
            faster.
        greeting: Whether hyperliquid sends its text greeting.
        sbe_version: Highest supported version of paradex' binary schema (0 to 3).
        refuses_newer_sbe: Refuse a connection that requests a higher one, instead of serving that version.
        tls: Whether the venues use TLS; the admin API never does.
        ca_path: File for the certificate of the authority, which is new in every simulation; clients trust it by
            naming this file in ``SSL_CERT_FILE``.
        names: Further hosts that the certificates are for.
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
    sbe_version: int = 2
    refuses_newer_sbe: bool = False
    tls: bool = False
    ca_path: str = ""
    names: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        """Reject invalid settings.

        Raises:
            UsageError: Unknown venue, invalid base, or a number out of range.
        """
        for venue in self.venues:
            if venue not in VENUES:
                raise UsageError(f"unknown venue {venue!r}", where="simulator", advice=f"known: {', '.join(VENUES)}")
            if venue not in self.ports:
                raise UsageError(f"no ports for {venue}", where="simulator", advice="see pick_ports")
        for base in self.bases:
            if not _BASE.fullmatch(base):
                raise UsageError(
                    f"{base!r} is no base", where="simulator", advice="upper-case letters and digits, as BTC"
                )
        if not 1 <= self.rate <= 1000:
            raise UsageError(f"rate {self.rate} is out of range", where="simulator", advice="1 to 1000 frames a second")
        if self.pace <= 0 or not 0 <= self.sbe_version <= 3:
            raise UsageError("pace must be positive and sbe_version 0 to 3", where="simulator")
        if self.tls and not self.ca_path:
            raise UsageError("no file for the certificate", where="simulator", advice="TLS needs a ca_path")


#: Paths of a venue's base URLs, after host and port: WebSocket, REST.
PATHS = {
    "hyperliquid": ("/ws", ""),
    "aster": ("", ""),
    "extended": ("/stream.extended.exchange/v1", "/api/v1"),
    "lighter": ("/stream", "/api/v1"),
    "paradex": ("/v1", "/v1"),
}


def endpoints(settings: SimSettings) -> dict[str, VenueUrls]:
    """Return the base URLs of each venue; paths below them are those of the live venue."""
    urls = {}
    secure = "s" if settings.tls else ""
    for venue in settings.venues:
        ports, (ws, rest) = settings.ports[venue], PATHS[venue]
        urls[venue] = VenueUrls(
            ws=f"ws{secure}://{settings.host}:{ports.ws}{ws}", rest=f"http{secure}://{settings.host}:{ports.rest}{rest}"
        )
    return urls


def admin_url(settings: SimSettings) -> str:
    """Return the base URL of the admin API."""
    return f"http://{settings.host}:{settings.admin_port}"


def pick_ports(venues: Iterable[str] = VENUES, host: str = "127.0.0.1") -> SimPorts:
    """Return free ports for ``venues`` and the admin API; other programs may still bind them first.

    Raises:
        UsageError: There are not enough free ports.
    """
    wanted = tuple(venues)
    free = iter(free_ports(2 * len(wanted) + 1, host))
    return SimPorts({venue: VenuePorts(ws=next(free), rest=next(free)) for venue in wanted}, admin=next(free))
