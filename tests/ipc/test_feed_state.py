from __future__ import annotations

from contextlib import suppress

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ipc.codec import decode, encode
from ipc.decimals import shortest
from ipc.errors import BookUnusableError, FeedError
from ipc.events import (
    BookDelta,
    BookSnapshot,
    Event,
    Gap,
    Heartbeat,
    HeartbeatBook,
    Level,
    Lifecycle,
    Mark,
    Trade,
)
from ipc.feed_state import HEARTBEAT_LOST_S, FeedState, Top
from ipc.health import Reason
from ipc.orderbook import OrderBook
from ipc.replica import NO_SNAPSHOT, WORKER_EXITED, BookReplica

BTC = ("lighter", "BTC-PERP")
TOPIC = "book.lighter.BTC-PERP"
BIDS: list[Level] = [("99", "1"), ("98", "2")]
ASKS: list[Level] = [("100", "1"), ("101", "2")]
MS = 1_000_000
SECOND = 1_000 * MS
#: The wall clock less the monotonic one.
WALL_NS = 1_700_000_000 * SECOND


class Wire:
    """Makes the messages of one worker and hands them to a state, unless they are to be lost."""

    def __init__(self, state: FeedState, venue: str = "lighter", now_ns: int = 1_000 * SECOND) -> None:
        self.state = state
        self.venue = venue
        self.now_ns = now_ns
        self.epoch = 1
        self.seqs: dict[str, int] = {}
        self.book = OrderBook()
        self.usable = False

    def send(self, channel: str, event: Event, symbol: str = "BTC-PERP", *, lost: bool = False) -> list[Event]:
        topic = f"{channel}.{self.venue}" + (f".{symbol}" if symbol else "")
        self.seqs[topic] = self.seqs.get(topic, 0) + 1
        event.epoch, event.seq = self.epoch, self.seqs[topic]
        event.recv_mono_ns = event.recv_mono_ns or self.now_ns
        event.recv_ns = event.recv_ns or event.recv_mono_ns + WALL_NS
        return [] if lost else self.state.handle([topic.encode(), encode(event)], self.now_ns)

    def snapshot(
        self, bids: list[Level] = BIDS, asks: list[Level] = ASKS, *flags: str, lost: bool = False
    ) -> list[Event]:
        self.book.replace(bids, asks)
        self.usable = not {"rest", "crossed_by_venue"} & set(flags)
        event = BookSnapshot(self.venue, "BTC-PERP", "1", None, bids, asks, None, None)
        event.flags = flags  # type: ignore[assignment]
        return self.send("book", event, lost=lost)

    def change(self, bids: list[Level], asks: list[Level] | None = None, *, lost: bool = False) -> list[Event]:
        self.book.apply(bids, asks or [])
        return self.send("book", BookDelta(self.venue, "BTC-PERP", "1", None, bids, asks or [], None, None), lost=lost)

    def gap(self) -> list[Event]:
        self.usable = False
        return self.send(
            "book", Gap(self.venue, "BTC-PERP", "1", None, "book", Reason.READ_TIMEOUT, None, None, "reconnect")
        )

    def trade(self, number: int, *, lost: bool = False) -> list[Event]:
        return self.send("trade", Trade(self.venue, "BTC-PERP", "1", None, "1", "2", "buy", str(number)), lost=lost)

    def mark(self, price: str) -> list[Event]:
        return self.send("mark", Mark(self.venue, "BTC-PERP", "1", None, price, None, None, None, None))

    def beat(self, *, lost: bool = False) -> list[Event]:
        books = {}
        if TOPIC in self.seqs:
            checksum = self.book.crc32_top10() if self.usable else None
            books["BTC-PERP"] = HeartbeatBook(self.seqs[TOPIC], None, self.usable, 0, checksum)
        beat = Heartbeat(self.venue, None, None, None, dict(self.seqs), books, 0, 0)
        return self.send("heartbeat", beat, "", lost=lost)

    def restart(self) -> None:
        self.epoch, self.seqs, self.usable = self.epoch + 1, {}, False


@pytest.fixture
def state() -> FeedState:
    return FeedState(["lighter", "aster"], 1_000 * SECOND)


@pytest.fixture
def wire(state: FeedState) -> Wire:
    """A worker whose book the state holds."""
    wire = Wire(state)
    wire.snapshot()
    wire.beat()
    return wire


def book_of(wire: Wire) -> BookReplica:
    return wire.state.book(wire.venue, "BTC-PERP", wire.now_ns)


def kinds(events: list[Event]) -> list[type[Event]]:
    return [type(event) for event in events]


def plainly(levels: list[Level]) -> list[Level]:
    return [(shortest(price), shortest(size)) for price, size in levels]


# --- in order -----------------------------------------------------------------------------------------------------


