"""Connecting through proxies: every failure has its words, ends by the deadline and leaves no socket behind."""

from __future__ import annotations

import contextlib
import socket
import ssl
import threading
import time

import pytest
from fake_venue import FakeVenue
from hypothesis import given
from hypothesis import strategies as st
from peers import BlackHole, HttpPeer, RawPeer, WebSocketPeer, closed_port, drip, read_head
from proxies import ProxyServer

from ipc.health import Reason
from ipc.log import without_hidden
from workers.net.budget import MinuteBudget
from workers.net.dial import ConnectError, dial
from workers.net.interrupter import SocketInterrupter
from workers.net.proxy import DialOptions, ProxyRules, parse_proxy
from workers.net.rest import RestClient, RestError
from workers.net.transport import WebSocketTransport
from workers.net.tunnel import TunnelError, open_tunnel, read_credentials
from workers.venues.venue import RestRequest

pytestmark = pytest.mark.usefixtures("no_descriptor_left")

NS = 1_000_000_000
PROTOCOLS = ("http", "socks5")
LOGIN = ("desk", "open:sesame")
#: An address and a port as SOCKS5 has them in a reply.
BOUND = b"\x01\x7f\x00\x00\x01\x12\x34"

REQUIRES_LOGIN = (
    "it requires credentials: HTTP 407 Proxy Authentication Required"
    " (name a file with user:password in proxy_auth_file)"
)


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


def through(proxy, login=None, **options):
    """Options that lead through a proxy, a server or the URL of one."""
    parsed = parse_proxy(proxy if isinstance(proxy, str) else f"{proxy.protocol}://127.0.0.1:{proxy.port}")
    if login is not None:
        parsed = parse_proxy(f"{parsed.protocol}://{login[0]}:{login[1]}@127.0.0.1:{parsed.port}")
    return DialOptions(ProxyRules.always(parsed), **options)


def failure(interrupter, options, url="ws://venue.example:8080", seconds=10.0):
    with pytest.raises(ConnectError) as caught:
        dial(url, interrupter, within(seconds), options=options)
    return caught.value


def refusal(interrupter, script, protocol="http", login=None, **more):
    """The error of a proxy that plays a script; without its URL."""
    with RawPeer(script) as peer:
        options = through(f"{protocol}://127.0.0.1:{peer.port}", login)
        error = failure(interrupter, options, **more)
    assert error.reason is Reason.PROXY_FAILED
    head = f"proxy {protocol}://127.0.0.1:{peer.port}: "
    assert error.what.startswith(head)
    assert interrupter._socket is None
    return error.what.removeprefix(head), error.retry_after_s


def answering(*answers, head=b""):
    """A script: an answer to each request of the client, after what it sends unasked."""

    def script(sock, over):
        sock.sendall(head)
        for answer in answers:
            sock.recv(4096)
            sock.sendall(answer)
        over.wait()

    return script


# --- it works -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("login", [None, LOGIN])
@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_name_is_resolved_by_the_proxy_and_bytes_flow(interrupter, protocol, login):
    with ProxyServer(protocol, login) as proxy, RawPeer(lambda sock, _: sock.sendall(sock.recv(4)[::-1])) as venue:
        sock = dial(f"ws://venue.example:{venue.port}", interrupter, within(10), options=through(proxy, login))
        assert interrupter._socket is sock
        assert 0 < sock.gettimeout() <= 10
        sock.sendall(b"ping")
        assert sock.recv(4) == b"gnip"
        interrupter.close()
    assert proxy.asked == {("venue.example", venue.port): 1}


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_name_of_the_proxy_is_resolved_here_and_that_of_the_venue_is_not(interrupter, protocol):
    asked = []

    def resolver(host, port, timeout_s):
        asked.append((host, port, 0 < timeout_s <= 10))
        return [(int(socket.AF_INET), ("127.0.0.1", proxy.port))]

    with ProxyServer(protocol) as proxy, RawPeer(stay) as venue:
        dial(
            f"ws://venue.example:{venue.port}", interrupter, within(10), resolver, through(f"{protocol}://proxy.desk:9")
        )
        interrupter.close()
    assert asked == [("proxy.desk", 9, True)]


