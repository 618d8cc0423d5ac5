from __future__ import annotations

from collections.abc import Iterable, Sequence
from decimal import Decimal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from ipc.events import Level
from ipc.orderbook import BadLevelError, OrderBook


class NaiveBook:
    """Book with exact prices, sorted at every access."""

    def __init__(self) -> None:
        self.sides: tuple[dict[Decimal, Level], dict[Decimal, Level]] = ({}, {})

    def apply(self, *changes: Iterable[Level]) -> None:
        for side, levels in zip(self.sides, changes, strict=True):
            for price, size in levels:
                side.pop(Decimal(price), None) if Decimal(size) == 0 else side.update({Decimal(price): (price, size)})

    def replace(self, *levels: Iterable[Level]) -> None:
        self.sides = ({}, {})
        self.apply(*levels)

    @property
    def bids(self) -> list[Level]:
        return [self.sides[0][price] for price in sorted(self.sides[0], reverse=True)]

    @property
    def asks(self) -> list[Level]:
        return [self.sides[1][price] for price in sorted(self.sides[1])]


def crc32_of_byte(register: int) -> int:
    """One byte through the shift register of CRC-32, bit by bit, as IEEE 802.3 has it."""
    for _ in range(8):
        register = register >> 1 ^ (0xEDB88320 if register & 1 else 0)
    return register


REMAINDERS = [crc32_of_byte(byte) for byte in range(256)]


def crc32(data: bytes) -> int:
    register = 0xFFFFFFFF
    for byte in data:
        register = register >> 8 ^ REMAINDERS[register & 0xFF ^ byte]
    return register ^ 0xFFFFFFFF


def checksum(bids: Sequence[Level], asks: Sequence[Level]) -> int:
    """The checksum as its format is documented, worked out by another road: exact decimals, normalised."""

    def side(levels: Sequence[Level]) -> str:
        return ",".join(f"{Decimal(p).normalize():f}:{Decimal(q).normalize():f}" for p, q in levels[:10])

    return crc32(f"b:{side(bids)};a:{side(asks)}".encode("ascii"))


def book_of(bids: list[Level], asks: list[Level]) -> OrderBook:
    book = OrderBook()
    book.replace(bids, asks)
    return book


# --- levels -------------------------------------------------------------------------------------------------------


def test_equal_values_with_different_texts_are_one_level() -> None:
    book = book_of([("82653", "1")], [])
    book.apply([("82653.0", "2")], [])
    assert book.bids() == [("82653.0", "2")]
    book.apply([("82653.000", "0.00")], [])
    assert book.bids() == []


def test_neighbours_at_fifteen_digits_are_two_levels() -> None:
    book = OrderBook()
    book.apply([("0.00123456789012345", "1"), ("0.00123456789012346", "2")], [])
    assert len(book.bids()) == 2


def test_size_of_zero_for_a_level_that_is_not_there_is_no_error() -> None:
    book = book_of([("1", "1")], [("2", "1")])
    book.apply([("0.5", "0")], [("3", "0.0")])
    assert (book.bids(), book.asks()) == ([("1", "1")], [("2", "1")])


def test_last_change_of_a_level_in_one_message_wins() -> None:
    book = OrderBook()
    book.apply([("1", "1"), ("1.0", "0"), ("1.00", "3")], [])
    assert book.bids() == [("1.00", "3")]


def test_snapshot_clears_what_was_there() -> None:
    book = book_of([("1", "1")], [("2", "1")])
    book.apply([("0.9", "5")], [])
    book.replace([("0.8", "1")], [])
    assert (book.bids(), book.asks()) == ([("0.8", "1")], [])


def test_book_does_not_change_the_snapshot_that_it_was_given() -> None:
    bids, asks = [("1", "1")], [("2", "1")]
    book = book_of(bids, asks)
    book.apply([("1", "0"), ("0.5", "1")], [("2", "3")])
    book.bids().append(("9", "9"))
    assert (bids, asks) == ([("1", "1")], [("2", "1")])
    assert book.bids() == [("0.5", "1")]


def test_list_that_was_handed_out_is_the_callers() -> None:
    book = book_of([("1", "1")], [])
    book.bids().clear()
    assert book.bids() == [("1", "1")]


def test_levels_below_the_tenth_are_kept() -> None:
    book = book_of([(str(price), "1") for price in range(50, 0, -1)], [])
    book.apply([(str(price), "0") for price in range(11, 51)], [])
    assert [price for price, _ in book.bids()] == [str(price) for price in range(10, 0, -1)]


