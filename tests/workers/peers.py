"""Peers on loopback: servers in threads that do exactly what a test tells them, however ugly."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import socket
import ssl
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from websockets.sync.server import serve

__all__ = [
    "BlackHole",
    "HttpPeer",
    "RawPeer",
    "WebSocketPeer",
    "closed_port",
    "drip",
    "frame",
    "read_head",
    "server_context",
    "upgrade",
]

_GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"  # RFC 6455, section 1.3


class RawPeer:
    """Accepts connections and plays ``script(sock, over)`` to each; ``over`` is set when the test is done.

    ``accepted`` counts connections.
    """

    def __init__(self, script, *, tls=None):
        self.accepted = 0
        self.over = threading.Event()
        self._script = script
        self._tls = tls
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self._sockets = []
        self._threads = [threading.Thread(target=self._accept)]

    def url(self, scheme="ws", host="127.0.0.1"):
        return f"{scheme}://{host}:{self.port}"

    def __enter__(self):
        self._threads[0].start()
        return self

    def __exit__(self, *_):
        self.over.set()
        for sock in (self._listener, *self._sockets):
            with contextlib.suppress(OSError):
                socket.socket.shutdown(sock, socket.SHUT_RDWR)
        self._listener.close()
        for thread in self._threads:
            thread.join(10)
            assert not thread.is_alive()

    def _accept(self):
        while True:
            try:
                sock, _ = self._listener.accept()
            except OSError:
                return
            self.accepted += 1
            thread = threading.Thread(target=self._play, args=(sock,))
            self._threads.append(thread)
            thread.start()

    def _play(self, sock):
        with contextlib.suppress(OSError), contextlib.closing(self._speak(sock)) as stream:
            self._sockets.append(stream)
            self._script(stream, self.over)

    def _speak(self, sock):
        if self._tls is None:
            return sock
        try:
            return self._tls.wrap_socket(sock, server_side=True)
        except OSError:
            sock.close()
            raise


class BlackHole:
    """An address that answers nothing: its queue of connections is full, so the kernel drops further attempts."""

    def __enter__(self):
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=0)
        self.port = self._listener.getsockname()[1]
        self._waiting = [socket.socket() for _ in range(4)]
        for sock in self._waiting:
            sock.setblocking(False)
            sock.connect_ex(("127.0.0.1", self.port))
        return self

    def __exit__(self, *_):
        for sock in (*self._waiting, self._listener):
            sock.close()


class WebSocketPeer:
    """A WebSocket server that plays ``script(connection)`` to each client (library: websockets)."""

    def __init__(self, script, **options):
        self._server = serve(script, "127.0.0.1", 0, close_timeout=0.1, **options)
        self._thread = threading.Thread(target=self._server.serve_forever)
        self.url = f"ws://127.0.0.1:{self._server.socket.getsockname()[1]}/feed"

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *_):
        self._server.shutdown()
        self._thread.join(10)
        assert not self._thread.is_alive()


class HttpPeer:
    """An HTTP/1.1 server that answers by ``answer(handler)``; ``requests`` holds (method, path, body).

    ``over`` is set when the test is done; ``connections`` counts them.
    """

    def __init__(self, answer, *, tls=None):
        self.requests = []
        self.connections = 0
        self.over = threading.Event()
        peer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def setup(self):
                peer.connections += 1
                peer._sockets.append(self.request)
                super().setup()

            def handle(self):
                with contextlib.suppress(OSError):
                    super().handle()

            def _any(self):
                size = int(self.headers.get("Content-Length") or 0)
                peer.requests.append((self.command, self.path, self.rfile.read(size)))
                answer(self)

            do_GET = do_POST = _any  # noqa: N815 - the names that http.server looks for

            def log_message(self, *_):
                pass

        self._sockets = []
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        if tls is not None:
            self._server.socket = tls.wrap_socket(self._server.socket, server_side=True)
        self._server.daemon_threads = False
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01})
        self.port = self._server.server_address[1]
        self.url = f"{'http' if tls is None else 'https'}://127.0.0.1:{self.port}"

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *_):
        self.over.set()
        self._server.shutdown()
        for sock in self._sockets:
            with contextlib.suppress(OSError):
                socket.socket.shutdown(sock, socket.SHUT_RDWR)
        self._server.server_close()
        self._thread.join(10)


def closed_port():
    """A port on which nobody listens."""
    with socket.create_server(("127.0.0.1", 0)) as sock:
        return sock.getsockname()[1]


def server_context(certificate):
    """The TLS side of a server with a certificate."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*certificate)
    return context


def read_head(sock):
    """The head of an HTTP request, as text."""
    head = b""
    while not head.endswith(b"\r\n\r\n"):
        piece = sock.recv(1)
        if not piece:
            raise ConnectionError("the client went away")
        head += piece
    return head.decode()


def upgrade(sock):
    """Answer a WebSocket upgrade as a server must; the request's head."""
    head = read_head(sock)
    key = next(line.split(": ")[1] for line in head.split("\r\n") if line.lower().startswith("sec-websocket-key"))
    accept = base64.b64encode(hashlib.sha1(key.encode() + _GUID).digest()).decode()  # noqa: S324
    sock.sendall(
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        f"Sec-WebSocket-Accept: {accept}\r\n\r\n".encode()
    )
    return head


def drip(sock, data, over, pause_s=0.01):
    """Send ``data`` byte by byte until the test is over."""
    for byte in data:
        if over.wait(pause_s):
            return
        sock.sendall(bytes([byte]))


def frame(opcode, payload, *, final=True, reserved=0, mask=b""):
    """A WebSocket frame (RFC 6455, section 5.2), also one that a server must not send."""
    size = len(payload)
    head = bytes([final << 7 | reserved << 4 | opcode])
    masked = bool(mask) << 7
    if size < 126:
        head += bytes([masked | size])
    elif size < 65_536:
        head += bytes([masked | 126]) + size.to_bytes(2, "big")
    else:
        head += bytes([masked | 127]) + size.to_bytes(8, "big")
    return head + mask + payload
