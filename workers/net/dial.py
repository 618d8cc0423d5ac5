"""Connecting: name resolution, TCP and TLS against one deadline, over a socket that the watchdog can cut.

No library's own timeout is a deadline: resolution is outside it, connect counts per address, an upgrade per header
byte. So the socket is made here and handed to websocket-client and requests ready to use. What remains unbounded
(an upgrade or a header that drips) is bounded by the watchdog's cut.
"""

from __future__ import annotations

import ipaddress
import os
import socket
import ssl
import threading
import time
from collections.abc import Callable
from typing import Final, TypeAlias
from urllib.parse import urlsplit

from ipc.errors import ParaphinaError
from ipc.health import Reason
from workers.net.interrupter import SocketInterrupter

# Bounds the life of an abandoned lookup; glibc reads this at its first one.
os.environ.setdefault("RES_OPTIONS", "timeout:1 attempts:2")

SocketAddress: TypeAlias = tuple[str, int] | tuple[str, int, int, int]
#: Address family and socket address.
Address: TypeAlias = tuple[int, SocketAddress]
#: ``resolver(host, port, timeout_s)`` gives the addresses to try, in order.
Resolver: TypeAlias = Callable[[str, int, float], list[Address]]

_DEFAULT_PORTS: Final = {"ws": 80, "http": 80, "wss": 443, "https": 443}
_SECURE: Final = frozenset({"wss", "https"})
_NS: Final = 1_000_000_000
#: Two connections a second apart share one context: loading the CA bundle takes 20 to 33 ms.
_context: ssl.SSLContext | None = None


class ConnectError(ParaphinaError):
    """Failure to open a connection, with its reason."""

    def __init__(self, reason: Reason, what: str, *, retry_after_s: float | None = None) -> None:
        super().__init__(what)
        self.reason = reason
        self.retry_after_s = retry_after_s


def tls_context() -> ssl.SSLContext:
    """Return this process's verifying TLS context; made once, in the parent, before it forks.

    ``SSL_CERT_FILE`` and ``SSL_CERT_DIR`` name other authorities, as everywhere with OpenSSL.
    """
    global _context  # noqa: PLW0603 - the one cache of this module
    if _context is None:
        _context = ssl.create_default_context()
    return _context


def host_and_port(url: str) -> tuple[str, int, bool]:
    """Return host and port of a URL, and True when it uses TLS."""
    parts = urlsplit(url)
    return parts.hostname or "", parts.port or _DEFAULT_PORTS.get(parts.scheme, 0), parts.scheme in _SECURE


def resolve(host: str, port: int, timeout_s: float) -> list[Address]:
    """Return the addresses of a host, within ``timeout_s``.

    The system's resolver cannot be interrupted, so it runs in a separate thread that is abandoned when it is late.
    Further requests for the same host wait for it while it runs, so that a resolver that hangs holds one thread, not
    one more with every attempt.

    Raises:
        ConnectError: ``dns_failed``: the name does not exist, or the resolver did not answer in time.
    """
    lookup = _Lookup(host, port)
    if _is_numeric(host):
        lookup.run()  # no resolver is needed
    else:
        with _lookups_lock:
            running = _lookups.get((host, port))
            if running is not None and running.is_alive():
                lookup = running
            else:
                _lookups[host, port] = lookup
                lookup.start()
        lookup.join(max(0.0, timeout_s))
    found = lookup.found
    if found is None:
        raise ConnectError(Reason.DNS_FAILED, f"no answer for {host} within {timeout_s:.1f} s")
    if isinstance(found, OSError | UnicodeError):
        what = getattr(found, "strerror", None) or found
        raise ConnectError(Reason.DNS_FAILED, f"cannot resolve {host}: {what}") from found
    return found


