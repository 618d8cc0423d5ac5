"""Wrong answers of all five venues' public REST interfaces: a parser refuses them, or gives what is valid.

See :mod:`fuzzed` for how long, and how a finding is repeated.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import pytest
from fuzzed import FindingError, Pathfinder, rounds, sample_frames, shown
from mutations import Mutator
from validity import faults_of_event

from ipc.checks import checked
from ipc.events import Event
from ipc.topics import VENUES
from workers.markets import resolve
from workers.venues.listing import Listing
from workers.venues.rows import split_rows

PER_ROUND = 200


def judged(what: str, seed: str, bodies: list[bytes], parse: Callable[[], Any]) -> Any:
    """What a parser gives; None when it refused.

    Raises:
        FindingError: It raised something else than that it cannot decode.
    """
    try:
        return parse()
    except (ValueError, RecursionError):  # of which DecodeError is one
        return None
    except Exception as error:
        answers = "\n".join(shown(body) for body in bodies)
        text = f"{what}: {type(error).__name__}: {error}\nPARAPHINA_FUZZ_ROUND={seed!r} repeats it; answers:\n{answers}"
        raise FindingError(text) from error


def demand(faults: list[str], what: str, seed: str, bodies: list[bytes]) -> None:
    """Fail when there is a fault."""
    if faults:
        answers = "\n".join(shown(body) for body in bodies)
        raise FindingError(f"{what}: {faults}\nPARAPHINA_FUZZ_ROUND={seed!r} repeats it; answers:\n{answers}")


@pytest.mark.parametrize("name", VENUES)
def test_wrong_market_lists(name: str) -> None:
    path = Pathfinder(name)
    right = path.listing_bodies()
    for seed in rounds(f"listings:{name}"):
        mutator = Mutator(seed)
        for number in range(PER_ROUND):
            bodies = list(right)
            bodies[number % len(bodies)] = mutator.frame(bodies[number % len(bodies)])
            listings = judged(f"{name} listings", seed, bodies, lambda bodies=bodies: path.venue.parse_listings(bodies))
            listings, _ = split_rows(listings or ())
            for listing in listings:
                demand(faults_of_listing(path, listing), f"{name} listings: {listing}", seed, bodies)
            if listings:
                judged(f"{name} resolve", seed, bodies, lambda listings=listings: resolve(listings, ("BTC", "ETH")))


def faults_of_listing(path: Pathfinder, listing: Listing) -> list[str]:
    """Say what is wrong with a market that was listed: its event, what is subscribed for it, what is asked for it."""
    faults = [] if isinstance(listing, Listing) else [f"{listing!r} is no listing"]
    if faults or listing.base is None:
        return faults
    try:
        faults = faults_of_event(listing.instrument(path.venue.name))
        plans = path.venue.connections([listing], path.venue.ws_url, {})
        requests = [path.venue.book_request(listing), *(poll.request(1) for poll in path.venue.polls([listing]))]
    except Exception as error:
        return [f"{type(error).__name__}: {error}"]
    urls = [plan.url for plan in plans] + [request.path for request in requests]
    return faults + [f"URL {url!r}" for url in urls if not (url.isascii() and url.isprintable()) or " " in url]


def published(events: Iterable[Any], body: bytes) -> Iterator[Event]:
    """What the thread that polls publishes of an answer: what passes the check of all events."""
    for event in split_rows(events)[0]:
        try:
            yield checked(event)
        except ValueError:
            pass
        except Exception as error:
            raise FindingError(f"check of {event}: {error!r}\n{shown(body)}") from error


@pytest.mark.parametrize("name", VENUES)
def test_wrong_answers_to_polls(name: str) -> None:
    path = Pathfinder(name)
    right = [(poll, path.ask(poll.request(path.now_ms()))) for poll in path.venue.polls(path.listings)]
    samples = [payload for payload, _ in sample_frames(name, ("rest_",))]
    for seed in rounds(f"polls:{name}"):
        mutator = Mutator(seed)
        for number in range(PER_ROUND):
            poll, body = right[number % len(right)]
            wrong = mutator.frame(body, samples)
            events = judged(f"{name} {poll.name}", seed, [wrong], lambda poll=poll, wrong=wrong: poll.parse(wrong))
            for event in published(events or (), wrong):
                demand(faults_of_event(event), f"{name} {poll.name}: {event}", seed, [wrong])


@pytest.mark.parametrize("name", VENUES)
def test_wrong_books(name: str) -> None:
    """A book is judged where it is used: :mod:`test_frames` has those that are joined to a stream."""
    path = Pathfinder(name)
    right = [(listing, path.ask(path.venue.book_request(listing))) for listing in path.listings]
    for seed in rounds(f"books:{name}"):
        mutator = Mutator(seed)
        for number in range(PER_ROUND):
            listing, body = right[number % len(right)]
            wrong = mutator.frame(body)
            judged(f"{name} book", seed, [wrong], lambda listing=listing, wrong=wrong: path.parse_book(wrong, listing))


@pytest.mark.parametrize("name", VENUES)
def test_wrong_errors(name: str) -> None:
    """How long to wait is asked of every answer that is an error, whatever is in it."""
    path = Pathfinder(name)
    bodies = [payload for payload, _ in sample_frames(name, ("rest_error",))]
    bodies += [json.dumps({"code": -1003, "msg": "Way too many requests; IP banned until 1790000000000."}).encode()]
    for seed in rounds(f"errors:{name}"):
        mutator = Mutator(seed)
        for number in range(PER_ROUND):
            wrong = mutator.frame(bodies[number % len(bodies)])
            for status in (418, 429, 500):
                wait_s = judged(
                    f"{name} error",
                    seed,
                    [wrong],
                    lambda wrong=wrong, status=status: path.venue.retry_after_s(status, wrong, path.now_ms()),
                )
                demand([] if wait_s is None or 0 <= wait_s < 1e6 else [f"wait {wait_s}"], name, seed, [wrong])
