"""What an event's numbers must be before it is published."""

from __future__ import annotations

import pytest

from ipc.checks import checked
from ipc.events import Balance, Bbo, Fill, Funding, Mark, Position, Trade

HEAD = ("aster", "BTC-PERP", "BTCUSDT", 1)


def trade(price="1", size="1", ns=1):
    return Trade("aster", "BTC-PERP", "BTCUSDT", ns, price, size, "buy", "7")


@pytest.mark.parametrize("text", ["1", "0.10", "123456789012345678901234567890"])
def test_number_stays_as_it_is(text):
    assert checked(trade(text)).price == text


def test_exponent_is_written_out():
    assert checked(trade("1E-7", "1e3")).price == "0.0000001"
    assert checked(trade("1E-7", "1e3")).size == "1000"


@pytest.mark.parametrize(
    "text", ["", "0", "-1", "0.000", "0E-8", "-0.0", "NaN", "1_0", " 1", "+1", "abc", "1e400", "\u0661"]
)
def test_price_or_size_that_no_trade_can_have(text):
    for event in (trade(price=text), trade(size=text)):
        with pytest.raises(ValueError, match=r"price|size"):
            checked(event)


@pytest.mark.parametrize(("ns", "kept"), [(1, 1), (None, None), (0, None), (-1, None), (1 << 63, None)])
def test_time_outside_int64_is_unknown(ns, kept):
    assert checked(trade(ns=ns)).exchange_ns == kept


def test_what_a_frame_did_not_carry_stays_unknown():
    event = Mark(*HEAD, None, None, None, None, None)
    assert checked(event) == event
    assert checked(Bbo(*HEAD, None, None, "1", "1")).bid_price is None


@pytest.mark.parametrize("zero", ["0", "0.000", "0E-8", "-0.0"])
def test_price_of_zero_in_a_mark_is_none_and_leaves_the_other_price(zero):
    without_index = checked(Mark(*HEAD, "1", zero, "oracle", None, None))
    assert (without_index.mark_price, without_index.index_price, without_index.index_kind) == ("1", None, None)
    without_mark = checked(Mark(*HEAD, zero, "1", "oracle", None, None))
    assert (without_mark.mark_price, without_mark.index_price, without_mark.index_kind) == (None, "1", "oracle")


def test_open_interest_may_be_zero_and_no_number_of_a_mark_negative():
    assert checked(Mark(*HEAD, "1", None, None, "0", "0.00")).open_interest == "0"
    for price in ("-1", "", "1_0", "NaN"):
        with pytest.raises(ValueError, match="mark_price"):
            checked(Mark(*HEAD, price, None, None, None, None))
    with pytest.raises(ValueError, match="open_interest"):
        checked(Mark(*HEAD, "1", None, None, "-1", None))


def test_rates_may_have_a_sign():
    rates = ("-1E-5", "-1E-5", "x", 3600, "-0.00008", None, "predicted", "mark")
    assert checked(Funding(*HEAD, *rates)).rate == "-0.00001"


def test_private_events_are_checked_alike():
    fill = Fill(*HEAD, "a", "1", None, "buy", "1", "1", "-1E-7", "USDC", "maker")
    assert checked(fill).fee == "-0.0000001"
    with pytest.raises(ValueError, match="total"):
        checked(Balance("aster", None, None, 1, "a", "USDC", "much", None))
    assert checked(Position(*HEAD, "a", "-2", None, None, "-1", "0", None)).size == "-2"
