"""Server of the control socket, with real sockets and the test as the loop."""

from __future__ import annotations

import json
import os
import resource
import select
import socket
import stat
import threading

import pytest

from ipc.control import MAX_PACKET, ControlClient, ControlReply, ControlRequest, ask, decode_reply
from ipc.errors import ConfigError, ForeignSystemError, NotRunningError, UnknownStateError, UsageError
from ipc.users import sudo_name
from supervisor.control import ControlServer
from supervisor.proc import Peer

_NOBODY = 65_534


class Loop:
    """Call what is readable, until nothing is."""

    def __init__(self):
        self.readers = {}

    def watch(self, descriptor, callback):
        if callback is None:
            self.readers.pop(descriptor, None)
        else:
            self.readers[descriptor] = callback

    def run(self, rounds=200):
        for _ in range(rounds):
            poll = select.poll()
            for descriptor in self.readers:
                poll.register(descriptor, select.POLLIN)
            ready = poll.poll(0)
            if not ready:
                return
            for descriptor, _ in ready:
                self.readers.get(descriptor, lambda: None)()
        raise AssertionError("it never comes to rest")


@pytest.fixture
def loop():
    return Loop()


@pytest.fixture
def asked():
    """Requests that the server passed on."""
    return []


@pytest.fixture
def server(run_dir, loop, asked):
    def handle(request, uid):
        assert uid == os.getuid()
        asked.append(request)
        if request.target == "nobody":
            raise UsageError("no process 'nobody' here", advice="there are lighter")
        return ControlReply(True, data={"pid": 4711})

    server = ControlServer(run_dir.control, handle, loop.watch)
    yield server
    server.close()


@pytest.fixture
def connect(run_dir, server, loop):
    """Connect a client whose reads do not block."""
    clients = []

    def make():
        client = ControlClient(run_dir.control, 0.0)
        clients.append(client)
        loop.run()
        return client

    yield make
    for client in clients:
        client.close()


@pytest.fixture
def follow(connect, loop):
    def make(after=0):
        client = connect()
        client.send(ControlRequest("follow", after=after))
        loop.run()
        return client

    return make


def heard(client):
    """Return the numbers of the events received so far."""
    numbers = []
    while True:
        try:
            numbers.append(json.loads(client.receive())["number"])
        except (BlockingIOError, NotRunningError):
            return numbers


def is_closed(client):
    """Return whether the server closed the connection."""
    try:
        return client._socket.recv(1) == b""
    except BlockingIOError:
        return False
    except ConnectionResetError:
        return True


def tell(server, count=1):
    for _ in range(count):
        server.publish({"process": "lighter", "event": "exited", "padding": "x" * 200})


def asked_raw(client, loop, packet):
    client._socket.send(packet)
    loop.run()
    return json.loads(client.receive())


# --- requests and replies ---------------------------------------------------------------------------------------------


def test_a_request_is_passed_on_and_answered(connect, loop, asked):
    client = connect()
    client.send(ControlRequest("restart", target="lighter"))
    loop.run()
    assert json.loads(client.receive()) == {"ok": True, "data": {"pid": 4711}}
    assert asked == [ControlRequest("restart", target="lighter")]


def test_a_client_may_ask_again(connect, loop, asked):
    client = connect()
    for _ in range(5):
        client.send(ControlRequest("ping"))
        loop.run()
        assert json.loads(client.receive())["ok"]
    assert len(asked) == 5


def test_a_refusal_names_the_remedy(connect, loop):
    client = connect()
    client.send(ControlRequest("restart", target="nobody"))
    loop.run()
    reply = json.loads(client.receive())
    assert reply == {"ok": False, "error": "no process 'nobody' here", "advice": "there are lighter"}


