from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ipc.errors import DecodeError
from ipc.raw import FORMAT, RawHeader, RawRecord, decode_line, encode_line, make

KINDS = st.sampled_from(["open", "in", "out", "rest", "close"])
TIMES = st.integers(0, 2**63)


@given(
    kind=KINDS,
    session=st.text(max_size=10),
    mono_ns=TIMES,
    wall_ns=TIMES,
    payload=st.binary(max_size=200),
    binary=st.booleans(),
)
def test_payload_survives_its_line(
    kind, session: str, mono_ns: int, wall_ns: int, payload: bytes, *, binary: bool
) -> None:
    line = encode_line(make(kind, session, mono_ns, wall_ns, payload, is_binary=binary))
    assert line.endswith(b"\n")
    assert line.count(b"\n") == 1
    read = decode_line(line)
    assert isinstance(read, RawRecord)
    assert read.payload == payload
    assert (read.kind, read.session, read.mono_ns, read.wall_ns) == (kind, session, mono_ns, wall_ns)


def test_text_stands_in_its_line_as_it_is() -> None:
    record = make("in", "public", 1, 2, '{"price":"1","ä":"\n"}'.encode())
    assert not record.is_binary
    assert json.loads(encode_line(record)) == {
        "raw": "record",
        "kind": "in",
        "session": "public",
        "mono_ns": 1,
        "wall_ns": 2,
        "text": '{"price":"1","ä":"\n"}',
    }


def test_binary_frame_stands_in_base64() -> None:
    record = make("in", "public", 1, 2, b"abc", is_binary=True)
    assert record.is_binary
    assert (record.b64, record.text) == ("YWJj", None)


def test_text_that_is_no_utf8_is_kept_as_binary_so_that_nothing_is_lost() -> None:
    record = make("in", "public", 1, 2, b'"\xff"')
    assert record.is_binary
    assert record.payload == b'"\xff"'


def test_empty_frames_are_distinguished() -> None:
    assert (make("in", "s", 1, 2, b"").is_binary, make("in", "s", 1, 2, b"", is_binary=True).is_binary) == (False, True)


def test_answer_of_rest_says_whose_book_it_is() -> None:
    record = make("rest", "public", 1, 2, b"{}", symbol="BTC-PERP", purpose="resync", reason=None)
    read = decode_line(encode_line(record))
    assert isinstance(read, RawRecord)
    assert (read.symbol, read.purpose, read.reason) == ("BTC-PERP", "resync", None)


def test_header_survives_its_line() -> None:
    header = RawHeader(
        venue="lighter", version="0.1.0", created_wall_ns=5, reason="no_book", options={"a": "b"}, listings=[{"x": 1}]
    )
    line = encode_line(header)
    assert json.loads(line)["raw"] == "header"
    assert json.loads(line)["format"] == FORMAT == 1
    assert decode_line(line) == header


@pytest.mark.parametrize(
    "line",
    [
        b"",
        b"{}",
        b'{"raw":"footer"}',
        b'{"raw":"header"}',
        b'{"raw":"record","kind":"in"}',
        b'{"raw":"record","kind":"seen","session":"s","mono_ns":1,"wall_ns":2}',
        b'{"raw":"header","venue":"\xff"}',
        b'{"raw":"header","venue":"x","listings":[{"a":' + b"[" * 200_000,
        b'{"raw":"record","kind":"in","session":"s","mono_ns":1,"wall_',
    ],
    ids=lambda line: line[:40].decode("latin-1"),
)
def test_what_is_no_record_is_a_decode_error(line: bytes) -> None:
    with pytest.raises(DecodeError, match="not a raw record"):
        decode_line(line)


def test_record_whose_binary_is_no_base64_is_a_decode_error() -> None:
    with pytest.raises(DecodeError):
        _ = decode_line(b'{"raw":"record","kind":"in","session":"s","mono_ns":1,"wall_ns":2,"b64":"YWJ"}').payload  # type: ignore[union-attr]
