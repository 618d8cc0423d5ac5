"""Routes: trades once, and what a route starts with."""

from __future__ import annotations

from fake_venue import BTC, subscription
from hypothesis import given
from hypothesis import strategies as st

from ipc.health import Stream, StreamState
from workers.protocol.streams import MarketStream, SeenTrades


def test_trade_is_new_once():
    seen = SeenTrades()
    assert seen.is_new("7")
    assert not seen.is_new("7")
    assert seen.is_new("8")


def test_latest_4096_trades_are_remembered():
    seen = SeenTrades()
    for number in range(4096):
        seen.is_new(str(number))
    assert not seen.is_new("0")
    assert seen.is_new("4096")
    assert seen.is_new("0")
    assert not seen.is_new("2")


def test_memory_of_trades_is_bounded():
    seen = SeenTrades()
    for number in range(20_000):
        seen.is_new(str(number))
    assert len(seen._ids) == 4096


@given(ids=st.lists(st.text(max_size=2), max_size=200))
def test_each_trade_passes_once(ids):
    seen = SeenTrades()
    assert [one for one in ids if seen.is_new(one)] == list(dict.fromkeys(ids))


def test_routes_begin_off_and_are_distinguished_by_identity():
    one, other = (MarketStream(Stream.TRADE, BTC, subscription("BTC-PERP", Stream.TRADE), None) for _ in range(2))
    assert one.symbol == "BTC-PERP"
    assert one.state is StreamState.OFF
    assert len({one, other}) == 2
    assert one.seen is not other.seen
