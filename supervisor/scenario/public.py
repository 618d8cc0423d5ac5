"""Public side of a scenario: a venue's sessions, its REST answers and the resulting feed."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final

import msgspec

from ipc.board import MARKETS
from ipc.codec import decode
from ipc.errors import DecodeError, UsageError
from ipc.events import BookSnapshot, Event, Funding, Heartbeat, Mark
from ipc.health import Reason, Stream
from ipc.raw import RawKind, RawRecord, make
from ipc.topics import Topic
from supervisor.scenario.clock import NS
from supervisor.scenario.rest import Answer
from supervisor.scenario.run import ScenarioRun
from supervisor.scenario.seen import ObservedFeed
from workers import markets
from workers.fixture import Stage
from workers.heartbeat import heartbeat_book
from workers.net.rest import RestError
from workers.protocol.actions import CloseConnection, FetchBook, LogEvent, Publication, Send, SendPing, StateChanged
from workers.protocol.policy import Policy
from workers.protocol.session import MarketSession
from workers.protocol.streams import MarketStream
from workers.status import StatusPublisher
from workers.venues.listing import Listing
from workers.venues.rows import InvalidRow, split_rows
from workers.venues.venue import ConnectionSpec, parse_answer

_BEAT_NS: Final = NS


class Public:
    """Public connections of a venue, created when its markets are known.

    Args:
        run: Scenario being played.
        feed: Receives the events.
    """

    def __init__(self, run: ScenarioRun, feed: ObservedFeed) -> None:
        self.sessions: dict[str, MarketSession] = {}
        self.listed: tuple[Listing, ...] = ()
        self._run = run
        self._venue = run.venue
        self._scenario = run.scenario
        self._clock = run.clock
        self._feed = feed
        self._report = run.report
        self._rest = run.rest
        self._reporter = StatusPublisher(run.venue.name, run.board, feed, run.clock.mono)
        self._stage = self._make_stage()
        self._closing: list[tuple[MarketSession, CloseConnection]] = []
        self._heartbeat = feed.topic(Topic("heartbeat", run.venue.name, ""))
        self._beat_ns = run.clock.mono()

    def list_markets(self, listings: Sequence[Listing]) -> None:
        """Apply the venue's market list: the first one creates the connections, later ones update them.

        Raises:
            UsageError: There are more markets than a worker follows.
        """
        self.listed = tuple(listings)
        bases = self._scenario.markets or [str(one.base) for one in listings if one.base is not None]
        resolved = markets.resolve(listings, bases)
        for base, reason in resolved.missing.items():
            self._report.add(note="market.missing", base=base, reason=reason)
        if len(resolved.listings) > MARKETS:
            what = f"{len(resolved.listings)} markets, and a worker follows {MARKETS}"
            raise UsageError(what, where=self._run.path, advice='name some: "markets": ["BTC"]')
        self._publish_instruments(resolved.listings)
        if not self.sessions:
            self._connect(resolved.listings)
            return
        symbols = {route.symbol for session in self.sessions.values() for route in session.streams}
        known = [one for one in resolved.listings if str(one.symbol) in symbols]
        if len(known) == len(symbols):
            for session in self.sessions.values():
                session.update_listings(known)

    def _publish_instruments(self, listings: Iterable[Listing]) -> None:
        name = self._venue.name
        for listing in listings:
            feed = self._feed.topic(Topic("instrument", name, str(listing.symbol)))
            with self._feed.exclusive():
                self._feed.send_latest(feed, "instrument", listing.instrument(name))

    def _connect(self, listings: tuple[Listing, ...]) -> None:
        settings, keepalive = self._scenario.settings, self._venue.keepalive
        policy = Policy(
            stale_ns=int(settings.stale_s * NS),
            ping_ns=int((settings.ping_s or keepalive.interval_s) * NS),
            pong_ns=int(keepalive.pong_within_s * NS),
            venue_flows=lambda _now: settings.flows,
        )
        plans: tuple[ConnectionSpec, ...] = ()
        if listings:
            plans = self._venue.connections(listings, self._venue.ws_url, self._run.options)
        self.sessions = {plan.name: MarketSession(self._venue, plan, listings, policy) for plan in plans}
        places = {str(listing.symbol): place for place, listing in enumerate(listings)}
        for session in self.sessions.values():
            for route in session.streams:
                route.cell_offset = self._run.board.cell(0, places[route.symbol], route.kind).at
                route.feed = self._feed.topic(Topic(route.kind, self._venue.name, route.symbol))
        self._stage = self._make_stage()

    def _make_stage(self) -> Stage:
        sessions = list(self.sessions.values())
        return Stage(self._venue, sessions, self._publish, self._settle, self._feed.exclusive)

    def frames(self, name: str, frames: Iterable[tuple[bool, bytes]]) -> None:
        """Process the frames of one socket read, each with its binary flag."""
        records = [self._record("in", name, payload, is_binary=is_binary) for is_binary, payload in frames]
        if not self.is_open(name):
            self._report.add(note="frame on a closed connection", on=f"public/{name}", frames=len(records))
            records.clear()
        self._play(*records)

    def adopt(self, name: str, book: bytes) -> None:
        """Adopt a book as it was when a recording started.

        Raises:
            UsageError: It is not a ``book_snapshot`` event.
        """
        try:
            event = decode(book)
        except DecodeError as error:
            raise UsageError(f"not a book_snapshot: {error.what}") from error
        if not isinstance(event, BookSnapshot):
            raise UsageError("not a book_snapshot", advice='write the event: {"kind": "book_snapshot", "venue": …}')
        self._play(self._record("book", name, book))

    def is_open(self, name: str) -> bool:
        """Return whether a connection is open."""
        return name in self._stage.open

    def open(self, name: str, *, is_midway: bool = False) -> None:
        """Open a connection; ``is_midway`` when it has been open for a while and its trade history has passed."""
        self._report.add(on=f"public/{name}", open=True)
        if is_midway:
            self._stage.join(name, self._clock.mono())
            self._play()
        else:
            self._play(self._record("open", name))

    def close(self, name: str, reason: Reason) -> None:
        """Close a connection, as the venue or the network does."""
        self._play(self._record("close", name, reason.encode()))

    def tick(self) -> None:
        """Run the timers."""
        self._play()
        if self._clock.mono() >= self._beat_ns:
            self._beat_ns += _BEAT_NS
            self._beat()

    def recorded(self, symbol: str, purpose: str, answer: Answer) -> None:
        """Deliver a recorded book answer, requested or not.

        Raises:
            UsageError: No connection carries the book.
        """
        carrying = (key for key, one in self.sessions.items() if any(r.symbol == symbol for r in one.book_streams))
        name = next(carrying, None)
        if name is None:
            raise UsageError(f"no book of {symbol!r} is followed", advice='say "to": "book BTC-PERP"')
        self._rest.forget("book", symbol)
        what = f"book {symbol} {purpose}"
        if isinstance(answer, RestError):
            self._report.add(on="rest", failed=what, reason=answer.reason, text=answer.what)
            record = self._record("rest", name, symbol=symbol, purpose=purpose, reason=answer.reason)
        else:
            self._report.add(on="rest", answered=what)
            record = self._record("rest", name, answer, symbol=symbol, purpose=purpose)
        self._play(record)

    def list_answered(self, answers: Sequence[Answer]) -> None:
        """Process the venue's answers to the requests for its market list."""
        try:
            bodies = [_body(answer) for answer in answers]
            listings, invalid = split_rows(parse_answer(self._venue.parse_listings, bodies))
        except (RestError, DecodeError) as error:
            self._report.add(note="markets.unresolved", error=error.what)
            return
        self._report_invalid(invalid)
        self.list_markets(listings)

    def poll(self, name: str, answer: Answer) -> None:
        """Run a poll and process its answer.

        Raises:
            UsageError: The venue has no such poll.
        """
        listings = {route.symbol: route.listing for one in self.sessions.values() for route in one.streams}
        polls = {poll.name: poll for poll in self._venue.polls(tuple(listings.values()))}
        poll = polls.get(name) or next((one for one in polls.values() if str(one.stream) == name), None)
        if poll is None:
            raise UsageError(f"no poll {name!r}", advice=f"say one of: {', '.join(f'poll {one}' for one in polls)}")
        self._rest.report(poll.request(self._clock.wall() // 1_000_000), "poll", poll.name)
        try:
            events, invalid = split_rows(parse_answer(poll.parse, _body(answer)))
        except (RestError, DecodeError) as error:
            reason = error.reason if isinstance(error, RestError) else Reason.PARSE_ERRORS
            self._report.add(note="poll.failed", poll=poll.name, reason=reason, error=error.what)
            return
        self._report_invalid(invalid)
        self._publish_polled(events)

    def _report_invalid(self, rows: Iterable[InvalidRow]) -> None:
        for row in rows:
            self._report.add(note="rest.invalid_row", what=row.what, error=row.error)

    def resend(self, topics: Iterable[str]) -> None:
        """Publish snapshots that a consumer requested."""
        wanted = set(topics)
        for session in self.sessions.values():
            for route in session.book_streams:
                if route.feed.name.decode() in wanted and (book := session.refresh(route)) is not None:
                    with self._feed.exclusive():
                        self._feed.send(route.feed, book)

    def _play(self, *records: RawRecord) -> None:
        """Run an action on sessions at one point in time, then close the connections that they closed."""
        self._stage.step(records, self._clock.mono())
        while self._closing:
            session, wish = self._closing.pop(0)
            name = session.connection.name
            if self.is_open(name):
                self._report.add(on=f"public/{name}", close=wish.reason, text=wish.text)
                self._stage.step([self._record("close", name, wish.reason.encode())], self._clock.mono())

    def _record(
        self, kind: RawKind, name: str, payload: bytes = b"", *, is_binary: bool = False, **more: str | None
    ) -> RawRecord:
        return make(kind, name, self._clock.mono(), self._clock.wall(), payload, is_binary=is_binary, **more)

    def _publish(self, _session: MarketSession, publications: list[Publication], _is_caused: bool) -> None:  # noqa: FBT001
        for route, event in publications:
            if event is not None:
                self._feed.send(route.feed, event)

    def _settle(self, session: MarketSession) -> None:
        on = f"public/{session.connection.name}"
        todo = session.actions.drain()
        self._reporter.changed([one for one in todo if isinstance(one, StateChanged)], attempt=1, backoff_s=None)
        for action in todo:
            match action:
                case Send(message):
                    self._report.add(on=on, send=message_of(message))
                    if message == self._venue.keepalive.ping:
                        self._pong(session)
                case SendPing():
                    self._report.add(on=on, send="(ping)")
                    self._pong(session)
                case CloseConnection():
                    self._closing.append((session, action))
                case FetchBook(route, purpose):
                    self._fetch(session, route, purpose)
                case LogEvent(event, fields):
                    self._report.add(note=event, on=on, **fields)
                case _:
                    pass

    def _pong(self, session: MarketSession) -> None:
        if self._scenario.settings.pongs:
            session.ponged()

    def _fetch(self, session: MarketSession, route: MarketStream, purpose: str) -> None:
        names = ("book", route.symbol, purpose)
        words = self._rest.report(self._venue.book_request(route.listing), *names).union(names)

        def handle(answer: Answer) -> None:
            if self.is_open(session.connection.name):
                self.recorded(route.symbol, purpose, answer)

        self._rest.wait(words, handle)

    def _publish_polled(self, events: Iterable[Event]) -> None:
        for event in events:
            is_mark = isinstance(event, Mark)
            feed = self._feed.topic(Topic("mark" if is_mark else "funding", self._venue.name, str(event.symbol)))
            event.flags = ("rest",)
            if isinstance(event, Funding):
                event.polled_ns = self._clock.wall()
            with self._feed.exclusive():
                self._feed.send_latest(feed, "rest" if is_mark else getattr(event, "phase", ""), event)

    def _beat(self) -> None:
        now = self._clock.mono()
        routes = [route for one in self.sessions.values() for route in one.book_streams if route.kind is Stream.BOOK]
        with self._feed.exclusive():
            books = {route.symbol: heartbeat_book(route, now, _checksum(route)) for route in routes}
            beat = Heartbeat(
                venue=self._venue.name,
                symbol=None,
                venue_symbol=None,
                exchange_ns=None,
                seqs=self._feed.last_seqs(),
                books=books,
                drops=0,
                rss_bytes=0,
            )
            self._feed.send(self._heartbeat, beat)


def _body(answer: Answer) -> bytes:
    if isinstance(answer, RestError):
        raise answer
    return answer


def message_of(message: bytes) -> object:
    """Return a message as JSON if it is valid JSON, else as text."""
    try:
        return msgspec.json.decode(message)
    except ValueError:
        return message.decode("utf-8", "replace")


def _checksum(route: MarketStream) -> int | None:
    return route.book_sync.crc32_top10() if route.book_sync is not None and route.is_published_valid else None
