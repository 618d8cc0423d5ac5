"""What an account consists of: rules, orders, fills, positions, and what came of an action. Data only."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Literal, NamedTuple, TypeAlias

from simulator.accounts.money import cost_of, notional, ratio
from simulator.market import BUY, Aggressor, Market

__all__ = [
    "AccountOutcome",
    "Cause",
    "Deposit",
    "OrderSpec",
    "FillRecord",
    "FundingRecord",
    "MarginRecord",
    "OrderChange",
    "OrderRecord",
    "PositionRecord",
    "Status",
    "AccountRules",
]

Status: TypeAlias = Literal["open", "untriggered", "filled", "canceled", "rejected", "expired"]
#: Why an order ended otherwise than by being filled; empty while it lives.
Cause: TypeAlias = Literal["", "user", "venue", "margin", "liquidation", "expiry"]

_LIVE = ("open", "untriggered")


@dataclass(frozen=True, slots=True)
class AccountRules:
    """What a venue grants an account.

    Attributes:
        quote: The asset of all money.
        maker_e6: Fee of a maker, in millionths of what is traded; negative is a rebate. ``taker_e6`` likewise.
        fee_places: Decimals to which a fee is rounded.
        money_places: Decimals with which the venue tells money.
        initial_e6: Margin to open a position, in millionths of its worth. ``maintenance_e6`` likewise, to keep it.
        words: The order states that this venue has.
        refused: The state of an order that the venue does not accept; None where there never is such an order.
        has_market_orders: Whether orders without a price exist; else a limit far beyond the touch takes their place.
        holdings: Money of other kinds, by asset, which is not traded.
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
    """An order to be placed; without a price it is one at the market, with a trigger it waits."""

    market: Market
    side: Aggressor
    size: int
    price: int | None = None
    trigger: int | None = None
    is_reduce_only: bool = False
    is_liquidation: bool = False


@dataclass(frozen=True, slots=True)
class OrderRecord:
    """The state of an order.

    Attributes:
        number: Counts orders and fills of this account.
        client: The number that the client gave it; None when it gave none.
        cost: What its fills were worth.
        fees: What was paid for them.
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
        """Where it stands."""
        return self.spec.market

    @property
    def remaining(self) -> int:
        """Lots that are not filled."""
        return self.spec.size - self.filled

    @property
    def is_live(self) -> bool:
        """Whether it can still be filled."""
        return self.status in _LIVE

    def average_e8(self) -> int:
        """The average price of its fills, in 10^-8; 0 without any."""
        return _price_e8(self.market, self.cost, self.filled)


@dataclass(frozen=True, slots=True)
class FillRecord:
    """A fill.

    Attributes:
        order: The order's state before it.
        before: The position before it, in lots.
        realised: What it made, without the fee.
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
        """Where it happened."""
        return self.order.market

    @property
    def side(self) -> Aggressor:
        """Bought or sold."""
        return self.order.spec.side

    @property
    def signed(self) -> int:
        """Lots, negative when sold."""
        return self.size if self.side == BUY else -self.size


@dataclass(frozen=True, slots=True)
class PositionRecord:
    """A position; flat ones are kept.

    Attributes:
        size: Lots, negative for a short.
        cost: What it was bought for; negative for a short.
        realised: What was made in this market, without fees; ``funding`` likewise (negative: paid).
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
        """Decimals of the average entry price: one more than the tick has."""
        return min(8, self.market.listing.price_places + 1)

    def entry(self) -> int:
        """The average entry price, in 10^-:attr:`entry_places`; 0 when flat."""
        return ratio(_price_e8(self.market, self.cost, self.size), 10 ** (8 - self.entry_places))

    def after(self, fill: FillRecord) -> PositionRecord:
        """The position that a fill makes of it."""
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
        """What a fill of ``signed`` lots at ``price`` ticks makes."""
        if self.size * signed >= 0:
            return 0
        closed = min(abs(self.size), abs(signed))
        sign = 1 if signed > 0 else -1
        return -(self.cost * closed // abs(self.size) + cost_of(self.market.listing, price, sign * closed))


class FundingRecord(NamedTuple):
    """A funding payment: ``payment`` is negative when it was paid, ``rate_e12`` a fraction per hour in 10^-12."""

    time_ms: int
    position: PositionRecord
    payment: int
    rate_e12: int


class Deposit(NamedTuple):
    """Money that came from outside."""

    asset: str
    money: int


class OrderChange(NamedTuple):
    """A new state of an order, and the fill that led to it."""

    order: OrderRecord
    fill: FillRecord | None = None


class MarginRecord(NamedTuple):
    """The account's margin."""

    equity: int
    available: int
    initial: int
    maintenance: int
    unrealised: int


@dataclass(frozen=True, slots=True)
class AccountOutcome:
    """What came of an action, in the order in which it happened.

    ``liquidated`` is the position that the venue closed, as it was.
    """

    time_ms: int
    changes: tuple[OrderChange, ...] = ()
    fundings: tuple[FundingRecord, ...] = ()
    deposit: Deposit | None = None
    liquidated: PositionRecord | None = None

    @property
    def fills(self) -> list[FillRecord]:
        """The fills among the changes."""
        return [change.fill for change in self.changes if change.fill is not None]

    @property
    def moved(self) -> list[Market]:
        """The markets where the position changed, or was paid for."""
        found = [fill.market for fill in self.fills] + [funding.position.market for funding in self.fundings]
        return list(dict.fromkeys(found))


def _price_e8(market: Market, cost: int, size: int) -> int:
    """The price at which ``size`` lots cost ``cost``, in 10^-8; 0 without lots."""
    return abs(ratio(cost * 10**8, abs(notional(market.listing, 10**8, size)))) if size else 0
