"""Columns of each channel, and conversion of events to Arrow arrays.

Decimal text is kept unchanged in a column of the field's name; ``<name>_dec`` holds the number, null where there is no
text or it does not fit ``decimal(38, 18)``. Price levels are lists of structs, in both forms.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Sequence
from decimal import Decimal, InvalidOperation
from typing import Any, Final, TypeAlias

import msgspec
from msgspec import UNSET

from ipc.errors import UsageError
from ipc.events import Event, HeartbeatBook, Level
from ipc.topics import BOOK_CHANNELS

#: Precision and scale of a decimal column.
_DIGITS, _PLACES = 38, 18
#: Column: name (the event's field) and kind.
_Column: TypeAlias = tuple[str, str]
_Arrays: TypeAlias = list[Any]


def _columns(text: str) -> tuple[_Column, ...]:
    """Parse columns, each written ``name:kind``."""
    return tuple((name, kind) for name, _, kind in (column.partition(":") for column in text.split()))


_ENVELOPE: Final = _columns(
    "kind:text symbol:text venue_symbol:text epoch:integer seq:integer exchange_ns:integer "
    "recv_ns:integer recv_mono_ns:integer publish_ns:integer flags:texts line:text"
)
_BOOK: Final = _columns(
    "bids:levels asks:levels depth:integer venue_seq:integer prev_venue_seq:integer "
    "first_venue_seq:integer cause:text scope:text reason:text expected:text got:text action:text"
)
_TRADE: Final = _columns("price:decimal size:decimal side:text trade_id:text trade_type:text")
#: Columns of each channel after the common ones; names are the fields of its events.
_COLUMNS: Final[dict[str, tuple[_Column, ...]]] = {
    **dict.fromkeys(BOOK_CHANNELS, _BOOK),
    "trade": _TRADE,
    "liquidation": _TRADE,
    "bbo": _columns("bid_price:decimal bid_size:decimal ask_price:decimal ask_size:decimal"),
    "mark": _columns(
        "mark_price:decimal index_price:decimal index_kind:text open_interest:decimal open_interest_notional:decimal"
    ),
    "funding": _columns(
        "rate:decimal rate_native:decimal rate_unit:text interval_s:integer rate_8h:decimal "
        "next_funding_ns:integer phase:text settlement_price_kind:text source:text polled_ns:integer"
    ),
    "instrument": _columns(
        "tick:decimal lot:decimal contract_size:decimal multiplier:integer quote:text market_id:text "
        "funding_interval_s:integer status:text"
    ),
    "status": _columns(
        "stream:text state:text previous:text reason:text attempt:integer backoff_s:number pid:integer ages_ms:counts"
    ),
    "heartbeat": _columns("seqs:counts books:books drops:integer rss_bytes:integer"),
    "lifecycle": _columns(
        "event:text reason:text pid:integer generation:integer exit_code:integer signal:text delay_s:number "
        "failures:integer restarts:integer uptime_s:number ports:text"
    ),
}
#: Channels with columns.
CHANNELS: Final = frozenset(_COLUMNS)
#: Fields that most events leave out, each with the text of its value.
_LEFT_OUT: Final[dict[str, Callable[[Any], str]]] = {
    "line": str,
    "ports": lambda ports: msgspec.json.encode(ports).decode(),
}
#: Stamps for which 0 means absent.
_ABSENT_AS_ZERO: Final = frozenset({"recv_ns", "recv_mono_ns"})


class Columns:
    """Converter of events to Arrow tables.

    Raises:
        UsageError: Parquet support is not installed.
    """

    def __init__(self) -> None:
        try:
            self._arrow: Any = importlib.import_module("pyarrow")
            self._parquet: Any = importlib.import_module("pyarrow.parquet")
        except ImportError as error:
            raise UsageError(
                "Parquet support is not installed",
                advice='install it with: pip install "paraphina-supervisor[parquet]"',
            ) from error
        arrow = self._arrow
        text, integer = arrow.string(), arrow.int64()
        self._text = text
        self._integer = integer
        self._decimal = decimal = arrow.decimal128(_DIGITS, _PLACES)
        self._types: dict[str, list[tuple[str, Any]]] = {
            "text": [("", text)],
            "texts": [("", arrow.list_(text))],
            "integer": [("", integer)],
            "number": [("", arrow.float64())],
            "decimal": [("", text), ("_dec", decimal)],
            "levels": [
                (suffix, arrow.list_(arrow.struct([("price", kind), ("size", kind)])))
                for suffix, kind in (("", text), ("_dec", decimal))
            ],
            "counts": [("", arrow.map_(text, integer))],
            "books": [("", arrow.list_(arrow.struct(self._heartbeat_book())))],
        }
        self._builders: dict[str, Callable[[list[Any]], _Arrays]] = {
            "text": self._texts,
            "texts": lambda values: [arrow.array(values, arrow.list_(text))],
            "integer": self._integers,
            "number": lambda values: [arrow.array(values, arrow.float64())],
            "decimal": self._decimals,
            "levels": self._levels,
            "counts": lambda values: [arrow.array([v and list(v.items()) for v in values], arrow.map_(text, integer))],
            "books": self._books,
        }

    def schema(self, channel: str) -> Any:
        """Return the Arrow schema of a channel."""
        fields = [(name + suffix, kind) for name, of in self._of(channel) for suffix, kind in self._types[of]]
        return self._arrow.schema(fields)

    def table(self, channel: str, events: Sequence[Event]) -> Any:
        """Convert events of one channel to an Arrow table."""
        arrays: _Arrays = []
        for name, kind in self._of(channel):
            arrays += self._builders[kind](_values(name, events))
        return self._arrow.Table.from_arrays(arrays, schema=self.schema(channel))

    def writer(self, channel: str, path: str) -> Any:
        """Open a Parquet writer for a channel's tables."""
        return self._parquet.ParquetWriter(path, self.schema(channel), compression="zstd")

    def _of(self, channel: str) -> tuple[_Column, ...]:
        return (*_ENVELOPE, *_COLUMNS[channel])

    def _heartbeat_book(self) -> list[tuple[str, Any]]:
        kinds = {"symbol": self._text, "usable": self._arrow.bool_()}
        return [(name, kinds.get(name, self._integer)) for name in ("symbol", *HeartbeatBook.__struct_fields__)]

    def _texts(self, values: list[Any]) -> _Arrays:
        return [self._arrow.array([None if value is None else str(value) for value in values], self._text)]

    def _integers(self, values: list[int | None]) -> _Arrays:
        try:
            return [self._arrow.array(values, self._integer)]
        except (OverflowError, self._arrow.ArrowInvalid):
            fitting = [value if value is not None and value.bit_length() < 64 else None for value in values]
            return [self._arrow.array(fitting, self._integer)]

    def _decimals(self, values: list[str | None]) -> _Arrays:
        """Return the texts and their numbers; convert in bulk where all fit, which is the usual case."""
        texts = self._arrow.array(values, self._text)
        try:
            return [texts, texts.cast(self._decimal)]
        except self._arrow.ArrowInvalid:
            return [texts, self._arrow.array([_number(value) for value in values], self._decimal)]

    def _levels(self, values: list[Sequence[Level] | None]) -> _Arrays:
        """Build lists of structs from the flat prices and sizes of all levels."""
        flat = [level for levels in values for level in levels or ()]
        ends: list[int | None] = [0]
        end = 0
        for levels in values:
            # An offset of None makes the list that starts there null.
            ends[-1] = None if levels is None else end
            end += len(levels or ())
            ends.append(end)
        offsets = self._arrow.array(ends, self._arrow.int32())
        prices = self._decimals([price for price, _ in flat])
        sizes = self._decimals([size for _, size in flat])
        names = ["price", "size"]
        return [
            self._arrow.ListArray.from_arrays(offsets, self._arrow.StructArray.from_arrays(pair, names=names))
            for pair in zip(prices, sizes, strict=True)
        ]

    def _books(self, values: list[dict[str, HeartbeatBook] | None]) -> _Arrays:
        rows = [[_row(symbol, book) for symbol, book in (of or {}).items()] for of in values]
        return [self._arrow.array(rows, self._types["books"][0][1])]


def _row(symbol: str, book: HeartbeatBook) -> dict[str, Any]:
    return {"symbol": symbol, **{name: getattr(book, name) for name in book.__struct_fields__}}


def _values(name: str, events: Sequence[Event]) -> list[Any]:
    """Return a field of every event; None for events without it."""
    if name == "kind":
        return [event.__struct_config__.tag for event in events]
    values = [getattr(event, name, None) for event in events]
    if name in _LEFT_OUT:
        return [None if value is UNSET else _LEFT_OUT[name](value) for value in values]
    return [value or None for value in values] if name in _ABSENT_AS_ZERO else values


def _number(text: str | None) -> Decimal | None:
    """Return the number in a text if a decimal column can hold it without loss."""
    try:
        number = Decimal(text or "")
    except InvalidOperation:
        return None
    if not number.is_finite():
        return None
    _, digits, exponent = number.normalize().as_tuple()
    fits = isinstance(exponent, int) and exponent >= -_PLACES and len(digits) + exponent <= _DIGITS - _PLACES
    return number if fits else None
