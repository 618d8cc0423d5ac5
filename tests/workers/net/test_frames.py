"""Frames from bytes: the same messages as another reader of RFC 6455 makes of them, however the bytes are cut."""

from __future__ import annotations

import contextlib
import itertools
import socket

import pytest
import websocket
from hypothesis import given, settings
from hypothesis import strategies as st
from peers import frame

from ipc.errors import DecodeError
from workers.net.frames import BINARY, CLOSE, PING, PONG, TEXT, FrameReader

MAX = 10_000_000
CONTINUATION = 0


def feed(reader, data):
    """Let a reader have bytes as reads of a socket would give them; copies of the frames that came of it."""
    frames = []
    while data:
        space = reader.space()
        size = min(len(space), len(data))
        space[:size] = data[:size]
        frames += [(opcode, bytes(payload)) for opcode, payload in reader.frames(size)]
        data = data[size:]
    return frames


# --- beside websocket-client --------------------------------------------------------------------------------------

sizes = st.one_of(st.integers(0, 300), st.sampled_from([125, 126, 127, 65_535, 65_536, 70_000]))
payloads = st.builds(lambda size, seed: (seed * size)[:size], sizes, st.binary(min_size=1, max_size=8))
controls = st.tuples(st.sampled_from([PING, PONG]), st.binary(max_size=125)).map(lambda one: frame(*one))


@st.composite
def messages(draw):
    """The frames of one message: whole or in fragments, with control frames between them."""
    opcode = draw(st.sampled_from([TEXT, BINARY]))
    pieces = draw(st.lists(payloads, min_size=1, max_size=4))
    sent = b""
    for number, piece in enumerate(pieces):
        is_last = number == len(pieces) - 1
        sent += frame(opcode if number == 0 else CONTINUATION, piece, final=is_last)
        if not is_last:
            sent += b"".join(draw(st.lists(controls, max_size=2)))
    return sent


@st.composite
def streams(draw, most):
    """What a server may send, as up to about ``most`` bytes."""
    sent = b""
    for part in draw(st.lists(st.one_of(messages(), controls), max_size=6)):
        if len(sent) + len(part) < most:
            sent += part
    return sent + draw(st.sampled_from([b"", frame(CLOSE, b""), frame(CLOSE, b"\x03\xe8good bye")]))


