"""A simulation as it runs: the venues, their ports, and the admin API, all in one event loop."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable

from ipc.errors import ParaphinaError
from simulator import rest
from simulator.admin import Admin
from simulator.desk import Desk
from simulator.rest import Request, Response
from simulator.schedule import Schedule
from simulator.settings import SimSettings
from simulator.venue import Venue
from simulator.venues import VENUE_CLASSES
from simulator.wire import Socket

__all__ = ["Gate", "Simulation"]


class Gate:
    """The WebSocket port of a venue; it can be shut and opened again."""

    def __init__(self, venue: Venue, host: str, port: int) -> None:
        self._venue = venue
        self._address = (host, port)
        self._listening: socket.socket | None = None
        self._server: asyncio.Server | None = None
        self._opening: asyncio.Task[None] | None = None

    async def open(self) -> None:
        """Listen.

        Raises:
            ParaphinaError: The port cannot be bound.
        """
        self._listening = self._bind()
        await self._serve(self._listening)

    def shut(self) -> None:
        """Refuse connections at the TCP level."""
        if self._opening is not None:
            self._opening.cancel()
        if self._server is not None:
            self._server.close()
        if self._listening is not None:
            self._listening.close()
        self._listening = self._server = self._opening = None

    def reopen(self) -> None:
        """Listen again."""
        if self._listening is None:
            self._listening = self._bind()
            self._opening = asyncio.get_running_loop().create_task(self._serve(self._listening))

    def _bind(self) -> socket.socket:
        try:
            return socket.create_server(self._address)
        except OSError as error:
            raise _taken(*self._address) from error

    async def _serve(self, listening: socket.socket) -> None:
        self._server = await asyncio.get_running_loop().create_server(self._socket, sock=listening)

    def _socket(self) -> Socket:
        return Socket(self._venue.accept, self._venue.schedule)


class Simulation:
    """Venues on loopback."""

    def __init__(self, settings: SimSettings, schedule: Schedule) -> None:
        self._settings = settings
        self.venues: dict[str, Venue] = {name: VENUE_CLASSES[name](settings, schedule) for name in settings.venues}
        self.desk = Desk(self.venues, schedule)
        self._admin = Admin(self.venues, self.desk)
        self._gates: list[Gate] = []
        self._servers: list[asyncio.Server] = []

    async def start(self) -> None:
        """Bind all ports, then let the markets live.

        Raises:
            ParaphinaError: A port cannot be bound.
        """
        for name, venue in self.venues.items():
            ports = self._settings.ports[name]
            gate = Gate(venue, self._settings.host, ports.ws)
            await gate.open()
            venue.listener = gate
            self._gates.append(gate)
            await self._serve(venue.answer, ports.rest)
        await self._serve(self._admin.answer, self._settings.admin_port)
        for venue in self.venues.values():
            venue.start()

    def stop(self) -> None:
        """Close the ports and drop all clients."""
        for gate in self._gates:
            gate.shut()
        for server in self._servers:
            server.close()
        for venue in self.venues.values():
            for session in list(venue.sessions):
                session.wire.close(1001, "going away")

    async def _serve(self, answer: Callable[[Request], Response], port: int) -> None:
        async def handler(request: Request) -> Response:
            return answer(request)

        try:
            self._servers.append(await rest.serve(handler, self._settings.host, port))
        except OSError as error:
            raise _taken(self._settings.host, port) from error


def _taken(host: str, port: int) -> ParaphinaError:
    return ParaphinaError(
        "the simulator cannot listen here", where=f"{host}:{port}", advice="end the program that uses this port"
    )
