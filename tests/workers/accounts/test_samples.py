"""Recorded private messages decode to exactly the events that they hold.

The recordings are no part of the project: ``PARAPHINA_SAMPLES_DIR`` says where they are, as ``<venue>/<file>.json``.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest
from courses import drive, secrets_of

from ipc.events import AccountEvent, Balance, Fill, Margin, Order, Position
from workers.accounts.ledger import Ledger
from workers.venues.account import AccountItem, Login, LoginError, private_venue

SAMPLES = Path(os.environ.get("PARAPHINA_SAMPLES_DIR", ""))
pytestmark = pytest.mark.skipif(
    not os.environ.get("PARAPHINA_SAMPLES_DIR"), reason="PARAPHINA_SAMPLES_DIR is not set: no recordings"
)


def sampled(names: str | tuple[str, ...], cases: Iterable[Any]) -> pytest.MarkDecorator:
    """Parametrise over samples; without the directory a test function is skipped once, not once per sample."""
    chosen = list(cases)
    return pytest.mark.parametrize(names, chosen if os.environ.get("PARAPHINA_SAMPLES_DIR") else chosen[:1])


#: What each frame of a file holds: items of one frame apart by blanks, frames by bars, ``-`` for nothing.
FRAMES = {
    "aster": {
        # The position's three sides are reported as their sum.
        "ws_user_ACCOUNT_UPDATE": "Balance Balance Leg Leg Leg",
        "ws_user_ORDER_TRADE_UPDATE": "Order",
        "ws_user_other": "Expired | - | - | -",
        "ws_ack": "- | - | -",
        "ws_error": "Refused | Refused | Refused",
    },
    "lighter": {
        # The first frame is of the orders of one market, which is not subscribed.
        "ws_account": "- | Position | Fill | Balance Balance | Margin",
        "ws_errors": "Refused | Refused | Refused",
        "ws_session": "- | - | Ping | Refused",
    },
    "paradex": {
        "ws_private": "Order | Fill | Position | Margin",
        "ws_auth_ack": "LoggedIn | LoggedIn",
        "ws_errors": "Refused | Refused",
    },
    "extended": {"ws_account": "Order | Balance Margin Balance | Position"},
}
FILES = [(venue, file) for venue, files in FRAMES.items() for file in files]


def messages(venue: str, file: str) -> list[Any]:
    found: list[Any] = json.loads((SAMPLES / venue / f"{file}.json").read_text())["messages"]
    return found


def decoded(venue: str, file: str) -> list[tuple[Any, list[AccountItem]]]:
    """Every frame of a file with its items; no market is followed."""
    side = private_venue(venue, {})
    frames = messages(venue, file)
    return [(one, side.decode(memoryview(json.dumps(one).encode()), False, {}, "desk")) for one in frames]


def leaves(message: Any) -> Iterator[Any]:
    if isinstance(message, dict | list):
        for member in message.values() if isinstance(message, dict) else message:
            yield from leaves(member)
    else:
        yield message


def written(event: AccountEvent) -> tuple[str | None, ...]:
    """The texts of an event that should be the venue's own."""
    match event:
        case Order():
            return event.price, event.size, event.client_id, event.order_type
        case Fill():
            return event.price, event.size
        case Position():
            return event.entry_price, event.mark_price, event.liquidation_price
        case Balance():
            return (event.total,)
        case Margin():
            return event.equity, event.available, event.initial_margin, event.maintenance_margin
        case _:
            return ()


@sampled(("venue", "file"), FILES)
def test_recorded_frames_hold_what_they_hold(venue: str, file: str) -> None:
    found = [" ".join(type(item).__name__ for item in items) or "-" for _, items in decoded(venue, file)]
    assert " | ".join(found) == FRAMES[venue][file]


@sampled(("venue", "file"), FILES)
def test_recorded_numbers_are_reported_as_they_were_written(venue: str, file: str) -> None:
    for message, items in decoded(venue, file):
        texts = {leaf for leaf in leaves(message) if isinstance(leaf, str)} | {None}
        for item in items:
            if isinstance(item, AccountEvent):
                assert set(written(item)) <= texts, item


def net_of(*legs: Any) -> Position:
    ledger = Ledger()
    for leg in legs:
        ledger.apply(leg)
    (net,) = ledger.nets()
    assert isinstance(net, Position)
    return net


def test_recorded_positions_in_hedge_mode_are_summed() -> None:
    ((_, (*_, whole, long, short)),) = decoded("aster", "ws_user_ACCOUNT_UPDATE")
    position = net_of(whole, long, short)
    assert (position.symbol, position.size, position.unrealised_pnl) == ("BTC-PERP", "10", "1427.056")
    assert (position.entry_price, position.margin_mode) == (None, "isolated")


def test_a_recorded_trailing_stop_waits() -> None:
    ((_, (order,)),) = decoded("aster", "ws_user_ORDER_TRADE_UPDATE")
    assert isinstance(order, Order)
    assert (order.status, order.price, order.order_id) == ("untriggered", None, "8886774")


def test_a_recorded_lighter_trade_is_ours_by_its_channel() -> None:
    fill = decoded("lighter", "ws_account")[2][1][0]
    assert isinstance(fill, Fill)
    # 0.0196 % of 314.324728.
    assert (fill.side, fill.liquidity, fill.fee) == ("buy", "taker", "0.061607646688")
    assert fill.order_id == "562947905631053"


def test_a_recorded_lighter_position_is_named_by_its_text() -> None:
    position = decoded("lighter", "ws_account")[1][1][0]
    assert isinstance(position, Position)
    assert (position.symbol, position.size) == ("ETH-PERP", "1.5000")


def test_recorded_balances_and_positions_of_aster_by_rest() -> None:
    side = private_venue("aster", {})
    secrets = secrets_of(side.secrets, ASTER_API_KEY="key", ASTER_API_SECRET="secret")
    steps = side.snapshot(Login("wss://x"), secrets, {}, "desk", 0, 1_790_000_000_000_000_000)
    reported = {
        "/fapi/v1/openOrders": (),
        "/fapi/v2/positionRisk": messages("aster", "rest_positionRisk"),
        "/fapi/v1/userTrades": (),
        "/fapi/v1/allOrders": (),
        "/fapi/v2/balance": messages("aster", "rest_balance"),
        "/fapi/v4/account": {},
    }
    long, short, balance, _ = drive(steps, reported).result.events
    position = net_of(long, short)
    assert (position.size, position.unrealised_pnl, position.mark_price) == ("10", "1160.3671178", "6679.50671178")
    assert (balance.asset, balance.total, balance.available) == ("USDT", "122607.35137903", "23.72469206")


@sampled(("venue", "file"), [("aster", "rest_error"), ("extended", "rest_errors"), ("paradex", "rest_error")])
def test_recorded_errors_are_refusals(venue: str, file: str) -> None:
    side = private_venue(venue, {})
    environ = {"ASTER_API_KEY": "key", "ASTER_API_SECRET": "secret"} if venue == "aster" else {}
    for message in messages(venue, file):
        steps = side.snapshot(Login("wss://x"), secrets_of(side.secrets, **environ), {}, "desk", 0, 1)
        next(steps)
        with pytest.raises(LoginError):
            steps.send(json.dumps(message).encode())
