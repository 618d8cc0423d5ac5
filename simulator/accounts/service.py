"""Account of a venue: run by a script, published to subscribers, and reported truthfully to the admin API.

Account and script are pure. A venue adds its ids, its messages and its authorisation.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Hashable, Iterable
from functools import partial
from typing import Any, ClassVar

import msgspec

from ipc.errors import UsageError
from simulator.accounts.account import SimulatedAccount
from simulator.accounts.money import PLACES, amount, rounded
from simulator.accounts.records import (
    AccountOutcome,
    AccountRules,
    FillRecord,
    FundingRecord,
    MarginRecord,
    OrderRecord,
    PositionRecord,
)
from simulator.accounts.script import ACTIONS, Command, Script
from simulator.decimals import shortest
from simulator.market import Market
from simulator.session import ClientSession, Kind, OutgoingFrame, VenueState
from simulator.wire import Frame

#: Stream of private frames.
STREAM = "account"
_TICK_S = 0.1
_RATE = 0.5
#: Actions per tick, at most.
_MAX_BURST = 20
_MONEY = 100_000
_FUNDING_S = 3600
#: Actions before the start of the venue, and the time between two of them.
_HISTORY, _HISTORY_GAP_MS = 25, 60_000


class AccountService(ABC):
    """Account that a venue serves, and everything that the venue does with it.

    Attributes:
        account: The account itself.
        refuses_logins: Whether logins are refused (by fault).
        rate: Actions per second while the script runs.
        is_running: Whether the script runs.
    """

    rules: ClassVar[AccountRules]

    def __init__(self, venue: VenueState) -> None:
        self.venue = venue
        now = venue.now_ms()
        begin = now - _HISTORY * _HISTORY_GAP_MS
        self.account = SimulatedAccount(self.traded(), self.rules, amount(_MONEY), begin)
        self.script = Script(self.account, f"{venue.settings.seed}:{venue.name}")
        for number in range(1, _HISTORY):
            self.script.act(begin + number * _HISTORY_GAP_MS)
        self.refuses_logins = False
        self.rate = _RATE
        self.is_running = True
        #: Actions that are due, with fractions.
        self._credit = 0.0

    # Implemented by each venue.

    @abstractmethod
    def order_id(self, order: OrderRecord) -> str:
        """Return an order's id in the venue's format."""

    @abstractmethod
    def client_id(self, order: OrderRecord) -> str | None:
        """Return the client's id of an order; None if it has none."""

    @abstractmethod
    def fill_id(self, fill: FillRecord) -> str:
        """Return a fill's id in the venue's format."""

    @abstractmethod
    def publish(self, outcome: AccountOutcome) -> None:
        """Publish the outcome of an action."""

    def traded(self) -> list[Market]:
        """Return the markets that the account trades."""
        perpetuals = [market for market in self.venue.markets.values() if market.listing.symbol.endswith("-PERP")]
        return [market for market in perpetuals if market.listing.contract.live]

    def margin(self) -> MarginRecord:
        """Return the margin as the venue reports it."""
        return self.account.margin()

    def hedge(self, *, is_hedged: bool) -> None:  # noqa: B027 - most venues have one position per market
        """Hold both sides of each market (hedge mode), or only the net position."""

    def trade_on_builder(self, *, is_wanted: bool) -> None:  # noqa: B027 - most venues have no builders
        """Trade only on a builder's market, or only on the others."""

    def expire(self) -> None:  # noqa: B027 - not every venue issues credentials
        """Expire all issued credentials now."""

    def token(self, _body: dict[str, Any]) -> dict[str, Any]:
        """Issue a token that a live client would sign itself.

        Raises:
            UsageError: This venue has no such tokens.
        """
        raise UsageError(f"no tokens at {self.venue.name}", where="venue", advice="lighter, paradex")

    def balances(self) -> list[tuple[str, int, int | None]]:
        """Return asset, total and available amount as the venue reports them."""
        return [(self.rules.quote, self.account.wallet, self.account.margin().available)]

    # Called by the venue and the admin API.

    def start(self) -> None:
        """Start the script and the funding payments."""
        schedule = self.venue.schedule
        schedule.every(_TICK_S, self._tick)
        period_s = self.venue.scaled(_FUNDING_S)
        # At a pace of 1, payments are on the full hour.
        first_s = period_s - self.venue.now_ms() / 1000 % period_s
        schedule.once(first_s, partial(self._begin_funding, period_s))

    def set_activity(self, body: dict[str, Any]) -> None:
        """Set the rate of the script (``rate``), and start or stop it (``run``).

        Raises:
            UsageError: Invalid value.
        """
        rate, is_running = body.get("rate", self.rate), body.get("run", self.is_running)
        if not isinstance(rate, int | float) or isinstance(rate, bool) or not 0 <= rate <= _MAX_BURST / _TICK_S:
            raise UsageError("rate must be a number of actions a second", where="rate", advice="0, 0.5, 10")
        if not isinstance(is_running, bool) or set(body) - {"rate", "run"}:
            raise UsageError("run must be true or false", where="run", advice="true, false")
        self.rate, self.is_running = float(rate), is_running

    def do(self, body: Any) -> dict[str, Any]:
        """Perform an action now; return its outcome in the format of :meth:`truth`.

        Raises:
            UsageError: Invalid command, or impossible at this moment.
        """
        try:
            command = msgspec.convert(body, Command)
        except msgspec.ValidationError as error:
            raise UsageError(str(error), where="action", advice=", ".join(ACTIONS)) from error
        outcome = self.script.perform(command, self._find_order(command.order_id), self.venue.now_ms())
        self.publish(outcome)
        return {
            "orders": [self._order_truth(change.order) for change in outcome.changes],
            "fills": [self._fill_truth(fill) for fill in outcome.fills],
            "payments": [self._payment_truth(funding) for funding in outcome.fundings],
        }

    def truth(self) -> dict[str, Any]:
        """Return the true account, whatever was published: recent orders, fills, payments, and the resulting state.

        Sizes are in contracts; a position's price has the venue's number of decimals.
        """
        account, margin = self.account, self.margin()
        return {
            "orders": [self._order_truth(order) for order in [*account.closed, *account.orders.values()]],
            "fills": [self._fill_truth(fill) for fill in account.fills],
            "payments": [self._payment_truth(funding) for funding in account.fundings],
            "positions": [self._position_truth(position) for position in account.held()],
            "balances": [
                {
                    "asset": asset,
                    "total": self._money_text(total),
                    "available": None if free is None else self._money_text(free),
                }
                for asset, total, free in self.balances()
            ],
            "margin": {
                "equity": self._money_text(margin.equity),
                "available": self._money_text(margin.available),
                "initial_margin": self._money_text(margin.initial),
                "maintenance_margin": self._money_text(margin.maintenance),
            },
        }

    # Used by venues.

    def push(self, key: Hashable, make: Callable[[], Iterable[Frame]], kind: Kind = "data") -> None:
        """Send frames to all subscribers of ``key``; build them only if there are any."""
        sessions = self.venue.subscriptions.to(key)
        if not sessions:
            return
        with self.venue.failures.guard(STREAM):
            frames = list(make())
            for session in sessions:
                for frame in frames:
                    deliver(session, frame, kind)

    def _tick(self) -> None:
        if self.venue.is_paused or not self.is_running:
            return
        self._credit = min(self._credit + self.rate * _TICK_S, _MAX_BURST)
        while self._credit >= 1:
            self._credit -= 1
            with self.venue.failures.guard(STREAM):
                self.publish(self.script.act(self.venue.now_ms()))

    def _begin_funding(self, period_s: float) -> None:
        self.venue.schedule.every(period_s, self._pay_funding)
        self._pay_funding()

    def _pay_funding(self) -> None:
        if self.is_running and not self.venue.is_paused:
            with self.venue.failures.guard(STREAM):
                self.publish(self.account.pay_funding(self.venue.now_ms()))

    def _find_order(self, order_id: str | None) -> OrderRecord | None:
        """Return the live order with this id; None without an id."""
        if order_id is None:
            return None
        ids = {self.order_id(order): order for order in self.account.orders.values()}
        if order_id not in ids:
            raise UsageError(f"no live order {order_id!r}", where="order_id", advice=", ".join(ids) or "none")
        return ids[order_id]

    def _money_text(self, money: int) -> str:
        return shortest(rounded(money, self.rules.money_places), self.rules.money_places)

    def _order_truth(self, order: OrderRecord) -> dict[str, Any]:
        spec, listing = order.spec, order.market.listing
        return {
            "order_id": self.order_id(order),
            "client_id": self.client_id(order),
            "symbol": listing.symbol,
            "side": spec.side,
            "price": None if spec.price is None else shortest(spec.price, listing.price_places),
            "size": shortest(spec.size, listing.size_places),
            "filled": shortest(order.filled, listing.size_places),
            "status": order.status,
        }

    def _fill_truth(self, fill: FillRecord) -> dict[str, Any]:
        listing = fill.market.listing
        return {
            "fill_id": self.fill_id(fill),
            "order_id": self.order_id(fill.order),
            "symbol": listing.symbol,
            "side": fill.side,
            "price": shortest(fill.price, listing.price_places),
            "size": shortest(fill.size, listing.size_places),
            "fee": shortest(fill.fee, PLACES),
            "fee_asset": self.rules.quote,
            "liquidity": "maker" if fill.is_maker else "taker",
        }

    def _payment_truth(self, funding: FundingRecord) -> dict[str, Any]:
        return {
            "time_ms": funding.time_ms,
            "symbol": funding.position.market.listing.symbol,
            "asset": self.rules.quote,
            "amount": shortest(funding.payment, PLACES),
        }

    def _position_truth(self, position: PositionRecord) -> dict[str, Any]:
        listing = position.market.listing
        return {
            "symbol": listing.symbol,
            "size": shortest(position.size, listing.size_places),
            "entry_price": shortest(position.entry(), position.entry_places),
        }


def deliver(session: ClientSession, frame: Frame, kind: Kind = "data") -> None:
    """Send a private frame to one session, through the active faults."""
    session.push(OutgoingFrame(STREAM, "", kind, frame))
