"""Text of ``status``: the verdict, a line for each venue, and the streams that are not as they should be."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Mapping
from typing import Any, Final, NamedTuple

import click

from ipc.health import HIGH_DESCRIPTORS, MANY_SUBSCRIPTIONS, Reason, Stream, StreamState
from ipc.printable import printable_values
from supervisor.overview.condition import bad_streams, book_age_s, condition_of, is_unserved, missing_lines
from supervisor.overview.document import Kind, Level
from supervisor.overview.verdict import verdict
from supervisor.overview.words import SIGNS, ago, counted, duration, reason_words

LEVEL_COLOURS: Final[Mapping[Level, str]] = {"fine": "green", "heals": "yellow", "person": "red", "none": "white"}
KIND_COLOURS: Final[Mapping[Kind, str]] = {
    "live": "green",
    "degraded": "yellow",
    "down": "red",
    "outage": "magenta",
    "person": "red",
    "stopped": "white",
}
_STATE_COLOURS: Final = {
    **dict.fromkeys(("live", "running"), "green"),
    "quiet": "cyan",
    **dict.fromkeys(("draining", "starting", "connecting", "subscribed", "resync", "rest", "backoff"), "yellow"),
    **dict.fromkeys(("stalled", "stale", "failed", "killing", "unkillable", "dead"), "red"),
}
#: Consumers of a venue that are named; a line is to stay readable.
_SHOWN_NAMES: Final = 4
#: Least room for the words of a line, columns.
_LEAST: Final = 20


class _Line(NamedTuple):
    """Line of a table: its columns, and words that may be wrapped behind them."""

    head: str
    words: str = ""


def render(state: Mapping[str, Any], *, all_streams: bool = False, width: int | None = None) -> str:
    """Format the status document.

    Args:
        state: Status document.
        all_streams: Every stream and pid, instead of the table.
        width: Columns to wrap at; None for one line each.
    """
    state = printable_values(state)
    found = verdict(state)
    colour = LEVEL_COLOURS[found.level]
    lines = [_Line("", found.line)]
    if state["venues"] or state["supervisor"]["state"] != "none":
        lines += [_supervisor_line(state["supervisor"], state["venues"])]
    if state["venues"]:
        lines += _all_streams(state) if all_streams else _table(state["venues"])
        lines += _other_processes(state)
    first, *others = [_wrapped(line, width) for line in lines]
    return "\n".join([click.style(first, fg=colour, bold=True), *others])


def _wrapped(line: _Line, width: int | None) -> str:
    """Wrap the words of a line behind its columns; below them where there is no room."""
    if width is None or not line.words:
        return f"{line.head}{line.words}".rstrip()
    columns = len(click.unstyle(line.head))
    has_room = width - columns >= _LEAST
    indent = " " * (columns if has_room else 4)
    words = textwrap.wrap(line.words, max(_LEAST, width - len(indent)), break_on_hyphens=False)
    first = words.pop(0) if has_room else ""
    return "\n".join([f"{line.head}{first}".rstrip(), *(f"{indent}{part}" for part in words)])


def _table(venues: Mapping[str, Any]) -> list[_Line]:
    """Return a line for each venue, and one for each of its streams that is not as it should be."""
    conditions = {name: condition_of(name, venue) for name, venue in venues.items()}
    names = max(len("venue"), *map(len, venues))
    words = max(len("state"), *(len(condition.word) for condition in conditions.values()))
    head = f"  {'venue':<{names}}  {'state':<{words}}  {'book age':>8}  {'limit':<6} {'books':>5}  why"
    lines = [_Line(""), _Line(head)]
    for name, venue in venues.items():
        condition = conditions[name]
        books = f"{venue['books']['usable']}/{venue['books']['wanted']}"
        limit = venue["streams"].get("book", {}).get("limit_ms")
        head = f"{SIGNS[condition.kind]} {name:<{names}}  {condition.word:<{words}}"
        age = f"{_duration(book_age_s(venue)):>8}  {_duration(limit and limit / 1000):<6} {books:>5}  "
        reason = "" if condition.reason is None else f" ({condition.reason})"
        lines.append(_Line(f"{click.style(head, fg=KIND_COLOURS[condition.kind])}  {age}", f"{condition.why}{reason}"))
        lines += [_Line("    ", remark) for remark in _remarks(venue)]
        bad = {stream: of for stream, of in bad_streams(venue).items() if of["state"] != StreamState.OFF}
        is_said = [*bad] == [Stream.BOOK] and bad[Stream.BOOK]["reason"] == condition.reason
        lines += [_stream_line(stream, of) for stream, of in bad.items() if not is_said]
    return lines


def _duration(seconds: float | None) -> str:
    return "-" if seconds is None else duration(seconds)


def _all_streams(state: Mapping[str, Any]) -> Iterator[_Line]:
    for name, venue in state["venues"].items():
        yield _Line("")
        yield _venue_line(name, venue)
        for stream, of in venue["streams"].items():
            yield _stream_line(stream, of)


def _other_processes(state: Mapping[str, Any]) -> Iterator[_Line]:
    """Yield a line for the gateway, and one for the simulator."""
    yield _Line("")
    gateway = state["gateway"]
    words = [gateway["http"] or "", *_remarks(gateway)]
    yield _Line(f"{'gateway':<12} {_coloured(gateway['state'], 11)}{_pid(gateway)}", "  ".join(filter(None, words)))
    simulator = state["simulator"]
    if simulator is not None:
        yield _Line(f"{'simulator':<12} {_coloured(simulator['state'], 11)}{_pid(simulator)}", simulator["admin"])
    if state["supervisor"]["clock"]["synchronised"] is False:
        advice = "times and lags of events may be wrong; check the NTP service"
        yield _Line(f"{'clock':<12} ", f"not synchronised: {advice}")


def _supervisor_line(supervisor: Mapping[str, Any], venues: Mapping[str, Any]) -> _Line:
    parts = [f"pid {supervisor['pid']}"] if supervisor["pid"] else []
    if supervisor["uptime_s"] is not None:
        parts += [f"up {duration(supervisor['uptime_s'])}", f"version {supervisor['version']}"]
        parts += ["in another PID namespace: no pids"] if supervisor["pid_namespace"] == "other" else []
    parts += [supervisor["run_dir"]] if supervisor.get("run_dir") else []
    parts += [f"no supervisor: {_alone(venues)}"] if supervisor.get("is_alone") else []
    return _Line(f"supervisor   {_coloured(supervisor['state'], 11)}", "  ".join(parts))


def _alone(venues: Mapping[str, Any]) -> str:
    """Return in words how the worker is that runs without a parent."""
    (name, venue), *_ = venues.items()
    if venue["uptime_s"] is None or venue["beat_age_ms"] is None:
        return f"{name} runs alone, and is starting"
    up, beat = duration(venue["uptime_s"]), duration(venue["beat_age_ms"] / 1000)
    return f"{name} runs alone, up {up}, last beat {beat} ago"


def _pid(process: Mapping[str, Any]) -> str:
    return f"pid {process['pid']}  " if process["pid"] else ""


def _venue_line(name: str, venue: Mapping[str, Any]) -> _Line:
    """Return the line of a venue with everything that is known about its process."""
    parts = [f"pid {venue['pid']}"] if venue["pid"] else []
    parts.append(f"books {venue['books']['usable']}/{venue['books']['wanted']}")
    parts += [missing_lines(venue) or "lines 2/2"] if venue.get("lines") else []
    condition = condition_of(name, venue)
    parts += [condition.why] if condition.kind == "stopped" else []
    parts.append(f"restarts {venue['restarts']}")
    if venue["last_exit"]:
        last = venue["last_exit"]
        how = f"signal {last['signal']}" if last["signal"] else f"code {last['code']}"
        words = reason_words(last["reason"])
        parts.append(f"last exit {ago(last['ago_s'])}: {words} ({last['reason']}, {how})")
    if venue["next_start_in_s"]:
        parts.append(f"next start in {duration(venue['next_start_in_s'])}")
    parts += _proxies(venue.get("proxy"), venue.get("rest_proxy"))
    parts += _remarks(venue)
    parts += _consumer_names(venue)
    parts += [condition.word] if condition.kind in {"outage", "person"} else []
    return _Line(f"{name:<12} {_coloured(venue['state'], 11)}", "  ".join(parts))


def _proxies(proxy: str | None, rest_proxy: str | None) -> list[str]:
    if proxy == rest_proxy:
        return [] if proxy is None else [f"proxy {proxy}"]
    return [f"proxy {proxy or 'none'}, for REST {rest_proxy or 'none'}"]


def _remarks(process: Mapping[str, Any]) -> list[str]:
    """Return what an operator must know of a process beside its state; nothing while all is usual."""
    feeds = [feed for feed in (process.get("tcp"), process.get("account_tcp")) if feed is not None]
    words = [f"{feed['endpoint']} {Reason.ADDRESS_IN_USE}" for feed in feeds if not feed["listening"]]
    if "http" in process and is_unserved(process):
        words.append("not served: see the log")
    words += [f"{process['keys_refused']} keys refused"] if process.get("keys_refused") else []
    words += [f"error: {process['error']}"] if process.get("error") else []
    words += [f"{process['invalid_rows']} invalid rows left out"] if process.get("invalid_rows") else []
    return words + _consumers(process)


def _consumer_names(venue: Mapping[str, Any]) -> list[str]:
    """Return the first names of a venue's consumers."""
    names = venue["consumers"]
    more = [f"and {len(names) - _SHOWN_NAMES} more"] if len(names) > _SHOWN_NAMES else []
    return [f"consumers {', '.join([*names[:_SHOWN_NAMES], *more])}"] if names else []


