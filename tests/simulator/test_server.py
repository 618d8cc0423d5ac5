"""Small clients over real sockets."""

from __future__ import annotations

import contextlib
import json
import ssl
import urllib.error
import urllib.request

import pytest
import websocket
from websockets.exceptions import ConnectionClosed, ConnectionClosedError, InvalidStatus
from websockets.sync.client import connect

from ipc.topics import VENUES

pytestmark = pytest.mark.integration

BOOKS = {
    "hyperliquid": ("", {"method": "subscribe", "subscription": {"type": "l2Book", "coin": "BTC", "fast": True}}),
    "aster": ("/ws/btcusdt@depth@100ms", None),
    "extended": ("/orderbooks/BTC-USD", None),
    "lighter": ("", {"type": "subscribe", "channel": "order_book/1"}),
    "paradex": (
        "?sbeSchemaId=1&sbeSchemaVersion=1",
        {
            "jsonrpc": "2.0",
            "method": "subscribe",
            "params": {"channel": "order_book.BTC-USD-PERP.deltas"},
            "id": 1,
        },
    ),
}
REST = {
    "hyperliquid": "/info",
    "aster": "/fapi/v3/time",
    "extended": "/info/markets",
    "lighter": "/orderBooks",
    "paradex": "/markets",
}


#: Text that only book frames contain.
MARKS = ("depthUpdate", "SNAPSHOT", "DELTA", "/order_book")


@pytest.fixture(autouse=True)
def _without_faults(sim):
    yield
    sim.mend()


def dial(sim, venue, path=""):
    return connect(sim.urls[venue].ws + path, compression=None, proxy=None, max_queue=None)


@contextlib.contextmanager
def follow(sim, venue):
    """Return a connection with a book subscription."""
    path, request = BOOKS[venue]
    with dial(sim, venue, path) as ws:
        if request is not None:
            ws.send(json.dumps(request))
        yield ws


def book_frames(ws, count, timeout=10):
    """Return the next frames of a book that arrive in time."""
    frames = []
    while len(frames) < count:
        frame = ws.recv(timeout)
        if isinstance(frame, bytes) or '"l2Book","data":{"coin"' in frame or any(word in frame for word in MARKS):
            frames.append(frame)
    return frames


def end_of(ws):
    """Return how a connection ends."""
    with contextlib.suppress(TimeoutError):
        while True:
            try:
                ws.recv(10)
            except ConnectionClosed as ended:
                return ended
    raise AssertionError("the connection does not end")


def code_of(ended):
    """Return the received close code, or None without a close frame."""
    return ended.rcvd.code if ended.rcvd else None


def connections(sim, venue):
    return {connection["id"] for connection in sim.stats(venue)["connections"]}


def fetch(sim, venue, timeout=10):
    url = sim.urls[venue].rest + REST[venue]
    data = b'{"type":"meta"}' if venue == "hyperliquid" else None
    trust = ssl.create_default_context(cafile=sim.settings.ca_path) if sim.settings.tls else None
    try:
        with urllib.request.urlopen(urllib.request.Request(url, data=data), timeout=timeout, context=trust) as answer:
            return answer.status, answer.headers, answer.read()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.headers, error.read()


@pytest.mark.parametrize("venue", VENUES)
def test_a_book_arrives_over_the_wire(sim, venue):
    with follow(sim, venue) as ws:
        assert len(book_frames(ws, 4)) == 4
        (connection,) = [c for c in sim.stats(venue)["connections"] if c["frames"] >= 4][-1:]
        assert connection["subscribed"]


@pytest.mark.parametrize("venue", VENUES)
def test_rest_answers_over_http(sim, venue):
    status, headers, body = fetch(sim, venue)
    assert status == 200
    assert headers["Content-Type"] == "application/json"
    assert json.loads(body)


@pytest.mark.parametrize("venue", VENUES)
def test_a_stall_is_silent_and_does_not_affect_sockets_or_rest(sim, venue):
    with follow(sim, venue) as ws:
        book_frames(ws, 2)
        sim.fault(venue, "stall")
        frames = sim.stats(venue)["frames"]
        ws.ping().wait(10)
        with pytest.raises(TimeoutError):
            book_frames(ws, 10_000, timeout=1)
        assert sim.stats(venue)["frames"] - frames < 5
        assert fetch(sim, venue)[0] == 200
        sim.clear(venue)
        assert book_frames(ws, 1)


@pytest.mark.parametrize(("code", "seen"), [(1001, 1001), (4001, 4001), (0, None)])
@pytest.mark.parametrize("venue", VENUES)
def test_sockets_are_closed_with_a_code_or_without_a_frame(sim, venue, code, seen):
    with follow(sim, venue) as ws:
        book_frames(ws, 1)
        sim.fault(venue, "close", code=code)
        assert code_of(end_of(ws)) == seen
    with follow(sim, venue) as ws:
        book_frames(ws, 1)


