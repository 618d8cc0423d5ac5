from __future__ import annotations

import errno
import os
import struct
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ipc.errors import DecodeError
from ipc.ring import BINARY, KINDS, Entry, Ring, read_ring

HEADER = 40
HALF = 65_536
#: Of a record beside its payload and note.
FRAME = 24


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "lighter.ring"


@pytest.fixture
def ring(path: Path) -> Iterator[Ring]:
    ring = Ring(path, 2 * HALF)
    yield ring
    ring.close()


def payloads(data: bytes) -> list[bytes]:
    return [entry.payload for entry in read_ring(data)]


def test_layout_is_as_readers_know_it(ring: Ring, path: Path) -> None:
    ring.put(1, 7, 11, 22, b"abc", b"BTC")
    content = path.read_bytes()
    assert content[:8] == b"paraphrg"
    assert struct.unpack_from("<QQQQ", content, 8) == (HALF, 0, FRAME + 6, 0)
    assert len(content) == HEADER + 2 * HALF
    assert content[HEADER : HEADER + FRAME] == struct.pack("<IBBHQQ", 3, 1, 7, 3, 11, 22)
    assert content[HEADER + FRAME : HEADER + FRAME + 6] == b"BTCabc"
    assert KINDS == ("open", "in", "out", "rest", "close", "book")


def test_new_ring_is_empty_private_and_alone(ring: Ring, path: Path) -> None:
    assert list(read_ring(path.read_bytes())) == []
    assert path.stat().st_mode & 0o777 == 0o600
    assert [entry.name for entry in path.parent.iterdir()] == [path.name]


def test_records_come_back_as_they_were_put(ring: Ring) -> None:
    ring.put(0, 1, 10, 20, b"wss://x")
    ring.put(1 | BINARY, 2, 11, 21, memoryview(b"\x00\xff"))
    ring.put(3, 1, 12, 22, b"", "BTC-PERP resync é".encode())
    assert list(read_ring(ring.snapshot())) == [
        Entry("open", False, 1, "", 10, 20, b"wss://x"),
        Entry("in", True, 2, "", 11, 21, b"\x00\xff"),
        Entry("rest", False, 1, "BTC-PERP resync é", 12, 22, b""),
    ]


def test_contents_outlive_their_writer(path: Path) -> None:
    ring = Ring(path, 0)
    ring.put(1, 1, 1, 1, b"last words")
    ring.close()
    assert payloads(path.read_bytes()) == [b"last words"]


def test_next_writer_starts_empty_and_leaves_readers_of_the_old_alone(ring: Ring, path: Path) -> None:
    ring.put(1, 1, 1, 1, b"old")
    Ring(path, 2 * HALF).close()
    assert payloads(path.read_bytes()) == []
    assert payloads(ring.snapshot()) == [b"old"]


def test_record_larger_than_a_half_is_cut(ring: Ring) -> None:
    ring.put(1, 1, 1, 1, b"first")
    ring.put(1, 1, 1, 1, b"x" * (HALF + 5), b"note")
    ring.put(1, 1, 1, 1, b"last")
    assert payloads(ring.snapshot()) == [b"x" * (HALF - FRAME - 4), b"last"]


def test_record_that_just_fits_is_whole(ring: Ring) -> None:
    ring.put(1, 1, 1, 1, b"x" * (HALF - FRAME))
    ring.put(1, 1, 1, 1, b"next")
    assert payloads(ring.snapshot()) == [b"x" * (HALF - FRAME), b"next"]


@settings(max_examples=40)
@given(sizes=st.lists(st.integers(0, 30_000), max_size=40))
def test_latest_records_are_there_in_order_between_half_and_all_of_the_room(tmp_path_factory, sizes: list[int]) -> None:
    ring = Ring(tmp_path_factory.mktemp("ring") / "ring", 2 * HALF)
    for number, size in enumerate(sizes):
        ring.put(1, 1, number, 0, b"x" * size)
    kept = list(read_ring(ring.snapshot()))
    ring.close()
    numbers = [entry.mono_ns for entry in kept]
    assert numbers == list(range(len(sizes) - len(kept), len(sizes)))
    assert [len(entry.payload) for entry in kept] == [sizes[number] for number in numbers]
    if len(kept) < len(sizes):
        used = sum(FRAME + len(entry.payload) for entry in kept)
        assert used + FRAME + sizes[numbers[0] - 1] > HALF


