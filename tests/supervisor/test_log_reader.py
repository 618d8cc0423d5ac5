"""Reading a log while others write it."""

from __future__ import annotations

from contextlib import closing

import pytest

from supervisor.log_reader import LogReader


@pytest.fixture
def path(tmp_path):
    path = tmp_path / "log"
    path.write_bytes(b"one\ntwo")
    return path


@pytest.fixture
def reader(path):
    with closing(LogReader(path)) as reader:
        yield reader


def append(path, data):
    with path.open("ab") as file:
        file.write(data)


def test_a_line_comes_when_it_is_complete(path, reader):
    assert list(reader.lines()) == ["one"]
    append(path, b" and a half")
    assert list(reader.lines()) == []
    append(path, b"\nthree\n")
    assert list(reader.lines()) == ["two and a half", "three"]


def test_the_unfinished_line_is_there_for_who_wants_it(reader):
    assert [*reader.lines(), *reader.unfinished()] == ["one", "two"]
    assert list(reader.unfinished()) == []


def test_a_line_that_never_ends_does_not_fill_the_memory(path, reader):
    list(reader.lines())
    append(path, b"x" * 3_000_000)
    shown = list(reader.lines())
    assert len(shown) > 5
    assert max(map(len, shown)) < 400_000
    assert sum(map(len, [*shown, *reader.unfinished()])) == 3_000_003


def test_a_truncated_log_is_read_from_its_beginning(path, reader):
    list(reader.lines())
    path.write_bytes(b"new\n")
    assert list(reader.lines()) == ["two", "new"]


def test_a_log_that_was_replaced_is_read_to_its_end_first(path, reader):
    list(reader.lines())
    path.rename(path.with_name("log.1"))
    append(path.with_name("log.1"), b" end\nhalf")
    append(path, b"new\n")
    assert list(reader.lines()) == ["two end", "half", "new"]
    append(path, b"newer\n")
    assert list(reader.lines()) == ["newer"]


def test_a_removed_log_is_read_on_and_said_to_be_removed(path, reader):
    assert not reader.is_removed
    list(reader.lines())
    with path.open("ab") as writer:
        path.unlink()
        writer.write(b" more\n")
    assert reader.is_removed
    assert list(reader.lines()) == ["two more"]


def test_bytes_that_are_no_text_are_shown_as_such(path, reader):
    append(path, b"\xff\n")
    assert list(reader.lines()) == ["one", "two\ufffd"]
