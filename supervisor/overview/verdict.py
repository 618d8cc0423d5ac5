"""Verdict on a system: fine, heals by itself, or needs a person. It decides what the first line of every view says."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from ipc.health import Reason, WorkerState
from supervisor.overview.condition import Condition, book_age_s, condition_of, is_unserved, process_condition
from supervisor.overview.document import Kind, Level, VerdictText
from supervisor.overview.words import LEVEL_SIGNS, counted, duration, listed, reason_words, worker_words
from supervisor.status.document import describe_stall

#: Failures that, seen on every venue at once, are of this machine's network.
_OF_THE_NETWORK: Final = frozenset(
    {Reason.CONNECT_FAILED, Reason.CONNECT_TIMEOUT, Reason.DNS_FAILED, Reason.TLS_FAILED, Reason.PROXY_FAILED}
)
_NETWORK_PATIENCE_S: Final = 30.0
_HEALS: Final = "heals by itself"
_START: Final = "start with: paraphina-supervisor start"


def kind_of(name: str, venue: Mapping[str, Any]) -> Kind:
    """Return the kind of a venue of the status document."""
    return condition_of(name, venue).kind


def verdict(status: Mapping[str, Any], events_per_s: float | None = None) -> VerdictText:
    """Return the verdict on a system.

    Args:
        status: Status document.
        events_per_s: Events of all venues; None when unknown.
    """
    supervisor = status["supervisor"]
    conditions = {name: condition_of(name, venue) for name, venue in status["venues"].items()}
    return (
        _of_supervisor(status, conditions)
        or _of_network(supervisor, status["venues"], conditions)
        or _of_venues(status, conditions, events_per_s)
    )


def _text(level: Level, headline: str, *details: str) -> VerdictText:
    return VerdictText(level, LEVEL_SIGNS[level], headline, "; ".join(detail for detail in details if detail))


def _of_supervisor(status: Mapping[str, Any], conditions: Mapping[str, Condition]) -> VerdictText | None:
    """Return the verdict when it is the supervisor's state that matters; None when it is the venues'."""
    supervisor = status["supervisor"]
    state = supervisor["state"]
    kinds = {condition.kind for condition in conditions.values()}
    if state == "none" and all(venue["state"] == WorkerState.STOPPED for venue in status["venues"].values()):
        return _text("none", "Nothing runs here", _START)
    if not conditions:
        return _text("heals", "Starting", "or restoring its files: no venue is known yet")
    if state == "dead":
        if kinds == {"stopped"}:
            return _text("none", "Stopped: nothing runs", _START)
        return _text("person", "The supervisor is gone: nothing runs", _START)
    if state == "stalled":
        what, advice = describe_stall(supervisor)
        return _text("person", "The supervisor needs you", f"it {what}: feeds go on, nothing is restarted", advice)
    if state == "draining":
        return _text("none", "Stopping", "all venues are being ended")
    return None


def _of_network(
    supervisor: Mapping[str, Any], venues: Mapping[str, Any], conditions: Mapping[str, Condition]
) -> VerdictText | None:
    """Return the verdict when all venues fail in a way that points to this machine's network."""
    wanted = {name: condition for name, condition in conditions.items() if condition.kind != "stopped"}
    if len(wanted) < 2 or (supervisor["uptime_s"] or 0.0) < _NETWORK_PATIENCE_S:
        return None
    for name, condition in wanted.items():
        age_s = book_age_s(venues[name])
        is_away = age_s is None or age_s > _NETWORK_PATIENCE_S
        if condition.kind == "live" or not is_away or not _is_of_the_network(condition, venues[name]):
            return None
    reasons = [_connection_reason(venues[name]) for name in wanted]
    reason = next((one for one in reasons if one is not None), None)
    words = f": {reason_words(reason)}" if reason is not None else ""
    what = f"all {len(wanted)} fail alike{words}"
    return _text("person", "No venue can be reached", what, "check this machine's network: paraphina-supervisor check")


def _is_of_the_network(condition: Condition, venue: Mapping[str, Any]) -> bool:
    return condition.kind == "outage" or _connection_reason(venue) is not None


def _connection_reason(venue: Mapping[str, Any]) -> str | None:
    """Return the reason that a venue's sessions cannot connect for, if it is one of the network."""
    reasons = [session["reason"] for session in venue["sessions"].values()]
    return next((reason for reason in reasons if reason in _OF_THE_NETWORK), None)


