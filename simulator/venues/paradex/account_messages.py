"""Paradex: messages of an account's orders, fills, positions, summary and balance events.

JSON on the stream and over REST; templates 20 to 23 on binary connections. The size of a position is signed in JSON
and unsigned in binary.

Source: Paradex, WebSocket documentation (private channels, binary encoding, schema 1) and REST documentation.
"""

from __future__ import annotations

import struct
from itertools import count
from typing import Any

from simulator.accounts.credentials import PARADEX_ACCOUNT
from simulator.accounts.money import PLACES, rounded
from simulator.accounts.records import FillRecord, FundingRecord, OrderRecord, PositionRecord
from simulator.accounts.service import AccountService
from simulator.decimals import shortest
from simulator.market import BUY
from simulator.venue import SimulatedVenue
from simulator.venues.paradex import sbe
from simulator.venues.paradex.messages import level_e8

_ORDER = struct.Struct("<qqBBBB5qqq32sqqBB")
_FILL = struct.Struct("<qqBBBqqqqq32sqq")
_POSITION = struct.Struct("<qqB8q32s5qB")
_ACCOUNT = struct.Struct("<qqqqqqqqq32sqB")
#: Fields that version 2 appends to an order, a fill and an account; older clients skip them.
_ORDER_2, _FILL_2, _ACCOUNT_2 = struct.Struct("<BB"), struct.Struct("<BQ"), struct.Struct("<q")
_ADDRESS = int(PARADEX_ACCOUNT, 16).to_bytes(32, "big")
_STATES = {"NEW": 1, "UNTRIGGERED": 2, "OPEN": 3, "CLOSED": 4}
_KINDS = {"LIMIT": 1, "MARKET": 2, "STOP_LIMIT": 3}
_LEVERAGE = 20
#: Reasons why an unfilled order was closed.
_REASONS = {"user": "USER_CANCELED", "venue": "SELF_TRADE", "margin": "NOT_ENOUGH_MARGIN", "liquidation": "LIQUIDATION"}


