"""Decimal text: prices, sizes and rates as this project carries them, without a float on the way."""

from __future__ import annotations

from decimal import ROUND_HALF_EVEN, Decimal, InvalidOperation
from functools import lru_cache
from typing import Final

__all__ = ["is_zero", "plain", "rate_per_8h", "scale_rate", "shortest"]

_EIGHT_HOURS_S: Final = 28_800
_TWELVE_PLACES: Final = Decimal("1e-12")


def is_zero(size: str) -> bool:
    """Whether decimal text has the value zero: ``0``, ``0.000``, ``.0``."""
    return not size.strip("0.")


def plain(number: Decimal | int) -> str:
    """A number as the shortest plain decimal, without an exponent."""
    return shortest(f"{number:f}")


@lru_cache(maxsize=65_536)
def shortest(text: str) -> str:
    """Decimal text in its shortest plain form: ``82653.0`` gives ``82653``, ``1e-7`` gives ``0.0000001``.

    Raises:
        ValueError: Not a finite decimal number.
    """
    try:
        number = Decimal(text)
    except InvalidOperation as error:
        raise ValueError(f"not a decimal number: {text!r}") from error
    if not number.is_finite():
        raise ValueError(f"not a finite number: {text!r}")
    digits = f"{number:f}"
    if "." in digits:
        digits = digits.rstrip("0").rstrip(".")
    return "0" if digits == "-0" else digits


@lru_cache(maxsize=4096)
def rate_per_8h(rate: str | None, interval_s: int | None) -> str | None:
    """A rate per interval as a rate per eight hours, to 12 places; None when either is unknown."""
    if rate is None or not interval_s:
        return None
    per_8h = Decimal(rate) * _EIGHT_HOURS_S / interval_s
    return f"{per_8h.quantize(_TWELVE_PLACES, ROUND_HALF_EVEN):f}"


def scale_rate(rate: str | None, divisor: int) -> str | None:
    """``rate`` divided by ``divisor`` as plain text: percent to fraction, eight hours to one; None stays None."""
    return None if rate is None else plain(Decimal(rate) / divisor)
