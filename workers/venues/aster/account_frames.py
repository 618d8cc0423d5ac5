"""Rows of Aster's account frames, and their conversion to events.

Source of the rules: Aster's futures API documentation (user data streams), and recorded frames where they differ.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Final, Literal, TypeVar

import msgspec
from msgspec import field

from ipc.decimals import is_zero
from ipc.events import Balance, Fill, Order, Payment, Position
from workers.venues.account import Leg
from workers.venues.account_rows import Number, NumberOrNone, WholeNumber, rows_of
from workers.venues.account_values import common_fields, margin_mode, priced
from workers.venues.aster.account_rows import (
    LEGS,
    SIDES,
    fill_id_of,
    fill_type,
    listing_for,
    order_state,
    without_lone_legs,
)
from workers.venues.fields import ns_of_ms
from workers.venues.listing import Listing, Markets
from workers.venues.rows import InvalidRow

R = TypeVar("R")

_EXECUTIONS: Final = frozenset({"TRADE", "CALCULATED"})


class _Execution(msgspec.Struct):
    symbol: str = field(name="s")
    client_id: str = field(name="c")
    side: Literal["BUY", "SELL"] = field(name="S")
    type: str = field(name="o")
    size: Number = field(name="q")
    price: Number = field(name="p")
    status: str = field(name="X")
    id: WholeNumber = field(name="i")
    filled: Number = field(name="z")
    time_ms: WholeNumber = field(name="T")
    reduce_only: bool = field(name="R", default=False)


class _Traded(msgspec.Struct):
    """Fill in an execution."""

    symbol: str = field(name="s")
    side: Literal["BUY", "SELL"] = field(name="S")
    execution: str = field(name="x")
    id: WholeNumber = field(name="i")
    last_size: Number = field(name="l")
    last_price: Number = field(name="L")
    trade_id: WholeNumber = field(name="t")
    time_ms: WholeNumber = field(name="T")
    client_id: str = field(name="c", default="")
    type: str = field(name="o", default="")
    status: str = field(name="X", default="")
    fee: NumberOrNone = field(name="n", default=None)
    fee_asset: str | None = field(name="N", default=None)
    is_maker: bool = field(name="m", default=False)


class _PushedBalance(msgspec.Struct):
    asset: str = field(name="a")
    wallet: Number = field(name="wb")
    #: Excludes profits and fees.
    change: NumberOrNone = field(name="bc", default=None)


class _PushedPosition(msgspec.Struct):
    symbol: str = field(name="s")
    amount: Number = field(name="pa")
    entry_price: NumberOrNone = field(name="ep", default=None)
    unrealised_pnl: NumberOrNone = field(name="up", default=None)
    margin_mode: str | None = field(name="mt", default=None)
    leg: Literal["BOTH", "LONG", "SHORT"] = field(name="ps", default="BOTH")


class Changes(msgspec.Struct):
    """Content of an account update, with raw rows."""

    reason: str = field(name="m", default="")
    balances: list[msgspec.Raw] = field(name="B", default_factory=list)
    positions: list[msgspec.Raw] = field(name="P", default_factory=list)


def executed(row: msgspec.Raw, what: str, markets: Markets, account: str) -> Iterator[Fill | Order | InvalidRow]:
    """Yield the fill of an execution and the present state of its order, parsed independently."""

    def items(kind: type[R], parse: Callable[[R], Iterable[Fill | Order]]) -> Iterator[Fill | Order | InvalidRow]:
        for found in rows_of([row], kind, lambda one: list(parse(one)), what):
            yield from [found] if isinstance(found, InvalidRow) else found

    yield from items(_Traded, lambda traded: _pushed_fill(traded, markets, account))
    yield from items(_Execution, lambda execution: [_pushed_order(execution, markets, account)])


def _pushed_fill(row: _Traded, markets: Markets, account: str) -> Iterator[Fill]:
    if row.execution not in _EXECUTIONS or is_zero(row.last_size):
        return
    listing = listing_for(row.symbol, markets)
    yield Fill(
        **common_fields("aster", listing, ns_of_ms(row.time_ms), account),
        fill_id=fill_id_of(row.symbol, row.trade_id),
        order_id=str(row.id),
        side=SIDES[row.side],
        price=row.last_price,
        size=row.last_size,
        fee=row.fee,
        fee_asset=row.fee_asset,
        liquidity="maker" if row.is_maker else "taker",
        fill_type=fill_type(row.client_id, row.type, row.status),
    )


def _pushed_order(row: _Execution, markets: Markets, account: str) -> Order:
    listing = listing_for(row.symbol, markets)
    return Order(
        **common_fields("aster", listing, ns_of_ms(row.time_ms), account),
        order_id=str(row.id),
        client_id=row.client_id or None,
        side=SIDES[row.side],
        price=priced(row.price),
        size=row.size,
        filled=row.filled,
        status=order_state(row.status, row.type, row.size, row.filled),
        venue_status=row.status,
        order_type=row.type,
        reduce_only=row.reduce_only,
    )


def changed_balances(changes: Changes, at_ns: int | None, what: str, account: str) -> list[Balance | InvalidRow]:
    """Parse the changed balances."""

    def balance(row: _PushedBalance) -> Balance:
        return Balance(
            **common_fields("aster", None, at_ns, account), asset=row.asset, total=row.wallet, available=None
        )

    return rows_of(changes.balances, _PushedBalance, balance, what)


def changed_positions(
    changes: Changes, at_ns: int | None, what: str, markets: Markets, account: str
) -> list[Position | Leg | InvalidRow]:
    """Parse the changed positions, or legs of positions; the others are unchanged."""

    def leg(row: _PushedPosition) -> Leg:
        listing = listing_for(row.symbol, markets)
        position = Position(
            **common_fields("aster", listing, at_ns, account),
            size=row.amount,
            entry_price=priced(row.entry_price),
            mark_price=None,
            unrealised_pnl=row.unrealised_pnl,
            liquidation_price=None,
            margin_mode=margin_mode(row.margin_mode),
        )
        return Leg(LEGS[row.leg], position)

    return without_lone_legs(rows_of(changes.positions, _PushedPosition, leg, what))


def payments(
    rows: Iterable[msgspec.Raw], changes: Changes, at_ns: int | None, what: str, markets: Markets, account: str
) -> list[Payment | InvalidRow]:
    """Return the funding payments; only those for isolated positions name their market.

    Args:
        rows: Balance rows without the invalid ones, which are reported separately.
        changes: Content of the frame.
        at_ns: Time of the payments.
        what: Name of the rows in reports.
        markets: Followed markets.
        account: Name of the account.
    """
    symbols = rows_of(changes.positions[:1], _PushedPosition, lambda row: row.symbol, what)
    named = [symbol for symbol in symbols if not isinstance(symbol, InvalidRow)]
    listing = listing_for(named[0], markets) if named else None
    found: list[Payment | InvalidRow] = []
    for paid in rows_of(rows, _PushedBalance, lambda row: list(_paid(row, listing, at_ns, account)), what):
        found += [paid] if isinstance(paid, InvalidRow) else paid
    return found


def _paid(row: _PushedBalance, listing: Listing | None, at_ns: int | None, account: str) -> Iterator[Payment]:
    if not row.change or is_zero(row.change):
        return
    venue_symbol = listing.venue_symbol if listing else None
    # The venue gives no id. Payments for several cross positions have the same time, and no frame names the market.
    payment_id = f"{(at_ns or 0) // 1_000_000}:{venue_symbol or ''}:{row.asset}:{row.change}:{row.wallet}"
    yield Payment(
        **common_fields("aster", listing, at_ns, account),
        payment_id=payment_id,
        asset=row.asset,
        amount=row.change,
        payment_type="funding",
    )