def _consumers(of: Mapping[str, Any]) -> list[str]:
    """Return what is unusual about a process's consumers."""
    parts = []
    if of.get("subscriptions", 0) >= MANY_SUBSCRIPTIONS:
        parts.append(f"{of['subscriptions']} subscriptions")
    descriptors = of.get("descriptors")
    if descriptors and (descriptors["refusing"] or descriptors["open"] >= HIGH_DESCRIPTORS * descriptors["limit"]):
        refusing = ", no further consumers are accepted" if descriptors["refusing"] else ""
        parts.append(f"{Reason.DESCRIPTORS} {descriptors['open']} of {descriptors['limit']}{refusing}")
    return parts


def _stream_line(name: str, stream: Mapping[str, Any]) -> _Line:
    """Return the line of a stream: state, age of limit, and why."""
    age_s = None if stream["age_ms"] is None else stream["age_ms"] / 1000
    limit = duration(stream["limit_ms"] / 1000) if stream["limit_ms"] else "none"
    parts = []
    if stream["reason"]:
        detail = f": {stream['detail']}" if stream.get("detail") else ""
        when = f" {ago(stream['reason_ago_s'])}" if stream["reason_ago_s"] is not None else ""
        parts.append(f"{reason_words(stream['reason'])} ({stream['reason']}){when}{detail}")
    elif stream.get("detail"):
        parts.append(stream["detail"])
    parts += [counted(stream["reconnects"], "reconnect")] if stream["reconnects"] else []
    parts += [f"{stream['invalid_rows']} invalid rows left out"] if stream.get("invalid_rows") else []
    others = [f"{symbol} {of['state']}" for symbol, of in stream["markets"].items() if of["state"] != stream["state"]]
    parts += [", ".join(others)] if others else []
    head = f"    {name:<13}{_coloured(stream['state'], 12)}{_duration(age_s):>7} of {limit:<7}"
    return _Line(head, "; ".join(parts))


def _coloured(word: str, width: int) -> str:
    return click.style(f"{word:<{width}}", fg=_STATE_COLOURS.get(word))
