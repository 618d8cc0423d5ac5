"""Listening ports of a venue, as faults see them: open, closed, or accepting clients in a faulty way."""

from __future__ import annotations

from enum import Enum, auto
from typing import Literal, Protocol, TypeAlias

Port: TypeAlias = Literal["ws", "rest"]


class AcceptMode(Enum):
    """Treatment of new connections by a port."""

    NORMAL = auto()
    #: Accept in TCP, then never send a byte.
    SILENT = auto()
    #: Present a TLS certificate of an unknown authority.
    UNKNOWN_AUTHORITY = auto()
    #: Present an expired TLS certificate.
    EXPIRED = auto()


class VenueListener(Protocol):
    """Port of a venue.

    Attributes:
        accept_mode: How new connections are treated.
    """

    accept_mode: AcceptMode

    def shut(self) -> None:
        """Refuse connections at the TCP level."""

    def open(self) -> None:
        """Accept connections again, on the same port."""
