"""Hyperliquid: accounts. There is no login: whoever knows an address may see what it holds and does.

Source: Hyperliquid, API documentation, WebSocket subscriptions and info endpoint (perpetuals, spot); members as in
recorded frames: only the first frame of a channel is marked as a snapshot, and ``orderUpdates`` and ``user`` have none.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, ClassVar, Final, TypeGuard

from simulator.accounts.account import SimulatedAccount
from simulator.accounts.credentials import HYPERLIQUID_ADDRESS, HYPERLIQUID_AGENT
from simulator.accounts.money import amount, ratio, rounded
from simulator.accounts.records import (
    AccountOutcome,
    AccountRules,
    FillRecord,
    FundingRecord,
    MarginRecord,
    OrderChange,
    OrderRecord,
    PositionRecord,
)
from simulator.accounts.service import STREAM, AccountService
from simulator.decimals import pointed, shortest
from simulator.market import BUY, Market
from simulator.session import OutgoingFrame
from simulator.venues.hyperliquid.rest import BUILT, DEX, dex_of

if TYPE_CHECKING:
    from simulator.venues.hyperliquid.stream import SimulatedHyperliquid

__all__ = ["USER_DEFAULTS", "HyperliquidAccounts", "is_address"]

#: What the venue fills in, by the user channels that it has.
USER_DEFAULTS: Final[dict[str, dict[str, Any]]] = {
    "orderUpdates": {},
    "userEvents": {},
    "userFills": {"aggregateByTime": False},
    "userFundings": {},
    "openOrders": {"dex": ""},
    "clearinghouseState": {"dex": ""},
    "spotState": {"ignorePortfolioMargin": False},
}
_ADDRESS = re.compile(r"0x[0-9a-fA-F]{40}")
_DEXES: Final = ("", DEX)
_FIRST_ORDER = 300_000_000_000
#: Odd, so that multiplying by it modulo 2^50 maps numbers one to one onto ids that look drawn.
_SCATTER = 0x1D3F84A5B7C96E13
_MOST_FILLS, _MOST_ORDERS, _MOST_FUNDINGS = 2000, 2000, 500
_LEVERAGE, _MOST_LEVERAGE = 20, 40
_NO_HASH = "0x" + 64 * "0"
#: The states of an order that was not filled, by why; what the user does has a plain word.
_ENDED = {"venue": "marginCanceled", "liquidation": "liquidatedCanceled", "margin": "perpMarginRejected"}


def is_address(text: Any) -> TypeGuard[str]:
    """Whether a text has the form of an address."""
    return isinstance(text, str) and _ADDRESS.fullmatch(text) is not None


class HyperliquidAccounts(AccountService):
    """The accounts: that of the simulation, and an empty one for every other address."""

    venue: SimulatedHyperliquid
    rules: ClassVar[AccountRules] = AccountRules(
        quote="USDC",
        maker_e6=150,
        taker_e6=450,
        statuses=frozenset({"open", "filled", "canceled", "rejected"}),
        rejected_status="rejected",
        has_market_orders=False,
        holdings={"USDC": amount(2_500), "HYPE": amount(27) // 2},
    )

    def __init__(self, venue: SimulatedHyperliquid) -> None:
        super().__init__(venue)
        self._nobody = SimulatedAccount([], AccountRules(quote="USDC", maker_e6=0, taker_e6=0), 0, venue.now_ms())
        self.answers: dict[str, Callable[[SimulatedAccount, dict[str, Any]], Any]] = {
            "clearinghouseState": self._state,
            "spotClearinghouseState": self._spot_state,
            "openOrders": lambda account, query: [_basic_order(self, order) for order in _orders(account, query)],
            "frontendOpenOrders": lambda account, query: [
                _full_order(self, order) for order in _orders(account, query)
            ],
            "historicalOrders": self._historical_orders,
            "userFills": lambda account, _: self._fill_rows(account.fills)[::-1][:_MOST_FILLS],
            "userFillsByTime": self._fills_by_time,
            "userFunding": self._funding_by_time,
            "userRole": lambda _, query: _role(query["user"]),
            "userRateLimit": lambda *_: {"cumVlm": "0.0", "nRequestsUsed": 1, "nRequestsCap": 10_000},
        }

    def order_id(self, order: OrderRecord) -> str:
        """``oid``."""
        return str(_FIRST_ORDER + order.number)

    def client_id(self, order: OrderRecord) -> str | None:
        """``cloid``: 16 bytes."""
        return None if order.client is None else f"0x{order.client:032x}"

    def fill_id(self, fill: FillRecord) -> str:
        """``tid``: about 50 bits."""
        return str(fill.number * _SCATTER % 2**50)

    def balances(self) -> list[tuple[str, int, int | None]]:
        """What is held on the spot side; perpetuals have margin only."""
        return [(asset, total, total) for asset, total in self.account.holdings.items()]

    def traded(self) -> list[Market]:
        """Also the builder's market, where nothing happens unless somebody wants it to."""
        return [*super().traded(), self.venue.markets[BUILT]]

    def margin(self) -> MarginRecord:
        """That of the core dex; each other has its own."""
        held = [position for position in self.account.held() if not dex_of(position.market)]
        return self.account.margin_of(held, self.account.wallet)

    def trade_on_builder(self, *, is_wanted: bool) -> None:
        """Let the script trade on the builder's market alone, or on the others."""
        self.script.focus = BUILT if is_wanted else None

    def account_of(self, user: str) -> SimulatedAccount:
        """The account behind an address."""
        return self.account if user.lower() == HYPERLIQUID_ADDRESS else self._nobody

    def answer(self, query: dict[str, Any]) -> Any:
        """The answer to a query about an account; None when the address is none."""
        user = query.get("user")
        return self.answers[query["type"]](self.account_of(user), query) if isinstance(user, str) else None

    def first_frames(self, kind: str, user: str, dex: str = "") -> list[OutgoingFrame]:
        """What a subscriber is told at once; some channels have no state."""
        account = self.account_of(user)
        data: dict[str, Any] | None = None
        if kind == "userFills":
            data = {"isSnapshot": True, "user": user, "fills": self._fill_rows(account.fills)[-_MOST_FILLS:]}
        elif kind == "userFundings":
            data = {"isSnapshot": True, "user": user, "fundings": [_funding(row) for row in account.fundings]}
        elif kind in {"openOrders", "clearinghouseState", "spotState"}:
            data = self._state_data(kind, user, dex)
        if data is None:
            return []
        return [OutgoingFrame(STREAM, "", "snapshot", self.venue.text({"channel": kind, "data": data}))]

    def publish(self, outcome: AccountOutcome) -> None:
        """Orders first, then fills and payments, then the states that they led to."""
        if outcome.changes:
            self._tell("orderUpdates", "orderUpdates", self._order_updates(outcome.changes))
        forced = [change.order for change in outcome.changes if change.order.cause in {"venue", "liquidation"}]
        if forced:
            rows = [{"coin": order.market.listing.name, "oid": int(self.order_id(order))} for order in forced]
            self._tell("userEvents", "user", {"nonUserCancel": rows})
        if outcome.liquidated is not None:
            self._tell("userEvents", "user", {"liquidation": self._liquidation(outcome.liquidated)})
        if outcome.fills:
            rows = self._fill_rows(outcome.fills)
            self._tell("userFills", "userFills", {"user": HYPERLIQUID_ADDRESS, "fills": rows})
            self._tell("userEvents", "user", {"fills": rows})
        if outcome.fundings:
            payments = [_funding(payment) for payment in outcome.fundings]
            self._tell("userFundings", "userFundings", {"user": HYPERLIQUID_ADDRESS, "fundings": payments})
            for payment in payments:
                self._tell("userEvents", "user", {"funding": payment})
        for kind in self._states_after(outcome):
            for dex in _DEXES if "dex" in USER_DEFAULTS[kind] else ("",):
                self._tell(kind, kind, self._state_data(kind, HYPERLIQUID_ADDRESS, dex), dex)

    def _tell(self, kind: str, channel: str, data: Any, dex: str = "") -> None:
        key = self.venue.wanted_by(kind, HYPERLIQUID_ADDRESS, dex)
        self.push(key, lambda: [self.venue.text({"channel": channel, "data": data})])

    def _states_after(self, outcome: AccountOutcome) -> list[str]:
        """The states that an outcome changed."""
        kinds = ["openOrders"] if outcome.changes else []
        if outcome.deposit is not None and outcome.deposit.asset in self.account.holdings:
            return [*kinds, "spotState"]
        return [*kinds, "clearinghouseState"]

    def _state_data(self, kind: str, user: str, dex: str) -> dict[str, Any]:
        account, query = self.account_of(user), {"dex": dex}
        if kind == "spotState":
            return {"user": user, "spotState": self._spot_state(account, {})}
        if kind == "openOrders":
            return {**query, "user": user, "orders": [_full_order(self, one) for one in _orders(account, query)]}
        return {**query, "user": user, "clearinghouseState": self._state(account, query)}

    def _order_updates(self, changes: Iterable[OrderChange]) -> list[dict[str, Any]]:
        return [
            {
                "order": _basic_order(self, change.order),
                "status": _status(change.order),
                "statusTimestamp": change.order.updated_ms,
            }
            for change in changes
        ]

    def _historical_orders(self, account: SimulatedAccount, query: dict[str, Any]) -> list[dict[str, Any]]:
        """All orders, newest first."""
        del query
        known = sorted([*account.closed, *account.orders.values()], key=lambda order: order.updated_ms, reverse=True)
        return [
            {"order": _full_order(self, order), "status": _status(order), "statusTimestamp": order.updated_ms}
            for order in known[:_MOST_ORDERS]
        ]

    def _fills_by_time(self, account: SimulatedAccount, query: dict[str, Any]) -> list[dict[str, Any]]:
        """Fills of a range, oldest first."""
        first, last = int(query["startTime"]), int(query.get("endTime") or self.venue.now_ms())
        return self._fill_rows(fill for fill in account.fills if first <= fill.time_ms <= last)[:_MOST_FILLS]

    def _funding_by_time(self, account: SimulatedAccount, query: dict[str, Any]) -> list[dict[str, Any]]:
        """Payments of a range, oldest first."""
        first, last = int(query["startTime"]), int(query.get("endTime") or self.venue.now_ms())
        rows = [_funding(payment) for payment in account.fundings if first <= payment.time_ms <= last]
        return [
            {"time": row.pop("time"), "hash": _NO_HASH, "delta": {"type": "funding", **row}}
            for row in rows[:_MOST_FUNDINGS]
        ]

    def _fill_rows(self, fills: Iterable[FillRecord]) -> list[dict[str, Any]]:
        return [self._fill_row(fill) for fill in fills]

    def _fill_row(self, fill: FillRecord) -> dict[str, Any]:
        listing = fill.market.listing
        row: dict[str, Any] = {
            "coin": listing.name,
            "px": pointed(fill.price, listing.price_places),
            "sz": pointed(fill.size, listing.size_places),
            "side": "B" if fill.side == BUY else "A",
            "time": fill.time_ms,
            "startPosition": pointed(fill.before, listing.size_places),
            "dir": _direction(fill),
            "closedPnl": _money(fill.realised),
            "hash": "0x" + hashlib.sha256(f"{listing.name}:{fill.order.number}".encode()).hexdigest(),
            "oid": int(self.order_id(fill.order)),
            "crossed": not fill.is_maker,
            "fee": _money(fill.fee),
            "tid": int(self.fill_id(fill)),
            "feeToken": self.rules.quote,
            "twapId": None,
        }
        if self.client_id(fill.order) is not None:
            row["cloid"] = self.client_id(fill.order)
        if fill.order.spec.is_liquidation:
            mark = pointed(fill.price, listing.price_places)
            row["liquidation"] = {"liquidatedUser": HYPERLIQUID_ADDRESS, "markPx": mark, "method": "market"}
        return row

    def _liquidation(self, position: PositionRecord) -> dict[str, Any]:
        return {
            "lid": position.last_fill,
            "liquidator": "0x" + 40 * "f",
            "liquidated_user": HYPERLIQUID_ADDRESS,
            "liquidated_ntl_pos": _money(abs(self.account.worth(position))),
            "liquidated_account_value": _money(self.account.margin().equity),
        }

    def _state(self, account: SimulatedAccount, query: dict[str, Any]) -> dict[str, Any]:
        """The positions of a dex, and their margin; the money is on the core one."""
        dex = query.get("dex") or ""
        held = [position for position in account.held() if dex_of(position.market) == dex]
        wallet = 0 if dex else account.wallet
        margin = account.margin_of(held, wallet)
        summary = {
            "accountValue": _money(margin.equity),
            "totalNtlPos": _money(sum(abs(account.worth(position)) for position in held)),
            "totalRawUsd": _money(wallet - sum(position.cost for position in held)),
            "totalMarginUsed": _money(margin.initial),
        }
        return {
            "marginSummary": summary,
            "crossMarginSummary": dict(summary),
            "crossMaintenanceMarginUsed": _money(margin.maintenance),
            "withdrawable": _money(margin.available),
            "assetPositions": [{"type": "oneWay", "position": _position(account, position)} for position in held],
            "time": self.venue.now_ms(),
        }

    def _spot_state(self, account: SimulatedAccount, query: dict[str, Any]) -> dict[str, Any]:
        del query
        tokens = {"USDC": 0, "HYPE": 150}
        return {
            "balances": [
                {
                    "coin": asset,
                    "token": tokens[asset],
                    "total": pointed(rounded(total, 8), 8),
                    "hold": "0.0",
                    "entryNtl": "0.0",
                }
                for asset, total in account.holdings.items()
            ]
        }


