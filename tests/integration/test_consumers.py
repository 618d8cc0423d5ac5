"""What consumers get from a running system: late subscribers, crowds, other people's clients, other languages."""

from __future__ import annotations

import asyncio
import contextlib
import os
import statistics
import subprocess
import sys
import threading
import time
from pathlib import Path

import ccxt.pro
import pytest
import zmq
from ccxt_clients import SYMBOLS, follow, point_at
from systems import DEPTHS, MARKETS, VENUES, Listener, System, equals_truth, values, wait_for

from ipc.aio import AsyncFeed
from ipc.codec import decode
from ipc.events import BookDelta, BookSnapshot, Gap
from ipc.feed import Feed
from simulator.settings import VenueUrls

pytestmark = pytest.mark.integration

ROOT = Path(__file__).parents[2]
TEN = ("BTC", "ETH", "SOL", "DOGE", "XRP", "AVAX", "LINK", "BNB", "ADA", "SUI")


@pytest.fixture(scope="module")
def system():
    with System() as running:
        running.wait_live()
        yield running


def test_a_crowd_that_joins_at_once_gets_every_book_and_the_feed_goes_on():
    config = f'[supervisor]\nvenues = ["lighter"]\nmarkets = [{", ".join(repr(base) for base in TEN)}]\n'
    with System(config=config.replace("'", '"')) as running:
        running.wait_live(["lighter"])
        context = zmq.Context()
        first = {}
        with Listener(running, venues=["lighter"], channels=["book"]) as listener:
            time.sleep(1.5)
            started = time.monotonic()
            crowd = [joined(context, running.run_dir.feed("lighter"), started + number / 60) for number in range(50)]
            deadline = time.monotonic() + 20
            while len(first) < 500 and time.monotonic() < deadline:
                for number, socket in enumerate(crowd):
                    note_first(first, number, socket)
                time.sleep(0.001)
            during = listener.of(BookDelta, since=started)
        for socket in crowd:
            socket.close()
        context.term()
    assert len(first) == 500
    assert during
    # The feed goes on while they join. The limit is generous: this machine runs other things as well.
    waits_ms = [(event.publish_ns - event.recv_ns) / 1e6 for event in during]
    assert statistics.median(waits_ms) < 10


def joined(context, endpoint, at):
    while time.monotonic() < at:
        time.sleep(0.001)
    socket = context.socket(zmq.SUB)
    socket.setsockopt(zmq.LINGER, 0)
    socket.setsockopt(zmq.RCVHWM, 0)
    socket.connect(endpoint)
    for base in TEN:
        socket.subscribe(f"book.lighter.{base}-PERP".encode())
    return socket


def note_first(first, number, socket):
    with contextlib.suppress(zmq.Again):
        for _ in range(50):
            topic, payload = socket.recv_multipart(zmq.DONTWAIT)
            if isinstance(decode(payload), BookSnapshot):
                first.setdefault((number, topic), payload)


@pytest.mark.parametrize("venue", VENUES)
def test_ccxt_and_a_consumer_of_ours_show_the_same_book(system, venue):
    symbol, ours = SYMBOLS[venue][0], "BTC-PERP"
    with Listener(system, venues=[venue], channels=["book"], symbols=[ours]) as listener:
        theirs = asyncio.run(asyncio.wait_for(watched(system, venue, symbol), 40))
        try:
            wait_for(lambda: equals_truth(system, listener, venue, ours), what=f"{venue} equals the truth")
            _, bids, asks = listener.book(venue, ours)
        finally:
            system.admin("/resume", {})
    for side, levels in zip(("bids", "asks"), (bids, asks), strict=True):
        shown = [tuple(map(float, level[:2])) for level in theirs[side]][: DEPTHS[venue] or 10]
        assert shown == [(float(price), float(size)) for price, size in levels[: len(shown)]]
        assert len(shown) >= 5


async def watched(system, venue, symbol):
    """The book that ccxt holds when the market stands still; it is left standing still."""
    urls = system.run_dir.describe()["simulator"]["venues"][venue]
    exchange = getattr(ccxt.pro, venue)({"enableRateLimit": False})
    point_at(exchange, VenueUrls(urls["ws"], urls["rest"]))
    try:
        await exchange.load_markets()
        await exchange.watch_order_book(symbol)
        task = asyncio.create_task(follow(exchange, symbol))
        await asyncio.sleep(1)
        await asyncio.to_thread(system.admin, "/pause", {})
        truth = await asyncio.to_thread(system.truth, venue, "BTC-PERP")
        best = values(truth["bids"])[0]
        while tuple(map(float, exchange.orderbooks[symbol]["bids"][0][:2])) != tuple(map(float, best)):  # noqa: ASYNC110
            await asyncio.sleep(0.05)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        return exchange.orderbooks[symbol]
    finally:
        await exchange.close()


