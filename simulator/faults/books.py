"""Faults of books: one that falls mute, whole books with wrong levels, ids that restart, a market that runs thin."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from copy import copy
from dataclasses import replace
from decimal import Decimal
from typing import Annotated, Any, ClassVar, Final, Literal, TypeAlias

import msgspec
from msgspec import Meta

from simulator.faults.fault import Args, Fault, StreamArgs
from simulator.faults.feed import Count
from simulator.rest import HttpRequest, HttpResponse
from simulator.session import ClientSession, OutgoingFrame
from simulator.venue import Levels, SimulatedVenue
from simulator.wire import Frame

__all__ = ["BadBook", "Exponents", "Flaw", "MuteBook", "RestartIds", "ThinMarket"]

Flaw: TypeAlias = Literal["unsorted", "doubled", "zero_size", "negative", "not_decimal"]


class OneMarketArgs(Args, frozen=True, kw_only=True):
    """Parameters of a fault of one market."""

    symbol: (
        Annotated[str, Meta(description="which market, as BTC-PERP; without it the first that is traded")] | None
    ) = None


class MuteBook(Fault[OneMarketArgs]):
    """The book of one market falls silent until a whole one is asked for; the market moves on, and REST tells it."""

    name: ClassVar[str] = "mute_book"
    parameters = OneMarketArgs

    def __init__(self, venue: SimulatedVenue, args: OneMarketArgs, finish: Callable[[], None]) -> None:
        super().__init__(venue, args, finish)
        self._symbol = args.symbol or venue.first_live().listing.symbol
        self._cured: set[ClientSession] = set()

    def before_send(self, session: ClientSession, outgoing: OutgoingFrame, frames: list[Frame]) -> list[Frame]:
        """Lose what is told of the book, until its subscriber has asked for it once more.

        Where every frame is a whole book that shows in nothing, and where none is it is asked for over REST: there the
        silence lasts as long as the fault.
        """
        if (outgoing.stream, outgoing.symbol) != ("book", self._symbol):
            return frames
        if self.venue.has_deltas and outgoing.kind == "snapshot":
            self._cured.add(session)
        return frames if session in self._cured else []


class BadBookArgs(Args, frozen=True, kw_only=True):
    """Parameters of ``bad_book``."""

    stream: Annotated[Literal["book", "book20"], Meta(description="which book")] = "book"
    symbol: Annotated[str, Meta(description="only this market, as BTC-PERP")] | None = None
    flaw: Annotated[Flaw, Meta(description="what is wrong with the bids")] = "unsorted"
    count: Count = 1


def _unsort(levels: Levels) -> None:
    levels.rows[0], levels.rows[1] = levels.rows[1], levels.rows[0]


def _double(levels: Levels) -> None:
    """Repeat the best price, spelt differently where it is text."""
    level = copy(levels.rows[0])
    price = level[levels.price]
    if isinstance(price, str):
        level[levels.price] = price + ("0" if "." in price else ".0")
    levels.rows.insert(1, level)


def _empty(levels: Levels) -> None:
    levels.rows[1][levels.size] = levels.zero


def _negate(levels: Levels) -> None:
    levels.rows[1][levels.size] = levels.negative


def _garble(levels: Levels) -> None:
    levels.rows[1][levels.price] = levels.none


#: All behind the best level, which alone many clients look at.
_FLAWS: Final[Mapping[Flaw, Callable[[Levels], None]]] = {
    "unsorted": _unsort,
    "doubled": _double,
    "zero_size": _empty,
    "negative": _negate,
    "not_decimal": _garble,
}


class BadBook(Fault[BadBookArgs]):
    """The next whole book of each market has a wrong level; where the venue sends changes, one is lost to cause it."""

    name: ClassVar[str] = "bad_book"
    parameters = BadBookArgs

    def __init__(self, venue: SimulatedVenue, args: BadBookArgs, finish: Callable[[], None]) -> None:
        super().__init__(venue, args, finish)
        self._left: dict[str, int] = {}
        self._watch = venue.schedule.every(1.0, self._finish_when_spent)

    def end(self) -> None:
        """Strike no more."""
        self._watch.cancel()

    def before_send(self, session: ClientSession, outgoing: OutgoingFrame, frames: list[Frame]) -> list[Frame]:
        """Spoil a whole book, or lose the first change, so that one is asked for."""
        del session
        if outgoing.stream != self.args.stream or self.args.symbol not in {None, outgoing.symbol}:
            return frames
        if outgoing.kind == "delta":
            is_first = outgoing.symbol not in self._left
            self._left.setdefault(outgoing.symbol, self.args.count)
            return [] if is_first else frames
        return [self._spoil(outgoing.symbol, frame) for frame in frames]

    def after_answer(self, request: HttpRequest, response: HttpResponse) -> HttpResponse:
        """Spoil the book with which clients of the stream begin, if that is had over REST."""
        market = self.venue.find(request.param("symbol") or "")
        is_book = bool(self.venue.first_book) and request.path.endswith(self.venue.first_book)
        if not is_book or market is None or response.status != 200:
            return response
        symbol = market.listing.symbol
        if symbol not in self._left:
            return response
        return replace(response, body=self._spoil(symbol, Frame(response.body)).payload)

    def _spoil(self, symbol: str, frame: Frame) -> Frame:
        left = self._left.setdefault(symbol, self.args.count)
        if not left:
            return frame

        def edit(levels: Levels) -> None:
            if len(levels.rows) > 1:  # a thin book may have one, which must do for the next
                self._left[symbol] = left - 1
                _FLAWS[self.args.flaw](levels)

        return self.venue.edit_bids(frame, edit)

    def _finish_when_spent(self) -> None:
        if self._left and not any(self._left.values()):
            self.finish()


class Exponents(Fault[StreamArgs]):
    """Prices and sizes of books are written with exponents, as 8.1E+4 and 1E-7, which are good numbers."""

    name: ClassVar[str] = "exponents"
    parameters = StreamArgs

    def before_send(self, session: ClientSession, outgoing: OutgoingFrame, frames: list[Frame]) -> list[Frame]:
        """Write them so; binary frames have no spelling."""
        del session
        if outgoing.stream not in {"book", "book20", "bbo"} or not self.args.hits(outgoing):
            return frames
        return [frame if frame.is_binary else self._written(frame) for frame in frames]

    def _written(self, frame: Frame) -> Frame:
        return self.venue.text(_with_exponents(msgspec.json.decode(frame.payload)))


#: Text that is a number in book frames, but no price or size.
_NO_NUMBERS: Final = frozenset({"channel", "m", "d", "s", "n", "coin", "market", "symbol"})


def _with_exponents(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: one if name in _NO_NUMBERS else _with_exponents(one) for name, one in value.items()}
    if isinstance(value, list):
        return [_with_exponents(one) for one in value]
    if isinstance(value, str) and value.replace(".", "", 1).isdecimal():
        return f"{Decimal(value).normalize():E}"
    return value


class RestartIds(Fault[Args]):
    """The ids of book updates restart from a low number, as after a restart of the engine; connections stay."""

    name: ClassVar[str] = "restart_ids"
    venues: ClassVar[tuple[str, ...]] = ("aster", "extended", "lighter", "paradex")

    def begin(self) -> None:
        """Restart them."""
        self.venue.restart_ids()
        self.finish()


class ThinMarket(Fault[OneMarketArgs]):
    """A market runs thin: a side of its book has two to five levels, on the stream, over REST and in truth."""

    name: ClassVar[str] = "thin_market"
    parameters = OneMarketArgs

    def __init__(self, venue: SimulatedVenue, args: OneMarketArgs, finish: Callable[[], None]) -> None:
        super().__init__(venue, args, finish)
        self.market = venue.first_live() if args.symbol is None else venue.markets[args.symbol]

    def begin(self) -> None:
        """Let levels go with the next step."""
        self.market.is_thin = True

    def end(self) -> None:
        """Let them come back, unless another fault wants otherwise."""
        is_wanted = any(other.market is self.market for other in self.others)
        self.market.is_thin = is_wanted or self.market.listing.contract.is_thin
