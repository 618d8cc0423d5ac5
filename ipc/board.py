"""Shared board: one mapped file of 64-bit words in which the processes of a system publish their state.

Every word has one writer at a time (:data:`OWNERS`) and is naturally aligned, so readers need no lock and never see
half a value. Times are monotonic nanoseconds (comparable between processes of one boot); 0 means "never". Enumerated
values (states, reasons) are stored as :func:`ipc.health.code_of` returns them. Text is kept in the description files.

Layout, in words: a header, then for each process a block of :class:`WorkerWord`, its exits by reason, its streams
(:class:`StreamWord`), its sessions (:class:`SessionWord`) with their ends by reason, and its cells, one for each market
and stream (:class:`CellWord`). The parent gives each process its slot, and
``describe.json`` names it.

The file is created under a temporary name, its space reserved (a full disk is then an error and not a SIGBUS), and
renamed into place; it is never truncated, because that kills every reader.
"""

from __future__ import annotations

import mmap
import os
import struct
from collections.abc import Iterator, Mapping, Sequence
from enum import StrEnum
from functools import cache
from pathlib import Path
from typing import Final
from zlib import crc32

from ipc.errors import BoardError
from ipc.health import Stream

_MAGIC: Final = int.from_bytes(b"paraphbd", "little")
_VERSION: Final = 4

#: Slots for processes: workers, the gateway, the simulator, and spare ones.
PROCESSES: Final = 24
#: Sessions (sockets and REST threads) of a process.
SESSIONS: Final = 32
#: First session that belongs to the account; the kill rules for the public feed ignore these.
ACCOUNT_SESSION: Final = 30
#: Markets of a process.
MARKETS: Final = 256
#: Reasons that are counted; :class:`ipc.health.Reason` has fewer.
REASONS: Final = 64
#: Buckets of a histogram. Bucket ``n`` counts durations below ``2 ** (n + FIRST_BITS)`` ns, from 8.2 µs to 34 s; the
#: last one all that are longer.
BUCKETS: Final = 24
FIRST_BITS: Final = 13
#: States of a TCP feed or the HTTP server: its address is in use, or it is bound.
TCP_WAITING: Final = 1
TCP_LISTENING: Final = 2
#: Streams in the order of their cells.
STREAMS: Final = tuple(Stream)


class HeaderWord:
    """Words of the header."""

    MAGIC = 0
    VERSION = 1
    SIZE = 2
    CREATED_WALL_NS = 3
    PARENT_STARTED = 5
    PARENT_BEAT = 6
    PARENT_DRAINING = 7
    LOOP_GAP_MAX_NS = 8
    SELF_STALLS = 9
    FORKS = 10
    COUNT = 16


