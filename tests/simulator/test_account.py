"""Arithmetic of accounts, compared with independent calculations."""

from __future__ import annotations

from decimal import Decimal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from simulator.accounts.account import SimulatedAccount
from simulator.accounts.money import PLACES, amount, cost_of, notional, ratio, rounded
from simulator.accounts.records import AccountRules, OrderSpec, PositionRecord
from simulator.listing import Contract, list_market
from simulator.market import BUY, SELL, Market

NOW = 1_790_000_000_000
TERMS = AccountRules(quote="USDC", maker_e6=-50, taker_e6=450, holdings={"HYPE": 0})


def market(base="BTC", price="80000", price_places=1, size_places=5):
    return Market(list_market(Contract(base, Decimal(price)), base, price_places, size_places), 1, NOW)


BTC, ETH = market(), market("ETH", "2400", 2, 4)


def new_account(rules=TERMS):
    return SimulatedAccount([BTC, ETH], rules, amount(1000), NOW)


TRADES = st.lists(
    st.tuples(
        st.sampled_from((BTC, ETH)),
        st.sampled_from((BUY, SELL)),
        st.integers(1, 1_000_000),
        st.integers(1, 10_000_000),
        st.booleans(),
    ),
    max_size=40,
)


def trade(account, one):
    """Fill an order at the given price as a maker, at once or in two parts."""
    where, side, size, price, in_parts = one
    number = account.place(OrderSpec(where, side, size, price), NOW).changes[0].order.number
    if in_parts and size > 1:
        account.execute(number, size // 2, NOW)
        size -= size // 2
    account.execute(number, size, NOW)


@settings(max_examples=60, deadline=None)
@given(TRADES)
def test_positions_are_the_sum_of_the_fills(trades):
    account = new_account()
    for one in trades:
        trade(account, one)
    for symbol, position in account.positions.items():
        fills = [fill for fill in account.fills if fill.market.listing.symbol == symbol]
        assert position.size == sum(fill.signed for fill in fills)
        assert position.realised == sum(fill.realised for fill in fills)
        assert (position.cost == 0) == (position.size == 0)
        assert position.cost * position.size >= 0


@settings(max_examples=60, deadline=None)
@given(TRADES, st.booleans())
def test_money_changes_only_by_trades_fees_and_payments(trades, is_paying):
    account = new_account()
    paid = 0
    for one in trades:
        trade(account, one)
        if is_paying:
            paid += sum(funding.payment for funding in account.pay_funding(NOW).fundings)
    spent = sum(cost_of(fill.market.listing, fill.price, fill.signed) + fill.fee for fill in account.fills)
    bound = sum(position.cost for position in account.positions.values())
    assert account.wallet == amount(1000) - spent + bound + paid


@settings(max_examples=40, deadline=None)
@given(TRADES)
def test_closing_everything_leaves_only_realised_profit(trades):
    account = new_account()
    for one in trades:
        trade(account, one)
    for position in account.held():
        account.liquidate(position.market.listing.symbol, NOW)
    margin = account.margin()
    assert margin.equity == account.wallet
    assert margin.initial == margin.maintenance == margin.unrealised == 0
    assert account.wallet == amount(1000) + sum(fill.realised - fill.fee for fill in account.fills)


@settings(max_examples=40, deadline=None)
@given(TRADES)
def test_the_value_of_an_order_is_that_of_its_fills(trades):
    account = new_account()
    for one in trades:
        trade(account, one)
    for order in account.closed:
        fills = [fill for fill in account.fills if fill.order.number == order.number]
        assert order.filled == sum(fill.size for fill in fills) == order.spec.size
        assert order.fees == sum(fill.fee for fill in fills)
        assert order.average_e8() == pytest.approx(order.spec.price * 10 ** (8 - order.market.listing.price_places))
    assert not account.orders


def test_an_average_price_is_weighted_by_size():
    account = new_account()
    trade(account, (ETH, BUY, 10_000, 240_000, False))
    trade(account, (ETH, BUY, 30_000, 241_000, False))
    position = account.positions["ETH-PERP"]
    assert position.entry() == 2_407_500
    assert position.entry_places == 3


def test_a_fill_through_zero_realises_the_old_side_and_opens_the_new_one():
    account = new_account()
    trade(account, (ETH, BUY, 10_000, 240_000, False))
    trade(account, (ETH, SELL, 30_000, 250_000, False))
    position = account.positions["ETH-PERP"]
    assert position.size == -20_000
    assert position.realised == amount(100)
    assert position.entry() == 2_500_000


def test_reducing_does_not_change_the_average_price():
    account = new_account()
    trade(account, (ETH, SELL, 30_000, 250_000, False))
    trade(account, (ETH, BUY, 10_000, 240_000, False))
    position = account.positions["ETH-PERP"]
    assert (position.entry(), position.realised) == (2_500_000, amount(100))


def test_makers_and_takers_pay_their_fee_rates():
    account = new_account()
    trade(account, (ETH, BUY, 10_000, 240_000, False))
    assert account.fills[-1].fee == rounded(-amount(2400) * 50 // 10**6, 6) * 10 ** (PLACES - 6)
    fill = account.place_market(OrderSpec(ETH, BUY, 10_000), NOW).fills[0]
    worth = cost_of(ETH.listing, fill.price, fill.size)
    assert fill.fee == rounded(ratio(worth * 450, 10**6), 6) * 10 ** (PLACES - 6)
    assert not fill.is_maker


def test_a_market_order_walks_the_book_and_is_filled_at_any_size():
    best = ETH.asks.top(3)
    outcome = new_account().place_market(OrderSpec(ETH, BUY, best[0][1] + best[1][1] + 10**9), NOW)
    assert [fill.price for fill in outcome.fills] == [price for price, _ in best]
    assert outcome.changes[-1].order.status == "filled"
    assert [change.order.status for change in outcome.changes] == ["open", "open", "open", "filled"]


def test_without_market_orders_an_aggressive_limit_replaces_them():
    account = new_account(AccountRules(quote="USDC", maker_e6=0, taker_e6=0, has_market_orders=False))
    for side in (BUY, SELL):
        order = account.place_market(OrderSpec(ETH, side, 10), NOW).changes[0].order
        best = (ETH.asks if side == BUY else ETH.bids).best()[0]
        assert (order.spec.price - best) * (1 if side == BUY else -1) > best // 100


def test_funding_is_paid_by_longs_when_the_rate_is_positive():
    account = new_account()
    trade(account, (ETH, BUY, 10_000, 240_000, False))
    trade(account, (BTC, SELL, 10_000, 800_000, False))
    payments = {one.position.market: one.payment for one in account.pay_funding(NOW).fundings}
    for where, size in ((ETH, 10_000), (BTC, -10_000)):
        exact = -notional(where.listing, where.index_e8, size) * where.funding_e12 // 10**12
        assert payments[where] == pytest.approx(exact, abs=10 ** (PLACES - 6))


def test_a_liquidation_reports_the_position_as_it_was():
    account = new_account()
    trade(account, (ETH, BUY, 10_000, 240_000, False))
    account.place(OrderSpec(ETH, BUY, 5, 239_000), NOW)
    account.place(OrderSpec(BTC, BUY, 5, 799_000), NOW)
    outcome = account.liquidate("ETH-PERP", NOW)
    assert outcome.liquidated.size == 10_000
    assert [change.order.cause for change in outcome.changes] == ["liquidation", "", ""]
    assert account.positions["ETH-PERP"].size == 0
    assert [order.market for order in account.orders.values()] == [BTC]


def test_the_liquidation_price_is_where_equity_equals_maintenance_margin():
    account = new_account(AccountRules(quote="USDC", maker_e6=0, taker_e6=0))
    trade(account, (ETH, BUY, 50_000, 240_000, False))
    position = account.positions["ETH-PERP"]
    price = account.liquidation_e8(position)
    margin = account.margin()
    lost = notional(ETH.listing, account.marks_e8["ETH-PERP"] - price, position.size)
    assert margin.equity - lost == pytest.approx(margin.maintenance, rel=1e-6)
    assert account.liquidation_e8(PositionRecord(ETH)) is None


def test_deposits_go_to_the_wallet_or_to_holdings():
    account = new_account()
    account.deposit("USDC", amount(5), NOW)
    account.deposit("HYPE", amount(7), NOW)
    assert account.wallet == amount(1005)
    assert account.holdings == {"HYPE": amount(7)}
    assert TERMS.holdings == {"HYPE": 0}


@settings(max_examples=200)
@given(st.integers(-(10**20), 10**20), st.integers(1, 10**12))
def test_quotients_are_rounded_to_the_nearest_halves_away_from_zero(numerator, denominator):
    quotient = ratio(numerator, denominator)
    assert 2 * abs(quotient * denominator - numerator) <= denominator
    assert ratio(-numerator, denominator) == -quotient
    assert ratio(5, 10) == 1
