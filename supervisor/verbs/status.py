"""``status``: the state of every stream, with reasons."""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping
from typing import Any, Final

import click

from ipc.errors import NotRunningError
from ipc.health import HIGH_DESCRIPTORS, MANY_SUBSCRIPTIONS, Reason
from ipc.printable import printable_values
from supervisor.status import describe_stall, exit_code_of, pid_of, read_status
from supervisor.verbs.completion import complete_process
from supervisor.verbs.options import json_option, open_run_dir, print_json, run_dir_option

#: Consumers of a venue that are named; a line is to stay readable.
_SHOWN_NAMES: Final = 4
_COLOURS = {
    "live": "green",
    "running": "green",
    "draining": "yellow",
    "stalled": "red",
    "quiet": "cyan",
    "starting": "yellow",
    "connecting": "yellow",
    "subscribed": "yellow",
    "resync": "yellow",
    "rest": "yellow",
    "backoff": "yellow",
    "stale": "red",
    "failed": "red",
    "killing": "red",
    "unkillable": "red",
    "dead": "red",
}


@click.command()
@json_option
@click.option("--watch", is_flag=True, help="Again every second, until interrupted.")
@click.option(
    "--pid",
    "pid_name",
    metavar="PROCESS",
    help="Print the pid of one venue's worker, or of the gateway.",
    shell_complete=complete_process,
)
@run_dir_option
def status(as_json: bool, watch: bool, pid_name: str | None, run_dir: str | None) -> int:
    """Show the state of every stream, with reasons.

    Exit codes: 0 all live, 1 a required stream is not live or the supervisor is draining or stalled, 3 not running,
    4 unknown.
    """
    directory = open_run_dir(run_dir)
    if pid_name is not None:
        state = read_status(directory)
        pid = pid_of(state, pid_name) if state["venues"] else None
        if pid is None:
            raise NotRunningError(f"{pid_name} is not running", where=str(directory.path))
        if as_json:
            print_json({"process": pid_name, "pid": pid})
        else:
            click.echo(pid)
        return 0
    while True:
        state = read_status(directory)
        if watch and sys.stdout.isatty():
            click.clear()
        if as_json:
            print_json(state)
        else:
            click.echo(render(state))
        if not watch:
            return exit_code_of(state)
        time.sleep(1.0)


def render(state: Mapping[str, Any]) -> str:
    """Format the state as text: one line per process, and one per stream with its reason."""
    state = printable_values(state)
    supervisor = state["supervisor"]
    if not state["venues"]:
        if supervisor["state"] == "none":
            return "supervisor: never started here"
        head = f"supervisor   {_coloured(supervisor['state'], 11)}{_pid(supervisor)}"
        return f"{head}starting, or restoring its files"
    lines = [_head(supervisor)]
    for name, venue in state["venues"].items():
        lines.append(_venue_line(name, venue))
        lines += [_stream_line(stream, of) for stream, of in venue["streams"].items()]
    gateway = f"{'gateway':<12} {_coloured(state['gateway']['state'], 11)}{_pid(state['gateway'])}".rstrip()
    lines.append("  ".join([gateway, *_network_words(state["gateway"]), *_consumers(state["gateway"])]))
    if state["simulator"] is not None:
        simulator = state["simulator"]
        lines.append(f"{'simulator':<12} {_coloured(simulator['state'], 11)}{_pid(simulator)}{simulator['admin']}")
    return "\n".join(lines)


def _head(supervisor: Mapping[str, Any]) -> str:
    head = f"supervisor   {_coloured(supervisor['state'], 11)}"
    if supervisor["uptime_s"] is not None:
        head += f"{_pid(supervisor)}up {supervisor['uptime_s']:.0f} s  version {supervisor['version']}"
        head += "  in another PID namespace: no pids" if supervisor["pid_namespace"] == "other" else ""
    head += f"  {supervisor['run_dir']}"
    if supervisor["state"] == "none":
        head += "  no supervisor, a worker alone"
    if supervisor["state"] == "stalled":
        what, advice = describe_stall(supervisor)
        head += f"\n  it {what}; {advice}"
    return head


def _pid(process: Mapping[str, Any]) -> str:
    return f"pid {process['pid']}  " if process["pid"] else ""


