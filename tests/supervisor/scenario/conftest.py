"""Scenarios by hand: a venue whose frames are short, and a file of them as the verb reads it."""

from __future__ import annotations

import json

import pytest
from written_journals import raw_script

from supervisor.scenario.form import parse
from supervisor.scenario.player import play

__all__ = ["book", "playing", "raw_script", "rest_book"]

BTC = {"base": "BTC", "wire": "1", "venue_symbol": "BTC", "market_id": "1"}
ETH = {"base": "ETH", "wire": "0", "venue_symbol": "ETH", "market_id": "0"}


class Play:
    """Plays steps of Lighter; ``lines`` and ``missed`` are what came of the last play."""

    def __init__(self):
        self.lines, self.missed = [], []

    def __call__(self, *steps, venue="lighter", listings=(BTC,), **head):
        rows = {} if listings is None else {"listings": list(listings)}
        file = {"scenario": 1, "venue": venue, **rows, "steps": list(steps), **head}
        played = play(parse(json.dumps(file).encode(), "file.json"), "file.json")
        self.lines, self.missed = played.lines, played.missed
        return self

    def events(self, topic=None):
        """The events, or those of one topic."""
        return [line for line in self.lines if "topic" in line and topic in {None, line["topic"]}]

    def sends(self, on="public/main"):
        return [line["send"] for line in self.lines if line.get("on") == on and "send" in line]

    def notes(self):
        return [line["note"] for line in self.lines if "note" in line]

    def usable(self):
        """What became of the books, as a consumer has them: symbol, and why not."""
        return [(line["t"], line["book"], line["reason"]) for line in self.lines if "book" in line]

    def requests(self):
        return [line["for"] for line in self.lines if "request" in line]


@pytest.fixture
def playing():
    return Play()


@pytest.fixture
def book():
    """Makes a step with a book frame of Lighter: ``book("subscribed", 0, 10, bids, asks)``."""

    def make(kind, begin, nonce, bids, asks=(), market=1, on="public", **more):
        sides = {
            name: [{"price": price, "size": size} for price, size in levels]
            for name, levels in (("bids", bids), ("asks", asks))
        }
        inner = {"code": 0, **sides, "offset": nonce, "nonce": nonce, "begin_nonce": begin}
        frame = {"channel": f"order_book:{market}", "order_book": inner, "timestamp": 1, "type": f"{kind}/order_book"}
        return {"on": on, "frame": frame, **more}

    return make


@pytest.fixture
def rest_book():
    """Makes the body of Lighter's REST book."""

    def make(bid, ask, size="1"):
        return {
            "code": 200,
            "total_asks": 1,
            "asks": [{"order_index": 1, "price": ask, "remaining_base_amount": size}],
            "total_bids": 1,
            "bids": [{"order_index": 2, "price": bid, "remaining_base_amount": size}],
        }

    return make
