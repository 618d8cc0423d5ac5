"""Paradex's private side: JWTs, channels in two encodings, and the account by REST."""

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
from paradex_frames import FILL, FRAMES, MS, NULL, ORDER, POSITION, fill_block, frame, order_block, position_block

from ipc.errors import DecodeError
from ipc.events import Balance, Fill, Margin, Order, Position
from ipc.health import Reason
from workers.accounts import signers
from workers.venues.account import LoggedIn, LoginError
from workers.venues.listing import Listing
from workers.venues.paradex import auth as paradex_auth
from workers.venues.paradex.account import ParadexAccount
from workers.venues.paradex.auth import SECRETS
from workers.venues.rows import InvalidRow
from workers.venues.venue import Refused

SIDE = ParadexAccount()
BTC = Listing("BTC", "BTC-USD-PERP", "BTC-USD-PERP")
MARKETS = {"BTC-USD-PERP": BTC}
NS = MS * 1_000_000
NOW_S = MS // 1000
HEAD = ("paradex", "BTC-PERP", "BTC-USD-PERP")
NOWHERE = ("paradex", None, None)
JWT = "eyJhbGciOi.planted-claims.planted-seal"
GIVEN = {"PARADEX_JWT": JWT}
KEYS = {"PARADEX_ACCOUNT": "0x51e0", "PARADEX_PRIVATE_KEY": "0xplanted1234"}


def order(**changes: Any) -> dict[str, Any]:
    return {
        "account": "0x51e0",
        "avg_fill_price": "81000",
        "client_id": "desk-1",
        "cancel_reason": "",
        "created_at": MS - 9,
        "flags": ["REDUCE_ONLY"],
        "id": "123456",
        "last_updated_at": MS,
        "market": "BTC-USD-PERP",
        "price": "81000.5",
        "remaining_size": "0.03",
        "side": "BUY",
        "size": "0.05",
        "status": "OPEN",
        "type": "LIMIT",
    } | changes


def fill(**changes: Any) -> dict[str, Any]:
    return {
        "id": "1718947571560201703986670001",
        "side": "SELL",
        "liquidity": "TAKER",
        "market": "BTC-USD-PERP",
        "order_id": "123456",
        "price": "81000.5",
        "size": "0.01",
        "fee": "0.1945587",
        "fee_currency": "USDC",
        "created_at": MS,
        "fill_type": "FILL",
    } | changes


def position(**changes: Any) -> dict[str, Any]:
    return {
        "market": "BTC-USD-PERP",
        "status": "OPEN",
        "side": "SHORT",
        "size": "-0.01",
        "average_entry_price": "80000",
        "unrealized_pnl": "-10",
        "last_updated_at": MS,
        "liquidation_price": "",
    } | changes


ACCOUNT = {
    "account_value": "1000.5",
    "free_collateral": "900.5",
    "initial_margin_requirement": "100",
    "maintenance_margin_requirement": "50",
    "updated_at": MS,
}
BALANCE_EVENT = {"settlement_asset_balance_after": "999.5", "created_at": MS, "type": "trade", "market": "BTC-USD-PERP"}


def push(channel: str, data: Any) -> dict[str, Any]:
    return {"jsonrpc": "2.0", "method": "subscription", "params": {"channel": channel, "data": data}}


MESSAGES = [
    push("orders.ALL", order()),
    push("fills.ALL", fill()),
    push("positions", position()),
    push("account", ACCOUNT),
    push("balance_events", BALANCE_EVENT),
    {"jsonrpc": "2.0", "id": 1, "result": {"node_id": "a1"}},
    {"jsonrpc": "2.0", "id": 3, "error": {"code": 40111, "message": "expired"}},
]


def decode(message: Any, markets: Any = MARKETS) -> list[Any]:
    if isinstance(message, bytes):
        return SIDE.decode(memoryview(message), True, markets, "desk")
    return SIDE.decode(memoryview(json.dumps(message).encode()), False, markets, "desk")


def login(answer: Any = None, side: ParadexAccount = SIDE, **environ: str) -> Course:
    secrets = secrets_of(SECRETS, **(environ or GIVEN))
    return drive(side.login(secrets, "wss://x/v1", MARKETS, NS), {"/auth": answer})


