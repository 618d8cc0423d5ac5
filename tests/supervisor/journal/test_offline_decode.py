from __future__ import annotations

import pytest

from ipc.codec import encode
from ipc.errors import UsageError
from ipc.events import BookDelta, BookSnapshot, Gap
from ipc.raw import RawHeader
from supervisor.journal.blackbox import RawRecording
from supervisor.journal.offline_decode import offline_decode

SECOND = 1_000_000_000
BIDS, ASKS = [("99", "1")], [("100", "1")]


def played(script, **options):
    return offline_decode(RawRecording(script.head, script.records), **options)


def books(script):
    """What becomes of the book of BTC: kinds, and why."""
    return [
        (type(event).__name__, str(event.reason) if isinstance(event, Gap) else getattr(event, "cause", ""))
        for topic, event in played(script)
        if topic == "book.lighter.BTC-PERP"
    ]


@pytest.fixture
def opened(raw_script):
    """A connection with a book."""
    return raw_script.add("open", b"ws://x").book("subscribed", 0, 10, BIDS, ASKS)


def test_frames_become_events_as_in_a_live_session(opened):
    opened.book("update", 10, 11, [("99.5", "2")])
    events = [event for _, event in played(opened)]
    assert [type(event) for event in events] == [BookSnapshot, BookDelta]
    assert events[1].bids == [("99.5", "2")]


def test_a_lost_update_is_a_gap_and_a_snapshot_mends_it(opened):
    opened.book("update", 12, 13, [("99.5", "2")]).book("subscribed", 0, 14, BIDS, ASKS)
    assert books(opened) == [("BookSnapshot", "subscribe"), ("Gap", "seq_gap"), ("BookSnapshot", "resync")]


def test_the_end_of_a_connection_is_a_gap(opened):
    opened.add("close", b"server_close").add("open", b"ws://x").book("subscribed", 0, 20, BIDS, ASKS)
    assert books(opened) == [("BookSnapshot", "subscribe"), ("Gap", "server_close"), ("BookSnapshot", "subscribe")]


def test_what_begins_in_the_middle_waits_for_a_snapshot(raw_script):
    raw_script.book("update", 7, 8, [("98", "1")]).book("update", 8, 9, [("98", "2")])
    assert played(raw_script) == []
    raw_script.book("subscribed", 0, 10, BIDS, ASKS).book("update", 10, 11, [("98", "2")])
    assert books(raw_script) == [("BookSnapshot", "subscribe"), ("BookDelta", "")]


def test_two_rehearsals_are_the_same_byte_for_byte(opened):
    opened.book("update", 12, 13, [("99.5", "2")]).frame({"type": "nonsense"}).add("in", b"\xff\xfe")
    opened.book("subscribed", 0, 14, BIDS, ASKS, market=0).add("close", b"pong_timeout")
    first, second = played(opened), played(opened)
    assert first
    assert [(topic, encode(event)) for topic, event in first] == [(topic, encode(event)) for topic, event in second]


def test_only_the_wanted_markets_are_followed(opened):
    opened.book("subscribed", 0, 5, BIDS, ASKS, market=0)
    assert {topic for topic, _ in played(opened, bases=["ETH"])} == {"book.lighter.ETH-PERP"}


def test_records_are_played_in_the_order_of_their_times(raw_script):
    raw_script.add("open", b"ws://x").book("update", 10, 11, [("98", "2")], after_ns=SECOND)
    raw_script.book("subscribed", 0, 10, BIDS, ASKS, after_ns=-SECOND // 2)
    assert books(raw_script) == [("BookSnapshot", "subscribe"), ("BookDelta", "")]


def test_what_cannot_be_played_is_refused(raw_script, new_raw_script):
    with pytest.raises(UsageError, match="name its markets"):
        played(new_raw_script(listings=False).frame({}))
    with pytest.raises(UsageError, match="nothing recorded"):
        played(raw_script)
    with pytest.raises(UsageError, match="cannot be played"):
        offline_decode(RawRecording(RawHeader(venue="unheard"), raw_script.frame({}).records))


# --- what the player owes to the live session -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("reason", "cause"),
    [("seq_gap", "resync"), ("crossed_book", "resync"), ("parse_errors", "resync"), ("rotation", "rotation")],
)
def test_the_cause_of_a_snapshot_is_that_of_its_connection(opened, reason, cause):
    opened.add("close", reason.encode()).add("open", b"ws://x").book("subscribed", 0, 20, BIDS, ASKS)
    assert books(opened)[-1] == ("BookSnapshot", cause)


class Hyperliquid:
    """Hyperliquid's main socket: the fast book of BTC stands still while ETH's goes on."""

    @staticmethod
    def write(script):
        script.venue = script.head.venue = "hyperliquid"
        for row in script.head.listings:
            row["wire"] = row["base"]
        script.add("open", b"ws://x")
        for number in range(200):
            coins = ("BTC", "ETH") if number < 5 or number > 190 else ("ETH",)
            for coin in coins:
                levels = [[{"px": price, "sz": "1", "n": 1}] for price in ("99", "100")]
                time_ms = 1_785_499_200_000 + 20 * number
                data = {"coin": coin, "time": time_ms, "levels": levels, "fast": True}
                script.frame({"channel": "l2Book", "data": data}, after_ns=SECOND // 50 if coin == "ETH" else 0)
        return script


def test_a_mute_book_is_noticed_while_others_flow(raw_script):
    script = Hyperliquid.write(raw_script)
    gaps = [(topic, event.reason) for topic, event in played(script) if isinstance(event, Gap)]
    assert gaps == [("book.hyperliquid.BTC-PERP", "seq_gap")]


def test_a_worker_that_died_loses_its_books(opened):
    opened.add("open", b"ws://x").book("subscribed", 0, 20, BIDS, ASKS)
    assert [kind for kind, _ in books(opened)] == ["BookSnapshot", "Gap", "BookSnapshot"]


def test_a_cut_answer_of_rest_is_no_book(raw_script):
    raw_script.venue = raw_script.head.venue = "aster"
    for row in raw_script.head.listings:
        row["wire"] = f"{row['base']}USDT"
    raw_script.add("open", b"ws://x").add("rest", b'{"lastUpdateId":1,"bi', symbol="BTC-PERP", purpose="bridge")
    assert played(raw_script) == []


def test_a_reason_that_is_not_known_is_as_good_as_none(opened):
    opened.add("close", b"sunspots")
    assert [kind for kind, _ in books(opened)] == ["BookSnapshot", "Gap"]
