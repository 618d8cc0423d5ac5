from __future__ import annotations

import re
import tracemalloc
from decimal import Decimal, localcontext
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ipc.decimals import difference, is_zero, plain, rate_per_8h, scale_rate, shortest

PLAIN = re.compile(r"-?(0|[1-9]\d*)(\.\d*[1-9])?")
numbers = st.decimals(min_value=Decimal("-1e20"), max_value=Decimal("1e20"), places=10)
#: As venues write them: padded, with a sign, with an exponent.
spellings = st.builds(
    lambda number, spell: spell(number),
    numbers,
    st.sampled_from([str, lambda n: f"{n:f}", lambda n: f"{n:f}000", lambda n: f"{n:E}", lambda n: f"{n:e}"]),
)
sizes = st.decimals(min_value=Decimal("-1e12"), max_value=Decimal("1e12"), places=10).map(str)
rates = st.decimals(min_value=Decimal(-1), max_value=Decimal(1), places=14)
intervals = st.sampled_from([3600, 4 * 3600, 8 * 3600, 24 * 3600])


@given(spellings)
def test_shortest_keeps_the_value_and_is_plain(text: str) -> None:
    short = shortest(text)
    assert Decimal(short) == Decimal(text)
    assert PLAIN.fullmatch(short)
    assert short != "-0"


@given(spellings, spellings)
def test_shortest_is_equal_exactly_for_equal_values(one: str, other: str) -> None:
    assert (shortest(one) == shortest(other)) == (Decimal(one) == Decimal(other))


@given(spellings)
def test_shortest_of_shortest_changes_nothing(text: str) -> None:
    assert shortest(shortest(text)) == shortest(text)


@pytest.mark.parametrize(
    ("text", "short"),
    [
        ("82653.0", "82653"),
        ("82653", "82653"),
        ("100", "100"),
        ("1e-7", "0.0000001"),
        ("1E+3", "1000"),
        (".5", "0.5"),
        ("5.", "5"),
        ("007.10", "7.1"),
        ("-0.00", "0"),
        ("-1.50", "-1.5"),
        ("0e5", "0"),
        ("123456789012345678901234567.10", "123456789012345678901234567.1"),
    ],
)
def test_shortest_of_what_venues_write(text: str, short: str) -> None:
    assert shortest(text) == short


@pytest.mark.parametrize(
    "text",
    [
        "",
        ".",
        "abc",
        "NaN",
        "sNaN",
        "Infinity",
        "-inf",
        "1,5",
        "0x10",
        "1.2.3",
        "--1",
        "1_00",
        " 100 ",
        "+100",
        "\u0661\u0660\u0660",
        "1e",
        "5\n",
    ],
)
def test_what_is_no_number_is_refused(text: str) -> None:
    for refuse in (shortest, lambda rate: rate_per_8h(rate, 3600), lambda rate: scale_rate(rate, 100)):
        with pytest.raises(ValueError):
            refuse(text)


@pytest.mark.parametrize("text", ["1e31", "1e-31", "-1e999999", "1e-999999"])
def test_number_of_absurd_size_is_refused_before_it_costs_memory(text: str) -> None:
    with pytest.raises(ValueError, match="out of range"):
        shortest(text)


@pytest.mark.parametrize("text", ["1e30", "1e-30", "9.99e30"])
def test_largest_and_smallest_numbers_are_taken(text: str) -> None:
    assert Decimal(shortest(text)) == Decimal(text)


def test_zero_of_absurd_exponent_costs_no_memory() -> None:
    tracemalloc.start()
    try:
        assert shortest("0e-3000000") == "0"
        assert tracemalloc.get_traced_memory()[1] < 100_000
    finally:
        tracemalloc.stop()


@given(numbers)
def test_plain_of_a_decimal_keeps_its_value(number: Decimal) -> None:
    assert plain(number) == shortest(str(number))


@given(st.integers(min_value=-(2**53), max_value=2**53))
def test_plain_of_an_integer_keeps_its_value(number: int) -> None:
    assert plain(number) == str(number)


def test_plain_of_an_integer_beyond_a_float_keeps_its_value() -> None:
    assert plain(2**53 + 1) == "9007199254740993"


@pytest.mark.parametrize("text", ["0", "0.0", "0.000", ".0", "0.", "00"])
def test_zero_in_every_spelling_is_zero(text: str) -> None:
    assert is_zero(text)


@given(numbers.map(lambda number: f"{abs(number):f}"))
def test_is_zero_agrees_with_the_value(text: str) -> None:
    assert is_zero(text) == (Decimal(text) == 0)


@given(rates, intervals)
def test_rate_per_8h_is_exact_to_twelve_places(rate: Decimal, interval_s: int) -> None:
    per_8h = rate_per_8h(f"{rate:f}", interval_s)
    assert per_8h is not None
    assert re.fullmatch(r"-?\d+\.\d{12}", per_8h)
    exact = Fraction(rate) * 28_800 / interval_s
    assert abs(Fraction(per_8h) - exact) <= Fraction(1, 2 * 10**12)


@pytest.mark.parametrize(
    ("rate", "interval_s", "per_8h"),
    [
        ("0.0000125", 3600, "0.000100000000"),
        ("0.0001", 28_800, "0.000100000000"),
        ("-0.0003", 14_400, "-0.000600000000"),
        ("0", 3600, "0.000000000000"),
        ("0.0000000000005", 28_800, "0.000000000000"),
        ("0.0000000000015", 28_800, "0.000000000002"),
    ],
)
def test_rate_per_8h_of_known_rates(rate: str, interval_s: int, per_8h: str) -> None:
    assert rate_per_8h(rate, interval_s) == per_8h


@pytest.mark.parametrize(("rate", "interval_s"), [(None, 3600), ("0.0001", None), ("0.0001", 0), (None, None)])
def test_rate_per_8h_of_what_is_unknown_is_unknown(rate: str | None, interval_s: int | None) -> None:
    assert rate_per_8h(rate, interval_s) is None


def test_rate_too_large_for_twelve_places_is_no_rate() -> None:
    with pytest.raises(ValueError, match="not a rate"):
        rate_per_8h("1e20", 3600)


@given(rates, st.sampled_from([8, 100, 10_000]))
def test_scaled_rate_is_exact_and_plain(rate: Decimal, divisor: int) -> None:
    scaled = scale_rate(f"{rate:f}", divisor)
    assert scaled is not None
    assert PLAIN.fullmatch(scaled)
    with localcontext(prec=60):
        assert Decimal(scaled) * divisor == rate


def test_rate_that_rounds_to_zero_has_no_sign() -> None:
    assert rate_per_8h("-1e-20", 3600) == "0.000000000000"


def test_missing_rate_stays_missing() -> None:
    assert scale_rate(None, 100) is None


@given(sizes, sizes)
def test_difference_is_exact_and_plain(minuend: str, subtrahend: str) -> None:
    text = difference(minuend, subtrahend)
    assert PLAIN.fullmatch(text)
    with localcontext(prec=60):
        assert Decimal(text) == Decimal(minuend) - Decimal(subtrahend)


def test_difference_of_far_apart_numbers_is_exact() -> None:
    assert difference("1e20", "1e-20") == "99999999999999999999.99999999999999999999"


@pytest.mark.parametrize(("minuend", "subtrahend"), [("1", "x"), ("", "1"), ("nan", "1")])
def test_difference_of_what_is_no_number_is_refused(minuend: str, subtrahend: str) -> None:
    with pytest.raises(ValueError):
        difference(minuend, subtrahend)


def test_percent_becomes_a_fraction() -> None:
    assert scale_rate("0.0012", 100) == "0.000012"