def answers(**changes: Any) -> dict[str, Any]:
    history = [
        order(id="9", status="CLOSED", remaining_size="0"),
        order(id="8", status="CLOSED", cancel_reason="USER_CANCELED"),
        order(),
    ]
    return {
        "/fills": {"next": None, "prev": None, "results": [fill()]},
        "/orders": {"results": [order()]},
        "/orders-history": {"next": "x", "results": history},
        "/positions": {"results": [position()]},
        "/account": ACCOUNT,
        "/balance": {"results": [{"token": "USDC", "size": "999.5", "last_updated_at": MS}]},
    } | changes


def snapshot(bodies: dict[str, Any]) -> Course:
    steps = SIDE.snapshot(login().result, secrets_of(SECRETS), MARKETS, "desk", MS - 1000, NS)
    return drive(steps, bodies)


# --- login --------------------------------------------------------------------------------------------------------


def test_an_account_needs_a_jwt_or_the_keys_to_get_one() -> None:
    assert SIDE.is_configured(secrets_of(SECRETS, **GIVEN))
    assert SIDE.is_configured(secrets_of(SECRETS, **KEYS))
    assert not SIDE.is_configured(secrets_of(SECRETS, PARADEX_ACCOUNT="0x1"))


def test_the_jwt_is_sent_first_and_the_channels_once_it_is_confirmed() -> None:
    result = login().result
    assert [json.loads(message) for message in result.hello] == [
        {"jsonrpc": "2.0", "method": "auth", "params": {"bearer": JWT}, "id": 1}
    ]
    assert result.must_confirm
    wanted = [json.loads(message) for message in result.subscribe]
    assert [message["params"]["channel"] for message in wanted] == [
        "orders.ALL",
        "fills.ALL",
        "positions",
        "account",
        "balance_events",
    ]
    assert [message["id"] for message in wanted] == [2, 3, 4, 5, 6]
    assert all(JWT not in message.decode() for message in result.subscribe)


def test_binary_frames_are_requested_unless_text_is_wanted() -> None:
    binary, text = login().result, login(side=ParadexAccount("json")).result
    assert binary.url == "wss://x/v1?sbeSchemaId=1&sbeSchemaVersion=2"
    assert binary.fallback_url == "wss://x/v1?sbeSchemaId=1&sbeSchemaVersion=1"
    assert (text.url, text.fallback_url) == ("wss://x/v1", None)


def test_the_jwt_is_renewed_for_rest_alone() -> None:
    held = login().result
    assert held.renew_at_ns == NS + 180 * 1_000_000_000
    renewal = drive(SIDE.renew(held, secrets_of(SECRETS, PARADEX_JWT="another.one.now"), NS + 5), {}).result
    assert not renewal.must_reconnect
    assert renewal.messages == ()
    assert (renewal.login.token, renewal.login.url) == ("another.one.now", held.url)
    assert renewal.login.renew_at_ns == NS + 5 + 180 * 1_000_000_000


@pytest.mark.parametrize("jwt", ["planted jwt", "planted\n", "planted\u00e9"])
def test_a_jwt_with_characters_that_headers_forbid_is_rejected_and_not_shown(jwt: str) -> None:
    with pytest.raises(LoginError, match="PARADEX_JWT") as refused:
        login(PARADEX_JWT=jwt)
    assert "planted" not in str(refused.value)


def sign_as(monkeypatch: pytest.MonkeyPatch, signature: str = '["1","2"]') -> list[Any]:
    """Replace the signing library; return the messages that it is given."""
    signed: list[Any] = []
    monkeypatch.setattr(paradex_auth, "_signature", lambda *what: signed.append(what) or signature)
    return signed


def test_a_key_requests_a_jwt_with_a_signature(monkeypatch: pytest.MonkeyPatch) -> None:
    signed = sign_as(monkeypatch)
    course = login({"jwt_token": JWT}, **KEYS)
    assert course.result.token == JWT
    (request,) = course.requests
    assert (request.path, request.method) == ("/auth", "POST")
    assert dict(request.headers) == {
        "PARADEX-STARKNET-ACCOUNT": "0x51e0",
        "PARADEX-STARKNET-SIGNATURE": '["1","2"]',
        "PARADEX-TIMESTAMP": str(NOW_S),
        "PARADEX-SIGNATURE-EXPIRATION": str(NOW_S + 300),
    }
    message, address, _ = signed[0]
    assert address == "0x51e0"
    assert message["message"] == {
        "method": "POST",
        "path": "/v1/auth",
        "body": "",
        "timestamp": NOW_S,
        "expiration": NOW_S + 300,
    }
    assert bytes.fromhex(message["domain"]["chainId"][2:]) == b"PRIVATE_SN_PARACLEAR_MAINNET"