def _of_venues(
    status: Mapping[str, Any], conditions: Mapping[str, Condition], events_per_s: float | None
) -> VerdictText:
    """Return the verdict when it is the venues' states that matter."""
    stopped = [name for name, condition in conditions.items() if condition.kind == "stopped"]
    wanted = {name: condition for name, condition in conditions.items() if condition.kind != "stopped"}
    for_person = {name: condition for name, condition in wanted.items() if condition.advice}
    bad = {name: condition for name, condition in wanted.items() if condition.kind != "live"}
    live = len(wanted) - sum(not _delivers(condition, status["venues"][name]) for name, condition in bad.items())
    level, gateway = _of_gateway(status)
    remarks = (_stopped_words(stopped, conditions), *_clock_words(status["supervisor"]))
    if for_person:
        return _text(
            "person", _headline_of(for_person), _grouped(for_person), _advice_of(for_person),
            _count(live, len(wanted)), gateway, *remarks,
        )  # fmt: skip
    if level == "person":
        return _text(level, "The gateway needs you", gateway, f"{_count(live, len(wanted))}: feeds go on", *remarks)
    if bad:
        headline = _headline_live(live, len(wanted), status["supervisor"])
        return _text("heals", headline, f"{_grouped(bad)} — {_healing(bad)}", gateway, *remarks)
    if not wanted:
        return _text("none", "All venues are stopped", *remarks)
    headline = _headline_live(live, len(wanted), status["supervisor"])
    return _text(level, headline, gateway or _activity(status, events_per_s), *remarks)


def _delivers(condition: Condition, venue: Mapping[str, Any]) -> bool:
    """Return whether a venue that is not fine has all its books all the same: a person is needed for something else."""
    books = venue["books"]
    return condition.kind == "person" and venue["state"] == WorkerState.LIVE and books["usable"] == books["wanted"] > 0


def _headline_live(live: int, wanted: int, supervisor: Mapping[str, Any]) -> str:
    if supervisor["state"] == "none":
        return "Live, without a supervisor" if live else "Not live, and without a supervisor"
    if live < wanted:
        return _count(live, wanted)
    return "The venue is live" if wanted == 1 else f"All {wanted} venues live"


def _count(live: int, wanted: int) -> str:
    return f"{live} of {wanted} live"


def _headline_of(troubled: Mapping[str, Condition]) -> str:
    return f"{listed(list(troubled))} {'needs' if len(troubled) == 1 else 'need'} you"


def _grouped(conditions: Mapping[str, Condition]) -> str:
    """Return what is wrong with each venue; venues of which the same is true are named together."""
    groups: dict[str, list[str]] = {}
    for name, condition in conditions.items():
        groups.setdefault(condition.what if condition.kind != "outage" else "venue outage", []).append(name)
    if len(groups) == 1 and len(conditions) == 1:
        (what,) = groups
        (condition,) = conditions.values()
        return what if condition.advice else f"{next(iter(conditions))}: {what}"
    return ", ".join(f"{listed(names)}: {what}" for what, names in groups.items())


def _advice_of(conditions: Mapping[str, Condition]) -> str:
    """Return the next step for the first venue that needs one."""
    return next(condition.advice for condition in conditions.values())


def _healing(bad: Mapping[str, Condition]) -> str:
    if all(condition.kind == "outage" for condition in bad.values()):
        return f"{_HEALS} when the venue is back"
    return _HEALS


def _activity(status: Mapping[str, Any], events_per_s: float | None) -> str:
    usable = sum(venue["books"]["usable"] for venue in status["venues"].values())
    books = counted(usable, "book")
    return books if events_per_s is None else f"{books}, {events_per_s:.0f} events/s"


def _stopped_words(stopped: list[str], conditions: Mapping[str, Condition]) -> str:
    groups: dict[str, list[str]] = {}
    for name in stopped:
        groups.setdefault(conditions[name].why, []).append(name)
    return ", ".join(f"{listed(names)} {why}" for why, names in groups.items())


def _clock_words(supervisor: Mapping[str, Any]) -> tuple[str, ...]:
    clock = supervisor.get("clock") or {}
    return ("clock not synchronised",) if clock.get("synchronised") is False else ()


def _of_gateway(status: Mapping[str, Any]) -> tuple[Level, str]:
    """Return how serious the gateway's state is, and what it means; no text while it works."""
    gateway = status["gateway"]
    if is_unserved(gateway):
        return "person", f"{gateway['http']} cannot be opened: see the log"
    if status["supervisor"]["state"] == "none" or gateway["state"] == WorkerState.LIVE:
        return "fine", ""
    condition = process_condition("gateway", gateway)
    what = "page, metrics and lifecycle events are away"
    if condition is not None and condition.advice:
        return "person", f"{what}: {condition.what}; {condition.advice}"
    last = gateway["last_exit"] or {}
    reason = reason_words(last.get("reason")) or worker_words(gateway["state"])
    next_s = gateway["next_start_in_s"]
    start = f", next start in {duration(next_s)}" if next_s else ""
    return "heals", f"{what}: gateway {reason}{start}; feeds go on — {_HEALS}"
