"""Frame recorder: records and books in the black box and on the raw endpoint, and dumps after failures."""

from __future__ import annotations

import contextlib

import msgspec
import pytest
import zmq
from fake_venue import BTC, snapshot

from ipc.codec import decode
from ipc.health import Reason
from ipc.raw import RawHeader, RawRecord, decode_line
from ipc.ring import read_ring
from ipc.watched_files import WatchedFiles
from workers import recorder as module
from workers.net.frames import BINARY, TEXT
from workers.recorder import SUFFIX, FrameRecorder, save_left_behind

NS = 1_000_000_000
SESSIONS = ["poll", "fetch", "main"]
MAIN = 2


class Directory:
    """A run directory whose raw endpoint stays in this process."""

    def __init__(self, path):
        self.path = path
        self.described = {}

    def ring(self, venue):
        return self.path / f"{venue}.ring"

    def raw(self, venue):
        return f"inproc://{venue}.raw"

    def describe_worker(self, _venue):
        return self.described


@pytest.fixture
def run_dir(tmp_path):
    return Directory(tmp_path)


@pytest.fixture
def saved(tmp_path):
    return tmp_path / "saved"


@pytest.fixture
def new_tape(run_dir, saved, context, clock, monkeypatch):
    monkeypatch.setattr(module, "time", clock)
    monkeypatch.setattr(clock, "strftime", lambda *_: "20260714T033320", raising=False)
    monkeypatch.setattr(clock, "gmtime", lambda *_: None, raising=False)
    tapes = []

    def new(*, size=200_000, directory=saved, keep=3):
        tapes.append(FrameRecorder("lighter", run_dir, directory, size, keep, context, "1.2"))
        tapes[-1].describe(SESSIONS, [BTC], {"depth": "5"})
        return tapes[-1]

    yield new
    for one in tapes:
        one.close()


@pytest.fixture
def recorder(new_tape):
    return new_tape()


def kept(run_dir):
    """What the ring holds."""
    return list(read_ring(run_dir.ring("lighter").read_bytes()))


def fill(recorder):
    """One record of every kind."""
    recorder.opened(MAIN, "ws://venue.test")
    recorder.sent(MAIN, b"subscribe")
    recorder.frame(MAIN, TEXT, b'{"a":1}', 5, 6)
    recorder.frame(MAIN, BINARY, memoryview(b"\x00\xff"), 7, 8)
    recorder.answered(MAIN, "BTC-PERP", "bridge", None, b"{}")
    recorder.answered(MAIN, "BTC-PERP", "compare", Reason.READ_TIMEOUT, b"")
    recorder.closed(MAIN, Reason.SERVER_CLOSE)


# --- what is kept -------------------------------------------------------------------------------------------------


def test_everything_that_went_over_a_connection_is_kept_in_its_order(recorder, run_dir):
    fill(recorder)
    records = kept(run_dir)
    assert [(one.kind, one.is_binary, one.payload) for one in records] == [
        ("open", False, b"ws://venue.test"),
        ("out", False, b"subscribe"),
        ("in", False, b'{"a":1}'),
        ("in", True, b"\x00\xff"),
        ("rest", False, b"{}"),
        ("rest", False, b""),
        ("close", False, b"server_close"),
    ]
    assert {one.session for one in records} == {MAIN}
    assert [(one.mono_ns, one.wall_ns) for one in records[2:4]] == [(5, 6), (7, 8)]
    assert [one.note for one in records[4:6]] == ["BTC-PERP bridge", "BTC-PERP compare read_timeout"]


def test_tape_without_a_size_keeps_nothing(new_tape, run_dir):
    fill(new_tape(size=0))
    assert not run_dir.ring("lighter").exists()


def test_full_disk_costs_the_ring_and_nothing_else(new_tape, events, monkeypatch):
    def full(path, size):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(module, "Ring", full)
    recorder = new_tape()
    fill(recorder)
    recorder.schedule_dump(Reason.SEQ_GAP)
    assert len(events("blackbox.none")) == 1
    assert recorder.due_dump(10**18) is None


# --- listeners ----------------------------------------------------------------------------------------------------


@pytest.fixture
def listener(context):
    with context.socket(zmq.SUB) as socket:
        socket.setsockopt(zmq.SUBSCRIBE, b"raw.")
        yield socket


def heard(listener):
    lines = []
    while listener.poll(0):
        topic, line = listener.recv_multipart()
        assert topic == b"raw.lighter"
        lines.append(decode_line(line))
    return lines


def test_nothing_is_reported_while_nobody_listens(recorder, monkeypatch):
    monkeypatch.setattr(recorder, "_send", lambda line: pytest.fail(f"reported {line}"))
    recorder.needs_books()
    fill(recorder)


