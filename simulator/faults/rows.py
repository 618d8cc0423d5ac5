"""Faults of single values: an invalid row among valid ones, unknown states, fractional intervals, flat errors.

Clients must skip what they cannot parse and keep the rest.
"""

from __future__ import annotations

import re
from dataclasses import replace
from itertools import cycle
from typing import Annotated, Any, ClassVar, Final, Generic, Literal

import msgspec
from msgspec import Meta

from simulator.faults.fault import Args, ArgsT, Fault, StreamArgs
from simulator.rest import HttpRequest, HttpResponse
from simulator.session import ClientSession, OutgoingFrame, decoded
from simulator.venue import SimulatedVenue
from simulator.wire import Frame

#: Levels of a book are not rows.
_BOOKS: Final = frozenset({"book", "book20", "bbo"})
_BOOK_PATH: Final = re.compile(r"/(depth|orderBookOrders|orderbook|bbo)(/|$)")
_RUBBISH: Final = "rubbish"


class InvalidRowFault(Fault[StreamArgs]):
    """Each list contains an invalid row among valid ones: trades, fills, orders, markets, funding."""

    name: ClassVar[str] = "invalid_row"
    parameters = StreamArgs

    def before_send(self, _session: ClientSession, outgoing: OutgoingFrame, frames: list[Frame]) -> list[Frame]:
        """Insert the row between the rows of a frame, or before a frame that is a single trade."""
        if outgoing.stream in _BOOKS or not self.args.applies_to(outgoing):
            return frames
        return [sent for frame in frames for sent in self._with_invalid_row(outgoing, frame)]

    def after_answer(self, request: HttpRequest, response: HttpResponse) -> HttpResponse:
        """Insert the row between the rows of a response, unless limited to a stream or market."""
        is_limited = self.args.stream is not None or self.args.symbol is not None
        if is_limited or response.status != 200 or _is_book(request):
            return response
        value = decoded(response.body)
        return replace(response, body=msgspec.json.encode(value)) if _add_invalid_rows(value) else response

    def _with_invalid_row(self, outgoing: OutgoingFrame, frame: Frame) -> list[Frame]:
        if frame.is_binary:
            return [frame]
        value = msgspec.json.decode(frame.payload)
        if _add_invalid_rows(value):
            return [self.venue.text(value)]
        corrupted = self.venue.corrupt(frame) if outgoing.stream == "trade" else None
        return [frame] if corrupted is None else [corrupted, frame]


def _is_book(request: HttpRequest) -> bool:
    """Return whether a request is for a book; hyperliquid names it in the body."""
    query = decoded(request.body)
    return _BOOK_PATH.search(request.path) is not None or (isinstance(query, dict) and query.get("type") == "l2Book")


def _add_invalid_rows(value: Any) -> int:
    """Insert an invalid row into the middle of each list of rows; return the number of lists.

    Lists of equal length get it at the same index, because some venues match two lists by position.
    """
    if isinstance(value, dict):
        return sum(map(_add_invalid_rows, value.values()))
    if not isinstance(value, list) or not value:
        return 0
    if all(isinstance(row, dict) for row in value):
        value.insert(len(value) // 2, _invalid(value[0]))
        return 1
    return sum(map(_add_invalid_rows, value))


def _invalid(value: Any) -> Any:
    """Return a row of the same shape with invalid values."""
    if isinstance(value, dict):
        return {name: _invalid(one) for name, one in value.items()}
    if isinstance(value, list):
        return [_invalid(one) for one in value]
    return value if value is None or isinstance(value, bool) else _RUBBISH


class RewriteFault(Fault[ArgsT], Generic[ArgsT]):
    """Base of faults that rewrite the text of frames and responses."""

    def before_send(self, _session: ClientSession, _outgoing: OutgoingFrame, frames: list[Frame]) -> list[Frame]:
        """Rewrite text frames; binary frames have no notation."""
        return [frame if frame.is_binary else replace(frame, payload=self.rewrite(frame.payload)) for frame in frames]

    def after_answer(self, _request: HttpRequest, response: HttpResponse) -> HttpResponse:
        """Rewrite the body."""
        return replace(response, body=self.rewrite(response.body))

    def rewrite(self, text: bytes) -> bytes:
        """Return the text to send instead of ``text``."""
        raise NotImplementedError


class StatusArgs(Args, frozen=True, kw_only=True):
    """Parameters of ``unknown_status``."""

    of: Annotated[Literal["markets", "orders", "both"], Meta(description="affected states")] = "both"


#: Live states in the venues' notations.
_STATES: Final = {"markets": b"TRADING|ACTIVE|active", "orders": b"NEW|OPEN|open|PARTIALLY_FILLED"}
_UNKNOWN_STATE: Final = b"IN_REVIEW"


class UnknownStatus(RewriteFault[StatusArgs]):
    """Live markets and open orders have an unknown state."""

    name: ClassVar[str] = "unknown_status"
    parameters = StatusArgs

    def __init__(self, venue: SimulatedVenue, args: StatusArgs, finish: Any) -> None:
        super().__init__(venue, args, finish)
        words = b"|".join(text for kind, text in _STATES.items() if args.of in {kind, "both"})
        self._pattern = re.compile(rb'"(status|X)":"(?:' + words + rb')"')

    def rewrite(self, text: bytes) -> bytes:
        """Replace the states."""
        return self._pattern.sub(rb'"\1":"' + _UNKNOWN_STATE + b'"', text)


class IntervalArgs(Args, frozen=True, kw_only=True):
    """Parameters of ``fractional_interval``."""

    hours: (
        Annotated[float, Meta(gt=0, description="of every market; default: the true ones in other notations")] | None
    ) = None


#: Notations of the same number of hours.
_NOTATIONS: Final = (b"%s.0", b'"%s.0"', b'"%s"')


class FractionalInterval(RewriteFault[IntervalArgs]):
    """Funding intervals in hours are fractions or text: 8.0, "8", 0.5."""

    name: ClassVar[str] = "fractional_interval"
    venues: ClassVar[tuple[str, ...]] = ("hyperliquid", "aster", "paradex")
    parameters = IntervalArgs
    _pattern: ClassVar[re.Pattern[bytes]] = re.compile(rb'"(funding_period_hours|fundingIntervalHours)":"?([0-9]+)"?')

    def rewrite(self, text: bytes) -> bytes:
        """Replace the intervals."""
        notations = cycle(_NOTATIONS)

        def write(match: re.Match[bytes]) -> bytes:
            hours = next(notations) % match[2] if self.args.hours is None else b"%g" % self.args.hours
            return b'"%s":%s' % (match[1], hours)

        return self._pattern.sub(write, text)


class FlatErrors(Fault[Args]):
    """Stream errors have their code at the top level instead of within ``error``."""

    name: ClassVar[str] = "flat_errors"
    venues: ClassVar[tuple[str, ...]] = ("lighter",)

    def begin(self) -> None:
        """Flatten errors."""
        self.venue.has_flat_errors = True

    def end(self) -> None:
        """Restore the usual shape, unless another such fault is active."""
        self.venue.has_flat_errors = bool(self.others)
