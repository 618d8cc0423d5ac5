"""Aster's private side: a listenKey to connect with, signed REST calls.

How they are signed is in :mod:`workers.venues.aster.signing`.

Source of the rules: Aster's futures API documentation (V1 and V3: signing, user data streams, account endpoints), and
recorded frames where they differ.
"""

# ruff: noqa: ARG002 - not every venue needs all arguments of PrivateVenue
from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Final, TypeAlias, TypeVar

import msgspec

from ipc.errors import DecodeError
from ipc.events import AccountEvent, Order
from ipc.health import Reason
from workers.accounts.secrets import Secrets
from workers.venues.account import (
    AccountItem,
    Expired,
    Leg,
    Login,
    LoginError,
    PrivateVenue,
    Renewal,
    RestFlow,
    Snapshot,
    account_keepalive,
    unless_invalid,
)
from workers.venues.account_rows import WholeNumber, json_decoder, rows_of
from workers.venues.aster import account_frames as frames
from workers.venues.aster import account_rows as rows
from workers.venues.aster.account_frames import Changes
from workers.venues.aster.account_rows import OrderRow, PositionRow, TradeRow
from workers.venues.aster.market_data import Aster
from workers.venues.aster.signing import HMAC_SECRETS, WALLET_SECRETS, Signer, can_sign, preload_signer, signer_of
from workers.venues.fields import ns_of_ms
from workers.venues.listing import Markets
from workers.venues.rows import InvalidRow, split_rows
from workers.venues.venue import Keepalive, Refused, parsed

T = TypeVar("T")

_NS_PER_MS: Final = 1_000_000
_DAY_MS: Final = 86_400_000
#: Age at which a listenKey is renewed, half of its 60 minutes.
_RENEW_NS: Final = 30 * 60 * 1_000_000_000
#: Longest span of a request for fills, a week, less a minute.
_MAX_SPAN_MS: Final = 7 * _DAY_MS - 60_000
_FILLS_PER_PAGE: Final = 1000
_MAX_ORDERS: Final = 100
_MAX_PAGES: Final = 50
#: Form of a key that is safe in a URL.
_LISTEN_KEY_FORM: Final = re.compile(r"[A-Za-z0-9_-]+")
#: Error code of an unknown symbol.
_UNKNOWN_SYMBOL: Final = -1121
#: Error codes about the credentials, with our own texts: the venue's could repeat secrets.
_CREDENTIAL_ERRORS: Final[Mapping[int | str | None, str]] = {
    -1021: "the time of the request is off: check this machine's clock",
    -1022: "the signature is wrong: check ASTER_API_SECRET, or ASTER_SIGNER_KEY",
    -2014: "ASTER_API_KEY has no valid form",
    -2015: "the key is unknown, or may not do this, or not from this address",
    -1125: "the listenKey is gone",
    -4225: "the nonce is off: check this machine's clock",
}
#: Error text, among others with the same code, when a wallet is not authorised for an account.
_NO_AGENT: Final = re.compile(r"no agent", re.IGNORECASE)
_NO_WALLET: Final = (
    "ASTER_SIGNER is no API wallet of ASTER_USER: the one is the wallet's address, the other that of the account"
)


class _OrderUpdate(msgspec.Struct, tag_field="e", tag="ORDER_TRADE_UPDATE"):
    order: msgspec.Raw = msgspec.field(name="o")


class _AccountUpdate(msgspec.Struct, tag_field="e", tag="ACCOUNT_UPDATE"):
    changes: Changes = msgspec.field(name="a")
    matched_ms: WholeNumber | None = msgspec.field(name="T", default=None)
    pushed_ms: WholeNumber | None = msgspec.field(name="E", default=None)


class _KeyExpired(msgspec.Struct, tag_field="e", tag="listenKeyExpired"):
    """Expiry of the listenKey: no more events follow, but the socket stays open."""


_Payload: TypeAlias = _OrderUpdate | _AccountUpdate | _KeyExpired


class _Other(msgspec.Struct):
    """Members that identify the kind of a frame."""

    e: str = ""
    code: int | str | None = None
    msg: str = ""
    result: Any = msgspec.UNSET


_payloads: Final[msgspec.json.Decoder[_Payload]] = json_decoder(_Payload)  # type: ignore[arg-type] # a union
_other: Final = msgspec.json.Decoder(_Other)


class _Error(msgspec.Struct):
    code: int | str
    msg: str = ""


class _ListenKey(msgspec.Struct):
    listenKey: str  # noqa: N815 - the venue's names


_errors: Final = msgspec.json.Decoder(_Error)
_listen_keys: Final = msgspec.json.Decoder(_ListenKey)
_raw_rows: Final = msgspec.json.Decoder(list[msgspec.Raw])
_objects: Final = msgspec.json.Decoder(dict[str, msgspec.Raw])


@dataclass(slots=True)
class _AccountQuery:
    """Parameters of the requests of one snapshot, and the invalid rows of the answers so far."""

    signer: Signer
    markets: Markets
    account: str
    invalid: list[InvalidRow] = field(default_factory=list)

    def valid(self, items: Iterable[T | InvalidRow]) -> list[T]:
        """Return the parsed rows; collect the invalid ones for the report."""
        found, invalid = split_rows(items)
        self.invalid += invalid
        return found


