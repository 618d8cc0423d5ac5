"""Faults of new connections: TLS that never answers, or presents an invalid certificate."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from msgspec import Meta, field

from simulator.faults.fault import Args, Fault
from simulator.listener import AcceptMode


class AcceptArgs(Args, frozen=True, kw_only=True):
    """Parameters of faults of new connections."""

    port: Annotated[Literal["ws", "rest", "both"], Meta(description="only connections to this port")] = "both"
    reconnect: Annotated[bool, Meta(description="drop existing WebSocket connections, so that all reconnect")] = field(
        default=False, name="cut"
    )


class AcceptFault(Fault[AcceptArgs]):
    """Base of faults that accept new connections in a faulty way; established ones continue."""

    parameters = AcceptArgs
    can_have_peer: ClassVar[bool] = False
    accept_mode: ClassVar[AcceptMode]

    def begin(self) -> None:
        """Apply the accept mode, and drop existing connections on request."""
        self._apply()
        if self.args.reconnect:
            self.venue.abort_all()

    def end(self) -> None:
        """Restore the previous accept mode."""
        self._apply()

    def _apply(self) -> None:
        """Set each port to the mode of the latest active fault."""
        for port, listener in self.venue.listeners.items():
            active = [hook for hook in self.venue.hooks if isinstance(hook, AcceptFault)]
            modes = [fault.accept_mode for fault in active if fault.args.port in {port, "both"}]
            listener.accept_mode = modes[-1] if modes else AcceptMode.NORMAL


class TlsHang(AcceptFault):
    """New connections are accepted in TCP but never get a byte: no TLS handshake, no response."""

    name: ClassVar[str] = "tls_hang"
    accept_mode = AcceptMode.SILENT


class TlsBadCertificate(AcceptFault):
    """New connections get a TLS certificate of an unknown authority."""

    name: ClassVar[str] = "tls_bad_certificate"
    needs_tls: ClassVar[bool] = True
    accept_mode = AcceptMode.UNKNOWN_AUTHORITY


class TlsExpired(AcceptFault):
    """New connections get an expired TLS certificate."""

    name: ClassVar[str] = "tls_expired"
    needs_tls: ClassVar[bool] = True
    accept_mode = AcceptMode.EXPIRED
