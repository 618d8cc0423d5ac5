"""Extended's private side: one key, one stream, four questions to REST."""

from __future__ import annotations

import contextlib
import json
from typing import Any

import pytest
from courses import drive, gone_wrong, secrets_of
from hypothesis import given, settings

from ipc.errors import DecodeError
from ipc.events import Balance, Fill, Margin, Order, Position
from ipc.health import Reason
from workers.accounts.account import AllPositions, LoginError
from workers.accounts.extended import ExtendedAccount
from workers.venues.venue import Listing, Refused

SIDE = ExtendedAccount()
KEY = "planted-key-5f2c"
BTC = Listing("BTC", "BTC-USD", "BTC-USD")
MARKETS = {"BTC-USD": BTC}
MS = 1_790_000_123_456
NS = MS * 1_000_000
HEAD = ("extended", "BTC-PERP", "BTC-USD")


def order(**changes: Any) -> dict[str, Any]:
    return {
        "id": 1_791_181_340_771_614_723,
        "accountId": 3017,
        "externalId": "771",
        "market": "BTC-USD",
        "type": "LIMIT",
        "side": "BUY",
        "status": "NEW",
        "price": "81000.00",
        "averagePrice": "0",
        "qty": "0.50",
        "filledQty": "0.00",
        "payedFee": "0",
        "reduceOnly": False,
        "postOnly": True,
        "createdTime": MS - 9,
        "updatedTime": MS,
    } | changes


def trade(**changes: Any) -> dict[str, Any]:
    return {
        "id": 1_784_963_886_257_016_832,
        "market": "BTC-USD",
        "orderId": 1_791_181_340_771_614_723,
        "side": "SELL",
        "price": "81000.0000000000000000",
        "qty": "0.1000000000000000",
        "value": "8100",
        "fee": "2.025000",
        "tradeType": "TRADE",
        "createdTime": MS,
        "isTaker": True,
    } | changes


def position(**changes: Any) -> dict[str, Any]:
    return {
        "id": 1,
        "market": "BTC-USD",
        "side": "SHORT",
        "leverage": "10",
        "size": "0.10",
        "value": "8100",
        "openPrice": "80000",
        "markPrice": "81000",
        "liquidationPrice": "90000",
        "unrealisedPnl": "-100",
        "realisedPnl": "0",
        "updatedAt": MS,
    } | changes


BALANCE = {
    "collateralName": "USD",
    "balance": "1000.5",
    "equity": "990",
    "availableForTrade": "500",
    "availableForWithdrawal": "400",
    "initialMargin": "60",
    "marginRatio": "0.02",
    "updatedTime": MS,
}


def frame(kind: str, **data: Any) -> dict[str, Any]:
    return {"type": kind, "data": data, "ts": MS + 7, "seq": 3}


