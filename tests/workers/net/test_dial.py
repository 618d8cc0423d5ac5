"""Connecting: every way in which it can fail has its word, ends by the deadline and leaves no socket behind."""

from __future__ import annotations

import ast
import gc
import os
import re
import socket
import ssl
import threading
import time
import warnings
from pathlib import Path
from types import SimpleNamespace

import pytest
from peers import BlackHole, RawPeer, closed_port, server_context

from ipc.health import Reason
from workers.net import dial as dialling
from workers.net.dial import ConnectError, dial, resolve, tls_context
from workers.net.interrupter import SocketInterrupter
from workers.net.proxy import DialOptions

NS = 1_000_000_000

pytestmark = pytest.mark.usefixtures("no_descriptor_left")


@pytest.fixture
def interrupter():
    interrupter = SocketInterrupter()
    interrupter.begin()
    yield interrupter
    interrupter.close()


def within(seconds):
    return time.monotonic_ns() + int(seconds * NS)


def stay(_sock, over):
    over.wait()


def at(*ports):
    """A resolver that knows these ports of 127.0.0.1 as the addresses of every host."""
    return lambda _host, _port, _timeout_s: [(int(socket.AF_INET), ("127.0.0.1", port)) for port in ports]


def failure(*args, **kwargs):
    with pytest.raises(ConnectError) as caught:
        dial(*args, **kwargs)
    return caught.value


# --- names --------------------------------------------------------------------------------------------------------


def test_numeric_addresses_need_no_look_up(monkeypatch):
    monkeypatch.setattr(threading.Thread, "start", lambda _: pytest.fail("a look-up was begun"))
    assert resolve("127.0.0.1", 80, 0.0) == [(int(socket.AF_INET), ("127.0.0.1", 80))]
    assert resolve("::1", 80, 0.0)[0][1][:2] == ("::1", 80)


def test_names_are_looked_up_in_a_thread_of_their_own(monkeypatch):
    looked_up_in = []

    def look_up(host, port, **_):
        looked_up_in.append(threading.current_thread())
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.2", port))]

    monkeypatch.setattr(socket, "getaddrinfo", look_up)
    assert resolve("venue.test", 443, 10.0) == [(int(socket.AF_INET), ("127.0.0.2", 443))]
    assert looked_up_in[0] is not threading.current_thread()
    assert looked_up_in[0].daemon


def test_name_that_does_not_exist_is_dns_failed(monkeypatch):
    def look_up(*_, **__):
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", look_up)
    with pytest.raises(ConnectError, match=r"venue\.test: Name or service not known") as caught:
        resolve("venue.test", 443, 10.0)
    assert caught.value.reason is Reason.DNS_FAILED


def test_resolver_that_hangs_is_abandoned_at_the_deadline(monkeypatch):
    answer = threading.Event()

    def look_up(*_, **__):
        answer.wait()
        return []

    monkeypatch.setattr(socket, "getaddrinfo", look_up)
    began = time.monotonic()
    with pytest.raises(ConnectError, match="no answer") as caught:
        resolve("venue.test", 443, 0.05)
    assert caught.value.reason is Reason.DNS_FAILED
    assert time.monotonic() - began < 5
    abandoned = next(thread for thread in threading.enumerate() if thread.name == "dns venue.test")
    answer.set()
    abandoned.join(10)


def test_resolver_that_hangs_holds_one_thread_however_often_it_is_asked(monkeypatch):
    answer = threading.Event()
    asked = []

    def look_up(host, port, **_):
        asked.append(host)
        answer.wait()
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.2", port))]

    monkeypatch.setattr(socket, "getaddrinfo", look_up)
    for _ in range(3):
        with pytest.raises(ConnectError, match="no answer"):
            resolve("venue.test", 443, 0.01)
    with pytest.raises(ConnectError, match="no answer"):
        resolve("rest.venue.test", 443, 0.01)
    assert asked == ["venue.test", "rest.venue.test"]
    answer.set()
    assert resolve("venue.test", 443, 10.0) == [(int(socket.AF_INET), ("127.0.0.2", 443))]
    for thread in threading.enumerate():
        if thread.name.startswith("dns "):
            thread.join(10)


def test_name_that_cannot_be_encoded_is_distinguished_from_a_slow_resolver():
    with pytest.raises(ConnectError, match="cannot resolve") as caught:
        resolve("a..venue.test", 443, 10.0)
    assert caught.value.reason is Reason.DNS_FAILED


