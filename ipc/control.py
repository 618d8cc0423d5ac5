"""Control: small JSON requests to the parent and its replies, over one Unix SEQPACKET socket.

One packet is one message. The server side is the parent's (:mod:`supervisor.control`); this is what both sides share,
and the client.
"""

from __future__ import annotations

import socket
from pathlib import Path
from typing import Any, Final, Literal, Self, TypeAlias

import msgspec

from ipc.errors import NotRunningError, ParaphinaError, UnknownStateError, UsageError

__all__ = [
    "MAX_PACKET",
    "ControlClient",
    "ControlReply",
    "ControlRequest",
    "ProcessFault",
    "Verb",
    "ask",
    "decode_reply",
    "decode_request",
]

#: Longest message, bytes.
MAX_PACKET: Final = 65_536

Verb: TypeAlias = Literal["ping", "stop", "restart", "reload", "drill", "follow"]
#: What can be done to a process for practice: signals, and what only the process itself can do wrong.
ProcessFault: TypeAlias = Literal["kill", "segv", "stop", "exit", "hang", "memory"]


class ControlRequest(msgspec.Struct, forbid_unknown_fields=True, omit_defaults=True):
    """What a client asks.

    ``restart`` and ``drill`` name a ``target`` (a worker; None for every one). A drill does ``fault`` to it and does
    not count towards backoff. ``follow`` turns the connection into a stream of the lifecycle events that come after
    number ``after``.
    """

    verb: Verb
    target: str | None = None
    fault: ProcessFault | None = None
    after: int = 0


class ControlReply(msgspec.Struct, omit_defaults=True):
    """What the parent answers; ``error`` and ``advice`` when it did not do it."""

    ok: bool
    error: str = ""
    advice: str = ""
    data: dict[str, Any] = {}


_requests: Final = msgspec.json.Decoder(ControlRequest)
_replies: Final = msgspec.json.Decoder(ControlReply)


def decode_request(packet: bytes) -> ControlRequest:
    """A request from its packet.

    Raises:
        UsageError: It is none.
    """
    try:
        return _requests.decode(packet)
    except (ValueError, RecursionError) as error:
        raise UsageError(f"not a control request: {error}") from error


def decode_reply(packet: bytes) -> ControlReply:
    """A reply from its packet.

    Raises:
        ParaphinaError: It is none.
    """
    try:
        return _replies.decode(packet)
    except (ValueError, RecursionError) as error:
        raise ParaphinaError(f"not a control reply: {error}") from error


class ControlClient:
    """A connection to the parent; a context manager.

    Raises:
        NotRunningError: Nobody listens there.
        UnknownStateError: It is somebody else's.
        ParaphinaError: Somebody does, and takes no more callers.
    """

    def __init__(self, path: Path, timeout_s: float = 5.0) -> None:
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._socket.settimeout(timeout_s)
        try:
            self._socket.connect(str(path))
        except BlockingIOError as error:
            self._socket.close()
            raise ParaphinaError(
                "the supervisor does not answer: too many wait for it already",
                where=str(path),
                advice="look at it with: paraphina-supervisor status",
            ) from error
        except PermissionError as error:
            self._socket.close()
            raise UnknownStateError(
                f"the supervisor cannot be asked: {error.strerror}",
                where=str(path),
                advice="ask as the user who runs it",
            ) from error
        except OSError as error:
            self._socket.close()
            raise NotRunningError(
                "no supervisor is running here",
                where=str(path.parent),
                advice="start one with: paraphina-supervisor start",
            ) from error

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End the connection."""
        self._socket.close()

    def fileno(self) -> int:
        """For a poll set."""
        return self._socket.fileno()

    def send(self, request: ControlRequest) -> None:
        """Send a request.

        Raises:
            NotRunningError: The parent is gone.
            UsageError: It is too long.
        """
        packet = msgspec.json.encode(request)
        if len(packet) > MAX_PACKET:
            raise UsageError(f"a request of {len(packet)} bytes is too long", advice="name fewer things")
        try:
            self._socket.send(packet)
        except OSError as error:
            raise NotRunningError("the supervisor is gone") from error

    def receive(self) -> bytes:
        """The next packet.

        Raises:
            NotRunningError: The parent is gone.
            TimeoutError: It did not answer in time.
        """
        try:
            packet = self._socket.recv(MAX_PACKET)
        except TimeoutError:
            raise
        except OSError as error:
            raise NotRunningError("the supervisor is gone") from error
        if not packet:
            raise NotRunningError("the supervisor is gone")
        return packet


def ask(path: Path, request: ControlRequest, timeout_s: float = 5.0) -> ControlReply:
    """Send one request and wait for its reply.

    Raises:
        NotRunningError: Nobody listens there.
        UsageError: The parent refused.
        ParaphinaError: It did not answer within ``timeout_s``.
    """
    with ControlClient(path, timeout_s) as client:
        client.send(request)
        try:
            reply = decode_reply(client.receive())
        except TimeoutError as error:
            raise ParaphinaError(
                f"the supervisor did not answer within {timeout_s:g} s",
                where=str(path),
                advice="look at it with: paraphina-supervisor status",
            ) from error
    if not reply.ok:
        raise UsageError(reply.error, advice=reply.advice)
    return reply
