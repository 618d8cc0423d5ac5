"""The recorder on real publishers in this process: what they send is what stands in the files."""

from __future__ import annotations

import json
import time
from contextlib import contextmanager, suppress

import msgspec
import pytest
import zmq

from ipc.codec import encode
from ipc.events import Heartbeat
from ipc.publisher import Publisher
from ipc.rundir import replace_file
from ipc.sequence import Epochs
from ipc.topics import Topic
from supervisor.journal.coverage import read_summary
from supervisor.journal.format import prefix_of
from supervisor.journal.read import EventFile, Lines, RawFile, find
from supervisor.journal.record import JournalRecorder
from supervisor.journal.write import JournalLimits, RotatingFile, WriteError

PATIENCE_S = 20.0


@pytest.fixture
def bound(context):
    """Makes sockets that are bound somewhere: ``bound(zmq.PUB, endpoint)``."""
    made = []

    def make(kind, endpoint):
        made.append(context.socket(kind))
        made[-1].bind(endpoint)
        return made[-1]

    yield make
    for socket in made:
        socket.close(0)


@pytest.fixture
def venue(context, run_dir):
    """Makes publishers of a venue's feed; the last one is the living one."""
    made = []

    def make(name="lighter"):
        for old in made:
            old.close()
        made.append(Publisher(context, run_dir.feed(name), Epochs.following(made[-1].epoch if made else 0)))
        return made[-1]

    yield make
    for publisher in made:
        with suppress(zmq.ZMQError):
            publisher.close()


@pytest.fixture
def recorder(run_dir, tmp_path):
    made = []

    def make(**options):
        made.append(
            JournalRecorder(run_dir, tmp_path / "out", **{"venues": ["lighter"], "version": "1.2.3", **options})
        )
        return made[-1]

    yield make
    for one in made:
        with suppress(WriteError):
            one.close()


def publish(publisher, channel, event):
    symbol = "" if channel == "heartbeat" else event.symbol or ""
    feed = publisher.topic(Topic(channel, event.venue, symbol))
    with publisher.exclusive():
        publisher.send(feed, event)
    return event


def beat(publisher):
    return publish(publisher, "heartbeat", Heartbeat("lighter", None, None, None, {}, {}, 0, 1))


@contextmanager
def patience():
    """Fails what waits forever."""
    deadline = time.monotonic() + PATIENCE_S

    def still():
        assert time.monotonic() < deadline
        return True

    yield still


def record_until(recorder, is_done, act=lambda: None):
    """Run the recorder, doing something between its turns, until something is so."""
    with patience() as still:
        recorder.run(None, lambda: (still(), act(), is_done())[-1], lambda _: None)


def join(recorder, publisher):
    """Record until the first heartbeat came, so that nothing that is said from now on is missed."""
    record_until(recorder, lambda: recorder.tally.events.get("lighter"), lambda: beat(publisher))


def lines_of(directory, kind=EventFile):
    return [
        line
        for file in find(directory)
        if isinstance(file, kind)
        for number, line in enumerate(Lines(file.path))
        if number
    ]


def heard(directory, prefix=""):
    """The topics and the payloads of what was recorded, without heartbeats."""
    events = [json.loads(line) for line in lines_of(directory)]
    return [
        event for event in events if not event["topic"].startswith("heartbeat") and event["topic"].startswith(prefix)
    ]


def test_what_is_published_is_recorded_byte_for_byte(recorder, venue, tmp_path, say_events):
    publisher, one = venue(), recorder()
    join(one, publisher)
    said = [(channel, publish(publisher, channel, event)) for channel, event in say_events if channel != "lifecycle"]
    before = one.tally.events["lighter"]
    record_until(one, lambda: one.tally.events["lighter"] >= before + len(said))
    one.close()
    expected = [
        prefix_of(str(Topic(channel, "lighter", event.symbol or "")).encode()) + encode(event)[1:] + b"\n"
        for channel, event in said
    ]
    recorded = [line for line in lines_of(tmp_path / "out") if b'"topic":"heartbeat' not in line]
    assert recorded == expected
    assert one.tally.lost == {"lighter": 0}


def test_lifecycle_is_recorded_as_well(recorder, venue, context, run_dir, tmp_path, say_events):
    gateway = Publisher(context, run_dir.feed("lifecycle"), 5)
    one = recorder()
    event = say_events[-1][1]
    record_until(one, lambda: one.tally.events.get("lifecycle"), lambda: publish(gateway, "lifecycle", event))
    gateway.close()
    one.close()
    assert heard(tmp_path / "out")[0]["topic"] == "lifecycle.lighter"


