"""WSGI application: which request gets which answer."""

from __future__ import annotations

import gzip
import json

import pytest
from prometheus_client import CollectorRegistry
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from ipc.errors import UnknownStateError
from supervisor.serving.app import Application, is_host_allowed
from supervisor.serving.exposition import series_of

PATHS = ("/", "/livez", "/readyz", "/status.json", "/metrics")
STATUS = {
    "supervisor": {"state": "running"},
    "venues": {
        "lighter": {
            "state": "live",
            "error": "na\x1b[31mme",
            "streams": {
                "book": {"state": "live", "reason": None},
                "account": {
                    "state": "failed",
                    "reason": "auth_failed",
                    "account": "desk-7",
                    "detail": "said the venue",
                },
            },
        }
    },
    "gateway": {"state": "live"},
    "simulator": None,
}


class OneValue(Collector):
    def describe(self):
        return []

    def collect(self):
        metric = GaugeMetricFamily("paraphina_answer", "It.", labels=())
        metric.samples.append(series_of("paraphina_answer", (), ()).sample(42))
        yield metric


class FakeSource:
    """What the application serves, as the test wants it."""

    def __init__(self):
        self.metrics = CollectorRegistry()
        self.metrics.register(OneValue())
        self.is_live = self.is_ready = True
        self.failure = None

    def status(self):
        if self.failure is not None:
            raise self.failure
        return STATUS

    def live(self):
        return self.is_live

    def ready(self):
        return self.is_ready


@pytest.fixture
def source():
    return FakeSource()


@pytest.fixture
def ask(source):
    """Ask for a path; return the status code, the headers and the body."""

    def ask(path, method="GET", *, hosts=(), query="", **headers):
        answered = {}

        def start_response(status, sent):
            answered.update(status=int(status.split()[0]), headers=dict(sent))

        environ = {
            "REQUEST_METHOD": method,
            "PATH_INFO": path,
            "REQUEST_URI": path,
            "QUERY_STRING": query,
            "SERVER_PROTOCOL": "HTTP/1.1",
            "HTTP_HOST": "127.0.0.1:9464",
            **headers,
        }
        body = b"".join(Application(source, hosts)({k: v for k, v in environ.items() if v is not None}, start_response))
        return answered["status"], answered["headers"], body

    return ask


@pytest.mark.parametrize("path", PATHS)
def test_head_is_get_without_the_body(ask, path):
    status, headers, body = ask(path)
    assert (status, len(body)) == (200, int(headers["Content-Length"]))
    assert body
    assert ask(path, "HEAD") == (200, headers, b"")


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "OPTIONS", "TRACE", "CONNECT", "PATCH", "get"])
def test_nothing_else_than_get_and_head(ask, method):
    status, headers, body = ask("/livez", method)
    assert (status, headers["Allow"]) == (405, "GET, HEAD")
    assert body == b"405 Method Not Allowed\n"


@pytest.mark.parametrize("path", ["/nothing", "/metrics/", "/../etc/passwd", "", "/LIVEZ", "/metrics\x00"])
def test_an_unknown_path_is_not_repeated(ask, path):
    assert ask(path or "/?")[::2] == (404, b"404 Not Found\n")


@pytest.mark.parametrize("path", [*PATHS, "/nothing"])
@pytest.mark.parametrize("method", ["GET", "HEAD", "POST"])
def test_every_answer_has_the_security_headers(ask, path, method):
    headers = ask(path, method)[1]
    assert headers["Content-Security-Policy"].startswith("default-src 'none'; script-src 'self'; ")
    assert "frame-ancestors 'none'; require-trusted-types-for 'script'" in headers["Content-Security-Policy"]
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert headers["Referrer-Policy"] == "no-referrer"
    assert headers["Cache-Control"] == "no-store"
    assert not [name for name in headers if name.startswith("Access-Control")]


@pytest.mark.parametrize(
    "host",
    [
        *("localhost", "LOCALHOST:9464", "127.0.0.1", "127.0.0.1:9464", "10.1.2.3:80", "[::1]", "[::1]:9464"),
        *("[2001:db8::7]:1", "desk.example.com", "Desk.Example.com:443"),
    ],
)
def test_hosts_that_may_be_named(host):
    assert is_host_allowed(host, frozenset({"localhost", "desk.example.com"}))


