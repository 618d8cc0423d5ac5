"""REST calls against servers on loopback: each ends in time and with a word, and a venue that asks to wait is heard."""

from __future__ import annotations

import gzip
import ssl
import threading
import time

import pytest
from clocks import wait_until
from fake_venue import FakeVenue
from peers import BlackHole, HttpPeer, RawPeer, closed_port, drip, read_head, server_context

from ipc.health import Reason
from workers.net import dial as dialling
from workers.net import rest
from workers.net.budget import MinuteBudget
from workers.net.dial import ConnectError
from workers.net.interrupter import SocketInterrupter
from workers.net.rest import RestClient, RestError
from workers.venues.venue import RestRequest

pytestmark = pytest.mark.usefixtures("no_descriptor_left")

GET = RestRequest("/markets?all=1")
#: A deadline that connecting on a busy machine does not use up.
SOON_S = 1.0


class PatientVenue(FakeVenue):
    """Says in its error bodies how long to wait."""

    def retry_after_s(self, status, body, now_ms):  # noqa: ARG002 - the interface of a venue
        if body.startswith(b"until "):
            return (int(body[6:]) - now_ms) / 1000
        return 30.0 if b"wait 30" in body else None


@pytest.fixture
def interrupter():
    return SocketInterrupter()


@pytest.fixture
def announced():
    return []


@pytest.fixture
def new_client(interrupter, announced):
    clients = []

    def new(url, budget=None, **options):
        budget = budget or MinuteBudget(6000)
        clients.append(RestClient(PatientVenue(), url, budget, interrupter, announced.append, **options))
        return clients[-1]

    yield new
    for client in clients:
        client.close()
    interrupter.close()


def reply(body=b"{}", status=200, *headers):
    """An answer with these headers."""

    def answer(handler):
        handler.send_response(status)
        handler.send_header("Content-Length", str(len(body)))
        for name, value in headers:
            handler.send_header(name, value)
        handler.end_headers()
        handler.wfile.write(body)

    return answer


def failure(client, request=GET, deadline_s=10.0):
    with pytest.raises(RestError) as caught:
        client.call(request, deadline_s)
    return caught.value


# --- answers ------------------------------------------------------------------------------------------------------


def test_body_of_a_successful_answer(new_client):
    with HttpPeer(reply(b'{"a": 1}')) as peer:
        client = new_client(peer.url + "/")
        assert client.call(GET, 10) == b'{"a": 1}'
        assert client.call(RestRequest("/info", "POST", b'{"type":"meta"}'), 10) == b'{"a": 1}'
    assert peer.requests == [("GET", "/markets?all=1", b""), ("POST", "/info", b'{"type":"meta"}')]


def test_says_who_it_is_and_that_it_speaks_json(new_client):
    heads = []

    def answer(handler):
        heads.append(dict(handler.headers))
        reply()(handler)

    with HttpPeer(answer) as peer:
        new_client(peer.url).call(GET, 10)
    assert heads[0]["User-Agent"] == "paraphina-supervisor"
    assert heads[0]["Accept"] == heads[0]["Content-Type"] == "application/json"


def test_connection_is_used_again(new_client):
    with HttpPeer(reply(b"x" * 200_000)) as peer:
        client = new_client(peer.url)
        for _ in range(5):
            assert len(client.call(GET, 10)) == 200_000
    assert peer.connections == 1


def test_connection_is_used_again_after_an_error_status(new_client):
    with HttpPeer(reply(b"no", 404)) as peer:
        client = new_client(peer.url)
        failure(client)
        failure(client)
    assert peer.connections == 1


def test_connection_that_the_server_gave_up_is_made_again(new_client):
    with HttpPeer(reply(b"{}", 200, ("Connection", "close"))) as peer:
        client = new_client(peer.url)
        for _ in range(3):
            assert client.call(GET, 10) == b"{}"
    assert peer.connections == 3


def test_compressed_body_is_unpacked(new_client):
    with HttpPeer(reply(gzip.compress(b"y" * 100_000), 200, ("Content-Encoding", "gzip"))) as peer:
        assert new_client(peer.url).call(GET, 10) == b"y" * 100_000


