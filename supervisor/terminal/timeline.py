"""Last hour of a venue in one row of characters. Pure."""

from __future__ import annotations

import math
from collections.abc import Mapping
from itertools import pairwise
from typing import Final

from supervisor.overview.document import HourView, SpanKind, Timeline

#: A thin line is good, everything else fills the row. From what matters least to what matters most.
BARS: Final[Mapping[SpanKind, str]] = {
    "unwatched": "·",
    "live": "─",
    "stopped": "○",
    "degraded": "▒",
    "outage": "✕",
    "down": "█",
    "person": "▲",
}
_RANKS: Final = {kind: rank for rank, kind in enumerate(BARS)}


def bar(timeline: Timeline, hour: HourView, columns: int) -> str:
    """Return so many characters, each for what mattered most in its part of the hour."""
    if columns <= 0:
        return ""
    worst: list[SpanKind] = ["unwatched"] * columns
    per_column = (hour.until - hour.since) / columns
    for (at, kind), (ended, _) in pairwise([*timeline.spans, (hour.until, "unwatched")]):
        first = min(columns - 1, max(0, int((at - hour.since) / per_column)))
        behind = min(columns, max(first + 1, math.ceil((ended - hour.since) / per_column)))
        for column in range(first, behind):
            if _RANKS[kind] > _RANKS[worst[column]]:
                worst[column] = kind
    return "".join(BARS[kind] for kind in worst)


def share(timeline: Timeline) -> str:
    """Return the share of time live, as ``99.9 %``; never 100 % for less."""
    if timeline.share_live is None:
        return "-"
    percent = int(timeline.share_live * 1_000) / 10
    return f"{percent:g} %"
