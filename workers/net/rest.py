"""REST with a deadline for the whole call, within a budget, with the pauses that a venue demands.

requests' timeouts are per socket operation, so an answer that trickles would never time out: each read of the socket,
for headers and body alike, has what is left until the deadline. Nothing is retried here; the caller decides.
"""

from __future__ import annotations

import io
import re
import socket
import time
import zlib
from collections.abc import Callable, Iterator
from http.client import HTTPResponse
from typing import Any, Final

import requests
from requests.adapters import HTTPAdapter
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool
from urllib3.exceptions import HTTPError

from ipc.errors import ParaphinaError
from ipc.health import Reason
from workers.net.budget import MinuteBudget
from workers.net.dial import ConnectError, Resolver, dial, resolve
from workers.net.interrupter import SocketInterrupter
from workers.net.proxy import DIRECT, DialOptions
from workers.net.retry_after import retry_after_s
from workers.venues.venue import RestRequest, Venue

_NS: Final = 1_000_000_000
_PIECE: Final = 65_536
_MAX_BODY: Final = 32 * 1024 * 1024
_HEADERS: Final = {
    "User-Agent": "paraphina-supervisor",
    "Accept": "application/json",
    "Content-Type": "application/json",
    # The one encoding that is unpacked here, within a limit.
    "Accept-Encoding": "gzip",
}
_QUERY: Final = re.compile(r"\?[\w.%-]+=[^\s'\")]*")
_TOO_MANY: Final = frozenset({418, 429})
_PENALTY_S: Final = 10.0
#: Statuses whose answers have no body (RFC 9110 section 6.4.1).
_WITHOUT_BODY: Final = frozenset({204, 205, 304})


class RestError(ParaphinaError):
    """Failure of a call.

    ``status`` is the HTTP status (None when there was no answer), ``retry_after_s`` the pause that the venue demands,
    and ``body`` the answer.
    """

    def __init__(
        self,
        reason: Reason,
        what: str,
        *,
        status: int | None = None,
        retry_after_s: float | None = None,
        body: bytes = b"",
    ) -> None:
        # A library's words may repeat the URL, and the query of a private call holds who asks and a signature.
        super().__init__(_QUERY.sub("?…", what))
        self.reason = reason
        self.status = status
        self.retry_after_s = retry_after_s
        self.body = body


