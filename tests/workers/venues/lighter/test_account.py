"""Lighter's private side: tokens and their expiry, account channels, and the account by REST."""

from __future__ import annotations

import contextlib
import importlib.util
import json
import types
from typing import Any

import pytest
from courses import Course, drive, gone_wrong, secrets_of
from fake_account import PublishedAccount
from hypothesis import given, settings

from ipc.errors import DecodeError
from ipc.events import Balance, Fill, Margin, Order, Position
from ipc.health import Reason
from workers.accounts import signers
from workers.venues.account import LoginError, Renewal
from workers.venues.lighter.account import LighterAccount
from workers.venues.lighter.market_data import Lighter
from workers.venues.lighter.token import SECRETS, token_of
from workers.venues.listing import Listing
from workers.venues.rows import InvalidRow
from workers.venues.venue import Ping, Pong, Refused

SIDE = LighterAccount()
BTC = Listing("BTC", "7", "BTC", market_id="7", quote="USDC")
MARKETS = {"7": BTC}
MS = 1_790_000_123_456
NS = MS * 1_000_000
NOW_S = MS // 1000
SECOND_NS = 1_000_000_000
HEAD = ("lighter", "BTC-PERP", "BTC")
NOWHERE = ("lighter", None, None)


def token(expiry_s: int = NOW_S + 3600, account: int = 1234) -> str:
    return f"{expiry_s}:{account}:2:0123planted4567"


TOKEN = token()
ENVIRON = {"LIGHTER_ACCOUNT_INDEX": "1234", "LIGHTER_AUTH_TOKEN": TOKEN}
KEYS = {"LIGHTER_ACCOUNT_INDEX": "1234", "LIGHTER_API_KEY_INDEX": "2", "LIGHTER_API_PRIVATE_KEY_HEX": "0xplanted99"}


class Offline:
    """Lookup that knows every market by its id."""

    def get(self, wire: str, /) -> Listing:
        return Lighter().offline_listing(wire)


def order(**changes: Any) -> dict[str, Any]:
    return {
        "order_index": 281_476_929_510_110,
        "client_order_index": 42,
        "order_id": "281476929510110",
        "client_order_id": "42",
        "market_index": 7,
        "owner_account_index": 1234,
        "initial_base_amount": "0.0050",
        "price": "81000.5",
        "remaining_base_amount": "0.0030",
        "is_ask": True,
        "filled_base_amount": "0.0020",
        "type": "limit",
        "reduce_only": False,
        "status": "open",
        "timestamp": MS - 9,
        "updated_at": MS,
        "transaction_time": MS * 1000,
    } | changes


def trade(**changes: Any) -> dict[str, Any]:
    return {
        "trade_id": 19_209_006_902,
        "type": "trade",
        "market_id": 7,
        "size": "0.1336",
        "price": "81000.5",
        "usd_amount": "1000.000000",
        "ask_id": 281_476_929_510_102,
        "bid_id": 562_947_905_631_053,
        "ask_account_id": 91_249,
        "bid_account_id": 1234,
        "is_maker_ask": True,
        "timestamp": MS,
        "taker_fee": 196,
        "maker_fee": 28,
        "transaction_time": MS * 1000 + 586,
    } | changes


def position(**changes: Any) -> dict[str, Any]:
    return {
        "market_id": 7,
        "symbol": "BTC",
        "sign": -1,
        "position": "1.5000",
        "avg_entry_price": "80000.10",
        "position_value": "121500",
        "unrealized_pnl": "-3.45",
        "liquidation_price": "90000.00",
        "margin_mode": 0,
    } | changes


ASSET = {"symbol": "ETH", "asset_id": 1, "balance": "7.1072", "locked_balance": "1.0000"}
STATS = {"collateral": "5000.00", "portfolio_value": "15000.00", "available_balance": "2000.00", "leverage": "3.0"}


def push(channel: str, kind: str = "update", **content: Any) -> dict[str, Any]:
    return {"type": f"{kind}/{channel}", "channel": f"{channel}:1234"} | content


FRAMES = [
    push("account_all_orders", orders={"7": [order()], "9": [order(market_index=9, status="canceled")]}),
    push("account_all_trades", trades={"7": [trade()]}),
    push("account_all_positions", positions={"7": position()}, shares=[]),
    push("account_all_assets", assets={"1": ASSET}, timestamp=MS),
    push("user_stats", stats=STATS, timestamp=MS),
    {"error": {"code": 21120, "message": "expired"}},
]


def decode(message: Any, markets: Any = MARKETS) -> list[Any]:
    return SIDE.decode(memoryview(json.dumps(message).encode()), False, markets, "desk")


def login(now_ns: int = NS, **environ: str) -> Any:
    secrets = secrets_of(SIDE.secrets, **(environ or ENVIRON))
    return drive(SIDE.login(secrets, "wss://x/stream", MARKETS, now_ns), {}).result