class WorkerWord:
    """Words of a process, grouped by their owner."""

    # the parent
    GENERATION = 0
    PID = 1
    FORKED = 2
    STATE = 3
    STATE_SINCE = 4
    RESTARTS = 5
    FAILURES = 6
    EXIT_REASON = 7
    #: Exit code + 1, so that 0 is "none".
    EXIT_CODE = 8
    EXIT_SIGNAL = 9
    EXIT_AT = 10
    EXIT_UPTIME_NS = 11
    NEXT_START = 12
    CRASH_LOOP = 13
    #: Time in state ``stale``, without the span that lasts.
    STALE_NS = 14
    #: When it was last live, over all generations.
    LIVE_AT = 15
    #: Fault that the process is to inject into itself: :class:`ipc.health.SelfFault`, 0 for none.
    SELF_FAULT = 16
    #: When an operator stopped the process, 0 when nobody has, and the operator's uid + 1.
    STOPPED_AT = 17
    STOPPED_BY = 18
    #: 1 for the line of a venue that polls by REST and follows the account; its only line always does.
    DUTY = 19
    # the main thread
    EPOCH = 24
    BOOTED = 25
    MAIN_LOOPS = 26
    #: Markets that the venue lists and that should have a book, and the number of those books that are usable.
    BOOKS_WANTED = 27
    BOOKS_USABLE = 28
    DROPS = 29
    RSS_BYTES = 30
    OUTAGE_SINCE = 31
    THREAD_RESTARTS = 32
    #: First and last moment of this generation at which every wanted book was usable and fresh.
    FIRST_FRESH = 33
    LAST_FRESH = 34
    RESOLVING = 35
    RESOLVE_FAILED = 36
    PUBLISHED = 37
    #: State of the HTTP server, 0 without one: :data:`TCP_WAITING`, :data:`TCP_LISTENING`.
    HTTP = 38
    #: When a snapshot was last delayed by the venue's rate limit.
    HELD_BACK = 39
    #: When the list of markets, from the venue or from the cache, was last applied.
    RESOLVED = 40
    #: State of the TCP feeds, 0 without one: :data:`TCP_WAITING`, :data:`TCP_LISTENING`.
    TCP = 41
    ACCOUNT_TCP = 42
    #: Connections that were refused for their key.
    KEYS_REFUSED = 43
    #: Subscriptions of consumers in effect, approximately.
    SUBSCRIPTIONS = 44
    #: Open file descriptors and their limit; whether new consumers are refused because nearly all are in use.
    DESCRIPTORS = 45
    DESCRIPTOR_LIMIT = 46
    REFUSING = 47
    # the watchdog thread
    BEAT = 48
    #: When the watchdog last saw progress of the main thread.
    MAIN_SEEN = 49
    CUTS = 50
    # the thread that spends, under its budget's lock: what this process has used of the limits of its IP address, in
    # thousandths, and until when the venue demanded a pause of its REST requests
    SPENT_MESSAGES = 52
    SPENT_WEIGHT = 53
    SPENT_CONNECTS = 54
    REST_CLOSED_UNTIL = 55
    #: REST weight of fetches that no book depends on, which is part of the other, and of the account.
    SPENT_OPTIONAL_WEIGHT = 56
    SPENT_ACCOUNT_WEIGHT = 57
    ACCOUNT_REST_CLOSED_UNTIL = 58
    #: When each budget is full again as this process counts it, with what the other line has used.
    MESSAGES_FULL_AT = 59
    WEIGHT_FULL_AT = 60
    CONNECTS_FULL_AT = 61
    OPTIONAL_WEIGHT_FULL_AT = 62
    ACCOUNT_WEIGHT_FULL_AT = 63
    COUNT = 64


class SessionWord:
    """Words of a session."""

    PHASE = 0
    CONNECT_START = 1
    #: Time by which the thread must return from a blocking call, written before it; 0 while it does not block.
    DEADLINE = 2
    #: Time of the next scheduled attempt (backoff, retry).
    NEXT_ACTION = 3
    ATTEMPT = 4
    RECONNECTS = 5
    LAST_REASON = 6
    LAST_WS_RX = 7
    OPENED = 8
    FRAMES = 9
    FIRST_FRESH = 12
    LAST_FRESH = 13
    #: Reconnects since a book of this session was last fresh.
    FAILED_CYCLES = 14
    #: Rows of frames and responses that were rejected.
    INVALID_ROWS = 16
    COUNT = 24


class StreamWord:
    """Words of one stream of a process, over all its markets: histograms of durations, each with its sum in ns."""

    #: From the receipt of a message to the end of its publication.
    HANDLING = 0
    HANDLING_SUM = HANDLING + BUCKETS
    #: From the venue's time to the receipt here; it contains the difference of two clocks.
    LAG = 32
    LAG_SUM = LAG + BUCKETS
    COUNT = 64


class CellWord:
    """Words of one stream of one market."""

    LAST_DATA_RX = 0
    LAST_PARSED = 1
    LAST_PUBLISHED = 2
    STATE = 3
    REASON = 4
    LIMIT_MS = 5
    RECONNECTS = 6
    GAPS = 8
    SINCE = 9
    #: When the stream last delivered, over reconnects and restarts: nothing zeroes it while the board exists.
    LAST_GOOD = 10
    #: Events published.
    EVENTS = 11
    #: When the reason last occurred.
    REASON_AT = 12
    #: Key of the market whose stream the cell holds (:func:`market_key`); 0 where the place alone says so.
    MARKET = 13
    COUNT = 14


