"""Faults of those who connect: TLS that never answers, or shows a certificate that nobody should trust."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from msgspec import Meta

from simulator.faults.fault import Args, Fault
from simulator.listener import AcceptMode

__all__ = ["TlsBadCertificate", "TlsExpired", "TlsHang"]


class ReceptionArgs(Args, frozen=True, kw_only=True):
    """Parameters of faults that strike those who connect."""

    port: Annotated[Literal["ws", "rest", "both"], Meta(description="only those who connect here")] = "both"
    cut: Annotated[bool, Meta(description="drop existing WebSocket connections, so that all connect anew")] = False


class BadReception(Fault[ReceptionArgs]):
    """Those who connect while it lasts are received badly; connections that stand go on."""

    parameters = ReceptionArgs
    accept_mode: ClassVar[AcceptMode]

    def begin(self) -> None:
        """Receive newcomers so."""
        self._settle()
        if self.args.cut:
            for session in list(self.venue.sessions):
                session.wire.abort()

    def end(self) -> None:
        """Receive them as before."""
        self._settle()

    def _settle(self) -> None:
        """On each port, the youngest of these faults that are at work decides."""
        for port, listener in self.venue.listeners.items():
            bad = [hook for hook in self.venue.hooks if isinstance(hook, BadReception)]
            here = [fault.accept_mode for fault in bad if fault.args.port in {port, "both"}]
            listener.accept_mode = here[-1] if here else AcceptMode.NORMAL


class TlsHang(BadReception):
    """New connections are accepted in TCP and hear nothing more: no TLS handshake, nor anything else without TLS."""

    name: ClassVar[str] = "tls_hang"
    accept_mode = AcceptMode.SILENT


class TlsBadCertificate(BadReception):
    """New connections are shown a certificate of an authority that nobody knows."""

    name: ClassVar[str] = "tls_bad_certificate"
    needs_tls: ClassVar[bool] = True
    accept_mode = AcceptMode.UNKNOWN_AUTHORITY


class TlsExpired(BadReception):
    """New connections are shown a certificate that has expired."""

    name: ClassVar[str] = "tls_expired"
    needs_tls: ClassVar[bool] = True
    accept_mode = AcceptMode.EXPIRED
