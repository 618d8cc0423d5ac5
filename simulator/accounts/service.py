"""Where a venue keeps an account: lets it live, tells those who may know, and says what is true.

The account and its script are pure. A venue adds how it names things, how it tells of them, and who may see them.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Hashable, Iterable
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar

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
from simulator.session import ClientSession, Kind, OutgoingFrame
from simulator.wire import Frame

if TYPE_CHECKING:
    from simulator.venue import SimulatedVenue

__all__ = ["STREAM", "AccountService", "deliver"]

#: The stream that private frames belong to.
STREAM = "account"
_BEAT_S = 0.1
_RATE = 0.5
_MOST_AT_ONCE = 20
_MONEY = 100_000
_FUNDING_S = 3600
#: What happened before the venue was started: so many actions, so far apart.
_HISTORY, _HISTORY_GAP_MS = 25, 60_000


class AccountService(ABC):
    """A venue's accounts for the account that it serves.

    Attributes:
        account: The account.
        refuses: Whether logins are refused (by fault).
        rate: Actions a second while the script runs.
        is_running: Whether it does.
    """

    rules: ClassVar[AccountRules]

    def __init__(self, venue: SimulatedVenue) -> None:
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
        self._credit = 0.0

    # What a venue says of itself.

    @abstractmethod
    def order_id(self, order: OrderRecord) -> str:
        """An order's id, as the venue writes it."""

    @abstractmethod
    def client_id(self, order: OrderRecord) -> str | None:
        """The id that the client gave an order; None when it gave none."""

    @abstractmethod
    def fill_id(self, fill: FillRecord) -> str:
        """A fill's id, as the venue writes it."""

    @abstractmethod
    def publish(self, outcome: AccountOutcome) -> None:
        """Tell subscribers what came of an action."""

    def traded(self) -> list[Market]:
        """The markets of the account."""
        perpetuals = [market for market in self.venue.markets.values() if market.listing.symbol.endswith("-PERP")]
        return [market for market in perpetuals if market.listing.contract.live]

    def margin(self) -> MarginRecord:
        """The margin as the venue tells it."""
        return self.account.margin()

    def hedge(self, *, is_hedged: bool) -> None:  # noqa: B027 - most venues have one position a market
        """Let the account hold both sides of each market beside its position, or that alone."""

    def trade_on_builder(self, *, is_wanted: bool) -> None:  # noqa: B027 - most venues have no builders
        """Let the account trade on a builder's market alone, or on the others."""

    def expire(self) -> None:  # noqa: B027 - not every venue hands out credentials
        """Let all credentials that were handed out expire now, where there are such."""

    def token(self, order: dict[str, Any]) -> dict[str, Any]:
        """Issue a token, where the venue's own client would make one.

        Raises:
            UsageError: Nobody issues tokens here.
        """
        del order
        raise UsageError(f"no tokens at {self.venue.name}", where="venue", advice="lighter, paradex")

    def balances(self) -> list[tuple[str, int, int | None]]:
        """Asset, total, and what of it is available, as the venue tells it."""
        return [(self.rules.quote, self.account.wallet, self.account.margin().available)]

    # What the venue and the admin API call.

    def start(self) -> None:
        """Let the account live."""
        schedule = self.venue.schedule
        schedule.every(_BEAT_S, self._beat)
        period_s = self.venue.scaled(_FUNDING_S)
        # With a pace of 1 these are the full hours.
        first_s = period_s - self.venue.now_ms() / 1000 % period_s
        schedule.once(first_s, partial(self._begin_funding, period_s))

    def set_activity(self, order: dict[str, Any]) -> None:
        """Let the script run or rest, and how fast.

        Raises:
            UsageError: A value makes no sense.
        """
        rate, is_running = order.get("rate", self.rate), order.get("run", self.is_running)
        if not isinstance(rate, int | float) or isinstance(rate, bool) or not 0 <= rate <= _MOST_AT_ONCE / _BEAT_S:
            raise UsageError("rate must be a number of actions a second", where="rate", advice="0, 0.5, 10")
        if not isinstance(is_running, bool) or set(order) - {"rate", "run"}:
            raise UsageError("run must be true or false", where="run", advice="true, false")
        self.rate, self.is_running = float(rate), is_running

    def do(self, order: Any) -> dict[str, Any]:
        """Let something happen now; what came of it, in the words of the truth.

        Raises:
            UsageError: The order is no command, or makes no sense now.
        """
        try:
            command = msgspec.convert(order, Command)
        except msgspec.ValidationError as error:
            raise UsageError(str(error), where="action", advice=", ".join(ACTIONS)) from error
        outcome = self.script.perform(command, self._named(command.order_id), self.venue.now_ms())
        self.publish(outcome)
        return {
            "orders": [self._order_truth(change.order) for change in outcome.changes],
            "fills": [self._fill_truth(fill) for fill in outcome.fills],
            "payments": [self._payment_truth(funding) for funding in outcome.fundings],
        }

    def truth(self) -> dict[str, Any]:
        """The account as it is, and not as it was told: the last orders, fills and payments, and what they came to.

        Sizes are in contracts; a position's price has as many decimals as the venue tells.
        """
        account, margin = self.account, self.margin()
        return {
            "orders": [self._order_truth(order) for order in [*account.closed, *account.orders.values()]],
            "fills": [self._fill_truth(fill) for fill in account.fills],
            "payments": [self._payment_truth(funding) for funding in account.fundings],
            "positions": [self._position_truth(position) for position in account.held()],
            "balances": [
                {"asset": asset, "total": self._told(total), "available": None if free is None else self._told(free)}
                for asset, total, free in self.balances()
            ],
            "margin": {
                "equity": self._told(margin.equity),
                "available": self._told(margin.available),
                "initial_margin": self._told(margin.initial),
                "maintenance_margin": self._told(margin.maintenance),
            },
        }

    # What venues use.

    def push(self, key: Hashable, make: Callable[[], Iterable[Frame]], kind: Kind = "data") -> None:
        """Send the same frames to all who have subscribed to ``key``; without any, they are not even made."""
        sessions = self.venue.subscriptions.to(key)
        if not sessions:
            return
        with self.venue.failures.guard(STREAM):
            frames = list(make())
            for session in sessions:
                for frame in frames:
                    deliver(session, frame, kind)

    def _beat(self) -> None:
        if self.venue.is_paused or not self.is_running:
            return
        self._credit = min(self._credit + self.rate * _BEAT_S, _MOST_AT_ONCE)
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

    def _named(self, order_id: str | None) -> OrderRecord | None:
        """The order that lives under this id; None for no id."""
        if order_id is None:
            return None
        ids = {self.order_id(order): order for order in self.account.orders.values()}
        if order_id not in ids:
            raise UsageError(f"no order {order_id!r} that lives", where="order_id", advice=", ".join(ids) or "none")
        return ids[order_id]

    def _told(self, money: int) -> str:
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
    """Send a private frame to one session, past the faults that are at work."""
    session.push(OutgoingFrame(STREAM, "", kind, frame))
