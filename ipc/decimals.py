"""Decimal text of prices, sizes and rates, without conversion to float.

Definition of a decimal: ASCII digits with at most one point, optionally a minus before them and an exponent after them.
Whitespace, ``+``, underscores, digits of other scripts, ``NaN`` and ``Infinity``, all of which
:class:`decimal.Decimal` and :func:`float` accept, are not decimals.
"""

from __future__ import annotations

import re
from decimal import ROUND_HALF_EVEN, Context, Decimal, InvalidOperation, localcontext
from functools import lru_cache
from typing import Final

_DECIMAL: Final = re.compile(r"-?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]{1,9})?")
#: Maximum length of a decimal text; the longest number of plausible magnitude needs about sixty characters.
_MAX_LENGTH: Final = 128

_EIGHT_HOURS_S: Final = 28_800
#: Decimal exponent beyond which a number is rejected as implausible.
_MAX_MAGNITUDE: Final = 30
#: Maximum number of digits that hot loops check on their fast path.
USUAL_DIGITS: Final = _MAX_MAGNITUDE
#: Digits of a number above zero, up to this many, compare as text greater than these.
ZEROS: Final = "0" * USUAL_DIGITS
_TWELVE_PLACES: Final = Decimal("1e-12")
_ZERO: Final = Decimal(0)
#: Enough digits for the difference of the largest and the smallest number.
_EXACT: Final = Context(prec=2 * _MAX_MAGNITUDE + 40)


class OutOfRangeError(ValueError):
    """Decimal larger or smaller than any price, size, rate or time can be."""


def is_zero(text: str) -> bool:
    """Return whether decimal text is zero: ``0``, ``0.000``, ``.0``, ``-0.0``, ``0E-8``; ValueError if no decimal."""
    digits = text.replace(".", "", 1)
    if digits.isdecimal() and digits.isascii():
        return not digits.strip("0")
    return not number(text)


def plain_text(text: str) -> str:
    """Return decimal text unchanged, except that exponents are written out and a zero loses its sign.

    Raises:
        ValueError: Not a decimal, or one that no price, size or rate can be.
    """
    digits = text.replace(".", "", 1)
    if digits.isdecimal() and digits.isascii() and len(digits) <= _MAX_MAGNITUDE:
        return text
    value = number(text)
    return text if value and "e" not in text and "E" not in text else f"{value:f}"


def plain(value: Decimal | int) -> str:
    """Return a number as the shortest plain decimal, without an exponent; ValueError if not finite or implausible."""
    return shortest(str(value))


@lru_cache(maxsize=16_384)
def shortest(text: str) -> str:
    """Return decimal text in its shortest plain form: ``82653.0`` gives ``82653``, ``1e-7`` gives ``0.0000001``.

    Raises:
        ValueError: Not a finite decimal number, or one that no price, size or rate can be.
    """
    # Nearly every price is plain already; conversion to a number would cost three times as much.
    digits = text if _is_plain(text) else f"{number(text):f}"
    if "." in digits:
        digits = digits.rstrip("0").rstrip(".")
    return "0" if digits == "-0" else digits


def difference(minuend: str, subtrahend: str) -> str:
    """Return the difference of two decimal texts as the shortest plain decimal; ValueError if one is no number."""
    with localcontext(_EXACT):
        return plain(number(minuend) - number(subtrahend))


@lru_cache(maxsize=4096)
def rate_per_8h(rate: str | None, interval_s: int | None) -> str | None:
    """Convert a rate per interval to 12 places per eight hours; None if either is unknown, ValueError if no number."""
    if rate is None or not interval_s:
        return None
    per_8h = number(rate) * _EIGHT_HOURS_S / interval_s
    try:
        rounded = per_8h.quantize(_TWELVE_PLACES, ROUND_HALF_EVEN)
        return f"{rounded or abs(rounded):f}"
    except InvalidOperation as error:
        raise ValueError(f"not a rate: {rate!r}") from error


def scale_rate(rate: str | None, divisor: int) -> str | None:
    """Return ``rate / divisor`` as plain text (percent to fraction); None stays None, ValueError if no number."""
    return None if rate is None else plain(number(rate) / divisor)


def _is_plain(text: str) -> bool:
    """Return whether a text of moderate length is digits, a point, digits, without leading zeros."""
    whole, _, fraction = text.partition(".")
    is_whole = whole.isdecimal() and (whole[0] != "0" or whole == "0")
    return is_whole and fraction.isdecimal() and text.isascii() and len(text) <= _MAX_MAGNITUDE


def number(text: str) -> Decimal:
    """Return the number in a text from outside; ValueError if no decimal, OutOfRangeError if too long when plain."""
    if len(text) > _MAX_LENGTH or not _DECIMAL.fullmatch(text):
        raise ValueError(f"not a decimal number: {text[:40]!r}")
    value = Decimal(text)
    if value and abs(value.adjusted()) > _MAX_MAGNITUDE:
        raise OutOfRangeError(f"a number out of range: {text[:40]!r}")
    return value or _ZERO  # a zero may have any exponent
