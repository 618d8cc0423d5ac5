"""The whole system, as users run it: real processes, the simulator on loopback, real signals."""

from __future__ import annotations

import time

import pytest
from systems import MARKETS, VENUES, Listener, System, equals_truth, wait_for

from ipc.events import Bbo, BookDelta, BookSnapshot, Funding, Gap, Mark, Trade

pytestmark = pytest.mark.integration


def test_all_venues_go_live_and_every_channel_flows() -> None:
    with System() as system:
        system.wait_live()
        with Listener(system) as listener:
            kinds = [Bbo, Trade, Mark, Funding]

            def all_seen() -> bool:
                return all(listener.of(kind, venue, symbol) for kind in kinds for venue, symbol in MARKETS) and all(
                    listener.of(BookSnapshot, venue, symbol) for venue, symbol in MARKETS
                )

            wait_for(all_seen, 60)
            assert all(event.rate for event in listener.of(Funding, "lighter"))
        wait_for(lambda: "all 5 venues are live" in (system.path / "out").read_text(), what="it says that all are live")
        assert system.stop() == 0
        assert not system.log(level="error")


def test_consumers_from_the_start_and_late_ones_hold_the_truth() -> None:
    with System("--sim-rate", "100") as system, Listener(system) as early:
        system.wait_live()
        time.sleep(8)
        with Listener(system) as late:
            time.sleep(4)
            system.admin("/pause", {})
            for listener in (early, late):
                for market in MARKETS:
                    wait_for(
                        lambda m=market, c=listener: equals_truth(system, c, *m), 20, what=f"{market} is the truth"
                    )
                assert not listener.wrong
                assert not listener.of(Gap)
                assert listener.lost == 0
                assert listener.drifts() == 0
            first = late.of(None, "lighter", "BTC-PERP")
            books = [event for event in first if isinstance(event, BookSnapshot | BookDelta)]
            assert isinstance(books[0], BookSnapshot)


@pytest.mark.parametrize("venue", VENUES)
def test_a_dropped_delta_shows_as_a_gap_and_heals(venue: str) -> None:
    with System("--venues", venue) as system, Listener(system) as listener:
        system.wait_live([venue])
        wait_for(lambda: not listener.book(venue, "BTC-PERP")[0])
        since = time.monotonic()
        system.fault(venue, "drop_delta", symbol="BTC-PERP")
        gap = wait_for(lambda: listener.of(Gap, venue, "BTC-PERP", since), 30)[0]
        assert gap.reason == "seq_gap"
        assert gap.epoch > 0, "the worker found it, not the consumer"

        def healed() -> list[BookSnapshot]:
            return [event for event in listener.of(BookSnapshot, venue, "BTC-PERP", since) if event.cause == "resync"]

        wait_for(healed, 30)
        system.admin("/pause", {})
        wait_for(lambda: equals_truth(system, listener, venue, "BTC-PERP"), 20)
        assert not listener.wrong
        assert system.venue(venue)["streams"]["book"]["reason"] == "seq_gap"
