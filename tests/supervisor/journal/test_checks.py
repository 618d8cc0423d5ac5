from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from supervisor.journal.checks import EventsCheck, RawCheck
from supervisor.journal.format import decode_header

QUIET = {"lighter": {"symbols": ["BTC-PERP"], "streams": ["book"]}}


def look(*scripts, owns=lambda _: True):
    """What a check says of these scripts, each a file of its own."""
    check = EventsCheck(owns)
    for number, script in enumerate(scripts, start=1):
        lines = script.bytes(number).splitlines(keepends=True)
        check.begin_file(f"file{number}", decode_header(lines[0]))
        for at, line in enumerate(lines, start=1):
            check.check_line(line, at)
        check.end_file(0)
    return check.finish()


def kinds(report):
    return [finding.kind for finding in report.problems]


def reported(report, kind):
    """Where a kind of finding was made, and its text."""
    return [(f.file, f.line, f.topic, f.text) for f in (*report.problems, *report.notes) if f.kind == kind]


BOOK = "book.lighter.BTC-PERP"


def test_a_good_journal_is_good(script):
    report = look(script.everything())
    assert report.counts == {}
    book = report.topics["lighter"][BOOK]
    assert (book.events, book.epochs, book.snapshots, book.gaps, book.lost) == (3, 1, 1, 0, 0)
    assert book.last_ns > book.first_ns > 0
    assert set(report.topics) == {"lighter", "lifecycle"}


# --- sequence ---------------------------------------------------------------------------------------------------------


def test_a_lost_event_is_a_gap_at_its_place(script, say):
    script.everything()
    script.say("trade", say.trade(5), seq=4)
    report = look(script)
    assert reported(report, "seq_gap") == [("file1", 13, "trade.lighter.BTC-PERP", "2 lost, seq 2 to 3")]
    assert report.topics["lighter"]["trade.lighter.BTC-PERP"].lost == 2


def test_a_topic_that_is_first_heard_late_lost_nothing(script, say):
    script.everything()
    script.say("liquidation", say.trade(9), seq=40)
    # The event is a trade, which is what a liquidation looks like to a check of its place.
    assert "seq_gap" not in look(script).counts


def test_an_event_that_comes_again_is_reported_and_not_counted_on(script, say):
    script.everything()
    script.say("trade", say.trade(1), seq=1).say("trade", say.trade(2), seq=2)
    report = look(script)
    assert kinds(report) == ["repeated"]


def test_a_restart_begins_again(script, say):
    script.everything().restart().everything()
    report = look(script)
    assert report.counts == {}
    assert report.topics["lighter"][BOOK].epochs == 2


def test_an_older_life_is_reported(script, say):
    first = script.epoch()
    script.everything().restart().everything()
    script.say("trade", say.trade(7), seq=9, epoch=first)
    report = look(script)
    assert kinds(report) == ["epoch_order"]
    assert report.topics["lighter"]["trade.lighter.BTC-PERP"].events == 2


def test_a_restart_of_one_venue_does_not_concern_another(new_script, say):
    script = new_script(config={}).book(say.snapshot(), say.snapshot(venue="aster"))
    script.restart("aster").book(say.snapshot(venue="aster"), say.delta(bids=[("99", "2")]))
    report = look(script)
    assert report.counts == {}
    assert report.topics["lighter"][BOOK].epochs == 1


def test_a_lost_tail_shows_in_the_heartbeat(script, say):
    script.everything().beat([("99.5", "3"), *say.BIDS], say.ASKS[:1], seqs={"trade.lighter.BTC-PERP": 5})
    report = look(script)
    assert [text for *_, text in reported(report, "lost_tail")] == ["4 lost, seq 2 to 5"]
    assert report.topics["lighter"]["trade.lighter.BTC-PERP"].lost == 4


def test_a_book_whose_tail_was_lost_is_not_compared(script, say):
    script.everything().beat(seqs={BOOK: 9}, crc=1)
    assert kinds(look(script)) == ["lost_tail"]


def test_a_heartbeat_may_count_what_was_sent_before_the_recording_began(new_script, say):
    script = new_script(config={}).book(say.snapshot()).beat(seqs={"trade.lighter.BTC-PERP": 12})
    assert look(script).counts == {}


