"""Fixture mode: recorded frames through the decoders and sessions of live ones, without sockets or watchdog.

Sessions receive the recorded times: a tick follows every read of a socket, and one every 50 ms in between. Nothing
depends on when or how fast a recording is played, so it always gives the same events apart from their stamps.
"""

from __future__ import annotations

import threading
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
from ipc.publisher import Publisher
from ipc.raw import RawHeader, RawRecord, decode_line
from workers.net.connection import ConnectionThread
from workers.protocol.actions import Publication
from workers.protocol.session import MarketSession, cause_after
from workers.venues.listing import Listing
from workers.venues.venue import Venue, parse_answer

log = get_log(__name__)

_NS: Final = 1_000_000_000
#: Time for subscribers to connect before the first event.
_SUBSCRIBE_S: Final = 0.5
_TICK_NS: Final = 50_000_000


@dataclass(frozen=True, slots=True)
class Fixture:
    """Recording of a venue: markets, options, and records in order."""

    listings: tuple[Listing, ...]
    options: Mapping[str, str]
    records: tuple[RawRecord, ...]


def load(directory: str, venue: str) -> Fixture:
    """Read a directory's ``*.jsonl`` in order of their names; raise ConfigError without a recording of this venue."""
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
    """Sessions of a venue without sockets, driven by records and the clock.

    ``publish`` publishes a session's events with the lock held (its flag: a frame caused them, which stamps freshness);
    ``settle`` executes a session's actions after the lock is released; ``lock`` returns the publisher's lock.
    """

    def __init__(
        self,
        venue: Venue,
        sessions: Sequence[MarketSession],
        publish: Callable[[MarketSession, list[Publication], bool], None],
        settle: Callable[[MarketSession], None],
        lock: Callable[[], AbstractContextManager[object]],
    ) -> None:
        #: Names of the sessions whose connection is open.
        self.open: set[str] = set()
        self._venue = venue
        self._sessions = {session.connection.name: session for session in sessions}
        self._publish = publish
        self._settle = settle
        self._lock = lock
        #: Cause of the first books of a session's next connection, by how the last one ended.
        self._causes: dict[str, Cause] = {}

    def join(self, name: str, now_ns: int) -> None:
        """Treat a connection as open for a while: its history of trades has passed."""
        self._join(self._sessions[name], now_ns)

    def step(self, records: Iterable[RawRecord], now_ns: int) -> int:
        """Apply the records of one time, which is one read of a socket, then tick; return the number of records."""
        played = 0
        with self._lock():
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
                self._close(session, Reason.CRASH, now_ns)  # the recording lacks the end of a connection before
                self._open_session(session, now_ns)
            case "in":
                self._publish(session, session.received(record.is_binary, record.payload, now_ns), True)
            case "rest":
                self._publish(session, self._fetched(session, record, now_ns), False)
            case "book":
                self._adopt_book(session, record, now_ns)
            case "close":
                self._close(session, _reason(record.text), now_ns)
            case "out":
                pass  # the session produces its own messages

    def _open_session(self, session: MarketSession, now_ns: int) -> None:
        name = session.connection.name
        session.connecting(now_ns)
        session.opened(now_ns, self._causes.get(name, "subscribe"))
        self.open.add(name)

    def _join(self, session: MarketSession, now_ns: int) -> None:
        """Open a session whose recording begins in the middle of a connection, after the history of trades."""
        self._open_session(session, now_ns)
        session.skip_backlogs()

    def _adopt_book(self, session: MarketSession, record: RawRecord, now_ns: int) -> None:
        """Adopt a recorded book, which is new where the recording begins or continues after a gap."""
        try:
            book = decode(record.payload)
        except DecodeError:
            return
        if not isinstance(book, BookSnapshot):
            return
        holds = session.holds(book)
        if holds is False:
            # The books differ, so frames between the two were not recorded.
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
        stream = next((one for one in session.book_streams if one.symbol == record.symbol), None)
        if stream is None or record.purpose is None:
            return []
        # The session requests the book at about this time too; the result must not depend on which comes first.
        stream.fetch.request(now_ns)
        purpose: Any = record.purpose
        if record.reason:
            return session.fetched(stream, purpose, None, _reason(record.reason), now_ns)
        try:
            book = parse_answer(self._venue.parse_book, record.payload, stream.listing)
        except DecodeError:
            return session.fetched(stream, purpose, None, Reason.PARSE_ERRORS, now_ns)
        return session.fetched(stream, purpose, book, None, now_ns)


def make_player(
    fixture: Fixture,
    venue: Venue,
    connections: Sequence[ConnectionThread],
    publisher: Publisher,
    *,
    is_paced: bool,
    stop: Callable[[], bool],
) -> Player:
    """Return a player of a fixture into the sessions of connections, which publish the events."""
    by_session = {connection.session: connection for connection in connections}

    def publish(session: MarketSession, publications: list[Publication], is_caused: bool) -> None:  # noqa: FBT001
        now = time.monotonic_ns() if is_caused else 0
        by_session[session].publish(publications, now, time.time_ns())

    stage = Stage(
        venue, list(by_session), publish, lambda session: by_session[session].publish_changes(), publisher.exclusive
    )
    return Player(fixture, stage, is_paced=is_paced, stop=stop)


def play(player: Player, venue: str, stop: threading.Event) -> None:
    """Play a fixture when subscribers had time to connect, then wait until stopped."""
    stop.wait(_SUBSCRIBE_S)
    played = player.run()
    log.info("fixture.played", venue=venue, records=played)
    stop.wait()


class Player:
    """Player of a fixture into the sessions of a venue; unpaced, it ends now. ``stop`` is called before each record."""

    def __init__(self, fixture: Fixture, stage: Stage, *, is_paced: bool, stop: Callable[[], bool]) -> None:
        self._fixture = fixture
        self._stage = stage
        self._is_paced = is_paced
        self._stop = stop

    def run(self) -> int:
        """Play to the end or until stopped; return the number of records played."""
        first_ns, last_ns = self._fixture.records[0].mono_ns, self._fixture.records[-1].mono_ns
        now_ns = time.monotonic_ns()
        # Only intervals matter: a paced recording begins now, any other has just ended.
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
        """Wait for the recorded time when paced; return whether to stop."""
        while self._is_paced and not self._stop() and (left_ns := due_ns - time.monotonic_ns()) > 0:
            time.sleep(min(left_ns / _NS, 0.1))
        return self._stop()


def _reason(text: str | None) -> Reason:
    """Return the reason in a record, or a default for one that this version does not know."""
    return Reason(text) if text in set(Reason) else Reason.SERVER_CLOSE
