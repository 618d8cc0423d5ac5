"""Paradex: the account. A signature gets a JWT, which is valid for minutes and authorises a session until it closes.

Source: Paradex, WebSocket documentation (authentication, private channels) and REST documentation (auth, orders, fills,
positions, account, balances). Private channels start without a state.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from functools import cache, partial
from typing import Any, ClassVar

from ipc.errors import UsageError
from simulator.accounts.credentials import PARADEX_ACCOUNT, Denial, DeniedError, JwtIssuer
from simulator.accounts.records import AccountOutcome, AccountRules, FillRecord, FundingRecord, OrderChange, OrderRecord
from simulator.accounts.service import AccountService, deliver
from simulator.market import Market
from simulator.rest import HttpRequest, HttpResponse, json
from simulator.venue import SimulatedVenue
from simulator.venues.paradex.account_messages import ParadexAccountMessages, id_text
from simulator.venues.paradex.messages import problem
from simulator.venues.paradex.session import ParadexChannel, ParadexSession
from simulator.wire import Frame

_JWT_S = 300
_MOST_PAGE = 100
_SIGNATURE = re.compile(r'\s*\[\s*"?(0x[0-9a-fA-F]+|\d+)"?\s*,\s*"?(0x[0-9a-fA-F]+|\d+)"?\s*\]\s*')
#: Topics of private channels: per market or for all of them, and of the whole account.
_OF_MARKETS, _WHOLE = frozenset({"orders", "fills", "funding_payments"}), frozenset({"positions", "account"})
#: Channels that exist, but for ``balance_events`` publish nothing here.
_OTHERS = frozenset({"balance_events", "tradebusts", "transaction", "transfers"})
_TOKEN_ERRORS = {
    Denial.MISSING: (40110, "malformed bearer token"),
    Denial.MALFORMED: (40110, "malformed bearer token"),
    Denial.INVALID: (40111, "invalid or expired bearer"),
    Denial.EXPIRED: (40111, "invalid or expired bearer"),
}


class ParadexAccounts(AccountService):
    """Account of the simulated Paradex."""

    venue: SimulatedVenue
    rules: ClassVar[AccountRules] = AccountRules(
        quote="USDC",
        maker_e6=-50,
        taker_e6=300,
        fee_places=8,
        money_places=8,
        statuses=frozenset({"open", "untriggered", "filled", "canceled", "rejected"}),
        rejected_status="rejected",
    )

    def __init__(self, venue: SimulatedVenue) -> None:
        super().__init__(venue)
        self._jwts = JwtIssuer(venue.settings.seed)
        self._messages = ParadexAccountMessages(venue, self)

    def routes(self) -> list[tuple[str, str, Callable[[HttpRequest], HttpResponse]]]:
        """Return method, path and handler of the account's REST routes."""
        answers: dict[str, Callable[[HttpRequest], Any]] = {
            "orders": self._open_orders,
            "orders-history": self._orders_history,
            "fills": self._fills,
            "positions": lambda _: {"results": [self._messages.position_json(one) for one in self.account.held()]},
            "account": lambda _: self._messages.summary_json(),
            "balances": self._balances,
            "balance": self._balances,
        }
        signed = [("GET", path, self._authorised(answer)) for path, answer in answers.items()]
        return [("POST", "auth", self._authenticate), *signed]

    def order_id(self, order: OrderRecord) -> str:
        """Return 28 digits that begin with the time."""
        return id_text(order.number, order.created_ms)

    def client_id(self, order: OrderRecord) -> str | None:
        """Return the client's id."""
        return None if order.client is None else f"desk-{order.client}"

    def fill_id(self, fill: FillRecord) -> str:
        """Return 28 digits that begin with the time."""
        return id_text(fill.number, fill.time_ms)

    def token(self, order: dict[str, Any]) -> dict[str, Any]:
        """Issue a JWT, valid for ``lives_s`` seconds (5 minutes), without a signature.

        Raises:
            UsageError: An argument is invalid.
        """
        lives_s = order.get("lives_s", self.venue.scaled(_JWT_S))
        if not isinstance(lives_s, int | float):
            raise UsageError("lives_s is a number of seconds", where="token", advice="300")
        return {"token": self._jwts.issue(PARADEX_ACCOUNT, self.venue.now_ms() / 1000, lives_s)}

    def expire(self) -> None:
        """Expire all JWTs; sessions stay authorised."""
        self._jwts.revoke_all()

    def login_error(self, bearer: Any) -> tuple[int, str] | None:
        """Return code and text of the error for a bearer token; None for a valid one."""
        try:
            self._check(bearer)
        except DeniedError as error:
            return _TOKEN_ERRORS[error.denial]
        return None

    def parse(self, name: str) -> ParadexChannel | None:
        """Return a private channel from its name; None for a public channel.

        Raises:
            ValueError: Its market does not exist.
        """
        topic, _, market = name.partition(".")
        if topic in _WHOLE | _OTHERS and not market:
            return ParadexChannel(name, topic, is_private=True)
        if topic not in _OF_MARKETS:
            return None
        if market != "ALL" and self.venue.find(market) is None:
            raise ValueError("invalid channel")
        return ParadexChannel(name, topic, "" if market == "ALL" else market, is_private=True)

    def publish(self, outcome: AccountOutcome) -> None:
        """Publish orders and fills in order, then positions, the wallet and the summary."""
        messages = self._messages
        for change in outcome.changes:
            self._publish_change(change)
        for market in outcome.moved:
            position = self.account.positions[market.listing.symbol]
            self._publish(
                [_whole("positions")],
                partial(messages.position_json, position),
                partial(messages.position_sbe, position=position),
            )
        self._publish_wallet(outcome)
        if outcome.moved or outcome.deposit is not None:
            self._publish([_whole("account")], messages.summary_json, messages.summary_sbe)

    def _publish_change(self, change: OrderChange) -> None:
        """Publish a changed order and its fill; a new order is published twice, as NEW and as OPEN."""
        order, fill = change
        market, messages = order.market, self._messages
        if fill is not None:
            self._publish(
                _of("fills", market), partial(messages.fill_json, fill), partial(messages.fill_sbe, fill=fill)
            )
        is_new = order.status == "open" and not order.filled and order.created_ms == order.updated_ms
        for state in ("NEW", _state(order)) if is_new else (_state(order),):
            self._publish(
                _of("orders", market),
                partial(messages.order_json, order, state),
                partial(messages.order_sbe, order=order, state=state),
            )

    def _publish_wallet(self, outcome: AccountOutcome) -> None:
        """Publish each change of the wallet."""
        causes: list[tuple[int, FillRecord | FundingRecord | None]] = [
            (fill.realised - fill.fee, fill) for fill in outcome.fills
        ]
        causes += [(funding.payment, funding) for funding in outcome.fundings]
        if outcome.deposit is not None:
            causes.append((outcome.deposit.money, None))
        before = self.account.wallet - sum(change for change, _ in causes)
        for change, cause in causes:
            event = partial(self._messages.balance_event, before, before + change, cause)
            self._publish([_whole("balance_events")], event)
            if isinstance(cause, FundingRecord):
                market = cause.position.market
                self._publish(_of("funding_payments", market), partial(self._messages.funding_json, cause))
            before += change

    def _publish(
        self,
        channels: Iterable[ParadexChannel],
        as_json: Callable[[], Any],
        as_sbe: Callable[[int], bytes] | None = None,
    ) -> None:
        """Publish data to the subscribers of the channels, in the encoding of each connection."""
        as_json, as_sbe = cache(as_json), None if as_sbe is None else cache(as_sbe)
        for channel in channels:
            for session in self.venue.subscriptions.to(channel):
                version = session.version if isinstance(session, ParadexSession) else None
                if version is not None and as_sbe is not None:
                    deliver(session, Frame(as_sbe(version), is_binary=True))
                else:
                    params = {"channel": channel.name, "data": as_json()}
                    value = {"jsonrpc": "2.0", "method": "subscription", "params": params}
                    deliver(session, self.venue.text(value))

    # Authentication.

    def _check(self, bearer: Any) -> None:
        """Accept a bearer token.

        Raises:
            DeniedError: It is not valid.
        """
        if self.refuses_logins:
            raise DeniedError(Denial.INVALID)
        self._jwts.check(bearer if isinstance(bearer, str) else None, self.venue.now_ms() / 1000)

    def _authenticate(self, request: HttpRequest) -> HttpResponse:
        """Issue a JWT for a signature, of which only the form is checked."""
        if self.refuses_logins:
            return problem(401, "STARKNET_SIGNATURE_VERIFICATION_FAILED", "signature is not valid")
        headers = {name: request.headers.get(f"paradex-{name}", "") for name in _AUTH_HEADERS}
        if not all(headers.values()):
            return problem(400, "VALIDATION_ERROR", "missing headers")
        if not _is_account(headers["starknet-account"]):
            return problem(400, "NOT_ONBOARDED", "User has never called /onboarding endpoint")
        if not _SIGNATURE.fullmatch(headers["starknet-signature"]):
            return problem(401, "INVALID_STARKNET_SIGNATURE", "signature is not valid")
        now_s = self.venue.now_ms() / 1000
        if not headers["signature-expiration"].isdecimal() or int(headers["signature-expiration"]) <= now_s:
            return problem(401, "INVALID_SIGNATURE_EXPIRATION", "signature has expired")
        return json({"jwt_token": self._jwts.issue(PARADEX_ACCOUNT, now_s, self.venue.scaled(_JWT_S))})

    def _authorised(self, answer: Callable[[HttpRequest], Any]) -> Callable[[HttpRequest], HttpResponse]:
        """Require a valid token."""

        def respond(request: HttpRequest) -> HttpResponse:
            scheme, _, bearer = request.headers.get("authorization", "").partition(" ")
            try:
                self._check(bearer if scheme.lower() == "bearer" else None)
            except DeniedError as error:
                return problem(401, "INVALID_TOKEN", f"bearer token is {error}")
            return json(answer(request))

        return respond

    # REST.

    def _open_orders(self, request: HttpRequest) -> dict[str, Any]:
        orders = [order for order in self.account.orders.values() if _includes(request, order.market)]
        return {"results": [self._messages.order_json(order, _state(order)) for order in orders]}

    def _orders_history(self, request: HttpRequest) -> dict[str, Any]:
        """Return orders, newest first."""
        known = sorted([*self.account.closed, *self.account.orders.values()], key=lambda order: -order.number)
        found = [order for order in known if _includes(request, order.market)]
        return _page(request, found, _created, lambda order: self._messages.order_json(order, _state(order)))

    def _fills(self, request: HttpRequest) -> dict[str, Any]:
        """Return fills, newest first."""
        found = [fill for fill in reversed(self.account.fills) if _includes(request, fill.market)]
        return _page(request, found, lambda fill: fill.time_ms, self._messages.fill_json)

    def _balances(self, request: HttpRequest) -> dict[str, Any]:
        del request
        row = self._messages.balance_event(self.account.wallet, self.account.wallet, None)
        size = row["settlement_asset_balance_after"]
        return {"results": [{"token": self.rules.quote, "size": size, "last_updated_at": self.venue.now_ms()}]}


