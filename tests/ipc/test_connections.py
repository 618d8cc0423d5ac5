"""States of connections, from the events of ZeroMQ's monitor."""

from __future__ import annotations

import pytest
import zmq

from ipc.connections import ConnectionMonitor, ConnectionState

SECOND = 1_000_000_000
CONNECTED = (zmq.EVENT_HANDSHAKE_SUCCEEDED,)
LOST = (zmq.EVENT_DISCONNECTED, zmq.EVENT_CONNECT_RETRIED)
REFUSED = (zmq.EVENT_HANDSHAKE_FAILED_AUTH, zmq.EVENT_DISCONNECTED)
MISLED = (zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL, zmq.EVENT_DISCONNECTED, zmq.EVENT_CONNECT_RETRIED)
NOBODY = (zmq.EVENT_CLOSED, zmq.EVENT_CONNECT_RETRIED)
#: Sequences as measured with ZeroMQ 4.3.5.
MEASURED = {
    "nothing yet": ((), "connecting"),
    "admitted": (CONNECTED, "connected"),
    "refused": (REFUSED, "key_refused"),
    "wrong key of the server": (MISLED * 3, "handshake_failed"),
    "one side without keys": (
        (*MISLED, zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL, zmq.EVENT_DISCONNECTED),
        "encryption_mismatch",
    ),
    "nobody listens": (NOBODY * 3, "unreachable"),
    "unknown name": ((zmq.EVENT_CONNECT_RETRIED,) * 2, "unreachable"),
    "closed before the handshake": (LOST, "handshake_failed"),
    "lost": ((*CONNECTED, *LOST), "connecting"),
    "lost, and gone": ((*CONNECTED, *LOST, *NOBODY), "unreachable"),
    "back": ((*CONNECTED, *LOST, *NOBODY, *CONNECTED), "connected"),
    "refused after a restart": ((*CONNECTED, *LOST, *REFUSED), "key_refused"),
    "admitted at last": ((*REFUSED, *CONNECTED), "connected"),
}


class Monitored:
    """Socket whose monitor the test writes."""

    def __init__(self, context: zmq.Context, endpoints: dict[str, str]) -> None:
        self.context = context
        self.again: list[str] = []
        self._events = context.socket(zmq.PAIR)
        self._events.linger = 0
        self.monitor_ = ConnectionMonitor(self, endpoints, 0)  # type: ignore[arg-type]

    def monitor(self, address: str | None, _events: int) -> None:
        if address is not None:
            self._events.bind(address)

    def disconnect(self, _endpoint: str) -> None:
        raise zmq.ZMQError(zmq.ENOTCONN)

    def connect(self, endpoint: str) -> None:
        self.again.append(endpoint)

    def happen(self, endpoint: str, *events: int) -> None:
        for event in events:
            self._events.send_multipart([int(event).to_bytes(2, "little") + bytes(4), endpoint.encode()])


@pytest.fixture
def monitored(context):
    made = Monitored(context, {"lighter": "tcp://a:1", "aster": "tcp://a:2"})
    yield made
    made.monitor_.close()


@pytest.mark.parametrize(("events", "state"), MEASURED.values(), ids=MEASURED)
def test_state_follows_from_the_events(monitored, until, events, state) -> None:
    monitored.happen("tcp://a:1", *events)
    until(lambda: monitored.monitor_.read(0) or monitored.monitor_.state("lighter") == state)
    assert monitored.monitor_.state("lighter") == state
    assert monitored.monitor_.state("aster") is ConnectionState.CONNECTING


def test_each_change_is_returned_and_logged_once(monitored, until, logged) -> None:
    monitored.happen("tcp://a:2", *REFUSED)
    found: dict[str, ConnectionState] = {}
    until(lambda: found.update(monitored.monitor_.read(0)) or found)
    assert found == {"aster": ConnectionState.KEY_REFUSED}
    monitored.happen("tcp://a:2", *REFUSED)
    assert monitored.monitor_.read(0) == {}
    (record,) = [record for record in logged.records if record.getMessage() == "feed.connection"]
    assert record.fields["of"] == "aster"
    assert record.fields["state"] == "key_refused"
    assert "clients/" in record.fields["advice"]


def test_connection_that_zeromq_gave_up_is_made_again(monitored, until) -> None:
    monitored.happen("tcp://a:1", *REFUSED)
    monitored.happen("tcp://a:2", *CONNECTED)
    until(lambda: monitored.monitor_.read(SECOND) or monitored.monitor_.state("aster") == "connected")
    monitored.monitor_.read(5 * SECOND)
    assert monitored.again == []
    monitored.monitor_.read(5 * SECOND + 1)
    monitored.monitor_.read(6 * SECOND)
    assert monitored.again == ["tcp://a:1"], "not the one that is connected, and once in four seconds"
    monitored.monitor_.read(10 * SECOND)
    assert monitored.again == ["tcp://a:1"] * 2


def test_monitor_is_read_once_a_second(monitored) -> None:
    monitored.monitor_.read(7 * SECOND)
    assert monitored.monitor_.due_ns == 8 * SECOND
