"""Hyperliquid: accounts. There is no login: every account is public by its address.

Source: Hyperliquid, API documentation, WebSocket subscriptions and info endpoint (perpetuals, spot); members as in
recorded frames: only the first frame of a channel is marked as a snapshot, and ``orderUpdates`` and ``user`` have none.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, ClassVar, Final

from simulator.accounts.account import SimulatedAccount
from simulator.accounts.credentials import HYPERLIQUID_ADDRESS, HYPERLIQUID_AGENT
from simulator.accounts.money import amount, rounded
from simulator.accounts.records import AccountOutcome, AccountRules, FillRecord, MarginRecord, OrderChange, OrderRecord
from simulator.accounts.service import STREAM, AccountService
from simulator.decimals import pointed
from simulator.market import Market
from simulator.session import OutgoingFrame
from simulator.venue import SimulatedVenue
from simulator.venues.hyperliquid import account_messages as messages
from simulator.venues.hyperliquid.account_messages import basic_order, full_order, status_of
from simulator.venues.hyperliquid.messages import BUILT, DEX, NO_HASH, USER_DEFAULTS, dex_of
from simulator.venues.hyperliquid.session import HyperliquidChannel

_DEXES: Final = ("", DEX)
_FIRST_ORDER = 300_000_000_000
#: Odd, so multiplication modulo 2^50 maps numbers one to one onto ids that look random.
_SCATTER = 0x1D3F84A5B7C96E13
_MOST_FILLS, _MOST_ORDERS, _MOST_FUNDINGS = 2000, 2000, 500


class HyperliquidAccounts(AccountService):
    """Accounts: the simulated one, and an empty one for every other address."""

    rules: ClassVar[AccountRules] = AccountRules(
        quote="USDC",
        maker_e6=150,
        taker_e6=450,
        statuses=frozenset({"open", "filled", "canceled", "rejected"}),
        rejected_status="rejected",
        has_market_orders=False,
        holdings={"USDC": amount(2_500), "HYPE": amount(27) // 2},
    )

    def __init__(self, venue: SimulatedVenue) -> None:
        super().__init__(venue)
        self._empty_account = SimulatedAccount(
            [], AccountRules(quote="USDC", maker_e6=0, taker_e6=0), 0, venue.now_ms()
        )
        self.answers: dict[str, Callable[[SimulatedAccount, dict[str, Any]], Any]] = {
            "clearinghouseState": self._state,
            "spotClearinghouseState": self._spot_state,
            "openOrders": lambda account, query: [basic_order(self, order) for order in _orders(account, query)],
            "frontendOpenOrders": lambda account, query: [full_order(self, order) for order in _orders(account, query)],
            "historicalOrders": self._historical_orders,
            "userFills": lambda account, _: messages.fill_rows(self, account.fills)[::-1][:_MOST_FILLS],
            "userFillsByTime": self._fills_by_time,
            "userFunding": self._funding_by_time,
            "userRole": lambda _, query: _role(query["user"]),
            "userRateLimit": lambda *_: {"cumVlm": "0.0", "nRequestsUsed": 1, "nRequestsCap": 10_000},
        }

    def order_id(self, order: OrderRecord) -> str:
        """Return ``oid``."""
        return str(_FIRST_ORDER + order.number)

    def client_id(self, order: OrderRecord) -> str | None:
        """Return ``cloid``: 16 bytes."""
        return None if order.client is None else f"0x{order.client:032x}"

    def fill_id(self, fill: FillRecord) -> str:
        """Return ``tid``: about 50 bits."""
        return str(fill.number * _SCATTER % 2**50)

    def balances(self) -> list[tuple[str, int, int | None]]:
        """Return the spot balances; perpetuals have margin only."""
        return [(asset, total, total) for asset, total in self.account.holdings.items()]

    def traded(self) -> list[Market]:
        """Return the perpetuals and the builder's market, which trades only on request."""
        return [*super().traded(), self.venue.markets[BUILT]]

    def margin(self) -> MarginRecord:
        """Return the margin on the core dex; every other dex has its own."""
        held = [position for position in self.account.held() if not dex_of(position.market)]
        return self.account.margin_of(held, self.account.wallet)

    def trade_on_builder(self, *, is_wanted: bool) -> None:
        """Make the script trade on the builder's market alone, or on the others."""
        self.script.focus = BUILT if is_wanted else None

    def account_of(self, user: str) -> SimulatedAccount:
        """Return the account of an address."""
        return self.account if user.lower() == HYPERLIQUID_ADDRESS else self._empty_account

    def answer(self, query: dict[str, Any]) -> Any:
        """Return the answer to a query about an account; None for an invalid address."""
        user = query.get("user")
        return self.answers[query["type"]](self.account_of(user), query) if isinstance(user, str) else None

    def first_frames(self, kind: str, user: str, dex: str = "") -> list[OutgoingFrame]:
        """Return the frames that a new subscription starts with; some channels have no state."""
        account = self.account_of(user)
        data: dict[str, Any] | None = None
        if kind == "userFills":
            data = {"isSnapshot": True, "user": user, "fills": messages.fill_rows(self, account.fills)[-_MOST_FILLS:]}
        elif kind == "userFundings":
            fundings = [messages.funding_row(row) for row in account.fundings]
            data = {"isSnapshot": True, "user": user, "fundings": fundings}
        elif kind in {"openOrders", "clearinghouseState", "spotState"}:
            data = self._state_data(kind, user, dex)
        if data is None:
            return []
        return [OutgoingFrame(STREAM, "", "snapshot", self.venue.text({"channel": kind, "data": data}))]

    def publish(self, outcome: AccountOutcome) -> None:
        """Publish orders, then fills and payments, then the states that resulted."""
        if outcome.changes:
            self._publish("orderUpdates", "orderUpdates", self._order_updates(outcome.changes))
        forced = [change.order for change in outcome.changes if change.order.cause in {"venue", "liquidation"}]
        if forced:
            rows = [{"coin": order.market.listing.name, "oid": int(self.order_id(order))} for order in forced]
            self._publish("userEvents", "user", {"nonUserCancel": rows})
        if outcome.liquidated is not None:
            self._publish("userEvents", "user", {"liquidation": messages.liquidation_row(self, outcome.liquidated)})
        if outcome.fills:
            rows = messages.fill_rows(self, outcome.fills)
            self._publish("userFills", "userFills", {"user": HYPERLIQUID_ADDRESS, "fills": rows})
            self._publish("userEvents", "user", {"fills": rows})
        if outcome.fundings:
            payments = [messages.funding_row(payment) for payment in outcome.fundings]
            self._publish("userFundings", "userFundings", {"user": HYPERLIQUID_ADDRESS, "fundings": payments})
            for payment in payments:
                self._publish("userEvents", "user", {"funding": payment})
        for kind in self._states_after(outcome):
            for dex in _DEXES if "dex" in USER_DEFAULTS[kind] else ("",):
                self._publish(kind, kind, self._state_data(kind, HYPERLIQUID_ADDRESS, dex), dex)

    def _publish(self, kind: str, channel: str, data: Any, dex: str = "") -> None:
        key = HyperliquidChannel(kind, user=HYPERLIQUID_ADDRESS, dex=dex)
        self.push(key, lambda: [self.venue.text({"channel": channel, "data": data})])

    def _states_after(self, outcome: AccountOutcome) -> list[str]:
        """Return the states that an outcome changed."""
        kinds = ["openOrders"] if outcome.changes else []
        if outcome.deposit is not None and outcome.deposit.asset in self.account.holdings:
            return [*kinds, "spotState"]
        return [*kinds, "clearinghouseState"]

    def _state_data(self, kind: str, user: str, dex: str) -> dict[str, Any]:
        account, query = self.account_of(user), {"dex": dex}
        if kind == "spotState":
            return {"user": user, "spotState": self._spot_state(account, {})}
        if kind == "openOrders":
            return {**query, "user": user, "orders": [full_order(self, one) for one in _orders(account, query)]}
        return {**query, "user": user, "clearinghouseState": self._state(account, query)}

    def _order_updates(self, changes: Iterable[OrderChange]) -> list[dict[str, Any]]:
        return [
            {
                "order": basic_order(self, change.order),
                "status": status_of(change.order),
                "statusTimestamp": change.order.updated_ms,
            }
            for change in changes
        ]

    def _historical_orders(self, account: SimulatedAccount, _query: dict[str, Any]) -> list[dict[str, Any]]:
        """Return orders, newest first."""
        known = sorted([*account.closed, *account.orders.values()], key=lambda order: order.updated_ms, reverse=True)
        return [
            {"order": full_order(self, order), "status": status_of(order), "statusTimestamp": order.updated_ms}
            for order in known[:_MOST_ORDERS]
        ]

    def _fills_by_time(self, account: SimulatedAccount, query: dict[str, Any]) -> list[dict[str, Any]]:
        """Return the fills of a range, oldest first."""
        first, last = int(query["startTime"]), int(query.get("endTime") or self.venue.now_ms())
        return messages.fill_rows(self, [fill for fill in account.fills if first <= fill.time_ms <= last])[:_MOST_FILLS]

    def _funding_by_time(self, account: SimulatedAccount, query: dict[str, Any]) -> list[dict[str, Any]]:
        """Return the payments of a range, oldest first."""
        first, last = int(query["startTime"]), int(query.get("endTime") or self.venue.now_ms())
        rows = [messages.funding_row(payment) for payment in account.fundings if first <= payment.time_ms <= last]
        return [
            {"time": row.pop("time"), "hash": NO_HASH, "delta": {"type": "funding", **row}}
            for row in rows[:_MOST_FUNDINGS]
        ]

    def _state(self, account: SimulatedAccount, query: dict[str, Any]) -> dict[str, Any]:
        """Return the positions of a dex and their margin; the money is on the core dex."""
        dex = query.get("dex") or ""
        held = [position for position in account.held() if dex_of(position.market) == dex]
        wallet = 0 if dex else account.wallet
        margin = account.margin_of(held, wallet)
        summary = {
            "accountValue": messages.money_text(margin.equity),
            "totalNtlPos": messages.money_text(sum(abs(account.worth(position)) for position in held)),
            "totalRawUsd": messages.money_text(wallet - sum(position.cost for position in held)),
            "totalMarginUsed": messages.money_text(margin.initial),
        }
        return {
            "marginSummary": summary,
            "crossMarginSummary": dict(summary),
            "crossMaintenanceMarginUsed": messages.money_text(margin.maintenance),
            "withdrawable": messages.money_text(margin.available),
            "assetPositions": [
                {"type": "oneWay", "position": messages.position_row(account, position)} for position in held
            ],
            "time": self.venue.now_ms(),
        }

    def _spot_state(self, account: SimulatedAccount, _query: dict[str, Any]) -> dict[str, Any]:
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
    """Return the open orders on a dex, by default the core one."""
    return [order for order in account.orders.values() if dex_of(order.market) == (query.get("dex") or "")]


def _role(user: str) -> dict[str, Any]:
    """Return the role of an address."""
    if user.lower() == HYPERLIQUID_AGENT:
        return {"role": "agent", "data": {"user": HYPERLIQUID_ADDRESS}}
    return {"role": "user"}
