"""Aster's private side: signatures, the life of a listenKey, events of the stream, and the account by REST."""

from __future__ import annotations

import contextlib
import hashlib
import hmac
import importlib.util
import json
from typing import Any
from urllib.parse import urlsplit

import pytest
from courses import Course, drive, gone_wrong, secrets_of
from hypothesis import given, settings

from ipc.errors import DecodeError
from ipc.events import Balance, Fill, Margin, Order, Payment, Position
from ipc.health import Reason
from workers.accounts import signers
from workers.accounts.ledger import Ledger
from workers.venues.account import Expired, Leg, LoginError
from workers.venues.aster import signing as aster_signing
from workers.venues.aster.account import AsterAccount
from workers.venues.aster.signing import WALLET_SECRETS, signer_of
from workers.venues.listing import Listing
from workers.venues.rows import InvalidRow
from workers.venues.venue import Keepalive, Refused

VENUE = AsterAccount()
KEY, SECRET = "planted-key-77", "planted-secret-88"
KEYS = {"ASTER_API_KEY": KEY, "ASTER_API_SECRET": SECRET}
#: The private key 1, and its address.
WALLET = {
    "ASTER_USER": "0x7E5F4552091A69125d5DfCb7b8C2659029395Bdf",
    "ASTER_SIGNER": "0x7E5F4552091A69125d5DfCb7b8C2659029395Bdf",
    "ASTER_SIGNER_KEY": f"0x{1:064x}",
}
BTC = Listing("BTC", "BTCUSDT", "BTCUSDT", quote="USDT")
MARKETS = {"BTCUSDT": BTC}
MS = 1_790_000_123_456
NS = MS * 1_000_000
MINUTE_NS = 60 * 1_000_000_000
HEAD = ("aster", "BTC-PERP", "BTCUSDT")
LISTEN_KEY = "pqia91ma19a5s61cv6a81va65sd"


def execution(**changes: Any) -> dict[str, Any]:
    return {
        "s": "BTCUSDT",
        "c": "desk-1",
        "S": "SELL",
        "o": "LIMIT",
        "f": "GTC",
        "q": "0.010",
        "p": "81000.0",
        "ap": "0",
        "sp": "0",
        "x": "NEW",
        "X": "NEW",
        "i": 8_886_774_123,
        "l": "0",
        "z": "0",
        "L": "0",
        "T": MS,
        "t": 0,
        "b": "0",
        "a": "9.91",
        "m": False,
        "R": True,
        "ot": "LIMIT",
        "ps": "BOTH",
    } | changes


def update(**changes: Any) -> dict[str, Any]:
    return {"e": "ORDER_TRADE_UPDATE", "E": MS + 3, "T": MS, "o": execution(**changes)}


def balance(**changes: Any) -> dict[str, Any]:
    return {"a": "USDT", "wb": "1000.50000000", "cw": "1000.5", "bc": "0"} | changes


def leg(**changes: Any) -> dict[str, Any]:
    return {
        "s": "BTCUSDT",
        "pa": "-0.010",
        "ep": "81000.50000",
        "cr": "0",
        "up": "-1.25",
        "mt": "cross",
        "iw": "0",
        "ps": "BOTH",
        "ma": "USDT",
    } | changes


def changed(reason: str = "ORDER", **account: Any) -> dict[str, Any]:
    return {"e": "ACCOUNT_UPDATE", "E": MS + 3, "T": MS, "a": {"m": reason} | account}


FRAMES = [
    update(),
    update(x="TRADE", X="FILLED", l="0.010", z="0.010", L="81000.5", t=7, n="0.1", N="USDT"),
    changed("FUNDING_FEE", B=[balance(bc="-1.5")], P=[leg()]),
    changed(B=[balance()], P=[leg(ps="LONG", pa="2"), leg(ps="SHORT")]),
    {"e": "listenKeyExpired", "E": MS},
]


def row(**changes: Any) -> dict[str, Any]:
    return {
        "orderId": 20_072_994_001,
        "symbol": "BTCUSDT",
        "status": "NEW",
        "clientOrderId": "desk-2",
        "price": "65000.0",
        "origQty": "0.010",
        "executedQty": "0",
        "type": "LIMIT",
        "reduceOnly": False,
        "side": "BUY",
        "updateTime": MS,
    } | changes


def traded(number: int, **changes: Any) -> dict[str, Any]:
    return {
        "symbol": "BTCUSDT",
        "id": number,
        "orderId": 20_072_994_001,
        "side": "BUY",
        "price": "65000.0",
        "qty": "0.001",
        "commission": "0.02600000",
        "commissionAsset": "USDT",
        "maker": True,
        "time": MS,
    } | changes


