"""A simulation as it runs: the venues, their ports, and the admin API, all in one event loop."""

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

__all__ = ["Simulation"]


class Simulation:
    """Venues on loopback.

    Args:
        settings: What to simulate.
        schedule: The time.
        contexts: How the venues speak TLS; empty when they do not.
    """

    def __init__(self, settings: SimSettings, schedule: Schedule, contexts: Contexts) -> None:
        self.venues: dict[str, SimulatedVenue] = {
            name: VENUE_BUILDERS[name](settings, schedule) for name in settings.venues
        }
        self.desk = FaultController(self.venues, schedule)
        self._gates: list[TcpPort] = []
        for name, venue in self.venues.items():
            ports = settings.ports[name]
            ws = TcpPort(_socket_speaker(venue), settings.host, ports.ws, contexts)
            http = TcpPort(_rest_speaker(venue.answer), settings.host, ports.rest, contexts)
            venue.listeners = {"ws": ws, "rest": http}
            self._gates += [ws, http]
        admin = Admin(self.venues, self.desk)
        self._gates.append(TcpPort(_rest_speaker(admin.answer), settings.host, settings.admin_port, {}))

    def start(self) -> None:
        """Bind all ports, then let the markets live.

        Raises:
            ParaphinaError: A port cannot be bound.
        """
        for gate in self._gates:
            gate.open()
        for venue in self.venues.values():
            venue.start()

    def stop(self) -> None:
        """Close the ports and drop all clients."""
        for gate in self._gates:
            gate.shut()
        for venue in self.venues.values():
            for session in list(venue.sessions):
                session.wire.close(1001, "going away")


def _socket_speaker(venue: SimulatedVenue) -> Callable[[], asyncio.Protocol]:
    return lambda: Socket(venue.accept, venue.schedule)


def _rest_speaker(answer: Callable[[HttpRequest], HttpResponse]) -> Callable[[], asyncio.Protocol]:
    async def handler(request: HttpRequest) -> HttpResponse:
        return answer(request)

    return rest.speaker(handler)