# --- time -------------------------------------------------------------------------------------------------------------


def test_a_book_never_goes_back_in_time(script, say):
    script.everything()
    late = say.delta(bids=[("99", "2")])
    late.recv_mono_ns = say.MONO_NS + 1
    report = look(script.book(late))
    assert kinds(report) == ["time_order"]


def test_two_threads_may_overtake_each_other_on_their_way_to_the_socket(script, say):
    early = say.mark("1")
    script.everything()
    early.recv_mono_ns = say.MONO_NS + 1
    assert look(script.say("mark", early)).counts == {}
    much_earlier = say.mark("1")
    much_earlier.recv_mono_ns = say.MONO_NS - 2 * say.SECOND
    assert kinds(look(script.say("mark", much_earlier))) == ["time_order"]


@pytest.mark.parametrize("flag", ["refresh", "rest"])
def test_what_is_sent_once_more_has_its_own_time(script, say, flag):
    old = say.mark("1", flags=(flag,))
    old.recv_mono_ns = say.MONO_NS - 100 * say.SECOND
    assert look(script.everything().say("mark", old)).counts == {}


def test_a_refresh_of_a_book_carries_no_time(script, say):
    script.everything().book(
        say.snapshot([("99.5", "3"), *say.BIDS], say.ASKS[:1], cause="refresh", flags=("refresh",))
    )
    assert look(script).counts == {}


def test_a_wall_clock_that_was_set_is_noted(script, say):
    script.everything()
    event = say.trade(2)
    event.recv_ns = say.WALL_NS + 3600 * say.SECOND
    script.say("trade", event)
    following = say.trade(3)
    following.recv_ns = event.recv_ns + say.SECOND // 100
    report = look(script.say("trade", following))
    assert report.ok
    ((_, _, topic, text),) = reported(report, "clock_step")
    assert topic == "trade.lighter.BTC-PERP"
    assert text.startswith("the wall clock went +35")


def test_another_boot_is_another_time(new_script, say):
    before, after = new_script().everything(), new_script(recording="20270101T000000.000Z").everything()
    assert look(before, after).counts == {}


# --- books ------------------------------------------------------------------------------------------------------------


def test_a_crossed_book_is_reported(script, say):
    script.everything().book(say.delta(bids=[("100.5", "1")]))
    report = look(script)
    assert [text for *_, text in reported(report, "crossed_book")] == ["seq 4: bid 100.5, ask 100"]


def test_a_crossed_snapshot_is_reported_unless_it_says_so_itself(script, say):
    assert kinds(look(script.everything().book(say.snapshot([("101", "1")], say.ASKS)))) == ["crossed_book"]
    flagged = say.snapshot([("101", "1")], say.ASKS, flags=("crossed_by_venue",))
    assert kinds(look(script.book(flagged))) == ["crossed_book"]


def test_a_book_that_the_worker_gave_up_is_not_judged(script, say):
    script.everything().book(say.gap(), say.delta(bids=[("105", "1")]))
    report = look(script)
    assert report.ok
    assert report.topics["lighter"][BOOK].gaps == 1


def test_a_book_behind_a_loss_is_not_judged_until_it_is_whole(script, say):
    script.everything().say("book", say.delta(bids=[("105", "1")]), seq=9)
    assert kinds(look(script)) == ["seq_gap"]
    script.book(say.snapshot(), say.delta(bids=[("105", "1")]))
    assert kinds(look(script)) == ["seq_gap", "crossed_book"]


@pytest.mark.parametrize("level", [("x", "1"), ("-1", "1"), ("99", ""), ("99", "1e"), ("nan", "1")])
def test_a_level_that_is_none_is_reported(new_script, say, level):
    assert kinds(look(new_script().everything().book(say.delta(bids=[level])))) == ["bad_level"]
    assert kinds(look(new_script().everything().book(say.snapshot([*say.BIDS, level])))) == ["bad_level"]


def test_a_whole_book_out_of_order_is_reported(script, say):
    report = look(script.everything().book(say.snapshot([*reversed(say.BIDS), ("1", "1"), ("1.0", "1")])))
    assert kinds(report) == ["bad_level"]


