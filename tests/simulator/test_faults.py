"""Every fault at every supported venue, seen by a client that follows a book."""

from __future__ import annotations

import itertools

import msgspec
import pytest

from ipc.errors import UsageError
from ipc.topics import VENUES
from simulator.faults import FAULTS
from simulator.listener import AcceptMode
from simulator.wire import UpgradeRefusal

WITH_DELTAS = ("aster", "extended", "lighter", "paradex")
PATHS = {"hyperliquid": "/ws", "aster": "/ws/btcusdt@depth@100ms", "lighter": "/stream", "paradex": "/v1"}
REQUESTS = {
    "hyperliquid": {"method": "subscribe", "subscription": {"type": "l2Book", "coin": "BTC", "fast": True}},
    "lighter": {"type": "subscribe", "channel": "order_book/1"},
    "paradex": {
        "jsonrpc": "2.0",
        "method": "subscribe",
        "params": {"channel": "order_book.BTC-USD-PERP.deltas"},
        "id": 1,
    },
}
REST = {
    "hyperliquid": "/info",
    "aster": "/fapi/v3/time",
    "extended": "/api/v1/info/markets",
    "lighter": "/api/v1/orderBooks",
    "paradex": "/v1/markets",
}


class Follower:
    """Client that follows the book of BTC."""

    def __init__(self, stage, books, *, is_binary=False):
        self.stage, self.name, self.is_binary = stage, stage.venue.name, is_binary
        self.book = getattr(books, f"{self.name.capitalize()}Book")()
        path = PATHS.get(self.name, "/stream.extended.exchange/v1/orderbooks/BTC-USD")
        query = {"sbeSchemaId": "1", "sbeSchemaVersion": "1"} if is_binary else {}
        self.client = stage.connect(path, **query)
        self.subscribe()
        stage.run(1)
        self.take()
        if self.name == "aster":
            self.book.join(stage.get("/fapi/v3/depth", symbol="BTCUSDT", limit="1000"))
            stage.run(1)
            self.take()

    def subscribe(self):
        if self.name in REQUESTS:
            self.client.say(REQUESTS[self.name])

    def take(self):
        """Apply received messages; return the number of book frames."""
        before = self.book.frames
        for frame in self.client.raw():
            if frame.is_binary:
                self.book.feed_sbe(frame.payload)
            elif frame.payload[:1] == b"{":
                message = msgspec.json.decode(frame.payload)
                if self.name != "extended" or "seq" in message:
                    self.book.feed(message)
        return self.book.frames - before

    def is_true(self):
        bids, asks = self.stage.book("BTC-PERP")
        if self.name == "hyperliquid":
            bids = {price: bids[price] for price in sorted(bids, reverse=True)[:5]}
            asks = {price: asks[price] for price in sorted(asks)[:5]}
        return (self.book.bids, self.book.asks) == (bids, asks)


@pytest.fixture(params=VENUES)
def stage(request, new_stage):
    return new_stage(request.param)


@pytest.fixture
def follower(stage, books):
    return Follower(stage, books)


@pytest.fixture(params=WITH_DELTAS)
def chained(request, new_stage, books):
    return Follower(new_stage(request.param), books)


def request(stage):
    body = {"type": "meta"} if stage.venue.name == "hyperliquid" else None
    return stage.ask(REST[stage.venue.name], "POST" if body else "GET", body)


# stall


def test_a_stall_affects_data_only(stage, follower):
    stage.fault("stall")
    stage.run(5)
    assert follower.take() == 0
    assert follower.client.wire.close_code is None
    assert request(stage).status == 200


def test_a_stall_leaves_a_gap_when_it_ends(chained, books):
    chained.stage.fault("stall", duration_s=3)
    chained.stage.run(6)
    with pytest.raises(books.GapError):
        chained.take()


def test_a_stall_affects_new_connections(stage, books):
    stage.fault("stall")
    follower = Follower(stage, books)
    assert follower.book.frames == 0


def test_a_stall_can_spare_new_connections(stage, books):
    before = Follower(stage, books)
    stage.fault("stall", only_open=True)
    before.take()
    after = Follower(stage, books)
    stage.run(7)
    assert [outgoing for outgoing in before.client.raw() if b"pong" not in outgoing.payload] == []
    assert after.client.raw()


