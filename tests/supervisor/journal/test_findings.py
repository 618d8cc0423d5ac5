from __future__ import annotations

from supervisor.journal.findings import Finding, TopicReport, VerifyReport, merge


def test_findings_are_all_counted_and_the_first_are_listed():
    report = VerifyReport()
    for number in range(60):
        report.problem("seq_gap", "f", number, "t", "lost")
    report.note("torn_line", "f", 9, "", "3 bytes")
    assert report.counts == {"seq_gap": 60, "torn_line": 1}
    assert [finding.line for finding in report.problems] == list(range(50))
    assert not report.ok


def test_notes_are_no_problem():
    report = VerifyReport()
    report.note("torn_line", "f", 9, "", "3 bytes")
    assert report.ok


def test_a_finding_says_where_what_and_how():
    assert str(Finding("seq_gap", "a.jsonl", 7, "book.x.Y", "2 lost")) == "a.jsonl:7: seq_gap: book.x.Y: 2 lost"
    assert str(Finding("missing_venue", "", 0, "aster", "nothing")) == "missing_venue: aster: nothing"


def test_reports_of_several_looks_become_one():
    first, second = VerifyReport(lines=5), VerifyReport(lines=0)
    first.topics["lighter"] = {"book.lighter.BTC-PERP": TopicReport(events=3)}
    second.topics["aster"] = {"book.aster.BTC-PERP": TopicReport(events=2)}
    first.problem("bad_line", "f", 1, "", "x")
    second.problem("bad_line", "f", 2, "", "y")
    whole = merge([first, second])
    assert whole.lines == 5
    assert set(whole.topics) == {"lighter", "aster"}
    assert whole.counts == {"bad_line": 2}
    assert [finding.line for finding in whole.problems] == [1, 2]
    assert whole.to_builtins()["ok"] is False
    assert merge([]).to_builtins() == {
        "ok": True,
        "whole": False,
        "files": 0,
        "size": 0,
        "lines": 0,
        "topics": {},
        "counts": {},
        "problems": [],
        "notes": [],
        "recordings": {},
    }