def test_proxies_of_the_environment_are_not_used(new_client, monkeypatch):
    monkeypatch.setenv("http_proxy", f"http://127.0.0.1:{closed_port()}")
    with HttpPeer(reply()) as peer:
        assert new_client(peer.url).call(GET, 10) == b"{}"


def test_over_tls(new_client, certificate, monkeypatch):
    monkeypatch.setattr(dialling, "_contexts", {None: ssl.create_default_context(cafile=str(certificate[0]))})
    with HttpPeer(reply(b"secret"), tls=server_context(certificate)) as peer:
        client = new_client(peer.url)
        assert client.call(GET, 10) == b"secret"
        assert client.call(GET, 10) == b"secret"
    assert peer.connections == 1


def test_over_tls_after_the_libraries_were_removed_on_disk(new_client, certificate, monkeypatch):
    monkeypatch.setattr("requests.adapters.DEFAULT_CA_BUNDLE_PATH", "/removed/cacert.pem")
    test_over_tls(new_client, certificate, monkeypatch)


def test_deadline_is_announced_before_a_call_and_taken_back_after_it(new_client, announced):
    with HttpPeer(reply()) as peer:
        before = time.monotonic_ns()
        new_client(peer.url).call(GET, 7)
        assert before + 7_000_000_000 <= announced[0] <= time.monotonic_ns() + 7_000_000_000
    assert announced[1:] == [0]


def test_deadline_is_taken_back_after_a_failure(new_client, announced):
    failure(new_client(f"http://127.0.0.1:{closed_port()}"))
    assert announced[-1] == 0


# --- error statuses -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("status", "reason"),
    [
        (400, Reason.REFUSED),
        (401, Reason.AUTH_FAILED),
        (403, Reason.REFUSED),
        (404, Reason.REFUSED),
        (500, Reason.REFUSED),
    ],
)
def test_error_status_has_its_word_and_the_beginning_of_its_body(new_client, status, reason):
    body = b"<html>" + b"\xff" * 500
    with HttpPeer(reply(body, status)) as peer:
        error = failure(new_client(peer.url))
    assert (error.reason, error.status, error.retry_after_s) == (reason, status, None)
    assert f"HTTP {status}: <html>" in error.what
    assert len(error.what) < 300
    assert len(peer.requests) == 1


@pytest.mark.parametrize("text", ["for url: /v1/key?signature=ab12&user=0xab (Caused by nothing)", "'/a?user=0xab'"])
def test_query_of_a_call_is_not_repeated(text):
    reported = RestError(Reason.CONNECT_FAILED, text).what
    assert "ab" not in reported.replace("Caused by", "")
    assert "?…" in reported


@pytest.mark.parametrize("location", ["/elsewhere", "http://[::1", "http://x:port/", "\\\\", "http://\u0442\u2028/"])
def test_redirect_is_not_followed_wherever_it_leads(new_client, location):
    with HttpPeer(reply(b"moved", 301, ("Location", location.encode().decode("latin-1")))) as peer:
        error = failure(new_client(peer.url))
    assert (error.reason, error.status) == (Reason.REFUSED, 301)
    assert [path for _, path, _ in peer.requests] == [GET.path]


@pytest.mark.parametrize("status", [429, 418])
@pytest.mark.parametrize(
    ("body", "headers", "wait_s"),
    [
        (b"", [("Retry-After", "7")], 7.0),
        (b"wait 30", [("Retry-After", "7")], 7.0),
        (b"wait 30", [], 30.0),
        (b"wait 30", [("Retry-After", "0")], 30.0),
        (b"", [], 10.0),
        (b"", [("Retry-After", "rubbish")], 10.0),
        (b"", [("Retry-After", "86400")], 300.0),
    ],
)
def test_venue_that_asks_to_wait_is_asked_nothing_until_then(new_client, clock, status, body, headers, wait_s):
    with HttpPeer(reply(body, status, *headers)) as peer:
        client = new_client(peer.url, MinuteBudget(6000, clock.monotonic_ns))
        error = failure(client)
        assert (error.reason, error.status, error.retry_after_s) == (Reason.RATE_LIMITED, status, wait_s)
        clock.advance(wait_s - 0.5)
        assert failure(client).retry_after_s == pytest.approx(0.5)
        assert len(peer.requests) == 1
        clock.advance(0.6)
        failure(client)
        assert len(peer.requests) == 2


