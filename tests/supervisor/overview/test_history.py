"""The last hour, and what happened in it."""

import pytest
from overviews import NOW, changed, lifecycle, not_running, system, venue, without_book

from ipc.health import Reason, Stream, StreamState
from supervisor.overview.history import HOUR_S, History

KILLED, CLOSED = Reason.KILLED, Reason.SERVER_CLOSE
BACKOFF, LIVE, RESYNC = StreamState.BACKOFF, StreamState.LIVE, StreamState.RESYNC


@pytest.fixture
def history():
    return History()


def only(of, seconds=0.0):
    """A status document of one venue, aster."""
    return {**system(), "venues": {"aster": {**of, "since_s": seconds}}}


def timeline(history, at=NOW, name="aster"):
    return history.hour([name], at).timelines[0]


def texts(history):
    return [event.text for event in history.events()]


# --- spans --------------------------------------------------------------------------------------------------------


def test_each_change_begins_a_span(history):
    for second, of in enumerate([venue(), venue(), without_book(), without_book(), venue()]):
        history.record(only(of), NOW + second)
    found = timeline(history, NOW + 10)
    assert found.spans == [(NOW, "live"), (NOW + 2, "degraded"), (NOW + 4, "live")]
    assert found.share_live == 0.8


def test_the_board_knows_since_when(history):
    history.record(only(venue(), 1_200.0), NOW)
    assert timeline(history).spans == [(NOW - 1_200, "live")]
    history.record(only(venue(), 1_201.0), NOW + 1)
    assert len(timeline(history, NOW + 1).spans) == 1


def test_only_the_last_hour_is_kept(history):
    for second in range(0, 8_000, 5):
        history.record(only(venue() if second < 2_000 or second > 3_000 else not_running()), NOW + second)
    found = timeline(history, NOW + 7_995)
    assert found.spans == [(NOW + 7_995 - HOUR_S, "live")]
    assert found.share_live == 1.0
    assert len(history._venues["aster"].spans) == 1


def test_time_without_a_recorder_is_unwatched_and_does_not_count(history):
    history.record(only(venue()), NOW)
    history.record(only(venue()), NOW + 5)
    history.record(only(venue()), NOW + 65)
    history.record(only(not_running()), NOW + 70)
    found = timeline(history, NOW + 75)
    assert found.spans == [(NOW, "live"), (NOW + 5, "unwatched"), (NOW + 65, "live"), (NOW + 70, "down")]
    assert found.share_live == round(10 / 15, 5)


def test_a_venue_that_was_stopped_is_not_judged(history):
    by = {"by": "trader", "ago_s": 1.0}
    history.record(only(venue("stopped", pid=None, stopped=by)), NOW)
    assert timeline(history, NOW + 9).share_live is None
    history.record(only(venue()), NOW + 9)
    assert timeline(history, NOW + 10).share_live == 1.0


def test_a_clock_that_was_set_back_disorders_nothing(history):
    history.record(only(venue()), NOW)
    history.record(only(not_running()), NOW - 500)
    history.record(only(venue()), NOW - 499)
    spans = timeline(history, NOW + 1).spans
    assert spans == sorted(spans)
    assert spans[-1][1] == "live"


def test_memory_is_bounded(history):
    for second in range(3_000):
        history.record(only(venue() if second % 2 else not_running()), NOW + second / 2)
        history.event(lifecycle(NOW + second / 2, "aster", "exited", KILLED))
        history.event(changed(NOW + second / 2, "aster", Stream.BOOK, BACKOFF, CLOSED))
    found = timeline(history, NOW + 1_500)
    assert len(found.spans) == 400
    assert len(found.marks) == 200
    assert len(history.events()) <= 8


def test_a_venue_that_left_is_forgotten(history):
    history.record(system(), NOW)
    history.record(only(venue()), NOW + 1)
    assert timeline(history, name="lighter").spans == []
    assert timeline(history, name="lighter").share_live is None


# --- what a restart of the recorder leaves ------------------------------------------------------------------------


def test_the_past_comes_back_from_lifecycle_events(history):
    history.restore(
        [
            lifecycle(NOW - 900, "aster", "started"),
            lifecycle(NOW - 899, "aster", "live"),
            lifecycle(NOW - 400, "aster", "exited", KILLED),
            lifecycle(NOW - 399.9, "aster", "restarting", KILLED, delay_s=1.0),
            lifecycle(NOW - 399, "aster", "started"),
            lifecycle(NOW - 398, "aster", "live"),
        ]
    )
    history.record(only(venue(), 398.0), NOW)
    found = timeline(history)
    expected = [(NOW - 900, "down"), (NOW - 899, "live"), (NOW - 400, "down"), (NOW - 398, "live")]
    assert found.spans == expected
    assert found.marks == [(NOW - 400, "exit", "exited: killed from outside")]
    assert found.share_live == round(1 - 3 / 900, 5)
    assert history.hour(["aster"], NOW).watched_since == NOW - 900
    assert texts(history) == ["exited: killed from outside; live again after 2.0 s", "started; live after 1.0 s"]


