"""Cutting: whatever a session blocks in, whenever it is cut, it ends, knows why, and leaves nothing behind."""

from __future__ import annotations

import os
import random
import socket
import ssl
import threading
import time

import pytest
from peers import BlackHole, RawPeer, frame, server_context, upgrade

from ipc.health import Reason
from workers.net import dial
from workers.net.dial import ConnectError
from workers.net.interrupter import SocketInterrupter
from workers.net.transport import ClosedError, WebSocketTransport

NS = 1_000_000_000
MESSAGE = b"plain text of a known length"


@pytest.fixture
def pair():
    ours, theirs = socket.socketpair()
    ours.settimeout(10)
    theirs.settimeout(10)
    yield ours, theirs
    ours.close()
    theirs.close()


def test_blocked_reader_is_woken_and_learns_why(pair):
    ours, _ = pair
    interrupter = SocketInterrupter()
    interrupter.begin()
    interrupter.publish(ours)
    received = []
    reader = threading.Thread(target=lambda: received.append(ours.recv(10)))
    reader.start()
    interrupter.interrupt(Reason.STALE_WATCHDOG)
    reader.join(10)
    assert received == [b""]
    assert interrupter.reason is Reason.STALE_WATCHDOG


def test_first_reason_stays():
    interrupter = SocketInterrupter()
    interrupter.interrupt(Reason.READ_TIMEOUT)
    interrupter.interrupt(Reason.REQUESTED)
    assert interrupter.reason is Reason.READ_TIMEOUT


def test_cut_before_there_is_a_socket_sticks(pair):
    ours, _ = pair
    interrupter = SocketInterrupter()
    interrupter.begin()
    interrupter.interrupt(Reason.REQUESTED)
    with pytest.raises(ConnectionAbortedError, match="requested"):
        interrupter.publish(ours)


def test_new_operation_forgets_the_cut_and_the_socket_of_the_last(pair):
    ours, theirs = pair
    interrupter = SocketInterrupter()
    interrupter.publish(ours)
    interrupter.interrupt(Reason.READ_TIMEOUT)
    interrupter.begin()
    assert interrupter.reason is None
    with socket.socket() as another:
        interrupter.publish(another)
    assert theirs.recv(1) == b""


def test_close_closes_and_a_later_cut_touches_no_descriptor(pair):
    ours, theirs = pair
    interrupter = SocketInterrupter()
    interrupter.publish(ours)
    interrupter.close()
    assert ours.fileno() == -1
    assert theirs.recv(1) == b""
    interrupter.interrupt(Reason.REQUESTED)
    interrupter.close()


def test_cut_goes_past_an_override_of_shutdown():
    """The override of an SSLSocket drops the TLS layer under the reader, who then gets ciphertext as data."""

    class Wrapped(socket.socket):
        def shutdown(self, how):
            pytest.fail(f"the override was called with {how}")

    ours, theirs = socket.socketpair()
    with theirs, ours, Wrapped(fileno=os.dup(ours.fileno())) as wrapped:
        interrupter = SocketInterrupter()
        interrupter.publish(wrapped)
        interrupter.interrupt(Reason.STALE_WATCHDOG)
        theirs.settimeout(10)
        assert theirs.recv(1) == b""


# --- at random moments of a session's life -------------------------------------------------------------------------


def feed(sock, over):
    upgrade(sock)
    while not over.is_set():
        sock.sendall(frame(1, MESSAGE) * 50)


def no_answer(_sock, over):
    over.wait()


def live(url, interrupter, ends):
    """A session from dialling to its end; puts the reason of the end into ``ends``."""
    deadline_ns = time.monotonic_ns() + 60 * NS
    try:
        transport = WebSocketTransport(
            url, interrupter=interrupter, deadline_ns=deadline_ns, tick_s=5, max_message=1000
        )
        try:
            while True:
                for _, payload in transport.receive():
                    assert bytes(payload) == MESSAGE
        finally:
            transport.close()
    except (ConnectError, ClosedError) as error:
        ends.append(error.reason)


def cut_at_random_moments(url, times, within_s):
    for _ in range(times):
        interrupter, ends = SocketInterrupter(), []
        interrupter.begin()
        session = threading.Thread(target=live, args=(url, interrupter, ends))
        session.start()
        session.join(random.uniform(0, within_s))
        assert session.is_alive()
        give_up = time.monotonic() + 20
        while session.is_alive() and time.monotonic() < give_up:
            interrupter.interrupt(Reason.STALE_WATCHDOG)  # repeated, as the watchdog does at each of its looks
            session.join(0.01)
        assert not session.is_alive()
        assert ends == [Reason.STALE_WATCHDOG]


@pytest.mark.usefixtures("no_descriptor_left")
def test_session_cut_while_its_connect_hangs_ends():
    with BlackHole() as hole:
        cut_at_random_moments(f"ws://127.0.0.1:{hole.port}", 20, 0.005)


@pytest.mark.usefixtures("no_descriptor_left")
def test_session_cut_while_its_tls_handshake_hangs_ends():
    with RawPeer(no_answer) as peer:
        cut_at_random_moments(peer.url("wss"), 20, 0.005)


@pytest.mark.usefixtures("no_descriptor_left")
def test_session_cut_while_its_upgrade_hangs_ends():
    with RawPeer(no_answer) as peer:
        cut_at_random_moments(peer.url(), 20, 0.005)


@pytest.mark.usefixtures("no_descriptor_left")
def test_session_cut_while_frames_pour_in_ends():
    with RawPeer(feed) as peer:
        cut_at_random_moments(peer.url(), 20, 0.02)


@pytest.mark.usefixtures("no_descriptor_left")
def test_session_cut_while_frames_pour_in_over_tls_ends_without_a_byte_of_ciphertext(certificate, monkeypatch):
    monkeypatch.setattr(dial, "_contexts", {None: ssl.create_default_context(cafile=str(certificate[0]))})
    with RawPeer(feed, tls=server_context(certificate)) as peer:
        cut_at_random_moments(peer.url("wss"), 20, 0.03)


@pytest.mark.usefixtures("no_descriptor_left")
def test_session_cut_in_silence_ends():
    def quiet(sock, over):
        upgrade(sock)
        over.wait()

    with RawPeer(quiet) as peer:
        cut_at_random_moments(peer.url(), 10, 0.02)