def test_size_at_is_found_by_value_and_side() -> None:
    book = book_of([("1.0", "3")], [("2", "4")])
    assert book.size_at("bid", "1") == "3"
    assert book.size_at("ask", "2.00") == "4"
    assert book.size_at("ask", "1") is None


def test_empty_and_one_sided_books_are_legal() -> None:
    for book in (OrderBook(), book_of([], [])):
        assert (book.best_bid, book.best_ask, book.is_crossed, book.bids(5), book.asks(5)) == (
            None,
            None,
            False,
            [],
            [],
        )
    assert not book_of([("1", "1")], []).is_crossed
    assert not book_of([], [("1", "1")]).is_crossed


# --- crossed ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("bid", "ask", "crossed"),
    [("1", "2", False), ("2", "1", True), ("2", "2.0", True), ("99", "100", False), ("100", "99.9", True)],
)
def test_book_is_crossed_when_its_bid_reaches_its_ask_by_value(bid: str, ask: str, crossed: bool) -> None:  # noqa: FBT001
    whole = book_of([(bid, "1")], [(ask, "1")])
    assert whole.is_crossed == crossed
    changed = OrderBook()
    changed.apply([(bid, "1")], [(ask, "1")])
    assert changed.is_crossed == crossed


# --- levels that are none -----------------------------------------------------------------------------------------

BAD_PRICES = ["", "abc", "0", "0.0", "0E-8", "-1", "nan", "inf", "-inf", "1,5", "1e999", " 1", "+1", "1_0", "٣", "-0"]
BAD_SIZES = ["", "abc", "-1", "-0.5", "nan", "inf", "1e", "1e5.0", "1,5", "1.2.3", " 1", "1 ", "+1", "0x1", "1_0", "٣"]


@pytest.mark.parametrize("price", BAD_PRICES)
def test_change_with_a_price_that_is_none_is_refused(price: str) -> None:
    for side in ([(price, "1")], []), ([], [(price, "1")]), ([(price, "0")], []):
        with pytest.raises(BadLevelError, match="price"):
            OrderBook().apply(*side)


@pytest.mark.parametrize("size", BAD_SIZES)
def test_change_with_a_size_that_is_none_is_refused(size: str) -> None:
    with pytest.raises(BadLevelError, match="size"):
        OrderBook().apply([("1", size)], [])


@pytest.mark.parametrize("size", ["0.1.0", "1..0", "..", ".", "²"])
def test_change_with_a_size_that_only_looks_like_one_is_refused(size: str) -> None:
    with pytest.raises(BadLevelError, match="size"):
        OrderBook().apply([("1", size)], [])


@pytest.mark.parametrize("price", BAD_PRICES)
def test_snapshot_whose_best_price_is_none_is_refused(price: str) -> None:
    for side in ([(price, "1")], []), ([], [(price, "1")]):
        with pytest.raises(BadLevelError, match="price"):
            OrderBook().replace(*side)


def test_snapshot_that_was_refused_leaves_the_book_as_it_was() -> None:
    book = book_of([("1", "1")], [("2", "1")])
    with pytest.raises(BadLevelError):
        book.replace([("1.5", "1")], [("x", "1")])
    assert (book.bids(), book.asks()) == ([("1", "1")], [("2", "1")])


def test_price_to_look_up_must_be_one() -> None:
    with pytest.raises(BadLevelError):
        OrderBook().size_at("bid", "x")


@pytest.mark.parametrize("depth", [1, 3, 12])
@pytest.mark.parametrize("size", [*BAD_SIZES, "0", "0.00", "0E-8", "-0"])
def test_snapshot_with_a_size_that_is_none_is_refused_at_any_depth(depth: int, size: str) -> None:
    better = [(str(50 - number), "1") for number in range(depth)]
    for side in ([*better, ("9", size)], []), ([], [*reversed(better), ("60", size)]):
        with pytest.raises(BadLevelError, match="size"):
            OrderBook().replace(*side)


@pytest.mark.parametrize("price", BAD_PRICES)
def test_snapshot_with_a_price_that_is_none_is_refused_at_any_depth(price: str) -> None:
    for side in ([("3", "1"), ("2", "1"), (price, "1")], []), ([], [("2", "1"), (price, "1"), ("3", "1")]):
        with pytest.raises(BadLevelError, match="price"):
            OrderBook().replace(*side)


