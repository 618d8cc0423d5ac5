"""Each fault has one word, the same wherever it is reported: in the log, on the bus, in the status, in the report."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from storm import SETTINGS
from systems import Listener, System, wait_for

from ipc.control import ControlRequest, ask
from ipc.events import Gap, Lifecycle

pytestmark = pytest.mark.integration

VENUE = "lighter"
SYMBOLS = ("BTC-PERP", "ETH-PERP")

#: Faults of the network, with their parameters, and the word for what ends the session.
SESSIONS: dict[str, tuple[str, dict[str, Any]]] = {
    "server_close": ("close", {}),
    "stale_watchdog": ("stall", {"duration_s": 2.3}),
    "pong_timeout": ("no_pong", {"duration_s": 2.3}),
    "server_shutdown": ("shutdown", {}),
}
#: Faults of a book that are mended in the session.
BOOKS: dict[str, tuple[str, dict[str, Any]]] = {
    "seq_gap": ("drop_delta", {}),
    "crossed_book": ("crossed_book", {}),
    "parse_errors": ("corrupt_delta", {}),
}


@pytest.fixture(scope="module")
def system() -> Iterator[System]:
    with System("--venues", VENUE, config=SETTINGS) as system:
        system.wait_live([VENUE])
        yield system


@pytest.fixture(scope="module")
def listener(system: System) -> Iterator[Listener]:
    with Listener(system, channels=["book", "lifecycle"]) as listener:
        yield listener


@pytest.fixture(scope="module")
def reported(
    system: System, listener: Listener, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Callable[[], Any]]:
    """A shadow run beside all of this: ends it, and gives what it reports of the venue."""
    directory = tmp_path_factory.mktemp("shadow")
    command = [sys.executable, "-m", "supervisor", "shadow", "--duration", "1h", "--report", str(directory)]
    run = subprocess.Popen([*command, "--run-dir", str(system.run_dir.path)], stdout=subprocess.DEVNULL)
    record = directory / "shadow.jsonl"

    def seconds() -> int:
        return record.read_bytes().count(b'"second"') if record.exists() else 0

    wait_for(seconds, what="it records")

    def report() -> Any:
        known = seconds()
        wait_for(lambda: seconds() >= known + 2, what="a whole second of what is now is in the record")
        if run.poll() is None:
            run.send_signal(signal.SIGINT)
            run.wait(30)
        return json.loads((directory / "report.json").read_text())["venues"][VENUE]

    yield report
    run.kill()
    run.wait()


def is_well(listener: Listener) -> bool:
    return all(listener.book(VENUE, symbol)[0] is None for symbol in SYMBOLS)


def in_log(system: System, event: str, reason: str, since: float) -> Any:
    return wait_for(lambda: [r for r in system.log(event, reason=reason) if r["ts"] >= since], what=f"{event} {reason}")


@pytest.mark.usefixtures("reported")
@pytest.mark.parametrize("reason", SESSIONS)
def test_end_of_a_session(system: System, listener: Listener, reason: str) -> None:
    wait_for(lambda: is_well(listener))
    fault, arguments = SESSIONS[reason]
    began, at = time.monotonic(), time.time()
    system.fault(VENUE, fault, **arguments)
    (gap, *_) = wait_for(lambda: listener.of(Gap, VENUE, since=began), what="the books are lost")
    assert gap.reason == reason
    assert in_log(system, "ws.closed", reason, at)
    wait_for(lambda: is_well(listener))
    wait_for(lambda: system.venue(VENUE)["streams"]["book"]["reason"] == reason, what="the last reason is shown")


@pytest.mark.usefixtures("reported")
@pytest.mark.parametrize("reason", BOOKS)
def test_loss_of_a_book(system: System, listener: Listener, reason: str) -> None:
    wait_for(lambda: is_well(listener))
    fault, arguments = BOOKS[reason]
    began, at = time.monotonic(), time.time()
    system.fault(VENUE, fault, **arguments)
    (gap, *_) = wait_for(lambda: listener.of(Gap, VENUE, since=began), what="a book is lost")
    assert gap.reason == reason
    wait_for(lambda: reason in {of["reason"] for of in system.venue(VENUE)["streams"]["book"]["markets"].values()})
    assert in_log(system, "stream.resync", reason, at)
    wait_for(lambda: is_well(listener))


@pytest.mark.usefixtures("reported")
@pytest.mark.parametrize("reason", ["killed", "crash", "wedged", "drill"])
def test_death_of_a_worker(system: System, listener: Listener, reason: str) -> None:
    wait_for(lambda: is_well(listener))
    wait_for(lambda: system.venue(VENUE)["state"] == "live")
    began, at = time.monotonic(), time.time()
    if reason == "drill":
        ask(system.run_dir.control, ControlRequest("drill", target=VENUE, fault="kill"))
    else:
        numbers = {"killed": signal.SIGKILL, "crash": signal.SIGSEGV, "wedged": signal.SIGSTOP}
        os.kill(system.pid(VENUE), numbers[reason])
    (death, *_) = wait_for(
        lambda: [e for e in listener.of(Lifecycle, VENUE, since=began) if e.event == "exited"], what="it died"
    )
    assert death.reason == reason
    assert in_log(system, "worker.exited", reason, at)
    wait_for(lambda: listener.of(None, VENUE, "BTC-PERP", time.monotonic() - 0.5) and is_well(listener))
    assert system.venue(VENUE)["last_exit"]["reason"] == reason


def test_the_report_of_all_of_it(system: System, listener: Listener, reported: Callable[[], Any]) -> None:
    wait_for(lambda: is_well(listener))
    wait_for(lambda: system.venue(VENUE)["state"] == "live")
    figures = reported()
    reasons = {str(gap.reason) for gap in listener.of(Gap, VENUE)}
    assert reasons >= {*SESSIONS, *BOOKS}, "what the tests above have seen"
    assert set(SESSIONS) <= set(figures["reconnect_reasons"]) <= reasons
    assert {*SESSIONS, *BOOKS} <= set(figures["gaps"])
    assert set(figures["crashes"]["reasons"]) == {"killed", "crash", "wedged"}, "a drill is no crash"
