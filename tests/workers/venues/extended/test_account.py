"""Extended's private side: an API key, one stream, and the account by REST."""

from __future__ import annotations

import contextlib
import json
from typing import Any

import pytest
from courses import drive, gone_wrong, secrets_of
from fake_account import PublishedAccount
from hypothesis import given, settings

from ipc.errors import DecodeError
from ipc.events import Balance, Fill, Margin, Order, Position
from ipc.health import Reason
from workers.venues.account import AllPositions, LoginError
from workers.venues.extended.account import ExtendedAccount
from workers.venues.listing import Listing
from workers.venues.rows import InvalidRow
from workers.venues.venue import Refused

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


def snapshot(bodies: dict[str, Any], since_ms: int = MS - 1000) -> Any:
    login = drive(SIDE.login(secrets_of(SIDE.secrets, EXTENDED_API_KEY=KEY), "wss://x/v1", MARKETS, NS), {}).result
    return drive(SIDE.snapshot(login, secrets_of(SIDE.secrets), MARKETS, "desk", since_ms, NS), bodies)


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
def test_a_key_with_characters_that_headers_forbid_is_rejected_and_not_shown(key: str) -> None:
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


@pytest.mark.parametrize("word", ["NEW", "PARTIALLY_FILLED", "UNTRIGGERED", "CANCELLED", "EXPIRED", "A_NEW_WORD"])
def test_an_order_that_is_filled_in_full_is_filled(word: str) -> None:
    (event,) = decode(frame("ORDER", orders=[order(status=word, filledQty="0.5000")]))
    assert (event.status, event.venue_status) == ("filled", word)


@pytest.mark.parametrize("nothing", ["0", "0.000000", 0, None])
def test_an_order_that_closes_a_position_waits_and_has_neither_size_nor_price(nothing: Any) -> None:
    rows = [order(type="TPSL", status=word, qty=nothing, price=nothing) for word in ("NEW", "UNTRIGGERED", "TRIGGERED")]
    events = decode(frame("ORDER", orders=rows))
    assert [event.status for event in events] == ["untriggered", "untriggered", "open"]
    assert {event.price for event in events} == {None}
    assert {float(event.size) for event in events} == {0.0}


def test_a_triggered_order_is_in_the_book() -> None:
    rows = [order(type="CONDITIONAL", status=word) for word in ("UNTRIGGERED", "TRIGGERED", "NEW")]
    rows.append(order(type="TPSL", filledQty="0.1"))
    events = decode(frame("ORDER", orders=rows))
    assert [event.status for event in events] == ["untriggered", "open", "open", "open"]


def test_a_price_of_zero_is_none() -> None:
    row = position(openPrice="0", markPrice="0.00", liquidationPrice="0", unrealisedPnl="")
    (event,) = decode(frame("POSITION", positions=[row]))
    assert (event.entry_price, event.mark_price, event.liquidation_price) == (None, None, None)
    assert event.unrealised_pnl is None
    (event,) = decode(frame("POSITION", positions=[position(liquidationPrice="-5.1")]))
    assert event.liquidation_price is None


def test_numbers_may_be_numbers() -> None:
    row = order(qty=1, filledQty=0.25, price=81000.10, updatedTime=str(MS), reduceOnly=None, type=None)
    (event,) = decode(frame("ORDER", orders=[row]))
    assert (event.size, event.filled, event.price, event.exchange_ns) == ("1", "0.25", "81000.1", NS)
    (fill,) = decode(frame("TRADE", trades=[trade(price=5, qty=0.5, fee=0, id="77")]))
    assert (fill.fill_id, fill.price, fill.size, fill.fee) == ("77", "5", "0.5", "0")
    body = b'{"type":"BALANCE","data":{"balance":{"collateralName":"USD","balance":63807.605956624996111}}}'
    assert SIDE.decode(memoryview(body), False, MARKETS, "desk")[0].total == "63807.605956624996111"  # type: ignore[union-attr]