@pytest.mark.parametrize(
    "packet",
    [
        b"junk",
        b"{",
        b"[]",
        b'{"verb":"explode"}',
        b'{"verb":"ping","extra":1}',
        b'{"verb":"drill","fault":"bite"}',
        b"\xff",
    ],
)
def test_junk_is_refused_and_the_conversation_goes_on(connect, loop, asked, packet):
    client = connect()
    reply = asked_raw(client, loop, packet)
    assert reply["ok"] is False
    assert "not a control request" in reply["error"]
    assert asked_raw(client, loop, b'{"verb":"ping"}')["ok"] is True
    assert len(asked) == 1


def test_deep_nesting_is_junk_and_no_crash(connect, loop):
    assert asked_raw(connect(), loop, b'{"verb":' + b"[" * 50_000)["ok"] is False


def test_a_packet_over_the_limit_is_junk(connect, loop, asked):
    packet = b'{"verb":"ping","target":"' + b"x" * MAX_PACKET + b'"}'
    assert asked_raw(connect(), loop, packet)["ok"] is False
    assert asked == []


def test_a_client_that_leaves_before_its_reply_is_dropped(connect, loop, server):
    client = connect()
    client.send(ControlRequest("ping"))
    client.close()
    loop.run()
    assert len(loop.readers) == 1, "only the listener is left"


def test_a_client_that_leaves_with_its_reply_unread_is_dropped(connect, loop):
    client = connect()
    client.send(ControlRequest("ping"))
    loop.run()
    client.close()
    loop.run()
    assert len(loop.readers) == 1


def test_a_wake_up_with_nothing_to_read_is_nothing(connect, loop):
    client = connect()
    for wake in list(loop.readers.values()):
        wake()
    assert asked_raw(client, loop, b'{"verb":"ping"}')["ok"]


# --- who may, and how many --------------------------------------------------------------------------------------------


def test_the_socket_is_ours_alone(run_dir, server):
    assert stat.S_IMODE(run_dir.control.stat().st_mode) == 0o600


def test_a_socket_that_a_dead_parent_left_is_replaced(run_dir, loop, connect, server):
    """The fixture's server plays the dead one: its file exists, and nobody listens."""
    server.close()
    again = ControlServer(run_dir.control, lambda *_: ControlReply(True), loop.watch)
    assert asked_raw(connect(), loop, b'{"verb":"ping"}')["ok"]
    again.close()
    loop.watch(server._listener.fileno(), None)
    server._listener = again._listener


def test_another_user_is_turned_away_with_the_reason(run_dir, monkeypatch, asked, loop, server):
    monkeypatch.setattr("supervisor.control.peer_of", lambda _: Peer(1, 54_321))
    monkeypatch.setattr("supervisor.control.sudo_name", {os.getuid(): "desk1"}.get)
    client = ControlClient(run_dir.control, 0.0)
    client.send(ControlRequest("restart"))  # before it is accepted
    loop.run()
    refused = decode_reply(client.receive()).refusal()
    assert isinstance(refused, ForeignSystemError)
    assert (refused.what, refused.exit_code) == ("refused: the system belongs to desk1", 4)
    assert "sudo -u desk1 paraphina-supervisor" in refused.advice
    assert is_closed(client)
    assert asked == []
    client.close()


@pytest.mark.skipif(os.getuid() != 0, reason="needs root, to be another user")
def test_another_user_is_recognised_by_the_kernel(run_dir, forking):
    def scenario():
        loop = Loop()
        server = ControlServer(run_dir.control, lambda *_: ControlReply(True), loop.watch)
        for path, mode in ((run_dir.path.parent, 0o755), (run_dir.path, 0o755), (run_dir.control, 0o666)):
            path.chmod(mode)
        os.seteuid(_NOBODY)
        client = ControlClient(run_dir.control, 5.0)
        client.send(ControlRequest("restart"))
        os.seteuid(0)
        loop.run()
        refused = decode_reply(client.receive()).refusal()
        client.close()
        server.close()
        return refused.exit_code, refused.what

    code, what = forking.in_fork(scenario)
    assert code == 4
    assert what == f"refused: the system belongs to {sudo_name(0)}"