def test_acknowledgements_and_pongs_continue_in_a_stall(new_stage):
    stage = new_stage("hyperliquid")
    client = stage.connect("/ws")
    client.raw()
    stage.fault("stall")
    client.say(REQUESTS["hyperliquid"])
    client.say({"method": "ping"})
    assert [message["channel"] for message in client.heard()] == ["subscriptionResponse", "pong"]


def test_a_stall_of_one_stream_or_market_does_not_affect_others(new_stage):
    stage = new_stage("lighter")
    client = stage.connect("/stream")
    for channel in ("order_book/1", "ticker/1", "order_book/0"):
        client.say({"type": "subscribe", "channel": channel})
    client.raw()

    def channels():
        stage.run(5)
        return {message["channel"] for message in client.heard()}

    number = stage.fault("stall", stream="book", symbol="BTC-PERP")
    assert number > 0
    assert channels() == {"ticker:1", "order_book:0"}
    stage.controller.clear(stage.venue)
    stage.fault("stall", stream="bbo")
    assert channels() == {"order_book:1", "order_book:0"}


# drop_delta


def test_a_dropped_delta_is_a_gap(chained, books):
    chained.stage.fault("drop_delta")
    chained.stage.run(3)
    with pytest.raises(books.GapError):
        chained.take()


def test_each_subscriber_loses_the_requested_number_of_deltas(new_stage, books):
    stage = new_stage("lighter")
    followers = [Follower(stage, books) for _ in range(2)]
    untouched = Follower(stage, books)
    untouched.client.say({"type": "unsubscribe", "channel": "order_book/1"})
    untouched.client.say({"type": "subscribe", "channel": "order_book/0"})
    for follower in followers:
        follower.take()
    stage.fault("drop_delta", symbol="BTC-PERP", count=3)
    stage.run(5)
    nonces = []
    for follower in followers:
        chain = [m["order_book"] for m in follower.client.heard() if "order_book" in m]
        nonces.append([book["begin_nonce"] for book in chain])
        assert chain[0]["begin_nonce"] != follower.book.nonce
        assert all(after["begin_nonce"] == before["nonce"] for before, after in itertools.pairwise(chain))
    assert nonces[0] == nonces[1]
    assert len(untouched.client.raw()) > 10
    assert not stage.controller.describe()["active"]


def test_where_there_are_no_deltas_the_book_is_silent_for_a_while(new_stage, books):
    follower = Follower(new_stage("hyperliquid"), books)
    follower.stage.fault("drop_delta", count=2)
    follower.stage.run(4.9)
    assert follower.take() == 0
    follower.stage.run(1.2)
    assert follower.take() > 0


# other faults of the data


def test_garbage_cannot_be_decoded(stage, follower):
    follower.take()
    stage.fault("garbage", count=2)
    frames = follower.client.raw()[-2:]
    for frame in frames:
        with pytest.raises(ValueError, match=r"JSON|character"):
            msgspec.json.decode(frame.payload)


def test_binary_garbage_has_a_valid_header_and_is_truncated(new_stage, books):
    follower = Follower(new_stage("paradex"), books, is_binary=True)
    follower.stage.fault("garbage")
    (frame,) = [frame for frame in follower.client.raw() if frame.is_binary][-1:]
    assert frame.payload[:8] == bytes.fromhex("5900030001000100")
    with pytest.raises(Exception, match=r"unpack"):
        books.decode_sbe(frame.payload)


def test_duplicates_repeat_a_frame(stage, follower):
    stage.fault("duplicate_delta", count=2)
    stage.run(3)
    payloads = [frame.payload for frame in follower.client.raw()]
    assert sum(before == after for before, after in itertools.pairwise(payloads)) >= 2


def test_reordering_swaps_neighbours_and_loses_nothing(chained, new_stage, books):
    calm = Follower(new_stage(chained.name), books)
    chained.stage.fault("reorder_delta", symbol="BTC-PERP")
    for follower in (chained, calm):
        follower.stage.run(3)
    swapped = [frame.payload for frame in chained.client.raw()]
    straight = [frame.payload for frame in calm.client.raw()]
    assert len(swapped) == len(straight)
    assert swapped != straight
    if chained.name == "paradex":
        assert [swapped[1], swapped[0], *swapped[2:]] == straight


