"""Aster: texts of an account's messages, on the stream and over REST."""

from __future__ import annotations

from simulator.accounts.money import rounded
from simulator.accounts.records import OrderChange, OrderRecord, PositionRecord
from simulator.decimals import padded

_STATUS = {"open": "NEW", "filled": "FILLED", "canceled": "CANCELED", "expired": "EXPIRED"}


def money_text(money: int) -> str:
    """Return money with eight decimals."""
    return padded(rounded(money, 8), 8)


def entry_text(position: PositionRecord) -> str:
    """Return the average entry price with at least five decimals."""
    return padded(position.entry(), position.entry_places, max(5, position.entry_places))


def status_of(order: OrderRecord) -> str:
    """Return the state of an order."""
    return "PARTIALLY_FILLED" if order.status == "open" and order.filled else _STATUS[order.status]


def kind_of(order: OrderRecord) -> str:
    """Return the type of an order."""
    if order.spec.is_liquidation:
        return "LIQUIDATION"
    return "MARKET" if order.spec.price is None else "LIMIT"


def execution_of(change: OrderChange) -> str:
    """Return the execution type of an order's change."""
    if change.fill is not None:
        return "CALCULATED" if change.order.spec.is_liquidation else "TRADE"
    return status_of(change.order)
