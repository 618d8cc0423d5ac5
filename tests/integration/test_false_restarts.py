"""Nobody is restarted for want of time: not on a machine that is busy, and not after everybody was asleep."""

from __future__ import annotations

import os
import signal
import time

import psutil
import pytest
from load import assert_nobody_suffers
from systems import VENUES, Listener, System, wait_for

pytestmark = pytest.mark.integration

BUSY_S = 30.0


def test_a_saturated_machine_costs_no_worker_and_no_session() -> None:
    assert_nobody_suffers(BUSY_S)


def test_a_parent_that_slept_kills_nobody_when_it_wakes_up() -> None:
    with System(config="[supervisor]\ntick_ms = 100\n") as system:
        system.wait_live()
        pids = {venue: system.pid(venue) for venue in VENUES}
        assert system.process is not None
        os.kill(system.process.pid, signal.SIGSTOP)
        time.sleep(15)
        os.kill(system.process.pid, signal.SIGCONT)
        wait_for(lambda: system.status()["supervisor"]["self_stalls"], what="it knows that it slept")
        time.sleep(3)  # of ticks on which it could be wrong
        assert {venue: system.pid(venue) for venue in VENUES} == pids
        assert not system.log("worker.exited")
        assert not system.log("ws.closed"), "the workers went on without it"
        assert system.status()["supervisor"]["loop_gap_max_ms"] > 14_000
        assert [record["gap_ms"] > 14_000 for record in system.log("supervisor.stalled")] == [True]


def test_a_frozen_system_thaws_with_reconnects_at_most() -> None:
    config = "[supervisor]\ntick_ms = 100\n" + "".join(f"[venues.{venue}]\nstale_ms = 3000\n" for venue in VENUES)
    with System(config=config) as system, Listener(system, channels=["book"]) as listener:
        system.wait_live()
        assert system.process is not None
        parent, others = psutil.Process(system.process.pid), system.descendants()
        assert len(others) == 7
        for process in (parent, *others):
            process.suspend()
        time.sleep(8)
        parent.resume()
        time.sleep(0.5)  # it looks at workers that have not been seen for eight seconds, and are not to be seen yet
        for process in others:
            process.resume()
        thawed = time.monotonic()
        wait_for(lambda: system.status()["supervisor"]["self_stalls"], what="the parent knows that it slept")
        for venue in VENUES:
            wait_for(lambda v=venue: all(not listener.book(v, s)[0] for s in ("BTC-PERP", "ETH-PERP")), 30, what=venue)
            wait_for(lambda v=venue: listener.of(None, v, "BTC-PERP", thawed), what=f"{venue} flows")
        time.sleep(4)  # past the guard, so that what it held back would show
        assert not system.log("worker.exited")
        assert not listener.wrong
