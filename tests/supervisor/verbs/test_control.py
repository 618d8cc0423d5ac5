"""``stop``, ``restart`` and ``reload``, against a parent that the test plays."""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import sys
import threading
import time

import pytest

from ipc.control import ControlReply, ask
from ipc.errors import ConfigError, NotRunningError, UsageError
from ipc.health import WorkerState
from supervisor.control import ControlServer
from supervisor.lock import Holder
from supervisor.proc import Peer, is_stopped
from supervisor.verbs import control as operate


@pytest.fixture
def control(run_dir):
    """Answers on the control socket from a thread: ``control(handle)``; gives the requests that came."""
    ends, asked = threading.Event(), []
    servers = []

    def serve(handle):
        readers = {}

        def watch(descriptor, callback):
            readers.pop(descriptor, None) if callback is None else readers.update({descriptor: callback})

        def answer(request, _):
            asked.append(request)
            return handle(request)

        server = ControlServer(run_dir.control, answer, watch)

        def loop():
            while not ends.is_set():
                for descriptor in select.select(list(readers), [], [], 0.01)[0]:
                    readers.get(descriptor, lambda: None)()
            server.close()

        servers.append(threading.Thread(target=loop))
        servers[-1].start()
        return asked

    yield serve
    ends.set()
    for server in servers:
        server.join()


@pytest.mark.parametrize("verb", ["stop", "restart", "reload"])
def test_nothing_runs(cli, verb, run_dir):
    ran = cli(verb)
    assert ran.code == 3
    assert ran.err.startswith(f"paraphina-supervisor: {run_dir.path}: no supervisor is running here")


@pytest.mark.parametrize("verb", ["stop", "restart", "reload"])
def test_a_directory_that_does_not_exist(cli, verb, run_dir):
    ran = cli(verb, "--run-dir", run_dir.path / "missing")
    assert ran.code == 3
    assert "missing: no supervisor is running here" in ran.err


def test_a_stale_control_socket_is_nobody(cli, run_dir):
    ControlServer(run_dir.control, lambda *_: ControlReply(True), lambda *_: None).close()
    assert cli("restart").code == 3


# --- stop -------------------------------------------------------------------------------------------------------------


def test_stop_asks_and_waits_until_the_lock_is_free(cli, run_dir, held_lock, control):
    def handle(_):
        threading.Timer(0.2, lambda: os.kill(held_lock, signal.SIGKILL)).start()
        return ControlReply(True)

    asked = control(handle)
    ran = cli("stop")
    assert (ran.code, ran.out) == (0, "stopped\n")
    assert [request.verb for request in asked] == ["stop"]


def test_stop_sends_term_when_nobody_answers(cli, held_lock, start_holder):
    ran = cli("stop")
    assert (ran.code, ran.out) == (0, "stopped\n")


def test_stop_sends_term_when_the_request_is_refused(cli, held_lock, control):
    def handle(_):
        raise UsageError("not now")

    control(handle)
    assert cli("stop").code == 0


@pytest.fixture
def signalled(monkeypatch):
    """Signals that were sent, none of which arrives."""
    sent = []
    monkeypatch.setattr(operate.signal, "pidfd_send_signal", lambda *args: sent.append(args))
    monkeypatch.setattr(os, "kill", lambda *args: sent.append(args))
    return sent


def test_stop_signals_nobody_of_another_pid_namespace(cli, run_dir, monkeypatch, signalled):
    monkeypatch.setattr(operate, "holder_of", lambda _: Holder(None))
    ran = cli("stop")
    assert (ran.code, ran.out, signalled) == (4, "", [])
    assert ran.err == (
        f"paraphina-supervisor: {run_dir.path}: it runs in another PID namespace and does not answer on its control"
        " socket (stop its container, or run this in it)\n"
    )


def test_stop_signals_nobody_when_the_lock_has_another_holder_by_then(cli, monkeypatch, signalled, start_holder):
    holders = iter([Holder(os.getpid()), Holder(17), None])
    monkeypatch.setattr(operate, "holder_of", lambda _: next(holders))
    assert (cli("stop").code, signalled) == (0, [])


def test_stop_says_so_when_a_signal_is_refused(cli, held_lock, monkeypatch):
    def refuse(*_):
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(operate.signal, "pidfd_send_signal", refuse)
    ran = cli("stop")
    assert (ran.code, ran.out) == (4, "")
    assert "a signal is refused: Operation not permitted (end it with: kill " in ran.err