def test_numeric_address_of_an_unknown_interface_is_dns_failed():
    with pytest.raises(ConnectError):
        resolve("fe80::1%no_such_interface", 443, 1.0)


def test_look_ups_are_bounded_by_the_environment():
    assert "timeout" in os.environ["RES_OPTIONS"]


def test_hanging_resolver_gets_the_time_that_is_left(interrupter):
    asked = []

    def resolver(host, port, timeout_s):
        asked.append((host, port))
        assert 0 < timeout_s <= 5
        raise ConnectError(Reason.DNS_FAILED, "no answer")

    error = failure("wss://venue.test/feed", interrupter, within(5), resolver)
    assert error.reason is Reason.DNS_FAILED
    assert asked == [("venue.test", 443)]


# --- TCP ----------------------------------------------------------------------------------------------------------


def test_connected_socket_is_without_delay_kept_alive_and_timed(interrupter):
    with RawPeer(stay) as peer:
        sock = dial(peer.url(), interrupter, within(5))
        assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
        assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
        assert 0 < sock.gettimeout() <= 5
        interrupter.close()


def test_refused(interrupter):
    error = failure(f"ws://127.0.0.1:{closed_port()}", interrupter, within(5))
    assert error.reason is Reason.REFUSED


def test_next_address_is_tried_after_a_refusal(interrupter):
    with RawPeer(stay) as peer:
        sock = dial("ws://venue.test", interrupter, within(5), at(closed_port(), peer.port))
        assert sock.getpeername()[1] == peer.port
        interrupter.close()


def test_last_refusal_is_reported_when_all_addresses_refuse(interrupter):
    error = failure("ws://venue.test", interrupter, within(5), at(closed_port(), closed_port()))
    assert error.reason is Reason.REFUSED


def test_host_without_addresses_is_connect_failed(interrupter):
    error = failure("ws://venue.test", interrupter, within(5), at())
    assert error.reason is Reason.CONNECT_FAILED


def test_address_of_an_unknown_family_is_connect_failed(interrupter):
    error = failure("ws://venue.test", interrupter, within(5), lambda *_: [(12_345, ("127.0.0.1", 1))])
    assert error.reason is Reason.CONNECT_FAILED


def test_address_that_answers_nothing_ends_by_the_deadline(interrupter):
    with BlackHole() as hole:
        began = time.monotonic()
        error = failure(f"ws://127.0.0.1:{hole.port}", interrupter, within(0.2))
        assert error.reason is Reason.CONNECT_TIMEOUT
        assert 0.15 < time.monotonic() - began < 10


def test_address_that_answers_nothing_does_not_hide_the_next_one(interrupter):
    """IPv6 that leads nowhere stands before IPv4 at every attempt."""
    with BlackHole() as hole, RawPeer(stay) as peer:
        sock = dial("ws://venue.test", interrupter, within(4), at(hole.port, hole.port, peer.port))
        assert sock.getpeername()[1] == peer.port
        assert 0 < sock.gettimeout() <= 4 / 3 + 0.1
        interrupter.close()


def test_addresses_that_answer_nothing_end_by_the_deadline_together(interrupter):
    with BlackHole() as hole:
        began = time.monotonic()
        error = failure("ws://venue.test", interrupter, within(0.4), at(hole.port, hole.port))
        assert error.reason is Reason.CONNECT_TIMEOUT
        assert 0.3 < time.monotonic() - began < 10


def test_deadline_that_passes_as_the_connection_is_made_leaves_no_socket(interrupter, use_up):
    deadline_ns = within(60)
    with RawPeer(stay) as peer:
        connect = interrupter.publish
        interrupter.publish = lambda sock: (connect(sock), use_up(deadline_ns))
        assert failure(peer.url(), interrupter, deadline_ns).reason is Reason.CONNECT_TIMEOUT
    assert interrupter._socket is None


def test_nothing_is_tried_after_the_deadline(interrupter):
    def resolver(*_):
        pytest.fail("it was resolved")

    error = failure("ws://127.0.0.1:1", interrupter, time.monotonic_ns() - 1, resolver)
    assert error.reason is Reason.CONNECT_TIMEOUT


@pytest.fixture
def use_up(monkeypatch):
    """Lets a deadline pass."""

    def pass_over(deadline_ns):
        monkeypatch.setattr(dialling, "time", SimpleNamespace(monotonic_ns=lambda: deadline_ns + 1))

    return pass_over


