"""The verb ``top``; what it shows of a running system is tested with the system."""

from __future__ import annotations

import io
from types import SimpleNamespace

import pytest
from rich.console import Console

from ipc.feed_state import Top
from supervisor.verbs import top

VENUE = {
    "state": "live",
    "outage": False,
    "books": {"usable": 1, "wanted": 2},
    "restarts": 3,
    "drops": 4,
    "rss_bytes": 45 * 1024 * 1024,
    "streams": {"book": {"reconnects": 5}, "trade": {"reconnects": 1}},
}
TOPS = [
    Top("lighter", ("100.5", "1"), ("101", "2"), 12.4, None),
    Top("aster", ("100", "3"), None, 3.0, None),
    Top("paradex", None, None, None, "seq_gap"),
]


def shown(venues=None, rates=None, tops=TOPS):
    console = Console(file=io.StringIO(), width=120)
    status = {"supervisor": {"state": "running"}, "venues": venues or {"lighter": VENUE}}
    console.print(top._screen({"BTC-PERP": tops}, status, rates or {}))
    return [line.split() for line in console.file.getvalue().splitlines() if line.strip()]


def test_each_venue_has_its_best_prices_or_says_why_not():
    assert shown()[1:4] == [
        ["BTC-PERP", "aster", "3", "100", "-", "3"],
        ["lighter", "1", "100.5", "101", "2", "12"],
        ["paradex", "-", "seq_gap"],
    ]


def test_the_best_of_all_venues_stands_out():
    assert top._price_row(TOPS[0], 100.5, 101.0)[2:4] == ["[bold green]100.5[/]", "[bold green]101[/]"]
    assert top._price_row(TOPS[1], 100.5, 101.0)[2:4] == ["100", "-"]


def test_each_feed_says_how_it_is():
    assert shown()[-1] == ["lighter", "live", "1/2", "-", "3", "5", "4", "45"]
    assert shown(rates={"lighter": 31.6})[-1][3] == "32"
    away = {**VENUE, "state": "backoff", "outage": True, "rss_bytes": None}
    assert shown({"lighter": away})[-1] == ["lighter", "backoff", "OUTAGE", "1/2", "-", "3", "5", "4", "-"]


@pytest.mark.parametrize(("term", "can"), [("xterm", True), ("dumb", False), ("unknown", False)])
def test_a_terminal_that_cannot_redraw_is_shown_it_once(monkeypatch, term, can):
    monkeypatch.setenv("TERM", term)
    monkeypatch.setattr(top.sys, "stdout", SimpleNamespace(isatty=lambda: True))
    assert top._can_redraw() is can


def test_nothing_runs(cli):
    assert cli("top").code == 3


@pytest.fixture
def system(boards, run_dir, held_lock):
    system = boards.WrittenSystem(run_dir)
    yield system
    system.board.close()


def test_a_market_that_nobody_follows(cli, system):
    ran = cli("top", "--symbol", "DOGE-PERP")
    assert ran.code == 2
    assert ran.err == "paraphina-supervisor: no venue has 'DOGE-PERP' here (there are BTC-PERP, ETH-PERP)\n"


def test_books_that_are_not_there_are_shown_as_such(cli, system, monkeypatch):
    monkeypatch.setattr(top, "_FIRST_S", 0.05)
    ran = cli("top", "--symbol", "BTC-PERP")
    assert ran.code == 0
    assert "BTC-PERP" in ran.out
    assert cli("top", "--json").out.startswith('{"BTC-PERP": [')
