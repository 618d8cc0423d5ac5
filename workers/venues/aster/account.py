"""Aster's private side: a listenKey to connect with, signed REST calls.

How they are signed is in :mod:`workers.venues.aster.signing`.

Source of the rules: Aster's futures API documentation (V1 and V3: signing, user data streams, account endpoints), and
recorded frames where they differ.
"""

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
from workers.venues.aster import account_rows as rows
from workers.venues.aster.account_rows import Changes, OrderRow, PositionRow, TradeRow
from workers.venues.aster.market_data import Aster
from workers.venues.aster.signing import HMAC_SECRETS, WALLET_SECRETS, Signer, can_sign, signer_of
from workers.venues.fields import ns_of_ms
from workers.venues.rows import InvalidRow, split_rows
from workers.venues.venue import Keepalive, Markets, Refused, parsed

__all__ = ["PRIVATE_VENUE", "AsterAccount"]

T = TypeVar("T")

_NS_PER_MS: Final = 1_000_000
_DAY_MS: Final = 86_400_000
#: A listenKey lives for 60 minutes; half of that is left when it is renewed.
_RENEW_NS: Final = 30 * 60 * 1_000_000_000
#: Fills are told for spans of a week at most.
_SPAN_MS: Final = 7 * _DAY_MS - 60_000
_FILLS: Final = 1000
_CLOSED_ORDERS: Final = 100
_PAGES: Final = 50
#: What a URL can hold as it is.
_LISTEN_KEY_FORM: Final = re.compile(r"[A-Za-z0-9_-]+")
#: The code for a symbol that is none.
_UNKNOWN_SYMBOL: Final = -1121
#: What error codes mean that have to do with the credentials, in our words: the venue's could repeat them.
_REFUSALS: Final[Mapping[int | str | None, str]] = {
    -1021: "the time of the request is off: check this machine's clock",
    -1022: "the signature is wrong: check ASTER_API_SECRET, or ASTER_SIGNER_KEY",
    -2014: "ASTER_API_KEY has no valid form",
    -2015: "the key is unknown, or may not do this, or not from this address",
    -1125: "the listenKey is gone",
    -4225: "the nonce is off: check this machine's clock",
}
#: What the venue says, among other things with the same code, when a wallet may not act for an account.
_NO_AGENT: Final = re.compile(r"no agent", re.IGNORECASE)
_NO_WALLET: Final = (
    "ASTER_SIGNER is no API wallet of ASTER_USER: the one is the wallet's address, the other that of the account"
)
_VENUE: Final = Aster()


# --- frames -------------------------------------------------------------------------------------------------------


class _OrderUpdate(msgspec.Struct, tag_field="e", tag="ORDER_TRADE_UPDATE"):
    order: msgspec.Raw = msgspec.field(name="o")


class _AccountUpdate(msgspec.Struct, tag_field="e", tag="ACCOUNT_UPDATE"):
    changes: Changes = msgspec.field(name="a")
    matched_ms: WholeNumber | None = msgspec.field(name="T", default=None)
    pushed_ms: WholeNumber | None = msgspec.field(name="E", default=None)


class _KeyExpired(msgspec.Struct, tag_field="e", tag="listenKeyExpired"):
    """No more events will come, but the socket stays open."""


_Payload: TypeAlias = _OrderUpdate | _AccountUpdate | _KeyExpired


class _Other(msgspec.Struct):
    """Enough of any frame to tell what it is."""

    e: str = ""
    code: int | str | None = None
    msg: str = ""
    result: Any = msgspec.UNSET


_payloads: Final[msgspec.json.Decoder[_Payload]] = json_decoder(_Payload)  # type: ignore[arg-type] # a union
_other: Final = msgspec.json.Decoder(_Other)


# --- answers ------------------------------------------------------------------------------------------------------


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
class _Look:
    """What the answers of one look hold so far."""

    signer: Signer
    markets: Markets
    account: str
    invalid: list[InvalidRow] = field(default_factory=list)

    def valid(self, items: Iterable[T | InvalidRow]) -> list[T]:
        """Return what valid rows became, and keep the others for the report."""
        found, invalid = split_rows(items)
        self.invalid += invalid
        return found