def test_resolver_that_used_up_the_time_leaves_no_socket(interrupter, use_up):
    deadline_ns = within(60)

    def resolver(*_):
        use_up(deadline_ns)
        return [(int(socket.AF_INET), ("127.0.0.1", 1))]

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        assert failure("ws://venue.test", interrupter, deadline_ns, resolver).reason is Reason.CONNECT_TIMEOUT
        gc.collect()
    assert not [warning for warning in caught if warning.category is ResourceWarning]


def test_cut_before_the_socket_exists_ends_it(interrupter):
    def resolver(*_):
        interrupter.interrupt(Reason.REQUESTED)
        return [(int(socket.AF_INET), ("127.0.0.1", 1))] * 2

    error = failure("ws://venue.test", interrupter, within(5), resolver)
    assert error.reason is Reason.REQUESTED


def test_cut_while_connecting_is_reported_by_its_reason_and_ends_the_search(interrupter):
    with BlackHole() as hole, RawPeer(stay) as peer:
        tried = []

        def connect():
            tried.append(failure("ws://venue.test", interrupter, within(60), at(hole.port, peer.port)))

        thread = threading.Thread(target=connect)
        thread.start()
        while thread.is_alive():
            interrupter.interrupt(Reason.STALE_WATCHDOG)
            thread.join(0.01)
        assert tried[0].reason is Reason.STALE_WATCHDOG
        assert not peer.accepted


# --- TLS ----------------------------------------------------------------------------------------------------------


def test_context_verifies_and_is_one_for_the_process(monkeypatch):
    monkeypatch.setattr(dialling, "_contexts", {})
    context = tls_context()
    assert context.verify_mode is ssl.CERT_REQUIRED
    assert context.check_hostname
    assert tls_context() is context


def test_trusted_certificate_is_accepted(interrupter, certificate, monkeypatch):
    monkeypatch.setattr(dialling, "_contexts", {None: ssl.create_default_context(cafile=str(certificate[0]))})
    with RawPeer(lambda sock, _: sock.sendall(b"hello"), tls=server_context(certificate)) as peer:
        sock = dial(peer.url("wss", "localhost"), interrupter, within(10), at(peer.port))
        assert sock.recv(5) == b"hello"
        interrupter.close()


def test_self_signed_certificate_is_tls_failed(interrupter, certificate):
    with RawPeer(stay, tls=server_context(certificate)) as peer:
        error = failure(peer.url("wss"), interrupter, within(10))
        assert error.reason is Reason.TLS_FAILED
        assert "self-signed" in error.what


def test_certificate_of_another_host_is_tls_failed(interrupter, certificate, monkeypatch):
    monkeypatch.setattr(dialling, "_contexts", {None: ssl.create_default_context(cafile=str(certificate[0]))})
    with RawPeer(stay, tls=server_context(certificate)) as peer:
        error = failure(peer.url("wss", "venue.test"), interrupter, within(10), at(peer.port))
        assert error.reason is Reason.TLS_FAILED