def test_book_is_followed(wire: Wire) -> None:
    assert kinds(wire.change([("98", "0"), ("97", "3")], [("100.0", "9")])) == [BookDelta]
    assert (book_of(wire).bids(), book_of(wire).best_ask) == ([("99", "1"), ("97", "3")], ("100.0", "9"))
    assert wire.state.snapshot_requests() == []
    assert (wire.state.lost, wire.state.malformed, wire.state.repeated) == (0, 0, 0)


def test_repeated_and_late_messages_are_not_delivered(wire: Wire) -> None:
    wire.seqs[TOPIC] -= 1
    assert wire.change([("99", "7")]) == []
    assert book_of(wire).best_bid == ("99", "1")


def test_changes_before_the_first_snapshot_are_ignored_and_no_loss(state: FeedState) -> None:
    wire = Wire(state)
    wire.snapshot(lost=True)  # before this consumer subscribed
    for number in range(3):
        assert kinds(wire.change([(f"{90 + number}", "1")])) == [BookDelta]
        assert book_of(wire).reason == NO_SNAPSHOT
    assert kinds(wire.beat()) == [Heartbeat]
    assert state.snapshot_requests() == []
    wire.snapshot([*BIDS, ("90", "1")], ASKS, "refresh")
    assert book_of(wire).usable
    assert (state.lost, book_of(wire).drifts) == (0, 0)


@pytest.mark.parametrize("is_restarted", [False, True], ids=["first epoch", "next epoch"])
def test_subscription_is_the_first_request_and_another_follows_after_a_while(
    state: FeedState,
    is_restarted: bool,  # noqa: FBT001 - a parameter of pytest
) -> None:
    wire = Wire(state)
    if is_restarted:
        wire.snapshot()
        wire.restart()
        wire.now_ns += 5 * SECOND
    requested_at = []
    wire.usable = True  # the worker has a book
    for step in range(18):
        wire.change(BIDS)
        wire.beat()
        if state.snapshot_requests():
            requested_at.append(step)
        wire.now_ns += 250 * MS
    assert requested_at == [6, 12]
    assert state.lost == 0


def test_loss_before_the_first_snapshot_is_counted_and_not_requested_sooner(state: FeedState) -> None:
    wire = Wire(state)
    wire.change(BIDS)
    wire.change([("97", "1")], lost=True)
    assert kinds(wire.change([("96", "1")])) == [BookDelta]
    assert state.lost == 1
    assert state.snapshot_requests() == []


def test_loss_soon_after_the_first_snapshot_is_requested_at_once(wire: Wire) -> None:
    wire.change([("97", "1")], lost=True)
    wire.change([("96", "1")])
    assert wire.state.snapshot_requests() == [TOPIC]


def test_last_values_are_kept_by_channel_and_symbol(wire: Wire) -> None:
    assert wire.state.latest("mark", *BTC) is None
    for price in ("1", "2"):
        (event,) = wire.mark(price)
    assert wire.state.latest("mark", *BTC) is event
    assert wire.state.latest("mark", "lighter", "ETH-PERP") is None
    assert wire.state.latest("book", *BTC) is None


def test_book20_is_a_value_and_no_book(wire: Wire) -> None:
    whole = BookSnapshot("lighter", "BTC-PERP", "1", None, [("5", "1")], [], 20, None)
    assert kinds(wire.send("book20", whole)) == [BookSnapshot]
    assert book_of(wire).bids() == BIDS
    assert wire.state.latest("book20", *BTC) == whole


def test_trade_that_a_venue_repeats_after_a_restart_is_delivered_once(wire: Wire) -> None:
    assert kinds(wire.trade(1)) == [Trade]
    assert kinds(wire.trade(2)) == [Trade]
    wire.restart()
    assert wire.trade(1) == wire.trade(2) == []
    assert kinds(wire.trade(3)) == [Trade]
    assert wire.state.repeated == 2
    assert wire.state.lost == 0


def test_trades_of_two_markets_may_share_an_id(wire: Wire) -> None:
    wire.trade(1)
    other = Trade("lighter", "ETH-PERP", "2", None, "1", "2", "buy", "1")
    assert kinds(wire.send("trade", other, "ETH-PERP")) == [Trade]


def test_venue_that_is_not_subscribed_is_an_error_that_names_those_that_are(state: FeedState) -> None:
    with pytest.raises(FeedError, match=r"it has lighter, aster$") as caught:
        state.book("paradex", "BTC-PERP", 0)
    assert caught.value.where == "paradex"
    with pytest.raises(FeedError):
        state.latest("mark", "paradex", "BTC-PERP")


# --- losses -------------------------------------------------------------------------------------------------------


def test_hole_is_a_gap_of_ones_own_before_the_event_behind_it(wire: Wire) -> None:
    wire.change([("97", "1")], lost=True)
    wire.change([("96", "1")], lost=True)
    gap, delta = wire.change([("95", "1")])
    assert isinstance(gap, Gap)
    assert (gap.venue, gap.symbol, gap.epoch, gap.scope, gap.reason) == (*BTC, 0, "book", Reason.SEQ_GAP)
    assert (gap.expected, gap.got, gap.action) == (2, 4, "resync")
    assert isinstance(delta, BookDelta)
    assert wire.state.lost == 2
    assert book_of(wire).reason == "seq_gap"
    assert wire.state.snapshot_requests() == [TOPIC]
    assert wire.state.snapshot_requests() == []


