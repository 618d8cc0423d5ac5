"""Hyperliquid's private side: all data by an address, which no output contains."""

from __future__ import annotations

import contextlib
import json
import os
from pathlib import Path
from typing import Any

import pytest
from courses import drive, gone_wrong, secrets_of
from hypothesis import given, settings

from ipc.errors import ConfigError, DecodeError
from ipc.events import Balance, Fill, Margin, Order, Payment, Position
from ipc.health import Reason
from workers.venues.account import AllPositions, LoginError
from workers.venues.hyperliquid.account import HyperliquidAccount
from workers.venues.listing import Listing
from workers.venues.rows import InvalidRow
from workers.venues.venue import Keepalive, Pong, Refused

ACCOUNT = HyperliquidAccount()
ADDRESS = "0x1f9090AAe28b8a3dCeaDf281B0F12828e676c326"
LOWER = ADDRESS.lower()
BTC = Listing("BTC", "BTC", "BTC")
MARKETS = {"BTC": BTC}
MS = 1_790_000_123_456
NS = MS * 1_000_000
HEAD = ("hyperliquid", "BTC-PERP", "BTC")
WHOLE = ("hyperliquid", None, None)


def order(**changes: Any) -> dict[str, Any]:
    return {
        "coin": "BTC",
        "side": "B",
        "limitPx": "81000.0",
        "sz": "0.3",
        "oid": 300_000_000_017,
        "timestamp": MS - 900,
        "origSz": "0.5",
        "cloid": "0x0000000000000000000000000000004d",
    } | changes


def update(status: str = "open", **changes: Any) -> dict[str, Any]:
    return {"order": order(**changes), "status": status, "statusTimestamp": MS}


def trade(**changes: Any) -> dict[str, Any]:
    return {
        "coin": "BTC",
        "px": "81000.0",
        "sz": "0.2",
        "side": "A",
        "time": MS,
        "startPosition": "0.7",
        "dir": "Close Long",
        "closedPnl": "1.5",
        "hash": "0x01",
        "oid": 300_000_000_017,
        "crossed": True,
        "fee": "7.29",
        "tid": 987_654_321_012_345,
        "feeToken": "USDC",
        "twapId": None,
    } | changes


def funding(**changes: Any) -> dict[str, Any]:
    return {
        "time": MS,
        "coin": "BTC",
        "usdc": "-0.35",
        "szi": "0.5",
        "fundingRate": "0.0000125",
        "nSamples": None,
    } | changes


def held(**changes: Any) -> dict[str, Any]:
    position = {
        "coin": "BTC",
        "szi": "-0.5",
        "leverage": {"type": "cross", "value": 20},
        "entryPx": "80000.5",
        "positionValue": "40500.0",
        "unrealizedPnl": "-499.75",
        "returnOnEquity": "-0.24",
        "liquidationPx": "95000.1",
        "marginUsed": "2025.0",
        "maxLeverage": 40,
        "cumFunding": {"allTime": "1", "sinceOpen": "1", "sinceChange": "0"},
    }
    return {"type": "oneWay", "position": position | changes}


def state(*positions: Any, **changes: Any) -> dict[str, Any]:
    summary = {"accountValue": "9000.5", "totalNtlPos": "1", "totalRawUsd": "2", "totalMarginUsed": "2025.0"}
    return {
        "marginSummary": summary,
        "crossMarginSummary": summary,
        "crossMaintenanceMarginUsed": "506.25",
        "withdrawable": "6975.5",
        "assetPositions": list(positions),
        "time": MS,
    } | changes


def spot(**changes: Any) -> dict[str, Any]:
    return {"coin": "USDC", "token": 0, "total": "250.75", "hold": "50.25", "entryNtl": "0.0"} | changes


def frame(channel: str, data: Any) -> dict[str, Any]:
    return {"channel": channel, "data": data}


def state_frame(*positions: Any, dex: str = "") -> dict[str, Any]:
    return frame("clearinghouseState", {"dex": dex, "user": LOWER, "clearinghouseState": state(*positions)})


FRAMES = [
    frame("orderUpdates", [update(), update("filled", sz="0.0")]),
    frame("userFills", {"isSnapshot": True, "user": LOWER, "fills": [trade(), trade(tid=0)]}),
    frame("userFundings", {"user": LOWER, "fundings": [funding()]}),
    frame("user", {"fills": [trade()], "funding": funding()}),
    state_frame(held(), held(coin="ETH", leverage={"type": "isolated"})),
    frame("spotState", {"user": LOWER, "spotState": {"balances": [spot()]}}),
    frame("error", "Cannot track more than 15 total users."),
]


def decode(message: Any, markets: Any = MARKETS) -> list[Any]:
    body = message.encode() if isinstance(message, str) else json.dumps(message).encode()
    return ACCOUNT.decode(memoryview(body), False, markets, "desk")