def test_listener_is_reported_the_markets_first_and_then_every_record(recorder, listener):
    listener.connect("inproc://lighter.raw")
    recorder.needs_books()
    fill(recorder)
    header, *records = heard(listener)
    assert isinstance(header, RawHeader)
    assert (header.venue, header.version, header.sessions) == ("lighter", "1.2", SESSIONS)
    assert header.listings == [msgspec.to_builtins(BTC)]
    assert all(isinstance(one, RawRecord) for one in records)
    assert {one.session for one in records} == {"main"}
    assert [one.kind for one in records] == ["open", "out", "in", "in", "rest", "rest", "close"]
    assert [one.payload for one in records[2:4]] == [b'{"a":1}', b"\x00\xff"]
    assert (records[4].symbol, records[4].purpose, records[4].reason) == ("BTC-PERP", "bridge", None)
    assert records[5].reason == "read_timeout"


def test_listeners_are_reported_when_the_markets_change(recorder, listener):
    listener.connect("inproc://lighter.raw")
    recorder.needs_books()
    heard(listener)
    recorder.describe(["poll", "fetch", "book.BTC-PERP"], [], {})
    assert heard(listener)[0].sessions == ["poll", "fetch", "book.BTC-PERP"]


def test_flood_of_raw_subscriptions_is_handled_in_turns(recorder, context):
    with context.socket(zmq.SUB) as flood:
        flood.setsockopt(zmq.SNDHWM, 0)
        for number in range(600):
            flood.subscribe(f"raw.{number}")
        flood.connect("inproc://lighter.raw")
        counts = []
        for _ in range(3):
            assert recorder.needs_books()
            counts.append(recorder._subscribers)
        assert counts == [256, 512, 600]
        assert not recorder.needs_books()


def test_telling_ends_with_the_last_listener(recorder, context):
    with context.socket(zmq.SUB) as one, context.socket(zmq.SUB) as other:
        for socket in (one, other):
            socket.setsockopt(zmq.SUBSCRIBE, b"raw.lighter")
            socket.connect("inproc://lighter.raw")
        recorder.needs_books()
        one.setsockopt(zmq.UNSUBSCRIBE, b"raw.lighter")
        recorder.needs_books()
        heard(other)
        recorder.sent(MAIN, b"x")
        assert len(heard(other)) == 1
        other.setsockopt(zmq.UNSUBSCRIBE, b"raw.lighter")
        recorder.needs_books()
        assert recorder._subscribers == 0


def test_who_joins_is_reported_the_books_as_they_stand(recorder, listener):
    assert not recorder.needs_books()
    recorder.book(MAIN, snapshot(6), 4, 5)
    listener.connect("inproc://lighter.raw")
    assert recorder.needs_books()
    recorder.book(MAIN, snapshot(7), 5, 6)
    header, book = heard(listener)
    assert isinstance(header, RawHeader)
    assert (book.kind, book.session, book.mono_ns, book.wall_ns) == ("book", "main", 5, 6)
    assert decode(book.payload) == snapshot(7)
    assert not recorder.needs_books()
    recorder.book(MAIN, snapshot(8), 6, 7)
    assert heard(listener) == []


def turn_over(recorder):
    recorder.frame(MAIN, TEXT, b"x" * 90_000, 5, 6)
    recorder.frame(MAIN, TEXT, b"y" * 20_000, 6, 7)


def test_a_half_of_the_black_box_begins_with_the_books(recorder, run_dir):
    turn_over(recorder)
    assert recorder.needs_books()
    recorder.book(MAIN, snapshot(7), 6, 7)
    assert not recorder.needs_books()
    book = kept(run_dir)[-1]
    assert (book.kind, book.session, book.mono_ns, decode(book.payload)) == ("book", MAIN, 6, snapshot(7))


def test_books_leave_room_for_frames_in_the_black_box(recorder, run_dir):
    turn_over(recorder)
    assert recorder.needs_books()
    deep = snapshot(7, bids=[(str(price), "1") for price in range(3_000)])
    for number in range(9):
        recorder.book(MAIN, deep, 6 + number, 7)
    books = [one for one in kept(run_dir) if one.kind == "book"]
    assert 0 < sum(len(one.payload) for one in books) <= 50_000
    assert len(kept(run_dir)) == 2 + len(books)


def test_session_that_has_no_name_is_reported_by_its_number(recorder, listener):
    listener.connect("inproc://lighter.raw")
    recorder.needs_books()
    recorder.sent(17, b"x")
    assert heard(listener)[-1].session == "17"


# --- saving -------------------------------------------------------------------------------------------------------


def save_due(recorder, clock):
    """What the main thread does at each round; whether a box was saved."""
    blackbox = recorder.due_dump(clock.now_ns)
    if blackbox is not None:
        recorder.save_dump(*blackbox)
    return blackbox is not None


def test_black_box_is_saved_a_second_after_the_trouble_with_what_followed_it(recorder, clock, saved, events):
    recorder.frame(MAIN, TEXT, b"before", 1, 1)
    recorder.schedule_dump(Reason.SEQ_GAP)
    clock.advance(0.9)
    assert not save_due(recorder, clock)
    recorder.frame(MAIN, TEXT, b"after", 2, 2)
    clock.advance(0.2)
    assert save_due(recorder, clock)
    (path,) = saved.iterdir()
    assert path.name.startswith("lighter-20260714T033320.")
    assert path.name.endswith(f"Z-seq_gap{SUFFIX}")
    line, ring = path.read_bytes().split(b"\n", 1)
    header = decode_line(line)
    assert (header.reason, header.sessions, header.options) == ("seq_gap", SESSIONS, {"depth": "5"})
    assert [one.payload for one in read_ring(ring)] == [b"before", b"after"]
    assert events("blackbox.saved")[0]["path"] == str(path)