@pytest.fixture(scope="module")
def authority(tmp_path_factory):
    """An authority's certificate file, and the TLS side of a server of venue.example."""
    trustme = pytest.importorskip("trustme")
    authority, path = trustme.CA(), tmp_path_factory.mktemp("authority") / "ca.pem"
    authority.cert_pem.write_to_path(path)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("venue.example").configure_cert(context)
    return str(path), context


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_tls_is_with_the_venue(interrupter, authority, protocol):
    ca_file, context = authority
    with ProxyServer(protocol) as proxy, RawPeer(lambda sock, _: sock.sendall(b"hello"), tls=context) as venue:
        options = through(proxy, ca_file=ca_file)
        sock = dial(f"wss://venue.example:{venue.port}", interrupter, within(10), options=options)
        assert isinstance(sock, ssl.SSLSocket)
        assert interrupter._socket is sock
        assert sock.recv(5) == b"hello"
        interrupter.close()
        interrupter.begin()
        error = failure(interrupter, options, f"wss://other.example:{venue.port}")
        assert error.reason is Reason.TLS_FAILED
        assert "not valid for 'other.example'" in error.what


@pytest.mark.parametrize(
    ("protocol", "answers"),
    [
        ("http", [b"HTTP/1.1 200 Connection established\r\nVia: x\r\n\r\n\x16\x03\x03venue"]),
        ("http", [b"HTTP/1.0 200\r\n\r\n\x16\x03\x03venue"]),
        ("http", [b"HTTP/1.1 204 Fine\n\n\x16\x03\x03venue"]),
        ("socks5", [b"\x05\x00", b"\x05\x00\x00" + BOUND + b"\x16\x03\x03venue"]),
        ("socks5", [b"\x05\x00", b"\x05\x00\x00\x04" + bytes(18) + b"\x16\x03\x03venue"]),
        ("socks5", [b"\x05\x00", b"\x05\x00\x00\x03\x04host\x12\x34\x16\x03\x03venue"]),
    ],
)
def test_no_byte_behind_the_answer_is_lost(interrupter, protocol, answers):
    with RawPeer(answering(*answers)) as peer:
        options = through(f"{protocol}://127.0.0.1:{peer.port}")
        sock = dial("ws://venue.example", interrupter, within(10), options=options)
        received = b""
        while len(received) < 8:
            received += sock.recv(100)
        assert received == b"\x16\x03\x03venue"
        interrupter.close()


def test_http_request(interrupter):
    heads = []

    def script(sock, _over):
        heads.append(read_head(sock))
        sock.sendall(b"HTTP/1.1 200 OK\r\n\r\n")

    with RawPeer(script) as peer:
        for url in ("ws://venue.example/path?secret", "wss://[2001:db8::5]:8443", "ws://b\u00fccher.example"):
            with pytest.raises(ConnectError) if url.startswith("wss") else pytest.MonkeyPatch.context():
                dial(url, interrupter, within(10), options=through(f"http://127.0.0.1:{peer.port}", ("a", "b:c")))
            interrupter.close()
            interrupter.begin()
    lines = [head.split("\r\n") for head in heads]
    assert [line[0] for line in lines] == [
        "CONNECT venue.example:80 HTTP/1.1",
        "CONNECT [2001:db8::5]:8443 HTTP/1.1",
        "CONNECT xn--bcher-kva.example:80 HTTP/1.1",
    ]
    assert lines[0][1:] == [
        "Host: venue.example:80",
        "User-Agent: paraphina-supervisor",
        "Proxy-Authorization: Basic YTpiOmM=",
        "",
        "",
    ]


@pytest.mark.parametrize(
    ("url", "address"),
    [
        ("ws://venue.example:258", b"\x03\x0dvenue.example"),
        ("ws://192.0.2.7:258", b"\x01\xc0\x00\x02\x07"),
        ("ws://[2001:db8::5]:258", b"\x04\x20\x01\x0d\xb8" + bytes(11) + b"\x05"),
    ],
)
def test_socks5_request(interrupter, url, address):
    received = []

    def script(sock, _over):
        for answer in (b"\x05\x02", b"\x01\x00", b"\x05\x00\x00" + BOUND):
            received.append(sock.recv(4096))
            sock.sendall(answer)

    with RawPeer(script) as peer:
        dial(url, interrupter, within(10), options=through(f"socks5://127.0.0.1:{peer.port}", ("desk", "word")))
        interrupter.close()
    assert received == [b"\x05\x02\x00\x02", b"\x01\x04desk\x04word", b"\x05\x01\x00" + address + b"\x01\x02"]


