from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from ipc.aio import AsyncFeed
from ipc.errors import FeedError
from ipc.events import BookDelta, BookSnapshot, Event, Gap, Lifecycle, Mark
from ipc.publisher import Publisher, TopicFeed
from ipc.rundir import RunDir
from ipc.topics import Topic

BTC = ("lighter", "BTC-PERP")
PATIENCE_S = 15.0


def leaping() -> Callable[[], int]:
    ticks = count(1)
    return lambda: next(ticks) * 2_000_000_000


@pytest.fixture
def publisher(open_publisher, short_dir: Path) -> Publisher:
    """Publisher of a worker that accepts subscriptions at every acquisition."""
    ticks = count(1)
    return open_publisher(
        RunDir(short_dir).feed("lighter"), monotonic=lambda: next(ticks) * 2_000_000_000, refresh_ns=0
    )


@pytest.fixture
def book(publisher: Publisher, snapshot_of) -> TopicFeed:
    """Topic of a book that every late subscriber receives."""
    feed = publisher.topic(Topic("book", *BTC))
    feed.snapshot = lambda: snapshot_of([("99", "1")], [("100", "1")], "refresh")
    return feed


def send(publisher: Publisher, feed: TopicFeed, event: Event) -> None:
    with publisher.exclusive():
        publisher.send(feed, event)


async def within_turns(publisher: Publisher, awaited: Awaitable[Any]) -> Any:
    """Wait for something while the publisher goes on."""

    async def go_on() -> None:
        while True:
            with publisher.exclusive():
                pass
            await asyncio.sleep(0.001)

    turns = asyncio.create_task(go_on())
    try:
        return await asyncio.wait_for(awaited, PATIENCE_S)
    finally:
        turns.cancel()


def run(scenario: Callable[[], Coroutine[Any, Any, None]]) -> None:
    asyncio.run(scenario())


def test_books_are_followed_and_events_awaited(short_dir, publisher, book, delta_of) -> None:
    async def scenario() -> None:
        async with AsyncFeed(short_dir, venues=["lighter"]) as feed:
            first = await within_turns(publisher, feed.next())
            assert isinstance(first, BookSnapshot)
            send(publisher, book, delta_of([("99", "0"), ("98", "4")], []))
            assert isinstance(await within_turns(publisher, feed.next()), BookDelta)
            assert feed.book(*BTC).best_bid == ("98", "4")
            assert [one.symbol for one in feed.books()] == ["BTC-PERP"]
            assert [(top.venue, top.bid) for top in feed.top("BTC-PERP")] == [("lighter", ("98", "4"))]
            assert feed.lost == 0

    run(scenario)


def test_suspension_of_the_machine_hides_every_book_at_once(short_dir, publisher, book) -> None:
    slept_ns = 0

    async def scenario() -> None:
        nonlocal slept_ns
        clocks = {"clock": lambda: 1, "boot_clock": lambda: 1 + slept_ns}
        async with AsyncFeed(short_dir, venues=["lighter"], **clocks) as feed:
            await within_turns(publisher, feed.next())
            assert feed.book(*BTC).usable
            slept_ns = 10**12
            assert feed.book(*BTC).reason == "suspended"

    run(scenario)


def test_loss_is_a_gap_and_mended_by_asking(short_dir, publisher, book, delta_of) -> None:
    async def scenario() -> None:
        async with AsyncFeed(short_dir, venues=["lighter"]) as feed:
            assert await within_turns(publisher, feed.wait_live([BTC], PATIENCE_S))
            book.seq += 1
            send(publisher, book, delta_of([("98", "4")], []))
            kinds = [type(await within_turns(publisher, feed.next())) for _ in range(3)]
            assert kinds == [Gap, BookDelta, BookSnapshot]
            assert feed.book(*BTC).usable
            assert feed.lost == 1

    run(scenario)


def test_iteration_gives_event_after_event(short_dir, publisher, book, delta_of) -> None:
    async def scenario() -> None:
        async with AsyncFeed(short_dir, venues=["lighter"]) as feed:
            kinds = []

            async def read() -> None:
                async for event in feed:
                    kinds.append(type(event))
                    if len(kinds) == 3:
                        return
                    send(publisher, book, delta_of([("98", str(len(kinds)))], []))

            await within_turns(publisher, read())
            assert kinds == [BookSnapshot, BookDelta, BookDelta]

    run(scenario)


def test_waiting_for_live_books_ends_with_the_timeout(short_dir, publisher) -> None:
    async def scenario() -> None:
        async with AsyncFeed(short_dir, venues=["lighter"]) as feed:
            assert not await within_turns(publisher, feed.wait_live([BTC], 0.05))

    run(scenario)


def test_events_are_not_lost_to_a_wait_that_timed_out(short_dir, publisher, book, delta_of) -> None:
    async def scenario() -> None:
        async with AsyncFeed(short_dir, venues=["lighter"]) as feed:
            assert await within_turns(publisher, feed.wait_live([BTC], PATIENCE_S))
            for _ in range(3):
                assert not await within_turns(publisher, feed.wait_live([("lighter", "ETH-PERP")], 0.02))
            send(publisher, book, delta_of([("98", "4")], []))
            assert isinstance(await within_turns(publisher, feed.next()), BookDelta)
            assert feed.lost == 0

    run(scenario)


def test_last_values_are_known_and_other_venues_are_none_of_it(short_dir, publisher) -> None:
    async def scenario() -> None:
        marks = publisher.topic(Topic("mark", *BTC))
        with publisher.exclusive():
            publisher.send_latest(marks, "ws", Mark(*BTC, "1", None, "7", None, None, None, None))
        async with AsyncFeed(short_dir, venues=["lighter"], channels=["mark"]) as feed:
            event = await within_turns(publisher, feed.next())
            assert feed.latest("mark", *BTC) is event
            with pytest.raises(FeedError):
                feed.book("paradex", "BTC-PERP")

    run(scenario)


@pytest.mark.parametrize("channels", [["mark"], ["mark", "lifecycle"]])
def test_lifecycle_events_are_delivered_when_subscribed(
    short_dir, open_publisher, publisher, channels: list[str]
) -> None:
    async def scenario() -> None:
        ticks = count(1)
        gateway = open_publisher(
            RunDir(short_dir).feed("lifecycle"), monotonic=lambda: next(ticks) * 2_000_000_000, refresh_ns=0
        )
        died = Lifecycle("lighter", None, None, None, "exited", None, 1, 1, None, None, None, 0, 0, None)
        lifecycle, marks = gateway.topic(Topic("lifecycle", "lighter", "")), publisher.topic(Topic("mark", *BTC))
        with gateway.exclusive():
            gateway.send_latest(lifecycle, "lifecycle", died)
        async with AsyncFeed(short_dir, venues=["lighter"], channels=channels) as feed:

            async def read() -> list[type]:
                kinds = []
                while Mark not in kinds:
                    if feed._state._publishers["lifecycle"].sequence.last("lifecycle.lighter"):
                        with publisher.exclusive():
                            publisher.send_latest(marks, "ws", Mark(*BTC, "1", None, "7", None, None, None, None))
                    with gateway.exclusive():
                        pass
                    try:
                        kinds.append(type(await asyncio.wait_for(feed.next(), 0.02)))
                    except TimeoutError:
                        continue
                return kinds

            published = await within_turns(publisher, read())
            assert (Lifecycle in published) == ("lifecycle" in channels)

    run(scenario)
