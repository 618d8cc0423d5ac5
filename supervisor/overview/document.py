"""Structure of the overview, as served in ``/state.json`` and printed by ``top --json``.

Times are Unix seconds, durations seconds, and ``None`` stands for what is not known. Lists of venues keep the order of
the configuration.
"""

from __future__ import annotations

from typing import Any, Literal, TypeAlias

import msgspec

#: Verdict: all is well, it recovers by itself, a person must act, or nothing is meant to run.
Level: TypeAlias = Literal["fine", "heals", "person", "none"]
#: Condition of a venue. ``stopped`` is a venue that an operator stopped: neither bad nor live.
Kind: TypeAlias = Literal["live", "degraded", "down", "outage", "person", "stopped"]
#: Kind of a span of time: that of the venue, or ``unwatched`` while nobody recorded it.
SpanKind: TypeAlias = Literal["live", "degraded", "down", "outage", "person", "stopped", "unwatched"]
MarkKind: TypeAlias = Literal["exit", "reconnect"]


class VerdictText(msgspec.Struct, frozen=True):
    """Verdict on the whole system: what is wrong, and whether a person must act."""

    level: Level
    sign: str
    headline: str
    detail: str

    @property
    def line(self) -> str:
        """Sign, headline and detail on one line."""
        return f"{self.sign} {self.headline} — {self.detail}" if self.detail else f"{self.sign} {self.headline}"


class ClockView(msgspec.Struct, frozen=True):
    """Clock of the machine; ``synchronised`` is None where the kernel does not say."""

    synchronised: bool | None


class BooksView(msgspec.Struct, frozen=True):
    """Number of usable and of wanted books."""

    usable: int
    wanted: int


class StreamView(msgspec.Struct, frozen=True):
    """Stream of a venue; ``word`` is its age, or its state while there is no age to show."""

    name: str
    state: str
    word: str
    age_s: float | None
    limit_s: float | None
    is_bad: bool
    reason: str | None
    reason_ago_s: float | None
    reconnects: int


class VenueView(msgspec.Struct, frozen=True):
    """Venue. ``age_s`` and ``limit_s`` are of its oldest book, ``lag_ms`` (p50) and ``handling_ms`` (p99) of books.

    ``reason`` is the word behind ``why``, for a search in log and documentation. ``rates`` are the events of up to 120
    seconds, oldest first.
    """

    name: str
    kind: Kind
    sign: str
    word: str
    age_s: float | None
    limit_s: float | None
    why: str
    reason: str | None
    reason_ago_s: float | None
    books: BooksView
    restarts: int
    reconnects: int
    gaps: int
    next_start_s: float | None
    events_per_s: float | None
    rates: list[float]
    consumers: list[str]
    lag_ms: float | None
    handling_ms: float | None
    streams: list[StreamView]


class Timeline(msgspec.Struct, frozen=True):
    """Last hour of a venue: spans last until the next one, and ``share_live`` is the share of the watched time."""

    venue: str
    spans: list[tuple[float, SpanKind]]
    marks: list[tuple[float, MarkKind, str]]
    share_live: float | None


class HourView(msgspec.Struct, frozen=True, rename={"since": "from", "until": "to", "timelines": "lanes"}):
    """Last hour of all venues. Before ``watched_since``, and before a venue's first span, nobody watched."""

    since: float
    until: float
    watched_since: float
    timelines: list[Timeline]


class EventView(msgspec.Struct, frozen=True):
    """Something that happened, with what belongs to it, on one line."""

    at: float
    venue: str
    text: str
    reason: str | None


class PriceRow(msgspec.Struct, frozen=True):
    """Prices of a market on one venue; ``why`` stands in their place while its book is not usable.

    Prices are the venue's text. ``funding`` is a fraction for one interval of ``interval_s``, ``funding_8h`` for eight
    hours.
    """

    venue: str
    bid: str | None
    ask: str | None
    spread_bp: float | None
    age_s: float | None
    mark: str | None
    funding: float | None
    funding_8h: float | None
    interval_s: int | None
    next_funding_at: float | None
    is_best_bid: bool
    is_best_ask: bool
    why: str | None


class PriceTable(msgspec.Struct, frozen=True):
    """Prices of one symbol on all venues that have it, and in a sentence how they differ."""

    symbol: str
    rows: list[PriceRow]
    summary: str


class Overview(msgspec.Struct, frozen=True):
    """Whole overview; ``book`` is a book that a viewer asked for."""

    at: float
    uptime_s: float | None
    version: str | None
    is_simulated: bool
    verdict: VerdictText
    clock: ClockView
    venues: list[VenueView]
    hour: HourView
    events: list[EventView]
    prices: list[PriceTable]
    book: Any = None
