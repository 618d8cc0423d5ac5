"""HTTP server against clients that mean no good, on raw sockets."""

from __future__ import annotations

import contextlib
import logging
import os
import resource
import socket
import stat
import threading
import time
from pathlib import Path

import pytest
from systems import wait_for

from ipc.free_ports import free_ports
from ipc.health import Reason
from supervisor.http_address import HttpAddress
from supervisor.serving import server as module
from supervisor.serving.server import HttpServer

REQUEST = b"GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n"


class Counting:
    """Application that counts what reaches it, and fails where it is asked to."""

    def __init__(self):
        self.seen = []
        self.gate = threading.Event()
        self.gate.set()

    def __call__(self, environ, start_response):
        self.seen.append((environ["REQUEST_METHOD"], environ["PATH_INFO"]))
        assert self.gate.wait(20)
        if environ["PATH_INFO"] == "/crash":
            raise RuntimeError("a secret of ours")
        body = b"x" * 5_000_000 if environ["PATH_INFO"] == "/large" else b"fine"
        start_response("200 OK", [("Content-Length", str(len(body)))])
        return [body]


@pytest.fixture
def application():
    return Counting()


@pytest.fixture
def serve(application):
    """Start a server at an address; wait until it listens."""
    servers = []

    def serve(address=None, *, is_waited_for=True):
        address = address or HttpAddress("127.0.0.1", *free_ports(1, "127.0.0.1"))
        servers.append(HttpServer(application, address))
        servers[-1].start()
        if is_waited_for:
            wait_for(lambda: servers[-1].is_listening)
        return servers[-1], address

    yield serve
    application.gate.set()
    for server in servers:
        server.close()
        assert not server._thread.is_alive()
    logging.getLogger("waitress").propagate = True


@pytest.fixture
def connect(serve):
    """Connect to a server, of which there is one."""
    _, address = serve()
    with contextlib.ExitStack() as stack:

        def connect():
            return stack.enter_context(socket.create_connection((address.host, address.port), timeout=20))

        yield connect


def read_all(client):
    """Everything until the server closes the connection."""
    received = b""
    with contextlib.suppress(ConnectionResetError):
        while chunk := client.recv(65_536):
            received += chunk
    return received


def read_all_after(client, data):
    """Send requests, of which no other follows; return the answers."""
    client.sendall(data)
    client.shutdown(socket.SHUT_WR)
    return read_all(client)


def exchange(connect, data):
    """Send bytes; return everything until the server closes."""
    client = connect()
    with contextlib.suppress(ConnectionError):
        client.sendall(data)
    return read_all(client)


