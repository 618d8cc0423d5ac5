"""Extended: the account. A connection to ``/account`` with an API key gets its state, then the changes.

Source: Extended, API documentation, account stream and private REST API; members and number formats as documented.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, ClassVar

from simulator.accounts.credentials import EXTENDED_KEY
from simulator.accounts.money import amount, ratio
from simulator.accounts.records import AccountOutcome, AccountRules, FillRecord, OrderRecord, PositionRecord
from simulator.accounts.service import AccountService
from simulator.decimals import padded
from simulator.market import Market
from simulator.rest import HttpRequest, HttpResponse
from simulator.venues.extended.account_messages import ACCOUNT_ID, money_text, order_row, position_row, trade_row
from simulator.venues.extended.messages import message, ok, problem
from simulator.venues.extended.session import ACCOUNT_CHANNEL, ExtendedSession
from simulator.wire import Upgrade

_FIRST_ORDER, _FIRST_TRADE = 1_791_181_000_000_000_000, 1_784_963_000_000_000_000
_MOST_ROWS = 100


class ExtendedAccounts(AccountService):
    """Account of the simulated Extended."""

    rules: ClassVar[AccountRules] = AccountRules(
        quote="USD",
        maker_e6=0,
        taker_e6=250,
        statuses=frozenset({"open", "untriggered", "filled", "canceled", "rejected", "expired"}),
        rejected_status="rejected",
        holdings={"BTC": amount(1) // 2},
    )

    def routes(self) -> list[tuple[str, Callable[[HttpRequest], HttpResponse]]]:
        """Return the REST paths of the account and their handlers."""
        answers: dict[str, Callable[[HttpRequest], HttpResponse]] = {
            "orders": self._open_orders,
            "orders/history": self._orders_history,
            "trades": self._trades,
            "positions": lambda request: ok(self._positions(self.account.held(), request)),
            "balance": lambda _: ok(self._balance()),
            "spot/balances": lambda _: ok(self._spot_balances()),
        }
        return [(f"user/{path}", self._authorised(answer)) for path, answer in answers.items()]

    def order_id(self, order: OrderRecord) -> str:
        """Return an id above 2^53."""
        return str(_FIRST_ORDER + order.number)

    def client_id(self, order: OrderRecord) -> str | None:
        """Return ``externalId``: digits, chosen by the client or the venue."""
        return str(order.number if order.client is None else 7 * 10**15 + order.client)

    def fill_id(self, fill: FillRecord) -> str:
        """Return an id above 2^53."""
        return str(_FIRST_TRADE + fill.number)

    def balances(self) -> list[tuple[str, int, int | None]]:
        """Return the collateral and other assets."""
        held = [(asset, total, total) for asset, total in self.account.holdings.items()]
        return [*super().balances(), *held]

    def is_known(self, request: Upgrade | HttpRequest) -> bool:
        """Return whether a request has the API key."""
        return not self.refuses_logins and request.headers.get("x-api-key") == EXTENDED_KEY

    def welcome(self, session: ExtendedSession) -> None:
        """Send the current state."""
        orders = [order_row(self, order) for order in self.account.orders.values()]
        for word, data in (
            ("ORDER", {"orders": orders}),
            ("POSITION", {"positions": self._positions(self.account.held())}),
            ("BALANCE", self._balances()),
        ):
            session.publish("", message(word, data, self.venue.now_ms())._replace(kind="snapshot"))

    def publish(self, outcome: AccountOutcome) -> None:
        """Publish orders, trades, positions and the resulting balance."""
        for change in outcome.changes:
            self._publish("ORDER", {"orders": [order_row(self, change.order)]})
        if outcome.fills:
            self._publish("TRADE", {"trades": [trade_row(self, fill) for fill in outcome.fills]})
        if outcome.moved:
            moved = [self.account.positions[market.listing.symbol] for market in outcome.moved]
            self._publish("POSITION", {"positions": self._positions(moved)})
        if outcome.moved or outcome.deposit is not None:
            self._publish("BALANCE", self._balances())

    def _publish(self, word: str, data: Any) -> None:
        outgoing = message(word, data, self.venue.now_ms())
        for session in self.venue.subscriptions.to(ACCOUNT_CHANNEL):
            if isinstance(session, ExtendedSession):
                session.publish("", outgoing)

    # REST.

    def _authorised(self, answer: Callable[[HttpRequest], HttpResponse]) -> Callable[[HttpRequest], HttpResponse]:
        """Require the API key."""

        def respond(request: HttpRequest) -> HttpResponse:
            if not self.is_known(request):
                return problem(401, 401, "Unauthorized.")
            return answer(request)

        return respond

    def _open_orders(self, request: HttpRequest) -> HttpResponse:
        return ok([order_row(self, one) for one in self.account.orders.values() if _includes(request, one.market)])

    def _orders_history(self, request: HttpRequest) -> HttpResponse:
        """Return orders, newest first."""
        known = sorted([*self.account.closed, *self.account.orders.values()], key=lambda order: -order.number)
        return _page(request, [order_row(self, order) for order in known if _includes(request, order.market)])

    def _trades(self, request: HttpRequest) -> HttpResponse:
        """Return trades, newest first."""
        found = [fill for fill in reversed(self.account.fills) if _includes(request, fill.market)]
        return _page(request, [trade_row(self, fill) for fill in found])

    def _positions(
        self, positions: Iterable[PositionRecord], request: HttpRequest | None = None
    ) -> list[dict[str, Any]]:
        selected = positions if request is None else [one for one in positions if _includes(request, one.market)]
        return [position_row(self, position) for position in selected]

    def _balances(self) -> dict[str, Any]:
        return {"balance": self._balance(), "spotBalances": self._spot_balances()}

    def _balance(self) -> dict[str, Any]:
        margin = self.account.margin()
        used = ratio(margin.maintenance * 10_000, max(1, margin.equity))
        return {
            "collateralName": self.rules.quote,
            "balance": money_text(self.account.wallet),
            "equity": money_text(margin.equity),
            "availableForTrade": money_text(margin.available),
            "availableForWithdrawal": money_text(margin.available),
            "unrealisedPnl": money_text(margin.unrealised),
            "initialMargin": money_text(margin.initial),
            "marginRatio": padded(used, 4),
            "updatedTime": self.venue.now_ms(),
        }

    def _spot_balances(self) -> list[dict[str, Any]]:
        rows = []
        for asset, total in self.account.holdings.items():
            held = money_text(total)
            rows.append(
                {
                    "accountId": ACCOUNT_ID,
                    "asset": asset,
                    "balance": held,
                    "availableToWithdraw": held,
                    "updatedAt": self.venue.now_ms(),
                }
            )
        return rows


def _includes(request: HttpRequest, market: Market) -> bool:
    return market.listing.name in request.query.get("market", [market.listing.name])


def _page(request: HttpRequest, rows: list[dict[str, Any]]) -> HttpResponse:
    """Return a page of rows after the cursor: the id of the last row of the previous page.

    Raises:
        ValueError: A parameter is not a number.
    """
    cursor, limit = request.number("cursor", 0), max(1, min(request.number("limit", _MOST_ROWS), _MOST_ROWS))
    page = [row for row in rows if not cursor or row["id"] < cursor][:limit]
    return ok(page, pagination={"cursor": page[-1]["id"] if page else cursor, "count": len(page)})
