"""Gateway between a control server that the test drives and a subscriber."""

from __future__ import annotations

import os
import select
import socket
import threading
import time

import pytest
import zmq

from ipc.board import Row, WorkerWord
from ipc.codec import decode
from ipc.control import ControlReply
from ipc.errors import NotRunningError
from ipc.events import Lifecycle, ProcessPorts
from ipc.health import Reason
from ipc.remote import Network
from ipc.systems import tcp_ports
from supervisor.child import Handover
from supervisor.control import ControlServer
from supervisor.gateway import Gateway


class ParentSide:
    """Parent's side: its control server, and a loop that the test runs."""

    def __init__(self, path):
        self._readers = {}
        #: Done at each turn.
        self.also = []
        #: Subscriptions that a gateway is to have accepted before anything is published.
        self.expected = 0
        self.server = ControlServer(path, lambda *_: ControlReply(True), self._watch)

    def _watch(self, descriptor, callback):
        if callback is None:
            self._readers.pop(descriptor, None)
        else:
            self._readers[descriptor] = callback

    def close(self):
        if self._readers:
            self.server.close()

    def turn(self):
        for descriptor in select.select(list(self._readers), [], [], 0.005)[0]:
            self._readers.get(descriptor, lambda: None)()
        for also in self.also:
            also()

    def publish(self, event="exited", process="lighter", **fields):
        told = {
            "process": process,
            "event": event,
            "reason": Reason.KILLED,
            "pid": None,
            "generation": 2,
            "exit_code": None,
            "signal": "SIGKILL",
            "delay_s": 1.0,
            "failures": 1,
            "restarts": 1,
            "uptime_s": 12.5,
            "mono_ns": 111,
            "wall_ns": 222,
        }
        self.server.publish({**told, **fields})


class RunningGateway:
    """Gateway in a thread."""

    def __init__(self, run_dir, row, before, network=None):
        self.stop = threading.Event()
        self._gateway = Gateway(run_dir, row, before, self.stop, network)
        self.thread = threading.Thread(target=self._gateway.run)
        self.thread.start()

    def end(self):
        """Stop it, wait, and release what the exit of its process would."""
        self.stop.set()
        self.thread.join(20)
        assert not self.thread.is_alive()
        self._gateway._control.close()
        self._gateway._context.term()


@pytest.fixture
def parent(run_dir):
    parent = ParentSide(run_dir.control)
    yield parent
    parent.close()


@pytest.fixture
def row():
    return Row(memoryview(bytearray(WorkerWord.COUNT * 8)).cast("Q"), 0, WorkerWord.COUNT)


@pytest.fixture
def until(parent):
    """Run the parent's loop until a condition holds."""

    def until(condition, timeout_s=20.0):
        deadline = time.monotonic() + timeout_s
        while not (found := condition()):
            assert time.monotonic() < deadline, "not in time"
            parent.turn()
        return found

    return until


@pytest.fixture
def start(run_dir, row, parent, until):
    """Start a gateway and wait until it follows and has accepted the subscriber, if there is one."""
    running = []

    def start(before=None):
        running.append(RunningGateway(run_dir, row, before or Handover()))
        until(lambda: parent.server._followers and row[WorkerWord.SUBSCRIPTIONS] >= parent.expected)
        return running[-1]

    yield start
    for gateway in running:
        gateway.end()


@pytest.fixture
def subscriber(run_dir, parent):
    context = zmq.Context()
    socket = context.socket(zmq.SUB)
    for option, value in ((zmq.LINGER, 0), (zmq.RECONNECT_IVL, 10), (zmq.SUBSCRIBE, b"")):
        socket.setsockopt(option, value)
    socket.connect(run_dir.feed("lifecycle"))
    # ZeroMQ subscribes again to a publisher that came back only when the subscriber's thread polls its socket.
    parent.also.append(lambda: socket.poll(0))
    parent.expected = 1
    yield socket
    parent.also.clear()
    parent.expected = 0
    socket.close()
    context.term()


@pytest.fixture
def hear(subscriber, until):
    """Return the next event with its topic."""

    def hear():
        until(lambda: subscriber.poll(0))
        topic, payload = subscriber.recv_multipart()
        return topic.decode(), decode(payload)

    return hear