def test_without_events_it_was_watched_from_the_first_record(history):
    assert history.hour([], NOW).watched_since == NOW
    history.record(only(venue(), 50.0), NOW)
    hour = history.hour(["aster"], NOW + 5)
    assert (hour.since, hour.until, hour.watched_since) == (NOW + 5 - HOUR_S, NOW + 5, NOW)


def test_an_event_that_comes_by_two_ways_counts_once(history):
    history.record(only(venue()), NOW - 10)
    for _ in range(2):
        history.event(lifecycle(NOW - 5, "aster", "exited", KILLED))
        history.event(lifecycle(NOW - 4, "aster", "live"))
    assert len(timeline(history).marks) == 1
    assert texts(history) == ["exited: killed from outside; live again after 1.0 s"]


# --- rates --------------------------------------------------------------------------------------------------------


def counted(events):
    of = venue()
    of["streams"]["book"]["events"] = events
    return only(of)


def test_rates_are_events_a_second(history):
    for half, events in enumerate([100, 125, 150, 175, 200]):
        history.record(counted(events), NOW + half / 2)
    assert history.rates("aster") == [50.0, 50.0]
    assert history.events_per_s("aster") == 50.0


def test_a_new_life_counts_from_zero(history):
    history.record(counted(900), NOW)
    history.record(counted(30), NOW + 1)
    assert history.rates("aster") == [30.0]


def test_rates_are_kept_for_two_minutes(history):
    for second in range(300):
        history.record(counted(second), NOW + second)
    assert history.rates("aster") == [1.0] * 120


def test_rates_of_one_that_was_never_recorded_are_unknown(history):
    assert history.events_per_s("binance") is None
    assert history.rates("binance") == []


# --- what happened ------------------------------------------------------------------------------------------------


def feed(history, *events):
    for event in events:
        history.event(event)


def test_streams_that_fail_of_one_cause_are_one_line(history):
    history.record(only(venue()), NOW)
    feed(
        history,
        changed(NOW, "aster", Stream.BOOK, BACKOFF, CLOSED),
        changed(NOW + 0.1, "aster", Stream.MARK, BACKOFF, CLOSED),
    )
    assert texts(history) == ["book, mark backoff: venue closed the connection"]
    feed(history, changed(NOW + 1, "aster", Stream.MARK, LIVE))
    assert texts(history) == ["book, mark backoff: venue closed the connection"]
    feed(history, changed(NOW + 1.2, "aster", Stream.BOOK, StreamState.QUIET))
    assert texts(history) == ["book, mark backoff: venue closed the connection; live again after 1.2 s"]
    assert timeline(history, NOW + 2).marks == [(NOW, "reconnect", "book backoff: venue closed the connection")]


def test_other_reasons_venues_and_times_are_other_lines(history):
    feed(
        history,
        changed(NOW, "aster", Stream.BOOK, BACKOFF, CLOSED),
        changed(NOW + 0.1, "lighter", Stream.BOOK, BACKOFF, CLOSED),
        changed(NOW + 0.2, "aster", Stream.MARK, RESYNC, Reason.SEQ_GAP),
        changed(NOW + 1, "aster", Stream.BOOK, LIVE),
        changed(NOW + 30, "aster", Stream.BOOK, BACKOFF, CLOSED),
    )
    assert texts(history) == [
        "book backoff: venue closed the connection",
        "mark resync: an update was lost",
        "book backoff: venue closed the connection",
        "book backoff: venue closed the connection; live again after 1.0 s",
    ]


def test_a_cause_that_changes_is_a_new_line(history):
    feed(
        history,
        changed(NOW, "aster", Stream.BOOK, BACKOFF, CLOSED),
        changed(NOW + 1, "aster", Stream.BOOK, BACKOFF, Reason.REFUSED),
        changed(NOW + 4, "aster", Stream.BOOK, LIVE),
    )
    assert texts(history) == [
        "book backoff: venue refuses the connection; live again after 3.0 s",
        "book backoff: venue closed the connection",
    ]


