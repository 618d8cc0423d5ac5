"""Consumers that join together: a storm of subscriptions, a worker that was killed, and one who does not stop.

Consumers are plain SUB sockets without our library, all in one process of their own.
"""

from __future__ import annotations

import ctypes
import multiprocessing
import os
import signal
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Final, Self

import psutil
import zmq

from bench.system import BenchSystem
from ipc.descriptors import raise_limit
from ipc.feed import Feed
from ipc.rundir import RunDir
from ipc.topics import topic_of

_VENUE: Final = "lighter"
_CHANNELS: Final = ("book", "bbo", "trade", "mark", "funding")
_LIMIT_S: Final = 60.0
_PR_SET_PDEATHSIG: Final = 1
_IS_SNAPSHOT: Final = b'"kind":"book_snapshot"'
#: The kind is the first key of an event.
_HEAD: Final = 64


@dataclass(frozen=True)
class Joined:
    """Times after which a consumer had its first and its last book, s."""

    first_s: float
    last_s: float


@dataclass(frozen=True)
class Joins:
    """Durations of every run, s.

    ``storm_first_s``: first book of the last consumer; ``storm_all_s``: all books of all consumers. ``killed_s``:
    SIGKILL of a worker to a usable book in each of ten consumers. ``churn_s``: first book of a consumer beside another
    that has subscribed and unsubscribed.
    """

    consumers: int
    topics: int
    pairs: int
    storm_first_s: list[float]
    storm_all_s: list[float]
    killed_s: list[float]
    churn_s: list[float]


class Crowd:
    """Context manager of consumers that subscribe when :meth:`join` is called, in a process of their own."""

    def __init__(self, endpoint: str, consumers: int, topics: Sequence[str]) -> None:
        context = multiprocessing.get_context("fork")
        self._ours, theirs = context.Pipe()
        arguments = (theirs, endpoint, consumers, [topic.encode() for topic in topics], os.getpid())
        self._process = context.Process(target=_consume, args=arguments, daemon=True)

    def __enter__(self) -> Self:
        self._process.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.join()
        self._ours.close()

    def join(self) -> list[Joined]:
        """Let all of them join; return the times of those that had every book in time."""
        self._ours.send(None)
        joined: list[Joined] = self._ours.recv()
        return joined


def _consume(pipe: Any, endpoint: str, consumers: int, topics: list[bytes], parent: int) -> None:
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
    context.set(zmq.MAX_SOCKETS, max(1024, 2 * consumers))
    raise_limit()
    sockets = [_prepared(context) for _ in range(consumers)]
    pipe.recv()
    start = time.monotonic()
    for one in sockets:
        for topic in topics:
            one.subscribe(topic)
        one.connect(endpoint)
    pipe.send(_read(sockets, {topic for topic in topics if topic.startswith(b"book.")}, start))
    while os.getppid() == parent:
        signal.sigtimedwait([], 1.0)


def _prepared(context: zmq.Context[zmq.Socket[bytes]]) -> zmq.Socket[bytes]:
    one = context.socket(zmq.SUB)
    for option, value in ((zmq.LINGER, 0), (zmq.RCVHWM, 0), (zmq.SNDHWM, 0), (zmq.RECONNECT_IVL, 10)):
        one.setsockopt(option, value)
    return one


def _read(sockets: list[zmq.Socket[bytes]], books: set[bytes], start: float) -> list[Joined]:
    """Read until every consumer has a snapshot of each book."""
    poller = zmq.Poller()
    missing = {one: set(books) for one in sockets}
    first: dict[zmq.Socket[bytes], float] = {}
    joined = []
    for one in sockets:
        poller.register(one, zmq.POLLIN)
    while missing and time.monotonic() - start < _LIMIT_S:
        for one, _ in poller.poll(100):
            wanted = missing.get(one)
            with suppress(zmq.Again):
                while True:
                    topic, payload = one.recv_multipart(zmq.DONTWAIT)
                    if wanted is None or topic not in wanted or _IS_SNAPSHOT not in payload[:_HEAD]:
                        continue
                    wanted.discard(topic)
                    now = time.monotonic() - start
                    first.setdefault(one, now)
                    if not wanted:
                        wanted = missing.pop(one) and None
                        joined.append(Joined(first[one], now))
    return joined


