"""Operators and consumers of a running system: a venue is stopped and started, and consumers are known by name."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator

import pytest
from ports import first_free_port
from systems import System, wait_for

from ipc.feed import Feed
from ipc.remote import Remote, port_of
from ipc.users import user_name
from supervisor.status.document import exit_code_of, read_status

pytestmark = pytest.mark.integration

VENUES = ("lighter", "paradex")

CONFIG = """
[supervisor]
tick_ms = 100
blackbox_kb = 0
venues = ["lighter", "paradex"]
[feeds]
tcp = "127.0.0.1"
tcp_port = """


@pytest.fixture(scope="module")
def port() -> int:
    """The first port of the system's feeds, chosen only now, so that nobody takes it before the system does."""
    return first_free_port(12, range(31_000, 32_700, 41))


@pytest.fixture(scope="module")
def system(port: int) -> Iterator[System]:
    with System(config=f"{CONFIG}{port}\n") as running:
        running.wait_live(VENUES)
        yield running


def run(system: System, *arguments: str) -> tuple[int, str, str]:
    """Run a verb on a system; return its exit code and its output."""
    command = [sys.executable, "-m", "supervisor", *arguments, "--run-dir", str(system.run_dir.path)]
    done = subprocess.run(command, capture_output=True, timeout=60, check=False, text=True, env=system.env)
    assert "Traceback" not in done.stderr
    return done.returncode, done.stdout, done.stderr


def consumers(system: System) -> list[list[str]]:
    """Return the consumers of each venue but the gateway, which reads for its page."""
    names = [system.venue(name)["consumers"] for name in VENUES]
    return [[name for name in of if name != "gateway"] for of in names]


def exit_code(system: System) -> int:
    return exit_code_of(read_status(system.run_dir))


def test_a_venue_is_stopped_and_started_while_another_goes_on(system: System) -> None:
    with system.feed(channels=["book", "lifecycle"]) as feed:
        assert feed.wait_live([("lighter", "BTC-PERP"), ("paradex", "BTC-PERP")], 30.0)
        pid = system.pid("paradex")
        assert run(system, "stop", "lighter")[:2] == (0, "lighter: stopped\n")
        venue = system.venue("lighter")
        assert (venue["state"], venue["books"], venue["pid"]) == ("stopped", {"wanted": 0, "usable": 0}, None)
        assert venue["stopped"]["by"] == user_name(os.getuid())
        assert venue["stopped"]["ago_s"] < 60
        wait_for(lambda: exit_code(system) == 0)
        assert "stopped by " in run(system, "status")[1]

        def reason() -> str | None:
            feed.poll(0.1)
            return feed.book("lighter", "BTC-PERP").reason

        wait_for(lambda: reason() == "stopped", what="the consumer's book says why it is unusable")
        last = feed.latest("lifecycle", "lighter", "")
        assert (last.event, last.reason) == ("stopped", "requested")  # type: ignore[union-attr]
        assert feed.wait_live([("paradex", "BTC-PERP")], 30.0)

        assert run(system, "restart")[0] == 0
        wait_for(lambda: system.pid("paradex") != pid)
        system.wait_live(["paradex"])
        code, _, said = run(system, "restart", "lighter")
        assert (code, "lighter is stopped" in said) == (2, True)
        code, _, said = run(system, "drill", "kill", "--venues", "lighter")
        assert (code, "lighter is stopped, and cannot be drilled" in said) == (2, True)
        assert json.loads(run(system, "reload", "--json")[1])["restarting"] == []
        assert system.venue("lighter")["state"] == "stopped"

        assert run(system, "start", "lighter")[:2] == (0, "lighter: starting\n")
        assert feed.wait_live([("lighter", "BTC-PERP")], 60.0)
    assert system.venue("lighter")["stopped"] is None
    code, _, said = run(system, "start", "lighter")
    assert (code, "lighter is not stopped" in said) == (2, True)


def test_consumers_are_listed_by_their_names(system: System, port: int) -> None:
    remote = Remote("127.0.0.1", port)
    assert port_of("lighter", port) != port_of("paradex", port)

    def subscribed(*feeds: Feed) -> list[str]:
        """Return the consumers of paradex; a feed subscribes again while it is read."""
        for feed in feeds:
            while feed.poll():
                pass
        return consumers(system)[1]

    with system.feed(name="quoter") as local, Feed(venues=["paradex"], remote=remote, name="remote.quoter") as other:
        wait_for(lambda: consumers(system) == [["quoter"], ["quoter", "remote.quoter"]], what="both are listed")
        assert "quoter, remote.quoter" in run(system, "status", "-v")[1]
        assert run(system, "restart", "paradex")[0] == 0
        wait_for(lambda: system.venue("paradex")["generation"] > 1)
        wait_for(lambda: subscribed(local, other) == ["quoter", "remote.quoter"], what="the next worker knows them")
    wait_for(lambda: consumers(system) == [[], []], what="nobody is listed")


def test_our_own_verbs_have_names(system: System) -> None:
    command = [sys.executable, "-m", "supervisor", "tail", "trade.", "--run-dir", str(system.run_dir.path)]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as tail:
        try:
            wait_for(lambda: consumers(system)[0] == [f"tail-{tail.pid}"])
        finally:
            tail.terminate()
    wait_for(lambda: consumers(system)[0] == [])


def test_a_new_system_starts_what_the_old_one_had_stopped() -> None:
    with System("--venues", "lighter") as one:
        one.wait_live(["lighter"])
        assert run(one, "stop", "lighter")[0] == 0
        assert run(one, "stop")[0] == 0
        one.stop()  # it has ended: this reaps it
        one.start()
        one.wait_live(["lighter"])
        assert one.venue("lighter")["stopped"] is None
