"""The public side of a venue under messages that are wrong: its whole path from frames to a consumer's book, judged.

See :mod:`mutations` for the messages and :mod:`validity` for the judge.
"""

from __future__ import annotations

import base64
import json
import os
import random
import time
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

from mutations import Mutator
from pipeline import Line, Pipeline
from validity import NaiveBook, faults_of_event

from ipc.codec import encode
from ipc.events import BookSnapshot, Event
from ipc.health import Reason, Stream, StreamState
from ipc.topics import topic_of
from workers.protocol.actions import FetchBook
from workers.protocol.policy import Policy
from workers.protocol.session import MarketSession
from workers.venues import VENUES
from workers.venues.listing import Listing
from workers.venues.venue import RestRequest

__all__ = ["SEED", "FindingError", "FuzzedPipeline", "Pathfinder", "rounds", "sample_frames", "shown"]

#: Seconds for all fuzz tests together, the seed of their first round, and how many tests share the time.
TOTAL_S: Final = float(os.environ.get("PARAPHINA_FUZZ_S", "60"))
SEED: Final = os.environ.get("PARAPHINA_FUZZ_SEED", "1")
_SHARES: Final = 72
_TRAIL: Final = 25


class FindingError(AssertionError):
    """Something wrong was let through, or something broke; its text repeats it."""


def rounds(name: str, weight: int = 1) -> Iterator[str]:
    """Give seeds of rounds, at least one, until a test's share of the time is used up.

    Args:
        name: Of the test; the rounds of each are of its own.
        weight: In shares of the whole time.
    """
    only = os.environ.get("PARAPHINA_FUZZ_ROUND")
    if only:
        yield only
        return
    ends_at = time.monotonic() + TOTAL_S * weight / _SHARES
    number = 0
    while number == 0 or time.monotonic() < ends_at:
        yield f"{SEED}:{name}:{number}"
        number += 1


def shown(payload: bytes, limit: int = 1500) -> str:
    """Return a message as a line that can be put into a test."""
    text = repr(payload) if payload[:1] in {b"{", b"["} else f"base64:{base64.b64encode(payload).decode()}"
    return text if len(text) <= limit else f"{text[:limit]}… ({len(payload)} bytes)"


def sample_frames(venue: str, prefixes: Sequence[str] = ("ws_", "sbe_")) -> list[tuple[bytes, bool]]:
    """Return the recorded messages of a venue with whether each is binary; none without a directory of recordings."""
    directory = os.environ.get("PARAPHINA_SAMPLES_DIR")
    if not directory:
        return []
    found = []
    for path in sorted((Path(directory) / venue).glob("*.json")):
        sample = json.loads(path.read_text())
        if path.name.startswith(tuple(prefixes)) and sample.get("direction", "in") == "in":
            found += [_payload_of(message) for message in sample["messages"]]
    return found


def _payload_of(message: Any) -> tuple[bytes, bool]:
    if isinstance(message, dict) and "opcode" in message:
        binary = message["opcode"] == "binary"
        return (base64.b64decode(message["b64"]) if binary else message["text"].encode()), binary
    return (message if isinstance(message, str) else json.dumps(message)).encode(), False


