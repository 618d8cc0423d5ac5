"""Run directories as a running system leaves them: a description and a board, written by the test."""

from __future__ import annotations

import json
from typing import Any

from ipc.board import Board, CellWord, HeaderWord, SessionWord, WorkerWord
from ipc.health import Phase, Reason, Stream, StreamState, WorkerState, code_of
from ipc.rundir import RunDir

__all__ = ["NOW", "WrittenSystem"]

S = 1_000_000_000
#: The moment at which status is read.
NOW = 5_000 * S
_STREAMS = ("book", "trade", "mark", "funding_poll")
_SLOTS = {"lighter": 3, "paradex": 4, "gateway": 5, "simulator": 6}


def ago(seconds: float) -> int:
    """Return the time this long before :data:`NOW`, ns; at least 1."""
    return max(1, NOW - round(seconds * S))


class WrittenSystem:
    """Live system of lighter and paradex that has run for a thousand seconds; tests change words of it."""

    def __init__(self, run_dir: RunDir, symbols: tuple[str, ...] = ("BTC-PERP", "ETH-PERP")) -> None:
        self.run_dir = run_dir
        self.symbols = symbols
        self.described: dict[str, Any] = {
            "version": "1.2.3",
            "pid": 4711,
            "started_wall_ns": 1,
            "processes": {name: {"slot": slot} for name, slot in _SLOTS.items()},
            "venues": {name: self._venue(name) for name in ("lighter", "paradex")},
            "gateway": {"feed": f"ipc://{run_dir.path}/lifecycle.feed", "http": None},
            "simulator": None,
        }
        self.board = Board.create(run_dir.board, 1)
        self.header(PARENT_STARTED=ago(1000), PARENT_BEAT=ago(0.1), FORKS=3)
        for name in ("lighter", "paradex", "gateway"):
            self.process(name, WorkerState.LIVE, PID=5000 + _SLOTS[name], STATE_SINCE=ago(990), GENERATION=1)
        for name in ("lighter", "paradex"):
            self.process(name, FORKED=ago(999), FIRST_FRESH=ago(998), BOOKS_WANTED=2, BOOKS_USABLE=2)
            for stream in _STREAMS:
                for symbol in symbols:
                    self.cell(name, stream, symbol, StreamState.LIVE, age_ms=50, limit_ms=10_000)
        self.describe()

    def _venue(self, name: str) -> dict[str, Any]:
        return {
            "feed": f"ipc://{self.run_dir.path}/{name}.feed",
            "account": None,
            "symbols": list(self.symbols),
            "streams": list(_STREAMS),
            "ws": "wss://example.org",
            "rest": "https://example.org",
        }

    def describe(self) -> None:
        """Write the description."""
        self.run_dir.description.write_text(json.dumps(self.described))

    def describe_simulator(self) -> None:
        """Add a simulator."""
        urls = {"lighter": {"ws": "ws://127.0.0.1:1", "rest": "http://127.0.0.1:2"}}
        self.described["simulator"] = {"admin": "http://127.0.0.1:3", "venues": urls}
        self.process("simulator", WorkerState.LIVE, PID=5006)
        self.describe()

    def header(self, **words: int) -> None:
        for word, value in words.items():
            self.board.header[getattr(HeaderWord, word)] = value

    def process(self, name: str, state: WorkerState | None = None, **words: Any) -> None:
        row = self.board.worker(_SLOTS[name])
        if state is not None:
            row[WorkerWord.STATE] = code_of(state)
        for word, value in words.items():
            row[getattr(WorkerWord, word)] = code_of(value) if isinstance(value, Reason) else value

    def session(self, name: str, number: int, phase: Phase, **words: Any) -> None:
        row = self.board.session(_SLOTS[name], number)
        row[SessionWord.PHASE] = code_of(phase)
        for word, value in words.items():
            row[getattr(SessionWord, word)] = code_of(value) if isinstance(value, Reason) else value

    def cell(
        self,
        venue: str,
        stream: str,
        symbol: str,
        state: StreamState | None = None,
        *,
        age_ms: int | None = None,
        limit_ms: int | None = None,
        reason: Reason | None = None,
        reason_ago_s: float = 1.0,
        reconnects: int | None = None,
        since_ms: int | None = None,
    ) -> None:
        """Change one stream of one market; keep what is not given."""
        row = self.board.cell(_SLOTS[venue], self.symbols.index(symbol), Stream(stream))
        given = {
            CellWord.STATE: None if state is None else code_of(state),
            CellWord.LAST_PARSED: None if age_ms is None else ago(age_ms / 1000),
            CellWord.LAST_PUBLISHED: None if age_ms is None else ago(age_ms / 1000),
            CellWord.LAST_GOOD: None if age_ms is None else ago(age_ms / 1000),
            CellWord.LIMIT_MS: limit_ms,
            CellWord.REASON: None if reason is None else code_of(reason),
            CellWord.REASON_AT: None if reason is None else ago(reason_ago_s),
            CellWord.RECONNECTS: reconnects,
            CellWord.SINCE: None if since_ms is None else ago(since_ms / 1000),
        }
        for word, value in given.items():
            if value is not None:
                row[word] = value

    def forget(self, venue: str, stream: str, symbol: str) -> None:
        """Clear the times of its data."""
        row = self.board.cell(_SLOTS[venue], self.symbols.index(symbol), Stream(stream))
        row[CellWord.LAST_PARSED] = row[CellWord.LAST_PUBLISHED] = row[CellWord.LAST_GOOD] = 0
