"""Aster: the account over REST. Every call is signed, with the secret of an API key or by a wallet.

Source: Aster, futures API documentation v1 (HMAC signatures) and v3 (a wallet's signatures, balances, positions);
orders and trades have the members of the exchange whose protocol this is.
"""

from __future__ import annotations

import hmac
import re
from collections.abc import Callable
from typing import Any
from urllib.parse import parse_qsl

from simulator.accounts.credentials import ASTER_KEY, ASTER_SECRET, ASTER_USER, seal
from simulator.accounts.money import cost_of, ratio
from simulator.accounts.records import FillRecord, FundingRecord, OrderRecord, PositionRecord
from simulator.decimals import padded, shortest
from simulator.market import Market
from simulator.rest import HttpRequest
from simulator.venue import SimulatedVenue
from simulator.venues.aster.account import AsterAccounts
from simulator.venues.aster.account_messages import entry_text, kind_of, money_text, status_of
from simulator.venues.aster.messages import price_text, size_text
from simulator.venues.aster.rest import AsterApiError, AsterRest, number_of

_RECV_WINDOW_MS, _FUTURE_MS = 5000, 1000
_NONCE_WINDOW_US = 10_000_000
_MOST_NONCES = 100
_MOST_ROWS = 1000
_LEVERAGE = 20
_WALLET_SIGNATURE = re.compile(r"0x[0-9a-fA-F]{130}")