@pytest.mark.parametrize("name", VENUES)
def test_a_corrupt_delta_has_an_invalid_price(new_stage, books, name):
    follower = Follower(new_stage(name), books)
    follower.stage.fault("corrupt_delta")
    follower.stage.run(3)
    with pytest.raises(ValueError, match="rubbish"):
        follower.take()


def test_a_corrupt_binary_delta_has_a_null_price(new_stage, books):
    follower = Follower(new_stage("paradex"), books, is_binary=True)
    follower.stage.fault("corrupt_delta")
    follower.stage.run(3)
    events = [books.decode_sbe(frame.payload) for frame in follower.client.raw() if frame.is_binary]
    assert sum(price == -(2**63) for event in events for price, _ in event["bids"] + event["asks"]) == 1


@pytest.mark.parametrize(("name", "is_binary"), [*((name, False) for name in VENUES), ("paradex", True)])
def test_a_crossed_book_is_sent_though_it_is_not_true(new_stage, books, name, is_binary):
    follower = Follower(new_stage(name), books, is_binary=is_binary)
    follower.stage.fault("crossed_book", symbol="BTC-PERP")
    crossed = False
    for _ in range(100):
        follower.stage.run(0.05)
        follower.take()
        crossed = crossed or follower.book.is_crossed()
    assert crossed
    bids, asks = follower.stage.book("BTC-PERP")
    assert max(bids) < min(asks)


def test_huge_and_undecodable_frames(stage, follower):
    follower.take()
    stage.fault("huge_frame", size=1000)
    stage.fault("invalid_utf8", count=2)
    huge, *rest = [frame.payload for frame in follower.client.raw()]
    assert len(huge) == 1002
    assert len(rest) == 2
    with pytest.raises(UnicodeDecodeError):
        rest[0].decode()


def test_a_wrong_schema_affects_binary_data_only(new_stage, books):
    follower = Follower(new_stage("paradex"), books, is_binary=True)
    follower.stage.fault("wrong_schema", duration_s=2)
    follower.stage.run(4)
    schemas = {books.decode_sbe(frame.payload)["schema"] for frame in follower.client.raw() if frame.is_binary}
    assert schemas == {1, 99}
    with pytest.raises(UsageError, match="wrong_schema"):
        new_stage("lighter").fault("wrong_schema")


# sockets


@pytest.mark.parametrize(("arguments", "code"), [({}, 1001), ({"code": 4000}, 4000)])
def test_close_closes_all_sockets(stage, follower, arguments, code):
    other = stage.connect(follower.client.session.upgrade.path)
    stage.fault("close", **arguments)
    assert follower.client.wire.close_code == other.wire.close_code == code
    assert not stage.controller.describe()["active"]


def test_close_can_carry_any_text(stage, follower):
    stage.fault("close", text="no\x1b]0;x\x07\n")
    assert follower.client.wire.close_text == "no\x1b]0;x\x07\n"


def test_close_with_code_0_drops_without_a_close_frame(stage, follower):
    stage.fault("close", code=0)
    assert follower.client.wire.is_aborted
    assert follower.client.wire.close_code is None


class FakeListener:
    def __init__(self):
        self.is_open = True
        self.accept_mode = AcceptMode.NORMAL

    def shut(self):
        self.is_open = False

    def open(self):
        self.is_open = True


def test_refuse_closes_sockets_and_the_port_until_the_last_such_fault_is_over(stage, follower):
    stage.venue.listeners["ws"] = listener = FakeListener()
    stage.fault("refuse", duration_s=2)
    stage.fault("refuse", duration_s=4)
    assert follower.client.wire.close_code == 1001
    assert not listener.is_open
    stage.run(3)
    assert not listener.is_open
    stage.run(2)
    assert listener.is_open


@pytest.fixture
def ports(new_stage):
    """Return a stage whose venue has TLS on two ports."""
    stage = new_stage("lighter", tls=True, ca_path="ca.pem")
    stage.venue.listeners.update(ws=FakeListener(), rest=FakeListener())
    return stage


