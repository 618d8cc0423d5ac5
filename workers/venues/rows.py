"""Validation of the rows of a frame or REST answer one by one: only invalid rows are dropped, and they are reported.

Levels of a book are not rows: a book with a missing level is wrong, so one invalid level makes the whole book invalid.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Final, TypeVar

from msgspec import Raw

Row = TypeVar("Row")
Parsed = TypeVar("Parsed")

#: Exceptions for a value of the wrong type, range or form.
_INVALID: Final = (ValueError, TypeError, ArithmeticError, LookupError, RecursionError)
_SHOWN: Final = 200


@dataclass(frozen=True, slots=True)
class InvalidRow:
    """Row that was left out.

    Attributes:
        what: Kind of row, by the venue's name: ``trades``, ``account_all_trades``, ``markets``.
        error: Cause, without the row's values where these may be private.
    """

    what: str
    error: str


def each_row(rows: Iterable[Row], parse: Callable[[Row], Parsed], what: str) -> list[Parsed | InvalidRow]:
    """Parse rows one by one, in their order; a row that ``parse`` cannot read becomes an :class:`InvalidRow`.

    Args:
        rows: Usually of ``msgspec.Raw``, so that the type of each row is checked by ``parse`` alone.
        parse: Raises ValueError (DecodeError, msgspec's errors), TypeError, ArithmeticError or LookupError for a row
            that is invalid.
        what: Name of the rows in reports.
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
    """Parse rows one by one as :func:`each_row` does, where a row yields any number of items, including none."""
    found: list[Parsed | InvalidRow] = []
    for parsed in each_row(rows or (), parse, what):
        if isinstance(parsed, InvalidRow):
            found.append(parsed)
        else:
            found += parsed
    return found


def opens(raw: bytes | Raw, bracket: bytes) -> bool:
    """Return whether JSON in a ``Raw`` begins with ``[`` (a list) or ``{`` (an object)."""
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
