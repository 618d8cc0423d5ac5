"""Each rule of arbitration by itself, with messages of two lines."""

from __future__ import annotations

import pytest
from truth_of_lines import MS, SYMBOL, Consumer, Publisher, S

from ipc.arbitration.arbitration import Arbitration
from ipc.codec import encode
from ipc.events import BookDelta, BookSnapshot, Gap, Heartbeat, HeartbeatBook, Lifecycle, Liquidation, Status, Trade
from ipc.feed_state import FeedState
from ipc.health import Reason, Stream, StreamState
from ipc.sources import Source


@pytest.fixture
def both() -> Consumer:
    """Consumer of two lines in step, of which the first is delivered."""
    return in_step("lighter")


def in_step(venue: str, position: int = 10) -> Consumer:
    consumer = Consumer(venue)
    for source, publisher in enumerate(consumer.publishers):
        consumer.receive(source, publisher.snapshot(position, position))
        consumer.receive(source, publisher.heartbeat())
    consumer.events.clear()
    return consumer


def step(consumer: Consumer, source: int, state: int) -> list:
    return consumer.receive(source, consumer.publishers[source].delta(state, state))


def kinds(events) -> list[str]:
    return [event.cause if isinstance(event, BookSnapshot) else type(event).__name__ for event in events]


# --- which one is delivered -------------------------------------------------------------------------------------------


def test_the_first_usable_line_is_delivered_and_the_other_is_not():
    consumer = Consumer()
    assert kinds(consumer.receive(1, consumer.publishers[1].snapshot(3, 3))) == ["subscribe"]
    assert consumer.receive(0, consumer.publishers[0].snapshot(3, 3)) == []
    assert (consumer.state, consumer.book.line) == (3, "b")
    assert kinds(step(consumer, 1, 4)) == ["BookDelta"]
    assert step(consumer, 0, 4) == []


def test_changes_before_the_first_snapshot_are_not_delivered():
    consumer = Consumer()
    assert step(consumer, 0, 4) == []
    assert not consumer.book.usable


def test_the_delivered_line_is_delivered_whatever_its_position(both):
    assert kinds(step(both, 0, 5)) == ["BookDelta"]
    assert both.state == 5


def test_a_gap_of_the_other_line_moves_its_copy_alone(both):
    assert both.receive(1, both.publishers[1].gap()) == []
    assert both.state == 10


def test_a_book_that_can_only_be_shown_is_replaced_by_one_that_can_be_traded_on():
    consumer = Consumer()
    rest = consumer.publishers[0].snapshot(3, 3, cause="rest", flags=("rest",))
    assert kinds(consumer.receive(0, rest)) == ["rest"]
    assert consumer.book.reason == "rest"
    assert kinds(consumer.receive(1, consumer.publishers[1].snapshot(2, 2))) == ["takeover"]
    assert (consumer.state, consumer.book.line) == (2, "b")


# --- lost -------------------------------------------------------------------------------------------------------------


def losses() -> dict:
    return {
        "gap": lambda c: c.receive(0, c.publishers[0].gap()),
        "disconnect": lambda c: c.disconnect(0),
        "exit": lambda c: c.receive(0, c.publishers[0].exited(c.now_ns)),
        "missed": lambda c: (c.publishers[0].delta(11, 11), c.receive(0, c.publishers[0].delta(12, 12)))[1],
        "tail": lambda c: (c.publishers[0].delta(11, 11), c.receive(0, c.publishers[0].heartbeat()))[1],
        "malformed": lambda c: c.receive(0, [f"book.lighter.{SYMBOL}".encode(), b"{"]),
    }


@pytest.mark.parametrize("how", losses())
def test_the_other_line_takes_over_at_once(both, how):
    delivered = [event for event in losses()[how](both) if isinstance(event, BookSnapshot | Gap)]
    (snapshot,) = delivered
    assert isinstance(snapshot, BookSnapshot)
    assert (snapshot.cause, snapshot.line, snapshot.epoch, snapshot.seq, snapshot.venue_seq) == (
        "takeover",
        "b",
        1,
        1,
        10,
    )
    assert (snapshot.bids, snapshot.asks) == ([("100", "11")], [("101", "1")])
    assert (both.state, both.book.line) == (10, "b")
    assert both.arbitration.changeovers == {"lost": 1}
    assert kinds(step(both, 1, 11)) == ["BookDelta"]


