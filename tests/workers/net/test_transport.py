"""One WebSocket connection against servers on loopback: what it gives, and the word for each way in which it ends."""

from __future__ import annotations

import socket
import ssl
import struct
import threading
import time

import pytest
from clocks import wait_until
from hypothesis import given
from hypothesis import strategies as st
from peers import RawPeer, WebSocketPeer, closed_port, drip, frame, read_head, server_context, upgrade
from websockets.exceptions import ConnectionClosed

from ipc.health import Reason
from workers.net import dial
from workers.net.dial import ConnectError
from workers.net.frames import BINARY, CLOSE, PING, PONG, TEXT
from workers.net.interrupter import SocketInterrupter
from workers.net.retry_after import retry_after_s
from workers.net.transport import ClosedError, WebSocketTransport

NS = 1_000_000_000


@pytest.fixture
def connect():
    """Opens transports, and closes them after the test."""
    opened = []

    def open_one(url, *, within_s=10.0, interrupter=None, **options):
        options = {"tick_s": 5.0, "max_message": 100_000, **options}
        deadline_ns = time.monotonic_ns() + int(within_s * NS)
        opened.append(
            WebSocketTransport(url, interrupter=interrupter or SocketInterrupter(), deadline_ns=deadline_ns, **options)
        )
        return opened[-1]

    yield open_one
    for transport in opened:
        transport.close()


def received(transport, count):
    """The next ``count`` frames."""
    frames = []
    while len(frames) < count:
        frames += [(opcode, bytes(payload)) for opcode, payload in transport.receive()]
    return frames


def end_of(transport):
    """How the connection ends, once everything before was received."""
    try:
        while True:
            transport.receive()
    except ClosedError as error:
        return error


def send_until_it_ends(send, *arguments):
    """How the connection ends when something is sent again and again: the answer to the first is what breaks it."""
    for _ in range(10_000):
        try:
            send(*arguments)
        except ClosedError as error:
            return error
    raise AssertionError("everything was sent")


def not_opened(connect, url, **options):
    with pytest.raises(ConnectError) as caught:
        connect(url, **options)
    return caught.value


# --- opening ------------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("no_descriptor_left")
def test_messages_arrive_and_are_sent(connect):
    heard = []

    def script(connection):
        connection.send("text")
        connection.send(b"binary")
        heard.append(connection.recv())

    with WebSocketPeer(script) as peer:
        transport = connect(peer.url)
        assert received(transport, 2) == [(TEXT, b"text"), (BINARY, b"binary")]
        transport.send(b'{"op":"subscribe"}')
        assert end_of(transport).reason is Reason.SERVER_CLOSE
        transport.close()
    assert heard == ['{"op":"subscribe"}']


def test_frames_in_the_same_packet_as_the_upgrade_are_not_lost(connect):
    class Corked:
        """Holds back what is sent until the script is done with the upgrade."""

        def __init__(self, sock):
            self.recv, self.held = sock.recv, b""

        def sendall(self, data):
            self.held += data

    def script(sock, over):
        corked = Corked(sock)
        upgrade(corked)
        sock.sendall(corked.held + frame(TEXT, b"first") + frame(TEXT, b"second"))
        over.wait()

    with RawPeer(script) as peer:
        assert received(connect(peer.url()), 2) == [(TEXT, b"first"), (TEXT, b"second")]


def test_over_tls(connect, certificate, monkeypatch):
    monkeypatch.setattr(dial, "_contexts", {None: ssl.create_default_context(cafile=str(certificate[0]))})

    def script(sock, over):
        upgrade(sock)
        sock.sendall(frame(TEXT, b"x" * 50_000))
        over.wait()

    with RawPeer(script, tls=server_context(certificate)) as peer:
        assert received(connect(peer.url("wss")), 1) == [(TEXT, b"x" * 50_000)]