def receptions(stage):
    return [listener.accept_mode for listener in stage.venue.listeners.values()]


@pytest.mark.parametrize(
    ("fault", "accept_mode"),
    [
        ("tls_hang", AcceptMode.SILENT),
        ("tls_bad_certificate", AcceptMode.UNKNOWN_AUTHORITY),
        ("tls_expired", AcceptMode.EXPIRED),
    ],
)
def test_accept_faults_affect_both_ports_for_a_while(ports, books, fault, accept_mode):
    follower = Follower(ports, books)
    ports.fault(fault, duration_s=2)
    assert receptions(ports) == [accept_mode, accept_mode]
    ports.run(1)
    assert follower.take() > 0
    ports.run(2)
    assert receptions(ports) == [AcceptMode.NORMAL, AcceptMode.NORMAL]
    assert not follower.client.wire.is_aborted


@pytest.mark.parametrize(("port", "affected"), [("ws", 0), ("rest", 1)])
def test_an_accept_fault_can_be_limited_to_a_port(ports, port, affected):
    ports.fault("tls_expired", port=port)
    received = receptions(ports)
    assert received.pop(affected) is AcceptMode.EXPIRED
    assert received == [AcceptMode.NORMAL]


def test_an_accept_fault_can_drop_existing_connections(ports, books):
    follower = Follower(ports, books)
    ports.fault("tls_hang", cut=True)
    assert follower.client.wire.is_aborted


def test_the_latest_of_several_accept_faults_applies_and_each_ends_separately(ports):
    ports.fault("tls_expired", duration_s=5)
    ports.fault("tls_hang", port="ws", duration_s=1)
    ports.fault("tls_bad_certificate", duration_s=3)
    assert receptions(ports) == [AcceptMode.UNKNOWN_AUTHORITY, AcceptMode.UNKNOWN_AUTHORITY]
    ports.run(2)
    assert receptions(ports) == [AcceptMode.UNKNOWN_AUTHORITY, AcceptMode.UNKNOWN_AUTHORITY]
    ports.run(2)
    assert receptions(ports) == [AcceptMode.EXPIRED, AcceptMode.EXPIRED]
    ports.run(2)
    assert receptions(ports) == [AcceptMode.NORMAL, AcceptMode.NORMAL]


def test_without_tls_only_the_hang_is_available(stage):
    stage.venue.listeners["ws"] = FakeListener()
    for fault in ("tls_bad_certificate", "tls_expired"):
        with pytest.raises(UsageError, match="needs TLS") as refused:
            stage.fault(fault)
        assert refused.value.advice
    assert not stage.venue.hooks
    stage.fault("tls_hang")
    assert receptions(stage) == [AcceptMode.SILENT]


def test_an_upgrade_error_affects_new_connections_only(stage, follower):
    stage.fault("upgrade_error", status=429, duration_s=2)
    assert stage.knock(follower.client.session.upgrade.path) == UpgradeRefusal(429)
    assert follower.client.wire.close_code is None
    stage.run(3)
    stage.connect(follower.client.session.upgrade.path)


def test_half_open_freezes_existing_connections_and_resets_them_in_the_end(stage, follower):
    stage.fault("half_open")
    later = stage.connect(follower.client.session.upgrade.path)
    assert follower.client.wire.is_frozen
    assert not later.wire.is_frozen
    stage.controller.clear(stage.venue)
    assert follower.client.wire.is_aborted
    assert not later.wire.is_aborted


def test_no_pong_silences_pings_of_both_kinds(stage, follower):
    stage.fault("no_pong", duration_s=3)
    later = stage.connect(follower.client.session.upgrade.path)
    assert follower.client.wire.mute_pongs
    assert later.wire.mute_pongs
    later.raw()
    later.say({"method": "ping"} if follower.name == "hyperliquid" else {"type": "ping"})
    assert {"channel": "pong"} not in later.heard()
    stage.run(4)
    assert not later.wire.mute_pongs
    later.raw()
    later.say({"method": "ping"} if follower.name == "hyperliquid" else {"type": "ping"})
    if follower.name in {"hyperliquid", "lighter"}:
        assert later.heard()[-1] in ({"channel": "pong"}, {"type": "pong"})