def test_a_takeover_is_made_after_the_last_event_of_its_line(both):
    step(both, 0, 11)
    for state in (11, 12):
        step(both, 1, state)
    (snapshot,) = both.receive(0, both.publishers[0].gap())
    assert (snapshot.seq, snapshot.venue_seq, snapshot.bids) == (3, 12, [("100", "13")])


def test_an_exit_of_line_b_is_not_one_of_line_a(both):
    reported = both.receive(0, both.publishers[1].exited(both.now_ns))
    assert kinds(reported) == ["Lifecycle"]
    assert (both.state, both.book.line) == (10, "a")
    assert both.receive(0, both.publishers[0].gap())[0].reason == Reason.SEQ_GAP  # nobody is left
    assert not both.book.usable


def test_a_line_whose_position_is_lower_may_not_take_over_until_it_has_come_so_far(both):
    step(both, 0, 11)
    assert both.receive(0, both.publishers[0].gap()) == []
    assert (both.state, both.book.line) == (11, "a")  # kept
    assert kinds(step(both, 1, 11)) == ["takeover"]
    assert both.book.line == "b"


def test_a_line_whose_book_is_equal_may_take_over_with_a_lower_position(both):
    both.receive(0, both.publishers[0].message("book", BookDelta("lighter", SYMBOL, "1", None, [], [], 12, None)))
    assert kinds(both.receive(0, both.publishers[0].gap())) == ["takeover"]


def test_a_line_without_positions_may_take_over_only_with_an_equal_book():
    consumer = Consumer("hyperliquid")
    for source, publisher in enumerate(consumer.publishers):
        consumer.receive(source, publisher.snapshot(source, None))
    assert consumer.receive(0, consumer.publishers[0].gap()) == []
    assert kinds(consumer.receive(1, consumer.publishers[1].snapshot(0, None))) == ["takeover"]


def test_a_lost_book_is_kept_no_longer_than_the_limit(both):
    step(both, 0, 11)
    both.receive(0, both.publishers[0].gap(Reason.SERVER_CLOSE))
    assert both.wait(290) == []
    (gap,) = both.wait(30)
    assert (type(gap), gap.reason, both.book.reason) == (Gap, Reason.SERVER_CLOSE, "server_close")


def test_after_the_gap_another_line_takes_over_when_it_has_come_so_far_or_after_five_seconds(both):
    step(both, 0, 12)
    both.receive(0, both.publishers[0].gap())
    both.wait(400)
    assert step(both, 1, 11) == []
    assert kinds(step(both, 1, 12)) == ["takeover"]

    late = in_step("lighter")
    step(late, 0, 12)
    late.receive(0, late.publishers[0].gap())
    late.wait(5400, with_beats=(0, 1))
    assert late.state == 10
    assert late.book.line == "b"


def test_five_seconds_are_not_three(both):
    step(both, 0, 12)
    both.receive(0, both.publishers[0].gap())
    both.wait(4900, with_beats=(0, 1))
    assert not both.book.usable


def test_a_lost_line_that_comes_back_with_an_older_book_waits_for_the_gap(both):
    both.receive(1, both.publishers[1].gap())
    both.receive(1, both.publishers[1].snapshot(3, 3, cause="resync"))
    step(both, 0, 12)
    assert both.receive(0, both.publishers[0].gap()) == []
    assert both.receive(0, both.publishers[0].snapshot(8, 8, cause="resync")) == []
    assert both.state == 12
    assert kinds(both.wait(320)) == ["Gap", "takeover"]
    assert (both.state, both.book.line) == (8, "a")