def test_stop_gives_up_on_one_that_does_not_end(cli, run_dir, held_lock, control, monkeypatch):
    control(lambda *_: ControlReply(True))
    monkeypatch.setattr(operate, "_STOP_S", 0.1)
    ran = cli("stop")
    assert ran.code == 1
    assert f"pid {held_lock}: it is still running after 0.1 s" in ran.err
    assert f"kill -9 {held_lock}" in ran.err


def test_stop_of_a_second_system_leaves_the_first_alone(cli, run_dir, held_lock):
    assert cli("stop", "--run-dir", run_dir.path.parent / "other").code == 3
    os.kill(held_lock, 0)


def test_stop_of_one_that_dies_meanwhile_is_done(cli, start_holder, run_dir, monkeypatch):
    holder = start_holder(run_dir.lock)

    def dies_before_it_answers(*_):
        holder.kill()
        holder.wait()
        raise NotRunningError("the supervisor is gone")

    monkeypatch.setattr(operate, "ask", dies_before_it_answers)
    ran = cli("stop")
    assert (ran.code, ran.out) == (0, "stopped\n")


@pytest.fixture
def system(boards, run_dir, held_lock, monkeypatch):
    """System of this moment whose supervisor is the holder of the lock; its processes do not exist."""
    monkeypatch.setattr(boards, "NOW", time.monotonic_ns())
    system = boards.WrittenSystem(run_dir)
    yield system
    system.board.close()


@pytest.fixture
def sleeper():
    process = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    yield process
    process.kill()
    process.wait()


def ending(pid):
    """Return a handler that ends the supervisor."""

    def handle(_):
        threading.Timer(0.05, lambda: os.kill(pid, signal.SIGKILL)).start()
        return ControlReply(True)

    return handle


@pytest.mark.parametrize("as_json", [False, True])
def test_stop_names_a_process_that_is_left_behind(cli, system, held_lock, control, sleeper, monkeypatch, as_json):
    monkeypatch.setattr(operate, "_LEFT_S", 0.05)
    system.process("paradex", PID=sleeper.pid)
    control(ending(held_lock))
    ran = cli("stop", *(["--json"] if as_json else []))
    assert ran.code == 1
    if as_json:
        assert json.loads(ran.out) == {"stopped": False, "pid": held_lock, "left_behind": {"paradex": sleeper.pid}}
    else:
        assert ran.out == ""
        assert f"the supervisor has ended and left behind: paradex (pid {sleeper.pid})" in ran.err


@pytest.mark.parametrize("as_json", [False, True])
def test_stop_waits_for_the_processes_too(cli, system, held_lock, control, sleeper, as_json):
    system.process("paradex", PID=sleeper.pid)
    control(ending(held_lock))
    threading.Timer(0.4, sleeper.kill).start()
    ran = cli("stop", *(["--json"] if as_json else []))
    assert ran.code == 0
    assert sleeper.poll() is not None
    assert (json.loads(ran.out)["left_behind"] == {}) if as_json else (ran.out == "stopped\n")


# --- a supervisor that does nothing -----------------------------------------------------------------------------------


@pytest.fixture
def impatient(monkeypatch):
    """Wait a moment for replies."""
    monkeypatch.setattr(operate, "ask", lambda path, request: ask(path, request, 0.1))


@pytest.mark.parametrize("verb", ["stop", "restart", "reload"])
def test_a_stalled_supervisor_that_does_not_answer_is_described(
    cli, boards, system, held_lock, verb, impatient, run_dir
):
    system.header(PARENT_BEAT=boards.ago(5))
    server = ControlServer(run_dir.control, lambda *_: ControlReply(True), lambda *_: None)  # nobody reads
    ran = cli(verb)
    server.close()
    assert (ran.code, ran.out) == (1, "")
    assert ran.err.startswith(f"paraphina-supervisor: pid {held_lock}: the supervisor does not answer: it last worked ")
    assert f"kill -9 {held_lock}" in ran.err
    os.kill(held_lock, 0)


def test_a_supervisor_that_was_late_and_answers_is_not_stalled(cli, boards, system, control):
    system.header(PARENT_BEAT=boards.ago(5))
    control(lambda *_: ControlReply(True))
    assert cli("restart").code == 0


@pytest.mark.parametrize("verb", ["stop", "restart", "reload"])
def test_a_stopped_supervisor_is_recognised_at_once(cli, system, held_lock, control, verb, forking):
    asked = control(lambda *_: ControlReply(True))
    os.kill(held_lock, signal.SIGSTOP)
    forking.wait_until(lambda: is_stopped(held_lock))
    ran = cli(verb)
    assert (ran.code, ran.out) == (1, "")
    assert "the supervisor does not answer: it is stopped (state T)" in ran.err
    assert f"kill -CONT {held_lock}" in ran.err
    assert f"kill -9 {held_lock}" in ran.err
    assert asked == []


