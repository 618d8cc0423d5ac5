"""A proxy on loopback: HTTP CONNECT or SOCKS5, with or without credentials.

It alone knows the hosts below ``.example`` (RFC 2606): each is 127.0.0.1, at the port that it is asked for.
"""

from __future__ import annotations

import base64
import contextlib
import select
import socket
import threading
from collections import Counter
from typing import Self

_PIECE = 65_536


class ProxyServer:
    """A proxy of a protocol, ``http`` or ``socks5``, in threads; a context manager.

    ``asked`` counts what was connected to, as (host, port); ``refused`` counts clients without the credentials.
    """

    def __init__(self, protocol: str, credentials: tuple[str, str] | None = None, port: int = 0) -> None:
        self.protocol = protocol
        self.credentials = credentials
        self.asked: Counter[tuple[str, int]] = Counter()
        self.refused = 0
        self._listener = socket.create_server(("127.0.0.1", port), backlog=256)
        self.port: int = self._listener.getsockname()[1]
        self._lock = threading.Lock()
        self._over = threading.Event()
        self._threads = [threading.Thread(target=self._accept, daemon=True)]
        self._sockets: list[socket.socket] = []

    @property
    def url(self) -> str:
        """Its URL, without credentials."""
        return f"{self.protocol}://127.0.0.1:{self.port}"

    def __enter__(self) -> Self:
        self._threads[0].start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        with self._lock:
            for sock in (self._listener, *self._sockets):
                with contextlib.suppress(OSError):
                    sock.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for thread in self._threads:
            thread.join(10)
            assert not thread.is_alive()

    def _accept(self) -> None:
        while True:
            try:
                sock, _ = self._listener.accept()
            except OSError:
                return
            thread = threading.Thread(target=self._serve, args=(sock,), daemon=True)
            self._threads.append(thread)
            thread.start()

    def _serve(self, client: socket.socket) -> None:
        with client, contextlib.suppress(OSError, ValueError):
            self._hold(client)
            server = self._serve_http(client) if self.protocol == "http" else self._serve_socks5(client)
            if server is not None:
                with server:
                    self._hold(server)
                    self._pump(client, server)

    def _hold(self, sock: socket.socket) -> None:
        with self._lock:
            self._sockets.append(sock)
            if self._over.is_set():
                raise ConnectionAbortedError

    def _connect(self, host: str, port: int) -> socket.socket | None:
        self.asked[host, port] += 1
        if not host.endswith(".example"):
            return None
        with contextlib.suppress(OSError):
            return socket.create_connection(("127.0.0.1", port), 10)
        return None

    def _serve_http(self, client: socket.socket) -> socket.socket | None:
        head = b""
        while not head.endswith(b"\r\n\r\n"):
            head += _exactly(client, 1)
        request, *lines = head.decode().split("\r\n")
        headers = dict(line.lower().split(": ", 1) for line in lines if line)
        if self.credentials is not None:
            token = base64.b64encode(":".join(self.credentials).encode()).decode().lower()
            if headers.get("proxy-authorization") != f"basic {token}":
                self.refused += 1
                client.sendall(b"HTTP/1.1 407 Proxy Authentication Required\r\nContent-Length: 0\r\n\r\n")
                return None
        method, target, _ = request.split(" ")
        assert (method, headers["host"]) == ("CONNECT", target)
        host, _, port = target.rpartition(":")
        server = self._connect(host, int(port))
        client.sendall(b"HTTP/1.1 %s\r\n\r\n" % (b"502 Bad Gateway" if server is None else b"200 OK\r\nVia: 1.1 test"))
        return server

    def _serve_socks5(self, client: socket.socket) -> socket.socket | None:
        version, count = _exactly(client, 2)
        methods = _exactly(client, count)
        method = 0 if self.credentials is None else 2
        if version != 5 or method not in methods:
            self.refused += 1
            client.sendall(b"\x05\xff")
            return None
        client.sendall(bytes([5, method]))
        if self.credentials is not None and not self._log_in(client):
            return None
        version, command, _, kind = _exactly(client, 4)
        assert (version, command, kind) == (5, 1, 3)  # a name: a client must not resolve it
        host = _exactly(client, _exactly(client, 1)[0]).decode()
        server = self._connect(host, int.from_bytes(_exactly(client, 2)))
        client.sendall(bytes([5, 4 if server is None else 0, 0, 3, 4]) + b"host\x12\x34")
        return server

    def _log_in(self, client: socket.socket) -> bool:
        assert _exactly(client, 1) == b"\x01"
        given = tuple(_exactly(client, _exactly(client, 1)[0]).decode() for _ in range(2))
        is_right = given == self.credentials
        self.refused += not is_right
        client.sendall(bytes([1, not is_right]))
        return is_right

    @staticmethod
    def _pump(client: socket.socket, server: socket.socket) -> None:
        """Carry bytes both ways until one side ends."""
        others = {client: server, server: client}
        while True:
            for sock in select.select([client, server], [], [])[0]:
                data = sock.recv(_PIECE)
                if not data:
                    return
                others[sock].sendall(data)


def _exactly(sock: socket.socket, size: int) -> bytes:
    data = b""
    while len(data) < size:
        piece = sock.recv(size - len(data))
        if not piece:
            raise ConnectionError("the client went away")
        data += piece
    return data