def risk(**changes: Any) -> dict[str, Any]:
    return {
        "symbol": "BTCUSDT",
        "positionAmt": "0.010",
        "entryPrice": "65000.0",
        "markPrice": "66000.0",
        "unRealizedProfit": "10.00",
        "liquidationPrice": "0",
        "marginType": "isolated",
        "positionSide": "BOTH",
        "updateTime": MS,
    } | changes


ACCOUNT = {
    "totalMarginBalance": "1010.5",
    "availableBalance": "900",
    "totalInitialMargin": "32",
    "totalMaintMargin": "16",
    "assets": [],
}


def answers(**changes: Any) -> dict[str, Any]:
    return {
        "/fapi/v1/openOrders": (row(),),
        "/fapi/v2/positionRisk": (risk(), risk(symbol="ETHUSDT", positionAmt="0.000", updateTime=0)),
        "/fapi/v1/userTrades": (traded(7),),
        "/fapi/v1/allOrders": (row(orderId=5, status="CANCELED", executedQty="0.001"), row()),
        "/fapi/v2/balance": ({"asset": "USDT", "balance": "1000.5", "availableBalance": "900", "updateTime": MS},),
        "/fapi/v4/account": ACCOUNT,
    } | changes


def decode(message: Any, markets: Any = MARKETS) -> list[Any]:
    return VENUE.decode(memoryview(json.dumps(message).encode()), False, markets, "desk")


def login(answer: Any, **keys: str) -> Course:
    secrets = secrets_of(VENUE.secrets, **(keys or KEYS))
    return drive(VENUE.login(secrets, "wss://x", MARKETS, NS), {"/fapi/v1/listenKey": answer})


def snapshot(bodies: dict[str, Any], markets: Any = MARKETS, since_ms: int = MS - 1000) -> Course:
    logged_in = login({"listenKey": LISTEN_KEY}).result
    return drive(VENUE.snapshot(logged_in, secrets_of(VENUE.secrets, **KEYS), markets, "desk", since_ms, NS), bodies)


# --- signatures ---------------------------------------------------------------------------------------------------


def test_key_signs_the_query_verbatim() -> None:
    (request,) = login({"listenKey": LISTEN_KEY}).requests
    query, _, signature = urlsplit(request.path).query.partition("&signature=")
    assert query == f"recvWindow=60000&timestamp={MS}"
    assert signature == hmac.new(SECRET.encode(), query.encode(), hashlib.sha256).hexdigest()
    assert request.method == "POST"
    assert request.headers == (("X-MBX-APIKEY", KEY),)


def test_every_call_of_a_flow_is_signed() -> None:
    for request in snapshot(answers()).requests:
        query, _, signature = urlsplit(request.path).query.partition("&signature=")
        assert signature == hmac.new(SECRET.encode(), query.encode(), hashlib.sha256).hexdigest()


def test_either_method_of_signing_suffices() -> None:
    assert VENUE.is_configured(secrets_of(VENUE.secrets, **KEYS))
    assert VENUE.is_configured(secrets_of(VENUE.secrets, **WALLET))
    assert not VENUE.is_configured(secrets_of(VENUE.secrets, ASTER_API_KEY=KEY, ASTER_SIGNER="0x1"))


def test_key_unsafe_in_a_header_is_rejected_without_showing_it() -> None:
    with pytest.raises(LoginError) as refused:
        login({"listenKey": LISTEN_KEY}, ASTER_API_KEY="planted key\n", ASTER_API_SECRET=SECRET)
    assert "planted" not in refused.value.what


def test_wallet_signs_with_unique_nonces(monkeypatch: pytest.MonkeyPatch) -> None:
    signed: list[str] = []
    monkeypatch.setattr(aster_signing, "_typed_signature", lambda text, _key: signed.append(text) or f"0x{len(signed)}")
    signer = signer_of(secrets_of(WALLET_SECRETS, **WALLET))
    paths = [signer.request("userTrades", {"symbol": "BTCUSDT"}).made_at(NS).path for _ in range(2)]
    user = WALLET["ASTER_USER"]
    assert signed[0] == f"symbol=BTCUSDT&nonce={NS // 1000}&user={user}&signer={user}"
    assert signed[1] == f"symbol=BTCUSDT&nonce={NS // 1000 + 1}&user={user}&signer={user}"
    assert paths[1] == f"/fapi/v3/userTrades?{signed[1]}&signature=0x2"


def test_delayed_call_is_signed_when_it_is_sent() -> None:
    request = signer_of(secrets_of(VENUE.secrets, **KEYS)).request("balance")
    assert f"timestamp={MS + 90_000}&" in request.made_at(NS + 90 * 10**9).path