@pytest.mark.parametrize("venue", VENUES)
def test_a_refusing_port_refuses_in_tcp_and_listens_again(sim, simproc, venue):
    with follow(sim, venue) as ws:
        book_frames(ws, 1)
        sim.fault(venue, "refuse")
        assert code_of(end_of(ws)) == 1001
    with pytest.raises(ConnectionRefusedError), follow(sim, venue):
        pass
    sim.clear(venue)

    def is_back():
        try:
            with follow(sim, venue) as ws:
                return book_frames(ws, 1)
        except ConnectionRefusedError:
            return None

    simproc.wait_until(is_back)


@pytest.mark.parametrize("venue", VENUES)
def test_rest_fails_as_requested(sim, venue):
    sim.fault(venue, "rest_error", status=429, retry_after=3)
    status, headers, _ = fetch(sim, venue)
    assert status == 429
    assert headers["Retry-After"] == "3"


@pytest.mark.parametrize("venue", VENUES)
def test_garbage_and_broken_text_arrive(sim, venue):
    with follow(sim, venue) as ws:
        book_frames(ws, 1)
        sim.fault(venue, "invalid_utf8")
        assert end_of(ws).sent.code == 1007


@pytest.mark.parametrize("venue", VENUES)
def test_a_half_open_socket_is_silent_until_it_is_reset(sim, venue):
    with follow(sim, venue) as ws:
        book_frames(ws, 1)
        sim.fault(venue, "half_open")
        pong = ws.ping()
        with pytest.raises(TimeoutError):
            book_frames(ws, 10_000, timeout=1)
        assert not pong.wait(0.2)
        sim.clear(venue)
        assert code_of(end_of(ws)) is None


def test_pings_can_stay_unanswered_while_data_continues(sim):
    with follow(sim, "lighter") as ws:
        book_frames(ws, 1)
        sim.fault("lighter", "no_pong")
        assert not ws.ping().wait(0.5)
        assert book_frames(ws, 3)


def test_a_trickle_of_bytes(sim):
    sim.resume()
    with dial(sim, "lighter") as ws:
        ws.recv(10)
        sim.fault("lighter", "slow_drip", bytes_per_s=20)
        ws.send(json.dumps(BOOKS["lighter"][1]))
        with pytest.raises(TimeoutError):
            ws.recv(1.5)
        sim.clear("lighter")
        assert json.loads(ws.recv(10))["type"] == "subscribed/order_book"


def test_a_huge_frame_reaches_the_client(sim):
    url = sim.urls["lighter"].ws
    with connect(url, compression=None, proxy=None, max_size=2**24) as ws:
        ws.recv(10)
        sim.fault("lighter", "huge_frame", size=10 * 2**20)
        while len(ws.recv(10)) < 10 * 2**20:
            pass


def test_an_unknown_coin_ends_the_connection_without_a_close_frame(sim):
    with dial(sim, "hyperliquid") as ws:
        ws.send(json.dumps({"method": "subscribe", "subscription": {"type": "bbo", "coin": "NOPE"}}))
        assert code_of(end_of(ws)) is None


@pytest.mark.parametrize(
    ("venue", "path", "status"),
    [
        ("hyperliquid", "x", 404),
        ("aster", "/other", 404),
        ("extended", "/orderbooks/NOPE-USD", 404),
        ("lighter", "/more", 404),
        ("paradex", "?sbeSchemaId=2&sbeSchemaVersion=1", 400),
    ],
)
def test_upgrades_are_refused_with_a_status(sim, venue, path, status):
    with pytest.raises(InvalidStatus) as refused, dial(sim, venue, path):
        pass
    assert refused.value.response.status_code == status


def test_extended_requires_a_user_agent_and_a_pong(sim, simproc):
    url = sim.urls["extended"].ws + "/orderbooks/BTC-USD"
    with pytest.raises(websocket.WebSocketBadStatusException) as refused:
        websocket.create_connection(url, timeout=10)
    assert refused.value.status_code == 403
    mute = websocket.create_connection(url, timeout=10, header=["User-Agent: me"])
    try:
        number = max(connections(sim, "extended"))
        with dial(sim, "extended", "/orderbooks/BTC-USD") as polite:
            simproc.wait_until(lambda: number not in connections(sim, "extended"))
            book_frames(polite, 50)
    finally:
        mute.close(timeout=1)


def test_paradex_text_frames_end_in_a_newline_and_data_is_binary(sim):
    with follow(sim, "paradex") as ws:
        ack, first = ws.recv(10), ws.recv(10)
        assert ack.endswith("}\n")
        assert first[:8] == bytes.fromhex("5900030001000100")
        assert first[24] == 0


def test_a_paused_venue_has_published_everything(sim, books):
    with follow(sim, "lighter") as ws:
        book = books.LighterBook()
        for frame in book_frames(ws, 20):
            book.feed(json.loads(frame))
        sim.pause()
        truth = sim.truth("lighter", "BTC-PERP")
        try:
            while book.nonce != truth["venue_seq"]:
                book.feed(json.loads(ws.recv(10)))
        finally:
            sim.resume()
    assert book.bids == {float(price): float(size) for price, size in truth["bids"]}
    assert book.asks == {float(price): float(size) for price, size in truth["asks"]}