def answers(**changes: Any) -> dict[str, Any]:
    account = {
        "index": 1234,
        "collateral": "5000",
        "available_balance": "2000",
        "total_asset_value": "15000",
        "cross_initial_margin_requirement": "600",
        "cross_maintenance_margin_requirement": "300",
        "positions": [position(), position(market_id=9, symbol="ETH", position="0.0000")],
        "assets": [ASSET],
    }
    closed = [
        order(order_id="6", status="filled"),
        order(order_id="5", status="canceled-expired"),
        order(status="open"),
    ]
    return {
        "/trades": {"code": 200, "trades": [trade()]},
        "/accountActiveOrders": {"code": 200, "orders": [order()]},
        "/accountInactiveOrders": {"code": 200, "orders": closed},
        "/account": {"code": 200, "total": 1, "accounts": [account]},
    } | changes


def snapshot(bodies: dict[str, Any], since_ms: int = MS - 1000) -> Course:
    return drive(SIDE.snapshot(login(), secrets_of(SIDE.secrets, **ENVIRON), MARKETS, "desk", since_ms, NS), bodies)


# --- tokens -------------------------------------------------------------------------------------------------------


def test_an_account_takes_its_number_and_a_token_or_a_key() -> None:
    assert SIDE.is_configured(secrets_of(SECRETS, **ENVIRON))
    assert SIDE.is_configured(secrets_of(SECRETS, **KEYS))
    assert not SIDE.is_configured(secrets_of(SECRETS, LIGHTER_AUTH_TOKEN=TOKEN))
    assert not SIDE.is_configured(secrets_of(SECRETS, LIGHTER_ACCOUNT_INDEX="1234", LIGHTER_API_KEY_INDEX="2"))


def test_the_token_goes_with_every_subscription() -> None:
    result = login()
    assert (result.url, result.hello, result.must_confirm, result.headers) == ("wss://x/stream", (), False, ())
    assert [json.loads(message) for message in result.subscribe] == [
        {"type": "subscribe", "channel": f"{channel}/1234", "auth": TOKEN}
        for channel in (
            "account_all_orders",
            "account_all_trades",
            "account_all_positions",
            "account_all_assets",
            "user_stats",
        )
    ]


def test_a_token_is_renewed_five_minutes_before_its_end() -> None:
    assert login().renew_at_ns == (NOW_S + 3600 - 300) * SECOND_NS


def test_a_token_near_its_end_is_looked_at_once_a_minute() -> None:
    near = ENVIRON | {"LIGHTER_AUTH_TOKEN": token(NOW_S + 200)}
    assert login(NS, **near).renew_at_ns == NS + 60 * SECOND_NS
    almost = ENVIRON | {"LIGHTER_AUTH_TOKEN": token(NOW_S + 20)}
    assert login(NS, **almost).renew_at_ns == (NOW_S + 20) * SECOND_NS


def test_another_token_takes_another_connection_and_the_same_one_does_not() -> None:
    held = login()
    same = drive(SIDE.renew(held, secrets_of(SECRETS, **ENVIRON), NS), {}).result
    assert isinstance(same, Renewal)
    assert not same.must_reconnect
    fresh = ENVIRON | {"LIGHTER_AUTH_TOKEN": token(NOW_S + 7200)}
    other = drive(SIDE.renew(held, secrets_of(SECRETS, **fresh), NS), {}).result
    assert other.must_reconnect
    assert other.login.url == held.url


def test_tokens_for_reading_alone() -> None:
    for text, owner in ((f"ro:1234:single:{NOW_S + 9}:aa", "1234"), (f"ro:77:all:{NOW_S + 9}:aa", "1234")):
        environ = {"LIGHTER_ACCOUNT_INDEX": owner, "LIGHTER_AUTH_TOKEN": text}
        assert token_of(secrets_of(SECRETS, **environ), 1234, "", NS).expiry_ns == (NOW_S + 9) * SECOND_NS


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (token(NOW_S), "expired"),
        (token(account=99), "another account"),
        (f"ro:77:single:{NOW_S + 9}:planted", "another account"),
        ("planted", "form"),
        ("planted:1234:2:aa", "form"),
        (f"{NOW_S + 9}:1234:2:planted planted", "form"),
        (f"{NOW_S + 9}:1234:2:planted\n", "form"),
        (f"{'9' * 5000}:1234:2:planted", "form"),
        (f"ro:1234:single:planted:{NOW_S}", "form"),
    ],
)
def test_a_token_that_will_not_do_is_rejected_and_not_shown(text: str, says: str) -> None:
    with pytest.raises(LoginError, match=says) as refused:
        login(NS, **(ENVIRON | {"LIGHTER_AUTH_TOKEN": text}))
    assert refused.value.reason is Reason.AUTH_FAILED
    assert "planted" not in str(refused.value)


@pytest.mark.parametrize("index", ["", "x", "-1", "1.5", "9" * 40])
def test_an_account_index_is_a_number(index: str) -> None:
    environ = ENVIRON | {"LIGHTER_ACCOUNT_INDEX": index or "??"}
    with pytest.raises(LoginError, match="LIGHTER_ACCOUNT_INDEX"):
        login(NS, **environ)


