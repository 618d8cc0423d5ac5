"""Fixture mode: recorded frames through the same decoders and session brain as live ones. No sockets, no watchdogs.

The brain is told the recorded times, and the passing of time behind every read of a socket and in steps of 50 ms
between them; nothing depends on when or how fast the recording is played. So one recording always gives the same
events, apart from their stamps.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any, Final

import msgspec

from ipc.codec import decode
from ipc.errors import ConfigError, DecodeError
from ipc.events import BookSnapshot, Cause
from ipc.health import Reason
from ipc.log import get_log
from ipc.raw import RawHeader, RawRecord, decode_line
from workers.protocol.actions import Publication
from workers.protocol.session import MarketSession, cause_after
from workers.venues.venue import Listing, Venue, parse_answer

__all__ = ["Fixture", "Player", "Stage", "load"]

log = get_log(__name__)

_NS: Final = 1_000_000_000
_TICK_NS: Final = 50_000_000


@dataclass(frozen=True, slots=True)
class Fixture:
    """A recording: its markets and options, and its records in order."""

    listings: tuple[Listing, ...]
    options: Mapping[str, str]
    records: tuple[RawRecord, ...]


def load(directory: str, venue: str) -> Fixture:
    """Read every ``*.jsonl`` of a directory, in the order of their names.

    Raises:
        ConfigError: There is no recording of this venue; no retry mends that.
    """
    paths = sorted(Path(directory).glob("*.jsonl"))
    header: RawHeader | None = None
    records: list[RawRecord] = []
    for path in paths:
        for number, item in _read(path):
            if isinstance(item, RawRecord):
                records.append(item)
            elif item.venue != venue:
                raise ConfigError([f"{path}:{number}: a recording of {item.venue}, not of {venue}"])
            elif item.listings:
                header = item
    if header is None or not records:
        raise ConfigError([f"{directory}: no recording of {venue} with its markets; make one with `record --raw`"])
    listings = tuple(msgspec.convert({**row, "symbol": None}, Listing) for row in header.listings)
    records.sort(key=lambda record: record.mono_ns)
    return Fixture(listings, header.options, tuple(records))


def _read(path: Path) -> Iterator[tuple[int, RawHeader | RawRecord]]:
    with path.open("rb") as file:
        for number, line in enumerate(file, start=1):
            try:
                yield number, decode_line(line)
            except DecodeError as error:
                log.warning("fixture.line_skipped", path=str(path), line=number, error=error.what)


class Stage:
    """The sessions of a venue, without sockets: they are told what happened to them, and that time passes.

    Args:
        venue: The venue.
        sessions: The brains, by name.
        publish: Takes what a session publishes, and whether a frame caused it, which stamps freshness; within a turn.
        settle: Takes what waits in a session's ``todo``; behind the turn.
        turn: Gives a turn, in which the sessions change their books: nobody is to see a book ahead of its topic.
    """

    def __init__(
        self,
        venue: Venue,
        sessions: Sequence[MarketSession],
        publish: Callable[[MarketSession, list[Publication], bool], None],
        settle: Callable[[MarketSession], None],
        turn: Callable[[], AbstractContextManager[object]],
    ) -> None:
        #: Names of the sessions whose connection is open.
        self.open: set[str] = set()
        self._venue = venue
        self._sessions = {session.connection.name: session for session in sessions}
        self._publish = publish
        self._settle = settle
        self._turn = turn
        #: What the next connection of a session is for, by the end of its last one.
        self._causes: dict[str, Cause] = {}

    def join(self, name: str, now_ns: int) -> None:
        """Take a connection for one that has been open for a while: its history of trades is over."""
        self._join(self._sessions[name], now_ns)

    def step(self, records: Iterable[RawRecord], now_ns: int) -> int:
        """What happened at one time, which is what one read of a socket gave, and then the time itself."""
        played = 0
        with self._turn():
            for record in records:
                session = self._sessions.get(record.session)
                if session is not None:
                    self._play(session, record, now_ns)
                    played += 1
            for name, session in self._sessions.items():
                if name in self.open:
                    self._publish(session, session.tick(now_ns), False)
        for session in self._sessions.values():
            if session.actions:
                self._settle(session)
        return played

    def _play(self, session: MarketSession, record: RawRecord, now_ns: int) -> None:
        if record.kind in {"in", "rest", "book"} and record.session not in self.open:
            self._join(session, now_ns)
        match record.kind:
            case "open":
                self._close(session, Reason.CRASH, now_ns)  # of a connection whose end nobody lived to tell
                self._open_session(session, now_ns)
            case "in":
                self._publish(session, session.received(record.is_binary, record.payload, now_ns), True)
            case "rest":
                self._publish(session, self._fetched(session, record, now_ns), False)
            case "book":
                self._take_over(session, record, now_ns)
            case "close":
                self._close(session, _reason(record.text), now_ns)
            case "out":
                pass  # what was said then; the brain says its own again, to nobody

    def _open_session(self, session: MarketSession, now_ns: int) -> None:
        name = session.connection.name
        session.connecting(now_ns)
        session.opened(now_ns, self._causes.get(name, "subscribe"))
        self.open.add(name)

    def _join(self, session: MarketSession, now_ns: int) -> None:
        """The recording begins when the connection is open already, and its history of trades is over."""
        self._open_session(session, now_ns)
        session.skip_backlogs()

    def _take_over(self, session: MarketSession, record: RawRecord, now_ns: int) -> None:
        """The book as it stood, which is news where the recording begins, or goes on after a pause."""
        try:
            book = decode(record.payload)
        except DecodeError:
            return
        if not isinstance(book, BookSnapshot):
            return
        holds = session.holds(book)
        if holds is False:
            # What was followed is not what went on: between the two there is a piece that nobody recorded.
            self._close(session, Reason.CRASH, now_ns)
            self._join(session, now_ns)
        if not holds:
            self._publish(session, session.adopt_book(book, now_ns), True)

    def _close(self, session: MarketSession, reason: Reason, now_ns: int) -> None:
        name = session.connection.name
        if name in self.open:
            self.open.discard(name)
            self._causes[name] = cause_after(reason)
            self._publish(session, session.closed(reason, now_ns), False)

    def _fetched(self, session: MarketSession, record: RawRecord, now_ns: int) -> list[Publication]:
        route = next((one for one in session.book_streams if one.symbol == record.symbol), None)
        if route is None or record.purpose is None:
            return []
        # The brain asked at about this time as well; the answer must not depend on which of the two was first.
        route.fetch.request(now_ns)
        purpose: Any = record.purpose
        if record.reason:
            return session.fetched(route, purpose, None, _reason(record.reason), now_ns)
        try:
            book = parse_answer(self._venue.parse_book, record.payload, route.listing)
        except DecodeError:
            return session.fetched(route, purpose, None, Reason.PARSE_ERRORS, now_ns)
        return session.fetched(route, purpose, book, None, now_ns)


class Player:
    """Plays a fixture into the sessions of a venue.

    Args:
        fixture: The recording.
        stage: The sessions.
        is_paced: Whether the recorded timing is kept; if not, the end of the recording is taken for now.
        stop: Asked before every record.
    """

    def __init__(self, fixture: Fixture, stage: Stage, *, is_paced: bool, stop: Callable[[], bool]) -> None:
        self._fixture = fixture
        self._stage = stage
        self._is_paced = is_paced
        self._stop = stop

    def run(self) -> int:
        """Play to the end, or until told to stop; how many records were played."""
        first_ns, last_ns = self._fixture.records[0].mono_ns, self._fixture.records[-1].mono_ns
        now_ns = time.monotonic_ns()
        # Of what is recorded only the distances matter: it begins now or, played at once, has just come to its end.
        shift_ns = now_ns - first_ns if self._is_paced else max(now_ns - last_ns, 1 - first_ns)
        now_ns = first_ns + shift_ns
        played = 0
        for mono_ns, together in groupby(self._fixture.records, key=lambda record: record.mono_ns):
            while now_ns + _TICK_NS < mono_ns + shift_ns:
                now_ns += _TICK_NS
                if self._wait(now_ns):
                    return played
                self._stage.step((), now_ns)
            now_ns = mono_ns + shift_ns
            if self._wait(now_ns):
                return played
            played += self._stage.step(together, now_ns)
        return played

    def _wait(self, due_ns: int) -> bool:
        """Keep the recorded timing, if that is asked for; whether to stop."""
        while self._is_paced and not self._stop() and (left_ns := due_ns - time.monotonic_ns()) > 0:
            time.sleep(min(left_ns / _NS, 0.1))
        return self._stop()


def _reason(text: str | None) -> Reason:
    """The reason in a record; a recording of another version may have words of its own."""
    return Reason(text) if text in set(Reason) else Reason.SERVER_CLOSE
