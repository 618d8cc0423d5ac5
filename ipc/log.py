"""Logging: stdlib loggers with event names and fields, written to stderr without blocking.

A line is text on a terminal and one JSON object elsewhere. Repeats of one event are folded and counted. While nothing
reads stderr, lines are dropped and counted.
"""

from __future__ import annotations

import json
import logging
import os
import select
import sys
import threading
import time
from collections.abc import Callable, Mapping
from typing import Final
from urllib.parse import quote

from ipc.printable import printable, printable_json, printable_lines

#: POSIX: a write of at most this many bytes to a pipe that polls writable does not block.
_PIPE_ATOMIC: Final = 4096
_FOLD_WINDOW_S: Final = 10.0
_FOLD_BURST: Final = 5
_FOLD_KEYS: Final = 1024
_FOLDED_BY: Final = ("venue", "stream", "symbol", "reason", "of")


class EventLog:
    """Logger whose message is a dotted event name and whose arguments are fields.

    ``log.warning("ws.stale", venue="lighter", stream="book")``. Fields are plain values; None is omitted.
    """

    def __init__(self, logger: logging.Logger) -> None:
        self._logger = logger

    def debug(self, event: str, **fields: object) -> None:
        """Log a detail for debugging."""
        self._logger.debug(event, extra={"fields": fields})

    def info(self, event: str, **fields: object) -> None:
        """Log a change of state."""
        self._logger.info(event, extra={"fields": fields})

    def warning(self, event: str, **fields: object) -> None:
        """Log a fault from which the system recovers by itself."""
        self._logger.warning(event, extra={"fields": fields})

    def error(self, event: str, **fields: object) -> None:
        """Log a fault that requires an operator."""
        self._logger.error(event, extra={"fields": fields})

    def exception(self, event: str, **fields: object) -> None:
        """Log an error with the traceback of the current exception."""
        self._logger.exception(event, extra={"fields": fields})  # noqa: LOG004 - callers handle one


#: Texts that no line may show, the most recently used last.
_hidden: dict[str, None] = {}
_hidden_lock: Final = threading.Lock()
#: Minimum length: shorter texts are not secrets, and would remove parts of every line.
_MIN_HIDDEN: Final = 6
#: Minimum length of numbers: shorter ones, such as account numbers, occur in times and other fields.
_MIN_DIGITS: Final = 12
#: Tokens are renewed every few minutes; older ones have expired.
_MAX_HIDDEN: Final = 256


def hide(secret: str) -> None:
    """Remove a text from all later lines; a safeguard, as no line should contain it.

    Texts hidden long ago are dropped, so hide a secret whenever it is used.
    """
    if len(secret) < (_MIN_DIGITS if secret.isdecimal() else _MIN_HIDDEN):
        return
    with _hidden_lock:
        as_json = printable_json(json.dumps(secret)[1:-1])
        for text in (secret, printable(secret), as_json, quote(secret, safe="")):
            _hidden.pop(text, None)
            _hidden[text] = None
        while len(_hidden) > _MAX_HIDDEN:
            del _hidden[next(iter(_hidden))]


def without_hidden(text: str) -> str:
    """Return ``text`` without hidden texts; the longest are replaced first, as one may be part of another."""
    for secret in sorted(_hidden, key=len, reverse=True):
        text = text.replace(secret, "(hidden)")
    return text


def get_log(name: str) -> EventLog:
    """Return the event log of a module: ``get_log(__name__)``."""
    return EventLog(logging.getLogger(name))


#: Fields of every line of this process.
_own_fields: Final[dict[str, object]] = {}


def name_process(name: str) -> None:
    """Name this process in every later line, for one whose other fields do not."""
    _own_fields["process"] = name


def _fields(record: logging.LogRecord) -> dict[str, object]:
    fields: dict[str, object] = getattr(record, "fields", {})
    return {key: value for key, value in fields.items() if value is not None} | _own_fields


class PrettyFormatter(logging.Formatter):
    """Formatter for terminals: ``12:30:01.250 WARNING ws.stale venue=lighter stream=book``."""

    def format(self, record: logging.LogRecord) -> str:
        """Return one line, followed by the traceback if there is one."""
        traceback = self.formatException(record.exc_info) if record.exc_info else None
        return _pretty(record.created, record.levelname, record.getMessage(), _fields(record), traceback)


def prettied(line: str) -> str:
    """Convert a line of :class:`JsonFormatter` to the form of :class:`PrettyFormatter`; only escape other lines."""
    try:
        values = json.loads(line)
        moment, level, event = float(values.pop("ts")), values.pop("level").upper(), values.pop("event")
        traceback = values.pop("traceback", None)
        fields = {key: value for key, value in values.items() if key not in {"logger", "pid"}}
        return _pretty(moment, level, event, fields, traceback)
    except (ValueError, TypeError, AttributeError, KeyError, ArithmeticError, OSError, RecursionError):
        return printable(line)


def _pretty(moment: float, level: str, event: object, fields: Mapping[str, object], traceback: object) -> str:
    """Format a record for a terminal: one line whatever the fields hold, then the lines of the traceback."""
    clock = time.strftime("%H:%M:%S", time.localtime(moment))
    words = " ".join(f"{key}={value}" for key, value in fields.items())
    line = printable(f"{clock}.{int(moment % 1 * 1000):03d} {level:<7} {event} {words}".rstrip())
    return line if traceback is None else f"{line}\n{printable_lines(str(traceback))}"


