"""Faults of books: a silent book, invalid levels, exponents, ids that restart, a thin market."""

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

Flaw: TypeAlias = Literal["unsorted", "doubled", "zero_size", "negative", "not_decimal"]


class OneMarketArgs(Args, frozen=True, kw_only=True):
    """Parameters of a fault of one market."""

    symbol: Annotated[str, Meta(description="market, as BTC-PERP; default: the first live one")] | None = None


class MuteBook(Fault[OneMarketArgs]):
    """Book stream of one market is silent until a snapshot is requested; the market moves on, visible over REST."""

    name: ClassVar[str] = "mute_book"
    parameters = OneMarketArgs

    def __init__(self, venue: SimulatedVenue, args: OneMarketArgs, finish: Callable[[], None]) -> None:
        super().__init__(venue, args, finish)
        self._symbol = args.symbol or venue.first_live().listing.symbol
        self._recovered: set[ClientSession] = set()

    def before_send(self, session: ClientSession, outgoing: OutgoingFrame, frames: list[Frame]) -> list[Frame]:
        """Drop book frames until their subscriber gets a new snapshot.

        Where every frame is a snapshot, or snapshots come from REST, the silence lasts as long as the fault.
        """
        if (outgoing.stream, outgoing.symbol) != ("book", self._symbol):
            return frames
        if self.venue.has_deltas and outgoing.kind == "snapshot":
            self._recovered.add(session)
        return frames if session in self._recovered else []


class BadBookArgs(Args, frozen=True, kw_only=True):
    """Parameters of ``bad_book``."""

    stream: Annotated[Literal["book", "book20"], Meta(description="book channel")] = "book"
    symbol: Annotated[str, Meta(description="only this market, as BTC-PERP")] | None = None
    flaw: Annotated[Flaw, Meta(description="error in the bids")] = "unsorted"
    count: Count = 1


def _unsort(levels: Levels) -> None:
    levels.rows[0], levels.rows[1] = levels.rows[1], levels.rows[0]


def _double(levels: Levels) -> None:
    """Repeat the best price, in another notation if it is text."""
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


#: All below the best level, since many clients check only that one.
_FLAWS: Final[Mapping[Flaw, Callable[[Levels], None]]] = {
    "unsorted": _unsort,
    "doubled": _double,
    "zero_size": _empty,
    "negative": _negate,
    "not_decimal": _garble,
}


class BadBook(Fault[BadBookArgs]):
    """Next snapshot of each market has an invalid level; where the venue sends deltas, one is lost to trigger it."""

    name: ClassVar[str] = "bad_book"
    parameters = BadBookArgs

    def __init__(self, venue: SimulatedVenue, args: BadBookArgs, finish: Callable[[], None]) -> None:
        super().__init__(venue, args, finish)
        self._left: dict[str, int] = {}
        self._completion_check = venue.schedule.every(1.0, self._finish_when_spent)

    def end(self) -> None:
        """Stop checking for completion."""
        self._completion_check.cancel()

    def before_send(self, _session: ClientSession, outgoing: OutgoingFrame, frames: list[Frame]) -> list[Frame]:
        """Corrupt a snapshot; drop the first delta so that clients request one."""
        if outgoing.stream != self.args.stream or self.args.symbol not in {None, outgoing.symbol}:
            return frames
        if outgoing.kind == "delta":
            is_first = outgoing.symbol not in self._left
            self._left.setdefault(outgoing.symbol, self.args.count)
            return [] if is_first else frames
        return [self._corrupt(outgoing.symbol, frame) for frame in frames]

    def after_answer(self, request: HttpRequest, response: HttpResponse) -> HttpResponse:
        """Corrupt the REST book that clients of the stream start from."""
        market = self.venue.find(request.param("symbol") or "")
        is_book = bool(self.venue.first_book) and request.path.endswith(self.venue.first_book)
        if not is_book or market is None or response.status != 200:
            return response
        symbol = market.listing.symbol
        if symbol not in self._left:
            return response
        return replace(response, body=self._corrupt(symbol, Frame(response.body)).payload)

    def _corrupt(self, symbol: str, frame: Frame) -> Frame:
        left = self._left.setdefault(symbol, self.args.count)
        if not left:
            return frame

        def edit(levels: Levels) -> None:
            if len(levels.rows) > 1:  # a thin book may have one; wait for the next
                self._left[symbol] = left - 1
                _FLAWS[self.args.flaw](levels)

        return self.venue.edit_bids(frame, edit)

    def _finish_when_spent(self) -> None:
        if self._left and not any(self._left.values()):
            self.finish()


class Exponents(Fault[StreamArgs]):
    """Prices and sizes of books have exponents, as 8.1E+4 and 1E-7, which are valid numbers."""

    name: ClassVar[str] = "exponents"
    parameters = StreamArgs

    def before_send(self, _session: ClientSession, outgoing: OutgoingFrame, frames: list[Frame]) -> list[Frame]:
        """Rewrite text frames; binary frames have no notation."""
        if outgoing.stream not in {"book", "book20", "bbo"} or not self.args.applies_to(outgoing):
            return frames
        return [frame if frame.is_binary else self._rewritten(frame) for frame in frames]

    def _rewritten(self, frame: Frame) -> Frame:
        return self.venue.text(_with_exponents(msgspec.json.decode(frame.payload)))


#: Numeric text fields of book frames that are not prices or sizes.
_OTHER_FIELDS: Final = frozenset({"channel", "m", "d", "s", "n", "coin", "market", "symbol"})


def _with_exponents(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: one if name in _OTHER_FIELDS else _with_exponents(one) for name, one in value.items()}
    if isinstance(value, list):
        return [_with_exponents(one) for one in value]
    if isinstance(value, str) and value.replace(".", "", 1).isdecimal():
        return f"{Decimal(value).normalize():E}"
    return value


class RestartIds(Fault[Args]):
    """Ids of book updates restart from a low number, as after a restart of the engine; connections stay."""

    name: ClassVar[str] = "restart_ids"
    can_have_peer: ClassVar[bool] = False
    venues: ClassVar[tuple[str, ...]] = ("aster", "extended", "lighter", "paradex")

    def begin(self) -> None:
        """Restart the ids."""
        self.venue.restart_ids()
        self.finish()


class ThinMarket(Fault[OneMarketArgs]):
    """Thin market: each side of its book really has two to five levels, on the stream and over REST."""

    name: ClassVar[str] = "thin_market"
    can_have_peer: ClassVar[bool] = False
    parameters = OneMarketArgs

    def __init__(self, venue: SimulatedVenue, args: OneMarketArgs, finish: Callable[[], None]) -> None:
        super().__init__(venue, args, finish)
        self.market = venue.first_live() if args.symbol is None else venue.markets[args.symbol]

    def begin(self) -> None:
        """Remove levels at the next step."""
        self.market.is_thin = True

    def end(self) -> None:
        """Restore the levels, unless another such fault is active."""
        is_still_thin = any(other.market is self.market for other in self.others)
        self.market.is_thin = is_still_thin or self.market.listing.contract.is_thin
