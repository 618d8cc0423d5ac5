"""Worker of one venue: starts its threads, keeps them running, and coordinates them from the main thread.

The main thread never blocks. Every 100 ms it restarts threads that ended, counts usable books and checks for an outage;
once a second it publishes the heartbeat.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Final

import psutil
import zmq

from ipc.board import ACCOUNT_SESSION, Board, Row, SessionWord, WorkerWord
from ipc.consumers import ConsumerDescription, write_consumers
from ipc.descriptors import DescriptorGuard
from ipc.health import Phase, Reason, SelfFault, Stream, StreamState, code_of, word_of
from ipc.listener import FeedListener
from ipc.log import flush_repeats, get_log
from ipc.publisher import Publisher
from ipc.rundir import RunDir
from ipc.sequence import Epochs
from ipc.topics import Topic, symbol_of
from ipc.watched_files import CHECK_NS, WatchedFiles
from workers import markets
from workers.accounts.runner import AccountRunner
from workers.description import write_description
from workers.fixture import load as load_fixture
from workers.fixture import make_player, play
from workers.heartbeat import HeartbeatPublisher, count_books
from workers.line import WorkerLine
from workers.net.connection import ConnectionThread
from workers.net.rest_poller import RestPoller
from workers.net.snapshot_fetcher import SnapshotFetcher
from workers.outage import OutageDetector, unanswered_since_ns
from workers.protocol.actions import FetchBook
from workers.protocol.funding_intervals import FundingIntervals
from workers.protocol.session import MarketSession
from workers.protocol.streams import MarketStream
from workers.recorder import FrameRecorder, save_left_behind
from workers.self_faults import SELF_FAULTS
from workers.settings import WorkerSettings
from workers.status import StatusPublisher, write_state
from workers.threads import ThreadSupervisor
from workers.venues import VENUES
from workers.venues.account import private_venue
from workers.venues.listing import Listing
from workers.watchdog import Watchdog, WatchdogLimits, Watched

log = get_log(__name__)

_NS: Final = 1_000_000_000
_MS: Final = 1_000_000
_LOOP_S: Final = 0.1
_HOUSEKEEPING_NS: Final = CHECK_NS
#: Board rows of the REST threads; connections follow.
_POLL, _FETCH, _FIRST_CONNECTION = 0, 1, 2
#: Time limit for all connections to end, s; the parent kills a worker that does not stop within two.
_JOIN_S: Final = 1.0
#: Time for ZeroMQ's own thread to send the last events; closing a socket drops the rest.
_FLUSH_S: Final = 0.05
#: Time without a connection after which books are fetched by REST, and the period of doing so.
_REST_BOOK_AFTER_NS: Final = 3 * _NS
_REST_BOOK_EVERY_NS: Final = 5 * _NS


class Worker:
    """Worker of one venue, in this process; ``stop`` is set by others to stop it."""

    def __init__(self, settings: WorkerSettings, board: Board, stop: threading.Event) -> None:
        self._settings = settings
        self._board = board
        self._stop = stop
        self._venue = VENUES[settings.venue]
        self._run_dir = RunDir(Path(settings.run_dir))
        self._words = board.worker(settings.slot)
        self._words[WorkerWord.EPOCH] = epoch = Epochs.following(settings.last_epoch)
        self._words[WorkerWord.BOOTED] = time.monotonic_ns()
        board.assign_markets(settings.slot, [symbol_of(base) for base in settings.bases])
        directory = Path(settings.blackbox_dir) if settings.blackbox_dir else None
        save_left_behind(settings.process, self._run_dir, directory, settings.last_reason, settings.blackbox_keep)
        self._context: zmq.Context[Any] = zmq.Context()
        self._recorder = FrameRecorder(
            settings.process,
            self._run_dir,
            directory,
            settings.blackbox_kb * 1024,
            settings.blackbox_keep,
            self._context,
        )
        self._publisher = Publisher(self._context, settings.feed, epoch, line=settings.line)
        self._listener = None if settings.network is None else FeedListener(self._context, settings.network)
        if self._listener is not None:
            self._publisher.listen(self._listener, settings.process)
        self._status = StatusPublisher(settings.venue, board, self._publisher)
        self._heartbeat = HeartbeatPublisher(settings.venue, self._publisher)
        self._threads = ThreadSupervisor(settings.venue, settings.backoff)
        self._line = line = WorkerLine(self._venue, settings, board)
        budgets = line.budgets
        self._intervals = FundingIntervals()
        self._poll = RestPoller(
            self._venue,
            settings,
            _POLL,
            board,
            budgets.rest,
            self._publisher,
            self._on_listings,
            stop,
            self._intervals,
            line.duty,
        )
        self._fetch = SnapshotFetcher(self._venue, settings, _FETCH, board, budgets.rest, budgets.optional, stop)
        limits = WatchdogLimits(settings.stale_ms * _MS, settings.read_timeout_ms * _MS)
        parent_pid = os.getppid() if settings.has_parent else None
        tick_s = settings.watchdog_tick_ms / 1000
        self._watchdog = Watchdog(
            settings.venue, self._words, limits, tick_s, parent_pid, stop, witness=self._line.witness
        )
        self._account = self._make_account(epoch) if settings.account and not settings.fixture_dir else None
        self._is_account_started = False
        publishers = [self._publisher] if self._account is None else [self._publisher, self._account.feed]
        self._consumers = ConsumerDescription(publishers, self._write_description)
        listening = (*(publisher.listening for publisher in publishers), self._recorder.listening)
        self._descriptors = DescriptorGuard(settings.venue, listening)
        self._connections: list[ConnectionThread] = []
        self._resolved: markets.Resolved | None = None
        self._markets = markets.MarketList(settings.venue, self._run_dir.market_cache(settings.venue), settings.bases)
        self._process = psutil.Process()
        self._outage = OutageDetector()
        self._next_housekeeping_ns = 0
        self._files = self._watch_files()

    def run(self) -> None:
        """Run until stopped."""
        log.info("worker.started", venue=self._settings.venue, generation=self._settings.generation, pid=os.getpid())
        if self._settings.fixture_dir is None:
            self._start_live()
        else:
            self._start_fixture(self._settings.fixture_dir)
        self._threads.keep("descriptors", partial(self._descriptors.run, self._stop.wait), self._stop.is_set)
        try:
            while not self._stop.is_set():
                self._run_once()
                self._publisher.serve(_LOOP_S, self._stop.wait)
        finally:
            self._shut_down()

    def _start_live(self) -> None:
        keep, is_stopped = self._threads.keep, self._stop.is_set
        self._write_description()
        self._watch()
        keep("watchdog", self._watchdog.run, is_stopped)
        cached = self._markets.load()
        if cached is not None:
            self._apply_listings(cached)
            self._poll.read_list()  # the cached one may be old
        keep("poll", self._poll.run, is_stopped)
        keep("fetch", self._fetch.run, is_stopped)

    def _make_account(self, epoch: int) -> AccountRunner:
        side = private_venue(self._settings.venue, self._settings.options)
        return AccountRunner(
            side,
            self._venue,
            self._settings,
            self._board,
            self._context,
            self._listener,
            epoch,
            self._stop,
            self._line.budgets,
            self._line.duty,
        )

    def _start_fixture(self, directory: str) -> None:
        """Play recorded frames without sockets, polls or watchdog; raise ConfigError if none are of this venue."""
        fixture = load_fixture(directory, self._settings.venue)
        resolved = self._resolved = markets.resolve(fixture.listings, self._settings.bases)
        self._publish_instruments(resolved)
        self._connections = self._make_connections(resolved.listings, fixture.options, None)
        for connection in self._connections:
            connection.row[SessionWord.PHASE] = code_of(Phase.REPLAYING)
        self._write_description()
        for base, reason in resolved.missing.items():
            self._report_missing(base, reason)
        log.info("fixture.playing", venue=self._settings.venue, path=directory, records=len(fixture.records))
        player = make_player(
            fixture,
            self._venue,
            self._connections,
            self._publisher,
            is_paced=self._settings.is_paced,
            stop=self._stop.is_set,
        )

        self._threads.keep("player", partial(play, player, self._settings.venue, self._stop), self._stop.is_set)

    def _run_once(self) -> None:
        now = time.monotonic_ns()
        words = self._words
        words.add(WorkerWord.MAIN_LOOPS)
        if self._settings.fixture_dir is not None:
            words[WorkerWord.BEAT] = now  # no watchdog runs
        self_fault = word_of(SelfFault, words[WorkerWord.SELF_FAULT])
        if self_fault is not None:
            SELF_FAULTS[self_fault]()
        self._threads.restart_ended()
        listings = self._markets.pop()
        if listings is not None:
            self._apply_listings(listings)
        if self._listener is not None:
            self._listener.serve(now, words)
        books = self._books()
        count_books(words, books, now, self._settings.stale_ms * _MS)
        with self._publisher.exclusive():
            if self._line.has_peer:
                self._line.budgets.update()
            is_due = self._heartbeat.publish_if_due(now, books, words[WorkerWord.RSS_BYTES])
            if is_due and self._account is not None:
                self._account.publisher.publish_heartbeat()
            if self._recorder.needs_books():
                for connection in self._connections:
                    connection.record_books(self._recorder)
            blackbox = self._recorder.due_dump(now)
        if blackbox is not None:
            self._recorder.save_dump(*blackbox)
        self._check_outage(now)
        self._fetch_rest_books(now)
        if now >= self._next_housekeeping_ns:
            self._next_housekeeping_ns = now + _HOUSEKEEPING_NS
            words[WorkerWord.RSS_BYTES] = self._process.memory_info().rss
            flush_repeats()
            self._files.check()
            if not self._line.duty.is_ours:
                self._markets.reload()
        words[WorkerWord.DROPS] = self._publisher.drops
        write_consumers(words, self._publisher, self._descriptors)
        self._consumers.update(now)
        words[WorkerWord.PUBLISHED] = self._publisher.published
        words[WorkerWord.THREAD_RESTARTS] = self._threads.restarts

    def _watch_files(self) -> WatchedFiles:
        """Return the files of the run directory that this process writes."""
        process, run_dir = self._settings.process, self._run_dir
        files = WatchedFiles(run_dir.path)
        files.add(run_dir.feed_path(process), self._publisher.relisten, lambda: self._publisher.is_intact)
        files.add(run_dir.worker_description(process), self._write_description)
        files.add(run_dir.market_cache(self._settings.venue), self._markets.restore)
        self._recorder.watch_files(files, run_dir, self._publisher.exclusive)
        if self._account is not None:
            self._account.watch_files(files, run_dir)
        return files

    def _books(self) -> list[MarketStream]:
        return [r for c in self._connections for r in c.session.book_streams if r.kind is Stream.BOOK]

    def _check_outage(self, now: int) -> None:
        """Report that the venue is down, or up again, once each."""
        threads = (self._poll, self._fetch)
        unanswered = unanswered_since_ns(*((one.unanswered_since_ns, one.answered_ns) for one in threads))
        has_book = self._words[WorkerWord.BOOKS_USABLE] > 0
        if not self._outage.update(now, has_book=has_book, unanswered_since_ns=unanswered):
            return
        self._words[WorkerWord.OUTAGE_SINCE] = self._outage.since_ns
        is_down = self._outage.since_ns != 0
        if is_down:
            log.error("venue.outage", venue=self._settings.venue, reason=Reason.OUTAGE)
        else:
            log.info("venue.outage_over", venue=self._settings.venue)
            for connection in self._connections:
                connection.retry_now()
        state = StreamState.BACKOFF if is_down else StreamState.CONNECTING
        self._publish_book_state(state, Reason.OUTAGE)

    def _fetch_rest_books(self, now: int) -> None:
        """Fetch the books of connections that are down by REST now and then, where the venue offers them."""
        if not self._venue.has_rest_book or self._settings.fixture_dir is not None:
            return
        for connection in self._connections:
            away_ns = now - connection.away_since_ns if connection.away_since_ns else 0
            if away_ns < _REST_BOOK_AFTER_NS:
                continue
            for stream in connection.session.book_streams:
                if stream.kind is Stream.BOOK and now - stream.last_rest_book_ns >= _REST_BOOK_EVERY_NS:
                    stream.last_rest_book_ns = now
                    self._fetch.request(FetchBook(stream, "rest"), connection)

    def _on_listings(self, listings: list[Listing]) -> None:
        """Keep a list that the poll thread has read for the main thread, with what only the list lacks."""
        streams = [stream for connection in self._connections for stream in connection.session.streams]
        refused = {stream.symbol for stream in streams if stream.is_refused} | self._poll.refused
        self._markets.receive(listings, () if self._resolved is None else self._resolved.listings, refused)

    def _apply_listings(self, listings: list[Listing]) -> None:
        resolved = markets.resolve(listings, self._settings.bases)
        before, self._resolved = self._resolved, resolved
        self._words[WorkerWord.BOOKS_WANTED] = sum(listing.is_trading for listing in resolved.listings)
        self._words[WorkerWord.RESOLVED] = time.monotonic_ns()  # after the number that it makes valid
        self._poll.poll_for(resolved.listings, len(resolved.missing) + self._markets.missing_kept)
        self._update_account(resolved, listings)
        self._publish_instruments(resolved)
        if before is None or _identity(before.listings) != _identity(resolved.listings):
            self._connect(resolved.listings)
        elif before.listings != resolved.listings:
            self._update_listings(resolved.listings)
        for base, reason in resolved.missing.items():
            if before is None or before.missing.get(base) is not reason:
                self._report_missing(base, reason)

    def _update_account(self, resolved: markets.Resolved, listings: list[Listing]) -> None:
        """Give the account all markets of the venue, and start its threads with the first list."""
        account = self._account
        if account is None:
            return
        account.update_listings(resolved.listings, listings)
        if not self._is_account_started:
            self._is_account_started = True
            for name, run in account.threads():
                self._threads.keep(name, run, self._stop.is_set)

    def _publish_instruments(self, resolved: markets.Resolved) -> None:
        venue = self._settings.venue
        feeds = [self._publisher.topic(Topic("instrument", venue, str(one.symbol))) for one in resolved.listings]
        with self._publisher.exclusive():
            for feed, listing in zip(feeds, resolved.listings, strict=True):
                event = listing.instrument(venue)
                event.recv_ns, event.recv_mono_ns = time.time_ns(), time.monotonic_ns()
                self._publisher.send_latest(feed, "instrument", event)

    def _report_missing(self, base: str, reason: Reason) -> None:
        """Report a configured market that the venue does not list; the others go on."""
        write_state(self._cell(base), StreamState.FAILED, reason, time.monotonic_ns())
        log.error("market.missing", venue=self._settings.venue, symbol=symbol_of(base), reason=reason)
        self._publish_book_state(StreamState.FAILED, reason, symbol_of(base))

    def _cell(self, base: str) -> Row:
        return self._board.cell(self._settings.slot, self._settings.bases.index(base), Stream.BOOK)

    def _publish_book_state(self, state: StreamState, reason: Reason, symbol: str | None = None) -> None:
        """Publish the state of all books, or of one, that does not come from a session."""
        with self._publisher.exclusive():
            self._status.publish(Stream.BOOK, state, None, reason, symbol=symbol, attempt=0, backoff_s=None, ages_ms={})

    def _connect(self, listings: tuple[Listing, ...]) -> None:
        """Replace the connections by new ones for these markets."""
        self._disconnect(Reason.CONFIG_CHANGED)
        self._connections = self._make_connections(listings, self._settings.options, self._recorder) if listings else []
        self._watch()
        self._describe_listings(listings)
        for connection in self._connections:
            self._threads.keep(f"session {connection.name}", connection.run, connection.stop.is_set)

    def _update_listings(self, listings: tuple[Listing, ...]) -> None:
        """Apply halts, resumptions and changed terms without reconnecting."""
        with self._publisher.exclusive():
            for connection in self._connections:
                connection.session.update_listings(listings)
        self._describe_listings(listings)

    def _describe_listings(self, listings: tuple[Listing, ...]) -> None:
        self._write_description()
        with self._publisher.exclusive():
            self._recorder.describe(self._session_names(), listings, dict(self._settings.options))

    def _make_connections(
        self, listings: Sequence[Listing], options: Mapping[str, str], recorder: FrameRecorder | None
    ) -> list[ConnectionThread]:
        settings, line = self._settings, self._line
        messages, flows = line.budgets.messages, self._watchdog.venue_flows
        plans = self._venue.connections(listings, settings.ws_url, options)
        if len(plans) > ACCOUNT_SESSION - _FIRST_CONNECTION:
            log.error("worker.too_many_connections", venue=settings.venue, wanted=len(plans))
            plans = plans[: ACCOUNT_SESSION - _FIRST_CONNECTION]
        return [
            ConnectionThread(
                MarketSession(self._venue, plan, listings, line.policy(number, flows), messages, self._intervals),
                settings,
                number,
                self._board,
                self._publisher,
                self._fetch.request,
                threading.Event(),
                recorder,
                connects=line.budgets.connects,
            )
            for number, plan in enumerate(plans, start=_FIRST_CONNECTION)
        ]

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
        """Give the watchdog its sessions."""
        rest = [Watched(one.name, one.row, (), one.interrupter, is_rest=True) for one in (self._poll, self._fetch)]
        connections = [self._line.watched(connection, self._cell) for connection in self._connections]
        account = self._account.watched if self._account is not None else ()
        self._watchdog.watch([*rest, *connections, *account])

    def _write_description(self) -> None:
        settings, listings = self._settings, () if self._resolved is None else self._resolved.listings
        path = self._run_dir.worker_description(settings.process)
        has_account = self._account is not None
        write_description(
            path,
            settings.venue,
            self._session_names(),
            listings,
            settings.options,
            self._consumers.names,
            has_account=has_account,
        )

    def _session_names(self) -> list[str]:
        return ["poll", "fetch", *(connection.name for connection in self._connections)]

    def _shut_down(self) -> None:
        self._disconnect(Reason.REQUESTED)
        for rest in (self._poll, self._fetch):
            rest.interrupter.interrupt(Reason.REQUESTED)
        self._publish_book_state(StreamState.OFF, Reason.REQUESTED)
        if self._account is not None:
            self._account.interrupt()
        time.sleep(_FLUSH_S)
        self._recorder.close()
        self._publisher.close()
        if self._account is not None:
            self._account.feed.close()
        log.info("worker.stopped", venue=self._settings.venue)


def _identity(listings: tuple[Listing, ...]) -> list[tuple[object, ...]]:
    """Return the properties of markets that need a new connection when they change."""
    return [(one.wire, one.base) for one in listings]