def test_a_client_of_another_user_gets_an_error_of_its_own(run_dir, monkeypatch):
    monkeypatch.setattr("supervisor.control.peer_of", lambda _: Peer(1, 54_321))
    monkeypatch.setattr("supervisor.control.sudo_name", lambda _: "desk1")
    loop = Loop()
    server = ControlServer(run_dir.control, lambda *_: ControlReply(True), loop.watch)
    over = threading.Event()

    def serve():
        while not over.wait(0.005):
            loop.run()

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        with pytest.raises(ForeignSystemError) as caught:
            ask(run_dir.control, ControlRequest("start_venue", target="lighter"))
    finally:
        over.set()
        thread.join()
    server.close()
    assert str(caught.value) == "refused: the system belongs to desk1 (run: sudo -u desk1 paraphina-supervisor ...)"


def test_the_client_that_was_idle_longest_makes_room_for_the_next(connect, loop):
    clients = [connect() for _ in range(32)]
    assert asked_raw(clients[0], loop, b'{"verb":"ping"}')["ok"]
    assert asked_raw(connect(), loop, b'{"verb":"ping"}')["ok"]
    clients[1].send(ControlRequest("ping"))
    assert "it was idle" in json.loads(clients[1].receive())["error"]
    assert is_closed(clients[1])
    for client in [clients[0], *clients[2:]]:
        assert asked_raw(client, loop, b'{"verb":"ping"}')["ok"]


def test_a_follower_makes_room_only_when_there_are_none_but_followers(connect, follow, loop, server):
    followers = [follow() for _ in range(31)]
    idle = connect()
    connect()
    assert b"it was idle" in idle.receive()
    tell(server)
    assert [heard(follower) for follower in followers] == [[1]] * 31
    more = follow()  # in place of the client that came last
    assert asked_raw(connect(), loop, b'{"verb":"ping"}')["ok"]
    assert b"it was idle" in followers[0].receive()
    assert heard(more) == [1]


def test_any_error_of_a_request_is_a_refusal_with_its_place_and_its_exit_code(run_dir, loop, connect, server):
    def handle(*_):
        raise UnknownStateError("cannot be read", where="/there", advice="look")

    server._handle = handle
    client = connect()
    client.send(ControlRequest("reload"))
    loop.run()
    refused = decode_reply(client.receive()).refusal()
    assert (type(refused), refused.what, refused.advice) == (UnknownStateError, "/there: cannot be read", "look")


def test_every_mistake_of_a_configuration_reaches_the_client(run_dir, loop, connect, server):
    def handle(*_):
        raise ConfigError(["a.toml:x.y: one", "a.toml:x.z: two"])

    server._handle = handle
    client = connect()
    client.send(ControlRequest("reload"))
    loop.run()
    refused = decode_reply(client.receive()).refusal()
    assert isinstance(refused, ConfigError)
    assert refused.problems == ["a.toml:x.y: one", "a.toml:x.z: two"]


def test_a_client_that_left_makes_room(connect, loop):
    clients = [connect() for _ in range(32)]
    clients[7].close()
    loop.run()
    assert asked_raw(connect(), loop, b'{"verb":"ping"}')["ok"]


def test_more_than_the_limit_at_once_leaves_the_server_well(run_dir, server, loop):
    """All are queued before the loop polls."""
    crowd = []
    for _ in range(16):
        crowd.append(socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET))
        crowd[-1].connect(str(run_dir.control))
    loop.run()
    assert len(loop.readers) == 17
    for client in crowd:
        client.close()
    loop.run()
    assert len(loop.readers) == 1


def test_no_descriptor_left_for_a_client_does_not_end_the_parent(run_dir, forking):
    def scenario():
        loop = Loop()
        server = ControlServer(run_dir.control, lambda *_: ControlReply(True), loop.watch)
        client = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        client.connect(str(run_dir.control))
        lowest = os.dup(0)
        os.close(lowest)
        resource.setrlimit(resource.RLIMIT_NOFILE, (lowest, 4096))
        next(iter(loop.readers.values()))()
        resource.setrlimit(resource.RLIMIT_NOFILE, (1024, 4096))
        server.close()

    forking.in_fork(scenario)


