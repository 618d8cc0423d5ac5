"""Name servers that do not answer: the system runs where ``/etc/resolv.conf`` leads to one that a test commands."""

from __future__ import annotations

import shutil
import socket
import struct
import subprocess
import sys
import threading
import time
from pathlib import Path

import psutil
import pytest
from systems import Listener, System, wait_for

from ipc.events import Heartbeat

pytestmark = pytest.mark.integration

VENUE = "lighter"
#: RFC 6761, section 6.2: nobody's name.
HOST = "venue.test"
_ADDRESSES = [f"127.53.0.{last}" for last in range(1, 20)]
_TYPE_A = 1
START_MS = 3000


class NameServer:
    """Says that every name is 127.0.0.1, or nothing at all (RFC 1035, section 4); a context manager.

    Attributes:
        answers: Whether it answers.
        questions: How many it was asked.
    """

    def __init__(self):
        self.answers = False
        self.questions = 0
        self._socket, self.address = _bound()
        self._socket.settimeout(0.1)
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._serve)

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *_):
        self._over.set()
        self._thread.join(10)
        self._socket.close()

    def _serve(self):
        while not self._over.is_set():
            try:
                question, client = self._socket.recvfrom(4096)
            except TimeoutError:
                continue
            self.questions += 1
            if self.answers:
                self._socket.sendto(_answer(question), client)


def _bound():
    """A socket on the port of name servers, at a loopback address where nobody has it."""
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    for address in _ADDRESSES:
        try:
            sock.bind((address, 53))
        except OSError as error:
            reason = error.strerror
            continue
        return sock, address
    sock.close()
    pytest.skip(f"no name server can listen on port 53 here: {reason}")


def _answer(question):
    end = question.index(b"\0", 12) + 5
    kind = int.from_bytes(question[end - 4 : end - 2], "big")
    # Only names to IPv4; anyone who asks for IPv6 learns that there is none.
    record = struct.pack("!HHHIH4s", 0xC00C, _TYPE_A, 1, 1, 4, socket.inet_aton("127.0.0.1"))
    records = [record] if kind == _TYPE_A else []
    return question[:2] + struct.pack("!HHHHH", 0x8180, 1, len(records), 0, 0) + question[12:end] + b"".join(records)


#: Lays files over others, for this process and those that it starts, and becomes a program.
_OVERLAY = 'while [ "$1" != -- ]; do mount --bind "$1" "$2" || exit 125; shift 2; done; shift; exec "$@"'


def overlaid(files, command):
    """A command that sees other files in place of some of the machine's."""
    pairs = [str(word) for place, file in files.items() for word in (file, place)]
    return ["unshare", "--mount", "sh", "-c", _OVERLAY, "sh", *pairs, "--", *command]


class Elsewhere(System):
    """A system that sees other files in place of some of the machine's."""

    def __init__(self, files, *arguments, **kwargs):
        super().__init__(*arguments, sim=False, **kwargs)
        self._files = files

    def start(self):
        command = [sys.executable, "-m", "supervisor", "start", "--run-dir", str(self.run_dir.path), *self.arguments]
        with (self.path / "out").open("ab") as out, (self.path / "log").open("ab") as log:
            self.process = subprocess.Popen(overlaid(self._files, command), stdout=out, stderr=log, env=self.env)
        return self


@pytest.fixture
def name_server():
    with NameServer() as server:
        yield server


@pytest.fixture
def files(tmp_path, name_server):
    """What leads look-ups to the name server, and nowhere else."""
    if shutil.which("unshare") is None:
        pytest.skip("there is no unshare(1) here")
    wanted = {
        "/etc/resolv.conf": f"nameserver {name_server.address}\n",
        "/etc/nsswitch.conf": "hosts: files dns\n",
    }
    files = {}
    for place, text in wanted.items():
        if Path(place).exists():
            files[place] = tmp_path / Path(place).name
            files[place].write_text(text)
    tried = subprocess.run(overlaid(files, ["true"]), capture_output=True)
    if tried.returncode:
        pytest.skip(f"no private mount namespace here (it takes root): {tried.stderr.decode().strip()}")
    return files


