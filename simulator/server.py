"""Running simulation: venues, ports and admin API in one event loop."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from simulator import rest
from simulator.admin import Admin
from simulator.fault_controller import FaultController
from simulator.rest import HttpRequest, HttpResponse
from simulator.schedule import Schedule
from simulator.settings import SimSettings
from simulator.tcp_port import TcpPort
from simulator.tls import Contexts
from simulator.venue import SimulatedVenue
from simulator.venues import VENUE_BUILDERS
from simulator.wire import Socket


class Simulation:
    """Venues, served on TCP ports.

    Args:
        settings: What to simulate.
        schedule: Clocks and jobs.
        contexts: TLS contexts of the venues; empty without TLS.
    """

    def __init__(self, settings: SimSettings, schedule: Schedule, contexts: Contexts) -> None:
        self.venues: dict[str, SimulatedVenue] = {
            name: VENUE_BUILDERS[name](settings, schedule) for name in settings.venues
        }
        self.faults = FaultController(self.venues, schedule)
        self._ports: list[TcpPort] = []
        for name, venue in self.venues.items():
            ports = settings.ports[name]
            ws = TcpPort(_websocket_factory(venue), settings.host, ports.ws, contexts)
            http = TcpPort(_rest_factory(venue.answer), settings.host, ports.rest, contexts)
            venue.listeners = {"ws": ws, "rest": http}
            self._ports += [ws, http]
        admin = Admin(self.venues, self.faults)
        self._ports.append(TcpPort(_rest_factory(admin.answer), settings.host, settings.admin_port, {}))

    def start(self) -> None:
        """Bind all ports, then start the venues.

        Raises:
            ParaphinaError: A port cannot be bound.
        """
        for port in self._ports:
            port.open()
        for venue in self.venues.values():
            venue.start()

    def stop(self) -> None:
        """Close the ports and disconnect all clients."""
        for port in self._ports:
            port.shut()
        for venue in self.venues.values():
            venue.close_all(1001, "going away")


def _websocket_factory(venue: SimulatedVenue) -> Callable[[], asyncio.Protocol]:
    return lambda: Socket(venue.accept, venue.schedule)


def _rest_factory(answer: Callable[[HttpRequest], HttpResponse]) -> Callable[[], asyncio.Protocol]:
    async def handler(request: HttpRequest) -> HttpResponse:
        return answer(request)

    return rest.protocol_factory(handler)
