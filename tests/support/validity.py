"""Rules for what may be published, without code of the tree under test: events, books, a naive replica."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from decimal import Decimal
from itertools import pairwise
from typing import Any, Final

import msgspec

from ipc.codec import encode
from ipc.events import AnyEvent, BookDelta, BookSnapshot, Event, Gap

__all__ = ["NaiveBook", "faults_of_book", "faults_of_event"]

_DECIMAL: Final = re.compile(r"-?(?:[0-9]+\.?[0-9]*|\.[0-9]+)", re.ASCII)
#: No price, size, rate or amount has more digits; who reads one makes room for it.
_LONGEST: Final = 128
_STRICT: Final = msgspec.json.Decoder(AnyEvent, strict=True)
#: Fields that hold a decimal, whatever the event; absent ones are None.
_ABOVE_ZERO: Final = ("price", "bid_price", "bid_size", "ask_price", "ask_size", "mark_price", "index_price")
_NOT_NEGATIVE: Final = ("open_interest", "open_interest_notional", "filled", "tick", "lot", "contract_size")
_SIGNED: Final = (
    *("rate", "rate_native", "rate_8h", "fee", "unrealised_pnl", "total", "amount", "equity", "entry_price"),
    *("available", "initial_margin", "maintenance_margin", "liquidation_price", "size"),
)
#: The size of what happened; that of a position has a sign, and an order of the size zero closes a position.
_SIZED: Final = frozenset({"Trade", "Liquidation", "Fill"})
_INTS: Final = ("exchange_ns", "next_funding_ns", "polled_ns", "funding_interval_s", "interval_s")
_SEQS: Final = ("venue_seq", "prev_venue_seq", "first_venue_seq")


def is_decimal(text: object) -> bool:
    """Tell whether something is a plain decimal: ASCII digits with at most one point, a minus before them."""
    return isinstance(text, str) and len(text) <= _LONGEST and _DECIMAL.fullmatch(text) is not None


def faults_of_event(event: Event) -> list[str]:
    """Say what is wrong with an event that is to be published; nothing, of a valid one."""
    payload = encode(event)
    try:
        read = _STRICT.decode(payload)
    except ValueError as error:
        return [f"breaks the schema: {error}"]
    if read != event:
        return [f"does not survive encoding: {event} became {read}"]
    faults = [f"{name} {getattr(event, name)!r}" for name in _INTS if not _fits(getattr(event, name, None), 63)]
    faults += [f"{name} {getattr(event, name)!r}" for name in _SEQS if not _fits(getattr(event, name, None), 64)]
    for names, is_valid in ((_ABOVE_ZERO, _positive), (_NOT_NEGATIVE, _not_negative), (_SIGNED, lambda _: True)):
        for name in names:
            text = getattr(event, name, None)
            if text is not None and not (is_decimal(text) and is_valid(text)):
                faults.append(f"{name} {text[:60]!r}")
    if type(event).__name__ in _SIZED and not _positive(event.size):  # type: ignore[attr-defined]
        faults.append(f"size {event.size!r}")  # type: ignore[attr-defined]
    if isinstance(event, BookSnapshot) and "crossed_by_venue" not in event.flags:
        faults += faults_of_book(event.bids, event.asks)
    elif isinstance(event, BookSnapshot | BookDelta):
        levels = [level for side in (event.bids, event.asks) for level in side]
        faults += [f"level {level}" for level in levels if not _is_level(level)]
    return faults


def faults_of_book(bids: Sequence[Any], asks: Sequence[Any]) -> list[str]:
    """Say what is wrong with a whole book that is called usable, best first."""
    levels = [(str(price), str(size)) for price, size in (*bids, *asks)]
    faults = [f"level {one}" for one in levels if not (_is_level(one) and _positive(one[0]) and _positive(one[1]))]
    if faults:
        return faults
    bid_prices = [Decimal(level[0]) for level in bids]
    ask_prices = [Decimal(level[0]) for level in asks]
    if any(one <= other for one, other in pairwise(bid_prices)):
        faults.append(f"bids out of order: {[str(one) for one in bid_prices[:40]]}")
    if any(one >= other for one, other in pairwise(ask_prices)):
        faults.append(f"asks out of order: {[str(one) for one in ask_prices[:40]]}")
    if bid_prices and ask_prices and bid_prices[0] >= ask_prices[0]:
        faults.append(f"crossed: {bid_prices[0]} and {ask_prices[0]}")
    return faults


class NaiveBook:
    """A consumer's book in the plainest way; ``sides`` is None while it may not be used."""

    def __init__(self) -> None:
        self.sides: tuple[dict[Decimal, Decimal], dict[Decimal, Decimal]] | None = None

    def take(self, event: Event) -> None:
        """Apply what was published."""
        if isinstance(event, BookSnapshot):
            is_usable = not {"crossed_by_venue", "rest"}.intersection(event.flags)
            self.sides = (_by_price(event.bids), _by_price(event.asks)) if is_usable else None
        elif isinstance(event, Gap):
            self.sides = None
        elif isinstance(event, BookDelta) and self.sides is not None:
            for side, changes in zip(self.sides, (event.bids, event.asks), strict=True):
                side.update(_by_price(changes))
                for price in [price for price, size in side.items() if not size]:
                    del side[price]

    def faults(self, bids: Sequence[Any], asks: Sequence[Any]) -> list[str]:
        """Say how a book that a consumer calls usable differs from this one, and what is wrong with it."""
        if self.sides is None:
            return ["usable after a gap, without a snapshot"]
        held = (_by_price(bids), _by_price(asks))
        return [*faults_of_book(bids, asks), *(["differs from what was published"] if held != self.sides else [])]


def _by_price(levels: Iterable[Any]) -> dict[Decimal, Decimal]:
    return {Decimal(price): Decimal(size) for price, size in levels}


def _is_level(level: Sequence[Any]) -> bool:
    return len(level) == 2 and is_decimal(level[0]) and is_decimal(level[1]) and _not_negative(level[1])


def _positive(text: str) -> bool:
    return Decimal(text) > 0


def _not_negative(text: str) -> bool:
    return Decimal(text) >= 0


def _fits(value: int | None, bits: int) -> bool:
    """Tell whether a number fits: times into int64, numbers of a venue into either kind of 64 bits."""
    return value is None or -(1 << 63) <= value < (1 << bits)
