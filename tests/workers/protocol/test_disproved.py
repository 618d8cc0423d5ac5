"""A book is unusable from the first proof that it is wrong: frames and REST bodies of all five venues."""

from __future__ import annotations

import json

import pytest
from stage import NS

from ipc.events import BookSnapshot, Gap
from ipc.health import Reason, Stream
from workers.protocol.actions import CloseConnection, FetchBook
from workers.protocol.policy import Policy
from workers.protocol.session import MarketSession
from workers.venues import VENUES
from workers.venues.listing import Listing

MS = 1_790_000_000_000
WIRES = {"hyperliquid": "BTC", "aster": "BTCUSDT", "extended": "BTC-USD", "lighter": "1", "paradex": "BTC-USD-PERP"}
#: Hyperliquid's fast book counts as lost after 2 s of silence, before the usual limit.
STALE_S = {"hyperliquid": 1.5}
HELD = ([("60000.0", "1"), ("59999.5", "2")], [("60001.0", "1")])
OTHER = ([("61500.0", "2")], [("61501.0", "2")])
INVALID = ([("61500.0", "2"), ("61500.5", "2")], [("61501.0", "-1")])
#: What no book holds; None is an answer that is none at all.
USELESS = {
    "unordered_or_negative": INVALID,
    "not_a_number": ([("1_00", "1")], []),
    "crossed": ([("60001.5", "1")], HELD[1]),
    "refused": None,
}


def pairs(levels):
    return [list(level) for level in levels]


def objects(levels, price, size, **more):
    return [{price: p, size: q} | more for p, q in levels]


def whole(venue, book, number):
    """The frames after which ``book`` is held; Aster's is joined to REST."""
    bids, asks = book
    match venue:
        case "hyperliquid":
            levels = [objects(bids, "px", "sz", n=1), objects(asks, "px", "sz", n=1)]
            data = {"coin": "BTC", "time": MS + number, "levels": levels, "fast": True}
            return [{"channel": "l2Book", "data": data}]
        case "aster":
            return [change(venue, number)]
        case "extended":
            data = {
                "t": "SNAPSHOT",
                "m": "BTC-USD",
                "b": objects(bids, "p", "q"),
                "a": objects(asks, "p", "q"),
                "d": "f",
            }
            return [{"type": "SNAPSHOT", "data": data, "ts": MS + number, "seq": number}]
        case "lighter":
            sides = {"bids": objects(bids, "price", "size"), "asks": objects(asks, "price", "size")}
            order_book = {"code": 0, **sides, "nonce": number, "begin_nonce": 0}
            head = {"channel": "order_book:1", "timestamp": MS + number, "type": "subscribed/order_book"}
            return [head | {"order_book": order_book}]
        case "paradex":
            inserts = objects(bids, "price", "size", side="BUY") + objects(asks, "price", "size", side="SELL")
            return [paradex("s", number, inserts)]


def change(venue, number):
    """A frame that changes the book of number - 1, at its second bid."""
    match venue:
        case "hyperliquid":
            return whole(venue, HELD, number)[0]
        case "aster":
            numbers = {"U": number, "u": number, "pu": number - 1}
            times = {"E": MS + number, "T": MS + number}
            return {"e": "depthUpdate", "s": "BTCUSDT", "b": [["59999.5", "3"]], "a": []} | numbers | times
        case "extended":
            data = {"t": "DELTA", "m": "BTC-USD", "b": [{"p": "59999.5", "q": "1", "c": "3"}], "a": [], "d": "f"}
            return {"type": "DELTA", "data": data, "ts": MS + number, "seq": number}
        case "lighter":
            bids = [{"price": "59999.5", "size": "3"}]
            order_book = {"code": 0, "bids": bids, "asks": [], "nonce": number, "begin_nonce": number - 1}
            head = {"channel": "order_book:1", "timestamp": MS + number, "type": "update/order_book"}
            return head | {"order_book": order_book}
        case "paradex":
            return paradex("d", number, [{"side": "BUY", "price": "59999.5", "size": "3"}])