class AsterAccountRest:
    """Signed REST routes."""

    def __init__(self, venue: SimulatedVenue, accounts: AsterAccounts, rest: AsterRest) -> None:
        self._venue = venue
        self._rest = rest
        self._accounts = accounts
        self._account = accounts.account
        self._quote = accounts.rules.quote
        self._nonces: list[int] = []
        for method, path, weight, answer in (
            ("POST", "listenKey", 1, lambda _: {"listenKey": accounts.open_key()}),
            ("PUT", "listenKey", 1, self._extend_key),
            ("DELETE", "listenKey", 1, self._close_key),
            ("GET", "openOrders", 40, self._open_orders),
            ("GET", "allOrders", 5, self._all_orders),
            ("GET", "userTrades", 5, self._user_trades),
            ("GET", "income", 30, self._income),
            ("GET", "balance", 5, lambda _: [self._balance()]),
            ("GET", "positionRisk", 5, self._position_risk),
            ("GET", "account", 5, lambda _: self._summary()),
            ("GET", "accountWithJoinMargin", 5, lambda _: self._summary()),
        ):
            for version in ("v1", "v2", "v3", "v4"):
                signed = self._signed(answer, is_v3=version == "v3")
                rest.add(method, f"/fapi/{version}/{path}", weight, signed)

    def _signed(self, answer: Callable[[HttpRequest], Any], *, is_v3: bool) -> Callable[[HttpRequest], Any]:
        """Require a signature."""

        def respond(request: HttpRequest) -> Any:
            params = dict(_params(request))
            if self._accounts.refuses_logins:
                raise AsterApiError(-2015, "Invalid API-key, IP, or permissions for action.", 401)
            if is_v3:
                self._check_wallet(params)
            else:
                self._check_key(request, params)
            return answer(request)

        return respond

    def _check_key(self, request: HttpRequest, params: dict[str, str]) -> None:
        """Check an HMAC signature. The listen key needs the API key only.

        Raises:
            AsterApiError: Key, time or signature are wrong.
        """
        key = request.headers.get("x-mbx-apikey")
        if not key:
            raise AsterApiError(-2014, "API-key format invalid.", 401)
        if key != ASTER_KEY:
            raise AsterApiError(-2015, "Invalid API-key, IP, or permissions for action.", 401)
        if request.path.endswith("/listenKey") and "signature" not in params:
            return
        for name in ("timestamp", "signature"):
            if name not in params:
                text = f"Mandatory parameter '{name}' was not sent, was empty/null, or malformed."
                raise AsterApiError(-1102, text)
        sent_ms, window = number_of(params, "timestamp", 0), number_of(params, "recvWindow", _RECV_WINDOW_MS)
        late_ms = self._venue.now_ms() - sent_ms
        if late_ms > window:
            raise AsterApiError(-1021, "Timestamp for this request is outside of the recvWindow.")
        if late_ms < -_FUTURE_MS:
            raise AsterApiError(-1021, "Timestamp for this request was 1000ms ahead of the server's time.")
        if not hmac.compare_digest(seal(ASTER_SECRET, _signed_text(request)), params["signature"]):
            raise AsterApiError(-1022, "Signature for this request is not valid.")

    def _check_wallet(self, params: dict[str, str]) -> None:
        """Check the form of a wallet's signature, and that its nonce is new.

        Raises:
            AsterApiError: Either is wrong.
        """
        if params.get("user", "").lower() != ASTER_USER or params.get("signer", "").lower() != ASTER_USER:
            raise AsterApiError(-1000, "No agent found")
        nonce = number_of(params, "nonce", 0)
        if abs(self._venue.now_us() - nonce) > _NONCE_WINDOW_US or nonce in self._nonces:
            raise AsterApiError(-4225, "Nonce expired")
        if not _WALLET_SIGNATURE.fullmatch(params.get("signature", "")):
            raise AsterApiError(-1022, "Signature for this request is not valid.")
        self._nonces = [*self._nonces, nonce][-_MOST_NONCES:]

    def _extend_key(self, request: HttpRequest) -> Any:
        del request
        if not self._accounts.extend_key():
            raise AsterApiError(-1125, "This listenKey does not exist.")
        return {}

    def _close_key(self, request: HttpRequest) -> Any:
        del request
        self._accounts.close_key()
        return {}

    def _open_orders(self, request: HttpRequest) -> Any:
        return [self._order_row(order) for order in self._account.orders.values() if _includes(request, order.market)]

    def _all_orders(self, request: HttpRequest) -> Any:
        """Return the orders of a symbol, oldest first; without a start only the last ones."""
        self._rest.market(request)
        params = dict(_params(request))
        first, last, limit = self._range(params)
        known = sorted([*self._account.closed, *self._account.orders.values()], key=lambda order: order.number)
        found = [o for o in known if _includes(request, o.market) and first <= o.created_ms <= last]
        if "orderId" in params:
            least = number_of(params, "orderId", 0)
            found = [order for order in found if int(self._accounts.order_id(order)) >= least]
        has_start = "startTime" in params or "orderId" in params
        return [self._order_row(order) for order in (found[:limit] if has_start else found[-limit:])]

    def _user_trades(self, request: HttpRequest) -> Any:
        """Return the fills of a symbol, oldest first; without a start only the last ones."""
        self._rest.market(request)
        params = dict(_params(request))
        first, last, limit = self._range(params)
        found = [f for f in self._account.fills if _includes(request, f.market) and first <= f.time_ms <= last]
        if "fromId" in params:
            least = number_of(params, "fromId", 0)
            found = [fill for fill in found if self._accounts.trade_id(fill) >= least]
        has_start = "startTime" in params or "fromId" in params
        return [self._trade_row(fill) for fill in (found[:limit] if has_start else found[-limit:])]

    def _range(self, params: dict[str, str]) -> tuple[int, int, int]:
        """Return the first and last time of a request, and its limit of rows."""
        last = number_of(params, "endTime", self._venue.now_ms())
        limit = min(number_of(params, "limit", 500), _MOST_ROWS)
        return number_of(params, "startTime", 0), last, limit

    def _order_row(self, order: OrderRecord) -> dict[str, Any]:
        market, spec = order.market, order.spec
        kind = kind_of(order)
        return {
            "orderId": int(self._accounts.order_id(order)),
            "symbol": market.listing.name,
            "status": status_of(order),
            "clientOrderId": self._accounts.client_id(order),
            "price": "0" if spec.price is None else price_text(market, spec.price),
            "avgPrice": shortest(order.average_e8(), 8),
            "origQty": size_text(market, spec.size),
            "executedQty": size_text(market, order.filled),
            "cumQuote": money_text(order.cost),
            "timeInForce": "GTC",
            "type": kind,
            "reduceOnly": spec.is_reduce_only,
            "closePosition": False,
            "side": spec.side.upper(),
            "positionSide": "BOTH",
            "stopPrice": "0",
            "workingType": "CONTRACT_PRICE",
            "priceProtect": False,
            "origType": kind,
            "time": order.created_ms,
            "updateTime": order.updated_ms,
        }

    def _trade_row(self, fill: FillRecord) -> dict[str, Any]:
        return {
            "symbol": fill.market.listing.name,
            "id": self._accounts.trade_id(fill),
            "orderId": int(self._accounts.order_id(fill.order)),
            "side": fill.side.upper(),
            "price": price_text(fill.market, fill.price),
            "qty": size_text(fill.market, fill.size),
            "realizedPnl": money_text(fill.realised),
            "marginAsset": self._quote,
            "quoteQty": money_text(cost_of(fill.market.listing, fill.price, fill.size)),
            "commission": money_text(fill.fee),
            "commissionAsset": self._quote,
            "time": fill.time_ms,
            "positionSide": "BOTH",
            "buyer": fill.side == "buy",
            "maker": fill.is_maker,
        }

    def _income(self, request: HttpRequest) -> Any:
        """Return payments for positions with their symbol, which the stream omits."""
        params = dict(_params(request))
        if params.get("incomeType", "FUNDING_FEE") != "FUNDING_FEE":
            return []
        first, last, limit = self._range(params)
        found = [f for f in self._account.fundings if first <= f.time_ms <= last]
        return [self._income_row(funding) for funding in found if _includes(request, funding.position.market)][-limit:]

    def _income_row(self, funding: FundingRecord) -> dict[str, Any]:
        return {
            "symbol": funding.position.market.listing.name,
            "incomeType": "FUNDING_FEE",
            "income": money_text(funding.payment),
            "asset": self._quote,
            "info": "FUNDING_FEE",
            "time": funding.time_ms,
            "tranId": str(funding.time_ms * 1000 + funding.position.last_fill % 1000),
            "tradeId": "",
        }

    def _balance(self) -> dict[str, Any]:
        margin, wallet = self._account.margin(), money_text(self._account.wallet)
        return {
            "accountAlias": "SgsR",
            "asset": self._quote,
            "balance": wallet,
            "crossWalletBalance": wallet,
            "crossUnPnl": money_text(margin.unrealised),
            "availableBalance": money_text(margin.available),
            "maxWithdrawAmount": money_text(margin.available),
            "marginAvailable": True,
            "updateTime": self._venue.now_ms(),
        }

    def _position_risk(self, request: HttpRequest) -> Any:
        """Return a row for each symbol and leg, also for flat ones."""
        found = [one for one in self._account.positions.values() if _includes(request, one.market)]
        return [self._risk_row(one, *leg) for one in found for leg in self._accounts.legs(one).items()]

    def _risk_row(self, position: PositionRecord, side: str, lots: int) -> dict[str, Any]:
        market, liquidation = position.market, self._account.liquidation_e8(position)
        return {
            "symbol": market.listing.name,
            "positionAmt": size_text(market, lots),
            "entryPrice": entry_text(position),
            "markPrice": padded(self._account.marks_e8[market.listing.symbol], 8),
            "unRealizedProfit": money_text(self._account.unrealised(position)),
            "liquidationPrice": "0" if liquidation is None else shortest(liquidation, 8),
            "leverage": str(_LEVERAGE),
            "maxNotionalValue": "20000000",
            "marginType": "cross",
            "isolatedMargin": "0.00000000",
            "isAutoAddMargin": "false",
            "positionSide": side,
            "updateTime": position.updated_ms,
        }

    def _summary(self) -> dict[str, Any]:
        margin, wallet = self._account.margin(), money_text(self._account.wallet)
        sums = {
            "walletBalance": wallet,
            "unrealizedProfit": money_text(margin.unrealised),
            "marginBalance": money_text(margin.equity),
            "maintMargin": money_text(margin.maintenance),
            "initialMargin": money_text(margin.initial),
            "positionInitialMargin": money_text(margin.initial),
            "openOrderInitialMargin": "0.00000000",
            "maxWithdrawAmount": money_text(margin.available),
            "crossWalletBalance": wallet,
            "crossUnPnl": money_text(margin.unrealised),
            "availableBalance": money_text(margin.available),
        }
        totals = {_total(name): text for name, text in sums.items() if name not in _NO_TOTAL}
        asset = {"asset": self._quote, **sums, "marginAvailable": True, "updateTime": self._venue.now_ms()}
        return {
            "feeTier": 0,
            "canTrade": True,
            "canDeposit": True,
            "canWithdraw": True,
            "updateTime": 0,
            **totals,
            "availableBalance": sums["availableBalance"],
            "maxWithdrawAmount": sums["maxWithdrawAmount"],
            "assets": [asset],
            "positions": [
                self._account_position(position, *leg)
                for position in self._account.positions.values()
                for leg in self._accounts.legs(position).items()
            ],
        }

    def _account_position(self, position: PositionRecord, side: str, lots: int) -> dict[str, Any]:
        worth = abs(self._account.worth(position))
        initial = money_text(ratio(worth * self._accounts.rules.initial_e6, 10**6))
        return {
            "symbol": position.market.listing.name,
            "initialMargin": initial,
            "maintMargin": money_text(ratio(worth * self._accounts.rules.maintenance_e6, 10**6)),
            "unrealizedProfit": money_text(self._account.unrealised(position)),
            "positionInitialMargin": initial,
            "openOrderInitialMargin": "0",
            "leverage": str(_LEVERAGE),
            "isolated": False,
            "entryPrice": entry_text(position),
            "maxNotional": "20000000",
            "positionSide": side,
            "positionAmt": size_text(position.market, lots),
            "updateTime": position.updated_ms,
        }


#: Sums of an asset that the account has under the same name.
_NO_TOTAL = frozenset({"maxWithdrawAmount", "availableBalance"})


def _total(name: str) -> str:
    """Return the name of a sum over all assets."""
    return "total" + name[0].upper() + name[1:]


def _params(request: HttpRequest) -> list[tuple[str, str]]:
    """Return the parameters of query and body."""
    query = [(name, values[0]) for name, values in request.query.items()]
    return query + parse_qsl(request.body.decode(errors="replace"), keep_blank_values=True)


def _signed_text(request: HttpRequest) -> str:
    """Return the signed text: query and body as received, concatenated, without the signature."""
    parts = (request.target.partition("?")[2], request.body.decode(errors="replace"))
    return "".join("&".join(one for one in part.split("&") if not one.startswith("signature=")) for part in parts)


def _includes(request: HttpRequest, market: Market) -> bool:
    """Return whether a request includes a market: all, unless it names one."""
    return dict(_params(request)).get("symbol") in {None, market.listing.name}
