"""Systems in PID namespaces of their own, with kernel calls that are refused, and with a worker in a debugger."""

from __future__ import annotations

import errno
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from ptrace import Debugger
from refused_calls import PIDFD_OPEN, PIDFD_SEND_SIGNAL, SCHED_SETSCHEDULER
from systems import System, paraphina, wait_for

pytestmark = pytest.mark.integration

VENUE = "lighter"
WITHOUT_PROC = ("unshare", "--pid", "--fork")
UNSHARE = (*WITHOUT_PROC, "--mount-proc")
ENTER = ("nsenter", "--pid", "--target")
REFUSER = Path(__file__).parents[1] / "support" / "refused_calls.py"
PROGRAM = (sys.executable, "-m", "supervisor")
ORPHANS = 20


class Wrapped(System):
    """System whose command line is run by another program."""

    wrapper: tuple[str, ...] = ()

    def command(self) -> list[str]:
        return [*self.wrapper, *PROGRAM, *self.verb()]


# --- PID namespaces ---------------------------------------------------------------------------------------------------


class Contained(Wrapped):
    """System that is PID 1 of its namespace."""

    wrapper = UNSHARE

    def first(self) -> psutil.Process:
        """The supervisor, as seen from here."""
        assert self.process is not None
        children = wait_for(psutil.Process(self.process.pid).children)
        assert isinstance(children[0], psutil.Process)
        return children[0]

    def stop(self) -> int:
        assert self.process is not None
        if self.process.poll() is None:
            self.first().resume()
            self.first().terminate()
        return self.process.wait(30)


def require_unshare() -> None:
    done = subprocess.run([*UNSHARE, "true"], capture_output=True, check=False)
    if done.returncode:
        pytest.skip(f"needs a PID namespace: {done.stderr.decode().strip()}")


@pytest.fixture(scope="module")
def contained() -> Iterator[Contained]:
    require_unshare()
    with Contained("--venues", VENUE) as system:
        system.wait_live([VENUE])
        yield system


def in_namespace_of(system: Contained, *command: str) -> None:
    subprocess.run([*ENTER, str(system.first().pid), "--", *command], check=True)