def test_snapshot_behind_a_hole_heals_it_and_asks_for_nothing(wire: Wire) -> None:
    wire.change([("97", "1")], lost=True)
    assert kinds(wire.snapshot([("50", "1")], [("51", "1")])) == [Gap, BookSnapshot]
    assert book_of(wire).best_bid == ("50", "1")
    assert wire.state.snapshot_requests() == []


def test_hole_before_the_workers_own_gap_is_reported_by_both(wire: Wire) -> None:
    wire.change([("97", "1")], lost=True)
    ours, theirs = wire.gap()
    assert (ours.epoch, theirs.epoch) == (0, 1)
    assert book_of(wire).reason == "read_timeout"


def test_lost_tail_is_reported_before_the_heartbeat_that_shows_it(wire: Wire) -> None:
    wire.change([("97", "1")], lost=True)
    gap, beat = wire.beat()
    assert isinstance(gap, Gap)
    assert (gap.expected, gap.got) == (None, 2)
    assert isinstance(beat, Heartbeat)
    assert book_of(wire).reason == "seq_gap"
    assert wire.state.snapshot_requests() == [TOPIC]
    assert wire.state.lost == 1
    assert kinds(wire.beat()) == [Heartbeat]


def test_lost_tail_is_counted_message_by_message(wire: Wire) -> None:
    for size in "123":
        wire.change([("97", size)], lost=True)
    wire.beat()
    assert wire.state.lost == 3


def test_loss_in_a_book_that_is_unusable_already_is_counted_and_not_reported(wire: Wire) -> None:
    wire.gap()
    wire.snapshot(lost=True)
    assert kinds(wire.change([("96", "1")])) == [BookDelta]
    assert wire.state.lost == 1


def test_lost_trades_and_heartbeats_are_counted_and_touch_no_book(wire: Wire) -> None:
    wire.trade(1)
    wire.trade(2, lost=True)
    assert kinds(wire.trade(3)) == [Trade]
    wire.beat(lost=True)
    assert kinds(wire.beat()) == [Heartbeat]
    wire.trade(4, lost=True)
    assert kinds(wire.beat()) == [Heartbeat]
    assert wire.state.lost == 3
    assert book_of(wire).usable


def test_topic_of_a_book_that_was_never_asked_for_may_lose_its_tail(state: FeedState) -> None:
    wire = Wire(state)
    wire.change(BIDS)
    state._publishers["lighter"].books.clear()
    wire.change([("97", "1")], lost=True)
    assert kinds(wire.beat()) == [Heartbeat]


def test_snapshot_is_asked_for_again_after_a_while_and_not_before(wire: Wire) -> None:
    wire.change([("97", "1")], lost=True)
    asked_at = []
    for step in range(14):
        wire.change([("96", "1")])
        if wire.state.snapshot_requests():
            asked_at.append(step)
        wire.now_ns += 250 * MS
    assert asked_at == [0, 6, 12]


@pytest.mark.parametrize("fault", [NO_SNAPSHOT, "seq_gap", "bad_level", "drift"])
def test_book_with_a_fault_that_its_worker_does_not_know_of_is_asked_for(wire: Wire, fault: str) -> None:
    book_of(wire).invalidate(fault)
    wire.change([("97", "1")])
    assert wire.state.snapshot_requests() == [TOPIC]


def test_book_that_its_worker_lost_is_not_asked_for_until_it_has_it_again(wire: Wire) -> None:
    wire.gap()
    wire.change([("97", "1")])
    wire.beat()
    assert wire.state.snapshot_requests() == []
    wire.usable = True  # the snapshot was lost with everything else of a second
    wire.beat()
    assert wire.state.snapshot_requests() == [TOPIC]


# --- drift --------------------------------------------------------------------------------------------------------


def drifts_logged(logged) -> list[object]:
    return [record.fields for record in logged.records if record.getMessage() == "feed.drift"]


def test_checksum_of_the_heartbeat_proves_drift(wire: Wire, logged) -> None:
    book_of(wire)._book.apply([("99", "17")], [])
    wire.beat()
    assert (book_of(wire).drifts, book_of(wire).reason) == (1, "drift")
    assert wire.state.snapshot_requests() == [TOPIC]
    assert drifts_logged(logged) == [{"venue": "lighter", "symbol": "BTC-PERP", "found_by": "checksum"}]
    wire.snapshot(BIDS, ASKS, "refresh")
    assert (book_of(wire).drifts, book_of(wire).usable) == (1, True)


def test_refresh_proves_drift_and_mends_it(wire: Wire, logged) -> None:
    book_of(wire)._book.apply([("99", "17")], [])
    wire.snapshot(BIDS, ASKS, "refresh")
    assert (book_of(wire).drifts, book_of(wire).bids()) == (1, BIDS)
    assert drifts_logged(logged) == [{"venue": "lighter", "symbol": "BTC-PERP", "found_by": "refresh"}]


