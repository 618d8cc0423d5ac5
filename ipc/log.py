"""Logging: stdlib loggers that carry an event name and fields, written to stderr without ever blocking.

A line is pretty on a terminal and one JSON object elsewhere. Repeats of one event are folded and counted. A reader of
stderr that stands still costs lines, which are counted, and never time.
"""

from __future__ import annotations

import json
import logging
import os
import select
import sys
import threading
import time
from collections.abc import Callable
from typing import Final
from urllib.parse import quote

__all__ = [
    "EventLog",
    "FoldRepeats",
    "StderrHandler",
    "flush_repeats",
    "get_log",
    "hide",
    "prettied",
    "setup",
    "without_hidden",
]

#: POSIX: a write of at most this many bytes to a pipe that polls writable does not block.
_PIPE_ATOMIC: Final = 4096
_FOLD_WINDOW_S: Final = 10.0
_FOLD_BURST: Final = 5
_FOLD_KEYS: Final = 1024
_FOLDED_BY: Final = ("venue", "stream", "symbol", "reason", "of")


class EventLog:
    """A logger whose message is a dotted event name and whose arguments are fields.

    ``log.warning("ws.stale", venue="lighter", stream="book")``. Fields are plain values; None is left out.
    """

    def __init__(self, logger: logging.Logger) -> None:
        self._logger = logger

    def debug(self, event: str, **fields: object) -> None:
        """Of interest only to someone who is looking into it."""
        self._logger.debug(event, extra={"fields": fields})

    def info(self, event: str, **fields: object) -> None:
        """A change of state."""
        self._logger.info(event, extra={"fields": fields})

    def warning(self, event: str, **fields: object) -> None:
        """A fault that heals by itself."""
        self._logger.warning(event, extra={"fields": fields})

    def error(self, event: str, **fields: object) -> None:
        """A fault that needs a person."""
        self._logger.error(event, extra={"fields": fields})

    def exception(self, event: str, **fields: object) -> None:
        """An error with the traceback of the exception that is being handled."""
        self._logger.exception(event, extra={"fields": fields})  # noqa: LOG004 - callers handle one


#: Texts that nothing may show, those used last standing last.
_hidden: dict[str, None] = {}
_hidden_lock: Final = threading.Lock()
#: Shorter ones are no secrets, and would tear holes into every line.
_MIN_HIDDEN: Final = 6
#: Nor are numbers of fewer digits, such as those of accounts; lines are full of numbers, and times are some of them.
_MIN_DIGITS: Final = 12
#: Tokens are renewed every few minutes; the oldest of so many have long expired.
_MAX_HIDDEN: Final = 256


def hide(secret: str) -> None:
    """Never show this text, from now on; a last line of defence behind not showing it.

    It is forgotten when many others were hidden after it, so hide a secret whenever it is used.
    """
    if len(secret) < (_MIN_DIGITS if secret.isdecimal() else _MIN_HIDDEN):
        return
    with _hidden_lock:
        for text in (secret, json.dumps(secret)[1:-1], quote(secret, safe="")):
            _hidden.pop(text, None)
            _hidden[text] = None
        while len(_hidden) > _MAX_HIDDEN:
            del _hidden[next(iter(_hidden))]


def without_hidden(text: str) -> str:
    """``text`` with every hidden one blotted out, the longest first: one may be part of another."""
    for secret in sorted(_hidden, key=len, reverse=True):
        text = text.replace(secret, "(hidden)")
    return text


def get_log(name: str) -> EventLog:
    """The event log of a module: ``get_log(__name__)``."""
    return EventLog(logging.getLogger(name))


def _fields(record: logging.LogRecord) -> dict[str, object]:
    fields: dict[str, object] = getattr(record, "fields", {})
    return {key: value for key, value in fields.items() if value is not None}


class PrettyFormatter(logging.Formatter):
    """``12:30:01.250 WARNING ws.stale venue=lighter stream=book``."""

    def format(self, record: logging.LogRecord) -> str:
        """One line, with the traceback below it when there is one."""
        clock = time.strftime("%H:%M:%S", time.localtime(record.created))
        fields = " ".join(f"{key}={value}" for key, value in _fields(record).items())
        line = f"{clock}.{int(record.msecs):03d} {record.levelname:<7} {record.getMessage()} {fields}".rstrip()
        return line if not record.exc_info else f"{line}\n{self.formatException(record.exc_info)}"