def test_a_book_without_any_usable_line_is_a_gap_at_once(both):
    both.receive(1, both.publishers[1].gap())
    (gap,) = both.receive(0, both.publishers[0].gap(Reason.SERVER_CLOSE))
    assert (gap.reason, gap.line, both.book.reason) == (Reason.SERVER_CLOSE, "a", "server_close")
    assert kinds(both.receive(0, both.publishers[0].gap())) == ["Gap"]  # repeated, as with one line
    assert kinds(both.receive(0, both.publishers[0].snapshot(11, 11, cause="resync"))) == ["resync"]
    assert both.state == 11


def test_the_last_usable_line_that_is_lost_ends_the_wait_for_it(both):
    step(both, 0, 11)
    both.receive(0, both.publishers[0].gap())
    (gap,) = both.disconnect(1) or both.wait(20)
    assert isinstance(gap, Gap)


def test_a_loss_that_no_worker_reported_is_a_gap_with_its_reason(both):
    both.disconnect(1)
    (gap,) = both.disconnect(0)
    assert (gap.epoch, gap.reason, gap.got, gap.line) == (0, Reason.SEQ_GAP, "disconnected", "a")


@pytest.mark.parametrize("reason", [Reason.CROSSED_BOOK, Reason.PARSE_ERRORS])
def test_a_book_that_was_wrong_is_not_kept(both, reason):
    step(both, 0, 11)
    assert kinds(both.receive(0, both.publishers[0].gap(reason))) == ["Gap"]
    assert not both.book.usable


def test_a_book_that_drifted_is_not_kept(both):
    step(both, 0, 11)
    beat = Heartbeat("lighter", None, None, None, dict(both.publishers[0].seqs), {}, 0, 0)
    beat.books[SYMBOL] = type_of_book(seq=2, crc=7)
    delivered = both.receive(0, both.publishers[0].message("heartbeat", beat, symbol=""))
    assert kinds(delivered) == ["Gap", "Heartbeat"]
    assert not both.book.usable


def type_of_book(seq: int, crc: int):
    return HeartbeatBook(seq, 11, True, 1, crc)


# --- behind -----------------------------------------------------------------------------------------------------------


def test_a_line_that_is_behind_is_left_after_the_limit(both):
    step(both, 1, 11)
    assert both.wait(340) == []
    assert kinds(both.wait(40)) == ["takeover"]
    assert (both.state, both.book.line) == (11, "b")
    assert both.arbitration.changeovers == {"behind": 1}


def test_a_line_that_comes_as_far_in_time_is_kept(both):
    step(both, 1, 11)
    both.wait(290)
    step(both, 0, 11)
    both.wait(2000, with_beats=(0, 1))
    assert both.book.line == "a"


def test_the_next_change_makes_a_new_note(both):
    step(both, 1, 11)
    both.wait(200)
    step(both, 0, 11)
    step(both, 1, 12)
    assert both.wait(340) == []
    assert kinds(both.wait(40)) == ["takeover"]


def test_the_first_change_that_is_missed_counts(both):
    for state in (11, 12, 13):
        step(both, 1, state)
        both.wait(100)
    assert kinds(both.wait(60)) == ["takeover"]


def test_equal_books_are_no_news(both):
    both.receive(
        1, both.publishers[1].message("book", BookDelta("lighter", SYMBOL, "1", None, [("99", "0")], [], 11, None))
    )
    both.wait(2000, with_beats=(0, 1))
    assert both.arbitration.changeovers == {}


def unlike() -> Consumer:
    """Consumer of two lines whose books differ far away from the best prices, as of a venue that cuts them."""
    consumer = Consumer()
    for source, publisher in enumerate(consumer.publishers):
        bids = [("100", "11"), (f"9{source}", "1")]
        book = BookSnapshot("lighter", SYMBOL, "1", None, bids, [("101", "1")], None, 10)
        consumer.receive(source, publisher.message("book", book))
    return consumer