def test_checksum_of_another_state_proves_nothing(wire: Wire) -> None:
    reported = HeartbeatBook(wire.seqs[TOPIC] + 1, None, True, 0, 12345)
    wire.send("heartbeat", Heartbeat("lighter", None, None, None, {}, {"BTC-PERP": reported}, 0, 0), "")
    assert book_of(wire).usable


def test_heartbeat_of_books_that_are_not_followed_asks_for_none(state: FeedState) -> None:
    wire = Wire(state)
    wire.snapshot(lost=True)
    wire.beat()
    assert state.snapshot_requests() == []
    assert state.books(wire.now_ns) == []


# --- silence, deaths, lives ---------------------------------------------------------------------------------------


def test_silence_of_three_seconds_hides_books_and_a_heartbeat_shows_them_again(wire: Wire) -> None:
    wire.now_ns += int(HEARTBEAT_LOST_S * SECOND)
    assert book_of(wire).usable
    wire.now_ns += 1
    assert book_of(wire).reason == "heartbeat_lost"
    wire.change([("97", "3")])
    assert [book.reason for book in wire.state.books(wire.now_ns)] == ["heartbeat_lost"]
    wire.beat()
    assert book_of(wire).usable
    assert book_of(wire).drifts == 0


@pytest.mark.parametrize("is_asked_for", [True, False])
def test_book_that_is_first_heard_of_during_a_silence_is_hidden_too(wire: Wire, *, is_asked_for: bool) -> None:
    wire.now_ns += int(HEARTBEAT_LOST_S * SECOND) + 1
    if is_asked_for:
        assert wire.state.book("lighter", "ETH-PERP", wire.now_ns).reason == "heartbeat_lost"
    wire.send("book", BookSnapshot("lighter", "ETH-PERP", "2", None, BIDS, ASKS, None, None), "ETH-PERP")
    (eth,) = [book for book in wire.state.books(wire.now_ns) if book.symbol == "ETH-PERP"]
    assert eth.reason == "heartbeat_lost"
    wire.beat()
    assert eth.usable


def test_silence_of_one_venue_hides_no_book_of_another(wire: Wire) -> None:
    other = Wire(wire.state, "aster")
    other.snapshot()
    for one in (wire, other):
        one.now_ns += 4 * SECOND
    other.beat()
    assert book_of(wire).reason == "heartbeat_lost"
    assert book_of(other).usable


def test_book_that_a_consumer_holds_hides_while_other_venues_talk(wire: Wire) -> None:
    book = book_of(wire)
    other = Wire(wire.state, "aster", wire.now_ns + 60 * SECOND)
    other.snapshot()
    other.beat()
    assert not book.usable


def reported(process: str, event: str, mono_ns: int) -> Lifecycle:
    made = Lifecycle(process, None, None, None, event, None, 1, 1, None, None, None, 0, 0, None)
    made.recv_mono_ns, made.recv_ns = mono_ns, mono_ns + WALL_NS
    return made


@pytest.fixture
def gateway(state: FeedState) -> Wire:
    return Wire(state, "lifecycle")


def tell(gateway: Wire, event: Lifecycle) -> list[Event]:
    topic = f"lifecycle.{event.venue}"
    gateway.seqs[topic] = gateway.seqs.get(topic, 0) + 1
    event.epoch, event.seq = 50, gateway.seqs[topic]
    return gateway.state.handle([topic.encode(), encode(event)], gateway.now_ns)


def test_books_of_a_worker_that_exited_are_void_at_once(wire: Wire, gateway: Wire) -> None:
    assert kinds(tell(gateway, reported("lighter", "exited", wire.now_ns + 1))) == [Lifecycle]
    assert book_of(wire).reason == WORKER_EXITED
    wire.restart()
    wire.now_ns += SECOND
    wire.snapshot()
    assert book_of(wire).usable


def test_exit_that_is_reported_late_does_not_invalidate_what_the_next_worker_has_sent(
    wire: Wire, gateway: Wire
) -> None:
    exit_ns = wire.now_ns + 1
    wire.restart()
    wire.now_ns += SECOND
    wire.snapshot()
    tell(gateway, reported("lighter", "exited", exit_ns))
    assert book_of(wire).usable


def test_what_a_dead_worker_sent_before_its_exit_and_is_read_behind_it_shows_no_book(wire: Wire, gateway: Wire) -> None:
    sent_ns, wire.now_ns = wire.now_ns, wire.now_ns + SECOND
    tell(gateway, reported("lighter", "exited", sent_ns + 1))
    left_behind = BookSnapshot("lighter", "BTC-PERP", "1", None, BIDS, ASKS, None, None)
    left_behind.recv_mono_ns = sent_ns
    wire.send("book", left_behind)
    wire.beat()
    assert book_of(wire).reason == WORKER_EXITED