def paradex(kind, number, inserts):
    data = {"seq_no": number, "market": "BTC-USD-PERP", "last_updated_at": MS + number, "update_type": kind}
    lists = {"inserts": inserts, "updates": [], "deletes": []}
    channel = "order_book.BTC-USD-PERP.deltas"
    return {"jsonrpc": "2.0", "method": "subscription", "params": {"channel": channel, "data": data | lists}}


def rest(venue, book, number):
    bids, asks = book
    match venue:
        case "hyperliquid":
            return {
                "coin": "BTC",
                "time": MS + number,
                "levels": [objects(bids, "px", "sz"), objects(asks, "px", "sz")],
            }
        case "aster":
            return {
                "lastUpdateId": number,
                "E": MS + number,
                "T": MS + number,
                "bids": pairs(bids),
                "asks": pairs(asks),
            }
        case "extended":
            data = {"market": "BTC-USD", "bid": objects(bids, "price", "qty"), "ask": objects(asks, "price", "qty")}
            return {"status": "OK", "data": data}
        case "lighter":
            key = "remaining_base_amount"
            return {"code": 200, "bids": objects(bids, "price", key), "asks": objects(asks, "price", key)}
        case "paradex":
            head = {"market": "BTC-USD-PERP", "seq_no": number, "last_updated_at": MS + number}
            return head | {"bids": pairs(bids), "asks": pairs(asks)}


class Market:
    """One market of a venue on a clock of its own: its book is held, and the stream says no more."""

    def __init__(self, name):
        self.name = name
        self.venue = VENUES[name]
        self.listing = Listing("BTC", WIRES[name], WIRES[name], market_id=WIRES[name])
        self.now = 10_000 * NS
        self.stale_s = STALE_S.get(name, 10.0)
        policy = Policy(stale_ns=int(self.stale_s * NS), ping_ns=3600 * NS, pong_ns=3600 * NS)
        plans = self.venue.connections([self.listing], self.venue.ws_url, {})
        plan = next(one for one in plans if any(Stream.BOOK in sub.streams for sub in one.subscriptions))
        self.session = MarketSession(self.venue, plan, [self.listing], policy)
        self.stream = next(route for route in self.session.streams if route.kind is Stream.BOOK)
        self.fetches, self.closes = [], []
        self.number = 1
        self.connect()

    def connect(self):
        self.session.connecting(self.now)
        self.session.opened(self.now)
        self.hold(HELD)
        assert self.stream.is_published_valid
        self.fetches.clear()
        self.closes.clear()

    def hold(self, book):
        self.number += 1
        events = [event for frame in whole(self.name, book, self.number) for event in self.say(frame)]
        if self.name == "aster":
            self.ask("bridge")
            self.number += 1
            events += self.answer(book, "bridge")
        return events

    def say(self, frame):
        return self.collect(self.session.received(False, json.dumps(frame).encode(), self.now))

    def wait(self, seconds):
        events = []
        for _ in range(round(seconds * 10)):
            self.now += NS // 10
            events += self.collect(self.session.tick(self.now))
        return events

    def ask(self, purpose):
        """Wait for a question to REST; others are not answered."""
        for _ in range(300):
            if any(fetch.purpose == purpose for fetch in self.fetches):
                return
            while self.fetches:
                route = self.fetches.pop(0).stream
                self.collect(self.session.fetched(route, "soft", None, Reason.READ_TIMEOUT, self.now))
            self.wait(0.1)
        pytest.fail(f"REST is not asked for {purpose}")

    def answer(self, book, purpose):
        """REST answers; a body that cannot be read is reported as the lane does it."""
        self.fetches = [fetch for fetch in self.fetches if fetch.purpose != purpose]
        self.now += NS // 10
        got, reason = None, Reason.REFUSED
        if book is not None:
            try:
                got = self.venue.parse_book(json.dumps(rest(self.name, book, self.number)).encode(), self.listing)
            except ValueError:
                reason = Reason.PARSE_ERRORS
        reason = None if got else reason
        return self.collect(self.session.fetched(self.stream, purpose, got, reason, self.now))

    def collect(self, publications):
        todo = self.session.actions.drain()
        self.fetches += [action for action in todo if isinstance(action, FetchBook) and action.stream is self.stream]
        self.closes += [action.reason for action in todo if isinstance(action, CloseConnection)]
        return [event for route, event in publications if event is not None and route is self.stream]


