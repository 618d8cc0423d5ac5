"""Status of a stream and of its markets: their cells on the board at one moment."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from ipc.board import COUNTERS, MARKETS, CellWord, StreamWord, market_key
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


def stream_status(
    moment: Moment, slot: int, stream: Stream, symbols: Sequence[str], idle: Inactivity | None
) -> dict[str, Any]:
    """Return the status of a process's stream, which is that of its worst market, and of each market."""
    markets = {
        symbol: _market(moment, _words_of(moment, slot, stream, symbol, place), idle)
        for place, symbol in enumerate(symbols)
    }
    rows = list(markets.values())
    worst = min(rows, key=_badness)
    explained = worst if worst["reason"] else min(rows, key=_age_of_reason)
    histograms = moment.board.stream(slot, stream)
    return {
        "state": worst["state"],
        "reason": explained["reason"],
        "reason_ago_s": explained["reason_ago_s"],
        "age_ms": worst["age_ms"],
        "limit_ms": worst["limit_ms"],
        "reconnects": max(market["reconnects"] for market in rows),
        "events": sum(market["events"] for market in rows),
        "handling_us": quantiles(histograms, StreamWord.HANDLING, _US),
        "lag_ms": quantiles(histograms, StreamWord.LAG, MS),
        "markets": markets,
    }


def reason_of(moment: Moment, state: StreamState, reason: Reason | None, at_ns: int) -> tuple[str | None, float | None]:
    """Return a stream's reason and how long ago it occurred, s; nothing for one of the distant past."""
    is_over = state in _WELL and at_ns and moment.now_ns - at_ns > _SHOWN_NS
    if reason is None or is_over:
        return None, None
    return str(reason), moment.seconds_since(at_ns)


def _words_of(moment: Moment, slot: int, stream: Stream, symbol: str, place: int) -> list[int]:
    """Return the words of a market's stream; all 0 while the process does not follow the market.

    The description names the markets of the configuration, which a worker adopts when it is restarted.
    """
    board = moment.board
    cell = board.cell(slot, place, stream)
    key = market_key(symbol)
    if cell[CellWord.MARKET] not in {0, key}:
        cells = (board.cell(slot, other, stream) for other in range(MARKETS))
        found = next((cell for cell in cells if cell[CellWord.MARKET] == key), None)
        if found is None:
            return [0] * CellWord.COUNT
        cell = found
    return cell.words[cell.at : cell.at + CellWord.COUNT].tolist()


def _market(moment: Moment, cell: Sequence[int], idle: Inactivity | None) -> dict[str, Any]:
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
        **{name: cell[word] for name, word in COUNTERS["stream"].items()},
    }


def _badness(market: Mapping[str, Any]) -> tuple[int, float]:
    """Return a sort key that puts the worst market first: by state, then by age."""
    return _RANKS[market["state"]], -(market["age_ms"] or 0)


def _age_of_reason(market: Mapping[str, Any]) -> tuple[bool, bool, float]:
    """Return a sort key that puts the market with the latest reason first."""
    ago_s = market["reason_ago_s"]
    return market["reason"] is None, ago_s is None, ago_s or 0.0
