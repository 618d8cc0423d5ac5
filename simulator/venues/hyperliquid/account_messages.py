"""Hyperliquid: messages of accounts, on the stream and over REST.

Source: Hyperliquid, API documentation, WebSocket subscriptions and info endpoint (perpetuals, spot); members as in
recorded frames.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from typing import Any

from simulator.accounts.account import SimulatedAccount
from simulator.accounts.credentials import HYPERLIQUID_ADDRESS
from simulator.accounts.money import ratio, rounded
from simulator.accounts.records import FillRecord, FundingRecord, OrderRecord, PositionRecord
from simulator.accounts.service import AccountService
from simulator.decimals import pointed, shortest
from simulator.market import BUY

_LEVERAGE, _MOST_LEVERAGE = 20, 40
#: Final states by cause; an order that its owner canceled is ``canceled``.
_ENDED = {"venue": "marginCanceled", "liquidation": "liquidatedCanceled", "margin": "perpMarginRejected"}


def money_text(money: int) -> str:
    """Return money with at most six decimals."""
    return pointed(rounded(money, 6), 6)


def status_of(order: OrderRecord) -> str:
    """Return the state of an order."""
    if order.status == "open":
        return "open"
    return _ENDED.get(order.cause, order.status)


def basic_order(accounts: AccountService, order: OrderRecord) -> dict[str, Any]:
    """Return an order; ``sz`` is the remainder of ``origSz``."""
    spec, listing = order.spec, order.market.listing
    row: dict[str, Any] = {
        "coin": listing.name,
        "side": "B" if spec.side == BUY else "A",
        "limitPx": pointed(spec.price or 0, listing.price_places),
        "sz": pointed(order.remaining, listing.size_places),
        "oid": int(accounts.order_id(order)),
        "timestamp": order.created_ms,
        "origSz": pointed(spec.size, listing.size_places),
    }
    cloid = accounts.client_id(order)
    return row if cloid is None else {**row, "cloid": cloid}


def full_order(accounts: AccountService, order: OrderRecord) -> dict[str, Any]:
    """Return an order with the members that the front end shows."""
    return {
        **basic_order(accounts, order),
        "cloid": accounts.client_id(order),
        "children": [],
        "isPositionTpsl": False,
        "isTrigger": False,
        "orderType": "Limit",
        "reduceOnly": order.spec.is_reduce_only,
        "tif": "Gtc",
        "triggerCondition": "N/A",
        "triggerPx": "0.0",
    }


def _direction(fill: FillRecord) -> str:
    """Return the effect of a fill on the position, in the venue's words."""
    after = fill.before + fill.signed
    if fill.before * after < 0:
        return "Long > Short" if fill.before > 0 else "Short > Long"
    side = "Long" if fill.before + after > 0 else "Short"
    return f"{'Open' if abs(after) > abs(fill.before) else 'Close'} {side}"


def funding_row(funding: FundingRecord) -> dict[str, Any]:
    """Return a payment; ``usdc`` is negative when the account paid."""
    listing = funding.position.market.listing
    return {
        "time": funding.time_ms,
        "coin": listing.name,
        "usdc": pointed(rounded(funding.payment, 6), 6),
        "szi": pointed(funding.position.size, listing.size_places),
        "fundingRate": shortest(funding.rate_e12 // 100, 10),
        "nSamples": None,
    }


def position_row(account: SimulatedAccount, position: PositionRecord) -> dict[str, Any]:
    """Return a position."""
    listing = position.market.listing
    unrealised, used = account.unrealised(position), abs(account.worth(position)) // _LEVERAGE
    liquidation = account.liquidation_e8(position)
    paid = money_text(-position.funding)
    return {
        "coin": listing.name,
        "szi": pointed(position.size, listing.size_places),
        "leverage": {"type": "cross", "value": _LEVERAGE},
        "entryPx": pointed(position.entry(), position.entry_places),
        "positionValue": money_text(abs(account.worth(position))),
        "unrealizedPnl": money_text(unrealised),
        "returnOnEquity": pointed(ratio(unrealised * 10**10, max(1, used)), 10),
        "liquidationPx": None if liquidation is None else pointed(liquidation, 8),
        "marginUsed": money_text(used),
        "maxLeverage": _MOST_LEVERAGE,
        "cumFunding": {"allTime": paid, "sinceOpen": paid, "sinceChange": paid},
    }


def fill_rows(accounts: AccountService, fills: Iterable[FillRecord]) -> list[dict[str, Any]]:
    """Return fills."""
    return [_fill_row(accounts, fill) for fill in fills]


def _fill_row(accounts: AccountService, fill: FillRecord) -> dict[str, Any]:
    listing = fill.market.listing
    row: dict[str, Any] = {
        "coin": listing.name,
        "px": pointed(fill.price, listing.price_places),
        "sz": pointed(fill.size, listing.size_places),
        "side": "B" if fill.side == BUY else "A",
        "time": fill.time_ms,
        "startPosition": pointed(fill.before, listing.size_places),
        "dir": _direction(fill),
        "closedPnl": money_text(fill.realised),
        "hash": "0x" + hashlib.sha256(f"{listing.name}:{fill.order.number}".encode()).hexdigest(),
        "oid": int(accounts.order_id(fill.order)),
        "crossed": not fill.is_maker,
        "fee": money_text(fill.fee),
        "tid": int(accounts.fill_id(fill)),
        "feeToken": accounts.rules.quote,
        "twapId": None,
    }
    if accounts.client_id(fill.order) is not None:
        row["cloid"] = accounts.client_id(fill.order)
    if fill.order.spec.is_liquidation:
        mark = pointed(fill.price, listing.price_places)
        row["liquidation"] = {"liquidatedUser": HYPERLIQUID_ADDRESS, "markPx": mark, "method": "market"}
    return row


def liquidation_row(accounts: AccountService, position: PositionRecord) -> dict[str, Any]:
    """Return a liquidation, with the position before it."""
    return {
        "lid": position.last_fill,
        "liquidator": "0x" + 40 * "f",
        "liquidated_user": HYPERLIQUID_ADDRESS,
        "liquidated_ntl_pos": money_text(abs(accounts.account.worth(position))),
        "liquidated_account_value": money_text(accounts.account.margin().equity),
    }