@pytest.mark.parametrize("what", ["empty", "refresh", "resync"])
def test_what_changes_nothing_is_no_news(what):
    consumer = unlike()
    if what == "empty":
        message = consumer.publishers[1].message("book", BookDelta("lighter", SYMBOL, "1", None, [], [], 11, None))
    else:
        flags = ("refresh",) if what == "refresh" else ()
        message = consumer.publishers[1].snapshot(10, 11, cause=what, flags=flags)
    consumer.receive(1, message)
    consumer.wait(1000, with_beats=(0, 1))
    assert consumer.arbitration.changeovers == {}


def test_a_refresh_of_a_whole_book_is_no_news():
    consumer = in_step("hyperliquid")
    consumer.receive(1, consumer.publishers[1].snapshot(11, 11, cause="refresh", flags=("refresh",)))
    consumer.wait(1500, with_beats=(0, 1))
    assert consumer.arbitration.changeovers == {}


def test_any_frame_of_whole_books_is_news():
    consumer = in_step("hyperliquid")
    consumer.receive(1, consumer.publishers[1].snapshot(11, 11))
    assert consumer.wait(790) == []
    assert kinds(consumer.wait(30)) == ["takeover"]


def test_there_is_no_way_back_by_itself_and_none_within_a_second(both):
    step(both, 1, 11)
    both.wait(400)
    for state in (11, 12):
        step(both, 0, state)
    assert both.wait(940) == []  # a second after the change-over
    assert kinds(both.wait(60)) == ["takeover"]


def ms_to_leave(consumer: Consumer, state: int) -> int:
    """Let the line that is not delivered have a change first; return how long it takes until it is delivered, ms."""
    active = 0 if consumer.book.line == "a" else 1
    step(consumer, active, state - 1)
    step(consumer, 1 - active, state - 1)
    consumer.wait(1100, with_beats=(0, 1))
    began = consumer.now_ns
    step(consumer, 1 - active, state)
    while consumer.book.line == "ab"[active]:
        consumer.wait(10, with_beats=(0, 1))
        assert consumer.now_ns - began < 8 * S
    return (consumer.now_ns - began) // MS


def test_change_overs_within_ten_seconds_double_the_limit_up_to_five_seconds_until_a_minute_is_calm(both):
    times = [ms_to_leave(both, 20 + 2 * number) for number in range(7)]
    assert times[:4] == [pytest.approx(limit + 60, abs=11) for limit in (300, 300, 600, 1200)]
    assert max(times) <= 5100
    both.wait(61_000, with_beats=(0, 1))
    assert ms_to_leave(both, 50) == pytest.approx(360, abs=11)


def test_a_consumer_that_was_late_judges_nobody(both):
    step(both, 1, 11)
    both.now_ns += 2 * S  # it did something else
    assert both.arbitration.judge(both.now_ns) == []
    step(both, 0, 11)
    assert both.wait(500) == []


def test_a_consumer_that_reads_once_a_second_judges_every_other_time(both):
    step(both, 1, 11)
    both.events.clear()
    for _ in range(5):
        both.now_ns += S - 10 * MS
        for source in (0, 1):
            both.receive(source, both.publishers[source].heartbeat())
        both.wait(10)
    assert kinds(event for event in both.events if not isinstance(event, Heartbeat)) == ["takeover"]


# --- silent -----------------------------------------------------------------------------------------------------------


def test_a_line_without_heartbeats_is_left_when_another_has_them(both):
    assert [event for event in both.wait(1500, with_beats=(1,)) if not isinstance(event, Heartbeat)] == []
    assert kinds(event for event in both.wait(100, with_beats=(1,)) if not isinstance(event, Heartbeat)) == ["takeover"]
    assert both.arbitration.changeovers == {"silent": 1}


def test_lines_that_are_silent_together_are_not_left_for_each_other(both):
    both.wait(2900)
    assert both.arbitration.changeovers == {}
    assert kinds(both.wait(300)) == ["Gap"]
    assert both.book.reason == "heartbeat_lost"


def test_a_silent_venue_that_is_heard_again_is_delivered_again(both):
    both.wait(3200)
    assert not both.book.usable
    both.receive(0, both.publishers[0].heartbeat())
    both.wait(200)
    assert (both.state, both.book.line) == (10, "a")