# --- followers --------------------------------------------------------------------------------------------------------


def test_a_follower_hears_what_happens_from_then_on(server, follow):
    follower = follow()
    tell(server, 3)
    assert heard(follower) == [1, 2, 3]


def test_an_event_is_what_was_published_with_its_number(server, follow):
    follower = follow()
    server.publish({"process": "lighter", "event": "exited", "reason": "crash"})
    event = json.loads(follower.receive())
    assert event == {"number": 1, "process": "lighter", "event": "exited", "reason": "crash"}


def test_following_gets_no_reply_before_the_events(server, follow):
    follower = follow()
    assert heard(follower) == []


def test_a_newcomer_hears_what_was_before(server, follow):
    tell(server, 3)
    assert heard(follow()) == [1, 2, 3]


def test_follow_from_a_number(server, follow):
    tell(server, 5)
    assert heard(follow(after=3)) == [4, 5]
    assert heard(follow(after=5)) == []
    assert heard(follow(after=99)) == []


def test_a_follower_that_left_before_it_was_served_is_dropped(server, connect, loop):
    tell(server, 3)
    client = connect()
    client.send(ControlRequest("follow"))
    client.close()
    loop.run()
    tell(server)
    assert len(loop.readers) == 1


def test_several_followers_hear_the_same(server, follow):
    followers = [follow() for _ in range(3)]
    tell(server, 2)
    assert [heard(follower) for follower in followers] == [[1, 2]] * 3


def test_a_follower_that_comes_back_misses_nothing(server, follow, loop):
    """It names the last number that it handled, so what it did not receive is sent again."""
    first = follow()
    tell(server, 2)
    assert heard(first) == [1, 2]
    tell(server)
    first.close()
    tell(server, 2)
    loop.run()
    second = follow(after=2)
    tell(server)
    assert heard(second) == [3, 4, 5, 6]


def test_the_oldest_events_are_forgotten_and_that_shows(server, follow):
    tell(server, 520)
    first = json.loads(follow().receive())["number"]
    assert first == 21


def test_everything_remembered_reaches_a_follower_that_reads(server, follow, loop):
    tell(server, 400)
    follower = follow()
    numbers = []
    while news := heard(follower):
        numbers += news
        server.flush()
    assert numbers == list(range(1, 401))


def test_a_follower_that_does_not_read_costs_nothing_and_sees_what_it_lost(server, follow, connect, loop):
    asleep, awake = follow(), follow()
    for _ in range(2000):
        tell(server)
        heard(awake)
    assert asked_raw(connect(), loop, b'{"verb":"ping"}')["ok"]
    numbers = heard(asleep)
    assert numbers == list(range(1, len(numbers) + 1))
    server.flush()
    while news := heard(asleep):
        numbers += news
        server.flush()
    assert numbers[-1] == 2000
    assert len(numbers) < 2000, "the hole in the numbers tells how many"


def test_a_dropped_follower_is_forgotten(server, follow, loop):
    follower = follow()
    follower.close()
    tell(server, 3)
    loop.run()
    assert len(loop.readers) == 1


def test_a_follower_may_ask_as_well(server, follow, loop, asked):
    follower = follow()
    assert asked_raw(follower, loop, b'{"verb":"ping"}')["ok"]
    tell(server)
    assert heard(follower) == [1]


# --- the end ----------------------------------------------------------------------------------------------------------


def test_close_ends_every_conversation(run_dir, server, follow, connect, loop):
    follower, client = follow(), connect()
    server.close()
    assert loop.readers == {}
    assert is_closed(follower)
    assert is_closed(client)
    with pytest.raises(NotRunningError):
        ControlClient(run_dir.control)
    # The fixture closes it once more, on a listener that is there.
    server._listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