def test_source_address_is_that_of_the_connection_to_the_proxy(interrupter):
    seen = []

    def script(sock, _over):
        seen.append(sock.getpeername()[0])
        read_head(sock)
        sock.sendall(b"HTTP/1.1 200 OK\r\n\r\n")

    with RawPeer(script) as peer:
        options = through(f"http://127.0.0.1:{peer.port}", source_address="127.0.0.9")
        dial("ws://venue.example", interrupter, within(10), options=options)
        interrupter.close()
    assert seen == ["127.0.0.9"]


# --- it is refused ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("answer", "what", "wait_s"),
    [
        (
            b"407 Proxy Authentication Required\r\nProxy-Authenticate: Basic",
            REQUIRES_LOGIN,
            None,
        ),
        (b"403 Forbidden", "it refuses to connect to venue.example:8080: HTTP 403 Forbidden", None),
        (b"302 Found\r\nLocation: /", "it refuses to connect to venue.example:8080: HTTP 302 Found", None),
        (b"502 Bad Gateway", "it cannot reach venue.example:8080: HTTP 502 Bad Gateway", None),
        (b"504", "it cannot reach venue.example:8080: HTTP 504", None),
        (b"503 Busy\r\nretry-after:  7 ", "it cannot reach venue.example:8080: HTTP 503 Busy", 7.0),
        (b"429 Slow\r\nX: y\r\nRetry-After: 9", "it refuses to connect to venue.example:8080: HTTP 429 Slow", 9.0),
        (b"429 Slow\r\nRetry-After: soon", "it refuses to connect to venue.example:8080: HTTP 429 Slow", None),
    ],
)
def test_refusal_of_http(interrupter, answer, what, wait_s):
    assert refusal(interrupter, answering(b"HTTP/1.1 " + answer + b"\r\n\r\n<html>")) == (what, wait_s)


@pytest.mark.parametrize(
    ("reply", "words"),
    [
        (1, "it failed"),
        (2, "its rules do not allow it"),
        (3, "the network is unreachable"),
        (4, "the host is unreachable, or its name is unknown"),
        (5, "the host refuses connections"),
        (6, "the host does not answer in time"),
        (7, "it does not support connections"),
        (8, "it does not support this type of address"),
        (99, "SOCKS5 reply 99"),
    ],
)
def test_refusal_of_socks5(interrupter, reply, words):
    """A proxy may hang up behind the code."""

    def script(sock, _over):
        for answer in (b"\x05\x00", bytes([5, reply])):
            sock.recv(4096)
            sock.sendall(answer)

    assert refusal(interrupter, script, "socks5") == (f"it cannot connect to venue.example:8080: {words}", None)


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_missing_credentials(interrupter, protocol):
    with ProxyServer(protocol, LOGIN) as proxy:
        error = failure(interrupter, through(proxy))
        assert error.reason is Reason.PROXY_FAILED
        assert "it requires credentials: " in error.what
        assert error.what.endswith(" (name a file with user:password in proxy_auth_file)")
    assert (proxy.refused, proxy.asked) == (1, {})


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_wrong_credentials(interrupter, protocol):
    with ProxyServer(protocol, LOGIN) as proxy:
        error = failure(interrupter, through(proxy, ("desk", "planted-4711")))
        assert error.reason is Reason.PROXY_FAILED
        assert "it rejects the credentials: " in error.what
        assert "planted" not in error.what
    assert (proxy.refused, proxy.asked) == (1, {})


def test_no_method_of_authentication_is_accepted_though_there_are_credentials(interrupter):
    what, _ = refusal(interrupter, answering(b"\x05\xff"), "socks5", LOGIN)
    assert what == "it rejects the credentials: no method of authentication accepted"


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_host_that_the_proxy_does_not_know(interrupter, protocol):
    with ProxyServer(protocol) as proxy:
        error = failure(interrupter, through(proxy), "ws://venue.unknown")
    assert error.reason is Reason.PROXY_FAILED
    assert "venue.unknown:80: " in error.what


