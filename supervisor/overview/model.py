"""Build of the overview from its parts."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final

from ipc.health import Stream, StreamState
from supervisor.overview.condition import bad_streams, book_age_s, condition_of
from supervisor.overview.document import BooksView, ClockView, Overview, StreamView, VenueView
from supervisor.overview.history import History
from supervisor.overview.prices import Prices
from supervisor.overview.verdict import verdict
from supervisor.overview.words import SIGNS, duration, stream_words

#: Name of the consumer that reads for the overview itself.
_GATEWAY: Final = "gateway"
_MS: Final = 1_000
_US: Final = 1_000


def build(
    status: Mapping[str, Any], history: History, prices: Prices, wall_s: float, symbols: Iterable[str] = ()
) -> Overview:
    """Return the overview of a system.

    Args:
        status: Status document.
        history: Recorded past; its last record is of ``status``.
        prices: Last prices.
        wall_s: Time at which ``status`` was read, Unix seconds.
        symbols: Symbols whose prices are wanted; empty for all.
    """
    supervisor = status["supervisor"]
    venues = [_venue(name, venue, history) for name, venue in status["venues"].items()]
    rates = [venue.events_per_s for venue in venues if venue.events_per_s is not None]
    return Overview(
        at=wall_s,
        uptime_s=supervisor["uptime_s"],
        version=supervisor["version"],
        is_simulated=status["simulator"] is not None,
        verdict=verdict(status, sum(rates) if rates else None),
        clock=ClockView((supervisor.get("clock") or {}).get("synchronised")),
        venues=venues,
        hour=history.hour(status["venues"], wall_s),
        events=history.events(),
        prices=prices.rows(status, wall_s, symbols),
    )


def _venue(name: str, venue: Mapping[str, Any], history: History) -> VenueView:
    condition = condition_of(name, venue)
    bad = bad_streams(venue)
    book = venue["streams"].get(Stream.BOOK, {})
    lag, handling = book.get("lag_ms"), book.get("handling_us")
    return VenueView(
        name=name,
        kind=condition.kind,
        sign=SIGNS[condition.kind],
        word=condition.word,
        age_s=book_age_s(venue),
        limit_s=_seconds(book.get("limit_ms")),
        why=condition.why,
        reason=condition.reason,
        reason_ago_s=condition.reason_ago_s,
        books=BooksView(**venue["books"]),
        restarts=venue["restarts"],
        reconnects=sum(session["reconnects"] for session in venue["sessions"].values()),
        gaps=sum(market["gaps"] for market in book.get("markets", {}).values()),
        next_start_s=venue["next_start_in_s"],
        events_per_s=history.events_per_s(name),
        rates=history.rates(name),
        consumers=[name for name in venue["consumers"] if name != _GATEWAY],
        lag_ms=None if lag is None else lag["p50"],
        handling_ms=None if handling is None else round(handling["p99"] / _US, 3),
        streams=[stream_view(stream, of, is_bad=stream in bad) for stream, of in venue["streams"].items()],
    )


def stream_view(name: str, stream: Mapping[str, Any], *, is_bad: bool) -> StreamView:
    """Return one stream of the status document as the overview shows it."""
    age_s = _seconds(stream["age_ms"])
    return StreamView(
        name=name,
        state=stream["state"],
        word=_stream_word(stream["state"], age_s),
        age_s=age_s,
        limit_s=_seconds(stream["limit_ms"]),
        is_bad=is_bad,
        reason=stream["reason"],
        reason_ago_s=stream["reason_ago_s"],
        reconnects=stream["reconnects"],
    )


def _stream_word(state: str, age_s: float | None) -> str:
    """Return the age of a stream; its state while it has had no data."""
    if age_s is not None:
        return duration(age_s)
    return "none yet" if state in {StreamState.LIVE, StreamState.QUIET, StreamState.SUBSCRIBED} else stream_words(state)


def _seconds(milliseconds: int | None) -> float | None:
    return None if milliseconds is None else milliseconds / _MS