def test_wallet_has_precedence_over_a_key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(aster_signing, "_typed_signature", lambda _text, _key: "0x0")
    course = drive(
        VENUE.login(secrets_of(VENUE.secrets, **WALLET, **KEYS), "wss://x", MARKETS, NS),
        {"/fapi/v3/listenKey": {"listenKey": LISTEN_KEY}},
    )
    assert course.requests[0].headers == ()


def test_a_wallet_without_its_library_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> Any:
        raise ImportError(name)

    monkeypatch.setattr(signers, "load", missing)
    with pytest.raises(LoginError, match=r"eth-account.*\[private\]"):
        signer_of(secrets_of(WALLET_SECRETS, **WALLET)).request("balance").made_at(NS)


@pytest.mark.skipif(importlib.util.find_spec("eth_account") is None, reason="eth-account is not installed")
def test_a_wallets_signature_is_that_of_typed_data() -> None:
    text = "symbol=BTCUSDT&limit=5&nonce=1700000000000001&user=0x19E7E376E7C213B7E7e7e46cc70A5dD086DAff2A"
    text += "&signer=0x19E7E376E7C213B7E7e7e46cc70A5dD086DAff2A"
    assert aster_signing._typed_signature(text, "0x" + "11" * 32) == (
        "0x71905bfc9a72b7448dc2bcce4e6883f25837a3fbed6622fa862382a8f368077f"
        "5b037aefc254d6bff9b4f5926b59dd8e517c012e754be9e75d6395e7572409291b"
    )


@pytest.mark.skipif(importlib.util.find_spec("eth_account") is None, reason="eth-account is not installed")
def test_invalid_private_key_is_rejected_without_showing_it() -> None:
    with pytest.raises(LoginError) as refused:
        aster_signing._typed_signature("a=1", "0xplanted")
    assert "planted" not in str(refused.value)
    assert refused.value.__cause__ is None


# --- the listenKey ------------------------------------------------------------------------------------------------


def test_listen_key_is_part_of_the_url() -> None:
    result = login({"listenKey": LISTEN_KEY}).result
    assert result.url == f"wss://x/ws/{LISTEN_KEY}"
    assert result.renew_at_ns == NS + 30 * MINUTE_NS
    assert (result.hello, result.subscribe, result.must_confirm) == ((), (), False)


@pytest.mark.parametrize("key", [LISTEN_KEY, "another1"])
def test_changed_key_needs_a_new_connection(key: str) -> None:
    held, later_ns = login({"listenKey": LISTEN_KEY}).result, NS + 31 * MINUTE_NS
    steps = VENUE.renew(held, secrets_of(VENUE.secrets, **KEYS), later_ns)
    renewal = drive(steps, {"/fapi/v1/listenKey": {"listenKey": key}}).result
    assert renewal.must_reconnect is (key != LISTEN_KEY)
    assert renewal.login.url == f"wss://x/ws/{key}"
    assert renewal.login.renew_at_ns == later_ns + 30 * MINUTE_NS


def test_expired_key_is_reported() -> None:
    assert decode({"e": "listenKeyExpired", "E": MS}) == [Expired("the listenKey has expired")]


@pytest.mark.parametrize("answer", [{}, [], {"listenKey": 5}, {"listenKey": ""}, {"listenKey": "a/../b"}, b"<html>"])
def test_an_answer_without_a_listen_key_is_malformed(answer: Any) -> None:
    with pytest.raises(DecodeError):
        login([answer])


@pytest.mark.parametrize(
    ("code", "reason", "says"),
    [
        (-1021, Reason.AUTH_FAILED, "clock"),
        (-1022, Reason.AUTH_FAILED, "signature"),
        (-2014, Reason.AUTH_FAILED, "form"),
        (-2015, Reason.AUTH_FAILED, "key"),
        (-1003, Reason.RATE_LIMITED, "listenKey"),
        (-1000, Reason.REFUSED, "listenKey"),
    ],
)
def test_refused_credentials_are_explained_in_our_words(code: int, reason: Reason, says: str) -> None:
    text = f"venue text {SECRET}" if reason is Reason.AUTH_FAILED else "venue text"
    with pytest.raises(LoginError) as refused:
        login({"code": code, "msg": text})
    assert refused.value.reason is reason
    assert refused.value.what.startswith(f"{code}: ")
    assert says in refused.value.what
    assert SECRET not in refused.value.what


# --- orders and fills ---------------------------------------------------------------------------------------------