def test_server_that_speaks_no_tls_is_tls_failed(interrupter):
    with RawPeer(lambda sock, _: sock.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")) as peer:
        assert failure(peer.url("wss"), interrupter, within(10)).reason is Reason.TLS_FAILED


def test_server_that_hangs_up_within_the_handshake_is_tls_failed(interrupter):
    with RawPeer(lambda sock, _: sock.recv(1)) as peer:
        assert failure(peer.url("wss"), interrupter, within(10)).reason is Reason.TLS_FAILED


def test_handshake_that_hangs_ends_by_the_deadline(interrupter):
    with RawPeer(stay) as peer:
        began = time.monotonic()
        error = failure(peer.url("wss"), interrupter, within(0.2))
        assert error.reason is Reason.CONNECT_TIMEOUT
        assert 0.15 < time.monotonic() - began < 10


def test_deadline_between_connect_and_handshake_leaves_no_socket(certificate, monkeypatch, use_up):
    interrupter = SocketInterrupter()
    deadline_ns = within(60)

    class Slow:
        def wrap_socket(self, sock, **options):
            use_up(deadline_ns)
            return ssl.create_default_context().wrap_socket(sock, **options)

    monkeypatch.setattr(dialling, "_contexts", {None: Slow()})
    with RawPeer(stay, tls=server_context(certificate)) as peer:
        assert failure(peer.url("wss"), interrupter, deadline_ns).reason is Reason.CONNECT_TIMEOUT
        held = interrupter._socket
        interrupter.close()
    assert held is None


def test_unknown_authority_is_a_reason_to_set_ca_file(interrupter, certificate):
    with RawPeer(stay, tls=server_context(certificate)) as peer:
        error = failure(peer.url("wss"), interrupter, within(10))
    assert error.what.endswith("(for a private authority, name its certificate in ca_file)")


def test_certificate_of_another_host_is_no_reason_to_set_ca_file(interrupter, certificate):
    options = DialOptions(ca_file=str(certificate[0]))
    with RawPeer(stay, tls=server_context(certificate)) as peer:
        error = failure(peer.url("wss", "venue.test"), interrupter, within(10), at(peer.port), options)
    assert "Hostname mismatch" in error.what
    assert "ca_file" not in error.what


def test_authorities_of_ca_file_are_trusted_and_the_file_is_read_once(interrupter, certificate, tmp_path):
    path = tmp_path / "ca.pem"
    path.write_bytes(certificate[0].read_bytes())
    for _ in range(2):
        interrupter.begin()
        with RawPeer(lambda sock, _: sock.sendall(b"hello"), tls=server_context(certificate)) as peer:
            sock = dial(peer.url("wss"), interrupter, within(10), options=DialOptions(ca_file=str(path)))
            assert sock.recv(5) == b"hello"
            interrupter.close()
        path.unlink(missing_ok=True)
    assert tls_context(str(path)) is not tls_context()


def test_ca_file_that_is_gone_is_tls_failed_and_named(interrupter, certificate, tmp_path):
    with RawPeer(stay, tls=server_context(certificate)) as peer:
        options = DialOptions(ca_file=str(tmp_path / "gone.pem"))
        error = failure(peer.url("wss"), interrupter, within(10), options=options)
    assert error.reason is Reason.TLS_FAILED
    assert f"ca_file {tmp_path / 'gone.pem'} cannot be loaded: " in error.what


# --- source addresses ---------------------------------------------------------------------------------------------


def test_connection_comes_from_the_source_address(interrupter):
    seen = []
    with RawPeer(lambda sock, _: (seen.append(sock.getpeername()[0]), sock.sendall(b"x"))) as peer:
        sock = dial(peer.url(), interrupter, within(5), options=DialOptions(source_address="127.0.0.9"))
        assert sock.recv(1) == b"x"
        interrupter.close()
    assert seen == ["127.0.0.9"]


def test_source_address_of_another_machine_is_connect_failed_and_named(interrupter):
    with RawPeer(stay) as peer:
        options = DialOptions(source_address="203.0.113.9")  # RFC 5737
        error = failure(peer.url(), interrupter, within(5), options=options)
        assert not peer.accepted
    assert error.reason is Reason.CONNECT_FAILED
    assert error.what.endswith("source_address 203.0.113.9 is not an address of this machine")


def test_addresses_of_another_family_than_the_source_are_left_out(interrupter):
    def both(_host, port, _timeout_s):
        return [(int(socket.AF_INET6), ("::1", port, 0, 0)), (int(socket.AF_INET), ("127.0.0.1", peer.port))]

    with RawPeer(stay) as peer:
        sock = dial("ws://venue.test", interrupter, within(5), both, DialOptions(source_address="127.0.0.9"))
        assert sock.getpeername() == ("127.0.0.1", peer.port)
        interrupter.close()


def test_host_without_an_address_of_the_sources_family_is_connect_failed(interrupter):
    error = failure("ws://venue.test", interrupter, within(5), at(1), DialOptions(source_address="::1"))
    assert error.reason is Reason.CONNECT_FAILED
    assert error.what == "venue.test has no IPv6 address, as source_address ::1 needs"


# --- nothing goes past it -----------------------------------------------------------------------------------------

ROOT = Path(__file__).parents[3]
#: Calls by which a program opens a connection of its own, or lets a library do it.
OPENERS = re.compile(
    r"(socket\.)?(socket|create_connection)|websocket\.\w+|(urllib\.)?request\.urlopen|urlopen|(aio)?http\w*\.\w+"
    r"|requests\.(get|post|put|delete|head|request|[sS]ession)|(HTTPS?Connection|WebSocketApp|ClientSession)"
)


def test_no_connection_of_a_worker_is_opened_elsewhere():
    """So that none goes past the proxy, the deadline and the watchdog."""
    found = {}
    for path in (ROOT / "workers").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and OPENERS.fullmatch(ast.unparse(node.func)):
                place = str(path.relative_to(ROOT / "workers")), ast.unparse(node.func)
                found[place] = {keyword.arg for keyword in node.keywords}
    assert found.keys() == {("net/dial.py", "socket.socket"), ("net/transport.py", "websocket.create_connection")}
    assert "socket" in found["net/transport.py", "websocket.create_connection"]
