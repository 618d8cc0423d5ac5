"""Times and shares that the venues' limits dictate: a change of one must be deliberate."""

from __future__ import annotations

import pytest

from ipc import events
from ipc.health import Stream
from workers import budgets
from workers.protocol import control, malformed, recovery, session, streams, subscriptions
from workers.protocol.book_fetch import REFETCH_CAP_NS
from workers.venues import VENUES
from workers.venues.venue import SoftResync

NS = 1_000_000_000
MS = 1_000_000


@pytest.mark.parametrize(
    ("venue", "interval_s"),
    [("hyperliquid", 30), ("aster", 30), ("extended", 15), ("lighter", 30), ("paradex", 30)],
)
def test_keepalive_of_each_venue(venue, interval_s):
    keepalive = VENUES[venue].keepalive
    assert (keepalive.interval_s, keepalive.pong_within_s) == (interval_s, 10)


def test_silence_and_stale_limits_of_hyperliquid():
    continuity = VENUES["hyperliquid"].continuity
    assert continuity.silence_s == {Stream.BOOK: 2.0, Stream.BOOK20: 20.0}
    assert continuity.min_stale_s == {Stream.BOOK20: 20.0}


@pytest.mark.parametrize("venue", VENUES)
def test_only_aster_resyncs_a_silent_book(venue):
    expected = SoftResync(after_s=2.0, cooldown_s=7.0) if venue == "aster" else None
    assert VENUES[venue].continuity.soft_resync == expected


def test_rest_shares_fit_into_the_limit_of_a_venue():
    assert (budgets.REST_SHARE, budgets.ACCOUNT_SHARE, budgets.OPTIONAL_SHARE) == (0.6, 0.35, 0.25)
    assert budgets.REST_SHARE + budgets.ACCOUNT_SHARE <= 1


def test_times_of_recovery():
    assert (recovery._RESYNC_RETRY_NS, recovery._FIRST_CHANGE_NS, recovery._COMPARE_PAUSE_NS) == (5 * NS, 300 * MS, NS)
    assert (recovery._REFUSED_RETRY_NS, recovery._GIVEN_UP_RETRY_NS) == (600 * NS, 60 * NS)
    assert (recovery._QUIET_CAP_NS, recovery._INCONCLUSIVE_LIMITS, recovery._MAX_BOOK_TIMEOUTS) == (60 * NS, 3, 3)
    assert (REFETCH_CAP_NS, streams._MUTE_PERIODS, streams._MUTE_MIN_NS) == (2 * NS, 10, 30 * NS)


def test_times_of_a_session():
    assert (session._TICK_NS, session._MAX_CHECKED, session._PARTS) == (50 * MS, 100, 4)
    assert (events._BOOK20_DEPTH, session._BACKLOG_NS) == (20, 10 * NS)
    assert (control._ROTATE_AT, control._ROTATE_SPREAD) == (0.955, 0.01)
    assert malformed.MAX_MALFORMED_IN_ROW == 10


def test_times_of_subscriptions():
    assert (subscriptions._ANSWER_NS, subscriptions._LEAVE_NS) == (10 * NS, 2 * NS)
    assert (subscriptions._QUARANTINE_NS, subscriptions._CAREFUL_AFTER) == (600 * NS, 2)
