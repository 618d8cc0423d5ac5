"""``decode``: frames of the test's own in, events or complaints out, and nothing stops it."""

from __future__ import annotations

import base64
import io
import json
import struct
import sys

import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from supervisor.verbs.decode import decode

STAMPS = {"epoch", "seq", "recv_ns", "recv_mono_ns", "publish_ns"}


def sbe_book():
    """A Paradex book in binary: one bid, one ask, in units of 1e-8."""
    block = struct.pack("<qqB9q", 1_700_000_000_000_000, 7, 0, *[0] * 9)
    sides = b"".join(struct.pack("<HHqq", 16, 1, price * 10**8, 5 * 10**7) for price in (64_000, 64_001))
    market = b"BTC-USD-PERP"
    return struct.pack("<HHHH", len(block), 3, 1, 1) + block + sides + bytes([len(market)]) + market


def wire(frame):
    return json.dumps(frame, separators=(",", ":"))


def extended_book(kind, depth, bid):
    data = {"t": kind, "m": "BTC-USD", "b": [bid], "a": [{"q": "2", "p": "64001", "c": "2"}], "d": depth}
    return wire({"type": kind, "data": data, "ts": 1_700_000_000_000, "seq": 1})


T_MS = 1_700_000_000_000
#: Good frames of each venue, and the kinds of the events in them.
GOOD = {
    "hyperliquid": [
        (
            wire(
                {
                    "channel": "trades",
                    "data": [{"coin": "BTC", "side": "B", "px": "64000.0", "sz": "0.5", "time": T_MS, "tid": 11}],
                }
            ),
            ["trade"],
        ),
        (
            wire(
                {
                    "channel": "bbo",
                    "data": {"coin": "ETH", "time": T_MS, "bbo": [{"px": "3000.1", "sz": "2", "n": 1}, None]},
                }
            ),
            ["bbo"],
        ),
        (wire({"channel": "pong"}), []),
    ],
    "aster": [
        (
            wire(
                {"e": "depthUpdate", "E": T_MS, "T": T_MS, "s": "BTCUSDT", "U": 5, "u": 9, "pu": 4}
                | {"b": [["64000.1", "0.500"]], "a": [["64001.0", "0"]]}
            ),
            ["book_delta"],
        ),
        (
            wire(
                {
                    "stream": "btcusdt@aggTrade",
                    "data": {
                        "e": "aggTrade",
                        "E": 1,
                        "s": "BTCUSDT",
                        "a": 3,
                        "p": "64000",
                        "q": "1",
                        "T": 1,
                        "m": True,
                    },
                }
            ),
            ["trade"],
        ),
    ],
    "extended": [
        (extended_book("SNAPSHOT", "f", {"q": "1", "p": "64000"}), ["book_snapshot"]),
        (extended_book("SNAPSHOT", "1", {"q": "1", "p": "64000"}), ["bbo"]),
        (extended_book("DELTA", "f", {"q": "-1", "p": "64000", "c": "0"}), ["book_delta"]),
    ],
    "lighter": [
        (
            wire(
                {
                    "channel": "trade:1",
                    "trades": [
                        {"trade_id": 5, "size": "0.1", "price": "64000.5", "is_maker_ask": True, "timestamp": T_MS}
                    ],
                    "type": "update/trade",
                }
            ),
            ["trade"],
        ),
    ],
    "paradex": [
        (
            wire(
                {
                    "jsonrpc": "2.0",
                    "method": "subscription",
                    "params": {
                        "channel": "trades.BTC-USD-PERP",
                        "data": {"id": "17", "market": "BTC-USD-PERP", "side": "SELL", "size": "0.02", "price": "64000"}
                        | {"created_at": T_MS, "trade_type": "FILL"},
                    },
                }
            ),
            ["trade"],
        ),
        (f"base64:{base64.b64encode(sbe_book()).decode()}", ["book_snapshot"]),
    ],
}
FRAMES = [(venue, frame, kinds) for venue, frames in GOOD.items() for frame, kinds in frames]


@pytest.fixture
def run(cli, monkeypatch):
    """Decode standard input: text or bytes."""

    def run(venue, given, *arguments):
        data = given if isinstance(given, bytes) else given.encode()
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(data)))
        return cli("decode", "--venue", venue, *arguments)

    return run


def events(ran):
    return [json.loads(line) for line in ran.out.splitlines()]


# --- good frames ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("venue", "frame", "kinds"), FRAMES)
def test_a_frame_gives_its_events(run, venue, frame, kinds):
    ran = run(venue, frame + "\n")
    assert (ran.code, ran.err) == (0, "")
    assert [event["kind"] for event in events(ran)] == kinds
    assert all(event["venue"] == venue for event in events(ran))


