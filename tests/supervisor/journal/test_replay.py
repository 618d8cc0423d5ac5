"""Replays to real subscribers: what a consumer is reported, and that it holds the books of the recording."""

from __future__ import annotations

import json
import math
import threading
import time
from contextlib import contextmanager

import pytest

from ipc.codec import encode
from ipc.events import BookSnapshot, Gap, Heartbeat, Lifecycle, Trade
from ipc.feed import Feed
from ipc.topics import CHANNELS
from supervisor.journal import replay as module
from supervisor.journal.read import find
from supervisor.journal.replay import Pace, Replay

#: What a replay makes itself, and the topic, which stands in the journal only.
MADE_ANEW = {"topic", "epoch", "seq", "publish_ns", "flags"}
MS = 1_000_000
SECOND = 1_000 * MS
PATIENCE_S = 20.0


# --- pace -------------------------------------------------------------------------------------------------------------


def test_events_are_due_at_their_distances():
    pace = Pace(1.0)
    assert [pace.due_ns(recv, now) for recv, now in ((1000, 70), (1500, 71), (1400, 72), (2000, 73))] == [
        70,
        570,
        570,
        1070,
    ]


def test_ten_times_as_fast():
    pace = Pace(10.0)
    assert [pace.due_ns(recv, 50) for recv in (1000, 2000, 3000)] == [50, 150, 250]


def test_full_speed_waits_for_nothing():
    pace = Pace(math.inf)
    assert [pace.due_ns(recv, now) for recv, now in ((1000, 5), (10**15, 6))] == [5, 6]


def test_what_has_no_time_is_due_at_once():
    pace = Pace(1.0)
    assert pace.due_ns(0, 5) == 5
    assert pace.due_ns(1000, 6) == 6
    assert pace.due_ns(0, 7) == 7


def test_another_recording_or_boot_is_not_waited_for():
    pace = Pace(1.0)
    pace.due_ns(100 * SECOND, 0)
    pace.restart()
    assert pace.due_ns(5000 * SECOND, 9) == 9
    assert pace.due_ns(5 * SECOND, 10) == 10
    assert pace.due_ns(6 * SECOND, 10) == SECOND + 10


# --- consumers --------------------------------------------------------------------------------------------------------


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    """Nobody is waited for before the first event, the tests see to that themselves; and hearts beat fast."""
    monkeypatch.setattr(module, "_JOIN_S", 0.0)
    monkeypatch.setattr(module, "_LINGER_S", 0.0)
    monkeypatch.setattr(module, "_BEAT_NS", 20 * MS)


@pytest.fixture
def stage(tmp_path, run_dir, script):
    """Opens a replay of the script and a consumer of it: ``with stage() as (replay, feed, run)``."""

    @contextmanager
    def open_stage(speed=math.inf, **options):
        script.write(tmp_path)
        replay = Replay(find(tmp_path), run_dir, speed, "1.2.3")
        options = {"venues": ["lighter"], "channels": CHANNELS, **options}
        try:
            with Feed(run_dir.path, **options) as feed:
                yield replay, feed, Consumer(replay, feed)
        finally:
            replay.close()

    return open_stage


class Consumer:
    """Runs a replay and reads it, turn about, in one thread."""

    def __init__(self, replay, feed):
        self.replay = replay
        self.feed = feed
        self.events = []

    def join(self):
        """Until the feed is let in: a heartbeat came."""
        self.until(lambda: any(isinstance(event, Heartbeat) for event in self.events))
        self.events.clear()

    def play(self):
        """To the end, and on to the next heartbeat, before which everything else has come."""
        self.replay.run(self.read, lambda _: None)
        ended_ns = time.time_ns()
        self.until(lambda: any(beat.publish_ns > ended_ns for beat in of(self.events, Heartbeat)))
        return self.events

    def until(self, is_done):
        deadline = time.monotonic() + PATIENCE_S
        while not self.read() and not is_done():
            assert time.monotonic() < deadline
            self.replay._idle(0.005, lambda: False)

    def read(self):
        while (event := self.feed.poll(0.0)) is not None:
            self.events.append(event)
        return False


def of(events, *kinds):
    return [event for event in events if isinstance(event, kinds) and "refresh" not in event.flags]


def fields(event):
    """What a replay keeps of an event."""
    kept = event if isinstance(event, dict) else json.loads(encode(event))
    return {name: value for name, value in kept.items() if name not in MADE_ANEW}


