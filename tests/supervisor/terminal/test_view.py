"""Keys of ``top`` and what they lead to."""

import pytest
from overviews import NOW, VENUES, not_running, sample, system, venue

from supervisor.overview.history import History
from supervisor.overview.model import build
from supervisor.overview.prices import Prices
from supervisor.terminal.view import View, ViewCommand, chosen_venue, keys_in, ordered, pressed

OVERVIEW = sample()
NOTHING = build({**system(), "venues": {}}, History(), Prices(), NOW)


def after(keys, view=None, overview=OVERVIEW):
    """The view after keys, and the last command."""
    view, command = view or View(), None
    for key in keys:
        view, command = pressed(view, key, overview)
    return view, command


@pytest.mark.parametrize(
    ("data", "keys"),
    [
        (b"", []),
        (b"q?", ["q", "?"]),
        (b"\x1b[A\x1b[B\x1bOC\x1bOD", ["up", "down", "right", "left"]),
        (b"\r\n\t", ["enter", "enter", "right"]),
        (b"\x1b", ["escape"]),
        (b"\x1b\x1b", ["escape", "escape"]),
        (b"\x1bq", ["escape", "q"]),
        (b"\x1b[1;5A\x1b[15~j", ["up", "unknown", "j"]),
        (b"\x1b[", ["unknown"]),
        ("é".encode(), ["é"]),
        (b"\xff", ["\ufffd"]),
        (b"\x04", ["q"]),
    ],
)
def test_keys_are_recognised(data, keys):
    assert list(keys_in(data)) == keys


def test_numbers_and_arrows_choose():
    assert after("3")[0].chosen == VENUES[2]
    assert after(["down", "down", "up"])[0].chosen == VENUES[1]
    assert after(["up"])[0].chosen == VENUES[0]
    assert after(["5", "down"])[0].chosen == VENUES[4]
    assert after("9")[0].chosen is None
    assert after("²")[0].chosen is None


def test_the_choice_follows_the_order_on_the_screen():
    view, _ = after(["s", "s", "s"])
    assert view.sort == "restarts"
    assert chosen_venue(view, OVERVIEW).name == "lighter"
    assert after(["down"], view)[0].chosen == VENUES[0]
    assert after(["s"], view)[0].sort == "order"


def test_a_chosen_venue_that_is_gone_is_replaced_by_the_first():
    assert chosen_venue(View(chosen="binance"), OVERVIEW).name == VENUES[0]


@pytest.mark.parametrize(
    ("sort", "first"), [("order", "hyperliquid"), ("age", "extended"), ("rate", "paradex"), ("restarts", "lighter")]
)
def test_venues_are_sorted(sort, first):
    assert ordered(OVERVIEW, sort)[0].name == first


def test_what_is_unknown_is_last():
    status = system({"aster": venue(streams={"book": {**venue()["streams"]["book"], "age_ms": None}})})
    overview = build(status, History(), Prices(), NOW)
    assert ordered(overview, "age")[-1].name == "aster"
    assert [of.name for of in ordered(overview, "rate")] == list(VENUES)


def test_streams_log_and_help_open_and_close():
    assert after(["2", "enter"])[0].mode == "streams"
    assert after(["enter", "enter"])[0].mode == "venues"
    assert after(["enter", "down"])[0].mode == "streams"
    assert after(["l"])[0].mode == "log"
    assert after(["l", "l"])[0].mode == "venues"
    assert after(["l", "enter"])[0].mode == "streams"
    assert after(["?"])[0].mode == "help"
    assert after(["?", "?"])[0].mode == "venues"
    assert after(["enter", "escape"])[0].mode == "venues"


def test_a_restart_asks_first():
    view, command = after(["4", "r"])
    assert (view.confirms, command) == ("lighter", None)
    assert after(["y"], view) == (View(chosen="lighter"), ViewCommand("restart", "lighter"))
    for key in ("n", "q", "escape", "5"):
        assert after([key], view) == (View(chosen="lighter"), None)


def test_quit_pause_and_messages():
    assert after("q")[1] == ViewCommand("quit")
    assert after("p")[0].is_paused
    assert not after("pp")[0].is_paused
    assert after("x", View(message="done"))[0].message == ""


def test_symbols_take_turns():
    assert [after(["right"] * number)[0].symbol for number in (0, 1, 2)] == [0, 1, 0]
    assert after(["left"])[0].symbol == 1


def test_without_venues_there_is_nothing_to_choose():
    for key in ("1", "down", "enter", "l", "r", "right", "s", "p", "?"):
        view, command = after([key], overview=NOTHING)
        assert (view.chosen, view.confirms, command) == (None, None, None)
    assert after("q", overview=NOTHING)[1] == ViewCommand("quit")


def test_a_venue_may_be_away():
    overview = build(system({"aster": not_running()}), History(), Prices(), NOW)
    assert after(["2", "enter"], overview=overview)[0].chosen == "aster"
