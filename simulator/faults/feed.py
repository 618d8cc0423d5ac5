"""Faults of data frames: lost, corrupted, repeated or reordered."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, ClassVar, Generic, TypeVar

from msgspec import Meta

from simulator.faults.fault import Args, Fault, StreamArgs
from simulator.session import ClientSession, OutgoingFrame
from simulator.venue import SimulatedVenue
from simulator.wire import Frame

Count = Annotated[int, Meta(ge=1, description="number per subscriber")]

#: Where books are sent as snapshots, a lost delta is a silence longer than the cadence.
_SILENCE_S = 2.5
_UNKNOWN_SCHEMA = 99


class StallArgs(StreamArgs, frozen=True, kw_only=True):
    """Parameters of ``stall``."""

    only_open: Annotated[bool, Meta(description="spare later connections")] = False


class Stall(Fault[StallArgs]):
    """Streams are silent, all or one; sockets, acknowledgements, pings and REST continue."""

    name: ClassVar[str] = "stall"
    parameters = StallArgs

    def __init__(self, venue: SimulatedVenue, args: StallArgs, finish: Callable[[], None]) -> None:
        super().__init__(venue, args, finish)
        self._affected: frozenset[ClientSession] | None = None

    def begin(self) -> None:
        """Record the existing connections."""
        if self.args.only_open:
            self._affected = frozenset(self.sessions)

    def before_send(self, session: ClientSession, outgoing: OutgoingFrame, frames: list[Frame]) -> list[Frame]:
        """Drop frames of affected streams."""
        is_affected = self._affected is None or session in self._affected
        return [] if is_affected and self.args.applies_to(outgoing) else frames


class CountArgs(Args, frozen=True, kw_only=True):
    """Parameters of faults that change, or send, a number of frames."""

    count: Count = 1


CountArgsT = TypeVar("CountArgsT", bound=CountArgs)


class FrameFault(Fault[CountArgsT], Generic[CountArgsT]):
    """Base of faults that change the next frames of each subscriber and market, then end."""

    #: Frames consumed by one change.
    frames_per_change: ClassVar[int] = 1

    def __init__(self, venue: SimulatedVenue, args: CountArgsT, finish: Callable[[], None]) -> None:
        super().__init__(venue, args, finish)
        #: Frames still to change.
        self._left: dict[tuple[ClientSession, str], int] = {}
        #: Frames held back by :meth:`swap`.
        self._held: dict[tuple[ClientSession, str], list[Frame]] = {}
        self._completion_check = venue.schedule.every(1.0, self._finish_when_spent)

    def end(self) -> None:
        """Stop checking for completion."""
        self._completion_check.cancel()

    def before_send(self, session: ClientSession, outgoing: OutgoingFrame, frames: list[Frame]) -> list[Frame]:
        """Apply the fault to a frame if any are left to change."""
        if not self.matches(outgoing):
            return frames
        key = (session, outgoing.symbol)
        left = self._left.setdefault(key, self.args.count * self.frames_per_change)
        replacement = self.change(key, frames) if left else None
        if replacement is None:
            return frames
        self._left[key] = left - 1
        return replacement

    def matches(self, outgoing: OutgoingFrame) -> bool:
        """Return whether the fault applies to this kind of frame."""
        raise NotImplementedError

    def change(self, key: tuple[ClientSession, str], frames: list[Frame]) -> list[Frame] | None:
        """Return the frames to send instead; None if this frame is not suitable."""
        raise NotImplementedError

    def swap(self, key: tuple[ClientSession, str], frames: list[Frame]) -> list[Frame]:
        """Hold back every other frame until the next is sent."""
        if key not in self._held:
            self._held[key] = frames
            return []
        return frames + self._held.pop(key)

    def _finish_when_spent(self) -> None:
        left = [left for (session, _), left in self._left.items() if session in self.venue.sessions]
        if self._left and not any(left):
            self.finish()


class DeltaArgs(CountArgs, frozen=True, kw_only=True):
    """Parameters of faults that change a number of book deltas."""

    symbol: Annotated[str, Meta(description="only this market, as BTC-PERP")] | None = None


class DeltaFault(FrameFault[DeltaArgs]):
    """Base of faults of book deltas; where books are sent as snapshots, of book frames."""

    parameters = DeltaArgs

    def matches(self, outgoing: OutgoingFrame) -> bool:
        """Return whether a frame is such a delta."""
        is_delta = outgoing.kind == "delta" if self.venue.has_deltas else outgoing.stream == "book"
        return is_delta and self.args.symbol in {None, outgoing.symbol}


class DropDelta(DeltaFault):
    """Each subscriber loses its next book deltas; without deltas, the book is silent for a while."""

    name: ClassVar[str] = "drop_delta"

    def begin(self) -> None:
        """Schedule the end of the silence where there are no deltas."""
        if not self.venue.has_deltas:
            self.venue.schedule.once(_SILENCE_S * self.args.count, self.finish)

    def before_send(self, session: ClientSession, outgoing: OutgoingFrame, frames: list[Frame]) -> list[Frame]:
        """Drop the frames."""
        if self.venue.has_deltas:
            return super().before_send(session, outgoing, frames)
        return [] if self.matches(outgoing) else frames

    def change(self, _key: tuple[ClientSession, str], _frames: list[Frame]) -> list[Frame]:
        """Drop the frames."""
        return []


class DuplicateDelta(DeltaFault):
    """Each subscriber gets its next book deltas twice."""

    name: ClassVar[str] = "duplicate_delta"

    def change(self, _key: tuple[ClientSession, str], frames: list[Frame]) -> list[Frame]:
        """Send the frames twice."""
        return frames + frames


class ReorderDelta(DeltaFault):
    """Each subscriber gets its next book deltas in swapped pairs."""

    name: ClassVar[str] = "reorder_delta"
    frames_per_change: ClassVar[int] = 2

    def change(self, key: tuple[ClientSession, str], frames: list[Frame]) -> list[Frame]:
        """Hold the first frame back until the second is sent."""
        return self.swap(key, frames)


class CorruptDelta(DeltaFault):
    """Each subscriber's next book deltas have an invalid price."""

    name: ClassVar[str] = "corrupt_delta"

    def change(self, _key: tuple[ClientSession, str], frames: list[Frame]) -> list[Frame] | None:
        """Corrupt the frames if they have levels."""
        corrupted = [self.venue.corrupt(frame) for frame in frames]
        return None if None in corrupted else [frame for frame in corrupted if frame is not None]