_AUTH_HEADERS = ("starknet-account", "starknet-signature", "timestamp", "signature-expiration")


def _whole(topic: str) -> ParadexChannel:
    return ParadexChannel(topic, topic, is_private=True)


def _of(topic: str, market: Market) -> list[ParadexChannel]:
    """Return the channels that include a market."""
    name = market.listing.name
    return [
        ParadexChannel(f"{topic}.{name}", topic, name, is_private=True),
        ParadexChannel(f"{topic}.ALL", topic, is_private=True),
    ]


def _state(order: OrderRecord) -> str:
    return {"open": "OPEN", "untriggered": "UNTRIGGERED"}.get(order.status, "CLOSED")


def _created(order: OrderRecord) -> int:
    return order.created_ms


def _is_account(text: str) -> bool:
    try:
        return int(text, 16) == int(PARADEX_ACCOUNT, 16)
    except ValueError:
        return False


def _includes(request: HttpRequest, market: Market) -> bool:
    return request.param("market") in {None, "", market.listing.name}


def _page(
    request: HttpRequest, found: list[Any], time_of: Callable[[Any], int], row_of: Callable[[Any], Any]
) -> dict[str, Any]:
    """Return a page of the records in a range of time; ``next`` is the cursor of the next page.

    Raises:
        ValueError: A parameter is not a number.
    """
    first, last = request.number("start_at", 0), request.number("end_at", 2**63)
    inside = [one for one in found if first <= time_of(one) <= last]
    start = request.number("cursor", 0)
    size = max(1, min(request.number("page_size", _MOST_PAGE), _MOST_PAGE))
    end = start + size
    following = str(end) if len(inside) > end else None
    return {"next": following, "prev": None, "results": [row_of(one) for one in inside[start:end]]}