def test_slow_drip_limits_the_write_rate_until_it_ends(stage, follower):
    stage.fault("slow_drip", bytes_per_s=50, duration_s=2)
    assert follower.client.wire.bytes_per_s == 50
    stage.run(3)
    assert follower.client.wire.bytes_per_s is None


def test_a_shutdown_is_announced_where_the_venue_does(stage, follower):
    follower.take()
    stage.fault("shutdown")
    if stage.venue.name == "lighter":
        assert follower.client.heard()[-1] == {"type": "shutdown", "close_in_ms": 1000}
        assert follower.client.wire.close_code is None
    stage.run(1.1)
    assert follower.client.wire.close_code == 1012


def test_an_age_cut_is_a_close(stage, follower):
    stage.fault("age_cut")
    assert follower.client.wire.close_code == 1001


# REST


@pytest.mark.parametrize("status", [418, 429, 500, 503])
def test_rest_errors_have_the_venues_format_and_retry_after(stage, status):
    stage.fault("rest_error", status=status, retry_after=7, duration_s=2)
    response = request(stage)
    assert response.status == status
    assert response.headers.get("Retry-After") == ("7" if status in {418, 429} else None)
    if stage.venue.name != "hyperliquid":
        msgspec.json.decode(response.body)
    stage.run(3)
    assert request(stage).status == 200


def test_a_rest_error_can_carry_any_text(stage):
    stage.fault("rest_error", status=401, text="no\x1b]0;x\x07\n")
    response = request(stage)
    assert (response.status, response.body) == (401, b"no\x1b]0;x\x07\n")


def test_rest_faults_can_be_limited_to_a_path(new_stage):
    stage = new_stage("aster")
    stage.fault("rest_error", path="/fapi/v3/depth")
    assert stage.ask("/fapi/v3/depth", symbol="BTCUSDT").status == 503
    assert stage.ask("/fapi/v3/time").status == 200


def test_slow_truncated_and_html_bodies(stage):
    whole = request(stage).body
    stage.fault("rest_slow", seconds=5)
    assert request(stage).trickle_s == 5
    stage.controller.clear(stage.venue)
    stage.fault("rest_malformed")
    cut = request(stage)
    assert cut.status == 200
    assert len(cut.body) < len(whole)
    stage.controller.clear(stage.venue)
    stage.fault("http_html")
    page = request(stage)
    assert page.status == 502
    assert page.body.startswith(b"<html>")


# the catalogue and the clock


def test_a_market_vanishes(stage, follower):
    name = stage.venue.markets["BTC-PERP"].listing.name
    assert b'"' + name.encode() in request(stage).body or stage.venue.name == "aster"
    stage.fault("unknown_market", symbol="BTC-PERP")
    assert stage.venue.find(name) is None
    assert b'"' + name.encode() + b'"' not in request(stage).body
    stage.run(2)
    assert follower.take() > 0
    stage.controller.clear(stage.venue)
    assert stage.venue.find(name) is not None


def test_a_market_is_delisted(stage, follower):
    follower.take()
    stage.fault("delist", symbol="BTC-PERP", duration_s=5)
    stage.run(4)
    assert follower.client.raw() == [] or stage.venue.name == "lighter"
    assert not stage.venue.is_live(stage.venue.markets["BTC-PERP"])
    stage.run(5)
    assert len(follower.client.raw()) > 0


def test_all_times_of_a_venue_are_off(stage):
    honest = stage.venue.now_ms()
    stage.fault("clock_skew", seconds=-25, duration_s=5)
    assert stage.venue.now_ms() == honest - 25_000
    stage.run(6)
    assert stage.venue.now_ms() == honest + 6_000


# requests


def test_every_fault_has_a_description_and_described_parameters(new_stage):
    faults = new_stage("lighter").controller.describe()["faults"]
    assert set(faults) == set(FAULTS)
    for fault in faults.values():
        assert fault["description"]
        assert all(text.get("description") or text.get("anyOf") for text in fault["parameters"].values())


