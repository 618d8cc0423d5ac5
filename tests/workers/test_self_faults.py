"""What a worker does wrong for practice: every kind can be asked for, and memory is really taken."""

from __future__ import annotations

import os
import select
import subprocess
import sys
import time

import psutil

from ipc.health import SelfFault
from workers import self_faults
from workers.self_faults import SELF_FAULTS


def test_every_misdeed_can_be_done():
    assert set(SELF_FAULTS) == set(SelfFault)


def test_exit_looks_as_if_all_were_well(monkeypatch):
    codes = []
    monkeypatch.setattr(os, "_exit", codes.append)
    SELF_FAULTS[SelfFault.EXIT]()
    assert codes == [0]


def test_memory_is_taken_for_good(monkeypatch):
    monkeypatch.setattr(self_faults, "_hoard", [])
    before = psutil.Process().memory_info().rss
    SELF_FAULTS[SelfFault.MEMORY]()
    assert psutil.Process().memory_info().rss - before > 32 * 1024 * 1024


_HANGING = """
import threading, time
from ipc.health import SelfFault
from workers.self_faults import SELF_FAULTS

def beat():
    while True:
        print(".", end="", flush=True)
        time.sleep(0.001)

threading.Thread(target=beat, daemon=True).start()
time.sleep(0.05)
print("!", end="", flush=True)
SELF_FAULTS[SelfFault.HANG]()
"""


def test_hang_stops_every_thread_of_the_process():
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    with subprocess.Popen(
        [sys.executable, "-c", _HANGING], stdout=subprocess.PIPE, env=environment, bufsize=0
    ) as child:
        try:
            heard = b""
            while b"!" not in heard:
                heard += child.stdout.read(1)
            assert b"." in heard
            # Some beats may come before the lock is taken for good.
            give_up = time.monotonic() + 5
            while select.select([child.stdout], [], [], 0.3)[0]:
                child.stdout.read(1000)
                assert time.monotonic() < give_up
            assert child.poll() is None
        finally:
            child.kill()