def test_the_chain_of_the_testnet_is_another_one(monkeypatch: pytest.MonkeyPatch) -> None:
    signed = sign_as(monkeypatch)
    steps = SIDE.login(secrets_of(SECRETS, **KEYS), "wss://ws.api.testnet.x/v1", MARKETS, NS)
    drive(steps, {"/auth": {"jwt_token": JWT}})
    assert bytes.fromhex(signed[0][0]["domain"]["chainId"][2:]) == b"PRIVATE_SN_POTC_SEPOLIA"


@pytest.mark.parametrize("address", ["51e0", "0x", "0xzz", "0x1\n", f"0x{'1' * 65}"])
def test_an_invalid_address_is_rejected(address: str) -> None:
    with pytest.raises(LoginError, match="PARADEX_ACCOUNT"):
        login(**(KEYS | {"PARADEX_ACCOUNT": address}))


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        ("STARKNET_SIGNATURE_VERIFICATION_FAILED", Reason.AUTH_FAILED),
        ("NOT_ONBOARDED", Reason.AUTH_FAILED),
        ("RATE_LIMIT_EXCEEDED", Reason.RATE_LIMITED),
        ("SERVICE_UNAVAILABLE", Reason.REFUSED),
    ],
)
def test_a_refused_signature(monkeypatch: pytest.MonkeyPatch, code: str, reason: Reason) -> None:
    sign_as(monkeypatch)
    text = f"not {KEYS['PARADEX_PRIVATE_KEY']}" if reason is Reason.AUTH_FAILED else "later"
    with pytest.raises(LoginError, match=code) as refused:
        login({"error": code, "message": text, "data": None}, **KEYS)
    assert refused.value.reason is reason
    assert "planted" not in str(refused.value)


@pytest.mark.parametrize("body", [b"", b"{}", b"[]", b'{"jwt_token":5}'])
def test_an_answer_without_a_jwt_is_malformed(monkeypatch: pytest.MonkeyPatch, body: bytes) -> None:
    sign_as(monkeypatch)
    with pytest.raises(DecodeError):
        login(body, **KEYS)


def test_a_key_without_its_library_names_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> Any:
        raise ImportError(name)

    monkeypatch.setattr(signers, "load", missing)
    with pytest.raises(LoginError, match=r"starknet-py.*\[private\]"):
        login(**KEYS)


def test_an_invalid_key_is_rejected_and_not_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(signers, "load", lambda _name: types.SimpleNamespace())
    with pytest.raises(LoginError, match="PARADEX_PRIVATE_KEY") as refused:
        login(**KEYS)
    assert "planted" not in str(refused.value)
    assert refused.value.__cause__ is None


@pytest.mark.skipif(importlib.util.find_spec("starknet_py") is None, reason="starknet-py is not installed")
def test_a_stark_signature_verifies() -> None:
    address, key = "0x4638e3041366aa71720be63e32e53e1223316c7f0d56f7aa617542ed1e7512b", "0x1234567"
    message = paradex_auth._message("PRIVATE_SN_PARACLEAR_MAINNET", 1_700_000_000, 1_700_000_300)
    utils = signers.load("starknet_py.hash.utils")
    r, s = map(int, json.loads(paradex_auth._signature(message, address, key)))
    # The hash was computed by another library, too.
    digest = 0x589B6E9DC3DA211AB672C1AEAF9A7FBAC76984AE042345001EBD1B58858D242
    assert utils.verify_message_signature(digest, [r, s], utils.private_to_stark_key(int(key, 16)))


# --- replies ------------------------------------------------------------------------------------------------------


def test_the_login_is_confirmed_by_its_own_reply_alone() -> None:
    assert decode({"jsonrpc": "2.0", "id": 1, "result": {"node_id": "a1"}}) == [LoggedIn()]
    assert decode({"jsonrpc": "2.0", "id": 0, "result": {"node_id": "a1"}, "usIn": 5}) == [LoggedIn()]
    assert decode({"jsonrpc": "2.0", "id": 2, "result": {"channel": "orders.ALL"}}) == []


