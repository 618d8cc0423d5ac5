"""Decimal text: prices, sizes and rates as this project carries them, without a float on the way."""

from __future__ import annotations

from decimal import ROUND_HALF_EVEN, Context, Decimal, InvalidOperation, localcontext
from functools import lru_cache
from typing import Final

__all__ = ["difference", "is_zero", "plain", "rate_per_8h", "scale_rate", "shortest"]

_EIGHT_HOURS_S: Final = 28_800
#: Decimal exponent beyond which a number is taken for rubbish.
_MAX_MAGNITUDE: Final = 30
_TWELVE_PLACES: Final = Decimal("1e-12")
_ZERO: Final = Decimal(0)
#: Enough digits for the difference of the largest and the smallest number.
_EXACT: Final = Context(prec=2 * _MAX_MAGNITUDE + 40)


def is_zero(size: str) -> bool:
    """Whether decimal text has the value zero: ``0``, ``0.000``, ``.0``."""
    return not size.strip("0.")


def plain(number: Decimal | int) -> str:
    """A number as the shortest plain decimal, without an exponent."""
    return shortest(str(number))


@lru_cache(maxsize=16_384)
def shortest(text: str) -> str:
    """Decimal text in its shortest plain form: ``82653.0`` gives ``82653``, ``1e-7`` gives ``0.0000001``.

    Raises:
        ValueError: Not a finite decimal number, or one that no price, size or rate can be.
    """
    # Nearly every price is plain as it is; made a number first it costs thrice as much.
    digits = text if _is_plain(text) else f"{_number(text):f}"
    if "." in digits:
        digits = digits.rstrip("0").rstrip(".")
    return "0" if digits == "-0" else digits


def difference(minuend: str, subtrahend: str) -> str:
    """One decimal text less another, as the shortest plain decimal.

    Raises:
        ValueError: One of them is not a number.
    """
    with localcontext(_EXACT):
        return plain(_number(minuend) - _number(subtrahend))


@lru_cache(maxsize=4096)
def rate_per_8h(rate: str | None, interval_s: int | None) -> str | None:
    """A rate per interval as a rate per eight hours, to 12 places; None when either is unknown.

    Raises:
        ValueError: The rate is not a number.
    """
    if rate is None or not interval_s:
        return None
    per_8h = _number(rate) * _EIGHT_HOURS_S / interval_s
    try:
        rounded = per_8h.quantize(_TWELVE_PLACES, ROUND_HALF_EVEN)
        return f"{rounded or abs(rounded):f}"
    except InvalidOperation as error:
        raise ValueError(f"not a rate: {rate!r}") from error


def scale_rate(rate: str | None, divisor: int) -> str | None:
    """``rate`` divided by ``divisor`` as plain text: percent to fraction, eight hours to one; None stays None.

    Raises:
        ValueError: The rate is not a number.
    """
    return None if rate is None else plain(_number(rate) / divisor)


def _is_plain(text: str) -> bool:
    """Whether a text of moderate length is digits, a point, digits, without leading zeros."""
    whole, _, fraction = text.partition(".")
    is_whole = whole.isdecimal() and (whole[0] != "0" or whole == "0")
    return is_whole and fraction.isdecimal() and text.isascii() and len(text) <= _MAX_MAGNITUDE


def _number(text: str) -> Decimal:
    """The number in a text that comes from outside; one of absurd size would cost memory and is refused."""
    try:
        number = Decimal(text)
    except InvalidOperation as error:
        raise ValueError(f"not a decimal number: {text!r}") from error
    if not number.is_finite() or (number and abs(number.adjusted()) > _MAX_MAGNITUDE):
        raise ValueError(f"not a number of this world: {text[:40]!r}")
    return number or _ZERO  # a zero may have any exponent