def test_an_order() -> None:
    assert decode(update()) == [
        Order(
            *HEAD,
            NS,
            "desk",
            "8886774123",
            "desk-1",
            "sell",
            "81000.0",
            "0.010",
            "0",
            "open",
            "NEW",
            "LIMIT",
            True,
        )
    ]


@pytest.mark.parametrize(
    ("word", "kind", "status"),
    [
        ("NEW", "LIMIT", "open"),
        ("NEW", "STOP_MARKET", "untriggered"),
        ("NEW", "TRAILING_STOP_MARKET", "untriggered"),
        ("PARTIALLY_FILLED", "STOP", "open"),
        ("FILLED", "MARKET", "filled"),
        ("CANCELED", "LIMIT", "canceled"),
        ("REJECTED", "LIMIT", "rejected"),
        ("EXPIRED", "LIMIT", "expired"),
        ("EXPIRED_IN_MATCH", "LIMIT", "expired"),
        ("NEW_ADL", "LIMIT", "open"),
        ("A_NEW_WORD", "LIMIT", "open"),
    ],
)
def test_states_of_orders(word: str, kind: str, status: str) -> None:
    (event,) = decode(update(X=word, o=kind))
    assert (event.status, event.venue_status, event.order_type) == (status, word, kind)


def test_an_order_without_a_price_or_a_client_id() -> None:
    (event,) = decode(update(p="0", o="MARKET", c=""))
    assert (event.price, event.client_id) == (None, None)


def test_a_fill_comes_before_the_order_that_it_made() -> None:
    fill, order = decode(
        update(
            x="TRADE",
            X="PARTIALLY_FILLED",
            l="0.004",
            z="0.006",
            L="81000.5",
            t=128_884_613,
            n="0.11",
            N="USDT",
            m=True,
        )
    )
    assert fill == Fill(
        *HEAD,
        NS,
        "desk",
        "BTCUSDT:128884613",
        "8886774123",
        "sell",
        "81000.5",
        "0.004",
        "0.11",
        "USDT",
        "maker",
    )
    assert (order.filled, order.status) == ("0.006", "open")


def test_fills_of_two_markets_with_one_number_are_two() -> None:
    fills = [decode(update(s=symbol, x="TRADE", l="1", L="2", t=7))[0] for symbol in ("BTCUSDT", "ETHUSDT")]
    assert [fill.fill_id for fill in fills] == ["BTCUSDT:7", "ETHUSDT:7"]


@pytest.mark.parametrize(
    ("client_id", "kind"), [("autoclose-159610762", "liquidation"), ("adl_autoclose", "adl"), ("desk", "trade")]
)
def test_the_venues_own_orders_are_known_by_their_client_ids(client_id: str, kind: str) -> None:
    fill, _ = decode(update(c=client_id, x="CALCULATED", l="0.010", L="1", t=9))
    assert fill.fill_type == kind


def test_a_liquidation_that_filled_nothing_yet_is_no_fill() -> None:
    assert [type(item) for item in decode(update(x="CALCULATED", X="NEW_INSURANCE"))] == [Order]


# --- balances, positions, payments --------------------------------------------------------------------------------


def test_balances_and_positions_that_changed() -> None:
    assert decode(changed(B=[balance()], P=[leg()])) == [
        Balance("aster", None, None, NS, "desk", "USDT", "1000.50000000", None),
        Position(*HEAD, NS, "desk", "-0.010", "81000.50000", None, "-1.25", None, "cross"),
    ]


def test_a_flat_position_has_no_entry() -> None:
    (event,) = decode(changed(P=[leg(pa="0", ep="0.00000", up="0", mt="isolated")]))
    assert (event.size, event.entry_price, event.margin_mode) == ("0", None, "isolated")


def net_after(*items: Any) -> list[tuple[str | None, str]]:
    """The positions that legs lead to."""
    ledger = Ledger()
    for item in items:
        assert ledger.apply(item) is None
    return [(net.venue_symbol, net.size) for net in ledger.nets() if isinstance(net, Position)]


def test_long_and_short_of_a_market_are_legs_whose_sum_counts() -> None:
    legs = [leg(pa="0", ep="0", ps="BOTH"), leg(pa="20", up="2.5", ps="LONG"), leg(pa="-10.5", up="-1", ps="SHORT")]
    items = decode(changed(P=legs))
    assert [(item.name, item.position.size) for item in items] == [("both", "0"), ("long", "20"), ("short", "-10.5")]
    assert net_after(*items) == [("BTCUSDT", "9.5")]


def test_single_leg_gives_no_sum() -> None:
    items = decode(changed(P=[leg(pa="0", ep="0", ps="BOTH"), leg(pa="20.000", ep="5.00", ps="LONG")]))
    assert net_after(*items) == []