class AsterAccount(PrivateVenue):
    """Futures account of an API key or an API wallet."""

    venue: ClassVar[str] = "aster"
    secrets: ClassVar[tuple[str, ...]] = (*HMAC_SECRETS, *WALLET_SECRETS)
    keepalive: ClassVar[Keepalive] = account_keepalive(Aster.keepalive)

    def is_configured(self, secrets: Secrets) -> bool:
        """Return whether there are secrets for either method of signing."""
        return can_sign(secrets)

    def preload(self, secrets: Secrets) -> None:
        """Load the library that signs as a wallet."""
        preload_signer(secrets)

    def login(self, secrets: Secrets, ws_url: str, markets: Markets, now_wall_ns: int) -> RestFlow[Login]:
        """Obtain a listenKey, which is part of the stream's URL; nothing is subscribed."""
        key = yield from _listen_key(signer_of(secrets))
        return Login(f"{ws_url}/ws/{key}", renew_at_ns=now_wall_ns + _RENEW_NS, token=key)

    def renew(self, login: Login, secrets: Secrets, now_wall_ns: int) -> RestFlow[Renewal]:
        """Request the key again, which extends it; the answer is a new key if it had expired."""
        key = yield from _listen_key(signer_of(secrets))
        url = login.url.removesuffix(login.token) + key
        renewed = Login(url, renew_at_ns=now_wall_ns + _RENEW_NS, token=key)
        return Renewal(renewed, must_reconnect=key != login.token)

    def decode(self, payload: bytes | memoryview, binary: bool, markets: Markets, account: str) -> list[AccountItem]:  # noqa: FBT001
        """Decode a frame; see :meth:`PrivateVenue.decode`."""
        try:
            frame = _payloads.decode(payload)
        except (ValueError, RecursionError) as error:
            return _decode_other(payload, error)
        if isinstance(frame, _OrderUpdate):
            return [*frames.executed(frame.order, "ORDER_TRADE_UPDATE", markets, account)]
        if isinstance(frame, _AccountUpdate):
            return _change_items(frame, markets, account)
        return [Expired("the listenKey has expired")]

    def snapshot(
        self, login: Login, secrets: Secrets, markets: Markets, account: str, since_ms: int, now_wall_ns: int
    ) -> RestFlow[Snapshot]:
        """Fetch orders and fills per market: followed ones, those with open orders and those traded since."""
        query = _AccountQuery(signer_of(secrets), markets, account)
        body = yield query.signer.request("openOrders", weight=40)
        open_rows = rows_of(_rows(body, "openOrders"), OrderRow, _identity, "openOrders")
        body = yield query.signer.request("positionRisk", weight=5)
        risk_rows = rows_of(_rows(body, "positionRisk"), PositionRow, _check_amount, "positionRisk")
        listed, risks = query.valid(open_rows), query.valid(risk_rows)
        opened = rows.orders(listed, "openOrders", markets, account)
        held = rows.positions(risks, "positionRisk", markets, account)
        since_ms = max(since_ms, now_wall_ns // _NS_PER_MS - _MAX_SPAN_MS)
        events: list[AccountEvent | Leg] = []
        closed: list[Order] = []
        for symbol in _markets_to_query(markets, listed, risks, since_ms):
            closed += yield from _fetch_market(query, symbol, since_ms, events)
        events += query.valid(opened)
        events += closed
        events += query.valid(held)
        body = yield query.signer.request("balance", weight=5)
        balances = rows.balances(_rows(body, "balance"), "balance", account)
        events += query.valid(balances)
        body = yield query.signer.request("account", weight=5)
        _parse_answer(_objects, body, "account")
        events += query.valid(rows.margins([msgspec.Raw(body)], "account", account))
        return Snapshot(
            tuple(events),
            frozenset(str(row.orderId) for row in listed),
            tuple(query.invalid),
            orders_of=unless_invalid(open_rows),
            positions_of=unless_invalid([*risk_rows, *held]),
            balances_of=unless_invalid(balances),
        )


def _decode_other(payload: bytes | memoryview, malformed: Exception) -> list[AccountItem]:
    """Decode an error, a reply or a frame of another kind; reject a malformed one."""
    try:
        frame = _other.decode(payload)
    except (ValueError, RecursionError) as error:
        raise DecodeError(f"not an Aster frame: {error}") from error
    if frame.code is not None:
        return [Refused(f"{frame.code}: {_CREDENTIAL_ERRORS.get(frame.code, frame.msg)}", reason=_reason(frame.code))]
    if frame.e in {"ORDER_TRADE_UPDATE", "ACCOUNT_UPDATE"}:
        raise DecodeError(f"malformed {frame.e} frame: {malformed}") from malformed
    if not frame.e and frame.result is msgspec.UNSET:
        raise DecodeError("a frame without an event type")
    return []


def _change_items(frame: _AccountUpdate, markets: Markets, account: str) -> list[AccountItem]:
    """Return changed balances and positions, and funding payments."""
    at_ns, changes, what = ns_of_ms(frame.matched_ms or frame.pushed_ms), frame.changes, "ACCOUNT_UPDATE"
    balances = frames.changed_balances(changes, at_ns, what, account)
    items: list[AccountItem] = [*balances]
    items += frames.changed_positions(changes, at_ns, what, markets, account)
    if changes.reason == "FUNDING_FEE":
        readable = [raw for raw, one in zip(changes.balances, balances, strict=True) if not isinstance(one, InvalidRow)]
        items += frames.payments(readable, changes, at_ns, what, markets, account)
    return items


def _reason(code: int | str | None) -> Reason:
    if code in _CREDENTIAL_ERRORS:
        return Reason.AUTH_FAILED
    return Reason.RATE_LIMITED if code == -1003 else Reason.REFUSED


def _error_in(body: bytes) -> _Error | None:
    try:
        return _errors.decode(body)
    except (ValueError, RecursionError):
        return None


def _parse_answer(decoder: msgspec.json.Decoder[T], body: bytes, what: str) -> T:
    """Return the answer in ``body``.

    Raises:
        LoginError: The body is an error of the venue.
        DecodeError: The body is malformed.
    """
    refused = _error_in(body)
    if refused is None:
        return parsed(decoder, body, what)
    if _NO_AGENT.search(refused.msg):
        raise LoginError(f"{refused.code}: {_NO_WALLET}")
    text = _CREDENTIAL_ERRORS.get(refused.code) or f"{what}: {refused.msg}"
    raise LoginError(f"{refused.code}: {text}", _reason(refused.code))


def _rows(body: bytes, what: str) -> list[msgspec.Raw]:
    """Return the raw rows of an answer; see :func:`_parse_answer`."""
    return _parse_answer(_raw_rows, body, what)


def _market_rows(query: _AccountQuery, body: bytes, what: str) -> list[msgspec.Raw]:
    """Return the raw rows of an answer about one market; none, and an invalid row, for a market unknown to the venue.

    Only the row that named the market is wrong: it must not prevent the snapshot of all other markets.
    """
    refused = _error_in(body)
    if refused is None or refused.code != _UNKNOWN_SYMBOL:
        return _rows(body, what)
    query.invalid.append(InvalidRow(what, "the venue does not know the market"))
    return []


def _listen_key(signer: Signer) -> RestFlow[str]:
    body = yield signer.request("listenKey", method="POST")
    key = _parse_answer(_listen_keys, body, "listenKey").listenKey
    if not _LISTEN_KEY_FORM.fullmatch(key):
        raise DecodeError("an answer to listenKey without one that a URL can hold")
    return key


def _identity(row: T) -> T:
    return row


def _check_amount(row: PositionRow) -> PositionRow:
    """Check the amount of a row and return the row.

    Raises:
        ValueError: The amount is not a decimal.
    """
    _ = row.is_held
    return row


def _markets_to_query(
    markets: Markets, listed: Iterable[OrderRow], risks: Iterable[PositionRow], since_ms: int
) -> list[str]:
    """Return the markets that may have new fills, sorted."""
    followed: Iterable[str] = markets if isinstance(markets, Iterable) else ()
    traded = (row.symbol for row in risks if row.is_held or (row.updateTime or 0) >= since_ms)
    return sorted({*followed, *traded, *(row.symbol for row in listed)})


def _fetch_market(
    query: _AccountQuery, symbol: str, since_ms: int, events: list[AccountEvent | Leg]
) -> RestFlow[list[Order]]:
    """Fetch a market; add its fills to ``events`` and return its closed orders."""
    trades = yield from _trades_since(query, symbol, since_ms)
    body = yield query.signer.request("allOrders", {"symbol": symbol, "limit": _MAX_ORDERS}, weight=5)
    found = query.valid(rows_of(_market_rows(query, body, "allOrders"), OrderRow, _identity, "allOrders"))
    kinds = {row.orderId: rows.fill_type(row.clientOrderId, row.type, row.status) for row in found}
    events += rows.fills(trades, kinds, query.markets, query.account)
    orders = query.valid(rows.orders(found, "allOrders", query.markets, query.account))
    return [order for order in orders if not order.is_open]


def _trades_since(query: _AccountQuery, symbol: str, since_ms: int) -> RestFlow[list[TradeRow]]:
    """Fetch pages of trades, oldest first: the first by start time, the others by trade id."""
    trades: dict[tuple[int, str], TradeRow] = {}
    start = {"startTime": since_ms}
    for _ in range(_MAX_PAGES):
        body = yield query.signer.request("userTrades", {"symbol": symbol, "limit": _FILLS_PER_PAGE, **start}, weight=5)
        page = _market_rows(query, body, "userTrades")
        found = query.valid(rows_of(page, TradeRow, _identity, "userTrades"))
        known = len(trades)
        trades |= {(row.id, row.side): row for row in found}
        if len(page) < _FILLS_PER_PAGE or len(trades) == known:
            break
        start = {"fromId": max(row.id for row in found) + 1}
    return list(trades.values())


#: For the registry of venues.
PRIVATE_VENUE: Final = AsterAccount