def test_a_client_that_stops_reading_is_disconnected_and_the_others_are_served(sim, simproc):
    slow = websocket.create_connection(sim.urls["lighter"].ws, timeout=10)
    try:
        slow.recv()
        with dial(sim, "lighter") as ws:
            ws.recv(10)
            number = min(connections(sim, "lighter"))
            for _ in range(2):
                sim.fault("lighter", "huge_frame", size=8 * 2**20)
                with pytest.raises(ConnectionClosedError):
                    ws.recv(10)
            simproc.wait_until(lambda: number not in connections(sim, "lighter"))
    finally:
        slow.shutdown()


def test_statistics_count_requests_by_route(sim):
    before = sim.stats("paradex")["rest"].get("/v1/markets", 0)
    fetch(sim, "paradex")
    assert sim.stats("paradex")["rest"]["/v1/markets"] == before + 1


def test_an_invalid_request_is_answered_with_advice(sim):
    status, answer = sim.ask("/fault/lighter", {"fault": "nope"})
    assert status == 400
    assert "stall" in answer["advice"]
    assert sim.ask("/truth/lighter/NOPE")[0] == 400
    assert "close" in sim.faults()["faults"]


# TLS. The client is websocket-client: the threads of websockets' blocking client read and write one SSL object at once,
# which Python 3.11 does not guard, and about one connection in 500 never gets its upgrade response.


@pytest.fixture
def secure(secure_sim):
    """Return the simulator with TLS; clear its faults afterwards."""
    yield secure_sim
    secure_sim.mend()


@contextlib.contextmanager
def follow_securely(sim, venue, timeout=10):
    path, request = BOOKS[venue]
    sslopt = {"ca_certs": sim.settings.ca_path} if sim.settings.tls else {}
    url = sim.urls[venue].ws + path
    ws = websocket.create_connection(url, timeout=timeout, header=["User-Agent: me"], sslopt=sslopt)
    try:
        if request is not None:
            ws.send(json.dumps(request))
        yield ws
    finally:
        ws.shutdown()


@pytest.mark.parametrize("venue", VENUES)
def test_books_and_rest_work_over_tls_too(secure, simproc, venue):
    assert secure.urls[venue].ws.startswith("wss://")
    with follow_securely(secure, venue) as ws:
        assert all(ws.recv() for _ in range(5))
        assert secure.stats(venue)["connections"]
    assert fetch(secure, venue)[0] == 200
    simproc.wait_until(lambda: not secure.stats(venue)["connections"])


@pytest.mark.parametrize(
    ("fault", "complaint"),
    [("tls_bad_certificate", "unable to get|self.signed|signature"), ("tls_expired", "has expired")],
)
def test_new_connections_get_a_bad_certificate_until_the_fault_ends(secure, fault, complaint):
    with follow_securely(secure, "lighter") as inside:
        secure.fault("lighter", fault)
        with pytest.raises(ssl.SSLCertVerificationError, match=complaint), follow_securely(secure, "lighter"):
            pass
        with pytest.raises(urllib.error.URLError, match=complaint):
            fetch(secure, "lighter")
        assert all(inside.recv() for _ in range(3))
    with follow_securely(secure, "aster"):
        secure.clear("lighter")
    with follow_securely(secure, "lighter") as ws:
        assert ws.recv()
    assert fetch(secure, "lighter")[0] == 200


def test_a_bad_certificate_on_one_port_does_not_affect_the_other(secure):
    secure.fault("lighter", "tls_expired", port="ws")
    with pytest.raises(ssl.SSLCertVerificationError), follow_securely(secure, "lighter"):
        pass
    assert fetch(secure, "lighter")[0] == 200


@pytest.mark.parametrize("kind", ["sim", "secure"])
def test_a_hanging_port_accepts_and_stays_silent_with_tls_and_without(request, simproc, kind):
    sim = request.getfixturevalue(kind)
    with follow_securely(sim, "paradex"):
        simproc.wait_until(lambda: sim.stats("paradex")["connections"])
        sim.fault("paradex", "tls_hang", cut=True)
        simproc.wait_until(lambda: not sim.stats("paradex")["connections"])
    with pytest.raises((TimeoutError, websocket.WebSocketTimeoutException)), follow_securely(sim, "paradex", 0.5):
        pass
    with pytest.raises((TimeoutError, urllib.error.URLError), match="timed out"):
        fetch(sim, "paradex", timeout=0.5)
    sim.clear("paradex")
    with follow_securely(sim, "paradex") as ws:
        assert ws.recv()


def test_without_tls_a_bad_certificate_is_refused_with_advice(sim):
    status, answer = sim.ask("/fault/lighter", {"fault": "tls_expired"})
    assert status == 400
    assert "needs TLS" in answer["error"]
    assert answer["advice"] == ["start the simulator with TLS"]