class RestClient:
    """Client of one venue's REST interface; for one thread.

    ``announce`` receives the deadline (monotonic ns) before each call that may block, and 0 after it.
    """

    def __init__(
        self,
        venue: Venue,
        base_url: str,
        budget: MinuteBudget,
        interrupter: SocketInterrupter,
        announce: Callable[[int], None],
        resolver: Resolver = resolve,
        options: DialOptions = DIRECT,
    ) -> None:
        self._venue = venue
        self._base_url = base_url.rstrip("/")
        self._budget = budget
        self._interrupter = interrupter
        self._announce = announce
        self._options = options
        self._deadline_ns = 0
        self._session = _Session()
        self._session.trust_env = False
        self._session.headers.update(_HEADERS)
        adapter = _adapter(self._dial, resolver, interrupter, lambda: self._deadline_ns)
        self._session.mount("http://", adapter)
        self._session.mount("https://", adapter)

    def call(self, request: RestRequest, deadline_s: float) -> bytes:
        """Return the body of a successful answer.

        Raise RestError without an answer in ``deadline_s``, for an error status, or without budget for the request now.
        """
        wait_s = self._budget.acquire(request.weight)
        if wait_s:
            raise RestError(Reason.RATE_LIMITED, f"over the budget for {wait_s:.1f} s", retry_after_s=wait_s)
        self._deadline_ns = time.monotonic_ns() + int(deadline_s * _NS)
        self._interrupter.begin()
        self._announce(self._deadline_ns)
        try:
            with self._send(request, deadline_s) as response:
                is_ok = 200 <= response.status_code < 300
                return self._checked(response, self._read(response) if is_ok else self._read_some(response))
        except ConnectError as error:
            raise _not_connected(error) from error
        except (requests.RequestException, HTTPError, OSError, ValueError) as error:
            raise self._failed(error) from error
        finally:
            self._announce(0)

    def close(self) -> None:
        """Close the connections."""
        self._session.close()

    def _send(self, request: RestRequest, deadline_s: float) -> requests.Response:
        return self._session.request(
            request.method,
            self._base_url + request.path,
            data=request.body,
            headers=dict(request.headers),
            timeout=deadline_s,
            stream=True,
            allow_redirects=False,
        )

    def _read(self, response: requests.Response) -> bytes:
        """Return the unpacked body; raise RestError if it does not end in time, is cut off, or too long."""
        raw, body = response.raw, bytearray()
        while piece := raw.read1(_PIECE, decode_content=False):
            body += piece
            if time.monotonic_ns() > self._deadline_ns:
                raise RestError(Reason.READ_TIMEOUT, "the answer did not end in time", status=response.status_code)
            if len(body) > _MAX_BODY:
                raise _too_long(response.status_code)
        if self._interrupter.reason is not None:
            raise RestError(self._interrupter.reason, "the call was interrupted")
        if raw.length_remaining or (not body and _is_without_length(response)):
            raise RestError(Reason.CONNECT_FAILED, f"the answer was cut off after {len(body)} bytes")
        return _unpacked(bytes(body), response)

    def _read_some(self, response: requests.Response) -> bytes:
        """Return the body of a refusal; empty when it does not arrive, for the status suffices."""
        try:
            return self._read(response)
        except (RestError, HTTPError, OSError):
            return b""

    def _checked(self, response: requests.Response, body: bytes) -> bytes:
        status = response.status_code
        if 200 <= status < 300:
            return body
        wait_s = retry_after_s(response.headers.get("Retry-After"))
        wait_s = wait_s or self._venue.retry_after_s(status, body, time.time_ns() // 1_000_000)
        if status in _TOO_MANY:
            self._budget.penalise(wait_s or _PENALTY_S)
            raise RestError(Reason.RATE_LIMITED, f"HTTP {status}", status=status, retry_after_s=wait_s or _PENALTY_S)
        reason = Reason.AUTH_FAILED if status == 401 else Reason.REFUSED
        text = body[:200].decode("utf-8", "replace")
        raise RestError(reason, f"HTTP {status}: {text}", status=status, retry_after_s=wait_s, body=body)

    def _failed(self, error: Exception) -> RestError:
        """Convert a library's error; an interrupted call, or a failed dial of ours, keeps its reason."""
        cause: BaseException | None = error
        while cause is not None:
            if isinstance(cause, ConnectError):
                return _not_connected(cause)
            cause = cause.__cause__ or cause.__context__
        if self._interrupter.reason is not None:
            return RestError(self._interrupter.reason, "the call was interrupted")
        if isinstance(error, requests.Timeout | TimeoutError) or time.monotonic_ns() > self._deadline_ns:
            return RestError(Reason.READ_TIMEOUT, "no answer in time")
        if isinstance(error, requests.exceptions.SSLError):
            return RestError(Reason.TLS_FAILED, f"TLS failed: {error}")
        return RestError(Reason.CONNECT_FAILED, f"the call broke: {error}")

    def _dial(self, url: str, resolver: Resolver) -> socket.socket:
        return dial(url, self._interrupter, self._deadline_ns, resolver, self._options)


class _Session(requests.Session):
    """Leaves redirects alone: requests reads their URLs also when it does not follow them, and fails at a bad one."""

    def resolve_redirects(self, *_: Any, **__: Any) -> Iterator[requests.Response]:
        return iter(())


class _Adapter(HTTPAdapter):
    """Leaves TLS to the connection: requests would check that its own file of authorities still exists."""

    def cert_verify(self, *_: Any, **__: Any) -> None:
        return


def _adapter(
    dialler: Callable[[str, Resolver], socket.socket],
    resolver: Resolver,
    interrupter: SocketInterrupter,
    deadline: Callable[[], int],
) -> HTTPAdapter:
    """Return an adapter with our dialler, sockets that the watchdog can interrupt, and reads with a deadline.

    urllib3 finds its connection class on the pool class, and the pool class by scheme on the manager; http.client finds
    the class of answers on the connection.
    """

    class Timed(HTTPResponse):
        def __init__(self, sock: socket.socket, *args: Any, **kwargs: Any) -> None:
            super().__init__(sock, *args, **kwargs)
            self.fp.close()
            self.fp = io.BufferedReader(_TimedSocket(sock, deadline))

    class Plain(HTTPConnection):
        response_class = Timed

        def _new_conn(self) -> socket.socket:
            return dialler(f"http://{_bracketed(self.host)}:{self.port}", resolver)

        def request(self, *args: Any, **kwargs: Any) -> None:
            _republish(self, interrupter)
            super().request(*args, **kwargs)

    class Secure(HTTPSConnection):
        response_class = Timed

        def connect(self) -> None:
            # Our own TLS, as for WebSockets: one context, one deadline, one reason for each failure, and a
            # handshake that can be interrupted.
            self.sock = dialler(f"https://{_bracketed(self.host)}:{self.port}", resolver)
            self.is_verified = True

        def request(self, *args: Any, **kwargs: Any) -> None:
            _republish(self, interrupter)
            super().request(*args, **kwargs)

    class PlainPool(HTTPConnectionPool):
        ConnectionCls = Plain

    class SecurePool(HTTPSConnectionPool):
        ConnectionCls = Secure

    adapter = _Adapter(pool_connections=1, pool_maxsize=1, max_retries=0)
    adapter.poolmanager.pool_classes_by_scheme = {"http": PlainPool, "https": SecurePool}
    return adapter


def _not_connected(error: ConnectError) -> RestError:
    return RestError(error.reason, str(error), retry_after_s=error.retry_after_s)


def _republish(connection: HTTPConnection, interrupter: SocketInterrupter) -> None:
    """Set the socket of a reused or newly wrapped connection as the one that the call blocks on."""
    if connection.sock is not None:
        interrupter.publish(connection.sock)


def _bracketed(host: str) -> str:
    return f"[{host}]" if ":" in host else host


def _is_without_length(response: requests.Response) -> bool:
    """Return True when only the connection's end ends the body: an empty and a truncated one look alike."""
    has_none = response.status_code in _WITHOUT_BODY
    return not has_none and not {"Content-Length", "Transfer-Encoding"} & set(response.headers)


def _unpacked(body: bytes, response: requests.Response) -> bytes:
    """Return the body without its content encoding; raise RestError if unknown, cut off or too long."""
    encoding = response.headers.get("Content-Encoding", "identity").strip().lower()
    if encoding in {"", "identity"}:
        return body
    if encoding not in {"gzip", "x-gzip"}:
        raise RestError(Reason.PARSE_ERRORS, f"an answer encoded as {encoding[:40]!r}", status=response.status_code)
    unpacker = zlib.decompressobj(wbits=zlib.MAX_WBITS | 16)
    try:
        unpacked = unpacker.decompress(body, _MAX_BODY + 1)
    except zlib.error as error:
        raise RestError(Reason.CONNECT_FAILED, f"the answer is no gzip: {error}") from error
    if len(unpacked) > _MAX_BODY:
        raise _too_long(response.status_code)
    if not unpacker.eof:
        raise RestError(Reason.CONNECT_FAILED, "the packed answer was cut off")
    return unpacked


def _too_long(status: int) -> RestError:
    return RestError(Reason.PARSE_ERRORS, f"an answer of over {_MAX_BODY} bytes", status=status)


class _TimedSocket(io.RawIOBase):
    """Reading side of a socket whose reads share one deadline."""

    def __init__(self, sock: socket.socket, deadline: Callable[[], int]) -> None:
        self._sock = sock
        self._deadline = deadline
        # Holds the socket open as long as the answer is read, as HTTPResponse expects of its file.
        self._file = sock.makefile("rb", buffering=0)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int | None:
        left_s = (self._deadline() - time.monotonic_ns()) / _NS
        if left_s <= 0:
            raise TimeoutError("the answer did not end in time")
        self._sock.settimeout(left_s)
        return self._file.readinto(buffer)

    def close(self) -> None:
        self._file.close()
        super().close()
