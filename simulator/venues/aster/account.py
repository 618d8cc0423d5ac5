"""Aster: the account on the user data stream, which a listen key opens.

Source: Aster, futures API documentation v3, user data stream: events, life of the listen key; a payment for cross
positions names no symbol.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, ClassVar

from simulator.accounts.credentials import ListenKeys
from simulator.accounts.money import ratio
from simulator.accounts.records import (
    AccountOutcome,
    AccountRules,
    FillRecord,
    OrderChange,
    OrderRecord,
    PositionRecord,
)
from simulator.accounts.service import AccountService, deliver
from simulator.decimals import padded, shortest
from simulator.market import Market
from simulator.schedule import Job
from simulator.venue import SimulatedVenue
from simulator.venues.aster.account_messages import entry_text, execution_of, kind_of, money_text, status_of
from simulator.venues.aster.messages import price_text, size_text
from simulator.venues.aster.session import framed

_KEY_LASTS_S = 3600
#: Lots that a hedged account holds on either side of each market, in addition to its net position.
_HEDGED_LOTS = 5
_FIRST_ORDER, _FIRST_FILL = 8_000_000_000, 400_000_000


class AsterAccounts(AccountService):
    """Account of the simulated Aster."""

    rules: ClassVar[AccountRules] = AccountRules(
        quote="USDT",
        maker_e6=100,
        taker_e6=350,
        fee_places=8,
        money_places=8,
        statuses=frozenset({"open", "filled", "canceled", "expired"}),
    )

    def __init__(self, venue: SimulatedVenue) -> None:
        super().__init__(venue)
        self._keys = ListenKeys(f"{venue.settings.seed}:{venue.name}", venue.scaled(_KEY_LASTS_S))
        self._expiry: Job | None = None
        self._is_hedged = False
        #: Lots of each leg as last published.
        self._published_legs: dict[tuple[str, str], int] = {}

    def order_id(self, order: OrderRecord) -> str:
        """Return ``orderId``."""
        return str(_FIRST_ORDER + order.number)

    def client_id(self, order: OrderRecord) -> str | None:
        """Return the client's id, or the one that the venue assigns: all orders have one."""
        if order.spec.is_liquidation:
            return f"autoclose-{order.created_ms}{order.number % 1000:03d}"
        return f"web_{order.number:020x}" if order.client is None else f"x-desk-{order.client}"

    def fill_id(self, fill: FillRecord) -> str:
        """Return the market's name and the trade's id, which the venue counts per market."""
        return f"{fill.market.listing.name}:{self.trade_id(fill)}"

    def trade_id(self, fill: FillRecord) -> int:
        """Return the trade's id as the venue writes it."""
        return _FIRST_FILL + fill.number

    def expire(self) -> None:
        """Expire the listen key and announce it on the stream, whose socket stays open."""
        key = self._keys.drop()
        if self._expiry is not None:
            self._expiry.cancel()
        for session in self.venue.subscriptions.to(key) if key else ():
            event = {"e": "listenKeyExpired", "E": self.venue.now_ms()}
            session.send(framed(session, key or "", event))

    def publish(self, outcome: AccountOutcome) -> None:
        """Publish orders, then the resulting balance and positions."""
        key = self._keys.current(self.venue.schedule.mono_s())
        if key is None:
            return
        now = self.venue.now_ms()
        if outcome.liquidated is not None:
            self._publish(key, self._margin_call(outcome.liquidated, now))
        for change in outcome.changes:
            order = {"e": "ORDER_TRADE_UPDATE", "E": now, "T": change.order.updated_ms, "o": self._order_event(change)}
            self._publish(key, order)
        if outcome.fills:
            self._publish(key, self._account_event("ORDER", now, outcome.moved))
        for funding in outcome.fundings:
            # A payment for cross positions lists none; for a hedged one it lists the leg.
            event = self._account_event("FUNDING_FEE", now, change=funding.payment)
            if self._is_hedged:
                event["a"]["P"] = [self._position_event(funding.position, "LONG", self.legs(funding.position)["LONG"])]
            self._publish(key, event)
        if outcome.deposit is not None:
            self._publish(key, self._account_event("DEPOSIT", now, change=outcome.deposit.money))

    def hedge(self, *, is_hedged: bool) -> None:
        """Switch the position mode and publish all legs; later events have only legs that change."""
        gone = dict.fromkeys(("LONG", "SHORT"), 0) if self._is_hedged and not is_hedged else {}
        self._is_hedged = is_hedged
        self._published_legs.clear()
        key, now = self._keys.current(self.venue.schedule.mono_s()), self.venue.now_ms()
        if key is None:
            return
        event = self._account_event("ADJUSTMENT", now)
        event["a"]["P"] = [
            self._position_event(position, side, lots)
            for position in self.account.positions.values()
            for side, lots in {**self.legs(position), **gone}.items()
        ]
        self._publish(key, event)

    def legs(self, position: PositionRecord) -> dict[str, int]:
        """Return lots by side: one leg, or, in a hedged account, both sides, whose sum is the position."""
        if not self._is_hedged:
            return {"BOTH": position.size}
        return {"BOTH": 0, "LONG": max(position.size, 0) + _HEDGED_LOTS, "SHORT": min(position.size, 0) - _HEDGED_LOTS}

    def open_key(self) -> str:
        """Return the listen key, valid for its full lifetime from now on."""
        key = self._keys.open(self.venue.schedule.mono_s())
        self._schedule_expiry()
        return key

    def extend_key(self) -> bool:
        """Extend the key to its full lifetime; return False when there is none."""
        if not self._keys.extend(self.venue.schedule.mono_s()):
            return False
        self._schedule_expiry()
        return True

    def close_key(self) -> None:
        """Invalidate the key without an event."""
        if self._expiry is not None:
            self._expiry.cancel()
        self._keys.drop()

    def _schedule_expiry(self) -> None:
        """Schedule the key's expiry."""
        if self._expiry is not None:
            self._expiry.cancel()
        self._expiry = self.venue.schedule.once(self.venue.scaled(_KEY_LASTS_S), self.expire)

    def _publish(self, key: str, event: dict[str, Any]) -> None:
        for session in self.venue.subscriptions.to(key):
            deliver(session, framed(session, key, event))

    def _order_event(self, change: OrderChange) -> dict[str, Any]:
        order, fill = change
        market, spec = order.market, order.spec
        kind = kind_of(order)
        event: dict[str, Any] = {
            "s": market.listing.name,
            "c": self.client_id(order),
            "S": spec.side.upper(),
            "o": kind,
            "f": "IOC" if spec.is_liquidation else "GTC",
            "q": size_text(market, spec.size),
            "p": "0" if spec.price is None else price_text(market, spec.price),
            "ap": shortest(order.average_e8(), 8),
            "sp": "0",
            "x": execution_of(change),
            "X": status_of(order),
            "i": int(self.order_id(order)),
            "l": "0" if fill is None else size_text(market, fill.size),
            "z": size_text(market, order.filled),
            "L": "0" if fill is None else price_text(market, fill.price),
            "T": order.updated_ms,
            "t": 0 if fill is None else self.trade_id(fill),
            "b": "0",
            "a": "0",
            "m": fill is not None and fill.is_maker,
            "R": spec.is_reduce_only,
            "wt": "CONTRACT_PRICE",
            "ot": kind,
            "ps": "BOTH",
            "cp": False,
            "rp": "0" if fill is None else money_text(fill.realised),
        }
        return event if fill is None else {**event, "N": self.rules.quote, "n": money_text(fill.fee)}

    def _account_event(self, why: str, now: int, moved: Iterable[Market] = (), change: int = 0) -> dict[str, Any]:
        """Return the balance and changed positions; a payment for all positions lists none."""
        wallet = money_text(self.account.wallet)
        balance = {"a": self.rules.quote, "wb": wallet, "cw": wallet, "bc": money_text(change) if change else "0"}
        account: dict[str, Any] = {"m": why, "B": [balance]}
        rows = [row for market in moved for row in self._moved_legs(self.account.positions[market.listing.symbol])]
        if rows:
            account["P"] = rows
        return {"e": "ACCOUNT_UPDATE", "E": now, "T": now, "a": account}

    def _moved_legs(self, position: PositionRecord) -> list[dict[str, Any]]:
        """Return the position; in a hedged account only the leg that changed."""
        symbol, rows = position.market.listing.symbol, []
        for side, lots in self.legs(position).items():
            if not self._is_hedged or self._published_legs.get((symbol, side)) != lots:
                rows.append(self._position_event(position, side, lots))
        return rows

    def _position_event(self, position: PositionRecord, side: str, lots: int) -> dict[str, Any]:
        self._published_legs[position.market.listing.symbol, side] = lots
        return {
            "s": position.market.listing.name,
            "pa": size_text(position.market, lots),
            "ep": entry_text(position),
            "cr": money_text(position.realised),
            "up": money_text(self.account.unrealised(position)),
            "mt": "cross",
            "iw": "0.00000000",
            "ps": side,
            "ma": self.rules.quote,
        }

    def _margin_call(self, position: PositionRecord, now: int) -> dict[str, Any]:
        """Return the warning that precedes a liquidation."""
        market = position.market
        maintenance = ratio(abs(self.account.worth(position)) * self.rules.maintenance_e6, 10**6)
        row = {
            "s": market.listing.name,
            "ps": "BOTH",
            "pa": size_text(market, position.size),
            "mt": "CROSSED",
            "iw": "0",
            "mp": padded(market.mark_e8, 8),
            "up": money_text(self.account.worth(position) - position.cost),
            "mm": money_text(maintenance),
        }
        return {"e": "MARGIN_CALL", "E": now, "cw": money_text(self.account.wallet), "p": [row]}
