"""A worker: one venue's connections, REST lanes and watchdog around one publisher, kept going by the main thread.

The main thread does nothing that can block: every 100 ms it looks after the threads, counts usable books, lets joiners
of a silent feed in, and once a second sends the heartbeat.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Final

import msgspec
import psutil
import zmq

from ipc.board import ACCOUNT_SESSION, Board, CellWord, SessionWord, WorkerWord
from ipc.events import Heartbeat, HeartbeatBook
from ipc.health import Phase, Reason, SelfFault, Stream, StreamState, code_of, word_of
from ipc.log import flush_repeats, get_log
from ipc.publisher import Publisher
from ipc.remote import FeedListener
from ipc.rundir import RunDir, replace_file
from ipc.sequence import Epochs
from ipc.topics import Topic, symbol_of
from workers import markets
from workers.accounts.runner import SESSION_NAMES, AccountRunner
from workers.fixture import Player, Stage
from workers.fixture import load as load_fixture
from workers.net.connection import ConnectionThread
from workers.net.rest import RestBudget
from workers.net.rest_threads import RestPoller, SnapshotFetcher
from workers.outage import OutageDetector, unanswered_since_ns
from workers.protocol.actions import FetchBook, Publication
from workers.protocol.funding_intervals import FundingIntervals
from workers.protocol.pacing import TokenBucket
from workers.protocol.recovery import Policy
from workers.protocol.session import MarketSession, is_refused
from workers.protocol.streams import MarketStream
from workers.recorder import FrameRecorder, save_left_behind
from workers.self_faults import SELF_FAULTS
from workers.settings import WorkerSettings
from workers.status import StatusPublisher
from workers.threads import ThreadSupervisor
from workers.venues import VENUES, private_venue
from workers.venues.venue import Listing
from workers.watchdog import Watchdog, WatchdogLimits, Watched

__all__ = ["REST_SHARE", "Worker", "heartbeat_book"]

log = get_log(__name__)

_NS: Final = 1_000_000_000
_MS: Final = 1_000_000
_LOOP_S: Final = 0.1
_HEARTBEAT_NS: Final = _NS
_HOUSEKEEPING_NS: Final = _NS
#: Books whose checksum goes into one heartbeat: it takes up to 30 µs a book, for which the whole feed waits.
_CHECKED_AT_ONCE: Final = 64
#: Session numbers of the REST lanes; connections come behind them.
_POLL, _FETCH, _FIRST_CONNECTION = 0, 1, 2
#: Of a venue's REST limit: other programs on this address ask as well.
REST_SHARE: Final = 0.6
#: For all sessions together to end in: a worker that is told to stop has two seconds.
_JOIN_S: Final = 1.0
#: Before a fixture is played.
_AUDIENCE_S: Final = 0.5
#: A socket that is away for this long is stood in for by REST, and how often.
_REST_BOOK_AFTER_NS: Final = 3 * _NS
_REST_BOOK_EVERY_NS: Final = 5 * _NS


class Worker:
    """One venue's worker, in this process.

    Args:
        settings: What the parent (or the command line) told.
        board: The board, writable.
        stop: Set from outside to end it.
    """

    def __init__(self, settings: WorkerSettings, board: Board, stop: threading.Event) -> None:
        self._settings = settings
        self._board = board
        self._stop = stop
        self._venue = VENUES[settings.venue]
        self._run_dir = RunDir(Path(settings.run_dir))
        self._words = board.worker(settings.slot)
        self._words[WorkerWord.EPOCH] = epoch = Epochs.following(settings.last_epoch)
        self._words[WorkerWord.BOOTED] = time.monotonic_ns()
        directory = Path(settings.blackbox_dir) if settings.blackbox_dir else None
        save_left_behind(settings.venue, self._run_dir, directory, settings.last_reason, settings.blackbox_keep)
        self._context: zmq.Context[Any] = zmq.Context()
        self._tape = FrameRecorder(
            settings.venue,
            self._run_dir,
            directory,
            settings.blackbox_kb * 1024,
            settings.blackbox_keep,
            self._context,
        )
        self._publisher = Publisher(self._context, settings.feed, epoch)
        self._listener = None if settings.network is None else FeedListener(self._context, settings.network)
        if self._listener is not None:
            self._publisher.listen(self._listener, settings.venue)
        self._reports = StatusPublisher(settings.venue, board, self._publisher)
        self._heartbeat_feed = self._publisher.topic(Topic("heartbeat", settings.venue, ""))
        self._threads = ThreadSupervisor(settings.venue, settings.backoff)
        #: Of messages to the venue, which counts those of an address.
        self._pace = TokenBucket(self._venue.limits.burst, self._venue.limits.messages_per_s)
        budget = RestBudget(self._venue.limits.rest_weight_per_min * REST_SHARE)
        self._intervals = FundingIntervals()
        self._poll = RestPoller(
            self._venue, settings, _POLL, board, budget, self._publisher, self._found, stop, self._intervals
        )
        self._fetch = SnapshotFetcher(self._venue, settings, _FETCH, board, budget, stop)
        limits = WatchdogLimits(settings.stale_ms * _MS, settings.read_timeout_ms * _MS)
        parent_pid = os.getppid() if settings.has_parent else None
        tick_s = settings.watchdog_tick_ms / 1000
        self._watchdog = Watchdog(settings.venue, self._words, limits, tick_s, parent_pid, stop)
        self._account = self._make_account(epoch) if settings.account and not settings.fixture_dir else None
        self._is_account_followed = False
        self._connections: list[ConnectionThread] = []
        self._resolved: markets.Resolved | None = None
        self._found_listings: list[Listing] | None = None
        #: Followed markets that the venue's last list left out.
        self._kept = 0
        self._process = psutil.Process()
        self._outage = OutageDetector()
        self._next_heartbeat_ns = 0
        self._next_housekeeping_ns = 0
        #: Place of the first book whose checksum the next heartbeat carries.
        self._next_checked = 0

    def run(self) -> None:
        """Work until told to stop."""
        log.info("worker.started", venue=self._settings.venue, generation=self._settings.generation, pid=os.getpid())
        if self._settings.fixture_dir is None:
            self._begin_live()
        else:
            self._begin_fixture(self._settings.fixture_dir)
        try:
            while not self._stop.is_set():
                self._look()
                self._stop.wait(_LOOP_S)
        finally:
            self._end()

    def _begin_live(self) -> None:
        keep, wanted = self._threads.keep, self._is_wanted
        self._describe(())
        self._watch()
        keep("watchdog", self._watchdog.run, wanted)
        cached = markets.load(self._run_dir.market_cache(self._settings.venue), self._settings.bases)
        if cached is not None:
            self._take_listings(cached)
            self._poll.read_list()  # nobody knows how old the remembered one is
        keep("poll", self._poll.run, wanted)
        keep("fetch", self._fetch.run, wanted)

    def _make_account(self, epoch: int) -> AccountRunner:
        side = private_venue(self._settings.venue, self._settings.options)
        return AccountRunner(
            side, self._venue, self._settings, self._board, self._context, self._listener, epoch, self._stop
        )

    def _begin_fixture(self, directory: str) -> None:
        """Frames come from files: no connection, no poll, no watchdog.

        Raises:
            ConfigError: There is no recording to play.
        """
        fixture = load_fixture(directory, self._settings.venue)
        resolved = markets.resolve(fixture.listings, self._settings.bases)
        self._resolved = resolved
        self._tell_instruments(resolved)
        self._connections = self._make_connections(resolved.listings, fixture.options, None)
        for connection in self._connections:
            connection.row[SessionWord.PHASE] = code_of(Phase.REPLAYING)
        self._describe(resolved.listings)
        for base, reason in resolved.missing.items():
            self._tell_missing(base, reason)
        log.info("fixture.playing", venue=self._settings.venue, path=directory, records=len(fixture.records))
        by_session = {connection.session: connection for connection in self._connections}

        def publish(session: MarketSession, publications: list[Publication], is_caused: bool) -> None:  # noqa: FBT001
            now = time.monotonic_ns() if is_caused else 0
            by_session[session].publish(publications, now, time.time_ns())

        stage = Stage(
            self._venue,
            list(by_session),
            publish,
            lambda session: by_session[session].report(),
            lambda: self._publisher.turn,
        )
        player = Player(fixture, stage, is_paced=self._settings.is_paced, stop=self._stop.is_set)

        def play() -> None:
            # Subscribers that are there already get in before the first event.
            self._stop.wait(_AUDIENCE_S)
            played = player.run()
            log.info("fixture.played", venue=self._settings.venue, records=played)
            self._stop.wait()

        self._threads.keep("player", play, self._is_wanted)

    # --- the main thread's round ------------------------------------------------------------------------------------

    def _look(self) -> None:
        now = time.monotonic_ns()
        words = self._words
        words.add(WorkerWord.MAIN_LOOPS)
        if self._settings.fixture_dir is not None:
            words[WorkerWord.BEAT] = now  # there is no watchdog to do it
        self_fault = word_of(SelfFault, words[WorkerWord.SELF_FAULT])
        if self_fault is not None:
            SELF_FAULTS[self_fault]()
        self._threads.look()
        found, self._found_listings = self._found_listings, None
        if found is not None:
            self._take_listings(found)
        self._count_books(now)
        with self._publisher.turn:
            if now >= self._next_heartbeat_ns:
                self._next_heartbeat_ns = max(self._next_heartbeat_ns + _HEARTBEAT_NS, now)
                self._beat(now)
            if self._tape.look():
                for connection in self._connections:
                    connection.tell_books(self._tape)
            blackbox = self._tape.due(now)
        if blackbox is not None:
            self._tape.save(*blackbox)
        self._judge_outage(now)
        self._show_rest_books(now)
        if now >= self._next_housekeeping_ns:
            self._next_housekeeping_ns = now + _HOUSEKEEPING_NS
            words[WorkerWord.RSS_BYTES] = self._process.memory_info().rss
            flush_repeats()
        words[WorkerWord.DROPS] = self._publisher.drops
        words[WorkerWord.PUBLISHED] = self._publisher.published
        words[WorkerWord.THREAD_RESTARTS] = self._threads.restarts

    def _book_routes(self) -> list[MarketStream]:
        return [r for c in self._connections for r in c.session.book_routes if r.stream is Stream.BOOK]

    def _count_books(self, now: int) -> None:
        """How many books should be usable and are; when all of them were, first and last."""
        routes = [route for route in self._book_routes() if route.listing.is_trading]
        usable = sum(route.is_published_valid for route in routes)
        words = self._words
        words[WorkerWord.BOOKS_WANTED] = len(routes)
        words[WorkerWord.BOOKS_USABLE] = usable
        if any(route.is_throttled for route in routes):
            words[WorkerWord.HELD_BACK] = now
        newest = max((route.applied_ns for route in routes), default=0)
        if routes and usable == len(routes) and now - newest <= self._settings.stale_ms * _MS:
            words[WorkerWord.FIRST_FRESH] = words[WorkerWord.FIRST_FRESH] or now
            words[WorkerWord.LAST_FRESH] = now

    def _judge_outage(self, now: int) -> None:
        """Tell a venue that is down from a fault of ours, once each way."""
        lanes = (self._poll, self._fetch)
        unanswered = unanswered_since_ns(*((lane.unanswered_since_ns, lane.answered_ns) for lane in lanes))
        has_book = self._words[WorkerWord.BOOKS_USABLE] > 0
        if not self._outage.judge(now, has_book=has_book, unanswered_since_ns=unanswered):
            return
        self._words[WorkerWord.OUTAGE_SINCE] = self._outage.since_ns
        is_down = self._outage.since_ns != 0
        if is_down:
            log.error("venue.outage", venue=self._settings.venue, reason=Reason.OUTAGE)
        else:
            log.info("venue.outage_over", venue=self._settings.venue)
            for connection in self._connections:
                connection.hurry()
        state = StreamState.BACKOFF if is_down else StreamState.CONNECTING
        self._tell_books(state, Reason.OUTAGE)

    def _show_rest_books(self, now: int) -> None:
        """While a socket is away, its books by REST now and then, where the venue gives such."""
        if not self._venue.has_rest_book or self._settings.fixture_dir is not None:
            return
        for connection in self._connections:
            away_ns = now - connection.away_since_ns if connection.away_since_ns else 0
            if away_ns < _REST_BOOK_AFTER_NS:
                continue
            for route in connection.session.book_routes:
                if route.stream is Stream.BOOK and now - route.last_rest_book_ns >= _REST_BOOK_EVERY_NS:
                    route.last_rest_book_ns = now
                    self._fetch.ask(FetchBook(route, "rest"), connection)

    def _beat(self, now: int) -> None:
        """The heartbeat; within a turn, so that it is in step with every topic and book."""
        checksums = self._checksums()
        beat = Heartbeat(
            self._settings.venue,
            None,
            None,
            None,
            self._publisher.last_seqs(),
            {route.symbol: heartbeat_book(route, now, checksums.get(route)) for route in self._book_routes()},
            self._publisher.drops,
            self._words[WorkerWord.RSS_BYTES],
        )
        beat.recv_ns, beat.recv_mono_ns = time.time_ns(), now
        self._publisher.send(self._heartbeat_feed, beat)
        if self._account is not None:
            self._account.statement.beat()

    def _checksums(self) -> dict[MarketStream, int]:
        """Return the checksums of usable books, of many the next part of them."""
        usable = [
            (route, route.keeper)
            for connection in self._connections
            for route in connection.session.book_routes
            if route.is_published_valid and route.keeper is not None
        ]
        start = self._next_checked if self._next_checked < len(usable) else 0
        self._next_checked = start + _CHECKED_AT_ONCE
        return {route: keeper.crc32_top10() for route, keeper in usable[start : self._next_checked]}

    # --- markets ----------------------------------------------------------------------------------------------------

    def _found(self, listings: list[Listing]) -> None:
        """The poll lane read the venue's list; the main thread takes it from here."""
        listings = self._with_missing(listings)
        markets.save(self._run_dir.market_cache(self._settings.venue), listings, self._settings.bases)
        self._found_listings = listings

    def _with_missing(self, listings: list[Listing]) -> list[Listing]:
        """A venue's list, with the followed markets that it leaves out, unless the venue refuses them as well."""
        routes = [route for connection in self._connections for route in connection.session.routes]
        refused = {route.symbol for route in routes if is_refused(route)} | self._poll.refused
        known = () if self._resolved is None else self._resolved.listings
        found = markets.keep_missing(listings, known, refused)
        if kept := found[len(listings) :]:
            names = ",".join(str(one.symbol) for one in kept)
            log.warning("markets.kept", venue=self._settings.venue, markets=names)
        self._kept = len(kept)
        return found

    def _take_listings(self, listings: list[Listing]) -> None:
        resolved = markets.resolve(listings, self._settings.bases)
        before, self._resolved = self._resolved, resolved
        self._words[WorkerWord.RESOLVED] = time.monotonic_ns()
        self._poll.poll_for(resolved.listings, len(resolved.missing) + self._kept)
        self._follow_account(resolved, listings)
        self._tell_instruments(resolved)
        if before is None or _identity(before.listings) != _identity(resolved.listings):
            self._connect(resolved.listings)
        elif before.listings != resolved.listings:
            self._update_listings(resolved.listings)
        for base, reason in resolved.missing.items():
            if before is None or before.missing.get(base) is not reason:
                self._tell_missing(base, reason)

    def _follow_account(self, resolved: markets.Resolved, listings: list[Listing]) -> None:
        """An account may trade in any market of the venue, and begins when it can name them all."""
        account = self._account
        if account is None:
            return
        account.take_listings(resolved.listings, listings)
        if not self._is_account_followed:
            self._is_account_followed = True
            for name, run in account.threads():
                self._threads.keep(name, run, self._is_wanted)

    def _tell_instruments(self, resolved: markets.Resolved) -> None:
        venue = self._settings.venue
        feeds = [self._publisher.topic(Topic("instrument", venue, str(one.symbol))) for one in resolved.listings]
        with self._publisher.turn:
            for feed, listing in zip(feeds, resolved.listings, strict=True):
                event = listing.instrument(venue)
                event.recv_ns, event.recv_mono_ns = time.time_ns(), time.monotonic_ns()
                self._publisher.send_latest(feed, "instrument", event)

    def _tell_missing(self, base: str, reason: Reason) -> None:
        """A market that the venue does not list fails alone."""
        cell = self._board.cell(self._settings.slot, self._settings.bases.index(base), Stream.BOOK)
        cell[CellWord.STATE] = code_of(StreamState.FAILED)
        cell[CellWord.REASON] = code_of(reason)
        log.error("market.missing", venue=self._settings.venue, symbol=symbol_of(base), reason=reason)
        self._tell_books(StreamState.FAILED, reason, symbol_of(base))

    def _tell_books(self, state: StreamState, reason: Reason, symbol: str | None = None) -> None:
        """Publish the state of all books, or of one, where it is not a session's to tell."""
        with self._publisher.turn:
            self._reports.publish(
                Stream.BOOK, state, None, reason, symbol=symbol, attempt=0, backoff_s=None, ages_ms={}
            )

    # --- connections ------------------------------------------------------------------------------------------------

    def _connect(self, listings: tuple[Listing, ...]) -> None:
        """Make the connections for these markets, in place of the ones there are."""
        self._disconnect(Reason.CONFIG_CHANGED)
        self._connections = self._make_connections(listings, self._settings.options, self._tape) if listings else []
        self._watch()
        self._tell_listings(listings)
        for connection in self._connections:
            is_wanted = partial(_is_not_set, connection.stop)
            self._threads.keep(f"session {connection.name}", connection.run, is_wanted)

    def _update_listings(self, listings: tuple[Listing, ...]) -> None:
        """Markets halt, trade again and change their terms on the connections that there are."""
        with self._publisher.turn:
            for connection in self._connections:
                connection.session.update_listings(listings)
        self._tell_listings(listings)

    def _tell_listings(self, listings: tuple[Listing, ...]) -> None:
        self._describe(listings)
        with self._publisher.turn:
            names = ["poll", "fetch", *(connection.name for connection in self._connections)]
            self._tape.describe(names, listings, dict(self._settings.options))

    def _make_connections(
        self, listings: Sequence[Listing], options: Mapping[str, str], tape: FrameRecorder | None
    ) -> list[ConnectionThread]:
        settings = self._settings
        plans = self._venue.connections(listings, settings.ws_url, options)
        if len(plans) > ACCOUNT_SESSION - _FIRST_CONNECTION:
            log.error("worker.too_many_connections", venue=settings.venue, wanted=len(plans))
            plans = plans[: ACCOUNT_SESSION - _FIRST_CONNECTION]
        return [
            ConnectionThread(
                MarketSession(self._venue, plan, listings, self._policy(number), self._pace, self._intervals),
                settings,
                number,
                self._board,
                self._publisher,
                self._fetch.ask,
                threading.Event(),
                tape,
            )
            for number, plan in enumerate(plans, start=_FIRST_CONNECTION)
        ]

    def _policy(self, number: int) -> Policy:
        settings, keepalive = self._settings, self._venue.keepalive
        ping_ms, pong_ms = settings.ping_interval_ms, settings.pong_timeout_ms
        return Policy(
            stale_ns=settings.stale_ms * _MS,
            ping_ns=int(keepalive.interval_s * _NS) if ping_ms is None else ping_ms * _MS,
            pong_ns=int(keepalive.pong_within_s * _NS) if pong_ms is None else pong_ms * _MS,
            venue_flows=self._watchdog.venue_flows,
            stagger=(settings.slot + number / ACCOUNT_SESSION) / 8,
        )

    def _disconnect(self, reason: Reason) -> None:
        for connection in self._connections:
            connection.end(reason)
        deadline = time.monotonic() + _JOIN_S
        for connection in self._connections:
            left_s = max(0.0, deadline - time.monotonic())
            if not self._threads.release(f"session {connection.name}", left_s):
                log.error("session.unstoppable", venue=self._settings.venue, session=connection.name)
            connection.row.zero()
        self._connections = []

    def _watch(self) -> None:
        """Tell the watchdog what there is to watch."""
        lanes = [Watched(lane.name, lane.row, (), lane.cutter, is_lane=True) for lane in (self._poll, self._fetch)]
        connections = [
            Watched(
                connection.name,
                connection.row,
                tuple(
                    self._board.cell(
                        self._settings.slot, self._settings.bases.index(str(route.listing.base)), route.stream
                    )
                    for route in connection.session.book_routes
                    if route.stream is Stream.BOOK
                ),
                connection.cutter,
            )
            for connection in self._connections
        ]
        account = self._account.watched if self._account is not None else ()
        self._watchdog.watch([*lanes, *connections, *account])

    def _describe(self, listings: tuple[Listing, ...]) -> None:
        """Write down what is text: sessions by number, and what the markets are called."""
        text: Mapping[str, object] = {
            "sessions": ["poll", "fetch"] + [connection.name for connection in self._connections],
            "account_sessions": list(SESSION_NAMES) if self._account is not None else [],
            "markets": {str(one.symbol): one.venue_symbol for one in listings},
            "options": dict(self._settings.options),
            "listings": [msgspec.to_builtins(one) for one in listings],
        }
        try:
            replace_file(self._run_dir.worker_description(self._settings.venue), msgspec.json.encode(text))
        except OSError as error:
            log.warning("worker.undescribed", venue=self._settings.venue, error=str(error))

    # --- the end ----------------------------------------------------------------------------------------------------

    def _is_wanted(self) -> bool:
        return not self._stop.is_set()

    def _end(self) -> None:
        self._disconnect(Reason.REQUESTED)
        for lane in (self._poll, self._fetch):
            lane.cutter.cut(Reason.REQUESTED)
        self._tell_books(StreamState.OFF, Reason.REQUESTED)
        if self._account is not None:
            self._account.end()
        # The last events leave with ZeroMQ's own thread; closing drops what it has not sent.
        time.sleep(0.05)
        self._tape.close()
        self._publisher.close()
        if self._account is not None:
            self._account.statement.close()
        log.info("worker.stopped", venue=self._settings.venue)


def heartbeat_book(route: MarketStream, now: int, checksum: int | None) -> HeartbeatBook:
    """What a heartbeat says of a book; within a turn."""
    keeper = route.keeper
    return HeartbeatBook(
        route.feed.seq,
        keeper.venue_seq if keeper is not None else None,
        route.is_published_valid and keeper is not None,
        (now - route.applied_ns) // _MS if route.applied_ns else None,
        checksum,
    )


def _identity(listings: tuple[Listing, ...]) -> list[tuple[object, ...]]:
    """What of a market a connection depends on; a change of the rest only concerns consumers."""
    return [(one.wire, one.base) for one in listings]


def _is_not_set(event: threading.Event) -> bool:
    return not event.is_set()
