"""Two lines of a running system: whatever ends one, a consumer of both has every book the whole time."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from systems import System, wait_for

from ipc.aio import AsyncFeed
from ipc.events import BookSnapshot, Event, Gap, Lifecycle, Trade
from ipc.feed import Feed
from ipc.lines import LINES, process_of
from supervisor.status.document import exit_code_of, read_status

pytestmark = pytest.mark.integration

VENUES = ("lighter", "extended")
MARKETS = [(venue, symbol) for venue in VENUES for symbol in ("BTC-PERP", "ETH-PERP")]
CONFIG = """
[supervisor]
venues = ["lighter", "extended"]
lines = 2
tick_ms = 100
blackbox_kb = 0
"""


@pytest.fixture(scope="module")
def system() -> Iterator[System]:
    with System(config=CONFIG) as running:
        wait_both(running)
        yield running


def line_of(system: System, process: str) -> dict[str, Any]:
    """Return the document of a line by the name of its process."""
    venue, _, line = process.partition(".")
    lines: dict[str, Any] = system.status()["venues"].get(venue, {}).get("lines", {})
    return dict(lines.get(line or "a", {"state": "none", "pid": None}))


def wait_both(system: System) -> None:
    """Wait until both lines of every venue are live."""
    wait_for(lambda: are_both_live(system), 60, 0.1, "both lines are live")


def are_both_live(system: System) -> bool:
    names = [process_of(venue, line) for venue in VENUES for line in LINES]
    return {line_of(system, name)["state"] for name in names} == {"live"}


def pid_of(system: System, process: str) -> int | None:
    pid = line_of(system, process)["pid"]
    return None if pid is None else int(pid)


def verb(system: System, *arguments: str) -> str:
    command = [sys.executable, "-m", "supervisor", *arguments, "--run-dir", str(system.run_dir.path)]
    done = subprocess.run(command, capture_output=True, timeout=60, check=False, text=True, env=system.env)
    assert (done.returncode, "Traceback" in done.stderr) == (0, False), done.stderr
    return done.stdout


class Watcher:
    """Consumer that watches every book while something happens."""

    def __init__(self, feed: Feed) -> None:
        self.feed = feed
        self.events: list[Event] = []
        self.unusable: list[tuple[str, str, str | None]] = []

    def watch(self, until: Callable[[], Any], timeout_s: float = 60.0) -> None:
        """Read until a condition, which is checked ten times a second, holds."""
        deadline, due = time.monotonic() + timeout_s, 0.0
        while time.monotonic() < deadline:
            event = self.feed.poll(0.05)
            if event is not None:
                self.events.append(event)
            for market in MARKETS:
                book = self.feed.book(*market)
                if not book.usable:
                    self.unusable.append((*market, book.reason))
            if time.monotonic() >= due:
                if until():
                    return
                due = time.monotonic() + 0.1
        pytest.fail(f"not so within {timeout_s} s: {until}")

    def watch_for(self, seconds: float) -> None:
        """Read for some time."""
        end = time.monotonic() + seconds
        self.watch(lambda: time.monotonic() > end, seconds + 30)

    def check(self) -> None:
        """Assert that no book was ever away, and that nothing was delivered twice."""
        assert self.unusable == []
        assert [event for event in self.events if isinstance(event, Gap)] == []
        trades = [(event.venue, event.symbol, event.trade_id) for event in self.events if isinstance(event, Trade)]
        assert len(trades) == len(set(trades)) > 0

    def takeovers(self) -> list[tuple[str, str]]:
        """Return venue and line of every book that changed over."""
        snapshots = [event for event in self.events if isinstance(event, BookSnapshot)]
        return [(event.venue, str(event.line)) for event in snapshots if event.cause == "takeover"]


@pytest.fixture
def watcher(system: System) -> Iterator[Watcher]:
    wait_both(system)
    with Feed(system.run_dir.path, channels=["book", "trade", "lifecycle"], name="watcher") as feed:
        assert feed.wait_live(MARKETS, 30)
        watching = Watcher(feed)
        watching.watch_for(1.0)  # until both lines are there
        yield watching


def test_status_shows_a_venue_and_its_lines(system: System) -> None:
    document = read_status(system.run_dir)
    assert exit_code_of(document) == 0
    for venue in VENUES:
        of = document["venues"][venue]
        assert (of["state"], of["books"], of["duty"]) == ("live", {"wanted": 2, "usable": 2}, "a")
        assert [line["state"] for line in of["lines"].values()] == ["live", "live"]
        assert len({line["pid"] for line in of["lines"].values()} | {None}) == 3
    described = system.run_dir.describe()
    assert set(described["processes"]) >= {process_of(venue, line) for venue in VENUES for line in LINES}
    assert {line: of["feed"] for line, of in described["venues"]["lighter"]["lines"].items()} == {
        line: f"ipc://{system.run_dir.path}/{process_of('lighter', line)}.feed" for line in LINES
    }
    assert verb(system, "status", "--pid", "lighter.b").strip() == str(pid_of(system, "lighter.b"))


def test_metrics_have_each_line(system: System) -> None:
    wait_both(system)

    def series() -> set[str]:
        with urllib.request.urlopen(f"{system.url}/metrics", timeout=20) as answer:
            return {text.rpartition(" ")[0] for text in answer.read().decode().splitlines()}

    names = [(venue, line) for venue in VENUES for line in LINES]
    wanted = {f'paraphina_process_restarts_total{{process="{process_of(*name)}"}}' for name in names}
    wanted |= {f'paraphina_stream_events_total{{line="{line}",stream="book",venue="{venue}"}}' for venue, line in names}
    wait_for(lambda: wanted <= series(), what=f"{sorted(wanted)}")


@pytest.mark.parametrize("process", ["lighter", "lighter.b", "extended", "extended.b"])
def test_a_killed_line_is_not_missed(system: System, watcher: Watcher, process: str) -> None:
    active = {market: watcher.feed.book(*market).line for market in MARKETS}
    pid = pid_of(system, process)
    assert pid is not None
    os.kill(pid, signal.SIGKILL)
    watcher.watch(lambda: pid_of(system, process) not in {pid, None})
    watcher.watch(lambda: are_both_live(system))
    watcher.watch_for(1.0)
    watcher.check()
    venue, _, line = process.partition(".")
    (other,) = [one for one in LINES if one != (line or "a")]
    struck = [market for market, of in active.items() if market[0] == venue and of == (line or "a")]
    assert watcher.takeovers() == [(venue, other) for _ in struck]
    exits = [event for event in watcher.events if isinstance(event, Lifecycle) and event.event == "exited"]
    assert [event.venue for event in exits] == [process]


def test_a_stopped_line_is_left_within_its_limit(system: System, watcher: Watcher) -> None:
    line = watcher.feed.book("lighter", "BTC-PERP").line
    process = process_of("lighter", line)
    pid = pid_of(system, process)
    assert pid is not None
    os.kill(pid, signal.SIGSTOP)
    watcher.watch(lambda: watcher.feed.book("lighter", "BTC-PERP").line != line, 20)
    watcher.watch(lambda: pid_of(system, process) not in {pid, None})
    watcher.check()
    wait_both(system)


def test_a_restart_of_a_venue_is_not_missed(system: System, watcher: Watcher) -> None:
    names = [process_of("lighter", line) for line in LINES]
    pids = [pid_of(system, name) for name in names]
    verb(system, "restart", "lighter")
    watcher.watch(lambda: not {pid_of(system, name) for name in names} & {*pids, None})
    watcher.watch(lambda: are_both_live(system))
    watcher.watch_for(1.0)
    watcher.check()


def test_one_line_alone_can_be_read(system: System) -> None:
    wait_both(system)
    with Feed(system.run_dir.path, channels=["trade"], sources=[":b"]) as feed:
        lines = set()
        deadline = time.monotonic() + 20
        while len(lines) < 1 or time.monotonic() < deadline - 18:
            event = feed.poll(0.1)
            if isinstance(event, Trade):
                lines.add(event.line)
            assert time.monotonic() < deadline
        assert lines == {"b"}


def test_asyncio_consumers_change_over_as_well(system: System) -> None:
    wait_both(system)

    async def consume() -> tuple[list[str], list[Any]]:
        found, usable = [], []
        async with AsyncFeed(system.run_dir.path, venues=["lighter"], channels=["book"]) as feed:
            assert await feed.wait_live([("lighter", "BTC-PERP")], 30)
            await asyncio.sleep(0.5)
            book = feed.book("lighter", "BTC-PERP")
            process = process_of("lighter", book.line)
            before = book.line
            os.kill(pid_of(system, process) or 0, signal.SIGKILL)
            end = time.monotonic() + 20
            while book.line == before and time.monotonic() < end:
                event = await feed.next()
                usable.append(book.usable)
                found += [event.cause] if isinstance(event, BookSnapshot) and event.cause == "takeover" else []
        return found, usable

    found, usable = asyncio.run(consume())
    assert found[:1] == ["takeover"]
    assert all(usable)


def test_a_reload_adds_and_removes_a_line_under_a_consumer() -> None:
    config = CONFIG.replace("lines = 2", "lines = 1").replace('["lighter", "extended"]', '["lighter"]')
    with System(config=config) as system:
        system.wait_live(["lighter"])
        with Feed(system.run_dir.path, channels=["book", "trade"]) as feed:
            markets = [("lighter", "BTC-PERP")]
            assert feed.wait_live(markets, 30)
            held = feed.book(*markets[0])
            assert held.line is None
            path = system.path / "config.toml"
            path.write_text(path.read_text().replace("lines = 1", "lines = 2"))
            verb(system, "reload")
            end = time.monotonic() + 60
            while feed.changeovers == {} and time.monotonic() < end:  # line a is restarted once b is live
                feed.poll(0.1)
            assert feed.changeovers == {"lost": 1}
            assert (held.usable, held.line) == (True, "b")
            assert feed.book(*markets[0]) is held
