"""Condition of one process: its kind, why in plain words, and whether a person must act."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final, NamedTuple

from ipc.health import Reason, Stream, StreamState, WorkerState
from supervisor.overview.document import Kind
from supervisor.overview.words import (
    KINDS,
    ago,
    counted,
    duration,
    listed,
    reason_words,
    stream_name,
    stream_words,
    worker_words,
)
from supervisor.status.document import GOOD_STATES, REQUIRED_STREAMS

#: No usable book for this long is no recovery any more, unless the venue itself is down.
PATIENCE_S: Final = 120.0
#: An exit or a reconnect is mentioned for this long after it.
_RECENT_S: Final = 3_600.0
#: Reasons that no retry mends.
_FOR_A_PERSON: Final = frozenset({Reason.UNKNOWN_MARKET, Reason.DELISTED, Reason.AUTH_FAILED, Reason.CONFIG_ERROR})
#: A gateway that became live so recently may still be opening its HTTP address.
_OPENING_S: Final = 3.0
_WAITING: Final = frozenset({StreamState.CONNECTING, StreamState.SUBSCRIBED})
_RATES: Final = frozenset({Stream.FUNDING, Stream.FUNDING_POLL})
_MS: Final = 1_000


class Condition(NamedTuple):
    """Condition of a process.

    ``what`` is the cause alone, for the verdict; ``why`` has times as well. ``advice`` is the next step of the person
    who must act; empty when nobody must.
    """

    kind: Kind
    word: str
    what: str
    why: str
    reason: str | None = None
    reason_ago_s: float | None = None
    advice: str = ""


def condition_of(name: str, venue: Mapping[str, Any]) -> Condition:
    """Return the condition of a venue; ``name`` and ``venue`` are those of the status document."""
    whole = process_condition(name, venue)
    if whole is not None:
        return whole
    if venue["outage"]:
        what = "WebSocket and REST fail, retried until they work"
        return Condition("outage", KINDS["outage"], what, what, str(Reason.OUTAGE))
    long_away = _long_away(name, venue)
    if long_away is not None:
        return long_away
    if venue["state"] == WorkerState.LIVE:
        return _of_live(name, venue)
    if venue["state"] == WorkerState.STALE:
        what = _no_book(venue)
        return _of_streams(name, venue, "stale") or Condition("degraded", "stale", what, what)
    return _of_transition(venue)


def process_condition(name: str, process: Mapping[str, Any]) -> Condition | None:
    """Return the condition of a process that was stopped or needs a person; None for any other."""
    state, last = process["state"], process["last_exit"] or {}
    reason = last.get("reason")
    if process.get("stopped") is not None and state != WorkerState.UNKILLABLE:
        return _of_stopped_by(process["stopped"])
    if state == WorkerState.STOPPED:
        return _of_idle(process, last)
    if state == WorkerState.FAILED:
        what = process["error"] or reason_words(reason) or worker_words(state)
        return _person(what, reason, f"correct the configuration, then: paraphina-supervisor restart {name}")
    if state == WorkerState.UNKILLABLE:
        what = "its process survived SIGKILL, and no second one is started beside it"
        return _person(what, None, "check disks and NFS")
    if process["crash_loop"]:
        what = f"{counted(process['failures'], 'death')} in a row, last: {reason_words(reason) or 'unknown'}"
        why = f"{_next_start(process)}{what}"
        return _person(what, reason, f"read: paraphina-supervisor logs --venue {name}", why, last.get("ago_s"))
    return None


def missing_lines(venue: Mapping[str, Any]) -> str | None:
    """Return in words which lines of a venue are not live; None when all are, or it has only one."""
    lines = venue.get("lines") or {}
    away = {line: of for line, of in lines.items() if of["state"] != WorkerState.LIVE}
    if not away:
        return None
    words = []
    for line, of in away.items():
        reason = (of["last_exit"] or {}).get("reason")
        state = worker_words(of["state"])
        words.append(f"{line}: {state}, {reason_words(reason)}" if reason else f"{line}: {state}")
    return f"lines {len(lines) - len(away)}/{len(lines)} ({'; '.join(words)})"


def is_unserved(gateway: Mapping[str, Any]) -> bool:
    """Return whether a gateway works but has not got its HTTP address; opening it takes a moment after its start."""
    is_meant = gateway["state"] == WorkerState.LIVE and gateway["http"] is not None
    return is_meant and not gateway["http_listening"] and (gateway["since_s"] or 0.0) >= _OPENING_S


def is_bad(name: str, stream: Mapping[str, Any], since_s: float | None = None) -> bool:
    """Return whether a stream is not as it should be; ``since_s`` is the time since its process became live.

    A rate that the venue sends once an hour is not late before its own limit.
    """
    state = stream["state"]
    if name not in REQUIRED_STREAMS or state in GOOD_STATES:
        return False
    limit_ms = stream["limit_ms"]
    is_due = since_s is None or limit_ms is None or since_s * _MS > limit_ms
    return is_due or not (name in _RATES and state in _WAITING)


def bad_streams(venue: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    """Return the streams of a venue that are not as they should be."""
    since_s = venue["since_s"] if venue["state"] == WorkerState.LIVE else None
    return {name: stream for name, stream in venue["streams"].items() if is_bad(name, stream, since_s)}


def book_age_s(venue: Mapping[str, Any]) -> float | None:
    """Return the age of the venue's oldest book; None before the first."""
    age_ms = venue["streams"].get(Stream.BOOK, {}).get("age_ms")
    return None if age_ms is None else age_ms / _MS