class JsonFormatter(logging.Formatter):
    """Formatter for programs: JSON of ``ts`` (seconds since the epoch), ``level``, ``event``, ``pid``, and fields."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the record as one line of JSON; values that JSON does not support become text."""
        line = {
            "ts": round(record.created, 6),
            "level": record.levelname.lower(),
            "event": record.getMessage(),
            "pid": record.process,
            "logger": record.name,
            **_fields(record),
        }
        if record.exc_info:
            line["traceback"] = self.formatException(record.exc_info)
        try:
            text = json.dumps(line, default=str, allow_nan=False)
        except (TypeError, ValueError, RecursionError):  # odd keys, numbers that JSON lacks, a value within itself
            text = json.dumps({str(key): str(value) for key, value in line.items()})
        return printable_json(text)


class FoldRepeats(logging.Filter):
    """Filter that passes ``_FOLD_BURST`` records of a kind in ``_FOLD_WINDOW_S`` seconds and counts the rest.

    The kind is the level, the event and the fields venue, stream, symbol, reason and of. The count is logged with the
    next record of that kind, or returned by :meth:`drain`. At most ``_FOLD_KEYS`` kinds are kept; the next drain
    includes those dropped.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__()
        self._clock = clock
        self._lock = threading.Lock()
        self._seen: dict[tuple[object, ...], list[float]] = {}  # kind -> [window start, passed, folded]
        self._evicted: list[tuple[tuple[object, ...], int]] = []

    def filter(self, record: logging.LogRecord) -> bool:
        """Return whether ``record`` passes; add ``repeated`` to its fields when others were folded before it."""
        fields = getattr(record, "fields", {})
        try:
            kind = (record.levelno, record.getMessage(), *(fields.get(key) for key in _FOLDED_BY))
            hash(kind)
        except Exception:  # a malformed record: the handler counts it
            return True
        now = self._clock()
        with self._lock:
            window = self._seen.get(kind)
            if window is None or now - window[0] >= _FOLD_WINDOW_S:
                if window is not None and window[2]:
                    record.fields = {**fields, "repeated": int(window[2])}
                if len(self._seen) >= _FOLD_KEYS:
                    self._evict()
                self._seen[kind] = [now, 1, 0]
                return True
            if window[1] < _FOLD_BURST:
                window[1] += 1
                return True
            window[2] += 1
            return False

    def drain(self) -> list[tuple[tuple[object, ...], int]]:
        """Return and drop the kinds with folded records whose window is over, with their counts."""
        now = self._clock()
        with self._lock:
            over = [(k, int(w[2])) for k, w in self._seen.items() if w[2] and now - w[0] >= _FOLD_WINDOW_S]
            for kind, _ in over:
                del self._seen[kind]
            evicted, self._evicted = self._evicted, []
        return evicted + over

    def _evict(self) -> None:
        kind = next(iter(self._seen))
        window = self._seen.pop(kind)
        if window[2] and len(self._evicted) < _FOLD_KEYS:
            self._evicted.append((kind, int(window[2])))


class StderrHandler(logging.Handler):
    """Handler that writes lines to a file descriptor, and drops and counts them while it is full.

    ``lost`` is the number of lines dropped so far; a line reports it once writing is possible again.
    """

    def __init__(self, fd: int = 2) -> None:
        super().__init__()
        self._fd = fd
        self._poll = select.poll()
        self._poll.register(fd, select.POLLOUT)
        self.lost = 0
        self._reported_lost = 0
        self._is_torn = False

    def emit(self, record: logging.LogRecord) -> None:
        """Write one record without blocking or raising."""
        try:
            text = without_hidden(self.format(record))
            if self.lost > self._reported_lost and self._write(
                f'{{"event": "log.lost", "lines": {self.lost - self._reported_lost}}}\n'
            ):
                self._reported_lost = self.lost
            if not self._write(text + "\n"):
                self.lost += 1
        except Exception:  # no record may end the program
            self.lost += 1

    def _write(self, text: str) -> bool:
        # Separate this line from a truncated one.
        data = (b"\n" if self._is_torn else b"") + text.encode("utf-8", "backslashreplace")
        for start in range(0, len(data), _PIPE_ATOMIC):
            if not self._poll.poll(0):
                self._is_torn = self._is_torn or start > 0
                return False
            os.write(self._fd, data[start : start + _PIPE_ATOMIC])
        self._is_torn = False
        return True


_fold = FoldRepeats()


def setup(level: str = "info", *, pretty: bool | None = None, fd: int = 2) -> StderrHandler:
    """Send this process's records from ``level`` on to ``fd``, as text or JSON; ``pretty`` None: text on a terminal."""
    handler = StderrHandler(fd)
    handler.setFormatter(PrettyFormatter() if (sys.stderr.isatty() if pretty is None else pretty) else JsonFormatter())
    handler.addFilter(_fold)
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
    for chatty in ("urllib3", "websockets", "asyncio"):
        logging.getLogger(chatty).setLevel(logging.WARNING)
    return handler


def flush_repeats() -> None:
    """Log the counts of folded records whose kind has not occurred again; call it periodically."""
    for (level, event, *values), count in _fold.drain():
        fields = {**dict(zip(_FOLDED_BY, values, strict=True)), "of": event, "count": count}
        logging.getLogger(__name__).log(int(str(level)), "log.repeated", extra={"fields": fields})
