"""The overview as a whole, and the committed sample of it."""

import json
from pathlib import Path

import msgspec
from overviews import NOW, VENUES, not_running, sample, stream, system, venue

from supervisor.overview.document import Overview
from supervisor.overview.history import History
from supervisor.overview.model import build
from supervisor.overview.prices import Prices

SAMPLE = Path(__file__).with_name("sample.json")


def built(status):
    history = History()
    history.record(status, NOW)
    return build(status, history, Prices(), NOW)


def encoded(overview):
    return json.loads(msgspec.json.encode(overview))


def test_the_committed_sample_is_up_to_date():
    """Write it again with: python tests/support/overviews.py > tests/supervisor/overview/sample.json."""
    assert json.loads(SAMPLE.read_text()) == encoded(sample())


def test_its_members_are_the_contract():
    found = encoded(sample())
    assert [*found] == [
        *("at", "uptime_s", "version", "is_simulated", "verdict", "clock", "venues", "hour", "events", "prices"),
        "book",
    ]
    assert [*found["hour"]] == ["from", "to", "watched_since", "lanes"]
    assert [*found["verdict"]] == ["level", "sign", "headline", "detail"]
    assert msgspec.json.decode(SAMPLE.read_bytes(), type=Overview) == sample()


def test_venues_keep_their_order_and_have_their_numbers():
    overview = built(system({"lighter": not_running(next_start_in_s=6.2, restarts=7)}))
    assert [of.name for of in overview.venues] == list(VENUES)
    lighter = overview.venues[3]
    assert (lighter.kind, lighter.sign, lighter.word, lighter.age_s, lighter.limit_s) == (
        "down",
        "■",
        "down",
        8.5,
        10.0,
    )
    assert (lighter.restarts, lighter.next_start_s, lighter.reason) == (7, 6.2, "killed")
    aster = overview.venues[1]
    assert (aster.lag_ms, aster.handling_ms, aster.consumers) == (1.9, 2.4, ["strategy-7"])
    assert (aster.books.usable, aster.books.wanted, aster.next_start_s) == (2, 2, None)
    assert overview.is_simulated


def test_streams_have_their_age_or_their_state_in_words():
    streams = {
        "book": stream(age_ms=150),
        "liquidation": stream(age_ms=None),
        "mark": stream("connecting", age_ms=None),
        "trade": stream("off", age_ms=None),
        "funding": stream("stale", age_ms=61_000),
    }
    found = {of.name: (of.word, of.is_bad) for of in built(system({"aster": venue(streams=streams)})).venues[1].streams}
    assert {name: found[name] for name in streams} == {
        "book": ("0.1 s", False),
        "liquidation": ("none yet", False),
        "mark": ("connecting", True),
        "trade": ("off", False),
        "funding": ("61 s", True),
    }


def test_where_nothing_ever_ran():
    status = {"supervisor": {"state": "none", "pid": None, "uptime_s": None, "version": None}, "venues": {}}
    status |= {"gateway": {"state": "stopped", "pid": None, "http": None}, "simulator": None}
    overview = built(status)
    assert (overview.venues, overview.prices, overview.verdict.level) == ([], [], "none")
    assert not overview.is_simulated


def test_texts_from_outside_are_data():
    evil = "x\x1b]0;owned\x07<b>"
    status = system()
    status["venues"] = {evil: venue("failed", pid=None, error=evil)}
    found = encoded(built(status))
    assert found["venues"][0]["name"] == found["venues"][0]["why"] == evil