class CrossedBook(DeltaFault):
    """Each subscriber's next book deltas have a bid above the best ask, which the true book does not have."""

    name: ClassVar[str] = "crossed_book"

    def change(self, key: tuple[ClientSession, str], frames: list[Frame]) -> list[Frame] | None:
        """Add the bid if there is an ask to cross."""
        market = self.venue.markets[key[1]]
        ask = market.asks.best()
        return None if ask is None else [self.venue.with_bid(market, frame, ask[0] + 5, ask[1]) for frame in frames]


class Garbage(Fault[CountArgs]):
    """Every client gets frames that cannot be decoded."""

    name: ClassVar[str] = "garbage"
    parameters = CountArgs

    def begin(self) -> None:
        """Send the frames."""
        for session in self.sessions:
            for _ in range(self.args.count):
                session.send(self.venue.garbage(session))
        self.finish()


class OneFrameArgs(Args, frozen=True, kw_only=True):
    """Parameters of faults that send a frame to every client."""

    size: Annotated[int, Meta(ge=0, le=64 * 2**20, description="bytes of payload")] = 20 * 2**20


class HugeFrame(Fault[OneFrameArgs]):
    """Every client gets one text frame that is far too large."""

    name: ClassVar[str] = "huge_frame"
    parameters = OneFrameArgs

    def begin(self) -> None:
        """Send the frame."""
        frame = Frame(b'"' + b"x" * self.args.size + b'"')
        for session in self.sessions:
            session.send(frame)
        self.finish()


class InvalidUtf8(Fault[CountArgs]):
    """Every client gets text frames that are not UTF-8."""

    name: ClassVar[str] = "invalid_utf8"
    parameters = CountArgs

    def begin(self) -> None:
        """Send the frames."""
        for session in self.sessions:
            for _ in range(self.args.count):
                session.send(Frame(b'{"channel":"\xff\xfe"}'))
        self.finish()


class WrongSchema(Fault[StreamArgs]):
    """Binary frames have an unknown schema id."""

    name: ClassVar[str] = "wrong_schema"
    venues: ClassVar[tuple[str, ...]] = ("paradex",)
    parameters = StreamArgs

    def before_send(self, _session: ClientSession, outgoing: OutgoingFrame, frames: list[Frame]) -> list[Frame]:
        """Change the schema in the header."""
        if not self.args.applies_to(outgoing):
            return frames
        return [_with_schema(frame, _UNKNOWN_SCHEMA) if frame.is_binary else frame for frame in frames]


def _with_schema(frame: Frame, schema: int) -> Frame:
    """Return a binary frame with another schema id (bytes 4 and 5)."""
    return Frame(frame.payload[:4] + schema.to_bytes(2, "little") + frame.payload[6:], is_binary=True)
