from __future__ import annotations

from simulator.limits import RateLimit


def test_units_over_the_limit_are_refused_until_the_window_has_passed():
    now = [0.0]
    limit = RateLimit(3, 10.0, lambda: now[0])
    assert [limit.acquire() for _ in range(4)] == [True, True, True, False]
    now[0] = 9.9
    assert not limit.acquire()
    now[0] = 10.0
    assert limit.acquire(3)
    assert not limit.acquire()


def test_a_refused_request_uses_no_units():
    limit = RateLimit(10, 1.0, lambda: 0.0)
    assert limit.acquire(8)
    assert not limit.acquire(3)
    assert limit.used == 8
    assert limit.acquire(2)