class FakeSigner:
    """Signer with the interface of the venue's shared library; texts replace pointers."""

    def __init__(self, refusal: str | None = None) -> None:
        self.refusal = refusal
        self.clients: list[tuple[Any, ...]] = []

    def CreateClient(self, *arguments: Any) -> str | None:  # noqa: N802 - the library's name
        self.clients.append(arguments)
        return self.refusal

    def CreateAuthToken(self, expiry_s: int, key_index: int, account: int) -> Any:  # noqa: N802
        return types.SimpleNamespace(str=f"{expiry_s}:{account}:{key_index}:abcd", err=None)


def install(monkeypatch: pytest.MonkeyPatch, signer: FakeSigner) -> None:
    sdk = types.SimpleNamespace(get_signer=lambda: signer, decode_and_free=lambda pointer: pointer)
    monkeypatch.setattr(signers, "load", lambda _name: sdk)


def test_a_key_makes_a_token_of_less_than_eight_hours(monkeypatch: pytest.MonkeyPatch) -> None:
    signer = FakeSigner()
    install(monkeypatch, signer)
    made = token_of(secrets_of(SECRETS, **KEYS), 1234, "wss://testnet.x/stream", NS)
    assert made.text == f"{NOW_S + 7 * 3600}:1234:2:abcd"
    assert signer.clients == [(b"wss://testnet.x/stream", b"planted99", 300, 2, 1234)]
    token_of(secrets_of(SECRETS, **KEYS), 1234, "wss://x/stream", NS)
    assert signer.clients[1][2] == 304


def test_a_key_that_the_signer_rejects_is_rejected_and_not_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    install(monkeypatch, FakeSigner("invalid key planted99"))
    with pytest.raises(LoginError, match="LIGHTER_API_PRIVATE_KEY_HEX") as refused:
        login(NS, **KEYS)
    assert "planted" not in str(refused.value)


def test_a_key_without_its_library_names_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> Any:
        raise ImportError(name)

    monkeypatch.setattr(signers, "load", missing)
    with pytest.raises(LoginError, match=r"lighter-sdk.*LIGHTER_AUTH_TOKEN_COMMAND"):
        login(NS, **KEYS)


@pytest.mark.skipif(importlib.util.find_spec("lighter") is None, reason="lighter-sdk is not installed")
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_the_signer_of_the_venue() -> None:
    made = token_of(secrets_of(SECRETS, **(KEYS | {"LIGHTER_API_PRIVATE_KEY_HEX": "0x" + "11" * 40})), 1234, "", NS)
    assert made.text.startswith(f"{NOW_S + 7 * 3600}:1234:2:")
    with pytest.raises(LoginError):
        token_of(secrets_of(SECRETS, **KEYS), 1234, "", NS)


# --- orders and fills ---------------------------------------------------------------------------------------------


def test_an_order() -> None:
    assert decode(push("account_all_orders", orders={"7": [order(reduce_only=True)]})) == [
        Order(
            *HEAD,
            NS,
            "desk",
            "281476929510110",
            "42",
            "sell",
            "81000.5",
            "0.0050",
            "0.0020",
            "open",
            "open",
            "limit",
            True,
        )
    ]


@pytest.mark.parametrize(
    ("word", "status"),
    [
        ("in-progress", "open"),
        ("open", "open"),
        ("pending", "untriggered"),
        ("filled", "filled"),
        ("canceled", "canceled"),
        ("canceled-post-only", "canceled"),
        ("canceled-margin-not-allowed", "rejected"),
        ("canceled-expired", "expired"),
        ("canceled-a-new-reason", "canceled"),
        ("a-new-word", "open"),
    ],
)
def test_states_of_orders(word: str, status: str) -> None:
    (event,) = decode(push("account_all_orders", orders={"7": [order(status=word)]}))
    assert (event.status, event.venue_status) == (status, word)


@pytest.mark.parametrize("word", ["open", "canceled", "canceled-expired", "pending", "a-new-word"])
def test_an_order_that_is_filled_in_full_is_filled(word: str) -> None:
    row = order(status=word, filled_base_amount="0.00500", trigger_status="mark-price")
    (event,) = decode(push("account_all_orders", orders={"7": [row]}))
    assert (event.status, event.venue_status) == ("filled", word)


def test_an_order_that_closes_a_position_is_not_filled_by_its_size_of_zero() -> None:
    row = order(initial_base_amount="0", filled_base_amount="0.0000", type="stop-loss", status="pending", price="0")
    (event,) = decode(push("account_all_orders", orders={"7": [row]}))
    assert (event.status, event.size, event.price) == ("untriggered", "0", None)


@pytest.mark.parametrize(
    ("trigger", "word", "status"),
    [
        ("mark-price", "open", "untriggered"),
        ("parent-order", "in-progress", "untriggered"),
        ("twap", "open", "untriggered"),
        ("mark-price", "canceled", "canceled"),
        ("ready", "open", "open"),
        ("na", "open", "open"),
        (None, "open", "open"),
    ],
)
def test_an_order_that_waits_for_its_trigger_is_not_open(trigger: str | None, word: str, status: str) -> None:
    row = order(type="take-profit-limit", trigger_status=trigger, status=word)
    (event,) = decode(push("account_all_orders", orders={"7": [row]}))
    assert (event.status, event.venue_status) == (status, word)


