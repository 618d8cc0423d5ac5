"""Gateway: supervised child that publishes the lifecycle events of the system's processes, and serves its pages.

It follows the parent on the control socket. Feeds, restarts and control requests do not depend on it; after a restart
it receives the events that it missed. With feeds on TCP it also publishes their directory: the ports of all workers.
Pages are served by threads of their own, for which publishing never waits.
"""

from __future__ import annotations

import os
import threading
import time
from functools import partial
from pathlib import Path
from typing import Any, Final, Protocol

import zmq

from ipc.board import TCP_LISTENING, TCP_WAITING, Row, WorkerWord
from ipc.consumers import write_consumers
from ipc.control import ControlClient, ControlRequest
from ipc.descriptors import DescriptorGuard
from ipc.errors import NotRunningError, ParaphinaError
from ipc.events import ProcessPorts
from ipc.feed_state import LIFECYCLE
from ipc.listener import FeedListener
from ipc.log import get_log
from ipc.publisher import Publisher
from ipc.remote import Network
from ipc.rundir import RunDir
from ipc.sequence import Epochs
from ipc.systems import DIRECTORY, directory_event, tcp_ports
from ipc.topics import Topic
from ipc.watched_files import CHECK_NS, WatchedFiles
from supervisor.child import Handover
from supervisor.followed import decode_lifecycle
from supervisor.logfile import rotate

log = get_log(__name__)

_TICK_S: Final = 0.2
#: Wait for subscribers of the generation before to connect again.
_SUBSCRIBE_S: Final = 0.15
_HOUSEKEEPING_NS: Final = 5_000_000_000


class Server(Protocol):
    """HTTP server in threads of its own."""

    @property
    def is_listening(self) -> bool:
        """True while it accepts connections."""

    def start(self) -> None:
        """Start its threads."""

    def close(self) -> None:
        """Stop serving."""


class Gateway:
    """Publisher of lifecycle events; runs in its own process.

    Args:
        run_dir: Run directory of the system.
        row: The gateway's words on the board.
        before: State of the generation before.
        stop: Ends :meth:`run` when set.
        network: TCP address of its feed; None for the socket in the run directory alone.
        log_file: Log file to rotate; None when the system does not own it.
        server: HTTP server; None for none.
    """

    def __init__(
        self,
        run_dir: RunDir,
        row: Row,
        before: Handover,
        stop: threading.Event,
        network: Network | None = None,
        log_file: Path | None = None,
        server: Server | None = None,
    ) -> None:
        self._run_dir = run_dir
        self._row = row
        self._stop = stop
        self._log_file = log_file
        self._server = server
        self._next_housekeeping_ns = 0
        self._parent = os.getppid()
        self._context: zmq.Context[Any] = zmq.Context()
        row[WorkerWord.EPOCH] = epoch = Epochs.following(before.epoch)
        self._publisher = Publisher(self._context, run_dir.feed(LIFECYCLE), epoch)
        self._listener = None if network is None else FeedListener(self._context, network)
        if self._listener is not None:
            self._publisher.listen(self._listener, LIFECYCLE)
        self._files = WatchedFiles(run_dir.path)
        self._files.add(run_dir.feed_path(LIFECYCLE), self._publisher.relisten, lambda: self._publisher.is_intact)
        self._next_check_ns = 0
        #: Ports of all workers, as they were published last.
        self._ports: dict[str, ProcessPorts] = {}
        self._descriptors = DescriptorGuard("gateway", (self._publisher.listening,))
        self._control = ControlClient(run_dir.control, _TICK_S)
        row[WorkerWord.PUBLISHED] = before.published

    def run(self) -> None:
        """Follow and publish until stopped, or until the parent is gone."""
        log.info("gateway.started", pid=os.getpid())
        guard = partial(self._descriptors.run, self._stop.wait)
        threading.Thread(target=guard, name="descriptors", daemon=True).start()
        if self._server is not None:
            self._server.start()
        self._wait_for_subscribers()
        self._control.send(ControlRequest("follow", after=self._row[WorkerWord.PUBLISHED]))
        while not self._stop.is_set() and os.getppid() == self._parent:
            self._beat()
            now = time.monotonic_ns()
            self._rotate_log(now)
            self._check_files(now)
            try:
                packet = self._control.receive()
            except TimeoutError:
                packet = None
            except NotRunningError:
                break
            if packet is not None:
                self._publish(packet)
            else:
                self._publisher.serve(_TICK_S if self._publisher.is_behind else 0.0, self._stop.wait)
        if self._server is not None:
            self._server.close()
        self._publisher.close()

    def _beat(self) -> None:
        row, now = self._row, time.monotonic_ns()
        row[WorkerWord.BEAT] = now
        row[WorkerWord.FIRST_FRESH] = row[WorkerWord.FIRST_FRESH] or now
        row[WorkerWord.LAST_FRESH] = now
        row.add(WorkerWord.MAIN_LOOPS)
        if self._listener is not None:
            self._listener.serve(now, row)
        if self._server is not None:
            row[WorkerWord.HTTP] = TCP_LISTENING if self._server.is_listening else TCP_WAITING
        write_consumers(row, self._publisher, self._descriptors)

    def _rotate_log(self, now: int) -> None:
        if now >= self._next_housekeeping_ns:
            self._next_housekeeping_ns = now + _HOUSEKEEPING_NS
            if self._log_file is not None:
                rotate(self._log_file, progress=self._beat)

    def _check_files(self, now: int) -> None:
        if now >= self._next_check_ns:
            self._next_check_ns = now + CHECK_NS
            self._files.check()
            self._publish_directory(now)

    def _publish_directory(self, now: int) -> None:
        """Publish the ports of all workers when they change; late subscribers receive them as the last event."""
        if self._listener is None:
            return
        try:
            ports = tcp_ports(self._run_dir.describe())
        except ParaphinaError as error:
            log.debug("gateway.not_described", error=str(error))
            return
        if ports == self._ports:
            return
        self._ports = ports
        feed = self._publisher.topic(Topic(LIFECYCLE, DIRECTORY, ""))
        with self._publisher.exclusive():
            self._publisher.send_latest(feed, LIFECYCLE, directory_event(ports, time.time_ns(), now))

    def _wait_for_subscribers(self) -> None:
        """Accept the subscribers of the generation before, so that they receive the events that they missed."""
        deadline = time.monotonic() + _SUBSCRIBE_S
        while time.monotonic() < deadline and not self._stop.wait(0.01):
            self._beat()
            with self._publisher.exclusive():
                pass

    def _publish(self, packet: bytes) -> None:
        try:
            message = decode_lifecycle(packet)
        except (ValueError, RecursionError) as error:
            log.error("gateway.not_understood", error=str(error))
            return
        lost = message.number - self._row[WorkerWord.PUBLISHED] - 1
        if lost > 0:  # away for longer than the parent keeps events, or not decoded
            log.warning("gateway.events_lost", lost=lost)
        feed = self._publisher.topic(Topic(LIFECYCLE, message.process, ""))
        with self._publisher.exclusive():
            self._publisher.send_latest(feed, LIFECYCLE, message.as_event())
        self._row[WorkerWord.PUBLISHED] = message.number