@pytest.mark.parametrize(
    ("request_id", "code", "text", "reason", "fatal"),
    [
        (1, -32600, "bad", Reason.AUTH_FAILED, True),
        (1, 40110, "malformed bearer token", Reason.AUTH_FAILED, True),
        (4, 40111, "invalid or expired bearer", Reason.AUTH_FAILED, True),
        (4, 40112, "geo-blocked", Reason.REFUSED, True),
        (4, -32600, "invalid subscribe request", Reason.SUBSCRIBE_ERROR, False),
        (4, 100, "already subscribed", None, False),
        (4, 100, "too many requests", Reason.RATE_LIMITED, False),
    ],
)
def test_errors(request_id: int, code: int, text: str, reason: Reason | None, fatal: Any) -> None:
    echoed = f"{text}: {JWT}" if reason is Reason.AUTH_FAILED else text
    (refused,) = decode({"jsonrpc": "2.0", "id": request_id, "error": {"code": code, "message": echoed}})
    assert isinstance(refused, Refused)
    assert (refused.reason, refused.fatal) == (reason, fatal)
    assert refused.text.startswith(str(code))
    assert "planted" not in refused.text


# --- orders and fills ---------------------------------------------------------------------------------------------


def test_an_order() -> None:
    assert decode(push("orders.ALL", order())) == [
        Order(
            *HEAD,
            NS,
            "desk",
            "123456",
            "desk-1",
            "buy",
            "81000.5",
            "0.05",
            "0.02",
            "open",
            "OPEN",
            "LIMIT",
            True,
        )
    ]


@pytest.mark.parametrize(
    ("word", "reason", "remaining", "status", "filled"),
    [
        ("NEW", "", "0", "open", "0"),
        ("UNTRIGGERED", "", "0.05", "untriggered", "0"),
        ("OPEN", "", "0.01", "open", "0.04"),
        ("A_NEW_WORD", "", "0.01", "open", "0.04"),
        ("CLOSED", "", "0", "filled", "0.05"),
        ("CLOSED", None, "0.0", "filled", "0.05"),
        ("CLOSED", "", "0.01", "closed", "0.04"),
        ("CLOSED", "USER_CANCELED", "0.01", "canceled", "0.04"),
        ("CLOSED", "NOT_ENOUGH_MARGIN", "0.05", "rejected", "0"),
        ("CLOSED", "NOT_ENOUGH_MARGIN", "0.01", "canceled", "0.04"),
        ("CLOSED", "ORDER_EXPIRED", "0.05", "expired", "0"),
        ("A_NEW_WORD", "", "0", "filled", "0.05"),
        ("OPEN", "", "0.00", "filled", "0.05"),
        ("CLOSED", "A_NEW_REASON", "0", "filled", "0.05"),
        ("CLOSED", "A_NEW_REASON", "0.01", "canceled", "0.04"),
    ],
)
def test_states_of_orders(word: str, reason: str | None, remaining: str, status: str, filled: str) -> None:
    (event,) = decode(push("orders.ALL", order(status=word, cancel_reason=reason, remaining_size=remaining)))
    assert (event.status, event.filled) == (status, filled)
    assert event.venue_status == f"{word} {reason}".removesuffix(" None").rstrip()


def test_a_canceled_order_of_which_nothing_remains_was_not_filled_without_an_average_price() -> None:
    for average, status, filled in (("", "canceled", "0"), ("0", "canceled", "0"), ("81000", "filled", "0.05")):
        row = order(status="CLOSED", cancel_reason="USER_CANCELED", remaining_size="0", avg_fill_price=average)
        (event,) = decode(push("orders.ALL", row))
        assert (event.status, event.filled) == (status, filled)


@pytest.mark.parametrize(
    ("word", "kind", "status"),
    [
        ("NEW", "STOP_LIMIT", "untriggered"),
        ("NEW", "TAKE_PROFIT_MARKET", "untriggered"),
        ("UNTRIGGERED", "STOP_LOSS_MARKET", "untriggered"),
        ("OPEN", "STOP_LIMIT", "open"),
        ("NEW", "LIMIT", "open"),
        ("NEW", None, "open"),
    ],
)
def test_an_order_that_waits_for_its_trigger_is_not_open(word: str, kind: str | None, status: str) -> None:
    (event,) = decode(push("orders.ALL", order(status=word, type=kind)))
    assert (event.status, event.venue_status) == (status, word)


def test_an_order_that_closes_a_position_has_neither_size_nor_price() -> None:
    row = order(status="UNTRIGGERED", type="STOP_LOSS_MARKET", size="0", remaining_size="0", price="0")
    (event,) = decode(push("orders.ALL", row))
    assert (event.status, event.size, event.filled, event.price) == ("untriggered", "0", "0", None)