def measure(consumers: int, markets: int, pairs: int, runs: int, report: Callable[[str], None] = print) -> Joins:
    """Measure each ``runs`` times on one worker of ``markets`` markets, each with five topics."""
    found = Joins(consumers, markets * len(_CHANNELS), pairs, [], [], [], [])
    bases = ["BTC"] + [f"X{number:03d}" for number in range(1, markets)]
    config = f'[supervisor]\nvenues = ["{_VENUE}"]\nmarkets = {bases}\n'.replace("'", '"')
    with BenchSystem(config, "--sim") as system:
        system.wait_live(2 * _LIMIT_S)
        endpoint = system.run_dir.feed(_VENUE)
        topics = [topic_of(channel, _VENUE, f"{base}-PERP") for channel in _CHANNELS for base in bases]
        for _ in range(runs):
            joined = storm(endpoint, consumers, topics)
            found.storm_first_s.append(max(one.first_s for one in joined))
            found.storm_all_s.append(max(one.last_s for one in joined))
            found.churn_s.append(join_after_churn(endpoint, topics, pairs))
    for _ in range(runs):  # each in a new system: a second kill would add a backoff
        with BenchSystem(f'[supervisor]\nvenues = ["{_VENUE}"]\n', "--sim") as system:
            system.wait_live()
            found.killed_s.append(killed(system.run_dir, system.process(_VENUE)))
    for name in ("storm_first_s", "storm_all_s", "killed_s", "churn_s"):
        report(f"joins   {name:<14} {', '.join(f'{value:.2f}' for value in getattr(found, name))}")
    return found


def storm(endpoint: str, consumers: int, topics: Sequence[str]) -> list[Joined]:
    """Let consumers join together; raise RuntimeError if one did not receive all books."""
    with Crowd(endpoint, consumers, topics) as crowd:
        joined = crowd.join()
    if len(joined) < consumers:
        raise RuntimeError(f"{consumers - len(joined)} of {consumers} consumers lack books")
    return joined


def join_after_churn(endpoint: str, topics: Sequence[str], pairs: int) -> float:
    """Subscribe and unsubscribe ``pairs`` times, as fast as possible; return how long the next consumer waits, s."""
    context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
    restless = _prepared(context)
    restless.connect(endpoint)
    for number in range(pairs):
        topic = topics[number % len(topics)]
        restless.subscribe(topic.encode())
        restless.unsubscribe(topic.encode())
    try:
        return max(one.first_s for one in storm(endpoint, 1, topics))
    finally:
        restless.close()
        context.term()


def killed(run_dir: RunDir, worker: psutil.Process, consumers: int = 10, symbol: str = "BTC-PERP") -> float:
    """Kill a worker; return the time until each of some consumers can use its book again, s."""
    feeds = [Feed(run_dir.path, venues=[_VENUE], channels=["book"]) for _ in range(consumers)]
    try:
        _wait_usable(feeds, symbol)
        start = time.monotonic()
        worker.kill()
        while any(one.book(_VENUE, symbol).usable for one in feeds):
            _read_all(feeds)
        _wait_usable(feeds, symbol)
        return time.monotonic() - start
    finally:
        for one in feeds:
            one.close()


def _wait_usable(feeds: Sequence[Feed], symbol: str) -> None:
    until = time.monotonic() + _LIMIT_S
    while not all(one.book(_VENUE, symbol).usable for one in feeds):
        if time.monotonic() > until:
            raise RuntimeError("no usable book")
        _read_all(feeds)


def _read_all(feeds: Sequence[Feed]) -> None:
    for one in feeds:
        while one.poll() is not None:
            pass
    time.sleep(0.001)