def dial(url: str, interrupter: SocketInterrupter, deadline_ns: int, resolver: Resolver = resolve) -> socket.socket:
    """Connect to the host of ``url``, with TLS where its scheme asks for it; raise ConnectError with the reason.

    The ``interrupter`` then holds the socket, and only its ``close`` closes it. ``deadline_ns`` (monotonic) is for all
    steps together; the socket (TCP_NODELAY, kept alive) has what was left as its timeout.
    """
    host, port, secure = host_and_port(url)
    addresses = resolver(host, port, _left_s(deadline_ns))
    failure: OSError | None = None
    for number, (family, address) in enumerate(addresses):
        try:
            # Each has its share of the time: one that does not answer must not hide the others.
            sock = _connect(family, address, interrupter, _left_s(deadline_ns) / (len(addresses) - number))
        except OSError as error:
            interrupter.close()
            failure = error
            if interrupter.reason is not None:
                break
            continue
        return _secure(sock, host, interrupter, deadline_ns) if secure else _timed(sock, interrupter, deadline_ns)
    raise _connect_error(failure, f"{host}:{port}", interrupter) from failure


def _connect(family: int, address: SocketAddress, interrupter: SocketInterrupter, timeout_s: float) -> socket.socket:
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        sock.settimeout(timeout_s)
        interrupter.publish(sock)
    except OSError:
        sock.close()
        raise
    sock.connect(address)
    return sock


def _timed(sock: socket.socket, interrupter: SocketInterrupter, deadline_ns: int) -> socket.socket:
    """Give a connected socket all the time that is left."""
    try:
        sock.settimeout(_left_s(deadline_ns))
    except ConnectError:
        interrupter.close()
        raise
    return sock


def _secure(sock: socket.socket, host: str, interrupter: SocketInterrupter, deadline_ns: int) -> socket.socket:
    """Perform the TLS handshake. The wrapped socket is published before it: wrapping detaches the plain one."""
    try:
        secure = tls_context().wrap_socket(sock, server_hostname=host, do_handshake_on_connect=False)
        interrupter.publish(secure)
        secure.settimeout(_left_s(deadline_ns))
        secure.do_handshake()
    except ConnectError:
        interrupter.close()
        raise
    except OSError as error:
        interrupter.close()
        if isinstance(error, TimeoutError) or interrupter.reason is not None:
            raise _connect_error(error, host, interrupter) from error
        raise ConnectError(Reason.TLS_FAILED, f"TLS with {host} failed: {error}") from error
    return secure


def _connect_error(failure: OSError | None, where: str, interrupter: SocketInterrupter) -> ConnectError:
    if interrupter.reason is not None:
        return ConnectError(interrupter.reason, f"connecting to {where} was interrupted: {interrupter.reason}")
    if isinstance(failure, TimeoutError):
        return ConnectError(Reason.CONNECT_TIMEOUT, f"no connection to {where} in time")
    if isinstance(failure, ConnectionRefusedError):
        return ConnectError(Reason.REFUSED, f"{where} refuses connections")
    return ConnectError(Reason.CONNECT_FAILED, f"no connection to {where}: {failure}")


def _left_s(deadline_ns: int) -> float:
    left = (deadline_ns - time.monotonic_ns()) / _NS
    if left <= 0:
        raise ConnectError(Reason.CONNECT_TIMEOUT, "the time to connect is over")
    return left


def _is_numeric(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def _lookup(host: str, port: int) -> list[Address]:
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return [(int(family), address) for family, _, _, _, address in found]  # type: ignore[misc]


class _Lookup(threading.Thread):
    """Lookup by the system's resolver; ``found`` is None until it has answered."""

    def __init__(self, host: str, port: int) -> None:
        super().__init__(name=f"dns {host}", daemon=True)
        self._host = host
        self._port = port
        self.found: list[Address] | OSError | UnicodeError | None = None

    def run(self) -> None:
        """Resolve."""
        try:
            self.found = _lookup(self._host, self._port)
        except (OSError, UnicodeError) as error:
            self.found = error


#: The last look-up of each host and port; a worker has a handful of them.
_lookups: Final[dict[tuple[str, int], _Lookup]] = {}
_lookups_lock: Final = threading.Lock()
