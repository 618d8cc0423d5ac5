"""What a fault is: a name, parameters, a beginning, an end, and hooks where frames and requests pass."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, ClassVar, Generic, Self, TypeVar

from msgspec import Meta, Struct

from simulator.rest import HttpRequest, HttpResponse
from simulator.session import ClientSession, OutgoingFrame
from simulator.venue import SimulatedVenue
from simulator.wire import Frame, Upgrade, UpgradeRefusal

__all__ = ["Args", "Duration", "Fault", "StreamArgs"]

Duration = Annotated[float, Meta(gt=0, description="seconds; without it until cleared")]


class Args(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The parameters that every fault has."""

    duration_s: Duration | None = None


class StreamArgs(Args, frozen=True, kw_only=True):
    """Parameters of a fault that can be confined to some data."""

    stream: Annotated[str, Meta(description="only this stream: book, bbo, trade, mark, …")] | None = None
    symbol: Annotated[str, Meta(description="only this market, as BTC-PERP")] | None = None

    def hits(self, outgoing: OutgoingFrame) -> bool:
        """Whether the fault is about this data."""
        return self.stream in {None, outgoing.stream} and self.symbol in {None, outgoing.symbol}


ArgsT = TypeVar("ArgsT", bound=Args)


class Fault(Generic[ArgsT]):
    """Something that goes wrong on purpose at one venue; the first line of a subclass's docstring describes it.

    Attributes:
        parameters: The type of ``args``.
        venue: Where it happens.
        args: What was asked for.
        finish: To be called when the fault is over before its time.
    """

    name: ClassVar[str]
    parameters: ClassVar[type[Args]] = Args
    #: The venues where it can happen; empty: all.
    venues: ClassVar[tuple[str, ...]] = ()
    #: Whether it can happen only where the venues speak TLS.
    needs_tls: ClassVar[bool] = False

    def __init__(self, venue: SimulatedVenue, args: ArgsT, finish: Callable[[], None]) -> None:
        self.venue = venue
        self.args = args
        self.finish = finish

    @property
    def others(self) -> list[Self]:
        """The other faults of this kind that are at work at the venue; they want what this one's end would undo."""
        return [hook for hook in self.venue.hooks if isinstance(hook, type(self)) and hook is not self]

    def begin(self) -> None:
        """Do what is done at once."""

    def end(self) -> None:
        """Undo what can be undone."""

    def before_send(self, session: ClientSession, outgoing: OutgoingFrame, frames: list[Frame]) -> list[Frame]:
        """What goes out instead of ``frames``."""
        del session, outgoing
        return frames

    def on_upgrade(self, upgrade: Upgrade) -> UpgradeRefusal | None:
        """A refusal for someone who connects."""
        del upgrade
        return None

    def before_answer(self, request: HttpRequest) -> HttpResponse | None:
        """An answer in place of the venue's own."""
        del request
        return None

    def after_answer(self, request: HttpRequest, response: HttpResponse) -> HttpResponse:
        """What goes out instead of ``response``."""
        del request
        return response