@pytest.mark.parametrize(
    ("bids", "asks"),
    [
        (["50", "200", "100"], []),
        ([], ["300", "101", "150"]),
        (["100", "100"], []),
        (["100", "100.0"], []),
        (["100", "1E2"], []),
        ([], ["100", "100.00"]),
        (["100"], ["101", "103", "102"]),
    ],
)
def test_snapshot_that_is_not_strictly_best_first_is_refused(bids: list[str], asks: list[str]) -> None:
    with pytest.raises(BadLevelError, match="order"):
        OrderBook().replace([(price, "1") for price in bids], [(price, "1") for price in asks])


def test_order_is_that_of_values_not_of_texts() -> None:
    book = book_of([("100", "1"), ("99.5", "1"), ("9", "1")], [("100.5", "1"), ("101", "1"), ("1000", "1")])
    assert not book.is_crossed


def test_exponents_are_written_out_in_whole_books_and_changes() -> None:
    book = OrderBook()
    assert book.replace([("1.5E1", "1E-7"), ("14", "2")], [("16", "1")]) == (
        [("15", "0.0000001"), ("14", "2")],
        [("16", "1")],
    )
    assert book.apply([("1.4e1", "0E-8"), ("13", "1.0e1")], []) == ([("14", "0"), ("13", "10")], [])
    assert book.bids() == [("15", "0.0000001"), ("13", "10")]
    assert book.size_at("bid", "1.3e1") == "10"


def test_what_is_plain_is_handed_back_as_it_came() -> None:
    bids: list[Level] = [("82653.0", "1.500"), ("82652", ".5")]
    book = OrderBook()
    assert book.replace(bids, [])[0] is bids
    assert book.apply(bids, [])[0] is bids


NO_NUMBERS = ["0", "0.0", "0E-8", "-1", "NaN", "", "1_0", " 1", "+1", "٣", "a"]
NUMBERS = st.sampled_from(["1", "1.0", "2", "02", "3.50", "1e1", "10", "9.99", *NO_NUMBERS])
SIDES = st.lists(st.tuples(NUMBERS, NUMBERS), max_size=4)


def naive_value(text: str) -> Decimal | None:
    """What a text is worth by the plainest reading of the rule; None when it is no decimal."""
    body = text.removeprefix("-")
    mantissa, marker, exponent = body.lower().partition("e")
    digits = mantissa.replace(".", "", 1)
    is_decimal = bool(digits) and set(digits) <= set("0123456789")
    has_exponent = bool(exponent.lstrip("-")) and set(exponent.lstrip("-")) <= set("0123456789")
    return Decimal(text) if is_decimal and has_exponent == bool(marker) else None


def is_valid_side(levels: list[Level], *, descending: bool) -> bool:
    values = [(naive_value(price), naive_value(size)) for price, size in levels]
    if any(price is None or size is None or price <= 0 or size <= 0 for price, size in values):
        return False
    prices = [price for price, _ in values]
    return prices == sorted(set(prices), reverse=descending)


def in_order(levels: list[Level], *, descending: bool) -> list[Level]:
    """Levels as chance seldom gives them: best first, each price once."""
    by_value = {value: level for level in levels if (value := naive_value(level[0]))}
    return [by_value[value] for value in sorted(by_value, reverse=descending)]


@given(SIDES, SIDES, st.booleans())
def test_whole_book_is_taken_exactly_when_the_naive_rule_holds(
    bids: list[Level],
    asks: list[Level],
    is_ordered: bool,  # noqa: FBT001
) -> None:
    if is_ordered:
        bids, asks = in_order(bids, descending=True), in_order(asks, descending=False)
    book = OrderBook()
    if not (is_valid_side(bids, descending=True) and is_valid_side(asks, descending=False)):
        with pytest.raises(BadLevelError):
            book.replace(bids, asks)
        return
    kept = book.replace(bids, asks)
    for side, levels in zip(kept, (bids, asks), strict=True):
        assert [(Decimal(p), Decimal(q)) for p, q in side] == [(Decimal(p), Decimal(q)) for p, q in levels]
        assert not any("e" in text.lower() for level in side for text in level)
    assert book.equals(bids, asks)


# --- checksum -----------------------------------------------------------------------------------------------------


def test_checksum_is_measured_by_the_usual_crc_32() -> None:
    assert crc32(b"123456789") == 0xCBF43926


def test_checksum_of_an_empty_book() -> None:
    assert OrderBook().crc32_top10() == crc32(b"b:;a:") == 0x289242D0