@pytest.mark.parametrize("change", ["boot", "clock set back", "replay"])
def test_time_that_goes_back_after_an_exit_does_not_make_the_living_dead(
    wire: Wire, gateway: Wire, change: str
) -> None:
    """The clocks of a snapshot are those of the machine that is read, and of a recording those of its time."""
    exit_ns = wire.now_ns + SECOND
    tell(gateway, reported("lighter", "exited", exit_ns))
    wire.restart()
    snapshot = BookSnapshot("lighter", "BTC-PERP", "1", None, BIDS, ASKS, None, None)
    match change:
        case "boot":
            snapshot.recv_mono_ns, snapshot.recv_ns = SECOND, exit_ns + WALL_NS + SECOND
        case "clock set back":
            snapshot.recv_mono_ns, snapshot.recv_ns = exit_ns + SECOND, WALL_NS
        case _:
            snapshot.recv_mono_ns, snapshot.recv_ns, snapshot.flags = SECOND, WALL_NS, ("replay",)
    wire.send("book", snapshot)
    assert book_of(wire).usable


@pytest.mark.parametrize(
    ("process", "event"), [("lighter", "started"), ("lighter", "stale"), ("aster", "exited"), ("gateway", "exited")]
)
def test_what_else_happens_to_processes_touches_no_book(wire: Wire, gateway: Wire, process: str, event: str) -> None:
    tell(gateway, reported(process, event, wire.now_ns + 1))
    assert book_of(wire).usable


def test_last_lifecycle_event_is_kept_by_process(gateway: Wire) -> None:
    tell(gateway, reported("lighter", "exited", 1))
    tell(gateway, reported("aster", "live", 2))
    event = gateway.state.latest("lifecycle", "lighter", "")
    assert isinstance(event, Lifecycle)
    assert event.event == "exited"


@pytest.mark.parametrize("first", ["trade", "beat", "change", "snapshot"])
def test_new_life_voids_all_that_was_known_of_the_venue(wire: Wire, first: str) -> None:
    other = Wire(wire.state, "aster")
    other.snapshot()
    wire.mark("1")
    wire.restart()
    match first:
        case "trade":
            wire.trade(1)
        case "beat":
            wire.beat()
        case "change":
            wire.change([("97", "1")])
        case "snapshot":
            wire.snapshot([("50", "1")], [])
    assert book_of(wire).reason == (None if first == "snapshot" else NO_SNAPSHOT)
    assert wire.state.latest("mark", *BTC) is None
    assert book_of(other).usable
    assert wire.state.lost == 0


def test_zombie_is_not_listened_to(wire: Wire) -> None:
    zombie = Wire(wire.state)
    zombie.epoch = 0
    assert zombie.snapshot([("1", "1")], []) == zombie.trade(1) == zombie.mark("9") == zombie.beat() == []
    assert wire.state._publishers["lighter"].sequence.stale == 4
    assert book_of(wire).bids() == BIDS


def test_zombie_keeps_no_book_alive(wire: Wire) -> None:
    zombie = Wire(wire.state)
    zombie.epoch = 0
    wire.now_ns += 4 * SECOND
    zombie.now_ns = wire.now_ns
    zombie.beat()
    assert book_of(wire).reason == "heartbeat_lost"


def test_older_life_is_adopted_when_nothing_else_is_heard(wire: Wire) -> None:
    older = Wire(wire.state)
    older.epoch = 0
    older.now_ns += 5 * SECOND
    older.snapshot([("1", "1")], [])
    older.beat()
    assert book_of(older).bids() == [("1", "1")]


# --- the top of all venues ----------------------------------------------------------------------------------------


def test_top_shows_every_venue_that_has_the_symbol_with_ages_and_reasons(wire: Wire) -> None:
    other = Wire(wire.state, "aster")
    other.snapshot([("98", "1")], [])
    assert wire.state.top("BTC-PERP", wire.now_ns + 2 * MS) == [
        Top("lighter", ("99", "1"), ("100", "1"), 2.0, None),
        Top("aster", ("98", "1"), None, 2.0, None),
    ]
    wire.gap()
    assert wire.state.top("BTC-PERP", wire.now_ns + 4_000 * MS) == [
        Top("lighter", None, None, 4_000.0, "heartbeat_lost"),
        Top("aster", None, None, 4_000.0, "heartbeat_lost"),
    ]
    assert wire.state.top("ETH-PERP", wire.now_ns) == []


# --- rubbish ------------------------------------------------------------------------------------------------------

TRADE = encode(Trade("lighter", "BTC-PERP", "1", None, "1", "2", "buy", "1"))


def test_book_of_which_a_message_cannot_be_read_is_lost_at_once(wire: Wire) -> None:
    (gap,) = wire.state.handle([TOPIC.encode(), b'{"kind":"book_delta","bids":5}'], wire.now_ns)
    assert isinstance(gap, Gap)
    assert (gap.reason, gap.expected, gap.epoch) == (Reason.SEQ_GAP, 2, 0)
    assert wire.state.book(*BTC, wire.now_ns).reason == "seq_gap"
    assert wire.state.snapshot_requests() == [TOPIC]