def elsewhere(system: System, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run a verb in a third PID namespace."""
    command = [*UNSHARE, *PROGRAM, *arguments, "--run-dir", str(system.run_dir.path)]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


def test_pid_1_reaps_the_orphans_of_probes(contained: Contained) -> None:
    first = contained.first()
    own = {child.pid for child in first.children()}
    for _ in range(ORPHANS):
        in_namespace_of(contained, "sh", "-c", "sleep 3 & exit 0")
    wait_for(lambda: any(child.pid not in own for child in first.children()), 3, what="they come to PID 1")
    wait_for(lambda: {child.pid for child in first.children()} == own)
    assert contained.venue(VENUE)["restarts"] == 0


def test_from_another_namespace_there_are_states_but_no_pids(contained: Contained) -> None:
    done = elsewhere(contained, "status", "--json")
    status = json.loads(done.stdout)
    assert (done.returncode, status["supervisor"]["state"]) == (0, "running")
    assert (status["supervisor"]["pid"], status["supervisor"]["pid_namespace"]) == (None, "other")
    assert (status["venues"][VENUE]["state"], status["venues"][VENUE]["pid"]) == ("live", None)
    assert status["venues"][VENUE]["streams"]["book"]["age_ms"] < 10_000
    asked = elsewhere(contained, "status", "--pid", VENUE)
    assert (asked.returncode, asked.stdout, asked.stderr.count("\n")) == (4, "", 1)
    assert "another PID namespace" in asked.stderr


def test_a_second_start_beside_it_is_refused(contained: Contained) -> None:
    done = elsewhere(contained, "start", "--sim")
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)


def test_restart_and_stop_from_another_namespace_use_the_control_socket_alone() -> None:
    require_unshare()
    with Contained("--venues", VENUE) as system:
        system.wait_live([VENUE])
        assert elsewhere(system, "restart", VENUE).returncode == 0
        wait_for(lambda: system.venue(VENUE)["generation"] == 2)
        first, socket = system.first(), system.run_dir.control
        first.suspend()  # so that it does not make the socket again
        socket.rename(socket.with_suffix(".aside"))
        refused = elsewhere(system, "stop")
        assert refused.returncode in {1, 4}
        assert (refused.stdout, refused.stderr.count("\n")) == ("", 1)
        socket.with_suffix(".aside").rename(socket)
        first.resume()
        time.sleep(0.5)
        assert first.is_running()
        assert elsewhere(system, "stop").returncode == 0
        assert system.process is not None
        assert system.process.wait(10) == 0


def test_pid_1_does_not_detach_and_ends_by_a_signal_from_the_host() -> None:
    require_unshare()
    with Contained("--venues", VENUE) as system:
        system.wait_live([VENUE])
        assert elsewhere(system, "start", "--detach").stderr.startswith("paraphina-supervisor: --detach: PID 1 cannot")
        system.run_dir.control.unlink()
        assert paraphina("stop", "--run-dir", str(system.run_dir.path)).returncode == 0
        assert system.process is not None
        assert system.process.wait(10) == 0


def test_proc_of_another_namespace_is_refused() -> None:
    require_unshare()
    for verb, code in (("start", 2), ("check", 1)):
        done = subprocess.run([*WITHOUT_PROC, *PROGRAM, verb], capture_output=True, text=True, timeout=60, check=False)
        assert done.returncode == code
        assert "/proc of this PID namespace: it belongs to another PID namespace" in done.stdout + done.stderr


# --- refused calls ----------------------------------------------------------------------------------------------------


def refusing(error: int, number: int) -> tuple[str, ...]:
    return (sys.executable, str(REFUSER), str(error), str(number))


REFUSED = [
    (errno.EPERM, PIDFD_OPEN, "Linux with pidfds: pidfd_open is refused"),
    (errno.ENOSYS, PIDFD_OPEN, "Linux with pidfds: pidfd_open is refused"),
    # libzmq would abort every process.
    (errno.EPERM, SCHED_SETSCHEDULER.get(os.uname().machine), "scheduling of threads: sched_setscheduler is refused"),
]


@pytest.mark.parametrize(("error", "number", "words"), REFUSED)
def test_without_a_call_it_refuses_in_one_line_as_check_does(
    error: int, number: int | None, words: str, tmp_path: Path
) -> None:
    if number is None:
        pytest.skip("the number of the call on this machine is not known here")
    said = []
    for verb, code in (("start", 2), ("check", 1)):
        command = [*refusing(error, number), *PROGRAM, verb, "--run-dir", str(tmp_path / "run")]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
        assert done.returncode == code
        said.append((done.stdout + done.stderr).splitlines())
    [line], checked = said
    assert line.startswith(f"paraphina-supervisor: {words}")
    assert line.replace("paraphina-supervisor:", "FAIL") in checked


def test_without_pidfd_send_signal_it_runs_and_kills_by_pid() -> None:
    class Refused(Wrapped):
        wrapper = refusing(errno.EPERM, PIDFD_SEND_SIGNAL)

    with Refused("--venues", VENUE) as system:
        system.wait_live([VENUE])
        pid = system.pid(VENUE)
        os.kill(pid, signal.SIGSTOP)
        wait_for(lambda: system.venue(VENUE)["pid"] not in {None, pid})
        system.wait_live([VENUE])
        assert system.venue(VENUE)["last_exit"]["reason"] == "wedged"
        children = system.descendants()
        assert paraphina("stop", "--run-dir", str(system.run_dir.path)).returncode == 0
        assert psutil.wait_procs(children, timeout=5)[1] == []
        assert system.stop() == 0


# --- debuggers --------------------------------------------------------------------------------------------------------


def test_a_worker_in_a_debugger_is_not_killed_and_goes_live_again() -> None:
    with System("--venues", VENUE) as system:
        system.wait_live([VENUE])
        pid = system.pid(VENUE)
        threads = [int(thread.name) for thread in Path(f"/proc/{pid}/task").iterdir()]
        try:
            with Debugger(*threads):
                wait_for(lambda: system.log("worker.traced", venue=VENUE))
                wait_for(lambda: system.venue(VENUE)["state"] == "stale")
                time.sleep(3)
        except PermissionError:
            pytest.skip("needs ptrace")
        system.wait_live([VENUE])
        time.sleep(1)
        assert system.venue(VENUE)["pid"] == pid
        assert len(system.log("worker.traced")) == 1
        assert not system.log("worker.exited")