def test_moment_until_which_a_venue_asks_to_wait_is_one_of_the_wall_clock(new_client):
    until = f"until {time.time_ns() // 1_000_000 + 900_000}".encode()
    with HttpPeer(reply(until, 418)) as peer:
        assert failure(new_client(peer.url)).retry_after_s == pytest.approx(900, abs=60)


def test_wish_to_wait_with_another_status_is_reported_and_closes_nothing(new_client, clock):
    with HttpPeer(reply(b"maintenance", 503, ("Retry-After", "20"))) as peer:
        client = new_client(peer.url, MinuteBudget(6000, clock.monotonic_ns))
        error = failure(client)
        assert (error.reason, error.retry_after_s) == (Reason.REFUSED, 20.0)
        failure(client)
        assert len(peer.requests) == 2


def test_venue_that_asks_to_wait_is_heard_even_when_the_body_never_comes(new_client):
    def answer(handler):
        handler.send_response(429)
        handler.send_header("Retry-After", "7")
        handler.send_header("Content-Length", "100")
        handler.end_headers()
        peer.over.wait()

    with HttpPeer(answer) as peer:
        error = failure(new_client(peer.url), deadline_s=SOON_S)
    assert error.reason is Reason.RATE_LIMITED


# --- budget -------------------------------------------------------------------------------------------------------


def test_request_over_the_budget_is_not_sent(new_client, clock):
    with HttpPeer(reply()) as peer:
        client = new_client(peer.url, MinuteBudget(90, clock.monotonic_ns))
        client.call(RestRequest("/a", weight=20), 10)
        error = failure(client, RestRequest("/b", weight=20))
        assert error.reason is Reason.RATE_LIMITED
        assert error.retry_after_s == pytest.approx(10.0)
        clock.advance(10)
        client.call(RestRequest("/b", weight=20), 10)
    assert [path for _, path, _ in peer.requests] == ["/a", "/b"]


# --- answers that do not end --------------------------------------------------------------------------------------


def head(*headers):
    return "\r\n".join(["HTTP/1.1 200 OK", *headers, "", ""]).encode()


def until_the_end(client, interrupter, deadline_s=60.0):
    """The failure of a call that is cut again and again, as the watchdog does with one that is overdue."""
    errors = []
    caller = threading.Thread(target=lambda: errors.append(failure(client, deadline_s=deadline_s)))
    caller.start()
    wait_until(lambda: interrupter._socket is not None)
    while caller.is_alive():
        interrupter.interrupt(Reason.READ_TIMEOUT)
        caller.join(0.01)
    return errors[0]


def test_body_that_drips_ends_by_the_deadline(new_client):
    def script(sock, over):
        read_head(sock)
        sock.sendall(head("Content-Length: 100000"))
        drip(sock, b"x" * 100_000, over)

    with RawPeer(script) as peer:
        began = time.monotonic()
        error = failure(new_client(peer.url("http")), deadline_s=SOON_S)
        assert error.reason is Reason.READ_TIMEOUT
        assert 0.9 * SOON_S < time.monotonic() - began < 20


def test_chunks_that_drip_end_by_the_deadline(new_client):
    def script(sock, over):
        read_head(sock)
        sock.sendall(head("Transfer-Encoding: chunked"))
        while not over.wait(0.01):
            sock.sendall(b"1\r\nx\r\n")

    with RawPeer(script) as peer:
        assert failure(new_client(peer.url("http")), deadline_s=SOON_S).reason is Reason.READ_TIMEOUT


def test_headers_that_drip_end_by_the_deadline(new_client):
    def script(sock, over):
        read_head(sock)
        drip(sock, head(*["X-Padding: y"] * 1000), over)

    with RawPeer(script) as peer:
        began = time.monotonic()
        error = failure(new_client(peer.url("http")), deadline_s=SOON_S)
        assert error.reason is Reason.READ_TIMEOUT
        assert 0.9 * SOON_S < time.monotonic() - began < 20


