"""Numbers and names as venues send them, with range checks.

A venue may write the same number as an integer, a fraction or text (``8``, ``8.0``, ``"8"``); the types accept every
spelling, the functions return one value or raise ValueError.
"""

from __future__ import annotations

from decimal import Decimal
from typing import Annotated, Final, TypeAlias

from msgspec import Meta

from ipc.checks import valid_ns
from ipc.decimals import OutOfRangeError, is_zero, number, plain, plain_text

_NS_PER_S: Final = 1_000_000_000
_NS_PER_MS: Final = 1_000_000
_NS_PER_US: Final = 1000
_MAX_NS: Final = (1 << 63) - 1
_MAX_MS: Final = _MAX_NS // _NS_PER_MS
_MAX_US: Final = _MAX_NS // _NS_PER_US
_HOUR_S: Final = 3600
#: Longest plausible funding interval; the longest seen is a day.
_MAX_INTERVAL_S: Final = 30 * 24 * _HOUR_S
#: Upper bound of the decimals in a price or size step.
_MAX_DECIMALS: Final = 18
#: Longest market number, digits.
_MAX_DIGITS: Final = 9

#: Number in any JSON spelling.
Number: TypeAlias = int | float | str
#: Sequence number of a venue, an int64; -1 means none in some first frames.
SequenceNumber: TypeAlias = Annotated[int, Meta(ge=-1, le=(1 << 63) - 1)]
#: Market name in a venue's list. A name too long for a symbol or a URL is valid, but the market is not carried.
Name: TypeAlias = Annotated[str, Meta(min_length=1)]
#: Short text: an id, a status.
Text: TypeAlias = Annotated[str, Meta(min_length=1, max_length=64)]
#: Trade id; published as text.
Id: TypeAlias = Annotated[int, Meta(ge=-(1 << 63), le=(1 << 63) - 1)] | Text


def ns_of_ms(time_ms: Number | None) -> int | None:
    """Return milliseconds since 1970 as ns; None for None, an empty text, 0, negative times and times beyond int64.

    Raises:
        ValueError: The text is not a number.
    """
    if type(time_ms) is int and 0 < time_ms <= _MAX_MS:  # fast path: nearly every time
        return time_ms * _NS_PER_MS
    return _ns(time_ms, _NS_PER_MS)


def ns_of_us(time_us: Number | None) -> int | None:
    """Return microseconds since 1970 as ns; None for None, an empty text, 0, negative times and times beyond int64.

    Raises:
        ValueError: The text is not a number.
    """
    if type(time_us) is int and 0 < time_us <= _MAX_US:
        return time_us * _NS_PER_US
    return _ns(time_us, _NS_PER_US)


def ns_of_s(time_s: Number | None) -> int | None:
    """Return seconds since 1970 as ns; None for None, an empty text, 0, negative times and times beyond int64.

    Raises:
        ValueError: The text is not a number.
    """
    return _ns(time_s, _NS_PER_S)


def as_int(value: Number, least: int, most: int) -> int:
    """Return a whole number between ``least`` and ``most``, in any spelling.

    Raises:
        ValueError: Not a number, a fraction, or out of range.
    """
    exact = _exact(value)
    if exact != exact.to_integral_value() or not least <= exact <= most:
        raise ValueError(f"not a whole number from {least} to {most}: {str(value)[:40]!r}")
    return int(exact)


def side(price: str | None, size: str | None) -> tuple[str | None, str | None]:
    """Return price and size of one side of a best bid and offer; None and None for an empty side.

    Venues write an empty side as null, as empty texts or as zeros.

    Raises:
        ValueError: The size is not a number.
    """
    return (price, size) if price and size and not is_zero(size) else (None, None)


def step(decimals: Number | None) -> str | None:
    """Return ten to the power of minus ``decimals`` as plain text; None for None.

    Raises:
        ValueError: Not a whole number from 0 to 18.
    """
    return None if decimals is None else plain(Decimal(1).scaleb(-as_int(decimals, 0, _MAX_DECIMALS)))


def increment(text: Number | None) -> str | None:
    """Return a price or size step as plain text; None for None and an empty text.

    Raises:
        ValueError: Not a number above zero.
    """
    if text is None or text == "":
        return None
    if number(str(text)) <= 0:
        raise ValueError(f"not a step: {str(text)[:40]!r}")
    return plain_text(str(text))


def interval_s_of(hours: Number | None) -> int | None:
    """Return a funding interval, given in hours, in s; None for None, an empty text and 0.

    Raises:
        ValueError: Not a number, negative, shorter than a second or longer than 30 days.
    """
    if hours is None or hours == "":
        return None
    exact = _exact(hours)
    if not exact:
        return None
    seconds = round(exact * _HOUR_S)
    if not 1 <= seconds <= _MAX_INTERVAL_S:
        raise ValueError(f"not a funding interval in hours: {str(hours)[:40]!r}")
    return seconds


def digits_of(market_id: int | str) -> str:
    """Return a market number as text of digits, for channels and URLs.

    Raises:
        ValueError: Not a whole number of at most nine digits.
    """
    text = str(market_id)
    if not (text.isdecimal() and text.isascii() and len(text) <= _MAX_DIGITS):
        raise ValueError(f"not a market's number: {text[:40]!r}")
    return text


def _exact(value: Number) -> Decimal:
    return number(value if isinstance(value, str) else str(value))


def _ns(time: Number | None, unit_ns: int) -> int | None:
    if not time:
        return None
    try:
        time_ns = int(_exact(time) * unit_ns)
    except OutOfRangeError:
        return None
    return valid_ns(time_ns)
