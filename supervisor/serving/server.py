"""Gateway's HTTP server: waitress in a thread of its own, with limits that a hostile client cannot exceed.

Nothing waits for it. The thread that reads requests also answers them: an answer takes milliseconds, and handing it to
another thread costs as much as a short one. It ends with the process; an error of one client closes that client's
connection.
"""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import socket
import stat
import threading
import time
from collections import deque
from collections.abc import Callable
from http import HTTPStatus
from pathlib import Path
from typing import Any, Final

from waitress import wasyncore
from waitress.adjustments import Adjustments
from waitress.channel import HTTPChannel
from waitress.parser import HTTPRequestParser
from waitress.server import TcpWSGIServer, UnixWSGIServer
from waitress.task import ErrorTask, ThreadedTaskDispatcher
from waitress.utilities import Error

from ipc.health import Reason
from ipc.log import get_log
from supervisor.http_address import HttpAddress
from supervisor.serving import answers

log = get_log(__name__)

#: Connections; one more closes the one that was idle for the longest time.
_CONNECTIONS: Final = 64
#: waitress counts its own descriptors as well, and stops accepting here: when no connection is idle.
_CONNECTION_LIMIT: Final = _CONNECTIONS + 16
_BACKLOG: Final = 64
#: Time without a byte after which a connection is closed, and time in which a request must have arrived, s.
_IDLE_S: Final = 30
_REQUEST_S: Final = 5.0
_CLEANUP_S: Final = 1
_MAX_HEADER: Final = 16_384
#: Answers up to this size stay in memory; longer ones, which there are none of, would go to a temporary file.
_MAX_ANSWER: Final = 16_777_216
#: Answers of a connection that its client has not read; above this, one more question closes the connection.
_MAX_UNREAD: Final = 262_144
#: Requests that a connection sends ahead of their answers; no client that is meant here sends any.
_MAX_AHEAD: Final = 4
_RETRY_S: Final = 1.0
#: Longest turn of the loop, and wait for its end, s.
_TURN_S: Final = 0.5
_CLOSE_S: Final = 1
#: Pause of accepting when no descriptor is free: the waiting connection would wake the loop at once again.
_ACCEPT_PAUSE_S: Final = 1.0
_MAX_TEXT: Final = 300
_WITHOUT_DESCRIPTOR: Final = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})


class _RefusedError(Error):
    """Request that is refused before the application sees it."""

    def __init__(self, status: HTTPStatus) -> None:
        super().__init__("")
        self.code = status.value


class _Parser(HTTPRequestParser):
    """Parser that refuses bodies before they arrive.

    GET and HEAD have none, and disagreement about the length of one is what request smuggling lives on.
    """

    def parse_header(self, header_plus: bytes) -> None:
        """Parse the request line and the headers."""
        super().parse_header(header_plus)
        self.expect_continue = False
        if self.body_rcv is None:
            return
        self.close()
        self.body_rcv, self.chunked, self.content_length = None, False, 0
        method: Any = self.command
        has_method = method in answers.METHODS
        self.error = _RefusedError(HTTPStatus.REQUEST_ENTITY_TOO_LARGE if has_method else HTTPStatus.METHOD_NOT_ALLOWED)


class _ErrorTask(ErrorTask):
    """HttpAnswer to a request that did not reach the application, in the same form as the application's errors."""

    def execute(self) -> None:
        """Send the answer and close the connection."""
        request: Any = self.request
        answer = answers.error(answers.status_of(request.error.code))
        self.status = answer.status_line
        self.response_headers = answer.all_headers()
        self.set_close_on_finish()
        self.content_length = len(answer.body)
        is_head = getattr(request, "command", None) == "HEAD"
        self.write(b"" if is_head else answer.body)