def _person(
    what: str, reason: str | None, advice: str, why: str | None = None, ago_s: float | None = None
) -> Condition:
    return Condition("person", KINDS["person"], what, why or what, reason, ago_s, advice)


def _of_stopped_by(stopped: Mapping[str, Any]) -> Condition:
    """Return the condition of a venue that an operator stopped; its process may still be ending."""
    what = f"stopped by {stopped['by']}"
    return Condition("stopped", KINDS["stopped"], what, f"{what} {ago(stopped['ago_s'])}")


def _of_idle(process: Mapping[str, Any], last: Mapping[str, Any]) -> Condition:
    """Return the condition of a process that does not run and waits for no start.

    Its last exit may be an earlier one, while its death is not recorded: only its streams know how it ended.
    """
    ends = {stream["reason"] for stream in process.get("streams", {}).values()} or {last.get("reason")}
    if Reason.REQUESTED in ends:
        what = "stopped with the supervisor"
        return Condition("stopped", KINDS["stopped"], what, what)
    if Reason.PARENT_LOST in ends:
        what = "ended with the supervisor"
        return Condition("down", KINDS["down"], what, what, str(Reason.PARENT_LOST))
    what = "does not run"
    return Condition("down", KINDS["down"], what, what)


def _long_away(name: str, venue: Mapping[str, Any]) -> Condition | None:
    """Return the condition of a venue that has had no usable book for too long."""
    age_s = book_age_s(venue)
    away_s = venue["since_s"] if age_s is None else age_s
    books = venue["books"]
    if books["usable"] or not books["wanted"] or away_s is None or away_s < PATIENCE_S:
        return None
    reason, _ = _last_reason(venue)
    words = reason_words(reason)
    what = f"no usable book for {duration(away_s)}" + (f", last: {words}" if words else "")
    return _person(what, reason, f"read: paraphina-supervisor logs --venue {name}")


def _of_live(name: str, venue: Mapping[str, Any]) -> Condition:
    """Return the condition of a process that delivers."""
    troubled = _of_streams(name, venue, KINDS["degraded"])
    if troubled is not None:
        return troubled
    books = venue["books"]
    if books["usable"] < books["wanted"]:
        what = f"{books['usable']} of {counted(books['wanted'], 'book')} usable"
        return Condition("degraded", KINDS["degraded"], what, what)
    advice = _busy_address(venue)
    if advice is not None:
        return Condition("live", KINDS["live"], advice[0], advice[0], str(Reason.ADDRESS_IN_USE), advice=advice[1])
    missing = missing_lines(venue)
    return _of_healthy(venue) if missing is None else Condition("live", KINDS["live"], missing, missing)


def _of_healthy(venue: Mapping[str, Any]) -> Condition:
    """Return the condition of a venue with nothing wrong: what happened last."""
    last = venue["last_exit"]
    reason, ago_s = _last_reason(venue)
    if last is not None and last["ago_s"] < _RECENT_S and (ago_s is None or last["ago_s"] <= ago_s):
        why = f"restarted {ago(last['ago_s'])}: {reason_words(last['reason'])}"
        return Condition("live", KINDS["live"], "", why, last["reason"], last["ago_s"])
    if reason is not None and ago_s is not None:
        return Condition("live", KINDS["live"], "", f"recovered {ago(ago_s)}: {reason_words(reason)}", reason, ago_s)
    since_s = venue["since_s"]
    return Condition("live", KINDS["live"], "", "live" if since_s is None else f"live for {duration(since_s)}")


