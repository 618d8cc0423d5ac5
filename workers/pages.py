"""Tables of numbers in the venues' pages, generated from the code by ``make docs``."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Final

from workers.budgets import REST_SHARE
from workers.venues import VENUES
from workers.venues.venue import Resync, Rule, Venue

_BEGIN: Final = "<!-- numbers: written by make docs -->\n"
_END: Final = "<!-- end of numbers -->\n"
_HOUR_S: Final = 3600
_MIB: Final = 1 << 20
_RULES: Final = {
    Rule.SNAPSHOTS: "every frame is the whole book; one is lost when the stream is silent",
    Rule.CHAIN: "a change names the number that it follows",
    Rule.BRIDGE: "a change names the number that it follows; the first joins a snapshot by REST",
    Rule.CONNECTION: "frames of a connection are numbered without a hole",
}
_RESYNCS: Final = {
    Resync.RESUBSCRIBE: "subscribing again",
    Resync.REFETCH: "another snapshot by REST",
    Resync.RECONNECT: "a new connection",
}


def numbers_of(venue: Venue) -> str:
    """Return a venue's table as Markdown."""
    limits, keepalive, continuity = venue.limits, venue.keepalive, venue.continuity
    ping = "a ping frame" if keepalive.ping is None else f"`{keepalive.ping.decode()}`"
    age = "not limited" if limits.max_age_s is None else f"renewed before {limits.max_age_s / _HOUR_S:g} h"
    silences = [f"`{stream}` {seconds:g} s" for stream, seconds in continuity.silence_s.items()]
    rows = [
        ("messages to the venue", f"{limits.burst} at once, {limits.messages_per_s * 60:g} a minute"),
        ("REST", f"weight {limits.rest_weight_per_min} a minute, {REST_SHARE:.0%} of it for public data"),
        ("keep-alive", f"{ping} every {keepalive.interval_s:g} s, answered within {keepalive.pong_within_s:g} s"),
        ("age of a connection", age),
        ("largest frame", f"{limits.max_frame_bytes // _MIB} MiB"),
        ("continuity of books", _RULES[continuity.rule]),
        *([("silence that loses a book", ", ".join(silences))] if silences else []),
        ("a lost book is got back by", _RESYNCS[continuity.resync]),
        *((f"frames of `{stream}`", f"every {s:g} s") for stream, s in venue.streams.items() if s is not None),
    ]
    return "| kept by the code | |\n|---|---|\n" + "".join(f"| {what} | {value} |\n" for what, value in rows)


def with_numbers(page: str, venue: Venue) -> str:
    """Return a venue's page with its current table; raise ValueError if it lacks the table's markers."""
    before, _, rest = page.partition(_BEGIN)
    _, end, after = rest.partition(_END)
    if not end:
        raise ValueError(f"the page of {venue.name} has no {_BEGIN.strip()}")
    return f"{before}{_BEGIN}{numbers_of(venue)}{end}{after}"


if __name__ == "__main__":
    for name, each in VENUES.items():
        path = Path(sys.argv[1]) / f"{name}.md"
        path.write_text(with_numbers(path.read_text(), each))
