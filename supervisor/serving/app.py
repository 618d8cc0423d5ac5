"""WSGI application of the gateway: which request gets which answer.

It changes nothing: there is no other method than GET and HEAD. A browser that a foreign name leads here (DNS
rebinding) sends that name as its ``Host``, so names that are not configured are refused; addresses cannot be rebound.
"""

from __future__ import annotations

import gzip
import ipaddress
import json
import re
from collections.abc import Callable, Iterable
from functools import lru_cache
from http import HTTPStatus
from typing import Any, Final, Protocol
from urllib.parse import parse_qs

from prometheus_client import CollectorRegistry

from ipc.errors import UnknownStateError
from ipc.log import get_log
from ipc.printable import printable_json
from supervisor.serving import answers, exposition
from supervisor.serving.answers import HttpAnswer
from supervisor.serving.assets import ASSETS
from supervisor.serving.privacy import without_private

log = get_log(__name__)

#: Host header: a name or an IPv4 address, or an IPv6 address in brackets, then a port.
_HOST: Final = re.compile(r"(?:\[(?P<v6>[0-9A-Fa-f:.]{2,45})\]|(?P<name>[A-Za-z0-9._-]{1,253}))(?::[0-9]{1,5})?")
#: Higher levels take more time than they save.
_GZIP_LEVEL: Final = 1
_ACCEPTS_GZIP: Final = re.compile(r"(^|,)\s*gzip\s*(;\s*q=(1|0\.\d*[1-9]\d*)(\.0*)?\s*)?(,|$)")
_JSON: Final = "application/json"
#: Verdicts on Host headers that are kept: clients send the same one with every request.
_KEPT_HOSTS: Final = 64


class Served(Protocol):
    """Answers that the application serves."""

    @property
    def metrics(self) -> CollectorRegistry:
        """Registry of all metrics."""

    def status(self) -> dict[str, Any]:
        """Return the object that ``status --json`` prints; raise UnknownStateError if it cannot be read."""

    def state_json(self, book: str | None) -> bytes:
        """Return the overview as JSON, with a book (``VENUE:SYMBOL``); raise UnknownStateError if it cannot be read."""

    def live(self) -> bool:
        """Return whether the parent checks its processes."""

    def ready(self) -> bool:
        """Return whether every venue was live once, or had enough time to be."""


class Application:
    """WSGI application.

    Args:
        source: What it serves.
        hosts: Names by which it may be addressed, beside ``localhost`` and IP addresses.
    """

    def __init__(self, source: Served, hosts: Iterable[str] = ()) -> None:
        self._source = source
        self._hosts = frozenset({"localhost", *hosts})
        self._routes: dict[str, Callable[[dict[str, Any]], HttpAnswer]] = {
            **{path: _constant(answer) for path, answer in ASSETS.items()},
            "/state.json": self._state,
            "/livez": self._live,
            "/readyz": self._ready,
            "/status.json": self._status,
            "/metrics": self._metrics,
        }

    def __call__(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> list[bytes]:
        """Answer a request; errors of ours are logged and shown without detail."""
        try:
            answer = self._answer(environ)
        except UnknownStateError as unknown:
            log.warning("http.state_unknown", error=str(unknown))
            answer = answers.error(HTTPStatus.SERVICE_UNAVAILABLE)
        except Exception:
            log.exception("http.crashed")
            answer = answers.error(HTTPStatus.INTERNAL_SERVER_ERROR)
        start_response(answer.status_line, answer.all_headers())
        return [] if environ["REQUEST_METHOD"] == "HEAD" else [answer.body]

    def _answer(self, environ: dict[str, Any]) -> HttpAnswer:
        if environ["REQUEST_METHOD"] not in answers.METHODS:
            return answers.error(HTTPStatus.METHOD_NOT_ALLOWED)
        host = environ.get("HTTP_HOST")
        # A whole URL instead of a path names a host of its own; only proxies are asked so.
        is_whole = not environ["REQUEST_URI"].startswith("/")
        if is_whole or (host is None and environ["SERVER_PROTOCOL"] != "HTTP/1.0"):
            return answers.error(HTTPStatus.BAD_REQUEST)
        if host is not None and not is_host_allowed(host, self._hosts):
            return answers.error(HTTPStatus.MISDIRECTED_REQUEST)
        route = self._routes.get(environ["PATH_INFO"])
        return answers.error(HTTPStatus.NOT_FOUND) if route is None else route(environ)

    def _live(self, _environ: dict[str, Any]) -> HttpAnswer:
        if self._source.live():
            return answers.text(HTTPStatus.OK, "live")
        return answers.text(HTTPStatus.SERVICE_UNAVAILABLE, "the supervisor does not work: it is stopped or stuck")

    def _ready(self, _environ: dict[str, Any]) -> HttpAnswer:
        if self._source.ready():
            return answers.text(HTTPStatus.OK, "ready")
        return answers.text(HTTPStatus.SERVICE_UNAVAILABLE, "not every venue was live yet")

    def _state(self, environ: dict[str, Any]) -> HttpAnswer:
        books = parse_qs(environ["QUERY_STRING"]).get("book")
        return HttpAnswer(HTTPStatus.OK, self._source.state_json(books[0] if books else None), _JSON)

    def _status(self, _environ: dict[str, Any]) -> HttpAnswer:
        body = printable_json(json.dumps(without_private(self._source.status())))
        return HttpAnswer(HTTPStatus.OK, body.encode(), _JSON)

    def _metrics(self, environ: dict[str, Any]) -> HttpAnswer:
        names = parse_qs(environ["QUERY_STRING"]).get("name[]")
        registry = self._source.metrics
        body = exposition.encode((registry.restricted_registry(names) if names else registry).collect())
        vary = ("Vary", "Accept-Encoding")
        if _ACCEPTS_GZIP.search(environ.get("HTTP_ACCEPT_ENCODING", "")) is None:
            return HttpAnswer(HTTPStatus.OK, body, exposition.CONTENT_TYPE, (vary,))
        packed = gzip.compress(body, _GZIP_LEVEL)
        return HttpAnswer(HTTPStatus.OK, packed, exposition.CONTENT_TYPE, (vary, ("Content-Encoding", "gzip")))


@lru_cache(_KEPT_HOSTS)
def is_host_allowed(host: str, names: frozenset[str]) -> bool:
    """Return whether a ``Host`` header names an IP address or one of ``names``, with or without a port."""
    found = _HOST.fullmatch(host)
    if found is None:
        return False
    if found["v6"] is None and found["name"].lower() in names:
        return True
    try:
        return ipaddress.ip_address(found["v6"] or found["name"]).version == (6 if found["v6"] else 4)
    except ValueError:
        return False


def _constant(answer: HttpAnswer) -> Callable[[dict[str, Any]], HttpAnswer]:
    return lambda _environ: answer
