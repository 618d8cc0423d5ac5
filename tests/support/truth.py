"""A consumer that compares every book it trusts with what the market really is, and records every violation.

:class:`Examiner` judges, and touches nothing; :class:`TruthChecker` is the consumer around it, in threads beside the
system; :func:`compare_while_paused` compares whole books while the markets stand still. Making things go wrong is the
business of :mod:`storm`.
"""

from __future__ import annotations

import threading
import time
from collections import Counter, deque
from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Protocol, Self, TypeAlias

from systems import DEPTHS, VENUES, System, values, wait_for

from ipc.errors import ParaphinaError
from ipc.events import BookDelta, BookSnapshot, Event, Gap, Lifecycle, Status
from ipc.feed import Feed

__all__ = ["SYMBOLS", "Examiner", "TruthChecker", "Violation", "compare_while_paused", "explain"]

SYMBOLS = ("BTC-PERP", "ETH-PERP")

Market: TypeAlias = tuple[str, str]
Sides: TypeAlias = tuple[tuple[Any, ...], tuple[Any, ...]]

#: Venues whose numbers belong to the market. Extended's belong to a connection, and hyperliquid has none.
_NUMBERED = frozenset({"aster", "lighter", "paradex"})
#: States and truths kept of each market, levels a side that are kept of each, events kept of each venue.
_KEPT = 500
_DEPTH = 10
_TRAIL = 40
#: Log records of a venue that are listed with its violations.
_EXPLAINED = 60
#: More violations than this tell nothing new.
_MOST_VIOLATIONS = 50
#: A venue's own REST picture, and a book that the venue itself crosses, do not end a gap.
_HELD_BACK = frozenset({"rest", "crossed_by_venue"})


class Book(Protocol):
    """What is examined of a book."""

    venue: str
    symbol: str
    venue_seq: int | None
    drifts: int

    @property
    def usable(self) -> bool:
        """Whether it may be traded on."""

    def bids(self, depth: int | None = None) -> Sequence[Any]:
        """The best bids."""

    def asks(self, depth: int | None = None) -> Sequence[Any]:
        """The best asks."""


@dataclass(frozen=True, slots=True)
class Violation:
    """A promise that was broken, with the last events of its venue that the consumer received."""

    kind: str
    venue: str
    symbol: str | None
    detail: str
    trail: tuple[str, ...] = ()

    def __str__(self) -> str:
        lines = [
            f"{self.kind}: {self.venue} {self.symbol or ''} {self.detail}",
            *(f"    {line}" for line in self.trail),
        ]
        return "\n".join(lines)


class Examiner:
    """Compares the events that a consumer receives, and its books, with the market.

    ``compared`` counts by market how often a state was compared with the truth of the same number, ``upsets`` by venue
    how often a book or its worker was lost. Numbers belong to one life of a market: tell :meth:`forget` when the
    simulator starts again.
    """

    def __init__(self) -> None:
        self.violations: list[Violation] = []
        self.compared: Counter[Market] = Counter()
        self.upsets: Counter[str] = Counter()
        self._states: dict[Market, dict[int, Sides]] = {}
        self._truths: dict[Market, dict[int, Sides]] = {}
        self._epochs: dict[str, int] = {}
        self._drifts: dict[Market, int] = {}
        #: Markets whose book was lost and not published again.
        self._lost: set[Market] = set()
        self._trails: dict[str, deque[str]] = {}

    def saw_event(self, event: Event) -> None:
        """Record an event; call it before the book that it led to."""
        self._trails.setdefault(event.venue, deque(maxlen=_TRAIL)).append(_reported(event))
        if event.epoch:  # 0: the consumer's own
            self._saw_epoch("lifecycle" if isinstance(event, Lifecycle) else event.venue, event)
        market = (event.venue, str(event.symbol))
        self.upsets[event.venue] += isinstance(event, Gap) or (isinstance(event, Lifecycle) and event.event == "exited")
        if isinstance(event, Gap):
            self._lost.add(market)
        elif isinstance(event, BookSnapshot) and not _HELD_BACK.intersection(event.flags):
            self._lost.discard(market)

    def saw_book(self, book: Book) -> None:
        """This is what the consumer holds now."""
        market = (book.venue, book.symbol)
        if book.drifts > self._drifts.get(market, 0):
            self._object("drift", market, f"{book.drifts} differences from the worker's book")
        self._drifts[market] = book.drifts
        if not book.usable:
            return
        if market in self._lost:
            self._object("usable_in_gap", market, "usable after a gap, before a snapshot")
        bids, asks = tuple(values(book.bids(_DEPTH))), tuple(values(book.asks(_DEPTH)))
        if bids and asks and Decimal(bids[0][0]) >= Decimal(asks[0][0]):
            self._object("crossed", market, f"bid {bids[0]} ask {asks[0]}")
        if book.venue_seq is not None and book.venue in _NUMBERED:
            self._saw_state(market, book.venue_seq, (bids, asks))

    def saw_truth(self, venue: str, symbol: str, truth: Mapping[str, Any]) -> None:
        """This is what the market was at some moment; of venues without numbers it tells nothing here."""
        number = truth["venue_seq"]
        if number is None:
            return
        sides = (tuple(values(truth["bids"][:_DEPTH])), tuple(values(truth["asks"][:_DEPTH])))
        market = (venue, symbol)
        if _remember(self._truths, market, number, sides):
            self._compare(market, number)

    def forget(self) -> None:
        """The markets begin a new life: numbers may come again."""
        self._states.clear()
        self._truths.clear()

    def object(self, kind: str, venue: str, symbol: str | None, detail: str) -> None:
        """Note a violation that somebody else found."""
        if len(self.violations) < _MOST_VIOLATIONS:
            self.violations.append(Violation(kind, venue, symbol, detail, tuple(self._trails.get(venue, ()))))

    def _object(self, kind: str, market: Market, detail: str) -> None:
        self.object(kind, *market, detail)

    def _saw_epoch(self, publisher: str, event: Event) -> None:
        known = self._epochs.get(publisher, 0)
        if event.epoch < known:
            self.object("epoch_went_back", event.venue, event.symbol, f"{event.epoch} after {known}")
        elif event.epoch > known:
            self._epochs[publisher] = event.epoch
            self._lost |= {market for market in self._drifts if market[0] == publisher}

    def _saw_state(self, market: Market, number: int, sides: Sides) -> None:
        before = self._states.get(market, {}).get(number)
        if before is not None and before != sides:
            self._object("two_states", market, f"number {number} is {_difference(before, sides)}")
        if _remember(self._states, market, number, sides):
            self._compare(market, number)

    def _compare(self, market: Market, number: int) -> None:
        held, truth = self._states.get(market, {}).get(number), self._truths.get(market, {}).get(number)
        if held is None or truth is None:
            return
        self.compared[market] += 1
        if held != truth:
            self._object("differs_from_truth", market, f"at number {number}: {_difference(held, truth)}")


