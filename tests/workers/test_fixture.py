"""Fixture mode: one recording always gives the same events, in recorded time, without a socket or a watchdog."""

from __future__ import annotations

import msgspec
import pytest
from fake_venue import BTC, ETH, FakeVenue, delta, snapshot, trade

from ipc.codec import encode
from ipc.errors import ConfigError
from ipc.events import BookDelta, BookSnapshot, Gap, Trade
from ipc.health import Reason, Stream, StreamState
from ipc.raw import RawHeader, encode_line, make
from workers import fixture as module
from workers.fixture import Fixture, Player, Stage, load
from workers.protocol.actions import StateChanged
from workers.protocol.policy import Policy
from workers.protocol.session import MarketSession
from workers.venues.listing import Listing
from workers.venues.venue import Continuity, Resync, Rule

NS = 1_000_000_000
START = 5_000 * NS


def at(seconds):
    return START + int(seconds * NS)


def record(kind, seconds, payload=b"", session="main", **more):
    return make(kind, session, at(seconds), at(seconds), payload, **more)


# --- reading ------------------------------------------------------------------------------------------------------


def header(venue="lighter", listings=(BTC, ETH), **changes):
    return RawHeader(venue=venue, listings=[msgspec.to_builtins(one) for one in listings], **changes)


def write(path, *lines):
    path.write_bytes(b"".join(line if isinstance(line, bytes) else encode_line(line) for line in lines))


def test_recording_is_read_with_its_markets_options_and_records(tmp_path):
    write(tmp_path / "a.jsonl", header(options={"depth": "5"}), record("open", 0), record("in", 1, b"x"))
    fixture = load(str(tmp_path), "lighter")
    assert fixture.listings == (BTC, ETH)
    assert fixture.options == {"depth": "5"}
    assert [one.kind for one in fixture.records] == ["open", "in"]


def test_several_files_are_one_recording_in_the_order_of_time(tmp_path):
    write(tmp_path / "b.jsonl", header(), record("in", 1, b"1"), record("in", 3, b"3"))
    write(tmp_path / "a.jsonl", header(), record("in", 2, b"2"), record("in", 4, b"4"))
    (tmp_path / "notes.txt").write_text("not a recording")
    fixture = load(str(tmp_path), "lighter")
    assert [one.payload for one in fixture.records] == [b"1", b"2", b"3", b"4"]


def test_records_of_one_moment_keep_their_order(tmp_path):
    write(tmp_path / "a.jsonl", header(), *[record("in", 1, b"%d" % number) for number in range(9)])
    assert [one.payload for one in load(str(tmp_path), "lighter").records] == [b"%d" % number for number in range(9)]


def test_bad_line_is_skipped_and_reported(tmp_path, events):
    write(tmp_path / "a.jsonl", header(), b"{torn\n", record("in", 1, b"x"))
    assert len(load(str(tmp_path), "lighter").records) == 1
    assert events("fixture.line_skipped")[0]["line"] == 2


@pytest.mark.parametrize(
    ("lines", "what"),
    [
        ([], "no recording of lighter"),
        ([header()], "no recording of lighter"),
        ([record("in", 1)], "no recording of lighter"),
        ([header(listings=()), record("in", 1)], "no recording of lighter"),
        ([header("aster"), record("in", 1)], "a recording of aster, not of lighter"),
    ],
)
def test_directory_without_a_recording_is_a_mistake_of_the_configuration(tmp_path, lines, what):
    write(tmp_path / "a.jsonl", *lines)
    with pytest.raises(ConfigError, match=what):
        load(str(tmp_path), "lighter")


def test_missing_directory_is_a_mistake_of_the_configuration(tmp_path):
    with pytest.raises(ConfigError):
        load(str(tmp_path / "gone"), "lighter")


# --- playing ------------------------------------------------------------------------------------------------------


class Stand:
    """Plays records into a session, and keeps what comes of it."""

    def __init__(self, venue, *records, listings=(BTC,), is_paced=False):
        self.heard, self.settled = [], []
        self.is_stopped = self.has_turn = False
        plan = venue.connections(listings, "ws://x", {})[0]
        policy = Policy(stale_ns=10 * NS, ping_ns=20 * NS, pong_ns=10 * NS)
        self.session = MarketSession(venue, plan, listings, policy)
        stage = Stage(venue, [self.session], self._publish, self._settle, lambda: self)
        fixture = Fixture(tuple(listings), {}, records)
        self.player = Player(fixture, stage, is_paced=is_paced, stop=lambda: self.is_stopped)

    def _publish(self, session, publications, is_caused):
        assert session is self.session
        assert self.has_turn
        self.heard += [(event, is_caused) for _, event in publications if event is not None]

    def __enter__(self):
        assert not self.has_turn
        self.has_turn = True

    def __exit__(self, *_):
        self.has_turn = False

    def _settle(self, session):
        assert not self.has_turn
        self.settled += session.actions.drain()

    def play(self):
        self.played = self.player.run()
        return [type(event) for event, _ in self.heard]