def test_orders_without_a_price_or_a_client_id() -> None:
    rows = [order(type="market", client_order_id="0"), order(type="limit", price="0.0", client_order_id=None)]
    events = decode(push("account_all_orders", orders={"7": rows}))
    assert [(event.price, event.client_id) for event in events] == [(None, None), (None, None)]


def test_times_of_orders_are_seconds_or_milliseconds() -> None:
    rows = [order(updated_at=NOW_S), order(updated_at=None), order(updated_at=None, timestamp=None)]
    events = decode(push("account_all_orders", orders={"7": rows}))
    assert [event.exchange_ns for event in events] == [NOW_S * SECOND_NS, (MS - 9) * 1_000_000, None]


def test_a_fill_as_taker() -> None:
    assert decode(push("account_all_trades", trades={"7": [trade()]})) == [
        Fill(
            *HEAD,
            NS + 586_000,
            "desk",
            "19209006902",
            "562947905631053",
            "buy",
            "81000.5",
            "0.1336",
            "2.1210466928",
            "USDC",
            "taker",
        )
    ]


def test_a_fill_as_maker() -> None:
    (event,) = decode(
        push("account_all_trades", trades={"7": [trade(ask_account_id=1234, bid_account_id=5, type="deleverage")]})
    )
    assert (event.side, event.liquidity, event.fee) == ("sell", "maker", "0.3030066704")
    assert (event.order_id, event.fill_type) == ("281476929510102", "adl")


def test_fees_of_zero_are_absent_and_published_as_zero() -> None:
    row = {key: value for key, value in trade().items() if key not in {"taker_fee", "maker_fee"}}
    (event,) = decode(push("account_all_trades", trades={"7": [row]}))
    assert event.fee == "0"


def test_a_trade_of_others_removes_no_fill() -> None:
    rows = [trade(trade_id=1), trade(trade_id=2, bid_account_id=5), trade(trade_id=3)]
    first, foreign, last = decode(push("account_all_trades", trades={"7": rows}))
    assert (first.fill_id, last.fill_id) == ("1", "3")
    assert foreign == InvalidRow("account_all_trades", "a trade of other accounts")


def test_an_order_of_another_account_is_left_out() -> None:
    rows = [order(owner_account_index=5), order(owner_account_index=None), order()]
    foreign, *ours = decode(push("account_all_orders", orders={"7": rows}))
    assert foreign == InvalidRow("account_all_orders", "an order of another account")
    assert [event.order_id for event in ours] == ["281476929510110"] * 2


def test_a_trade_with_ourselves_is_two_fills() -> None:
    bought, sold = sorted(
        decode(push("account_all_trades", trades={"7": [trade(ask_account_id=1234)]})), key=lambda fill: fill.side
    )
    assert (bought.side, bought.liquidity, bought.order_id, bought.fee) == (
        "buy",
        "taker",
        "562947905631053",
        "2.1210466928",
    )
    assert (sold.side, sold.liquidity, sold.order_id, sold.fee) == ("sell", "maker", "281476929510102", "0.3030066704")


@pytest.mark.parametrize(
    ("word", "as_taker", "as_maker"),
    [
        ("trade", "trade", "trade"),
        ("liquidation", "liquidation", "trade"),
        ("deleverage", "adl", "adl"),
        ("market-settlement", "settlement", "settlement"),
        ("a-new-word", "a-new-word", "a-new-word"),
    ],
)
def test_types_of_fills(word: str, as_taker: str, as_maker: str) -> None:
    rows = [trade(type=word, is_maker_ask=is_maker_ask) for is_maker_ask in (True, False)]
    events = decode(push("account_all_trades", trades={"7": rows}))
    assert [event.fill_type for event in events] == [as_taker, as_maker]


def test_the_fee_asset_of_a_spot_market_is_unknown() -> None:
    (event,) = decode(push("account_all_trades", trades={"2048": [trade(market_id=2048)]}))
    assert (event.fee, event.fee_asset) == ("2.1210466928", None)


def test_the_first_frame_of_trades_holds_none() -> None:
    assert decode(push("account_all_trades", "subscribed", trades=[], total_volume=1.5)) == []


# --- positions, balances, margin ----------------------------------------------------------------------------------


def test_a_short_position_is_negative() -> None:
    assert decode(push("account_all_positions", positions={"7": position()})) == [
        Position(*HEAD, None, "desk", "-1.5000", "80000.10", None, "-3.45", "90000.00", "cross")
    ]


def test_a_flat_position_has_neither_sign_nor_entry() -> None:
    flat = position(position="0.0000", avg_entry_price="0.00", liquidation_price="0", margin_mode=1)
    (event,) = decode(push("account_all_positions", positions={"7": flat}))
    assert (event.size, event.entry_price, event.liquidation_price) == ("0.0000", None, None)
    assert event.margin_mode == "isolated"


