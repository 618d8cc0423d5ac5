"""A consumer of fifty markets on each of five venues holds what it holds, and not more from minute to minute."""

from __future__ import annotations

import os
import subprocess
import sys
import time

import psutil
import pytest
from systems import VENUES, System

pytestmark = pytest.mark.soak

DURATION_S = min(600.0, float(os.environ.get("PARAPHINA_SOAK_S", "3600")))
MARKETS = 50
_MIB = 2**20
#: Holds every book; its parent reads how many of them are usable, and takes its measure from outside.
CONSUMER = """
import sys, time
from ipc.feed import Feed
with Feed(sys.argv[1], channels=("book",)) as feed:
    due = time.monotonic() + 1
    while True:
        feed.poll(0.1)
        if time.monotonic() > due:
            due = time.monotonic() + 1
            print(sum(book.usable for book in feed.books()), flush=True)
"""


def test_a_consumers_memory_is_flat(capsys: pytest.CaptureFixture[str]) -> None:
    names = ["BTC", "ETH", *(f"X{number:02d}" for number in range(MARKETS - 2))]
    config = f"[supervisor]\nmarkets = {names!r}\n".replace("'", '"')
    with System(config=config) as system:
        system.wait_live(timeout_s=180)
        command = [sys.executable, "-c", CONSUMER, str(system.run_dir.path)]
        consumer = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        try:
            assert consumer.stdout is not None
            most = 0
            deadline = time.monotonic() + 120
            while most < 0.98 * MARKETS * len(VENUES) and time.monotonic() < deadline:
                most = int(consumer.stdout.readline())
            process = psutil.Process(consumer.pid)
            rss: list[float] = []
            ends_at = time.monotonic() + DURATION_S
            while time.monotonic() < ends_at:
                assert consumer.stdout.readline()
                rss.append(process.memory_info().rss / _MIB)
        finally:
            consumer.kill()
            consumer.wait()
            consumer.stdout.close()
        restarts = sum(system.venue(venue)["restarts"] for venue in VENUES)
    tenth = max(1, len(rss) // 10)
    first, last = max(rss[tenth : 2 * tenth]), max(rss[-tenth:])
    with capsys.disabled():
        sys.stdout.write(
            f"\n{most} books: {rss[0]:.1f} MiB at first, {first:.1f} after a tenth, {last:.1f} at the end\n"
        )
    assert most >= 0.98 * MARKETS * len(VENUES)
    assert restarts == 0
    assert last - first <= 1.0
