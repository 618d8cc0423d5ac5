from __future__ import annotations

import contextlib
import json
import select
import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec
import pytest

from ipc.control import MAX_PACKET, ControlClient, ControlReply, ControlRequest, ask, decode_reply, decode_request
from ipc.errors import (
    ConfigError,
    NotAnsweringError,
    NotRunningError,
    ParaphinaError,
    UnknownStateError,
    UsageError,
)

#: Long enough for any answer that comes, short enough to wait for one that does not.
SHORT_S = 0.05


@pytest.fixture
def path(short_dir: Path) -> Path:
    return short_dir / "control"


@contextlib.contextmanager
def listening(path: Path, backlog: int = 4) -> Iterator[socket.socket]:
    """A parent that listens and does nothing by itself."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as listener:
        listener.settimeout(10)
        listener.bind(str(path))
        listener.listen(backlog)
        yield listener


@contextlib.contextmanager
def answering(path: Path, answer: Callable[[bytes], bytes | None]) -> Iterator[list[bytes]]:
    """A parent that gives one answer (None: hangs up); what it was asked is in the list."""
    asked: list[bytes] = []

    def serve() -> None:
        client, _ = listener.accept()
        with client:
            asked.append(client.recv(1 << 20))
            reply = answer(asked[-1])
            if reply is not None:
                client.send(reply)

    with listening(path) as listener:
        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield asked
        finally:
            thread.join(10)


# --- messages -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("request_", "packet"),
    [
        (ControlRequest("ping"), b'{"verb":"ping"}'),
        (ControlRequest("restart", target="lighter"), b'{"verb":"restart","target":"lighter"}'),
        (ControlRequest("drill", "aster", "kill"), b'{"verb":"drill","target":"aster","fault":"kill"}'),
        (ControlRequest("follow", after=7), b'{"verb":"follow","after":7}'),
    ],
)
def test_request_on_the_wire(request_: ControlRequest, packet: bytes) -> None:
    assert msgspec.json.encode(request_) == packet
    assert decode_request(packet) == request_


@pytest.mark.parametrize("verb", ["ping", "stop", "restart", "reload", "drill", "follow"])
def test_every_verb_is_understood(verb: str) -> None:
    assert decode_request(json.dumps({"verb": verb}).encode()).verb == verb


@pytest.mark.parametrize("fault", ["kill", "segv", "stop", "exit", "hang", "memory"])
def test_every_fault_can_be_drilled(fault: str) -> None:
    assert decode_request(json.dumps({"verb": "drill", "fault": fault}).encode()).fault == fault


@pytest.mark.parametrize(
    "packet",
    [
        b"",
        b"stop",
        b"[]",
        b"{}",
        b'{"verb":"explode"}',
        b'{"verb":"stop","force":true}',
        b'{"verb":"drill","fault":"boredom"}',
        b'{"verb":"follow","after":"9"}',
        b'{"verb":"restart","target":"\xff"}',
        b'{"verb":"stop"',
        b'{"verb":' + b"[" * 60_000,
    ],
    ids=lambda packet: packet[:30].decode("latin-1"),
)
def test_what_is_no_request_is_the_clients_mistake(packet: bytes) -> None:
    with pytest.raises(UsageError, match="not a control request"):
        decode_request(packet)


@pytest.mark.parametrize(
    ("reply", "packet"),
    [
        (ControlReply(ok=True), b'{"ok":true}'),
        (ControlReply(ok=True, data={"pid": 7}), b'{"ok":true,"data":{"pid":7}}'),
        (
            ControlReply(False, "no such worker", "see status"),
            b'{"ok":false,"error":"no such worker","advice":"see status"}',
        ),
    ],
)
def test_reply_on_the_wire(reply: ControlReply, packet: bytes) -> None:
    assert msgspec.json.encode(reply) == packet
    assert decode_reply(packet) == reply


def test_reply_of_a_newer_parent_is_understood() -> None:
    assert decode_reply(b'{"ok":true,"more":[1]}') == ControlReply(ok=True)


def test_replies_do_not_share_their_data() -> None:
    ControlReply(ok=True).data["pid"] = 7
    assert ControlReply(ok=True).data == {}


@pytest.mark.parametrize(
    "packet", [b"", b"{}", b'{"ok":1}', b'{"ok":true,"data":[]}', b"\xff", b'{"ok":true,"data":{"a":' + b"[" * 60_000]
)
def test_what_is_no_reply_is_an_error_of_ours(packet: bytes) -> None:
    with pytest.raises(ParaphinaError, match="not a control reply"):
        decode_reply(packet)


# --- asking -------------------------------------------------------------------------------------------------------


def test_question_is_one_packet_and_so_is_its_answer(path: Path) -> None:
    with answering(path, lambda _: b'{"ok":true,"data":{"pid":7}}') as asked:
        assert ask(path, ControlRequest("ping")) == ControlReply(ok=True, data={"pid": 7})
    assert asked == [b'{"verb":"ping"}']


def test_refusal_is_the_users_mistake_with_the_parents_words(path: Path) -> None:
    refusal = b'{"ok":false,"error":"no worker dydx","advice":"see status"}'
    with answering(path, lambda _: refusal), pytest.raises(UsageError) as caught:
        ask(path, ControlRequest("restart", target="dydx"))
    assert (caught.value.what, caught.value.advice) == ("no worker dydx", "see status")


@pytest.mark.parametrize("unread", [False, True])
def test_parent_that_says_why_it_hangs_up_is_understood(path: Path, *, unread: bool) -> None:
    """Whether the request came before or after the connection was closed."""
    reply = ControlReply.refusing(UnknownStateError("this system belongs to user desk1", advice="sudo"))
    with listening(path) as listener, ControlClient(path) as client:
        if unread:
            client.send(ControlRequest("restart"))
        accepted, _ = listener.accept()
        accepted.send(msgspec.json.encode(reply))
        accepted.close()
        if not unread:
            client.send(ControlRequest("restart"))
        refused = decode_reply(client.receive()).refusal()
        assert (type(refused), refused.what, refused.advice) == (
            UnknownStateError,
            "this system belongs to user desk1",
            "sudo",
        )


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (UsageError("no"), UsageError),
        (UnknownStateError("no"), UnknownStateError),
        (ParaphinaError("no"), ParaphinaError),
        (ConfigError(["one", "two"]), ConfigError),
    ],
)
def test_refusal_keeps_its_kind_and_exit_code(path: Path, error: ParaphinaError, kind: type) -> None:
    packet = msgspec.json.encode(ControlReply.refusing(error))
    with answering(path, lambda _: packet), pytest.raises(ParaphinaError) as caught:
        ask(path, ControlRequest("reload"))
    assert (type(caught.value), caught.value.exit_code, str(caught.value)) == (kind, error.exit_code, str(error))


def test_client_waits_until_the_clients_before_it_are_accepted(path: Path) -> None:
    with listening(path, backlog=0) as listener, contextlib.ExitStack() as stack:
        stack.enter_context(ControlClient(path, SHORT_S))
        with pytest.raises(NotAnsweringError):
            ControlClient(path, SHORT_S)
        timer = threading.Timer(0.1, lambda: stack.enter_context(listener.accept()[0]))
        timer.start()
        stack.enter_context(ControlClient(path, 20))
        timer.join()


def test_nobody_listening_is_not_running(path: Path) -> None:
    with pytest.raises(NotRunningError, match="no supervisor is running here") as caught:
        ask(path, ControlRequest("ping"))
    assert caught.value.where == str(path.parent)
    assert "start" in caught.value.advice


def test_somebody_elses_supervisor_is_not_called_absent(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("ipc.control.socket.socket.connect", refuse)
    with pytest.raises(UnknownStateError, match="refused: the system belongs to "):
        ask(path, ControlRequest("ping"))


def test_socket_that_a_dead_parent_left_is_not_running(path: Path) -> None:
    with listening(path):
        pass
    assert path.exists()
    with pytest.raises(NotRunningError):
        ask(path, ControlRequest("ping"))


def test_failed_connection_leaves_no_descriptor_open(path: Path) -> None:
    before = len(list(Path("/proc/self/fd").iterdir()))
    with pytest.raises(NotRunningError):
        ControlClient(path)
    assert len(list(Path("/proc/self/fd").iterdir())) == before


def test_silent_parent_is_reported_as_such_after_the_timeout(path: Path) -> None:
    with listening(path), pytest.raises(ParaphinaError, match=r"did not answer within 0\.05 s") as caught:
        ask(path, ControlRequest("ping"), SHORT_S)
    assert not isinstance(caught.value, NotRunningError)
    assert caught.value.where == str(path)
    assert "status" in caught.value.advice


def test_parent_too_wedged_to_accept_is_not_taken_for_absent(path: Path) -> None:
    with listening(path, backlog=0), contextlib.ExitStack() as stack:
        with contextlib.suppress(ParaphinaError):
            for _ in range(4):
                stack.enter_context(ControlClient(path, SHORT_S))
        with pytest.raises(ParaphinaError) as caught:
            ask(path, ControlRequest("ping"), SHORT_S)
        assert not isinstance(caught.value, NotRunningError)


def test_parent_that_hangs_up_is_gone(path: Path) -> None:
    with answering(path, lambda _: None), pytest.raises(NotRunningError, match="the supervisor is gone"):
        ask(path, ControlRequest("ping"))


def test_parent_that_dies_while_asked_is_gone(path: Path) -> None:
    with listening(path) as listener, ControlClient(path) as client:
        accepted, _ = listener.accept()
        accepted.close()
        with pytest.raises(NotRunningError, match="the supervisor is gone"):
            client.send(ControlRequest("ping"))
        with pytest.raises(NotRunningError, match="the supervisor is gone"):
            client.receive()


def test_parent_that_drops_an_unread_question_is_gone(path: Path) -> None:
    with listening(path) as listener, ControlClient(path) as client:
        client.send(ControlRequest("ping"))
        accepted, _ = listener.accept()
        accepted.close()
        with pytest.raises(NotRunningError, match="the supervisor is gone"):
            client.receive()


def test_answer_longer_than_a_packet_may_be_is_no_reply(path: Path) -> None:
    long = msgspec.json.encode(ControlReply(ok=True, data={"text": "x" * MAX_PACKET}))
    with answering(path, lambda _: long), pytest.raises(ParaphinaError, match="not a control reply"):
        ask(path, ControlRequest("ping"))


def test_answer_as_long_as_a_packet_may_be_is_read(path: Path) -> None:
    frame = len(msgspec.json.encode(ControlReply(ok=True, data={"text": ""})))
    long = ControlReply(ok=True, data={"text": "x" * (MAX_PACKET - frame)})
    with answering(path, lambda _: msgspec.json.encode(long)):
        assert ask(path, ControlRequest("ping")) == long


def test_question_too_long_to_send_is_the_users_mistake(path: Path) -> None:
    with listening(path), pytest.raises(UsageError):
        ask(path, ControlRequest("restart", target="x" * 1_000_000), SHORT_S)


def test_client_reads_packet_by_packet_and_can_be_polled(path: Path) -> None:
    with listening(path) as listener, ControlClient(path, SHORT_S) as client:
        accepted, _ = listener.accept()
        with accepted:
            with pytest.raises(TimeoutError):
                client.receive()
            accepted.send(b"one")
            accepted.send(b"two")
            assert select.select([client], [], [], 10)[0] == [client]
            assert (client.receive(), client.receive()) == (b"one", b"two")


def test_client_is_closed_by_its_context(path: Path) -> None:
    with listening(path):
        with ControlClient(path) as client:
            assert client.fileno() >= 0
        assert client.fileno() == -1
