"""Ping schedule, and the limit of malformed frames."""

from __future__ import annotations

from workers.protocol.keepalive import PingTimer
from workers.protocol.malformed import MAX_MALFORMED_IN_ROW, MalformedFrames


def test_first_ping_is_due_after_one_interval_and_each_once():
    timer = PingTimer(20, 10)
    timer.start(100)
    assert [timer.should_ping(now) for now in (119, 120, 121, 139, 140)] == [False, True, False, False, True]


def test_first_unanswered_ping_counts():
    timer = PingTimer(5, 12)
    timer.start(100)
    assert not timer.is_overdue(10_000), "nothing was sent"
    assert timer.should_ping(105)
    assert timer.should_ping(110)
    assert not timer.is_overdue(117)
    assert timer.is_overdue(118)


def test_pong_or_a_new_connection_ends_the_wait():
    timer = PingTimer(5, 12)
    timer.start(100)
    timer.should_ping(105)
    timer.pong()
    assert not timer.is_overdue(1000)
    timer.should_ping(110)
    assert timer.is_overdue(123)
    timer.start(200)
    assert not timer.is_overdue(1000)
    assert not timer.should_ping(204)


def test_limit_of_malformed_frames():
    frames = MalformedFrames()
    assert [frames.add() for _ in range(11)] == [False] * 9 + [True] * 2
    assert (frames.in_row, MAX_MALFORMED_IN_ROW) == (11, 10)
