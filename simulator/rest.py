"""HTTP/1.1 server and route table of the venues' REST APIs and the admin API.

Connections are kept alive, as clients with a connection pool expect.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field, replace
from http import HTTPStatus
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

import msgspec

from ipc.log import get_log

log = get_log(__name__)

_MAX_HEAD = 64 * 1024
_MAX_BODY = 4 * 2**20
_TRICKLE_PARTS = 20


@dataclass(frozen=True, slots=True)
class HttpRequest:
    """HTTP request; header names are in lower case, ``target`` is the raw path and query."""

    method: str
    path: str
    query: Mapping[str, list[str]] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""
    target: str = ""
    #: IP address of the client.
    peer: str = ""

    def param(self, name: str) -> str | None:
        """Return the first value of a query parameter."""
        return self.query.get(name, [None])[0]

    def number(self, name: str, default: int) -> int:
        """Return a query parameter as an integer.

        Raises:
            ValueError: Present, but not an integer.
        """
        text = self.param(name)
        return default if text is None else int(text)


@dataclass(frozen=True, slots=True)
class HttpResponse:
    """HTTP response.

    Attributes:
        trickle_s: Seconds over which the body is written; with ``trickles_headers``, the headers.
        is_cut: Whether the connection closes after the headers.
    """

    status: int = 200
    body: bytes = b""
    headers: Mapping[str, str] = field(default_factory=dict)
    trickle_s: float = 0.0
    trickles_headers: bool = False
    is_cut: bool = False

    def with_headers(self, **headers: str) -> HttpResponse:
        """Return the response with more headers; ``_`` in a name becomes ``-``."""
        more = {name.replace("_", "-"): value for name, value in headers.items()}
        return replace(self, headers={**self.headers, **more})


#: Returns the response to a request.
Handler = Callable[[HttpRequest], Awaitable[HttpResponse]]


def json(value: Any, status: int = 200) -> HttpResponse:
    """Return a JSON response."""
    return HttpResponse(status, msgspec.json.encode(value), {"Content-Type": "application/json"})


def plain(text: str, status: int = 200) -> HttpResponse:
    """Return a text response."""
    return HttpResponse(status, text.encode(), {"Content-Type": "text/plain; charset=utf-8"})


def html(status: int) -> HttpResponse:
    """Return an HTML error page, as a gateway in front of an API sends it."""
    phrase = HTTPStatus(status).phrase
    page = f"<html><head><title>{status} {phrase}</title></head><body><h1>{status} {phrase}</h1></body></html>\n"
    return HttpResponse(status, page.encode(), {"Content-Type": "text/html"})


class Routes:
    """Route table: functions by method and path.

    In a path like ``/orderbook/{market}``, each name in braces matches one segment and is passed to the function as a
    keyword argument.

    Attributes:
        counts: Requests by registered path, or ``(unknown)``.
    """

    def __init__(self) -> None:
        self._routes: list[tuple[str, re.Pattern[str], str, Callable[..., HttpResponse]]] = []
        self.counts: Counter[str] = Counter()

    def add(self, method: str, path: str, answer: Callable[..., HttpResponse]) -> None:
        """Serve ``method`` on ``path`` with ``answer``; the route that was added first wins."""
        pattern = re.compile(re.sub(r"{(\w+)}", r"(?P<\1>[^/]+)", path))
        self._routes.append((method, pattern, path, answer))

    def answer(self, request: HttpRequest) -> HttpResponse | None:
        """Return the response, or None if no route matches."""
        self.count(request)
        for method, pattern, _, answer in self._routes:
            match = pattern.fullmatch(request.path)
            if match and method == request.method:
                return answer(request, **{name: unquote(text) for name, text in match.groupdict().items()})
        return None

    def count(self, request: HttpRequest) -> None:
        """Count a request."""
        routes = (path for _, pattern, path, _ in self._routes if pattern.fullmatch(request.path))
        self.counts[next(routes, "(unknown)")] += 1


def protocol_factory(handler: Handler) -> Callable[[], asyncio.Protocol]:
    """Return a factory of connections served by ``handler``; call it within the event loop."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
            while await _exchange(handler, reader, writer):
                pass
        writer.close()

    return lambda: asyncio.StreamReaderProtocol(asyncio.StreamReader(limit=_MAX_HEAD), serve)


async def _exchange(handler: Handler, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
    """Serve one request; return whether the connection stays open."""
    head = await reader.readuntil(b"\r\n\r\n")
    try:
        request = _parse(head)
        length = int(request.headers.get("content-length", "0"))
    except ValueError:
        await _write(writer, plain("Bad Request", 400), is_last=True)
        return False
    if length > _MAX_BODY or "transfer-encoding" in request.headers:
        await _write(writer, plain("Length Required", 411), is_last=True)
        return False
    address = writer.get_extra_info("peername")
    body = await reader.readexactly(length)
    request = replace(request, body=body, peer=str(address[0]) if address else "")
    is_last = request.headers.get("connection", "").lower() == "close"
    response = await _safely(handler, request)
    await _write(writer, response, is_last=is_last)
    return not is_last and not response.is_cut


async def _safely(handler: Handler, request: HttpRequest) -> HttpResponse:
    try:
        return await handler(request)
    except Exception:
        log.exception("sim.rest_failed", path=request.path)
        return plain("Internal Server Error", 500)


def _parse(head: bytes) -> HttpRequest:
    """Parse the head of a request.

    Raises:
        ValueError: Not an HTTP request.
    """
    first, *lines = head.decode("latin-1").rstrip("\r\n").split("\r\n")
    method, target, _ = first.split(" ")
    pairs = (line.split(":", 1) for line in lines)
    headers = {name.strip().lower(): value.strip() for name, value in pairs}
    parts = urlsplit(target)
    return HttpRequest(method, parts.path, parse_qs(parts.query, keep_blank_values=True), headers, target=target)


async def _write(writer: asyncio.StreamWriter, response: HttpResponse, *, is_last: bool) -> None:
    try:
        phrase = HTTPStatus(response.status).phrase
    except ValueError:
        phrase = "Unknown"
    headers = {"Content-Length": str(len(response.body)), **response.headers}
    headers["Connection"] = "close" if is_last else "keep-alive"
    lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    head = f"HTTP/1.1 {response.status} {phrase}\r\n{lines}\r\n".encode("latin-1")
    await _write_part(writer, head, response.trickle_s if response.trickles_headers else 0.0)
    if not response.is_cut:
        await _write_part(writer, response.body, 0.0 if response.trickles_headers else response.trickle_s)


async def _write_part(writer: asyncio.StreamWriter, data: bytes, trickle_s: float) -> None:
    """Write bytes, spread over ``trickle_s`` seconds."""
    portion = max(1, len(data) // _TRICKLE_PARTS) if trickle_s else max(1, len(data))
    for start in range(0, len(data), portion):
        writer.write(data[start : start + portion])
        await writer.drain()
        if trickle_s:
            await asyncio.sleep(trickle_s / _TRICKLE_PARTS)