def test_what_happens_to_a_process_is_published(parent, start, hear, row):
    start()
    parent.publish()
    topic, event = hear()
    assert topic == "lifecycle.lighter"
    assert (event.venue, event.symbol, event.event, event.reason) == ("lighter", None, "exited", Reason.KILLED)
    assert (event.pid, event.generation, event.exit_code, event.signal) == (None, 2, None, "SIGKILL")
    assert (event.delay_s, event.failures, event.restarts, event.uptime_s) == (1.0, 1, 1, 12.5)
    assert (event.recv_mono_ns, event.recv_ns) == (111, 222)
    assert (event.epoch, event.seq) == (row[WorkerWord.EPOCH], 1)


def test_each_process_has_its_topic_and_sequence(parent, start, hear):
    start()
    for process in ("lighter", "paradex", "lighter"):
        parent.publish(process=process)
    assert [(topic, event.seq) for topic, event in (hear() for _ in range(3))] == [
        ("lifecycle.lighter", 1),
        ("lifecycle.paradex", 1),
        ("lifecycle.lighter", 2),
    ]


def test_events_from_before_the_gateway_are_published_once_it_runs(parent, start, hear):
    parent.publish("started", reason=None)
    start()
    assert hear()[1].event == "started"


def test_who_joins_late_hears_the_last_of_each_process(parent, start, until, run_dir, row):
    start()
    for event in ("started", "live", "exited"):
        parent.publish(event)
    until(lambda: row[WorkerWord.PUBLISHED] == 3)
    context = zmq.Context()
    with context.socket(zmq.SUB) as late:
        late.setsockopt(zmq.LINGER, 0)
        late.subscribe(b"lifecycle.")
        late.connect(run_dir.feed("lifecycle"))
        until(lambda: late.poll(0))
        event = decode(late.recv_multipart()[1])
    context.term()
    assert (event.event, event.flags) == ("exited", ("refresh",))


def test_the_next_gateway_goes_on_where_this_one_stopped(parent, start, hear, row, until, monkeypatch):
    gateway = start()
    parent.publish("started")
    parent.publish("live")
    assert [hear()[1].event for _ in range(2)] == ["started", "live"]
    gateway.end()
    until(lambda: not parent.server._followers)
    parent.publish("exited")
    parent.publish("restarting")
    before = Handover(epoch=row[WorkerWord.EPOCH], published=row[WorkerWord.PUBLISHED])
    assert before.published == 2
    # It publishes what it missed after this time, which on a busy machine may be too short for the subscriber.
    monkeypatch.setattr("supervisor.gateway._SUBSCRIBE_S", 2.0)
    start(before)
    parent.publish("started")
    events = [hear()[1] for _ in range(3)]
    assert [event.event for event in events] == ["exited", "restarting", "started"]
    assert events[0].epoch > before.epoch
    assert row[WorkerWord.PUBLISHED] == 5


def test_the_epoch_is_above_that_of_every_one_before(start, row):
    far_ahead = time.time_ns() + 10**18
    start(Handover(epoch=far_ahead))
    assert row[WorkerWord.EPOCH] == far_ahead + 1


def test_what_it_does_not_understand_is_logged_and_left_out(parent, start, hear, caplog):
    start()
    parent.server.publish({"process": 5})
    parent.publish(reason="a reason of tomorrow")
    parent.publish("live")
    assert hear()[1].event == "live"
    assert [record.getMessage() for record in caplog.records].count("gateway.not_understood") == 2


def test_events_that_it_missed_are_counted_in_the_log(parent, start, hear, caplog):
    """It was away for longer than the parent keeps events; its feed has no gap, so no consumer can notice."""
    for number in range(600):
        parent.publish(uptime_s=float(number))
    start()
    hear()
    (lost,) = [record.fields for record in caplog.records if record.getMessage() == "gateway.events_lost"]
    assert lost == {"lost": 100}


def test_it_beats_though_nothing_happens(start, row, until):
    start()
    first = until(lambda: row[WorkerWord.BEAT])
    until(lambda: row[WorkerWord.BEAT] > first)
    assert 0 < row[WorkerWord.FIRST_FRESH] <= row[WorkerWord.LAST_FRESH]
    assert row[WorkerWord.MAIN_LOOPS] > 0