@pytest.mark.parametrize(
    ("headers", "expected"), [((), "User-Agent: paraphina-supervisor"), (("User-Agent: desk",), "User-Agent: desk")]
)
def test_headers_are_sent_and_no_origin(connect, headers, expected):
    heads = []

    def script(sock, over):
        heads.append(upgrade(sock))
        over.wait()

    with RawPeer(script) as peer:
        connect(peer.url() + "/feed?streams=a/b", headers=headers)
    assert heads[0].startswith("GET /feed?streams=a/b HTTP/1.1\r\n")
    assert expected in heads[0].split("\r\n")
    assert "origin" not in heads[0].lower()


def test_proxies_of_the_environment_are_not_used(connect, monkeypatch):
    for name in ("http_proxy", "HTTP_PROXY", "https_proxy", "all_proxy"):
        monkeypatch.setenv(name, f"http://127.0.0.1:{closed_port()}")
    with WebSocketPeer(lambda connection: connection.send("here")) as peer:
        assert received(connect(peer.url), 1) == [(TEXT, b"here")]


# --- not opening --------------------------------------------------------------------------------------------------


def refusing(status, *headers):
    text = "\r\n".join([f"HTTP/1.1 {status} No", "Content-Length: 2", *headers])

    def script(sock, _over):
        read_head(sock)
        sock.sendall(f"{text}\r\n\r\nno".encode())

    return script


@pytest.mark.usefixtures("no_descriptor_left")
@pytest.mark.parametrize(
    ("status", "reason"),
    [
        (401, Reason.AUTH_FAILED),
        (403, Reason.REFUSED),
        (404, Reason.REFUSED),
        (418, Reason.RATE_LIMITED),
        (429, Reason.RATE_LIMITED),
        (500, Reason.REFUSED),
        (503, Reason.REFUSED),
        (200, Reason.REFUSED),
    ],
)
def test_refused_upgrade_has_the_word_for_its_status(connect, status, reason):
    with RawPeer(refusing(status)) as peer:
        error = not_opened(connect, peer.url())
    assert error.reason is reason
    assert str(status) in error.what
    assert error.retry_after_s is None


@pytest.mark.parametrize("status", [429, 418, 503])
def test_refused_upgrade_tells_how_long_the_venue_asks_to_wait(connect, status):
    with RawPeer(refusing(status, "Retry-After: 17")) as peer:
        assert not_opened(connect, peer.url()).retry_after_s == 17


def test_redirect_is_not_followed(connect):
    with RawPeer(refusing(404)) as elsewhere, RawPeer(refusing(302, f"Location: {elsewhere.url()}/")) as peer:
        assert not_opened(connect, peer.url()).reason is Reason.CONNECT_FAILED
        assert peer.accepted == 1
        assert elsewhere.accepted == 0


def test_nobody_listens(connect):
    assert not_opened(connect, f"ws://127.0.0.1:{closed_port()}").reason is Reason.REFUSED


@pytest.mark.usefixtures("no_descriptor_left")
@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"HTTP/1.1 101 Switching",
        b"SSH-2.0-OpenSSH_9.9\r\n\r\n",
        b"\xff\xfe\xfd\r\n\r\n",
        b"HTTP/1.1 101 Switching Protocols\r\n\r\n",
        (
            b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            b"Sec-WebSocket-Accept: wrong\r\n\r\n"
        ),
        b"HTTP/1.1 101 Switching Protocols\r\nno colon\r\n\r\n",
    ],
)
def test_answer_that_is_no_upgrade_is_connect_failed(connect, answer):
    def script(sock, _over):
        read_head(sock)
        sock.sendall(answer)

    with RawPeer(script) as peer:
        assert not_opened(connect, peer.url()).reason is Reason.CONNECT_FAILED


@pytest.mark.usefixtures("no_descriptor_left")
def test_upgrade_that_is_never_answered_is_a_timeout(connect):
    with RawPeer(lambda _sock, over: over.wait()) as peer:
        error = not_opened(connect, peer.url(), within_s=0.2)
    assert error.reason is Reason.CONNECT_TIMEOUT


