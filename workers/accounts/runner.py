"""Account of a worker: two threads, one feed, and their entries for the watchdog."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from pathlib import Path
from threading import Event
from typing import Any, Final

import msgspec
import zmq

from ipc.board import ACCOUNT_SESSION, Board, SessionWord
from ipc.health import Reason, Stream
from ipc.listener import FeedListener
from ipc.log import get_log
from ipc.publisher import Publisher
from ipc.rundir import AccountWords, RunDir, replace_file
from ipc.watched_files import WatchedFiles
from workers.accounts.checkpoint import PublishedFills
from workers.accounts.connection import AccountConnection
from workers.accounts.publisher import AccountPublisher
from workers.accounts.reconciler import Reconciler
from workers.accounts.rest_flow import RestFlowRunner
from workers.accounts.secrets import Secrets
from workers.budgets import Budgets
from workers.duty import LineDuty
from workers.net.interrupter import SocketInterrupter
from workers.net.rest import RestClient
from workers.settings import WorkerSettings
from workers.venues.account import PrivateVenue
from workers.venues.listing import Listing, Markets
from workers.venues.venue import Keepalive, Venue
from workers.watchdog import Watched

log = get_log(__name__)

_MS: Final = 1_000_000
_NS: Final = 1_000_000_000
#: Upper bound of the time between two reads of the socket.
_TICK_S: Final = 1.0
#: Names of the account's two board rows.
SESSION_NAMES: Final = ("account", "account_rest")


class MarketLookup(Markets):
    """Followed markets; :meth:`get` also finds any other that the venue lists, or derives it from its name."""

    def __init__(self, venue: Venue, followed: Iterable[Listing], listed: Iterable[Listing]) -> None:
        self._venue = venue
        self._followed = {listing.wire: listing for listing in followed}
        self._known = {listing.wire: listing for listing in listed} | self._followed

    def get(self, wire: str, /) -> Listing | None:
        """Return the listing of a wire name."""
        return self._known.get(wire) or self._venue.offline_listing(wire)

    def __iter__(self) -> Iterator[str]:
        """Iterate over the wire names of the followed markets."""
        return iter(self._followed)


class AccountRunner:
    """Account of one venue; ``listener`` serves it over TCP only if it is encrypted.

    ``feed`` is its endpoint, ``publisher`` publishes the account's events there. Without the ``duty`` the account is
    off: the venue's other line follows it.
    """

    def __init__(
        self,
        side: PrivateVenue,
        venue: Venue,
        settings: WorkerSettings,
        board: Board,
        context: zmq.Context[Any],
        listener: FeedListener | None,
        epoch: int,
        stop: Event,
        budgets: Budgets,
        duty: LineDuty,
    ) -> None:
        assert settings.account is not None  # noqa: S101 - callers have an account
        self._venue = venue
        self._alias = settings.account
        self._markets = MarketLookup(venue, (), ())
        run_dir = RunDir(Path(settings.run_dir))
        self._process = settings.process
        self._description = run_dir.account_description(settings.process)
        secrets = Secrets(side.secrets, os.environ)
        self.feed = Publisher(context, run_dir.account(settings.process), epoch, refresh_ns=0, line=settings.line)
        if listener is not None and listener.is_encrypted:
            self.feed.listen(listener, settings.process, account=True)
        cell = board.cell(settings.slot, 0, Stream.ACCOUNT)
        published = PublishedFills(run_dir.account_published(settings.venue, self._alias), settings.venue)
        self.publisher = AccountPublisher(
            settings.venue, self._alias, self.feed, cell, self._describe, published, duty=duty
        )
        self._describe(AccountWords(self._alias))
        rows = [board.session(settings.slot, ACCOUNT_SESSION + number) for number in (0, 1)]
        interrupters = (SocketInterrupter(), SocketInterrupter())
        runners = [
            RestFlowRunner(
                RestClient(
                    venue,
                    settings.rest_url,
                    budgets.account,
                    interrupter,
                    partial(row.__setitem__, SessionWord.DEADLINE),
                    options=settings.dial,
                ),
                stop.wait,
                duty,
            )
            for interrupter, row in zip(interrupters, rows, strict=True)
        ]
        period_s = settings.account_period_ms / 1000
        common = (side, secrets, self._alias)
        self.reconciler = Reconciler(
            *common,
            self.markets,
            self.publisher,
            runners[1],
            rows[1],
            run_dir,
            period_s,
            stop,
            duty,
        )
        self.stream = AccountConnection(
            *common,
            settings.ws_url,
            self.markets,
            self.publisher,
            self.reconciler,
            runners[0],
            interrupters[0],
            rows[0],
            board.ends(settings.slot, ACCOUNT_SESSION),
            settings.connect_timeout_ms * _MS,
            settings.backoff,
            stop,
            settings.dial,
            budgets.connects,
            duty,
            self._adopt,
        )
        self.reconciler.stream = self.stream
        self._interrupters = interrupters
        self.watched = (
            Watched(SESSION_NAMES[0], rows[0], (), interrupters[0], min_read_ns=_min_read_ns(side.keepalive)),
            Watched(SESSION_NAMES[1], rows[1], (), interrupters[1], is_rest=True),
        )

    def markets(self) -> Markets:
        """Return the known markets."""
        return self._markets

    def update_listings(self, followed: Iterable[Listing], listed: Iterable[Listing]) -> None:
        """Replace the followed markets and all listed ones."""
        self._markets = MarketLookup(self._venue, followed, listed)

    def threads(self) -> tuple[tuple[str, Callable[[], None]], ...]:
        """Return the threads to keep running, by name."""
        return (SESSION_NAMES[0], self.stream.run), (SESSION_NAMES[1], self.reconciler.run)

    def watch_files(self, files: WatchedFiles, run_dir: RunDir) -> None:
        """Watch the account's files in the run directory."""
        venue, feed, publisher = self._venue.name, self.feed, self.publisher
        files.add(run_dir.account_path(self._process), feed.relisten, lambda: feed.is_intact)
        files.add(run_dir.account_published(venue, self._alias), publisher.restore_published)
        files.add(run_dir.account_description(self._process), publisher.restore_description)
        files.add(run_dir.account_checkpoint(venue), self.reconciler.restore_last_snapshot)

    def interrupt(self) -> None:
        """Interrupt both sockets, so that neither thread blocks."""
        for interrupter in self._interrupters:
            interrupter.interrupt(Reason.REQUESTED)

    def _adopt(self) -> None:
        """Continue where the other line was: with the fills that it published, from its last snapshot on."""
        self.publisher.adopt()
        self.reconciler.adopt()

    def _describe(self, words: AccountWords) -> None:
        """Write state, reason and detail into one file, because readers need all three to match."""
        try:
            replace_file(self._description, msgspec.json.encode(words))
        except OSError as error:
            log.warning("account.undescribed", venue=self._venue.name, error=str(error))


def _min_read_ns(keepalive: Keepalive) -> int:
    """Return how long an idle connection may be silent between its pongs, ns."""
    return int((keepalive.interval_s + keepalive.pong_within_s + _TICK_S) * _NS)
