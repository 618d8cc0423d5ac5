"""``check``: preflight checks of machine, configuration, credentials and venues."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Final, TypeAlias

import click

from ipc.errors import ParaphinaError
from ipc.printable import joined_lines
from supervisor.verbs.options import configured_run_dir, end_as_interrupted, json_option, print_json, run_dir_option
from supervisor.verbs.start import Duration

if TYPE_CHECKING:
    from ipc.events import BookSnapshot
    from ipc.rundir import RunDir
    from supervisor.config import Config, VenueConfig
    from supervisor.temporary import TemporarySystem
    from workers.venues.rows import InvalidRow

#: What was checked, and what is wrong with it; None when nothing is.
Findings: TypeAlias = "Sequence[tuple[str, str | None]]"
#: Extra time for accounts to go live after the market-data watch, s, and the states that count as live.
_SETTLE_S: Final = 15.0
_SETTLED: Final = frozenset({"live", "failed"})


@click.command()
@click.option("--config", "config_path", metavar="FILE", help="A TOML file; see etc/paraphina.toml.")
@click.option("--live", is_flag=True, help="Look at the venues as well: their lists, their books, their rules.")
@click.option("--sim", is_flag=True, help="Look at the simulated venues in their place.")
@click.option("--for", "for_s", type=Duration(), default="60", show_default=True, help="How long to watch the venues.")
@json_option
@run_dir_option
def check(config_path: str | None, live: bool, sim: bool, for_s: float, as_json: bool, run_dir: str | None) -> int:
    """Check whether a system can run here; one line per check, exit code 1 when a check fails.

    With --live (or --sim) each venue's REST answers are checked and its feed is watched in a temporary system: does the
    continuity rule still hold, and does the venue accept the account's credentials?
    """
    from supervisor.config import load
    from supervisor.network_checks import check_network

    config = load(config_path, os.environ, {"supervisor.run_dir": run_dir} if run_dir else {})
    directory = configured_run_dir(config.run_dir)
    findings = [
        *_check_machine(),
        *_check_directory(directory),
        *_check_tcp(config, directory),
        *_check_accounts(config),
    ]
    findings += [] if sim and not live else list(check_network(config, os.environ))
    if live:
        findings += list(_check_venues(config))
    if live or sim:
        end_as_interrupted()
        findings += list(_watch_venues(config, config_path, for_s, sim=sim))
    if as_json:
        print_json([{"check": what, "ok": problem is None, "problem": problem} for what, problem in findings])
    else:
        click.echo(_as_text(findings))
    return int(any(problem is not None for _, problem in findings))


def _as_text(findings: Findings) -> str:
    return joined_lines(f"ok   {what}" if problem is None else f"FAIL {what}: {problem}" for what, problem in findings)


def _check_machine() -> Iterator[tuple[str, str | None]]:
    from supervisor.machine import findings

    yield from findings()
    yield _clock(), None
    clash = [name for name in ("supervisor",) if _is_installed(name)]
    advice = "PyPI's supervisor has the same import name; install this program into an environment of its own"
    yield "import name `supervisor` is ours", advice if clash else None


def _clock() -> str:
    """Return whether the clock is synchronised: feeds work without, but their times are wrong."""
    from supervisor.status.clock import clock_status

    match clock_status()["synchronised"]:
        case True:
            return "clock synchronised"
        case False:
            return "clock not synchronised: times and lags of events may be wrong; check the NTP service"
        case _:
            return "clock: this machine does not say whether it is synchronised"


def _is_installed(name: str) -> bool:
    try:
        metadata.distribution(name)
    except metadata.PackageNotFoundError:
        return False
    return True


def _check_directory(directory: object) -> Iterator[tuple[str, str | None]]:
    from ipc.rundir import RunDir
    from supervisor.lock import holder_of

    assert isinstance(directory, RunDir)  # noqa: S101 - for the type alone
    try:
        exists = directory.exists()
        holder = holder_of(directory.lock)
    except ParaphinaError as error:
        yield f"run directory {directory.path}", str(error)
        return
    yield f"run directory {directory.path}{'' if exists else ' can be created'}", None
    yield "no other supervisor in it", None if holder is None else f"a supervisor runs there ({holder})"


def _check_tcp(config: Config, directory: RunDir) -> Iterator[tuple[str, str | None]]:
    """Report the keys of feeds over TCP (unusable ones are mistakes of the configuration), and ports that are busy."""
    from ipc.certificates import KeyDirectory
    from supervisor.lock import holder_of

    network = config.network
    if network is None:
        return
    if network.curve_dir is not None:
        keys = KeyDirectory(Path(network.curve_dir))
        yield f"keys in {keys.path}: the server's, and of {len(keys.client_files())} clients", None
    if holder_of(directory.lock) is None:  # else they are ours
        ports = [pair.feed for pair in network.ports.values()]
        busy = [text for text in (_problem_with_port(network.host, port) for port in ports) if text]
        yield f"TCP ports of {network.host}: {', '.join(map(str, ports))}", "; ".join(busy) or None


def _problem_with_port(host: str, port: int) -> str | None:
    import socket

    from ipc.remote import is_ipv6

    with socket.socket(socket.AF_INET6 if is_ipv6(host) else socket.AF_INET) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as ZeroMQ does
        try:
            probe.bind((host, port))
        except OSError as error:
            return f"{port}: {os.strerror(error.errno or 0)}"
    return None


def _check_accounts(config: Config) -> Iterator[tuple[str, str | None]]:
    """Check that each account's credentials exist and are well-formed, without contacting the venue."""
    for name, of in config.venues.items():
        if of.account is not None:
            yield f"{name} account {of.account} has credentials", _problem_with_credentials(of)