def answers_to(connect):
    """Ask for one answer on a connection of its own; return it."""
    with connect() as client:
        client.sendall(REQUEST.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n"))
        return read_all(client)


def answer_on(client):
    """Ask on an open connection; return the answer."""
    client.sendall(REQUEST)
    received = b""
    while not received.endswith(b"\r\n\r\nfine"):
        chunk = client.recv(65_536)
        assert chunk, received
        received += chunk
    return received


def test_client_that_asks_on_without_reading_is_dropped(connect, application):
    client = connect()
    client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    client.sendall(REQUEST.replace(b"/livez", b"/large") * 4)
    count = 0
    while count < len(application.seen) or count == 0:
        count = len(application.seen)
        time.sleep(0.5)
    assert count < 4  # the kernel takes some megabytes
    assert answers_to(connect).startswith(b"HTTP/1.1 200 OK\r\n")


def test_client_that_sends_many_requests_at_once_is_dropped(connect, application):
    client = connect()
    assert read_all_after(client, REQUEST * 4).count(b"HTTP/1.1 200 OK") == 4
    flooding = connect()
    flooding.sendall(REQUEST * 150)
    read_all(flooding)
    assert len(application.seen) < 4 + 150
    assert answers_to(connect).startswith(b"HTTP/1.1 200 OK\r\n")


def test_requests_on_one_connection(connect):
    client = connect()
    for _ in range(3):
        assert answer_on(client).startswith(b"HTTP/1.1 200 OK\r\n")


REFUSED = {
    "garbage": (b"\x00\xff\x16\x03\x01\x02\r\n\r\n", 400),
    "a TLS hello": (b"\x16\x03\x01\x00\xa5\x01\x00\x00\xa1\x03\x03\r\n\r\n" + os.urandom(64), 400),
    "no version of HTTP": (b"GET /livez HTTP/x\r\n\r\n", 400),
    "a bare line feed": (b"GET /livez HTTP/1.1\nHost: localhost\r\n\r\n", 400),
    "a bare line feed in a header": (b"GET /livez HTTP/1.1\r\nX: a\nHost: secret\r\n\r\n", 400),
    "a header without a name": (b"GET /livez HTTP/1.1\r\n: secret\r\n\r\n", 400),
    "a space before the colon": (b"GET /livez HTTP/1.1\r\nContent-Length : 5\r\n\r\nsecret", 400),
    "a body": (b"GET /livez HTTP/1.1\r\nHost: localhost\r\nContent-Length: 6\r\n\r\nsecret", 413),
    "a body of another method": (b"POST /livez HTTP/1.1\r\nHost: localhost\r\nContent-Length: 6\r\n\r\nsecret", 405),
    "chunks": (b"GET /livez HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n6\r\nsecret\r\n", 413),
    "an unknown coding": (b"GET /livez HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: xchunked\r\n\r\n", 501),
    "a negative length": (b"GET /livez HTTP/1.1\r\nHost: localhost\r\nContent-Length: -5\r\n\r\n", 400),
    "a length with a sign": (b"GET /livez HTTP/1.1\r\nHost: localhost\r\nContent-Length: +5\r\n\r\n", 400),
    "two lengths": (b"GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\nContent-Length: 5\r\n\r\nsecret", 400),
    "a huge line": (b"GET /" + b"a" * 20_000 + b" HTTP/1.1\r\n\r\n", 431),
    "huge headers": (b"GET / HTTP/1.1\r\n" + b"X: secret\r\n" * 3000, 431),
    "a body that is announced": (
        b"GET / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 9\r\n\r\n",
        413,
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_no_request_is_refused_and_not_repeated(connect, application, name):
    data, status = REFUSED[name]
    received = exchange(connect, data)
    head, _, body = received.partition(b"\r\n\r\n")
    assert head.split(b"\r\n")[0].split()[1] == str(status).encode()
    assert b"Content-Security-Policy: default-src 'none'" in head
    assert b"nosniff" in head
    assert body.decode().startswith(str(status))
    assert len(body) < 60
    assert b"secret" not in received
    assert application.seen == []
    assert answers_to(connect).endswith(b"fine")


SMUGGLED = {
    "length before chunks": b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "chunks before length": b"Transfer-Encoding: chunked\r\nContent-Length: 60\r\n\r\n0\r\n\r\n",
    "hidden chunks": b"Transfer-Encoding : chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n",
    "twice": b"Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n\r\n0\r\n\r\n",
    "length": b"Content-Length: 60\r\n\r\n",
}


@pytest.mark.parametrize("name", SMUGGLED)
def test_a_request_in_the_body_of_another_is_never_answered(connect, application, name):
    hidden = b"GET /smuggled HTTP/1.1\r\nHost: localhost\r\n\r\n"
    received = exchange(connect, b"GET /livez HTTP/1.1\r\nHost: localhost\r\n" + SMUGGLED[name] + hidden)
    assert received.count(b"HTTP/1.") == 1
    assert ("GET", "/smuggled") not in application.seen


def test_a_request_that_never_ends_is_ended(connect, monkeypatch):
    """Slow loris: a byte now and then keeps no connection open."""
    monkeypatch.setattr(module, "_REQUEST_S", 1.0)
    client = connect()
    client.sendall(b"GET /livez HTTP/1.1\r\nX: ")
    client.settimeout(0.2)
    until = time.monotonic() + 20
    while True:
        assert time.monotonic() < until, "the connection stays open"
        try:
            client.sendall(b"a")
            if client.recv(100) == b"":
                break
        except TimeoutError:
            continue
        except ConnectionError:
            break


def test_many_connections_leave_room_for_the_next(connect, monkeypatch):
    """The one that was idle for the longest time makes room."""
    idle = [connect() for _ in range(module._CONNECTIONS + 40)]
    for client in idle:
        with contextlib.suppress(ConnectionError):
            client.sendall(b"GET / HTTP/1.1\r\nX: ")
    for _ in range(3):
        assert answers_to(connect).endswith(b"fine")
    for client in idle:
        client.setblocking(False)

    def ended():
        count = 0
        for client in idle:
            try:
                count += client.recv(10) == b""
            except BlockingIOError:
                continue
            except ConnectionError:
                count += 1
        return count

    wait_for(lambda: ended() >= 40)


def test_a_client_that_reads_nothing_keeps_nobody_else_waiting(connect):
    slow = [connect() for _ in range(4)]
    for client in slow:
        client.sendall(b"GET /large HTTP/1.1\r\nHost: localhost\r\n\r\n")
    assert answers_to(connect).endswith(b"fine")


def test_clients_that_leave_are_no_errors(connect, caplog):
    for _ in range(20):
        client = connect()
        client.sendall(b"GET /large HTTP/1.1\r\nHost: localhost\r\n\r\n")
        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\x00\x00\x00\x00\x00\x00\x00")
        client.close()
    assert answers_to(connect).endswith(b"fine")
    assert [record for record in caplog.records if record.levelno >= logging.ERROR] == []


def test_an_error_of_the_application_is_logged_in_our_form(connect, caplog):
    received = exchange(connect, b"GET /crash HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
    assert received.startswith(b"HTTP/1.1 500 Internal Server Error\r\n")
    assert received.endswith(b"\r\n\r\n500 Internal Server Error\n")
    [record] = [record for record in caplog.records if record.getMessage() == "http.library"]
    assert record.fields["text"] == "Exception while serving /crash"
    assert record.fields["error"] == "RuntimeError('a secret of ours')"


def test_a_long_text_of_the_library_is_cut(connect, caplog):
    logging.getLogger("waitress").error("served %s", "x" * 10_000)
    [record] = [record for record in caplog.records if record.getMessage() == "http.library"]
    assert len(record.fields["text"]) == 300


def test_without_a_descriptor_it_waits_and_goes_on(connect, caplog):
    """And does not spin: the connection that waits would wake it all the time."""
    first = connect()
    answer_on(first)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    waiting = socket.socket()
    waiting.settimeout(20)
    resource.setrlimit(resource.RLIMIT_NOFILE, (waiting.fileno() + 1, hard))
    taken = []
    try:
        with contextlib.suppress(OSError):
            while True:
                taken.append(os.dup(0))
        waiting.connect(first.getpeername())
        wait_for(lambda: "http.not_accepting" in caplog.messages)
        time.sleep(0.5)
        assert caplog.messages.count("http.not_accepting") <= 3
        answer_on(first)
    finally:
        for one in taken:
            os.close(one)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    answer_on(waiting)
    waiting.close()


# --- its address ------------------------------------------------------------------------------------------------------


def test_it_listens_when_its_address_is_free_again(serve, caplog):
    caplog.set_level(logging.INFO)
    other = socket.create_server(("127.0.0.1", 0))
    address = HttpAddress("127.0.0.1", other.getsockname()[1])
    server, _ = serve(address, is_waited_for=False)
    wait_for(lambda: "http.not_listening" in caplog.messages)
    time.sleep(1.5)  # it tries again
    assert not server.is_listening
    other.close()
    wait_for(lambda: server.is_listening)
    assert caplog.messages.count("http.not_listening") == caplog.messages.count("http.listening") == 1
    [record] = [record for record in caplog.records if record.getMessage() == "http.not_listening"]
    assert record.fields["reason"] is Reason.ADDRESS_IN_USE
    assert record.fields["address"] == address.url


def test_an_address_of_ipv6(serve):
    try:
        [port] = free_ports(1, "::1")
    except Exception:
        pytest.skip("no IPv6 here")
    serve(HttpAddress("::1", port))
    assert answers_to(lambda: socket.create_connection(("::1", port), timeout=20)).endswith(b"fine")


def unix_client(path):
    client = socket.socket(socket.AF_UNIX)
    client.settimeout(20)
    client.connect(str(path))
    return client


@pytest.fixture
def path(run_dir):
    return run_dir.path / "http"


def test_a_unix_socket_is_the_owners_alone_and_is_removed(serve, path):
    previous = os.umask(0)
    try:
        server, _ = serve(HttpAddress(path=str(path)))
    finally:
        os.umask(previous)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert answers_to(lambda: unix_client(path)).endswith(b"fine")
    server.close()
    assert not path.exists()


def test_the_socket_of_a_server_that_was_killed_is_replaced(serve, path):
    with socket.socket(socket.AF_UNIX) as killed:
        killed.bind(str(path))
    serve(HttpAddress(path=str(path)))
    assert answers_to(lambda: unix_client(path)).endswith(b"fine")


def test_a_socket_on_which_another_listens_is_left_alone(serve, path, caplog):
    with socket.socket(socket.AF_UNIX) as other:
        other.bind(str(path))
        other.listen()
        server, _ = serve(HttpAddress(path=str(path)), is_waited_for=False)
        wait_for(lambda: "http.not_listening" in caplog.messages)
        assert not server.is_listening
        with unix_client(path):
            other.accept()[0].close()


@pytest.mark.parametrize("make", [Path.mkdir, Path.touch], ids=["a directory", "a file"])
def test_what_is_no_socket_is_left_alone(serve, path, caplog, make):
    make(path)
    server, _ = serve(HttpAddress(path=str(path)), is_waited_for=False)
    wait_for(lambda: "http.not_listening" in caplog.messages)
    assert not server.is_listening
    assert path.exists()
