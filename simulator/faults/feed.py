"""Faults of the data: frames that are lost, that are rubbish, that come twice or out of order."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, ClassVar, Generic, TypeVar

from msgspec import Meta

from simulator.faults.fault import Args, Fault, StreamArgs
from simulator.session import ClientSession, OutgoingFrame
from simulator.venue import SimulatedVenue
from simulator.wire import Frame

__all__ = [
    "CorruptDelta",
    "CountArgs",
    "CrossedBook",
    "DropDelta",
    "DuplicateDelta",
    "FrameFault",
    "Garbage",
    "HugeFrame",
    "InvalidUtf8",
    "ReorderDelta",
    "Stall",
    "StallArgs",
    "WrongSchema",
]

Count = Annotated[int, Meta(ge=1, description="how many, for each subscriber")]

#: Where books are snapshots, losing a delta is a silence that lasts longer than the cadence.
_SILENCE_S = 2.5
_NO_SCHEMA = 99


class StallArgs(StreamArgs, frozen=True, kw_only=True):
    """Parameters of ``stall``."""

    only_open: Annotated[bool, Meta(description="spare those who connect after it began")] = False


class Stall(Fault[StallArgs]):
    """All streams, or one, fall silent; sockets stay open, and acknowledgements, pings and REST go on."""

    name: ClassVar[str] = "stall"
    parameters = StallArgs

    def __init__(self, venue: SimulatedVenue, args: StallArgs, finish: Callable[[], None]) -> None:
        super().__init__(venue, args, finish)
        self._struck: frozenset[ClientSession] | None = None

    def begin(self) -> None:
        """Remember who is there."""
        if self.args.only_open:
            self._struck = frozenset(self.venue.sessions)

    def before_send(self, session: ClientSession, outgoing: OutgoingFrame, frames: list[Frame]) -> list[Frame]:
        """Lose what is concerned."""
        is_struck = self._struck is None or session in self._struck
        return [] if is_struck and self.args.hits(outgoing) else frames


class CountArgs(Args, frozen=True, kw_only=True):
    """Parameters of faults that strike, or send, a number of frames."""

    count: Count = 1


CountArgsT = TypeVar("CountArgsT", bound=CountArgs)


class FrameFault(Fault[CountArgsT], Generic[CountArgsT]):
    """Strikes the next frames of a kind of each subscriber and market, and is over when all have had theirs."""

    #: How many frames it takes to do it once.
    strikes: ClassVar[int] = 1

    def __init__(self, venue: SimulatedVenue, args: CountArgsT, finish: Callable[[], None]) -> None:
        super().__init__(venue, args, finish)
        self._left: dict[tuple[ClientSession, str], int] = {}
        self._held: dict[tuple[ClientSession, str], list[Frame]] = {}
        self._watch = venue.schedule.every(1.0, self._finish_when_spent)

    def end(self) -> None:
        """Strike no more."""
        self._watch.cancel()

    def before_send(self, session: ClientSession, outgoing: OutgoingFrame, frames: list[Frame]) -> list[Frame]:
        """Strike, if it is this one's turn."""
        if not self.concerns(outgoing):
            return frames
        key = (session, outgoing.symbol)
        left = self._left.setdefault(key, self.args.count * self.strikes)
        struck = self.strike(key, frames) if left else None
        if struck is None:
            return frames
        self._left[key] = left - 1
        return struck

    def concerns(self, outgoing: OutgoingFrame) -> bool:
        """Whether a frame is of the kind that is struck."""
        raise NotImplementedError

    def strike(self, key: tuple[ClientSession, str], frames: list[Frame]) -> list[Frame] | None:
        """What goes out instead of a frame; None when this one will not do."""
        raise NotImplementedError

    def swap(self, key: tuple[ClientSession, str], frames: list[Frame]) -> list[Frame]:
        """Hold every other frame until the next has gone."""
        if key not in self._held:
            self._held[key] = frames
            return []
        return frames + self._held.pop(key)

    def _finish_when_spent(self) -> None:
        left = [left for (session, _), left in self._left.items() if session in self.venue.sessions]
        if self._left and not any(left):
            self.finish()


class DeltaArgs(CountArgs, frozen=True, kw_only=True):
    """Parameters of the faults that strike a number of book deltas."""

    symbol: Annotated[str, Meta(description="only this market, as BTC-PERP")] | None = None


class DeltaFault(FrameFault[DeltaArgs]):
    """Strikes book deltas; where books are told in snapshots, the frames of the book take their place."""

    parameters = DeltaArgs

    def concerns(self, outgoing: OutgoingFrame) -> bool:
        """Whether a frame is such a delta."""
        is_delta = outgoing.kind == "delta" if self.venue.has_deltas else outgoing.stream == "book"
        return is_delta and self.args.symbol in {None, outgoing.symbol}


