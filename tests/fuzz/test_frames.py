"""Wrong frames of all five venues: nothing breaks, no wrong book is called usable, no event breaks the schema, and the
books come back.

``PARAPHINA_FUZZ_S`` is the time of all fuzz tests, s; a finding's text has the round that repeats it
(``PARAPHINA_FUZZ_ROUND``) and the frames.
"""

from __future__ import annotations

import pytest
from fuzzed import FuzzedPipeline, Pathfinder, rounds
from mutations import Mutator
from neighbours import judge_neighbours, several_rows

from ipc.events import Trade
from ipc.topics import VENUES
from workers.venues.listing import Listing

NS = 1_000_000_000

PATHS = [(venue, "sbe") for venue in VENUES] + [("paradex", "json")]


@pytest.mark.parametrize(("venue", "encoding"), PATHS)
def test_wrong_frames_never_make_a_wrong_book_usable(venue: str, encoding: str) -> None:
    mutated = 0
    for seed in rounds(f"frames:{venue}:{encoding}", 3):
        pipeline = FuzzedPipeline(venue, seed, encoding=encoding)
        pipeline.run(1.0)
        pipeline.chance = 0.1
        pipeline.run(3.0)
        pipeline.recover()
        mutated += pipeline.mutated
    assert mutated


@pytest.mark.parametrize("name", ["hyperliquid", "extended", "lighter"])
def test_no_trade_is_lost_to_a_wrong_row_beside_it(name: str) -> None:
    """Of the venues whose frames have several trades."""
    path = Pathfinder(name)
    markets = {listing.wire: listing for listing in path.listings}

    def reported_by(payload: bytes) -> list[str]:
        session = path.session()
        published = [event for _, event in session.received(False, payload, NS)]
        assert not session.faults.malformed, "the whole frame was refused"
        return [f"{one.trade_id} {one.price} {one.size} {one.side}" for one in published if isinstance(one, Trade)]

    frames = [payload for payload in path.frames if _has_trades(path, payload, markets)]
    messages = list(several_rows(frames[:50], reported_by))
    assert messages
    for seed in rounds(f"trades:{name}"):
        mutator = Mutator(seed)
        for number in range(100):
            judge_neighbours(messages[number % len(messages)], mutator, reported_by, seed)


def _has_trades(path: Pathfinder, payload: bytes, markets: dict[str, Listing]) -> bool:
    return any(isinstance(item, Trade) for item in path.venue.decode(payload, False, markets))