# --- trades -----------------------------------------------------------------------------------------------------------


def test_each_trade_is_delivered_once(both):
    a, b = both.publishers
    assert [len(both.receive(source, of.trade("7", 100))) for source, of in ((1, b), (0, a), (1, b), (0, a))] == [
        1,
        0,
        0,
        0,
    ]
    assert len(both.receive(0, a.trade("8", 101))) == 1
    assert both.arbitration.repeated == 3
    assert both.arbitration.trades_of_one_line == 1


def test_what_only_the_slower_line_brings_is_late(both):
    a, b = both.publishers
    both.receive(0, a.trade("9", 200))
    (late,) = both.receive(1, b.trade("8", 100))
    assert late.flags == ("late",)
    (newer,) = both.receive(1, b.trade("10", 300))
    assert newer.flags == ()


def test_disorder_of_one_line_is_not_late(both):
    a = both.publishers[0]
    both.receive(0, a.trade("9", 200))
    (older,) = both.receive(0, a.trade("8", 100))
    assert older.flags == ()


def test_ids_are_kept_for_ten_minutes(both):
    a, b = both.publishers
    both.receive(0, a.trade("7", 100))
    both.now_ns += 599 * S
    assert both.receive(1, b.trade("7", 100)) == []
    both.now_ns += 2 * S
    both.receive(0, a.trade("8", 101))
    assert len(both.receive(1, b.trade("7", 100))) == 0  # the line's own memory knows it longer


def test_of_equal_prints_without_ids_as_many_are_delivered_as_a_line_has():
    consumer = in_step("aster")

    def liquidation(source, price="5"):
        event = Liquidation("aster", SYMBOL, "1", 100, price, "1", "buy", "made:1")
        return len(consumer.receive(source, consumer.publishers[source].message("liquidation", event)))

    assert [liquidation(source) for source in (0, 0, 1, 1, 1, 0)] == [1, 1, 0, 0, 1, 0]
    assert liquidation(0, "6") == 1


def test_ids_that_are_of_one_connection_are_the_delivered_lines_alone():
    consumer = in_step("paradex")
    a, b = consumer.publishers
    assert [len(consumer.receive(1, b.trade("5:1:2"))), len(consumer.receive(0, a.trade("4:1:2")))] == [0, 1]
    consumer.receive(0, a.gap())
    assert [len(consumer.receive(1, b.trade("6:1:2"))), len(consumer.receive(0, a.trade("5:1:2")))] == [1, 0]


# --- values -----------------------------------------------------------------------------------------------------------


def test_values_of_one_line_are_delivered(both):
    a, b = both.publishers
    assert [
        len(both.receive(source, of.bbo(size, at))) for source, of, size, at in ((0, a, "1", 1), (1, b, "1", 1))
    ] == [1, 0]
    assert len(both.receive(0, a.bbo("2", 2))) == 1
    assert both.arbitration.latest("bbo", "lighter", SYMBOL).bid_size == "2"


def test_a_value_that_is_behind_is_left_after_the_limit(both):
    a, b = both.publishers
    both.receive(0, a.bbo("1", 1))
    both.receive(1, b.bbo("2", 2))
    assert both.wait(290) == []
    (value,) = both.wait(30)
    assert (value.bid_size, value.line) == ("2", "b")
    assert both.arbitration.latest("bbo", "lighter", SYMBOL) is value


def test_a_lost_line_gives_way_with_a_newer_value_only(both):
    a, b = both.publishers
    both.receive(0, a.mark("5", 7))
    both.receive(1, b.mark("5", 7))
    assert kinds(both.disconnect(0)) == ["takeover"]
    assert len(both.receive(1, b.mark("6", 8))) == 1


def test_values_of_a_line_without_heartbeats_are_left(both):
    for source, publisher in enumerate(both.publishers):
        both.receive(source, publisher.bbo("1", 1))
    both.wait(1700, with_beats=(1,))
    assert both.arbitration.changeovers == {"silent": 2}  # the book's is the other one
    assert len(both.receive(1, both.publishers[1].bbo("2", 2))) == 1


