"""Gates on real ports: who is served, who is left waiting, and what becomes of those who were there before."""

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
PATIENCE_S = 10
WORDS = b"is anybody there?"


class Echo(asyncio.Protocol):
    def connection_made(self, transport):
        self.transport = transport

    def data_received(self, data):
        self.transport.write(data)


class Stepwise(asyncio.Protocol):
    """Says whether its frames leave at once, whatever the other side has acknowledged."""

    def connection_made(self, transport):
        sock = transport.get_extra_info("socket")
        transport.write(bytes([sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)]))


class Stranger:
    """Somebody who connects."""

    def __init__(self, reader, writer):
        self._reader, self._writer = reader, writer

    async def hears_its_echo(self, patience_s=PATIENCE_S):
        self._writer.write(WORDS)
        try:
            return await asyncio.wait_for(self._reader.read(len(WORDS)), patience_s) == WORDS
        except TimeoutError:
            return False

    async def leave(self):
        self._writer.close()
        await self._writer.wait_closed()


async def connect(port, trust=None, patience_s=PATIENCE_S):
    client = ssl.create_default_context(cafile=trust) if trust else None
    return Stranger(*await asyncio.wait_for(asyncio.open_connection(HOST, port, ssl=client), patience_s))


async def is_served(port, trust=None):
    client = await connect(port, trust)
    heard = await client.hears_its_echo()
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


def play(port, story, tls=None, speaker=Echo):
    """Let a story happen at an open gate."""

    async def tell():
        gate = TcpPort(speaker, HOST, port, tls or {})
        gate.open()
        try:
            await story(gate)
        finally:
            gate.shut()

    asyncio.run(tell())


def test_whoever_connects_is_served(port):
    async def story(_):
        for _ in range(3):
            assert await is_served(port)

    play(port, story)


def test_frames_do_not_wait_for_the_acknowledgement_of_the_last_one(port):
    async def story(_):
        reader, writer = await asyncio.open_connection(HOST, port)
        assert await asyncio.wait_for(reader.read(1), PATIENCE_S) != b"\0"
        writer.close()
        await writer.wait_closed()

    play(port, story, speaker=Stepwise)


def test_a_shut_gate_refuses_newcomers_and_keeps_those_inside(port):
    async def story(gate):
        inside = await connect(port)
        assert await inside.hears_its_echo()
        for _ in range(2):
            gate.shut()
        with pytest.raises(ConnectionRefusedError):
            await connect(port)
        assert await inside.hears_its_echo()
        for _ in range(2):
            gate.open()
        assert await is_served(port)
        await inside.leave()

    play(port, story)


def test_the_mute_are_accepted_and_never_answered_not_even_afterwards(port):
    async def story(gate):
        inside = await connect(port)
        assert await inside.hears_its_echo()
        gate.accept_mode = AcceptMode.SILENT
        outside = await connect(port)
        assert not await outside.hears_its_echo(0.3)
        assert await inside.hears_its_echo()
        gate.accept_mode = AcceptMode.NORMAL
        assert await is_served(port)
        assert not await outside.hears_its_echo(0.3)
        await inside.leave()
        await outside.leave()

    play(port, story)


def test_a_hanging_handshake_hangs(port, secure, trust):
    async def story(gate):
        gate.accept_mode = AcceptMode.SILENT
        with pytest.raises(TimeoutError):
            await connect(port, trust, 0.5)
        gate.accept_mode = AcceptMode.NORMAL
        assert await is_served(port, trust)

    play(port, story, secure)


@pytest.mark.parametrize("accept_mode", [AcceptMode.UNKNOWN_AUTHORITY, AcceptMode.EXPIRED])
def test_a_bad_certificate_is_shown_to_newcomers_only(port, secure, trust, accept_mode):
    async def story(gate):
        inside = await connect(port, trust)
        gate.accept_mode = accept_mode
        with pytest.raises(ssl.SSLCertVerificationError):
            await connect(port, trust)
        assert await inside.hears_its_echo()
        gate.accept_mode = AcceptMode.NORMAL
        assert await is_served(port, trust)
        await inside.leave()

    play(port, story, secure)


def test_who_speaks_no_tls_is_dropped_and_the_others_are_served(port, secure, trust):
    async def story(_):
        rude = await connect(port)
        assert not await rude.hears_its_echo()
        await rude.leave()
        assert await is_served(port, trust)

    play(port, story, secure)


def test_a_port_that_is_taken_is_named(port):
    async def story(_):
        with pytest.raises(ParaphinaError) as refused:
            TcpPort(Echo, HOST, port, {}).open()
        assert refused.value.where == f"{HOST}:{port}"

    play(port, story)