def test_ids_may_be_numbers_or_text() -> None:
    rows = [order(id="77", externalId=-1771812132822291885), order(externalId=""), order(externalId=None)]
    events = decode(frame("ORDER", orders=rows))
    assert (events[0].order_id, events[0].client_id) == ("77", "-1771812132822291885")
    assert [event.client_id for event in events[1:]] == [None, None]


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


@pytest.mark.parametrize(
    ("word", "as_taker", "as_maker", "unknown"),
    [
        ("TRADE", "trade", "trade", "trade"),
        ("LIQUIDATION", "liquidation", "trade", "liquidation"),
        ("DELEVERAGE", "adl", "adl", "adl"),
        ("OTHER", "other", "other", "other"),
    ],
)
def test_types_of_fills(word: str, as_taker: str, as_maker: str, unknown: str) -> None:
    rows = [trade(tradeType=word, isTaker=is_taker) for is_taker in (True, False, None)]
    events = decode(frame("TRADE", trades=rows))
    assert [event.fill_type for event in events] == [as_taker, as_maker, unknown]
    assert [event.liquidity for event in events] == ["taker", "maker", None]


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


def test_a_balance_is_the_collateral_and_the_margin() -> None:
    spot = {"asset": "BTC", "balance": "0.5", "availableToWithdraw": "0.4", "updatedAt": MS // 1000}
    head = ("extended", None, None)
    assert decode(frame("BALANCE", balance=BALANCE, spotBalances=[spot])) == [
        Balance(*head, NS, "desk", "USD", "1000.5", "400"),
        Margin(*head, NS, "desk", "990", "500", "60", None),
        Balance(*head, MS // 1000 * 1_000_000_000, "desk", "BTC", "0.5", "0.4"),
    ]


def test_a_complete_state_ends_positions_that_it_does_not_list() -> None:
    items = decode(frame("ACCOUNT.POSITION", positions=[position()], isSnapshot=True))
    assert items[0].snapshot
    assert items[1] == AllPositions(frozenset({"BTC-USD"}), at_ns=NS + 7_000_000)


def test_a_state_with_an_invalid_position_is_incomplete() -> None:
    items = decode(frame("POSITION", positions=[position(), position(size="much")], isSnapshot=True))
    assert [type(item) for item in items] == [Position, InvalidRow]


SECTIONS: dict[str, tuple[dict[str, Any], str]] = {
    "orders": (order(), "qty"),
    "trades": (trade(), "market"),
    "positions": (position(), "size"),
    "spotBalances": ({"asset": "BTC", "balance": "0.5"}, "balance"),
}


@pytest.mark.parametrize("section", list(SECTIONS))
def test_an_invalid_row_is_left_out_alone(section: str) -> None:
    row, member = SECTIONS[section]
    rows = [row, row | {member: True}, {}, None, 5, row]
    (event,) = decode(frame("X", **{section: [row]}))
    items = decode(frame("X", **{section: rows}))
    assert [type(item) for item in items] == [type(event), *[InvalidRow] * 4, type(event)]
    assert {item.what for item in items[1:5]} == {section}


def test_an_invalid_section_affects_no_other() -> None:
    items = decode(frame("ORDER", orders=[order()], positions={"x": 1}, balance=[], trades=None))
    assert [type(item) for item in items] == [Order, InvalidRow, InvalidRow]


def test_a_market_that_is_not_subscribed_is_named_by_its_wire_name() -> None:
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
def test_frames_without_account_data_are_ignored(message: Any) -> None:
    assert decode(message) == []


def test_an_error_about_the_key_does_not_repeat_the_venues_text() -> None:
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
        b'{"type":"ORDER","data":5}',
        b'{"type":"ACCOUNT.TRADE","data":[1]}',
        b'{"type":"OTHER","data":{"positions":[],"isSnapshot":5}}',
        b"[" * 100_000,
        b'{"type":"\xff"}',
    ],
)
def test_malformed_frames_are_refused(body: bytes) -> None:
    with pytest.raises(DecodeError):
        SIDE.decode(memoryview(body), False, MARKETS, "desk")


