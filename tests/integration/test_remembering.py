"""What status remembers of a venue over reconnects, deaths and changes of its markets."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable
from typing import Any, Self

import pytest
from storm import SETTINGS
from systems import System, paraphina, wait_for

from supervisor.status.document import read_status

pytestmark = pytest.mark.integration

#: Long enough to look at a venue without a process.
SLOW = SETTINGS.replace("backoff_base_ms = 200", "backoff_base_ms = 2500").replace("cap_ms = 2000", "cap_ms = 5000")


class Watch:
    """Everything that status says of a venue, read as fast as it can be."""

    def __init__(self, system: System, venue: str) -> None:
        self.seen: list[dict[str, Any]] = []
        self._system, self._venue = system, venue
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._stop.wait(0.01):
            self.seen.append(self._system.venue(self._venue))


def is_live_again(system: System, venue: str, generation: int) -> Callable[[], bool]:
    def check() -> bool:
        of = system.venue(venue)
        return bool(of["state"] == "live" and of["generation"] >= generation)

    return check


@pytest.mark.parametrize("venue", ["lighter", "extended"])
def test_a_death_is_counted_and_leaves_the_age_and_the_wanted_books(venue: str) -> None:
    with System("--venues", venue, config=SLOW) as system:
        system.wait_live([venue])
        system.fault(venue, "close")
        wait_for(lambda: system.venue(venue)["session_ends"].get("server_close"))
        wait_for(is_live_again(system, venue, 1))
        with Watch(system, venue) as watch:
            os.kill(system.pid(venue), signal.SIGKILL)
            wait_for(is_live_again(system, venue, 2))
        away = [of for of in watch.seen if of["state"] == "backoff"]
        assert away, "it was looked at while it was away"
        for of in away:
            assert (of["exits"], of["books"], of["cpu_s"]) == ({"killed": 1}, {"wanted": 2, "usable": 0}, None)
            book = of["streams"]["book"]
            assert (book["state"], book["reason"]) == ("off", "killed")
            assert book["reason_ago_s"] <= of["since_s"] + 0.1
        ages = [of["streams"]["book"]["age_ms"] for of in away]
        assert ages == sorted(ages)
        assert ages[-1] - ages[0] > 1000, "it goes on"
        assert {of["books"]["wanted"] for of in watch.seen} == {2}
        assert None not in {of["streams"]["book"]["age_ms"] for of in watch.seen}
        after = system.venue(venue)
        assert after["exits"] == {"killed": 1}
        assert after["session_ends"] == {}, "those of its own life"
        assert after["cpu_s"] > 0


def test_ages_are_remembered_after_everything_is_dead() -> None:
    with System("--venues", "paradex") as system:
        system.wait_live(["paradex"])
        assert system.process is not None
        system.process.kill()
        system.process.wait()
        wait_for(lambda: read_status(system.run_dir)["supervisor"]["state"] == "dead")
        first = system.venue("paradex")["streams"]["book"]
        assert (first["state"], first["reason"]) == ("off", "parent_lost")
        wait_for(lambda: system.venue("paradex")["streams"]["book"]["age_ms"] >= first["age_ms"] + 200)


def test_ages_move_with_their_markets_when_these_change() -> None:
    """ETH comes first after the change, and SOL is new: no symbol is ever shown with the age of another one."""
    head = "[venues.lighter]\n"
    config = SETTINGS.replace(head, f'{head}markets = ["BTC", "ETH"]\n')
    # The simulator lists what any venue is configured with.
    config = config.replace("[venues.paradex]\n", '[venues.paradex]\nmarkets = ["SOL"]\n')
    with System("--venues", "lighter,paradex", config=config) as system:
        system.wait_live(["lighter"])
        assert set(system.venue("lighter")["streams"]["book"]["markets"]) == {"BTC-PERP", "ETH-PERP"}
        (system.path / "config.toml").write_text(config.replace('["BTC", "ETH"]', '["ETH", "SOL"]'))
        with Watch(system, "lighter") as watch:
            assert paraphina("reload", "--run-dir", str(system.run_dir.path)).returncode == 0
            wait_for(is_live_again(system, "lighter", 2))
        for of in watch.seen:
            markets_seen = of["streams"]["book"]["markets"]
            if "SOL-PERP" not in markets_seen:
                continue
            assert markets_seen["ETH-PERP"]["age_ms"] is not None, "it was known before"
            if of["generation"] == 1:
                assert markets_seen["SOL-PERP"]["age_ms"] is None

        def with_ages() -> set[str]:
            markets = system.venue("lighter")["streams"]["book"]["markets"]
            return {symbol for symbol, market in markets.items() if market["age_ms"] is not None}

        wait_for(lambda: with_ages() == {"ETH-PERP", "SOL-PERP"}, what="both have an age, and no other one")
