from __future__ import annotations

import json
from typing import Any, get_args

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ipc.codec import decode, encode, json_schema
from ipc.errors import DecodeError
from ipc.events import (
    AnyEvent,
    Balance,
    Bbo,
    BookDelta,
    BookSnapshot,
    Event,
    Fill,
    Funding,
    Gap,
    Heartbeat,
    HeartbeatBook,
    Instrument,
    Lifecycle,
    Liquidation,
    Margin,
    Mark,
    Order,
    Payment,
    Position,
    Status,
    Trade,
)
from ipc.health import Reason, Stream, StreamState

KINDS: tuple[type[Event], ...] = get_args(AnyEvent)
WORDS = st.text(max_size=12)
#: What fits the 64-bit integers of other languages.
INTEGERS = st.integers(min_value=-(2**63), max_value=2**64 - 1)
FLOATS = st.floats(allow_nan=False, allow_infinity=False)


def values_of(kind: Any) -> st.SearchStrategy[Any]:
    """Any value that a field of this type may hold."""
    if kind in {int, float, str}:
        return {int: INTEGERS, float: FLOATS, str: WORDS}[kind]
    if kind is HeartbeatBook:
        return structs_of(HeartbeatBook)
    arguments = get_args(kind)
    origin = getattr(kind, "__origin__", None)
    if origin is list:
        return st.lists(values_of(arguments[0]), max_size=4)
    if origin is dict:
        return st.dictionaries(values_of(arguments[0]), values_of(arguments[1]), max_size=4)
    if origin is tuple and Ellipsis not in arguments:
        return st.tuples(*map(values_of, arguments))
    if origin is None and arguments:
        return st.one_of([values_of(argument) for argument in arguments])
    return st.from_type(kind)


def structs_of(kind: type) -> st.SearchStrategy[Any]:
    """Any struct of this kind, all fields filled."""
    fields = {field.name: values_of(field.type) for field in msgspec.structs.fields(kind)}
    return st.fixed_dictionaries(fields).map(lambda filled: kind(**filled))


any_event = st.one_of([structs_of(kind) for kind in KINDS])


def stamped(event: Event, *flags: str) -> Event:
    event.epoch, event.seq = 1700000000000000000, 42
    event.recv_ns, event.recv_mono_ns, event.publish_ns = 1700000000000000001, 5000000001, 1700000000000000002
    event.flags = flags  # type: ignore[assignment]
    return event


