"""Numbers of venues, in every spelling, each within its range."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from workers.venues.fields import (
    Id,
    SequenceNumber,
    Text,
    as_int,
    digits_of,
    increment,
    interval_s_of,
    ns_of_ms,
    ns_of_s,
    ns_of_us,
    step,
)

MS = 1_790_000_123_456


@pytest.mark.parametrize("time", [MS, str(MS), float(MS), f"{MS}.0"])
def test_time_in_every_spelling(time: Any) -> None:
    assert ns_of_ms(time) == MS * 1_000_000
    assert ns_of_us(time) == MS * 1000
    assert ns_of_s(str(MS // 1000)) == MS // 1000 * 10**9


@pytest.mark.parametrize("time", [None, 0, "", "0", -1, -MS, 10**13, 10**18, 10**30, "9" * 25, "1e40"])
def test_time_that_is_none_or_outside_int64_is_unknown(time: Any) -> None:
    assert ns_of_ms(time) is None
    assert ns_of_s(time) is None


@pytest.mark.parametrize("time", ["soon", "1_0", " 1", "NaN"])
def test_text_that_is_no_number_is_no_time(time: str) -> None:
    with pytest.raises(ValueError, match="number"):
        ns_of_ms(time)


@pytest.mark.parametrize(
    ("hours", "seconds"),
    [
        *[(hours, 28_800) for hours in (8, 8.0, "8", "8.0")],
        *[(0.5, 1800), ("0.5", 1800), (1, 3600), (24, 86_400)],
        *[(none, None) for none in (0, 0.0, "0", "", None)],
    ],
)
def test_funding_interval(hours: Any, seconds: int | None) -> None:
    assert interval_s_of(hours) == seconds


@pytest.mark.parametrize("hours", [-8, -0.5, "-1", 1e-6, 721, 10**9, 1e300, "x", "1_0", "NaN", float("inf")])
def test_number_that_is_no_funding_interval(hours: Any) -> None:
    with pytest.raises(ValueError, match=r"hours|number"):
        interval_s_of(hours)


@pytest.mark.parametrize(("decimals", "text"), [(0, "1"), (2, "0.01"), ("2", "0.01"), (2.0, "0.01"), (None, None)])
def test_step(decimals: Any, text: str | None) -> None:
    assert step(decimals) == text
    assert step(18) == "0." + "0" * 17 + "1"


@pytest.mark.parametrize("decimals", [-1, 19, 10**9, 10**100, 0.5, "x", "", "1" * 200])
def test_number_that_is_no_number_of_decimals(decimals: Any) -> None:
    with pytest.raises(ValueError, match="number"):
        step(decimals)


@pytest.mark.parametrize(
    ("text", "plain"), [("0.10", "0.10"), ("1E-7", "0.0000001"), (5, "5"), (0.01, "0.01"), ("", None), (None, None)]
)
def test_increment(text: Any, plain: str | None) -> None:
    assert increment(text) == plain


@pytest.mark.parametrize("text", ["0", "0.00", "-0.1", "x", "1e400", "NaN", "\u0661"])
def test_text_that_is_no_increment(text: str) -> None:
    with pytest.raises(ValueError, match=r"step|number"):
        increment(text)


@pytest.mark.parametrize("market_id", [0, 7, "254", "2048"])
def test_market_number(market_id: Any) -> None:
    assert digits_of(market_id) == str(market_id)


@pytest.mark.parametrize("market_id", [-1, "", "1/../account", "7&x=1", "\u0667", 10**9])
def test_text_that_is_no_market_number(market_id: Any) -> None:
    with pytest.raises(ValueError, match="market"):
        digits_of(market_id)


def test_whole_numbers_have_a_range() -> None:
    assert [as_int(value, 0, 9) for value in (0, 9, "3", 4.0)] == [0, 9, 3, 4]
    for value in (-1, 10, 0.5, "x"):
        with pytest.raises(ValueError, match="number"):
            as_int(value, 0, 9)


@pytest.mark.parametrize(("kind", "json"), [(SequenceNumber, b"9223372036854775808"), (SequenceNumber, b"-2")])
def test_sequence_number_fits_an_int64(kind: Any, json: bytes) -> None:
    with pytest.raises(msgspec.ValidationError):
        msgspec.json.decode(json, type=kind)


@pytest.mark.parametrize("json", [b'""', b'"' + b"x" * 65 + b'"', b"1.5", b"null", b"9223372036854775808"])
def test_id_is_a_number_or_a_short_text(json: bytes) -> None:
    assert msgspec.json.decode(b"7", type=Id) == 7
    assert msgspec.json.decode(b'"1792000000000000000000000000"', type=Id) == "1792000000000000000000000000"
    with pytest.raises(msgspec.ValidationError):
        msgspec.json.decode(json, type=Id)
    with pytest.raises(msgspec.ValidationError):
        msgspec.json.decode(b'""', type=Text)