CASES = [(name, "compare") for name in VENUES] + [("aster", "soft")]


@pytest.fixture(params=CASES, ids="-".join)
def case(request):
    """A market and the purpose for which REST was just asked for its book."""
    name, purpose = request.param
    market = Market(name)
    market.ask(purpose)
    return market, purpose


def test_rest_book_that_differs_is_a_gap_in_the_same_turn(case):
    market, purpose = case
    market.number += 1
    gap, *others = market.answer(OTHER, purpose)
    assert isinstance(gap, Gap)
    assert (gap.reason, gap.symbol, gap.scope) == (Reason.VENUE_DISAGREES, "BTC-PERP", "book")
    if purpose == "compare":
        assert others == []
        assert not market.stream.is_published_valid
        assert not market.stream.book_sync.usable
        assert market.session.refresh(market.stream) is None
    else:
        assert [type(event) for event in others] == [BookSnapshot], "what REST gave is joined to the stream"


def test_disproved_book_is_got_back(case):
    market, purpose = case
    market.number += 1
    market.answer(OTHER, purpose)
    if market.closes:
        market.session.closed(market.closes[0], market.now)
        market.connect()
    else:
        market.wait(0.5)
        events = market.hold(OTHER) if not market.stream.is_published_valid else []
        assert not any(isinstance(event, Gap) for event in events)
    assert market.stream.is_published_valid
    assert market.stream.book_sync.usable


def test_disproved_book_that_does_not_come_back_ends_the_connection(case):
    market, purpose = case
    market.number += 1
    market.answer(OTHER, purpose)
    if purpose == "compare":
        market.wait(market.stale_s + 3)
        assert market.closes


@pytest.mark.parametrize("useless", USELESS)
def test_rest_book_that_is_none_proves_nothing(case, useless):
    market, purpose = case
    market.number += 1
    assert market.answer(USELESS[useless], purpose) == []
    assert market.stream.is_published_valid
    assert market.stream.book_sync.usable


@pytest.mark.parametrize("name", VENUES)
@pytest.mark.parametrize("book", [INVALID, USELESS["crossed"]], ids=["invalid", "crossed"])
def test_rest_book_that_is_none_is_not_shown_while_the_connection_is_away(name, book):
    market = Market(name)
    market.session.closed(Reason.SERVER_CLOSE, market.now)
    bids, asks = book
    snapshot = BookSnapshot(name, "BTC-PERP", WIRES[name], None, list(bids), list(asks), None, 7)
    assert market.session.rest_book(market.stream, snapshot) == []


def test_rest_book_that_was_asked_for_before_a_frame_proves_nothing(case):
    market, purpose = case
    market.number += 1
    market.now += NS // 10
    assert len(market.say(change(market.name, market.number))) == 1
    market.number += 1
    assert market.answer(OTHER, purpose) == []
    assert market.stream.is_published_valid


@pytest.mark.parametrize("name", ["hyperliquid", "aster", "paradex"])
def test_rest_book_that_is_older_than_what_is_held_proves_nothing(name):
    market = Market(name)
    market.ask("compare")
    market.number -= 1 if name == "aster" else 5
    assert market.answer(OTHER, "compare") == []
    assert market.stream.is_published_valid


def test_rest_book_that_is_the_same_by_value_is_quiet(case):
    market, purpose = case
    same = ([("60000", "1.00"), ("59999.5", "2")], [("60001", "1.0")])
    assert market.answer(same, purpose) == []
    assert market.stream.is_published_valid
    assert market.closes == []


@pytest.mark.parametrize("other", [([], []), (HELD[0], []), ([], HELD[1])], ids=["empty", "no_asks", "no_bids"])
def test_empty_and_one_sided_books_prove_as_well(case, other):
    market, purpose = case
    market.number += 1
    assert market.answer(other, purpose)[0].reason is Reason.VENUE_DISAGREES


@pytest.mark.parametrize("name", VENUES)
def test_answer_to_a_question_of_the_last_connection_proves_nothing(name):
    market = Market(name)
    market.ask("compare")
    market.session.closed(Reason.SERVER_CLOSE, market.now)
    market.now += NS
    market.connect()
    assert market.answer(OTHER, "compare") == []
    assert market.stream.is_published_valid