@pytest.fixture
def venue():
    return FakeVenue(streams={Stream.BOOK: None})


def test_recorded_frames_go_through_the_decoder_and_the_brain(venue):
    frames = [venue.frame(one) for one in (delta(1, 0), snapshot(1), delta(2, 1), delta(9, 8))]
    records = [record("open", 0), *[record("in", number, one) for number, one in enumerate(frames, 1)]]
    stand = Stand(venue, *records)
    assert stand.play() == [BookSnapshot, BookDelta, Gap]
    assert {is_caused for _, is_caused in stand.heard} == {True}
    assert stand.played == 5


def test_what_a_session_asks_for_and_which_streams_changed_is_reported_behind_the_turn(venue):
    stand = Stand(venue, record("open", 0), record("in", 1, venue.frame(snapshot(1))), record("close", 2))
    stand.play()
    changes = [action.stream.state for action in stand.settled if isinstance(action, StateChanged)]
    assert StreamState.BACKOFF in changes
    assert not stand.session.actions


def test_end_of_a_recorded_connection_is_a_gap_with_its_reason(venue):
    frame = venue.frame(snapshot(1))
    for text, reason in ((b"read_timeout", Reason.READ_TIMEOUT), (b"", Reason.SERVER_CLOSE)):
        stand = Stand(venue, record("open", 0), record("in", 1, frame), record("close", 2, text))
        assert stand.play() == [BookSnapshot, Gap]
        assert stand.heard[-1][0].reason is reason
        assert stand.heard[-1][1] is False


def test_time_passes_between_records_as_it_did():
    continuity = Continuity(Rule.SNAPSHOTS, Resync.RESUBSCRIBE, silence_s={Stream.BOOK: 3.0})
    venue = FakeVenue(streams={Stream.BOOK: None}, continuity=continuity)
    frame = venue.frame(snapshot(None))
    stand = Stand(venue, record("open", 0), record("in", 1, frame), record("in", 20, frame))
    assert stand.play() == [BookSnapshot, Gap, BookSnapshot]
    assert stand.heard[1][1] is False


@pytest.mark.parametrize("begins_open", [True, False])
def test_recording_that_begins_with_an_open_connection_is_played_in_the_same_time(begins_open):
    continuity = Continuity(Rule.SNAPSHOTS, Resync.RESUBSCRIBE, silence_s={Stream.BOOK: 3.0})
    venue = FakeVenue(streams={Stream.BOOK: None}, continuity=continuity)
    records = [record("in", 1, venue.frame(snapshot(None))), record("in", 20, venue.frame(snapshot(None)))]
    stand = Stand(venue, *([] if begins_open else [record("open", 0)]), *records)
    assert stand.play() == [BookSnapshot, Gap, BookSnapshot]


@pytest.mark.parametrize(("begins_open", "flags"), [(True, ()), (False, ("backlog",))])
def test_trades_in_the_middle_of_a_connection_are_no_backlog(begins_open, flags):
    venue = FakeVenue(streams={Stream.TRADE: None}, replays_trades=True)
    frame = record("in", 1, venue.frame(trade("1")))
    stand = Stand(venue, *([] if begins_open else [record("open", 0)]), frame)
    assert stand.play() == [Trade]
    assert stand.heard[0][0].flags == flags


def book_record(seconds, book):
    return record("book", seconds, encode(book))


def test_book_that_a_recording_begins_with_is_followed(venue):
    stand = Stand(venue, book_record(1, snapshot(7)), record("in", 1, venue.frame(delta(8, 7))))
    assert stand.play() == [BookSnapshot, BookDelta]
    assert stand.heard[0][0].flags == ()
    assert stand.heard[0][0].cause == "subscribe"


def test_book_that_is_held_already_is_no_news(venue):
    frames = [record("in", number, venue.frame(one)) for number, one in ((1, snapshot(1)), (2, delta(2, 1)))]
    stand = Stand(venue, record("open", 0), *frames, book_record(2, snapshot(2)))
    assert stand.play() == [BookSnapshot, BookDelta]


def test_book_that_is_another_than_the_held_one_ends_what_was_followed(venue):
    frames = [record("in", 1, venue.frame(snapshot(1))), record("in", 9, venue.frame(delta(71, 70)))]
    stand = Stand(venue, record("open", 0), frames[0], book_record(9, snapshot(70)), frames[1])
    assert stand.play() == [BookSnapshot, Gap, BookSnapshot, BookDelta]
    assert stand.heard[1][0].reason is Reason.CRASH