# --- restart ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "target", "said"), [(["lighter"], "lighter", "lighter"), ([], None, "all workers")]
)
def test_restart_asks_for_one_or_for_all(cli, control, arguments, target, said):
    asked = control(lambda *_: ControlReply(True))
    ran = cli("restart", *arguments)
    assert (ran.code, ran.out) == (0, f"{said}: restarting\n")
    assert [(request.verb, request.target) for request in asked] == [("restart", target)]


def test_restart_of_a_stranger_is_refused_with_the_known_ones(cli, control):
    def handle(_):
        raise UsageError("no process 'binance' here", advice="there are lighter, gateway")

    control(handle)
    ran = cli("restart", "binance")
    assert ran.code == 2
    assert ran.err == "paraphina-supervisor: no process 'binance' here (there are lighter, gateway)\n"


def test_restart_of_what_cannot_be_ended_says_so(cli, control):
    control(lambda _: ControlReply(True, data={"states": {"lighter": "restarting", "paradex": "unkillable"}}))
    ran = cli("restart")
    assert ran.code == 1
    assert ran.out.startswith("paradex: not restarted, its process survived SIGKILL")
    ran = cli("restart", "--json")
    assert ran.code == 1
    assert json.loads(ran.out) == {"states": {"lighter": "restarting", "paradex": "unkillable"}}


# --- reload -----------------------------------------------------------------------------------------------------------

DIFFERENCE = {
    "settings": ["supervisor.venues", "supervisor.log_level"],
    "added": ["aster"],
    "removed": ["paradex"],
    "restarting": ["lighter", "gateway"],
    "needs_start": ["supervisor.log_level"],
}


def test_reload_shows_what_it_changes(cli, control):
    asked = control(lambda _: ControlReply(True, data={"pid": 1, **DIFFERENCE}))
    ran = cli("reload")
    assert (ran.code, ran.out.splitlines()) == (
        0,
        [
            "changed settings: supervisor.venues, supervisor.log_level",
            "added: aster",
            "removed: paradex",
            "restarting, one after the other: lighter, gateway",
            "takes effect at the next start of the system: supervisor.log_level",
        ],
    )
    assert json.loads(cli("reload", "--json").out) == DIFFERENCE
    assert [request.verb for request in asked] == ["reload", "reload"]


def test_reload_of_the_same_configuration(cli, control):
    control(lambda _: ControlReply(True, data={"pid": 1, **{key: [] for key in DIFFERENCE}}))
    ran = cli("reload")
    assert (ran.code, ran.out) == (0, "nothing changed\n")


def test_reload_prints_every_mistake_as_start_does(cli, control):
    def handle(_):
        raise ConfigError(["a.toml:supervisor.tick_ms: must be a whole number", "a.toml:extra: unknown key"])

    control(handle)
    ran = cli("reload")
    assert (ran.code, ran.out) == (2, "")
    assert ran.err.splitlines() == [
        "paraphina-supervisor: a.toml:supervisor.tick_ms: must be a whole number",
        "paraphina-supervisor: a.toml:extra: unknown key",
    ]


# --- stop and start of a venue ----------------------------------------------------------------------------------------


@pytest.fixture
def stopping(system, control, boards):
    """Answer ``stop_venue`` of paradex, which is then killed; return the requests, and how its state is to change.

    The time until the change counts from the request, however long the verb takes to make it.
    """
    changes = []

    def change(state, *, later_s):
        changes.append((state, later_s))

    def handle(_):
        system.process("paradex", WorkerState.KILLING, PID=os.getpid(), STOPPED_AT=time.monotonic_ns(), STOPPED_BY=1)
        for state, later_s in changes:
            threading.Timer(later_s, system.process, ("paradex", state)).start()
        return ControlReply(True, data={"states": {"paradex": "stopping"}})

    return change, control(handle)


def test_stop_of_a_venue_waits_until_it_is_gone(cli, stopping):
    change, asked = stopping
    change(WorkerState.STOPPED, later_s=0.3)
    began = time.monotonic()
    ran = cli("stop", "paradex")
    assert (ran.code, ran.out) == (0, "paradex: stopped\n")
    assert time.monotonic() - began >= 0.2
    assert [(request.verb, request.target) for request in asked] == [("stop_venue", "paradex")]


def test_stop_of_a_venue_for_programs(cli, stopping):
    stopping[0](WorkerState.STOPPED, later_s=0.3)
    ran = cli("stop", "paradex", "--json")
    shown = json.loads(ran.out)
    assert (ran.code, shown["venue"], shown["state"]) == (0, "paradex", "stopped")
    assert shown["stopped"]["by"] == "root"
    assert 0 <= shown["stopped"]["ago_s"] < 60