class Info:
    """Answers to ``/info`` by request type; a list of answers is served in order."""

    def __init__(self, **changes: Any) -> None:
        self.answers: dict[str, Any] = {
            "clearinghouseState": [state(held())],
            "spotClearinghouseState": [{"balances": [spot()]}],
            "userFillsByTime": [[trade()]],
            "userFunding": [[{"time": MS, "hash": "0x0", "delta": {"type": "funding", **funding()}}]],
            "historicalOrders": [[update(), update("canceled", oid=5)]],
            "frontendOpenOrders": [[order(isTrigger=False, orderType="Limit", reduceOnly=False)]],
            "perpDexs": [[None]],
        } | changes
        self.asked: list[dict[str, Any]] = []

    def drive(self, since_ms: int = MS - 1000, now_ns: int = NS) -> Any:
        login = drive(ACCOUNT.login(address(), "wss://x/ws", MARKETS, NS), {}).result
        steps = ACCOUNT.snapshot(login, address(), MARKETS, "desk", since_ms, now_ns)
        request = next(steps)
        try:
            while True:
                assert (request.path, request.method) == ("/info", "POST")
                assert ADDRESS not in repr(request)
                assert LOWER not in repr(request)
                query = json.loads(request.body or b"")
                self.asked.append(query | {"weight": request.weight})
                dex = query.get("dex")
                answer = self.answers[query["type"]].pop(0) if not dex else self._of_dex(query["type"], dex)
                request = steps.send(answer if isinstance(answer, bytes) else json.dumps(answer).encode())
        except StopIteration as end:
            return end.value

    def _of_dex(self, kind: str, dex: str) -> Any:
        """Return the answer of a builder's exchange, empty unless a test supplies one."""
        nothing = [[] if kind == "frontendOpenOrders" else state()]
        return self.answers.get(f"{kind} {dex}", nothing)[0]

    def kinds(self) -> list[str]:
        return [query["type"] for query in self.asked]


def address(value: str = ADDRESS) -> Any:
    return secrets_of(ACCOUNT.secrets, HL_VAULT_ADDRESS=value)


# --- login ----------------------------------------------------------------------------------------------------------


def test_login_needs_only_an_address() -> None:
    assert ACCOUNT.is_configured(address())
    assert not ACCOUNT.is_configured(secrets_of(ACCOUNT.secrets))
    login = drive(ACCOUNT.login(address(), "wss://x/ws", MARKETS, NS), {}).result
    assert (login.url, login.headers, login.hello) == ("wss://x/ws", (), ())
    assert (login.must_confirm, login.renew_at_ns) == (False, None)
    sent = [json.loads(message) for message in login.subscribe]
    assert {message["method"] for message in sent} == {"subscribe"}
    assert {message["subscription"]["user"] for message in sent} == {LOWER}
    kinds = [message["subscription"]["type"] for message in sent]
    assert kinds == ["orderUpdates", "userFills", "userFundings", "userEvents", "clearinghouseState", "spotState"]


@pytest.mark.parametrize("value", ["", "0x", LOWER[:-1], LOWER + "0", LOWER[2:], "0x" + 40 * "g", "planted key"])
def test_malformed_address_is_rejected_without_showing_it(value: str) -> None:
    secrets = secrets_of(ACCOUNT.secrets, HL_VAULT_ADDRESS_COMMAND=f"printf '%s' '{value}'")
    with pytest.raises(LoginError) as refused:
        drive(ACCOUNT.login(secrets, "wss://x", MARKETS, NS), {})
    assert refused.value.reason is Reason.AUTH_FAILED
    assert "HL_VAULT_ADDRESS" in refused.value.what
    assert len(value) < 10 or value not in refused.value.what


def test_an_address_that_cannot_be_read_is_a_mistake_of_the_configuration() -> None:
    with pytest.raises(ConfigError):
        drive(ACCOUNT.login(secrets_of(ACCOUNT.secrets, HL_VAULT_ADDRESS_FILE="/nowhere"), "wss://x", MARKETS, NS), {})


def test_the_address_is_never_shown() -> None:
    login = drive(ACCOUNT.login(address(), "wss://x/ws", MARKETS, NS), {}).result
    assert LOWER not in repr(login).lower()
    Info().drive()  # checks each request


# --- frames ---------------------------------------------------------------------------------------------------------


def test_an_order() -> None:
    assert decode(frame("orderUpdates", [update(reduceOnly=True, orderType="Limit")])) == [
        Order(
            *HEAD,
            NS,
            "desk",
            "300000000017",
            "0x0000000000000000000000000000004d",
            "buy",
            "81000.0",
            "0.5",
            "0.2",
            "open",
            "open",
            "Limit",
            True,
        )
    ]


def test_an_order_with_the_members_that_it_must_have() -> None:
    bare = {key: value for key, value in order().items() if key not in {"origSz", "cloid"}}
    (event,) = decode(frame("orderUpdates", [{"order": bare, "status": "open"}]))
    assert (event.size, event.filled, event.client_id) == ("0.3", "0", None)
    assert (event.order_type, event.reduce_only, event.exchange_ns) == ("", False, (MS - 900) * 1_000_000)


