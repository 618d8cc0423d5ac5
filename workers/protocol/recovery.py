"""Recovery of books and streams within a connection: what is lost, quiet or mute, and what to do about it.

Terms: a book is *invalidated* when continuity breaks, and *resynced* by the means of its venue (a new subscription, a
REST fetch, or a new connection). A fetched book *bridges* to the stream when no change is missing between the two. A
silent book is *compared* with REST; if it is not merely quiet it is mute: it is subscribed again, then the connection
is closed. Each book is in one :class:`workers.protocol.streams.BookPhase`, which decides what a tick checks.

Requested actions go to the session's :class:`workers.protocol.actions.ActionQueue`.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final, Literal

from ipc.events import BookDelta, BookSnapshot, Cause, Gap, GapAction
from ipc.health import Reason, Stream, StreamState
from workers.protocol.actions import ActionQueue, Publication, Purpose
from workers.protocol.book_fetch import REFETCH_CAP_NS
from workers.protocol.book_sync import BookInvalid, BookSync, plain_book
from workers.protocol.policy import Policy
from workers.protocol.streams import BookPhase, MarketStream
from workers.protocol.subscriptions import SubscriptionManager
from workers.venues.venue import Resync, Rule, Venue

_NS: Final = 1_000_000_000
_MS: Final = 1_000_000
#: A resync that brings no book within this time is repeated.
_RESYNC_RETRY_NS: Final = 5 * _NS
#: Time that a bridged stream has to show its first change; then its snapshot is fetched all the same.
_FIRST_CHANGE_NS: Final = 300 * _MS
#: Time between two comparisons of a silent book with REST.
_COMPARE_PAUSE_NS: Final = _NS
#: Retry interval of a market that the venue refused.
_REFUSED_RETRY_NS: Final = 600 * _NS
#: Retry interval of a market whose book never arrived: it must be live soon after its venue publishes the book again.
_GIVEN_UP_RETRY_NS: Final = 60 * _NS
#: Cap of a quiet market's limit.
_QUIET_CAP_NS: Final = 60 * _NS
#: A book may be silent for this many of its limits while the request budget allows no comparison.
_INCONCLUSIVE_LIMITS: Final = 3
#: Reconnects allowed because one book never arrives; after that, only this market is retried.
_MAX_BOOK_TIMEOUTS: Final = 3
_GAP_ACTIONS: Final[dict[Resync, GapAction]] = {
    Resync.RESUBSCRIBE: "resubscribe",
    Resync.REFETCH: "resync",
    Resync.RECONNECT: "reconnect",
}


class Recovery:
    """Recovery of the streams of one connection, and the only writer of their recovery state."""

    def __init__(
        self,
        venue: Venue,
        policy: Policy,
        subscriptions: SubscriptionManager,
        actions: ActionQueue,
        streams: Sequence[MarketStream],
    ) -> None:
        self._venue = venue
        self._continuity = venue.continuity
        self._policy = policy
        self._subscriptions = subscriptions
        self._actions = actions
        self._streams = streams
        self._books = [stream for stream in streams if stream.book_sync is not None]
        self._first_attempt_ns = _FIRST_CHANGE_NS if venue.continuity.rule is Rule.BRIDGE else _RESYNC_RETRY_NS
        #: Time of the event at hand, and of the connection's opening.
        self._now = 0
        self._opened_ns = 0

    def opened(self, now_ns: int) -> None:
        """Start over on a new connection."""
        self._now = self._opened_ns = now_ns
        for stream in self._streams:
            recovery = stream.recovery
            recovery.unusable_since_ns = now_ns
            recovery.quiet_limit_ns = stream.limit_ns or 0
            stream.fetch.reset()
            if not stream.is_refused:
                recovery.next_attempt_ns = 0 if stream.book_sync is None else now_ns + self._first_attempt_ns

    def closed(self, reason: Reason, out: list[Publication]) -> None:
        """Invalidate every book of the connection that ended."""
        for stream in self._books:
            stream.recovery.is_throttled = False
            stream.fetch.clear_limit()
        self._invalidate_all(BookInvalid(reason), "subscribe", out)
        self._opened_ns = 0

    def frames_lost(self, invalid: BookInvalid, out: list[Publication]) -> None:
        """Invalidate every book: frames of the connection are missing."""
        self._invalidate_all(invalid, "resync", out)

    def check(self, streams: Iterable[MarketStream], now_ns: int, out: list[Publication]) -> None:
        """Check every stream for what time alone shows."""
        self._now = now_ns
        for stream in streams:
            if stream.state is StreamState.FAILED:
                self._check_failed(stream)
            elif stream.book_sync is None:
                self._check_cadence(stream)
            elif stream.phase is BookPhase.VALID:
                self._check_silence(stream, stream.book_sync, out)
            elif stream.phase is BookPhase.MISSING:
                self._check_missing(stream)
            else:
                self._check_crossed(stream)

    def applied(
        self, stream: MarketStream, event: BookSnapshot | BookDelta, now_ns: int, out: list[Publication]
    ) -> None:
        """Publish what a frame made of a book."""
        self._now = now_ns
        stream.recovery.quiet_limit_ns = stream.limit_ns or 0
        stream.fetch.clear_failures()
        self._publish(stream, event, out)

    def buffered(self, stream: MarketStream, now_ns: int) -> None:
        """Fetch the snapshot for a buffered change: the first change shows that the stream runs."""
        if stream.fetch.requested_ns < self._opened_ns:
            self._actions.fetch(stream, "bridge", now_ns)

    def invalidated(self, stream: MarketStream, invalid: BookInvalid, now_ns: int, out: list[Publication]) -> None:
        """Publish the gap of an invalidated book and start its resync."""
        self._now = now_ns
        was_valid = self._invalidate(stream, invalid, out)
        if not was_valid:
            out.append((stream, None))
        if invalid.reason is not Reason.PARSE_ERRORS:
            self._resync(stream, invalid)
        elif was_valid or now_ns >= stream.recovery.next_attempt_ns:
            self._resync_malformed(stream, invalid)

    def witnessed(self, stream: MarketStream, now_ns: int, out: list[Publication]) -> None:
        """Resync a book that stands still while the other line's moves; the next time close the connection."""
        self._now = now_ns
        book_sync, recovery = stream.book_sync, stream.recovery
        if book_sync is None or stream.fetch.is_delayed or self._subscriptions.is_waiting(stream.subscription):
            return  # a limit of the venue holds it back, which would take longer on a new connection
        moved_ns = max(stream.applied_ns, self._opened_ns)
        silent_ms, is_second = (now_ns - moved_ns) // _MS, recovery.witnessed_ns > moved_ns
        recovery.witnessed_ns = now_ns
        self._actions.log_event("book.stands_still", symbol=stream.symbol, silent_ms=silent_ms, again=is_second)
        if is_second:
            text = f"{stream.symbol} is silent for {silent_ms} ms while the other line's book moves"
            self._actions.close(Reason.STALE_WATCHDOG, text)
        elif self._continuity.resync is not Resync.RECONNECT:
            book_sync.invalidate("resync")
            invalid = BookInvalid(Reason.SOFT_RESYNC, "a change, as on the other line", f"silence for {silent_ms} ms")
            self.invalidated(stream, invalid, now_ns, out)

    def has_valid_book(self) -> bool:
        """Return True when any book of the connection is usable."""
        return any(stream.is_published_valid for stream in self._books)

    def fetched(
        self,
        stream: MarketStream,
        purpose: Purpose,
        book: BookSnapshot | None,
        reason: Reason | None,
        now_ns: int,
        out: list[Publication],
    ) -> None:
        """Handle a REST answer; ``reason`` is given when there is no book. An invalid book counts as no answer."""
        self._now = now_ns
        book_sync = stream.book_sync
        if book_sync is None or not stream.fetch.is_outstanding:
            return
        if book is not None and not self.is_valid(book, may_be_crossed=not stream.is_published_valid):
            book, reason = None, Reason.PARSE_ERRORS
        stream.fetch.finish(is_rate_limited=book is None and reason is Reason.RATE_LIMITED)
        if purpose == "compare":
            self._compared(stream, book_sync, book, reason, out)
        elif book is None:
            self._delay_fetch(stream)
        elif not stream.is_published_valid or not stream.has_moved:
            self._bridge(stream, book_sync, book, out)

    def is_valid(self, book: BookSnapshot, *, may_be_crossed: bool = False) -> bool:
        """Return True for a valid REST book, with its decimals made plain; log an invalid one.

        A crossed book is invalid, except where there is no book: a second one shows that the venue's own is crossed.
        """
        error = plain_book(book, may_be_crossed=may_be_crossed)
        if error is not None:
            self._actions.log_event("book.invalid", symbol=book.symbol, source="rest", error=error)
        return error is None

    def fail(self, stream: MarketStream, reason: Reason, now_ns: int) -> None:
        """Give up a stream that is not available; it alone is retried at long intervals."""
        is_given_up = reason is Reason.NO_BOOK
        stream.recovery.next_attempt_ns = now_ns + (_GIVEN_UP_RETRY_NS if is_given_up else _REFUSED_RETRY_NS)
        self._actions.change(stream, StreamState.FAILED, reason)

    def retry_now(self, stream: MarketStream) -> None:
        """Retry a failed stream at the next tick."""
        stream.recovery.next_attempt_ns = 0

    def _check_silence(self, stream: MarketStream, book_sync: BookSync, out: list[Publication]) -> None:
        """Check a valid book without recent events: frames are lost, the stream is mute, or the market is quiet."""
        silent_ns = self._now - max(stream.applied_ns, self._opened_ns)
        cadence_s = self._continuity.silence_s.get(stream.kind)
        if cadence_s is not None and silent_ns > cadence_s * _NS:
            book_sync.invalidate_by_silence()
            invalid = BookInvalid(
                Reason.SEQ_GAP, f"a frame within {cadence_s:g} s", f"silence for {silent_ns // _MS} ms"
            )
            self.invalidated(stream, invalid, self._now, out)
        elif silent_ns > stream.recovery.quiet_limit_ns:
            waited_ns = self._now - stream.fetch.requested_ns
            if self._policy.venue_flows(self._now) and waited_ns > _compare_pause_ns(stream):
                self._actions.fetch(stream, "compare", self._now)
        elif self._is_soft_resync_due(stream, silent_ns):
            self._actions.log_event("book.soft_resync", symbol=stream.symbol, silent_ms=silent_ns // _MS)
            self._actions.fetch(stream, "soft", self._now)

    def _is_soft_resync_due(self, stream: MarketStream, silent_ns: int) -> bool:
        soft_resync = self._continuity.soft_resync
        return (
            soft_resync is not None
            and stream.state is not StreamState.QUIET
            and silent_ns > soft_resync.after_s * _NS
            and self._now - stream.fetch.requested_ns > soft_resync.cooldown_s * _NS
        )

    def _check_missing(self, stream: MarketStream) -> None:
        """Resync a missing book; after the stale limit close the connection, or give up this market.

        Time in which a limit of the venue holds the book back does not count.
        """
        recovery, is_requested = stream.recovery, self._subscriptions.is_requested(stream.subscription)
        recovery.is_throttled = not is_requested or stream.fetch.is_delayed
        if recovery.is_throttled:
            recovery.unusable_since_ns = self._now
        if not is_requested:
            return
        missing_ns = self._now - (recovery.unusable_since_ns or self._now)
        if stream.kind is Stream.BOOK and missing_ns > self._policy.stale_ns:
            self._time_out(stream, missing_ns)
        elif self._now >= recovery.next_attempt_ns and not stream.fetch.is_outstanding:
            self._resync(stream)

    def _time_out(self, stream: MarketStream, missing_ns: int) -> None:
        """Close the connection, or give up a market that timed out often, is halted, or sends invalid books."""
        stream.recovery.book_timeouts += 1
        is_malformed = stream.reason is Reason.PARSE_ERRORS
        is_hopeless = stream.recovery.book_timeouts > _MAX_BOOK_TIMEOUTS or not stream.listing.is_trading
        if is_hopeless or (is_malformed and self.has_valid_book()):
            self._actions.log_event("book.given_up", symbol=stream.symbol, reason=stream.reason or Reason.NO_BOOK)
            self.fail(stream, Reason.NO_BOOK, self._now)
        else:
            reason = Reason.PARSE_ERRORS if is_malformed else Reason.NO_BOOK
            self._actions.close(reason, f"{stream.symbol} has had no book for {missing_ns // _MS} ms")

    def _check_crossed(self, stream: MarketStream) -> None:
        """Resync a book that its venue crossed and that is silent."""
        is_silent = self._now - stream.applied_ns > stream.recovery.quiet_limit_ns
        if is_silent and self._now >= stream.recovery.next_attempt_ns:
            self._resync(stream)

    def _check_failed(self, stream: MarketStream) -> None:
        """Retry a stream that the venue refused, or whose book never arrived."""
        if self._now < stream.recovery.next_attempt_ns:
            return
        is_refused = stream.reason is not Reason.NO_BOOK
        if is_refused:
            self._subscriptions.retry(stream.subscription, self._now)
        if stream.book_sync is not None:
            self._resync(stream)
        stream.recovery.next_attempt_ns = self._now + (_REFUSED_RETRY_NS if is_refused else _GIVEN_UP_RETRY_NS)

    def _check_cadence(self, stream: MarketStream) -> None:
        """Subscribe a mute stream again."""
        since_ns = max(stream.applied_ns, self._opened_ns, stream.recovery.resubscribed_ns)
        if stream.limit_ns is None or self._now - since_ns <= stream.limit_ns:
            return
        subscribed_ns = self._subscriptions.since_ns(stream.subscription)
        if self._subscriptions.is_waiting(stream.subscription) or self._now - subscribed_ns <= stream.limit_ns:
            return  # the pace held its subscription back
        stream.recovery.resubscribed_ns = self._now
        silent_ms = (self._now - since_ns) // _MS
        self._actions.log_event("stream.mute", stream=stream.kind, symbol=stream.symbol, silent_ms=silent_ms)
        self._actions.change(stream, StreamState.STALE, Reason.STALE_WATCHDOG)
        if not self._subscriptions.resubscribe(stream.subscription, self._now):
            self._actions.close(Reason.STALE_WATCHDOG, f"{stream.kind} {stream.symbol} is mute")

    def _enter(self, stream: MarketStream, phase: BookPhase) -> None:
        stream.phase = phase
        stream.is_published_valid = phase is BookPhase.VALID

    def _publish(self, stream: MarketStream, event: BookSnapshot | BookDelta, out: list[Publication]) -> None:
        is_crossed = "crossed_by_venue" in event.flags
        stream.recovery.is_throttled = False
        stream.fetch.clear_limit()
        self._enter(stream, BookPhase.CROSSED if is_crossed else BookPhase.VALID)
        if not is_crossed:
            stream.recovery.unusable_since_ns = 0
            stream.recovery.book_timeouts = 0
        self._actions.change(stream, StreamState.LIVE, Reason.CROSSED_BOOK if is_crossed else stream.reason)
        out.append((stream, event))

    def _invalidate(self, stream: MarketStream, invalid: BookInvalid, out: list[Publication]) -> bool:
        """Publish the gap of a valid book and return True; return False when consumers know already."""
        stream.recovery.unusable_since_ns = stream.recovery.unusable_since_ns or self._now
        was_valid = stream.is_published_valid
        self._enter(stream, BookPhase.MISSING)
        if was_valid:
            self._publish_gap(stream, invalid, "book", _GAP_ACTIONS[self._continuity.resync], out)
        self._actions.change(stream, StreamState.RESYNC, invalid.reason)
        return was_valid

    def _invalidate_all(self, invalid: BookInvalid, cause: Cause, out: list[Publication]) -> None:
        for stream in self._books:
            if stream.book_sync is not None and self._opened_ns:
                stream.book_sync.invalidate(cause)
            if stream.is_published_valid:
                self._publish_gap(stream, invalid, "session", "reconnect", out)
            self._enter(stream, BookPhase.MISSING)

    def _publish_gap(
        self,
        stream: MarketStream,
        invalid: BookInvalid,
        scope: Literal["book", "session"],
        action: GapAction,
        out: list[Publication],
    ) -> None:
        gap = Gap(
            venue=self._venue.name,
            symbol=stream.symbol,
            venue_symbol=stream.listing.venue_symbol,
            exchange_ns=None,
            scope=scope,
            reason=invalid.reason,
            expected=invalid.expected,
            got=invalid.got,
            action=action,
        )
        out.append((stream, gap))

    def _resync_malformed(self, stream: MarketStream, invalid: BookInvalid) -> None:
        """Resync a malformed book, which others may follow.

        A feed of whole books resyncs with its next frame, and no valid book is given up for a malformed one.
        """
        if self._continuity.rule is Rule.SNAPSHOTS or (
            self._continuity.resync is Resync.RECONNECT and self.has_valid_book()
        ):
            stream.recovery.next_attempt_ns = self._now + _RESYNC_RETRY_NS
        else:
            self._resync(stream, invalid)

    def _resync(self, stream: MarketStream, invalid: BookInvalid | None = None) -> None:
        """Resync a book by its venue's means; ``invalid`` is None when an earlier resync brought nothing."""
        stream.recovery.next_attempt_ns = self._now + _RESYNC_RETRY_NS
        match self._continuity.resync:
            case Resync.REFETCH if invalid is not None and self._now - stream.fetch.requested_ns < REFETCH_CAP_NS:
                self._delay_fetch(stream)  # the last bridge did not hold
            case Resync.REFETCH:
                if invalid is not None:
                    stream.fetch.clear_failures()  # the last bridge held: earlier failures do not count
                self._actions.fetch(stream, "bridge", self._now)
            case Resync.RESUBSCRIBE:
                self._subscriptions.resubscribe(stream.subscription, self._now)
                self._actions.send(*self._subscriptions.sends(self._now))
            case Resync.RECONNECT:
                if invalid is not None:
                    text = f"{stream.symbol}: {invalid.expected} expected, {invalid.got} came"
                    self._actions.close(invalid.reason, text)

    def _bridge(self, stream: MarketStream, book_sync: BookSync, book: BookSnapshot, out: list[Publication]) -> None:
        """Bridge a fetched book to the stream; one that differs from a silent stream's disproves the local book."""
        reason = Reason.VENUE_DISAGREES if book_sync.is_disproved_by(book) else Reason.SOFT_RESYNC
        bridged = book_sync.on_fetched(book)
        was_valid = stream.is_published_valid
        if isinstance(bridged, BookInvalid):
            self._delay_fetch(stream)
            self._actions.log_event("book.not_joined", symbol=stream.symbol, expected=bridged.expected, got=bridged.got)
            if was_valid:
                stream.recovery.unusable_since_ns = self._now
                self._publish_gap(stream, bridged, "book", "resync", out)
                self._actions.change(stream, StreamState.RESYNC, bridged.reason)
            self._enter(stream, BookPhase.MISSING)
        elif bridged is not None:
            if was_valid:
                self._publish_gap(stream, BookInvalid(reason, None, book.venue_seq), "book", "resync", out)
                self._actions.change(stream, StreamState.RESYNC, reason)
            for event in bridged:
                self._publish(stream, event, out)

    def _delay_fetch(self, stream: MarketStream) -> None:
        """Schedule the next fetch after one that gave no book, or none that bridges."""
        stream.recovery.next_attempt_ns = self._now + stream.fetch.fail()

    def _compared(
        self,
        stream: MarketStream,
        book_sync: BookSync,
        book: BookSnapshot | None,
        reason: Reason | None,
        out: list[Publication],
    ) -> None:
        """Decide by REST whether a silent book is quiet, wrong, or mute."""
        if not stream.is_published_valid:
            return  # invalidated meanwhile; its resync is under way
        silent_ns = self._now - max(stream.applied_ns, self._opened_ns)
        limit_ns = stream.recovery.quiet_limit_ns
        if silent_ns <= limit_ns or (reason is Reason.RATE_LIMITED and silent_ns < _INCONCLUSIVE_LIMITS * limit_ns):
            return  # data came meanwhile, or there was no answer and the comparison is repeated
        if book is not None and book_sync.equals(book):
            stream.recovery.quiet_limit_ns = min(2 * limit_ns, max(_QUIET_CAP_NS, limit_ns))
            self._actions.change(stream, StreamState.QUIET, stream.reason)
            return
        if book is not None and not stream.has_moved and book_sync.is_disproved_by(book):
            reason = Reason.VENUE_DISAGREES
            book_sync.invalidate("resync")
            self._invalidate(stream, BookInvalid(reason, book_sync.venue_seq, book.venue_seq), out)
            pause_ns = _RESYNC_RETRY_NS if self._continuity.resync is Resync.RESUBSCRIBE else 0
            stream.recovery.next_attempt_ns = self._now + pause_ns
        self._on_mute(stream, silent_ns, reason)

    def _on_mute(self, stream: MarketStream, silent_ns: int, reason: Reason | None) -> None:
        """Subscribe a mute book again; close the connection when that was done already, or is not possible."""
        self._actions.log_event("book.mute", symbol=stream.symbol, silent_ms=silent_ns // _MS, reason=reason)
        is_second = _is_resubscribed(stream)
        stream.recovery.resubscribed_ns = self._now
        self._actions.change(stream, StreamState.STALE, Reason.STALE_WATCHDOG if stream.is_published_valid else reason)
        if is_second or not self._subscriptions.resubscribe(stream.subscription, self._now):
            text = f"{stream.symbol} is silent for {silent_ns // _MS} ms and {reason or 'differs from REST'}"
            self._actions.close(Reason.STALE_WATCHDOG, text)


def _is_resubscribed(stream: MarketStream) -> bool:
    """Return True when a mute book was subscribed again and has been mute since."""
    return stream.recovery.resubscribed_ns > stream.applied_ns


def _compare_pause_ns(stream: MarketStream) -> int:
    """Return the time between two comparisons: longer after a resubscription, and longest for the quietest market."""
    if _is_resubscribed(stream):
        return _RESYNC_RETRY_NS
    quiet_limit_ns = stream.recovery.quiet_limit_ns
    is_quietest = stream.state is StreamState.QUIET and quiet_limit_ns >= _QUIET_CAP_NS
    return quiet_limit_ns if is_quietest else _COMPARE_PAUSE_NS
