from __future__ import annotations

from decimal import Decimal

import pytest

from simulator.listing import contracts, list_market


def test_a_contract_of_thousands_and_a_delisted_one_are_added_to_the_configured_ones():
    listed = {contract.base: contract for contract in contracts(["BTC", "ETH"])}
    assert listed["BTC"].price == Decimal(80_000)
    assert listed["PEPE"].multiplier == 1000
    assert listed["PEPE"].live
    assert not listed["MATIC"].live


def test_configured_contracts_are_traded_as_usual():
    listed = {contract.base: contract for contract in contracts(["PEPE", "MATIC"])}
    assert listed["PEPE"].activity == 1.0
    assert listed["MATIC"].live
    assert len(listed) == 2


@pytest.mark.parametrize("base", ["SOL", "DOGE", "XYZ", "A", "HYPE2"])
def test_any_base_has_a_fixed_price(base):
    first, second = contracts([base])[0], contracts([base])[0]
    assert first.price == second.price > 0


def test_prices_are_whole_ticks():
    listing = list_market(contracts(["ETH"])[0], "ETH", 2, 4)
    assert listing.symbol == "ETH-PERP"
    assert listing.price == 240_000
