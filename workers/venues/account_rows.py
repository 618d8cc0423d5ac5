"""Decoding of rows in account frames and answers, one by one; a number may arrive as a JSON number or as text."""

from __future__ import annotations

import re
from abc import ABC
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any, Final, TypeAlias, TypeVar

import msgspec

from ipc.errors import DecodeError
from workers.venues.rows import InvalidRow, each_row

T = TypeVar("T")
R = TypeVar("R")

#: Whole number as text; no id or time has more digits.
_WHOLE: Final = re.compile(r"-?[0-9]{1,40}(?:\.0*)?")
_MS_PER_S: Final = 1000
#: Times below this are seconds: as milliseconds they would be before March 1973.
_SECONDS_BELOW: Final = 10**11

if TYPE_CHECKING:
    Number: TypeAlias = str
    NumberOrNone: TypeAlias = str | None
    WholeNumber: TypeAlias = int
else:

    class Number(ABC):  # noqa: B024 - it stands for its subclasses alone
        """Type of a decimal field: text, or a JSON number kept as text; checked to be a decimal later."""

    class NumberOrNone(ABC):  # noqa: B024
        """Type of a field that is a :class:`Number`, or None where the venue writes null or an empty text."""

    class WholeNumber(ABC):  # noqa: B024
        """Type of an integer field, which the venue may write as text or with a zero fraction (``8.0``)."""

    Number.register(str)
    NumberOrNone.register(str)
    NumberOrNone.register(type(None))
    WholeNumber.register(int)


def json_decoder(kind: type[T]) -> msgspec.json.Decoder[T]:
    """Return a decoder for a type with fields of :class:`Number` or :class:`WholeNumber`.

    Fractions keep the venue's digits; none becomes a float.
    """
    return msgspec.json.Decoder(kind, dec_hook=_field, float_hook=str)


def converted(members: Mapping[str, Any], kind: type[T]) -> T:
    """Convert decoded members to a struct as :func:`json_decoder` would.

    Raises:
        ValidationError: A member is missing or of another type.
    """
    return msgspec.convert(members, kind, dec_hook=_field)


def ms_of(time: int | None) -> int | None:
    """Return a time in ms that a venue writes partly in s, partly in ms; None for None."""
    return time * _MS_PER_S if time is not None and time < _SECONDS_BELOW else time


def decoded(decoder: msgspec.json.Decoder[T], data: bytes | memoryview | msgspec.Raw, what: str) -> T:
    """Decode a frame, or a part of one.

    Raises:
        DecodeError: The data does not have the documented shape.
    """
    try:
        return decoder.decode(data)
    except (ValueError, RecursionError) as error:
        raise DecodeError(f"malformed {what}: {error}") from error


def rows_of(rows: Iterable[msgspec.Raw], kind: type[T], parse: Callable[[T], R], what: str) -> list[R | InvalidRow]:
    """Decode and parse rows one by one; an invalid row becomes an ``InvalidRow`` in its place.

    Args:
        rows: Raw rows.
        kind: Type of a row.
        parse: May raise what :func:`workers.venues.rows.each_row` allows.
        what: Name of the rows in reports: the venue's channel or call.
    """
    decoder = json_decoder(kind)
    return each_row(rows, lambda row: parse(decoder.decode(row)), what)


def _field(kind: Any, value: Any) -> Any:
    if kind is NumberOrNone and (value is None or value == ""):
        return None
    if kind in {Number, NumberOrNone} and isinstance(value, str | int) and not isinstance(value, bool):
        return str(value)
    if kind is WholeNumber and isinstance(value, int) and not isinstance(value, bool):
        return value
    if kind is WholeNumber and isinstance(value, str) and _WHOLE.fullmatch(value):
        return int(value.partition(".")[0])
    raise ValueError(f"expected a number, got {type(value).__name__}")
