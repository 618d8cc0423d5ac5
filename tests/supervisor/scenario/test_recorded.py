"""Recordings as scenarios: they give the same events, and nothing private is in them."""

from __future__ import annotations

import json
import re

import msgspec
import pytest

from ipc.codec import encode
from ipc.errors import UsageError
from ipc.events import BookSnapshot
from ipc.raw import RawHeader
from supervisor.journal.blackbox import RawRecording
from supervisor.journal.offline_decode import offline_decode
from supervisor.scenario.form import parse
from supervisor.scenario.hiding import Hiding
from supervisor.scenario.player import play
from supervisor.scenario.recorded import scenario_of

BIDS, ASKS = [("99", "1")], [("100", "1")]
TOPIC = "book.lighter.BTC-PERP"


def recording(script):
    return RawRecording(script.head, script.records)


def played(script):
    return play(parse(scenario_of(recording(script), {}).encode(), "recorded.json"), "recorded.json")


@pytest.fixture
def tape(raw_script):
    """A book, a lost update, an answer of REST, an end, and the book again."""
    raw_script.add("open", b"ws://x").book("subscribed", 0, 10, BIDS, ASKS).book("update", 10, 11, [("99.5", "2")])
    raw_script.add("out", b'{"type": "subscribe"}').book("update", 13, 14, [("99.5", "3")])
    raw_script.book("subscribed", 0, 15, BIDS, ASKS)
    body = {
        "code": 200,
        "total_asks": 1,
        "asks": [{"order_index": 1, "price": "100", "remaining_base_amount": "1"}],
        "total_bids": 1,
        "bids": [{"order_index": 2, "price": "99", "remaining_base_amount": "1"}],
    }
    more = {"symbol": "BTC-PERP", "purpose": "compare"}
    raw_script.add("rest", msgspec.json.encode(body), **more)
    raw_script.add("rest", b"", symbol="BTC-PERP", purpose="compare", reason="read_timeout")
    raw_script.add("close", b"server_close").add("open", b"ws://x").book("subscribed", 0, 20, BIDS, ASKS)
    return raw_script.add("in", b"no json").add("in", b"\x00\xff", is_binary=True)


def test_it_gives_the_events_that_the_recording_gives(tape):
    wanted = [
        (topic, event.__struct_config__.tag, getattr(event, "reason", None) or getattr(event, "cause", None))
        for topic, event in offline_decode(recording(tape))
    ]
    lines = [line for line in played(tape).lines if line.get("topic") == TOPIC]
    assert [(line["topic"], line["kind"], line.get("reason") or line.get("cause")) for line in lines] == wanted
    assert [line["kind"] for line in lines].count("gap") == 2


def test_frames_stay_as_they_were(raw_script):
    frame = b'{"channel": "order_book:1",  "x": 1E-7, "y": 8.0}'
    text = scenario_of(recording(raw_script.add("in", frame)), {})
    assert frame.decode() in text


def test_a_recording_may_begin_in_the_middle(raw_script):
    listed = ("lighter", "BTC-PERP", "BTC", None)
    snapshot = BookSnapshot(*listed, BIDS, ASKS, None, 10, "refresh")
    raw_script.add("book", encode(snapshot)).book("update", 10, 11, [("99.5", "2")])
    lines = played(raw_script).lines
    assert [line["kind"] for line in lines if line.get("topic") == TOPIC] == ["book_snapshot", "book_delta"]


def test_one_step_a_line(tape):
    text = scenario_of(recording(tape), {})
    steps = text.split('"steps": [\n')[1].splitlines()[:-2]
    assert all(json.loads(step.removesuffix(",")) for step in steps)
    assert json.loads(text)["scenario"] == 1


@pytest.mark.parametrize("head", [RawHeader(venue="unheard", listings=[{}]), RawHeader(venue="lighter")])
def test_what_cannot_become_one_is_said_so(raw_script, head):
    with pytest.raises(UsageError, match="cannot be played"):
        scenario_of(RawRecording(head, raw_script.frame({}).records), {})


# --- privacy --------------------------------------------------------------------------------------------------------

