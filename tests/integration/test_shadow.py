"""The shadow run: its judge and its pictures on records made here, and the verb on systems that run."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import msgspec
import pytest
from pages import parsed, texts
from systems import System, paraphina, wait_for
from terminals import at_terminal

from ipc.errors import BoardError, UsageError
from ipc.events import Event, Gap, Lifecycle, Status
from ipc.health import Reason, Stream, StreamState
from ipc.rundir import RunDir
from supervisor.reporting.series import MOST_POINTS, series
from supervisor.shadow.judge import ShadowRun, judge, quantile, read
from supervisor.shadow.page import JudgedRun, comparison_page, report_page
from supervisor.shadow.record import FILE, ShadowRecorder
from supervisor.shadow.render import compare_text, markdown, picture
from supervisor.shadow.series import VenueSeries, series_of

NS = 1_000_000_000
START_NS = 5_000 * NS
SVG = "{http://www.w3.org/2000/svg}"


# --- records made here ------------------------------------------------------------------------------------------------


def meta(venues: Sequence[str] = ("lighter",), compress: float = 1.0) -> dict[str, Any]:
    return {
        "type": "meta",
        "version": "9.9",
        "venues": {venue: ["BTC-PERP"] for venue in venues},
        "compress": compress,
        "started_wall_ns": 1_700_000_000 * NS,
        "started_mono_ns": START_NS,
        "is_simulated": False,
    }


def second(at_s: float, venues: Sequence[str] = ("lighter",), **changes: Any) -> dict[str, Any]:
    """A second in which all was well but for ``changes``; those with a name of the whole line go there."""
    line: dict[str, Any] = {"supervisor": "running", "lost": 0, "drifts": 0}
    venue: dict[str, Any] = {
        "state": "live",
        "outage": False,
        "ages_ms": [50, 60, 70, 80],
        "tick_ages_ms": [0, 0, 0, 0],
        "usable": True,
        "funding_age_ms": 900,
        "crossed": 0,
        "restarts": 0,
        "rss_bytes": 40_000_000,
        "drops": 0,
        "reconnects": {"main": 0},
        "reason": None,
    }
    for name, value in changes.items():
        (line if name in line else venue)[name] = value
    return {
        "type": "second",
        "mono_ns": START_NS + int(at_s * NS),
        "wall_ns": 0,
        **line,
        "venues": {name: dict(venue) for name in venues},
    }


def happened(at_s: float, event: Event) -> dict[str, Any]:
    return {"type": "event", "mono_ns": START_NS + int(at_s * NS), "event": msgspec.to_builtins(event)}


def life(word: str, reason: Reason | None = None, venue: str = "lighter") -> Lifecycle:
    return Lifecycle(venue, None, None, None, word, reason, 1, 1, None, None, None, 0, 0, None)


def backoff(seconds: float | None, reason: Reason = Reason.SERVER_CLOSE, stream: Stream = Stream.BOOK) -> Status:
    state = StreamState.BACKOFF if seconds is not None else StreamState.LIVE
    return Status("lighter", None, None, None, stream, state, None, reason, 1, seconds, 1, {})


def a_run(seconds: Sequence[dict[str, Any]], events: Sequence[dict[str, Any]] = (), compress: float = 1.0) -> ShadowRun:
    return ShadowRun(meta(tuple(seconds[0]["venues"]), compress), list(seconds), list(events), is_complete=True)


def well(count: int, **changes: Any) -> list[dict[str, Any]]:
    return [second(at, **changes) for at in range(1, count + 1)]


def missed(run: ShadowRun) -> list[str]:
    """The criteria that a run does not meet."""
    result = judge(run)
    found = [row["criterion"] for row in result["criteria"] if not row["ok"]]
    assert result["ok"] is not bool(found)
    return found


STALE = "no venue stale for longer (s), outages left out"
FUNDING = "a funding rate within (s)"
RESETS = "reconnects after a stable run that did not begin with 1 s"
CRASHES = "crashes that were not recovered"
P95, P99 = "age of the book, p95 (ms)", "age of the book, p99 (ms)"
PIPES = "full subscriber pipes"
DRIFTS = "books that differed from the worker's"


def drawn(svg: str) -> ET.Element:
    """A picture, which must be well-formed."""
    return ET.fromstring(svg)  # noqa: S314 - our own


# --- the criteria, each met and missed --------------------------------------------------------------------------------


def test_a_run_in_which_all_was_well_meets_every_criterion() -> None:
    result = judge(a_run(well(300)))
    assert result["ok"]
    assert [row["criterion"] for row in result["criteria"]] == [
        STALE,
        FUNDING,
        RESETS,
        CRASHES,
        P95,
        P99,
        PIPES,
        DRIFTS,
    ]
    assert result["venues"]["lighter"]["healthy_share"] == 1.0
    assert result["duration_s"] == 300


@pytest.mark.parametrize(("stale_s", "is_missed"), [(120, False), (121, True)])
@pytest.mark.parametrize("state", ["stale", "starting", "backoff", "killing", "failed"])
def test_two_minutes_that_are_not_live_are_the_limit(state: str, stale_s: int, *, is_missed: bool) -> None:
    seconds = [second(at, state=state if 10 < at <= 10 + stale_s else "live") for at in range(1, 200)]
    assert missed(a_run(seconds)) == ([STALE] if is_missed else [])
    figures = judge(a_run(seconds))["venues"]["lighter"]
    assert figures["longest_stale_s"] == figures["stale_s"] == stale_s


def test_states_that_follow_each_other_without_a_live_second_are_one_stale_time() -> None:
    states = ["stale"] * 50 + ["killing"] * 20 + ["backoff"] * 20 + ["starting"] * 50
    seconds = [second(at, state=state) for at, state in enumerate(["live", *states, "live"], start=1)]
    assert missed(a_run(seconds)) == [STALE]
    assert judge(a_run(seconds))["venues"]["lighter"]["longest_stale_s"] == 140


def test_two_stale_times_with_a_live_second_between_them_are_two() -> None:
    states = ["stale"] * 100 + ["live"] + ["stale"] * 100
    seconds = [second(at, state=state) for at, state in enumerate(states, start=1)]
    assert missed(a_run(seconds)) == []
    assert judge(a_run(seconds))["venues"]["lighter"]["stale_s"] == 200


def test_an_outage_of_the_venue_is_not_held_against_it() -> None:
    seconds = [second(at, state="stale", outage=10 < at < 500) for at in range(1, 520)]
    assert missed(a_run(seconds)) == []
    figures = judge(a_run(seconds))["venues"]["lighter"]
    assert (figures["outage_s"], figures["stale_s"]) == (489, 30)


def test_a_dead_supervisor_makes_every_venue_stale() -> None:
    seconds = [second(at, supervisor="dead" if at > 20 else "running") for at in range(1, 200)]
    assert missed(a_run(seconds)) == [STALE]
    assert judge(a_run(seconds))["venues"]["lighter"]["states"] == [("live", 20.0), ("down", 179.0)]


def test_the_limit_is_shortened_with_the_systems_limits() -> None:
    seconds = [second(at, state="stale" if 5 < at < 9 else "live") for at in range(1, 20)]
    assert missed(a_run(seconds)) == []
    assert missed(a_run(seconds, compress=60)) == [STALE]


def test_a_venue_that_calls_itself_live_without_data_is_stale() -> None:
    """Three minutes of silence in six hours are under one per cent, so the ages do not show them."""
    silence = [second(at, ages_ms=[1000 * (at - 10_000)]) for at in range(10_001, 10_181)]
    assert missed(a_run([*well(10_000), *silence, *[second(at) for at in range(10_181, 21_600)]])) == [STALE]


def test_a_venue_that_calls_itself_live_and_has_no_usable_book_is_stale() -> None:
    seconds = [second(at, usable=not 20 < at < 150) for at in range(1, 200)]
    assert missed(a_run(seconds)) == [STALE]
    assert judge(a_run(seconds))["venues"]["lighter"]["states"] == [("live", 20.0), ("unusable", 129.0), ("live", 50.0)]


def test_a_venue_whose_books_never_come_is_stale() -> None:
    run = a_run(well(200, ages_ms=[-1]))
    assert STALE in missed(run)
    assert judge(run)["venues"]["lighter"]["longest_stale_s"] == 190


def test_one_quiet_market_makes_no_silent_venue() -> None:
    run = a_run([second(at, ages_ms=[1000 * at, 50]) for at in range(1, 200)])
    run.meta["venues"]["lighter"].append("ETH-PERP")
    assert judge(run)["venues"]["lighter"]["stale_s"] == 0


def test_what_a_venue_in_outage_does_not_send_is_not_held_against_it() -> None:
    run = a_run([second(at, ages_ms=[1000 * at], state="stale", outage=True) for at in range(1, 200)])
    assert STALE not in missed(run)


@pytest.mark.parametrize(("first_s", "is_missed"), [(60, False), (61, True), (None, True)])
def test_funding_must_come_within_a_minute(first_s: int | None, *, is_missed: bool) -> None:
    seconds = [
        second(at, funding_age_ms=900 if first_s is not None and at >= first_s else None) for at in range(1, 100)
    ]
    assert missed(a_run(seconds)) == ([FUNDING] if is_missed else [])
    assert judge(a_run(seconds))["venues"]["lighter"]["funding_first_s"] == first_s


@pytest.mark.parametrize(
    ("ends", "count"),
    [
        ([(150, 1.0)], 0),
        ([(150, 2.0)], 1),
        ([(150, 1.0), (155, 2.0), (165, 4.0)], 0),
        ([(150, 1.0), (151, None), (300, 4.0)], 1),
        ([(150, 1.0), (300, 4.0)], 0),
        ([(30, 2.0)], 0),
        ([(150, None)], 0),
    ],
    ids=["first delay", "grown delay", "a series", "after a long run", "never back", "after a short run", "no end"],
)
def test_a_reconnect_after_a_stable_run_begins_with_a_second(
    ends: list[tuple[float, float | None]], count: int
) -> None:
    run = a_run(well(320), [happened(at, backoff(delay)) for at, delay in ends])
    assert missed(run) == ([RESETS] if count else [])
    assert judge(run)["venues"]["lighter"]["late_resets"] == count


@pytest.mark.parametrize(
    ("events", "is_missed"),
    [
        ([life("exited", Reason.KILLED), life("started"), life("live")], False),
        ([life("exited", Reason.CRASH), life("started")], True),
        ([life("exited", Reason.CLEAN_EXIT)], True),
        ([life("live"), life("exited", Reason.WEDGED)], True),
        ([life("exited", Reason.REQUESTED)], False),
        ([life("exited", Reason.CONFIG_CHANGED)], False),
        ([life("exited", Reason.DRILL)], False),
    ],
)
def test_every_crash_must_be_followed_by_life(events: list[Lifecycle], *, is_missed: bool) -> None:
    run = a_run(well(20), [happened(at, event) for at, event in enumerate(events, start=1)])
    assert missed(run) == ([CRASHES] if is_missed else [])


def test_crashes_are_counted_by_reason() -> None:
    events = [life("exited", Reason.KILLED), life("live"), life("exited", Reason.KILLED), life("exited", Reason.MEMORY)]
    run = a_run(well(20), [happened(at, event) for at, event in enumerate(events, start=1)])
    crashes = judge(run)["venues"]["lighter"]["crashes"]
    assert crashes == {"count": 3, "recovered": 1, "reasons": {"killed": 2, "memory": 1}}


@pytest.mark.parametrize(
    ("old_seconds", "age_ms", "criteria"),
    [
        (4, 1100, []),
        (6, 1100, [P95]),
        (6, 1000, []),
        (2, 3100, [P99]),
        (6, 3100, [P95, P99]),
        (0, 0, []),
    ],
)
def test_ages_have_their_quantiles_limited(old_seconds: int, age_ms: int, criteria: list[str]) -> None:
    seconds = well(100 - old_seconds) + [second(at, ages_ms=[age_ms] * 4) for at in range(101 - old_seconds, 101)]
    assert missed(a_run(seconds)) == criteria


def test_a_book_that_never_came_meets_no_limit() -> None:
    assert missed(a_run(well(20, ages_ms=[-1, -1, -1, -1]))) == [P95, P99]


def test_the_time_before_the_first_event_is_no_age() -> None:
    ages = judge(a_run([second(1, ages_ms=[-1, -1, 10, 20]), second(2, ages_ms=[30])]))["venues"]["lighter"]["ages_ms"]
    assert ages == {"p50": 20, "p95": 30, "p99": 30, "max": 30}


@pytest.mark.parametrize(("name", "criterion"), [("drops", PIPES), ("drifts", DRIFTS)])
def test_full_pipes_and_wrong_books_are_not_forgiven(name: str, criterion: str) -> None:
    assert missed(a_run([*well(10), second(11, **{name: 1})])) == [criterion]


def test_a_criterion_names_who_missed_it() -> None:
    seconds = [second(at, ("aster", "lighter")) for at in range(1, 200)]
    for row in seconds[10:150]:
        row["venues"]["aster"]["state"] = "stale"
    (row,) = [row for row in judge(a_run(seconds))["criteria"] if not row["ok"]]
    assert row["missed_by"] == ["aster"]
    assert row["values"] == {"aster": 140.0, "lighter": 0.0}


# --- figures ----------------------------------------------------------------------------------------------------------


def test_reconnects_are_counted_over_restarts_of_the_worker() -> None:
    counts = [{"main": 0}, {"main": 2}, {"main": 3}, {"main": 0}, {"main": 1, "other": 2}]
    seconds = [second(at, reconnects=count) for at, count in enumerate(counts, start=1)]
    assert judge(a_run(seconds))["venues"]["lighter"]["reconnects"] == 6


def test_reasons_of_reconnects_and_gaps_are_counted() -> None:
    gap = Gap("lighter", "BTC-PERP", "BTC", None, "session", Reason.STALE_WATCHDOG, None, None, "reconnect")
    events = [
        backoff(1.0, Reason.STALE_WATCHDOG),
        gap,
        backoff(1.0, Reason.STALE_WATCHDOG, Stream.MARK),
        backoff(1.0, Reason.SERVER_CLOSE),
        backoff(None),
    ]
    figures = judge(a_run(well(10), [happened(1, event) for event in events]))["venues"]["lighter"]
    assert figures["reconnect_reasons"] == {"stale_watchdog": 1, "server_close": 1}
    assert figures["gaps"] == {"stale_watchdog": 1}


def test_memory_is_reported_with_its_slope_by_the_hour() -> None:
    seconds = [second(at, rss_bytes=40_000_000 + 1_000 * at) for at in range(1, 3601)]
    memory = judge(a_run(seconds))["venues"]["lighter"]["memory_mb"]
    assert memory == {"first": 40.0, "last": 43.6, "slope_per_h": 3.6}


def test_a_worker_that_reported_no_memory_has_no_slope() -> None:
    memory = judge(a_run(well(3, rss_bytes=None)))["venues"]["lighter"]["memory_mb"]
    assert memory == {"first": None, "last": None, "slope_per_h": None}


def test_a_quantile_of_nothing_is_none() -> None:
    assert quantile([], 0.5) is None
    assert quantile([1, 2, 3, 4], 0.5) == 3
    assert quantile([1, 2, 3, 4], 1.0) == 4


# --- reading ----------------------------------------------------------------------------------------------------------


def write(directory: Path, rows: Sequence[dict[str, Any]], tail: bytes = b"") -> Path:
    directory.mkdir(exist_ok=True)
    (directory / FILE).write_bytes(b"".join(msgspec.json.encode(row) + b"\n" for row in rows) + tail)
    return directory


def test_a_record_is_read_to_its_end(tmp_path: Path) -> None:
    rows = [meta(), *well(3), happened(1, life("live")), {"type": "end", "was_stopped": False, "mono_ns": 0}]
    run = read(write(tmp_path, rows))
    assert (len(run.seconds), len(run.events), run.is_complete, run.torn) == (3, 1, True, False)


def test_a_torn_last_line_costs_that_line_alone(tmp_path: Path) -> None:
    run = read(write(tmp_path, [meta(), *well(3)], tail=b'{"type":"second","mono_'))
    assert (len(run.seconds), run.torn, run.is_complete) == (3, True, False)
    assert judge(run)["is_torn"]


def test_a_run_that_was_stopped_is_not_complete(tmp_path: Path) -> None:
    run = read(write(tmp_path, [meta(), *well(3), {"type": "end", "was_stopped": True, "mono_ns": 0}]))
    assert not run.is_complete


def test_lines_of_a_later_version_are_passed_over(tmp_path: Path) -> None:
    assert len(read(write(tmp_path, [meta(), {"type": "weather"}, *well(3)])).seconds) == 3


@pytest.mark.parametrize("rows", [None, [], [meta()]], ids=["no file", "empty", "no second"])
def test_where_nothing_was_recorded_it_says_so(tmp_path: Path, rows: list[dict[str, Any]] | None) -> None:
    if rows is not None:
        write(tmp_path, rows)
    with pytest.raises(UsageError):
        read(tmp_path)


# --- pictures and words -----------------------------------------------------------------------------------------------


@pytest.fixture
def bad() -> dict[str, Any]:
    """The judged run of a venue that was stale for too long, stopped and torn, with shortened limits."""
    venues = ("a<b>&c", "lighter")
    seconds = [second(at, venues) for at in range(1, 200)]
    for row in seconds[10:150]:
        row["venues"]["a<b>&c"]["state"] = "stale"
    run = a_run(seconds, compress=1.5)
    run.torn, run.is_complete = True, False
    return judge(run)


def test_the_report_says_what_was_met_and_what_was_missed(bad: dict[str, Any]) -> None:
    assert "**met**" in markdown(judge(a_run(well(10))))
    text = markdown(bad)
    assert "Success criteria **NOT met**" in text
    assert "**missed** by a<b>&c" in text
    assert "The run was stopped before its time." in text
    assert "was cut off" in text
    assert "shortened by 1.5" in text
    assert "2023-11-14 22:13:20 UTC" in text


def test_the_reports_tables_have_as_many_cells_in_every_row(bad: dict[str, Any]) -> None:
    for table in re.findall(r"(?:^\|.*\|\n)+", markdown(bad), re.MULTILINE):
        assert len({line.count("|") for line in table.splitlines()}) == 1


def test_a_run_without_a_single_figure_is_still_reported() -> None:
    empty = well(1, ages_ms=[-1], tick_ages_ms=[-1], funding_age_ms=None, rss_bytes=None, reconnects={})
    result = judge(a_run(empty))
    assert "- / - / - / -" in markdown(result)
    drawn(picture(result))
    compare_text(result, result)


def test_the_picture_is_an_image_of_every_state_in_its_place(bad: dict[str, Any]) -> None:
    root = drawn(picture(bad))
    assert root.tag == f"{SVG}svg"
    titles = [title.text for title in root.iter(f"{SVG}title")]
    assert titles == ["live, 10 s", "stale, 140 s", "live, 49 s", "live, 199 s"]
    assert "a<b>&c" in [text.text for text in root.iter(f"{SVG}text")]
    bars = [rect for rect in root.iter(f"{SVG}rect") if rect.find(f"{SVG}title") is not None]
    ends = [float(bar.get("x", 0)) + float(bar.get("width", 0)) for bar in bars]
    assert ends[2] == pytest.approx(ends[3], abs=0.2), "both rows end with the run"
    assert float(bars[1].get("x", 0)) == pytest.approx(ends[0], abs=0.2)


@pytest.mark.parametrize("seconds", [1, 9, 75, 4000, 90_000])
def test_the_axis_has_a_few_marks_whatever_the_length(seconds: int) -> None:
    root = drawn(picture(judge(a_run([second(seconds)]))))
    marks = [text.text for text in root.iter(f"{SVG}text") if re.fullmatch(r"[\d:]+", text.text or "")]
    assert 1 <= len(marks) <= 11
    assert marks[0] == "0:00"


def test_two_runs_are_set_side_by_side_with_their_change(bad: dict[str, Any]) -> None:
    text = compare_text(judge(a_run(well(100))), bad)
    assert "| lighter | healthy share | 1 | 1 | +0 |" in text
    assert "a<b>&c" not in text, "it was not in both"
    assert "before met, after not met" in text


# --- pages ------------------------------------------------------------------------------------------------------------


def judged(run: ShadowRun, **more: Any) -> JudgedRun:
    return JudgedRun(judge(run), series_of(run), **more)


def a_hard_day(venues: Sequence[str] = ("lighter", "paradex")) -> ShadowRun:
    """A run with everything that a page shows: a stale time, an exit, reconnects, latency, and gaps in the figures."""
    seconds = [
        second(at, venues, delivery_us=[400, 9_000], lag_us=[2_000, 50_000], state="stale" if 20 < at < 30 else "live")
        for at in range(1, 200)
    ]
    for row in seconds[40:60]:
        row["venues"]["lighter"] |= {"ages_ms": [-1], "funding_age_ms": None, "delivery_us": None, "rss_bytes": None}
    events = [happened(50, life("exited", Reason.KILLED)), happened(51, life("live")), happened(90, backoff(1.0))]
    return a_run(seconds, events)


def test_a_page_shows_every_venue_in_every_section() -> None:
    root = parsed(report_page(judged(a_hard_day())))
    assert texts(root, "h1") == ["● All 8 criteria met."]
    assert texts(root, "title")[0] == "● Shadow run: All 8 criteria met."
    sections = {heading.text: section for section in root.iter("section") for heading in section.iter("h2")}
    assert set(sections) == {
        *("Criteria", "States over time", "How old books were", "Age of the book", "Funding"),
        *("Latency: frame read to consumer", "Latency: exchange to frame read", "Memory"),
        *("Reconnects, gaps and exits", "More figures"),
    }
    for name, section in sections.items():
        found = [*texts(section, "th"), *texts(section, "h3")]
        assert name == "Criteria" or {"lighter", "paradex"} <= set(found), name
    assert "median 0.4 ms, highest 0.4 ms at 0:01" in texts(sections["Latency: frame read to consumer"], "figcaption")
    marks = [element.get("class") for element in sections["States over time"].iter("line")]
    assert marks == ["mark", "mark-reconnect"]


def test_figures_that_an_older_record_lacks_have_no_section() -> None:
    headings = texts(parsed(report_page(judged(a_run(well(100))))), "h2")
    assert "Funding" in headings
    assert not [heading for heading in headings if heading.startswith("Latency")]


def test_a_run_without_a_single_figure_has_a_page() -> None:
    empty = well(1, ages_ms=[-1], tick_ages_ms=[-1], funding_age_ms=None, rss_bytes=None, reconnects={})
    run = judged(a_run(empty))
    parsed(report_page(run))
    parsed(comparison_page(run, run))


def test_a_page_names_what_was_missed(bad: dict[str, Any]) -> None:
    run = JudgedRun(bad, {name: VenueSeries(*[series([])] * 5, []) for name in bad["venues"]})
    root = parsed(report_page(run))
    assert texts(root, "h1") == ["■ 1 of 8 criteria missed: a<b>&c."]
    assert "■ missed by a<b>&c" in texts(root, "td")
    facts = " ".join(texts(root, "p"))
    assert "stopped before its time" in facts
    assert "cut off" in facts
    assert "shortened by 1.5" in facts


def test_no_text_of_a_record_becomes_markup() -> None:
    evil = "<script>alert(1)</script>\x1b"
    run = a_hard_day((evil, "lighter"))
    run.meta["version"] = evil
    run.events.append(happened(70, life("exited", evil, evil)))  # type: ignore[arg-type]
    run.seconds[80]["venues"][evil]["state"] = evil
    text = report_page(judged(run)) + comparison_page(judged(run), judged(run))
    assert "<script" not in text
    assert "\x1b" not in text
    parsed(report_page(judged(run)))


def test_two_runs_are_on_one_page_with_the_same_axes() -> None:
    before = judged(a_run(well(100)), name="before", style="past")
    after = judged(a_hard_day(), name="after")
    root = parsed(comparison_page(before, after))
    assert "paradex" not in texts(root, "h3"), "it was not in both"
    states = next(table for table in root.iter("table") if table.get("aria-label") == "States over time")
    assert [texts(row, "th") for row in states.iter("tr")][1:3] == [["lighter, before"], ["lighter, after"]]
    assert "bar-unwatched" in [rect.get("class") for rect in states.iter("rect")], "the first run was shorter"
    assert {"now", "past"} <= {path.get("class") for path in root.iter("path")}
    changes = next(table for table in root.iter("table") if table.get("aria-label") == "Before and after")
    (row,) = [row for row in changes.iter("tr") if texts(row, "th") == ["crashes"]]
    assert texts(row, "td") == ["0 → 1+1"]


def test_a_day_of_seconds_stays_a_small_page() -> None:
    seconds = [
        second(at, delivery_us=[at % 700, 9_000], lag_us=[at % 900, 1], ages_ms=[at % 1000], funding_age_ms=at % 9000)
        for at in range(1, 30_000)
    ]
    events = [happened(at, backoff(1.0)) for at in range(1, 30_000, 7)]
    run = judged(a_run(seconds, events))
    assert len(run.series["lighter"].age_ms.points) <= MOST_POINTS
    assert len(report_page(run)) < 200_000


# --- the verb, on systems that run ------------------------------------------------------------------------------------

#: Paradex' limit is short, so that a stall costs its ages little.
#: The stall below outlasts that limit and the watchdog's pause of 0.2 s, and is over before the connection that it cost
#: is rebuilt, also on a busy machine.
SETTINGS = "[supervisor]\nbackoff_base_ms = 500\n[venues.paradex]\nstale_ms = 1200\n"
STALLED_S = 1.5
WATCHED_S = 30


def start_shadow(system: System, directory: Path, *arguments: str) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "supervisor", "shadow", "--report", str(directory)]
    command += ["--run-dir", str(system.run_dir.path), *arguments]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)


def finish(process: subprocess.Popen[bytes]) -> tuple[int, str]:
    try:
        out, err = process.communicate(timeout=60)
    finally:
        process.kill()
    assert b"Traceback" not in err
    return process.returncode, out.decode()


def recorded_s(directory: Path) -> int:
    """Seconds that a run has recorded so far."""
    record = directory / FILE
    return record.read_bytes().count(b'"type":"second"') if record.exists() else 0


@pytest.fixture(scope="module")
def watched(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """The directories of a run in which one venue was killed and one stalled, and of one that was interrupted."""
    whole, interrupted = tmp_path_factory.mktemp("whole"), tmp_path_factory.mktemp("interrupted")
    with System(config=SETTINGS) as system:
        system.wait_live()
        runs = [
            start_shadow(system, whole, "--duration", f"{WATCHED_S}s"),
            start_shadow(system, interrupted, "--duration", "1h"),
        ]
        wait_for(lambda: all(recorded_s(directory) >= 3 for directory in (whole, interrupted)), what="three seconds")
        runs[1].send_signal(signal.SIGINT)
        code, text = finish(runs[1])
        assert code == 0, text
        os.kill(system.pid("lighter"), signal.SIGKILL)
        time.sleep(4)
        system.fault("paradex", "stall", duration_s=STALLED_S)
        code, text = finish(runs[0])
        assert code == 0, text
        assert "Success criteria **met**" in text
    return whole, interrupted


def report(*arguments: str | Path) -> tuple[int, str]:
    done = paraphina("report", *map(str, arguments))
    assert b"Traceback" not in done.stderr
    return done.returncode, done.stdout.decode()


@pytest.mark.integration
def test_a_run_with_a_kill_and_a_stall_meets_the_criteria_and_is_reported(watched: tuple[Path, Path]) -> None:
    whole, _ = watched
    result = json.loads((whole / "report.json").read_text())
    assert result["ok"]
    assert result["is_complete"]
    assert result["is_simulated"]
    assert WATCHED_S - 2 <= result["duration_s"] <= WATCHED_S + 5
    lighter, paradex = result["venues"]["lighter"], result["venues"]["paradex"]
    assert lighter["crashes"] == {"count": 1, "recovered": 1, "reasons": {"killed": 1}}
    assert lighter["restarts"] == 1
    assert paradex["reconnects"] >= 1
    assert paradex["gaps"].get("stale_watchdog") == 2, "one for each book"
    assert paradex["ages_ms"]["max"] > 1000, "the stall shows in the true ages"
    assert result["venues"]["aster"]["reconnects"] == 0
    assert "Success criteria **met**" in (whole / "report.md").read_text()
    assert drawn((whole / "states.svg").read_text()).tag == f"{SVG}svg"
    page = parsed((whole / "report.html").read_text())
    assert texts(page, "h1") == ["● All 8 criteria met."]
    assert "Latency: frame read to consumer" in texts(page, "h2"), "every book event is timed"
    assert any("exited: killed" in title for title in texts(page, "title"))


@pytest.mark.integration
def test_a_terminal_shows_who_is_live_and_who_is_not(tmp_path: Path) -> None:
    with System("--venues", "lighter,aster") as system:
        system.wait_live(["lighter", "aster"])
        where = ("--run-dir", str(system.run_dir.path), "--report", str(tmp_path / "report"))
        with ThreadPoolExecutor(1) as pool:
            run = pool.submit(at_terminal, ["-m", "supervisor", "shadow", "--duration", "12s", *where])
            wait_for(lambda: recorded_s(tmp_path / "report") >= 2)
            os.kill(system.pid("lighter"), signal.SIGSTOP)
            shown = run.result().shown
    assert "2 live" in shown
    assert "lighter: " in shown, "a stopped worker is not live"
    assert "1 live" in shown


@pytest.mark.integration
def test_an_interrupted_run_is_reported_as_far_as_it_went(watched: tuple[Path, Path]) -> None:
    _, interrupted = watched
    result = json.loads((interrupted / "report.json").read_text())
    assert not result["is_complete"]
    assert 2 <= result["duration_s"] <= 15
    assert "stopped before its time" in (interrupted / "report.md").read_text()
    assert (interrupted / "states.svg").exists()


@pytest.mark.integration
def test_a_record_that_was_cut_off_is_still_reported(watched: tuple[Path, Path], tmp_path: Path) -> None:
    record = (watched[0] / FILE).read_bytes()
    (tmp_path / FILE).write_bytes(record[: len(record) - 400])
    code, text = report(tmp_path, "--json")
    result = json.loads(text)
    assert result["is_torn"]
    assert not result["is_complete"]
    assert code == (0 if result["ok"] else 1)
    assert "was cut off" in (tmp_path / "report.md").read_text()


@pytest.mark.integration
def test_two_runs_are_compared(watched: tuple[Path, Path], tmp_path: Path) -> None:
    whole, interrupted = watched
    shutil.copy(whole / FILE, tmp_path / FILE)
    code, text = report(tmp_path, "--compare", interrupted)
    assert code == 0
    assert text.startswith("# Before and after")
    assert "| lighter | crashes | 0 | 1 | +1 |" in text
    assert (tmp_path / "comparison.md").read_text() == text.rstrip("\n") + "\n"
    page = parsed((tmp_path / "comparison.html").read_text())
    assert "lighter, before" in texts(page, "th")
    code, text = report(tmp_path, "--compare", interrupted, "--json")
    assert set(json.loads(text)) == {"before", "after"}


@pytest.mark.integration
def test_a_system_whose_watchdog_never_cuts_fails_visibly(tmp_path: Path) -> None:
    off = "[venues.lighter]\nstale_ms = 3600000\nread_timeout_ms = 3600000\n"
    with System("--venues", "lighter", config=off) as system:
        system.wait_live(["lighter"])
        run = start_shadow(system, tmp_path, "--duration", "10s", "--compress", "60")
        wait_for(lambda: recorded_s(tmp_path) >= 1, what="a second")
        system.fault("lighter", "stall")
        code, text = finish(run)
    assert code == 1
    assert "Success criteria **NOT met**" in text
    assert "**missed** by lighter" in text
    result = json.loads((tmp_path / "report.json").read_text())
    assert not result["ok"]
    assert STALE in [row["criterion"] for row in result["criteria"] if not row["ok"]]
    assert "silent" in [state for state, _ in result["venues"]["lighter"]["states"]], "though it calls itself live"


@pytest.mark.integration
def test_without_a_system_or_a_record_there_is_nothing_to_report(tmp_path: Path) -> None:
    done = paraphina("shadow", "--duration", "5", "--report", str(tmp_path / "r"), "--run-dir", str(tmp_path / "none"))
    assert done.returncode == 3
    assert not (tmp_path / "r").exists()
    done = paraphina("report", str(tmp_path))
    assert done.returncode == 2
    assert b"no shadow run was recorded here" in done.stderr


@pytest.mark.parametrize(
    "rows",
    [
        [{"type": "meta"}, {"type": "second"}],
        [{"type": "end"}],
        [meta(), {"type": "second", "mono_ns": 1}],
        [meta(compress=None), *well(2)],  # type: ignore[arg-type]
    ],
    ids=["no venues", "no end", "no second", "no number"],
)
def test_a_record_of_another_form_is_one_error(tmp_path: Path, rows: list[dict[str, Any]]) -> None:
    write(tmp_path, rows)
    done = paraphina("report", str(tmp_path))
    assert done.returncode == 2
    assert b"its record is of another version, or was changed" in done.stderr
    assert done.stderr.count(b"\n") == 1


@pytest.fixture
def described(tmp_path: Path) -> RunDir:
    """The run directory of a system without a venue that is not running."""
    (tmp_path / "run").mkdir()
    run_dir = RunDir(tmp_path / "run")
    run_dir.description.write_text(json.dumps({"version": "9.9", "venues": {}, "simulator": None}))
    return run_dir


def test_a_second_run_does_not_take_the_place_of_the_first(tmp_path: Path, described: RunDir) -> None:
    ShadowRecorder(described, tmp_path / "report").close()
    recorded = (tmp_path / "report" / FILE).read_bytes()
    with pytest.raises(UsageError, match="a run is recorded here already"):
        ShadowRecorder(described, tmp_path / "report")
    assert (tmp_path / "report" / FILE).read_bytes() == recorded


def test_a_system_that_is_unknown_for_a_while_is_no_end_of_the_run(
    tmp_path: Path, described: RunDir, monkeypatch: pytest.MonkeyPatch
) -> None:
    def read_status(_: RunDir) -> dict[str, Any]:
        raise BoardError("not a board of this version")

    monkeypatch.setattr("supervisor.shadow.record.read_status", read_status)
    recorder = ShadowRecorder(described, tmp_path / "report")
    recorder.run(2.5, lambda: False, lambda _, __: None)
    recorder.close()
    run = read(tmp_path / "report")
    assert {row["supervisor"] for row in run.seconds} == {"unknown"}
    assert run.is_complete


def test_a_place_that_cannot_be_written_is_one_error(tmp_path: Path, described: RunDir) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(FileExistsError):
        ShadowRecorder(described, tmp_path / "file")
