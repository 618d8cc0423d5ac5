"""The screen of ``top`` in every size; signs and words carry it."""

import io
import re
from dataclasses import replace

import msgspec
import pytest
from overviews import NOW, VENUES, sample, system, venue
from rich.cells import cell_len
from rich.console import Console

from supervisor.overview.history import History
from supervisor.overview.model import build
from supervisor.overview.prices import Prices
from supervisor.terminal.screen import render
from supervisor.terminal.view import View

OVERVIEW = sample()
EVIL = "x\x1b]0;owned\x07\u202e\u2028\ny"
MODES = ("venues", "streams", "log", "help")


def shown(overview=OVERVIEW, view=None, width=80, height=24, log=()):
    return render(overview, view or View(), width, height, log).plain.split("\n")


def printed(text, width, height):
    """As a terminal of this size gets it, without colour."""
    console = Console(file=io.StringIO(), width=width, height=height, force_terminal=True, no_color=True)
    console.print(text, end="")
    return console.file.getvalue()


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize(("width", "height"), [(80, 24), (132, 50), (200, 60), (60, 15), (40, 10), (20, 5), (10, 1)])
def test_it_fits_every_terminal(mode, width, height):
    text = render(OVERVIEW, View(mode=mode), width, height, ["a line"] * 99)
    lines = text.plain.split("\n")
    assert len(lines) == height
    assert max(map(cell_len, lines)) <= width
    assert len(printed(text, width, height).split("\n")) == height


def test_80_by_24_has_everything():
    lines = shown()
    text = "\n".join(lines)
    assert lines[0].startswith("▲ lighter needs you — 5 deaths in a row, last: killed from outside")
    assert lines[2].startswith("simulated venues · up 21 min · ")
    assert lines[4].startswith(">1 ● hyperliquid live")
    assert re.search(r"4 ▲ lighter     needs you    8\.5 s / 10 s    0/2  next start in 6\.2 s", text)
    assert re.search(r"3 ◐ extended    stale         17 s / 10 s    0/2  book: no book within", text)
    assert [line[10:17] for line in lines[10:15]] == ["lighter", "extende", "aster  ", "aster  ", "system "]
    assert "What happened" in text
    assert re.search(r"hyperliquid   80462\.0◂ .* 0\.0102 %", text)
    assert "■ no book within the limit; socket cut" in text
    assert "Best bid hyperliquid, best ask aster: crossed by 47.89 bp." in text
    assert lines[-1].startswith("1-9 ↑↓ choose")
    assert lines[-1].endswith("q quit")


def test_a_large_terminal_shows_all_symbols_and_more_columns():
    text = "\n".join(shown(width=132, height=50))
    assert "BTC-PERP" in text
    assert "ETH-PERP" in text
    assert "events/s restarts" in text
    assert re.search(r"[▁▂▃▄▅▆▇█]{20}", text)


def test_columns_that_are_sorted_by_are_shown():
    assert "restarts" not in shown()[3]
    assert "restarts" in shown(view=View(sort="restarts"))[3]
    assert "events/s" in shown(view=View(sort="rate"))[3]
    assert shown(view=View(sort="age"))[4].startswith(">1 ◐ extended")
    assert "oldest book first" in shown(view=View(sort="age"))[2]


def test_another_symbol_comes_first():
    assert "BTC-PERP" in "\n".join(shown())
    eth = "\n".join(shown(view=View(symbol=1)))
    assert "ETH-PERP" in eth
    assert "BTC-PERP" not in eth


def test_the_streams_of_a_venue():
    text = "\n".join(shown(view=View(mode="streams", chosen="extended"), width=120))
    assert "extended: streams" in text
    assert re.search(r" ◐ book +backoff +17 s / 10 s +2  no book within .* \(stale_watchdog\), 1\.5 s ago", text)
    assert "book: no book within the limit; socket cut, 1.5 s ago (stale_watchdog)" in text
    assert "read by strategy-7" in text


def test_the_log_of_a_venue_is_cut_to_its_end():
    lines = shown(view=View(mode="log", chosen="aster"), log=[f"line {number}" for number in range(99)])
    assert "aster: log" in lines
    assert lines[-2] == " line 98"


def test_the_last_line_asks_and_answers():
    assert shown(view=View(confirms="aster"))[-1] == "Restart the worker of aster? y / n"
    assert shown(view=View(message="aster: restarting"))[-1] == "aster: restarting"
    assert "paused" in shown(view=View(is_paused=True))[2]


def test_once_it_takes_as_many_lines_as_it_needs():
    lines = shown(height=None, width=140)
    text = "\n".join(lines)
    assert text.count("Best bid") == 2
    assert "choose" not in text
    assert ">1" not in text
    assert "\x1b" not in text


def test_without_colour_nothing_is_lost():
    coloured = render(OVERVIEW, View(), 80, 24)
    assert coloured.spans
    for sign in ("▲ lighter", "◐ extended", "● aster", "◂"):
        assert sign in coloured.plain
    assert not re.search(r"\x1b\[(?:\d+;)*3[0-7]m", printed(coloured, 80, 24))


def test_nothing_runs():
    status = {**system(state="none", uptime_s=None), "venues": {}}
    lines = shown(build(status, History(), Prices(), NOW))
    assert lines[0] == "■ Nothing runs here — start with: paraphina-supervisor start"
    assert len(lines) == 24


def test_texts_from_outside_are_escaped():
    data = msgspec.to_builtins(OVERVIEW)
    for of in data["venues"]:
        of |= {"name": EVIL, "why": EVIL, "consumers": [EVIL], "reason": EVIL}
        of["streams"][0] |= {"name": EVIL, "reason": EVIL}
    for event in data["events"]:
        event |= {"venue": EVIL, "text": EVIL}
    for table in data["prices"]:
        table |= {"symbol": EVIL, "summary": EVIL}
        for row in table["rows"]:
            row |= {"venue": EVIL, "bid": EVIL, "why": row["why"] and EVIL}
    data["verdict"] |= {"headline": EVIL, "detail": EVIL}
    overview = msgspec.convert(data, type(OVERVIEW))
    for mode in MODES:
        for view in (View(mode=mode), View(mode=mode, confirms=EVIL), View(mode=mode, message=EVIL)):
            for line in shown(overview, view, 200, 60):
                assert line.isprintable()


def test_wide_characters_keep_their_columns():
    status = {**system(), "venues": {"取引所": venue(), "aster": venue()}}
    lines = shown(build(status, History(), Prices(), NOW))
    assert len({cell_len(line[: line.index("0.1 s")]) for line in lines if "0.1 s" in line}) == 1


def test_a_view_changes_nothing_of_the_overview():
    before = msgspec.json.encode(OVERVIEW)
    render(OVERVIEW, replace(View(), mode="streams"), 80, 24)
    assert msgspec.json.encode(OVERVIEW) == before
    assert [of.name for of in OVERVIEW.venues] == list(VENUES)
