from __future__ import annotations

from itertools import pairwise, permutations, product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ipc.topics import ACCOUNT_CHANNELS, BOOK_CHANNELS, CHANNELS, VENUES, Topic, base_of, symbol_of, topic_of

bases = st.from_regex(r"[A-Z0-9][A-Z0-9_]{0,31}", fullmatch=True)


def test_topic_of_a_market_has_three_parts() -> None:
    assert topic_of("book", "lighter", "BTC-PERP") == "book.lighter.BTC-PERP"
    assert Topic.parse("book.lighter.BTC-PERP") == Topic("book", "lighter", "BTC-PERP")


def test_topic_of_a_venue_has_two_parts() -> None:
    assert topic_of("status", "paradex") == "status.paradex"
    assert Topic.parse("status.paradex") == Topic("status", "paradex", "")


@given(st.sampled_from(CHANNELS), st.sampled_from(VENUES), st.one_of(st.just(""), bases.map(symbol_of)))
def test_topic_survives_its_text(channel: str, venue: str, symbol: str) -> None:
    topic = Topic(channel, venue, symbol)
    assert Topic.parse(str(topic)) == topic


def test_what_follows_the_second_dot_is_the_symbol() -> None:
    assert Topic.parse("order.lighter.desk.one").symbol == "desk.one"


@pytest.mark.parametrize("text", ["", "book", "heartbeat"])
def test_text_of_one_part_is_no_topic(text: str) -> None:
    with pytest.raises(ValueError):
        Topic.parse(text)


@given(st.sets(bases, min_size=2, max_size=6))
def test_no_topic_is_a_prefix_of_another(names: set[str]) -> None:
    markets = [topic_of(channel, venue, symbol_of(name)) for channel, venue, name in product(CHANNELS, VENUES, names)]
    assert not [one for one, other in pairwise(sorted(markets)) if other.startswith(one)]


def test_no_venue_is_a_prefix_of_another() -> None:
    assert not [pair for pair in permutations(VENUES, 2) if pair[1].startswith(pair[0])]


def test_prefix_of_a_channel_selects_that_channel_only() -> None:
    assert [name for name in CHANNELS if topic_of(name, "aster", "BTC-PERP").startswith("book.")] == ["book"]


def test_book_channels_are_channels() -> None:
    assert set(BOOK_CHANNELS) == {"book", "book20"} <= set(CHANNELS)


def test_channels_of_accounts_are_no_public_ones() -> None:
    assert ACCOUNT_CHANNELS == ("order", "fill", "position", "balance", "margin", "payment")
    assert not set(ACCOUNT_CHANNELS) & set(CHANNELS)


@given(bases)
def test_base_is_read_from_base_and_symbol(base: str) -> None:
    assert base_of(base) == base
    assert base_of(symbol_of(base)) == base


@pytest.mark.parametrize("text", ["", "-PERP", "btc", "BTC-USD", "BTC-PERP-PERP", "BTC\n", "_BTC", "B" * 33, "BTC.X"])
def test_what_is_no_base_of_ours_gives_none(text: str) -> None:
    assert base_of(text) is None
