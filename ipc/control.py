"""Control: small JSON requests to the parent and its replies, over one Unix SEQPACKET socket.

One packet is one message. This module holds the messages and the client; the server is :mod:`supervisor.control`.
"""

from __future__ import annotations

import socket
import time
from pathlib import Path
from typing import Any, Final, Literal, Self, TypeAlias

import msgspec

from ipc.errors import (
    ConfigError,
    ForeignSystemError,
    NotAnsweringError,
    NotRunningError,
    ParaphinaError,
    UnknownStateError,
    UsageError,
)
from ipc.users import owner_of

#: Longest message, bytes.
MAX_PACKET: Final = 65_536
#: States in a reply of a process that survived SIGKILL: another one begins only after its end.
UNKILLABLE_STATES: Final = frozenset({"unkillable", "unkillable_stopping"})
#: Time between two attempts to connect while too many clients wait to be accepted, s.
_RETRY_S: Final = 0.02

#: ``stop_venue`` is no ``stop`` with a target: a supervisor of an older version would stop everything.
Verb: TypeAlias = Literal["ping", "stop", "restart", "reload", "drill", "follow", "stop_venue", "start_venue"]
#: Faults that a drill injects into a process: signals, and faults that the process injects into itself.
ProcessFault: TypeAlias = Literal["kill", "segv", "stop", "exit", "hang", "memory"]


class ControlRequest(msgspec.Struct, forbid_unknown_fields=True, omit_defaults=True):
    """Request of a client.

    ``restart`` and ``drill`` name a ``target`` (a worker; None for all), ``stop_venue`` and ``start_venue`` a venue. A
    drill injects ``fault`` and does not count towards backoff. ``follow`` turns the connection into a stream of the
    lifecycle events after number ``after``.
    """

    verb: Verb
    target: str | None = None
    fault: ProcessFault | None = None
    after: int = 0


class ControlReply(msgspec.Struct, omit_defaults=True):
    """Reply of the parent, with ``error``, ``advice`` and the exit code of the command when it refused.

    ``problems`` has a line for every mistake in a configuration that it refused, ``owner`` the user whose system it is
    when it refused another.
    """

    ok: bool
    error: str = ""
    advice: str = ""
    data: dict[str, Any] = {}
    exit_code: int = UsageError.exit_code
    problems: list[str] = []
    owner: str = ""

    @classmethod
    def refusing(cls, error: ParaphinaError) -> Self:
        """Return the reply that refuses a request because of an error."""
        what = f"{error.where}: {error.what}" if error.where else error.what
        problems = error.problems if isinstance(error, ConfigError) else []
        owner = error.owner if isinstance(error, ForeignSystemError) else ""
        return cls(False, what, error.advice, exit_code=error.exit_code, problems=problems, owner=owner)

    def refusal(self) -> ParaphinaError:
        """Return the error that a refusing reply stands for."""
        if self.problems:
            return ConfigError(self.problems)
        if self.owner:
            return ForeignSystemError(self.owner)
        return _REFUSALS.get(self.exit_code, ParaphinaError)(self.error, advice=self.advice)


#: Errors by exit code.
_REFUSALS: Final = {error.exit_code: error for error in (UsageError, UnknownStateError)}


_requests: Final = msgspec.json.Decoder(ControlRequest)
_replies: Final = msgspec.json.Decoder(ControlReply)


def decode_request(packet: bytes) -> ControlRequest:
    """Decode a request; raise UsageError if it is not one."""
    try:
        return _requests.decode(packet)
    except (ValueError, RecursionError) as error:
        raise UsageError(f"not a control request: {error}") from error


def decode_reply(packet: bytes) -> ControlReply:
    """Decode a reply; raise ParaphinaError if it is not one."""
    try:
        return _replies.decode(packet)
    except (ValueError, RecursionError) as error:
        raise ParaphinaError(f"not a control reply: {error}") from error


class ControlClient:
    """Connection to the parent; a context manager.

    Raise NotRunningError without a supervisor, ForeignSystemError if it belongs to another user, and NotAnsweringError
    when it has not accepted the clients before this one within ``timeout_s``.
    """

    def __init__(self, path: Path, timeout_s: float = 5.0) -> None:
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._socket.settimeout(timeout_s)
        try:
            self._connect(path, time.monotonic() + timeout_s)
        except BaseException:
            self._socket.close()
            raise

    def _connect(self, path: Path, deadline: float) -> None:
        while True:
            try:
                self._socket.connect(str(path))
            except BlockingIOError as error:
                if time.monotonic() < deadline:
                    time.sleep(_RETRY_S)
                    continue
                raise NotAnsweringError(
                    "the supervisor does not answer: too many wait for it already",
                    where=str(path),
                    advice="look at it with: paraphina-supervisor status",
                ) from error
            except PermissionError as error:
                raise ForeignSystemError(owner_of(path.parent)) from error
            except OSError as error:
                raise NotRunningError(
                    "no supervisor is running here",
                    where=str(path.parent),
                    advice="start one with: paraphina-supervisor start",
                ) from error
            return

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connection."""
        self._socket.close()

    def fileno(self) -> int:
        """Return the descriptor, for a poll set."""
        return self._socket.fileno()

    def send(self, request: ControlRequest) -> None:
        """Send a request; raise NotRunningError if the parent has exited, UsageError if the request is too long.

        A parent that closed the connection may have said why: that is for :meth:`receive`.
        """
        packet = msgspec.json.encode(request)
        if len(packet) > MAX_PACKET:
            raise UsageError(f"a request of {len(packet)} bytes is too long", advice="name fewer things")
        try:
            self._socket.send(packet)
        except OSError as error:
            if not self._has_packet():
                raise NotRunningError("the supervisor is gone") from error

    def _has_packet(self) -> bool:
        try:
            return bool(self._socket.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT))
        except OSError:
            return False

    def receive(self) -> bytes:
        """Return the next packet; raise NotRunningError if the parent has exited, TimeoutError if none came in time."""
        try:
            packet = self._receive()
        except TimeoutError:
            raise
        except OSError as error:
            raise NotRunningError("the supervisor is gone") from error
        if not packet:
            raise NotRunningError("the supervisor is gone")
        return packet

    def _receive(self) -> bytes:
        try:
            return self._socket.recv(MAX_PACKET)
        except ConnectionResetError:
            # It closed the connection with our request unread; the kernel reports that before the last packet.
            return self._socket.recv(MAX_PACKET)


def ask(path: Path, request: ControlRequest, timeout_s: float = 5.0) -> ControlReply:
    """Send one request and wait for its reply.

    Raise NotRunningError without a supervisor, NotAnsweringError without a reply in ``timeout_s``, ForeignSystemError
    for another user's, and the error of a supervisor that refused: UsageError or ConfigError.
    """
    with ControlClient(path, timeout_s) as client:
        client.send(request)
        try:
            reply = decode_reply(client.receive())
        except TimeoutError as error:
            raise NotAnsweringError(
                f"the supervisor did not answer within {timeout_s:g} s",
                where=str(path),
                advice="look at it with: paraphina-supervisor status",
            ) from error
    if not reply.ok:
        raise reply.refusal()
    return reply
