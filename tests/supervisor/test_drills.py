"""Catalogue of drills: arithmetic, and which drill runs where."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import get_args

import msgspec
import pytest

from ipc.control import ProcessFault
from ipc.rundir import RunDir
from simulator.faults import FAULTS
from simulator.faults.books import Flaw
from supervisor.drill.catalogue import DRILLS, Conditions
from supervisor.drill.measure import DrillTarget
from workers.venues import VENUES

CONDITIONS = Conditions(stale_s=2.0, ping_s=1.0, pong_s=1.0, first_s=1.0, connect_s=3.0)
SLACK_S = 1.5


def target(tmp_path, admin="http://127.0.0.1:9", **more):
    return DrillTarget(RunDir(tmp_path), admin, CONDITIONS, **more)


@pytest.mark.parametrize("drill", DRILLS.values(), ids=lambda drill: drill.name)
def test_every_drill_is_something_that_can_be_done(drill):
    if drill.kind == "process":
        assert drill.name in ProcessFault.__args__
        return
    fault = FAULTS[drill.fault or drill.name]
    assert drill.needs_tls is fault.needs_tls
    msgspec.convert(dict(drill.arguments(CONDITIONS)), fault.parameters)


@pytest.mark.parametrize("drill", DRILLS.values(), ids=lambda drill: drill.name)
def test_no_drill_is_over_before_its_fault(drill):
    lasts_s = drill.arguments(CONDITIONS).get("duration_s", 0.0)
    assert drill.limit_s(CONDITIONS) > lasts_s or drill.effect == "none"


@pytest.mark.parametrize(
    ("name", "lasts_s", "limit_s"),
    [("tls_hang", 4.3, 6.0), ("tls_bad_certificate", 1.5, 3.5), ("tls_expired", 1.5, 3.5), ("refuse", 1.5, 3.5)],
)
def test_what_fails_once_is_over_after_the_second_delay(name, lasts_s, limit_s):
    drill = DRILLS[name]
    assert drill.arguments(CONDITIONS)["duration_s"] == pytest.approx(lasts_s)
    assert drill.limit_s(CONDITIONS) == pytest.approx(limit_s + SLACK_S)


def test_a_wrong_whole_book_may_last_until_the_stale_limit():
    assert DRILLS["unsorted_book"].limit_s(Conditions(stale_s=10.0, first_s=1.0)) > 10.0 + 3.0


HARMLESS = {
    "exponents",
    "thin_market",
    "invalid_row",
    "unknown_status",
    "fractional_interval",
    "flat_errors",
    "hedge_legs",
    "builder_orders",
    "rest_404",
    "rest_headers",
    "rest_cut",
}
WRONG_BOOKS = {"unsorted_book", "doubled_level", "empty_level", "negative_level", "bad_number", "mute_book"}


def test_what_costs_no_book_must_have_no_effect_and_a_wrong_book_must_be_noticed():
    assert {DRILLS[name].effect_on(venue) for name in HARMLESS for venue in VENUES} == {"none"}
    for name in (*WRONG_BOOKS, "restart_ids"):
        assert DRILLS[name].effect_on("lighter") == "resync"
        assert DRILLS[name].effect_on("extended") == "reconnect"
    assert all(DRILLS[name].applies_to(venue) for name in WRONG_BOOKS for venue in VENUES)


def test_every_flaw_of_a_book_has_its_drill():
    drilled = {drill.arguments(CONDITIONS).get("flaw") for drill in DRILLS.values() if drill.fault == "bad_book"}
    assert drilled == set(get_args(Flaw))


def test_every_fault_of_the_simulator_that_works_alone_is_drilled():
    """What is left out wants a market, strikes accounts alone, or is part of another drill."""
    drilled = {drill.fault or drill.name for drill in DRILLS.values() if drill.kind == "network"}
    assert set(FAULTS) - drilled == {
        "delist",
        "expire_credentials",
        "lose_private",
        "refuse_credentials",
        "reorder_private",
        "repeat_private",
        "unknown_market",
        "upgrade_error",
    }


def test_every_drill_is_on_the_page():
    page = (Path(__file__).parents[2] / "docs" / "drills.md").read_text()
    assert [name for name in DRILLS if f"`{name}`" not in page] == []


def test_every_drill_has_an_effect_on_every_venue():
    for drill in DRILLS.values():
        assert {drill.effect_on(venue) for venue in VENUES} <= {"restart", "reconnect", "resync", "none"}
        assert set(drill.rule_effects) <= {venue.continuity.rule for venue in VENUES.values()}


@pytest.mark.parametrize(
    ("name", "admin", "has_tls", "why"),
    [
        ("kill", None, False, None),
        ("close", None, False, "only a simulator"),
        ("close", "http://x", False, None),
        ("tls_expired", "http://x", False, "do not speak TLS"),
        ("tls_expired", "http://x", True, None),
        ("tls_hang", "http://x", False, None),
        ("wrong_schema", "http://x", True, "no such fault there"),
    ],
)
def test_what_hinders_a_drill_is_said(tmp_path, name, admin, has_tls, why):
    hindrance = target(tmp_path, admin, has_tls=has_tls).hinders(DRILLS[name], "lighter")
    assert hindrance is None if why is None else why in hindrance


def test_the_simulator_is_asked_directly_whatever_the_environment_says(tmp_path, monkeypatch):
    """A subprocess, since urllib reads the variables when an opener is made."""
    program = (
        "import sys; from pathlib import Path; from ipc.rundir import RunDir\n"
        "from supervisor.drill.catalogue import DRILLS\nfrom supervisor.drill.measure import DrillTarget\n"
        "DrillTarget(RunDir(Path('/')), sys.argv[1], None).calm(DRILLS['refuse'], 'lighter')"
    )
    paths = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self):
            paths.append(self.path)
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_):
            pass

    with HTTPServer(("127.0.0.1", 0), Handler) as admin, socket.create_server(("127.0.0.1", 0)) as proxy:
        thread = threading.Thread(target=admin.handle_request)
        thread.start()
        env = {**os.environ, "http_proxy": f"http://127.0.0.1:{proxy.getsockname()[1]}", "no_proxy": ""}
        url = f"http://127.0.0.1:{admin.server_address[1]}"
        subprocess.run([sys.executable, "-c", program, url], env=env, check=True, timeout=30)
        thread.join(10)
    assert paths == ["/fault/lighter"]