def test_a_locked_amount_is_not_available() -> None:
    assert decode(push("account_all_assets", assets={"1": ASSET}, timestamp=MS)) == [
        Balance(*NOWHERE, NS, "desk", "ETH", "7.1072", "6.1072")
    ]


@pytest.mark.parametrize(
    ("collateral", "total", "available"),
    [
        ("250.25", "6593.831906", "6296.831906"),
        (0, "6343.581906", "6046.581906"),
        ("0.000000", "6343.581906", "6046.581906"),
        (None, "6343.581906", "6046.581906"),
        (-0.5, "6343.081906", "6046.081906"),
    ],
)
def test_the_collateral_is_part_of_the_balance(collateral: Any, total: str, available: str) -> None:
    row = {"symbol": "USDC", "asset_id": 3, "balance": "6343.581906", "locked_balance": "297.000000"}
    (event,) = decode(push("account_all_assets", assets={"3": row | {"margin_balance": collateral}}))
    assert (event.asset, event.total, event.available) == ("USDC", total, available)


def test_numbers_may_be_numbers() -> None:
    rows = [
        order(initial_base_amount=5, filled_base_amount=2.0, price=81000.10, market_index="7", updated_at=str(MS)),
        order(initial_base_amount=0.0000001, filled_base_amount=0),
    ]
    first, second = decode(push("account_all_orders", orders={"7": rows}))
    assert (first.size, first.filled, first.price, first.exchange_ns) == ("5", "2.0", "81000.1", NS)
    assert (second.size, second.filled) == ("1e-07", "0")
    (fill,) = decode(
        push("account_all_trades", trades={"7": [trade(price=5, size=0.5, trade_id="77", taker_fee=None)]})
    )
    assert (fill.fill_id, fill.price, fill.size, fill.fee) == ("77", "5", "0.5", "0")
    body = b'{"type":"update/user_stats","channel":"user_stats:1","stats":{"portfolio_value":63807.605956624996111}}'
    assert SIDE.decode(body, False, MARKETS, "desk")[0].equity == "63807.605956624996111"  # type: ignore[union-attr]


def test_ids_may_be_numbers() -> None:
    row = order(order_id=2**63, client_order_id=42)
    (event,) = decode(push("account_all_orders", orders={"7": [row]}))
    assert (event.order_id, event.client_id) == ("9223372036854775808", "42")


def test_times_that_are_none_are_null() -> None:
    rows = [trade(transaction_time=time, timestamp=time) for time in (0, -5, 2**70)]
    assert [event.exchange_ns for event in decode(push("account_all_trades", trades={"7": rows}))] == [None] * 3


def test_the_margin() -> None:
    assert decode(push("user_stats", stats=STATS, timestamp=MS)) == [
        Margin(*NOWHERE, NS, "desk", "15000.00", "2000.00", None, None)
    ]


def test_first_frames_are_marked_as_snapshots() -> None:
    items = decode(push("account_all_orders", "subscribed", orders={"7": [order()]}))
    items += decode(push("account_all_positions", "subscribed", positions={"7": position()}))
    items += decode(push("user_stats", "subscribed", stats=STATS))
    assert [item.snapshot for item in items] == [True, True, True]


def test_a_market_that_is_not_subscribed_is_named_by_the_frame_where_it_can_be() -> None:
    frame = push("account_all_positions", positions={"9": position(market_id=9, symbol="1000PEPE")})
    for markets in ({}, Offline()):
        (event,) = decode(frame, markets)
        assert (event.symbol, event.venue_symbol) == ("PEPE-PERP", "1000PEPE")
    rows = [order(market_index=9), order(market_index=9, market_symbol="ETH")]
    events = decode(push("account_all_orders", orders={"9": rows}))
    assert [(event.symbol, event.venue_symbol) for event in events] == [(None, "9"), ("ETH-PERP", "ETH")]


# --- other frames -------------------------------------------------------------------------------------------------


def test_pings_pongs_and_the_end_of_the_server() -> None:
    assert decode({"type": "ping"}) == [Ping(b'{"type":"pong"}')]
    assert decode({"type": "pong"}) == [Pong()]
    (shutdown,) = decode({"type": "shutdown", "close_in_ms": 1000})
    assert (shutdown.reason, shutdown.fatal) == (Reason.SERVER_SHUTDOWN, True)


@pytest.mark.parametrize(
    "message",
    [
        {"type": "connected", "session_id": "x"},
        {"type": "unsubscribed", "channel": "user_stats:1234"},
        {"type": "update/account_tx", "channel": "account_tx:1234", "txs": []},
        {"type": "update/notification", "channel": "notification:1234", "orders": 5},
    ],
)
def test_frames_without_account_data_are_ignored(message: Any) -> None:
    assert decode(message) == []


def test_a_flat_error() -> None:
    for code, message in ((21120, "expired"), (30009, "Too Many Websocket Messages!")):
        flat = {"type": "error", "code": code, "message": message}
        assert decode(flat) == decode({"error": {"code": code, "message": message}})
    with pytest.raises(DecodeError):
        decode({"type": "error"})