class _Channel(HTTPChannel):
    """Connection that knows since when its present request arrives."""

    error_task_class = _ErrorTask
    parser_class = _Parser
    _arriving: Any = None
    _arriving_since = 0.0

    def received(self, data: bytes) -> bool:
        """Take in bytes of the client; give up one that sends many requests at once: it would keep others waiting."""
        taken = bool(super().received(data))
        if len(self.requests) > _MAX_AHEAD:
            self.cancel()
        if self.request is not self._arriving:
            self._arriving, self._arriving_since = self.request, time.time()
        return taken

    def service(self) -> None:
        """Answer the next request; give up a client that asks on without reading, for waitress keeps the answers."""
        if self.total_outbufs_len > _MAX_UNREAD:
            self.cancel()
        if self.connected:  # else it is closed, or about to be, and its requests may be gone
            super().service()

    def is_late(self, now: float) -> bool:
        """Return whether a request began to arrive too long ago."""
        return self._arriving is not None and now - self._arriving_since > _REQUEST_S


class _Requests(ThreadedTaskDispatcher):
    """Channels whose requests wait for an answer; waitress' own dispatcher gives them to threads."""

    def __init__(self) -> None:
        super().__init__()
        self._channels: deque[_Channel] = deque()

    def __len__(self) -> int:
        return len(self._channels)

    def add_task(self, task: Any) -> None:
        """Add a channel that has a request."""
        self._channels.append(task)

    def answer(self) -> None:
        """Answer one request of each channel that waits; those that have more wait for the next call."""
        for _ in range(len(self._channels)):
            self._channels.popleft().service()


class _Server:
    """Changes to both of waitress' servers: more limits, and room for a new connection at the expense of idle ones."""

    channel_class = _Channel
    _resume_at = 0.0
    active_channels: dict[int, Any]

    def pull_trigger(self) -> None:
        """Do nothing: answers come from the thread that would be woken."""

    def maintenance(self, now: float) -> None:
        """Close connections that are idle, and those whose request does not arrive."""
        super().maintenance(now)  # type: ignore[misc]
        for channel in self.active_channels.values():
            if channel.is_late(now):
                channel.will_close = True

    def readable(self) -> bool:
        """Return whether a connection would be accepted now."""
        return bool(super().readable()) and time.time() >= self._resume_at  # type: ignore[misc]

    def accept(self) -> Any:
        """Accept a connection."""
        try:
            return super().accept()  # type: ignore[misc]
        except OSError as error:
            if error.errno in _WITHOUT_DESCRIPTOR:
                self._resume_at = time.time() + _ACCEPT_PAUSE_S
                log.warning("http.not_accepting", reason=Reason.DESCRIPTORS, error=error.strerror)
            raise

    def handle_accept(self) -> None:
        """Accept a connection; close the idle one that was used last the longest time ago if there are too many."""
        if len(self.active_channels) >= _CONNECTIONS:
            idle = [channel for channel in self.active_channels.values() if not channel.requests]
            if idle:
                min(idle, key=lambda channel: channel.last_activity).will_close = True
        super().handle_accept()  # type: ignore[misc]


class _TcpServer(_Server, TcpWSGIServer):  # type: ignore[misc]
    """Server on TCP."""


class _UnixServer(_Server, UnixWSGIServer):  # type: ignore[misc]
    """Server on a Unix socket."""


class _LibraryLog(logging.Handler):
    """Handler that turns the log lines of waitress, which can contain what clients sent, into events of ours."""

    def emit(self, record: logging.LogRecord) -> None:
        """Log a line of the library; lines of one level are of one kind, and repeats are folded."""
        write = log.error if record.levelno >= logging.ERROR else log.warning
        try:
            error = None if record.exc_info is None else repr(record.exc_info[1])[:_MAX_TEXT]
            write("http.library", text=record.getMessage()[:_MAX_TEXT], error=error)
        except Exception:  # a malformed record
            write("http.library", text=str(record.msg)[:_MAX_TEXT])


