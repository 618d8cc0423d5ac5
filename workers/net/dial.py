"""Connecting: name resolution, TCP, proxy and TLS against one deadline, over a socket that the watchdog can cut.

No library's own timeout is a deadline: resolution is outside it, connect counts per address, an upgrade per header
byte. So the socket is made here and handed to websocket-client and requests ready to use. What remains unbounded
(an upgrade or a header that drips) is bounded by the watchdog's cut.
"""

from __future__ import annotations

import errno
import ipaddress
import os
import socket
import ssl
import threading
import time
from collections.abc import Callable
from typing import Final, TypeAlias

from ipc.errors import ParaphinaError
from ipc.health import Reason
from workers.net.interrupter import SocketInterrupter
from workers.net.proxy import DIRECT, DialOptions, Proxy, host_and_port
from workers.net.tunnel import TunnelError, open_tunnel

# Bounds the life of an abandoned lookup; glibc reads this at its first one.
os.environ.setdefault("RES_OPTIONS", "timeout:1 attempts:2")

SocketAddress: TypeAlias = tuple[str, int] | tuple[str, int, int, int]
#: Address family and socket address.
Address: TypeAlias = tuple[int, SocketAddress]
#: ``resolver(host, port, timeout_s)`` gives the addresses to try, in order.
Resolver: TypeAlias = Callable[[str, int, float], list[Address]]

_NS: Final = 1_000_000_000
#: Reasons of the watchdog for an operation past its deadline, which it may notice before the owner does.
_OVERDUE: Final = frozenset({Reason.CONNECT_TIMEOUT, Reason.READ_TIMEOUT})
#: OpenSSL's codes for a chain that ends at an authority that is not trusted (X509_V_ERR_*, 18 to 21).
_UNKNOWN_AUTHORITY: Final = frozenset({18, 19, 20, 21})
#: Contexts by CA file. Two connections a second apart share one: loading the CA bundle takes 20 to 33 ms.
_contexts: Final[dict[str | None, ssl.SSLContext]] = {}


class ConnectError(ParaphinaError):
    """Failure to open a connection, with its reason; ``status`` is the HTTP status of a refused upgrade."""

    def __init__(
        self, reason: Reason, what: str, *, retry_after_s: float | None = None, status: int | None = None
    ) -> None:
        super().__init__(what)
        self.reason = reason
        self.retry_after_s = retry_after_s
        self.status = status


def tls_context(ca_file: str | None = None) -> ssl.SSLContext:
    """Return this process's verifying TLS context; made once, in the parent, before it forks.

    ``ca_file`` holds the only authorities to trust. Without it, ``SSL_CERT_FILE`` and ``SSL_CERT_DIR`` name others
    than the system's, as everywhere with OpenSSL.
    """
    context = _contexts.get(ca_file)
    if context is None:
        try:
            context = ssl.create_default_context(cafile=ca_file)
        except OSError as error:
            raise OSError(f"ca_file {ca_file} cannot be loaded: {error}") from error
        _contexts[ca_file] = context
    return context


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


def dial(
    url: str,
    interrupter: SocketInterrupter,
    deadline_ns: int,
    resolver: Resolver = resolve,
    options: DialOptions = DIRECT,
) -> socket.socket:
    """Connect to the host of ``url``, with TLS where its scheme asks for it; raise ConnectError with the reason.

    The ``interrupter`` then holds the socket, and only its ``close`` closes it. ``deadline_ns`` (monotonic) is for all
    steps together; the socket (TCP_NODELAY, kept alive) has what was left as its timeout.
    """
    host, port, secure = host_and_port(url)
    proxy, source = options.proxy_for(url), options.source_address
    if proxy is None:
        sock = _connect_any(host, port, interrupter, deadline_ns, resolver, source)
    else:
        sock = _connect_through(proxy, host, port, interrupter, deadline_ns, resolver, source)
    if not secure:
        return _timed(sock, interrupter, deadline_ns)
    return _secure(sock, host, interrupter, deadline_ns, options.ca_file)


