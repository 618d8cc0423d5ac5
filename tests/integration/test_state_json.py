"""State that the gateway serves for the page, of a real system."""

from __future__ import annotations

import json
import os
import signal
import urllib.parse
import urllib.request

import pytest
from systems import System, wait_for

pytestmark = pytest.mark.integration

VENUES = ["lighter", "paradex"]


@pytest.fixture(scope="module")
def system():
    with System("--venues", ",".join(VENUES)) as system:
        system.wait_live(VENUES)
        wait_for(lambda: answered(system), what="the gateway knows the state")
        yield system


def read(system, path):
    with urllib.request.urlopen(system.url + path, timeout=20) as answer:
        return answer.read().decode()


def state(system, book=None):
    query = "" if book is None else f"?book={urllib.parse.quote(book)}"
    return json.loads(read(system, f"/state.json{query}"))


def answered(system):
    """Return the state, None before the gateway knows it."""
    try:
        return state(system)
    except OSError:  # not listening yet, or 503
        return None


def test_prices_of_all_markets_are_exported_soon_after_the_first_scrape(system):
    def series(name):
        return [line for line in read(system, "/metrics").splitlines() if line.startswith(f"{name}{{")]

    wait_for(lambda: len(series("paraphina_funding_rate_8h_ratio")) == 4)
    wait_for(lambda: len(series("paraphina_spread_ratio")) == 4)


def test_the_overview_has_every_venue_with_its_rates_and_prices(system):
    def shows_all(it):
        is_live = it["verdict"]["headline"] == "All 2 venues live"
        return is_live and it["venues"][0]["rates"] and it["prices"][0]["rows"][0]["bid"]

    shown = wait_for(lambda: shows_all(it := state(system)) and it, what="the headline, rates and prices")
    assert [venue["name"] for venue in shown["venues"]] == VENUES
    assert [table["symbol"] for table in shown["prices"]] == ["BTC-PERP", "ETH-PERP"]
    assert shown["is_simulated"]


def test_consumers_are_named_and_the_gateway_is_none_of_them(system):
    with system.feed(name="quoter"):
        wait_for(lambda: [venue["consumers"] for venue in state(system)["venues"]] == [["quoter"]] * 2)
    wait_for(lambda: [venue["consumers"] for venue in state(system)["venues"]] == [[], []])


def test_a_book_has_ten_levels_a_side_and_hostile_names_are_refused(system):
    book = wait_for(lambda: (it := state(system, "paradex:ETH-PERP")["book"])["bids"] and it)
    assert (book["venue"], book["symbol"], book["why"]) == ("paradex", "ETH-PERP", None)
    assert len(book["bids"]) == len(book["asks"]) == 10
    assert float(book["bids"][0][0]) < float(book["asks"][0][0])
    for name in ("aster:BTC-PERP", "paradex:<script>", "x" * 5000, "\u202e:\n", "::"):
        refused = state(system, name)["book"]
        assert (refused["why"], refused["bids"], refused["asks"]) == ("no such market here", [], [])


def test_the_page_and_its_files_are_served_as_they_are_shipped(system):
    assert "<h1" in read(system, "/")
    assert "fetch(" in read(system, "/page.js")
    assert "prefers-color-scheme" in read(system, "/page.css")


def test_the_last_hour_survives_the_gateway(system):
    os.kill(system.pid("lighter"), signal.SIGKILL)
    wait_for(lambda: system.venue("lighter")["state"] != "live")
    system.wait_live(VENUES)
    wait_for(lambda: any("live again" in event["text"] for event in state(system)["events"]))
    before = state(system)
    pid = system.pid("gateway")
    os.kill(pid, signal.SIGKILL)
    wait_for(lambda: system.pid("gateway") != pid)
    after = wait_for(lambda: answered(system))
    assert [event for event in after["events"] if event["venue"] == "lighter"] == [
        event for event in before["events"] if event["venue"] == "lighter"
    ]
    (lighter,) = (of for of in after["hour"]["lanes"] if of["venue"] == "lighter")
    assert "exit" in {kind for _, kind, _ in lighter["marks"]}
    assert {"down", "live"} <= {kind for _, kind in lighter["spans"]}
    assert abs(after["hour"]["watched_since"] - before["hour"]["watched_since"]) < 2.0