def _problem_with_credentials(of: VenueConfig) -> str | None:
    """Return why login fails before any request is sent; None when it does not."""
    import time

    from workers.accounts.close_reason import FAILURES, close_reason_of
    from workers.accounts.secrets import Secrets, missing
    from workers.venues.account import private_venue

    side = private_venue(of.name, of.options)
    secrets = Secrets(side.secrets, os.environ)
    if not side.is_configured(secrets):
        return missing(of.name)
    try:
        next(side.login(secrets, of.ws_url, {}, time.time_ns()), None)
    except FAILURES as error:
        return close_reason_of(error, side.secrets).text
    return None


def _check_venues(config: Config) -> Iterator[tuple[str, str | None]]:
    """Check that each venue lists the configured markets and that their books have two sides."""
    from ipc.errors import DecodeError
    from supervisor.network_checks import advice_for
    from workers import markets
    from workers.net.budget import MinuteBudget
    from workers.net.interrupter import SocketInterrupter
    from workers.net.rest import RestClient, RestError
    from workers.venues import VENUES
    from workers.venues.rows import split_rows
    from workers.venues.venue import parse_answer

    for name, of in config.venues.items():
        venue = VENUES[name]
        budget = MinuteBudget(venue.limits.rest_weight_per_min)
        client = RestClient(venue, of.rest_url, budget, SocketInterrupter(), lambda _: None, options=of.dial)
        try:
            bodies = [client.call(request, 20.0) for request in venue.listing_requests()]
            listings, invalid = split_rows(parse_answer(venue.parse_listings, bodies))
            resolved = markets.resolve(listings, of.markets)
            yield f"{name} lists {len(resolved.listings)} of {len(of.markets)} markets", _missing(resolved.missing)
            yield from _left_out(name, markets.nameless(listings), invalid)
            for listing in resolved.listings:
                book = parse_answer(venue.parse_book, client.call(venue.book_request(listing), 10.0), listing)
                yield f"{name} book {listing.symbol}", _problem_with_book(book)
        except (RestError, DecodeError) as error:
            yield f"{name} at {of.rest_url}", f"{error}{advice_for(error, of) if isinstance(error, RestError) else ''}"
        finally:
            client.close()


def _problem_with_book(book: BookSnapshot) -> str | None:
    from ipc.orderbook import BadLevelError, OrderBook

    held = OrderBook()
    try:
        held.replace(book.bids, book.asks)
    except BadLevelError as error:
        return str(error)
    if held.is_crossed:
        return "it is crossed"
    return None if held.best_bid and held.best_ask else "a side is empty"