def test_a_whole_position_beside_the_legs_of_another_market_is_whole() -> None:
    items = decode(changed(P=[leg(pa="1", ps="LONG"), leg(pa="2", s="ETHUSDT")]))
    assert [type(item) for item in items] == [Leg, Position]


def test_funding_is_a_payment_of_the_asset_and_names_an_isolated_market() -> None:
    balance_, payment = decode(changed("FUNDING_FEE", B=[balance(bc="-1.5")]))
    assert isinstance(balance_, Balance)
    payment_id = f"{MS}::USDT:-1.5:1000.50000000"
    assert payment == Payment("aster", None, None, NS, "desk", payment_id, "USDT", "-1.5", "funding")
    *_, isolated = decode(changed("FUNDING_FEE", B=[balance(bc="0.25")], P=[leg()]))
    payment_id = f"{MS}:BTCUSDT:USDT:0.25:1000.50000000"
    assert isolated == Payment(*HEAD, NS, "desk", payment_id, "USDT", "0.25", "funding")


def test_payments_for_two_cross_positions_at_one_moment_are_two() -> None:
    """They come in a frame each, and neither says for which market it is."""
    paid = [("-1.5", "999.00000000"), ("-1.5", "997.50000000"), ("0.25", "997.75000000")]
    frames = [changed("FUNDING_FEE", B=[balance(bc=change, wb=wallet)]) for change, wallet in paid]
    ledger = Ledger()
    found = [item for frame in frames for item in decode(frame) if isinstance(item, Payment) and ledger.apply(item)]
    assert [payment.amount for payment in found] == ["-1.5", "-1.5", "0.25"]


def test_only_funding_is_a_payment() -> None:
    items = decode(changed("ORDER", B=[balance(bc="-1.5")])) + decode(changed("FUNDING_FEE", B=[balance()]))
    assert not any(isinstance(item, Payment) for item in items)


def test_market_that_is_not_followed_is_named_too() -> None:
    (event,) = decode(changed(P=[leg(s="1000PEPEUSDT")]), {})
    assert (event.symbol, event.venue_symbol) == ("PEPE-PERP", "1000PEPEUSDT")


# --- other frames -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "message",
    [
        {"e": "MARGIN_CALL", "E": MS, "cw": "3", "p": []},
        {"e": "ACCOUNT_CONFIG_UPDATE", "E": MS, "T": MS, "ac": {"s": "BTCUSDT", "l": 25}},
        {"e": "announcement", "en": "text", "zh": "text"},
        {"result": None, "id": 3},
    ],
)
def test_irrelevant_frames_decode_to_nothing(message: Any) -> None:
    assert decode(message) == []


def test_errors_on_the_stream() -> None:
    assert decode({"code": 2, "msg": "bad request"}) == [Refused("2: bad request", reason=Reason.REFUSED)]
    (refused,) = decode({"code": -1125, "msg": f"This listenKey {LISTEN_KEY} does not exist."})
    assert refused.reason is Reason.AUTH_FAILED
    assert LISTEN_KEY not in refused.text


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{}",
        b"5",
        b'{"e":"ORDER_TRADE_UPDATE"}',
        b'{"e":"ACCOUNT_UPDATE","a":{"P":{}}}',
        b"[" * 100_000,
        b'{"e":"\xff"}',
    ],
)
def test_malformed_frames_are_refused(body: bytes) -> None:
    with pytest.raises(DecodeError):
        VENUE.decode(memoryview(body), False, MARKETS, "desk")


def test_an_empty_text_in_place_of_a_number_is_none() -> None:
    fill, _ = decode(update(x="TRADE", l="1", L="2", n=""))
    assert fill.fee is None


@pytest.mark.parametrize("write", [float, str])
def test_ids_and_times_may_be_written_otherwise(write: Any) -> None:
    fill, order = decode(update(x="TRADE", l="1", L="2", i=write(500_000_001), t=write(7), T=write(MS)))
    assert (fill.order_id, fill.fill_id, fill.exchange_ns) == ("500000001", "BTCUSDT:7", NS)
    assert order.order_id == "500000001"