STAMPS = (
    b'"schema":1,"epoch":1700000000000000000,"seq":42,"recv_ns":1700000000000000001,'
    b'"recv_mono_ns":5000000001,"publish_ns":1700000000000000002,"flags":'
)
#: What the wire carries for one event of each kind. A change here breaks every consumer: it needs a new schema.
GOLDEN: list[tuple[Event, bytes]] = [
    (
        stamped(
            BookSnapshot("lighter", "BTC-PERP", "1", 1699999999999000000, [("82653.0", "0.50")], [], None, 9, "resync"),
            "refresh",
            "rest",
        ),
        b'{"kind":"book_snapshot","venue":"lighter","symbol":"BTC-PERP","venue_symbol":"1",'
        b'"exchange_ns":1699999999999000000,"bids":[["82653.0","0.50"]],"asks":[],"depth":null,"venue_seq":9,'
        b'"cause":"resync",' + STAMPS + b'["refresh","rest"]}',
    ),
    (
        stamped(BookDelta("aster", "BTC-PERP", "BTCUSDT", None, [("1", "0")], [("2.5", "3"), ("2.6", "4")], 9, 8, 7)),
        b'{"kind":"book_delta","venue":"aster","symbol":"BTC-PERP","venue_symbol":"BTCUSDT","exchange_ns":null,'
        b'"bids":[["1","0"]],"asks":[["2.5","3"],["2.6","4"]],"venue_seq":9,"prev_venue_seq":8,"first_venue_seq":7,'
        + STAMPS
        + b"[]}",
    ),
    (
        stamped(Gap("paradex", "ETH-PERP", "ETH-USD-PERP", None, "book", Reason.SEQ_GAP, 7, "eight", "resync")),
        b'{"kind":"gap","venue":"paradex","symbol":"ETH-PERP","venue_symbol":"ETH-USD-PERP","exchange_ns":null,'
        b'"scope":"book","reason":"seq_gap","expected":7,"got":"eight","action":"resync",' + STAMPS + b"[]}",
    ),
    (
        stamped(Bbo("extended", "BTC-PERP", "BTC-USD", 5, "1.0", "2", None, None)),
        b'{"kind":"bbo","venue":"extended","symbol":"BTC-PERP","venue_symbol":"BTC-USD","exchange_ns":5,'
        b'"bid_price":"1.0","bid_size":"2","ask_price":null,"ask_size":null,' + STAMPS + b"[]}",
    ),
    (
        stamped(Trade("hyperliquid", "BTC-PERP", "BTC", 5, "82653.5", "0.01", "sell", "77", "adl"), "backlog"),
        b'{"kind":"trade","venue":"hyperliquid","symbol":"BTC-PERP","venue_symbol":"BTC","exchange_ns":5,'
        b'"price":"82653.5","size":"0.01","side":"sell","trade_id":"77","trade_type":"adl",' + STAMPS + b'["backlog"]}',
    ),
    (
        stamped(Liquidation("aster", "BTC-PERP", "BTCUSDT", 5, "82653.5", "0.01", "buy", "78")),
        b'{"kind":"liquidation","venue":"aster","symbol":"BTC-PERP","venue_symbol":"BTCUSDT","exchange_ns":5,'
        b'"price":"82653.5","size":"0.01","side":"buy","trade_id":"78","trade_type":"liquidation",' + STAMPS + b"[]}",
    ),
    (
        stamped(Mark("hyperliquid", "PEPE-PERP", "kPEPE", None, "0.0125", "0.0124", "oracle", "1000", None)),
        b'{"kind":"mark","venue":"hyperliquid","symbol":"PEPE-PERP","venue_symbol":"kPEPE","exchange_ns":null,'
        b'"mark_price":"0.0125","index_price":"0.0124","index_kind":"oracle","open_interest":"1000",'
        b'"open_interest_notional":null,' + STAMPS + b"[]}",
    ),
    (
        stamped(
            Funding(
                "lighter",
                "BTC-PERP",
                "1",
                None,
                "0.000012",
                "0.0012",
                "percent_per_hour",
                3600,
                "0.000096000000",
                1700003600000000000,
                "predicted",
                "index",
                "rest",
                1700000000000000001,
            )
        ),
        b'{"kind":"funding","venue":"lighter","symbol":"BTC-PERP","venue_symbol":"1","exchange_ns":null,'
        b'"rate":"0.000012","rate_native":"0.0012","rate_unit":"percent_per_hour","interval_s":3600,'
        b'"rate_8h":"0.000096000000","next_funding_ns":1700003600000000000,"phase":"predicted",'
        b'"settlement_price_kind":"index","source":"rest","polled_ns":1700000000000000001,' + STAMPS + b"[]}",
    ),
    (
        stamped(
            Status(
                "lighter",
                None,
                None,
                None,
                Stream.BOOK,
                StreamState.BACKOFF,
                StreamState.LIVE,
                Reason.STALE_WATCHDOG,
                2,
                1.5,
                4711,
                {"BTC-PERP": 12000, "ETH-PERP": None},
            )
        ),
        b'{"kind":"status","venue":"lighter","symbol":null,"venue_symbol":null,"exchange_ns":null,'
        b'"stream":"book","state":"backoff","previous":"live","reason":"stale_watchdog","attempt":2,"backoff_s":1.5,'
        b'"pid":4711,"ages_ms":{"BTC-PERP":12000,"ETH-PERP":null},' + STAMPS + b"[]}",
    ),
    (
        stamped(
            Heartbeat(
                "paradex",
                None,
                None,
                None,
                {"book.paradex.BTC-PERP": 12},
                {"BTC-PERP": HeartbeatBook(12, 99, True, 3, 4294967295)},
                1,
                50000000,
            )
        ),
        b'{"kind":"heartbeat","venue":"paradex","symbol":null,"venue_symbol":null,"exchange_ns":null,'
        b'"seqs":{"book.paradex.BTC-PERP":12},'
        b'"books":{"BTC-PERP":{"seq":12,"venue_seq":99,"usable":true,"age_ms":3,"crc32_top10":4294967295}},'
        b'"drops":1,"rss_bytes":50000000,' + STAMPS + b"[]}",
    ),
    (
        stamped(
            Instrument(
                "aster", "PEPE-PERP", "1000PEPEUSDT", None, "0.0001", "1", "1", 1000, "USDT", None, 28800, "halted"
            )
        ),
        b'{"kind":"instrument","venue":"aster","symbol":"PEPE-PERP","venue_symbol":"1000PEPEUSDT","exchange_ns":null,'
        b'"tick":"0.0001","lot":"1","contract_size":"1","multiplier":1000,"quote":"USDT","market_id":null,'
        b'"funding_interval_s":28800,"status":"halted",' + STAMPS + b"[]}",
    ),
    (
        stamped(
            Order(
                "paradex",
                "BTC-PERP",
                "BTC-USD-PERP",
                5,
                "desk",
                "17",
                None,
                "sell",
                None,
                "1.5",
                "0.5",
                "open",
                "OPEN",
                "MARKET",
                True,
            ),
            "backlog",
        ),
        b'{"kind":"order","venue":"paradex","symbol":"BTC-PERP","venue_symbol":"BTC-USD-PERP","exchange_ns":5,'
        b'"account":"desk","order_id":"17","client_id":null,"side":"sell","price":null,"size":"1.5","filled":"0.5",'
        b'"status":"open","venue_status":"OPEN","order_type":"MARKET","reduce_only":true,"snapshot":false,'
        + STAMPS
        + b'["backlog"]}',
    ),
    (
        stamped(Fill("aster", "BTC-PERP", "BTCUSDT", 5, "desk", "9", "17", "buy", "1", "2", "-0.01", "USDT", "maker")),
        b'{"kind":"fill","venue":"aster","symbol":"BTC-PERP","venue_symbol":"BTCUSDT","exchange_ns":5,'
        b'"account":"desk","fill_id":"9","order_id":"17","side":"buy","price":"1","size":"2","fee":"-0.01",'
        b'"fee_asset":"USDT","liquidity":"maker","fill_type":"trade","snapshot":false,' + STAMPS + b"[]}",
    ),
    (
        stamped(
            Position("lighter", "BTC-PERP", "1", None, "desk", "-2", "100", "101", "-2.0", None, "cross", snapshot=True)
        ),
        b'{"kind":"position","venue":"lighter","symbol":"BTC-PERP","venue_symbol":"1","exchange_ns":null,'
        b'"account":"desk","size":"-2","entry_price":"100","mark_price":"101","unrealised_pnl":"-2.0",'
        b'"liquidation_price":null,"margin_mode":"cross","snapshot":true,' + STAMPS + b"[]}",
    ),
    (
        stamped(Balance("extended", None, None, 5, "desk", "USDC", "1000.5", None)),
        b'{"kind":"balance","venue":"extended","symbol":null,"venue_symbol":null,"exchange_ns":5,"account":"desk",'
        b'"asset":"USDC","total":"1000.5","available":null,"snapshot":false,' + STAMPS + b"[]}",
    ),
    (
        stamped(Margin("hyperliquid", None, None, 5, "desk", "1000", "900", None, "50")),
        b'{"kind":"margin","venue":"hyperliquid","symbol":null,"venue_symbol":null,"exchange_ns":5,"account":"desk",'
        b'"equity":"1000","available":"900","initial_margin":null,"maintenance_margin":"50","snapshot":false,'
        + STAMPS
        + b"[]}",
    ),
    (
        stamped(Payment("lighter", "BTC-PERP", "1", 5, "desk", "44", "USDC", "-0.25", "funding", "0.000012")),
        b'{"kind":"payment","venue":"lighter","symbol":"BTC-PERP","venue_symbol":"1","exchange_ns":5,'
        b'"account":"desk","payment_id":"44","asset":"USDC","amount":"-0.25","payment_type":"funding",'
        b'"rate":"0.000012","snapshot":false,' + STAMPS + b"[]}",
    ),
    (
        stamped(
            Lifecycle("lighter", None, None, None, "exited", Reason.CRASH, 4711, 3, None, "SIGSEGV", 2.0, 1, 2, 61.25),
            "refresh",
        ),
        b'{"kind":"lifecycle","venue":"lighter","symbol":null,"venue_symbol":null,"exchange_ns":null,'
        b'"event":"exited","reason":"crash","pid":4711,"generation":3,"exit_code":null,"signal":"SIGSEGV",'
        b'"delay_s":2.0,"failures":1,"restarts":2,"uptime_s":61.25,' + STAMPS + b'["refresh"]}',
    ),
]
golden = pytest.mark.parametrize(("event", "wire"), GOLDEN, ids=[type(event).__name__ for event, _ in GOLDEN])