def test_several_orders_in_one_frame_keep_their_order() -> None:
    events = decode(frame("orderUpdates", [update(), update("filled", sz="0.0", side="A")]))
    assert [(event.status, event.filled, event.side) for event in events] == [
        ("open", "0.2", "buy"),
        ("filled", "0.5", "sell"),
    ]


@pytest.mark.parametrize(
    ("word", "status"),
    [
        ("open", "open"),
        ("triggered", "open"),
        ("filled", "filled"),
        ("canceled", "canceled"),
        ("marginCanceled", "canceled"),
        ("liquidatedCanceled", "canceled"),
        ("selfTradeCanceled", "canceled"),
        ("scheduledCancel", "canceled"),
        ("rejected", "rejected"),
        ("perpMarginRejected", "rejected"),
        ("reduceOnlyRejected", "rejected"),
        ("accepted", "open"),
        ("aNewWord", "open"),
    ],
)
def test_states_of_orders(word: str, status: str) -> None:
    (event,) = decode(frame("orderUpdates", [update(word)]))
    assert (event.status, event.venue_status) == (status, word)


@pytest.mark.parametrize(("word", "status"), [("open", "untriggered"), ("triggered", "open"), ("filled", "filled")])
def test_an_order_that_waits_for_a_price(word: str, status: str) -> None:
    (event,) = decode(frame("orderUpdates", [update(word, isTrigger=True)]))
    assert event.status == status


def test_a_fill() -> None:
    assert decode(frame("userFills", {"user": LOWER, "fills": [trade()]})) == [
        Fill(
            *HEAD,
            NS,
            "desk",
            "987654321012345",
            "300000000017",
            "sell",
            "81000.0",
            "0.2",
            "7.29",
            "USDC",
            "taker",
        )
    ]


def test_historical_fills_are_marked_and_new_ones_are_not() -> None:
    (past,) = decode(frame("userFills", {"isSnapshot": True, "fills": [trade()]}))
    (now,) = decode(frame("user", {"fills": [trade()]}))
    assert (past.snapshot, now.snapshot) == (True, False)
    assert past.fill_id == now.fill_id


def test_the_kinds_of_fills() -> None:
    rows = [
        trade(crossed=False, fee="-1.2"),
        trade(liquidation={"liquidatedUser": LOWER, "markPx": "1", "method": "market"}),
        {key: value for key, value in trade().items() if key not in {"crossed", "fee", "feeToken"}},
    ]
    events = decode(frame("userFills", {"fills": rows}))
    assert [(event.liquidity, event.fill_type, event.fee, event.fee_asset) for event in events] == [
        ("maker", "trade", "-1.2", "USDC"),
        ("taker", "liquidation", "7.29", "USDC"),
        (None, "trade", None, None),
    ]


def test_dust_conversions_have_distinct_ids() -> None:
    rows = [trade(tid=0, oid=1), trade(tid=0, oid=2), trade(tid=0, oid=2, time=MS + 1)]
    events = decode(frame("userFills", {"fills": rows}))
    assert len({event.fill_id for event in events}) == 3


def test_a_payment_of_funding() -> None:
    paid = Payment(*HEAD, NS, "desk", f"{MS}:BTC", "USDC", "-0.35", "funding", "0.0000125")
    assert decode(frame("userFundings", {"user": LOWER, "fundings": [funding()]})) == [paid]
    assert decode(frame("user", {"funding": funding()})) == [paid]


def test_payments_for_two_markets_at_one_time_have_distinct_ids() -> None:
    events = decode(frame("userFundings", {"isSnapshot": True, "fundings": [funding(), funding(coin="ETH")]}))
    assert len({event.payment_id for event in events}) == 2
    assert all(event.snapshot for event in events)


def test_positions_and_margin() -> None:
    assert decode(
        state_frame(held(), held(coin="ETH", szi="2.0", leverage={"type": "isolated"}, liquidationPx=None))
    ) == [
        Position(*HEAD, NS, "desk", "-0.5", "80000.5", None, "-499.75", "95000.1", "cross"),
        Position("hyperliquid", "ETH-PERP", "ETH", NS, "desk", "2.0", "80000.5", None, "-499.75", None, "isolated"),
        Margin(*WHOLE, NS, "desk", "9000.5", "6975.5", "2025.0", "506.25"),
        AllPositions(frozenset({"BTC", "ETH"}), at_ns=NS),
    ]


def test_an_account_without_positions_ends_them_all() -> None:
    margin, everything = decode(state_frame())
    assert isinstance(margin, Margin)
    assert everything == AllPositions(frozenset(), at_ns=NS)


def test_the_state_of_a_builders_exchange_has_positions_and_ends_no_others() -> None:
    position, everything = decode(state_frame(held(coin="xyz:TSLA"), dex="xyz"))
    assert (position.symbol, position.venue_symbol, position.size) == (None, "xyz:TSLA", "-0.5")
    assert everything == AllPositions(frozenset({"xyz:TSLA"}), at_ns=NS)
    assert [everything.of(coin) for coin in ("xyz:GOLD", "BTC", "flx:GOLD", None)] == [True, False, False, False]