ROWS: dict[str, tuple[str, Any, dict[str, Any]]] = {
    "account_all_orders": ("orders", order, {"filled_base_amount": "much"}),
    "account_all_trades": ("trades", trade, {"size": "much"}),
    "account_all_positions": ("positions", position, {"position": "much"}),
    "account_all_assets": ("assets", lambda: ASSET, {"locked_balance": "much"}),
}


@pytest.mark.parametrize("channel", list(ROWS))
def test_an_invalid_row_is_left_out_alone(channel: str) -> None:
    section, row, change = ROWS[channel]
    rows = [row(), row() | change, {}, None, 5, row()]
    (event,) = decode({**push(channel), section: [row()]})
    items = decode({**push(channel), section: rows})
    assert [type(item) for item in items] == [type(event), *[InvalidRow] * 4, type(event)]
    assert (items[0], items[5]) == (event, event)
    assert {item.what for item in items[1:5]} == {channel}


def test_a_market_whose_rows_are_no_list_affects_no_other() -> None:
    items = decode(push("account_all_orders", orders={"7": {"x": 1}, "8": None, "9": [order(market_index=9)]}))
    assert [type(item) for item in items] == [InvalidRow, Order]


def test_statistics_that_are_none_are_an_invalid_row() -> None:
    several: list[Any] = [5, [], {"portfolio_value": True}]
    for stats in several:
        items = decode(push("user_stats", stats=stats))
        assert [type(item) for item in items] == [InvalidRow]


@pytest.mark.parametrize(
    ("code", "reason", "fatal"),
    [
        (21109, Reason.AUTH_FAILED, True),
        (21110, Reason.AUTH_FAILED, True),
        (21120, Reason.AUTH_FAILED, True),
        (30003, None, False),
        (30009, Reason.RATE_LIMITED, False),
        (30005, Reason.SUBSCRIBE_ERROR, False),
    ],
)
def test_errors(code: int, reason: Reason | None, fatal: Any) -> None:
    (refused,) = decode({"error": {"code": code, "message": f"about {TOKEN}" if fatal else "text"}})
    assert isinstance(refused, Refused)
    assert (refused.reason, refused.fatal) == (reason, fatal)
    assert refused.text.startswith(str(code))
    assert TOKEN not in refused.text


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{}",
        b"[]",
        b'{"type":"update/account_all_orders","orders":5}',
        b'{"type":"update/account_all_positions","positions":"BTC"}',
        b'{"type":"update/user_stats"}',
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
    assert course.result.open_orders == {"281476929510110"}
    events = course.result.events
    assert [type(event) for event in events] == [Fill, Order, Order, Order, Position, Balance, Margin]
    orders = [(event.order_id, event.status) for event in events if isinstance(event, Order)]
    assert orders == [("281476929510110", "open"), ("5", "expired"), ("6", "filled")]
    assert all(event.snapshot for event in events)
    assert events[-1] == Margin(*NOWHERE, None, "desk", "15000", "2000", "600", "300", snapshot=True)


def test_the_token_goes_in_a_header() -> None:
    course = snapshot(answers())
    assert {request.headers for request in course.requests} == {(("Authorization", TOKEN),)}
    assert course.query(1) == {"account_index": "1234"}


def test_a_fill_by_rest_is_the_one_of_the_stream() -> None:
    (pushed,) = decode(push("account_all_trades", trades={"7": [trade()]}))
    asked = snapshot(answers()).result.events[0]
    pushed.snapshot = True
    assert pushed == asked


def test_pages_are_as_long_as_the_venue_allows() -> None:
    course = snapshot(answers())
    assert [course.query(number).get("limit") for number in range(4)] == ["100", None, "100", None]


def test_fills_are_requested_page_by_page_down_to_a_time() -> None:
    pages = [
        {"code": 200, "trades": [trade(trade_id=9), trade(trade_id=8)], "next_cursor": "a&b"},
        {"code": 200, "trades": [trade(trade_id=8), trade(trade_id=7), trade(trade_id=6, timestamp=MS - 5000)]},
    ]
    course = snapshot(answers(**{"/trades": pages}))
    assert [event.fill_id for event in course.result.events if isinstance(event, Fill)] == ["7", "8", "9"]
    assert course.query(1)["cursor"] == "a&b"