def test_headers_that_drip_on_a_kept_connection_end_by_the_deadline(new_client):
    def script(sock, over):
        read_head(sock)
        sock.sendall(head("Content-Length: 2") + b"ok")
        read_head(sock)
        drip(sock, head(*["X-Padding: y"] * 1000), over)

    with RawPeer(script) as peer:
        client = new_client(peer.url("http"))
        assert client.call(GET, 10) == b"ok"
        assert failure(client, deadline_s=SOON_S).reason is Reason.READ_TIMEOUT


def test_headers_that_drip_end_by_the_cut(new_client, interrupter):
    def script(sock, over):
        read_head(sock)
        drip(sock, head(*["X-Padding: y"] * 1000), over)

    with RawPeer(script) as peer:
        error = until_the_end(new_client(peer.url("http")), interrupter)
    assert error.reason is Reason.READ_TIMEOUT
    assert "interrupted" in error.what


def test_body_that_stops_ends_by_the_cut(new_client, interrupter):
    def script(sock, over):
        read_head(sock)
        sock.sendall(head("Content-Length: 100") + b"half")
        over.wait()

    with RawPeer(script) as peer:
        assert until_the_end(new_client(peer.url("http")), interrupter).reason is Reason.READ_TIMEOUT


def test_connect_that_hangs_ends_by_the_cut(new_client, interrupter):
    with BlackHole() as hole:
        error = until_the_end(new_client(f"http://127.0.0.1:{hole.port}"), interrupter)
    assert error.reason is Reason.READ_TIMEOUT


def test_second_call_on_a_kept_connection_can_be_cut(new_client, interrupter):
    def script(sock, over):
        read_head(sock)
        sock.sendall(head("Content-Length: 2") + b"ok")
        read_head(sock)
        over.wait()

    with RawPeer(script) as peer:
        client = new_client(peer.url("http"))
        assert client.call(GET, 10) == b"ok"
        assert until_the_end(client, interrupter).reason is Reason.READ_TIMEOUT
        assert peer.accepted == 1


def test_kept_tls_connection_can_be_cut(new_client, interrupter, certificate, monkeypatch):
    monkeypatch.setattr(dialling, "_contexts", {None: ssl.create_default_context(cafile=str(certificate[0]))})

    def script(sock, over):
        read_head(sock)
        sock.sendall(head("Content-Length: 2") + b"ok")
        read_head(sock)
        over.wait()

    with RawPeer(script, tls=server_context(certificate)) as peer:
        client = new_client(peer.url("https"))
        assert client.call(GET, 10) == b"ok"
        assert until_the_end(client, interrupter).reason is Reason.READ_TIMEOUT


def test_cut_between_two_calls_does_not_spoil_the_second(new_client, interrupter):
    with HttpPeer(reply()) as peer:
        client = new_client(peer.url)
        client.call(GET, 10)
        interrupter.interrupt(Reason.READ_TIMEOUT)
        assert client.call(GET, 10) == b"{}"


def test_no_answer_at_all_ends_by_the_deadline(new_client):
    with RawPeer(lambda _sock, over: over.wait()) as peer:
        assert failure(new_client(peer.url("http")), deadline_s=SOON_S).reason is Reason.READ_TIMEOUT


# --- broken answers -----------------------------------------------------------------------------------------------


def broken(answer):
    def script(sock, _over):
        read_head(sock)
        sock.sendall(answer)

    return script


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"rubbish\r\n\r\n",
        head("Content-Length: 100"),
        head("Content-Length: 100", "Connection: close"),
        head("Transfer-Encoding: chunked"),
        head(),
        head("Content-Length: 100") + b"short",
        head("Transfer-Encoding: chunked") + b"5\r\nhel",
        head("Transfer-Encoding: chunked") + b"zz\r\nhello\r\n",
        head("Content-Length: 5", "Content-Encoding: gzip") + b"hello",
    ],
)
def test_answer_that_is_broken_or_cut_off_is_connect_failed(new_client, answer):
    with RawPeer(broken(answer)) as peer:
        error = failure(new_client(peer.url("http")))
    assert error.reason is Reason.CONNECT_FAILED
    assert error.status is None


def test_packed_body_that_is_cut_off_is_no_answer(new_client):
    body = gzip.compress(b'{"a": 1}')[:-9]
    with HttpPeer(reply(body, 200, ("Content-Encoding", "gzip"))) as peer:
        assert failure(new_client(peer.url)).reason is Reason.CONNECT_FAILED