def _of_streams(name: str, venue: Mapping[str, Any], word: str) -> Condition | None:
    """Return the condition of a process with streams that are not as they should be; None without one.

    Streams with the same reason are one cause; that of the book, or else the first, is the venue's.
    """
    bad = bad_streams(venue)
    if not bad:
        return None
    causes: dict[tuple[str, str | None], list[str]] = {}
    for stream, of in bad.items():
        causes.setdefault((of["state"], of["reason"]), []).append(stream)
    (state, reason), names = next(
        (cause for cause in causes.items() if Stream.BOOK in cause[1]), next(iter(causes.items()))
    )
    markets = list(_markets_in(bad[names[0]], state))
    named = [stream_name(one) for one in names]
    subject = f"{named[0]} of {listed(markets)}" if markets else listed(named)
    what = f"{subject} {stream_words(state)}" if reason is None else f"{subject}: {_words(bad[names[0]], reason)}"
    ago_s = bad[names[0]]["reason_ago_s"]
    why = f"{what}, {ago(ago_s)}" if ago_s is not None and reason is not None else what
    advice = _advice(name, reason)
    if advice:
        return _person(what, reason, advice, why, ago_s)
    return Condition("degraded", word, what, why, reason, ago_s)


def _words(stream: Mapping[str, Any], reason: str) -> str:
    """Return a reason in words, with what the venue said where that is known."""
    detail = stream.get("detail")
    return f"{reason_words(reason)} ({detail})" if detail else str(reason_words(reason))


def _markets_in(stream: Mapping[str, Any], state: str) -> Iterator[str]:
    """Yield the markets in a state, if others are not."""
    markets = stream["markets"]
    found = [symbol for symbol, market in markets.items() if market["state"] == state]
    if len(found) < len(markets):
        yield from found


def _advice(name: str, reason: str | None) -> str:
    if reason not in _FOR_A_PERSON:
        return ""
    if reason == Reason.AUTH_FAILED:
        return f"correct the credentials, then: paraphina-supervisor restart {name}"
    return f"correct the markets of {name} in the configuration, then: paraphina-supervisor reload"


def _busy_address(process: Mapping[str, Any]) -> tuple[str, str] | None:
    """Return in words that another program has the address of a feed, and what to do; None when none has."""
    for feed in (process.get("tcp"), process.get("account_tcp")):
        if feed is not None and not feed["listening"]:
            return f"{feed['endpoint']}: {reason_words(Reason.ADDRESS_IN_USE)}", "end it, or set another tcp_port"
    return None


def _of_transition(venue: Mapping[str, Any]) -> Condition:
    """Return the condition of a venue whose process starts, ends, or waits for its next start."""
    state, last = venue["state"], venue["last_exit"]
    is_recent = last is not None and last["ago_s"] < _RECENT_S
    reason, ago_s = (last["reason"], last["ago_s"]) if is_recent else (None, None)
    word = "starting" if state == WorkerState.STARTING else KINDS["down"]
    what = reason_words(reason) if reason and state != WorkerState.KILLING else worker_words(state)
    why = what or ""
    if state == WorkerState.STARTING:
        own, _ = _last_reason(venue)
        what = f"starting, {reason_words(own)}" if own and own != reason else "starting"
        why = f"{what}; ended {ago(ago_s)}: {reason_words(reason)}" if reason else what
    return Condition("down", word, str(what), f"{_next_start(venue)}{why}", reason, ago_s)


def _next_start(process: Mapping[str, Any]) -> str:
    next_s = process["next_start_in_s"]
    return f"next start in {duration(next_s)}; " if next_s is not None else ""


def _no_book(venue: Mapping[str, Any]) -> str:
    age_s = book_age_s(venue)
    return "no book yet" if age_s is None else f"no fresh data for {duration(age_s)}"


def _last_reason(venue: Mapping[str, Any]) -> tuple[str | None, float | None]:
    """Return the latest reason of the required streams, with its age; the book's where ages are not known."""
    found = [
        (stream["reason_ago_s"], stream["reason"])
        for name, stream in venue["streams"].items()
        if name in REQUIRED_STREAMS and stream["reason"]
    ]
    dated = [(ago_s, reason) for ago_s, reason in found if ago_s is not None]
    if dated:
        ago_s, reason = min(dated)
        return reason, ago_s
    return (found[0][1], None) if found else (None, None)
