"""Status of a venue with two lines: what it has on at least one of them. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from ipc.health import Stream, StreamState, WorkerState
from supervisor.status.stream import badness, summary

#: States of a worker, the best one first; of two lines the better one counts.
_BEST_FIRST: Final = (
    WorkerState.LIVE,
    WorkerState.STALE,
    WorkerState.STARTING,
    WorkerState.BACKOFF,
    WorkerState.KILLING,
    WorkerState.UNKILLABLE,
    WorkerState.STOPPED,
    WorkerState.FAILED,
)
#: States of a stream whose book can be traded on.
_USABLE: Final = frozenset({StreamState.LIVE, StreamState.QUIET})


def merged(lines: Mapping[str, dict[str, Any]]) -> dict[str, Any]:
    """Return the state of a venue from those of its lines, each as a venue with one line has it.

    What is of a process (pid, epoch, restarts, sessions) is line a's; ``lines`` has all of it for both.
    """
    first, second = lines.values()
    streams = {name: _stream(of, second["streams"][name]) for name, of in first["streams"].items()}
    books = _books(lines, streams)
    has_all = 0 < books["wanted"] == books["usable"]
    state = WorkerState.LIVE if has_all else min((of["state"] for of in lines.values()), key=_BEST_FIRST.index)
    return {
        **first,
        "state": str(state),
        "crash_loop": first["crash_loop"] and second["crash_loop"],
        "outage": first["outage"] and second["outage"],
        "books": books,
        "consumers": sorted({*first["consumers"], *second["consumers"]}),
        "streams": streams,
        "lines": dict(lines),
    }


def _stream(first: Mapping[str, Any], second: Mapping[str, Any]) -> dict[str, Any]:
    """Return a stream of which each market is as good as on its better line."""
    better = max((first, second), key=_goodness)
    if not first["markets"]:  # the account
        return dict(better)
    markets = {symbol: max((of, second["markets"][symbol]), key=_goodness) for symbol, of in first["markets"].items()}
    return {**better, **summary(list(markets.values())), "markets": markets}


def _goodness(market: Mapping[str, Any]) -> tuple[bool, tuple[int, float]]:
    """Return a sort key that puts the better one of two lines last: one that is off has nothing."""
    return market["state"] != StreamState.OFF, badness(market)


def _books(lines: Mapping[str, Mapping[str, Any]], streams: Mapping[str, Mapping[str, Any]]) -> dict[str, int]:
    """Return the number of books that are wanted, and of those that are usable on one line at least."""
    live = [of for of in lines.values() if of["state"] == WorkerState.LIVE]
    wanted = max(of["books"]["wanted"] for of in live or lines.values())
    usable = max(of["books"]["usable"] for of in lines.values())
    if usable < wanted:
        on_either = sum(market["state"] in _USABLE for market in streams[Stream.BOOK]["markets"].values())
        usable = min(wanted, max(usable, on_either))
    return {"wanted": wanted, "usable": usable}
