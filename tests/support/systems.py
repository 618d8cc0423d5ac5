"""A whole system under test: the real command line in a process of its own, its feeds, its simulator."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, Self

import psutil

from ipc.decimals import shortest
from ipc.events import Event
from ipc.feed import Feed
from ipc.rundir import RunDir
from ipc.topics import VENUES
from supervisor.bound import bound_command
from supervisor.status.document import read_status

MARKETS = [(venue, symbol) for venue in VENUES for symbol in ("BTC-PERP", "ETH-PERP")]


def wait_for(condition: Callable[[], Any], timeout_s: float = 30.0, every_s: float = 0.02, what: str = "") -> Any:
    """Wait until ``condition`` gives something true, and return it."""
    deadline = time.monotonic() + timeout_s
    while True:
        found = condition()
        if found:
            return found
        if time.monotonic() > deadline:
            raise AssertionError(f"not so within {timeout_s} s: {what or condition}")
        time.sleep(every_s)


def paraphina(*arguments: str, stdin: bytes = b"", **kwargs: Any) -> subprocess.CompletedProcess[bytes]:
    """Run a verb to its end."""
    command = [sys.executable, "-m", "supervisor", *arguments]
    return subprocess.run(command, input=stdin, capture_output=True, timeout=60, check=False, **kwargs)


class System:
    """``paraphina-supervisor start`` in a directory of its own; a context manager.

    Args:
        arguments: Behind ``start``; ``--sim`` unless ``sim`` is false.
        config: Text of a configuration file.
        env: Added to the environment.
    """

    def __init__(self, *arguments: str, config: str = "", env: dict[str, str] | None = None, sim: bool = True) -> None:
        self.path = Path(tempfile.mkdtemp(prefix="pp-", dir="/dev/shm"))
        self.run_dir = RunDir(self.path / "run")
        self.arguments = [*(["--sim"] if sim else []), *arguments]
        if config:
            (self.path / "config.toml").write_text(config)
            self.arguments += ["--config", str(self.path / "config.toml")]
        own = {"XDG_STATE_HOME": str(self.path / "state"), "PARAPHINA_GATEWAY_HTTP": "127.0.0.1:0"}
        self.env = {**os.environ, **own, **(env or {})}
        self.cwd: Path | None = None
        self.process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()
        shutil.rmtree(self.path, ignore_errors=True)

    def start(self) -> Self:
        """Start it; does not wait."""
        command = self.command()
        with (self.path / "out").open("ab") as out, (self.path / "log").open("ab") as log:
            self.process = subprocess.Popen(command, stdout=out, stderr=log, env=self.env, cwd=self.cwd)
        return self

    def command(self) -> list[str]:
        """The command line."""
        return bound_command(*self.verb())

    def verb(self) -> list[str]:
        """The verb with its arguments."""
        return ["start", "--run-dir", str(self.run_dir.path), *self.arguments]

    def stop(self) -> int:
        """End it, whatever state it is in; its exit code."""
        assert self.process is not None
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGCONT)
            self.process.terminate()
            try:
                self.process.wait(20)
            except subprocess.TimeoutExpired:
                self.process.kill()
        return self.process.wait()

    # --- what it says of itself -------------------------------------------------------------------------------------

    def status(self) -> dict[str, Any]:
        """``status --json``."""
        return json.loads(paraphina("status", "--json", "--run-dir", str(self.run_dir.path)).stdout)

    def venue(self, name: str) -> dict[str, Any]:
        """One venue's part of the status."""
        return read_status(self.run_dir)["venues"][name]

    def pid(self, name: str) -> int:
        """The pid of a worker, the gateway or the simulator; waits until it has one."""

        def find() -> int | None:
            state = read_status(self.run_dir)
            return {**state["venues"], "gateway": state["gateway"], "simulator": state["simulator"] or {}}[name]["pid"]

        return wait_for(find, what=f"pid of {name}")

    @property
    def url(self) -> str:
        """URL of its HTTP server; waits until that listens."""
        return wait_for(self._listening_at, what="HTTP listens")

    def _listening_at(self) -> str | None:
        gateway = read_status(self.run_dir)["gateway"]
        return gateway["http"] if gateway.get("http_listening") else None

    def wait_live(self, venues: Iterable[str] = VENUES, timeout_s: float = 60.0) -> None:
        """Wait until these venues are live."""

        def are_live() -> bool:
            state = read_status(self.run_dir)
            return bool(state["venues"]) and all(state["venues"][name]["state"] == "live" for name in venues)

        wait_for(are_live, timeout_s, what=f"{list(venues)} live; log: {self.path / 'log'}")

    def log(self, event: str | None = None, **fields: Any) -> list[dict[str, Any]]:
        """Log records, those of an event and with these fields."""
        records = []
        for line in (self.path / "log").read_text().splitlines():
            try:
                record = json.loads(line)
            except ValueError:
                continue  # a stack dump
            if event in {None, record.get("event")} and all(record.get(k) == v for k, v in fields.items()):
                records.append(record)
        return records

    def descendants(self) -> list[psutil.Process]:
        """Every process below the parent."""
        assert self.process is not None
        return psutil.Process(self.process.pid).children(recursive=True)

    def feed(self, **arguments: Any) -> Feed:
        """A consumer of this system."""
        return Feed(self.run_dir.path, **arguments)

    # --- its simulator ----------------------------------------------------------------------------------------------

    def admin(self, path: str, body: Any = None) -> Any:
        """A request to the simulator's admin API."""
        base = wait_for(lambda: self.run_dir.describe()["simulator"]["admin"])
        data = None if body is None else json.dumps(body).encode()
        with urllib.request.urlopen(urllib.request.Request(base + path, data=data), timeout=20) as answer:
            return json.load(answer)

    def fault(self, venue: str, name: str, **arguments: Any) -> None:
        """Inject a fault."""
        self.admin(f"/fault/{venue}", {"fault": name, **arguments})

    def mend(self) -> None:
        """End all faults, and let the markets move."""
        simulated = self.run_dir.describe()["simulator"]
        for venue in simulated["venues"] if simulated else ():
            self.fault(venue, "clear")
        if simulated:
            self.admin("/resume", {})

    def truth(self, venue: str, symbol: str) -> dict[str, Any]:
        """What the market really is."""
        return self.admin(f"/truth/{venue}/{symbol}")


