"""The board: one mapped file of 64-bit words through which the processes of a system see each other.

Every word has exactly one writer and is naturally aligned, so readers need no lock and never see half a value. Times
are monotonic nanoseconds (comparable between processes of one boot); 0 means "never". Words of a list (states, reasons)
are stored as :func:`ipc.health.code_of` gives them. What is text stands in the description files beside it.

Layout, in words: a header, then for each worker slot a block of :class:`WorkerWord`, its sessions
(:class:`SessionWord`) and its cells, one for each market and stream (:class:`CellWord`).

The file is made under another name, its space reserved (a full disk is then an error and not a SIGBUS), and renamed
into place; it is never truncated, because that kills every reader.
"""

from __future__ import annotations

import mmap
import os
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from ipc.errors import BoardError
from ipc.health import Stream

__all__ = [
    "ACCOUNT_SESSION",
    "MARKETS",
    "SESSIONS",
    "STREAMS",
    "WORKERS",
    "Board",
    "CellWord",
    "HeaderWord",
    "Row",
    "SessionWord",
    "WorkerWord",
]

_MAGIC: Final = int.from_bytes(b"paraphbd", "little")
_VERSION: Final = 1

#: Worker slots: the venues, the gateway, the simulator, and room.
WORKERS: Final = 8
#: Sessions (sockets and REST lanes) a worker can show.
SESSIONS: Final = 32
#: From this session on they belong to the account, which no verdict about the public feed looks at.
ACCOUNT_SESSION: Final = 30
#: Markets a worker can follow.
MARKETS: Final = 256
#: Streams in the order of their cells.
STREAMS: Final = tuple(Stream)


class HeaderWord:
    """Words of the header. All but the first four are the parent's."""

    MAGIC = 0
    VERSION = 1
    SIZE = 2
    CREATED_WALL_NS = 3
    PARENT_PID = 4
    PARENT_STARTED = 5
    PARENT_BEAT = 6
    PARENT_DRAINING = 7
    LOOP_GAP_MAX_NS = 8
    SELF_STALLS = 9
    FORKS = 10
    #: When the parent last took itself for stalled: verdicts are postponed after it.
    LAST_STALL = 11
    COUNT = 16


class WorkerWord:
    """Words of a worker's block, grouped by their one writer."""

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
    STALE_NS = 14
    LIVE_AT = 15
    #: What the worker shall do wrong, for practice: :class:`ipc.health.SelfFault`, 0 for nothing.
    SELF_FAULT = 16
    # the worker's main thread
    EPOCH = 24
    BOOTED = 25
    MAIN_LOOPS = 26
    #: Markets that the venue lists and that should have a book, and how many of those books are usable.
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
    NEXT_ACTION = 38
    #: When a book last had to wait for what the venue allows, ns: it is asked for as soon as that may be.
    HELD_BACK = 39
    #: When the venue's list of markets, or a remembered one, was last taken.
    RESOLVED = 40
    # the watchdog thread
    BEAT = 48
    #: When it last saw the main thread move, ns.
    MAIN_SEEN = 49
    CUTS = 50
    COUNT = 64


class SessionWord:
    """Words of a session, written by the thread that owns it, except the last group."""

    PHASE = 0
    CONNECT_START = 1
    #: Before it blocks a thread writes by when it must be back; 0 while it does not block.
    DEADLINE = 2
    #: When it will act by itself next (backoff, retry).
    NEXT_ACTION = 3
    ATTEMPT = 4
    RECONNECTS = 5
    LAST_REASON = 6
    LAST_WS_RX = 7
    OPENED = 8
    FRAMES = 9
    BYTES = 10
    DECODE_ERRORS = 11
    FIRST_FRESH = 12
    LAST_FRESH = 13
    #: Reconnects since a book of this session was last fresh.
    FAILED_CYCLES = 14
    SEND_ERRORS = 15
    #: Rows of frames and answers that were left out.
    INVALID_ROWS = 16
    # the watchdog
    CUT = 20
    COUNT = 24


class CellWord:
    """Words of one stream of one market; the session that carries it writes them, the last group the parent."""

    LAST_DATA_RX = 0
    LAST_PARSED = 1
    LAST_PUBLISHED = 2
    STATE = 3
    REASON = 4
    LIMIT_MS = 5
    RECONNECTS = 6
    #: Number of the session that carries it, plus one.
    SESSION = 7
    GAPS = 8
    SINCE = 9
    COUNT = 12