@pytest.mark.parametrize(
    ("message", "valid"),
    [
        (changed(B=[balance(wb=None), balance(), 5], P=[leg(), {"s": "BTCUSDT"}]), [Balance, Position]),
        (changed(P=[leg(ep="zero"), leg(s="ETHUSDT"), leg(ps="NEITHER")]), [Position]),
        (changed("FUNDING_FEE", B=[balance(bc="much"), balance(bc="1")]), [Balance, Balance, Payment]),
        (update(p="free", x="TRADE", l="0.004", L="81000.5", t=7), [Fill]),
        (update(x="TRADE", l="0.004", L="81000.5", t="seven"), [Order]),
    ],
)
def test_an_invalid_row_costs_itself_alone(message: Any, valid: list[type]) -> None:
    items = decode(message)
    assert [type(item) for item in items if not isinstance(item, InvalidRow)] == valid
    assert {item.what for item in items if isinstance(item, InvalidRow)} == {message["e"]}


def test_numbers_may_be_written_as_numbers() -> None:
    body = json.dumps(changed(B=[balance(wb=1000.5)], P=[leg(pa=-1, ep=81000.25, up=0)])).encode()
    wallet, position = VENUE.decode(body, False, MARKETS, "desk")
    assert isinstance(wallet, Balance)
    assert isinstance(position, Position)
    assert (wallet.total, position.size, position.entry_price) == ("1000.5", "-1", "81000.25")
    fill, order = decode(update(x="TRADE", X="FILLED", l=0.01, z=0.01, q=0.01, L=81000, t=7, p=0))
    assert (fill.price, fill.size, order.status, order.price) == ("81000", "0.01", "filled", None)


@pytest.mark.parametrize("word", ["NEW_ADL", "NEW_INSURANCE", "CANCELED", "A_NEW_WORD"])
def test_filled_size_has_precedence_over_the_status(word: str) -> None:
    (event,) = decode(update(X=word, z="0.010"))
    assert (event.status, event.venue_status) == ("filled", word)


@pytest.mark.parametrize(
    ("changes", "kind"),
    [
        ({"c": "adl_autoclose_17"}, "adl"),
        ({"c": "desk", "X": "NEW_ADL"}, "adl"),
        ({"c": "desk", "X": "NEW_INSURANCE"}, "liquidation"),
        ({"c": "desk", "o": "LIQUIDATION"}, "liquidation"),
        ({"c": "settlement_autoclose-5"}, "settlement"),
    ],
)
def test_the_venues_own_orders_are_known_by_state_and_type_too(changes: dict[str, Any], kind: str) -> None:
    fill, _ = decode(update(**{"x": "CALCULATED", "l": "0.010", "L": "1", "t": 9, **changes}))
    assert fill.fill_type == kind


@given(gone_wrong(FRAMES))
@settings(max_examples=300, deadline=None)
def test_nothing_but_decode_errors_comes_of_mutated_frames(body: bytes) -> None:
    with contextlib.suppress(DecodeError):
        VENUE.decode(memoryview(body), False, MARKETS, "desk")


# --- REST ---------------------------------------------------------------------------------------------------------


def test_the_whole_account() -> None:
    course = snapshot(answers())
    assert course.paths() == list(answers())
    assert course.result.open_orders == {"20072994001"}
    found = course.result.events
    assert [type(event) for event in found] == [Fill, Order, Order, Position, Balance, Margin]
    assert [event.status for event in found if isinstance(event, Order)] == ["open", "canceled"]
    assert all(event.snapshot for event in found)
    assert found[0].fill_id == "BTCUSDT:7"
    assert (found[0].fee, found[0].liquidity) == ("0.02600000", "maker")
    assert found[3] == Position(
        *HEAD, NS, "desk", "0.010", "65000.0", "66000.0", "10.00", None, "isolated", snapshot=True
    )
    assert found[4] == Balance("aster", None, None, NS, "desk", "USDT", "1000.5", "900", snapshot=True)
    assert found[5] == Margin("aster", None, None, None, "desk", "1010.5", "900", "32", "16", snapshot=True)


def test_a_fill_by_rest_has_the_id_that_the_stream_gave_it() -> None:
    pushed, _ = decode(update(x="TRADE", l="0.001", L="65000.0", t=7))
    found, *_ = snapshot(answers()).result.events
    assert pushed.fill_id == found.fill_id


def test_a_fill_by_rest_is_of_the_kind_of_its_order() -> None:
    orders = (row(orderId=5, clientOrderId="autoclose-1", status="FILLED"),)
    found = answers(**{"/fapi/v1/userTrades": (traded(7, orderId=5), traded(8)), "/fapi/v1/allOrders": orders})
    kinds = [event.fill_type for event in snapshot(found).result.events if isinstance(event, Fill)]
    assert kinds == ["liquidation", "trade"]