# --- it speaks something else -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("protocol", "script", "what"),
    [
        ("http", answering(b"\x05\xff"), "it does not speak HTTP (b'\\x05') (for a SOCKS proxy write socks5://)"),
        ("http", answering(b"HTTP"), None),
        ("http", answering(b"HTTP/2 200\r\n\r\n"), "it does not speak HTTP (b'HTTP/2 200\\r\\n\\r\\n')"),
        ("http", answering(b"HTTP/1.1 OK\r\n\r\n"), "it does not speak HTTP (b'HTTP/1.1 OK\\r\\n\\r\\n')"),
        ("http", answering(b"HTTP/1.1 200 OK\r\n" + b"x" * 20_000), "its header exceeds 16384 bytes"),
        ("http", answering(b"HTTP/1.1 200 " + b"x" * 20_000), "its header exceeds 16384 bytes"),
        ("socks5", answering(b"HTTP/1.1 400"), "it does not speak SOCKS5 (for an HTTP proxy write http://)"),
        ("socks5", answering(b"\x05\x01"), "it selects the unknown method of authentication 1"),
        ("socks5", answering(b"\x05\x02"), "it selects the unknown method of authentication 2"),
        ("socks5", answering(b"\x05\x00", b"\x04\x00\x00"), "its reply is not one of SOCKS5"),
        ("socks5", answering(b"\x05\x00", b"\x05\x00\x00\x09"), "its reply is not one of SOCKS5"),
    ],
)
def test_garbage(interrupter, protocol, script, what):
    seconds = 0.3 if what is None else 10.0
    found, _ = refusal(interrupter, script, protocol, seconds=seconds)
    assert found.startswith(what or "it does not answer in time")


@pytest.mark.parametrize(
    ("protocol", "answers"),
    [
        ("http", []),
        ("http", [b"HTTP/1.1 200 OK\r\n"]),
        ("socks5", []),
        ("socks5", [b"\x05"]),
        ("socks5", [b"\x05\x00"]),
        ("socks5", [b"\x05\x00", b"\x05\x00\x00\x01\x7f"]),
    ],
)
def test_proxy_that_hangs_up(interrupter, protocol, answers):
    def script(sock, over):
        for answer in answers:
            sock.recv(4096)
            sock.sendall(answer)
        sock.shutdown(socket.SHUT_WR)
        over.wait()

    advice = "" if answers else " (does it speak the protocol that its URL names?)"
    assert refusal(interrupter, script, protocol)[0] == f"it closed the connection{advice}"


def test_proxy_that_resets_the_connection(interrupter):
    def script(sock, _over):
        sock.recv(1)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\x00\x00\x00\x00\x00\x00\x00")

    assert refusal(interrupter, script)[0].startswith("the connection to it broke: ")


@pytest.mark.parametrize("url", ["ws://a..example", f"ws://{'a' * 64}.example", "ws://ven ue.example"])
def test_what_is_no_name_is_not_sent(interrupter, url):
    what, _ = refusal(interrupter, stay, url=url)
    assert what.endswith("is no name of a host")


def test_name_that_is_too_long_for_socks5(interrupter):
    name = ".".join(["a" * 60] * 5)
    what, _ = refusal(interrupter, answering(b"\x05\x00"), "socks5", url=f"ws://{name}")
    assert what == "SOCKS5 takes names of up to 255 bytes"


def test_credentials_that_socks5_cannot_carry(interrupter):
    what, _ = refusal(interrupter, answering(b"\x05\x02"), "socks5", ("desk", "x" * 256))
    assert what == "SOCKS5 takes a user and a password of 1 to 255 bytes"


# --- it cannot be reached -----------------------------------------------------------------------------------------


def test_refused_by_the_proxys_machine(interrupter):
    port = closed_port()
    error = failure(interrupter, through(f"http://127.0.0.1:{port}"))
    assert error.reason is Reason.PROXY_FAILED
    assert error.what == f"proxy http://127.0.0.1:{port}: 127.0.0.1:{port} refuses connections"


def test_unknown_name_of_the_proxy(interrupter):
    def resolver(host, *_):
        raise ConnectError(Reason.DNS_FAILED, f"cannot resolve {host}")

    with pytest.raises(ConnectError) as caught:
        dial("wss://venue.example", interrupter, within(10), resolver, through("http://proxy.desk:9"))
    assert caught.value.reason is Reason.PROXY_FAILED
    assert caught.value.what == "proxy http://proxy.desk:9: cannot resolve proxy.desk"


# --- it hangs -----------------------------------------------------------------------------------------------------

#: How far a proxy gets before it says nothing more.
PHASES = [
    pytest.param("http", stay, id="http-request"),
    pytest.param("http", answering(b"HTTP/1.1 200 OK\r\nVia"), id="http-header"),
    pytest.param("http", lambda sock, over: drip(sock, b"HTTP/1.1 200 OK\r\n" + b"x" * 16_000, over), id="http-slow"),
    pytest.param("socks5", stay, id="socks5-method"),
    pytest.param("socks5", answering(b"\x05\x02"), id="socks5-login"),
    pytest.param("socks5", answering(b"\x05\x00"), id="socks5-reply"),
    pytest.param("socks5", answering(b"\x05\x00", b"\x05\x00\x00\x01\x7f"), id="socks5-address"),
]