def payload_of(kind: type[Event]) -> dict[str, Any]:
    return json.loads(next(wire for event, wire in GOLDEN if type(event) is kind))


# --- the wire -----------------------------------------------------------------------------------------------------


def test_there_are_golden_bytes_for_every_kind() -> None:
    assert {type(event) for event, _ in GOLDEN} == set(KINDS)


@golden
def test_wire_format_is_as_it_always_was(event: Event, wire: bytes) -> None:
    assert encode(event) == wire


@golden
def test_golden_bytes_are_read_back(event: Event, wire: bytes) -> None:
    read = decode(wire)
    assert type(read) is type(event)
    assert read == event


@given(any_event)
def test_every_event_survives_the_wire(event: Event) -> None:
    event.schema = 1
    read = decode(encode(event))
    assert type(read) is type(event)
    assert read == event


@given(any_event)
def test_payload_is_a_json_object_on_one_line_for_any_language(event: Event) -> None:
    wire = encode(event)
    assert b"\n" not in wire
    read = json.loads(wire.decode("utf-8"))
    assert read["kind"] == type(event).__struct_config__.tag
    assert read["epoch"] == event.epoch


@golden
def test_view_of_a_buffer_is_read_and_may_change_afterwards(event: Event, wire: bytes) -> None:
    buffer = bytearray(wire)
    with memoryview(buffer) as view:
        read = decode(view)
    buffer[:] = b"x" * len(buffer)
    assert read == event