class Listener:
    """A consumer in a thread: keeps every event of interest with the time at which it came.

    ``wrong`` collects books that were usable and crossed; there must never be one.
    """

    def __init__(self, system: System, **arguments: Any) -> None:
        self.events: list[tuple[float, Event]] = []
        self.wrong: list[str] = []
        self._feed = system.feed(**arguments)
        self._stop = threading.Event()
        self._lock = threading.Lock()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join(10)
        self._feed.close()

    @property
    def lost(self) -> int:
        """Messages that never came."""
        return self._feed.lost

    def _run(self) -> None:
        while not self._stop.is_set():
            with self._lock:
                event = self._feed.poll(0.0)
                if event is not None:
                    self.events.append((time.monotonic(), event))
                    self._check(event)
            if event is None:
                time.sleep(0.002)

    def _check(self, event: Event) -> None:
        if event.symbol is None or type(event).__name__ not in {"BookDelta", "BookSnapshot"}:
            return
        book = self._feed.book(event.venue, event.symbol)
        if book.usable and book.best_bid and book.best_ask and float(book.best_bid[0]) >= float(book.best_ask[0]):
            self.wrong.append(f"{event.venue} {event.symbol} crossed")

    def of(
        self, kind: type | None = None, venue: str | None = None, symbol: str | None = None, since: float = 0.0
    ) -> list[Any]:
        """Events so far, by kind, venue and symbol."""
        return [
            event
            for at, event in list(self.events)
            if (kind is None or isinstance(event, kind))
            and venue in {None, event.venue}
            and symbol in {None, event.symbol}
            and at >= since
        ]

    def book(self, venue: str, symbol: str) -> tuple[str | None, list[Any], list[Any]]:
        """Why a book is unusable (None when it is usable), and its sides as values."""
        with self._lock:
            book = self._feed.book(venue, symbol)
            if not book.usable:
                return book.reason, [], []
            return None, values(book.bids()), values(book.asks())

    def drifts(self) -> int:
        """Differences from the worker's books that were proven."""
        with self._lock:
            return sum(book.drifts for book in self._feed.books())


def values(levels: Iterable[Any]) -> list[tuple[str, str]]:
    """Levels by value, whatever their texts."""
    return [(shortest(price), shortest(size)) for price, size in levels]


#: How many levels a side of the truth a venue's book shows; None for all.
DEPTHS = {"hyperliquid": 5, "aster": None, "extended": None, "lighter": None, "paradex": None}


def equals_truth(system: System, listener: Listener, venue: str, symbol: str) -> bool:
    """Whether a consumer's book is usable and what the paused market really is."""
    reason, bids, asks = listener.book(venue, symbol)
    if reason is not None:
        return False
    truth = system.truth(venue, symbol)
    depth = DEPTHS[venue]
    return bids == values(truth["bids"])[:depth] and asks == values(truth["asks"])[:depth]