JWT = "eyJhbGciOiJFUzI1NiJ9.eyJzdWIiOiJwbGFudGVkIn0.cGxhbnRlZC1zaWduYXR1cmU"
ADDRESS = "0xDeadBeef00112233445566778899aabbccddeeff"
STARK = "0x49d36570d4e46f48e99674bd3fcc84644ddd6b96f7c741b1562b82f9e004dc7"
LISTEN = "pqia91ma19a5s61cv6a81va65sdf19v8a65a1a5s61cv6a81va65sdf19v8a65a1"
SIGNATURE = "c8db56825ae71d6d79447849e617115f4a920fa2acdcab2b053c4b2838bd6b71"
READ_ONLY = "ro:281474977:single:1799999999:0badc0ffee0badc0ffee0badc0ffee00"
SIGNED = "1799999999:281474977:3:0badc0ffee11223344556677"
PLANTED = (
    JWT,
    ADDRESS,
    STARK,
    LISTEN,
    SIGNATURE,
    READ_ONLY,
    SIGNED,
    "281474977",
    "hunter2hunter2",
    "K3y-short",
    "planted",
)
PLACES = [
    {"type": "subscribe", "channel": "x", "auth": READ_ONLY},
    {"type": "subscribe", "channel": "account_all/281474977", "auth": SIGNED},
    {"channel": "account_all_trades:281474977", "ask_account_id": 281474977, "bid_account_id": "281474977"},
    {"method": "auth", "params": {"bearer": JWT}},
    {"headers": {"X-Api-Key": "K3y-short", "Authorization": f"Bearer {JWT}", "Cookie": "session=planted"}},
    {"headers": ["X-Api-Key: K3y-short", f"authorization: Bearer {JWT}", "X-MBX-APIKEY: hunter2hunter2"]},
    {"url": f"wss://planted:hunter2hunter2@venue.test/ws/{LISTEN}?listenKey={LISTEN}"},
    {"path": f"/fapi/v3/openOrders?timestamp=1&signature={SIGNATURE}&user={ADDRESS}&apiKey=K3y-short"},
    {"path": "/api/v1/account?by=index&value=281474977", "other": "/accounts/281474977/orders"},
    {"path": f"https%3A%2F%2Fv%2Fws%3FlistenKey%3D{LISTEN}%26x"},
    {"users": [ADDRESS, STARK], "user": ADDRESS, "vaultAddress": ADDRESS, "account_index": 281474977},
    {"error": f"bad request for {ADDRESS} and {STARK}, signature {SIGNATURE}"},
    {"text": json.dumps({"listenKey": "K3y-short", "account": 281474977, "sig": SIGNATURE})},
    {"type": "error", "text": "X-Api-Key: K3y-short"},
    {"nothing": "names K3y-short here"},
    {"error": "account 281474977 and user #281474977 may not, nor 0badc0ffee/0badc0ffee+0badc0ffeeplanted=="},
    {"uid": "planted", "email": "planted@venue.test", "ip": "planted", "mnemonic": "planted hunter2hunter2"},
]


def plant(raw_script):
    for place in PLACES:
        raw_script.frame(place)
        raw_script.frame(place, session="account")
        raw_script.add("out", json.dumps(place).encode())
        raw_script.add("rest", json.dumps(place).encode(), symbol="BTC-PERP", purpose="compare")
        raw_script.add("in", b"\x00\x01" + json.dumps(place).encode(), is_binary=True)
        raw_script.add("in", b"text " + json.dumps(place).encode())
    raw_script.add("open", f"wss://venue.test/ws/{LISTEN}?token={JWT}".encode())
    raw_script.head.options["token"] = JWT
    raw_script.head.options["encoding"] = "K3y-short"
    return raw_script


@pytest.mark.parametrize("secret", PLANTED)
def test_planted_secrets_are_nowhere(raw_script, secret):
    text = scenario_of(recording(plant(raw_script)), {})
    blobs = b"".join(
        msgspec.json.decode(f'"{found}"'.encode(), type=bytes) for found in re.findall(r'"base64": "([^"]*)"', text)
    )
    assert secret not in text
    assert secret.encode() not in blobs
    parse(text.encode(), "planted.json")


def test_credentials_of_this_machine_are_nowhere(raw_script):
    environ = {"HL_VAULT_ADDRESS": "plain-words-only", "EXTENDED_API_KEY": "another_one"}
    raw_script.frame({"a": "plain-words-only and another_one"}).add("in", b"plain-words-only", is_binary=True)
    text = scenario_of(recording(raw_script), environ)
    assert "plain-words-only" not in text
    assert "another_one" not in text


def test_what_the_market_does_stays(raw_script):
    frame = {
        "channel": "trade:1",
        "trades": [{"trade_id": 27101428094, "size": "0.010", "price": "60000.1", "timestamp": 1790000123456}],
        "feeToken": "USDC",
        "markets": ["BTC-USD-PERP", "1000PEPE", "xyz:TSLA"],
        "type": "subscribed/order_book",
    }
    assert Hiding().text(json.dumps(frame)) == json.dumps(frame)


def test_stand_ins_are_of_the_same_type_and_the_same_wherever_they_come():
    hiding = Hiding()
    one = json.loads(hiding.text(json.dumps({"account_id": 99, "user": ADDRESS, "token": "abcdefghijklm"})))
    other = json.loads(hiding.text(json.dumps({"ask_account_id": 99, "owner": ADDRESS, "channel": "account_all:99"})))
    assert isinstance(one["account_id"], int)
    assert re.fullmatch("0x[0-9a-f]{40}", one["user"])
    assert one["token"].startswith("hidden-")
    assert (other["ask_account_id"], other["owner"]) == (one["account_id"], one["user"])
    assert other["channel"] == f"account_all:{one['account_id']}"


@pytest.mark.parametrize("unit", ["1", "a1", '"', "\\", '\\"', "[", "a=", "a: ", "account", "%3D", "0x", '"a": [1, '])
def test_long_frames_take_no_long_time(unit):
    text = '{"user": [' + unit * 20_000
    assert len(Hiding().text(text)) > 0