def test_markets_queried_are_followed_or_held_or_traded_or_have_open_orders() -> None:
    found = answers(
        **{
            "/fapi/v1/openOrders": (row(symbol="OPENUSDT"),),
            "/fapi/v2/positionRisk": (
                risk(symbol="HELDUSDT", updateTime=0),
                risk(symbol="TRADEDUSDT", positionAmt="0.0", updateTime=MS),
                risk(symbol="OLDUSDT", positionAmt="0.0", updateTime=MS - 5000),
            ),
            "/fapi/v1/userTrades": (),
            "/fapi/v1/allOrders": (),
        }
    )
    course = snapshot(found)
    asked = [course.query(n)["symbol"] for n, path in enumerate(course.paths()) if path.endswith("userTrades")]
    assert asked == ["BTCUSDT", "HELDUSDT", "OPENUSDT", "TRADEDUSDT"]


def test_market_unknown_to_the_venue_does_not_affect_other_markets() -> None:
    unknown = {"code": -1121, "msg": "Invalid symbol."}
    held = (risk(), risk(symbol="+20"), risk(symbol="AUSDT"))
    found = answers(**{"/fapi/v2/positionRisk": held, "/fapi/v1/userTrades": [unknown, [traded(7)]]})
    found["/fapi/v1/allOrders"] = [unknown, [row(orderId=5, status="CANCELED", executedQty="0.001")]]
    course = snapshot(found)
    asked = [course.query(n)["symbol"] for n, path in enumerate(course.paths()) if path.endswith("userTrades")]
    assert asked == ["AUSDT", "BTCUSDT"]
    assert [event.fill_id for event in course.result.events if isinstance(event, Fill)] == ["BTCUSDT:7"]
    assert len(course.result.invalid) == 3


def test_a_market_may_have_a_name_in_any_script() -> None:
    course = snapshot(answers(**{"/fapi/v2/positionRisk": (risk(symbol="\u5e01USDT"),)}))
    assert not course.result.invalid


def test_without_a_list_of_markets_those_in_the_answers_are_queried() -> None:
    class Nameless:
        def get(self, _wire: str, /) -> None:
            return None

    course = snapshot(answers(**{"/fapi/v1/openOrders": (), "/fapi/v2/positionRisk": ()}), Nameless())
    assert course.paths() == [path for path in answers() if not path.endswith(("userTrades", "allOrders"))]


def test_fills_are_requested_by_page_from_a_time_and_then_from_a_trade() -> None:
    full = [traded(number) for number in range(1000)]
    course = snapshot(answers(**{"/fapi/v1/userTrades": [full, [traded(1000), traded(1001)]]}))
    fills = [event for event in course.result.events if isinstance(event, Fill)]
    assert len(fills) == 1002
    pages = [course.query(number) for number in (2, 3)]
    assert (pages[0]["startTime"], pages[0]["limit"]) == (str(MS - 1000), "1000")
    assert (pages[1]["fromId"], "startTime" in pages[1]) == ("1000", False)


def test_fills_are_read_in_fifty_pages_of_a_thousand() -> None:
    pages = [[traded(1000 * page + number) for number in range(1000)] for page in range(60)]
    course = snapshot(answers(**{"/fapi/v1/userTrades": pages}))
    requests = [course.query(n) for n, path in enumerate(course.paths()) if path.endswith("userTrades")]
    assert len(requests) == 50
    assert {query["limit"] for query in requests} == {"1000"}


def test_weights_and_limits_of_the_requests() -> None:
    course = snapshot(answers())
    weights = {path.rpartition("/")[2]: course.requests[n].weight for n, path in enumerate(course.paths())}
    assert weights == {"openOrders": 40, "positionRisk": 5, "userTrades": 5, "allOrders": 5, "balance": 5, "account": 5}
    (limit,) = {course.query(n)["limit"] for n, path in enumerate(course.paths()) if path.endswith("allOrders")}
    assert limit == "100"


def test_account_is_pinged_every_15_s() -> None:
    assert VENUE.keepalive == Keepalive(interval_s=15.0, ping=None, pong_within_s=10.0)


def test_fill_whose_side_of_the_book_is_unknown_has_no_liquidity() -> None:
    bare = {key: value for key, value in traded(7).items() if key != "maker"}
    (fill,) = [
        event
        for event in snapshot(answers(**{"/fapi/v1/userTrades": (bare,)})).result.events
        if isinstance(event, Fill)
    ]
    assert fill.liquidity is None


def test_page_without_new_rows_is_the_last() -> None:
    full = [traded(number) for number in range(1000)]
    course = snapshot(answers(**{"/fapi/v1/userTrades": tuple(full)}))
    assert course.paths().count("/fapi/v1/userTrades") == 2


