"""Lighter: messages of an account's orders, trades, positions, assets and statistics, on the stream and over REST.

Source: Lighter, API documentation, data structures; members as in fixtures of client libraries. Positions are
unsigned with a separate sign, fees are rates in millionths, and of a trade's counterparty only the account is known.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable
from typing import Any

from simulator.accounts.credentials import LIGHTER_ACCOUNT
from simulator.accounts.money import cost_of, ratio, rounded
from simulator.accounts.records import FillRecord, OrderRecord, PositionRecord
from simulator.accounts.service import AccountService
from simulator.decimals import padded
from simulator.market import BUY, Market
from simulator.venues.lighter.markets import LighterMarkets

FIRST_ORDER, FIRST_NONCE = 281_476_000_000_000, 9_182_000_000
_COUNTERPARTY = 91_249
_ASSETS = {"ETH": 1, "USDC": 3}
_ENDED = {"margin": "-margin-not-allowed", "liquidation": "-liquidation", "venue": "-self-trade", "expiry": "-expired"}


class LighterAccountMessages:
    """Builder of the account's rows and states."""

    def __init__(self, accounts: AccountService, markets: LighterMarkets) -> None:
        self._accounts = accounts
        self._markets = markets

    def by_market(self, records: Iterable[Any], row_of: Callable[[Any], dict[str, Any]]) -> dict[str, Any]:
        """Return rows by market id."""
        rows: dict[str, list[dict[str, Any]]] = {}
        for record in records:
            rows.setdefault(str(self._markets.id_of(record.market)), []).append(row_of(record))
        return rows

    def order_row(self, order: OrderRecord) -> dict[str, Any]:
        """Return an order; nothing remains of one that ended."""
        spec, listing, places = order.spec, order.market.listing, order.market.listing.size_places
        number, client = self._accounts.order_id(order), self._accounts.client_id(order) or "0"
        # A market order reports its worst acceptable price; a liquidation has none.
        price = spec.price or (0 if spec.is_liquidation else order.market.listing.price)
        return {
            "order_index": int(number),
            "client_order_index": int(client),
            "order_id": number,
            "client_order_id": client,
            "market_index": self._markets.id_of(order.market),
            "owner_account_index": LIGHTER_ACCOUNT,
            "initial_base_amount": padded(spec.size, places),
            "price": padded(price, listing.price_places),
            "nonce": FIRST_NONCE + order.number,
            "remaining_base_amount": padded(order.remaining if order.is_live else 0, places),
            "is_ask": spec.side != BUY,
            "base_size": spec.size,
            "base_price": price,
            "filled_base_amount": padded(order.filled, places),
            "filled_quote_amount": money_text(order.cost),
            "side": spec.side,
            "type": _kind(order),
            "time_in_force": "immediate-or-cancel" if spec.price is None else "good-till-time",
            "reduce_only": spec.is_reduce_only,
            "trigger_price": padded(spec.trigger or 0, listing.price_places),
            "order_expiry": order.created_ms + 28 * 24 * 3_600_000,
            "status": "pending" if order.status == "untriggered" else _status(order),
            "trigger_status": "mark-price" if order.status == "untriggered" else "na",
            "trigger_time": 0,
            "parent_order_index": 0,
            "parent_order_id": "0",
            "to_trigger_order_id_0": "0",
            "to_trigger_order_id_1": "0",
            "to_cancel_order_id_0": "0",
            "integrator_fee_collector_index": "0",
            "integrator_taker_fee": "0",
            "integrator_maker_fee": "0",
            "block_height": 227_000_000 + order.number,
            "timestamp": order.created_ms,
            "created_at": order.created_ms,
            "updated_at": order.updated_ms,
            "transaction_time": order.updated_ms * 1000 + order.number % 1000,
        }

    def trade_row(self, fill: FillRecord) -> dict[str, Any]:
        """Return a trade with both sides; the counterparty is a fixed account."""
        listing, is_buy = fill.market.listing, fill.side == BUY
        ours = (self._accounts.order_id(fill.order), self._accounts.client_id(fill.order) or "0", LIGHTER_ACCOUNT)
        theirs = (str(2 * FIRST_ORDER - fill.number), "0", _COUNTERPARTY)
        ask, bid = (theirs, ours) if is_buy else (ours, theirs)
        return {
            "trade_id": int(self._accounts.fill_id(fill)),
            "trade_id_str": self._accounts.fill_id(fill),
            "tx_hash": hashlib.sha256(self._accounts.fill_id(fill).encode()).hexdigest()[:16],
            "type": "liquidation" if fill.order.spec.is_liquidation else "trade",
            "market_id": self._markets.id_of(fill.market),
            "size": padded(fill.size, listing.size_places),
            "price": padded(fill.price, listing.price_places),
            "usd_amount": money_text(cost_of(listing, fill.price, fill.size)),
            "ask_id": int(ask[0]),
            "ask_id_str": ask[0],
            "bid_id": int(bid[0]),
            "bid_id_str": bid[0],
            "ask_client_id": int(ask[1]),
            "ask_client_id_str": ask[1],
            "bid_client_id": int(bid[1]),
            "bid_client_id_str": bid[1],
            "ask_account_id": ask[2],
            "bid_account_id": bid[2],
            "is_maker_ask": fill.is_maker != is_buy,
            "block_height": 227_000_000 + fill.number,
            "timestamp": fill.time_ms,
            "taker_fee": self._accounts.rules.taker_e6,
            "maker_fee": self._accounts.rules.maker_e6,
            "transaction_time": fill.time_ms * 1000 + fill.number % 1000,
        }

    def positions(self, markets: Iterable[Market]) -> dict[str, Any]:
        """Return the positions of some markets; the format of funding rounds is not documented, so they are null."""
        held = self._accounts.account.positions
        rows = [self.position_row(held[market.listing.symbol]) for market in markets]
        by_id = {str(row["market_id"]): row for row in rows}
        return {"positions": by_id, "shares": [], "last_funding_round": None, "last_funding_discount": None}

    def position_row(self, position: PositionRecord) -> dict[str, Any]:
        """Return a position, also a closed one."""
        listing, orders = position.market.listing, self._accounts.account.orders.values()
        here = [order for order in orders if order.market is position.market]
        liquidation = self._accounts.account.liquidation_e8(position)
        return {
            "market_id": self._markets.id_of(position.market),
            "symbol": listing.name,
            "initial_margin_fraction": padded(self._accounts.rules.initial_e6 // 100, 2),
            "open_order_count": len(here),
            "pending_order_count": sum(order.status == "untriggered" for order in here),
            "position_tied_order_count": 0,
            "sign": 1 if position.size >= 0 else -1,
            "position": padded(abs(position.size), listing.size_places),
            "avg_entry_price": padded(position.entry(), position.entry_places),
            "position_value": money_text(abs(self._accounts.account.worth(position))),
            "unrealized_pnl": money_text(self._accounts.account.unrealised(position)),
            "realized_pnl": money_text(position.realised),
            "liquidation_price": "0" if liquidation is None else padded(liquidation, 8),
            "total_funding_paid_out": money_text(-position.funding),
            "margin_mode": 0,
            "allocated_margin": "0.000000",
            "total_discount": "0.000000",
        }

    def assets(self) -> dict[str, Any]:
        """Return the balance of each asset."""
        rows = {
            str(_ASSETS[asset]): {
                "symbol": asset,
                "asset_id": _ASSETS[asset],
                "balance": money_text(total),
                "locked_balance": "0.000000",
            }
            for asset, total in self._accounts.account.holdings.items()
        }
        return {"assets": rows, "timestamp": self._accounts.venue.now_ms()}

    def stats(self) -> dict[str, Any]:
        """Return collateral and margin."""
        account, margin = self._accounts.account, self._accounts.account.margin()
        exposure = sum(abs(account.worth(position)) for position in account.held())
        sums = {
            "collateral": money_text(account.wallet),
            "portfolio_value": money_text(margin.equity),
            "leverage": padded(ratio(exposure * 100, max(1, margin.equity)), 2),
            "available_balance": money_text(margin.available),
            "margin_usage": padded(ratio(margin.initial * 10_000, max(1, margin.equity)), 2),
            "buying_power": money_text(margin.available * 20),
        }
        both = {"account_trading_mode": 0, "cross_stats": dict(sums), "total_stats": dict(sums)}
        return {"stats": {**sums, **both}, "timestamp": self._accounts.venue.now_ms()}


def money_text(money: int) -> str:
    """Return money with six decimals."""
    return padded(rounded(money, 6), 6)


def _status(order: OrderRecord) -> str:
    return "canceled" + _ENDED.get(order.cause, "") if order.cause else order.status


def _kind(order: OrderRecord) -> str:
    if order.spec.is_liquidation:
        return "liquidation"
    if order.spec.trigger is not None:
        return "stop-loss-limit"
    return "market" if order.spec.price is None else "limit"