def _left_out(name: str, nameless: Sequence[str], invalid: Sequence[InvalidRow]) -> Iterator[tuple[str, str | None]]:
    """Report listed markets that cannot be carried; this is informational and fails no check."""
    if nameless:
        yield f"{name} lists markets whose names cannot be carried: {', '.join(map(repr, nameless))}", None
    if invalid:
        yield f"{name} lists {len(invalid)} rows that cannot be read, the first: {invalid[0].error}", None


def _missing(missing: Mapping[str, object]) -> str | None:
    return ", ".join(f"{base}: {reason}" for base, reason in missing.items()) or None


def _watch_venues(config: Config, path: str | None, seconds: float, *, sim: bool) -> Iterator[tuple[str, str | None]]:
    """Run every venue for a minute in a temporary system and report the result."""
    from supervisor.temporary import TemporarySystem

    arguments = [
        "--venues",
        ",".join(config.venues),
        *(["--sim"] if sim else []),
        *(["--config", path] if path else []),
    ]
    with TemporarySystem() as system:
        system.start(*arguments)
        yield from _watch(config, system, seconds)
        yield "the temporary system ran to the end", _early_end(system)


def _early_end(system: TemporarySystem) -> str | None:
    """Return with which words a system ended by itself; None when it still runs."""
    if not system.has_ended:
        return None
    return f"it ended; the last line of its log: {(system.log_tail().strip().splitlines() or ['(none)'])[-1]}"


def _watch(config: Config, system: TemporarySystem, seconds: float) -> Iterator[tuple[str, str | None]]:
    """Report whether each venue kept its rule; end early with the system."""
    import time
    from collections import Counter

    from ipc.consumer_names import name_of
    from ipc.events import BookDelta, BookSnapshot, Gap
    from ipc.feed import Feed
    from workers.venues import VENUES

    updates: Counter[str] = Counter()
    gaps: Counter[tuple[str, str]] = Counter()
    deadline = time.monotonic() + seconds
    with Feed(system.run_dir.path, venues=list(config.venues), channels=["book"], name=name_of("check")) as feed:
        while (left := deadline - time.monotonic()) > 0 and not system.has_ended:
            event = feed.poll(min(left, 1.0))
            if isinstance(event, BookDelta | BookSnapshot):
                updates[event.venue] += 1
            elif isinstance(event, Gap):
                gaps[event.venue, str(event.reason)] += 1
        drifts = Counter(book.venue for book in feed.books() for _ in range(book.drifts))
    for name in config.venues:
        told = [f"{count} gaps ({reason})" for (venue, reason), count in gaps.items() if venue == name]
        told += [f"{drifts[name]} books differed"] if drifts[name] else []
        told += [] if updates[name] else ["no book update at all"]
        rule = VENUES[name].continuity.rule.value
        yield f"{name} keeps its rule ({rule}) over {updates[name]} updates in {seconds:g} s", ", ".join(told) or None
    if not system.has_ended:
        yield from _watch_accounts(config, system.run_dir.path)


def _watch_accounts(config: Config, run_dir: Path) -> Iterator[tuple[str, str | None]]:
    """Report whether the venues accept the accounts' credentials, and why not."""
    import time

    followed = {venue.name: venue.account for venue in config.venues.values() if venue.account is not None}
    deadline = time.monotonic() + _SETTLE_S
    while not all(one.get("state") in _SETTLED for one in _accounts(run_dir, followed)):
        if time.monotonic() > deadline:
            break
        time.sleep(0.1)
    for (name, account), told in zip(followed.items(), _accounts(run_dir, followed), strict=True):
        words = [str(told[key]) for key in ("state", "reason", "detail") if told.get(key)]
        problem = None if told.get("state") == "live" else ": ".join(words) or "nothing is known of it"
        yield f"{name} accepts the credentials of account {account}", problem


def _accounts(run_dir: Path, venues: Iterable[str]) -> list[Mapping[str, object]]:
    """Return the account entries in the status of these venues."""
    from ipc.rundir import RunDir
    from supervisor.status.document import read_status

    told = read_status(RunDir(run_dir))["venues"]
    return [told.get(name, {}).get("streams", {}).get("account", {}) for name in venues]
