"""Follower of lifecycle events: it gets the past, survives parents, and never waits."""

import contextlib
import socket

import msgspec
import pytest

from supervisor.followed import LifecycleFollower, decode_lifecycle

MESSAGE = {
    "number": 1,
    "process": "aster",
    "event": "exited",
    "reason": "killed",
    "pid": 7,
    "generation": 2,
    "exit_code": None,
    "signal": "SIGKILL",
    "delay_s": None,
    "failures": 1,
    "restarts": 1,
    "uptime_s": 5.0,
    "mono_ns": 5,
    "wall_ns": 6,
}


class Parent:
    """Control socket that sends what the test says."""

    def __init__(self, path):
        path.unlink(missing_ok=True)
        self.listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.listener.bind(str(path))
        self.listener.listen(4)
        self.listener.settimeout(10)
        self.client = None

    def send(self, *messages):
        if self.client is None:
            self.client, _ = self.listener.accept()
            assert b"follow" in self.client.recv(1_000)
        for message in messages:
            self.client.send(message if isinstance(message, bytes) else msgspec.json.encode(message))

    def close(self):
        for one in (self.client, self.listener):
            if one is not None:
                one.close()


@pytest.fixture
def now():
    return [0.0]


@pytest.fixture
def follower(run_dir, now):
    with LifecycleFollower(run_dir.control, lambda: now[0]) as made:
        yield made


@pytest.fixture
def start(run_dir):
    with contextlib.ExitStack() as stack:

        def make():
            return stack.enter_context(contextlib.closing(Parent(run_dir.control)))

        yield make


def test_events_come_as_the_gateway_publishes_them(follower, start):
    parent = start()
    assert follower.read() == []
    parent.send(MESSAGE, {**MESSAGE, "number": 2, "event": "live"})
    first, second = follower.read()
    assert (first.venue, first.event, first.reason, first.signal) == ("aster", "exited", "killed", "SIGKILL")
    assert (first.recv_mono_ns, first.recv_ns, second.event) == (5, 6, "live")
    assert follower.read() == []


def test_it_finds_the_next_parent(follower, start, now):
    assert follower.read() == []
    parent = start()
    assert follower.read() == []  # not at once: a parent that is away is not asked at every redraw
    now[0] = 1.5
    assert follower.read() == []
    parent.send(MESSAGE)
    assert len(follower.read()) == 1
    parent.close()
    assert follower.read() == []
    parent = start()
    now[0] = 3.0
    assert follower.read() == []
    parent.send(MESSAGE)
    assert len(follower.read()) == 1


def test_what_is_no_event_is_left_out(follower, start):
    parent = start()
    follower.read()
    parent.send(b"{}", b"rubbish", b"[" * 5_000, {"ok": False, "error": "another user"}, MESSAGE)
    assert [event.venue for event in follower.read()] == ["aster"]


def test_a_packet_that_is_no_event_is_refused():
    with pytest.raises(ValueError, match="number"):
        decode_lifecycle(b"{}")