@pytest.mark.parametrize(
    "host",
    [
        *("", "evil.example.com", "localhost.evil.com", "127.0.0.1.evil.com", "desk.example.com.", "a, localhost"),
        *("localhost:", "localhost:port", "localhost:123456", "user@localhost", "[::1", "::1", "[127.0.0.1]", "[::1]x"),
        *("127.1", "0x7f000001", "2130706433", "[::1%25lo]", "localhost\n", "127.0.0.1 ", "٣.0.0.1"),
    ],
)
def test_hosts_that_may_not_be_named(ask, host):
    assert not is_host_allowed(host, frozenset({"localhost", "desk.example.com"}))
    assert ask("/livez", HTTP_HOST=host)[::2] == (421, b"421 Misdirected Request\n")


def test_a_configured_host_may_be_named(ask):
    assert ask("/livez", HTTP_HOST="desk.example.com", hosts=["desk.example.com"])[0] == 200
    assert ask("/livez", HTTP_HOST="desk.example.com")[0] == 421


def test_only_the_oldest_protocol_needs_no_host(ask):
    assert ask("/livez", HTTP_HOST=None)[0] == 400
    assert ask("/livez", HTTP_HOST=None, SERVER_PROTOCOL="HTTP/1.0")[0] == 200


def test_a_url_in_the_place_of_the_path_is_refused(ask):
    assert ask("/livez", REQUEST_URI="http://evil.example.com/livez")[0] == 400


def test_probes(ask, source):
    assert ask("/livez")[::2] == (200, b"live\n")
    assert ask("/readyz")[::2] == (200, b"ready\n")
    source.is_live = source.is_ready = False
    assert ask("/livez")[0] == 503
    assert ask("/readyz")[0] == 503


def test_the_status_has_no_name_of_an_account_and_no_text_of_a_venue(ask):
    _, headers, body = ask("/status.json")
    assert headers["Content-Type"] == "application/json"
    status = json.loads(body)
    assert status["venues"]["lighter"]["streams"]["account"] == {"state": "failed", "reason": "auth_failed"}
    assert status["venues"]["lighter"]["error"] == "na\x1b[31mme"
    assert body.isascii()
    assert body.decode().isprintable()
    assert STATUS["venues"]["lighter"]["streams"]["account"]["account"] == "desk-7"  # what was read is not changed


def test_a_state_that_cannot_be_read_is_no_error_of_ours(ask, source, caplog):
    source.failure = UnknownStateError("a secret path", where="/secret")
    assert ask("/status.json")[::2] == (503, b"503 Service Unavailable\n")
    assert "http.state_unknown" in caplog.messages


def test_an_error_of_ours_shows_no_detail(ask, source, caplog):
    source.failure = RuntimeError("a secret")
    assert ask("/status.json")[::2] == (500, b"500 Internal Server Error\n")
    [record] = [record for record in caplog.records if record.getMessage() == "http.crashed"]
    assert record.exc_info is not None


@pytest.mark.parametrize("accepted", ["gzip", "deflate, gzip;q=0.5", "GZIP;q=1.0, *;q=0"])
def test_metrics_are_compressed_for_those_who_accept_it(ask, accepted):
    plain = ask("/metrics")[2]
    status, headers, body = ask("/metrics", HTTP_ACCEPT_ENCODING=accepted.lower())
    assert (status, headers["Content-Encoding"], gzip.decompress(body)) == (200, "gzip", plain)
    assert "paraphina_answer 42.0\n" in plain.decode()


@pytest.mark.parametrize("accepted", ["", "identity", "gzip;q=0", "br, gzip;q=0.0", "xgzip"])
def test_and_not_for_others(ask, accepted):
    assert "Content-Encoding" not in ask("/metrics", HTTP_ACCEPT_ENCODING=accepted)[1]


def test_metrics_are_plain_text_whatever_a_scraper_prefers(ask):
    _, headers, _ = ask("/metrics", HTTP_ACCEPT="application/openmetrics-text; version=1.0.0,text/plain;q=0.5")
    assert headers["Content-Type"] == "text/plain; version=0.0.4; charset=utf-8"