def test_ids_may_be_numbers() -> None:
    (event,) = decode(push("orders.ALL", order(id=77, client_id=5)))
    assert (event.order_id, event.client_id) == ("77", "5")
    (event,) = decode(push("fills.ALL", fill(id=1718947571560201703986670001, order_id="")))
    assert (event.fill_id, event.order_id) == ("1718947571560201703986670001", None)


def test_an_order_at_the_market_has_no_price() -> None:
    rows = [order(type=kind, price="90000") for kind in ("MARKET", "STOP_MARKET", "STOP_LIMIT")]
    assert [decode(push("orders.ALL", row))[0].price for row in rows] == [None, None, "90000"]


def test_an_order_without_price_client_id_or_flags() -> None:
    (event,) = decode(push("orders.BTC-USD-PERP", order(price="0", type="MARKET", client_id="", flags=None)))
    assert (event.price, event.client_id, event.reduce_only) == (None, None, False)


def test_a_fill() -> None:
    assert decode(push("fills.ALL", fill())) == [
        Fill(
            *HEAD,
            NS,
            "desk",
            "1718947571560201703986670001",
            "123456",
            "sell",
            "81000.5",
            "0.01",
            "0.1945587",
            "USDC",
            "taker",
        )
    ]


@pytest.mark.parametrize(
    ("word", "as_taker", "as_maker"),
    [
        ("FILL", "trade", "trade"),
        ("LIQUIDATION", "liquidation", "trade"),
        ("SETTLE_MARKET", "settlement", "settlement"),
        ("TRANSFER", "transfer", "transfer"),
        ("A_NEW_WORD", "a_new_word", "a_new_word"),
    ],
)
def test_types_of_fills(word: str, as_taker: str, as_maker: str) -> None:
    rows = [fill(fill_type=word, liquidity=liquidity) for liquidity in ("TAKER", "MAKER")]
    assert [decode(push("fills.ALL", row))[0].fill_type for row in rows] == [as_taker, as_maker]


def test_numbers_may_be_numbers() -> None:
    row = order(size=1, remaining_size=0.75, price=81000.10, last_updated_at=str(MS), type=None)
    (event,) = decode(push("orders.ALL", row))
    assert (event.size, event.filled, event.price, event.exchange_ns) == ("1", "0.25", "81000.1", NS)
    (event,) = decode(push("fills.ALL", fill(price=5, size=0.5, fee=-1)))
    assert (event.price, event.size, event.fee) == ("5", "0.5", "-1")
    body = b'{"method":"subscription","params":{"channel":"account","data":{"account_value":63807.605956624996111}}}'
    assert SIDE.decode(memoryview(body), False, MARKETS, "desk")[0].equity == "63807.605956624996111"  # type: ignore[union-attr]


# --- positions, margin, balances ----------------------------------------------------------------------------------


def test_a_short_position_is_negative_whether_or_not_it_is_signed() -> None:
    assert decode(push("positions", position())) == [
        Position(*HEAD, NS, "desk", "-0.01", "80000", None, "-10", None, None)
    ]
    assert decode(push("positions", position(size="0.01"))) == decode(push("positions", position()))


def test_a_closed_position_is_flat() -> None:
    (event,) = decode(push("positions", position(status="CLOSED", liquidation_price="5")))
    assert (event.size, event.entry_price, event.liquidation_price) == ("0", None, None)


def test_the_margin() -> None:
    assert decode(push("account", ACCOUNT)) == [Margin(*NOWHERE, NS, "desk", "1000.5", "900.5", "100", "50")]


def test_a_balance_event_tells_what_is_left_of_the_settlement_asset() -> None:
    assert decode(push("balance_events", BALANCE_EVENT)) == [Balance(*NOWHERE, NS, "desk", "USDC", "999.5", None)]
    assert decode(push("balance_events", {"type": "other"})) == []


def test_a_market_that_is_not_subscribed_is_named_by_its_wire_name() -> None:
    (event,) = decode(push("positions", position(market="kBONK-USD-PERP")), {})
    assert (event.symbol, event.venue_symbol) == ("BONK-PERP", "kBONK-USD-PERP")
    (option,) = decode(push("positions", position(market="BTC-USD-96000-C")), {})
    assert (option.symbol, option.venue_symbol) == (None, "BTC-USD-96000-C")


# --- binary frames ------------------------------------------------------------------------------------------------


