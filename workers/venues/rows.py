"""Rows of a frame or of a REST answer, validated one by one: an invalid row costs itself alone and is reported.

Levels of a book are not rows: a book with a hole is wrong, so one invalid level makes the whole book invalid.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Final, TypeVar

from msgspec import Raw

__all__ = ["InvalidRow", "each_row", "items_of_rows", "opens", "split_rows"]

Row = TypeVar("Row")
Parsed = TypeVar("Parsed")

#: What reading a value of the wrong type, range or form raises.
_INVALID: Final = (ValueError, TypeError, ArithmeticError, LookupError, RecursionError)
_SHOWN: Final = 200


@dataclass(frozen=True, slots=True)
class InvalidRow:
    """A row that was left out.

    Attributes:
        what: What kind of row, in the venue's words: ``trades``, ``account_all_trades``, ``markets``.
        error: Why, without the row's own values where these may be private.
    """

    what: str
    error: str


def each_row(rows: Iterable[Row], parse: Callable[[Row], Parsed], what: str) -> list[Parsed | InvalidRow]:
    """Parse rows one by one, in their order; a row that ``parse`` cannot read becomes an :class:`InvalidRow`.

    Args:
        rows: Usually of ``msgspec.Raw``, so that the type of each row is checked by ``parse`` alone.
        parse: Raises ValueError (DecodeError, msgspec's errors), TypeError, ArithmeticError or LookupError for a row
            that is invalid.
        what: What the rows are called in the report.
    """
    found: list[Parsed | InvalidRow] = []
    for row in rows:
        try:
            found.append(parse(row))
        except _INVALID as error:
            found.append(InvalidRow(what, str(error)[:_SHOWN]))
    return found


def items_of_rows(
    rows: Iterable[Row] | None, parse: Callable[[Row], Sequence[Parsed]], what: str
) -> list[Parsed | InvalidRow]:
    """Parse rows one by one, each of which gives any number of items, none included; as :func:`each_row` otherwise."""
    found: list[Parsed | InvalidRow] = []
    for parsed in each_row(rows or (), parse, what):
        if isinstance(parsed, InvalidRow):
            found.append(parsed)
        else:
            found += parsed
    return found


def opens(raw: bytes | Raw, bracket: bytes) -> bool:
    """Tell whether JSON, as msgspec leaves it in a ``Raw``, begins with ``[`` (a list) or ``{`` (an object)."""
    return bytes(memoryview(raw)[:1]) == bracket


def split_rows(items: Iterable[Parsed | InvalidRow]) -> tuple[list[Parsed], list[InvalidRow]]:
    """Return the valid items and the invalid rows, each in their order."""
    valid: list[Parsed] = []
    invalid: list[InvalidRow] = []
    for item in items:
        if isinstance(item, InvalidRow):
            invalid.append(item)
        else:
            valid.append(item)
    return valid, invalid
