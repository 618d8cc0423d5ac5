"""The markets of a venue: found by base, remembered across restarts, and never an error of the disk's."""

from __future__ import annotations

import pytest
from fake_venue import BTC, ETH
from hypothesis import given
from hypothesis import strategies as st

from ipc.health import Reason
from workers import markets
from workers.markets import Resolved, keep_missing, load, nameless, resolve, save
from workers.venues.listing import Listing


def listed(base, **changes):
    return Listing(base, f"{base}-wire", f"{base}-USD", **changes)


# --- resolving ----------------------------------------------------------------------------------------------------


def test_market_that_is_missing_from_a_list_is_kept_behind_it():
    eth, sol = Listing("ETH", "2", "ETH"), Listing("SOL", "9", "SOL")
    assert keep_missing([sol], [BTC, eth, sol], ()) == [sol, BTC, eth]
    assert keep_missing([sol], [BTC, eth], {"ETH-PERP"}) == [sol, BTC]
    gone = Listing("ETH", "2", "ETH", status="delisted")
    assert keep_missing([BTC, gone], [BTC, eth], ()) == [BTC, gone]


def test_market_whose_wire_name_another_has_now_is_not_kept():
    assert keep_missing([Listing("SOL", BTC.wire, "SOL")], [BTC], ()) == [Listing("SOL", BTC.wire, "SOL")]


def test_markets_that_cannot_be_named_are_reported_and_never_found():
    odd = Listing(None, "odd", "odd name")
    assert nameless([BTC, odd]) == ["odd name"]
    assert resolve([odd, BTC], ("BTC",)) == Resolved((BTC,), {})


def test_configured_markets_are_found_in_their_order():
    assert resolve([ETH, listed("SOL"), BTC], ("BTC", "ETH")) == Resolved((BTC, ETH), {})


def test_market_that_the_venue_does_not_list_fails_alone():
    assert resolve([BTC], ("BTC", "NOPE")) == Resolved((BTC,), {"NOPE": Reason.UNKNOWN_MARKET})


def test_delisted_market_fails_alone():
    gone = listed("OLD", status="delisted")
    assert resolve([BTC, gone], ("OLD", "BTC")) == Resolved((BTC,), {"OLD": Reason.DELISTED})


def test_halted_market_is_followed():
    halted = listed("SOL", status="halted")
    assert resolve([halted], ("SOL",)).listings == (halted,)


@pytest.mark.parametrize(
    ("tick", "is_exact"),
    [(None, True), ("1", True), ("0.1", True), (f"0.{'0' * 14}1", True), (f"0.{'0' * 15}1", False)],
)
def test_market_whose_prices_floats_cannot_tell_apart_is_not_followed(tick, is_exact):
    missing = resolve([listed("SOL", tick=tick)], ("SOL",)).missing
    assert missing == ({} if is_exact else {"SOL": Reason.UNKNOWN_MARKET})


def test_zeros_at_the_end_of_a_tick_are_no_digits():
    assert resolve([listed("SOL", tick=f"0.1{'0' * 20}")], ("SOL",)).missing == {}


# --- remembering --------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    return tmp_path_factory.mktemp("run") / "cache"


@given(
    wire=st.text(max_size=10),
    tick=st.none() | st.just("0.01"),
    multiplier=st.sampled_from([1, 1000]),
    status=st.sampled_from(["active", "halted"]),
)
def test_listing_comes_back_from_the_cache_as_it_was(cache, wire, tick, multiplier, status):
    one = Listing("SOL", wire, "SOL-USD", "7", tick, "0.1", "1", multiplier, "USDC", 3600, status)
    save(cache, [one, BTC], ("SOL", "BTC"))
    assert load(cache, ("SOL", "BTC")) == [one, BTC]
    assert load(cache, ("SOL",))[0].symbol == "SOL-PERP"


def test_markets_that_are_not_configured_are_remembered_for_anyone_holds_them(tmp_path):
    path = tmp_path / "cache"
    save(path, [BTC, ETH, listed("SOL")], ("ETH",))
    assert load(path, ("ETH",)) == [BTC, ETH, listed("SOL")]


def test_cache_that_lacks_a_configured_market_is_not_used(tmp_path):
    path = tmp_path / "cache"
    save(path, [BTC], ("BTC",))
    assert load(path, ("BTC", "ETH")) is None


def test_restart_while_rest_is_away_subscribes_though_one_market_is_unknown_to_the_venue(tmp_path):
    path, bases = tmp_path / "cache", ("BTC", "NOPE")
    save(path, [BTC, ETH], bases)
    assert load(path, bases) == [BTC, ETH]


def test_missing_cache_is_no_fault(tmp_path, events):
    assert load(tmp_path / "cache", ("BTC",)) is None
    assert events("markets.cache_unreadable") == []


@pytest.mark.parametrize("content", [b"", b"{", b"[1]", b'[{"base": "BTC"}]', b"\xff\xfe", b"null"])
def test_unreadable_cache_is_reported_and_not_used(tmp_path, events, content):
    path = tmp_path / "cache"
    path.write_bytes(content)
    assert load(path, ("BTC",)) is None
    assert events("markets.cache_unreadable")[0]["path"] == str(path)


def test_cache_that_is_no_file_is_reported_and_not_used(tmp_path, events):
    assert load(tmp_path, ("BTC",)) is None
    assert len(events("markets.cache_unreadable")) == 1


def test_full_disk_costs_the_cache_and_nothing_else(tmp_path, events, monkeypatch):
    def full(path, data):
        raise OSError(28, "No space left on device")

    save(tmp_path / "cache", [BTC], ("BTC",))
    monkeypatch.setattr(markets, "replace_file", full)
    save(tmp_path / "cache", [ETH], ("ETH",))
    assert "No space left" in events("markets.cache_failed")[0]["error"]
    assert load(tmp_path / "cache", ("BTC",)) == [BTC]


def test_missing_directory_costs_the_cache_and_nothing_else(tmp_path, events):
    save(tmp_path / "gone" / "cache", [BTC], ("BTC",))
    assert len(events("markets.cache_failed")) == 1