def read_by_the_library(sent):
    """The messages and control frames that websocket-client makes of ``sent``."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        client = websocket.WebSocket(skip_utf8_validation=True)
        client.sock, client.connected = ours, True
        theirs.sendall(sent)
        theirs.shutdown(socket.SHUT_WR)
        frames = []
        with contextlib.suppress(websocket.WebSocketConnectionClosedException):
            while not frames or frames[-1][0] != CLOSE:
                opcode, message = client.recv_data_frame(control_frame=True)
                frames.append((opcode, message.data))
        return frames


@given(sent=streams(150_000), cuts=st.lists(st.floats(0, 1), max_size=8))
@settings(max_examples=150)
def test_frames_are_those_that_another_reader_finds_wherever_the_bytes_are_cut(sent, cuts):
    reader = FrameReader(MAX)
    places = [0, *sorted(int(cut * len(sent)) for cut in cuts), len(sent)]
    frames = []
    for start, end in itertools.pairwise(places):
        frames += feed(reader, sent[start:end])
    assert frames == read_by_the_library(sent)
    assert not reader.is_within_frame


@given(sent=streams(2000))
@settings(max_examples=30)
def test_frames_are_the_same_byte_by_byte(sent):
    reader = FrameReader(MAX)
    frames = [one for at in range(len(sent)) for one in feed(reader, sent[at : at + 1])]
    assert frames == feed(FrameReader(MAX), sent)


# --- messages -----------------------------------------------------------------------------------------------------


def test_frame_that_is_not_whole_waits_for_the_rest():
    reader, sent = FrameReader(MAX), frame(TEXT, b"hello")
    assert feed(reader, sent[:-1]) == []
    assert reader.is_within_frame
    assert feed(reader, sent[-1:]) == [(TEXT, b"hello")]
    assert not reader.is_within_frame


def test_fragments_make_one_message_of_the_first_ones_kind():
    reader = FrameReader(MAX)
    assert feed(reader, frame(BINARY, b"one ", final=False)) == []
    assert feed(reader, frame(CONTINUATION, b"two ", final=False)) == []
    assert reader.is_within_frame
    assert feed(reader, frame(CONTINUATION, b"three")) == [(BINARY, b"one two three")]
    assert not reader.is_within_frame


def test_control_frame_between_fragments_comes_at_once():
    reader = FrameReader(MAX)
    sent = frame(TEXT, b"a", final=False) + frame(PING, b"?") + frame(CONTINUATION, b"b")
    assert feed(reader, sent) == [(PING, b"?"), (TEXT, b"ab")]


def test_message_that_begins_after_a_fragmented_one_is_separate():
    reader = FrameReader(MAX)
    sent = frame(TEXT, b"a", final=False) + frame(CONTINUATION, b"b") + frame(TEXT, b"c")
    assert feed(reader, sent) == [(TEXT, b"ab"), (TEXT, b"c")]


def test_close_frame_is_given_with_its_payload():
    assert feed(FrameReader(MAX), frame(CLOSE, b"\x03\xe9bye")) == [(CLOSE, b"\x03\xe9bye")]


def test_empty_message():
    assert feed(FrameReader(MAX), frame(TEXT, b"")) == [(TEXT, b"")]


def test_message_at_the_limit_is_taken():
    assert feed(FrameReader(1000), frame(TEXT, b"x" * 1000)) == [(TEXT, b"x" * 1000)]
    sent = frame(TEXT, b"x" * 600, final=False) + frame(CONTINUATION, b"y" * 400)
    assert feed(FrameReader(1000), sent) == [(TEXT, b"x" * 600 + b"y" * 400)]


# --- refusals -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("sent", "what"),
    [
        (frame(TEXT, b"short", mask=b"\0\0\0\0"), "masked"),
        (frame(TEXT, b"x" * 200, mask=b"\0\0\0\0"), "masked"),
        (frame(TEXT, b"x" * 70_000, mask=b"\0\0\0\0"), "masked"),
        (frame(TEXT, b"compressed?", reserved=4), "reserved"),
        (frame(BINARY, b"x", reserved=2), "reserved"),
        (frame(PING, b"x", reserved=1), "reserved"),
        (frame(CONTINUATION, b"stray"), "opcode 0"),
        (frame(CONTINUATION, b"stray", final=False), "opcode 0"),
        (frame(TEXT, b"a", final=False) + frame(TEXT, b"nested"), "opcode 1"),
        (frame(TEXT, b"a", final=False) + frame(BINARY, b"nested", final=False), "opcode 2"),
        (frame(PING, b"half", final=False), "control frame"),
        (frame(CLOSE, b"", final=False), "control frame"),
        (frame(PONG, b"x" * 126), "control frame"),
        *[(frame(opcode, b""), f"opcode {opcode}") for opcode in (3, 4, 5, 6, 7, 0xB, 0xC, 0xD, 0xE, 0xF)],
    ],
)
def test_what_a_server_must_not_send_is_refused(sent, what):
    with pytest.raises(DecodeError, match=what):
        feed(FrameReader(MAX), sent)


@pytest.mark.parametrize("size", [1001, 65_535, 65_536, 2**40, 2**63, 2**64 - 1])
def test_frame_over_the_limit_is_refused_by_its_head_alone(size):
    head = (
        bytes([0x82, 126]) + size.to_bytes(2, "big") if size < 65_536 else bytes([0x82, 127]) + size.to_bytes(8, "big")
    )
    with pytest.raises(DecodeError, match="over the limit of 1000"):
        feed(FrameReader(1000), head)


def test_fragments_that_together_exceed_the_limit_are_refused():
    reader = FrameReader(1000)
    feed(reader, frame(TEXT, b"x" * 900, final=False))
    with pytest.raises(DecodeError, match="over 1000"):
        feed(reader, frame(CONTINUATION, b"y" * 101, final=False))


# --- the buffer ---------------------------------------------------------------------------------------------------


def test_all_frames_of_one_read_are_valid_views_together():
    reader = FrameReader(MAX)
    sent = b"".join(frame(TEXT, b"%04d" % number) for number in range(500))
    reader.space()[: len(sent)] = sent
    frames = reader.frames(len(sent))
    assert all(isinstance(payload, memoryview) for _, payload in frames)
    assert [bytes(payload) for _, payload in frames] == [b"%04d" % number for number in range(500)]


def test_views_still_held_do_not_hinder_a_larger_buffer():
    reader = FrameReader(MAX)
    sent = frame(TEXT, b"first") + frame(BINARY, b"z" * 400_000)
    reader.space()[:60_000] = sent[:60_000]
    held = reader.frames(60_000)
    assert feed(reader, sent[60_000:]) == [(BINARY, b"z" * 400_000)]
    del held


def test_there_is_always_room_for_a_large_read():
    reader = FrameReader(MAX)
    sent = frame(BINARY, b"q" * 900_000)
    for start in range(0, len(sent), 7_001):
        space = reader.space()
        assert len(space) >= 65_536
        piece = sent[start : start + 7_001]
        space[: len(piece)] = piece
        frames = reader.frames(len(piece))
    assert [(opcode, len(payload)) for opcode, payload in frames] == [(BINARY, 900_000)]


def test_buffer_grows_for_a_huge_message_and_is_given_back():
    reader = FrameReader(MAX)
    usual = len(reader.space())
    payload = bytes(range(256)) * 20_000
    assert feed(reader, frame(BINARY, payload)) == [(BINARY, payload)]
    assert len(reader._buffer) > len(payload)
    assert len(reader.space()) == usual
    assert len(reader._buffer) == usual


def test_buffer_of_a_moderate_message_is_kept():
    reader = FrameReader(MAX)
    usual = len(reader.space())
    feed(reader, frame(BINARY, b"x" * 300_000))
    assert usual < len(reader.space()) <= 1_048_576