def test_a_balance_is_available_but_for_what_is_on_hold() -> None:
    rows = [spot(), spot(coin="HYPE", total="1.5", hold="0.0")]
    assert decode(frame("spotState", {"user": LOWER, "spotState": {"balances": rows}})) == [
        Balance(*WHOLE, None, "desk", "USDC", "250.75", "200.5"),
        Balance(*WHOLE, None, "desk", "HYPE", "1.5", "1.5"),
    ]


@pytest.mark.parametrize(
    ("coin", "symbol"), [("BTC", "BTC-PERP"), ("kPEPE", "PEPE-PERP"), ("@107", None), ("xyz:SILVER", None)]
)
def test_market_that_is_not_followed_is_named_where_possible(coin: str, symbol: str | None) -> None:
    (fill,) = decode(frame("userFills", {"fills": [trade(coin=coin)]}), {})
    (position, *_) = decode(state_frame(held(coin=coin)), {})
    assert (fill.symbol, fill.venue_symbol) == (symbol, coin)
    assert (position.symbol, position.venue_symbol) == (symbol, coin)


def test_a_pong() -> None:
    assert decode({"channel": "pong"}) == [Pong()]


@pytest.mark.parametrize(
    "message",
    [
        "Websocket connection established.",
        "",
        frame("subscriptionResponse", {"method": "subscribe", "subscription": {"type": "userFills"}}),
        frame("notification", {"notification": "Resting order filled"}),
        frame("user", {"nonUserCancel": [{"coin": "BTC", "oid": 1}]}),
        frame("user", {"liquidation": {"lid": 1}}),
        frame("user", {"twapSliceFills": []}),
        frame("aNewChannel", [1]),
    ],
)
def test_irrelevant_frames_decode_to_nothing(message: Any) -> None:
    assert decode(message) == []


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("Cannot track more than 15 total users.", Reason.RATE_LIMITED),
        ("Already subscribed: {}", None),
        ("Already unsubscribed: {}", None),
        ("Invalid subscription", Reason.SUBSCRIBE_ERROR),
    ],
)
def test_errors(text: str, reason: Reason | None) -> None:
    assert decode(frame("error", text)) == [Refused(text, reason=reason)]


def test_an_error_does_not_repeat_the_address() -> None:
    asked = json.dumps({"method": "subscribe", "subscription": {"type": "orderUpdates", "user": LOWER}})
    (refused,) = decode(frame("error", f"Error parsing JSON into valid websocket request: {asked}"))
    assert LOWER not in refused.text


@pytest.mark.parametrize(
    "body",
    [
        b"{}",
        b'{"channel":5}',
        b'{"channel":"orderUpdates","data":{}}',
        b'{"channel":"userFills","data":[]}',
        b'{"channel":"clearinghouseState","data":{"clearinghouseState":{}}}',
        b'{"channel":"error","data":5}',
        b'{"channel":"user"',
        b'{"channel":"\xff"}',
        b'{"channel":"user","data":' + b"[" * 100_000,
    ],
)
def test_malformed_frames_are_refused(body: bytes) -> None:
    with pytest.raises(DecodeError):
        ACCOUNT.decode(memoryview(body), False, MARKETS, "desk")


def test_an_empty_text_in_place_of_a_number_is_none() -> None:
    (fill,) = decode(frame("userFills", {"user": LOWER, "fills": [trade(fee="")]}))
    assert fill.fee is None
    position, *_ = decode(state_frame(held(unrealizedPnl="", entryPx="", liquidationPx="")))
    assert (position.entry_price, position.unrealised_pnl, position.liquidation_price) == (None, None, None)


@pytest.mark.parametrize("write", [float, str])
def test_ids_and_times_may_be_written_otherwise(write: Any) -> None:
    ids = {"oid": write(300_000_000_017), "tid": write(987_654_321_012), "time": write(MS)}
    (one,) = decode(frame("userFills", {"user": LOWER, "fills": [trade(**ids)]}))
    assert (one.order_id, one.fill_id, one.exchange_ns) == ("300000000017", "987654321012", NS)
    (event,) = decode(frame("orderUpdates", [update(oid=ids["oid"], timestamp=ids["time"])]))
    assert event.order_id == "300000000017"


@pytest.mark.parametrize(
    ("message", "valid"),
    [
        (frame("orderUpdates", [{"order": {}}, update(), update(sz="many"), update(side="C")]), [Order]),
        (frame("orderUpdates", [update(oid="five"), update(oid=6)]), [Order]),
        (frame("userFills", {"user": LOWER, "fills": [trade(), 5, trade(px=[]), trade(tid=2)]}), [Fill, Fill]),
        (frame("user", {"fills": [trade(side="X"), trade()], "funding": {"coin": 5}}), [Fill]),
        (frame("userFundings", {"fundings": [funding(time="now"), funding()]}), [Payment]),
        (frame("spotState", {"spotState": {"balances": [spot(hold="x"), spot()]}}), [Balance]),
        (state_frame(held(szi=None), held(coin="ETH")), [Position, Margin]),
    ],
)
def test_an_invalid_row_costs_itself_alone(message: Any, valid: list[type]) -> None:
    items = decode(message)
    invalid = [item for item in items if isinstance(item, InvalidRow)]
    assert [type(item) for item in items if not isinstance(item, InvalidRow)] == valid
    assert invalid
    assert {row.what for row in invalid} == {message["channel"]}


