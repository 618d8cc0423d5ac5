"""Script of an account: random actions from a seed, and commands of the admin API.

The script ensures that actions are plausible (only open orders are filled, exposure is bounded, there is one
liquidation); the account itself does not check.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from decimal import Decimal, InvalidOperation
from typing import Annotated, Final, Literal, TypeAlias, get_args

from msgspec import Meta, Struct

from ipc.errors import UsageError
from simulator.accounts.account import SimulatedAccount
from simulator.accounts.money import amount
from simulator.accounts.records import AccountOutcome, OrderRecord, OrderSpec, PositionRecord
from simulator.market import BUY, SELL, Aggressor, Market

Action: TypeAlias = Literal[
    "place",
    "stop",
    "market",
    "reduce",
    "reject",
    "fill",
    "partial",
    "cancel",
    "expire",
    "trigger",
    "liquidate",
    "funding",
    "deposit",
]
ACTIONS: Final[tuple[str, ...]] = get_args(Action)

#: Relative weights of random actions.
_WEIGHTS: Final[dict[Action, int]] = {
    "place": 30,
    "stop": 3,
    "market": 12,
    "reduce": 4,
    "reject": 2,
    "fill": 13,
    "partial": 14,
    "cancel": 14,
    "expire": 2,
    "trigger": 3,
    "deposit": 1,
}
_MAX_OPEN = 6
#: Cancels by the venue, out of ten.
_VENUE_CANCELS = 2
#: Value of a position, in the quote, from which it is only reduced.
_MAX_EXPOSURE = 20_000
#: Action that is a liquidation.
_LIQUIDATION_AT = 60
_DEPOSIT = 250
_ORDER_VALUES = (60, 150, 400, 900, 1_500)


class Command(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Action to perform; missing values are chosen at random.

    Attributes:
        symbol: Market, as ``BTC-PERP``.
        price: In the quote; the limit of a stop order.
        size: In contracts.
        order_id: Order, by the venue's id; otherwise the oldest suitable one.
        by: Who cancels.
        asset: Asset to deposit; ``size`` is the amount.
    """

    action: Action
    symbol: str | None = None
    side: Aggressor | None = None
    price: str | None = None
    size: Annotated[str, Meta(description="a positive decimal")] | None = None
    order_id: str | None = None
    by: Literal["user", "venue"] = "user"
    reduce_only: bool = False
    asset: str | None = None


