"""Every fill is reported once, no older state follows a newer one, and the final state is the true one."""

from __future__ import annotations

import dataclasses
import random
from decimal import Decimal
from typing import Any

import pytest
from fake_account import ALIAS, NS, VENUE, PublishedAccount, balance, fill, margin, order, payment, position
from hypothesis import given, settings
from hypothesis import strategies as st

from ipc.board import Board
from ipc.events import Balance, Fill, Margin, Order, Payment, Position
from workers.accounts import ledger as module
from workers.accounts.ledger import Ledger
from workers.venues.account import AllPositions, Leg, Snapshot, nothing

OPEN = {"open", "untriggered"}
CLOSED = ["filled", "canceled", "rejected", "expired", "closed"]


@pytest.fixture
def ledger() -> Ledger:
    return Ledger()


# --- what comes once ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("make", [fill, payment])
def test_what_happened_once_is_new_once_anyone_tells_it(ledger: Ledger, make: Any) -> None:
    assert ledger.apply(make("a")) == make("a")
    assert ledger.apply(make("a")) is None
    assert ledger.apply(make("a"), ledger.pushes) is None
    assert ledger.apply(make("b"), ledger.pushes)
    assert ledger.repeated == 2


def test_a_fill_and_a_payment_may_share_an_id(ledger: Ledger) -> None:
    assert ledger.apply(fill("a"))
    assert ledger.apply(payment("a"))


