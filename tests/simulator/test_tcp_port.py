"""TCP ports on real sockets: new connections by accept mode, and established ones."""

from __future__ import annotations

import asyncio
import socket
import ssl

import pytest

from ipc.errors import ParaphinaError
from simulator.listener import AcceptMode
from simulator.settings import SimSettings, pick_ports
from simulator.tcp_port import TcpPort
from simulator.tls import contexts

pytestmark = pytest.mark.integration

HOST = "127.0.0.1"
TIMEOUT_S = 10
PAYLOAD = b"is anybody there?"


class Echo(asyncio.Protocol):
    def connection_made(self, transport):
        self.transport = transport

    def data_received(self, data):
        self.transport.write(data)


class NoDelayReport(asyncio.Protocol):
    """Protocol that sends its TCP_NODELAY option."""

    def connection_made(self, transport):
        sock = transport.get_extra_info("socket")
        transport.write(bytes([sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)]))


class EchoClient:
    """Client of an echo port."""

    def __init__(self, reader, writer):
        self._reader, self._writer = reader, writer

    async def is_echoed(self, timeout_s=TIMEOUT_S):
        self._writer.write(PAYLOAD)
        try:
            return await asyncio.wait_for(self._reader.read(len(PAYLOAD)), timeout_s) == PAYLOAD
        except TimeoutError:
            return False

    async def leave(self):
        self._writer.close()
        await self._writer.wait_closed()


async def connect(port, trust=None, timeout_s=TIMEOUT_S):
    client = ssl.create_default_context(cafile=trust) if trust else None
    return EchoClient(*await asyncio.wait_for(asyncio.open_connection(HOST, port, ssl=client), timeout_s))


async def is_served(port, trust=None):
    client = await connect(port, trust)
    heard = await client.is_echoed()
    await client.leave()
    return heard


@pytest.fixture
def port():
    return pick_ports(()).admin


@pytest.fixture
def trust(tmp_path):
    return str(tmp_path / "ca.pem")


@pytest.fixture
def secure(trust):
    return contexts(SimSettings(ports={}, admin_port=9, venues=(), tls=True, ca_path=trust))


def run_on(port, actions, tls=None, factory=Echo):
    """Run ``actions`` on an open port."""

    async def run():
        listener = TcpPort(factory, HOST, port, tls or {})
        listener.open()
        try:
            await actions(listener)
        finally:
            listener.shut()

    asyncio.run(run())


def test_every_client_is_served(port):
    async def actions(_):
        for _ in range(3):
            assert await is_served(port)

    run_on(port, actions)


def test_frames_do_not_wait_for_the_acknowledgement_of_the_previous_one(port):
    async def actions(_):
        reader, writer = await asyncio.open_connection(HOST, port)
        assert await asyncio.wait_for(reader.read(1), TIMEOUT_S) != b"\0"
        writer.close()
        await writer.wait_closed()

    run_on(port, actions, factory=NoDelayReport)


def test_a_shut_port_refuses_new_connections_and_keeps_established_ones(port):
    async def actions(listener):
        established = await connect(port)
        assert await established.is_echoed()
        for _ in range(2):
            listener.shut()
        with pytest.raises(ConnectionRefusedError):
            await connect(port)
        assert await established.is_echoed()
        for _ in range(2):
            listener.open()
        assert await is_served(port)
        await established.leave()

    run_on(port, actions)


def test_silent_connections_are_never_answered_not_even_afterwards(port):
    async def actions(listener):
        established = await connect(port)
        assert await established.is_echoed()
        listener.accept_mode = AcceptMode.SILENT
        silent = await connect(port)
        assert not await silent.is_echoed(0.3)
        assert await established.is_echoed()
        listener.accept_mode = AcceptMode.NORMAL
        assert await is_served(port)
        assert not await silent.is_echoed(0.3)
        await established.leave()
        await silent.leave()

    run_on(port, actions)


def test_a_hanging_handshake_hangs(port, secure, trust):
    async def actions(listener):
        listener.accept_mode = AcceptMode.SILENT
        with pytest.raises(TimeoutError):
            await connect(port, trust, 0.5)
        listener.accept_mode = AcceptMode.NORMAL
        assert await is_served(port, trust)

    run_on(port, actions, secure)


@pytest.mark.parametrize("accept_mode", [AcceptMode.UNKNOWN_AUTHORITY, AcceptMode.EXPIRED])
def test_a_bad_certificate_affects_new_connections_only(port, secure, trust, accept_mode):
    async def actions(listener):
        established = await connect(port, trust)
        listener.accept_mode = accept_mode
        with pytest.raises(ssl.SSLCertVerificationError):
            await connect(port, trust)
        assert await established.is_echoed()
        listener.accept_mode = AcceptMode.NORMAL
        assert await is_served(port, trust)
        await established.leave()

    run_on(port, actions, secure)


def test_clients_without_tls_are_dropped_and_the_others_are_served(port, secure, trust):
    async def actions(_):
        plain = await connect(port)
        assert not await plain.is_echoed()
        await plain.leave()
        assert await is_served(port, trust)

    run_on(port, actions, secure)


def test_a_port_in_use_is_named(port):
    async def actions(_):
        with pytest.raises(ParaphinaError) as refused:
            TcpPort(Echo, HOST, port, {}).open()
        assert refused.value.where == f"{HOST}:{port}"

    run_on(port, actions)
