"""``top``: best prices of every market on every venue, and the state of each feed."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

import click

from ipc.errors import NotRunningError, UsageError
from ipc.printable import printable
from supervisor.verbs.completion import complete_symbol
from supervisor.verbs.options import json_option, open_run_dir, print_json, require_running, run_dir_option
from supervisor.verbs.waiting import Waiting, is_gone, wait_live

if TYPE_CHECKING:
    from rich.console import RenderableType

    from ipc.feed import Feed
    from ipc.feed_state import Top
    from ipc.rundir import RunDir

_FIRST_S: Final = 5.0
_REDRAW_S: Final = 0.5
_MB: Final = 1_048_576


@click.command()
@click.option(
    "--symbol",
    "symbols",
    multiple=True,
    metavar="SYMBOL",
    help="Only this market; may be repeated.",
    shell_complete=complete_symbol,
)
@click.option("--once", is_flag=True, help="Show it once and end.")
@json_option
@run_dir_option
def top(symbols: tuple[str, ...], once: bool, as_json: bool, run_dir: str | None) -> int:
    """Show the best bid and offer of every market on all venues with their ages, and the state of each feed.

    Redrawn twice a second until interrupted; printed once when the output is not a terminal. An unusable book shows its
    reason instead of prices. Exit code 3 when no supervisor is running.
    """
    from ipc.consumer_names import name_of
    from ipc.feed import Feed
    from supervisor.status import read_status, symbols_of

    directory = open_run_dir(run_dir)
    require_running(directory)
    wanted = [(name, symbol) for name, of in symbols_of(directory).items() for symbol in of]
    for unknown in set(symbols) - {symbol for _, symbol in wanted}:
        known = ", ".join(sorted({symbol for _, symbol in wanted}))
        raise UsageError(f"no venue has {unknown!r} here", advice=f"there are {known}")
    wanted = [market for market in wanted if not symbols or market[1] in symbols]
    shown = list(dict.fromkeys(symbol for _, symbol in wanted))
    once = once or as_json or not _can_redraw()
    with Feed(directory.path, symbols=shown or None, channels=["book"], name=name_of("top")) as feed:
        wait_live(feed, wanted, Waiting(directory, "books"), _FIRST_S)
        if not once:
            _redraw(feed, shown, directory)
        tops = {symbol: feed.top(symbol) for symbol in shown}
        if as_json:
            print_json({symbol: [each._asdict() for each in venues] for symbol, venues in tops.items()})
        else:
            _print(_screen(tops, read_status(directory), {}))
    return NotRunningError.exit_code if is_gone(directory) else 0


def _can_redraw() -> bool:
    """Return whether the terminal supports control sequences; without them nothing would appear."""
    return sys.stdout.isatty() and os.environ.get("TERM") not in {"dumb", "unknown"}


def _redraw(feed: Feed, symbols: Sequence[str], directory: RunDir) -> None:
    """Redraw until interrupted."""
    from rich.live import Live

    from supervisor.status import read_status

    counted: dict[str, int] = {}
    since = time.monotonic()
    with Live(auto_refresh=False, screen=True) as live:
        while True:
            due = since + _REDRAW_S
            while (left := due - time.monotonic()) > 0:
                event = feed.poll(left)
                if event is not None:
                    counted[event.venue] = counted.get(event.venue, 0) + 1
            seconds, since = time.monotonic() - since, time.monotonic()
            rates = {venue: count / seconds for venue, count in counted.items()}
            counted.clear()
            tops = {symbol: feed.top(symbol) for symbol in symbols}
            live.update(_screen(tops, read_status(directory), rates), refresh=True)


def _screen(tops: Mapping[str, Sequence[Top]], status: Mapping[str, Any], rates: Mapping[str, float]) -> RenderableType:
    from rich.console import Group

    state = status["supervisor"]["state"]
    head = [] if state == "running" else [f"[red]supervisor: {_cell(state)}[/]", ""]
    return Group(*head, _prices(tops), "", _feeds(status["venues"], rates))


def _cell(text: str) -> str:
    """Return a text for a table, whatever it contains."""
    from rich.markup import escape

    return escape(printable(text))


def _prices(tops: Mapping[str, Sequence[Top]]) -> RenderableType:
    from rich.table import Table

    table = Table("market", "venue", box=None, pad_edge=False)
    for name in ("bid size", "bid", "ask", "ask size", "age ms"):
        table.add_column(name, justify="right")
    table.add_column("")
    for symbol, venues in tops.items():
        bids = [float(each.bid[0]) for each in venues if each.bid]
        asks = [float(each.ask[0]) for each in venues if each.ask]
        for place, each in enumerate(sorted(venues, key=lambda of: of.venue)):
            table.add_row(
                _cell(symbol) if place == 0 else "", *_price_row(each, max(bids, default=0), min(asks, default=0))
            )
    return table


def _price_row(each: Top, best_bid: float, best_ask: float) -> list[str]:
    """Format one venue's prices; highlight the best of all venues."""
    age = "-" if each.age_ms is None else f"{each.age_ms:.0f}"
    if each.reason is not None:
        return [_cell(each.venue), "", "", "", "", age, f"[red]{_cell(each.reason)}[/]"]
    bid, bid_size = map(_cell, each.bid or ("-", ""))
    ask, ask_size = map(_cell, each.ask or ("-", ""))
    bid = f"[bold green]{bid}[/]" if each.bid and float(bid) == best_bid else bid
    ask = f"[bold green]{ask}[/]" if each.ask and float(ask) == best_ask else ask
    return [_cell(each.venue), bid_size, bid, ask, ask_size, age, ""]


def _feeds(venues: Mapping[str, Any], rates: Mapping[str, float]) -> RenderableType:
    from rich.table import Table

    table = Table("feed", "state", box=None, pad_edge=False)
    for name in ("books", "updates/s", "restarts", "reconnects", "drops", "memory MB"):
        table.add_column(name, justify="right")
    for name, venue in venues.items():
        state = venue["state"]
        colour = "green" if state == "live" else "red"
        reconnects = max((stream["reconnects"] for stream in venue["streams"].values()), default=0)
        table.add_row(
            _cell(name),
            f"[{colour}]{_cell(state)}[/]" + (" [red]OUTAGE[/]" if venue["outage"] else ""),
            f"{venue['books']['usable']}/{venue['books']['wanted']}",
            f"{rates[name]:.0f}" if name in rates else "-",
            str(venue["restarts"]),
            str(reconnects),
            str(venue["drops"]),
            f"{venue['rss_bytes'] / _MB:.0f}" if venue["rss_bytes"] else "-",
        )
    return table


def _print(screen: RenderableType) -> None:
    from rich.console import Console

    # A pipe has no width, and a truncated price is a wrong price.
    Console(width=None if sys.stdout.isatty() else 120).print(screen)