def _orders(account: SimulatedAccount, query: dict[str, Any]) -> list[OrderRecord]:
    """The orders that live on a dex: the core one, unless another is asked for."""
    return [order for order in account.orders.values() if dex_of(order.market) == (query.get("dex") or "")]


def _role(user: str) -> dict[str, Any]:
    """What an address is."""
    if user.lower() == HYPERLIQUID_AGENT:
        return {"role": "agent", "data": {"user": HYPERLIQUID_ADDRESS}}
    return {"role": "user"}


def _money(money: int) -> str:
    return pointed(rounded(money, 6), 6)


def _status(order: OrderRecord) -> str:
    if order.status == "open":
        return "open"
    return _ENDED.get(order.cause, order.status)


def _basic_order(accounts: HyperliquidAccounts, order: OrderRecord) -> dict[str, Any]:
    """An order; ``sz`` is what is left of ``origSz``."""
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


def _full_order(accounts: HyperliquidAccounts, order: OrderRecord) -> dict[str, Any]:
    """An order with what the front end shows."""
    return {
        **_basic_order(accounts, order),
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
    """What a fill did to the position, in the venue's words."""
    after = fill.before + fill.signed
    if fill.before * after < 0:
        return "Long > Short" if fill.before > 0 else "Short > Long"
    side = "Long" if fill.before + after > 0 else "Short"
    return f"{'Open' if abs(after) > abs(fill.before) else 'Close'} {side}"


def _funding(funding: FundingRecord) -> dict[str, Any]:
    """A payment; ``usdc`` is negative when it was paid."""
    listing = funding.position.market.listing
    return {
        "time": funding.time_ms,
        "coin": listing.name,
        "usdc": pointed(rounded(funding.payment, 6), 6),
        "szi": pointed(funding.position.size, listing.size_places),
        "fundingRate": shortest(funding.rate_e12 // 100, 10),
        "nSamples": None,
    }


def _position(account: SimulatedAccount, position: PositionRecord) -> dict[str, Any]:
    listing = position.market.listing
    unrealised, used = account.unrealised(position), abs(account.worth(position)) // _LEVERAGE
    liquidation = account.liquidation_e8(position)
    paid = _money(-position.funding)
    return {
        "coin": listing.name,
        "szi": pointed(position.size, listing.size_places),
        "leverage": {"type": "cross", "value": _LEVERAGE},
        "entryPx": pointed(position.entry(), position.entry_places),
        "positionValue": _money(abs(account.worth(position))),
        "unrealizedPnl": _money(unrealised),
        "returnOnEquity": pointed(ratio(unrealised * 10**10, max(1, used)), 10),
        "liquidationPx": None if liquidation is None else pointed(liquidation, 8),
        "marginUsed": _money(used),
        "maxLeverage": _MOST_LEVERAGE,
        "cumFunding": {"allTime": paid, "sinceOpen": paid, "sinceChange": paid},
    }