def test_of_several_troubles_the_first_names_the_box(recorder, clock, saved):
    for reason in (Reason.SEQ_GAP, Reason.CROSSED_BOOK):
        recorder.schedule_dump(reason)
    clock.advance(1)
    assert save_due(recorder, clock)
    assert not save_due(recorder, clock)
    assert [path.name.split("-")[-1] for path in saved.iterdir()] == [f"seq_gap{SUFFIX}"]


def test_a_planned_end_of_a_connection_is_no_trouble(recorder, clock):
    recorder.schedule_dump(Reason.ROTATION)
    clock.advance(1)
    assert not save_due(recorder, clock)


def test_boxes_are_saved_at_most_every_ten_seconds(recorder, clock):
    count = 0
    for _ in range(300):
        recorder.schedule_dump(Reason.SEQ_GAP)
        count += save_due(recorder, clock)
        clock.advance(0.1)
    assert count == 3


def test_trouble_soon_after_a_box_was_saved_is_saved_when_its_time_comes(recorder, clock, saved):
    recorder.schedule_dump(Reason.SEQ_GAP)
    clock.advance(1)
    assert save_due(recorder, clock)
    clock.advance(3)
    recorder.schedule_dump(Reason.CROSSED_BOOK)
    clock.advance(6.9)
    assert not save_due(recorder, clock)
    clock.advance(0.1)
    assert save_due(recorder, clock)
    assert {path.name.split("-")[-1] for path in saved.iterdir()} == {f"seq_gap{SUFFIX}", f"crossed_book{SUFFIX}"}


def test_oldest_boxes_go(recorder, clock, saved):
    for _ in range(6):
        recorder.save_dump(Reason.SEQ_GAP, b"ring")
        clock.advance(0.001)
    assert len(list(saved.iterdir())) == 3
    (saved / "aster-x.blackbox").touch()
    recorder.save_dump(Reason.SEQ_GAP, b"ring")
    assert (saved / "aster-x.blackbox").exists()


def test_without_a_directory_nothing_is_saved(new_tape, clock):
    recorder = new_tape(directory=None)
    recorder.schedule_dump(Reason.SEQ_GAP)
    clock.advance(2)
    assert not save_due(recorder, clock)
    recorder.save_dump(Reason.SEQ_GAP, b"ring")


def test_full_disk_costs_the_box_and_nothing_else(recorder, events, monkeypatch):
    def full(path, data):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(module, "replace_file", full)
    recorder.save_dump(Reason.SEQ_GAP, b"ring")
    assert "No space left" in events("blackbox.not_saved")[0]["error"]


# --- what a dead worker left --------------------------------------------------------------------------------------


def test_ring_of_a_worker_that_died_is_saved_under_the_reason_of_its_death(recorder, run_dir, saved):
    fill(recorder)
    run_dir.described = {"sessions": SESSIONS, "options": {}, "listings": []}
    save_left_behind("lighter", run_dir, saved, Reason.KILLED, 3)
    (path,) = saved.iterdir()
    line, ring = path.read_bytes().split(b"\n", 1)
    assert (decode_line(line).reason, decode_line(line).sessions) == ("killed", SESSIONS)
    assert len(list(read_ring(ring))) == 7


@pytest.mark.parametrize("reason", [None, Reason.REQUESTED, Reason.CONFIG_CHANGED, Reason.DRILL])
def test_ring_of_a_worker_whose_end_was_planned_is_not_saved(recorder, run_dir, saved, reason):
    fill(recorder)
    save_left_behind("lighter", run_dir, saved, reason, 3)
    assert not saved.exists()


def test_worker_that_left_no_ring_leaves_no_box(run_dir, saved):
    save_left_behind("lighter", run_dir, saved, Reason.KILLED, 3)
    save_left_behind("lighter", run_dir, None, Reason.KILLED, 3)
    assert not saved.exists()


def test_ring_that_cannot_be_read_is_reported(run_dir, saved, events):
    run_dir.ring("lighter").mkdir()
    save_left_behind("lighter", run_dir, saved, Reason.KILLED, 3)
    assert len(events("blackbox.unreadable")) == 1
    assert not saved.exists()


def test_files_that_are_lost_come_back_with_the_publishers_lock(new_tape, run_dir, tmp_path, context):
    run_dir.raw = lambda venue: f"ipc://{tmp_path}/{venue}.raw"
    recorder, locked = new_tape(), []
    fill(recorder)
    files = WatchedFiles(tmp_path)

    @contextlib.contextmanager
    def exclusive():
        locked.append(True)
        yield

    recorder.watch_files(files, run_dir, exclusive)
    before = kept(run_dir)
    for name in ("lighter.raw", "lighter.ring"):
        (tmp_path / name).unlink()
    files.check()
    assert kept(run_dir) == before
    assert (tmp_path / "lighter.raw").is_socket()
    assert locked == [True, True]