def test_consumers_are_sent_everything_once_more_and_hold_the_book(stage, script, say):
    script.everything()
    recorded = [json.loads(line) for line in script.lines]
    with stage() as (_, feed, consumer):
        consumer.join()
        events = [event for event in consumer.play() if not isinstance(event, Heartbeat)]
        assert all("replay" in event.flags for event in events)
        said = [fields(event) for event in events if "refresh" not in event.flags and event.venue == "lighter"]
        expected = [fields(event) for event in recorded if event["kind"] not in {"heartbeat", "lifecycle"}]
        assert [event for event in said if event["kind"] != "lifecycle"] == expected
        book = feed.book("lighter", "BTC-PERP")
        assert book.usable
        assert book.bids() == [("99.5", "3"), *say.BIDS]
        assert book.asks() == say.ASKS[:1]
        assert (feed.lost, book.drifts) == (0, 0)


def test_heartbeats_are_made_again_and_agree(stage, script, say):
    script.everything()
    with stage() as (replay, _, consumer):
        consumer.join()
        consumer.play()
        consumer.events.clear()
        consumer.until(lambda: of(consumer.events, Heartbeat))
        beat = of(consumer.events, Heartbeat)[0]
        assert beat.flags == ("replay",)
        assert beat.seqs["book.lighter.BTC-PERP"] == beat.books["BTC-PERP"].seq == 3
        assert beat.books["BTC-PERP"].crc32_top10 == say.checksum([("99.5", "3"), *say.BIDS], say.ASKS[:1])
        assert beat.epoch == replay._sources["lighter"].publisher.epoch != script.epoch()


def test_a_late_subscriber_is_answered_with_the_book_as_it_stands(stage, script, run_dir, say):
    script.everything()
    with stage() as (replay, _, consumer):
        consumer.join()
        consumer.play()
        with Feed(run_dir.path, venues=["lighter"], channels=["book", "mark"]) as late:
            other = Consumer(replay, late)
            other.until(lambda: late.book("lighter", "BTC-PERP").usable and late.latest("mark", "lighter", "BTC-PERP"))
            assert late.book("lighter", "BTC-PERP").bids() == [("99.5", "3"), *say.BIDS]
            (book,) = [event for event in other.events if isinstance(event, BookSnapshot)]
            assert set(book.flags) == {"refresh", "replay"}
            assert book.cause == "refresh"
            assert set(late.latest("mark", "lighter", "BTC-PERP").flags) == {"refresh", "replay"}


def test_a_restart_in_the_recording_is_a_restart_again(stage, script, say):
    script.everything().restart().say("trade", say.trade(2)).book(say.snapshot())
    with stage() as (_, feed, consumer):
        consumer.join()
        events = consumer.play()
        trades = of(events, Trade)
        assert [trade.seq for trade in trades] == [1, 1]
        assert trades[0].epoch < trades[1].epoch
        assert feed.book("lighter", "BTC-PERP").bids() == say.BIDS


def test_what_the_recording_lost_is_lost_for_consumers(stage, script, say):
    script.everything().say("trade", say.trade(9), seq=5).say("book", say.delta(bids=[("98", "7")]), seq=8)
    with stage() as (replay, feed, consumer):
        consumer.join()
        events = consumer.play()
        assert feed.lost == 3 + 4
        assert not feed.book("lighter", "BTC-PERP").usable
        assert [gap.reason for gap in of(events, Gap)] == ["seq_gap"]
        assert replay._sources["lighter"]._topics["book.lighter.BTC-PERP"].snapshot() is None


def test_a_lost_tail_is_lost_as_well(stage, script):
    script.everything().beat(seqs={"book.lighter.BTC-PERP": 5, "trade.lighter.BTC-PERP": 3})
    with stage() as (_, feed, consumer):
        consumer.join()
        consumer.play()
        consumer.events.clear()
        consumer.until(lambda: of(consumer.events, Heartbeat))
        assert feed.lost == 2 + 2
        assert not feed.book("lighter", "BTC-PERP").usable


def test_a_gap_in_the_recording_keeps_the_book_from_late_subscribers(stage, script, say):
    script.everything().book(say.gap())
    with stage() as (replay, feed, consumer):
        consumer.join()
        consumer.play()
        assert feed.book("lighter", "BTC-PERP").reason == "seq_gap"
        topic = replay._sources["lighter"]._topics["book.lighter.BTC-PERP"]
        assert topic.snapshot() is None
        beat = topic.heartbeat(0)
        assert (beat.usable, beat.crc32_top10) == (False, None)


@pytest.mark.parametrize("flag", ["crossed_by_venue", "rest"])
def test_a_book_that_is_held_back_stays_so(stage, script, say, flag):
    script.everything().book(say.snapshot(flags=(flag,)))
    with stage() as (replay, feed, consumer):
        consumer.join()
        consumer.play()
        assert feed.book("lighter", "BTC-PERP").reason == flag
        assert replay._sources["lighter"]._topics["book.lighter.BTC-PERP"].snapshot() is None