def test_binary_frames_are_the_same_events_as_text() -> None:
    (pushed,) = decode(ORDER)
    (same,) = decode(push("orders.ALL", order(id="171894", type="LIMIT")))
    assert pushed == same
    (event,) = decode(FILL)
    assert (event.fill_id, event.side, event.fee, event.fee_asset) == (
        "1718947571560201703986670001",
        "sell",
        "-0.00019455",
        "USDC",
    )
    assert event.exchange_ns == NS
    assert [type(decode(whole)[0]) for whole in FRAMES] == [Order, Fill, Position, Margin]


def test_a_binary_position_gets_its_sign_from_its_side() -> None:
    assert decode(POSITION)[0].size == "-0.1"
    assert decode(frame(22, position_block(side=1), "BTC-USD-PERP", ""))[0].size == "0.1"
    assert decode(frame(22, position_block(side=254, status=2), "BTC-USD-PERP", ""))[0].size == "0"


def test_a_binary_market_order_that_was_canceled() -> None:
    (event,) = decode(frame(20, order_block(status=4, price=NULL), "1", "", "BTC-USD-PERP", "USER_CANCELED"))
    assert (event.price, event.status, event.venue_status) == (None, "canceled", "CLOSED USER_CANCELED")


def test_a_binary_fill_of_our_maker_order_against_a_liquidation_is_a_trade() -> None:
    texts = ("1", "2", "", "t1", "BTC-USD-PERP")
    events = [decode(frame(21, fill_block(kind=2, liquidity=code), *texts))[0] for code in (1, 2, 254)]
    assert [event.fill_type for event in events] == ["trade", "liquidation", "liquidation"]


def test_a_binary_order_of_which_nothing_remains() -> None:
    texts = ("1", "", "BTC-USD-PERP", "USER_CANCELED")
    blocks = [order_block(status=4, remaining=0, average=average) for average in (NULL, 8_100_000_000_000)]
    assert [decode(frame(20, block, *texts))[0].status for block in blocks] == ["canceled", "filled"]


def test_a_binary_order_whose_status_is_new_to_us_is_open() -> None:
    (event,) = decode(frame(20, order_block(status=9), "1", "", "BTC-USD-PERP", ""))
    assert (event.status, event.venue_status) == ("open", "9")


@pytest.mark.parametrize(
    ("template", "block", "texts"),
    [
        (20, order_block(side=254), ("1", "", "BTC-USD-PERP", "")),
        (20, order_block(size=NULL), ("1", "", "BTC-USD-PERP", "")),
        (21, fill_block(side=0), ("1", "2", "", "", "BTC-USD-PERP")),
        (21, fill_block(price=NULL), ("1", "2", "", "", "BTC-USD-PERP")),
        (22, position_block(size=NULL), ("BTC-USD-PERP", "")),
    ],
)
def test_a_binary_frame_without_a_value_that_must_be_is_an_invalid_row(
    template: int, block: bytes, texts: tuple[str, ...]
) -> None:
    assert [type(item) for item in decode(frame(template, block, *texts))] == [InvalidRow]


def test_public_binary_frames_are_ignored() -> None:
    assert decode(frame(40, bytes(16))) == []


# --- other frames -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "message",
    [push("transaction", {"x": 1}), push("tradebusts", 5), push("bbo.BTC-USD-PERP", {}), {"id": 9, "result": None}],
)
def test_frames_without_account_data_are_ignored(message: Any) -> None:
    assert decode(message) == []


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{}",
        b"[]",
        b'{"method":"subscription"}',
        b'{"method":"subscription","params":{"channel":5,"data":{}}}',
        b"[" * 100_000,
        b'{"method":"\xff"}',
    ],
)
def test_malformed_frames_are_refused(body: bytes) -> None:
    with pytest.raises(DecodeError):
        SIDE.decode(memoryview(body), False, MARKETS, "desk")


@given(gone_wrong(MESSAGES))
@settings(max_examples=300, deadline=None)
def test_mutated_frames_raise_only_decode_errors(body: bytes) -> None:
    with contextlib.suppress(DecodeError):
        SIDE.decode(memoryview(body), False, MARKETS, "desk")


# --- REST ---------------------------------------------------------------------------------------------------------


def test_the_whole_account() -> None:
    course = snapshot(answers())
    assert course.paths() == list(answers())
    assert all(request.headers == (("Authorization", f"Bearer {JWT}"),) for request in course.requests)
    assert course.result.open_orders == {"123456"}
    events = course.result.events
    assert [type(event) for event in events] == [Fill, Order, Order, Order, Position, Margin, Balance]
    orders = [(event.order_id, event.status) for event in events if isinstance(event, Order)]
    assert orders == [("123456", "open"), ("8", "canceled"), ("9", "filled")]
    assert all(event.snapshot for event in events)