@pytest.mark.parametrize(("venue", "frame", "kinds"), FRAMES)
def test_events_carry_no_stamp_of_a_running_system(run, venue, frame, kinds):
    for event in events(run(venue, frame)):
        assert not STAMPS & set(event)
        assert event["schema"] == 1


def test_fields_are_as_the_venue_wrote_them(run):
    (event,) = events(run("hyperliquid", GOOD["hyperliquid"][0][0]))
    expected = {"price": "64000.0", "size": "0.5", "side": "buy", "trade_id": "11", "symbol": "BTC-PERP"}
    assert {key: event[key] for key in expected} == expected
    assert (event["venue_symbol"], event["exchange_ns"]) == ("BTC", 1_700_000_000_000_000_000)


def test_a_binary_frame(run):
    (event,) = events(run("paradex", GOOD["paradex"][1][0]))
    assert (event["symbol"], event["venue_seq"]) == ("BTC-PERP", 7)
    assert (event["bids"], event["asks"]) == ([["64000", "0.5"]], [["64001", "0.5"]])


def test_a_market_that_cannot_be_named_offline_keeps_the_venues_id(run):
    (event,) = events(run("lighter", GOOD["lighter"][0][0]))
    assert (event["symbol"], event["venue_symbol"]) == (None, "1")


def test_a_raw_depth_update_is_a_delta(run):
    (event,) = events(run("aster", GOOD["aster"][0][0]))
    assert (event["kind"], event["venue_seq"], event["prev_venue_seq"]) == ("book_delta", 9, 4)
    assert event["asks"] == [["64001.0", "0"]]


def test_several_frames_in_their_order(run):
    frames = [frame for frame, _ in GOOD["extended"]]
    ran = run("extended", "\n".join(frames))
    assert [event["kind"] for event in events(ran)] == ["book_snapshot", "bbo", "book_delta"]


def test_frames_are_taken_each_by_itself(run):
    """A delta without its snapshot, twice, and then an older one."""
    delta = GOOD["aster"][0][0]
    older = delta.replace('"u":9', '"u":8')
    ran = run("aster", f"{delta}\n{delta}\n{older}\n")
    assert (ran.code, len(events(ran))) == (0, 3)


# --- where frames come from -------------------------------------------------------------------------------------------


def test_from_a_file(cli, tmp_path):
    (tmp_path / "frames").write_text(GOOD["lighter"][0][0] + "\n")
    ran = cli("decode", "--venue", "lighter", tmp_path / "frames")
    assert (ran.code, len(events(ran))) == (0, 1)


def test_a_dash_is_standard_input(run):
    assert len(events(run("lighter", GOOD["lighter"][0][0], "-"))) == 1


def test_a_missing_file_is_a_usage_error(cli, tmp_path):
    ran = cli("decode", "--venue", "lighter", tmp_path / "none")
    assert ran.code == 2
    assert "No such file or directory" in ran.err


def test_an_unknown_venue_is_a_usage_error(run):
    ran = run("binance", "{}")
    assert (ran.code, ran.out) == (2, "")
    assert "unknown venue 'binance'" in ran.err
    assert "hyperliquid, aster, extended, lighter, paradex" in ran.err


@pytest.mark.parametrize("given", ["", "\n", "  \n\r\n\t\n"])
def test_nothing_gives_nothing(run, given):
    ran = run("lighter", given)
    assert (ran.code, ran.out, ran.err) == (0, "", "")


def test_windows_line_ends_and_no_line_end_at_the_end(run):
    frame = GOOD["lighter"][0][0]
    assert len(events(run("lighter", f"{frame}\r\n  {frame}  \r\n{frame}"))) == 3


# --- bad frames -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("venue", GOOD)
@pytest.mark.parametrize(
    "line",
    [
        b"garbage",
        b'{"channel":"trades","data":',
        b"\xff\xfe\x00",
        b'"\xf0\x28\x8c\x28"',
        b"{" * 100_000,
        b"[" * 100_000,
        b"base64:!!!",
        b"base64:AAA",
        b"base64:AAEC",
        b"base64:" + b"/" * 4000,
        b"NaN",
    ],
    ids=[
        "garbage",
        "torn",
        "no text",
        "bad utf-8",
        "deep",
        "deeper",
        "no base64",
        "torn base64",
        "short",
        "long",
        "nan",
    ],
)
def test_a_bad_line_is_reported_with_its_number_and_the_rest_goes_on(run, venue, line):
    frame, kinds = GOOD[venue][0]
    ran = run(venue, b"\n".join([frame.encode(), b"", line, frame.encode()]))
    assert ran.code == 1
    assert [event["kind"] for event in events(ran)] == kinds * 2
    (complaint,) = ran.err.splitlines()
    assert complaint.startswith("line 3: ")
    assert len(complaint) > len("line 3: ")


