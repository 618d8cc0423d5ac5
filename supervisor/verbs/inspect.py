"""``tail``, ``book`` and ``funding``: a consumer's view on a terminal."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, Final

import click

from ipc.errors import ParaphinaError, UsageError
from ipc.printable import joined_lines, printable
from supervisor.verbs.completion import complete_symbol, complete_venue
from supervisor.verbs.options import (
    json_option,
    open_run_dir,
    print_json,
    print_json_text,
    require_running,
    run_dir_option,
)
from supervisor.verbs.waiting import Waiting, failed_wait, wait_live

if TYPE_CHECKING:
    from ipc.accounts import AccountFeed
    from ipc.events import Event
    from ipc.feed import Feed
    from ipc.replica import BookReplica
    from ipc.rundir import RunDir

_FIRST_S: Final = 5.0
#: Wait for one feed before polling the other.
_TURN_S: Final = 0.02


@click.command()
@click.argument("prefixes", nargs=-1, metavar="[PREFIX]...")
@click.option("--count", type=click.IntRange(min=1), help="Stop after so many events.")
@json_option
@run_dir_option
def tail(prefixes: tuple[str, ...], count: int | None, as_json: bool, run_dir: str | None) -> int:
    """Print events as they come.

    A PREFIX selects topics: `book.`, `trade.lighter`, `funding.aster.BTC-PERP`; without one, all public topics are
    shown. The desk's own account events are shown only on request: `order.`, `fill.lighter`, `position.`, `balance.`,
    `margin.`, `payment.`.
    """
    from ipc.codec import encode
    from ipc.topics import ACCOUNT_CHANNELS, CHANNELS

    wanted = prefixes or tuple(f"{channel}." for channel in CHANNELS)
    channels = sorted({prefix.split(".", 1)[0] for prefix in wanted})
    unknown = [channel for channel in channels if channel not in (*CHANNELS, *ACCOUNT_CHANNELS)]
    if unknown:
        advice = f"channels are {', '.join(CHANNELS)}; of accounts: {', '.join(ACCOUNT_CHANNELS)}"
        raise UsageError(f"no channel {unknown[0]!r}", advice=advice)
    directory = open_run_dir(run_dir)
    _check_prefixes(directory, prefixes)
    require_running(directory)
    waiting = Waiting(directory, " ".join(prefixes) or "events")
    shown = 0
    for event in _events(directory, channels):
        topic = "" if event is None else _topic_of(event)
        if event is None or not topic.startswith(wanted):
            waiting.check()
            continue
        waiting.has_come()
        if as_json:
            print_json_text(encode(event).decode())
        else:
            click.echo(printable(_line(topic, event)))
        sys.stdout.flush()
        shown += 1
        if count is not None and shown >= count:
            break
    return 0


def _check_prefixes(directory: RunDir, prefixes: Sequence[str]) -> None:
    """Reject prefixes that no topic can match, which would otherwise print nothing."""
    from ipc.topics import VENUES
    from supervisor.status.document import symbols_of

    venues = list(VENUES)
    with contextlib.suppress(ParaphinaError):  # no system: the caller reports it
        venues = list(dict.fromkeys((*venues, *symbols_of(directory))))
    names = (*venues, "gateway", "simulator")
    for prefix in prefixes:
        _, _, rest = prefix.partition(".")
        venue, dot, _ = rest.partition(".")
        if not any(name == venue if dot else name.startswith(venue) for name in names):
            raise UsageError(f"no venue {venue!r}", where=prefix, advice=f"venues are {', '.join(venues)}")


def _events(directory: RunDir, channels: Sequence[str]) -> Iterator[Event | None]:
    """Yield events of these channels until interrupted, None when none is there yet.

    Account events come from separate endpoints.
    """
    from ipc.accounts import AccountFeed
    from ipc.consumer_names import name_of
    from ipc.events import AccountEvent
    from ipc.feed import Feed
    from ipc.topics import ACCOUNT_CHANNELS, CHANNELS

    name = name_of("tail")
    with contextlib.ExitStack() as stack:
        feeds: list[Feed | AccountFeed] = []
        public = [channel for channel in channels if channel in CHANNELS]
        private = [channel for channel in channels if channel in ACCOUNT_CHANNELS]
        if public:
            feeds.append(stack.enter_context(Feed(directory.path, channels=public, name=name)))
        if private:
            feeds.append(stack.enter_context(AccountFeed(directory.path, name=name)))
        is_quiet = False
        while True:
            events = [feed.poll(_TURN_S if is_quiet and feed is feeds[0] else 0.0) for feed in feeds]
            is_quiet = not any(events)
            if is_quiet:
                yield None
            for feed, event in zip(feeds, events, strict=True):
                # Both kinds of feed publish status events; only the public one's are shown here.
                if event is not None and (isinstance(feed, Feed) or isinstance(event, AccountEvent)):
                    yield event


@click.command()
@click.argument("venue", shell_complete=complete_venue)
@click.argument("symbol", shell_complete=complete_symbol)
@click.option("--depth", type=click.IntRange(1, 100), default=10, show_default=True, help="Levels a side.")
@click.option("--watch", is_flag=True, help="Again every half second, until interrupted.")
@json_option
@run_dir_option
def book(venue: str, symbol: str, depth: int, watch: bool, as_json: bool, run_dir: str | None) -> int:
    """Show the order book of SYMBOL (BTC-PERP) on VENUE."""
    from ipc.consumer_names import name_of
    from ipc.feed import Feed

    directory = open_run_dir(run_dir)
    _check_market(directory, venue, symbol)
    with Feed(directory.path, venues=[venue], symbols=[symbol], channels=["book"], name=name_of("book")) as feed:
        waiting = Waiting(directory, f"the book of {venue}.{symbol}")
        if not wait_live(feed, [(venue, symbol)], waiting, _FIRST_S):
            what = f"no usable book within {_FIRST_S:g} s: {feed.book(venue, symbol).reason}"
            raise failed_wait(directory, what, f"{venue}.{symbol}")
        while True:
            shown = feed.book(venue, symbol)
            if watch and sys.stdout.isatty():
                click.clear()
            if as_json:
                print_json(_book_json(shown, depth))
            else:
                click.echo(_book_text(shown, depth))
            if not watch:
                return 0
            if shown.usable:
                waiting.has_come()
            waiting.check()
            _drain(feed, 0.5)


@click.command()
@json_option
@run_dir_option
def funding(as_json: bool, run_dir: str | None) -> int:
    """Show the funding rates of all venues, per interval and per eight hours."""
    from ipc.codec import encode
    from ipc.consumer_names import name_of
    from ipc.events import Funding
    from ipc.feed import Feed
    from supervisor.status.document import symbols_of

    directory = open_run_dir(run_dir)
    require_running(directory)
    wanted = {(name, symbol) for name, of in symbols_of(directory).items() for symbol in of}
    rates: dict[tuple[str, str], Funding] = {}
    waiting = Waiting(directory, "funding rates")
    with Feed(directory.path, channels=["funding"], name=name_of("funding")) as feed:
        deadline = time.monotonic() + _FIRST_S
        while time.monotonic() < deadline and not wanted <= set(rates):
            event = feed.poll(0.2)
            waiting.check()
            if isinstance(event, Funding) and event.phase == "predicted":
                rates[event.venue, str(event.symbol)] = event
    if not rates:
        raise failed_wait(directory, f"no funding rate within {_FIRST_S:g} s", str(directory.path))
    if as_json:
        for event in rates.values():
            print_json_text(encode(event).decode())
        return 0
    click.echo(f"{'venue':<12} {'symbol':<12} {'rate':>16} {'interval':>9} {'per 8 h':>12}  next")
    for (venue, symbol), event in sorted(rates.items()):
        interval = f"{event.interval_s / 3600:g} h" if event.interval_s else "?"
        per_8h = f"{float(event.rate_8h) * 100:.4f} %" if event.rate_8h else "?"
        due = time.strftime("%H:%M", time.localtime(event.next_funding_ns / 1e9)) if event.next_funding_ns else "-"
        click.echo(printable(f"{venue:<12} {symbol:<12} {event.rate or '?':>16} {interval:>9} {per_8h:>12}  {due}"))
    return 0


def _check_market(directory: RunDir, venue: str, symbol: str) -> None:
    from supervisor.status.document import symbols_of

    require_running(directory)
    venues = symbols_of(directory)
    if venue not in venues:
        raise UsageError(f"no venue {venue!r} here", advice=f"there are {', '.join(venues)}")
    if symbol not in venues[venue]:
        raise UsageError(f"{venue} has no {symbol!r} here", advice=f"there are {', '.join(venues[venue])}")


def _topic_of(event: Event) -> str:
    from ipc.events import AccountEvent, BookDelta, BookSnapshot, Gap, Heartbeat, Status
    from ipc.topics import topic_of

    kind = type(event)
    if isinstance(event, AccountEvent):
        return topic_of(kind.__name__.lower(), event.venue, event.account)
    if kind in {BookSnapshot, BookDelta, Gap}:
        return topic_of(event.channel if isinstance(event, BookSnapshot) else "book", event.venue, event.symbol)
    channel = kind.__name__.lower()
    return topic_of(channel, event.venue, None if kind in {Status, Heartbeat} else event.symbol)


def _line(topic: str, event: Event) -> str:
    """Format an event on one line, fields in schema order, long lists cut."""
    import msgspec

    fields = msgspec.structs.asdict(event)
    hidden = {"schema", "venue", "symbol", "venue_symbol", "epoch", "recv_ns", "recv_mono_ns", "publish_ns"}
    shown = {k: v for k, v in fields.items() if k not in hidden and v not in (None, (), [], {})}
    return f"{topic:<28} " + " ".join(f"{key}={_short(value)}" for key, value in shown.items())


def _short(value: Any) -> str:
    if isinstance(value, list) and len(value) > 2:
        return f"[{value[0]}, … {len(value)} levels]"
    if isinstance(value, dict):
        return f"{{{len(value)}}}"
    return str(value)


def _book_text(book: BookReplica, depth: int) -> str:
    if not book.usable:
        return printable(f"{book.venue} {book.symbol}: not usable, {book.reason}")
    bids, asks = book.bids(depth), book.asks(depth)
    age = book.age_ms(time.monotonic_ns())
    lines = [f"{book.venue} {book.symbol}  age {age:.0f} ms" if age is not None else f"{book.venue} {book.symbol}"]
    lines += [f"{'':>30}{price:>14} {size:>14}" for price, size in reversed(asks)]
    lines += [f"{size:>14} {price:>14}" for price, size in bids]
    return joined_lines(lines)


def _book_json(book: BookReplica, depth: int) -> dict[str, Any]:
    return {
        "venue": book.venue,
        "symbol": book.symbol,
        "usable": book.usable,
        "reason": book.reason,
        "bids": book.bids(depth) if book.usable else [],
        "asks": book.asks(depth) if book.usable else [],
        "venue_seq": book.venue_seq,
        "age_ms": book.age_ms(time.monotonic_ns()),
    }


def _drain(feed: Feed, seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while (left := deadline - time.monotonic()) > 0:
        feed.poll(left)