class Script:
    """Player of an account.

    Args:
        account: Account, which has no other player.
        seed: Any object; the same seed and the same markets give the same actions.
    """

    def __init__(self, account: SimulatedAccount, seed: object) -> None:
        self._account = account
        self._random = random.Random(f"{seed}:account")
        #: Random actions so far.
        self._acts = 0
        #: Only market to trade; None: all except those of builders.
        self.focus: str | None = None
        self._handlers: dict[Action, Callable[[Command, OrderRecord | None, int], AccountOutcome]] = {
            "place": self._place,
            "stop": self._stop,
            "market": self._market,
            "reduce": self._reduce,
            "reject": self._reject,
            "fill": self._fill,
            "partial": self._partial,
            "cancel": self._cancel,
            "expire": self._expire,
            "trigger": self._trigger,
            "liquidate": self._liquidate,
            "funding": lambda command, order, now_ms: account.pay_funding(now_ms),  # noqa: ARG005
            "deposit": self._deposit,
        }

    def act(self, now_ms: int) -> AccountOutcome:
        """Perform the next random action."""
        self._acts += 1
        action = self._choose()
        by: Literal["user", "venue"] = "venue" if self._random.randrange(10) < _VENUE_CANCELS else "user"
        try:
            return self.perform(Command(action=action, by=by), None, now_ms)
        except UsageError:
            # Not possible now; placing an order always is.
            return self.perform(Command(action="place"), None, now_ms)

    def perform(self, command: Command, order: OrderRecord | None, now_ms: int) -> AccountOutcome:
        """Perform a command; ``order`` is the order that it names, if any.

        Raises:
            UsageError: Not possible at this venue or at this moment.
        """
        return self._handlers[command.action](command, order, now_ms)

    def _choose(self) -> Action:
        if self._acts == _LIQUIDATION_AT:
            return "liquidate"
        if len(self._account.orders) >= _MAX_OPEN:
            return self._random.choice(("fill", "partial", "cancel"))
        return self._random.choices(list(_WEIGHTS), list(_WEIGHTS.values()))[0]

    # New orders.

    def _place(self, command: Command, _order: OrderRecord | None, now_ms: int) -> AccountOutcome:
        return self._account.place(self._spec(command), now_ms)

    def _market(self, command: Command, _order: OrderRecord | None, now_ms: int) -> AccountOutcome:
        return self._account.place_market(self._spec(command)._replace(price=None), now_ms)

    def _stop(self, command: Command, _order: OrderRecord | None, now_ms: int) -> AccountOutcome:
        if "untriggered" not in self._account.rules.statuses:
            raise _impossible("this venue does not report untriggered orders")
        spec = self._spec(command)
        price = spec.price or spec.market.listing.price
        away = max(1, price // 100)
        sign = 1 if spec.side == BUY else -1
        return self._account.place(spec._replace(trigger=price + sign * away, price=price + 2 * sign * away), now_ms)

    def _reduce(self, command: Command, _order: OrderRecord | None, now_ms: int) -> AccountOutcome:
        position = self._position(command)
        side = SELL if position.size > 0 else BUY
        spec = self._spec(command, position.market, side)
        size = min(spec.size, abs(position.size))
        return self._account.place(spec._replace(size=size, is_reduce_only=True), now_ms)

    def _reject(self, command: Command, _order: OrderRecord | None, now_ms: int) -> AccountOutcome:
        if self._account.rules.rejected_status is None:
            raise _impossible("this venue does not report rejected orders")
        return self._account.place_rejected(self._spec(command), self._account.rules.rejected_status, now_ms)

    # Live orders.

    def _fill(self, command: Command, order: OrderRecord | None, now_ms: int) -> AccountOutcome:
        found = self._order(command, order, "open")
        return self._account.execute(found.number, found.remaining, now_ms)

    def _partial(self, command: Command, order: OrderRecord | None, now_ms: int) -> AccountOutcome:
        found = self._order(command, order, "open", least=2)
        size = self._random.randint(1, found.remaining - 1)
        if command.size is not None:
            size = _units(command.size, found.market.listing.size_places, "size")
        return self._account.execute(found.number, size, now_ms)

    def _cancel(self, command: Command, order: OrderRecord | None, now_ms: int) -> AccountOutcome:
        found = self._order(command, order, "open", "untriggered")
        return self._account.close_order(found.number, "canceled", command.by, now_ms)

    def _expire(self, command: Command, order: OrderRecord | None, now_ms: int) -> AccountOutcome:
        if "expired" not in self._account.rules.statuses:
            raise _impossible("orders do not expire at this venue")
        found = self._order(command, order, "open", "untriggered")
        return self._account.close_order(found.number, "expired", "expiry", now_ms)

    def _trigger(self, command: Command, order: OrderRecord | None, now_ms: int) -> AccountOutcome:
        return self._account.trigger(self._order(command, order, "untriggered").number, now_ms)

    def _liquidate(self, command: Command, _order: OrderRecord | None, now_ms: int) -> AccountOutcome:
        return self._account.liquidate(self._position(command).market.listing.symbol, now_ms)

    def _deposit(self, command: Command, _order: OrderRecord | None, now_ms: int) -> AccountOutcome:
        account = self._account
        asset = command.asset or account.rules.quote
        if asset not in account.assets():
            raise UsageError(f"no asset {asset!r}", where="asset", advice=", ".join(account.assets()))
        money = amount(_DEPOSIT) if command.size is None else _units(command.size, 8, "size") * 10**6
        return account.deposit(asset, money, now_ms)

    # Defaults for values that the command omits.

    def _spec(self, command: Command, market: Market | None = None, side: Aggressor | None = None) -> OrderSpec:
        market = market or self._choose_market(command)
        side = side or command.side or self._choose_side(market)
        listing = market.listing
        price, size = self._choose_price(market, side), self._choose_size(market)
        if command.price is not None:
            price = _units(command.price, listing.price_places, "price")
        if command.size is not None:
            size = _units(command.size, listing.size_places, "size")
        return OrderSpec(market, side, size, price, is_reduce_only=command.reduce_only)

    def _choose_market(self, command: Command) -> Market:
        positions = self._account.positions
        symbol = command.symbol or self.focus
        if symbol is None:
            usual = [one.market for name, one in positions.items() if name.endswith("-PERP")]
            return self._random.choice(usual)
        if symbol not in positions:
            raise UsageError(f"no market {symbol!r}", where="symbol", advice=", ".join(positions))
        return positions[symbol].market

    def _choose_side(self, market: Market) -> Aggressor:
        position = self._account.positions[market.listing.symbol]
        if abs(self._account.worth(position)) > amount(_MAX_EXPOSURE):
            return SELL if position.size > 0 else BUY
        return self._random.choice((BUY, SELL))

    def _choose_price(self, market: Market, side: Aggressor) -> int:
        """Choose a price at the touch or slightly away from it."""
        best = (market.bids if side == BUY else market.asks).best()
        price = market.listing.price if best is None else best[0]
        away = self._random.randint(0, max(1, price // 20_000))
        return max(1, price - away if side == BUY else price + away)

    def _choose_size(self, market: Market) -> int:
        """Choose a size of at least two lots, so that it can be filled in parts."""
        listing = market.listing
        value = self._random.choice(_ORDER_VALUES)
        lots: int = value * 10 ** (listing.price_places + listing.size_places) // listing.price
        return max(2, lots)

    def _order(self, command: Command, order: OrderRecord | None, *statuses: str, least: int = 1) -> OrderRecord:
        """Return the named order, or the oldest suitable one of the market."""
        known = [order] if order is not None else list(self._account.orders.values())
        for one in known:
            is_here = command.symbol in {None, one.market.listing.symbol}
            if one.status in statuses and one.remaining >= least and is_here:
                return one
        raise _impossible(f"no order that is {' or '.join(statuses)}" + (" and divisible" if least > 1 else ""))

    def _position(self, command: Command) -> PositionRecord:
        """Return the position of the named market, or the largest one."""
        held = [one for one in self._account.held() if command.symbol in {None, one.market.listing.symbol}]
        if not held:
            raise _impossible("no position")
        return max(held, key=lambda position: abs(self._account.worth(position)))


def _impossible(what: str) -> UsageError:
    return UsageError(what, where="action", advice=", ".join(ACTIONS))


def _units(text: str, places: int, where: str) -> int:
    """Parse a positive decimal into units of 10^-``places``.

    Raises:
        UsageError: Not a positive decimal, or too many decimals.
    """
    try:
        units = Decimal(text).scaleb(places)
        is_whole = units == units.to_integral_value()
    except InvalidOperation:
        raise UsageError(f"{text!r} is not a decimal", where=where, advice="digits with at most one point") from None
    if not is_whole or units <= 0:
        raise UsageError(f"{text!r} is not a positive multiple of the step", where=where, advice=f"{places} decimals")
    return int(units)
