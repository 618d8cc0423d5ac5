"""Subscribers of a feed in their own process that receive everything and discard it."""

from __future__ import annotations

import ctypes
import multiprocessing
import os
import signal
from typing import Self

import zmq

_PR_SET_PDEATHSIG = 1


class Subscribers:
    """Context manager of ``count`` subscribers of the feed at ``endpoint``."""

    def __init__(self, endpoint: str, count: int) -> None:
        context = multiprocessing.get_context("fork")
        self._process = context.Process(target=_receive, args=(endpoint, count, os.getpid()), daemon=True)

    def __enter__(self) -> Self:
        self._process.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.join()


def _receive(endpoint: str, count: int, parent: int) -> None:
    """Subscribe without reading: ZeroMQ's own thread queues everything without limit."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
    sockets = []
    for _ in range(count):
        socket = context.socket(zmq.SUB)
        socket.setsockopt(zmq.RCVHWM, 0)
        socket.setsockopt(zmq.RECONNECT_IVL, 10)
        socket.subscribe(b"")
        socket.connect(endpoint)
        sockets.append(socket)
    while os.getppid() == parent:
        signal.sigtimedwait([], 1.0)
