"""A TCP port of the simulation: whoever connects is given to the protocol behind it, or received badly on purpose.

How a connection is received is settled when it is accepted: a change concerns those who come after it, and connections
that stand go on. What is spoken on them is the business of :mod:`simulator.wire` and :mod:`simulator.rest`.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Callable

from ipc.errors import ParaphinaError
from simulator.listener import AcceptMode
from simulator.tls import Contexts

__all__ = ["TcpPort"]

_BACKLOG = 100


class TcpPort:
    """A port that listens, and can be shut and opened again.

    Attributes:
        accept_mode: How those are received who connect from now on.

    Args:
        speaker: Makes the protocol for a connection.
        host: Address to bind.
        port: Port to bind.
        contexts: How TLS is spoken in each kind of accept_mode; empty for plain TCP.
    """

    def __init__(self, speaker: Callable[[], asyncio.Protocol], host: str, port: int, contexts: Contexts) -> None:
        self.accept_mode = AcceptMode.NORMAL
        self._speaker = speaker
        self._address = (host, port)
        self._contexts = contexts
        self._listening: socket.socket | None = None
        self._admitting: set[asyncio.Task[None]] = set()

    def open(self) -> None:
        """Listen, unless it does already.

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
                "the simulator cannot listen here",
                where=f"{host}:{port}",
                advice="end the program that uses this port",
            ) from error
        self._listening.setblocking(False)
        asyncio.get_running_loop().add_reader(self._listening, self._accept, self._listening)

    def shut(self) -> None:
        """Refuse connections at the TCP level; those that stand go on."""
        listening, self._listening = self._listening, None
        if listening is not None:
            asyncio.get_running_loop().remove_reader(listening)
            listening.close()

    def _accept(self, listening: socket.socket) -> None:
        try:
            connection, _ = listening.accept()
            # asyncio does this only for sockets of its own making. Without it a frame waits until the last one is
            # acknowledged, which the other side delays by 40 ms.
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        except OSError:
            return  # it is gone already; or there is no descriptor left, and it waits in the kernel's queue
        task = asyncio.get_running_loop().create_task(self._admit(connection, self.accept_mode))
        self._admitting.add(task)
        task.add_done_callback(self._admitting.discard)

    async def _admit(self, connection: socket.socket, accept_mode: AcceptMode) -> None:
        """Hand a connection over once TLS, if it is spoken, stands; a handshake that fails ends it."""
        # asyncio's own Protocol takes what comes, says nothing, and leaves when the other side does.
        speaker = asyncio.Protocol if accept_mode is AcceptMode.SILENT else self._speaker
        context = self._contexts.get(accept_mode)
        with contextlib.suppress(OSError):
            await asyncio.get_running_loop().connect_accepted_socket(speaker, connection, ssl=context)