@given(gone_wrong(FRAMES))
@settings(max_examples=300, deadline=None)
def test_mutated_frames_raise_only_decode_errors(body: bytes) -> None:
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


def test_pages_are_as_long_as_the_venue_allows() -> None:
    course = snapshot(answers())
    assert [course.query(number).get("limit") for number in range(5)] == ["1000", None, "100", None, None]


def test_fills_are_requested_page_by_page_down_to_a_time() -> None:
    pages = [ok([trade(id=9), trade(id=8)], 8), ok([trade(id=7), trade(id=6, createdTime=MS - 5000)], 6), ok([])]
    course = snapshot(answers(**{"/user/trades": pages}))
    assert [event.fill_id for event in course.result.events if isinstance(event, Fill)] == ["7", "8", "9"]
    assert course.query(1)["cursor"] == "8"
    assert course.paths().count("/user/trades") == 2


def test_fills_whose_times_are_seconds_are_filtered_as_others() -> None:
    rows = [trade(id=9, createdTime=MS // 1000), trade(id=8, createdTime=MS // 1000 - 5)]
    course = snapshot(answers(**{"/user/trades": ok(rows)}))
    assert [event.fill_id for event in course.result.events if isinstance(event, Fill)] == ["9"]


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


def test_open_orders_and_positions_are_those_of_all_pages() -> None:
    orders = [ok([order(id=1)], 1), ok([order(id=2)], 2), ok([], 2)]
    positions = [ok([position()], 7), ok([position(market="ETH-USD")])]
    course = snapshot(answers(**{"/user/orders": orders, "/user/positions": positions}))
    result = course.result
    assert result.open_orders == {"1", "2"}
    held = [event.venue_symbol for event in result.events if isinstance(event, Position)]
    assert held == ["BTC-USD", "ETH-USD"]
    assert (result.orders_of("X"), result.positions_of("X"), result.balances_of("X")) == (True, True, False)
    assert [course.query(number).get("cursor") for number in (1, 2, 3)] == [None, "1", "2"]


def test_a_list_that_never_ends_is_incomplete() -> None:
    course = snapshot(answers(**{"/user/orders": ok([order()], 1), "/user/positions": ok([position()], 1)}))
    result = course.result
    assert (result.orders_of("BTC-USD"), result.positions_of("BTC-USD")) == (False, False)
    assert [row.what for row in result.invalid] == ["orders", "positions"]


def test_an_error_on_the_second_page_fails_the_snapshot() -> None:
    for path in ("/user/orders", "/user/positions", "/user/trades"):
        row = trade() if path == "/user/trades" else order() if path == "/user/orders" else position()
        with pytest.raises(LoginError):
            snapshot(answers(**{path: [ok([row], 1), {"status": "ERROR", "error": {"code": 1010, "message": "no"}}]}))


@pytest.mark.parametrize("path", list(answers()))
def test_an_invalid_row_of_an_answer_is_left_out_alone(path: str) -> None:
    """A list with an invalid row covers nothing."""
    bodies = answers()
    if path == "/user/balance":
        bodies[path] = ok(BALANCE | {"balance": None})
    else:
        bodies[path]["data"].append({"id": 1})
    result = snapshot(bodies).result
    kinds = [Fill, Order, Order, Position] + ([] if path == "/user/balance" else [Balance, Margin])
    assert [type(event) for event in result.events] == kinds
    assert len(result.invalid) == 1
    assert result.orders_of("BTC-USD") == (path != "/user/orders")
    assert result.positions_of("BTC-USD") == (path != "/user/positions")


@pytest.mark.parametrize("body", [b"<html>", ok(None), {"status": "OK"}, ok({"x": 1}), []])
def test_a_missing_list_of_orders_is_not_an_empty_one(body: Any) -> None:
    with pytest.raises(DecodeError):
        snapshot(answers(**{"/user/orders": body if isinstance(body, bytes) else [body]}))


def test_connection_is_pinged_every_15_seconds() -> None:
    assert (SIDE.keepalive.interval_s, SIDE.keepalive.pong_within_s) == (15.0, 10.0)


# --- as subscribers see it ----------------------------------------------------------------------------------------


def answered(account: PublishedAccount, bodies: dict[str, Any]) -> None:
    account.statement.apply_snapshot(snapshot(bodies).result, account.statement.push_count())


def test_an_invalid_row_is_counted_and_its_neighbours_are_published(account: PublishedAccount) -> None:
    rows = [trade(id=1), trade(id=2, qty="much"), trade(id=3, price="-5"), trade(id=4)]
    account.statement.apply_pushed(decode(frame("TRADE", trades=rows)))
    assert [event.fill_id for event in account.of("fill")] == ["1", "4"]
    assert account.statement.invalid_rows == 2


def test_a_trade_with_ourselves_is_published_once_a_side(account: PublishedAccount) -> None:
    rows = [trade(id=1, side="BUY"), trade(id=1, side="SELL", isTaker=False)]
    account.statement.apply_pushed(decode(frame("TRADE", trades=rows)))
    answered(account, answers(**{"/user/trades": ok(rows)}))
    fills = account.of("fill")
    assert {(event.side, event.liquidity) for event in fills} == {("buy", "taker"), ("sell", "maker")}
    assert len({event.fill_id for event in fills}) == len(fills) == 2


@pytest.mark.parametrize("page", [ok([{"id": "?"}]), ok([order(id=2)], 1)])
def test_a_list_that_is_incomplete_closes_nothing(account: PublishedAccount, page: Any) -> None:
    account.statement.apply_pushed(decode(frame("ORDER", orders=[order(id=1)])))
    answered(account, answers(**{"/user/orders": page, "/user/orders/history": ok([])}))
    assert [event.status for event in account.of("order") if event.order_id == "1"] == ["open"]
    answered(account, answers(**{"/user/orders": ok([]), "/user/orders/history": ok([])}))
    assert [event.status for event in account.of("order") if event.order_id == "1"] == ["open", "closed"]


@pytest.mark.parametrize("page", [ok([{"market": "?"}]), ok([position(market="ETH-USD")], 1)])
def test_a_list_that_is_incomplete_flattens_nothing(account: PublishedAccount, page: Any) -> None:
    account.statement.apply_pushed(decode(frame("POSITION", positions=[position()])))
    answered(account, answers(**{"/user/positions": page}))
    account.statement.apply_pushed(decode(frame("POSITION", positions=[{"market": "?"}], isSnapshot=True)))
    assert [event.size for event in account.of("position") if event.symbol == "BTC-PERP"] == ["-0.10"]
    answered(account, answers(**{"/user/positions": ok([])}))
    assert [event.size for event in account.of("position") if event.symbol == "BTC-PERP"] == ["-0.10", "0"]


def test_an_answer_wins_over_an_earlier_push_regardless_of_times(account: PublishedAccount) -> None:
    late = MS + 60_000
    account.statement.apply_pushed(decode(frame("POSITION", positions=[position(size="0.20", updatedAt=late)])))
    account.statement.apply_pushed(decode(frame("BALANCE", balance=BALANCE | {"balance": "5", "updatedTime": late})))
    answered(account, answers())
    assert [event.size for event in account.of("position")] == ["-0.20", "-0.10"]
    assert [event.total for event in account.of("balance")] == ["5", "1000.5"]


def test_an_unknown_word_closes_nothing(account: PublishedAccount) -> None:
    words = (("NEW", "0"), ("A_NEW_WORD", "0"), ("PARTIALLY_FILLED", "0.2"), ("A_NEW_WORD", "0.5"))
    for word, filled in words:
        account.statement.apply_pushed(decode(frame("ORDER", orders=[order(status=word, filledQty=filled)])))
    assert [event.status for event in account.of("order")] == ["open", "open", "open", "filled"]


def test_the_key_is_never_shown() -> None:
    login = drive(SIDE.login(secrets_of(SIDE.secrets, EXTENDED_API_KEY=KEY), "wss://x/v1", MARKETS, NS), {}).result
    assert KEY not in repr(login)
    assert all(KEY not in repr(request) for request in snapshot(answers()).requests)