def test_a_refresh_that_differs_is_drift(script, say):
    report = look(script.everything().book(say.snapshot(cause="refresh", flags=("refresh",))))
    assert kinds(report) == ["drift"]


def test_a_checksum_that_differs_is_reported(script, say):
    report = look(script.everything().beat(say.BIDS, say.ASKS))
    assert kinds(report) == ["checksum"]
    assert reported(report, "checksum")[0][:3] == ("file1", 13, BOOK)


def test_a_checksum_of_another_moment_is_not_compared(script, say):
    script.everything().beat(crc=1, seqs={BOOK: 2})
    assert look(script).counts == {}


def test_levels_are_compared_by_value(new_script, say):
    script = new_script(config={}).book(say.snapshot([("99.0", "1.50")], [("100.00", "2")]))
    assert look(script.beat([("99", "1.5")], [("100", "2.0")])).counts == {}


def test_a_book_that_never_stands_whole_is_noted(new_script, say):
    report = look(new_script(config={}).book(say.delta(bids=[("99", "1")])))
    assert report.ok
    assert report.counts == {"no_snapshot": 1}


def test_the_twenty_levels_are_a_book_of_their_own(new_script, say):
    script = new_script(config={}).say("book20", say.snapshot()).book(say.snapshot([("1", "1")], [("2", "1")]))
    script.say("book20", say.snapshot([("101", "1")], say.ASKS))
    report = look(script)
    assert [finding.topic for finding in report.problems] == ["book20.lighter.BTC-PERP"]


# --- lines ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "line",
    [
        b"\n",
        b"hello\n",
        b"{}\n",
        b'{"topic":"book.lighter.BTC-PERP"}\n',
        b'{"topic":"book.lighter.BTC-PERP","kind":"book_delta","seq":"one"}\n',
        b'{"topic":"nothing","kind":"trade"}\n',
        b"\xff\xfe\n",
    ],
)
def test_a_bad_line_is_reported_with_its_place(script, line):
    script.everything()
    script.lines.insert(3, line)
    report = look(script)
    assert kinds(report) == ["bad_line"]
    assert (report.problems[0].file, report.problems[0].line) == ("file1", 5)


def test_an_event_under_the_topic_of_another_is_reported(script, say):
    script.everything().say("trade", say.trade(2))
    script.lines[-1] = script.lines[-1].replace(b'"topic":"trade.lighter', b'"topic":"trade.aster')
    script.say("trade", say.trade(3), seq=2)
    script.lines[-1] = script.lines[-1].replace(b'"symbol":"BTC-PERP"', b'"symbol":"ETH-PERP"')
    assert kinds(look(script)) == ["bad_line", "bad_line"]


def test_a_kind_of_the_future_is_noted(script):
    script.everything()
    script.lines.append(b'{"topic":"book.lighter.BTC-PERP","kind":"book_wave","epoch":1,"seq":2}\n')
    report = look(script)
    assert report.ok
    assert report.counts == {"newer_kind": 1}


@given(st.lists(st.binary(max_size=40)))
def test_rubbish_never_stops_a_check(lines):
    check = EventsCheck()
    check.begin_file("f", None)
    for number, line in enumerate(lines, start=1):
        check.check_line(line + b"\n", number)
    assert check.finish().counts.get("bad_line", 0) == len(lines)


# --- files ------------------------------------------------------------------------------------------------------------


def test_the_books_go_on_over_the_files_of_a_recording(new_script, say):
    first = new_script().everything()
    second = new_script()
    second.seqs, second.epochs, second.now_ns = first.seqs, first.epochs, first.now_ns
    second.book(say.delta(asks=[("101", "7")]))
    second.beat([("99.5", "3"), *say.BIDS], [say.ASKS[0], ("101", "7")])
    assert look(first, second).counts == {}


def test_a_missing_file_is_noted(script):
    check = EventsCheck()
    for number in (2, 4):
        check.begin_file(f"file{number}", decode_header(script.header(number)))
    report = check.finish()
    assert [(note.kind, note.text) for note in report.notes if note.kind == "missing_file"] == [
        ("missing_file", "file 4 comes after file 2")
    ]