class DropDelta(DeltaFault):
    """The next book deltas of each subscriber are lost on their way; without deltas, the book is silent for a while."""

    name: ClassVar[str] = "drop_delta"

    def begin(self) -> None:
        """Where there are no deltas, be silent for a while instead."""
        if not self.venue.has_deltas:
            self.venue.schedule.once(_SILENCE_S * self.args.count, self.finish)

    def before_send(self, session: ClientSession, outgoing: OutgoingFrame, frames: list[Frame]) -> list[Frame]:
        """Lose it."""
        if self.venue.has_deltas:
            return super().before_send(session, outgoing, frames)
        return [] if self.concerns(outgoing) else frames

    def strike(self, key: tuple[ClientSession, str], frames: list[Frame]) -> list[Frame]:
        """Lose it."""
        del key, frames
        return []


class DuplicateDelta(DeltaFault):
    """The next book deltas of each subscriber come twice."""

    name: ClassVar[str] = "duplicate_delta"

    def strike(self, key: tuple[ClientSession, str], frames: list[Frame]) -> list[Frame]:
        """Say it again."""
        del key
        return frames + frames


class ReorderDelta(DeltaFault):
    """The next book deltas of each subscriber come in pairs, the second one first."""

    name: ClassVar[str] = "reorder_delta"
    strikes: ClassVar[int] = 2

    def strike(self, key: tuple[ClientSession, str], frames: list[Frame]) -> list[Frame]:
        """Hold the first one until the second has gone."""
        return self.swap(key, frames)


class CorruptDelta(DeltaFault):
    """A level in the next book deltas of each subscriber has rubbish for a price."""

    name: ClassVar[str] = "corrupt_delta"

    def strike(self, key: tuple[ClientSession, str], frames: list[Frame]) -> list[Frame] | None:
        """Spoil it, if it has a level."""
        del key
        spoilt = [self.venue.corrupt(frame) for frame in frames]
        return None if None in spoilt else [frame for frame in spoilt if frame is not None]


class CrossedBook(DeltaFault):
    """The next book deltas of each subscriber tell of a bid above the best ask, which the venue's own book has not."""

    name: ClassVar[str] = "crossed_book"

    def strike(self, key: tuple[ClientSession, str], frames: list[Frame]) -> list[Frame] | None:
        """Add the bid, if there is an ask to cross."""
        market = self.venue.markets[key[1]]
        ask = market.asks.best()
        return None if ask is None else [self.venue.with_bid(market, frame, ask[0] + 5, ask[1]) for frame in frames]


class Garbage(Fault[CountArgs]):
    """Every subscriber gets frames that cannot be decoded."""

    name: ClassVar[str] = "garbage"
    parameters = CountArgs

    def begin(self) -> None:
        """Send them."""
        for session in list(self.venue.sessions):
            for _ in range(self.args.count):
                session.send(self.venue.garbage(session))
        self.finish()


class OneFrameArgs(Args, frozen=True, kw_only=True):
    """Parameters of faults that send a frame to every subscriber."""

    size: Annotated[int, Meta(ge=0, le=64 * 2**20, description="bytes of payload")] = 20 * 2**20


class HugeFrame(Fault[OneFrameArgs]):
    """Every subscriber gets one text frame that is far too large."""

    name: ClassVar[str] = "huge_frame"
    parameters = OneFrameArgs

    def begin(self) -> None:
        """Send it."""
        frame = Frame(b'"' + b"x" * self.args.size + b'"')
        for session in list(self.venue.sessions):
            session.send(frame)
        self.finish()


class InvalidUtf8(Fault[CountArgs]):
    """Every subscriber gets text frames that are no UTF-8."""

    name: ClassVar[str] = "invalid_utf8"
    parameters = CountArgs

    def begin(self) -> None:
        """Send them."""
        for session in list(self.venue.sessions):
            for _ in range(self.args.count):
                session.send(Frame(b'{"channel":"\xff\xfe"}'))
        self.finish()


class WrongSchema(Fault[StreamArgs]):
    """Binary frames name a schema that nobody knows."""

    name: ClassVar[str] = "wrong_schema"
    venues: ClassVar[tuple[str, ...]] = ("paradex",)
    parameters = StreamArgs

    def before_send(self, session: ClientSession, outgoing: OutgoingFrame, frames: list[Frame]) -> list[Frame]:
        """Change the schema in the header."""
        del session
        if not self.args.hits(outgoing):
            return frames
        return [_with_schema(frame, _NO_SCHEMA) if frame.is_binary else frame for frame in frames]


def _with_schema(frame: Frame, schema: int) -> Frame:
    """A binary frame with another schema id, which are its bytes 4 and 5."""
    return Frame(frame.payload[:4] + schema.to_bytes(2, "little") + frame.payload[6:], is_binary=True)
