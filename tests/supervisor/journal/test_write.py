from __future__ import annotations

import errno
import os
import subprocess
from contextlib import suppress

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from supervisor.journal.write import JournalLimits, RotatingFile, WriteError


class Clock:
    def __init__(self):
        self.now = 100.0

    def __call__(self):
        return self.now


def header(number):
    return b"header %d\n" % number


def files(directory):
    return {path.name: path.read_bytes() for path in sorted(directory.iterdir())}


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def new_file(tmp_path, clock):
    def make(directory=None, **limits):
        return RotatingFile(directory or tmp_path / "out", "events", header, JournalLimits(**limits), clock)

    return make


def test_nothing_is_made_before_the_first_line(new_file, tmp_path):
    file = new_file()
    file.flush()
    file.close()
    assert file.number == 0
    assert not (tmp_path / "out").exists()


def test_lines_follow_the_header(new_file, tmp_path):
    file = new_file()
    file.write(b"one\n")
    file.write(b"two\n")
    file.close()
    assert files(tmp_path / "out") == {"events-000001.jsonl": b"header 1\none\ntwo\n"}
    assert file.size == 17


def test_lines_wait_until_they_are_flushed(new_file, tmp_path):
    file = new_file()
    file.write(b"one\n")
    assert file.path.read_bytes() == b""
    file.flush()
    assert file.path.read_bytes() == b"header 1\none\n"
    file.close()


def test_a_lot_does_not_wait(new_file):
    file = new_file()
    file.write(b"x" * 400_000 + b"\n")
    assert file.path.stat().st_size > 400_000
    file.close()


def test_a_large_file_is_followed_by_another(new_file, tmp_path):
    file = new_file(max_bytes=20)
    for line in (b"a" * 15 + b"\n", b"b\n"):
        file.write(line)
        file.flush()
    file.close()
    assert files(tmp_path / "out") == {
        "events-000001.jsonl": b"header 1\n" + b"a" * 15 + b"\n",
        "events-000002.jsonl": b"header 2\nb\n",
    }


def test_an_old_file_is_followed_by_another(new_file, tmp_path, clock):
    file = new_file(max_age_s=60.0)
    file.write(b"a\n")
    clock.now += 59.9
    file.flush()
    file.write(b"b\n")
    clock.now += 0.2
    file.flush()
    file.write(b"c\n")
    file.close()
    assert list(files(tmp_path / "out").values()) == [b"header 1\na\nb\n", b"header 2\nc\n"]


def test_a_file_that_is_there_is_never_written_over(new_file, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "events-000001.jsonl").write_bytes(b"precious\n")
    with pytest.raises(WriteError, match="exists"):
        new_file().write(b"one\n")
    assert files(tmp_path / "out") == {"events-000001.jsonl": b"precious\n"}


def test_a_place_that_cannot_be_made_is_reported(new_file, tmp_path):
    (tmp_path / "out").write_bytes(b"a file")
    with pytest.raises(WriteError) as reported:
        new_file().write(b"one\n")
    assert reported.value.exit_code == 1
    assert str(tmp_path / "out") in reported.value.where


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60)
@given(room=st.integers(0, 200), lines=st.lists(st.binary(max_size=30), min_size=1, max_size=20))
def test_a_full_disk_leaves_whole_lines_and_one_error(tmp_path_factory, room, lines):
    """A write that finds no room has written what fitted, as write(2) says; then it fails."""
    directory = tmp_path_factory.mktemp("full")
    left = room
    real = os.write

    def write(descriptor, data):
        nonlocal left
        if not left:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        written = real(descriptor, bytes(data)[:left])
        left -= written
        return written

    whole = [line.replace(b"\n", b" ") + b"\n" for line in lines]
    file = RotatingFile(directory, "events", header, JournalLimits())
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(os, "write", write)
        is_full = False
        with suppress(WriteError):
            is_full = True
            for line in whole:
                file.write(line)
                file.flush()
            is_full = False
        file.close()
    content = file.path.read_bytes()
    everything = header(1) + b"".join(whole)
    assert everything.startswith(content)
    assert not content or content.endswith(b"\n")
    assert is_full == (room < len(everything))
    if not is_full:
        assert content == everything


def fill(file):
    for number in range(10_000):
        file.write(b"%d %s\n" % (number, b"x" * 100))
        file.flush()


def test_a_tiny_file_system_that_is_full(tmp_path, new_file):
    place = tmp_path / "tiny"
    place.mkdir()
    mounted = subprocess.run(["/bin/mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", place], capture_output=True)
    if mounted.returncode:
        pytest.skip("only root may mount")
    try:
        file = new_file(place)
        with pytest.raises(WriteError, match="No space left"):
            fill(file)
        file.close()
        content = file.path.read_bytes()
        assert content.startswith(b"header 1\n0 x")
        assert content.endswith(b"x\n")
    finally:
        subprocess.run(["/bin/umount", place], check=True)
