"""HTTP side of a gateway: what its server shows of the system, put together."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

from prometheus_client import CollectorRegistry

from ipc.board import Board
from ipc.lines import venue_of
from ipc.rundir import RunDir
from supervisor.config import GatewayConfig
from supervisor.http_address import HttpAddress
from supervisor.serving import health, histograms
from supervisor.serving.app import Application
from supervisor.serving.metrics import Reading, StatusCollector
from supervisor.serving.observer import Observer
from supervisor.serving.server import HttpServer
from supervisor.status.document import read_status


class GatewayPages:
    """Pages of a system; methods may be called by any thread.

    Args:
        run_dir: Run directory of the system.
        board: Board of the process, which stays the right one when the file in the run directory is lost.
        slots: Board slots of the venues' workers.
        observer: Overview, prices and books.
        per_market: Whether the metrics have series by market.
    """

    def __init__(
        self, run_dir: RunDir, board: Board, slots: Sequence[int], observer: Observer, *, per_market: bool
    ) -> None:
        self._run_dir = run_dir
        self._header = board.header
        self._workers = [board.worker(slot) for slot in slots]
        self._observer = observer
        self._per_market = per_market
        self.metrics = CollectorRegistry()
        self.metrics.register(StatusCollector(self._read, per_market=per_market))

    def status(self) -> dict[str, Any]:
        """Return the object that ``status --json`` prints; raise UnknownStateError when it cannot be read."""
        return read_status(self._run_dir)

    def state_json(self, book: str | None) -> bytes:
        """Return the overview as JSON, with a book if one is wanted; raise UnknownStateError when it cannot be read."""
        return self._observer.state_json(book)

    def live(self) -> bool:
        """Return whether the parent checks its processes."""
        return health.is_alive(self._header, time.monotonic_ns())

    def ready(self) -> bool:
        """Return whether every venue was live once, or had enough time to be."""
        return health.is_ready(self._header, self._workers, time.monotonic_ns())

    def _read(self) -> Reading:
        seen = self._observer.observe(with_prices=self._per_market)
        processes = self._run_dir.describe()["processes"]
        board = Board.attach(self._run_dir.board)  # the file may be another one than at the last scrape
        slots = {name: of["slot"] for name, of in processes.items() if venue_of(name) in seen.status["venues"]}
        read = {name: histograms.read(board, slot) for name, slot in slots.items()}
        return Reading(seen.status, read, seen.funding, seen.spreads, seen.wall_s)


class Serving:
    """HTTP server of a gateway with everything that it needs.

    Args:
        config: Settings.
        address: Where it listens.
        run_dir: Run directory of the system.
        board: Board of the process.
        slots: Board slots of the venues' workers.
    """

    def __init__(
        self, config: GatewayConfig, address: HttpAddress, run_dir: RunDir, board: Board, slots: Sequence[int]
    ) -> None:
        self._observer = Observer(run_dir)
        pages = GatewayPages(run_dir, board, slots, self._observer, per_market=config.per_market)
        self._server = HttpServer(Application(pages, config.hosts), address)

    @property
    def is_listening(self) -> bool:
        """True while the server accepts connections."""
        return self._server.is_listening

    def start(self) -> None:
        """Start the threads."""
        self._observer.start()
        self._server.start()

    def close(self) -> None:
        """End the threads with the process, and remove a Unix socket."""
        self._server.close()
        self._observer.close()
