"""Faults of rows and words: an invalid row among valid ones, unknown states, fractional intervals, flat errors.

None of them may cost a client anything: what it cannot read it leaves out, and keeps the rest.
"""

from __future__ import annotations

import re
from dataclasses import replace
from itertools import cycle
from typing import Annotated, Any, ClassVar, Final, Literal

import msgspec
from msgspec import Meta

from simulator.faults.fault import Args, Fault, StreamArgs
from simulator.rest import HttpRequest, HttpResponse
from simulator.session import ClientSession, OutgoingFrame, decoded
from simulator.venue import SimulatedVenue
from simulator.wire import Frame

__all__ = ["FlatErrors", "FractionalInterval", "InvalidRowFault", "UnknownStatus"]

#: Levels of a book are not rows.
_BOOKS: Final = frozenset({"book", "book20", "bbo"})
_BOOK_PATH: Final = re.compile(r"/(depth|orderBookOrders|orderbook|bbo)(/|$)")
_RUBBISH: Final = "rubbish"


class InvalidRowFault(Fault[StreamArgs]):
    """An invalid row stands among the valid ones of each list that is told: trades, fills, orders, markets, funding."""

    name: ClassVar[str] = "invalid_row"
    parameters = StreamArgs

    def before_send(self, session: ClientSession, outgoing: OutgoingFrame, frames: list[Frame]) -> list[Frame]:
        """Put it between the rows of a frame, or before a frame that is a single trade."""
        del session
        if outgoing.stream in _BOOKS or not self.args.hits(outgoing):
            return frames
        return [told for frame in frames for told in self._spoilt(outgoing, frame)]

    def after_answer(self, request: HttpRequest, response: HttpResponse) -> HttpResponse:
        """Put it between the rows of an answer; only when no stream or market was asked for."""
        is_confined = self.args.stream is not None or self.args.symbol is not None
        if is_confined or response.status != 200 or _is_book(request):
            return response
        value = decoded(response.body)
        return replace(response, body=msgspec.json.encode(value)) if _add_invalid_rows(value) else response

    def _spoilt(self, outgoing: OutgoingFrame, frame: Frame) -> list[Frame]:
        if frame.is_binary:
            return [frame]
        value = msgspec.json.decode(frame.payload)
        if _add_invalid_rows(value):
            return [self.venue.text(value)]
        spoilt = self.venue.corrupt(frame) if outgoing.stream == "trade" else None
        return [frame] if spoilt is None else [spoilt, frame]


def _is_book(request: HttpRequest) -> bool:
    """Whether a request is for a book; hyperliquid says in the body what is asked for."""
    query = decoded(request.body)
    return _BOOK_PATH.search(request.path) is not None or (isinstance(query, dict) and query.get("type") == "l2Book")


def _add_invalid_rows(value: Any) -> int:
    """Put an invalid row into the middle of each list of rows; how many lists there are.

    Lists of one length get theirs at one place, for some venues match two of them by position.
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
    """A row of that shape with rubbish for everything that it says."""
    if isinstance(value, dict):
        return {name: _invalid(one) for name, one in value.items()}
    if isinstance(value, list):
        return [_invalid(one) for one in value]
    return value if value is None or isinstance(value, bool) else _RUBBISH


class StatusArgs(Args, frozen=True, kw_only=True):
    """Parameters of ``unknown_status``."""

    of: Annotated[Literal["markets", "orders", "both"], Meta(description="whose states")] = "both"


#: States of what goes on, in the words of the venues.
_STATES: Final = {"markets": b"TRADING|ACTIVE|active", "orders": b"NEW|OPEN|open|PARTIALLY_FILLED"}
_NEW_WORD: Final = b"IN_REVIEW"


class UnknownStatus(Fault[StatusArgs]):
    """Markets that are traded, and orders that are open, are in a state that nobody has heard of."""

    name: ClassVar[str] = "unknown_status"
    parameters = StatusArgs

    def __init__(self, venue: SimulatedVenue, args: StatusArgs, finish: Any) -> None:
        super().__init__(venue, args, finish)
        words = b"|".join(text for kind, text in _STATES.items() if args.of in {kind, "both"})
        self._pattern = re.compile(rb'"(status|X)":"(?:' + words + rb')"')

    def before_send(self, session: ClientSession, outgoing: OutgoingFrame, frames: list[Frame]) -> list[Frame]:
        """Use the new word; binary frames have none."""
        del session, outgoing
        return [frame if frame.is_binary else replace(frame, payload=self._renamed(frame.payload)) for frame in frames]

    def after_answer(self, request: HttpRequest, response: HttpResponse) -> HttpResponse:
        """Use the new word."""
        del request
        return replace(response, body=self._renamed(response.body))

    def _renamed(self, text: bytes) -> bytes:
        return self._pattern.sub(rb'"\1":"' + _NEW_WORD + b'"', text)


class IntervalArgs(Args, frozen=True, kw_only=True):
    """Parameters of ``fractional_interval``."""

    hours: (
        Annotated[float, Meta(gt=0, description="of every market; without it the true ones, spelt differently")] | None
    ) = None


#: The same number of hours, written in ways that mean it.
_SPELLINGS: Final = (b"%s.0", b'"%s.0"', b'"%s"')


class FractionalInterval(Fault[IntervalArgs]):
    """Funding intervals in hours are written as fractions and as text: 8.0, "8", 0.5."""

    name: ClassVar[str] = "fractional_interval"
    venues: ClassVar[tuple[str, ...]] = ("hyperliquid", "aster", "paradex")
    parameters = IntervalArgs
    _pattern: ClassVar[re.Pattern[bytes]] = re.compile(rb'"(funding_period_hours|fundingIntervalHours)":"?([0-9]+)"?')

    def before_send(self, session: ClientSession, outgoing: OutgoingFrame, frames: list[Frame]) -> list[Frame]:
        """Write it so."""
        del session, outgoing
        return [frame if frame.is_binary else replace(frame, payload=self._written(frame.payload)) for frame in frames]

    def after_answer(self, request: HttpRequest, response: HttpResponse) -> HttpResponse:
        """Write it so."""
        del request
        return replace(response, body=self._written(response.body))

    def _written(self, text: bytes) -> bytes:
        spellings = cycle(_SPELLINGS)

        def write(match: re.Match[bytes]) -> bytes:
            told = next(spellings) % match[2] if self.args.hours is None else b"%g" % self.args.hours
            return b'"%s":%s' % (match[1], told)

        return self._pattern.sub(write, text)


class FlatErrors(Fault[Args]):
    """Errors on the stream have their code at the top level instead of within ``error``."""

    name: ClassVar[str] = "flat_errors"
    venues: ClassVar[tuple[str, ...]] = ("lighter",)

    def begin(self) -> None:
        """Shape them so."""
        self.venue.has_flat_errors = True

    def end(self) -> None:
        """Shape them as usual, unless another fault wants otherwise."""
        self.venue.has_flat_errors = bool(self.others)
