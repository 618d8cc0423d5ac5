"""Status of a stream and of its markets: their cells on the board at one moment."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from ipc.board import COUNTERS, MARKETS, Board, CellWord, StreamWord, market_key
from ipc.health import Reason, Stream, StreamState, word_of
from supervisor.status.histograms import quantiles
from supervisor.status.process import MS, NS, Inactivity, Moment

#: Stream states from bad to good: a stream shows the state of its worst market.
_WORST_FIRST: Final = (
    StreamState.FAILED,
    StreamState.STALE,
    StreamState.BACKOFF,
    StreamState.CONNECTING,
    StreamState.RESYNC,
    StreamState.REST,
    StreamState.SUBSCRIBED,
    StreamState.QUIET,
    StreamState.LIVE,
    StreamState.OFF,
)
_RANKS: Final = {str(state): rank for rank, state in enumerate(_WORST_FIRST)}
#: States in which the last reason is of the past, and how long it is shown then.
_WELL: Final = frozenset({StreamState.LIVE, StreamState.QUIET, StreamState.SUBSCRIBED})
_SHOWN_NS: Final = 3600 * NS
_US: Final = 1_000
_COUNTERS: Final = tuple(COUNTERS["stream"].items())
#: Words of a market that the process does not follow.
_NO_CELL: Final = [0] * CellWord.COUNT


def stream_status(
    moment: Moment, slot: int, stream: Stream, symbols: Sequence[str], idle: Inactivity | None
) -> dict[str, Any]:
    """Return the status of a process's stream, which is that of its worst market, and of each market."""
    cells = _cells_of(moment.board, slot, stream, symbols)
    markets = {symbol: _market(moment, cell, idle) for symbol, cell in zip(symbols, cells, strict=True)}
    histograms = moment.board.stream(slot, stream)
    return {
        **summary(list(markets.values())),
        "handling_us": quantiles(histograms, StreamWord.HANDLING, _US),
        "lag_ms": quantiles(histograms, StreamWord.LAG, MS),
        "markets": markets,
    }


def summary(markets: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return what a stream is over all its markets."""
    worst = min(markets, key=badness)
    explained = worst if worst["reason"] else min(markets, key=_age_of_reason)
    return {
        "state": worst["state"],
        "reason": explained["reason"],
        "reason_ago_s": explained["reason_ago_s"],
        "age_ms": worst["age_ms"],
        "limit_ms": worst["limit_ms"],
        "reconnects": max(market["reconnects"] for market in markets),
        "events": sum(market["events"] for market in markets),
    }


def reason_of(moment: Moment, state: StreamState, reason: Reason | None, at_ns: int) -> tuple[str | None, float | None]:
    """Return a stream's reason and how long ago it occurred, s; nothing for one of the distant past."""
    if reason is None or (at_ns and moment.now_ns - at_ns > _SHOWN_NS and state in _WELL):
        return None, None
    return str(reason), moment.seconds_since(at_ns)


def _cells_of(board: Board, slot: int, stream: Stream, symbols: Sequence[str]) -> list[list[int]]:
    """Return the words of a stream of each market; all 0 for a market that the process does not follow.

    The description names the markets of the configuration, which a worker adopts when it is restarted.
    """
    cells = board.cells(slot, stream, len(symbols))
    places = [(cell, market_key(symbol)) for cell, symbol in zip(cells, symbols, strict=True)]
    if all(cell[CellWord.MARKET] in {0, key} for cell, key in places):
        return cells
    by_key = {cell[CellWord.MARKET]: cell for cell in board.cells(slot, stream, MARKETS)}
    return [cell if cell[CellWord.MARKET] in {0, key} else by_key.get(key, _NO_CELL) for cell, key in places]


def _market(moment: Moment, cell: Sequence[int], idle: Inactivity | None) -> dict[str, Any]:
    """Return the status of a market's stream: the most frequent part of the document, so it is kept short."""
    if idle is None:
        state = word_of(StreamState, cell[CellWord.STATE]) or StreamState.OFF
        reason, at_ns = word_of(Reason, cell[CellWord.REASON]), cell[CellWord.REASON_AT]
    else:
        state, reason, at_ns = idle
    shown, ago_s = reason_of(moment, state, reason, at_ns)
    return {
        "state": str(state),
        "reason": shown,
        "reason_ago_s": ago_s,
        "age_ms": moment.age_ms(cell[CellWord.LAST_GOOD]),
        "limit_ms": cell[CellWord.LIMIT_MS] or None,
        "since_ms": moment.age_ms(cell[CellWord.SINCE]),
        **{name: cell[word] for name, word in _COUNTERS},
    }


def badness(market: Mapping[str, Any]) -> tuple[int, float]:
    """Return a sort key that puts the worst market first: by state, then by age."""
    return _RANKS[market["state"]], -(market["age_ms"] or 0)


def _age_of_reason(market: Mapping[str, Any]) -> tuple[bool, bool, float]:
    """Return a sort key that puts the market with the latest reason first."""
    ago_s = market["reason_ago_s"]
    return market["reason"] is None, ago_s is None, ago_s or 0.0
