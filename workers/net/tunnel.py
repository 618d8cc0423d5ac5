"""Tunnels: a connected proxy is asked to connect to a venue, by HTTP CONNECT or SOCKS5.

The proxy resolves the venue's name. No byte beyond the proxy's answer is read: those that follow are the venue's.
"""

from __future__ import annotations

import base64
import ipaddress
import re
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Final

from ipc.errors import ParaphinaError
from ipc.log import hide
from workers.net.proxy import Proxy, bracketed
from workers.net.retry_after import retry_after_s
from workers.private_file import read_private

_MAX_HEADER: Final = 16 * 1024
_STATUS_LINE: Final = re.compile(rb"HTTP/1\.\d (\d{3})\b ?([^\r\n]*)")
_AUTH_REQUIRED: Final = 407
#: The venue's name or its server is what failed (RFC 9110 section 15.6).
_UNREACHABLE: Final = frozenset({502, 503, 504})
#: Of RFC 1928: version, methods of authentication, command, address types.
_SOCKS, _NO_AUTH, _PASSWORD, _NONE_ACCEPTED, _CONNECT = 5, 0, 2, 0xFF, 1
_IPV4, _NAME, _IPV6 = 1, 3, 4
_ADDRESS_SIZES: Final = {_IPV4: 4, _IPV6: 16}
#: Of RFC 1929.
_PASSWORD_VERSION: Final = 1
_MAX_FIELD: Final = 255
_REPLIES: Final = {
    1: "it failed",
    2: "its rules do not allow it",
    3: "the network is unreachable",
    4: "the host is unreachable, or its name is unknown",
    5: "the host refuses connections",
    6: "the host does not answer in time",
    7: "it does not support connections",
    8: "it does not support this type of address",
}


class TunnelError(ParaphinaError):
    """Failure of a proxy to connect us, with the pause that it asks for, s."""

    def __init__(self, what: str, *, advice: str = "", retry_after_s: float | None = None) -> None:
        super().__init__(what, advice=advice)
        self.retry_after_s = retry_after_s


def open_tunnel(sock: socket.socket, proxy: Proxy, host: str, port: int, left_s: Callable[[], float]) -> None:
    """Let the proxy that ``sock`` is connected to connect it to ``host:port``.

    ``left_s`` returns the time that is left, s, or raises. Raise TunnelError if the proxy does not do it, OSError if
    the connection breaks.
    """
    peer = _Peer(sock, left_s)
    open_by = _open_http if proxy.protocol == "http" else _open_socks5
    open_by(peer, _name_sent(host), port, _credentials(proxy))


def read_credentials(path: str) -> tuple[str, str]:
    """Return user and password from a private file; raise ValueError, which never repeats them, if it has none."""
    user, colon, password = read_private(Path(path)).partition(":")
    if not colon or not (user + password).isprintable():
        raise ValueError(f"{path} must hold one line user:password")
    return user, password


def _credentials(proxy: Proxy) -> tuple[str, str] | None:
    try:
        found = proxy.credentials if proxy.auth_file is None else read_credentials(proxy.auth_file)
    except ValueError as error:
        raise TunnelError(f"no credentials: {error}") from None
    if found is not None:
        hide(found[1])
    return found


def _name_sent(host: str) -> str:
    """Return a host as the proxy gets it: without characters that would end a header."""
    try:
        name = host if ":" in host else host.encode("idna").decode("ascii")
    except UnicodeError as error:
        raise TunnelError(f"{host!r} is no name of a host") from error
    if not name.isprintable() or " " in name:
        raise TunnelError(f"{host!r} is no name of a host")
    return name


class _Peer:
    """Connected proxy, whose every operation has the time that is left."""

    def __init__(self, sock: socket.socket, left_s: Callable[[], float]) -> None:
        self._sock = sock
        self._left_s = left_s
        self._has_answered = False

    def send(self, data: bytes) -> None:
        self._sock.settimeout(self._left_s())
        self._sock.sendall(data)

    def receive(self, size: int) -> bytes:
        received = b""
        while len(received) < size:
            self._sock.settimeout(self._left_s())
            piece = self._sock.recv(size - len(received))
            if not piece:
                advice = "" if self._has_answered else "does it speak the protocol that its URL names?"
                raise TunnelError("it closed the connection", advice=advice)
            self._has_answered = True
            received += piece
        return received