@pytest.mark.parametrize(
    "parts",
    [
        [],
        [b"trade.lighter.BTC-PERP"],
        [b"trade.lighter.BTC-PERP", TRADE, b"more"],
        [b"trade.lighter.BTC-PERP", b"{"],
        [b"trade.lighter.BTC-PERP", b'{"kind":"trade"}'],
        [b"trade.lighter.\xff", TRADE],
        [b"trade", TRADE],
        [b"trade.paradex.BTC-PERP", TRADE],
    ],
    ids=["no part", "one part", "three parts", "no JSON", "no event", "no text", "no topic", "no venue of ours"],
)
def test_malformed_message_is_counted_and_not_delivered(wire: Wire, logged, parts: list[bytes]) -> None:
    assert wire.state.handle(parts, wire.now_ns) == []
    assert wire.state.malformed == 1
    assert logged.events == ["feed.malformed"]
    assert book_of(wire).usable


def test_kind_of_a_newer_schema_is_passed_over(wire: Wire) -> None:
    assert wire.state.handle([b"trade.lighter.BTC-PERP", b'{"kind":"candle","epoch":9,"seq":1}'], wire.now_ns) == []
    assert wire.state.malformed == 0
    assert book_of(wire).usable


def test_event_of_another_kind_on_a_books_topic_leaves_the_book_alone(wire: Wire) -> None:
    event = Mark("lighter", "BTC-PERP", "1", None, "1", None, None, None, None)
    assert kinds(wire.send("book", event)) == [Mark]
    assert book_of(wire).bids() == BIDS


@pytest.mark.parametrize("flags", [(), ("refresh",)])
def test_level_that_is_none_deep_in_a_snapshot_is_a_fault_and_no_error(wire: Wire, flags: tuple[str, ...]) -> None:
    whole = BookSnapshot("lighter", "BTC-PERP", "1", None, [*BIDS, ("abc", "1")], ASKS, None, None)
    whole.flags = flags  # type: ignore[assignment]
    wire.send("book", whole)
    wire.beat()
    assert not book_of(wire).usable


# --- whatever is lost ---------------------------------------------------------------------------------------------

levels = st.lists(
    st.tuples(st.integers(1, 12).map(str), st.sampled_from(["0", "1", "1.0", "2.50"])), min_size=1, max_size=3
)
steps = st.lists(
    st.one_of(
        st.tuples(st.sampled_from(["change", "snapshot"]), levels),
        st.tuples(st.sampled_from(["refresh", "rest", "gap", "trade", "beat", "restart"]), st.just([])),
    ),
    max_size=40,
)


class HonestWire(Wire):
    """A worker that keeps the contract, and remembers what its book was at every number."""

    def __init__(self, state: FeedState, draw_loss) -> None:
        super().__init__(state)
        self.draw_loss = draw_loss
        #: By (epoch, seq) of the event that made it; None where it was unusable.
        self.history: dict[tuple[int, int], tuple[list[Level], list[Level]] | None] = {}
        self.trades = 0

    def send(self, channel: str, event: Event, symbol: str = "BTC-PERP", *, lost: bool = False) -> list[Event]:
        if channel == "book":
            state = (self.book.bids(), self.book.asks()) if self.usable else None
            self.history[self.epoch, self.seqs.get(TOPIC, 0) + 1] = state
        return super().send(channel, event, symbol, lost=lost or self.draw_loss())

    def do(self, what: str, bids: list[Level]) -> None:
        match what:
            case "change" if self.usable:
                self.change(bids)
            case "snapshot":
                whole = OrderBook()
                whole.apply(bids, [])
                self.snapshot(whole.bids(), [("1000", "1")])
            case "refresh" if self.usable:
                self.snapshot(self.book.bids(), self.book.asks(), "refresh")
            case "rest":
                self.snapshot([("500", "1")], [], "rest")
            case "gap" if self.usable:
                self.gap()
            case "trade":
                self.trades += 1
                self.trade(self.trades)
            case "beat":
                self.beat()
            case "restart":
                self.restart()


@settings(max_examples=300)
@given(steps=steps, data=st.data())
def test_whatever_is_lost_a_usable_book_is_the_workers_book(steps, data) -> None:
    state = FeedState(["lighter"], 0)
    losing = True
    wire = HonestWire(state, lambda: losing and data.draw(st.integers(0, 3)) == 0)
    for what, bids in steps:
        wire.do(what, bids)
        assert_never_wrong(wire)
    losing = False
    wire.beat()
    assert_never_wrong(wire)
    if book_of(wire).usable:
        sequence = state._publishers["lighter"].sequence
        assert (sequence.epoch, sequence.last(TOPIC)) == (wire.epoch, wire.seqs[TOPIC])
    elif wire.usable and TOPIC in state._requested_ns:
        wire.do("refresh", [])
        assert book_of(wire).usable
        assert_never_wrong(wire)
    assert book_of(wire).drifts == 0


