"""Plain words for reasons, states and kinds, and durations for people. One place for all of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from ipc.health import Reason, StreamState, WorkerState
from supervisor.overview.document import Kind, Level

#: A unit is used until the next larger one would show at least 2.
_UNITS: Final = ((120.0, 1.0, "s"), (7_200.0, 60.0, "min"), (172_800.0, 3_600.0, "h"), (float("inf"), 86_400.0, "d"))
#: Seconds below this have a decimal place.
_WHOLE_S: Final = 9.95

SIGNS: Final[Mapping[Kind, str]] = {
    "live": "●",
    "degraded": "◐",
    "down": "■",
    "outage": "✕",
    "person": "▲",
    "stopped": "○",
}
KINDS: Final[Mapping[Kind, str]] = {
    "live": "live",
    "degraded": "degraded",
    "down": "down",
    "outage": "venue outage",
    "person": "needs you",
    "stopped": "stopped",
}
LEVEL_SIGNS: Final[Mapping[Level, str]] = {"fine": "●", "heals": "◐", "person": "▲", "none": "■"}

#: Completes "exited: …", "book backoff: …" and "last reconnect: …".
REASONS: Final[Mapping[str, str]] = {
    Reason.STALE_WATCHDOG: "no book within the limit; socket cut",
    Reason.NO_BOOK: "no usable book in time",
    Reason.READ_TIMEOUT: "no data from the venue",
    Reason.PONG_TIMEOUT: "venue did not answer a ping",
    Reason.SERVER_CLOSE: "venue closed the connection",
    Reason.SERVER_SHUTDOWN: "venue announced a shutdown",
    Reason.CONNECT_FAILED: "venue cannot be reached",
    Reason.CONNECT_TIMEOUT: "connecting took too long",
    Reason.DNS_FAILED: "venue's host name was not found",
    Reason.TLS_FAILED: "no encrypted connection",
    Reason.REFUSED: "venue refuses the connection",
    Reason.RATE_LIMITED: "venue's rate limit was hit",
    Reason.AUTH_FAILED: "venue rejected the credentials",
    Reason.SUBSCRIBE_ERROR: "venue rejected a subscription",
    Reason.PARSE_ERRORS: "messages could not be read",
    Reason.SEQ_GAP: "an update was lost",
    Reason.CROSSED_BOOK: "bid was not below ask",
    Reason.SOFT_RESYNC: "a newer book was found by REST",
    Reason.ROTATION: "connection was renewed as planned",
    Reason.CRASH: "crashed",
    Reason.KILLED: "killed from outside",
    Reason.CLEAN_EXIT: "ended by itself",
    Reason.WEDGED: "hung",
    Reason.STALE_WORKER: "two connections in a row without data",
    Reason.START_TIMEOUT: "no data in time after its start",
    Reason.MEMORY: "used too much memory",
    Reason.PARENT_LOST: "the supervisor died",
    Reason.CONFIG_ERROR: "mistake in the configuration",
    Reason.CONFIG_CHANGED: "new configuration applied",
    Reason.UNKNOWN_MARKET: "venue does not list this market",
    Reason.DELISTED: "venue delisted the market",
    Reason.OUTAGE: "venue is down",
    Reason.PIPE_FULL: "a consumer reads too slowly",
    Reason.DRILL: "drill",
    Reason.REQUESTED: "asked for by an operator",
    Reason.VENUE_DISAGREES: "book differed from the venue's",
    Reason.ADDRESS_IN_USE: "another program uses the address",
    Reason.PROXY_FAILED: "proxy does not work",
    Reason.DESCRIPTORS: "nearly all file descriptors are in use",
    Reason.RUN_DIR_LOST: "run directory was removed",
}

WORKER_STATES: Final[Mapping[str, str]] = {
    WorkerState.STARTING: "starting",
    WorkerState.LIVE: "live",
    WorkerState.STALE: "no fresh data",
    WorkerState.BACKOFF: "waits for its next start",
    WorkerState.KILLING: "being ended",
    WorkerState.UNKILLABLE: "cannot be ended",
    WorkerState.STOPPED: "not running",
    WorkerState.FAILED: "failed",
}

STREAM_STATES: Final[Mapping[str, str]] = {
    StreamState.CONNECTING: "connecting",
    StreamState.SUBSCRIBED: "waits for data",
    StreamState.LIVE: "live",
    StreamState.QUIET: "quiet",
    StreamState.STALE: "stale",
    StreamState.RESYNC: "resync",
    StreamState.REST: "from REST, some seconds old",
    StreamState.BACKOFF: "backoff",
    StreamState.OFF: "off",
    StreamState.FAILED: "failed",
}


def reason_words(reason: str | None) -> str | None:
    """Return a reason in plain words; one of a newer version as it is, None for None."""
    return None if reason is None else REASONS.get(reason, reason)


def stream_name(name: str) -> str:
    """Return the name of a stream in a sentence: ``funding poll``."""
    return name.replace("_", " ")


def worker_words(state: str) -> str:
    """Return the state of a process in plain words; one of a newer version as it is."""
    return WORKER_STATES.get(state, state)


def stream_words(state: str) -> str:
    """Return the state of a stream in plain words; one of a newer version as it is."""
    return STREAM_STATES.get(state, state)


def duration(seconds: float) -> str:
    """Return a duration with one unit: ``0.3 s``, ``23 s``, ``18 min``, ``3 h``, ``2 d``; a negative one as 0."""
    seconds = max(0.0, seconds)
    if seconds < _WHOLE_S:
        return f"{seconds:.1f} s"
    size, unit = next((size, unit) for limit, size, unit in _UNITS if round(seconds) < limit)
    return f"{round(seconds / size)} {unit}"


def ago(seconds: float | None) -> str:
    """Return ``18 min ago``; nothing for None."""
    return "" if seconds is None else f"{duration(seconds)} ago"


def listed(names: Sequence[str]) -> str:
    """Return ``a``, ``a and b`` or ``a, b and c``."""
    return " and ".join(part for part in (", ".join(names[:-1]), *names[-1:]) if part)


def counted(number: int, noun: str, plural: str = "") -> str:
    """Return ``1 book`` or ``10 books``."""
    return f"{number} {noun if number == 1 else plural or f'{noun}s'}"