class HttpServer:
    """HTTP server in a thread of its own; :attr:`is_listening` and :meth:`close` are for other threads.

    While its address cannot be bound it tries again every second.

    Args:
        application: WSGI application.
        address: Address to listen on.
    """

    def __init__(self, application: Callable[..., Any], address: HttpAddress) -> None:
        self.is_listening = False
        self._application = application
        self._address = address
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="http", daemon=True)
        self._has_failed = False

    def start(self) -> None:
        """Start the thread."""
        library = logging.getLogger("waitress")
        library.handlers[:] = [_LibraryLog()]
        library.propagate = False
        library.setLevel(logging.WARNING)  # clients come and go
        self._thread.start()

    def close(self) -> None:
        """Close all connections and remove a Unix socket; wait for a moment at most."""
        self._stop.set()
        self._thread.join(_CLOSE_S)

    def _run(self) -> None:
        while not self._stop.is_set():
            listening = self._listen()
            if listening is not None:
                try:
                    self._serve(listening)
                except Exception:
                    log.exception("http.ended")
                finally:
                    self.is_listening = False
                    listening.close()
                    if self._address.path:
                        Path(self._address.path).unlink(missing_ok=True)
            self._stop.wait(_RETRY_S)

    def _listen(self) -> socket.socket | None:
        """Return a bound socket; None while it cannot be bound, which is logged once."""
        try:
            listening = bind(self._address)
        except OSError as error:
            if not self._has_failed:
                self._has_failed = True
                reason = Reason.ADDRESS_IN_USE if error.errno == errno.EADDRINUSE else None
                log.error("http.not_listening", reason=reason, address=self._address.url, error=error.strerror)
            return None
        if self._has_failed:
            log.info("http.listening", address=self._address.url)
        self._has_failed = False
        return listening

    def _serve(self, listening: socket.socket) -> None:
        """Serve until stopped, or until the listening socket is lost."""
        adjustments = Adjustments(
            sockets=[listening],
            backlog=_BACKLOG,
            connection_limit=_CONNECTION_LIMIT,
            channel_timeout=_IDLE_S,
            cleanup_interval=_CLEANUP_S,
            max_request_header_size=_MAX_HEADER,
            max_request_body_size=1,
            outbuf_overflow=_MAX_ANSWER,
            clear_untrusted_proxy_headers=True,
            log_socket_errors=False,
            ident="paraphina",
        )
        sockets: dict[int, Any] = {}
        requests = _Requests()
        server_class = _UnixServer if self._address.path else _TcpServer
        server = server_class(
            self._application,
            sockets,
            _sock=listening,
            dispatcher=requests,
            adj=adjustments,
            sockinfo=(listening.family, listening.type, listening.proto, listening.getsockname()),
            bind_socket=False,
        )
        self.is_listening = True
        try:
            while server.accepting and not self._stop.is_set():
                # select() cannot wait for descriptors from 1024 on
                wasyncore.loop(timeout=0.0 if requests else _TURN_S, use_poll=True, map=sockets, count=1)
                requests.answer()
        finally:
            for channel in list(server.active_channels.values()):
                channel.handle_close()
            wasyncore.close_all(sockets)


def bind(address: HttpAddress) -> socket.socket:
    """Return a socket that is bound to an address and does not listen yet; OSError if it cannot be.

    The file of a Unix socket on which nobody listens is replaced, and only its owner can connect.
    """
    listening = socket.socket(address.family, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
    try:
        if address.path:
            _bind_unix(listening, Path(address.path))
        else:
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if address.family == socket.AF_INET6:
                listening.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            listening.bind((address.host, address.port))
            # SO_REUSEADDR lets two sockets bind that do not listen; the second to listen is refused.
            listening.listen(_BACKLOG)
    except OSError:
        listening.close()
        raise
    return listening


def _bind_unix(listening: socket.socket, path: Path) -> None:
    if _is_stale(path):
        with contextlib.suppress(FileNotFoundError):
            path.unlink()
    os.fchmod(listening.fileno(), 0o600)  # the file that bind() makes gets this mode, at no moment a wider one
    listening.bind(str(path))
    path.chmod(0o600)
    listening.listen(_BACKLOG)


def _is_stale(path: Path) -> bool:
    """Return whether a file is a socket on which nobody listens."""
    try:
        if not stat.S_ISSOCK(path.lstat().st_mode):
            return False
        with socket.socket(socket.AF_UNIX) as probe:
            probe.settimeout(1.0)
            probe.connect(str(path))
    except ConnectionRefusedError:
        return True
    except OSError:
        return False
    return False