def test_the_header_tells_of_the_recorded_venues(recorder, venue, run_dir, tmp_path):
    described = {"venues": {"lighter": {"symbols": ["BTC-PERP"]}, "aster": {"symbols": []}}}
    replace_file(run_dir.description, msgspec.json.encode(described))
    publisher, one = venue(), recorder()
    join(one, publisher)
    one.close()
    (file,) = find(tmp_path / "out")
    header = file.header
    assert header.config == {"lighter": {"symbols": ["BTC-PERP"]}}
    assert (header.version, header.file, header.run_dir) == ("1.2.3", 1, str(run_dir.path))
    assert header.recording in file.path.name


def test_every_venue_of_the_system_is_recorded_whatever_its_name(recorder, bound, run_dir, tmp_path, held_lock):
    """Also one that is described only after the recorder was there, and one that is not described at all."""
    one = recorder(venues=None)
    one.run(0.1, lambda: False, lambda _: None)
    stray = bound(zmq.PUB, run_dir.feed("stray"))
    newcomer = bound(zmq.PUB, run_dir.feed("newcomer"))
    replace_file(run_dir.description, msgspec.json.encode({"pid": held_lock, "venues": {"newcomer": {}, "mute": {}}}))

    def publish_both():
        for name, socket in (("stray", stray), ("newcomer", newcomer)):
            socket.send_multipart([f"trade.{name}.BTC-PERP".encode(), b'{"epoch":1,"seq":1}'])

    record_until(one, lambda: {"stray", "newcomer"} <= set(one.tally.events), publish_both)
    assert (one.tally.silent, one.tally.left_out) == (["mute"], [])
    assert one.tally.malformed == 0
    one.close()
    (file,) = find(tmp_path / "out")
    summary = read_summary(tmp_path / "out", file.header.recording)
    assert set(summary.coverage.venues) == {"newcomer", "mute"}
    assert summary.written == [sum(one.tally.events.values())]
    assert summary.ended_ns > summary.coverage.began_ns > 0


def test_what_was_left_out_is_in_every_header(recorder, venue, run_dir, tmp_path, held_lock):
    replace_file(run_dir.description, msgspec.json.encode({"pid": held_lock, "venues": {"lighter": {}, "aster": {}}}))
    publisher, one = venue(), recorder()
    join(one, publisher)
    one.close()
    assert one.tally.left_out == ["aster"]
    (file,) = find(tmp_path / "out")
    assert file.header.coverage.left_out() == ["aster"]
    assert file.header.coverage.wanted == ["lighter"]


def test_a_recording_without_its_end_has_a_summary_that_says_so(recorder, venue, tmp_path):
    publisher, one = venue(), recorder()
    with pytest.raises(RuntimeError):
        record_until(one, lambda: one.tally.files, lambda: beat(publisher) and one.tally.files and explode())
    one.close()
    (file,) = find(tmp_path / "out")
    assert read_summary(tmp_path / "out", file.header.recording).ended_ns == 0


def explode():
    raise RuntimeError


def test_a_recorder_may_be_there_before_the_system(recorder, venue, tmp_path, say):
    one = recorder()
    one.run(0.1, lambda: False, lambda _: None)
    assert not (tmp_path / "out").exists()
    join(one, venue())
    assert one.tally.files == 1


def test_a_recorder_survives_a_restarted_worker(recorder, venue, tmp_path, say):
    one = recorder()
    first = venue()
    join(one, first)
    second = venue()
    record_until(one, lambda: one._sequences["lighter"].epoch == second.epoch, lambda: beat(second))
    one.close()
    assert {json.loads(line)["epoch"] for line in lines_of(tmp_path / "out")} == {first.epoch, second.epoch}
    assert one.tally.lost == {"lighter": 0}


def test_losses_are_counted(recorder, venue, say):
    publisher, one = venue(), recorder()
    join(one, publisher)
    for number in range(3):
        publisher.topic(Topic("trade", "lighter", "BTC-PERP")).seq += 5 * number
        publish(publisher, "trade", say.trade(number))
    before = one.tally.events["lighter"]
    record_until(one, lambda: one.tally.events["lighter"] >= before + 3)
    assert one.tally.lost == {"lighter": 15}