def test_numbers_may_be_written_as_numbers() -> None:
    body = json.dumps(frame("userFills", {"fills": [trade(px=81000.5, sz=2, fee=1e-7)]})).encode()
    (event,) = ACCOUNT.decode(body, False, MARKETS, "desk")
    assert isinstance(event, Fill)
    assert (event.price, event.size, event.fee) == ("81000.5", "2", "1e-07")


@given(gone_wrong(FRAMES))
@settings(max_examples=300)
def test_nothing_but_decode_errors_comes_of_mutated_frames(body: bytes) -> None:
    with contextlib.suppress(DecodeError):
        ACCOUNT.decode(memoryview(body), False, MARKETS, "desk")


# --- REST -----------------------------------------------------------------------------------------------------------


def test_the_whole_account() -> None:
    info = Info()
    snapshot = info.drive()
    assert info.kinds() == list(info.answers)
    assert all(query["user"] == LOWER for query in info.asked if query["type"] != "perpDexs")
    assert [query["weight"] for query in info.asked] == [2, 2, 20, 20, 20, 20, 20]
    assert snapshot.open_orders == {"300000000017"}
    kinds = [type(event) for event in snapshot.events]
    assert kinds == [Position, Margin, Balance, Fill, Payment, Order, Order]
    assert all(event.snapshot for event in snapshot.events)
    orders = [(event.order_id, event.status) for event in snapshot.events if isinstance(event, Order)]
    assert orders == [("5", "canceled"), ("300000000017", "open")]


def test_listed_order_has_no_time_of_its_last_change() -> None:
    snapshot = Info().drive()
    listed = [event for event in snapshot.events if isinstance(event, Order)][-1]
    assert (listed.exchange_ns, listed.filled) == (None, "0.2")


def test_an_order_of_the_list_that_waits_for_a_price() -> None:
    snapshot = Info(frontendOpenOrders=[[order(isTrigger=True, orderType="Stop Market", reduceOnly=True)]]).drive()
    listed = [event for event in snapshot.events if isinstance(event, Order)][-1]
    assert (listed.status, listed.order_type, listed.reduce_only) == ("untriggered", "Stop Market", True)


def test_newest_state_of_an_order_comes_last() -> None:
    history = [update("filled", sz="0.0"), update("canceled"), update("open"), update("canceled", oid=9)]
    snapshot = Info(historicalOrders=[history], frontendOpenOrders=[[]]).drive()
    orders = [(event.order_id, event.status) for event in snapshot.events if isinstance(event, Order)]
    assert orders == [("9", "canceled"), ("300000000017", "canceled"), ("300000000017", "filled")]
    assert snapshot.open_orders == frozenset()


def test_fills_and_payments_are_asked_for_from_a_time_on() -> None:
    info = Info()
    info.drive(since_ms=MS - 5)
    assert [query.get("startTime") for query in info.asked] == [None, None, MS - 5, MS - 5, None, None, None]


def test_fills_are_asked_for_page_by_page_each_from_the_last_time_of_the_one_before() -> None:
    first = [trade(tid=number, time=MS + number) for number in range(1, 2001)]
    second = [trade(tid=2000, time=MS + 2000), trade(tid=2001, time=MS + 2000), trade(tid=2002, time=MS + 2001)]
    info = Info(userFillsByTime=[first, second])
    snapshot = info.drive(since_ms=MS)
    assert info.kinds().count("userFillsByTime") == 2
    assert info.asked[3]["startTime"] == MS + 2000
    ids = [event.fill_id for event in snapshot.events if isinstance(event, Fill)]
    assert ids == [str(number) for number in range(1, 2003)]


def test_page_of_a_single_time_is_requested_once() -> None:
    page = [trade(tid=number, time=MS) for number in range(1, 2001)]
    info = Info(userFillsByTime=[page, page])
    info.drive(since_ms=MS)
    assert info.kinds().count("userFillsByTime") == 1


def test_fills_are_read_in_fifty_pages_at_most() -> None:
    pages = [[trade(tid=number, time=MS + page) for number in range(2000)] for page in range(1, 60)]
    info = Info(userFillsByTime=pages)
    info.drive(since_ms=MS)
    assert info.kinds().count("userFillsByTime") == 50


def test_at_most_fifty_exchanges_are_queried() -> None:
    info = Info(perpDexs=[[None, *({"name": f"d{number}"} for number in range(60))]])
    info.drive()
    assert info.kinds().count("clearinghouseState") == 51, "the venue's own exchange, and 50 of others"


def test_malformed_state_of_another_exchange_is_left_out() -> None:
    snapshot = Info(**{"perpDexs": [[None, {"name": "xyz"}]], "clearinghouseState xyz": [b"null"]}).drive()
    assert [row.what for row in snapshot.invalid] == ["answer of xyz"]
    assert [snapshot.positions_of(coin) for coin in ("BTC", "xyz:TSLA")] == [True, False]