@pytest.mark.parametrize(
    ("state", "said"),
    [
        (WorkerState.UNKILLABLE, "paradex: its process survived SIGKILL; it is not started again when that is gone"),
        (WorkerState.STARTING, "paradex: starting, not stopped; see: paraphina-supervisor status"),
    ],
)
def test_a_venue_that_is_not_stopped_in_the_end(cli, stopping, state, said):
    stopping[0](state, later_s=0.2)
    ran = cli("stop", "paradex")
    assert (ran.code, ran.out) == (1, f"{said}\n")


def test_stop_of_a_stranger_stops_nothing(cli, control, held_lock):
    def handle(_):
        raise UsageError("no venue 'binance' here", advice="there are lighter")

    control(handle)
    ran = cli("stop", "binance")
    assert (ran.code, ran.err) == (2, "paraphina-supervisor: no venue 'binance' here (there are lighter)\n")
    os.kill(held_lock, 0)


@pytest.mark.parametrize(
    ("state", "code", "said"),
    [
        ("starting", 0, "paradex: starting"),
        ("restarting", 0, "paradex: starting"),
        ("unkillable", 1, "paradex: not started, its process survived SIGKILL; it is started when that is gone"),
    ],
)
def test_start_of_a_venue(cli, control, state, code, said):
    asked = control(lambda _: ControlReply(True, data={"states": {"paradex": state}}))
    ran = cli("start", "paradex")
    assert (ran.code, ran.out) == (code, f"{said}\n")
    assert json.loads(cli("start", "--json", "paradex").out) == {"venue": "paradex", "state": state}
    assert [(request.verb, request.target) for request in asked] == [("start_venue", "paradex")] * 2


def test_start_of_a_venue_that_runs_is_refused(cli, control):
    def handle(_):
        raise UsageError("paradex is not stopped: it is live", advice="restart it")

    control(handle)
    ran = cli("start", "paradex")
    assert (ran.code, ran.err) == (2, "paraphina-supervisor: paradex is not stopped: it is live (restart it)\n")


def test_start_of_a_venue_without_a_system(cli):
    ran = cli("start", "paradex")
    assert ran.code == 3
    assert "no supervisor is running here (start one with: paraphina-supervisor start --venues paradex)" in ran.err


@pytest.mark.parametrize(
    "option",
    [["--sim"], ["--sim-rate", "50"], ["--venues", "aster"], ["--config", "x.toml"], ["--for", "5m"], ["--detach"]],
    ids=lambda option: option[0],
)
def test_options_that_start_a_system_do_not_go_with_a_venue(cli, control, option):
    asked = control(lambda _: ControlReply(True, data={"states": {"paradex": "starting"}}))
    ran = cli("start", "paradex", *option)
    assert ran.code == 2
    assert ran.err == (
        f"paraphina-supervisor: {option[0]}: starts a system, and paradex is a venue of one that runs"
        " (leave it out; to start a system with this venue alone: --venues paradex)\n"
    )
    assert asked == []


# --- another user's system --------------------------------------------------------------------------------------------


@pytest.fixture
def foreign(monkeypatch, control):
    """Control socket of a supervisor that belongs to the user desk1."""
    monkeypatch.setattr("supervisor.control.peer_of", lambda _: Peer(1, 54_321))
    monkeypatch.setattr("supervisor.control.sudo_name", lambda _: "desk1")
    return control(lambda _: ControlReply(True))


@pytest.mark.parametrize("arguments", [["stop"], ["stop", "paradex"], ["start", "paradex"], ["restart"], ["reload"]])
def test_another_users_system_is_left_alone_and_the_command_is_named(cli, system, foreign, held_lock, arguments):
    ran = cli(*arguments)
    assert (ran.code, ran.out) == (4, "")
    assert ran.err == (
        "paraphina-supervisor: refused: the system belongs to desk1"
        f" (run: sudo -u desk1 paraphina-supervisor {arguments[0]} ...)\n"
    )
    assert foreign == []
    os.kill(held_lock, 0)


def test_a_drill_of_another_users_system_is_refused_before_it_begins(cli, system, foreign):
    system.describe_simulator()
    system.header(PARENT_BEAT=time.monotonic_ns())
    ran = cli("drill", "kill", "--run-dir", system.run_dir.path)
    assert (ran.code, ran.out) == (4, "")
    assert "refused: the system belongs to desk1 (run: sudo -u desk1 paraphina-supervisor drill ...)" in ran.err
