"""What was published is known after a restart, whatever becomes of the file."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from workers.accounts import checkpoint as module
from workers.accounts.checkpoint import PublishedFills

A, B, C = ("fill", "a:buy"), ("payment", "p"), ("fill", 'with "quotes"\nand lines')


class Life:
    """One life of a worker, with all that it knows."""

    def __init__(self, path: Path) -> None:
        self.file = PublishedFills(path, "lighter")
        self.known = self.file.load()

    def add(self, *keys: Any) -> None:
        self.known += keys
        self.file.add(keys, lambda: self.known)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "published"


def test_the_next_life_knows_what_was_published_in_its_order(path: Path) -> None:
    first = Life(path)
    assert first.known == []
    first.add(A)
    first.add(B, C)
    assert Life(path).known == [A, B, C]
    assert path.stat().st_mode & 0o777 == 0o600


def test_what_is_new_is_appended(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    life = Life(path)
    life.add(A)
    monkeypatch.setattr(module, "replace_file", lambda *_: pytest.fail("written whole"))
    life.add(B)
    Life(path).add(C)
    assert Life(path).known == [A, B, C]


def test_nothing_new_touches_nothing(path: Path) -> None:
    Life(path).add()
    assert not path.exists()


@pytest.mark.parametrize("tail", [b'["fill","torn', b"rubbish\n", b'["order","5"]\n', b"\xff\n", b'["fill",5]\n'])
def test_lines_that_cannot_be_read_cost_themselves(path: Path, tail: bytes) -> None:
    Life(path).add(A)
    path.write_bytes(path.read_bytes() + tail)
    life = Life(path)
    assert life.known == [A]
    life.add(B)
    assert Life(path).known == [A, B]
    assert tail not in path.read_bytes()


@pytest.mark.parametrize("spoil", [Path.unlink, lambda path: path.write_bytes(b""), lambda path: os.truncate(path, 5)])
def test_a_file_that_was_spoiled_meanwhile_is_written_whole(path: Path, spoil: Any) -> None:
    life = Life(path)
    life.add(A)
    spoil(path)
    life.add(B)
    assert Life(path).known == [A, B]


def test_a_full_disk_costs_the_memory_and_no_more(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    life = Life(path)
    life.add(A)

    def full(*_: Any) -> int:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as disk:
        disk.setattr(os, "write", full)
        disk.setattr(module, "replace_file", full)
        life.add(B)
        life.add(C)
    life.add(("fill", "d"))
    assert Life(path).known == [A, B, C, ("fill", "d")]


def test_a_write_that_was_cut_short_is_made_good(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    life = Life(path)
    life.add(A)
    whole = os.write
    with monkeypatch.context() as disk:
        disk.setattr(os, "write", lambda descriptor, data: whole(descriptor, data[:4]))
        life.add(B)
    life.add(C)
    assert Life(path).known == [A, B, C]


def test_the_file_is_bounded_by_what_is_known(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_APPENDED", 3)
    life = Life(path)
    for number in range(20):
        life.known = life.known[-1:]
        life.add(("fill", str(number)))
    assert len(path.read_bytes().splitlines()) <= 2 + 5
    assert Life(path).known[-1] == ("fill", "19")


def test_a_directory_in_its_place_ends_nothing(path: Path) -> None:
    path.mkdir()
    life = Life(path)
    life.add(A)
    assert life.known == [A]


def test_a_file_that_was_lost_is_written_from_memory_and_appended_to(path: Path) -> None:
    life = Life(path)
    life.add(A, B)
    path.unlink()
    life.file.restore(life.known)
    life.add(C)
    assert Life(path).known == [A, B, C]


def test_a_file_that_has_nothing_to_keep_is_not_written(path: Path) -> None:
    Life(path).file.restore([])
    assert not path.exists()