def test_base64_with_something_else_in_it_is_reported_and_not_cleaned(run):
    good = GOOD["paradex"][1][0]
    assert run("paradex", good).code == 0
    ran = run("paradex", f"{good[:20]}!{good[20:]}")
    assert (ran.code, ran.out) == (1, "")
    assert ran.err.startswith("line 1: not base64")


def test_an_invalid_row_is_reported_and_its_neighbours_are_printed(run):
    good = json.loads(GOOD["hyperliquid"][0][0])
    row = good["data"][0]
    good["data"] = [row, {**row, "side": "sideways"}, {**row, "px": "-5"}, {**row, "tid": 12}]
    ran = run("hyperliquid", json.dumps(good))
    assert ran.code == 1
    assert [json.loads(line)["trade_id"] for line in ran.out.splitlines()] == ["11", "12"]
    assert [line[:15] for line in ran.err.splitlines()] == ["line 1: trades:", "line 1: price '"]


@pytest.mark.parametrize("price", ["abc", "", None, 5, "-1", "0"])
def test_a_book_with_an_invalid_level_is_reported_and_not_printed(run, price):
    levels = [[{"px": "64000.0", "sz": "1", "n": 1}, {"px": price, "sz": "1", "n": 1}], []]
    frame = {"channel": "l2Book", "data": {"coin": "BTC", "time": T_MS, "levels": levels}}
    ran = run("hyperliquid", json.dumps(frame))
    assert (ran.code, ran.out) == (1, "")
    assert ran.err.startswith("line 1: ")


def test_a_relative_level_is_reported_and_not_guessed(run):
    ran = run("extended", extended_book("DELTA", "f", {"q": "-1", "p": "64000"}))
    assert (ran.code, ran.out) == (1, "")
    assert "line 1: a level says only how much it changed" in ran.err


def test_several_bad_lines_have_each_its_number(run):
    frame = GOOD["lighter"][0][0]
    ran = run("lighter", f"x\n{frame}\ny\n\nz\n")
    assert [line.split(":")[0] for line in ran.err.splitlines()] == ["line 1", "line 3", "line 5"]
    assert (ran.code, len(events(ran))) == (1, 1)


def mutated(venue):
    """Good frames of a venue with something in them replaced, and lines of bytes."""
    values = st.recursive(
        st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats() | st.text(max_size=8),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
        max_leaves=5,
    )

    def replaced(draw, node):
        if isinstance(node, dict) and node and draw(st.booleans()):
            key = draw(st.sampled_from(sorted(node)))
            return {**node, key: replaced(draw, node[key])}
        if isinstance(node, list) and node and draw(st.booleans()):
            index = draw(st.integers(0, len(node) - 1))
            return [*node[:index], replaced(draw, node[index]), *node[index + 1 :]]
        return draw(values)

    texts = [json.loads(frame) for frame, _ in GOOD[venue] if not frame.startswith("base64:")]

    @st.composite
    def frame(draw):
        return json.dumps(replaced(draw, draw(st.sampled_from(texts)))).encode()

    def torn(binary):
        return b"base64:" + base64.b64encode(binary)

    lines = st.binary(max_size=40).map(lambda line: line.replace(b"\n", b" ").replace(b"\r", b" "))
    binaries = st.binary(max_size=60) | st.integers(0, len(sbe_book())).map(lambda end: sbe_book()[:end])
    return frame() | lines | binaries.map(torn)


@pytest.mark.parametrize("venue", GOOD)
def test_whatever_comes_it_goes_on_to_the_last_line(venue):
    last, kinds = GOOD[venue][0]

    @given(st.lists(mutated(venue), max_size=8))
    def check(lines):
        given_bytes = b"\n".join([*lines, last.encode()])
        done = CliRunner().invoke(decode, ["--venue", venue], input=given_bytes, standalone_mode=False)
        assert done.exception is None, done.exception
        printed = [json.loads(line) for line in done.stdout.splitlines()]
        assert [event["kind"] for event in printed[len(printed) - len(kinds) :]] == kinds
        complaints = done.stderr.splitlines()
        assert done.return_value == (1 if complaints else 0)
        assert len({line.split(":")[0] for line in complaints if line.startswith("line ")}) <= len(lines)

    check()
