"""Account of each venue as a naive client sees it, compared with the truth."""

from __future__ import annotations

from decimal import Decimal

import pytest

from ipc.errors import UsageError
from ipc.topics import VENUES

WORDS = {"open", "untriggered", "filled", "canceled", "rejected", "expired"}


@pytest.fixture(params=VENUES)
def stage(request, new_stage):
    return new_stage(request.param, rate=1)


@pytest.fixture
def accounts(stage):
    stage.venue.accounts.set_activity({"rate": 5})
    return stage.venue.accounts


@pytest.fixture
def still(stage):
    """Return an account service with its script off."""
    stage.venue.accounts.set_activity({"run": False})
    return stage.venue.accounts


@pytest.fixture
def reader(stage, readers):
    return readers.READERS[stage.venue.name](stage).log_in()


def test_published_state_is_the_truth(stage, accounts, reader, readers):
    known = set(readers.states(accounts.truth()))
    for _ in range(12):
        stage.run(5)
        reader.take()
    truth = accounts.truth()
    expected = {number: state for number, state in readers.states(truth).items() if number in reader.orders}
    assert expected == reader.orders
    assert set(readers.states(truth)) - known <= set(reader.orders)
    new = {number: fill for number, fill in readers.trades(truth).items() if number in reader.fills}
    assert new == reader.fills
    assert len(reader.orders) > 50
    assert len(reader.fills) > 50
    traded = {stage.venue.markets[row["symbol"]].listing.name for row in truth["fills"] if row["fill_id"] in new}
    positions = readers.held(stage, truth)
    assert len(traded) == 3
    assert {name: positions.get(name) for name in traded} == {name: reader.positions.get(name) for name in traded}


def test_rest_tells_the_truth(stage, accounts, reader, readers):
    stage.run(15)
    fresh = readers.READERS[stage.venue.name](stage)
    fresh.token, fresh.jwt = getattr(reader, "token", ""), getattr(reader, "jwt", "")
    fresh.read()
    truth = accounts.truth()
    assert fresh.orders == readers.states(truth)
    assert fresh.fills == readers.trades(truth)
    assert fresh.positions == readers.held(stage, truth)
    assert fresh.repeated == 0


def test_orders_end_in_every_state_of_the_venue(stage, accounts):
    stage.run(120)
    truth = accounts.truth()
    endings = {row["status"] for row in truth["orders"]} - {"open", "untriggered"}
    assert endings == set(accounts.rules.statuses) - {"open", "untriggered"} <= WORDS
    assert {row["liquidity"] for row in truth["fills"]} == {"maker", "taker"}


def test_some_orders_have_no_client_id_where_the_venue_gives_none_itself(stage, accounts):
    without = [row for row in accounts.truth()["orders"] if row["client_id"] is None]
    assert bool(without) == (stage.venue.name not in {"aster", "extended"})


def test_numbers_of_the_truth_are_shortest_plain_decimals(accounts, stage):
    stage.run(20)
    truth = accounts.truth()
    texts = [row[name] for row in truth["fills"] for name in ("price", "size", "fee")]
    texts += [row["entry_price"] for row in truth["positions"]] + list(truth["margin"].values())
    texts += [row["total"] for row in truth["balances"]]
    for text in texts:
        assert "e" not in text.lower()
        assert not ("." in text and text.endswith(("0", ".")))


def test_nothing_happens_while_the_venue_is_paused_or_the_script_is_off(stage, accounts):
    stage.venue.pause()
    before = accounts.truth()
    stage.run(1600)  # past the hour
    assert accounts.truth() == before
    stage.venue.resume()
    accounts.set_activity({"run": False})
    stage.run(60)
    assert accounts.truth() == before
    accounts.set_activity({"run": True, "rate": 1})
    stage.run(10)
    assert accounts.truth() != before