class ParadexAccountMessages:
    """Builder of the account's messages."""

    def __init__(self, venue: SimulatedVenue, accounts: AccountService) -> None:
        self._venue = venue
        self._accounts = accounts
        self._seqs = count(1)

    def order_json(self, order: OrderRecord, state: str) -> dict[str, Any]:
        """Return an order in a state of the venue: ``NEW``, ``UNTRIGGERED``, ``OPEN`` or ``CLOSED``."""
        spec, listing = order.spec, order.market.listing
        return {
            "account": PARADEX_ACCOUNT,
            "avg_fill_price": shortest(order.average_e8(), 8) if order.filled else "",
            "cancel_reason": _REASONS.get(order.cause, ""),
            "client_id": self._accounts.client_id(order) or "",
            "created_at": order.created_ms,
            "flags": ["REDUCE_ONLY"] if spec.is_reduce_only else [],
            "id": self._accounts.order_id(order),
            "instruction": "IOC" if spec.price is None else "GTC",
            "last_updated_at": order.updated_ms,
            "market": listing.name,
            "price": shortest(spec.price or 0, listing.price_places),
            "published_at": self._venue.now_ms(),
            "received_at": order.created_ms,
            "remaining_size": shortest(order.remaining, listing.size_places),
            "seq_no": self._next_seq(),
            "side": spec.side.upper(),
            "size": shortest(spec.size, listing.size_places),
            "status": state,
            "stp": "",
            "timestamp": order.created_ms,
            "trigger_price": shortest(spec.trigger or 0, listing.price_places),
            "type": _kind(order),
        }

    def order_sbe(self, version: int, order: OrderRecord, state: str) -> bytes:
        """Return template 20: an order."""
        spec, market = order.spec, order.market
        numbers = (
            sbe.NULL if spec.price is None else level_e8(market, spec.price, 0)[0],
            sbe.NULL if spec.trigger is None else level_e8(market, spec.trigger, 0)[0],
            level_e8(market, 0, spec.size)[1],
            level_e8(market, 0, order.remaining)[1],
            order.average_e8() if order.filled else sbe.NULL,
        )
        words = (_STATES[state], _side(spec.side), _KINDS[_kind(order)], 2 if spec.price is None else 1)
        block = _ORDER.pack(
            self._venue.now_us(),
            self._next_seq(),
            *words,
            *numbers,
            order.created_ms * 1000,
            order.updated_ms * 1000,
            _ADDRESS,
            order.created_ms * 1000,
            self._venue.now_us(),
            0,
            int(spec.is_reduce_only),
        )
        more = _ORDER_2.pack(254, 254) if version >= 2 else b""
        reason = _REASONS.get(order.cause, "")
        client = self._accounts.client_id(order) or ""
        return sbe.frame(20, version, block + more, self._accounts.order_id(order), client, market.listing.name, reason)

    def fill_json(self, fill: FillRecord) -> dict[str, Any]:
        """Return a fill; a negative fee is a rebate."""
        listing = fill.market.listing
        return {
            "account": PARADEX_ACCOUNT,
            "client_id": self._accounts.client_id(fill.order) or "",
            "created_at": fill.time_ms,
            "fee": shortest(fill.fee, PLACES),
            "fee_currency": self._accounts.rules.quote,
            "fill_type": "LIQUIDATION" if fill.order.spec.is_liquidation else "FILL",
            "flags": [],
            "id": self._accounts.fill_id(fill),
            "liquidity": "MAKER" if fill.is_maker else "TAKER",
            "market": listing.name,
            "order_id": self._accounts.order_id(fill.order),
            "price": shortest(fill.price, listing.price_places),
            "realized_funding": "0",
            "realized_pnl": _money(fill.realised),
            "remaining_size": shortest(fill.order.remaining - fill.size, listing.size_places),
            "side": fill.side.upper(),
            "size": shortest(fill.size, listing.size_places),
            "trade_id": self._accounts.fill_id(fill),
            "underlying_price": shortest(fill.market.index_e8, 8),
        }

    def fill_sbe(self, version: int, fill: FillRecord) -> bytes:
        """Return template 21: a fill, with the asset of the fee from version 2 on."""
        price, size = level_e8(fill.market, fill.price, fill.size)
        kind = 2 if fill.order.spec.is_liquidation else 1
        block = _FILL.pack(
            self._venue.now_us(),
            self._next_seq(),
            kind,
            _side(fill.side),
            1 if fill.is_maker else 2,
            price,
            size,
            rounded(fill.fee, 8),
            rounded(fill.realised, 8) if fill.realised else sbe.NULL,
            fill.time_ms * 1000,
            _ADDRESS,
            fill.market.index_e8,
            0,
        )
        number = self._accounts.fill_id(fill)
        texts = [number, self._accounts.order_id(fill.order), self._accounts.client_id(fill.order) or "", number]
        texts.append(fill.market.listing.name)
        if version >= 2:
            block += _FILL_2.pack(0, self._venue.book_seq(fill.market))
            texts.append(self._accounts.rules.quote)
        return sbe.frame(21, version, block, *texts)

    def position_json(self, position: PositionRecord) -> dict[str, Any]:
        """Return a position, also a closed one."""
        listing, account = position.market.listing, self._accounts.account
        liquidation = account.liquidation_e8(position)
        entry, cost = shortest(position.entry(), position.entry_places), _money(position.cost)
        return {
            "id": f"{PARADEX_ACCOUNT}-{listing.name}",
            "account": PARADEX_ACCOUNT,
            "market": listing.name,
            "status": "OPEN" if position.size else "CLOSED",
            "side": "LONG" if position.size >= 0 else "SHORT",
            "size": shortest(position.size, listing.size_places),
            "average_entry_price": entry,
            "average_entry_price_usd": entry,
            "average_exit_price": "",
            "realized_positional_pnl": _money(position.realised),
            "realized_positional_funding_pnl": _money(position.funding),
            "unrealized_pnl": _money(account.unrealised(position)),
            "unrealized_funding_pnl": "0",
            "leverage": str(_LEVERAGE),
            "cost": cost,
            "cost_usd": cost,
            "cached_funding_index": shortest(position.market.index_e8, 8),
            "created_at": position.opened_ms,
            "last_updated_at": position.updated_ms,
            "last_fill_id": id_text(position.last_fill, position.updated_ms),
            "seq_no": self._next_seq(),
            "liquidation_price": "" if liquidation is None else shortest(liquidation, 8),
        }

    def position_sbe(self, version: int, position: PositionRecord) -> bytes:
        """Return template 22: a position with an unsigned size, and no mark."""
        account, market = self._accounts.account, position.market
        entry_e8 = position.entry() * 10 ** (8 - position.entry_places)
        liquidation, cost = account.liquidation_e8(position), rounded(position.cost, 8)
        block = _POSITION.pack(
            self._venue.now_us(),
            self._next_seq(),
            1 if position.size >= 0 else 2,
            level_e8(market, 0, abs(position.size))[1],
            entry_e8,
            rounded(account.unrealised(position), 8),
            rounded(position.realised, 8),
            sbe.NULL,
            sbe.NULL if liquidation is None else liquidation,
            _LEVERAGE * 10**8,
            position.updated_ms * 1000,
            _ADDRESS,
            entry_e8,
            cost,
            cost,
            market.index_e8,
            0,
            1 if position.size else 2,
        )
        last = id_text(position.last_fill, position.updated_ms)
        return sbe.frame(22, version, block, market.listing.name, last)

    def summary_json(self) -> dict[str, Any]:
        """Return collateral and margin."""
        margin = self._accounts.account.margin()
        return {
            "account": PARADEX_ACCOUNT,
            "account_value": _money(margin.equity),
            "free_collateral": _money(margin.available),
            "initial_margin_requirement": _money(margin.initial),
            "maintenance_margin_requirement": _money(margin.maintenance),
            "margin_cushion": _money(margin.equity - margin.maintenance),
            "seq_no": self._next_seq(),
            "settlement_asset": self._accounts.rules.quote,
            "status": "ACTIVE",
            "total_collateral": _money(self._accounts.account.wallet),
            "updated_at": self._venue.now_ms(),
        }

    def summary_sbe(self, version: int) -> bytes:
        """Return template 23: collateral and margin."""
        margin = self._accounts.account.margin()
        block = _ACCOUNT.pack(
            self._venue.now_us(),
            self._next_seq(),
            rounded(self._accounts.account.wallet, 8),
            rounded(margin.available, 8),
            rounded(margin.initial, 8),
            rounded(margin.maintenance, 8),
            rounded(margin.equity, 8),
            sbe.NULL,
            self._venue.now_us(),
            _ADDRESS,
            rounded(margin.equity - margin.maintenance, 8),
            1,
        )
        more = _ACCOUNT_2.pack(0) if version >= 2 else b""
        return sbe.frame(23, version, block + more, self._accounts.rules.quote)

    def balance_event(self, before: int, after: int, cause: FillRecord | FundingRecord | None) -> dict[str, Any]:
        """Return a change of the wallet by a fill, a payment for a position, or, without a cause, a deposit."""
        event = {
            "created_at": self._venue.now_ms(),
            "fees": "0",
            "fill_id": "",
            "funding_index": "0",
            "market": "",
            "realized_funding": "0",
            "realized_pnl": "0",
            "settlement_asset_balance_after": _money(after),
            "settlement_asset_balance_before": _money(before),
            "settlement_asset_price": "1",
            "status": "settled",
            "type": "deposit",
        }
        if isinstance(cause, FundingRecord):
            market = cause.position.market
            event |= {"type": "funding", "market": market.listing.name, "realized_funding": _money(cause.payment)}
        elif cause is not None:
            event |= {"type": "trade", "market": cause.market.listing.name, "fill_id": self._accounts.fill_id(cause)}
            event |= {"fees": shortest(cause.fee, PLACES), "realized_pnl": _money(cause.realised)}
            event |= {"funding_index": shortest(cause.market.index_e8, 8)}
        return event

    def _next_seq(self) -> int:
        """Return a growing number; the last three digits are not in order."""
        return self._venue.now_us() * 1000 + next(self._seqs) % 1000

    def funding_json(self, funding: FundingRecord) -> dict[str, Any]:
        """Return a payment for a position."""
        market = funding.position.market
        return {
            "account": PARADEX_ACCOUNT,
            "created_at": funding.time_ms,
            "fill_id": "",
            "id": f"{funding.time_ms}{sum(market.listing.name.encode()):015d}",
            "index": shortest(market.index_e8, 8),
            "market": market.listing.name,
            "payment": _money(funding.payment),
        }


def id_text(number: int, time_ms: int) -> str:
    """Return an id: 28 digits that begin with the time; empty for number 0."""
    return f"{time_ms}{number:015d}" if number else ""


def _money(money: int) -> str:
    return shortest(rounded(money, 8), 8)


def _side(side: str) -> int:
    return 1 if side == BUY else 2


def _kind(order: OrderRecord) -> str:
    if order.spec.trigger is not None:
        return "STOP_LIMIT"
    return "MARKET" if order.spec.price is None else "LIMIT"
