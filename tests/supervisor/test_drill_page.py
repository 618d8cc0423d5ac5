"""Reports of drills: what was missed, every fault on every venue, and nothing from outside as markup."""

from __future__ import annotations

import re

from pages import parsed, texts

from supervisor.drill.environment import SHORTENED
from supervisor.drill.page import ALL, DrillRun, markdown, report_page

EVIL = "<script>alert(1)</script>|\x1b"


def row(venue="lighter", fault="kill", fresh=1100.0, **changes):
    of = {
        "venue": venue,
        "fault": fault,
        "n": 1,
        "detected_ms": 5.0,
        "recovered_ms": 1000.0,
        "fresh_ms": {"p50": fresh, "p99": fresh},
        "limit_ms": 2500,
        "result": "ok",
        "reason": "drill",
        "note": "",
    }
    return of | changes


def late(**more):
    return row(fresh=9000.0, result="missed", **more)


def harmless(**more):
    return row(fault="garbage", fresh=0.0, detected_ms=None, recovered_ms=None, reason=None, **more)


def skipped(**more):
    return row(fresh=None, n=0, detected_ms=None, recovered_ms=None, result="skipped", reason=None, **more)


def run_of(*rows, rounds=1):
    return DrillRun(rows, 1_700_000_000.0, 185.0, rounds, "9.9", SHORTENED)


def cells_of(root, fault):
    table = next(table for table in root.iter("table") if table.get("aria-label") == "Every fault on every venue")
    (found,) = [line for line in table.iter("tr") if line[0].text == fault]
    return texts(found, "td")


def test_a_page_says_that_all_is_well_and_shows_every_cell():
    whole = row(ALL, "parent_kill")
    root = parsed(report_page(run_of(row(), row("aster", fresh=1200.0), harmless(), skipped(venue="aster"), whole)))
    assert texts(root, "h1") == ["● All 4 drills recovered within their limits."]
    assert "Missed limits" not in texts(root, "h2")
    assert cells_of(root, "garbage") == ["no effect", "-"]
    assert cells_of(root, "parent_kill") == ["all: 5 ms / 1.1 s", ""]
    assert "2023-11-14 22:13:20 UTC" in texts(root, "p")[1]
    assert "1 not done" in texts(root, "p")[1]


def test_what_was_missed_comes_first_and_is_named():
    root = parsed(report_page(run_of(row(), late(venue="aster"), late(venue="paradex", note="not noticed"))))
    assert texts(root, "h1") == ["■ 2 of 3 drills missed their limits: kill on aster, kill on paradex."]
    assert texts(root, "h2")[0] == "Missed limits"
    assert cells_of(root, "kill") == ["5 ms / 1.1 s", "■ late: 5 ms / 9 s", "■ not noticed: 5 ms / 9 s"]
    assert [rect.get("class") for rect in root.iter("rect")].count("bar-down") == 3, "the legend, and two cells"


def test_a_fault_that_was_never_noticed_fills_its_bar():
    root = parsed(report_page(run_of(late(detected_ms=None) | {"fresh_ms": {"p50": None, "p99": None}})))
    assert cells_of(root, "kill") == ["■ late: - / -"]
    (cell,) = [div for div in root.iter("div") if div.get("class") == "cell"]
    assert [rect.get("width") for rect in cell.iter("rect")] == ["100%", "100.0%", "0.0%"]


def test_nothing_drilled_is_a_page_too():
    assert texts(parsed(report_page(run_of())), "h1") == ["● Nothing was drilled."]
    assert texts(parsed(report_page(run_of(skipped()))), "h1") == ["● Nothing was drilled."]
    assert markdown(run_of()).startswith("# Drills\n")


def test_no_text_from_outside_becomes_markup_or_breaks_a_table():
    run = run_of(late(venue=EVIL, note=EVIL, reason=EVIL, fault=EVIL), row(ALL, "parent_kill"))
    page = report_page(run)
    assert "<script" not in page
    assert "\x1b" not in page
    parsed(page)
    tables = re.findall(r"(?:^\|.*\|\n)+", markdown(run), re.MULTILINE)
    assert len({len(re.findall(r"(?<!\\)\|", line)) for line in tables[0].splitlines()}) == 1


def test_the_markdown_has_the_figures_of_the_terminal():
    text = markdown(run_of(row(), late(venue="aster"), rounds=3))
    assert "| lighter | kill | 1 | 5 | 1000 | 1100 | 1100 | 2500 | ok | drill | - |" in text
    assert "each fault 3 times" in text
    assert "1 of 2 drills missed their limits: kill on aster." in text