class AsterAccount(PrivateVenue):
    """The futures account behind an API key or an API wallet."""

    venue: ClassVar[str] = "aster"
    secrets: ClassVar[tuple[str, ...]] = (*HMAC_SECRETS, *WALLET_SECRETS)
    keepalive: ClassVar[Keepalive] = account_keepalive(_VENUE.keepalive)

    def is_configured(self, secrets: Secrets) -> bool:
        """Either way of signing will do."""
        return can_sign(secrets)

    def login(
        self,
        secrets: Secrets,
        ws_url: str,
        markets: Markets,  # noqa: ARG002 - the stream tells of all of them
        now_wall_ns: int,
    ) -> RestFlow[Login]:
        """A listenKey is the address of the stream; nothing is subscribed."""
        key = yield from _listen_key(signer_of(secrets))
        return Login(f"{ws_url}/ws/{key}", renew_at_ns=now_wall_ns + _RENEW_NS, token=key)

    def renew(self, login: Login, secrets: Secrets, now_wall_ns: int) -> RestFlow[Renewal]:
        """Asking again keeps the key alive; if it was gone already, the answer is a new one."""
        key = yield from _listen_key(signer_of(secrets))
        url = login.url.removesuffix(login.token) + key
        renewed = Login(url, renew_at_ns=now_wall_ns + _RENEW_NS, token=key)
        return Renewal(renewed, must_reconnect=key != login.token)

    def decode(self, payload: bytes | memoryview, binary: bool, markets: Markets, account: str) -> list[AccountItem]:  # noqa: ARG002, FBT001
        """One frame; see :meth:`PrivateVenue.decode`."""
        try:
            frame = _payloads.decode(payload)
        except (ValueError, RecursionError) as error:
            return _decode_other(payload, error)
        if isinstance(frame, _OrderUpdate):
            return [*rows.executed(frame.order, "ORDER_TRADE_UPDATE", markets, account)]
        if isinstance(frame, _AccountUpdate):
            return _change_items(frame, markets, account)
        return [Expired("the listenKey has expired")]

    def snapshot(
        self,
        login: Login,  # noqa: ARG002 - calls are signed, the listenKey is for the stream alone
        secrets: Secrets,
        markets: Markets,
        account: str,
        since_ms: int,
        now_wall_ns: int,
    ) -> RestFlow[Snapshot]:
        """Orders and fills are told by market: those followed, those with open orders and those traded since."""
        look = _Look(signer_of(secrets), markets, account)
        body = yield look.signer.request("openOrders", weight=40)
        open_rows = rows_of(_listed(body, "openOrders"), OrderRow, _itself, "openOrders")
        body = yield look.signer.request("positionRisk", weight=5)
        risk_rows = rows_of(_listed(body, "positionRisk"), PositionRow, _readable, "positionRisk")
        listed, risks = look.valid(open_rows), look.valid(risk_rows)
        opened = rows.orders(listed, "openOrders", markets, account)
        held = rows.positions(risks, "positionRisk", markets, account)
        since_ms = max(since_ms, now_wall_ns // _NS_PER_MS - _SPAN_MS)
        events: list[AccountEvent | Leg] = []
        closed: list[Order] = []
        for symbol in _symbols(markets, listed, risks, since_ms):
            closed += yield from _look_at_market(look, symbol, since_ms, events)
        events += look.valid(opened)
        events += closed
        events += look.valid(held)
        body = yield look.signer.request("balance", weight=5)
        balances = rows.balances(_listed(body, "balance"), "balance", account)
        events += look.valid(balances)
        body = yield look.signer.request("account", weight=5)
        _answered(_objects, body, "account")
        events += look.valid(rows.margins([msgspec.Raw(body)], "account", account))
        return Snapshot(
            tuple(events),
            frozenset(str(row.orderId) for row in listed),
            tuple(look.invalid),
            orders_of=unless_invalid(open_rows),
            positions_of=unless_invalid([*risk_rows, *held]),
            balances_of=unless_invalid(balances),
        )


# --- frames to events ---------------------------------------------------------------------------------------------


def _decode_other(payload: bytes | memoryview, malformed: Exception) -> list[AccountItem]:
    """A frame that tells nothing of ours: of another kind, a reply, an error; or a malformed one."""
    try:
        frame = _other.decode(payload)
    except (ValueError, RecursionError) as error:
        raise DecodeError(f"not an Aster frame: {error}") from error
    if frame.code is not None:
        return [Refused(f"{frame.code}: {_REFUSALS.get(frame.code, frame.msg)}", reason=_reason(frame.code))]
    if frame.e in {"ORDER_TRADE_UPDATE", "ACCOUNT_UPDATE"}:
        raise DecodeError(f"malformed {frame.e} frame: {malformed}") from malformed
    if not frame.e and frame.result is msgspec.UNSET:
        raise DecodeError("a frame without an event type")
    return []


def _change_items(frame: _AccountUpdate, markets: Markets, account: str) -> list[AccountItem]:
    """Return what changed of balances and positions, and the funding that was paid."""
    at_ns, changes, what = ns_of_ms(frame.matched_ms or frame.pushed_ms), frame.changes, "ACCOUNT_UPDATE"
    balances = rows.changed_balances(changes, at_ns, what, account)
    items: list[AccountItem] = [*balances]
    items += rows.changed_positions(changes, at_ns, what, markets, account)
    if changes.reason == "FUNDING_FEE":
        readable = [raw for raw, one in zip(changes.balances, balances, strict=True) if not isinstance(one, InvalidRow)]
        items += rows.payments(readable, changes, at_ns, what, markets, account)
    return items


# --- looks --------------------------------------------------------------------------------------------


def _reason(code: int | str | None) -> Reason:
    if code in _REFUSALS:
        return Reason.AUTH_FAILED
    return Reason.RATE_LIMITED if code == -1003 else Reason.REFUSED


def _refusal(body: bytes) -> _Error | None:
    try:
        return _errors.decode(body)
    except (ValueError, RecursionError):
        return None


def _answered(decoder: msgspec.json.Decoder[T], body: bytes, what: str) -> T:
    """The answer in ``body``.

    Raises:
        LoginError: It is an error of the venue's.
        DecodeError: It is neither that nor what it should be.
    """
    refused = _refusal(body)
    if refused is None:
        return parsed(decoder, body, what)
    if _NO_AGENT.search(refused.msg):
        raise LoginError(f"{refused.code}: {_NO_WALLET}")
    text = _REFUSALS.get(refused.code) or f"{what}: {refused.msg}"
    raise LoginError(f"{refused.code}: {text}", _reason(refused.code))


def _listed(body: bytes, what: str) -> list[msgspec.Raw]:
    """Return the rows of an answer, not decoded yet; see :func:`_answered`."""
    return _answered(_raw_rows, body, what)


def _listed_of_market(look: _Look, body: bytes, what: str) -> list[msgspec.Raw]:
    """Return the rows of an answer about one market; none, and a report, for a market that the venue does not know.

    A row named it, and that row alone is wrong: it must not cost the look at all other markets.
    """
    refused = _refusal(body)
    if refused is None or refused.code != _UNKNOWN_SYMBOL:
        return _listed(body, what)
    look.invalid.append(InvalidRow(what, "the venue does not know the market"))
    return []


def _listen_key(signer: Signer) -> RestFlow[str]:
    body = yield signer.request("listenKey", method="POST")
    key = _answered(_listen_keys, body, "listenKey").listenKey
    if not _LISTEN_KEY_FORM.fullmatch(key):
        raise DecodeError("an answer to listenKey without one that a URL can hold")
    return key


def _itself(row: T) -> T:
    return row


def _readable(row: PositionRow) -> PositionRow:
    """Return the row.

    Raises:
        ValueError: The amount is not a decimal.
    """
    _ = row.is_held
    return row


def _symbols(markets: Markets, listed: Iterable[OrderRow], risks: Iterable[PositionRow], since_ms: int) -> list[str]:
    """Return the markets in which there can be fills to ask for, sorted."""
    followed: Iterable[str] = markets if isinstance(markets, Iterable) else ()
    traded = (row.symbol for row in risks if row.is_held or (row.updateTime or 0) >= since_ms)
    return sorted({*followed, *traded, *(row.symbol for row in listed)})


def _look_at_market(look: _Look, symbol: str, since_ms: int, events: list[AccountEvent | Leg]) -> RestFlow[list[Order]]:
    """Add the fills of a market to ``events``; return its orders that are over."""
    trades = yield from _trades_since(look, symbol, since_ms)
    body = yield look.signer.request("allOrders", {"symbol": symbol, "limit": _CLOSED_ORDERS}, weight=5)
    found = look.valid(rows_of(_listed_of_market(look, body, "allOrders"), OrderRow, _itself, "allOrders"))
    kinds = {row.orderId: rows.fill_type(row.clientOrderId, row.type, row.status) for row in found}
    events += rows.fills(trades, kinds, look.markets, look.account)
    orders = look.valid(rows.orders(found, "allOrders", look.markets, look.account))
    return [order for order in orders if not order.is_open]


def _trades_since(look: _Look, symbol: str, since_ms: int) -> RestFlow[list[TradeRow]]:
    """Pages, oldest first: the first one from a time on, the others from a trade on."""
    trades: dict[tuple[int, str], TradeRow] = {}
    start = {"startTime": since_ms}
    for _ in range(_PAGES):
        body = yield look.signer.request("userTrades", {"symbol": symbol, "limit": _FILLS, **start}, weight=5)
        page = _listed_of_market(look, body, "userTrades")
        found = look.valid(rows_of(page, TradeRow, _itself, "userTrades"))
        known = len(trades)
        trades |= {(row.id, row.side): row for row in found}
        if len(page) < _FILLS or len(trades) == known:
            break
        start = {"fromId": max(row.id for row in found) + 1}
    return list(trades.values())


#: For the registry of venues.
PRIVATE_VENUE: Final = AsterAccount
