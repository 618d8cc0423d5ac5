"""Extended: rows of an account's orders, trades and positions, on its stream and over REST.

Source: Extended, API documentation, account stream and private REST API; members and number formats as documented.
"""

from __future__ import annotations

from typing import Any

from simulator.accounts.money import cost_of, rounded
from simulator.accounts.records import FillRecord, OrderRecord, PositionRecord
from simulator.accounts.service import AccountService
from simulator.decimals import padded, shortest

ACCOUNT_ID = 3017
_LEVERAGE = 20
_STATUS = {
    "open": "NEW",
    "untriggered": "UNTRIGGERED",
    "filled": "FILLED",
    "canceled": "CANCELLED",
    "rejected": "REJECTED",
    "expired": "EXPIRED",
}
_REASONS = {"margin": "NOT_ENOUGH_FUNDS", "liquidation": "LIQUIDATION", "venue": "SELF_TRADE_PROTECTION"}


def order_row(accounts: AccountService, order: OrderRecord) -> dict[str, Any]:
    """Return an order."""
    spec, listing = order.spec, order.market.listing
    kind = "CONDITIONAL" if spec.trigger is not None else "MARKET" if spec.price is None else "LIMIT"
    row: dict[str, Any] = {
        "id": int(accounts.order_id(order)),
        "accountId": ACCOUNT_ID,
        "externalId": accounts.client_id(order),
        "market": listing.name,
        "type": kind,
        "side": spec.side.upper(),
        "status": _status(order),
        "price": padded(spec.price or listing.price, listing.price_places, listing.price_places + 2),
        "averagePrice": padded(order.average_e8(), 8) if order.filled else "0",
        "qty": padded(spec.size, listing.size_places),
        "filledQty": padded(order.filled, listing.size_places),
        "payedFee": money_text(order.fees),
        "reduceOnly": spec.is_reduce_only,
        "postOnly": False,
        "createdTime": order.created_ms,
        "updatedTime": order.updated_ms,
        "timeInForce": "IOC" if spec.price is None else "GTT",
        "expireTime": order.created_ms + 90 * 24 * 3_600_000,
    }
    if order.cause in _REASONS:
        row["statusReason"] = _REASONS[order.cause]
    if spec.trigger is not None:
        row["trigger"] = {
            "triggerPrice": shortest(spec.trigger, listing.price_places),
            "triggerPriceType": "MARK",
            "triggerPriceDirection": "UP" if spec.side == "buy" else "DOWN",
            "executionPriceType": "LIMIT",
        }
    return row


def trade_row(accounts: AccountService, fill: FillRecord) -> dict[str, Any]:
    """Return a trade."""
    listing = fill.market.listing
    return {
        "id": int(accounts.fill_id(fill)),
        "accountId": ACCOUNT_ID,
        "market": listing.name,
        "orderId": int(accounts.order_id(fill.order)),
        "externalOrderId": accounts.client_id(fill.order),
        "side": fill.side.upper(),
        "price": padded(fill.price, listing.price_places, 16),
        "qty": padded(fill.size, listing.size_places, 16),
        "value": money_text(cost_of(listing, fill.price, fill.size)),
        "fee": money_text(fill.fee),
        "tradeType": "LIQUIDATION" if fill.order.spec.is_liquidation else "TRADE",
        "isTaker": not fill.is_maker,
        "createdTime": fill.time_ms,
    }


def position_row(accounts: AccountService, position: PositionRecord) -> dict[str, Any]:
    """Return a position: the size is unsigned, and zero for a closed one."""
    listing, account = position.market.listing, accounts.account
    liquidation, worth = account.liquidation_e8(position), abs(account.worth(position))
    return {
        "id": 10**6 + sum(listing.name.encode()),
        "accountId": ACCOUNT_ID,
        "market": listing.name,
        "side": "LONG" if position.size >= 0 else "SHORT",
        "leverage": str(_LEVERAGE),
        "size": padded(abs(position.size), listing.size_places),
        "value": money_text(worth),
        "openPrice": padded(position.entry(), position.entry_places),
        "markPrice": shortest(account.marks_e8[listing.symbol], 8),
        "liquidationPrice": "0" if liquidation is None else shortest(liquidation, 8),
        "margin": money_text(worth // _LEVERAGE),
        "unrealisedPnl": money_text(account.unrealised(position)),
        "realisedPnl": money_text(position.realised),
        "createdAt": position.opened_ms,
        "updatedAt": position.updated_ms,
    }


def money_text(money: int) -> str:
    """Return money with six decimals."""
    return padded(rounded(money, 6), 6)


def _status(order: OrderRecord) -> str:
    if order.status == "open" and order.filled:
        return "PARTIALLY_FILLED"
    if order.status == "open" and order.spec.trigger is not None:
        return "TRIGGERED"
    return _STATUS[order.status]