class TruthChecker:
    """A consumer of a system in a thread of its own, with another one that asks for the truth; a context manager.

    Args:
        system: Whose feeds it reads; it has a simulator.
        venues: Which venues.
        nap_s: For a slow consumer: how long it reads, and for how long it then reads nothing, by turns.
        channels: What it subscribes.
        poll_s: Between two questions for the truth.
    """

    def __init__(
        self,
        system: System,
        *,
        venues: Collection[str] = VENUES,
        nap_s: tuple[float, float] | None = None,
        channels: Sequence[str] = ("book", "lifecycle"),
        poll_s: float = 0.02,
    ) -> None:
        self.venues = tuple(venues)
        self._system = system
        self._nap_s = nap_s
        self._poll_s = poll_s
        self._examiner = Examiner()
        self._feed = Feed(system.run_dir.path, venues=self.venues, channels=channels)
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._woken = threading.Event()
        self._threads = [threading.Thread(target=run, daemon=True) for run in (self._run_consumer, self._run_truth)]

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._woken.set()
        for thread in self._threads:
            thread.join(30)
        self._feed.close()

    @property
    def violations(self) -> list[Violation]:
        """What was found so far."""
        return list(self._examiner.violations)

    @property
    def compared(self) -> Counter[Market]:
        """Comparisons by market so far."""
        return Counter(self._examiner.compared)

    @property
    def lost(self) -> int:
        """Messages that never came."""
        return self._feed.lost

    def is_well(self, venue: str) -> bool:
        """Whether every book of a venue is usable."""
        with self._lock:
            return all(self._feed.book(venue, symbol).usable for symbol in SYMBOLS)

    def upsets(self, venue: str) -> int:
        """How often a book of a venue, or its worker, was lost so far."""
        with self._lock:
            return self._examiner.upsets[venue]

    def reasons(self, venue: str) -> dict[str, str | None]:
        """Why the books of a venue are unusable; None of those that are usable."""
        with self._lock:
            return {symbol: self._feed.book(venue, symbol).reason for symbol in SYMBOLS}

    def differs(self, venue: str, symbol: str) -> str | None:
        """How the whole book differs from the truth, asked for now; None when it does not."""
        truth = self._system.truth(venue, symbol)
        depth = DEPTHS[venue]
        wanted = tuple(values(truth["bids"][:depth])), tuple(values(truth["asks"][:depth]))
        with self._lock:
            book = self._feed.book(venue, symbol)
            if not book.usable:
                return f"it is unusable: {book.reason}"
            held = tuple(values(book.bids())), tuple(values(book.asks()))
        return None if held == wanted else _difference(held, wanted)

    def object(self, kind: str, venue: str, symbol: str | None, detail: str) -> None:
        """Note a violation that somebody else found."""
        with self._lock:
            self._examiner.object(kind, venue, symbol, detail)

    def wake(self) -> None:
        """A slow consumer reads from now on."""
        self._woken.set()

    def forget(self) -> None:
        """The simulator started again."""
        with self._lock:
            self._examiner.forget()

    # --- in the threads ---------------------------------------------------------------------------------------------

    def _run_consumer(self) -> None:
        nap_at = time.monotonic() + self._nap_s[0] if self._nap_s else None
        while not self._stop.is_set():
            with self._lock:
                has_read = self._read()
            if not has_read:
                time.sleep(0.002)
            if self._nap_s is not None and nap_at is not None and time.monotonic() > nap_at:
                self._woken.wait(self._nap_s[1])
                nap_at = time.monotonic() + self._nap_s[0]

    def _read(self) -> bool:
        """Take one message, and look at what it led to."""
        event = self._feed.poll(0.0)
        if event is None:
            return False
        self._examiner.saw_event(event)
        # One message can bring two events; the books are what they are after the last one.
        while self._feed._pending:
            event = self._feed._pending.popleft()
            self._examiner.saw_event(event)
        if event.venue in self.venues:
            for symbol in SYMBOLS if event.symbol is None else (event.symbol,):
                self._examiner.saw_book(self._feed.book(event.venue, symbol))
        return True

    def _run_truth(self) -> None:
        while not self._stop.is_set():
            for venue in self.venues:
                for symbol in SYMBOLS:
                    with suppress(OSError, ParaphinaError, AssertionError):  # the simulator, or all, is away
                        truth = self._system.truth(venue, symbol)
                        if truth["venue_seq"] is None:
                            continue
                        with self._lock:
                            self._examiner.saw_truth(venue, symbol, truth)
                    if self._stop.wait(self._poll_s):
                        return


