"""File descriptors: the limit of a process, and the guard that keeps some free of consumers."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable

import pytest

from ipc import descriptors
from ipc.descriptors import DescriptorGuard, count_open, limit, raise_limit, reserve_of

LIMIT = 1024
RESERVE = reserve_of(LIMIT)


class Process:
    """A process whose open descriptors the test sets, with one socket that notes its calls."""

    def __init__(self, clock: Callable[[], int], limit: int = LIMIT) -> None:
        self.open = 40
        self.calls: list[str] = []
        self.guard = DescriptorGuard(
            "lighter",
            [self],  # type: ignore[list-item]
            count=lambda: self.open,
            limit=lambda: limit,
            monotonic=lambda: clock() / 1e9,
        )

    def refuse_peers(self) -> None:
        self.calls.append("refuse")

    def accept_peers(self) -> None:
        self.calls.append("accept")


@pytest.fixture
def process(clock) -> Process:
    return Process(clock)


def run(code: str, limits: str) -> str:
    """Run code in a process of its own with other limits."""
    command = ["bash", "-c", f"{limits} && exec {sys.executable} -c '{code}'"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=30)
    if "cannot modify limit" in done.stderr:
        pytest.skip(f"limits cannot be set here: {limits}")
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


SHOW = "import resource; from ipc.descriptors import raise_limit; print(raise_limit(), *resource.getrlimit(7))"


def test_soft_limit_is_raised_to_the_hard_one() -> None:
    assert run(SHOW, "ulimit -Sn 256 && ulimit -Hn 3000") == "3000 3000 3000"


def test_soft_limit_is_not_raised_further_than_makes_sense(monkeypatch) -> None:
    limits = [(1024, descriptors.resource.RLIM_INFINITY)]
    monkeypatch.setattr(descriptors.resource, "getrlimit", lambda _: limits[-1])
    monkeypatch.setattr(descriptors.resource, "setrlimit", lambda _, wanted: limits.append(wanted))
    assert raise_limit() == 65_536
    assert limits[1:] == [(65_536, descriptors.resource.RLIM_INFINITY)]
    assert raise_limit() == 65_536
    assert len(limits) == 2


def test_higher_soft_limit_stays(monkeypatch) -> None:
    monkeypatch.setattr(descriptors.resource, "getrlimit", lambda _: (100_000, 200_000))
    assert raise_limit() == limit() == 100_000


def test_open_descriptors_are_counted() -> None:
    before = count_open()
    extra = [os.dup(0) for _ in range(50)]
    try:
        assert count_open() == before + 50
    finally:
        for one in extra:
            os.close(one)


def test_open_descriptors_are_counted_on_kernels_that_give_the_directory_no_size(monkeypatch) -> None:
    real = os.stat
    count = count_open()
    monkeypatch.setattr(descriptors.os, "stat", lambda _: real("/proc"))
    assert abs(count_open() - count) <= 1


def test_consumers_are_refused_at_the_reserve_and_accepted_with_room_again(process: Process, clock, logged) -> None:
    process.open = LIMIT - RESERVE - 1
    process.guard.check()
    assert process.calls == []
    process.open += 1
    process.guard.check()
    process.guard.check()
    assert (process.calls, process.guard.is_refusing) == (["refuse"], True)
    clock.advance(2)
    process.open -= 10
    process.guard.check()
    assert process.calls == ["refuse"]
    process.open -= RESERVE // 4
    process.guard.check()
    assert (process.calls, process.guard.is_refusing) == (["refuse", "accept"], False)
    assert logged.events == ["descriptors.refusing", "descriptors.accepting"]
    assert logged.records[0].fields["reason"] == "descriptors"
    assert (logged.records[0].fields["open"], logged.records[0].fields["limit"]) == (LIMIT - RESERVE, LIMIT)


def test_consumers_who_wait_do_not_come_in_waves(process: Process, clock) -> None:
    process.open = LIMIT
    process.guard.check()
    process.open = 40
    clock.advance(0.9)
    process.guard.check()
    assert process.calls == ["refuse"]
    clock.advance(0.2)
    process.guard.check()
    assert process.calls == ["refuse", "accept"]


@pytest.mark.parametrize(("used", "wait_s"), [(0, 0.0123), (600, 0.001), (1000, 0.25)])
def test_next_check_comes_before_the_fastest_burst_could_reach_the_reserve(clock, used: int, wait_s: float) -> None:
    process = Process(clock)
    process.open = used
    assert process.guard.check() == pytest.approx(wait_s)


def test_idle_process_with_a_high_limit_is_checked_once_a_second(clock) -> None:
    assert Process(clock, 65_536).guard.check() == 1.0


def test_many_descriptors_in_use_are_reported_once(clock, logged) -> None:
    process = Process(clock, 10_000)
    for used in (7_900, 8_000, 8_100, 7_500, 8_000, 6_900, 8_000):
        process.open = used
        process.guard.check()
    assert logged.events == ["descriptors.high"] * 2
    assert process.calls == []


def test_guard_runs_until_the_wait_is_ended(process: Process) -> None:
    waits: list[float] = []

    def wait(seconds: float) -> bool:
        waits.append(seconds)
        return len(waits) == 3

    process.guard.run(wait)
    assert len(waits) == 3
    assert process.guard.open == 40
