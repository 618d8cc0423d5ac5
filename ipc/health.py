"""The words of health: streams, states and reasons, each one closed list.

The same word stands in the log, on the bus, on the board, in ``status`` and in reports. On the board a word is its
position in the list plus one (0 is "none"), so lists only grow at their end.
"""

from __future__ import annotations

from enum import StrEnum
from typing import TypeVar

__all__ = ["Phase", "Reason", "SelfFault", "Stream", "StreamState", "WorkerState", "code_of", "word_of"]


class Stream(StrEnum):
    """A channel of a venue, as freshness sees it."""

    BOOK = "book"
    BOOK20 = "book20"
    BBO = "bbo"
    TRADE = "trade"
    MARK = "mark"
    FUNDING = "funding"
    FUNDING_POLL = "funding_poll"
    LIQUIDATION = "liquidation"
    ACCOUNT = "account"


class WorkerState(StrEnum):
    """What the parent holds a worker to be. ``crash_loop`` and ``outage`` are flags beside it."""

    STARTING = "starting"
    LIVE = "live"
    STALE = "stale"
    BACKOFF = "backoff"
    KILLING = "killing"
    UNKILLABLE = "unkillable"
    STOPPED = "stopped"
    FAILED = "failed"


class StreamState(StrEnum):
    """What a stream, or one market of it, is doing."""

    CONNECTING = "connecting"
    SUBSCRIBED = "subscribed"
    LIVE = "live"
    QUIET = "quiet"
    STALE = "stale"
    RESYNC = "resync"
    REST = "rest"
    BACKOFF = "backoff"
    OFF = "off"
    FAILED = "failed"


class Phase(StrEnum):
    """What a session is busy with; the parent never kills one that does this as planned."""

    RESOLVING = "resolving"
    CONNECTING = "connecting"
    SUBSCRIBED = "subscribed"
    BACKOFF = "backoff"
    REPLAYING = "replaying"


class SelfFault(StrEnum):
    """What a worker does wrong when it is told to, for practice."""

    HANG = "hang"
    EXIT = "exit"
    MEMORY = "memory"


class Reason(StrEnum):
    """Why a session ended, a book was dropped or a worker was restarted."""

    STALE_WATCHDOG = "stale_watchdog"
    NO_BOOK = "no_book"
    READ_TIMEOUT = "read_timeout"
    PONG_TIMEOUT = "pong_timeout"
    SERVER_CLOSE = "server_close"
    SERVER_SHUTDOWN = "server_shutdown"
    CONNECT_FAILED = "connect_failed"
    CONNECT_TIMEOUT = "connect_timeout"
    DNS_FAILED = "dns_failed"
    TLS_FAILED = "tls_failed"
    REFUSED = "refused"
    RATE_LIMITED = "rate_limited"
    AUTH_FAILED = "auth_failed"
    SUBSCRIBE_ERROR = "subscribe_error"
    PARSE_ERRORS = "parse_errors"
    SEQ_GAP = "seq_gap"
    CROSSED_BOOK = "crossed_book"
    SOFT_RESYNC = "soft_resync"
    ROTATION = "rotation"
    CRASH = "crash"
    KILLED = "killed"
    CLEAN_EXIT = "clean_exit"
    WEDGED = "wedged"
    STALE_WORKER = "stale_worker"
    START_TIMEOUT = "start_timeout"
    MEMORY = "memory"
    PARENT_LOST = "parent_lost"
    CONFIG_ERROR = "config_error"
    CONFIG_CHANGED = "config_changed"
    UNKNOWN_MARKET = "unknown_market"
    DELISTED = "delisted"
    OUTAGE = "outage"
    PIPE_FULL = "pipe_full"
    DRILL = "drill"
    REQUESTED = "requested"
    VENUE_DISAGREES = "venue_disagrees"


Word = TypeVar("Word", bound=StrEnum)

_LISTS: tuple[type[StrEnum], ...] = (Stream, WorkerState, StreamState, Phase, SelfFault, Reason)
_WORDS: dict[type[StrEnum], list[StrEnum]] = {words: list(words) for words in _LISTS}
#: By list first: words of two lists that are spelt alike are equal and would take each other's place.
_CODES: dict[type[StrEnum], dict[StrEnum, int]] = {
    words: {word: code for code, word in enumerate(words, start=1)} for words in _LISTS
}


def code_of(word: StrEnum | None) -> int:
    """The number that stands for ``word`` on the board; 0 for None."""
    return 0 if word is None else _CODES[type(word)][word]


def word_of(kind: type[Word], code: int) -> Word | None:
    """The word of list ``kind`` behind a board number; None for 0 and for numbers of a newer version."""
    words = _WORDS[kind]
    return words[code - 1] if 0 < code <= len(words) else None  # type: ignore[return-value]
