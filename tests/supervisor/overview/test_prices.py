"""Prices: only of usable books, with the best ones marked, and how far venues differ."""

import pytest
from overviews import NOW, bbo, funding, mark, market, not_running, stream, system, venue

from supervisor.overview.prices import Prices

BTC = "BTC-PERP"


@pytest.fixture
def prices():
    prices = Prices()
    prices.update(bbo("aster", BTC, "100", "101"))
    prices.update(bbo("lighter", BTC, "99.5", "100.5"))
    return prices


def two(**more):
    """A status document of aster and lighter."""
    return {**system(), "venues": {"aster": venue(), "lighter": venue(), **more}}


def table(prices, status=None, symbol=BTC):
    return next(one for one in prices.rows(status or two(), NOW) if one.symbol == symbol)


def row(prices, name, status=None):
    return next(one for one in table(prices, status).rows if one.venue == name)


def test_rows_have_prices_age_and_spread(prices):
    found = row(prices, "aster")
    assert (found.bid, found.ask, found.why) == ("100", "101", None)
    assert found.age_s == pytest.approx(0.1, abs=0.01)
    assert found.spread_bp == pytest.approx(99.5025)
    assert [one.symbol for one in prices.rows(two(), NOW)] == [BTC, "ETH-PERP"]
    assert [one.symbol for one in prices.rows(two(), NOW, ["ETH-PERP"])] == ["ETH-PERP"]


def test_the_best_of_both_sides_are_marked(prices):
    assert [(one.is_best_bid, one.is_best_ask) for one in table(prices).rows] == [(True, False), (False, True)]
    alone = {**system(), "venues": {"aster": venue()}}
    assert (row(prices, "aster", alone).is_best_bid, table(prices, alone).summary) == (False, "")


def test_the_sentence_says_how_far_they_are_apart_or_cross(prices):
    assert table(prices).summary == "Best bid aster, best ask lighter: apart by 49.88 bp."
    prices.update(bbo("aster", BTC, "101", "102"))
    assert table(prices).summary == "Best bid aster, best ask lighter: crossed by 49.63 bp."


def test_the_sentence_says_how_funding_differs(prices):
    prices.update(funding("aster", BTC, "0.0001"))
    assert "Funding" not in table(prices).summary
    prices.update(funding("lighter", BTC, "-0.000002", 3_600))
    assert table(prices).summary.endswith(" Funding differs by 0.0102 % per 8 h.")
    found = row(prices, "lighter")
    assert found.funding == pytest.approx(-0.00000025)
    assert (found.funding_8h, found.interval_s, found.next_funding_at) == (-0.000002, 3_600, NOW + 3_000)


def test_a_settled_rate_does_not_replace_the_predicted_one(prices):
    prices.update(funding("aster", BTC, "0.0001"))
    settled = funding("aster", BTC, "0.5")
    settled.phase = "settled"
    prices.update(settled)
    assert row(prices, "aster").funding_8h == 0.0001


def test_a_mark_price_stays_when_a_frame_has_none(prices):
    prices.update(mark("aster", BTC, "100.5"))
    prices.update(mark("aster", BTC, None))
    assert row(prices, "aster").mark == "100.5"


@pytest.mark.parametrize(
    ("of", "why"),
    [
        (not_running(), "killed from outside"),
        (not_running("stopped", last_exit=None), "does not run"),
        (venue(streams={"book": stream("resync", reason="seq_gap")}), "an update was lost"),
        (venue(streams={"book": stream("stale")}), "book stale"),
        (venue(streams={"bbo": stream("backoff", reason="server_close")}), "venue closed the connection"),
    ],
)
def test_prices_of_a_book_that_is_not_usable_are_not_shown(prices, of, why):
    status = two(aster=of)
    found = row(prices, "aster", status)
    assert (found.bid, found.ask, found.spread_bp, found.age_s, found.why) == (None, None, None, None, why)
    assert table(prices, status).summary == ""
    assert not row(prices, "lighter", status).is_best_bid


def test_one_market_of_a_venue_may_be_away(prices):
    book = stream()
    book["markets"]["ETH-PERP"] = market("failed", reason="no_book")
    prices.update(bbo("aster", "ETH-PERP", "5", "6"))
    status = two(aster=venue(streams={"book": book}))
    assert row(prices, "aster", status).bid == "100"
    assert table(prices, status, "ETH-PERP").rows[0].why == "no usable book in time"


def test_prices_of_the_life_before_are_not_shown(prices):
    restarted = two(aster=venue(epoch=8))
    assert row(prices, "aster", restarted).why == "no price yet"
    prices.update(bbo("aster", BTC, "7", "8", epoch=8))
    assert row(prices, "aster", restarted).bid == "7"
    assert row(Prices(), "aster").why == "no price yet"


def test_empty_sides_and_odd_texts(prices):
    prices.update(bbo("aster", BTC, None, "101"))
    found = row(prices, "aster")
    assert (found.bid, found.ask, found.spread_bp) == (None, "101", None)
    for text in ("x", "NaN", "Infinity", ""):
        prices.update(bbo("aster", BTC, text, "101"))
        assert row(prices, "aster").spread_bp is None
    prices.update(bbo("aster", BTC, "0", "0"))
    assert row(prices, "aster").spread_bp is None


def test_markets_are_bounded():
    prices = Prices()
    for number in range(10_100):
        prices.update(mark("aster", f"M{number}", "1"))
    assert len(prices._markets) == 10_000