@settings(max_examples=40)
@given(sizes=st.lists(st.integers(0, 30_000), min_size=1, max_size=12))
def test_writer_that_dies_within_a_record_leaves_all_before_it(tmp_path_factory, sizes: list[int]) -> None:
    ring = Ring(tmp_path_factory.mktemp("ring") / "ring", 2 * HALF)
    for number, size in enumerate(sizes):
        before = ring.snapshot()
        ring.put(1, 1, number, 0, b"x" * size)
        after = ring.snapshot()
        if struct.unpack_from("<Q", before, 16) == struct.unpack_from("<Q", after, 16):
            # The bytes are there, the fill has not moved yet.
            assert list(read_ring(before[:HEADER] + after[HEADER:])) == list(read_ring(before))
    ring.close()


def test_writer_that_dies_while_it_turns_over_leaves_the_full_half(ring: Ring) -> None:
    for number in range(3):
        ring.put(1, 1, number, 0, b"x" * 30_000)
    before = bytearray(ring.snapshot())
    struct.pack_into("<Q", before, 24, 0)  # the other half is emptied, and not yet the one in use
    assert [entry.mono_ns for entry in read_ring(bytes(before))] == [2]


def test_writer_that_dies_within_the_first_record_of_a_half_leaves_nothing_stale(ring: Ring) -> None:
    for number in range(6):
        ring.put(1, 1, number, 0, b"x" * 30_000)
    with pytest.raises(TypeError):
        ring.put(1, 1, 6, 0, [0] * 30_000)  # type: ignore[arg-type] - no bytes: it fails behind the turn of the halves
    numbers = [entry.mono_ns for entry in read_ring(ring.snapshot())]
    assert numbers == [4, 5]


def spoilt(data: bytes, offset: int, form: str, value: int) -> bytes:
    content = bytearray(data)
    struct.pack_into(form, content, offset, value)
    return bytes(content)


@pytest.mark.parametrize(
    "spoil",
    [
        lambda _: b"",
        lambda data: data[:39],
        lambda data: data[:-1],
        lambda data: data + b"x",
        lambda data: spoilt(data, 0, "<Q", 1),
        lambda data: spoilt(data, 8, "<Q", HALF + 1),
        lambda data: spoilt(data, 16, "<Q", 2),
        lambda data: spoilt(data, 24, "<Q", HALF + 1),
        lambda data: spoilt(data, 32, "<Q", HALF + 1),
        lambda data: spoilt(data, HEADER, "<I", 9),
        lambda data: spoilt(data, HEADER + 4, "<B", len(KINDS)),
    ],
    ids=["empty", "no header", "short", "long", "magic", "half", "in use", "fill", "other fill", "length", "kind"],
)
def test_what_is_no_ring_is_a_decode_error(ring: Ring, spoil) -> None:
    ring.put(1, 1, 1, 1, b"abc")
    with pytest.raises(DecodeError, match="black box"):
        list(read_ring(spoil(ring.snapshot())))


def no_room(*_: object) -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_full_disk_is_an_error_that_leaves_the_old_ring_alone(ring: Ring, path: Path, monkeypatch) -> None:
    ring.put(1, 1, 1, 1, b"old")
    monkeypatch.setattr(os, "posix_fallocate", no_room)
    with pytest.raises(OSError, match="No space left on device"):
        Ring(path, 2 * HALF)
    assert payloads(path.read_bytes()) == [b"old"]


def test_full_disk_leaves_no_other_file(path: Path, monkeypatch) -> None:
    monkeypatch.setattr(os, "posix_fallocate", no_room)
    with pytest.raises(OSError, match="No space left on device"):
        Ring(path, 2 * HALF)
    assert list(path.parent.iterdir()) == []


def test_ring_that_was_removed_comes_back_with_its_content(ring: Ring, path: Path) -> None:
    ring.put(1, 7, 11, 22, b"before")
    assert ring.is_intact
    path.unlink()
    assert not ring.is_intact
    ring.put(1, 7, 12, 23, b"meanwhile")
    ring.restore()
    assert ring.is_intact
    ring.put(1, 7, 13, 24, b"after")
    assert payloads(path.read_bytes()) == payloads(ring.snapshot()) == [b"before", b"meanwhile", b"after"]
    assert [entry.name for entry in path.parent.iterdir()] == [path.name]


def test_ring_that_cannot_be_restored_is_written_on(ring: Ring, path: Path) -> None:
    path.unlink()
    path.parent.rename(path.parent.with_name(f"{path.parent.name}-away"))
    with pytest.raises(FileNotFoundError):
        ring.restore()
    ring.put(1, 7, 11, 22, b"frame")
    assert payloads(ring.snapshot()) == [b"frame"]
