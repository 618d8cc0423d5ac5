"""Faults of connections: closed, refused, frozen, slow or without pongs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, ClassVar, Literal

from msgspec import Meta

from simulator.faults.fault import Args, Fault
from simulator.session import ClientSession
from simulator.venue import SimulatedVenue
from simulator.wire import Upgrade, UpgradeRefusal

#: RFC 6455, section 7.4: valid codes of a close frame.
_SENDABLE = {*range(1000, 1004), *range(1007, 1015), *range(3000, 5000)}


class CloseArgs(Args, frozen=True, kw_only=True):
    """Parameters of ``close``."""

    code: Annotated[int, Meta(description="close code; 0 drops the TCP connection without a close frame")] = 1001
    text: Annotated[str, Meta(max_length=40, description="reason in the close frame")] = "closed by the server"

    def __post_init__(self) -> None:
        """Reject codes that cannot be sent.

        Raises:
            ValueError: Invalid close code.
        """
        if self.code and self.code not in _SENDABLE:
            raise ValueError(f"{self.code} is not a close code: use 0, 1000-1003, 1007-1014 or 3000-4999")


class CloseFault(Fault[CloseArgs]):
    """Sockets of the venue are all closed; clients can reconnect."""

    name: ClassVar[str] = "close"
    parameters = CloseArgs

    def begin(self) -> None:
        """Close the sockets."""
        if self.args.code:
            self.venue.close_all(self.args.code, self.args.text, self.peer)
        else:
            self.venue.abort_all(self.peer)
        self.finish()


class Refuse(Fault[Args]):
    """Sockets of the venue are all closed, and its port refuses connections."""

    name: ClassVar[str] = "refuse"
    can_have_peer: ClassVar[bool] = False

    def begin(self) -> None:
        """Close the port and all sockets."""
        listener = self.venue.listeners.get("ws")
        if listener is not None:
            listener.shut()
        self.venue.close_all(1001, "going away")

    def end(self) -> None:
        """Open the port, unless another such fault is active."""
        listener = self.venue.listeners.get("ws")
        if listener is not None and not self.others:
            listener.open()


class UpgradeErrorArgs(Args, frozen=True, kw_only=True):
    """Parameters of ``upgrade_error``."""

    status: Annotated[Literal[400, 401, 403, 404, 429, 500, 502, 503], Meta(description="HTTP status")] = 503


class UpgradeError(Fault[UpgradeErrorArgs]):
    """New connections get an HTTP status instead of a WebSocket; existing ones continue."""

    name: ClassVar[str] = "upgrade_error"
    parameters = UpgradeErrorArgs

    def on_upgrade(self, _upgrade: Upgrade) -> UpgradeRefusal:
        """Return the refusal."""
        return UpgradeRefusal(self.args.status)


class HalfOpen(Fault[Args]):
    """Existing sockets stay open in TCP without any reads or writes; new ones work."""

    name: ClassVar[str] = "half_open"

    def __init__(self, venue: SimulatedVenue, args: Args, finish: Callable[[], None]) -> None:
        super().__init__(venue, args, finish)
        self._frozen: list[ClientSession] = []

    def begin(self) -> None:
        """Freeze the sockets."""
        self._frozen = self.sessions
        for session in self._frozen:
            session.wire.freeze()

    def end(self) -> None:
        """Reset the frozen sockets."""
        for session in self._frozen:
            session.wire.abort()


class NoPong(Fault[Args]):
    """Pings stay unanswered, frames and messages; data continues."""

    name: ClassVar[str] = "no_pong"
    can_have_peer: ClassVar[bool] = False

    def begin(self) -> None:
        """Stop answering pings."""
        self._set(is_muted=True)

    def end(self) -> None:
        """Answer pings again."""
        self._set(is_muted=False)

    def _set(self, *, is_muted: bool) -> None:
        self.venue.mutes_pings = is_muted
        for session in self.venue.sessions:
            session.wire.mute_pongs = is_muted


class SlowTrickleArgs(Args, frozen=True, kw_only=True):
    """Parameters of ``slow_drip``."""

    bytes_per_s: Annotated[float, Meta(gt=0, description="bytes per second and socket")] = 200.0


class SlowTrickle(Fault[SlowTrickleArgs]):
    """Existing sockets receive a few bytes at a time."""

    name: ClassVar[str] = "slow_drip"
    parameters = SlowTrickleArgs

    def begin(self) -> None:
        """Limit the write rate."""
        for session in self.sessions:
            session.wire.trickle(self.args.bytes_per_s)

    def end(self) -> None:
        """Remove the limit."""
        for session in self.sessions:
            session.wire.trickle(None)


class ShutdownFault(Fault[Args]):
    """Restart of the venue: its announcement, if it has one, then close code 1012 on all sockets."""

    name: ClassVar[str] = "shutdown"

    def begin(self) -> None:
        """Announce the restart and schedule the close."""
        self.venue.schedule.once(self.venue.announce_shutdown(), self._close)

    def _close(self) -> None:
        self.venue.close_all(1012, "service restart", self.peer)
        self.finish()


class AgeCut(Fault[Args]):
    """Sockets of the venue are all closed, as at their maximum age."""

    name: ClassVar[str] = "age_cut"

    def begin(self) -> None:
        """Close the sockets."""
        self.venue.close_all(1001, "connection is too old", self.peer)
        self.finish()
