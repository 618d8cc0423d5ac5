"""Decimal text of integers in units of 10^-places, without floats."""

from __future__ import annotations

from functools import lru_cache


@lru_cache(maxsize=65_536)
def padded(units: int, places: int, width: int | None = None) -> str:
    """Format ``units`` times 10^-``places`` with exactly ``width`` digits after the point (``places`` when None).

    ``padded(1250, 3)`` is ``1.250``, ``padded(8, 0, 1)`` is ``8.0``; ``width`` is not smaller than ``places``.
    """
    sign, digits = ("-", -units) if units < 0 else ("", units)
    whole, part = divmod(digits, 10**places)
    tail = (f"{part:0{places}d}" if places else "").ljust(places if width is None else width, "0")
    return f"{sign}{whole}.{tail}" if tail else f"{sign}{whole}"


@lru_cache(maxsize=65_536)
def shortest(units: int, places: int) -> str:
    """Format ``units`` times 10^-``places`` without trailing zeros: ``shortest(1250, 3)`` is ``1.25``."""
    text = padded(units, places)
    return text.rstrip("0").rstrip(".") if places else text


def pointed(units: int, places: int) -> str:
    """Format as :func:`shortest`, but always with a point: ``pointed(80, 0)`` is ``80.0``."""
    text = shortest(units, places)
    return text if "." in text else text + ".0"