def compare_while_paused(system: System, checkers: Sequence[TruthChecker], within_s: float = 20.0) -> None:
    """Hold the markets still; every book of every consumer must be usable and wholly right within ``within_s``."""
    system.admin("/pause", {})
    try:
        for checker in checkers:
            for venue in checker.venues:
                for symbol in SYMBOLS:
                    _await_truth(checker, venue, symbol, within_s)
    finally:
        system.admin("/resume", {})


def explain(system: System, violations: Sequence[Violation]) -> str:
    """Every violation, and what the system's log tells of the venues that are concerned."""
    lines = [str(violation) for violation in violations]
    for venue in sorted({violation.venue for violation in violations}):
        records = [{"ts": record.pop("ts"), **record} for record in system.log(venue=venue)]
        lines += [f"log of {venue}:", *(f"    {record}" for record in records[-_EXPLAINED:])]
    return "\n".join(lines)


def _await_truth(checker: TruthChecker, venue: str, symbol: str, within_s: float) -> None:
    last: list[str | None] = []

    def is_true() -> bool:
        last[:] = [checker.differs(venue, symbol)]
        return last[0] is None

    try:
        wait_for(is_true, within_s)
    except AssertionError:
        checker.object("not_restored", venue, symbol, f"after {within_s:g} s of standing still: {last[0]}")


def _remember(kept: dict[Market, dict[int, Sides]], market: Market, number: int, sides: Sides) -> bool:
    """Keep what was seen, the last few hundred; whether its number is new."""
    numbers = kept.setdefault(market, {})
    if number in numbers:
        return False
    numbers[number] = sides
    if len(numbers) > _KEPT:
        del numbers[next(iter(numbers))]
    return True


def _difference(held: Sides, wanted: Sides) -> str:
    """The first levels that are not the same."""
    parts = []
    for side, ours, theirs in zip(("bids", "asks"), held, wanted, strict=True):
        if ours != theirs:
            at = next((i for i, pair in enumerate(zip(ours, theirs, strict=False)) if pair[0] != pair[1]), None)
            place = min(len(ours), len(theirs)) if at is None else at
            shown = slice(place, place + 3)
            parts.append(
                f"{side} from level {place}: {ours[shown]} and not {theirs[shown]} ({len(ours)}, {len(theirs)})"
            )
    return "; ".join(parts) or "the same"


def _reported(event: Event) -> str:
    """An event in one line."""
    words: list[object] = [f"{event.recv_mono_ns / 1e9:.3f}", type(event).__name__, event.symbol or "", event.seq]
    if isinstance(event, BookSnapshot):
        words += [event.cause, event.venue_seq, *event.flags]
    elif isinstance(event, BookDelta):
        words += [f"{event.prev_venue_seq}>{event.venue_seq}"]
    elif isinstance(event, Gap):
        words += [event.scope, event.reason, event.expected, event.got, event.action]
    elif isinstance(event, Status):
        words += [event.stream, event.state, event.reason]
    elif isinstance(event, Lifecycle):
        words += [event.event, event.reason, event.pid]
    return " ".join(str(word) for word in words)