def test_account_is_pinged_every_15_s() -> None:
    assert ACCOUNT.keepalive == Keepalive(interval_s=15.0, ping=b'{"method":"ping"}', pong_within_s=10.0)


def test_an_account_without_anything() -> None:
    nothing: dict[str, Any] = {kind: [[]] for kind in Info().answers}
    nothing |= {"clearinghouseState": [state()], "spotClearinghouseState": [{"balances": []}], "perpDexs": [[None]]}
    snapshot = Info(**nothing).drive()
    assert snapshot.open_orders == frozenset()
    assert [type(event) for event in snapshot.events] == [Margin]


@pytest.mark.parametrize("kind", [kind for kind in Info().answers if kind != "perpDexs"])
@pytest.mark.parametrize("answer", [b"<html>", b"", b"null", b'"Failed to deserialize the JSON body"', b"{}"])
def test_malformed_answer_does_not_count_as_an_empty_one(kind: str, answer: bytes) -> None:
    with pytest.raises(DecodeError) as refused:
        Info(**{kind: [answer]}).drive()
    assert LOWER not in str(refused.value).lower()


def test_order_missing_from_the_open_list_is_not_reported_as_open() -> None:
    snapshot = Info(frontendOpenOrders=[[]], historicalOrders=[[update("open")]]).drive()
    opened = {event.order_id for event in snapshot.events if isinstance(event, Order) and event.status == "open"}
    assert opened == snapshot.open_orders


def test_invalid_row_is_left_out_and_its_list_covers_nothing() -> None:
    snapshot = Info(
        userFillsByTime=[[5, trade()]],
        userFunding=[[{"time": MS, "delta": {}}]],
        frontendOpenOrders=[[order(oid=7), {"coin": "ETH"}]],
        clearinghouseState=[state(held(), held(szi="many"), {})],
        spotClearinghouseState=[{"balances": [spot(), spot(total=None)]}],
    ).drive()
    assert [row.what for row in snapshot.invalid] == [
        "clearinghouseState",
        "spotClearinghouseState",
        "userFillsByTime",
        "userFunding",
        "frontendOpenOrders",
    ]
    assert snapshot.open_orders == {"7"}
    assert [covers("BTC") for covers in (snapshot.orders_of, snapshot.positions_of, snapshot.balances_of)] == [
        False
    ] * 3


def test_each_builders_exchange_is_queried_and_covered_by_itself() -> None:
    info = Info(
        **{
            "perpDexs": [[None, {"name": "xyz", "fullName": "XYZ"}, {"name": "no name"}]],
            "frontendOpenOrders xyz": [[order(coin="xyz:TSLA", oid=8)]],
            "clearinghouseState xyz": [state(held(coin="xyz:TSLA"))],
        }
    )
    snapshot = info.drive()
    assert snapshot.open_orders == {"300000000017", "8"}
    held_in = [event.venue_symbol for event in snapshot.events if isinstance(event, Position)]
    assert held_in == ["BTC", "xyz:TSLA"]
    assert sum(isinstance(event, Margin) for event in snapshot.events) == 1, "that of the venue's own exchange"
    for covers in (snapshot.orders_of, snapshot.positions_of):
        assert [covers(coin) for coin in ("BTC", "@107", "xyz:GOLD", "flx:GOLD", None)] == [
            True,
            True,
            True,
            False,
            False,
        ]


def test_open_orders_are_queried_where_the_account_is_active_and_elsewhere_in_rotation() -> None:
    names = [{"name": f"d{number}"} for number in range(10)]
    asked = set()
    for minute in range(40):
        info = Info(
            **{
                "perpDexs": [[None, *names]],
                "userFillsByTime": [[trade(coin="d1:A")]],
                "clearinghouseState d2": [state(held(coin="d2:A"))],
            }
        )
        snapshot = info.drive(now_ns=NS + minute * 60 * 10**9)
        of = [query.get("dex", "") for query in info.asked if query["type"] == "frontendOpenOrders"]
        assert len(of) == 5
        assert {"", "d1", "d2"} <= set(of)
        assert all(snapshot.orders_of(f"{dex}:B" if dex else "BTC") for dex in of)
        assert all(snapshot.positions_of(f"d{number}:B") for number in range(10))
        asked.update(of)
    assert asked == {"", *(name["name"] for name in names)}


@pytest.mark.parametrize("names", [b"null", b"{}", b"<html>", b"Failed to deserialize the JSON body"])
def test_without_the_names_of_the_exchanges_active_ones_are_queried(names: bytes) -> None:
    info = Info(perpDexs=[names], historicalOrders=[[update("canceled", coin="flx:GOLD", oid=5)]])
    snapshot = info.drive()
    assert [snapshot.orders_of(coin) for coin in ("BTC", "flx:GOLD", "xyz:TSLA")] == [True, True, False]
    assert [row.what for row in snapshot.invalid] == ["perpDexs"]