def test_the_first_file_of_what_is_left_of_a_recording_is_no_hole(script):
    check = EventsCheck()
    check.begin_file("file7", decode_header(script.header(7)))
    assert "missing_file" not in check.finish().counts


def test_a_torn_line_is_noted(script):
    check = EventsCheck()
    check.begin_file("f", decode_header(script.header()))
    for number, line in enumerate(script.everything().bytes().splitlines(keepends=True), start=1):
        check.check_line(line, number)
    check.end_file(17)
    report = check.finish()
    assert report.ok
    assert [(note.kind, note.line) for note in report.notes] == [("torn_line", 13)]


# --- what is missing --------------------------------------------------------------------------------------------------


def test_a_venue_that_never_came_is_missed(new_script, say):
    report = look(new_script(config={**QUIET, "aster": QUIET["lighter"]}).everything())
    assert kinds(report) == ["missing_venue"]
    assert report.problems[0].topic == "aster"


def test_a_channel_that_never_came_is_missed(new_script, say):
    config = {"lighter": {"symbols": ["BTC-PERP"], "streams": ["book", "book20", "trade", "liquidation", "account"]}}
    report = look(new_script(config=config).everything())
    assert [finding.topic for finding in report.problems] == ["book20.lighter"]
    assert [finding.topic for finding in report.notes] == ["liquidation.lighter"]


def test_polled_rates_come_on_the_channel_of_rates(new_script):
    config = {"lighter": {"symbols": ["BTC-PERP"], "streams": ["funding_poll"]}}
    assert look(new_script(config=config).everything()).counts == {}


# --- shares -----------------------------------------------------------------------------------------------------------


def test_two_looks_see_together_what_one_sees(new_script, say):
    script = new_script(config={**QUIET, "aster": QUIET["lighter"]}).everything()
    script.say("trade", say.trade(1, venue="aster")).say("trade", say.trade(2, venue="aster"), seq=5)
    script.say("trade", say.trade(9), seq=7)
    whole = look(script)
    shares = [look(script, owns=lambda p: p == "aster"), look(script, owns=lambda p: p != "aster")]
    assert sorted(map(str, whole.problems)) == sorted(str(f) for share in shares for f in share.problems)
    assert whole.topics == shares[0].topics | shares[1].topics


# --- raw frames -------------------------------------------------------------------------------------------------------


def look_at_raw(script, venue="lighter"):
    check = RawCheck(venue)
    check.begin_file("raw", None)
    for number, line in enumerate(script.bytes().splitlines(keepends=True), start=1):
        check.check_line(line, number)
    check.end_file(0)
    return check.finish()


def test_good_raw_frames_are_good(raw_script):
    report = look_at_raw(raw_script.add("open", b"ws://x").frame({"a": 1}).add("close", b"server_close"))
    assert report.counts == {}
    assert report.topics["lighter"]["raw"].events == 3


def test_raw_frames_without_markets_cannot_be_played(new_raw_script):
    assert kinds(look_at_raw(new_raw_script(listings=False).frame({}))) == ["no_listings"]


def test_raw_frames_of_another_venue_are_reported(raw_script):
    assert kinds(look_at_raw(raw_script, "aster")) == ["bad_line", "no_listings"]


def test_a_session_never_goes_back_in_time_and_sessions_may(raw_script):
    raw_script.frame({}).frame({}, session="other", after_ns=-5).frame({})
    assert look_at_raw(raw_script).ok
    raw_script.frame({}, after_ns=-raw_script.now_ns)
    assert kinds(look_at_raw(raw_script)) == ["time_order"]


def test_a_book_for_a_late_subscriber_has_the_time_of_the_frame_that_it_stands_behind(raw_script):
    raw_script.frame({}).frame({}).add("book", b"{}", after_ns=-5).frame({}, after_ns=5)
    assert look_at_raw(raw_script).ok


def test_a_bad_raw_line_is_reported(raw_script):
    check = RawCheck("lighter")
    check.begin_file("raw", raw_script.head)
    check.check_line(b"hello\n", 4)
    check.end_file(3)
    report = check.finish()
    assert [(f.kind, f.line) for f in report.problems] == [("bad_line", 4)]
    assert [(f.kind, f.line) for f in report.notes] == [("torn_line", 5)]
