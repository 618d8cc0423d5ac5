"""Consumers that join a real worker: together, in a loop, with too long messages, and more than it has descriptors for.

The figures that are aimed at are a third of these limits.
"""

from __future__ import annotations

import contextlib
import json
import resource
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
import zmq
from systems import System, wait_for
from zmtp import long_subscription, zmtp_subscriber

from bench.joins import Crowd, join_after_churn, killed, storm
from ipc.topics import topic_of

pytestmark = pytest.mark.integration

VENUE = "lighter"
BASES = ("BTC", *(f"X{number:02d}" for number in range(1, 40)))
CHANNELS = ("book", "bbo", "trade", "mark", "funding")
TOPICS = [topic_of(channel, VENUE, f"{base}-PERP") for channel in CHANNELS for base in BASES]
#: What the crowds of these tests need in this process's children.
NEEDED = 5_000
LOW = 1_024
MIB = 1 << 20


@contextlib.contextmanager
def soft_limit(soft: int) -> Iterator[None]:
    """Give the processes that are started meanwhile another soft limit of descriptors."""
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)


@pytest.fixture(scope="module")
def system():
    """One worker of forty markets, whose soft limit was 1,024 when it was started."""
    config = f'[supervisor]\nvenues = ["{VENUE}"]\nmarkets = {json.dumps(BASES)}\n'
    running = System("--sim-rate", "200", config=config)
    with soft_limit(LOW):
        running.start()
    with contextlib.ExitStack() as stack:
        stack.push(running.__exit__)
        running.wait_live([VENUE])
        yield running


@pytest.fixture
def endpoint(system: System) -> str:
    return system.run_dir.feed(VENUE)


def worker(system: System) -> psutil.Process:
    return psutil.Process(system.pid(VENUE))


def descriptors(system: System) -> dict[str, Any]:
    return system.venue(VENUE)["descriptors"]


def test_crowd_has_its_first_books_within_seconds(endpoint: str) -> None:
    joined = storm(endpoint, 60, TOPICS)
    assert max(one.first_s for one in joined) <= 6


def test_consumer_that_subscribes_in_a_loop_does_not_keep_the_next_waiting(endpoint: str) -> None:
    alone = max(one.first_s for one in storm(endpoint, 1, TOPICS))
    assert join_after_churn(endpoint, TOPICS, 15_000) - alone <= 3


def test_too_long_subscription_costs_neither_memory_nor_others_their_events(system: System, endpoint: str) -> None:
    path = Path(endpoint.removeprefix("ipc://"))
    with zmq.Context() as context, context.socket(zmq.SUB) as healthy:
        healthy.subscribe("book.")
        healthy.connect(endpoint)
        assert healthy.poll(10_000)
        for _ in range(8):
            with zmtp_subscriber(path) as flood, contextlib.suppress(OSError):
                flood.sendall(long_subscription(30 * MIB))
            assert worker(system).memory_info().rss < 100 * MIB
            while healthy.poll(0):
                healthy.recv_multipart()
            assert healthy.poll(1_500), "the feed paused"


def test_ten_consumers_have_usable_books_soon_after_a_kill(system: System) -> None:
    assert killed(system.run_dir, worker(system)) <= 3.9
    system.wait_live([VENUE])


@pytest.mark.skipif(resource.getrlimit(resource.RLIMIT_NOFILE)[1] < NEEDED, reason="the hard limit is too low")
def test_soft_limit_does_not_limit_consumers(system: System, endpoint: str) -> None:
    pid = system.pid(VENUE)
    with Crowd(endpoint, 2_000, ["book.lighter.BTC-PERP"]) as crowd:
        assert len(crowd.join()) == 2_000
        wait_for(lambda: descriptors(system)["open"] > 2_000, what="2,000 consumers")
        found = descriptors(system)
    assert not found["refusing"]
    assert found["limit"] >= NEEDED
    assert system.pid(VENUE) == pid


@pytest.mark.skipif(resource.getrlimit(resource.RLIMIT_NOFILE)[1] < NEEDED, reason="the hard limit is too low")
def test_worker_refuses_consumers_before_its_descriptors_run_out(system: System, endpoint: str) -> None:
    """Bare connects, as fast as possible; the worker is replaced afterwards, by one with the limit of before."""
    process = worker(system)
    resource.prlimit(process.pid, resource.RLIMIT_NOFILE, (LOW, LOW))
    wait_for(lambda: descriptors(system)["limit"] == LOW, what="the worker knows its limit")
    path = endpoint.removeprefix("ipc://")
    with zmq.Context() as context, context.socket(zmq.SUB) as early, contextlib.ExitStack() as stack:
        early.subscribe("book.")
        early.connect(endpoint)
        assert early.poll(10_000)
        refused = 0
        deadline = time.monotonic() + 10
        while refused < 200 and time.monotonic() < deadline:
            one = stack.enter_context(socket.socket(socket.AF_UNIX))
            one.settimeout(1)
            if one.connect_ex(path) != 0:
                one.close()
                refused += 1
                time.sleep(0.001)
        wait_for(lambda: (descriptors(system) or {}).get("refusing"), what="status shows it")
        assert descriptors(system)["open"] < LOW
        while early.poll(0):
            early.recv_multipart()
        assert early.poll(10_000), "who was connected goes on"
        assert refused == 200
    wait_for(lambda: not descriptors(system)["refusing"], what="there is room again")
    assert len(storm(endpoint, 1, ["book.lighter.BTC-PERP"])) == 1
    assert system.pid(VENUE) == process.pid
    process.kill()
    process.wait()
    system.wait_live([VENUE])
