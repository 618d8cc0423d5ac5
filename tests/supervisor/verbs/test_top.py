"""The verb ``top`` where nothing or little runs; at a terminal it is tested with a whole system."""

from __future__ import annotations

import json
from types import SimpleNamespace

import pytest

from supervisor.verbs import top


@pytest.mark.parametrize(("term", "can"), [("xterm", True), ("dumb", False), ("unknown", False)])
def test_a_terminal_that_cannot_redraw_is_shown_it_once(monkeypatch, term, can):
    monkeypatch.setenv("TERM", term)
    monkeypatch.setattr(top.sys, "stdout", SimpleNamespace(isatty=lambda: True))
    assert top._can_redraw() is can


def test_nothing_runs(cli):
    assert cli("top").code == 3


@pytest.fixture
def system(boards, run_dir, held_lock, monkeypatch):
    monkeypatch.setattr(top, "_FIRST_S", 0.05)
    system = boards.WrittenSystem(run_dir)
    yield system
    system.board.close()


def test_a_market_that_nobody_follows(cli, system):
    ran = cli("top", "--symbol", "DOGE-PERP")
    assert ran.code == 2
    assert ran.err == "paraphina-supervisor: no venue has 'DOGE-PERP' here (there are BTC-PERP, ETH-PERP)\n"


def test_prices_that_are_not_there_are_shown_as_such(cli, system):
    ran = cli("top", "--symbol", "BTC-PERP")
    assert ran.code == 0
    assert "BTC-PERP" in ran.out
    assert "ETH-PERP" not in ran.out
    assert "■" in ran.out


def test_the_document_of_the_page_for_programs(cli, system):
    document = json.loads(cli("top", "--json").out)
    assert [of["name"] for of in document["venues"]] == ["lighter", "paradex"]
    assert [table["symbol"] for table in document["prices"]] == ["BTC-PERP", "ETH-PERP"]
    assert document["verdict"]["sign"]