def test_it_ends_when_it_is_stopped(start):
    start().end()


def test_it_ends_with_the_control_socket_of_its_parent(parent, start):
    gateway = start()
    parent.close()
    gateway.thread.join(20)
    assert not gateway.thread.is_alive()


def test_it_ends_when_it_has_another_parent(start, monkeypatch):
    gateway = start()
    monkeypatch.setattr(os, "getppid", lambda: 1)
    gateway.thread.join(20)
    assert not gateway.thread.is_alive()


def test_without_a_parent_it_does_not_start(run_dir, row, forking):
    def scenario():
        with pytest.raises(NotRunningError):
            Gateway(run_dir, row, Handover(), threading.Event())

    forking.in_fork(scenario)


def test_it_beats_while_it_keeps_a_long_log_on_a_slow_disk(parent, run_dir, row, monkeypatch):
    """Without beats it would be killed as wedged, and begin the same copy again and again."""
    beats = []

    def rotate(_path, progress):
        for _ in range(3):
            row[WorkerWord.BEAT] = 0
            progress()
            beats.append(row[WorkerWord.BEAT])

    monkeypatch.setattr("supervisor.gateway.rotate", rotate)
    gateway = Gateway(run_dir, row, Handover(), threading.Event(), None, run_dir.path / "log")
    gateway._rotate_log(time.monotonic_ns())
    assert len(beats) == 3
    assert all(beats)
    gateway._publisher.close()
    gateway._control.close()
    gateway._context.term()


def test_feed_that_was_removed_is_bound_again_for_new_subscribers(run_dir, parent, start, until, hear):
    start()
    run_dir.feed_path("lifecycle").unlink()
    until(run_dir.feed_path("lifecycle").exists)
    context = zmq.Context()
    with context.socket(zmq.SUB) as late:
        late.linger = 0
        late.subscribe(b"")
        late.connect(run_dir.feed("lifecycle"))
        parent.publish()
        until(lambda: late.poll(0))
    assert hear()[0] == "lifecycle.lighter"
    context.term()


# --- the directory over TCP -------------------------------------------------------------------------------------------


def described(first, *, lines=()):
    """Description of a system whose lighter has these further lines on TCP."""
    document = {"feed": "ipc://a", "tcp": f"tcp://127.0.0.1:{first}", "account": None, "account_tcp": None}
    others = {line: {**document, "tcp": f"tcp://127.0.0.1:{first + 8}"} for line in lines}
    if others:
        document = {**document, "lines": {"a": document, **others}}
    return {"venues": {"lighter": document}}


@pytest.fixture
def directories(run_dir, row, context):
    """Starts a gateway on TCP with a description, and returns a subscriber to its directories."""
    running = []

    def start(document):
        run_dir.write_description(document)
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            network = Network("127.0.0.1", probe.getsockname()[1] - 5)
        running.append(RunningGateway(run_dir, row, Handover(), network))
        reader = context.socket(zmq.SUB)
        reader.linger = 0
        reader.subscribe(b"lifecycle.directory")
        reader.connect(network.endpoint("lifecycle"))
        running.append(reader)
        return reader

    yield start
    for one in running[::-1]:
        one.end() if isinstance(one, RunningGateway) else one.close()


def next_directory(reader, until):
    assert until(lambda: reader.poll(0))
    topic, payload = reader.recv_multipart()
    assert topic == b"lifecycle.directory"
    return decode(payload)


def test_who_joins_receives_the_directory_and_later_its_changes(run_dir, directories, parent, until):
    reader = directories(described(5603))
    first = next_directory(reader, until)
    assert isinstance(first, Lifecycle)
    assert (first.event, first.venue) == ("directory", "directory")
    assert first.ports == {"lighter": ProcessPorts(5603, None)}
    run_dir.write_description(described(5603, lines=["b"]))
    second = next_directory(reader, until)
    while second.seq == first.seq or "refresh" in second.flags:
        second = next_directory(reader, until)
    assert second.ports == {"lighter": ProcessPorts(5603, None), "lighter.b": ProcessPorts(5611, None)}


def test_without_feeds_on_tcp_there_is_no_directory():
    assert tcp_ports({"venues": {"lighter": {"feed": "ipc://a", "tcp": None}}}) == {}