def test_every_reader_is_up_to_date_during_a_pause(stage, accounts, reader, readers):
    stage.run(20)
    stage.venue.pause()
    reader.take()
    truth = accounts.truth()
    assert set(reader.orders.items()) <= set(readers.states(truth).items())
    stage.run(5)
    assert not [m for m in reader.client.heard() if "order" in str(m).lower()]


def test_the_rate_is_met(stage, accounts):
    numbers = accounts.account.orders.keys() | {order.number for order in accounts.account.closed}
    accounts.set_activity({"rate": 10})
    stage.run(30)
    after = accounts.account.orders.keys() | {order.number for order in accounts.account.closed}
    assert 60 <= len(after - numbers) <= 300


def test_the_same_seed_gives_the_same_actions(new_stage, stage):
    other = new_stage(stage.venue.name, rate=1)
    for one in (stage, other):
        one.venue.accounts.set_activity({"rate": 3})
        one.run(30)
    assert stage.venue.accounts.truth() == other.venue.accounts.truth()


def test_another_seed_gives_other_actions(new_stage, stage):
    other = new_stage(stage.venue.name, rate=1, seed=2)
    assert stage.venue.accounts.truth()["fills"] != other.venue.accounts.truth()["fills"]


def test_a_restarted_venue_does_not_repeat_ids(stage, new_stage, fakes, monkeypatch):
    stage.run(60)
    monkeypatch.setattr(fakes, "_START_NS", fakes._START_NS + 60_000_000_000)
    again = new_stage(stage.venue.name, rate=1)
    # The history before the start differs: its times are earlier.
    begun = {fill.number for fill in again.venue.accounts.account.fills}
    assert begun.isdisjoint(fill.number for fill in stage.venue.accounts.account.fills)


# actions


def test_a_filled_order_fills_the_position(still, reader, readers, stage):
    placed = still.do({"action": "place", "symbol": "ETH-PERP", "side": "buy", "size": "0.5"})["orders"][0]
    assert placed["status"] == "open"
    before = {row["symbol"]: row["size"] for row in still.truth()["positions"]}
    done = still.do({"action": "fill", "order_id": placed["order_id"]})
    assert done["orders"][0] == {**placed, "status": "filled", "filled": "0.5"}
    assert done["fills"][0]["order_id"] == placed["order_id"]
    after = {row["symbol"]: row["size"] for row in still.truth()["positions"]}
    gained = float(after.get("ETH-PERP", 0)) - float(before.get("ETH-PERP", 0))
    assert gained == pytest.approx(0.5)
    reader.take()
    assert reader.orders[placed["order_id"]][0] == "filled"
    assert done["fills"][0]["fill_id"] in reader.fills
    assert readers.held(stage, still.truth())[
        "ETH" if stage.venue.name in {"hyperliquid", "lighter"} else name_of(stage)
    ]


def name_of(stage):
    return stage.venue.markets["ETH-PERP"].listing.name


def test_a_part_can_be_filled_and_the_rest_canceled(still, reader):
    order = still.do({"action": "place", "symbol": "ETH-PERP", "size": "0.5"})["orders"][0]["order_id"]
    part = still.do({"action": "partial", "order_id": order, "size": "0.2"})
    assert part["orders"][0]["filled"] == part["fills"][0]["size"] == "0.2"
    assert part["orders"][0]["status"] == "open"
    gone = still.do({"action": "cancel", "order_id": order, "by": "venue"})["orders"][0]
    assert (gone["status"], gone["filled"]) == ("canceled", "0.2")
    reader.take()
    assert reader.orders[order] == ("canceled", Decimal("0.2"))


def test_a_market_order_is_filled_at_once_as_a_taker(still, reader):
    done = still.do({"action": "market", "symbol": "BTC-PERP", "side": "sell", "size": "0.01"})
    assert done["orders"][0]["status"] == "open"
    assert done["orders"][-1]["status"] == "filled"
    assert {fill["liquidity"] for fill in done["fills"]} == {"taker"}
    reader.take()
    assert {fill["fill_id"] for fill in done["fills"]} <= set(reader.fills)