# --- other versions -----------------------------------------------------------------------------------------------


@golden
@pytest.mark.parametrize("value", ["1", "null", '{"deep":[1,{"kind":"gap"}]}'])
def test_keys_that_are_not_known_are_ignored(event: Event, wire: bytes, value: str) -> None:
    unknown = f'"new_key":{value}'.encode()
    assert decode(b"{" + unknown + b"," + wire[1:]) == event
    assert decode(wire[:-1] + b"," + unknown + b"}") == event


def test_unknown_keys_inside_a_heartbeat_are_ignored() -> None:
    payload = payload_of(Heartbeat)
    payload["books"]["BTC-PERP"]["new_key"] = 1
    assert decode(json.dumps(payload).encode()) == next(event for event, _ in GOLDEN if type(event) is Heartbeat)


def test_stamps_may_be_missing() -> None:
    read = decode(
        b'{"kind":"trade","venue":"a","symbol":null,"venue_symbol":"x","exchange_ns":null,"price":"1",'
        b'"size":"2","side":"buy","trade_id":"3"}'
    )
    assert read is not None
    assert (read.schema, read.epoch, read.seq, read.flags) == (1, 0, 0, ())


@pytest.mark.parametrize("payload", [b'{"kind":"candle"}', b'{"open":1,"kind":"book_snapshot_2"}', b'{"kind":""}'])
def test_unknown_kind_is_not_for_this_reader(payload: bytes) -> None:
    assert decode(payload) is None


def test_event_of_another_schema_is_not_for_this_reader() -> None:
    assert decode(json.dumps({**payload_of(Trade), "schema": 2}).encode()) is None


# --- rubbish ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "payload",
    [
        b"",
        b"null",
        b"[]",
        b'"bbo"',
        b"{}",
        b'{"kind":7}',
        b'{"kind":null}',
        b'{"kind":"bbo"}',
        b'{"kind":"candle"',
        b'{"kind":"bbo","venue":"\xff"}',
        b"\xff\xfe",
        b'{"x":' + b"[" * 200_000,
        b'{"kind":"bbo","x":' + b"[" * 200_000,
    ],
    ids=lambda payload: payload[:20].decode("latin-1"),
)
def test_what_is_no_event_is_a_decode_error(payload: bytes) -> None:
    with pytest.raises(DecodeError, match="not an event"):
        decode(payload)


def assert_event_or_decode_error(payload: bytes) -> None:
    try:
        read = decode(payload)
    except DecodeError:
        return
    assert read is None or isinstance(read, Event)


@given(st.binary(max_size=200))
def test_garbage_raises_nothing_but_a_decode_error(payload: bytes) -> None:
    assert_event_or_decode_error(payload)


@given(any_event, st.data())
def test_damaged_event_raises_nothing_but_a_decode_error(event: Event, data: st.DataObject) -> None:
    wire = bytearray(encode(event))
    at = data.draw(st.integers(0, len(wire) - 1))
    wire[at : at + data.draw(st.integers(0, 4))] = data.draw(st.binary(max_size=4))
    assert_event_or_decode_error(bytes(wire))


@pytest.mark.parametrize(
    ("kind", "field", "value"),
    [
        (BookSnapshot, "bids", [["1", "2", "3"]]),
        (BookSnapshot, "bids", [["1"]]),
        (BookSnapshot, "bids", [[1, 2]]),
        (BookSnapshot, "bids", None),
        (BookSnapshot, "cause", "whim"),
        (BookDelta, "venue_seq", "9"),
        (Trade, "side", "both"),
        (Trade, "price", 82653.5),
        (Trade, "trade_id", 77),
        (Gap, "reason", "boredom"),
        (Bbo, "flags", ["fresh"]),
        (Bbo, "exchange_ns", 1.5),
        (Mark, "index_kind", "spot"),
        (Heartbeat, "books", {"BTC-PERP": {}}),
    ],
)
def test_field_of_another_type_or_word_is_a_decode_error(kind: type[Event], field: str, value: object) -> None:
    with pytest.raises(DecodeError):
        decode(json.dumps({**payload_of(kind), field: value}).encode())