def test_exchange_with_malformed_lists_does_not_affect_the_others() -> None:
    snapshot = Info(
        **{
            "perpDexs": [[None, {"name": "xyz"}]],
            "frontendOpenOrders xyz": [b"null"],
            "clearinghouseState xyz": [state(held(coin="xyz:TSLA"))],
        }
    ).drive()
    assert [snapshot.orders_of(coin) for coin in ("BTC", "xyz:TSLA")] == [True, False]
    assert snapshot.positions_of("xyz:TSLA")


@pytest.mark.parametrize("answer", [{"role": "agent", "data": {"user": LOWER}}])
def test_api_wallet_is_detected_by_its_empty_account(answer: Any) -> None:
    with pytest.raises(LoginError) as refused:
        Info(**empty(userRole=[answer])).drive()
    assert refused.value.reason is Reason.AUTH_FAILED
    assert "API wallet" in refused.value.what
    assert LOWER not in refused.value.what


def test_balances_of_zero_are_those_of_an_empty_account() -> None:
    spot = {"balances": [{"coin": "USDC", "token": 0, "total": "0.0", "hold": "0.0", "entryNtl": "0.0"}]}
    with pytest.raises(LoginError, match="API wallet"):
        Info(**empty(spotClearinghouseState=[spot], userRole=[{"role": "agent"}])).drive()


@pytest.mark.parametrize("answer", [{"role": "user"}, {"role": "missing"}, b"Failed to deserialize", b"null"])
def test_any_other_empty_account_is_one(answer: Any) -> None:
    info = Info(**empty(userRole=[answer]))
    snapshot = info.drive()
    assert [type(event) for event in snapshot.events] == [Margin]
    assert [query["weight"] for query in info.asked if query["type"] == "userRole"] == [60]


def empty(**changes: Any) -> dict[str, Any]:
    lists: dict[str, Any] = {kind: [[]] for kind in Info().answers}
    summary = {"accountValue": "0.0", "totalMarginUsed": "0.0"}
    states = {"clearinghouseState": [state(marginSummary=summary)], "spotClearinghouseState": [{"balances": []}]}
    return lists | states | {"perpDexs": [[None]]} | changes


# --- fill types, payments, equity -----------------------------------------------------------------------------------

THEIRS = {"liquidatedUser": "0x" + "cd" * 20, "markPx": "1", "method": "backstop"}
OURS = THEIRS | {"liquidatedUser": ADDRESS}


@pytest.mark.parametrize(
    ("changes", "fill_type"),
    [
        ({"dir": "Auto-Deleveraging"}, "adl"),
        ({"dir": "Auto-Deleveraging", "liquidation": THEIRS}, "adl"),
        ({"dir": "Settlement"}, "settlement"),
        ({"dir": "Settlement", "liquidation": OURS}, "settlement"),
        ({"dir": "Liquidated Isolated Long"}, "liquidation"),
        ({"dir": "Liquidated Cross Short", "liquidation": OURS}, "liquidation"),
        ({"dir": "Open Long", "crossed": False, "liquidation": THEIRS}, "trade"),
        ({"dir": "Close Long", "crossed": True, "liquidation": OURS}, "liquidation"),
        ({"dir": "Long > Short"}, "trade"),
        ({"dir": "Buy"}, "trade"),
        ({"dir": "Spot Dust Conversion"}, "Spot Dust Conversion"),
        ({"dir": "A New Word", "liquidation": OURS}, "A New Word"),
    ],
)
def test_fill_type_follows_the_direction(changes: dict[str, Any], fill_type: str) -> None:
    (named,) = decode(frame("userFills", {"user": LOWER, "fills": [trade(**changes)]}))
    (bare,) = decode(frame("user", {"fills": [trade(**changes)]}))
    (rest,) = [one for one in Info(userFillsByTime=[[trade(**changes)]]).drive().events if isinstance(one, Fill)]
    assert [one.fill_type for one in (named, bare, rest)] == [fill_type] * 3


@pytest.mark.parametrize(("coin", "asset"), [("BTC", "USDC"), ("flx:GOLD", None), ("xyz:TSLA", None)])
def test_a_payment_of_a_builders_exchange_is_not_called_one_in_usdc(coin: str, asset: str | None) -> None:
    (pushed,) = decode(frame("userFundings", {"fundings": [funding(coin=coin)]}))
    (with_user,) = decode(frame("user", {"funding": funding(coin=coin)}))
    row = {"time": MS, "hash": "0x0", "delta": {"type": "funding", **funding(coin=coin)}}
    (rest,) = [one for one in Info(userFunding=[[row]]).drive().events if isinstance(one, Payment)]
    assert [one.asset for one in (pushed, with_user, rest)] == [asset] * 3
    assert len({one.payment_id for one in (pushed, with_user, rest)}) == 1


