"""Base class of faults: name, parameters, begin and end, and hooks for frames, connections and requests."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, ClassVar, Generic, Self, TypeVar

from msgspec import Meta, Struct

from simulator.session import ClientSession, FaultHook, OutgoingFrame
from simulator.venue import SimulatedVenue

Duration = Annotated[float, Meta(gt=0, description="seconds; default: until cleared")]


class Args(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Parameters of every fault."""

    duration_s: Duration | None = None
    peer: Annotated[str, Meta(description="only clients of this IP address")] | None = None


class StreamArgs(Args, frozen=True, kw_only=True):
    """Parameters of a fault that can be limited to some data."""

    stream: Annotated[str, Meta(description="only this stream: book, bbo, trade, mark, …")] | None = None
    symbol: Annotated[str, Meta(description="only this market, as BTC-PERP")] | None = None

    def applies_to(self, outgoing: OutgoingFrame) -> bool:
        """Return whether the fault applies to a frame."""
        return self.stream in {None, outgoing.stream} and self.symbol in {None, outgoing.symbol}


ArgsT = TypeVar("ArgsT", bound=Args)


class Fault(FaultHook, Generic[ArgsT]):
    """Injected failure of one venue; the first line of a subclass's docstring is its description in the admin API.

    Attributes:
        parameters: Type of ``args``.
        venue: Affected venue.
        args: Parameters of this injection.
        finish: Ends the fault before its duration.
    """

    name: ClassVar[str]
    parameters: ClassVar[type[Args]] = Args
    #: Supported venues; empty: all.
    venues: ClassVar[tuple[str, ...]] = ()
    #: Whether it requires venues with TLS.
    needs_tls: ClassVar[bool] = False
    #: Whether it can strike the clients of one IP address alone.
    can_have_peer: ClassVar[bool] = True

    def __init__(self, venue: SimulatedVenue, args: ArgsT, finish: Callable[[], None]) -> None:
        self.venue = venue
        self.args = args
        self.finish = finish
        self.peer = args.peer

    @property
    def others(self) -> list[Self]:
        """Return the venue's other active faults of this kind, which this one's end must not undo."""
        return [hook for hook in self.venue.hooks if isinstance(hook, type(self)) and hook is not self]

    @property
    def sessions(self) -> list[ClientSession]:
        """Return the connections that it strikes."""
        return self.venue.sessions_of(self.peer)

    def begin(self) -> None:
        """Start the fault."""

    def end(self) -> None:
        """Undo the fault where possible."""
