"""Rows of an account's frames and answers: decoded one by one; a number may be written as a number or as text."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Final, TypeVar

import msgspec

from ipc.errors import DecodeError
from workers.rows import InvalidRow, each_row

__all__ = ["Number", "Row", "row_of", "rows_of"]

T = TypeVar("T")
R = TypeVar("R")


class Number(str):
    """Decimal text as the venue wrote it, as a JSON number or as text; whether it is a decimal is checked later."""

    __slots__ = ()


class Row(msgspec.Struct):
    """A row with fields of type :class:`Number`; these hold plain ``str`` once it is decoded, which can be encoded."""

    def __post_init__(self) -> None:
        """Make text of the numbers."""
        for name in self.__struct_fields__:
            if type(value := getattr(self, name)) is Number:
                setattr(self, name, str(value))


#: A float would lose digits, so a number with a point or an exponent stays text.
_any: Final = msgspec.json.Decoder(float_hook=str)


def row_of(data: bytes | memoryview | msgspec.Raw, kind: type[T], what: str) -> T:
    """Decode a row or an answer with fields of type :class:`Number`.

    Raises:
        DecodeError: It does not have the documented shape.
    """
    try:
        return msgspec.convert(_any.decode(data), kind, dec_hook=_number)
    except (ValueError, RecursionError) as error:
        raise DecodeError(f"malformed {what}: {error}") from error


def rows_of(rows: Iterable[msgspec.Raw], kind: type[T], parse: Callable[[T], R], what: str) -> list[R | InvalidRow]:
    """Decode rows one by one and make something of each; an invalid row becomes an ``InvalidRow`` in its place.

    Args:
        rows: Not decoded yet.
        kind: What a row is; with fields of type :class:`Number` it must be a :class:`Row`.
        parse: May raise what :func:`workers.rows.each_row` allows.
        what: What the rows are called in the report: the venue's channel or call.
    """
    return each_row(rows, lambda row: parse(row_of(row, kind, what)), what)


def _number(kind: type, value: Any) -> Any:
    if kind is Number and isinstance(value, str | int) and not isinstance(value, bool):
        return Number(value)
    raise ValueError(f"Expected `str | number`, got `{type(value).__name__}`")