_CELLS: Final = MARKETS * len(STREAMS) * CellWord.COUNT
_WORKER_SPAN: Final = WorkerWord.COUNT + SESSIONS * SessionWord.COUNT + _CELLS
_WORDS: Final = HeaderWord.COUNT + WORKERS * _WORKER_SPAN
_BYTES: Final = _WORDS * 8
_STREAM_INDEX: Final = {stream: index for index, stream in enumerate(STREAMS)}


class Row:
    """A run of words: ``row[CellWord.STATE]``. On hot paths use ``row.words`` and ``row.at`` directly."""

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
        """Count up; only its one writer may."""
        self.words[self.at + word] += amount

    def zero(self, first: int = 0, end: int | None = None) -> None:
        """Set a range of words to 0."""
        for word in range(first, self.count if end is None else end):
            self.words[self.at + word] = 0


class Board:
    """A mapped board. Close it with :meth:`close`, or let the process end."""

    def __init__(self, file: int, *, writable: bool) -> None:
        access = mmap.ACCESS_WRITE if writable else mmap.ACCESS_READ
        self._map = mmap.mmap(file, _BYTES, access=access)
        self.words = memoryview(self._map).cast("Q")
        self.header = Row(self.words, 0, HeaderWord.COUNT)

    @classmethod
    def create(cls, path: Path, created_wall_ns: int) -> Board:
        """Make a new, empty board at ``path`` in place of an older one.

        Raises:
            BoardError: There is no room for it, or the directory is gone.
        """
        temporary = path.with_name(f".{path.name}.{os.getpid()}")
        try:
            file = os.open(temporary, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
            try:
                os.posix_fallocate(file, 0, _BYTES)
                board = cls(file, writable=True)
                for word, value in enumerate((_MAGIC, _VERSION, _BYTES, created_wall_ns)):
                    board.header[word] = value
                temporary.rename(path)
            finally:
                os.close(file)
        except OSError as error:
            temporary.unlink(missing_ok=True)
            raise BoardError(f"the board cannot be made: {error.strerror}", where=str(path)) from error
        return board

    @classmethod
    def in_memory(cls) -> Board:
        """Make an empty board that no other process can attach to."""
        file = os.memfd_create("board", os.MFD_CLOEXEC)
        try:
            os.ftruncate(file, _BYTES)
            return cls(file, writable=True)
        finally:
            os.close(file)

    @classmethod
    def attach(cls, path: Path, *, writable: bool = False) -> Board:
        """Map an existing board.

        Raises:
            BoardError: There is none, or it is of another version.
        """
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
                advice="use the program that wrote it, or start anew",
            )

    def close(self) -> None:
        """Unmap; every Row of this board is dead afterwards."""
        self.words.release()
        self._map.close()

    def worker(self, slot: int) -> Row:
        """The block of a worker."""
        return Row(self.words, HeaderWord.COUNT + slot * _WORKER_SPAN, WorkerWord.COUNT)

    def session(self, slot: int, number: int) -> Row:
        """The words of a worker's session."""
        at = HeaderWord.COUNT + slot * _WORKER_SPAN + WorkerWord.COUNT + number * SessionWord.COUNT
        return Row(self.words, at, SessionWord.COUNT)

    def sessions(self, slot: int) -> Iterator[Row]:
        """The public sessions of a worker that were ever used."""
        for number in range(ACCOUNT_SESSION):
            row = self.session(slot, number)
            if row[SessionWord.PHASE]:
                yield row

    def cell(self, slot: int, market: int, stream: Stream) -> Row:
        """The words of one stream of a worker's market."""
        first = HeaderWord.COUNT + slot * _WORKER_SPAN + WorkerWord.COUNT + SESSIONS * SessionWord.COUNT
        index = market * len(STREAMS) + _STREAM_INDEX[stream]
        return Row(self.words, first + index * CellWord.COUNT, CellWord.COUNT)

    def clear_worker(self, slot: int, markets: int) -> None:
        """Zero what a worker of ``markets`` markets writes; only once its old generation is reaped."""
        self.worker(slot).zero(WorkerWord.EPOCH)
        begin = HeaderWord.COUNT + slot * _WORKER_SPAN + WorkerWord.COUNT
        span = SESSIONS * SessionWord.COUNT + markets * len(STREAMS) * CellWord.COUNT
        self.words[begin : begin + span] = memoryview(bytes(span * 8)).cast("Q")
