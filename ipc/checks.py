"""Validation of an event's decimals before it is published: one rule for all venues, public and private.

Levels of books are validated by :mod:`ipc.orderbook`, which reads each of them anyway.
"""

from __future__ import annotations

from collections.abc import Callable
from operator import attrgetter
from typing import Any, Final

from ipc.decimals import USUAL_DIGITS, ZEROS, is_zero, number, plain_text
from ipc.events import Balance, Bbo, Event, Fill, Funding, Liquidation, Margin, Mark, Order, Payment, Position, Trade

#: Decimals of an event: those above zero, those that may be zero but not negative, those that may have a sign.
#: All may be None where the schema allows it.
_FIELDS: Final[dict[type, tuple[tuple[str, ...], tuple[str, ...], tuple[str, ...]]]] = {
    Trade: (("price", "size"), (), ()),
    Liquidation: (("price", "size"), (), ()),
    Bbo: (("bid_price", "ask_price", "bid_size", "ask_size"), (), ()),
    Mark: ((), ("mark_price", "index_price", "open_interest", "open_interest_notional"), ()),
    Funding: ((), (), ("rate", "rate_native", "rate_8h")),
    Fill: (("price", "size"), (), ("fee",)),
    Order: (("price",), ("size", "filled"), ()),
    Position: (("entry_price", "mark_price"), ("liquidation_price",), ("size", "unrealised_pnl")),
    Balance: ((), (), ("total", "available")),
    Margin: ((), (), ("equity", "available", "initial_margin", "maintenance_margin")),
    Payment: ((), (), ("amount", "rate")),
}
#: Decimals of frequent events; all of them must be above zero.
_TEXTS: Final[dict[type, Callable[[Event], tuple[str | None, ...]]]] = {
    kind: attrgetter(*_FIELDS[kind][0]) for kind in (Trade, Liquidation, Bbo)
}
_INT64: Final = 1 << 63


def checked(event: Event) -> Event:
    """Return the event with plain decimals; ``exchange_ns`` outside int64 and a mark's prices of zero become None.

    Raises:
        ValueError: A field is not a decimal, or has an invalid value; the message names the field.
    """
    event.exchange_ns = valid_ns(event.exchange_ns)
    if (texts := _TEXTS.get(type(event))) is not None and _are_usual(texts(event)):
        return event
    above_zero, not_negative, signed = _FIELDS.get(type(event), ((), (), ()))
    for name in above_zero:
        if (text := getattr(event, name)) is not None:
            _check(event, name, text, is_zero_allowed=False)
    for name in not_negative:
        if (text := getattr(event, name)) is not None:
            _check(event, name, text, is_zero_allowed=True)
    for name in signed:
        if (text := getattr(event, name)) is not None:
            _set_plain(event, name, text)
    if type(event) is Mark:
        _drop_zero_prices(event)
    return event


def valid_ns(time_ns: int | None) -> int | None:
    """Return a venue's time in ns since 1970; None for None, 0, negative times and times beyond int64."""
    return time_ns if time_ns is not None and 0 < time_ns < _INT64 else None


def _drop_zero_prices(event: Mark) -> None:
    """Remove prices of zero, which venues send when there is none: before a market opens, or without an index."""
    if event.mark_price is not None and is_zero(event.mark_price):
        event.mark_price = None
    if event.index_price is not None and is_zero(event.index_price):
        event.index_price = event.index_kind = None


def _are_usual(texts: tuple[str | None, ...]) -> bool:
    """Return whether all are plain decimals above zero, or None; in one loop, a third of the cost of single checks."""
    for text in texts:
        if text is not None:
            digits = text.replace(".", "", 1)
            if not (digits.isdecimal() and digits.isascii() and digits > ZEROS and len(digits) <= USUAL_DIGITS):
                return False
    return True


def _check(event: Any, name: str, text: str, *, is_zero_allowed: bool) -> None:
    digits = text.replace(".", "", 1)
    if digits.isdecimal() and digits.isascii() and len(digits) <= USUAL_DIGITS and (is_zero_allowed or digits > ZEROS):
        return  # nearly every value
    _set_plain(event, name, text)
    value = number(text)
    if value < 0 or (not value and not is_zero_allowed):
        raise ValueError(f"{name} {text[:40]!r}: {'negative' if value < 0 else 'zero'}")


def _set_plain(event: Any, name: str, text: str) -> None:
    try:
        setattr(event, name, plain_text(text))
    except ValueError as error:
        raise ValueError(f"{name}: {error}") from error