@pytest.mark.parametrize("payload", [b"nonsense", encode(trade("1")), encode(snapshot(1, symbol="DOGE-PERP"))])
def test_book_that_is_none_is_left_out(venue, payload):
    stand = Stand(venue, record("book", 1, payload), record("in", 1, venue.frame(snapshot(1))))
    assert stand.play() == [BookSnapshot]


def test_connection_that_opens_again_without_an_end_is_lost(venue):
    frame = venue.frame(snapshot(1))
    records = [record("open", 0), record("in", 1, frame), record("open", 9), record("in", 10, frame)]
    stand = Stand(venue, *records)
    assert stand.play() == [BookSnapshot, Gap, BookSnapshot]
    assert stand.heard[1][0].reason is Reason.CRASH
    assert stand.heard[2][0].cause == "subscribe"


def test_recorded_answer_of_rest_is_joined_to_the_stream():
    venue = FakeVenue(streams={Stream.BOOK: None}, continuity=Continuity(Rule.BRIDGE, Resync.REFETCH))
    change, following = venue.frame(delta(10, 5)), venue.frame(delta(15, 10))
    answer = record("rest", 2, b"7", symbol="BTC-PERP", purpose="bridge")
    stand = Stand(venue, record("open", 0), record("in", 1, change), answer, record("in", 3, following))
    assert stand.play() == [BookSnapshot, BookDelta, BookDelta]
    assert [is_caused for _, is_caused in stand.heard] == [False, False, True]


@pytest.mark.parametrize(
    "more",
    [
        {"symbol": "DOGE-PERP", "purpose": "bridge"},
        {"symbol": "BTC-PERP"},
        {"symbol": "BTC-PERP", "purpose": "bridge", "reason": "read_timeout"},
    ],
)
def test_answer_of_rest_that_is_of_no_use_is_none(venue, more):
    stand = Stand(venue, record("open", 0), record("rest", 1, b"7", **more))
    assert stand.play() == []
    assert stand.played == 2


def test_what_was_sent_then_is_not_sent_again(venue):
    stand = Stand(venue, record("open", 0), record("out", 1, b"+book.BTC-PERP"))
    assert stand.play() == []
    assert not stand.session.actions


def test_records_of_other_sessions_are_left_out(venue):
    frame = venue.frame(snapshot(1))
    stand = Stand(venue, record("open", 0, session="other"), record("in", 1, frame, session="other"))
    assert stand.play() == []
    assert stand.played == 0


def test_one_recording_always_gives_the_same_events(venue):
    frames = [venue.frame(one) for one in (snapshot(1), delta(2, 1), delta(9, 8), snapshot(12), delta(13, 12))]
    records = [record("open", 0), *[record("in", 1 + number / 7, one) for number, one in enumerate(frames)]]
    first, second = (Stand(venue, *records) for _ in range(2))
    first.play()
    second.play()
    assert [msgspec.to_builtins(event) for event, _ in first.heard] == [
        msgspec.to_builtins(event) for event, _ in second.heard
    ]


def test_player_stops_when_it_is_reported_to(venue):
    frame = venue.frame(snapshot(1))
    stand = Stand(venue, record("open", 0), *[record("in", number, frame) for number in range(1, 100)])
    stand.is_stopped = True
    assert stand.play() == []
    assert stand.played == 0


@pytest.mark.parametrize(("is_paced", "took_s"), [(True, 7.5), (False, 0)])
def test_recorded_timing_is_kept_when_that_is_asked_for(venue, clock, monkeypatch, is_paced, took_s):
    monkeypatch.setattr(module, "time", clock)
    monkeypatch.setattr(clock, "sleep", clock.advance, raising=False)
    began = clock.now_ns
    frame = venue.frame(snapshot(1))
    Stand(venue, record("open", 0), record("in", 7.5, frame), is_paced=is_paced).play()
    assert (clock.now_ns - began) / NS == pytest.approx(took_s, abs=0.01)


def test_close_with_a_reason_of_another_version_is_played(venue):
    frame = venue.frame(snapshot(1))
    stand = Stand(venue, record("open", 0), record("in", 1, frame), record("close", 2, b"solar_flare"))
    assert stand.play() == [BookSnapshot, Gap]


def test_recorded_answer_of_rest_that_cannot_be_read_is_none(venue):
    answer = record("rest", 1, b"<html>", symbol="BTC-PERP", purpose="bridge")
    stand = Stand(venue, record("open", 0), answer, record("in", 2, venue.frame(snapshot(1))))
    assert stand.play() == [BookSnapshot]


def test_listing_of_a_recording_has_its_symbol(tmp_path):
    write(tmp_path / "a.jsonl", header(listings=[Listing("SOL", "9", "SOL-USD")]), record("in", 1))
    (listing,) = load(str(tmp_path), "lighter").listings
    assert listing.symbol == "SOL-PERP"
