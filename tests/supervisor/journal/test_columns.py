from __future__ import annotations

import sys
from decimal import Decimal
from typing import get_args

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import UNSET

from ipc.errors import UsageError
from ipc.events import AnyEvent, Heartbeat, Liquidation
from ipc.topics import CHANNELS as ALL_CHANNELS
from supervisor.journal.columns import CHANNELS, Columns

pa = pytest.importorskip("pyarrow")

#: The kinds of events that each channel carries.
KINDS = {
    "book": ("book_snapshot", "book_delta", "gap"),
    "book20": ("book_snapshot", "gap"),
    **{name: (name,) for name in ALL_CHANNELS if not name.startswith("book")},
}


@pytest.fixture(scope="module")
def columns():
    return Columns()


def rows(columns, channel, *events):
    return columns.table(channel, events).to_pylist()


def test_every_channel_has_a_column_for_every_field_of_its_events(columns):
    kinds = {kind.__struct_config__.tag: kind for kind in get_args(AnyEvent)}
    assert set(ALL_CHANNELS) == CHANNELS
    for channel, names in KINDS.items():
        fields = {field for name in names for field in kinds[name].__struct_fields__} - {"schema", "venue"}
        assert fields <= set(columns.schema(channel).names), channel


def test_events_of_every_channel_come_back(columns, say_events):
    for channel, event in say_events:
        (row,) = rows(columns, channel, event)
        assert row["kind"] == event.__struct_config__.tag
        for name in event.__struct_fields__:
            if name in {"schema", "venue", "recv_ns", "recv_mono_ns"}:
                continue
            value = row[name]
            if isinstance(value, list) and value and isinstance(value[0], dict):
                value = [(level["price"], level["size"]) for level in value]
            expected = None if getattr(event, name) is UNSET else getattr(event, name)
            if isinstance(expected, dict):
                value = dict(value)
            assert value == (list(expected) if isinstance(expected, tuple) else expected), name


def test_levels_stand_as_texts_and_as_numbers(columns, say):
    first, second, third = rows(
        columns, "book", say.snapshot([("99.50", "1")], []), say.gap(), say.delta(asks=[("100", "0.00"), ("101", "2")])
    )
    assert first["bids"] == [{"price": "99.50", "size": "1"}]
    assert first["bids_dec"] == [{"price": Decimal("99.5"), "size": Decimal(1)}]
    assert first["asks"] == []
    assert second["bids"] is None
    assert second["asks_dec"] is None
    assert third["bids"] == []
    assert third["asks_dec"] == [
        {"price": Decimal(100), "size": Decimal(0)},
        {"price": Decimal(101), "size": Decimal(2)},
    ]


@pytest.mark.parametrize("first", [True, False])
def test_a_gap_leaves_the_levels_of_its_neighbours_alone(columns, say, first):
    events = [say.gap(), say.snapshot()] if first else [say.snapshot(), say.gap()]
    lengths = [None if row["bids"] is None else len(row["bids"]) for row in rows(columns, "book", *events)]
    assert lengths == ([None, 2] if first else [2, None])


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("0.000000000000000001", Decimal("1e-18")),
        ("99999999999999999999", Decimal(10) ** 20 - 1),
        ("-0.00125", Decimal("-0.00125")),
        ("82653.0", Decimal(82653)),
        ("0.0000000000000000001", None),
        ("100000000000000000000", None),
        ("NaN", None),
        ("-Infinity", None),
        ("twelve", None),
        ("", None),
    ],
)
def test_a_number_stands_beside_its_text_where_it_fits(columns, say, text, number):
    good, odd = rows(columns, "trade", say.trade(1, price="1.5"), say.trade(2, price=text))
    assert (good["price"], good["price_dec"]) == ("1.5", Decimal("1.5"))
    assert (odd["price"], odd["price_dec"]) == (text, number)


@given(st.decimals(allow_nan=False, allow_infinity=False, places=18, min_value=-(10**19), max_value=10**19))
def test_numbers_are_exact(number):
    columns = Columns()
    texts = [f"{number:f}", "1"]
    assert columns._decimals([texts[0], "1", None])[1].to_pylist() == [number, Decimal(1), None]
    assert columns._decimals([texts[0], "x"])[1].to_pylist() == [number, None]


def test_what_is_not_known_is_null(columns, say):
    event = say.mark(None)
    (row,) = rows(columns, "mark", event)
    assert [row[name] for name in ("recv_ns", "recv_mono_ns", "exchange_ns", "mark_price", "mark_price_dec")] == [
        None
    ] * 5


def test_a_number_that_no_column_holds_is_null(columns, say):
    event = say.delta()
    event.venue_seq = 2**63
    assert [row["venue_seq"] for row in rows(columns, "book", event, say.delta())] == [None, 2]


def test_heartbeats_keep_their_books_and_sequences(columns, new_script):
    line = new_script().everything().lines[-1]
    (row,) = rows(columns, "heartbeat", msgspec.json.decode(line, type=Heartbeat))
    assert dict(row["seqs"])["book.lighter.BTC-PERP"] == 3
    assert row["books"][0]["symbol"] == "BTC-PERP"
    assert row["books"][0]["usable"] is True
    assert row["books"][0]["crc32_top10"] > 0


def test_liquidations_are_trades_in_a_channel_of_their_own(columns):
    event = Liquidation("aster", "BTC-PERP", "BTCUSDT", None, "1", "2", "sell", "x")
    assert rows(columns, "liquidation", event)[0]["trade_type"] == "liquidation"


def test_without_parquet_support_there_is_one_clear_error(monkeypatch):
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(UsageError, match=r"pip install .*\[parquet\]"):
        Columns()
