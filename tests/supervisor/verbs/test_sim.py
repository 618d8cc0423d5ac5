"""``sim``: what it is reported, and what it prints."""

from __future__ import annotations

import json

import pytest

from simulator import main


@pytest.fixture
def simulated(monkeypatch):
    """Stands in for the simulator: the settings that it was given."""
    seen = []

    def run(settings, ready):
        seen.append(settings)
        ready()

    monkeypatch.setattr(main, "run", run)
    monkeypatch.setattr("ipc.log.setup", lambda _: None)
    return seen


def test_addresses_are_printed_when_it_listens(cli, simulated):
    ran = cli("sim", "--venues", "lighter, aster", "--markets", "BTC,SOL", "--rate", "10", "--seed", "3", "--pace", "2")
    assert ran.code == 0
    (settings,) = simulated
    assert (settings.venues, settings.bases) == (("lighter", "aster"), ("BTC", "SOL"))
    assert (settings.rate, settings.seed, settings.pace) == (10.0, 3, 2.0)
    rows = [line.split() for line in ran.out.splitlines()]
    assert [row[0] for row in rows] == ["lighter", "aster", "admin"]
    assert all(url.startswith(("ws://127.0.0.1:", "http://127.0.0.1:")) for row in rows for url in row[1:])


def test_addresses_for_programs(cli, simulated):
    shown = json.loads(cli("sim", "--venues", "lighter,aster", "--json").out)
    assert list(shown["venues"]) == ["lighter", "aster"]
    assert all(urls["ws"].startswith("ws://127.0.0.1:") for urls in shown["venues"].values())
    assert shown["admin"].startswith("http://127.0.0.1:")
    assert shown["ca"] is None


def test_all_venues_when_nobody_says(cli, simulated):
    cli("sim")
    assert simulated[0].venues == ("hyperliquid", "aster", "extended", "lighter", "paradex")


@pytest.mark.parametrize(
    ("options", "wanted"),
    [(["--venues", "binance"], "unknown venue 'binance'"), (["--markets", "btc"], "'btc' is no base")],
)
def test_what_cannot_be_simulated_is_a_usage_error(cli, simulated, options, wanted):
    ran = cli("sim", *options)
    assert ran.code == 2
    assert wanted in ran.err