def test_a_reduce_only_order_is_no_larger_than_the_position(still):
    still.do({"action": "market", "symbol": "BTC-PERP", "side": "buy", "size": "0.5"})
    done = still.do({"action": "reduce", "symbol": "BTC-PERP", "size": "9"})["orders"][0]
    held = next(row["size"] for row in still.truth()["positions"] if row["symbol"] == "BTC-PERP")
    assert (done["side"], done["size"]) == ("sell", held)


def test_a_liquidation_closes_the_position_and_the_orders_of_its_market(still, reader, stage):
    still.do({"action": "market", "symbol": "BTC-PERP", "side": "buy", "size": "0.5"})
    order = still.do({"action": "place", "symbol": "BTC-PERP"})["orders"][0]["order_id"]
    done = still.do({"action": "liquidate", "symbol": "BTC-PERP"})
    assert all(row["symbol"] != "BTC-PERP" for row in still.truth()["positions"])
    assert {row["order_id"]: row["status"] for row in done["orders"]}[order] == "canceled"
    assert len(done["fills"]) == 1
    reader.take()
    assert reader.orders[order][0] == "canceled"
    assert stage.venue.markets["BTC-PERP"].listing.name not in reader.positions


def test_funding_moves_the_wallet(still):
    still.do({"action": "market", "symbol": "BTC-PERP", "side": "buy", "size": "0.5"})
    wallet = still.account.wallet
    payments = still.do({"action": "funding"})["payments"]
    assert {row["symbol"] for row in payments} == {row["symbol"] for row in still.truth()["positions"]}
    assert still.account.wallet - wallet == sum(funding.payment for funding in still.account.fundings)
    assert still.truth()["payments"] == payments


def test_funding_is_paid_every_hour_on_the_hour_scaled_by_pace(new_stage, stage):
    for pace, hours in ((1, 1), (60, 3)):
        one = new_stage(stage.venue.name, rate=1, pace=pace)
        one.venue.accounts.do({"action": "market", "symbol": "BTC-PERP"})
        one.venue.accounts.set_activity({"rate": 0})
        one.run(hours * 3600 / pace)
        times = {row["time_ms"] for row in one.venue.accounts.truth()["payments"]}
        assert len(times) == hours
        assert all(time % (3_600_000 // pace) < 1000 for time in times)


def test_a_deposit_is_seen(still, stage):
    def total():
        return sum(float(row["total"]) for row in still.truth()["balances"])

    before = total()
    still.do({"action": "deposit", "size": "100"})
    assert total() - before == pytest.approx(100)


@pytest.mark.parametrize(
    ("order", "where"),
    [
        ({"action": "dance"}, "action"),
        ({}, "action"),
        ({"action": "place", "symbol": "XYZ-PERP"}, "symbol"),
        ({"action": "place", "size": "0.0000000001"}, "size"),
        ({"action": "place", "size": "-1"}, "size"),
        ({"action": "place", "price": "many"}, "price"),
        ({"action": "fill", "order_id": "nope"}, "order_id"),
        ({"action": "deposit", "asset": "GOLD"}, "asset"),
    ],
)
def test_invalid_commands_are_refused_with_advice(still, order, where):
    with pytest.raises(UsageError) as refused:
        still.do(order)
    assert refused.value.where == where
    assert refused.value.advice


def test_actions_that_are_impossible_now_are_refused(still):
    for order in list(still.account.orders.values()):
        still.do({"action": "cancel", "order_id": still.order_id(order)})
    for action in ("fill", "partial", "cancel"):
        with pytest.raises(UsageError, match="no order"):
            still.do({"action": action})


@pytest.mark.parametrize("order", [{"rate": -1}, {"rate": "fast"}, {"rate": 10**6}, {"run": 1}, {"speed": 1}])
def test_an_invalid_activity_is_refused(still, order):
    with pytest.raises(UsageError):
        still.set_activity(order)
