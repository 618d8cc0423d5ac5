from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ipc.codec import decode, encode
from ipc.errors import DecodeError
from supervisor.journal.format import (
    Header,
    decode_header,
    encode_header,
    prefix_of,
    publisher_of,
    stamp_of,
    topic_of,
)


def test_an_event_keeps_its_bytes_behind_its_topic(say):
    event = say.snapshot()
    line = prefix_of(b"book.lighter.BTC-PERP") + encode(event)[1:]
    assert line == b'{"topic":"book.lighter.BTC-PERP",' + encode(event)[1:]
    assert json.loads(line) == {"topic": "book.lighter.BTC-PERP", **json.loads(encode(event))}
    assert decode(line) == event


def test_the_topic_of_a_line(say):
    payload = encode(say.trade(1))
    assert topic_of(prefix_of(b"trade.lighter.BTC-PERP") + payload[1:]) == "trade.lighter.BTC-PERP"


def test_a_line_that_another_program_laid_out_has_its_topic_too():
    assert topic_of(b'{ "seq": 1, "topic": "mark.aster.ETH-PERP" }') == "mark.aster.ETH-PERP"


@pytest.mark.parametrize(
    "line", [b"", b"{}", b"null", b'{"topic":7}', b'{"topic":"\xff"}', b'{"topic":"no end', b"[" * 100_000]
)
def test_a_line_without_a_topic_is_refused(line):
    with pytest.raises(DecodeError):
        topic_of(line)


@given(st.binary(max_size=60))
def test_rubbish_is_refused_or_has_a_topic(line):
    for candidate in (line, b'{"topic":"' + line):
        try:
            assert isinstance(topic_of(candidate), str)
        except DecodeError:
            continue


def test_who_sends_a_topic():
    assert publisher_of("book.lighter.BTC-PERP") == "lighter"
    assert publisher_of("heartbeat.aster") == "aster"
    assert publisher_of("lifecycle.aster") == "lifecycle"
    with pytest.raises(ValueError):
        publisher_of("nothing")


def test_a_header_comes_back():
    header = Header(version="1", recording="x", file=3, created_wall_ns=5, config={"aster": {"symbols": ["BTC-PERP"]}})
    line = encode_header(header)
    assert line.startswith(b'{"journal":1,"schema":1,')
    assert line.endswith(b"}\n")
    assert decode_header(line) == header


@pytest.mark.parametrize("line", [b"", b"{}", b'{"raw":"header","venue":"aster"}', b"\xff", b"[" * 100_000])
def test_what_is_no_header_is_none(line):
    assert decode_header(line) is None


def test_a_format_of_the_future_is_refused():
    with pytest.raises(DecodeError, match="format 2"):
        decode_header(b'{"journal":2}')
    with pytest.raises(DecodeError, match="not the header"):
        decode_header(b'{"journal":1,"config":[]}')


def test_a_stamp_names_a_moment_and_sorts():
    assert stamp_of(1_785_499_200_123_456_789) == "20260731T120000.123Z"
    assert stamp_of(1_785_499_200_999_000_000) < stamp_of(1_785_499_201_000_000_000)