@pytest.mark.parametrize(
    ("venue", "order", "advice"),
    [
        ("nyse", {"fault": "stall"}, "lighter"),
        ("lighter", {"fault": "earthquake"}, "stall, drop_delta"),
        ("lighter", {}, "stall"),
        ("lighter", [], "stall"),
        ("lighter", {"fault": "stall", "symbol": "XYZ-PERP"}, "BTC-PERP"),
        ("lighter", {"fault": "stall", "stream": "books"}, "book, book20"),
        ("lighter", {"fault": "stall", "colour": "red"}, "stream"),
        ("lighter", {"fault": "stall", "duration_s": -1}, "duration_s"),
        ("lighter", {"fault": "drop_delta", "count": 0}, "count"),
        ("lighter", {"fault": "close", "code": 999}, "code"),
        ("lighter", {"fault": "rest_error", "status": 299}, "status"),
    ],
)
def test_an_invalid_request_is_refused_with_advice(new_stage, venue, order, advice):
    stage = new_stage("lighter")
    with pytest.raises(UsageError) as refused:
        stage.controller.inject(venue, order)
    assert advice in refused.value.advice
    assert not stage.controller.describe()["active"]
    assert not stage.venue.hooks


def test_active_faults_are_listed_until_they_are_cleared(new_stage):
    stage = new_stage("lighter")
    number = stage.fault("stall", symbol="BTC-PERP")
    stage.fault("rest_error", duration_s=1)
    stage.run(0.5)
    listed = stage.controller.describe()["active"]
    assert [fault["fault"] for fault in listed] == ["stall", "rest_error"]
    assert listed[0]["id"] == number
    assert listed[0]["age_s"] == 0.5
    stage.run(1)
    assert len(stage.controller.describe()["active"]) == 1
    assert stage.fault("clear") == 0
    assert not stage.controller.describe()["active"]
    assert not stage.venue.hooks


def test_a_resynchronised_book_is_true_again(new_stage, books):
    stage = new_stage("lighter")
    follower = Follower(stage, books)
    stage.fault("drop_delta")
    stage.run(2)
    with pytest.raises(books.GapError):
        follower.take()
    follower.client.say({"type": "unsubscribe", "channel": "order_book/1"})
    follower.client.raw()
    follower.subscribe()
    stage.run(2)
    stage.venue.pause()
    follower.take()
    assert follower.is_true()


# --- one address ------------------------------------------------------------------------------------------------------


@pytest.fixture
def two(stage, books):
    """Two clients, of two addresses."""
    first = Follower(stage, books)
    stage.peer = "127.0.0.2"
    return first, Follower(stage, books)


def test_a_stall_can_strike_one_address(stage, two):
    stage.fault("stall", peer="127.0.0.2")
    stage.run(2)
    assert [client.take() > 0 for client in two] == [True, False]


@pytest.mark.parametrize(
    ("fault", "attribute"),
    [
        ({"name": "close"}, "close_code"),
        ({"name": "close", "code": 0}, "is_aborted"),
        ({"name": "age_cut"}, "close_code"),
        ({"name": "shutdown"}, "close_code"),
        ({"name": "half_open"}, "is_frozen"),
        ({"name": "slow_drip"}, "bytes_per_s"),
    ],
)
def test_sockets_of_one_address_can_be_struck(stage, two, fault, attribute):
    stage.fault(peer="127.0.0.2", **fault)
    stage.run(10)
    assert [bool(getattr(client.client.wire, attribute)) for client in two] == [False, True]


def test_upgrades_and_requests_of_one_address_can_be_struck(stage):
    stage.fault("upgrade_error", peer="127.0.0.2", status=503)
    stage.fault("rest_error", peer="127.0.0.2", status=503)
    path = PATHS.get(stage.venue.name, "/stream.extended.exchange/v1/orderbooks/BTC-USD")
    found = []
    for stage.peer in ("127.0.0.1", "127.0.0.2"):
        found.append((getattr(stage.knock(path), "status", None), stage.ask("/nothing").status))
    assert found[0][0] is None
    assert found[0][1] != 503
    assert found[1] == (503, 503)


@pytest.mark.parametrize("name", ["refuse", "no_pong", "tls_hang", "clock_skew"])
def test_what_strikes_every_client_has_no_address(stage, name):
    with pytest.raises(UsageError, match="strikes every client"):
        stage.fault(name, peer="127.0.0.2")
