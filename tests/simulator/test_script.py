from __future__ import annotations

from collections import Counter
from decimal import Decimal

import pytest

from ipc.errors import UsageError
from simulator.accounts.account import SimulatedAccount
from simulator.accounts.money import amount
from simulator.accounts.records import AccountRules
from simulator.accounts.script import Command, Script
from simulator.listing import Contract, list_market
from simulator.market import Market

NOW = 1_790_000_000_000
WORDS = frozenset({"open", "untriggered", "filled", "canceled", "rejected", "expired"})
ALL = AccountRules(quote="USDC", maker_e6=100, taker_e6=300, statuses=WORDS, rejected_status="rejected")


def play(seed=1, rules=ALL):
    markets = [
        Market(list_market(Contract(base, Decimal(price)), base, places, 4), 1, NOW)
        for base, price, places in (("BTC", "80000", 1), ("ETH", "2400", 2))
    ]
    account = SimulatedAccount(markets, rules, amount(100_000), NOW)
    return account, Script(account, seed)


def test_a_script_has_every_action_and_one_liquidation():
    account, script = play()
    outcomes = [script.act(NOW + number * 1000) for number in range(400)]
    endings = Counter(order.status for order in account.closed)
    assert set(endings) == {"filled", "canceled", "rejected", "expired"}
    assert {order.cause for order in account.closed} == {"", "user", "venue", "margin", "liquidation", "expiry"}
    assert sum(outcome.liquidated is not None for outcome in outcomes) == 1
    assert any(order.spec.is_reduce_only for order in account.closed)
    assert any(fill.size < fill.order.spec.size for fill in account.fills)
    assert any(outcome.deposit for outcome in outcomes)


def test_a_script_skips_actions_that_the_venue_does_not_have():
    rules = AccountRules(quote="USDC", maker_e6=100, taker_e6=300)
    account, script = play(rules=rules)
    for number in range(300):
        script.act(NOW + number * 1000)
    assert {order.status for order in [*account.closed, *account.orders.values()]} == rules.statuses


def test_orders_and_exposure_are_bounded():
    account, script = play(seed=3)
    for number in range(1500):
        script.act(NOW + number * 1000)
        assert len(account.orders) <= 7
        assert all(abs(account.worth(position)) < amount(30_000) for position in account.held())
    assert len(account.closed) <= 1000
    assert account.margin().equity > amount(90_000)


def test_the_same_seed_gives_the_same_actions():
    lives = []
    for seed in (1, 1, 2):
        account, script = play(seed)
        for number in range(100):
            script.act(NOW + number * 1000)
        lives.append([(fill.number, fill.price, fill.size) for fill in account.fills])
    assert lives[0] == lives[1] != lives[2]


def test_a_stop_waits_until_it_is_triggered():
    account, script = play()
    (change,) = script.perform(Command(action="stop", symbol="ETH-PERP", side="buy"), None, NOW).changes
    assert change.order.status == "untriggered"
    assert change.order.spec.trigger > account.positions["ETH-PERP"].market.asks.best()[0]
    with pytest.raises(UsageError, match="no order that is open"):
        script.perform(Command(action="fill"), None, NOW)
    assert script.perform(Command(action="trigger"), None, NOW).changes[0].order.status == "open"
    assert script.perform(Command(action="fill"), None, NOW).fills


def test_the_requested_order_is_placed():
    _, script = play()
    command = Command(action="place", symbol="ETH-PERP", side="sell", price="2500.25", size="0.0123", reduce_only=True)
    spec = script.perform(command, None, NOW).changes[0].order.spec
    assert (spec.side, spec.price, spec.size, spec.is_reduce_only) == ("sell", 250_025, 123, True)


@pytest.mark.parametrize("action", ["stop", "reject", "expire"])
def test_actions_that_a_venue_does_not_have_are_refused(action):
    _, script = play(rules=AccountRules(quote="USDC", maker_e6=0, taker_e6=0))
    script.perform(Command(action="place"), None, NOW)
    with pytest.raises(UsageError, match="venue"):
        script.perform(Command(action=action), None, NOW)


@pytest.mark.parametrize("action", ["reduce", "liquidate"])
def test_without_a_position_there_is_nothing_to_close(action):
    _, script = play()
    with pytest.raises(UsageError, match="no position"):
        script.perform(Command(action=action), None, NOW)
