"""Aster: texts of an account's messages, on the stream and over REST."""

from __future__ import annotations

from simulator.accounts.money import rounded
from simulator.accounts.records import OrderChange, OrderRecord, PositionRecord
from simulator.decimals import padded

__all__ = ["entry_text", "execution_of", "kind_of", "money_text", "status_of"]

_STATUS = {"open": "NEW", "filled": "FILLED", "canceled": "CANCELED", "expired": "EXPIRED"}


def money_text(money: int) -> str:
    """Money, eight decimals."""
    return padded(rounded(money, 8), 8)


def entry_text(position: PositionRecord) -> str:
    """An average entry price, at least five decimals."""
    return padded(position.entry(), position.entry_places, max(5, position.entry_places))


def status_of(order: OrderRecord) -> str:
    """The state of an order."""
    return "PARTIALLY_FILLED" if order.status == "open" and order.filled else _STATUS[order.status]


def kind_of(order: OrderRecord) -> str:
    """The type of an order."""
    if order.spec.is_liquidation:
        return "LIQUIDATION"
    return "MARKET" if order.spec.price is None else "LIMIT"


def execution_of(change: OrderChange) -> str:
    """What happened to an order, in one word."""
    if change.fill is not None:
        return "CALCULATED" if change.order.spec.is_liquidation else "TRADE"
    return status_of(change.order)