@pytest.mark.parametrize(("protocol", "script"), PHASES)
def test_every_phase_ends_by_the_one_deadline(interrupter, protocol, script):
    began = time.monotonic()
    what, _ = refusal(interrupter, script, protocol, LOGIN, seconds=0.3)
    assert 0.25 < time.monotonic() - began < 10
    assert what in {"it does not answer in time", "the time to connect is over"}


@pytest.mark.parametrize(("protocol", "script"), PHASES)
def test_every_phase_can_be_cut(interrupter, protocol, script):
    caught = []
    with RawPeer(script) as peer:
        options = through(f"{protocol}://127.0.0.1:{peer.port}", LOGIN)
        thread = threading.Thread(target=lambda: caught.append(failure(interrupter, options, seconds=60)))
        thread.start()
        while not peer.accepted:
            time.sleep(0.001)
        time.sleep(0.02)
        while thread.is_alive():
            interrupter.interrupt(Reason.REQUESTED)
            thread.join(0.01)
    assert caught[0].reason is Reason.REQUESTED
    assert interrupter._socket is None


@pytest.mark.parametrize("reason", [Reason.CONNECT_TIMEOUT, Reason.READ_TIMEOUT])
def test_watchdog_that_notices_the_deadline_first_changes_no_reason(interrupter, reason):
    def script(_sock, over):
        interrupter.interrupt(reason)
        over.wait()

    assert refusal(interrupter, script)[0] == "it does not answer in time"


def test_connecting_to_the_proxy_ends_by_the_deadline_and_can_be_cut(interrupter):
    with BlackHole() as hole:
        error = failure(interrupter, through(f"http://127.0.0.1:{hole.port}"), seconds=0.2)
        assert error.reason is Reason.PROXY_FAILED
        assert "in time" in error.what
        interrupter.begin()
        interrupter.interrupt(Reason.STALE_WATCHDOG)
        error = failure(interrupter, through(f"http://127.0.0.1:{hole.port}"), seconds=60)
        assert error.reason is Reason.STALE_WATCHDOG


def test_handshake_with_the_venue_has_what_the_proxy_left_of_the_time(interrupter):
    with RawPeer(answering(b"HTTP/1.1 200 OK\r\n\r\n")) as peer:
        began = time.monotonic()
        options = through(f"http://127.0.0.1:{peer.port}")
        error = failure(interrupter, options, "wss://venue.example", 0.3)
        assert error.reason is Reason.CONNECT_TIMEOUT
        assert 0.25 < time.monotonic() - began < 10


# --- credentials in a file ----------------------------------------------------------------------------------------


def auth_file(path, text, mode=0o600):
    path.touch(mode=mode)
    path.write_text(text)
    return str(path)


def test_file_is_read_at_each_connection(interrupter, tmp_path):
    path = auth_file(tmp_path / "auth", "desk:old\n")
    with ProxyServer("http", LOGIN) as proxy, RawPeer(stay) as venue:
        parsed = parse_proxy(proxy.url)
        object.__setattr__(parsed, "auth_file", path)
        options = DialOptions(ProxyRules.always(parsed))
        assert "rejects the credentials" in failure(interrupter, options, f"ws://venue.example:{venue.port}").what
        auth_file(tmp_path / "auth", "desk:open:sesame\n")
        dial(f"ws://venue.example:{venue.port}", interrupter, within(10), options=options)
        interrupter.close()
        (tmp_path / "auth").chmod(0o644)
        error = failure(interrupter, options, f"ws://venue.example:{venue.port}")
        assert error.reason is Reason.PROXY_FAILED
        assert "no credentials: " in error.what
        assert "chmod 600" in error.what


def test_credentials_never_show_in_a_log(interrupter, tmp_path):
    with ProxyServer("http", ("desk", "planted-4711")) as proxy, RawPeer(stay) as venue:
        options = through(proxy, ("desk", "planted-4711"))
        dial(f"ws://venue.example:{venue.port}", interrupter, within(10), options=options)
        interrupter.close()
    assert without_hidden("planted-4711 ZGVzazpwbGFudGVkLTQ3MTE=") == "(hidden) (hidden)"