def _open_http(peer: _Peer, host: str, port: int, credentials: tuple[str, str] | None) -> None:
    """Ask with CONNECT (RFC 9110 section 9.3.6)."""
    where = f"{bracketed(host)}:{port}"
    lines = [f"CONNECT {where} HTTP/1.1", f"Host: {where}", "User-Agent: paraphina-supervisor"]
    if credentials is not None:
        token = base64.b64encode(":".join(credentials).encode()).decode()
        hide(token)
        lines.append(f"Proxy-Authorization: Basic {token}")
    peer.send("\r\n".join([*lines, "", ""]).encode())
    header = _read_header(peer)
    status_line = _STATUS_LINE.match(header)
    if status_line is None:
        raise _not_http(header)
    status = int(status_line[1])
    if not 200 <= status < 300:
        raise _http_error(status, status_line[2], header, where, has_login=credentials is not None)


def _read_header(peer: _Peer) -> bytes:
    """Return the header of an answer. Read byte by byte: the connection to the venue begins right behind it."""
    header = bytearray()
    while not header.endswith((b"\r\n\r\n", b"\n\n")):
        header += peer.receive(1)
        if not header.startswith(b"HTTP/"[: len(header)]):
            raise _not_http(bytes(header))
        if len(header) > _MAX_HEADER:
            raise TunnelError(f"its header exceeds {_MAX_HEADER} bytes")
    return bytes(header)


def _not_http(header: bytes) -> TunnelError:
    return TunnelError(f"it does not speak HTTP ({header[:20]!r})", advice="for a SOCKS proxy write socks5://")


def _http_error(status: int, phrase: bytes, header: bytes, where: str, *, has_login: bool) -> TunnelError:
    answer = f"HTTP {status} {phrase[:80].decode('ascii', 'replace')}".rstrip()
    if status == _AUTH_REQUIRED:
        return _login_error(answer, has_login=has_login)
    what = f"it cannot reach {where}" if status in _UNREACHABLE else f"it refuses to connect to {where}"
    wait = re.search(rb"(?im)^retry-after:[ \t]*([^\r\n]*)", header)
    wait_s = retry_after_s(wait[1].decode("ascii", "replace").strip()) if wait is not None else None
    return TunnelError(f"{what}: {answer}", retry_after_s=wait_s)


def _login_error(answer: str, *, has_login: bool) -> TunnelError:
    if has_login:
        return TunnelError(f"it rejects the credentials: {answer}")
    return TunnelError(f"it requires credentials: {answer}", advice="name a file with user:password in proxy_auth_file")


def _open_socks5(peer: _Peer, host: str, port: int, credentials: tuple[str, str] | None) -> None:
    """Ask with SOCKS5 (RFC 1928, RFC 1929)."""
    methods = bytes([_NO_AUTH] if credentials is None else [_NO_AUTH, _PASSWORD])
    peer.send(bytes([_SOCKS, len(methods)]) + methods)
    version, method = peer.receive(2)
    if version != _SOCKS:
        raise TunnelError("it does not speak SOCKS5", advice="for an HTTP proxy write http://")
    if method == _PASSWORD and credentials is not None:
        _log_in(peer, *credentials)
    elif method == _NONE_ACCEPTED:
        raise _login_error("no method of authentication accepted", has_login=credentials is not None)
    elif method != _NO_AUTH:
        raise TunnelError(f"it selects the unknown method of authentication {method}")
    peer.send(bytes([_SOCKS, _CONNECT, 0]) + _socks_address(host) + port.to_bytes(2, "big"))
    _check_reply(peer, f"{bracketed(host)}:{port}")


def _log_in(peer: _Peer, *credentials: str) -> None:
    fields = [text.encode() for text in credentials]
    if not all(0 < len(text) <= _MAX_FIELD for text in fields):
        raise TunnelError(f"SOCKS5 takes a user and a password of 1 to {_MAX_FIELD} bytes")
    peer.send(bytes([_PASSWORD_VERSION]) + b"".join(bytes([len(text)]) + text for text in fields))
    if peer.receive(2)[1] != 0:
        raise _login_error("wrong user or password", has_login=True)


def _socks_address(host: str) -> bytes:
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        name = host.encode()
        if len(name) > _MAX_FIELD:
            raise TunnelError(f"SOCKS5 takes names of up to {_MAX_FIELD} bytes") from None
        return bytes([_NAME, len(name)]) + name
    return bytes([_IPV4 if address.version == 4 else _IPV6]) + address.packed


def _check_reply(peer: _Peer, where: str) -> None:
    """Read the reply to its end, whose address is of no use; raise TunnelError unless it is a success."""
    version, reply = peer.receive(2)
    if version != _SOCKS:
        raise TunnelError("its reply is not one of SOCKS5")
    if reply:
        raise TunnelError(f"it cannot connect to {where}: {_REPLIES.get(reply, f'SOCKS5 reply {reply}')}")
    kind = peer.receive(2)[1]
    size = peer.receive(1)[0] if kind == _NAME else _ADDRESS_SIZES.get(kind)
    if size is None:
        raise TunnelError("its reply is not one of SOCKS5")
    peer.receive(size + 2)