def assert_never_wrong(wire: HonestWire) -> None:
    with suppress(BookUnusableError):
        shown = book_of(wire).bids(), book_of(wire).asks()
        sequence = wire.state._publishers["lighter"].sequence
        seq = sequence.last(TOPIC)
        assert seq is not None
        true = wire.history[sequence.epoch, seq]
        assert true is not None
        assert [plainly(side) for side in shown] == [plainly(side) for side in true]


# --- lives, deaths and late messages ------------------------------------------------------------------------------

acts = st.lists(
    st.one_of(
        st.tuples(st.sampled_from(["change", "snapshot"]), levels),
        st.tuples(st.sampled_from(["refresh", "gap", "beat", "die", "wait"]), st.just([])),
    ),
    max_size=40,
)


class Lives:
    """Epochs of a worker, each with its own pipe, and the gateway's; the state reads them on request.

    A pipe keeps its order, and nothing keeps the order between pipes: what a dead worker left in its pipe may be read
    behind the news of its death, and between the messages of the next.
    """

    def __init__(self, state: FeedState, draw) -> None:
        self.state = state
        self.draw = draw
        self.pipes: dict[str, list[list[bytes]]] = {}
        self.exits_reported = 0
        self.wire = HonestWire(self, lambda: draw(st.integers(0, 5)) == 0)  # type: ignore[arg-type]
        self.wire.now_ns = SECOND
        self.deaths = 0

    def handle(self, parts: list[bytes], now_ns: int) -> list[Event]:  # noqa: ARG002
        """What the worker sends waits in the pipe of its life."""
        self.pipes.setdefault(f"life {self.wire.epoch}", []).append(parts)
        return []

    def die(self) -> None:
        """The parent sees it, and another worker starts."""
        self.wire.now_ns += MS
        self.deaths += 1
        exited = reported("lighter", "exited", self.wire.now_ns)
        exited.epoch, exited.seq = 50, self.deaths
        self.pipes.setdefault("gateway", []).append([b"lifecycle.lighter", encode(exited)])
        self.wire.restart()
        self.wire.now_ns += MS

    def read_one(self, name: str) -> None:
        """The state reads the next message of a pipe."""
        head, payload = self.pipes[name].pop(0)
        event = decode(payload)
        assert event is not None
        self.state.handle([head, payload], self.wire.now_ns)
        if isinstance(event, Lifecycle):
            self.exits_reported = event.recv_mono_ns

    def do(self, what: str, bids: list[Level]) -> None:
        self.wire.now_ns += MS
        match what:
            case "die":
                self.die()
            case "wait":
                self.wire.now_ns += SECOND
            case _:
                self.wire.do(what, bids)
        while waiting := [name for name, pipe in self.pipes.items() if pipe]:
            name = self.draw(st.sampled_from([*waiting, ""]))
            if not name:
                break
            self.read_one(name)
            self.assert_never_wrong()

    def assert_never_wrong(self) -> None:
        book = self.state.book("lighter", "BTC-PERP", self.wire.now_ns)
        if not book.usable:
            return
        sequence = self.state._publishers["lighter"].sequence
        true = self.wire.history[sequence.epoch, sequence.last(TOPIC) or 0]
        assert true is not None
        assert [plainly(book.bids()), plainly(book.asks())] == [plainly(side) for side in true]
        assert book.recv_mono_ns > self.exits_reported


@settings(max_examples=300)
@given(acts=acts, data=st.data())
def test_whatever_is_read_late_a_usable_book_is_that_of_a_worker_not_known_to_be_dead(acts, data) -> None:
    state = FeedState(["lighter"], SECOND)
    lives = Lives(state, data.draw)
    for what, bids in acts:
        lives.do(what, bids)
    for name in ("gateway", *sorted(lives.pipes)):
        while lives.pipes.get(name):
            lives.read_one(name)
            lives.assert_never_wrong()
    lives.wire.draw_loss = lambda: False
    lives.wire.do("snapshot", [("5", "1")])
    lives.wire.beat()
    for _ in range(2):
        lives.read_one(f"life {lives.wire.epoch}")
    assert state.book("lighter", "BTC-PERP", lives.wire.now_ns).usable
    lives.assert_never_wrong()


# --- a machine that was suspended ---------------------------------------------------------------------------------


def sleep(wire: Wire) -> None:
    """The machine is suspended; the monotonic clock hardly moves."""
    wire.now_ns += MS
    wire.state.handle_resume(wire.now_ns, wire.now_ns + WALL_NS)
    wire.now_ns += MS


def test_suspension_makes_every_book_unusable_until_a_snapshot(wire: Wire) -> None:
    held = book_of(wire)
    sleep(wire)
    assert (held.usable, held.reason) == (False, "suspended")
    wire.change([("97", "1")])
    assert held.reason == "suspended"
    wire.snapshot()
    assert held.usable