@pytest.mark.parametrize("venue", VENUES)
def test_a_consumer_is_notified_of_a_dropped_update(system, venue):
    with Listener(system, venues=[venue], channels=["book"], symbols=["BTC-PERP"]) as listener:
        wait_for(lambda: listener.book(venue, "BTC-PERP")[0] is None)
        since = time.monotonic()
        # Where every frame is the whole book, one that is missing is seen by the silence of several.
        count = 8 if venue == "hyperliquid" else 1
        system.fault(venue, "drop_delta", symbol="BTC-PERP", count=count)
        wait_for(lambda: listener.of(Gap, venue, since=since), what=f"{venue} tells a gap")
        wait_for(lambda: listener.book(venue, "BTC-PERP")[0] is None, what=f"{venue} is usable again")
        assert listener.wrong == []


def test_asyncio_consumers_see_the_best_of_all_venues(system):
    async def read():
        async with AsyncFeed(system.run_dir.path, channels=["book"], symbols=["BTC-PERP"]) as feed:
            live = await feed.wait_live([(venue, "BTC-PERP") for venue in VENUES], 20)
            return live, feed.top("BTC-PERP")

    live, tops = asyncio.run(read())
    assert live
    assert [top.venue for top in tops] == list(VENUES)
    for top in tops:
        assert top.reason is None
        assert float(top.bid[0]) < float(top.ask[0])
        assert top.age_ms >= 0


def test_callbacks_are_called_by_channel(system):
    seen = dict.fromkeys(("book", "trade", "mark"), 0)
    deadline = time.monotonic() + 20
    with system.feed(channels=["book", "trade", "mark"]) as feed:
        for channel in tuple(seen):
            feed.on(channel, lambda _, channel=channel: seen.update({channel: seen[channel] + 1}))
        feed.run(until=lambda: all(seen.values()) or time.monotonic() > deadline)
    assert all(seen.values())


def test_a_slow_consumer_conflates_and_its_books_are_right(system):
    with system.feed(channels=["book", "trade"], max_age_ms=200, behind="conflate") as feed:
        feed.wait_live(MARKETS, 20)
        for _ in range(4):
            time.sleep(1.0)
            for _ in range(20):
                feed.poll(0.0)
        assert feed.conflated > 0
        assert feed.lost == 0
        system.admin("/pause", {})
        try:
            wait_for(lambda: drained_equals_truth(system, feed), what="every book equals the truth")
        finally:
            system.admin("/resume", {})


def drained_equals_truth(system, feed):
    while feed.poll(0.0) is not None:
        pass
    for venue, symbol in MARKETS:
        book, truth, depth = feed.book(venue, symbol), system.truth(venue, symbol), DEPTHS[venue]
        if not book.usable or values(book.bids()) != values(truth["bids"])[:depth]:
            return False
    return True


def first_lines(command, count, env=None):
    """The first lines that a program prints; it is then ended."""
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env={**os.environ, **(env or {})}
    )
    timer = threading.Timer(30, process.kill)
    timer.start()
    try:
        lines = [process.stdout.readline() for _ in range(count)]
    finally:
        timer.cancel()
        process.kill()
        errors = process.communicate()[1]
    assert all(lines), errors
    return lines


def test_the_example_with_our_library_runs(system):
    command = [sys.executable, str(ROOT / "examples/consumer.py"), str(system.run_dir.path)]
    lines = first_lines(command, 40, {"PYTHONPATH": str(ROOT)})
    assert {line.split()[0] for line in lines} <= set(VENUES)


@pytest.mark.parametrize("venue", VENUES)
def test_the_example_without_our_library_shows_the_same_book(system, venue):
    command = [sys.executable, str(ROOT / "examples/plain_consumer.py"), str(system.run_dir.path), venue, "BTC-PERP"]
    lines = first_lines(command, 3, {"PYTHONPATH": ""})
    assert all(line.startswith("('") for line in lines)


def test_the_reader_for_node_shows_the_same_book(system, tmp_path, node_modules):
    script = tmp_path / "reader.mjs"
    script.write_text((ROOT / "examples/reader.mjs").read_text())
    (tmp_path / "node_modules").symlink_to(node_modules)
    command = ["node", str(script), str(system.run_dir.path), "lighter", "BTC-PERP"]
    with Feed(system.run_dir.path, venues=["lighter"], channels=["book"], symbols=["BTC-PERP"]) as feed:
        ours = {}
        reader = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        try:
            deadline = time.monotonic() + 10
            while time.monotonic() < deadline:
                event = feed.poll(0.1)
                if isinstance(event, BookDelta | BookSnapshot) and feed.book("lighter", "BTC-PERP").usable:
                    book = feed.book("lighter", "BTC-PERP")
                    ours[event.seq] = [*book.best_bid, *book.best_ask]
        finally:
            reader.terminate()
            lines = reader.communicate()[0].splitlines()
    theirs = {int(line.split()[4]): line.split()[:4] for line in lines}
    common = set(ours) & set(theirs)
    assert len(common) > 20
    assert all([*map(float, ours[seq])] == [*map(float, theirs[seq])] for seq in common)