@pytest.fixture(scope="module")
def sim():
    """A system whose simulator is the venue."""
    with System("--venues", VENUE) as sim:
        sim.wait_live([VENUE])
        yield sim


def configured(sim, *, connect_ms=1000, backoff_ms=1000):
    """A configuration that knows the simulator by a name that must be looked up."""
    urls = {side: url.replace("127.0.0.1", HOST) for side, url in sim.status()["simulator"]["venues"][VENUE].items()}
    return f"""
        [supervisor]
        backoff_base_ms = {backoff_ms}
        backoff_cap_ms = {backoff_ms}
        [health]
        start_timeout_ms = {START_MS}
        [venues.{VENUE}]
        ws_url = "{urls["ws"]}"
        rest_url = "{urls["rest"]}"
        connect_timeout_ms = {connect_ms}
    """


def beats_go_on(listener, since):
    """Whether a heartbeat came every second since then, give or take what a busy machine does to them."""
    return len(listener.of(Heartbeat, VENUE, since=since)) > 0.6 * (time.monotonic() - since) - 1


def test_a_worker_that_cannot_find_its_venue_is_left_alone_and_goes_live_when_it_can(sim, files, name_server):
    config = configured(sim)
    with (
        Elsewhere(files, "--venues", VENUE, config=config) as system,
        Listener(system, channels=["heartbeat"]) as listener,
    ):
        wait_for(lambda: system.log("worker.started", venue=VENUE))
        pid, began = system.pid(VENUE), time.monotonic()
        wait_for(lambda: len(system.log("markets.unresolved", reason="dns_failed")) >= 2)
        assert time.monotonic() - began > 2 * START_MS / 1000, "long enough to be taken for one that does not start"
        assert name_server.questions
        assert beats_go_on(listener, began)
        name_server.answers = True
        system.wait_live([VENUE])
        assert system.pid(VENUE) == pid
        assert not system.log("worker.exited")
        assert not system.log("worker.killing")


@pytest.mark.parametrize(
    ("connect_ms", "text"),
    [
        pytest.param(1000, "no answer for venue.test", id="the connect deadline comes first"),
        pytest.param(15_000, "cannot resolve venue.test", id="the resolver gives up first"),
    ],
)
def test_a_session_that_cannot_find_its_venue_names_it_and_is_live_when_it_can(
    sim, files, name_server, connect_ms, text
):
    name_server.answers = True
    with Elsewhere(files, "--venues", VENUE, config=configured(sim, connect_ms=connect_ms)) as system:
        system.wait_live([VENUE])
        pid = system.pid(VENUE)
        with Listener(system, channels=["heartbeat"]) as listener:
            wait_for(lambda: listener.of(Heartbeat, VENUE))
            name_server.answers = False
            began = time.monotonic()
            sim.fault(VENUE, "close")

            def failures():
                return [r for r in system.log("ws.connect_failed", reason="dns_failed") if text in r["text"]]

            wait_for(lambda: len(failures()) >= 3)
            assert system.venue(VENUE)["streams"]["book"]["reason"] == "dns_failed"
            assert beats_go_on(listener, began)
            name_server.answers = True
            wait_for(lambda: system.venue(VENUE)["state"] == "live")
        assert system.pid(VENUE) == pid
        assert not system.log("worker.exited")
        assert not system.log("worker.killing")


def test_abandoned_look_ups_do_not_pile_up(sim, files, name_server):
    attempts = 16
    name_server.answers = True
    config = configured(sim, connect_ms=500, backoff_ms=50)
    with Elsewhere(files, "--venues", VENUE, config=config) as system:
        system.wait_live([VENUE])
        worker = psutil.Process(system.pid(VENUE))
        before = worker.num_threads()
        name_server.answers = False
        sim.fault(VENUE, "close")
        most = before

        def has_tried_often():
            nonlocal most
            most = max(most, worker.num_threads())
            return system.venue(VENUE)["sessions"]["main"]["attempt"] >= attempts

        wait_for(has_tried_often)
        assert most > before, "a look-up has a thread of its own"
        assert most - before <= attempts // 2
        name_server.answers = True
        system.wait_live([VENUE])
        wait_for(lambda: worker.num_threads() <= before)