def prettied(line: str) -> str:
    """A line of :class:`JsonFormatter` as :class:`PrettyFormatter` would have written it; others as they are."""
    try:
        told = json.loads(line)
        moment = float(told.pop("ts"))
        head = f"{told.pop('level').upper():<7} {told.pop('event')}"
    except (ValueError, TypeError, AttributeError, KeyError):
        return line
    traceback = told.pop("traceback", None)
    told.pop("logger", None)
    clock = time.strftime("%H:%M:%S", time.localtime(moment))
    fields = " ".join(f"{key}={value}" for key, value in told.items() if key != "pid")
    pretty = f"{clock}.{int(moment % 1 * 1000):03d} {head} {fields}".rstrip()
    return pretty if traceback is None else f"{pretty}\n{traceback}"


class JsonFormatter(logging.Formatter):
    """One JSON object a line: ``ts`` (seconds since the epoch), ``level``, ``event``, ``pid``, then the fields."""

    def format(self, record: logging.LogRecord) -> str:
        """The record as JSON; a value that JSON does not know is shown as text."""
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
        return json.dumps(line, default=str)


class FoldRepeats(logging.Filter):
    """Lets ``_FOLD_BURST`` records of a kind pass in ``_FOLD_WINDOW_S`` seconds and counts the rest.

    The kind is the level, the event and the fields venue, stream, symbol, reason and of. The count is told with the
    next record of that kind, or by :meth:`drain`. At most ``_FOLD_KEYS`` kinds are kept; one that makes room is told of
    by the next drain.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__()
        self._clock = clock
        self._lock = threading.Lock()
        self._seen: dict[tuple[object, ...], list[float]] = {}  # kind -> [window start, passed, folded]
        self._evicted: list[tuple[tuple[object, ...], int]] = []

    def filter(self, record: logging.LogRecord) -> bool:
        """Decide whether ``record`` passes; adds ``repeated`` to its fields when others were folded before it."""
        fields = getattr(record, "fields", {})
        try:
            kind = (record.levelno, record.getMessage(), *(fields.get(key) for key in _FOLDED_BY))
            hash(kind)
        except Exception:  # an odd record of somebody's: whoever formats it counts it
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
        """The kinds whose window is over with records folded, and how many; they are forgotten."""
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
    """Writes lines to a file descriptor, and drops (and counts) them while nobody reads it.

    ``lost`` is the number of lines dropped so far; the next line that gets through says so.
    """

    def __init__(self, fd: int = 2) -> None:
        super().__init__()
        self._fd = fd
        self._poll = select.poll()
        self._poll.register(fd, select.POLLOUT)
        self.lost = 0
        self._told = 0
        self._is_torn = False

    def emit(self, record: logging.LogRecord) -> None:
        """Write one record; never blocks and never raises."""
        try:
            text = without_hidden(self.format(record))
            if self.lost > self._told and self._write(f'{{"event": "log.lost", "lines": {self.lost - self._told}}}\n'):
                self._told = self.lost
            if not self._write(text + "\n"):
                self.lost += 1
        except Exception:  # whatever a record holds, telling of it must not end the program
            self.lost += 1

    def _write(self, text: str) -> bool:
        # A line that was cut off in its midst must not spoil this one.
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
    """Send all records of this process to ``fd``.

    Args:
        level: ``debug``, ``info``, ``warning`` or ``error``.
        pretty: For people (True) or programs (False); None decides by whether stderr is a terminal.
        fd: Where to write.
    """
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
    """Tell of folded records whose kind has not come again; call it now and then."""
    for (level, event, *values), count in _fold.drain():
        fields = {**dict(zip(_FOLDED_BY, values, strict=True)), "of": event, "count": count}
        logging.getLogger(__name__).log(int(str(level)), "log.repeated", extra={"fields": fields})
