"""Signs, words and colours of states, as on the status page. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True)
class StateKind:
    """Kind of state: class in the style, sign, and rank; the highest one is drawn where several share a pixel."""

    name: str
    sign: str
    rank: int


LIVE: Final = StateKind("live", "●", 0)
DEGRADED: Final = StateKind("degraded", "◐", 3)
DOWN: Final = StateKind("down", "■", 4)
PERSON: Final = StateKind("person", "▲", 5)
OUTAGE: Final = StateKind("outage", "✕", 2)
STOPPED: Final = StateKind("stopped", "○", 1)
#: Nobody watched.
UNWATCHED: Final = StateKind("unwatched", "·", 1)

_KINDS: Final = {
    "live": LIVE,
    "starting": DEGRADED,
    "backoff": DOWN,
    "stale": DOWN,
    "unusable": DEGRADED,
    "silent": DEGRADED,
    "killing": DOWN,
    "down": DOWN,
    "failed": PERSON,
    "unkillable": PERSON,
    "outage": OUTAGE,
    "stopped": STOPPED,
}


def kind_of(state: str) -> StateKind:
    """Return the kind of a venue's state in a report; states of another version count as not watched."""
    return _KINDS.get(state, UNWATCHED)


def reason_words(reason: str | None) -> str:
    """Return a reason in words; "unknown" for None."""
    return "unknown" if reason is None else reason.replace("_", " ")