def test_pages_are_as_long_as_the_venue_allows() -> None:
    course = snapshot(answers())
    assert [course.query(number).get("page_size") for number in range(6)] == ["1000", None, "100", None, None, None]


def test_orders_that_closed_are_requested_from_long_before_the_last_snapshot() -> None:
    assert int(snapshot(answers()).query(2)["start_at"]) == MS - 1000 - 7 * 86_400_000


def test_lists_are_those_of_all_pages() -> None:
    orders = [{"next": "c", "results": [order(id="1")]}, {"next": None, "results": [order(id="2")]}]
    positions = [
        {"next": "c", "results": [position()]},
        {"next": "", "results": [position(market="ETH-USD-PERP")]},
    ]
    course = snapshot(answers(**{"/orders": orders, "/positions": positions}))
    result = course.result
    assert result.open_orders == {"1", "2"}
    held = [event.venue_symbol for event in result.events if isinstance(event, Position)]
    assert held == ["BTC-USD-PERP", "ETH-USD-PERP"]
    assert (result.orders_of("X"), result.positions_of("X"), result.balances_of("X")) == (True, True, True)
    assert [course.query(number).get("cursor") for number in (1, 2)] == [None, "c"]


@pytest.mark.parametrize("path", ["/orders", "/positions", "/balance"])
def test_a_list_that_never_ends_is_incomplete(path: str) -> None:
    bodies = answers()
    bodies[path]["next"] = "again"
    result = snapshot(bodies).result
    covered = {"/orders": result.orders_of, "/positions": result.positions_of, "/balance": result.balances_of}
    assert {name: covers("X") for name, covers in covered.items()} == {name: name != path for name in covered}
    assert [row.what for row in result.invalid] == [path[1:]]


def test_an_error_on_the_second_page_fails_the_snapshot() -> None:
    for path, row in (("/fills", fill()), ("/orders", order()), ("/positions", position())):
        pages = [{"next": "c", "results": [row]}, {"error": "INTERNAL", "message": "no", "data": None}]
        with pytest.raises(LoginError):
            snapshot(answers(**{path: pages}))


@pytest.mark.parametrize("path", list(answers()))
def test_an_invalid_row_of_an_answer_is_left_out_alone(path: str) -> None:
    """A list with an invalid row covers nothing."""
    bodies = answers()
    if path == "/account":
        bodies[path] = ACCOUNT | {"account_value": True}
    else:
        bodies[path]["results"].append({"market": 5})
    result = snapshot(bodies).result
    kinds = [Fill, Order, Order, Order, Position, *([] if path == "/account" else [Margin]), Balance]
    assert [type(event) for event in result.events] == kinds
    assert len(result.invalid) == 1
    covered = {"/orders": result.orders_of, "/positions": result.positions_of, "/balance": result.balances_of}
    assert {name: covers("X") for name, covers in covered.items()} == {name: name != path for name in covered}


def test_fills_are_requested_page_by_page() -> None:
    pages = [{"next": "a/b", "results": [fill(id="9"), fill(id="8")]}, {"next": "", "results": [fill(id="7")]}]
    course = snapshot(answers(**{"/fills": pages}))
    assert [event.fill_id for event in course.result.events if isinstance(event, Fill)] == ["7", "8", "9"]
    assert course.query(0)["start_at"] == str(MS - 1000)
    assert course.query(1)["cursor"] == "a/b"


@pytest.mark.parametrize("path", list(answers()))
def test_a_token_that_is_not_accepted_any_more(path: str) -> None:
    with pytest.raises(LoginError, match="INVALID_TOKEN") as refused:
        snapshot(answers(**{path: {"error": "INVALID_TOKEN", "message": f"bearer {JWT} expired", "data": None}}))
    assert refused.value.reason is Reason.AUTH_FAILED
    assert "planted" not in str(refused.value)


@pytest.mark.parametrize("path", [path for path in answers() if path != "/account"])
@pytest.mark.parametrize("body", [b"", b"<html>", b"[]", b"{}", b'{"results":null}', b'{"results":5}'])
def test_malformed_answers_are_refused(path: str, body: bytes) -> None:
    with pytest.raises(DecodeError):
        snapshot(answers(**{path: body}))