def test_a_repeat_or_a_zombie_in_the_recording_is_left_out(stage, script, say):
    first = script.epoch()
    script.everything().say("trade", say.trade(1), seq=1).restart().say("trade", say.trade(2))
    script.say("trade", say.trade(3), seq=9, epoch=first)
    with stage() as (_, feed, consumer):
        consumer.join()
        assert [trade.trade_id for trade in of(consumer.play(), Trade)] == ["1", "2"]
        assert feed.lost == 0


def test_lifecycle_is_reported_by_the_gateway_s_feed(stage, script):
    script.everything()
    with stage() as (_, _, consumer):
        consumer.play()
        consumer.until(lambda: any(isinstance(event, Lifecycle) for event in consumer.events))
        (event,) = [event for event in consumer.events if isinstance(event, Lifecycle)]
        assert event.event == "started"
        assert "replay" in event.flags


def test_the_timing_of_the_recording_is_kept(stage, script, say, monkeypatch):
    naps = []
    monkeypatch.setattr(Replay, "_idle", lambda _self, seconds, _stop: naps.append(seconds))
    now = time.monotonic_ns()
    monkeypatch.setattr(module.time, "monotonic_ns", lambda: now)
    for number in range(4):
        script.say("trade", say.trade(number))
    with stage(speed=2.0) as (replay, _, _):
        replay.run(lambda: False, lambda _: None)
    assert naps == pytest.approx([0.0, 0.005, 0.010, 0.015, 0.0])


def test_what_was_received_long_before_the_recording_keeps_nobody_waiting(stage, script, say, monkeypatch):
    """A journal begins with what late subscribers are sent again: instruments of the start, a mark of a minute ago."""
    naps = []
    monkeypatch.setattr(Replay, "_idle", lambda _self, seconds, _stop: naps.append(seconds))
    now = time.monotonic_ns()
    monkeypatch.setattr(module.time, "monotonic_ns", lambda: now)
    for number, hours in enumerate((20, 1)):
        old = say.trade(number)
        old.flags, old.recv_mono_ns = ("refresh",), say.MONO_NS - hours * 3600 * say.SECOND
        script.say("trade", old)
    script.say("trade", say.trade(2)).say("trade", say.trade(3))
    with stage(speed=1.0) as (replay, _, _):
        replay.run(lambda: False, lambda _: None)
    assert sum(naps) == pytest.approx(0.01)


def test_a_replay_can_be_stopped(stage, script, say):
    for number in range(50):
        script.say("trade", say.trade(number))
    with stage() as (replay, _, _):
        replay.run(lambda: replay.published >= 7, lambda _: None)
        assert replay.published == 7


def test_bad_lines_are_left_out_and_counted(stage, script, say):
    script.lines.append(b"hello\n")
    script.lines.append(b'{"topic":"x","kind":"trade"}\n')
    script.say("trade", say.trade(1))
    with stage() as (replay, _, consumer):
        consumer.join()
        assert len(of(consumer.play(), Trade)) == 1
        assert replay.bad == 2


def test_venues_that_no_header_names_are_published_too(stage, script, run_dir, say):
    script.say("trade", say.trade(1, venue="aster"))
    with stage() as (replay, _, _):
        replay.run(lambda: False, lambda _: None)
        described = run_dir.describe()["venues"]
    assert set(described) == {"lighter", "aster"}
    assert described["aster"]["feed"] == run_dir.feed("aster")


def test_the_run_directory_describes_the_system_that_was(stage, script, run_dir):
    script.everything()
    with stage():
        described = run_dir.describe()
    assert described["version"] == "1.2.3"
    assert described["venues"]["lighter"]["symbols"] == ["BTC-PERP"]
    assert described["venues"]["lighter"]["feed"] == run_dir.feed("lighter")
    assert described["replay"]


def test_the_board_of_an_earlier_system_is_not_taken_for_ours(stage, script, run_dir):
    run_dir.board.write_bytes(b"old")
    script.everything()
    with stage():
        assert not run_dir.board.exists()


def test_at_full_speed_subscribers_that_are_behind_are_waited_for(stage, script, say):
    """More than all pipes together hold, to a consumer that is long in reading the first event."""
    count = 60_000
    for number in range(count):
        script.say("trade", say.trade(number))
    with stage() as (replay, feed, consumer):
        consumer.join()
        trades = []

        def read_late():
            while replay.published < count // 4:
                time.sleep(0.005)
            deadline = time.monotonic() + PATIENCE_S
            while len(trades) < count and time.monotonic() < deadline:
                trades.extend(of([feed.poll(0.1)], Trade))

        reader = threading.Thread(target=read_late)
        reader.start()
        replay.run(lambda: False, lambda _: None)
        reader.join()
        assert [trade.trade_id for trade in trades] == [str(number) for number in range(count)]
        assert (feed.lost, replay.drops) == (0, 0)
