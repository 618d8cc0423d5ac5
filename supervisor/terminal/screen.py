"""Screen of ``top``: the overview in as many columns and rows as the terminal has. Pure.

Signs and words carry the meaning; colour, bold and reverse only underline it. Every text is escaped.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from typing import Final

import msgspec
from rich.cells import cell_len, set_cell_size
from rich.text import Text

from ipc.printable import printable_values
from supervisor.overview.document import EventView, Overview, PriceRow, PriceTable, VenueView
from supervisor.overview.words import duration, listed, reason_words
from supervisor.terminal.status_table import KIND_COLOURS, LEVEL_COLOURS
from supervisor.terminal.timeline import bar, share
from supervisor.terminal.view import View, chosen_venue, ordered

_EVENTS: Final = 5
#: Rows of the verdict at most.
_VERDICT_ROWS: Final = 2
#: Columns from which a venue's line has its rate, its restarts, and the rates of the last seconds.
_WITH_RATE: Final = 92
_WITH_RESTARTS: Final = 104
_WITH_SPARKS: Final = 124
_SPARKS: Final = " ▁▂▃▄▅▆▇█"
_SPARK_COLUMNS: Final = 20
_HOUR_COLUMNS: Final = 120
_ORDERS: Final = {"order": "", "age": "oldest book first", "rate": "busiest first", "restarts": "most restarts first"}
_KEYS: Final = "1-9 ↑↓ choose  enter streams  r restart  l log  s sort  p pause  ? help  q quit"
_HELP: Final = (
    ("1 … 9, ↑ ↓", "choose a venue"),
    ("enter", "streams of the venue, and back"),
    ("l", "its log, and back"),
    ("r", "restart its worker; asks first"),
    ("s", "sort by age of the book, events, restarts; then as configured"),
    ("← →", "prices of another symbol"),
    ("p", "pause, and go on"),
    ("q", "quit"),
    ("", ""),
    ("●  ◐  ■", "live; degraded or stale; down or starting"),
    ("✕  ▲  ○", "the venue is down; needs you; stopped by an operator"),
    ("─ ▒ █ ✕ ·", "last hour: live, degraded, down, the venue is down, not watched"),
    ("◂", "best bid or best ask of all venues"),
)


def render(overview: Overview, view: View, width: int, height: int | None, log_lines: Sequence[str] = ()) -> Text:
    """Return the screen.

    Args:
        overview: What is known; not escaped.
        view: What is to be shown of it.
        width: Columns.
        height: Rows, of which the last one is for keys and questions; None for as many as it takes, without keys.
        log_lines: Last lines of the chosen venue's log, escaped.
    """
    overview = msgspec.convert(printable_values(msgspec.to_builtins(overview)), Overview)
    lines = [*_verdict(overview, width), _facts(overview, view)]
    lines += _venues(overview, view, width, is_live=height is not None)
    if height is None:
        for block in (_events(overview.events), *map(_prices, overview.prices)):
            lines += [Text(), *block] if block else []
        return _joined(lines, width)
    room = max(0, height - 1 - len(lines))
    match view.mode:
        case "streams":
            block = _streams(overview, view, width)
        case "log":
            block = _log(overview, view, log_lines, room)
        case "help":
            block = [Text(f" {key:<12} {text}") for key, text in _HELP]
        case "venues":
            block = _below(overview, view, width, room)
    lines = (lines + block)[: max(0, height - 1)]
    lines += [Text()] * (height - 1 - len(lines))
    return _joined([*lines, _last_line(view)][-height:], width)


def _joined(lines: Iterable[Text], width: int) -> Text:
    """Join lines, each cut to the width."""
    cut = []
    for line in lines:
        line.truncate(width, overflow="ellipsis")
        cut.append(line)
    whole = Text("\n", no_wrap=True, overflow="crop").join(cut)
    whole.no_wrap, whole.overflow = True, "crop"
    return whole


def _padded(text: str, columns: int) -> str:
    """Return a text of exactly so many columns."""
    return text if cell_len(text) == columns else set_cell_size(text, columns)


def _widest(texts: Iterable[str]) -> int:
    return max((cell_len(text) for text in texts), default=0)


def _verdict(overview: Overview, width: int) -> list[Text]:
    style = f"bold {LEVEL_COLOURS[overview.verdict.level]}"
    return _folded(overview.verdict.line, width, _VERDICT_ROWS, style)


def _folded(text: str, width: int, rows: int, style: str = "") -> list[Text]:
    """Wrap a text into a few rows, and cut what is longer."""
    words = text.split(" ")
    lines = [words[0]]
    for word in words[1:]:
        if len(lines) >= rows or cell_len(lines[-1]) + 1 + cell_len(word) <= width:
            lines[-1] += f" {word}"
        else:
            lines.append(f"  {word}")
    return [Text(line, style=style) for line in lines]


def _facts(overview: Overview, view: View) -> Text:
    parts = ["simulated venues"] if overview.is_simulated else []
    parts += [f"up {duration(overview.uptime_s)}"] if overview.uptime_s is not None else []
    parts += [time.strftime("%H:%M:%S", time.localtime(overview.at))]
    parts += [_ORDERS[view.sort]] if view.sort != "order" else []
    line = Text(" · ".join(parts), style="dim")
    if view.is_paused:
        line.append(" · paused", style="bold")
    return line


# --- venues -------------------------------------------------------------------------------------------------------


def _venues(overview: Overview, view: View, width: int, *, is_live: bool) -> list[Text]:
    """Return a line for each venue; ``is_live`` with the choice, and with the rates of the last seconds."""
    venues = ordered(overview, view.sort)
    if not venues:
        return []
    chosen = chosen_venue(view, overview)
    names = max(_widest(venue.name for venue in venues), len("venue"))
    words = max(_widest(venue.word for venue in venues), len("state"))
    has_rate = width >= _WITH_RATE or view.sort == "rate"
    has_restarts = width >= _WITH_RESTARTS or view.sort == "restarts"
    head = f"     {_padded('venue', names)} {_padded('state', words)} {'book age':>8}   {'limit':<5} {'books':>5}"
    head += f" {'events/s':>8}" if has_rate else ""
    head += f" {'restarts':>8}" if has_restarts else ""
    has_sparks = is_live and width >= _WITH_SPARKS
    head += f" {'':{_SPARK_COLUMNS}}" if has_sparks else ""
    lines = [Text(f"{head}  why", style="dim")]
    for number, venue in enumerate(venues, start=1):
        is_chosen = is_live and venue is chosen
        line = Text(f"{'>' if is_chosen else ' '}{number} ", style="bold" if is_chosen else "")
        line.append(
            f"{venue.sign} {_padded(venue.name, names)} {_padded(venue.word, words)}", style=KIND_COLOURS[venue.kind]
        )
        line.append(f" {_seconds(venue.age_s):>8}", style="bold")
        line.append(f" / {_seconds(venue.limit_s):<5} {f'{venue.books.usable}/{venue.books.wanted}':>5}")
        line.append(f" {_number(venue.events_per_s):>8}" if has_rate else "")
        line.append(f" {venue.restarts:>8}" if has_restarts else "")
        line.append(f" {_sparks(venue.rates)}" if has_sparks else "", style="blue")
        line.append(f"  {venue.why}")
        lines.append(line)
    return lines


def _seconds(seconds: float | None) -> str:
    return "-" if seconds is None else duration(seconds)


def _number(number: float | None) -> str:
    return "-" if number is None else f"{number:.0f}"


def _sparks(rates: Sequence[float]) -> str:
    """Return the last seconds as bars, from 0 to the highest of them."""
    last = rates[-_SPARK_COLUMNS:]
    top = max(last, default=0.0) or 1.0
    bars = "".join(_SPARKS[round(rate / top * (len(_SPARKS) - 1))] for rate in last)
    return bars.rjust(_SPARK_COLUMNS)


# --- below the venues ---------------------------------------------------------------------------------------------


def _below(overview: Overview, view: View, width: int, room: int) -> list[Text]:
    """Return what happened and the prices of the chosen symbol, and more where there is room.

    More are empty lines between the blocks, the last hour, and the prices of other symbols, in this order.
    """
    tables = [_prices(table, width) for table in overview.prices[view.symbol :] + overview.prices[: view.symbol]]
    blocks = [block for block in (_events(overview.events[:_EVENTS]), *tables[:1]) if block]
    if len(_spaced(blocks)) > room:
        return [line for block in blocks for line in block]
    hour = _hour(overview, width)
    for more in ([hour, *blocks], *([hour, *blocks, *tables[1:end]] for end in range(2, len(tables) + 1))):
        candidate = [block for block in more if block]
        if len(_spaced(candidate)) <= room:
            blocks = candidate
    return _spaced(blocks)


def _spaced(blocks: Sequence[Sequence[Text]]) -> list[Text]:
    """Return the lines of blocks, with an empty line before each."""
    return [line for block in blocks for line in (Text(), *block)]


def _hour(overview: Overview, width: int) -> list[Text]:
    """Return the last hour, one line a venue, with the share of time live."""
    if not overview.hour.timelines:
        return []
    names = _widest(timeline.venue for timeline in overview.hour.timelines)
    columns = min(_HOUR_COLUMNS, width - names - 12)
    lines = [_title("Last hour")]
    for timeline in overview.hour.timelines:
        row = bar(timeline, overview.hour, columns)
        lines.append(Text(f" {_padded(timeline.venue, names)} {row} {share(timeline):>7}"))
    return lines


def _title(text: str) -> Text:
    return Text(text, style="bold")


def _events(events: Sequence[EventView]) -> list[Text]:
    if not events:
        return []
    names = _widest(event.venue for event in events)
    lines = [_title("What happened")]
    for event in events:
        line = Text(f" {time.strftime('%H:%M:%S', time.localtime(event.at))} ", style="dim")
        line.append(f"{_padded(event.venue, names)}  {event.text}", style="default not dim")
        lines.append(line)
    return lines


def _prices(table: PriceTable, width: int | None = None) -> list[Text]:
    """Return the prices of a symbol, one line a venue, and below them in a sentence how they differ."""
    names = max(_widest(row.venue for row in table.rows), cell_len(table.symbol))
    bids = max(_widest(row.bid or "-" for row in table.rows), 9)
    asks = max(_widest(row.ask or "-" for row in table.rows), 9)
    head = f" {_padded(table.symbol, names)} {'bid':>{bids}}  {'ask':>{asks}}  {'spread bp':>9} {'age':>6}"
    lines = [_title(f"{head} {'funding 8 h':>12} {'next':>6}")]
    lines += [_price_row(row, names, bids, asks) for row in table.rows]
    lines += _folded(f" {table.summary}", width or 10_000, 2, "dim") if table.summary else []
    return lines


def _price_row(row: PriceRow, names: int, bids: int, asks: int) -> Text:
    line = Text(f" {_padded(row.venue, names)} ")
    if row.why is not None:
        line.append(_padded(f"■ {row.why}", bids + asks + 21), style="red")
    else:
        for price, columns, is_best in ((row.bid, bids, row.is_best_bid), (row.ask, asks, row.is_best_ask)):
            text = f"{price or '-'}"
            line.append(" " * (columns - cell_len(text)))
            line.append(f"{text}{'◂' if is_best else ' '} ", style="bold green" if is_best else "")
        spread = "-" if row.spread_bp is None else f"{row.spread_bp:.2f}"
        line.append(f"{spread:>9} {_seconds(row.age_s):>6}")
    funding = "-" if row.funding_8h is None else f"{row.funding_8h * 100:.4f} %"
    due = "-" if row.next_funding_at is None else time.strftime("%H:%M", time.localtime(row.next_funding_at))
    line.append(f" {funding:>12} {due:>6}")
    return line


# --- one venue ----------------------------------------------------------------------------------------------------


def _streams(overview: Overview, view: View, width: int) -> list[Text]:
    """Return the streams of the chosen venue, and what else is known of it."""
    venue = chosen_venue(view, overview)
    if venue is None:
        return []
    lines = [Text(), _title(f"{venue.name}: streams"), *_numbers(venue, width)]
    timeline = next((one for one in overview.hour.timelines if one.venue == venue.name), None)
    if timeline is not None:
        row = bar(timeline, overview.hour, min(_HOUR_COLUMNS, width - 28))
        lines.append(Text(f" last hour {row} {share(timeline)} live", style="dim"))
    names = max(_widest(stream.name for stream in venue.streams), len("stream"))
    lines.append(Text(f"   {_padded('stream', names)} {'state':<10} {'age':>6}   {'limit':<6} reconnects  last reason"))
    for stream in venue.streams:
        reason = "" if stream.reason is None else f"{reason_words(stream.reason)} ({stream.reason})"
        line = Text(f" {'◐' if stream.is_bad else ' '} {_padded(stream.name, names)} {_padded(stream.state, 10)}")
        line.append(f" {_seconds(stream.age_s):>6} / {_seconds(stream.limit_s):<6} {stream.reconnects:>10}  {reason}")
        if stream.reason_ago_s is not None:
            line.append(f", {duration(stream.reason_ago_s)} ago")
        line.stylize("red" if stream.is_bad else "")
        lines.append(line)
    return lines


def _numbers(venue: VenueView, width: int) -> list[Text]:
    lines = [Text(f" {venue.why}" + ("" if venue.reason is None else f" ({venue.reason})"))]
    numbers = [f"{venue.restarts} restarts", f"{venue.reconnects} reconnects", f"{venue.gaps} gaps"]
    numbers += [f"{venue.events_per_s:.0f} events/s"] if venue.events_per_s is not None else []
    numbers += [f"exchange to here {venue.lag_ms:.1f} ms"] if venue.lag_ms is not None else []
    numbers += [f"here to feed {venue.handling_ms:.1f} ms"] if venue.handling_ms is not None else []
    lines += _folded(f" {', '.join(numbers)}", width, 2, "dim")
    if venue.consumers:
        lines.append(Text(f" read by {listed(venue.consumers)}", style="dim"))
    return lines


def _log(overview: Overview, view: View, log_lines: Sequence[str], room: int) -> list[Text]:
    """Return the end of the log of the chosen venue."""
    venue = chosen_venue(view, overview)
    title = "Log" if venue is None else f"{venue.name}: log"
    shown = log_lines[-max(0, room - 2) :] if room > 2 else []
    return [Text(), _title(title), *(Text(f" {line}") for line in shown)]


def _last_line(view: View) -> Text:
    if view.confirms is not None:
        return Text(f"Restart the worker of {printable_values(view.confirms)}? y / n", style="bold reverse")
    if view.message:
        return Text(printable_values(view.message), style="bold")
    return Text(_KEYS, style="dim")