@pytest.mark.usefixtures("no_descriptor_left")
def test_upgrade_that_drips_ends_by_the_cut(connect):
    """Every byte comes in time, so that no timeout of a socket ever ends it."""

    def script(sock, over):
        read_head(sock)
        drip(sock, b"HTTP/1.1 101 Switching Protocols\r\n" + b"X-Padding: y\r\n" * 1000, over)

    interrupter, errors = SocketInterrupter(), []
    with RawPeer(script) as peer:
        opener = threading.Thread(
            target=lambda: errors.append(not_opened(connect, peer.url(), interrupter=interrupter))
        )
        opener.start()
        wait_until(lambda: peer.accepted)
        while opener.is_alive():
            interrupter.interrupt(Reason.CONNECT_TIMEOUT)
            opener.join(0.01)
    assert errors[0].reason is Reason.CONNECT_TIMEOUT
    assert "interrupted" in errors[0].what


# --- pings --------------------------------------------------------------------------------------------------------


def test_ping_of_the_server_is_given_and_can_be_answered(connect):
    ponged = threading.Event()

    def script(connection):
        if connection.ping(b"are you there").wait(10):
            ponged.set()
        connection.recv()

    with WebSocketPeer(script, ping_interval=None) as peer:
        transport = connect(peer.url)
        assert received(transport, 1) == [(PING, b"are you there")]
        transport.pong(b"are you there")
        transport.send(b"done")
        assert end_of(transport).reason is Reason.SERVER_CLOSE
        assert ponged.is_set()


def test_ping_of_ours_is_answered(connect):
    def script(connection):
        for _ in connection:
            pass

    with WebSocketPeer(script) as peer:
        transport = connect(peer.url)
        transport.ping()
        assert received(transport, 1) == [(PONG, b"")]
        transport.close()


# --- the end ------------------------------------------------------------------------------------------------------


def test_silence_is_an_empty_tick(connect):
    def script(sock, over):
        upgrade(sock)
        over.wait()

    with RawPeer(script) as peer:
        assert connect(peer.url(), tick_s=0.01).receive() == []


@pytest.mark.usefixtures("no_descriptor_left")
@pytest.mark.parametrize(
    ("payload", "text"),
    [
        (b"", "no status"),
        (b"\x03\xe8", "1000"),
        (b"\x03\xe9going away", "1001 going away"),
        (b"\x0f\xa0too slow", "4000 too slow"),
        (b"\x03\xe9\xff", "1001 �"),
    ],
)
def test_close_of_the_server_ends_it_after_what_came_before(connect, payload, text):
    def script(sock, over):
        upgrade(sock)
        sock.sendall(frame(TEXT, b"last words") + frame(CLOSE, payload))
        over.wait()

    with RawPeer(script) as peer:
        transport = connect(peer.url())
        assert received(transport, 1) == [(TEXT, b"last words")]
        error = end_of(transport)
        assert error.reason is Reason.SERVER_CLOSE
        assert error.what.endswith(f": {text}")
        transport.close()


@pytest.mark.parametrize(
    ("sent", "is_within"),
    [
        (frame(TEXT, b"whole"), False),
        (frame(TEXT, b"whole") + frame(TEXT, b"half")[:-2], True),
        (frame(TEXT, b"fragment", final=False), True),
    ],
)
def test_end_between_frames_is_distinguished_from_one_within(connect, sent, is_within):
    def script(sock, _over):
        upgrade(sock)
        sock.sendall(sent)

    with RawPeer(script) as peer:
        error = end_of(connect(peer.url()))
    assert error.reason is Reason.SERVER_CLOSE
    assert error.what.endswith("within a frame") is is_within


@pytest.mark.usefixtures("no_descriptor_left")
def test_reset_connection_is_server_close(connect):
    def script(sock, _over):
        upgrade(sock)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))

    with RawPeer(script) as peer:
        transport = connect(peer.url())
        error = end_of(transport)
        assert error.reason is Reason.SERVER_CLOSE
        assert "broke" in error.what
        transport.close()