class FuzzedPipeline(Pipeline):
    """A venue's path on which frames and answers go wrong at a ``chance``; every event and book is judged.

    Args:
        venue: Which.
        seed: Of market and mutations.
        encoding: For venues that have several.

    Raises:
        FindingError: From any step.
    """

    def __init__(self, venue: str, seed: str, *, encoding: str = "sbe") -> None:
        self.chance = 0.0
        self.mutated = 0
        self._seed = seed
        self._mutator = Mutator(seed)
        self._samples = sample_frames(venue)
        self._trail: deque[str] = deque(maxlen=_TRAIL)
        self._recent: deque[bytes] = deque(maxlen=40)
        self._naive: dict[str, NaiveBook] = {}
        super().__init__(venue, random.Random(seed).randrange(1 << 30), encoding=encoding)

    def step(self) -> None:
        """20 ms, in which nothing may break."""
        try:
            super().step()
        except FindingError:
            raise
        except Exception as error:
            raise self._finding(f"{type(error).__name__}: {error}") from error

    def recover(self, seconds: float = 30.0) -> None:
        """Without faults, and on new connections, every market that the venue did not refuse has its true book."""
        self.chance = 0.0
        for line in self.lines:
            if line.client is not None:
                self._close(line, Reason.SERVER_CLOSE)
        for _ in range(round(seconds)):
            self.run(1.0)
            if self._all_usable():
                break
        else:
            raise self._finding(f"not usable {seconds} s after the last wrong message")
        self.settle()
        self.check()

    def _all_usable(self) -> bool:
        routes = [route for route in self._books() if route.state is not StreamState.FAILED]
        return all(self.mirror.book(self._venue.name, route.symbol, self.now_ns).usable for route in routes)

    def _finding(self, text: str) -> FindingError:
        advice = f"PARAPHINA_FUZZ_ROUND={self._seed!r} repeats it; the last frames and answers, oldest first:"
        return FindingError("\n".join([f"{self._venue.name}: {text}", advice, *self._trail]))

    # --- what comes in ----------------------------------------------------------------------------------------------

    def _through(self, frames: list[Any]) -> list[Any]:
        arrived = []
        for frame in frames:
            self._recent.append(frame.payload)
            if self.dice.random() < self.chance:
                arrived.append(self._wrong(frame))
                if self.dice.random() < 0.5:
                    continue  # in the place of the right one
            arrived.append(frame)
        for frame in arrived:
            self._trail.append(f"  {'binary' if frame.is_binary else 'text'} {shown(bytes(frame.payload))}")
        return arrived

    def _wrong(self, frame: Any) -> Any:
        self.mutated += 1
        payload, binary = bytes(frame.payload), frame.is_binary
        if self._samples and self.dice.random() < 0.2:
            payload, binary = self.dice.choice(self._samples)
        wrong = self._mutator.of_bytes(payload) if binary else self._mutator.frame(payload, tuple(self._recent))
        return replace(frame, payload=wrong, is_binary=binary)

    def _fetched(self, line: Line, fetch: FetchBook) -> None:
        body = self._ask(self._venue.book_request(fetch.stream.listing))
        book, reason = None, None
        if self.dice.random() < 3 * self.chance:
            body = self._mutator.frame(body)
        self._trail.append(f"  answer {fetch.purpose} {fetch.stream.symbol} {shown(body)}")
        try:
            book = self._venue.parse_book(body, fetch.stream.listing)
        except (ValueError, RecursionError):  # of which DecodeError is one
            reason = Reason.PARSE_ERRORS
        self._publish(line.session.fetched(fetch.stream, fetch.purpose, book, reason, self.now_ns))

    # --- what goes out ----------------------------------------------------------------------------------------------

    def _send(self, topic: str, event: Event) -> None:
        faults = faults_of_event(event)
        super()._send(topic, event)
        if not faults and topic == topic_of("book", event.venue, event.symbol):
            faults = self._faults_of_replica(event)
        if faults:
            raise self._finding(f"{topic}: {'; '.join(faults)[:2000]}; event {str(event)[:2000]}")

    def _faults_of_replica(self, event: Event) -> list[str]:
        naive = self._naive.setdefault(str(event.symbol), NaiveBook())
        naive.take(event)
        book = self.mirror.book(event.venue, str(event.symbol), self.now_ns)
        if book.drifts:
            return ["drift: the worker's book is another one"]
        return naive.faults(book.bids(), book.asks()) if book.usable else []


class _Listening(Pipeline):
    """Keeps the text frames that came."""

    def __init__(self, venue: str, seed: int) -> None:
        self.frames: list[bytes] = []
        super().__init__(venue, seed)

    def _through(self, frames: list[Any]) -> list[Any]:
        self.frames += [bytes(frame.payload) for frame in frames if not frame.is_binary]
        return frames


class Pathfinder:
    """A simulated venue's right answers to the requests of its public side; ``listings`` are BTC and ETH.

    Args:
        name: The venue.
    """

    def __init__(self, name: str) -> None:
        self._pipeline = _Listening(name, 7)
        self._pipeline.run(1.0)
        #: Frames of its markets' stream, text only.
        self.frames = self._pipeline.frames
        self.venue = VENUES[name]
        self.listings = [route.listing for route in self._pipeline._books()]

    def ask(self, request: RestRequest) -> bytes:
        """Return the simulator's answer."""
        return self._pipeline._ask(request)

    def session(self) -> MarketSession:
        """Return a new session of all markets' trades, which is open."""
        plans = self.venue.connections(self.listings, self.venue.ws_url, {})
        plan = next(plan for plan in plans if any(Stream.TRADE in one.streams for one in plan.subscriptions))
        session = MarketSession(
            self.venue, plan, self.listings, Policy(stale_ns=10**10, ping_ns=10**10, pong_ns=10**10)
        )
        session.connecting(1)
        session.opened(1)
        return session

    def listing_bodies(self) -> list[bytes]:
        """Return the answers that list the venue's markets."""
        return [self.ask(request) for request in self.venue.listing_requests()]

    def now_ms(self) -> int:
        """Return the simulator's wall clock."""
        return self._pipeline.stage.schedule.wall_ms()

    def parse_book(self, body: bytes, listing: Listing) -> BookSnapshot:
        """Return the book in an answer; the caller checks whether it can be sent."""
        book = self.venue.parse_book(body, listing)
        encode(book)
        return book
