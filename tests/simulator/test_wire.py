from __future__ import annotations

import pytest
from websockets.client import ClientProtocol
from websockets.frames import Opcode
from websockets.uri import parse_uri

from simulator.schedule import Schedule
from simulator.wire import Frame, Socket, UpgradeRefusal


class FakeTransport:
    """Transport that records the server's bytes."""

    def __init__(self):
        self.sent = bytearray()
        self.unsent = 0
        self.is_closed = self.is_aborted = self.is_paused = False

    def write(self, data):
        self.sent += data

    def get_extra_info(self, name):
        return {"peername": ("192.0.2.8", 1)}[name]

    def get_write_buffer_size(self):
        return self.unsent

    def is_closing(self):
        return self.is_closed or self.is_aborted

    def close(self):
        self.is_closed = True

    def abort(self):
        self.is_aborted = True

    def pause_reading(self):
        self.is_paused = True


class Listener:
    """Session that records its callbacks."""

    def __init__(self):
        self.events = []

    def on_open(self):
        self.events.append("open")

    def on_text(self, text):
        self.events.append(text)

    def on_ping(self):
        self.events.append("ping")

    def on_pong(self):
        self.events.append("pong")

    def on_gone(self):
        self.events.append("gone")


class Peer:
    """Client protocol and server socket, connected without I/O."""

    def __init__(self, fakes, decision=None):
        self.loop = fakes.FakeLoop()
        self.listener = Listener()
        self.upgrades = []
        self.transport = FakeTransport()
        self.socket = Socket(self._accept, Schedule(self.loop))
        self.socket.connection_made(self.transport)
        self._decision = decision
        self.client = ClientProtocol(parse_uri("ws://host/path?a=1&a=2"))

    def _accept(self, upgrade, socket):
        assert socket is self.socket
        self.upgrades.append(upgrade)
        return self.listener if self._decision is None else self._decision

    def shake(self):
        request = self.client.connect()
        request.headers["User-Agent"] = "me"
        self.client.send_request(request)
        self.exchange()
        return self.client.events_received()

    def exchange(self):
        """Carry bytes both ways."""
        for data in self.client.data_to_send():
            if data:
                self.socket.data_received(data)
        sent, self.transport.sent = bytes(self.transport.sent), bytearray()
        if sent:
            self.client.receive_data(sent)

    def frames(self):
        self.exchange()
        return [(event.opcode, bytes(event.data)) for event in self.client.events_received()]


@pytest.fixture
def peer(fakes):
    peer = Peer(fakes)
    peer.shake()
    return peer


def test_an_upgrade_reaches_the_venue_with_path_query_and_headers(peer):
    (upgrade,) = peer.upgrades
    assert upgrade.path == "/path"
    assert upgrade.query == {"a": ["1", "2"]}
    assert upgrade.headers["user-agent"] == "me"
    assert peer.listener.events == ["open"]


def test_a_refusal_is_an_http_status(fakes):
    peer = Peer(fakes, UpgradeRefusal(429))
    (response,) = peer.shake()
    assert response.status_code == 429
    assert peer.transport.is_closed
    assert peer.listener.events == []


def test_requests_without_upgrade_are_refused(fakes):
    peer = Peer(fakes)
    peer.socket.data_received(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
    assert b"426" in peer.transport.sent
    assert peer.listener.events == []


def test_messages_go_both_ways(peer):
    peer.client.send_text(b"hello")
    peer.socket.send(Frame(b'{"a":1}'))
    peer.socket.send(Frame(b"\x00\x01", is_binary=True))
    assert peer.frames() == [(Opcode.TEXT, b'{"a":1}'), (Opcode.BINARY, b"\x00\x01")]
    assert peer.listener.events[-1] == b"hello"


def test_a_message_in_pieces_arrives_as_one(peer):
    peer.client.send_text(b"one ", fin=False)
    peer.client.send_ping(b"")
    peer.client.send_continuation(b"two", fin=True)
    peer.exchange()
    assert peer.listener.events[1:] == ["ping", b"one two"]


def test_pings_are_answered_unless_that_is_switched_off(peer):
    peer.client.send_ping(b"x")
    assert peer.frames() == [(Opcode.PONG, b"x")]
    peer.socket.mute_pongs = True
    peer.client.send_ping(b"y")
    assert peer.frames() == []
    assert peer.listener.events[1:] == ["ping", "ping"]


def test_a_pong_of_the_client_reaches_the_session(peer):
    peer.socket.ping(b"z")
    peer.exchange()
    peer.exchange()
    assert peer.listener.events[1:] == ["pong"]


def test_closing_waits_for_the_client_but_not_indefinitely(peer):
    peer.socket.close(1012, "restart")
    assert peer.frames()[0][0] is Opcode.CLOSE
    peer.exchange()
    assert peer.transport.is_closed
    assert peer.client.close_rcvd.code == 1012


def test_a_client_that_ignores_a_close_is_dropped(peer):
    peer.socket.close(1000)
    peer.loop.advance(4.9)
    assert not peer.transport.is_aborted
    peer.loop.advance(0.2)
    assert peer.transport.is_aborted


def test_nothing_is_sent_after_a_close(peer):
    peer.socket.close(1000)
    sent = bytes(peer.transport.sent)
    peer.socket.send(Frame(b"late"))
    peer.socket.ping()
    assert bytes(peer.transport.sent[: len(sent)]) == sent
    assert b"late" not in peer.transport.sent


def test_the_session_is_notified_of_the_end_of_the_connection(peer):
    peer.socket.connection_lost(None)
    peer.socket.send(Frame(b"x"))
    assert peer.listener.events[-1] == "gone"


def test_a_client_that_does_not_read_is_disconnected(peer):
    peer.transport.unsent = 4 * 2**20 + 1
    peer.socket.send(Frame(b"x"))
    assert peer.transport.is_aborted


def test_one_large_frame_alone_does_not_disconnect(peer):
    peer.socket.send(Frame(b"x" * 5 * 2**20))
    assert not peer.transport.is_aborted


def test_a_frozen_socket_neither_reads_nor_writes_nor_ends(peer):
    peer.socket.freeze()
    peer.socket.send(Frame(b"x"))
    peer.socket.ping()
    peer.socket.close(1000)
    peer.loop.advance(60)
    assert peer.transport.is_paused
    assert not peer.transport.sent
    assert not peer.transport.is_aborted
    peer.socket.abort()
    assert peer.transport.is_aborted


def test_bytes_are_limited_and_then_unlimited_again(peer):
    peer.socket.trickle(100.0)
    peer.socket.send(Frame(b"x" * 50))
    assert not peer.transport.sent
    peer.loop.advance(0.11)
    assert len(peer.transport.sent) == 10
    peer.socket.trickle(None)
    assert peer.frames() == [(Opcode.TEXT, b"x" * 50)]
    peer.socket.send(Frame(b"y"))
    assert peer.frames() == [(Opcode.TEXT, b"y")]


def test_text_that_is_not_utf8_can_be_sent(peer):
    peer.socket.send(Frame(b"\xff\xfe"))
    assert peer.transport.sent.endswith(b"\xff\xfe")


def test_invalid_frames_of_a_client_end_its_connection(peer):
    peer.socket.data_received(b"\xff" * 20)
    assert peer.transport.is_closed
