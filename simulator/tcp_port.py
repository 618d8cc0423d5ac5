"""TCP port of the simulation: hands connections to their protocol, or accepts them in a faulty way on request.

The accept mode is read when a connection is accepted: a change affects later connections only.
:mod:`simulator.wire` and :mod:`simulator.rest` implement the protocols.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Callable

from ipc.errors import ParaphinaError
from simulator.listener import AcceptMode
from simulator.tls import Contexts

_BACKLOG = 100


class TcpPort:
    """Listening port that can be shut and opened again.

    Attributes:
        accept_mode: How new connections are treated.

    Args:
        protocol_factory: Creates the protocol of a connection.
        host: Address to bind.
        port: Port to bind.
        contexts: TLS context by accept mode; empty for plain TCP.
    """

    def __init__(
        self, protocol_factory: Callable[[], asyncio.Protocol], host: str, port: int, contexts: Contexts
    ) -> None:
        self.accept_mode = AcceptMode.NORMAL
        self._protocol_factory = protocol_factory
        self._address = (host, port)
        self._contexts = contexts
        self._listening: socket.socket | None = None
        self._handshakes: set[asyncio.Task[None]] = set()

    def open(self) -> None:
        """Listen, unless already listening.

        Raises:
            ParaphinaError: The port cannot be bound.
        """
        if self._listening is not None:
            return
        try:
            self._listening = socket.create_server(self._address, backlog=_BACKLOG)
        except OSError as error:
            host, port = self._address
            raise ParaphinaError(
                "the simulator cannot listen here", where=f"{host}:{port}", advice="end the program that uses this port"
            ) from error
        self._listening.setblocking(False)
        asyncio.get_running_loop().add_reader(self._listening, self._accept, self._listening)

    def shut(self) -> None:
        """Refuse connections at the TCP level; established ones continue."""
        listening, self._listening = self._listening, None
        if listening is not None:
            asyncio.get_running_loop().remove_reader(listening)
            listening.close()

    def _accept(self, listening: socket.socket) -> None:
        try:
            connection, _ = listening.accept()
            # asyncio sets this only on sockets that it creates. Without it a frame waits for the acknowledgement of
            # the previous one, which the peer delays by up to 40 ms.
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        except OSError:
            return  # already closed; or out of file descriptors, and it waits in the kernel's queue
        task = asyncio.get_running_loop().create_task(self._hand_over(connection, self.accept_mode))
        self._handshakes.add(task)
        task.add_done_callback(self._handshakes.discard)

    async def _hand_over(self, connection: socket.socket, accept_mode: AcceptMode) -> None:
        """Hand a connection to its protocol, after the TLS handshake if TLS is on; a failed handshake closes it."""
        # asyncio's base Protocol ignores all data, sends nothing, and closes when the peer does.
        factory = asyncio.Protocol if accept_mode is AcceptMode.SILENT else self._protocol_factory
        context = self._contexts.get(accept_mode)
        with contextlib.suppress(OSError):
            await asyncio.get_running_loop().connect_accepted_socket(factory, connection, ssl=context)