def test_what_is_no_trouble_is_not_listed(history):
    late = changed(NOW, "aster", Stream.BOOK, BACKOFF, CLOSED)
    late.flags = ("refresh",)
    feed(
        history,
        late,
        changed(NOW, "aster", Stream.BOOK, StreamState.CONNECTING),
        changed(NOW, "aster", Stream.BOOK, StreamState.OFF),
        lifecycle(NOW, "aster", "backoff"),
    )
    assert texts(history) == []


def test_a_long_wait_for_the_next_start_is_said(history):
    feed(history, lifecycle(NOW, "aster", "exited", KILLED))
    feed(history, lifecycle(NOW + 0.1, "aster", "restarting", KILLED, delay_s=1.0))
    assert texts(history) == ["exited: killed from outside"]
    feed(history, lifecycle(NOW + 2, "aster", "restarting", KILLED, delay_s=30.0))
    assert texts(history) == ["exited: killed from outside; next start after 30 s"]


def test_a_kill_and_its_exit_are_one_line(history):
    feed(
        history,
        lifecycle(NOW, "aster", "stale"),
        lifecycle(NOW + 1, "aster", "killing", Reason.WEDGED),
        lifecycle(NOW + 2, "aster", "exited", Reason.WEDGED),
        lifecycle(NOW + 3, "aster", "started"),
        lifecycle(NOW + 4, "aster", "live"),
    )
    assert texts(history) == ["exited: hung; live again after 4.0 s"]


def test_a_restart_by_an_operator_is_called_so(history):
    feed(
        history,
        lifecycle(NOW, "aster", "killing", Reason.REQUESTED),
        lifecycle(NOW + 0.2, "aster", "exited", Reason.REQUESTED),
        lifecycle(NOW + 0.9, "aster", "live"),
    )
    assert texts(history) == ["restarted: asked for by an operator; live again after 0.9 s"]


def test_no_fresh_data_and_back(history):
    feed(history, lifecycle(NOW, "aster", "stale"), lifecycle(NOW + 3, "aster", "live"))
    assert texts(history) == ["no fresh data; live again after 3.0 s"]


def test_repetitions_are_one_line(history):
    for death in range(4):
        feed(history, lifecycle(NOW + 10 * death, "aster", "exited", KILLED))
        feed(history, lifecycle(NOW + 10 * death + 1.2, "aster", "live"))
    assert texts(history) == ["exited 4 times in 30 s: killed from outside; live again after 1.2 s"]
    feed(history, lifecycle(NOW + 50, "aster", "failed", Reason.CONFIG_ERROR))
    assert texts(history)[0] == "failed: mistake in the configuration"
    assert len(texts(history)) == 2


def test_deaths_before_it_was_live_are_deaths_of_their_own(history):
    feed(
        history,
        lifecycle(NOW, "aster", "exited", Reason.CRASH),
        lifecycle(NOW + 1, "aster", "started"),
        lifecycle(NOW + 2, "aster", "exited", Reason.CRASH),
    )
    assert texts(history) == ["exited: crashed", "exited: crashed"]


def test_the_streams_of_a_process_that_ended_are_not_said_to_recover(history):
    feed(
        history,
        changed(NOW, "aster", Stream.BOOK, BACKOFF, CLOSED),
        lifecycle(NOW + 1, "aster", "exited", KILLED),
        lifecycle(NOW + 2, "aster", "live"),
        changed(NOW + 2, "aster", Stream.BOOK, LIVE),
    )
    assert texts(history) == [
        "exited: killed from outside; live again after 1.0 s",
        "book backoff: venue closed the connection",
    ]


def test_processes_that_start_together_are_one_line(history):
    names = ("aster", "lighter", "gateway")
    for place, name in enumerate(names):
        feed(history, lifecycle(NOW + place / 10, name, "started"))
    assert texts(history) == ["3 processes started; 0 are live"]
    for name in names:
        feed(history, lifecycle(NOW + 0.9, name, "live"))
    assert texts(history) == ["3 processes started; all live after 0.9 s"]
    assert history.events()[0].venue == "system"


def test_stopped_and_unkillable(history):
    feed(
        history,
        lifecycle(NOW, "aster", "killing", Reason.MEMORY),
        lifecycle(NOW + 8, "aster", "unkillable", Reason.MEMORY),
        lifecycle(NOW + 20, "lighter", "stopped", Reason.REQUESTED),
    )
    assert texts(history) == ["stopped: asked for by an operator", "survived SIGKILL: used too much memory"]


def test_eight_lines_at_most_newest_first(history):
    for number in range(20):
        reason = KILLED if number % 2 else Reason.CRASH
        feed(history, lifecycle(NOW + number, f"v{number}", "exited", reason))
    events = history.events()
    assert [event.venue for event in events] == [f"v{number}" for number in range(19, 11, -1)]
    assert events[0].reason == "killed"