def test_connection_is_pinged_every_15_seconds() -> None:
    assert (SIDE.keepalive.interval_s, SIDE.keepalive.pong_within_s) == (15.0, 10.0)


# --- as subscribers see it ----------------------------------------------------------------------------------------


def answered(account: PublishedAccount, bodies: dict[str, Any]) -> None:
    account.statement.apply_snapshot(snapshot(bodies).result, account.statement.push_count())


def test_an_invalid_row_is_counted_and_ends_nothing(account: PublishedAccount) -> None:
    rows = [fill(id="1"), fill(id="2", size="much"), fill(id="3", side="BOTH"), fill(id="4", price="-5"), fill(id="5")]
    for row in rows:
        account.statement.apply_pushed(decode(push("fills.ALL", row)))
    assert [event.fill_id for event in account.of("fill")] == ["1", "5"]
    assert account.statement.invalid_rows == 3


def test_an_invalid_binary_frame_is_counted(account: PublishedAccount) -> None:
    account.statement.apply_pushed(decode(frame(20, order_block(side=254), "1", "", "BTC-USD-PERP", "")))
    account.statement.apply_pushed(decode(ORDER))
    assert [event.order_id for event in account.of("order")] == ["171894"]
    assert account.statement.invalid_rows == 1


def test_a_trade_with_ourselves_is_published_once_a_side(account: PublishedAccount) -> None:
    rows = [fill(id="1", side="BUY"), fill(id="1", side="SELL", liquidity="MAKER")]
    for row in rows:
        account.statement.apply_pushed(decode(push("fills.ALL", row)))
    answered(account, answers(**{"/fills": {"results": rows}}))
    fills = account.of("fill")
    assert {(event.side, event.liquidity) for event in fills} == {("buy", "taker"), ("sell", "maker")}
    assert len({event.fill_id for event in fills}) == len(fills) == 2


@pytest.mark.parametrize("page", [{"results": [{"id": 5}]}, {"results": [order(id="2")], "next": "again"}])
def test_a_list_that_is_incomplete_closes_nothing(account: PublishedAccount, page: Any) -> None:
    account.statement.apply_pushed(decode(push("orders.ALL", order(id="1"))))
    answered(account, answers(**{"/orders": page, "/orders-history": {"results": []}}))
    assert [event.status for event in account.of("order") if event.order_id == "1"] == ["open"]
    answered(account, answers(**{"/orders": {"results": []}, "/orders-history": {"results": []}}))
    assert [event.status for event in account.of("order") if event.order_id == "1"] == ["open", "closed"]


@pytest.mark.parametrize("rows", [[{"market": 5}], [position(size="much")]])
def test_a_list_with_an_invalid_row_flattens_nothing(account: PublishedAccount, rows: Any) -> None:
    account.statement.apply_pushed(decode(push("positions", position())))
    answered(account, answers(**{"/positions": {"results": rows}}))
    assert [event.size for event in account.of("position")] == ["-0.01"]
    answered(account, answers(**{"/positions": {"results": []}}))
    assert [event.size for event in account.of("position")] == ["-0.01", "0"]


def test_an_answer_wins_over_an_earlier_push_regardless_of_times(account: PublishedAccount) -> None:
    late = MS + 60_000
    account.statement.apply_pushed(decode(push("positions", position(size="-0.02", last_updated_at=late))))
    event = BALANCE_EVENT | {"settlement_asset_balance_after": "5", "created_at": late}
    account.statement.apply_pushed(decode(push("balance_events", event)))
    answered(account, answers())
    assert [event.size for event in account.of("position")] == ["-0.02", "-0.01"]
    assert [event.total for event in account.of("balance")] == ["5", "999.5"]


def test_an_unknown_word_closes_nothing(account: PublishedAccount) -> None:
    words = (("NEW", "0.05"), ("A_NEW_WORD", "0.05"), ("OPEN", "0.03"), ("A_NEW_WORD", "0"))
    for word, remaining in words:
        account.statement.apply_pushed(decode(push("orders.ALL", order(status=word, remaining_size=remaining))))
    assert [event.status for event in account.of("order")] == ["open", "open", "open", "filled"]


def test_secrets_are_never_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    sign_as(monkeypatch, '["planted","2"]')
    courses = [login(), login({"jwt_token": JWT}, **KEYS), snapshot(answers())]
    shown = "".join(repr(course.requests) for course in courses) + repr(courses[0].result)
    assert "planted" not in shown
