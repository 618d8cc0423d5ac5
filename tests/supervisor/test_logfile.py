"""Log file of a system in the background."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from supervisor import logfile
from supervisor.logfile import log_path, open_log, reopen, rotate


@pytest.fixture
def log(tmp_path):
    return tmp_path / "paraphina" / "log"


@pytest.fixture
def writer(log):
    descriptor = open_log(log)
    yield descriptor
    os.close(descriptor)


def test_it_is_where_the_state_of_a_user_is():
    assert log_path({"XDG_STATE_HOME": "/var/state"}) == Path("/var/state/paraphina/log")
    assert log_path({"HOME": "/home/desk"}) == Path("/home/desk/.local/state/paraphina/log")


def test_it_is_its_owners_alone(log, writer):
    assert log.stat().st_mode & 0o777 == 0o600
    assert log.parent.stat().st_mode & 0o777 == 0o700


def test_what_there_is_stays(log, writer):
    os.write(writer, b"before ")
    os.close(open_log(log))
    assert log.read_bytes() == b"before "


def test_a_small_one_is_left_alone(log, writer):
    os.write(writer, b"12345")
    assert not rotate(log, 5)
    assert log.read_bytes() == b"12345"


def test_a_large_log_is_truncated_and_its_writers_go_on_in_it(log, writer):
    os.write(writer, b"before")
    assert rotate(log, 5)
    os.write(writer, b"after")
    assert log.read_bytes() == b"after"
    kept = log.with_name("log.1")
    assert kept.read_bytes() == b"before"
    assert kept.stat().st_mode & 0o777 == 0o600


def test_each_chunk_of_the_copy_is_progress(log, writer, monkeypatch):
    monkeypatch.setattr(logfile, "_CHUNK", 4)
    os.write(writer, b"before all")
    pieces = []
    assert rotate(log, 5, lambda: pieces.append(log.stat().st_size))
    assert pieces == [10, 10, 10]
    assert log.with_name("log.1").read_bytes() == b"before all"


def test_only_the_last_one_is_kept(log, writer):
    for text in (b"first!", b"second"):
        os.write(writer, text)
        assert rotate(log, 5)
    assert log.with_name("log.1").read_bytes() == b"second"


def test_a_full_disk_costs_the_copy_and_not_the_limit(log, writer):
    def full():
        raise OSError(28, "No space left on device")

    os.write(writer, b"before")
    assert rotate(log, 5, full)
    assert log.read_bytes() == b""
    assert not log.with_name("log.1").exists()


def test_one_that_is_gone_is_not_made(log):
    assert not rotate(log, 5)
    assert not log.exists()


def test_a_log_that_cannot_be_opened_again_leaves_the_output_where_it_was(tmp_path, capfd):
    (tmp_path / "in the way").touch()
    reopen(tmp_path / "in the way" / "log")
    os.write(2, b"still heard")
    assert "still heard" in capfd.readouterr().err
