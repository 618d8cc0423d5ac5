"""Words and thresholds of health: streams, states and reasons.

The same word is used in the log, on the bus, on the board, in ``status`` and in reports. On the board a word is its
position in the list plus one (0 is "none"), so lists only grow at their end.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Final, TypeVar

#: Subscriptions of a process, and share of its file descriptors in use, from which they are reported and shown.
MANY_SUBSCRIPTIONS: Final = 200_000
HIGH_DESCRIPTORS: Final = 0.8


class Stream(StrEnum):
    """Stream of a venue whose freshness is monitored."""

    BOOK = "book"
    BOOK20 = "book20"
    BBO = "bbo"
    TRADE = "trade"
    MARK = "mark"
    FUNDING = "funding"
    FUNDING_POLL = "funding_poll"
    LIQUIDATION = "liquidation"
    ACCOUNT = "account"


#: Streams that keep an order book.
BOOK_STREAMS: Final = frozenset({Stream.BOOK, Stream.BOOK20})


class WorkerState(StrEnum):
    """State of a process, as decided by the parent. ``crash_loop`` and ``outage`` are separate flags."""

    STARTING = "starting"
    LIVE = "live"
    STALE = "stale"
    BACKOFF = "backoff"
    KILLING = "killing"
    UNKILLABLE = "unkillable"
    STOPPED = "stopped"
    FAILED = "failed"


class StreamState(StrEnum):
    """State of a stream, or of one market of it."""

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
    """Current activity of a session; the parent does not kill a worker for one that is on schedule."""

    RESOLVING = "resolving"
    CONNECTING = "connecting"
    SUBSCRIBED = "subscribed"
    BACKOFF = "backoff"
    REPLAYING = "replaying"


class SelfFault(StrEnum):
    """Fault that a worker injects into itself in a drill."""

    HANG = "hang"
    EXIT = "exit"
    MEMORY = "memory"


class Reason(StrEnum):
    """Reason for the end of a session, the loss of a book or the restart of a worker."""

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
    ADDRESS_IN_USE = "address_in_use"
    PROXY_FAILED = "proxy_failed"
    DESCRIPTORS = "descriptors"
    RUN_DIR_LOST = "run_dir_lost"


Word = TypeVar("Word", bound=StrEnum)

_LISTS: tuple[type[StrEnum], ...] = (Stream, WorkerState, StreamState, Phase, SelfFault, Reason)
_WORDS: dict[type[StrEnum], dict[int, StrEnum]] = {words: dict(enumerate(words, start=1)) for words in _LISTS}
#: By list first: equal words of two lists would overwrite each other.
_CODES: dict[type[StrEnum], dict[StrEnum, int]] = {
    words: {word: code for code, word in enumerate(words, start=1)} for words in _LISTS
}


def code_of(word: StrEnum | None) -> int:
    """Return the board's number for ``word``; 0 for None."""
    return 0 if word is None else _CODES[type(word)][word]


def word_of(kind: type[Word], code: int) -> Word | None:
    """Return the word of list ``kind`` for a board number; None for 0 and for numbers of a newer version."""
    return _WORDS[kind].get(code)  # type: ignore[return-value]