@pytest.mark.parametrize("text", ["", "desk", "desk:a\nother:b", "desk:\x1b"])
def test_file_without_user_and_password(tmp_path, text):
    path = auth_file(tmp_path / "auth", text)
    with pytest.raises(ValueError, match=r"must hold one line user:password$"):
        read_credentials(path)


def test_file_that_others_may_read_or_that_is_missing(tmp_path):
    with pytest.raises(ValueError, match="must be yours alone; do: chmod 600"):
        read_credentials(auth_file(tmp_path / "auth", "desk:word", 0o640))
    with pytest.raises(ValueError, match=r"cannot be read: FileNotFoundError$"):
        read_credentials(str(tmp_path / "none"))


# --- who dials ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_websocket_through_a_proxy(interrupter, protocol):
    with ProxyServer(protocol) as proxy, WebSocketPeer(lambda connection: connection.send("hello")) as venue:
        transport = WebSocketTransport(
            venue.url.replace("127.0.0.1", "venue.example"),
            interrupter=interrupter,
            deadline_ns=within(10),
            tick_s=1.0,
            max_message=1000,
            options=through(proxy),
        )
        frames = transport.receive()
        transport.close()
    assert [bytes(payload) for _, payload in frames][:1] == [b"hello"]
    assert sum(proxy.asked.values()) == 1


@pytest.fixture
def new_client(interrupter):
    clients = []

    def new(url, options):
        budget = MinuteBudget(6000)
        clients.append(RestClient(FakeVenue(), url, budget, interrupter, lambda _: None, options=options))
        return clients[-1]

    yield new
    for client in clients:
        client.close()


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_rest_through_a_proxy_uses_its_connection_again(new_client, protocol):
    def answer(handler):
        handler.send_response(200)
        handler.send_header("Content-Length", "2")
        handler.end_headers()
        handler.wfile.write(b"{}")

    with ProxyServer(protocol) as proxy, HttpPeer(answer) as venue:
        client = new_client(venue.url.replace("127.0.0.1", "venue.example"), through(proxy))
        assert [client.call(RestRequest(path), 10) for path in ("/a", "/b")] == [b"{}", b"{}"]
        client.close()
    assert proxy.asked == {("venue.example", venue.port): 1}
    assert [path for _, path, _ in venue.requests] == ["/a", "/b"]


@pytest.mark.parametrize("scheme", ["http", "https"])
def test_rest_keeps_reason_words_and_pause_of_a_proxy(new_client, scheme):
    busy = answering(b"HTTP/1.1 503 Busy\r\nRetry-After: 7\r\n\r\n")
    with RawPeer(busy) as peer:
        client = new_client(f"{scheme}://venue.example", through(f"http://127.0.0.1:{peer.port}"))
        with pytest.raises(RestError) as caught:
            client.call(RestRequest("/a"), 10)
    assert (caught.value.reason, caught.value.status, caught.value.retry_after_s) == (Reason.PROXY_FAILED, None, 7.0)
    assert "HTTP 503 Busy" in caught.value.what


# --- any answer whatever ------------------------------------------------------------------------------------------


class ScriptedSocket:
    """A connection on which these bytes arrive."""

    def __init__(self, data):
        self._data = data

    def settimeout(self, seconds):
        assert seconds == 1.0

    def sendall(self, data):
        pass

    def recv(self, size):
        piece, self._data = self._data[:size], self._data[size:]
        return piece


HEADERS = st.lists(
    st.one_of(st.binary(max_size=20), st.binary(max_size=20).map(lambda value: b"Retry-After: " + value))
).map(b"\r\n".join)
ANSWERS = st.one_of(
    st.binary(max_size=40),
    st.tuples(st.integers(0, 999), HEADERS).map(lambda of: b"HTTP/1.1 %03d x\r\n%s\r\n\r\n" % of),
    st.binary(max_size=30).map(lambda data: b"\x05\x00\x05" + data),
    st.binary(max_size=30).map(lambda data: b"\x05\x02\x01\x00\x05" + data),
)


@given(ANSWERS, st.sampled_from(PROTOCOLS), st.sampled_from([None, LOGIN]))
def test_no_answer_raises_anything_else(answer, protocol, login):
    options = through(f"{protocol}://127.0.0.1:1", login)
    proxy = options.proxy_for("wss://venue.example")
    with contextlib.suppress(TunnelError):
        open_tunnel(ScriptedSocket(answer), proxy, "venue.example", 443, lambda: 1.0)