def test_the_oldest_ids_are_forgotten(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_MAX_REMEMBERED", 3)
    for number in range(4):
        ledger.apply(fill(str(number)))
    assert [bool(ledger.apply(fill(number))) for number in "3210"] == [False, False, False, True]


def test_no_more_is_remembered_of_earlier_lives(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_MAX_REMEMBERED", 3)
    ledger = Ledger([("fill", f"{number}:buy") for number in range(5)])
    assert ledger.published() == [("fill", "2:buy"), ("fill", "3:buy"), ("fill", "4:buy")]


def test_an_answer_that_a_push_of_another_thing_overtook_is_not_contested(ledger: Ledger) -> None:
    asked_at = ledger.pushes
    ledger.apply(fill("a"))
    ledger.apply(balance("5"))
    assert ledger.apply(balance("1", asset="ETH"), asked_at)
    assert ledger.apply(fill("b"), asked_at)
    assert ledger.overtaken == 0


# --- states -------------------------------------------------------------------------------------------------------

STATES = [
    (order(filled="0", ns=5), order(filled="1", ns=6)),
    (position("1", ns=5), position("2", ns=6)),
    (balance("1", ns=5), balance("2", ns=6)),
    (margin("1", ns=5), margin("2", ns=6)),
]


@pytest.mark.parametrize(("older", "newer"), STATES)
def test_a_state_is_new_when_it_differs(ledger: Ledger, older: Any, newer: Any) -> None:
    assert ledger.apply(older)
    assert not ledger.apply(copy_of(older))
    assert ledger.apply(newer)
    assert ledger.apply(copy_of(newer, exchange_ns=7, **changed(newer)))


@pytest.mark.parametrize(("older", "newer"), STATES)
def test_a_state_that_differs_by_its_stamps_alone_is_not_new(ledger: Ledger, older: Any, newer: Any) -> None:
    ledger.apply(older)
    again = copy_of(older, exchange_ns=9, snapshot=True, epoch=4, seq=8, recv_ns=1, publish_ns=2)
    assert not ledger.apply(again, ledger.pushes)
    assert ledger.outdated == 0


@pytest.mark.parametrize(("older", "newer"), STATES)
def test_an_older_push_is_dropped_and_counted(ledger: Ledger, older: Any, newer: Any) -> None:
    ledger.apply(newer)
    assert not ledger.apply(older)
    assert ledger.outdated == 1


@pytest.mark.parametrize(("older", "newer"), STATES)
def test_an_answer_replaces_what_was_pushed_before_it_was_requested_whatever_its_time(
    ledger: Ledger, older: Any, newer: Any
) -> None:
    ledger.apply(newer)
    assert ledger.apply(copy_of(older, snapshot=True), ledger.pushes)
    assert not ledger.apply(copy_of(older)), "a push is compared with the newest time of all"
    assert ledger.apply(copy_of(newer))


@pytest.mark.parametrize(("older", "newer"), STATES)
def test_an_older_push_that_comes_after_the_request_does_not_contest_the_answer(
    ledger: Ledger, older: Any, newer: Any
) -> None:
    ledger.apply(newer)
    asked_at = ledger.pushes
    ledger.apply(older)
    assert not ledger.apply(copy_of(newer), asked_at)
    assert ledger.overtaken == 0


@pytest.mark.parametrize(("older", "newer"), STATES)
def test_of_two_pushes_with_one_time_the_later_stands(ledger: Ledger, older: Any, newer: Any) -> None:
    ledger.apply(copy_of(older, exchange_ns=6))
    assert ledger.apply(newer)


def test_of_two_pushes_of_an_order_with_one_time_the_one_that_is_filled_more_stands(ledger: Ledger) -> None:
    ledger.apply(order(filled="1", ns=6))
    assert not ledger.apply(order(filled="0.5", ns=6))
    assert ledger.apply(order(filled="1.5", ns=6))


@pytest.mark.parametrize(("older", "newer"), STATES)
def test_a_state_that_does_not_say_when_is_taken_for_the_newest(ledger: Ledger, older: Any, newer: Any) -> None:
    ledger.apply(newer)
    assert ledger.apply(copy_of(older, exchange_ns=None))


@pytest.mark.parametrize(("older", "newer"), STATES)
def test_an_answer_that_a_push_overtook_is_contested(ledger: Ledger, older: Any, newer: Any) -> None:
    asked_at = ledger.pushes
    ledger.apply(newer)
    later = copy_of(older, exchange_ns=99)
    assert not ledger.apply(later, asked_at)
    assert ledger.overtaken == 1
    assert ledger.apply(later, ledger.pushes)


def copy_of(event: Any, **changes: Any) -> Any:
    return type(event)(**{name: getattr(event, name) for name in event.__struct_fields__} | changes)


def changed(event: Any) -> dict[str, str]:
    name = {Order: "filled", Position: "size", Balance: "total", Margin: "equity"}[type(event)]
    return {name: "1.5"}


@pytest.mark.parametrize("status", CLOSED)
@pytest.mark.parametrize("reported_again", sorted(OPEN))
def test_a_closed_order_does_not_open_again(ledger: Ledger, status: str, reported_again: str) -> None:
    ledger.apply(order(status=status))
    assert not ledger.apply(order(status=reported_again))
    assert not ledger.apply(order(status=reported_again, ns=99), ledger.pushes)
    assert ledger.open_orders() == []


def test_what_kind_of_order_it_is_stays_known_where_a_push_leaves_it_out(ledger: Ledger) -> None:
    ledger.apply(copy_of(order("1"), order_type="Stop Market", reduce_only=True), ledger.pushes)
    over = ledger.apply(copy_of(order("1", "canceled"), order_type="", reduce_only=False))
    assert isinstance(over, Order)
    assert (over.status, over.order_type, over.reduce_only) == ("canceled", "Stop Market", True)
    assert not ledger.apply(copy_of(order("1", "canceled"), order_type=""))


def test_an_untriggered_order_opens(ledger: Ledger) -> None:
    ledger.apply(order(status="untriggered"))
    assert ledger.apply(order(status="open"))


def test_open_orders_are_remembered_before_those_that_are_over(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_MAX_REMEMBERED", 3)
    for number in range(2):
        ledger.apply(order(f"open{number}"))
    for number in range(10):
        ledger.apply(order(f"closed{number}", "canceled"))
    assert [one.order_id for one in ledger.open_orders()] == ["open0", "open1"]
    assert len(ledger._orders) == 3
    assert len(ledger._pushed) == 3
    assert not ledger.apply(order("closed9", "open"))


def test_open_orders_beyond_the_bound_are_all_kept(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_MAX_REMEMBERED", 3)
    for number in range(5):
        assert ledger.apply(order(str(number)))
    assert len(ledger.open_orders()) == 5


# --- what an answer does not list ---------------------------------------------------------------------------------


@pytest.mark.parametrize(("filled", "status"), [("2.0", "filled"), ("2", "filled"), ("1.9", "closed"), ("0", "closed")])
def test_an_order_that_is_not_listed_is_over(ledger: Ledger, filled: str, status: str) -> None:
    ledger.apply(order("1", filled=filled))
    ledger.apply(order("2"))
    ledger.apply(order("3", "canceled"))
    (ended,) = ledger.closed_unseen(["2"], ledger.pushes)
    assert (ended.order_id, ended.status, ended.venue_status) == ("1", status, "")
    assert (ended.snapshot, ended.exchange_ns, ended.filled) == (True, None, filled)


def test_an_order_that_was_pushed_since_asking_is_not_over(ledger: Ledger) -> None:
    ledger.apply(order("1"))
    asked_at = ledger.pushes
    ledger.apply(order("2"))
    assert [ended.order_id for ended in ledger.closed_unseen([], asked_at)] == ["1"]


def test_a_position_that_is_not_listed_is_flat(ledger: Ledger) -> None:
    ledger.apply(position("1", market="BTC", ns=5))
    ledger.apply(position("-1", market="ETH"))
    ledger.apply(position("0.00", market="SOL"))
    (leg,) = ledger.flat_positions([("ETH-USD", "both")])
    flat = leg.position
    assert (flat.symbol, flat.venue_symbol, flat.size) == ("BTC-PERP", "BTC-USD", "0")
    assert (flat.entry_price, flat.unrealised_pnl, flat.liquidation_price, flat.exchange_ns) == (None,) * 4


def test_a_position_that_was_pushed_since_asking_is_not_flat(ledger: Ledger) -> None:
    ledger.apply(position("1", market="BTC"))
    asked_at = ledger.pushes
    ledger.apply(position("1", market="ETH"))
    assert [leg.position.venue_symbol for leg in ledger.flat_positions([], asked_at)] == ["BTC-USD"]
    assert len(ledger.flat_positions([])) == 2


def test_an_order_that_was_wrongly_taken_for_closed_opens_when_it_is_listed(ledger: Ledger) -> None:
    ledger.apply(order("1"))
    for ended in ledger.closed_unseen([], ledger.pushes):
        ledger.apply(ended, ledger.pushes)
    assert ledger.open_orders() == []
    ledger.apply(order("1", snapshot=True), ledger.pushes)
    assert [one.order_id for one in ledger.open_orders()] == ["1"]


def test_a_push_does_not_open_what_was_taken_for_closed(ledger: Ledger) -> None:
    """It may come late; a venue that has the order lists it."""
    ledger.apply(order("1"))
    for ended in ledger.closed_unseen([], ledger.pushes):
        ledger.apply(ended, ledger.pushes)
    assert not ledger.apply(order("1", filled="1"))
    assert ledger.open_orders() == []


def test_an_order_that_the_venue_called_closed_does_not_open_when_it_is_listed(ledger: Ledger) -> None:
    ledger.apply(order("1", "canceled"))
    assert not ledger.apply(order("1", snapshot=True), ledger.pushes)


def test_an_answer_without_a_time_does_not_make_late_pushes_new(ledger: Ledger) -> None:
    ledger.apply(order("1", filled="1", ns=6))
    ledger.apply(order("1", filled="1", ns=None, snapshot=True), ledger.pushes)
    assert not ledger.apply(order("1", filled="0", ns=5))


def test_a_late_push_does_not_bring_back_a_position_that_is_flat(ledger: Ledger) -> None:
    ledger.apply(position("2", ns=6))
    for flat in ledger.flat_positions([]):
        ledger.apply(flat)
    assert not ledger.apply(position("1", ns=5))


@pytest.mark.parametrize(("at_ns", "nets"), [(5, []), (6, [("0", 6)]), (7, [("0", 7)]), (None, [("0", None)])])
def test_a_pushed_list_does_not_end_a_position_that_is_newer(ledger: Ledger, at_ns: int | None, nets: Any) -> None:
    ledger.apply(position("2", ns=6), ledger.pushes)
    for flat in ledger.flat_positions([], at_ns=at_ns):
        ledger.apply(flat)
    assert [(net.size, net.exchange_ns) for net in ledger.nets()] == nets


# --- where a list is complete -------------------------------------------------------------------------------------


def btc_alone(name: str | None) -> bool:
    return name in {"BTC-USD", "USDC"}


def test_absence_means_something_only_where_a_list_is_complete(ledger: Ledger) -> None:
    other = copy_of(order("2"), venue_symbol="ETH-USD")
    for state in (order("1"), other, position("1", market="BTC"), position("1", market="ETH")):
        ledger.apply(state)
    for asset in ("USDC", "HYPE"):
        ledger.apply(balance("5", asset=asset))
    asked_at = ledger.pushes
    assert [one.order_id for one in ledger.closed_unseen([], asked_at, btc_alone)] == ["1"]
    assert [leg.position.symbol for leg in ledger.flat_positions([], asked_at, btc_alone)] == ["BTC-PERP"]
    assert [one.asset for one in ledger.empty_balances([], asked_at, btc_alone)] == ["USDC"]
    assert ledger.closed_unseen([], asked_at, nothing) == []
    assert ledger.flat_positions([], asked_at, nothing) == []
    assert ledger.empty_balances([], asked_at, nothing) == []


# --- legs ---------------------------------------------------------------------------------------------------------


def leg(name: Any, size: str, **changes: Any) -> Leg:
    return Leg(name, position(size, **changes))


def net(ledger: Ledger, *legs: Leg) -> Any:
    for one in legs:
        assert ledger.apply(one) is None
    found = ledger.nets()
    assert len(found) <= 1
    return found[0] if found else None


def test_the_net_is_the_sum_of_the_legs_and_what_has_no_sum_is_unknown(ledger: Ledger) -> None:
    reported = net(ledger, leg("both", "0"), leg("long", "20.5", ns=5), leg("short", "-10", ns=6))
    assert (reported.size, reported.unrealised_pnl, reported.exchange_ns, reported.margin_mode) == (
        "10.5",
        "2",
        6,
        "cross",
    )
    assert (reported.entry_price, reported.liquidation_price) == (None, None)
    assert net(ledger, leg("long", "20.5", ns=7)) is None, "nothing changed"
    assert net(ledger, leg("long", "10", ns=8)).size == "0"


def test_the_one_leg_that_is_held_is_shown_as_it_is(ledger: Ledger) -> None:
    reported = net(ledger, leg("long", "20.0", ns=5), leg("short", "0", ns=6))
    assert (reported.size, reported.entry_price, reported.exchange_ns) == ("20.0", "100", 6)


@pytest.mark.parametrize("name", ["long", "short"])
def test_a_net_is_not_guessed(ledger: Ledger, name: Any) -> None:
    assert net(ledger, leg("both", "0"), leg(name, "5")) is None
    (flat,) = ledger.flat_positions([("BTC-USD", name)], ledger.pushes)
    assert (flat.name, flat.position.size) == ("short" if name == "long" else "long", "0")
    ledger.apply(flat, ledger.pushes)
    assert [one.size for one in ledger.nets() if isinstance(one, Position)] == ["5"]


def test_a_leg_that_never_was_is_flat_only_where_the_last_list_was_complete(ledger: Ledger) -> None:
    ledger.flat_positions([], ledger.pushes, nothing)
    assert net(ledger, leg("long", "5")) is None
    ledger.flat_positions([], ledger.pushes, btc_alone)
    assert net(ledger, leg("long", "5", market="ETH")) is None
    assert net(ledger, leg("long", "6")).size == "6"


def test_each_leg_is_judged_by_itself(ledger: Ledger) -> None:
    net(ledger, leg("long", "20", ns=5), leg("short", "-10", ns=5))
    asked_at = ledger.pushes
    assert net(ledger, leg("long", "30", ns=6)).size == "20"
    assert net(ledger, leg("short", "-10", ns=4)) is None, "older than that leg, not than the other"
    ledger.apply(leg("long", "20", ns=9), asked_at)
    ledger.apply(leg("short", "-15", ns=3), asked_at)
    (reported,) = ledger.nets()
    assert isinstance(reported, Position)
    assert reported.size == "15"
    assert ledger.overtaken == 1


def test_the_largest_numbers_have_a_sum(ledger: Ledger) -> None:
    reported = net(ledger, leg("long", "9" * 30), leg("short", "0." + "0" * 27 + "1"))
    assert reported.size == "9" * 30 + "." + "0" * 27 + "1"


# --- fills of one id, and those of an earlier life ----------------------------------------------------------------


def test_a_trade_with_ourselves_is_two_fills(ledger: Ledger) -> None:
    sides = ["buy", "sell", "buy", "sell"]
    reported = [ledger.apply(copy_of(fill("a"), side=side)) for side in sides]
    assert [one is not None for one in reported] == [True, True, False, False]
    assert [ledger.is_second_side(copy_of(fill("a"), side=side)) for side in ("buy", "sell")] == [False, True]
    assert not ledger.is_second_side(fill("b"))


def test_what_was_published_in_an_earlier_life_is_not_new() -> None:
    first = Ledger()
    for event in (fill("a"), payment("p")):
        first.apply(event)
    ledger = Ledger(first.published())
    assert [ledger.apply(event) for event in (fill("a"), payment("p"))] == [None, None]
    assert [ledger.was_published_before(fill("a")) for _ in range(2)] == [True, False]
    assert not ledger.was_published_before(fill("b"))
    assert ledger.apply(fill("b"), ledger.pushes)
    assert ledger.missing_from_stream == {"b:buy"}


# --- any interleaving ---------------------------------------------------------------------------------------------

MARKETS = ("BTC", "ETH")


class Venue:
    """An account as it is, a stream that loses, repeats and disorders, and REST, which is never wrong but may be late.

    ``is_stamped`` says whether states tell when they came to be.
    """

    def __init__(self, reported: PublishedAccount, *, is_stamped: bool) -> None:
        self.reported = reported
        self.is_stamped = is_stamped
        self.now = NS
        self.orders: dict[str, Order] = {}
        self.positions: dict[str, Position] = {}
        self.balance, self.margin = balance("0"), margin("0")
        self.fills: dict[str, Fill] = {}
        self.payments: dict[str, Payment] = {}
        self.under_way: list[Any] = []
        self.asked_at: int | None = None
        self.captured: Snapshot | None = None

    # --- what happens to the account ---

    def stamp(self, step: int = 1) -> int | None:
        self.now += step
        return self.now if self.is_stamped else None

    def place(self, pick: int) -> None:
        self._order(order(str(len(self.orders)), ["open", "untriggered"][pick % 2], ns=self.stamp()))

    def execute(self, pick: int) -> None:
        """Half of an order is filled."""
        one = self._living(pick)
        if one is None:
            return
        filled = Decimal(one.filled) + 1
        status = "filled" if filled == 2 else "open"
        self._order(copy_of(one, filled=str(filled), status=status, exchange_ns=self.stamp()))
        fill_id = f"{one.order_id}:{filled}"
        self.fills[fill_id] = fill(fill_id)
        market = MARKETS[pick % 2]
        held = Decimal(self.positions[market].size) if market in self.positions else Decimal(0)
        self.positions[market] = position(str(held + (-1) ** pick), market=market, ns=self.stamp())
        self.under_way += [self.fills[fill_id], self.positions[market]]

    def end(self, pick: int) -> None:
        one = self._living(pick)
        if one is not None:
            status = ["canceled", "expired", "rejected"][pick % 3]
            self._order(copy_of(one, status=status, exchange_ns=self.stamp()))

    def pay(self, _pick: int) -> None:
        one = payment(str(len(self.payments)))
        self.payments[one.payment_id] = one
        self.balance = balance(str(len(self.payments)), ns=self.stamp())
        self.margin = margin(str(len(self.payments)), ns=self.stamp())
        self.under_way += [one, self.balance, self.margin]

    def tell_all_positions(self, _pick: int) -> None:
        held = [one for one in self.positions.values() if Decimal(one.size)]
        self.under_way.append([*held, AllPositions(frozenset(one.venue_symbol for one in held))])

    def _order(self, one: Order) -> None:
        self.orders[one.order_id] = one
        self.under_way.append(one)

    def _living(self, pick: int) -> Order | None:
        living = [one for one in self.orders.values() if one.status in OPEN]
        return living[pick % len(living)] if living else None

    # --- what becomes of what is under way ---

    def deliver(self, pick: int) -> None:
        """One of the next three arrives."""
        if self.under_way:
            self._push(self.under_way.pop(pick % min(3, len(self.under_way))))

    def repeat(self, pick: int) -> None:
        if self.under_way:
            self._push(self.under_way[pick % min(3, len(self.under_way))])

    def lose(self, _pick: int) -> None:
        if self.under_way:
            self.under_way.pop(0)

    def _push(self, reported: Any) -> None:
        reported = reported if isinstance(reported, list) else [reported]
        self.reported.statement.apply_pushed(
            [one if isinstance(one, AllPositions) else copy_of(one) for one in reported]
        )

    # --- REST ---

    def ask(self, _pick: int = 0) -> None:
        if self.asked_at is None:
            self.asked_at = self.reported.statement.push_count()

    def capture(self, _pick: int = 0) -> None:
        """The venue makes the answer: the last orders that closed, flat positions not at all."""
        if self.asked_at is None or self.captured is not None:
            return
        living = [one for one in self.orders.values() if one.status in OPEN]
        over = [one for one in self.orders.values() if one.status not in OPEN][-2:]
        held = [one for one in self.positions.values() if Decimal(one.size)]
        events = [*self.fills.values(), *self.payments.values(), *living, *over, *held, self.balance, self.margin]
        self.captured = Snapshot(
            tuple(copy_of(one, snapshot=True) for one in events), frozenset(one.order_id for one in living)
        )

    def answer(self, _pick: int = 0) -> None:
        if self.captured is not None:
            assert self.asked_at is not None
            self.reported.statement.apply_snapshot(self.captured, self.asked_at)
            self.asked_at = self.captured = None

    def settle(self) -> None:
        """Nothing happens any more; what is under way arrives, and REST is asked once more."""
        for step in (self.capture, self.answer):
            step()
        while self.under_way:
            self.deliver(random.Random(self.now).randrange(3))
        for step in (self.ask, self.capture, self.answer):
            step()


@dataclasses.dataclass
class Consumer:
    """Applies every event that it receives."""

    orders: dict[str, Order] = dataclasses.field(default_factory=dict)
    positions: dict[str, str] = dataclasses.field(default_factory=dict)
    last: dict[type, Any] = dataclasses.field(default_factory=dict)
    once: list[str] = dataclasses.field(default_factory=list)

    def take(self, event: Any) -> None:
        match event:
            case Order():
                before = self.orders.get(event.order_id)
                assert before is None or before.status in OPEN or event.status not in OPEN, "it opened again"
                self.orders[event.order_id] = event
            case Position():
                self.positions[str(event.symbol)] = event.size
            case Fill():
                self.once.append(f"fill {event.fill_id}")
            case Payment():
                self.once.append(f"payment {event.payment_id}")
            case _:
                self.last[type(event)] = event

    def looks(self) -> Any:
        living = {one.order_id: (one.status, one.filled) for one in self.orders.values() if one.status in OPEN}
        held = {symbol: size for symbol, size in self.positions.items() if Decimal(size)}
        return living, held, self.last[Balance].total, self.last[Margin].equity


HAPPENINGS = ["place", "place", "execute", "execute", "end", "pay", "tell_all_positions"]
PASSINGS = ["deliver", "deliver", "deliver", "repeat", "lose", "ask", "capture", "answer"]
STEPS = st.lists(st.tuples(st.sampled_from(HAPPENINGS + PASSINGS), st.integers(0, 5)), max_size=60)


@pytest.fixture(scope="module")
def board(tmp_path_factory: pytest.TempPathFactory) -> Any:
    board = Board.create(tmp_path_factory.mktemp("board") / "board", 1)
    yield board
    board.close()


@given(steps=STEPS, is_stamped=st.booleans())
@settings(max_examples=400)
def test_whatever_comes_in_whatever_order_it_ends_in_the_truth(board: Board, steps: Any, is_stamped: Any) -> None:
    reported = PublishedAccount(board)
    venue = Venue(reported, is_stamped=is_stamped)
    for step, pick in steps:
        getattr(venue, step)(pick)
    venue.settle()
    consumer = Consumer()
    for event in reported.sent:
        consumer.take(event)
    living = {one.order_id: (one.status, one.filled) for one in venue.orders.values() if one.status in OPEN}
    held = {str(one.symbol): one.size for one in venue.positions.values() if Decimal(one.size)}
    assert consumer.looks() == (living, held, venue.balance.total, venue.margin.equity)
    once = [f"fill {one}" for one in venue.fills] + [f"payment {one}" for one in venue.payments]
    assert sorted(consumer.once) == sorted(once)
    assert {one.order_id for one in reported.statement.ledger.open_orders()} == set(living)
    assert all(event.account == ALIAS and event.venue == VENUE for event in reported.sent)
