from __future__ import annotations

from simulator.limits import Allowance


def test_what_is_over_the_limit_is_refused_until_the_window_has_passed():
    now = [0.0]
    allowance = Allowance(3, 10.0, lambda: now[0])
    assert [allowance.take() for _ in range(4)] == [True, True, True, False]
    now[0] = 9.9
    assert not allowance.take()
    now[0] = 10.0
    assert allowance.take(3)
    assert not allowance.take()


def test_a_refused_request_costs_nothing():
    allowance = Allowance(10, 1.0, lambda: 0.0)
    assert allowance.take(8)
    assert not allowance.take(3)
    assert allowance.used == 8
    assert allowance.take(2)
