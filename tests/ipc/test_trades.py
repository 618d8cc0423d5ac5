from __future__ import annotations

from collections import deque

from hypothesis import given
from hypothesis import strategies as st

from ipc.trades import SeenTrades

REMEMBERED = 4096


def test_trade_is_new_once() -> None:
    seen = SeenTrades()
    assert [seen.is_new(trade_id) for trade_id in ("1", "2", "1", "2", "3")] == [True, True, False, False, True]


def test_oldest_of_the_remembered_trades_is_forgotten_first() -> None:
    seen = SeenTrades()
    for number in range(REMEMBERED):
        assert seen.is_new(str(number))
    assert not seen.is_new("0")
    assert seen.is_new("one more")
    assert not seen.is_new("1")
    assert seen.is_new("0")


@given(st.lists(st.integers(0, 9)))
def test_trades_are_known_as_long_as_they_are_remembered(numbers: list[int]) -> None:
    seen = SeenTrades()
    window: deque[str] = deque(maxlen=REMEMBERED)
    for number in numbers:
        assert seen.is_new(str(number)) == (str(number) not in window)
        if str(number) not in window:
            window.append(str(number))
