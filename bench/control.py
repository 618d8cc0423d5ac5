"""Baseline of the machine: delay of a message between two idle processes over ZeroMQ during a measurement.

Latencies on a busy machine consist mostly of waiting for a core. The two processes here wait in the same way but only
pass a time stamp every millisecond, so their percentiles are the reference for a measured latency.
"""

from __future__ import annotations

import multiprocessing
import os
import time
from multiprocessing.connection import Connection
from typing import Self

import zmq

from bench.verdict import percentile

_PERIOD_S = 0.001
_MS = 1_000_000


class Control:
    """Context manager of the two processes. :attr:`late` is set at its end: p50, p99 and p99.9 in ms.

    Args:
        endpoint: ZeroMQ endpoint of the two.
    """

    def __init__(self, endpoint: str) -> None:
        context = multiprocessing.get_context("fork")
        self.late: tuple[float, float, float] = (0.0, 0.0, 0.0)
        self._found, other = context.Pipe()
        self._processes = [
            context.Process(target=_send, args=(endpoint, os.getpid()), daemon=True),
            context.Process(target=_receive, args=(endpoint, other, os.getpid()), daemon=True),
        ]

    def __enter__(self) -> Self:
        for process in self._processes:
            process.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._found.send("enough")
        if self._found.poll(5.0):
            self.late = self._found.recv()
        for process in self._processes:
            process.kill()
            process.join()


def _send(endpoint: str, parent: int) -> None:
    socket = zmq.Context().socket(zmq.PUB)
    socket.bind(endpoint)
    while os.getppid() == parent:
        time.sleep(_PERIOD_S)
        socket.send(time.monotonic_ns().to_bytes(8, "little"))


def _receive(endpoint: str, asked: Connection, parent: int) -> None:
    socket = zmq.Context().socket(zmq.SUB)
    socket.subscribe(b"")
    socket.connect(endpoint)
    late_ms: list[float] = []
    while os.getppid() == parent and not asked.poll():
        if socket.poll(100):
            sent_ns = int.from_bytes(socket.recv(), "little")
            late_ms.append((time.monotonic_ns() - sent_ns) / _MS)
    asked.send(tuple(percentile(late_ms or [0.0], part) for part in (0.5, 0.99, 0.999)))
    asked.recv()
