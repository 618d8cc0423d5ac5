"""Extended: the account. Whoever connects to ``/account`` with an API key gets its state, then what changes.

Source: Extended, API documentation, account stream and private REST API; members and number formats as documented.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, ClassVar

from simulator.accounts.credentials import EXTENDED_KEY
from simulator.accounts.money import amount, cost_of, ratio, rounded
from simulator.accounts.records import AccountOutcome, AccountRules, FillRecord, OrderRecord, PositionRecord
from simulator.accounts.service import AccountService
from simulator.decimals import padded, shortest
from simulator.market import Market
from simulator.rest import HttpRequest, HttpResponse, json
from simulator.wire import Upgrade

if TYPE_CHECKING:
    from simulator.venues.extended.stream import ExtendedSession, Message, SimulatedExtended

__all__ = ["ExtendedAccounts"]

_ACCOUNT = 3017
_FIRST_ORDER, _FIRST_TRADE = 1_791_181_000_000_000_000, 1_784_963_000_000_000_000
_LEVERAGE = 20
_MOST_ROWS = 100
_STATUS = {
    "open": "NEW",
    "untriggered": "UNTRIGGERED",
    "filled": "FILLED",
    "canceled": "CANCELLED",
    "rejected": "REJECTED",
    "expired": "EXPIRED",
}
_REASONS = {"margin": "NOT_ENOUGH_FUNDS", "liquidation": "LIQUIDATION", "venue": "SELF_TRADE_PROTECTION"}


class ExtendedAccounts(AccountService):
    """The account."""

    venue: SimulatedExtended
    rules: ClassVar[AccountRules] = AccountRules(
        quote="USD",
        maker_e6=0,
        taker_e6=250,
        statuses=frozenset({"open", "untriggered", "filled", "canceled", "rejected", "expired"}),
        rejected_status="rejected",
        holdings={"BTC": amount(1) // 2},
    )

    def __init__(self, venue: SimulatedExtended) -> None:
        super().__init__(venue)
        for path, answer in (
            ("orders", self._open_orders),
            ("orders/history", self._orders_history),
            ("trades", self._trades),
            ("positions", lambda request: _ok(self._positions(self.account.held(), request))),
            ("balance", lambda _: _ok(self._balance())),
            ("spot/balances", lambda _: _ok(self._spot_balances())),
        ):
            venue.rest.add(f"user/{path}", self._authorised(answer))

    def order_id(self, order: OrderRecord) -> str:
        """More than 2^53."""
        return str(_FIRST_ORDER + order.number)

    def client_id(self, order: OrderRecord) -> str | None:
        """``externalId``: digits, which the client chose or the venue."""
        return str(order.number if order.client is None else 7 * 10**15 + order.client)

    def fill_id(self, fill: FillRecord) -> str:
        """More than 2^53."""
        return str(_FIRST_TRADE + fill.number)

    def balances(self) -> list[tuple[str, int, int | None]]:
        """The collateral, and what is held of other assets."""
        held = [(asset, total, total) for asset, total in self.account.holdings.items()]
        return [*super().balances(), *held]

    def is_known(self, caller: Upgrade | HttpRequest) -> bool:
        """Whether somebody comes with the API key."""
        return not self.refuses_logins and caller.headers.get("x-api-key") == EXTENDED_KEY

    def welcome(self, session: ExtendedSession) -> None:
        """Say where things stand."""
        orders = [self._order_row(order) for order in self.account.orders.values()]
        for word, data in (
            ("ORDER", {"orders": orders}),
            ("POSITION", {"positions": self._positions(self.account.held())}),
            ("BALANCE", self._balances()),
        ):
            session.tell("", self._message(word, data)._replace(kind="snapshot"))

    def publish(self, outcome: AccountOutcome) -> None:
        """Orders, trades, positions, and the balance that they led to."""
        for change in outcome.changes:
            self._tell("ORDER", {"orders": [self._order_row(change.order)]})
        if outcome.fills:
            self._tell("TRADE", {"trades": [self._trade_row(fill) for fill in outcome.fills]})
        if outcome.moved:
            moved = [self.account.positions[market.listing.symbol] for market in outcome.moved]
            self._tell("POSITION", {"positions": self._positions(moved)})
        if outcome.moved or outcome.deposit is not None:
            self._tell("BALANCE", self._balances())

    def _tell(self, word: str, data: Any) -> None:
        message = self._message(word, data)
        for session in self.venue.account_sessions():
            session.tell("", message)

    def _message(self, word: str, data: Any) -> Message:
        return self.venue.message(word, data)

    # What is told over REST.

    def _authorised(self, answer: Callable[[HttpRequest], HttpResponse]) -> Callable[[HttpRequest], HttpResponse]:
        """Answer only those who come with the API key."""

        def respond(request: HttpRequest) -> HttpResponse:
            if not self.is_known(request):
                return self.venue.problem(401, 401, "Unauthorized.")
            return answer(request)

        return respond

    def _open_orders(self, request: HttpRequest) -> HttpResponse:
        return _ok([self._order_row(one) for one in self.account.orders.values() if _concerns(request, one.market)])

    def _orders_history(self, request: HttpRequest) -> HttpResponse:
        """All orders, newest first."""
        known = sorted([*self.account.closed, *self.account.orders.values()], key=lambda order: -order.number)
        return _page(request, [self._order_row(order) for order in known if _concerns(request, order.market)])

    def _trades(self, request: HttpRequest) -> HttpResponse:
        """All trades, newest first."""
        found = [fill for fill in reversed(self.account.fills) if _concerns(request, fill.market)]
        return _page(request, [self._trade_row(fill) for fill in found])

    # Shapes.

    def _order_row(self, order: OrderRecord) -> dict[str, Any]:
        spec, listing = order.spec, order.market.listing
        kind = "CONDITIONAL" if spec.trigger is not None else "MARKET" if spec.price is None else "LIMIT"
        row: dict[str, Any] = {
            "id": int(self.order_id(order)),
            "accountId": _ACCOUNT,
            "externalId": self.client_id(order),
            "market": listing.name,
            "type": kind,
            "side": spec.side.upper(),
            "status": _status(order),
            "price": padded(spec.price or listing.price, listing.price_places, listing.price_places + 2),
            "averagePrice": padded(order.average_e8(), 8) if order.filled else "0",
            "qty": padded(spec.size, listing.size_places),
            "filledQty": padded(order.filled, listing.size_places),
            "payedFee": _money(order.fees),
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

    def _trade_row(self, fill: FillRecord) -> dict[str, Any]:
        listing = fill.market.listing
        return {
            "id": int(self.fill_id(fill)),
            "accountId": _ACCOUNT,
            "market": listing.name,
            "orderId": int(self.order_id(fill.order)),
            "externalOrderId": self.client_id(fill.order),
            "side": fill.side.upper(),
            "price": padded(fill.price, listing.price_places, 16),
            "qty": padded(fill.size, listing.size_places, 16),
            "value": _money(cost_of(listing, fill.price, fill.size)),
            "fee": _money(fill.fee),
            "tradeType": "LIQUIDATION" if fill.order.spec.is_liquidation else "TRADE",
            "isTaker": not fill.is_maker,
            "createdTime": fill.time_ms,
        }

    def _positions(
        self, positions: Iterable[PositionRecord], request: HttpRequest | None = None
    ) -> list[dict[str, Any]]:
        wanted = positions if request is None else [one for one in positions if _concerns(request, one.market)]
        return [self._position_row(position) for position in wanted]

    def _position_row(self, position: PositionRecord) -> dict[str, Any]:
        """A position: the size has no sign; that of one that was closed is zero."""
        listing, account = position.market.listing, self.account
        liquidation, worth = account.liquidation_e8(position), abs(account.worth(position))
        return {
            "id": 10**6 + sum(listing.name.encode()),
            "accountId": _ACCOUNT,
            "market": listing.name,
            "side": "LONG" if position.size >= 0 else "SHORT",
            "leverage": str(_LEVERAGE),
            "size": padded(abs(position.size), listing.size_places),
            "value": _money(worth),
            "openPrice": padded(position.entry(), position.entry_places),
            "markPrice": shortest(account.marks_e8[listing.symbol], 8),
            "liquidationPrice": "0" if liquidation is None else shortest(liquidation, 8),
            "margin": _money(worth // _LEVERAGE),
            "unrealisedPnl": _money(account.unrealised(position)),
            "realisedPnl": _money(position.realised),
            "createdAt": position.opened_ms,
            "updatedAt": position.updated_ms,
        }

    def _balances(self) -> dict[str, Any]:
        return {"balance": self._balance(), "spotBalances": self._spot_balances()}

    def _balance(self) -> dict[str, Any]:
        margin = self.account.margin()
        used = ratio(margin.maintenance * 10_000, max(1, margin.equity))
        return {
            "collateralName": self.rules.quote,
            "balance": _money(self.account.wallet),
            "equity": _money(margin.equity),
            "availableForTrade": _money(margin.available),
            "availableForWithdrawal": _money(margin.available),
            "unrealisedPnl": _money(margin.unrealised),
            "initialMargin": _money(margin.initial),
            "marginRatio": padded(used, 4),
            "updatedTime": self.venue.now_ms(),
        }

    def _spot_balances(self) -> list[dict[str, Any]]:
        rows = []
        for asset, total in self.account.holdings.items():
            held = _money(total)
            rows.append(
                {
                    "accountId": _ACCOUNT,
                    "asset": asset,
                    "balance": held,
                    "availableToWithdraw": held,
                    "updatedAt": self.venue.now_ms(),
                }
            )
        return rows


def _ok(data: Any, **more: Any) -> HttpResponse:
    return json({"status": "OK", "data": data, **more})


def _money(money: int) -> str:
    return padded(rounded(money, 6), 6)


def _status(order: OrderRecord) -> str:
    if order.status == "open" and order.filled:
        return "PARTIALLY_FILLED"
    if order.status == "open" and order.spec.trigger is not None:
        return "TRIGGERED"
    return _STATUS[order.status]


def _concerns(request: HttpRequest, market: Market) -> bool:
    return market.listing.name in request.query.get("market", [market.listing.name])


def _page(request: HttpRequest, rows: list[dict[str, Any]]) -> HttpResponse:
    """Rows beyond the cursor, which is the id of the last row of the page before.

    Raises:
        ValueError: A parameter is no number.
    """
    cursor, limit = request.number("cursor", 0), max(1, min(request.number("limit", _MOST_ROWS), _MOST_ROWS))
    page = [row for row in rows if not cursor or row["id"] < cursor][:limit]
    return _ok(page, pagination={"cursor": page[-1]["id"] if page else cursor, "count": len(page)})