@pytest.mark.parametrize(
    "message",
    [
        [b"trade.lighter.BTC-PERP"],
        [b"trade.lighter.BTC-PERP", b"hello"],
        [b"trade.lighter.BTC-PERP", b'{"epoch":1}'],
        [b"trade.lighter.BTC-PERP", b'\n{"epoch":1,"seq":1}'],
        [b"trade.lighter.BTC-PERP", b'{"epoch":1,\n"seq":1}'],
        [b"trade.unheard.BTC-PERP", b'{"epoch":1,"seq":1}'],
        [b"trade.\xff.BTC-PERP", b'{"epoch":1,"seq":1}'],
        [b"trade.", b'{"epoch":1,"seq":1}'],
        [b"trade.lighter.BTC-PERP", b"{}", b"more"],
    ],
)
def test_what_is_no_event_is_counted_and_left_out(recorder, bound, run_dir, tmp_path, message):
    stranger = bound(zmq.PUB, run_dir.feed("lighter"))
    one = recorder()
    record_until(one, lambda: one.tally.malformed, lambda: stranger.send_multipart(message))
    assert not (tmp_path / "out").exists()
    assert not one.tally.events.get("lighter")


def test_lines_are_in_the_file_within_a_second(recorder, venue, tmp_path):
    publisher, one = venue(), recorder()
    join(one, publisher)

    def is_written():
        return (tmp_path / "out").exists() and find(tmp_path / "out")[0].size

    record_until(one, is_written)


def test_a_file_that_was_begun_gets_the_books_as_they_stand(recorder, venue, tmp_path, say):
    publisher, one = venue(), recorder(limits=JournalLimits(max_bytes=3000))
    feed = publisher.topic(Topic("book", "lighter", "BTC-PERP"))
    feed.snapshot = lambda: say.snapshot(cause="refresh", flags=("refresh",))
    join(one, publisher)

    def go_on():
        if one.tally.files < 2:
            publish(publisher, "book", say.delta(bids=[("99", "2")]))
        else:
            beat(publisher)

    def is_refreshed():
        files = find(tmp_path / "out") if one.tally.files > 1 else []
        return any(
            b'"refresh"' in line and b'"book_snapshot"' in line for file in files[1:] for line in Lines(file.path)
        )

    record_until(one, is_refreshed, go_on)


def test_a_full_disk_ends_the_recording_with_one_error_and_harms_no_feed(recorder, venue, monkeypatch, say):
    publisher, one = venue(), recorder()
    join(one, publisher)

    def fail(self, file, block):
        raise WriteError(OSError(28, "No space left on device"), self.path)

    monkeypatch.setattr(RotatingFile, "_write", fail)
    with pytest.raises(WriteError, match="No space left"):
        record_until(one, lambda: False, lambda: publish(publisher, "trade", say.trade(1)))
    one.close()
    assert publish(publisher, "trade", say.trade(2)).seq > 1
    assert (publisher.drops, publisher.errors) == (0, 0)


# --- raw frames -------------------------------------------------------------------------------------------------------


@pytest.fixture
def raw(bound, run_dir):
    """The raw endpoint of Lighter's worker."""
    return bound(zmq.XPUB, run_dir.raw("lighter"))


def test_raw_frames_are_recorded_as_a_fixture(recorder, venue, raw, raw_script, tmp_path):
    raw_script.add("open", b"ws://x").frame({"a": 1}).frame({"b": 2})
    header, *records = raw_script.bytes().splitlines(keepends=True)
    publisher, one = venue(), recorder(raw=True)
    join(one, publisher)
    assert raw.poll(10_000)
    for line in (header, *records):
        raw.send_multipart([b"raw.lighter", line])
    record_until(one, lambda: one.tally.raw.get("lighter") == len(records))
    one.close()
    (file,) = [file for file in find(tmp_path / "out") if isinstance(file, RawFile)]
    assert file.path.parent == tmp_path / "out" / "lighter"
    assert file.path.read_bytes() == raw_script.bytes()


def test_every_raw_file_begins_with_the_latest_header(recorder, raw, raw_script, tmp_path):
    one = recorder(raw=True, limits=JournalLimits(max_bytes=1500))
    record_until(one, lambda: raw.poll(0))
    first, *_ = raw_script.bytes().splitlines(keepends=True)
    raw_script.head.reason = "another"
    second, record, *_ = raw_script.frame({"a": "x" * 600}).bytes().splitlines(keepends=True)
    for line in (first, record, record, second, second, record):
        raw.send_multipart([b"raw.lighter", line])
        count = one.tally.raw.get("lighter", 0)
        if line is record:
            record_until(one, lambda c=count: one.tally.raw.get("lighter", 0) > c)
            one._flush()
    one.close()
    contents = [file.path.read_bytes() for file in find(tmp_path / "out")]
    assert contents[0] == first + record + record
    assert contents[1] == second + record


def test_raw_frames_of_a_stranger_are_left_out(recorder, raw, tmp_path):
    one = recorder(raw=True)
    record_until(one, lambda: one.tally.malformed, lambda: raw.send_multipart([b"raw.stranger", b"{}\n"]))
    assert not (tmp_path / "out").exists()
