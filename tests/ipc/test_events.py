from __future__ import annotations

from typing import get_args

import msgspec
import pytest

from ipc import events
from ipc.events import SCHEMA, AccountEvent, AnyEvent, Bbo, Event, Funding, HeartbeatBook, Liquidation, Trade
from ipc.topics import ACCOUNT_CHANNELS

ENVELOPE = {
    "venue",
    "symbol",
    "venue_symbol",
    "exchange_ns",
    "schema",
    "epoch",
    "seq",
    "recv_ns",
    "recv_mono_ns",
    "publish_ns",
    "flags",
    "line",
}
#: The fields of each kind beyond the envelope, as consumers in any language know them.
KINDS = {
    "book_snapshot": {"bids", "asks", "depth", "venue_seq", "cause"},
    "book_delta": {"bids", "asks", "venue_seq", "prev_venue_seq", "first_venue_seq"},
    "gap": {"scope", "reason", "expected", "got", "action"},
    "bbo": {"bid_price", "bid_size", "ask_price", "ask_size"},
    "trade": {"price", "size", "side", "trade_id", "trade_type"},
    "liquidation": {"price", "size", "side", "trade_id", "trade_type"},
    "mark": {"mark_price", "index_price", "index_kind", "open_interest", "open_interest_notional"},
    "funding": {
        "rate",
        "rate_native",
        "rate_unit",
        "interval_s",
        "rate_8h",
        "next_funding_ns",
        "phase",
        "settlement_price_kind",
        "source",
        "polled_ns",
    },
    "status": {"stream", "state", "previous", "reason", "attempt", "backoff_s", "pid", "ages_ms"},
    "heartbeat": {"seqs", "books", "drops", "rss_bytes"},
    "instrument": {
        "tick",
        "lot",
        "contract_size",
        "multiplier",
        "quote",
        "market_id",
        "funding_interval_s",
        "status",
    },
    "order": {
        "account",
        "order_id",
        "client_id",
        "side",
        "price",
        "size",
        "filled",
        "status",
        "venue_status",
        "order_type",
        "reduce_only",
        "snapshot",
    },
    "fill": {
        "account",
        "fill_id",
        "order_id",
        "side",
        "price",
        "size",
        "fee",
        "fee_asset",
        "liquidity",
        "fill_type",
        "snapshot",
    },
    "position": {
        "account",
        "size",
        "entry_price",
        "mark_price",
        "unrealised_pnl",
        "liquidation_price",
        "margin_mode",
        "snapshot",
    },
    "balance": {"account", "asset", "total", "available", "snapshot"},
    "margin": {"account", "equity", "available", "initial_margin", "maintenance_margin", "snapshot"},
    "payment": {"account", "payment_id", "asset", "amount", "payment_type", "rate", "snapshot"},
    "lifecycle": {
        "event",
        "reason",
        "pid",
        "generation",
        "exit_code",
        "signal",
        "delay_s",
        "failures",
        "restarts",
        "uptime_s",
        "ports",
    },
}
TYPES: dict[str, type[Event]] = {str(kind.__struct_config__.tag): kind for kind in get_args(AnyEvent)}


def test_kinds_are_those_of_schema_1() -> None:
    assert SCHEMA == 1
    assert set(TYPES) == set(KINDS)


@pytest.mark.parametrize("kind", KINDS)
def test_fields_of_a_kind_are_the_envelope_and_its_own(kind: str) -> None:
    assert {field.encode_name for field in msgspec.structs.fields(TYPES[kind])} == ENVELOPE | KINDS[kind]


@pytest.mark.parametrize("kind", KINDS)
def test_decoder_gives_its_own_fields_by_position_behind_the_market(kind: str) -> None:
    positional = TYPES[kind].__match_args__
    assert positional[:4] == ("venue", "symbol", "venue_symbol", "exchange_ns")
    assert set(positional[4:]) == KINDS[kind]


@pytest.mark.parametrize("kind", KINDS)
def test_event_is_unstamped_until_it_is_published(kind: str) -> None:
    defaults = {field.name: field.default for field in msgspec.structs.fields(TYPES[kind])}
    stamps = ("schema", "epoch", "seq", "recv_ns", "recv_mono_ns", "publish_ns", "flags")
    assert [defaults[name] for name in stamps] == [1, 0, 0, 0, 0, 0, ()]


def test_one_event_is_not_changed_by_stamping_another() -> None:
    one, other = (Bbo("aster", "BTC-PERP", "BTCUSDT", None, None, None, None, None) for _ in range(2))
    one.flags, one.seq = ("refresh",), 3
    assert (other.flags, other.seq) == ((), 0)


def test_words_that_a_decoder_may_leave_out() -> None:
    trade = Trade("aster", "BTC-PERP", "BTCUSDT", None, "1", "2", "buy", "7")
    liquidation = Liquidation("aster", "BTC-PERP", "BTCUSDT", None, "1", "2", "buy", "7")
    assert (trade.trade_type, liquidation.trade_type) == ("trade", "liquidation")
    predicted = Funding("aster", "BTC-PERP", "X", None, None, None, "u", None, None, None, "predicted", "unknown")
    assert (predicted.source, predicted.polled_ns) == ("ws", None)


def test_account_stands_behind_the_market_of_every_private_event() -> None:
    private = [kind for kind in TYPES.values() if issubclass(kind, AccountEvent)]
    assert {kind.__struct_config__.tag for kind in private} == set(ACCOUNT_CHANNELS)
    assert {kind.__match_args__[4] for kind in private} == {"account"}


def test_books_of_a_heartbeat_say_what_to_compare() -> None:
    assert HeartbeatBook.__struct_fields__ == ("seq", "venue_seq", "usable", "age_ms", "crc32_top10")


def test_everything_public_exists() -> None:
    assert [name for name in events.__all__ if not hasattr(events, name)] == []