def test_checksum_of_a_known_book() -> None:
    book = book_of([("82653.0", "0.500"), ("82652.5", "1")], [("82654", "2.10")])
    assert book.crc32_top10() == crc32(b"b:82653:0.5,82652.5:1;a:82654:2.1") == 0xFBC80BB0


def test_checksum_does_not_see_the_texts() -> None:
    one = book_of([("0.0000001", "10")], [("1", "0.10")])
    other = book_of([("0.00000010", "10.0")], [("1.0", ".1")])
    assert one.crc32_top10() == other.crc32_top10() == crc32(b"b:0.0000001:10;a:1:0.1")


def test_checksum_sees_the_tenth_level_and_not_the_eleventh() -> None:
    levels = [(str(price), "1") for price in range(20, 9, -1)]
    same = book_of([*levels[:10], ("10", "7")], [])
    other = book_of([*levels[:9], ("11", "7"), levels[10]], [])
    assert book_of(levels, []).crc32_top10() == same.crc32_top10() != other.crc32_top10()


def test_checksum_tells_bids_from_asks() -> None:
    assert book_of([("1", "2")], []).crc32_top10() != book_of([], [("1", "2")]).crc32_top10()


def test_checksum_is_the_same_before_and_after_the_first_delta() -> None:
    book = book_of([("3", "1"), ("2", "4.0")], [("5", "1.50"), ("6", "1")])
    before = book.crc32_top10()
    book.apply([], [])
    assert book.crc32_top10() == before


# --- against a naive book ---------------------------------------------------------------------------------------


def spelt(units: int, zeros: int) -> str:
    """A number of hundredths with that many zeros behind it."""
    text = f"{units // 100}.{units % 100:02d}".rstrip("0").rstrip(".")
    return text + ("." if zeros and "." not in text else "") + "0" * zeros


#: Few prices, so that levels meet, in several spellings; sizes are zero often enough to empty a side.
prices = st.builds(spelt, st.integers(1, 60), st.integers(0, 3))
sizes = st.one_of(
    st.sampled_from(["0", "0.0", "0.00000000", ".0"]), st.builds(spelt, st.integers(1, 10**6), st.integers(0, 3))
)
changes = st.lists(st.tuples(prices, sizes), max_size=8)
wholes = st.lists(
    st.tuples(st.integers(1, 60), st.integers(0, 3), st.integers(1, 10**6)),
    max_size=15,
    unique_by=lambda level: level[0],
).map(lambda levels: [(spelt(price, zeros), spelt(size, zeros)) for price, zeros, size in sorted(levels)])


class BookAgainstNaiveBook(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.book = OrderBook()
        self.naive = NaiveBook()

    @rule(bids=changes, asks=changes)
    def change(self, bids: list[Level], asks: list[Level]) -> None:
        self.book.apply(bids, asks)
        self.naive.apply(bids, asks)

    @rule(bids=wholes, asks=wholes)
    def replace(self, bids: list[Level], asks: list[Level]) -> None:
        self.book.replace(bids[::-1], asks)
        self.naive.replace(bids[::-1], asks)

    @rule()
    def clear(self) -> None:
        self.book.clear()
        self.naive.replace((), ())

    @rule(price=prices, side=st.sampled_from(["bid", "ask"]))
    def look_up(self, price: str, side: str) -> None:
        level = self.naive.sides[side == "ask"].get(Decimal(price))
        assert self.book.size_at(side, price) == (level[1] if level else None)

    @rule(depth=st.integers(0, 20))
    def look_at_the_best(self, depth: int) -> None:
        assert self.book.bids(depth) == self.naive.bids[:depth]
        assert self.book.asks(depth) == self.naive.asks[:depth]

    @invariant()
    def same_levels_with_the_texts_of_the_last_change(self) -> None:
        assert self.book.bids() == self.naive.bids
        assert self.book.asks() == self.naive.asks

    @invariant()
    def same_best_prices(self) -> None:
        bids, asks = self.naive.bids, self.naive.asks
        assert self.book.best_bid == (bids[0] if bids else None)
        assert self.book.best_ask == (asks[0] if asks else None)
        assert self.book.is_crossed == bool(bids and asks and Decimal(bids[0][0]) >= Decimal(asks[0][0]))

    @invariant()
    def same_checksum(self) -> None:
        assert self.book.crc32_top10() == checksum(self.naive.bids, self.naive.asks)


TestBookAgainstNaiveBook = BookAgainstNaiveBook.TestCase
TestBookAgainstNaiveBook.settings = settings(max_examples=60, stateful_step_count=15)