#: Where the parts of a process's block begin; those from the streams on are the process's own.
_EXITS: Final = WorkerWord.COUNT
_STREAMS: Final = _EXITS + REASONS
_SESSIONS: Final = _STREAMS + len(STREAMS) * StreamWord.COUNT
_ENDS: Final = _SESSIONS + SESSIONS * SessionWord.COUNT
_CELLS: Final = _ENDS + SESSIONS * REASONS
_PROCESS_SPAN: Final = _CELLS + MARKETS * len(STREAMS) * CellWord.COUNT
_WORDS: Final = HeaderWord.COUNT + PROCESSES * _PROCESS_SPAN
_BYTES: Final = _WORDS * 8
_STREAM_INDEX: Final = {stream: index for index, stream in enumerate(STREAMS)}


class Owner(StrEnum):
    """Writers of board words."""

    CREATOR = "creator of the file"
    PARENT = "parent"
    MAIN = "main thread of the process"
    LISTINGS = "thread that fetches the list of markets"
    WATCHDOG = "watchdog thread"
    SESSION = "thread that runs the session"
    SPENDING = "thread that holds the budget's lock"
    PUBLISHING = "thread that holds the publisher's lock"
    STREAM = "thread whose session carries the stream; without one, the thread that finds out why"


#: Owner of every word. A process without a watchdog writes those words from its main thread.
OWNERS: Final[dict[type, dict[Owner, frozenset[int]]]] = {
    HeaderWord: {Owner.CREATOR: frozenset(range(4)), Owner.PARENT: frozenset(range(4, HeaderWord.COUNT))},
    WorkerWord: {
        Owner.PARENT: frozenset(range(WorkerWord.EPOCH)),
        Owner.MAIN: frozenset(range(WorkerWord.EPOCH, WorkerWord.BEAT))
        - {WorkerWord.RESOLVING, WorkerWord.RESOLVE_FAILED},
        Owner.LISTINGS: frozenset({WorkerWord.RESOLVING, WorkerWord.RESOLVE_FAILED}),
        Owner.WATCHDOG: frozenset(range(WorkerWord.BEAT, WorkerWord.SPENT_MESSAGES)),
        Owner.SPENDING: frozenset(range(WorkerWord.SPENT_MESSAGES, WorkerWord.COUNT)),
    },
    SessionWord: {Owner.SESSION: frozenset(range(SessionWord.COUNT))},
    StreamWord: {Owner.PUBLISHING: frozenset(range(StreamWord.COUNT))},
    CellWord: {
        Owner.MAIN: frozenset({CellWord.MARKET}),
        Owner.STREAM: frozenset(range(CellWord.COUNT)) - {CellWord.MARKET},
    },
}
#: Counters by where they belong, under their public names. ``status`` shows all of them; add a word and a line here.
COUNTERS: Final = {
    "supervisor": {"self_stalls": HeaderWord.SELF_STALLS, "forks": HeaderWord.FORKS},
    "process": {
        "restarts": WorkerWord.RESTARTS,
        "failures": WorkerWord.FAILURES,
        "keys_refused": WorkerWord.KEYS_REFUSED,
    },
    "worker": {
        "drops": WorkerWord.DROPS,
        "resolve_failures": WorkerWord.RESOLVE_FAILED,
        "thread_restarts": WorkerWord.THREAD_RESTARTS,
        "cuts": WorkerWord.CUTS,
    },
    "session": {
        "reconnects": SessionWord.RECONNECTS,
        "frames": SessionWord.FRAMES,
        "invalid_rows": SessionWord.INVALID_ROWS,
    },
    "stream": {"reconnects": CellWord.RECONNECTS, "gaps": CellWord.GAPS, "events": CellWord.EVENTS},
}


@cache
def market_key(symbol: str) -> int:
    """Return the number by which a cell names its market; never 0."""
    return crc32(symbol.encode()) + 1


