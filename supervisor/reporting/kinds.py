"""Kinds, signs and words of the states in reports; kinds, signs and colours are those of the status page. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from supervisor.overview import words
from supervisor.overview.document import SpanKind

#: Of kinds that share a place, the one with the highest rank is drawn.
RANKS: Final[Mapping[SpanKind, int]] = {
    "live": 0,
    "stopped": 1,
    "unwatched": 1,
    "outage": 2,
    "degraded": 3,
    "down": 4,
    "person": 5,
}
_KINDS: Final[Mapping[str, SpanKind]] = {
    "live": "live",
    "starting": "degraded",
    "unusable": "degraded",
    "silent": "degraded",
    "stale": "down",
    "backoff": "down",
    "killing": "down",
    "down": "down",
    "failed": "person",
    "unkillable": "person",
    "outage": "outage",
    "stopped": "stopped",
}
#: States that a consumer sees, beside those of a process.
_WORDS: Final = {
    "unusable": "a book is unusable",
    "silent": "silent",
    "down": "supervisor not running",
    "outage": words.KINDS["outage"],
}


def kind_of(state: str) -> SpanKind:
    """Return the kind of a venue's state in a report; states of another version count as not watched."""
    return _KINDS.get(state, "unwatched")


def sign_of(kind: SpanKind) -> str:
    """Return the sign beside a colour."""
    return "·" if kind == "unwatched" else words.SIGNS[kind]


def state_words(state: str) -> str:
    """Return a venue's state in a report in plain words; one of another version as it is."""
    return _WORDS.get(state) or words.worker_words(state)


def reason_words(reason: str | None) -> str:
    """Return a reason in plain words, with the word to search for."""
    return "unknown" if reason is None else f"{words.reason_words(reason)} ({reason})"