def _connect_through(
    proxy: Proxy,
    host: str,
    port: int,
    interrupter: SocketInterrupter,
    deadline_ns: int,
    resolver: Resolver,
    source: str | None,
) -> socket.socket:
    """Return a socket that a proxy has connected to a host; every failure until then is the proxy's."""
    try:
        sock = _connect_any(proxy.host, proxy.port, interrupter, deadline_ns, resolver, source)
        open_tunnel(sock, proxy, host, port, lambda: _left_s(deadline_ns))
    except (ConnectError, TunnelError, OSError) as error:
        interrupter.close()
        raise _proxy_error(proxy, error, interrupter) from error
    return sock


def _proxy_error(
    proxy: Proxy, error: ConnectError | TunnelError | OSError, interrupter: SocketInterrupter
) -> ConnectError:
    cut = interrupter.reason
    if cut is not None and cut not in _OVERDUE:
        return ConnectError(cut, f"connecting through {proxy} was interrupted: {cut}")
    if cut is not None or isinstance(error, TimeoutError):
        what = "it does not answer in time"
    elif isinstance(error, OSError):
        what = f"the connection to it broke: {error}"
    else:
        what = str(error)
    return ConnectError(
        Reason.PROXY_FAILED, f"proxy {proxy}: {what}", retry_after_s=getattr(error, "retry_after_s", None)
    )


def _connect_any(
    host: str,
    port: int,
    interrupter: SocketInterrupter,
    deadline_ns: int,
    resolver: Resolver,
    source: str | None,
) -> socket.socket:
    """Return a socket that is connected to the first address of a host that answers."""
    addresses = _of_family(resolver(host, port, _left_s(deadline_ns)), host, source)
    failure: OSError | None = None
    for number, (family, address) in enumerate(addresses):
        try:
            # Each has its share of the time: one that does not answer must not hide the others.
            timeout_s = _left_s(deadline_ns) / (len(addresses) - number)
            return _connect(family, address, interrupter, timeout_s, source)
        except OSError as error:
            interrupter.close()
            failure = error
            if interrupter.reason is not None:
                break
    raise _connect_error(failure, f"{host}:{port}", interrupter) from failure


def _of_family(addresses: list[Address], host: str, source: str | None) -> list[Address]:
    """Return the addresses that can be reached from the source address; raise ConnectError if there are none."""
    if source is None:
        return addresses
    family, name = (socket.AF_INET6, "IPv6") if ":" in source else (socket.AF_INET, "IPv4")
    found = [(of, address) for of, address in addresses if of == family]
    if addresses and not found:
        raise ConnectError(Reason.CONNECT_FAILED, f"{host} has no {name} address, as source_address {source} needs")
    return found


def _connect(
    family: int, address: SocketAddress, interrupter: SocketInterrupter, timeout_s: float, source: str | None
) -> socket.socket:
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        sock.settimeout(timeout_s)
        if source is not None:
            bind_source(sock, source)
        interrupter.publish(sock)
    except OSError:
        sock.close()
        raise
    sock.connect(address)
    return sock


def bind_source(sock: socket.socket, source: str) -> None:
    """Let a socket connect from an address of this machine; raise OSError, which names the setting, if it cannot."""
    try:
        sock.bind((source, 0))
    except OSError as error:
        is_missing = error.errno == errno.EADDRNOTAVAIL
        what = "is not an address of this machine" if is_missing else f"cannot be used: {error.strerror}"
        raise OSError(f"source_address {source} {what}") from error


def _timed(sock: socket.socket, interrupter: SocketInterrupter, deadline_ns: int) -> socket.socket:
    """Give a connected socket all the time that is left."""
    try:
        sock.settimeout(_left_s(deadline_ns))
    except ConnectError:
        interrupter.close()
        raise
    return sock


def _secure(
    sock: socket.socket, host: str, interrupter: SocketInterrupter, deadline_ns: int, ca_file: str | None
) -> socket.socket:
    """Perform the TLS handshake. The wrapped socket is published before it: wrapping detaches the plain one."""
    try:
        secure = tls_context(ca_file).wrap_socket(sock, server_hostname=host, do_handshake_on_connect=False)
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
        raise ConnectError(Reason.TLS_FAILED, f"TLS with {host} failed: {error}{_tls_advice(error)}") from error
    return secure


def _tls_advice(error: OSError) -> str:
    is_unknown = isinstance(error, ssl.SSLCertVerificationError) and error.verify_code in _UNKNOWN_AUTHORITY
    return " (for a private authority, name its certificate in ca_file)" if is_unknown else ""


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