def test_equity_of_zero_is_none_with_a_note() -> None:
    empty_state = state(marginSummary={"accountValue": "0.0", "totalMarginUsed": "0.0"}, withdrawable="0.0")
    pushed, _ = decode(frame("clearinghouseState", {"user": LOWER, "clearinghouseState": empty_state}))
    snapshot = Info(clearinghouseState=[empty_state]).drive()
    (asked,) = [event for event in snapshot.events if isinstance(event, Margin)]
    for margin in (pushed, asked):
        assert (margin.equity, margin.available, margin.initial_margin) == (None, None, "0.0")
    assert [event.total for event in snapshot.events if isinstance(event, Balance)] == ["250.75"]
    assert "spot balance" in (snapshot.note or "")
    assert Info().drive().note is None


def test_an_order_that_waits_is_known_by_its_type_where_the_mark_is_missing() -> None:
    rows = [update(orderType="Stop Market"), update(triggerPx="79000.0"), update(triggerPx="0.0", orderType="Limit")]
    events = decode(frame("orderUpdates", rows))
    assert [event.status for event in events] == ["untriggered", "untriggered", "open"]


def test_order_that_closes_a_position_has_no_price_and_is_not_filled() -> None:
    whole = update(isTrigger=True, isPositionTpsl=True, sz="0.0", origSz="0.0", limitPx="0.0")
    (event,) = decode(frame("orderUpdates", [whole]))
    assert (event.status, event.price, event.size, event.filled) == ("untriggered", None, "0.0", "0")


def test_filled_size_has_precedence_over_the_status() -> None:
    events = decode(frame("orderUpdates", [update("aNewWord", sz="0.0"), update("canceled", sz="0")]))
    assert [event.status for event in events] == ["filled", "filled"]


# --- recorded messages ----------------------------------------------------------------------------------------------

SAMPLES = Path(os.environ.get("PARAPHINA_SAMPLES_DIR", "")) / "hyperliquid"
recorded = pytest.mark.skipif(
    not os.environ.get("PARAPHINA_SAMPLES_DIR"), reason="PARAPHINA_SAMPLES_DIR is not set: no recordings"
)


def messages(file: str) -> list[Any]:
    found: list[Any] = json.loads((SAMPLES / f"{file}.json").read_text())["messages"]
    return found


RECORDED = [
    ("ws_orderUpdates", [["Order"], ["Order"] * 2, ["Order"]]),
    ("ws_userFills", [["Fill"] * 11, ["Fill"]]),
    ("ws_userFundings", [["Payment"] * 4]),
    ("ws_user_events", [["Payment"], ["Fill"], ["Fill"]]),
    ("ws_error", [["Refused"]] * 4),
    ("ws_notification", [[]]),
    ("ws_pong", [["Pong"]]),
    ("ws_connection_text", [[]]),
]


@recorded
def test_recorded_frames_hold_what_they_hold() -> None:
    for file, expected in RECORDED:
        assert [[type(item).__name__ for item in decode(message, {})] for message in messages(file)] == expected


@recorded
def test_recorded_fills_keep_their_texts() -> None:
    for message in messages("ws_userFills"):
        rows = message["data"]["fills"]
        events = decode(message, {})
        assert [(one.price, one.size, one.fee, one.fee_asset) for one in events] == [
            (row["px"], row["sz"], row["fee"], row["feeToken"]) for row in rows
        ]
        assert len({one.fill_id for one in events}) == len(rows)


@recorded
def test_a_recorded_account_by_rest() -> None:
    info = Info(
        userFillsByTime=messages("rest_userFills"),
        userFunding=messages("rest_userFunding"),
        frontendOpenOrders=messages("rest_frontendOpenOrders"),
        historicalOrders=[messages("ws_orderUpdates")[1]["data"]],
        clearinghouseState=messages("rest_clearinghouseState"),
        spotClearinghouseState=messages("rest_spotClearinghouseState"),
    )
    listed = info.answers["frontendOpenOrders"][0]
    rows = len(info.answers["userFillsByTime"][0]), len(listed)
    snapshot = info.drive()
    assert (sum(isinstance(event, Fill) for event in snapshot.events), len(snapshot.open_orders)) == rows
    (position,) = [event for event in snapshot.events if isinstance(event, Position)]
    assert (position.symbol, position.size, position.entry_price) == ("BTC-PERP", "0.00061", "82771.8")
    (margin,) = [event for event in snapshot.events if isinstance(event, Margin)]
    assert (margin.equity, margin.maintenance_margin) == ("179.007426", "0.595779")
    assert [event.asset for event in snapshot.events if isinstance(event, Balance)] == ["USDC", "USDH"]
    waiting = {
        event.order_id for event in snapshot.events if isinstance(event, Order) and event.status == "untriggered"
    }
    assert waiting == {str(row["oid"]) for row in listed if row["isTrigger"]}


@recorded
@given(
    gone_wrong(
        [message for file in ("ws_userFills", "ws_orderUpdates", "ws_user_events") for message in messages(file)]
        if os.environ.get("PARAPHINA_SAMPLES_DIR")
        else [{}]
    )
)
@settings(max_examples=100)
def test_nothing_but_decode_errors_comes_of_mutated_recordings(body: bytes) -> None:
    with contextlib.suppress(DecodeError):
        ACCOUNT.decode(memoryview(body), False, {}, "desk")
