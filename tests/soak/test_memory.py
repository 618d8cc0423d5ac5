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
#: Of all books, but for one in fifty that has just been lost.
ENOUGH = 0.98 * MARKETS * len(VENUES)
TENTHS = 10
_MIB = 2**20
#: Holds every book; tells how many of them are usable, and how many objects Python holds.
CONSUMER = """
import sys, time
from ipc.feed import Feed
with Feed(sys.argv[1], channels=("book",)) as feed:
    due = time.monotonic() + 1
    while True:
        feed.poll(0.1)
        if time.monotonic() > due:
            due = time.monotonic() + 1
            print(sum(book.usable for book in feed.books()), sys.getallocatedblocks(), flush=True)
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
            process = psutil.Process(consumer.pid)
            most = 0
            rss: list[float] = []
            blocks: list[int] = []
            ends_at = time.monotonic() + 120
            while time.monotonic() < ends_at:
                usable, held = map(int, consumer.stdout.readline().split())
                if usable >= ENOUGH and most < ENOUGH:
                    ends_at = time.monotonic() + DURATION_S
                most = max(most, usable)
                if most >= ENOUGH:
                    rss.append(process.memory_info().rss / _MIB)
                    blocks.append(held)
        finally:
            consumer.kill()
            consumer.wait()
            consumer.stdout.close()
        restarts = sum(system.venue(venue)["restarts"] for venue in VENUES)
    assert most >= ENOUGH
    size = len(rss) // TENTHS
    tenths = [(max(rss[size * n : size * (n + 1)]), max(blocks[size * n : size * (n + 1)])) for n in range(TENTHS)]
    with capsys.disabled():
        for mib, count in tenths:
            sys.stdout.write(f"\n{most} books: {mib:.1f} MiB, {count} objects")
    assert restarts == 0
    # Texts of levels come and go among short-lived ones, so pages fill with them for a while; objects do not.
    assert tenths[-1][1] <= 1.1 * tenths[1][1]
    assert tenths[-1][0] - tenths[TENTHS // 2][0] <= 4.0
