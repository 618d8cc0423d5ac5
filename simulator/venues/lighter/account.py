"""Lighter: the account. Private channels on the public socket and REST require the same token.

Source: Lighter, API documentation, WebSocket reference (account channels), account data, data structures, order states;
members as in fixtures of client libraries. The venue does not document what happens to a subscription when its
token expires: here the client gets an error, and the channels end.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, ClassVar

from ipc.errors import UsageError
from simulator.accounts.credentials import LIGHTER_ACCOUNT, LIGHTER_KEY_INDEX, Denial, DeniedError, TokenIssuer
from simulator.accounts.money import amount
from simulator.accounts.records import AccountOutcome, AccountRules, FillRecord, OrderRecord
from simulator.accounts.service import STREAM, AccountService
from simulator.market import Market
from simulator.rest import HttpRequest
from simulator.session import OutgoingFrame
from simulator.venue import SimulatedVenue
from simulator.venues.lighter.account_messages import FIRST_NONCE, FIRST_ORDER, LighterAccountMessages, money_text
from simulator.venues.lighter.markets import LighterMarkets
from simulator.venues.lighter.messages import LighterApiError, limit_of
from simulator.venues.lighter.session import LighterSession

_TOKEN_S = 8 * 3600
_ACCOUNT = str(LIGHTER_ACCOUNT)
_FIRST_TRADE = 19_000_000_000
_MOST_ROWS = 100
#: Whether a channel requires a token.
_CHANNELS = {
    "account_all_orders": True,
    "account_all_trades": True,
    "account_all_positions": True,
    "account_all_assets": True,
    "account_orders": True,
    "user_stats": False,
}
_ERRORS = {
    Denial.MISSING: (21109, "auth token is missing"),
    Denial.MALFORMED: (21110, "invalid auth token"),
    Denial.INVALID: (21110, "invalid auth token"),
    Denial.EXPIRED: (21120, "auth token is expired"),
}


class LighterAccounts(AccountService):
    """Account of the simulated Lighter."""

    rules: ClassVar[AccountRules] = AccountRules(
        quote="USDC",
        maker_e6=28,
        taker_e6=196,
        # Fees are reported as rates, so the charged amount keeps all decimals.
        fee_places=14,
        statuses=frozenset({"open", "untriggered", "filled", "canceled", "rejected", "expired"}),
        rejected_status="rejected",
        holdings={"USDC": amount(6_343), "ETH": amount(3) // 2},
    )

    def __init__(self, venue: SimulatedVenue, markets: LighterMarkets) -> None:
        super().__init__(venue)
        self._markets = markets
        self._messages = LighterAccountMessages(self, markets)
        self._tokens = TokenIssuer(venue.settings.seed, LIGHTER_ACCOUNT, LIGHTER_KEY_INDEX)

    def routes(self) -> list[tuple[str, Callable[[HttpRequest], dict[str, Any]]]]:
        """Return the REST paths of the account and their handlers."""
        return [
            ("account", self._account),
            ("accountActiveOrders", self._authorised(self._active_orders)),
            ("accountInactiveOrders", self._authorised(self._inactive_orders)),
            ("trades", self._authorised(self._trades)),
        ]

    def order_id(self, order: OrderRecord) -> str:
        """Return ``order_index``."""
        return str(FIRST_ORDER + order.number)

    def client_id(self, order: OrderRecord) -> str | None:
        """Return ``client_order_index``; None for an order without one, which messages write as 0."""
        return None if order.client is None else str(order.client)

    def fill_id(self, fill: FillRecord) -> str:
        """Return ``trade_id``."""
        return str(_FIRST_TRADE + fill.number)

    def balances(self) -> list[tuple[str, int, int | None]]:
        """Return the assets; the collateral of perpetuals is reported as margin."""
        return [(asset, total, total) for asset, total in self.account.holdings.items()]

    def token(self, order: dict[str, Any]) -> dict[str, Any]:
        """Issue a token, valid for ``lives_s`` seconds (8 hours); ``read_only`` selects its kind.

        Raises:
            UsageError: An argument is invalid.
        """
        lives_s = order.get("lives_s", self.venue.scaled(_TOKEN_S))
        is_read_only = order.get("read_only", False)
        if not isinstance(lives_s, int | float) or not isinstance(is_read_only, bool):
            raise UsageError("lives_s is a number of seconds, read_only is true or false", where="token")
        expiry_s = -int(-(self.venue.now_ms() / 1000 + lives_s) // 1)
        return {"token": self._tokens.issue(expiry_s, is_read_only=is_read_only), "expires_at": expiry_s}

    def expire(self) -> None:
        """Expire all tokens, and end the channels that they opened."""
        self._tokens.revoke_all()
        self.end_expired()

    def end_expired(self) -> None:
        """End the channels whose token has expired, with one error to each client."""
        for session in self.venue.sessions:
            if not isinstance(session, LighterSession):
                continue
            ended = [key for key, token in session.tokens.items() if not self._is_valid(token)]
            for key in ended:
                del session.tokens[key]
                self.venue.subscriptions.remove(session, key)
            if ended:
                code, message = _ERRORS[Denial.EXPIRED]
                session.reply({"error": {"code": code, "message": message}})

    def requires_token(self, key: str) -> bool:
        """Return whether a channel requires a token."""
        return _CHANNELS.get(key.partition(":")[0], False)

    def key_of(self, channel: str, token: Any) -> str | None:
        """Return an account channel as the venue writes it, with colons; None for a public channel.

        Raises:
            LighterApiError: The token is not accepted.
            ValueError: The account or the market is unknown.
        """
        name, *rest = channel.split("/")
        if name not in _CHANNELS:
            return None
        if rest[-1:] != [_ACCOUNT] or len(rest) != (2 if name == "account_orders" else 1):
            raise ValueError("account")
        if name == "account_orders" and self._markets.find(rest[0]) is None:
            raise ValueError("market")
        if self.requires_token(name):
            self._check_token(token)
        return ":".join([name, *rest])

    def first_frames(self, key: str) -> list[OutgoingFrame]:
        """Return the current state for a new subscriber; the trades channel starts with volumes only."""
        value = {"channel": key, **self._state(key), "type": f"subscribed/{key.partition(':')[0]}"}
        return [OutgoingFrame(STREAM, "", "snapshot", self.venue.text(value))]

    def publish(self, outcome: AccountOutcome) -> None:
        """Publish orders and trades, then the states that resulted."""
        messages = self._messages
        if outcome.changes:
            self._publish_orders([change.order for change in outcome.changes])
        if outcome.fills:
            self._publish("account_all_trades", trades=messages.by_market(outcome.fills, messages.trade_row))
        if outcome.moved:
            self._publish("account_all_positions", **messages.positions(outcome.moved))
        if outcome.deposit is not None and outcome.deposit.asset in self.account.holdings:
            self._publish("account_all_assets", **messages.assets())
        else:
            self._publish("user_stats", **messages.stats())

    def _publish_orders(self, orders: list[OrderRecord]) -> None:
        """Publish every state of the orders, on the channel of all orders and on that of each market."""
        self._publish("account_all_orders", orders=self._messages.by_market(orders, self._messages.order_row))
        for market in dict.fromkeys(order.market for order in orders):
            here = [order for order in orders if order.market is market]
            self._publish("account_orders", self._markets.id_of(market), **self._orders_of_market(here))

    def _orders_of_market(self, orders: list[OrderRecord]) -> dict[str, Any]:
        nonce = FIRST_NONCE + max((order.number for order in orders), default=0)
        rows = self._messages.by_market(orders, self._messages.order_row)
        return {"account": LIGHTER_ACCOUNT, "nonce": nonce, "orders": rows}

    def _publish(self, name: str, *middle: int, **content: Any) -> None:
        key = ":".join([name, *map(str, middle), _ACCOUNT])
        self.push(key, lambda: [self.venue.text({"channel": key, **content, "type": f"update/{name}"})])

    def _state(self, key: str) -> dict[str, Any]:
        """Return the state that a channel starts with."""
        name, *rest = key.split(":")
        live = list(self.account.orders.values())
        match name:
            case "account_all_orders":
                return {"orders": self._messages.by_market(live, self._messages.order_row)}
            case "account_orders":
                return self._orders_of_market([one for one in live if str(self._markets.id_of(one.market)) == rest[0]])
            case "account_all_trades":
                return {"trades": [], "total_volume": 0.0, "monthly_volume": 0.0, "weekly_volume": 0.0}
            case "account_all_positions":
                return self._messages.positions([position.market for position in self.account.held()])
            case "account_all_assets":
                return self._messages.assets()
            case _:
                return self._messages.stats()

    # Authentication.

    def _check_token(self, token: Any) -> None:
        try:
            if self.refuses_logins:
                raise DeniedError(Denial.INVALID)
            self._tokens.check(token if isinstance(token, str) else None, self.venue.now_ms() / 1000)
        except DeniedError as error:
            raise LighterApiError(*_ERRORS[error.denial]) from error

    def _is_valid(self, token: str) -> bool:
        try:
            self._tokens.check(token, self.venue.now_ms() / 1000)
        except DeniedError:
            return False
        return True

    def _authorised(self, answer: Callable[[HttpRequest], dict[str, Any]]) -> Callable[[HttpRequest], dict[str, Any]]:
        """Require a token, in the query or in a header."""

        def respond(request: HttpRequest) -> dict[str, Any]:
            self._check_token(request.param("auth") or request.headers.get("authorization"))
            if request.param("account_index") != _ACCOUNT:
                raise LighterApiError(21100, "account not found")
            return answer(request)

        return respond

    # REST.

    def _account(self, request: HttpRequest) -> dict[str, Any]:
        """Return the account; public."""
        if request.param("by") != "index":
            raise ValueError("by")
        if request.param("value") != _ACCOUNT:
            raise LighterApiError(21100, "account not found")
        account, margin = self.account, self.account.margin()
        row = {
            "code": 0,
            "account_type": 0,
            "index": LIGHTER_ACCOUNT,
            "l1_address": "0x" + 40 * "5",
            "cancel_all_time": 0,
            "total_order_count": len(account.orders),
            "total_isolated_order_count": 0,
            "pending_order_count": sum(order.status == "untriggered" for order in account.orders.values()),
            "available_balance": money_text(margin.available),
            "status": 1,
            "collateral": money_text(account.wallet),
            "account_index": LIGHTER_ACCOUNT,
            "name": "",
            "description": "",
            "can_invite": True,
            "referral_points_percentage": "",
            "positions": [self._messages.position_row(one) for one in account.positions.values() if one.last_fill],
            "assets": list(self._messages.assets()["assets"].values()),
            "total_asset_value": money_text(margin.equity),
            "cross_asset_value": money_text(margin.equity),
            "cross_initial_margin_requirement": money_text(margin.initial),
            "cross_maintenance_margin_requirement": money_text(margin.maintenance),
            "shares": [],
        }
        return {"total": 1, "accounts": [row]}

    def _active_orders(self, request: HttpRequest) -> dict[str, Any]:
        return {"orders": self._orders(request, self.account.orders.values())}

    def _inactive_orders(self, request: HttpRequest) -> dict[str, Any]:
        """Return rows, newest first."""
        closed = sorted(self.account.closed, key=lambda order: order.updated_ms, reverse=True)
        return {"next_cursor": None, "orders": self._orders(request, closed)[: limit_of(request, _MOST_ROWS)]}

    def _orders(self, request: HttpRequest, orders: Iterable[OrderRecord]) -> list[dict[str, Any]]:
        return [self._messages.order_row(order) for order in orders if self._includes(request, order.market)]

    def _trades(self, request: HttpRequest) -> dict[str, Any]:
        """Return rows, newest first."""
        if request.param("sort_by") != "timestamp":
            raise ValueError("sort_by")
        found = [fill for fill in reversed(self.account.fills) if self._includes(request, fill.market)]
        return {
            "next_cursor": None,
            "trades": [self._messages.trade_row(fill) for fill in found[: limit_of(request, _MOST_ROWS)]],
        }

    def _includes(self, request: HttpRequest, market: Market) -> bool:
        return request.param("market_id") in {None, "255", str(self._markets.id_of(market))}
