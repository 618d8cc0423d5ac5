from __future__ import annotations

from decimal import Decimal

from hypothesis import given
from hypothesis import strategies as st

from simulator.decimals import padded, pointed, shortest

numbers = st.integers(-(10**24), 10**24)
places = st.integers(0, 12)


@given(numbers, places)
def test_every_form_has_the_same_value(units, count):
    value = Decimal(units).scaleb(-count)
    assert Decimal(padded(units, count)) == Decimal(shortest(units, count)) == Decimal(pointed(units, count)) == value


@given(numbers, places)
def test_no_form_has_an_exponent_or_unwanted_padding(units, count):
    text = shortest(units, count)
    assert "e" not in text.lower()
    assert not (("." in text) and text.endswith(("0", ".")))


def test_forms_of_venues():
    assert padded(1250, 3) == "1.250"
    assert padded(8910, 1, 3) == "891.000"
    assert padded(-5, 3) == "-0.005"
    assert shortest(80_000, 0) == "80000"
    assert shortest(80_0000, 4) == "80"
    assert pointed(80, 0) == "80.0"
    assert pointed(186, 5) == "0.00186"