def test_empty_body_that_is_whole_is_an_answer(new_client):
    with HttpPeer(reply(b"")) as peer:
        assert new_client(peer.url).call(GET, 10) == b""


@pytest.mark.parametrize("length", ["Content-Length: 100", "Content-Length: 0", "Transfer-Encoding: chunked"])
def test_status_of_an_error_counts_though_its_body_is_missing(new_client, length):
    answer = head(length).replace(b"200 OK", b"404 Not Found")
    with RawPeer(broken(answer)) as peer:
        error = failure(new_client(peer.url("http")))
    assert (error.reason, error.status, error.body) == (Reason.REFUSED, 404, b"")


def test_body_that_grows_without_bound_when_unpacked_is_given_up(new_client, monkeypatch):
    monkeypatch.setattr(rest, "_MAX_BODY", 100_000)
    bomb = gzip.compress(b"x" * 10_000_000)
    with HttpPeer(reply(bomb, 200, ("Content-Encoding", "gzip"))) as peer:
        assert failure(new_client(peer.url)).reason is Reason.PARSE_ERRORS


@pytest.mark.parametrize("encoding", ["gzip, gzip", "deflate", "br"])
def test_encoding_that_was_not_asked_for_is_no_answer(new_client, encoding):
    with HttpPeer(reply(gzip.compress(b"{}"), 200, ("Content-Encoding", encoding))) as peer:
        assert failure(new_client(peer.url)).reason is Reason.PARSE_ERRORS


def test_body_without_a_length_ends_with_the_connection(new_client):
    """Whether all of it came only its reader can tell."""
    with RawPeer(broken(head() + b'{"cut off')) as peer:
        assert new_client(peer.url("http")).call(GET, 10) == b'{"cut off'


def test_body_over_the_limit_is_given_up(new_client, monkeypatch):
    monkeypatch.setattr(rest, "_MAX_BODY", 100_000)
    with HttpPeer(reply(b"x" * 1_000_000)) as peer:
        assert failure(new_client(peer.url)).reason is Reason.PARSE_ERRORS


# --- no connection ------------------------------------------------------------------------------------------------


def test_nobody_listens(new_client):
    error = failure(new_client(f"http://127.0.0.1:{closed_port()}"))
    assert (error.reason, error.status) == (Reason.REFUSED, None)


def test_address_that_answers_nothing_ends_by_the_deadline(new_client):
    with BlackHole() as hole:
        error = failure(new_client(f"http://127.0.0.1:{hole.port}"), deadline_s=0.2)
    assert error.reason is Reason.CONNECT_TIMEOUT


def test_resolver_that_hangs_is_dns_failed(new_client):
    asked = []

    def resolver(host, port, timeout_s):
        asked.append((host, port, 0 < timeout_s <= 3))
        raise ConnectError(Reason.DNS_FAILED, "no answer")

    error = failure(new_client("http://venue.test:8080", resolver=resolver), deadline_s=3)
    assert error.reason is Reason.DNS_FAILED
    assert asked == [("venue.test", 8080, True)]


def test_ipv6_address_keeps_its_brackets(new_client):
    asked = []

    def resolver(host, port, _timeout_s):
        asked.append((host, port))
        raise ConnectError(Reason.DNS_FAILED, "no answer")

    failure(new_client("http://[::1]:8080", resolver=resolver))
    assert asked == [("::1", 8080)]


def test_certificate_that_nobody_vouches_for_is_tls_failed(new_client, certificate, monkeypatch):
    monkeypatch.setattr(dialling, "_contexts", {})
    with HttpPeer(reply(), tls=server_context(certificate)) as peer:
        assert failure(new_client(peer.url)).reason is Reason.TLS_FAILED


def test_handshake_that_is_never_answered_is_connect_timeout(new_client):
    with RawPeer(lambda _, over: over.wait()) as peer:
        assert failure(new_client(peer.url("https")), deadline_s=0.3).reason is Reason.CONNECT_TIMEOUT


def test_handshake_can_be_cut(new_client, interrupter):
    with RawPeer(lambda _, over: over.wait()) as peer:
        assert until_the_end(new_client(peer.url("https")), interrupter).reason is Reason.READ_TIMEOUT