def test_fills_are_requested_for_less_than_a_week() -> None:
    course = snapshot(answers(), since_ms=0)
    start_ms = int(course.query(2)["startTime"])
    assert 0 < start_ms - (MS - 7 * 86_400_000) < 3_600_000


def test_an_order_that_opened_meanwhile_is_left_to_the_stream() -> None:
    course = snapshot(answers(**{"/fapi/v1/openOrders": ()}))
    assert course.result.open_orders == frozenset()
    assert [event.order_id for event in course.result.events if isinstance(event, Order)] == ["5"]


@pytest.mark.parametrize("path", list(answers()))
@pytest.mark.parametrize("body", [b"", b"<html>", b'{"x":', b"7", b"null"])
def test_malformed_answers_are_refused(path: str, body: bytes) -> None:
    with pytest.raises(DecodeError):
        snapshot(answers(**{path: body}))


@pytest.mark.parametrize("path", list(answers()))
def test_an_error_in_place_of_an_answer(path: str) -> None:
    with pytest.raises(LoginError, match="-1022") as refused:
        snapshot(answers(**{path: {"code": -1022, "msg": "Signature for this request is not valid."}}))
    assert refused.value.reason is Reason.AUTH_FAILED


def test_invalid_row_is_left_out_and_its_list_covers_nothing() -> None:
    course = snapshot(
        answers(
            **{
                "/fapi/v1/openOrders": (row(orderId=8), row(status=5)),
                "/fapi/v2/positionRisk": (risk(), risk(positionAmt="many"), []),
                "/fapi/v1/userTrades": (traded(7), 5),
                "/fapi/v1/allOrders": (row(orderId=5, status="CANCELED"), row(price="free")),
                "/fapi/v2/balance": ({"asset": "USDT"},),
                "/fapi/v4/account": ACCOUNT | {"availableBalance": []},
            }
        )
    )
    found = course.result
    assert [row.what for row in found.invalid] == [
        "openOrders",
        "positionRisk",
        "positionRisk",
        "userTrades",
        "allOrders",
        "balance",
        "account",
    ]
    assert [type(event) for event in found.events] == [Fill, Order, Order, Position]
    assert found.open_orders == {"8"}
    assert [covers("BTCUSDT") for covers in (found.orders_of, found.positions_of, found.balances_of)] == [False] * 3
    whole = snapshot(answers()).result
    assert [covers("BTCUSDT") for covers in (whole.orders_of, whole.positions_of, whole.balances_of)] == [True] * 3


def test_legs_of_a_hedged_market_are_distinct_by_rest() -> None:
    legs = (
        risk(positionAmt="0", positionSide="BOTH"),
        risk(positionAmt="20", positionSide="LONG"),
        risk(positionAmt="-10", positionSide="SHORT", liquidationPrice="-5"),
        risk(symbol="ETHUSDT", positionAmt="3"),
    )
    found = snapshot(answers(**{"/fapi/v2/positionRisk": legs})).result.events
    held = [event for event in found if isinstance(event, Leg)]
    assert [(one.name, one.position.size) for one in held] == [("long", "20"), ("short", "-10")]
    assert held[1].position.liquidation_price is None
    assert [event.venue_symbol for event in found if isinstance(event, Position)] == ["ETHUSDT"]


def test_self_trade_is_two_fills() -> None:
    found = snapshot(answers(**{"/fapi/v1/userTrades": (traded(7), traded(7, side="SELL"))})).result.events
    ledger = Ledger()
    fills = [ledger.apply(event) for event in found if isinstance(event, Fill)]
    assert [(fill.fill_id, fill.side) for fill in fills if isinstance(fill, Fill)] == [
        ("BTCUSDT:7", "buy"),
        ("BTCUSDT:7", "sell"),
    ]
    pushed = [decode(update(x="TRADE", l="1", L="2", t=7, S=side))[0] for side in ("SELL", "BUY")]
    assert [ledger.apply(fill) for fill in pushed] == [None, None]


def test_wallet_without_authorisation_is_reported() -> None:
    with pytest.raises(LoginError, match="ASTER_USER") as refused:
        login({"code": -1000, "msg": "No agent found"})
    assert refused.value.reason is Reason.AUTH_FAILED


def test_secrets_are_never_shown() -> None:
    shown = repr(login({"listenKey": LISTEN_KEY}).result) + repr(signer_of(secrets_of(VENUE.secrets, **KEYS)))
    shown += "".join(map(repr, snapshot(answers()).requests))
    assert KEY not in shown
    assert SECRET not in shown
    assert LISTEN_KEY not in shown
    assert WALLET["ASTER_SIGNER_KEY"] not in repr(signer_of(secrets_of(WALLET_SECRETS, **WALLET)))