class Row:
    """Run of words: ``row[CellWord.STATE]``. On hot paths use ``row.words`` and ``row.at`` directly."""

    __slots__ = ("at", "count", "words")

    def __init__(self, words: memoryview, at: int, count: int) -> None:
        self.words = words
        self.at = at
        self.count = count

    def __getitem__(self, word: int) -> int:
        return self.words[self.at + word]

    def __setitem__(self, word: int, value: int) -> None:
        self.words[self.at + word] = value

    def add(self, word: int, amount: int = 1) -> None:
        """Add to a counter; only for its owner."""
        self.words[self.at + word] += amount

    def counts(self, counters: Mapping[str, int]) -> dict[str, int]:
        """Return the values of :data:`COUNTERS` by name."""
        return {name: self.words[self.at + word] for name, word in counters.items()}

    def copy(self) -> Row:
        """Return a copy of the words as they are now, so that they belong to one moment."""
        words = memoryview(bytes(self.words[self.at : self.at + self.count])).cast("Q")
        return Row(words, 0, self.count)

    def zero(self, first: int = 0, end: int | None = None) -> None:
        """Set a range of words to 0."""
        for word in range(first, self.count if end is None else end):
            self.words[self.at + word] = 0


class Board:
    """Mapped board; unmapped by :meth:`close` or at the end of the process."""

    def __init__(self, file: int, *, writable: bool) -> None:
        access = mmap.ACCESS_WRITE if writable else mmap.ACCESS_READ
        self._map = mmap.mmap(file, _BYTES, access=access)
        self.words = memoryview(self._map).cast("Q")
        self.header = Row(self.words, 0, HeaderWord.COUNT)

    @classmethod
    def create(cls, path: Path, created_wall_ns: int, copied: Board | None = None) -> Board:
        """Create a board at ``path``, empty or a copy; replaces an older one. BoardError without space or directory."""
        temporary = path.with_name(f".{path.name}.{os.getpid()}")
        try:
            file = os.open(temporary, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
            try:
                os.posix_fallocate(file, 0, _BYTES)
                board = cls(file, writable=True)
                for word, value in enumerate((_MAGIC, _VERSION, _BYTES, created_wall_ns)):
                    board.header[word] = value
                if copied is not None:
                    board.words[:] = copied.words
                temporary.rename(path)
            finally:
                os.close(file)
        except OSError as error:
            temporary.unlink(missing_ok=True)
            raise BoardError(f"the board cannot be made: {error.strerror}", where=str(path)) from error
        return board

    @classmethod
    def in_memory(cls) -> Board:
        """Create an empty board that no other process can attach to."""
        file = os.memfd_create("board", os.MFD_CLOEXEC)
        try:
            os.ftruncate(file, _BYTES)
            return cls(file, writable=True)
        finally:
            os.close(file)

    @classmethod
    def attach(cls, path: Path, *, writable: bool = False) -> Board:
        """Map an existing board; raise BoardError if there is none, or it has another version."""
        flags = (os.O_RDWR if writable else os.O_RDONLY) | os.O_CLOEXEC
        try:
            file = os.open(path, flags)
        except OSError as error:
            raise BoardError(f"the board cannot be opened: {error.strerror}", where=str(path)) from error
        try:
            cls._check(path, file)
            return cls(file, writable=writable)
        except OSError as error:
            raise BoardError(f"the board cannot be read: {error.strerror}", where=str(path)) from error
        finally:
            os.close(file)

    @staticmethod
    def _check(path: Path, file: int) -> None:
        head = os.pread(file, 24, 0)
        size = os.fstat(file).st_size
        if size != _BYTES or len(head) < 24 or struct.unpack("<QQQ", head) != (_MAGIC, _VERSION, _BYTES):
            raise BoardError(
                "not a board of this version",
                where=str(path),
                advice="use the program that wrote it, or restart the system",
            )

    def close(self) -> None:
        """Unmap the board; its rows are invalid afterwards."""
        self.words.release()
        self._map.close()

    def worker(self, slot: int) -> Row:
        """Return the words of the process in a slot."""
        return Row(self.words, self._at(slot, 0), WorkerWord.COUNT)

    def exits(self, slot: int) -> Row:
        """Return the number of a process's exits by the code of their reason; the parent writes it."""
        return Row(self.words, self._at(slot, _EXITS), REASONS)

    def stream(self, slot: int, stream: Stream) -> Row:
        """Return the words of a process's stream, over all its markets."""
        return Row(self.words, self._at(slot, _STREAMS + _STREAM_INDEX[stream] * StreamWord.COUNT), StreamWord.COUNT)

    def session(self, slot: int, number: int) -> Row:
        """Return the words of a process's session."""
        return Row(self.words, self._at(slot, _SESSIONS + number * SessionWord.COUNT), SessionWord.COUNT)

    def ends(self, slot: int, number: int) -> Row:
        """Return how often a session of this generation ended, by the code of the reason; the session writes it."""
        return Row(self.words, self._at(slot, _ENDS + number * REASONS), REASONS)

    def sessions(self, slot: int) -> Iterator[Row]:
        """Yield the public sessions of a process that have been used."""
        for number in range(ACCOUNT_SESSION):
            row = self.session(slot, number)
            if row[SessionWord.PHASE]:
                yield row

    def cell(self, slot: int, market: int, stream: Stream) -> Row:
        """Return the words of one stream of a process's market."""
        index = market * len(STREAMS) + _STREAM_INDEX[stream]
        return Row(self.words, self._at(slot, _CELLS + index * CellWord.COUNT), CellWord.COUNT)

    def cells(self, slot: int, stream: Stream, markets: int) -> list[list[int]]:
        """Return a copy of the words of one stream of a process's first markets."""
        begin, step = self.cell(slot, 0, stream).at, len(STREAMS) * CellWord.COUNT
        places = range(begin, begin + markets * step, step)
        return [self.words[at : at + CellWord.COUNT].tolist() for at in places]

    def clear_worker(self, slot: int, markets: int) -> None:
        """Zero the words that a process of ``markets`` markets writes; only after its last generation was reaped."""
        self.worker(slot).zero(WorkerWord.EPOCH)
        begin, cells = self._at(slot, _STREAMS), self._at(slot, _CELLS)
        end = cells + markets * len(STREAMS) * CellWord.COUNT
        kept = [
            (at, self.words[at])
            for word in (CellWord.LIMIT_MS, CellWord.LAST_GOOD, CellWord.MARKET)
            for at in range(cells + word, end, CellWord.COUNT)
        ]
        self.words[begin:end] = memoryview(bytes((end - begin) * 8)).cast("Q")
        for at, value in kept:
            self.words[at] = value

    def assign_markets(self, slot: int, symbols: Sequence[str]) -> None:
        """Name the markets of a process's cells in their order; for its main thread, before any other writes a cell.

        A generation may follow other markets than the one before, or in another order: what their cells say of the
        last good data moves with each market, and is forgotten with a market that is no longer followed.
        """
        for stream in STREAMS:
            if stream is not Stream.ACCOUNT:  # it has no markets
                self._assign_cells([self.cell(slot, market, stream) for market in range(MARKETS)], symbols)

    @staticmethod
    def _assign_cells(cells: Sequence[Row], symbols: Sequence[str]) -> None:
        known = {cell[CellWord.MARKET]: cell[CellWord.LAST_GOOD] for cell in cells if cell[CellWord.MARKET]}
        keys = [market_key(symbol) for symbol in symbols]
        for cell, key in zip(cells, keys + [0] * (len(cells) - len(keys)), strict=True):
            if cell[CellWord.MARKET] != key:
                cell[CellWord.MARKET] = 0  # meanwhile the stamp is of no market
                cell[CellWord.LIMIT_MS] = 0  # until a session sets it
                cell[CellWord.LAST_GOOD] = known.get(key, 0)
                cell[CellWord.MARKET] = key

    @staticmethod
    def _at(slot: int, part: int) -> int:
        """Return the place of a part of a process's block."""
        return HeaderWord.COUNT + slot * _PROCESS_SPAN + part