def test_what_was_in_the_pipe_before_a_suspension_makes_no_book_usable(wire: Wire, state: FeedState) -> None:
    sleep(wire)
    read_ns = wire.now_ns - 10 * MS
    for symbol in ("BTC-PERP", "ETH-PERP"):
        old = BookSnapshot(wire.venue, symbol, "1", None, BIDS, ASKS, None, None)
        old.recv_mono_ns = read_ns
        wire.send("book", old, symbol)
        assert state.book(wire.venue, symbol, wire.now_ns).reason == "suspended"
    wire.change([("97", "1")])
    assert state.snapshot_requests() == [TOPIC]


def test_refresh_of_what_a_worker_held_before_the_suspension_is_from_before(wire: Wire) -> None:
    sleep(wire)
    refresh = BookSnapshot(wire.venue, "BTC-PERP", "1", None, BIDS, ASKS, None, None)
    refresh.flags, refresh.recv_mono_ns = ("refresh",), wire.now_ns - 3 * MS
    wire.send("book", refresh)
    assert book_of(wire).reason == "suspended"
    wire.snapshot(BIDS, ASKS, "refresh")
    assert book_of(wire).usable


def test_heartbeat_after_a_suspension_asks_for_the_snapshots(wire: Wire) -> None:
    wire.state.snapshot_requests()
    sleep(wire)
    wire.beat()
    assert wire.state.snapshot_requests() == [TOPIC]


def test_events_of_another_machine_are_judged_by_the_wall_clock() -> None:
    state = FeedState(["lighter"], 1_000 * SECOND, is_remote=True)
    wire = Wire(state)
    wire.snapshot()
    state.handle_resume(1_000 * SECOND, 5_000 * SECOND + WALL_NS)
    wire.snapshot()
    assert book_of(wire).reason == "suspended"
    event = BookSnapshot("lighter", "BTC-PERP", "1", None, BIDS, ASKS, None, None)
    event.recv_mono_ns, event.recv_ns = 7, 5_001 * SECOND + WALL_NS
    wire.send("book", event)
    assert book_of(wire).usable


# --- books that are none ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "bids",
    [
        [("98", "1"), ("99", "1")],
        [("99", "1"), ("99.0", "1")],
        [("99", "0")],
        [("NaN", "1")],
        [("99", "1_0")],
        [("", "")],
    ],
)
def test_invalid_snapshot_is_a_fault_that_asks_for_another(wire: Wire, bids: list[Level]) -> None:
    wire.state.snapshot_requests()
    event = BookSnapshot(wire.venue, "BTC-PERP", "1", None, bids, ASKS, None, None)
    assert kinds(wire.send("book", event)) == [BookSnapshot]
    assert book_of(wire).reason == "bad_level"
    assert wire.state.snapshot_requests() == [TOPIC]
    wire.snapshot()
    assert book_of(wire).usable


# --- a venue that an operator stopped, and losses in the log ----------------------------------------------------------


def silent(wire: Wire) -> None:
    """Let the heartbeat be missed."""
    wire.now_ns += 4 * SECOND
    wire.state.check_silence(wire.now_ns)


def test_books_of_a_stopped_venue_say_so_until_it_starts(wire: Wire, gateway: Wire) -> None:
    for event in ("exited", "stopped"):
        tell(gateway, reported("lighter", event, wire.now_ns + 1))
    assert book_of(wire).reason == "worker_exited"
    silent(wire)
    assert (book_of(wire).usable, book_of(wire).reason) == (False, "stopped")
    wire.state.set_silence_reason("lighter", "unreachable")
    assert book_of(wire).reason == "stopped", "which explains an address where nobody listens"
    tell(gateway, reported("lighter", "started", wire.now_ns))
    assert book_of(wire).reason == "unreachable"
    wire.state.set_silence_reason("lighter", None)
    assert book_of(wire).reason == "heartbeat_lost"


def test_books_of_a_venue_that_is_stopped_while_it_is_silent_say_so_at_once(wire: Wire, gateway: Wire) -> None:
    book = book_of(wire)
    silent(wire)
    assert book.reason == "heartbeat_lost"
    tell(gateway, reported("lighter", "stopped", wire.now_ns))
    assert book.reason == "stopped"


def test_a_loss_is_logged_with_the_name_of_the_consumer(caplog: pytest.LogCaptureFixture) -> None:
    wire = Wire(FeedState(["lighter"], 1_000 * SECOND, consumer="quoter"))
    wire.snapshot()
    for _ in range(3):
        wire.change([("97", "1")], lost=True)
    wire.change([("95", "1")])
    wire.trade(1)
    wire.trade(2, lost=True)
    wire.beat()
    wire.now_ns += 11 * SECOND
    wire.beat()
    lines = [record.fields for record in caplog.records if record.getMessage() == "feed.lost"]
    assert lines == [
        {"consumer": "quoter", "venue": "lighter", "topic": TOPIC, "lost": 3},
        {"consumer": "quoter", "venue": "lighter", "topic": "trade.lighter.BTC-PERP", "lost": 1},
    ]