FRAMES = [
    frame("ORDER", orders=[order(), order(status="CANCELLED")]),
    frame("TRADE", trades=[trade()]),
    frame("POSITION", positions=[position()], isSnapshot=True),
    frame("BALANCE", balance=BALANCE, spotBalances=[{"asset": "BTC", "balance": "0.5", "updatedAt": MS // 1000}]),
    {"error": {"code": 401, "message": "no"}, "id": "1", "jsonrpc": "2.0"},
]


def decode(message: Any, markets: Any = MARKETS) -> list[Any]:
    return SIDE.decode(memoryview(json.dumps(message).encode()), False, markets, "desk")


def ok(data: Any, cursor: int | None = None) -> dict[str, Any]:
    return {"status": "OK", "data": data} | ({} if cursor is None else {"pagination": {"cursor": cursor, "count": 1}})


def answers(**changes: Any) -> dict[str, Any]:
    return {
        "/user/trades": ok([trade()]),
        "/user/orders": ok([order()]),
        "/user/orders/history": ok([order(id=5, status="FILLED", filledQty="0.50"), order()]),
        "/user/positions": ok([position()]),
        "/user/balance": ok(BALANCE),
    } | changes


def snapshot(told: dict[str, Any], since_ms: int = MS - 1000) -> Any:
    login = drive(SIDE.login(secrets_of(SIDE.secrets, EXTENDED_API_KEY=KEY), "wss://x/v1", MARKETS, NS), {}).result
    return drive(SIDE.snapshot(login, secrets_of(SIDE.secrets), MARKETS, "desk", since_ms, NS), told)


# --- login --------------------------------------------------------------------------------------------------------


def test_the_key_goes_with_the_upgrade_and_with_every_question() -> None:
    secrets = secrets_of(SIDE.secrets, EXTENDED_API_KEY=KEY)
    assert SIDE.is_configured(secrets)
    assert not SIDE.is_configured(secrets_of(SIDE.secrets))
    login = drive(SIDE.login(secrets, "wss://x/v1", MARKETS, NS), {}).result
    assert login.url == "wss://x/v1/account"
    assert f"X-Api-Key: {KEY}" in login.headers
    assert any(header.startswith("User-Agent: ") for header in login.headers)
    assert (login.hello, login.subscribe, login.must_confirm, login.renew_at_ns) == ((), (), False, None)
    assert all(request.headers == (("X-Api-Key", KEY),) for request in snapshot(answers()).requests)


@pytest.mark.parametrize("key", ["two words", "line\nbreak", "smörgås", "\x7f"])
def test_a_key_that_no_header_can_carry_is_refused_unseen(key: str) -> None:
    with pytest.raises(LoginError) as refused:
        drive(SIDE.login(secrets_of(SIDE.secrets, EXTENDED_API_KEY=key), "wss://x", MARKETS, NS), {})
    assert key not in str(refused.value)


# --- frames -------------------------------------------------------------------------------------------------------


def test_an_order() -> None:
    assert decode(frame("ORDER", orders=[order(reduceOnly=True, status="PARTIALLY_FILLED", filledQty="0.20")])) == [
        Order(
            *HEAD,
            NS,
            "desk",
            "1791181340771614723",
            "771",
            "buy",
            "81000.00",
            "0.50",
            "0.20",
            "open",
            "PARTIALLY_FILLED",
            "LIMIT",
            True,
        )
    ]


@pytest.mark.parametrize(
    ("word", "status"),
    [
        ("NEW", "open"),
        ("TRIGGERED", "open"),
        ("UNTRIGGERED", "untriggered"),
        ("FILLED", "filled"),
        ("CANCELLED", "canceled"),
        ("REJECTED", "rejected"),
        ("EXPIRED", "expired"),
        ("A_NEW_WORD", "open"),
    ],
)
def test_states_of_orders(word: str, status: str) -> None:
    (event,) = decode(frame("ORDER", orders=[order(status=word)]))
    assert (event.status, event.venue_status) == (status, word)


def test_a_market_order_has_no_price() -> None:
    (event,) = decode(frame("ORDER", orders=[order(type="MARKET")]))
    assert event.price is None


def test_a_fill() -> None:
    assert decode(frame("TRADE", trades=[trade()])) == [
        Fill(
            *HEAD,
            NS,
            "desk",
            "1784963886257016832",
            "1791181340771614723",
            "sell",
            "81000.0000000000000000",
            "0.1000000000000000",
            "2.025000",
            "USD",
            "taker",
        )
    ]


def test_fills_that_are_no_trades() -> None:
    rows = [trade(tradeType=word, isTaker=False) for word in ("LIQUIDATION", "DELEVERAGE", "OTHER")]
    events = decode(frame("TRADE", trades=rows))
    assert [(event.fill_type, event.liquidity) for event in events] == [
        ("liquidation", "maker"),
        ("adl", "maker"),
        ("other", "maker"),
    ]


def test_a_short_position_is_negative() -> None:
    assert decode(frame("POSITION", positions=[position()])) == [
        Position(*HEAD, NS, "desk", "-0.10", "80000", "81000", "-100", "90000", None)
    ]


def test_a_closed_position_is_flat() -> None:
    events = decode(frame("POSITION", positions=[position(size="0.00"), position(status="CLOSED")]))
    assert [(event.size, event.entry_price, event.liquidation_price) for event in events] == [
        ("0.00", None, None),
        ("0", None, None),
    ]


def test_a_balance_is_what_is_held_and_the_margin() -> None:
    spot = {"asset": "BTC", "balance": "0.5", "availableToWithdraw": "0.4", "updatedAt": MS // 1000}
    head = ("extended", None, None)
    assert decode(frame("BALANCE", balance=BALANCE, spotBalances=[spot])) == [
        Balance(*head, NS, "desk", "USD", "1000.5", "400"),
        Margin(*head, NS, "desk", "990", "500", "60", None),
        Balance(*head, MS // 1000 * 1_000_000_000, "desk", "BTC", "0.5", "0.4"),
    ]


def test_a_state_that_is_whole_ends_positions_that_it_does_not_list() -> None:
    items = decode(frame("ACCOUNT.POSITION", positions=[position()], isSnapshot=True))
    assert items[0].snapshot
    assert items[1] == AllPositions(frozenset({"BTC-USD"}))


def test_a_market_that_is_not_followed_is_named_all_the_same() -> None:
    (event,) = decode(frame("ORDER", orders=[order(market="kPEPE-USD")]), {})
    assert (event.symbol, event.venue_symbol) == ("PEPE-PERP", "kPEPE-USD")


@pytest.mark.parametrize(
    "message",
    [
        {"type": "DEPOSIT", "data": {"amount": "5"}, "ts": MS, "seq": 4},
        {"type": "TRANSFER", "data": ["x"], "ts": MS, "seq": 4},
        {"type": "ORDER", "data": None, "ts": MS, "seq": 4},
        {"jsonrpc": "2.0", "id": "1", "result": {"subscription": "account.3017"}},
    ],
)
def test_frames_that_tell_nothing_of_ours(message: Any) -> None:
    assert decode(message) == []


def test_an_error_about_the_key_does_not_repeat_what_the_venue_says() -> None:
    (refused,) = decode({"error": f"Unauthorized: {KEY}", "ts": MS, "seq": 1})
    assert refused.reason is Reason.AUTH_FAILED
    assert refused.fatal
    assert KEY not in refused.text
    assert decode({"error": {"code": 1010, "message": "maintenance"}}) == [
        Refused("1010: maintenance", reason=Reason.REFUSED, fatal=True)
    ]


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"[]",
        b"{}",
        b'{"type":"ORDER","data":{"orders":[{}]}}',
        b'{"type":"ACCOUNT.TRADE","data":[1]}',
        b'{"type":"OTHER","data":{"positions":[{"market":1}]}}',
        b"[" * 100_000,
        b'{"type":"\xff"}',
    ],
)
def test_malformed_frames_are_refused(body: bytes) -> None:
    with pytest.raises(DecodeError):
        SIDE.decode(memoryview(body), False, MARKETS, "desk")


@given(gone_wrong(FRAMES))
@settings(max_examples=300, deadline=None)
def test_nothing_but_decode_errors_comes_of_mutated_frames(body: bytes) -> None:
    with contextlib.suppress(DecodeError):
        SIDE.decode(memoryview(body), False, MARKETS, "desk")


# --- REST ---------------------------------------------------------------------------------------------------------


def test_the_whole_account() -> None:
    course = snapshot(answers())
    assert course.paths() == list(answers())
    assert course.result.open_orders == {"1791181340771614723"}
    kinds = [type(event) for event in course.result.events]
    assert kinds == [Fill, Order, Order, Position, Balance, Margin]
    assert [event.status for event in course.result.events if isinstance(event, Order)] == ["open", "filled"]
    assert all(event.snapshot for event in course.result.events)


def test_fills_are_asked_for_page_by_page_down_to_a_time() -> None:
    pages = [ok([trade(id=9), trade(id=8)], 8), ok([trade(id=7), trade(id=6, createdTime=MS - 5000)], 6), ok([])]
    course = snapshot(answers(**{"/user/trades": pages}))
    assert [event.fill_id for event in course.result.events if isinstance(event, Fill)] == ["7", "8", "9"]
    assert course.query(1)["cursor"] == "8"
    assert course.paths().count("/user/trades") == 2


def test_an_account_without_anything() -> None:
    nothing: dict[str, Any] = {path: ok([]) for path in answers()} | {"/user/balance": ok(BALANCE)}
    course = snapshot(nothing)
    assert course.result.open_orders == frozenset()
    assert [type(event) for event in course.result.events] == [Balance, Margin]


def test_an_account_without_money_has_no_balance_that_is_found() -> None:
    refused = {"status": "ERROR", "error": {"code": 1404, "message": "Balance not found"}}
    course = snapshot(answers(**{"/user/balance": refused}))
    assert not {Balance, Margin} & {type(event) for event in course.result.events}
    assert course.result.open_orders


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        ({"code": 401, "message": f"{KEY} unknown"}, Reason.AUTH_FAILED),
        ({"code": "UNAUTHORIZED", "message": f"Unauthorized {KEY}"}, Reason.AUTH_FAILED),
        ({"code": 429, "message": "Too many requests"}, Reason.RATE_LIMITED),
        ({"code": 1010, "message": "Maintenance"}, Reason.REFUSED),
    ],
)
def test_an_answer_that_is_an_error(error: Any, reason: Reason) -> None:
    with pytest.raises(LoginError) as refused:
        snapshot(answers(**{"/user/orders": {"status": "ERROR", "error": error}}))
    assert refused.value.reason is reason
    assert KEY not in refused.value.what


@pytest.mark.parametrize("body", [b"<html>", ok(None), {"status": "OK"}, ok({"x": 1}), ok([{"id": 1}]), []])
def test_a_list_of_orders_that_is_none_does_not_pass_for_an_empty_one(body: Any) -> None:
    with pytest.raises(DecodeError):
        snapshot(answers(**{"/user/orders": body if isinstance(body, bytes) else [body]}))


def test_the_key_is_never_shown() -> None:
    login = drive(SIDE.login(secrets_of(SIDE.secrets, EXTENDED_API_KEY=KEY), "wss://x/v1", MARKETS, NS), {}).result
    assert KEY not in repr(login)
    assert all(KEY not in repr(request) for request in snapshot(answers()).requests)