# --- the JSON Schema ----------------------------------------------------------------------------------------------

ROOT = json_schema()
TYPES = {
    "object": dict,
    "array": list,
    "string": str,
    "boolean": bool,
    "null": type(None),
    "integer": int,
    "number": (int, float),
}
#: Keywords that say nothing about validity.
REMARKS = {"$schema", "$defs", "title", "description", "default", "discriminator"}


def is_valid(value: Any, schema: dict[str, Any] | bool) -> bool:  # noqa: FBT001
    """Whether ``value`` satisfies ``schema``: the keywords of JSON Schema 2020-12 that ours is made of."""
    if isinstance(schema, bool):
        return schema
    return all(satisfies(value, schema, keyword) for keyword in schema if keyword not in REMARKS)


def satisfies(value: Any, schema: dict[str, Any], keyword: str) -> bool:
    wanted = schema[keyword]
    match keyword:
        case "$ref":
            return is_valid(value, ROOT["$defs"][wanted.removeprefix("#/$defs/")])
        case "anyOf":
            return any(is_valid(value, choice) for choice in wanted)
        case "enum":
            return value in wanted
        case "type":
            return isinstance(value, TYPES[wanted]) and (wanted == "boolean" or not isinstance(value, bool))
        case "required":
            return all(key in value for key in wanted)
        case "properties":
            return all(is_valid(value[key], wanted[key]) for key in wanted if key in value)
        case "additionalProperties":
            others = [value[key] for key in value if key not in schema.get("properties", {})]
            return all(is_valid(other, wanted) for other in others)
        case "prefixItems":
            return all(map(is_valid, value, wanted))
        case "items":
            return all(is_valid(item, wanted) for item in value[len(schema.get("prefixItems", [])) :])
        case "minItems":
            return len(value) >= wanted
        case "maxItems":
            return len(value) <= wanted
    raise AssertionError(f"the check does not know the keyword {keyword}")


def test_schema_is_json_and_names_its_dialect() -> None:
    json.dumps(ROOT)
    assert ROOT["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    mapping = ROOT["discriminator"]["mapping"]
    assert set(mapping) == {kind.__struct_config__.tag for kind in KINDS}


@golden
def test_schema_accepts_golden_bytes_of_its_kind_only(event: Event, wire: bytes) -> None:
    value = json.loads(wire)
    accepting = [name for name in ROOT["$defs"] if is_valid(value, {"$ref": f"#/$defs/{name}"})]
    assert [name for name in accepting if name != "HeartbeatBook"] == [type(event).__name__]
    assert is_valid(value, ROOT)


@given(any_event)
def test_schema_accepts_every_event(event: Event) -> None:
    assert is_valid(json.loads(encode(event)), ROOT)


@pytest.mark.parametrize(
    ("kind", "field", "value"),
    [
        (BookSnapshot, "bids", [["1", "2", "3"]]),
        (BookSnapshot, "bids", [["1"]]),
        (BookSnapshot, "bids", [[1, 2]]),
        (BookSnapshot, "cause", "whim"),
        (Trade, "side", "both"),
        (Trade, "price", 82653.5),
        (Gap, "reason", "boredom"),
        (Bbo, "flags", ["fresh"]),
        (Heartbeat, "seqs", {"book.paradex.BTC-PERP": "12"}),
        (Trade, "kind", "candle"),
    ],
)
def test_schema_refuses_what_the_decoder_refuses(kind: type[Event], field: str, value: object) -> None:
    assert not is_valid({**payload_of(kind), field: value}, ROOT)


@golden
def test_schema_wants_every_field_of_a_kind(event: Event, wire: bytes) -> None:
    value = json.loads(wire)
    required = {field.name for field in msgspec.structs.fields(type(event)) if field.required} | {"kind"}
    for key in required:
        assert not is_valid({name: value[name] for name in value if name != key}, ROOT)


def test_schema_promises_the_envelope() -> None:
    stamps = {"schema", "epoch", "seq", "recv_ns", "recv_mono_ns", "publish_ns", "flags"}
    for kind in KINDS:
        assert stamps <= set(ROOT["$defs"][kind.__name__]["required"])
