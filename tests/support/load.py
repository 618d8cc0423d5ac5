"""Busy processes, and what must hold on a machine that has no time."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

from systems import VENUES, Listener, System, wait_for

from ipc.events import Gap

__all__ = ["assert_nobody_suffers", "saturated"]

#: Works until its time is over or its parent is gone, so that none is left behind in any case.
_BUSY = """
import os, sys, time
parent, deadline = os.getppid(), time.monotonic() + float(sys.argv[1])
while time.monotonic() < deadline and os.getppid() == parent:
    sum(range(100_000))
"""


@contextmanager
def saturated(for_s: float, a_core: int = 2) -> Iterator[None]:
    """Keep every core busy with ``a_core`` processes, for ``for_s`` seconds at most."""
    count = a_core * (os.cpu_count() or 1)
    busy = [subprocess.Popen([sys.executable, "-c", _BUSY, str(for_s)]) for _ in range(count)]
    try:
        yield
    finally:
        for process in busy:
            process.kill()
            process.wait()


def assert_nobody_suffers(busy_s: float) -> None:
    """While every core is busy no worker is restarted, no session ends and no consumer holds a wrong book."""
    with System() as system:
        system.wait_live()
        with Listener(system, channels=["book"]) as listener, saturated(busy_s + 60):
            wait_for(lambda: all(listener.of(None, venue) for venue in VENUES))
            pids = {venue: system.pid(venue) for venue in VENUES}
            time.sleep(busy_s)
            assert {venue: system.pid(venue) for venue in VENUES} == pids
            for ending in ("worker.exited", "ws.closed", "ws.cut"):
                assert not system.log(ending)
            # A simulator that had no time for two seconds was silent indeed; such books are asked for in their session.
            assert not [gap for gap in listener.of(Gap) if gap.scope == "session"]
            assert not listener.wrong
            for venue in VENUES:
                assert all(session["reconnects"] == 0 for session in system.venue(venue)["sessions"].values())