def test_fills_whose_times_are_seconds_are_filtered_as_others() -> None:
    rows = [trade(trade_id=9, timestamp=MS // 1000), trade(trade_id=8, timestamp=MS // 1000 - 5)]
    course = snapshot(answers(**{"/trades": {"code": 200, "trades": rows}}))
    assert [event.fill_id for event in course.result.events if isinstance(event, Fill)] == ["9"]


@pytest.mark.parametrize("page", [{"code": 200, "trades": None}, {"code": 200, "trades": []}])
def test_an_account_without_fills(page: Any) -> None:
    result = snapshot(answers(**{"/trades": page})).result
    assert [event for event in result.events if isinstance(event, Fill)] == []
    assert result.has_all_fills
    assert result.open_orders


def test_a_row_that_is_out_of_order_does_not_end_the_pages() -> None:
    pages = [
        {"code": 200, "trades": [trade(trade_id=9), trade(trade_id=1, timestamp=MS - 5000), trade(trade_id=8)]},
        {"code": 200, "trades": [trade(trade_id=7)]},
    ]
    pages[0]["next_cursor"] = "c"
    course = snapshot(answers(**{"/trades": pages}))
    assert [event.fill_id for event in course.result.events if isinstance(event, Fill)] == ["7", "8", "9"]


def test_open_orders_are_those_of_all_pages() -> None:
    pages = [
        {"code": 200, "orders": [order(order_id="1")], "next_cursor": "c/1"},
        {"code": 200, "orders": [order(order_id="2")], "next_cursor": ""},
    ]
    course = snapshot(answers(**{"/accountActiveOrders": pages}))
    assert course.result.open_orders == {"1", "2"}
    assert course.query(2) == {"account_index": "1234", "cursor": "c/1"}
    assert course.result.orders_of("BTC")


def test_a_list_that_never_ends_is_incomplete() -> None:
    page = {"code": 200, "orders": [order(order_id="1")], "next_cursor": "again"}
    course = snapshot(answers(**{"/accountActiveOrders": page}))
    assert course.paths().count("/accountActiveOrders") == 2
    assert not course.result.orders_of("BTC")
    assert [row.what for row in course.result.invalid] == ["accountActiveOrders"]


def test_an_error_on_the_second_page_fails_the_snapshot() -> None:
    pages = [{"code": 200, "orders": [order()], "next_cursor": "c"}, {"code": 20001, "message": "no"}]
    with pytest.raises(LoginError):
        snapshot(answers(**{"/accountActiveOrders": pages}))


@pytest.mark.parametrize("number", range(3))
def test_a_list_with_an_invalid_row_covers_nothing(number: int) -> None:
    """The row could be anything, so no order is closed, no position flat, no balance zero because it is missing."""
    bodies = answers()
    lists = (
        bodies["/accountActiveOrders"]["orders"],
        *(bodies["/account"]["accounts"][0][it] for it in ("positions", "assets")),
    )
    lists[number].append({"market_id": "?"})
    result = snapshot(bodies).result
    covered = [result.orders_of("BTC"), result.positions_of("BTC"), result.balances_of("USDC")]
    assert covered == [number != at for at in range(3)]
    assert len(result.invalid) == 1
    assert [type(event) for event in result.events] == [Fill, Order, Order, Order, Position, Balance, Margin]


@pytest.mark.parametrize(("path", "key"), [("/trades", "trades"), ("/accountInactiveOrders", "orders")])
def test_an_invalid_row_of_history_is_left_out_alone(path: str, key: str) -> None:
    bodies = answers()
    bodies[path][key].insert(0, {})
    result = snapshot(bodies).result
    assert [type(event) for event in result.events] == [Fill, Order, Order, Order, Position, Balance, Margin]
    assert len(result.invalid) == 1
    assert result.orders_of("BTC")


@pytest.mark.parametrize("path", list(answers()))
@pytest.mark.parametrize(
    ("code", "reason"),
    [
        (21109, Reason.AUTH_FAILED),
        (21120, Reason.AUTH_FAILED),
        (23000, Reason.RATE_LIMITED),
        (20001, Reason.REFUSED),
    ],
)
def test_an_error_in_place_of_an_answer(path: str, code: int, reason: Reason) -> None:
    echoed = f"about {TOKEN}" if reason is Reason.AUTH_FAILED else "text"
    with pytest.raises(LoginError, match=str(code)) as refused:
        snapshot(answers(**{path: {"code": code, "message": echoed}}))
    assert refused.value.reason is reason
    assert TOKEN not in str(refused.value)


@pytest.mark.parametrize("path", list(answers()))
@pytest.mark.parametrize("body", [b"", b"<html>", b"[]", b'{"code":200}', b'{"code":200,"orders":null}'])
def test_malformed_answers_are_refused(path: str, body: bytes) -> None:
    with pytest.raises(DecodeError):
        snapshot(answers(**{path: body}))


def test_an_answer_about_another_account_is_refused() -> None:
    body = answers()["/account"]
    body["accounts"][0]["index"] = 5
    with pytest.raises(DecodeError, match="1234"):
        snapshot(answers(**{"/account": body}))


def test_connection_is_pinged_every_15_seconds() -> None:
    assert (SIDE.keepalive.interval_s, SIDE.keepalive.pong_within_s) == (15.0, 10.0)


# --- as subscribers see it ----------------------------------------------------------------------------------------


def answered(account: PublishedAccount, bodies: dict[str, Any]) -> None:
    account.statement.apply_snapshot(snapshot(bodies).result, account.statement.push_count())


def test_a_foreign_trade_is_counted_and_ours_are_published(account: PublishedAccount) -> None:
    rows = [trade(trade_id=1), trade(trade_id=2, bid_account_id=5)]
    account.statement.apply_pushed(decode(push("account_all_trades", trades={"7": rows})))
    account.statement.apply_pushed(decode(push("account_all_trades", trades={"7": [trade(trade_id=3)]})))
    assert [event.fill_id for event in account.of("fill")] == ["1", "3"]
    assert account.statement.invalid_rows == 1


def test_a_trade_with_ourselves_is_published_once_a_side(account: PublishedAccount) -> None:
    rows = [trade(trade_id=1, ask_account_id=1234)]
    account.statement.apply_pushed(decode(push("account_all_trades", trades={"7": rows})))
    answered(account, answers(**{"/trades": {"code": 200, "trades": rows}}))
    fills = account.of("fill")
    assert {event.side for event in fills} == {"buy", "sell"}
    assert len({event.fill_id for event in fills}) == len(fills) == 2


@pytest.mark.parametrize(
    "page",
    [
        {"code": 200, "orders": [{"order_index": "?"}]},
        {"code": 200, "orders": [order(order_id="2")], "next_cursor": "again"},
    ],
)
def test_a_list_that_is_incomplete_closes_nothing(account: PublishedAccount, page: Any) -> None:
    account.statement.apply_pushed(decode(push("account_all_orders", orders={"7": [order()]})))
    ended = {"code": 200, "orders": []}
    answered(account, answers(**{"/accountActiveOrders": page, "/accountInactiveOrders": ended}))
    assert [event.status for event in account.of("order") if event.order_id == order()["order_id"]] == ["open"]
    answered(account, answers(**{"/accountActiveOrders": ended, "/accountInactiveOrders": ended}))
    assert [event.status for event in account.of("order")][-1] == "closed"


@pytest.mark.parametrize(("key", "channel"), [("positions", "position"), ("assets", "balance")])
def test_a_list_with_an_invalid_row_flattens_nothing(account: PublishedAccount, key: str, channel: str) -> None:
    answered(account, answers())
    before = len(account.of(channel))
    bodies = answers()
    bodies["/account"]["accounts"][0][key] = [{"symbol": 5}]
    answered(account, bodies)
    assert len(account.of(channel)) == before
    bodies["/account"]["accounts"][0][key] = []
    answered(account, bodies)
    assert len(account.of(channel)) == before + 1


def test_an_answer_wins_over_an_earlier_push_regardless_of_times(account: PublishedAccount) -> None:
    late = MS + 60_000
    account.statement.apply_pushed(
        decode(push("account_all_assets", assets={"1": ASSET | {"balance": "9"}}, timestamp=late))
    )
    account.statement.apply_pushed(decode(push("account_all_orders", orders={"7": [order(updated_at=late)]})))
    row = order(filled_base_amount="0.0030", updated_at=MS)
    answered(account, answers(**{"/accountActiveOrders": {"code": 200, "orders": [row]}}))
    assert account.of("balance")[-1].total == "7.1072"
    assert [event.filled for event in account.of("order") if event.order_id == row["order_id"]] == ["0.0020", "0.0030"]


def test_a_stop_for_a_position_waits_until_its_trigger_and_has_no_price(account: PublishedAccount) -> None:
    row = order(type="stop-loss-limit", price="0.0", initial_base_amount="0", filled_base_amount="0")
    for trigger, word in (("mark-price", "pending"), ("mark-price", "open"), ("ready", "open"), ("ready", "filled")):
        rows = [row | {"trigger_status": trigger, "status": word}]
        account.statement.apply_pushed(decode(push("account_all_orders", orders={"7": rows})))
    events = account.of("order")
    assert [event.status for event in events] == ["untriggered", "untriggered", "open", "filled"]
    assert {event.price for event in events} == {None}
    assert account.statement.invalid_rows == 0


def test_a_stop_for_a_position_that_is_no_longer_listed_was_not_filled_by_its_size_of_zero(
    account: PublishedAccount,
) -> None:
    row = order(type="stop-loss", price="0.0", initial_base_amount="0", filled_base_amount="0", status="pending")
    account.statement.apply_pushed(decode(push("account_all_orders", orders={"7": [row]})))
    nothing = {"code": 200, "orders": []}
    answered(account, answers(**{"/accountActiveOrders": nothing, "/accountInactiveOrders": nothing}))
    assert [event.status for event in account.of("order")] == ["untriggered", "closed"]


def test_numbers_are_published_as_plain_decimals(account: PublishedAccount) -> None:
    rows = [order(initial_base_amount=0.0000001, filled_base_amount=0, price=1e22)]
    account.statement.apply_pushed(decode(push("account_all_orders", orders={"7": rows})))
    (event,) = account.of("order")
    assert (event.size, event.filled, event.price) == ("0.0000001", "0", "10000000000000000000000")


def test_the_token_is_never_shown() -> None:
    shown = repr(login()) + "".join(map(repr, snapshot(answers()).requests))
    shown += repr(token_of(secrets_of(SECRETS, **ENVIRON), 1234, "", NS))
    assert "planted" not in shown
