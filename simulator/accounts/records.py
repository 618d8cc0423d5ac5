"""Data of an account: rules, orders, fills, positions, and the outcome of an action."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Literal, NamedTuple, TypeAlias

from simulator.accounts.money import cost_of, notional, ratio
from simulator.market import BUY, Aggressor, Market

Status: TypeAlias = Literal["open", "untriggered", "filled", "canceled", "rejected", "expired"]
#: Why an order ended without being filled; empty while it is live.
Cause: TypeAlias = Literal["", "user", "venue", "margin", "liquidation", "expiry"]

_LIVE = ("open", "untriggered")


@dataclass(frozen=True, slots=True)
class AccountRules:
    """Rules of a venue for its account.

    Attributes:
        quote: Asset of all money.
        maker_e6: Maker fee, in millionths of the traded value; negative is a rebate. ``taker_e6`` likewise.
        fee_places: Decimals to which fees are rounded.
        money_places: Decimals in which the venue reports money.
        initial_e6: Initial margin, in millionths of a position's value. ``maintenance_e6`` likewise.
        statuses: Order states of this venue.
        rejected_status: State of a rejected order; None if the venue has no rejected orders.
        has_market_orders: Whether orders without a price exist; otherwise a limit far beyond the touch replaces them.
        holdings: Money in other assets, which is not traded.
    """

    quote: str
    maker_e6: int
    taker_e6: int
    fee_places: int = 6
    money_places: int = 6
    initial_e6: int = 50_000
    maintenance_e6: int = 25_000
    statuses: frozenset[Status] = frozenset({"open", "filled", "canceled"})
    rejected_status: Status | None = None
    has_market_orders: bool = True
    holdings: Mapping[str, int] = field(default_factory=dict)


class OrderSpec(NamedTuple):
    """Order to place: a market order without ``price``, a stop order with ``trigger``."""

    market: Market
    side: Aggressor
    size: int
    price: int | None = None
    trigger: int | None = None
    is_reduce_only: bool = False
    is_liquidation: bool = False


@dataclass(frozen=True, slots=True)
class OrderRecord:
    """State of an order.

    Attributes:
        number: Number among the orders and fills of this account.
        client: Number given by the client; None without one.
        cost: Value of its fills.
        fees: Fees of its fills.
    """

    number: int
    spec: OrderSpec
    client: int | None
    status: Status
    created_ms: int
    updated_ms: int
    filled: int = 0
    cost: int = 0
    fees: int = 0
    cause: Cause = ""

    @property
    def market(self) -> Market:
        """Return its market."""
        return self.spec.market

    @property
    def remaining(self) -> int:
        """Return the unfilled lots."""
        return self.spec.size - self.filled

    @property
    def is_live(self) -> bool:
        """Return whether it can still be filled."""
        return self.status in _LIVE

    def average_e8(self) -> int:
        """Return the average price of its fills, in 10^-8; 0 without fills."""
        return _price_e8(self.market, self.cost, self.filled)


@dataclass(frozen=True, slots=True)
class FillRecord:
    """Fill of an order.

    Attributes:
        order: State of the order before the fill.
        before: Position before the fill, in lots.
        realised: Realised profit, without the fee.
    """

    number: int
    order: OrderRecord
    time_ms: int
    price: int
    size: int
    fee: int
    is_maker: bool
    before: int
    realised: int

    @property
    def market(self) -> Market:
        """Return its market."""
        return self.order.market

    @property
    def side(self) -> Aggressor:
        """Return the side of its order."""
        return self.order.spec.side

    @property
    def signed(self) -> int:
        """Return the lots, negative if sold."""
        return self.size if self.side == BUY else -self.size


@dataclass(frozen=True, slots=True)
class PositionRecord:
    """Position in a market, possibly flat.

    Attributes:
        size: Lots, negative for a short.
        cost: Entry value; negative for a short.
        realised: Realised profit in this market, without fees; ``funding`` likewise (negative: paid).
        last_fill: Number of the last fill; 0 before the first.
    """

    market: Market
    size: int = 0
    cost: int = 0
    realised: int = 0
    funding: int = 0
    opened_ms: int = 0
    updated_ms: int = 0
    last_fill: int = 0

    @property
    def entry_places(self) -> int:
        """Return the decimals of the average entry price: one more than the tick has."""
        return min(8, self.market.listing.price_places + 1)

    def entry(self) -> int:
        """Return the average entry price, in 10^-:attr:`entry_places`; 0 when flat."""
        return ratio(_price_e8(self.market, self.cost, self.size), 10 ** (8 - self.entry_places))

    def after(self, fill: FillRecord) -> PositionRecord:
        """Return the position after a fill."""
        rest = self.size + fill.signed
        closed = min(abs(self.size), fill.size) if self.size * fill.signed < 0 else 0
        opened = fill.size - closed
        released = self.cost * closed // abs(self.size) if closed else 0
        sign = 1 if fill.signed > 0 else -1
        return replace(
            self,
            size=rest,
            cost=self.cost - released + cost_of(self.market.listing, fill.price, sign * opened),
            realised=self.realised + fill.realised,
            opened_ms=fill.time_ms if opened and abs(rest) == opened else self.opened_ms,
            updated_ms=fill.time_ms,
            last_fill=fill.number,
        )

    def gain(self, price: int, signed: int) -> int:
        """Return the profit that a fill of ``signed`` lots at ``price`` ticks realises."""
        if self.size * signed >= 0:
            return 0
        closed = min(abs(self.size), abs(signed))
        sign = 1 if signed > 0 else -1
        return -(self.cost * closed // abs(self.size) + cost_of(self.market.listing, price, sign * closed))


class FundingRecord(NamedTuple):
    """Funding payment: ``payment`` is negative if paid, ``rate_e12`` a fraction per hour in 10^-12."""

    time_ms: int
    position: PositionRecord
    payment: int
    rate_e12: int


class Deposit(NamedTuple):
    """Deposit of money."""

    asset: str
    money: int


class OrderChange(NamedTuple):
    """New state of an order, and the fill that caused it."""

    order: OrderRecord
    fill: FillRecord | None = None


class MarginRecord(NamedTuple):
    """Margin of an account."""

    equity: int
    available: int
    initial: int
    maintenance: int
    unrealised: int


@dataclass(frozen=True, slots=True)
class AccountOutcome:
    """Outcome of an action, in order of events; ``liquidated`` is the closed position as it was before."""

    time_ms: int
    changes: tuple[OrderChange, ...] = ()
    fundings: tuple[FundingRecord, ...] = ()
    deposit: Deposit | None = None
    liquidated: PositionRecord | None = None

    @property
    def fills(self) -> list[FillRecord]:
        """Return the fills among the changes."""
        return [change.fill for change in self.changes if change.fill is not None]

    @property
    def moved(self) -> list[Market]:
        """Return the markets whose position changed or paid funding."""
        found = [fill.market for fill in self.fills] + [funding.position.market for funding in self.fundings]
        return list(dict.fromkeys(found))


def _price_e8(market: Market, cost: int, size: int) -> int:
    """Return the price at which ``size`` lots cost ``cost``, in 10^-8; 0 without lots."""
    return abs(ratio(cost * 10**8, abs(notional(market.listing, 10**8, size)))) if size else 0