@pytest.mark.parametrize("sent", [frame(TEXT, b"x", mask=b"1234"), frame(TEXT, b"x" * 200), frame(0xF, b"")])
def test_server_that_breaks_the_protocol_is_parse_errors(connect, sent):
    def script(sock, over):
        upgrade(sock)
        sock.sendall(sent)
        over.wait()

    with RawPeer(script) as peer:
        assert end_of(connect(peer.url(), max_message=100)).reason is Reason.PARSE_ERRORS


def test_cut_connection_ends_with_the_reason_of_the_cut(connect):
    def script(sock, over):
        upgrade(sock)
        over.wait()

    interrupter = SocketInterrupter()
    with RawPeer(script) as peer:
        transport = connect(peer.url(), interrupter=interrupter)
        interrupter.interrupt(Reason.STALE_WATCHDOG)
        assert end_of(transport).reason is Reason.STALE_WATCHDOG
        with pytest.raises(ClosedError) as caught:
            transport.send(b"x")
        assert caught.value.reason is Reason.STALE_WATCHDOG


def test_send_that_is_not_taken_in_time_ends_it(connect):
    """Half a frame may be out then."""

    def script(sock, over):
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1)
        upgrade(sock)
        over.wait()

    with RawPeer(script) as peer:
        transport = connect(peer.url(), tick_s=0.02)
        assert "sending failed" in send_until_it_ends(transport.send, b"x" * 100_000).what
        transport.close()


@pytest.mark.parametrize("send", ["send", "ping", "pong"])
def test_sending_to_a_server_that_is_gone_ends_it(connect, send):
    def script(sock, _over):
        upgrade(sock)

    with RawPeer(script) as peer:
        transport = connect(peer.url())
        end_of(transport)
        arguments = {"send": [b"x"], "ping": [], "pong": [b"x"]}[send]
        assert send_until_it_ends(getattr(transport, send), *arguments).reason is Reason.SERVER_CLOSE
        transport.close()


@pytest.mark.usefixtures("no_descriptor_left")
def test_closing_says_goodbye_and_never_waits(connect):
    codes = []

    def script(connection):
        try:
            connection.recv()
        except ConnectionClosed as closed:
            codes.append(closed.rcvd.code)

    with WebSocketPeer(script) as peer:
        connect(peer.url).close()
        wait_until(lambda: codes)
    assert codes == [1000]


@pytest.mark.usefixtures("no_descriptor_left")
def test_closing_a_connection_that_is_full_or_gone_raises_nothing(connect):
    with RawPeer(lambda sock, _over: upgrade(sock)) as peer:
        transport = connect(peer.url())
        end_of(transport)
        transport.close()
        transport.close()


# --- Retry-After --------------------------------------------------------------------------------------------------

NOW_S = 1_784_000_000.0  # Tue, 14 Jul 2026 03:33:20 GMT


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        (None, None),
        ("0", 0.0),
        ("17", 17.0),
        (" 17 ", 17.0),
        ("1.5", 1.5),
        ("-3", 0.0),
        ("3600", 300.0),
        ("1e9", 300.0),
        ("inf", 300.0),
        ("nan", None),
        ("", None),
        ("soon", None),
        ("17 seconds", None),
        ("Tue, 14 Jul 2026 03:33:45 GMT", 25.0),
        ("Tue, 14 Jul 2026 03:33:00 GMT", 0.0),
        ("Wed, 15 Jul 2026 03:33:20 GMT", 300.0),
        ("Tue, 99 Jul 2026 03:33:20 GMT", None),
    ],
)
def test_retry_after_is_seconds_or_a_date_capped_and_rubbish_is_none(header, expected):
    assert retry_after_s(header, NOW_S) == expected


def test_retry_after_with_an_absurd_year_is_rubbish():
    assert retry_after_s(f"Tue, 14 Jul {'9' * 20} 03:33:20 GMT", NOW_S) is None


@given(header=st.text(st.characters(codec="latin-1"), max_size=40))
def test_retry_after_is_never_an_error_and_never_over_five_minutes(header):
    asked = retry_after_s(header, NOW_S)
    assert asked is None or 0.0 <= asked <= 300.0