def _venue_line(name: str, venue: Mapping[str, Any]) -> str:
    parts = [f"{name:<12} {_coloured(venue['state'], 11)}"]
    if venue["pid"]:
        parts.append(f"pid {venue['pid']}")
    parts.append(f"books {venue['books']['usable']}/{venue['books']['wanted']}")
    if venue["stopped"]:
        parts.append(f"stopped by {venue['stopped']['by']} {venue['stopped']['ago_s']:.0f} s ago")
    parts.append(f"restarts {venue['restarts']}")
    if venue["last_exit"]:
        last = venue["last_exit"]
        how = f"signal {last['signal']}" if last["signal"] else f"code {last['code']}"
        parts.append(f"last exit {last['reason']} ({how}, {last['ago_s']:.0f} s ago)")
    if venue["next_start_in_s"]:
        parts.append(f"next start in {venue['next_start_in_s']:.1f} s")
    if venue["invalid_rows"]:
        parts.append(f"{venue['invalid_rows']} invalid rows left out")
    parts += _proxies(venue.get("proxy"), venue.get("rest_proxy"))
    parts += _network_words(venue)
    parts += _consumers(venue)
    parts += [flag for flag, is_set in (("CRASH LOOP", venue["crash_loop"]), ("OUTAGE", venue["outage"])) if is_set]
    return "  ".join(parts)


def _proxies(proxy: str | None, rest_proxy: str | None) -> list[str]:
    if proxy == rest_proxy:
        return [] if proxy is None else [f"proxy {proxy}"]
    return [f"proxy {proxy or 'none'}, for REST {rest_proxy or 'none'}"]


def _network_words(process: Mapping[str, Any]) -> list[str]:
    """Return what an operator must know of a process's feeds on TCP, and of the error that it ended with."""
    feeds = [feed for feed in (process.get("tcp"), process.get("account_tcp")) if feed is not None]
    words = [f"{feed['endpoint']} {Reason.ADDRESS_IN_USE}" for feed in feeds if not feed["listening"]]
    words += [f"{process['keys_refused']} keys refused"] if process.get("keys_refused") else []
    return words + ([f"error: {process['error']}"] if process.get("error") else [])


def _consumers(of: Mapping[str, Any]) -> list[str]:
    """Return the first names of a process's consumers, and what is unusual about them."""
    names = of.get("consumers", [])
    more = [f"and {len(names) - _SHOWN_NAMES} more"] if len(names) > _SHOWN_NAMES else []
    parts = [f"consumers {', '.join([*names[:_SHOWN_NAMES], *more])}"] if names else []
    if of.get("subscriptions", 0) >= MANY_SUBSCRIPTIONS:
        parts.append(f"{of['subscriptions']} subscriptions")
    descriptors = of.get("descriptors")
    if descriptors and (descriptors["refusing"] or descriptors["open"] >= HIGH_DESCRIPTORS * descriptors["limit"]):
        refusing = ", no further consumers are accepted" if descriptors["refusing"] else ""
        parts.append(f"{Reason.DESCRIPTORS} {descriptors['open']} of {descriptors['limit']}{refusing}")
    return parts


def _stream_line(name: str, stream: Mapping[str, Any]) -> str:
    age = f"{stream['age_ms'] / 1000:.1f} s" if stream["age_ms"] is not None else "-"
    limit = f"{stream['limit_ms'] / 1000:.0f} s" if stream["limit_ms"] else "none"
    words = (stream["reason"] and f"last reason {stream['reason']}", stream.get("detail"))
    why = "  " + ": ".join(word for word in words if word) if any(words) else ""
    why += f"  ({stream['invalid_rows']} invalid rows left out)" if stream.get("invalid_rows") else ""
    reconnects = f"  reconnects {stream['reconnects']}" if stream["reconnects"] else ""
    troubled = [f"{symbol} {of['state']}" for symbol, of in stream["markets"].items() if of["state"] != stream["state"]]
    others = f"  ({', '.join(troubled)})" if troubled else ""
    return f"  {name:<13}{_coloured(stream['state'], 12)}age {age:>7} of {limit:<6}{reconnects}{why}{others}"


def _coloured(word: str, width: int) -> str:
    return click.style(f"{word:<{width}}", fg=_COLOURS.get(word))
