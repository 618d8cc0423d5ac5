from __future__ import annotations

import time

import pytest

from ipc.clocks import Suspension, boottime_ns

SECOND = 1_000_000_000


class Machine:
    """Two clocks that part while the machine is suspended."""

    def __init__(self) -> None:
        self.mono_ns = 100 * SECOND
        self.slept_ns = 7 * SECOND

    def mono(self) -> int:
        return self.mono_ns

    def boot(self) -> int:
        return self.mono_ns + self.slept_ns


@pytest.fixture
def machine() -> Machine:
    return Machine()


@pytest.fixture
def suspension(machine: Machine) -> Suspension:
    return Suspension(machine.mono, machine.boot)


def test_suspension_is_noticed_once(machine: Machine, suspension: Suspension) -> None:
    assert not suspension.is_over(machine.mono())
    machine.slept_ns += SECOND
    assert suspension.is_over(machine.mono())
    machine.mono_ns += SECOND
    assert not suspension.is_over(machine.mono())


def test_time_that_passes_is_no_suspension(machine: Machine, suspension: Suspension) -> None:
    machine.mono_ns += 3600 * SECOND
    assert not suspension.is_over(machine.mono())


def test_interruption_between_the_readings_hides_no_suspension(machine: Machine, suspension: Suspension) -> None:
    read_ns = machine.mono()
    machine.mono_ns += SECOND
    assert suspension.is_over(read_ns), "it looks like one"
    assert not suspension.is_over(machine.mono())
    machine.slept_ns += SECOND
    assert suspension.is_over(machine.mono())


def test_clocks_of_this_machine_agree() -> None:
    assert boottime_ns() >= time.monotonic_ns() - SECOND
    assert not Suspension(time.monotonic_ns).is_over(time.monotonic_ns())


def test_clock_of_its_own_is_compared_with_itself(machine: Machine) -> None:
    suspension = Suspension(machine.mono)
    machine.slept_ns += SECOND
    assert not suspension.is_over(machine.mono())