def test_values_without_a_time_change_over_when_one_line_says_nothing_for_three_periods(both):
    a, b = both.publishers
    both.receive(0, a.mark("5", None))
    both.receive(1, b.mark("6", None))
    both.wait(8900, with_beats=(0, 1))
    both.receive(1, b.mark("7", None))
    both.wait(50)
    assert both.arbitration.latest("mark", "lighter", SYMBOL).mark_price == "5"
    both.wait(200, with_beats=(0, 1))
    both.receive(1, b.mark("8", None))
    both.wait(50)
    assert both.arbitration.latest("mark", "lighter", SYMBOL).mark_price == "8"


def test_equal_values_are_no_news(both):
    a, b = both.publishers
    both.receive(0, a.bbo("1", 1))
    both.receive(1, b.bbo("1", 2))
    both.wait(1500, with_beats=(0, 1))
    assert both.arbitration.changeovers == {}


def test_a_line_that_is_lost_after_a_gap_resumes_with_its_whole_book(both):
    both.receive(1, both.publishers[1].gap())
    both.wait(3200)
    assert not both.book.usable
    both.arbitration._states[0].handle(both.publishers[0].heartbeat(), both.now_ns)
    (first,) = both.receive(0, both.publishers[0].delta(11, 11))
    assert (first.cause, first.bids, both.state) == ("takeover", [("100", "12")], 11)


# --- what is about a line ---------------------------------------------------------------------------------------------


def test_status_and_heartbeats_are_delivered_of_both_and_kept_for_each(both):
    for source, state in ((0, StreamState.LIVE), (1, StreamState.STALE)):
        event = Status("lighter", None, None, None, Stream.BOOK, state, None, None, 1, None, 7, {})
        assert len(both.receive(source, both.publishers[source].message("status", event, symbol=""))) == 1
    latest = both.arbitration.latest
    assert [latest("status", "lighter", "", line).state for line in ("a", "b")] == ["live", "stale"]
    assert latest("status", "lighter", "").line == "b"


def test_lifecycle_is_kept_by_process(both):
    both.receive(0, both.publishers[0].exited(1))
    both.receive(0, both.publishers[1].exited(2))
    for process in ("lighter", "lighter.b"):
        event = both.arbitration.latest("lifecycle", process, "")
        assert isinstance(event, Lifecycle)
        assert event.venue == process


def test_time_on_one_line_is_counted(both):
    both.wait(3000, with_beats=(1,))
    assert both.arbitration.single_line_s == pytest.approx(1.5, abs=0.2)


# --- from one source to several ---------------------------------------------------------------------------------------


def test_a_consumer_keeps_its_books_when_a_line_is_added():
    state = FeedState(["lighter"], 1000 * S)
    a, b = Publisher("lighter", "a"), Publisher("lighter", "b")
    state.handle(a.snapshot(4, 4), 1000 * S)
    held = state.book("lighter", SYMBOL, 1000 * S)
    arbitration = Arbitration(
        ["lighter"], [Source("", "a"), Source("", "b")], 1000 * S, is_remote=[False, False], first=state
    )
    assert arbitration.book("lighter", SYMBOL, 1000 * S) is held
    assert [type(event) for event in arbitration.handle(0, a.delta(5, 5), 1001 * S)] == [BookDelta]
    assert arbitration.handle(1, b.snapshot(5, 5), 1001 * S) == []
    (snapshot,) = arbitration.handle(0, a.gap(), 1001 * S)
    assert (snapshot.cause, held.line, held.bids()) == ("takeover", "b", [("100", "6")])


def test_messages_that_cannot_be_read_are_counted_over_all(both):
    both.receive(1, [b"trade.lighter.BTC-PERP", b"{"])
    both.receive(0, [b"trade.lighter.BTC-PERP", b"{"])
    assert both.arbitration.malformed == 2
    assert encode(Trade("lighter", SYMBOL, None, None, "1", "1", "buy", "1"))
    assert MS < S
