"""Markets that do not fit everywhere: by the thousand, with a digit for a name, thin. All are live on every venue."""

from __future__ import annotations

import pytest
from systems import VENUES, Listener, System, wait_for

from ipc.events import BookSnapshot, Mark

pytestmark = pytest.mark.integration

BASES = ("BTC", "PEPE", "SHIB", "1INCH", "4", "BLAST")


def test_odd_markets_are_live_on_every_venue_and_cost_no_connection() -> None:
    with System(env={"PARAPHINA_MARKETS": ",".join(BASES)}) as system:
        system.wait_live()
        symbols = [f"{base}-PERP" for base in BASES]
        with Listener(system) as listener:

            def all_seen() -> bool:
                return all(
                    listener.of(kind, venue, s) for kind in (BookSnapshot, Mark) for venue in VENUES for s in symbols
                )

            wait_for(all_seen, 60, what="a book and a mark price of every market")
            marks = listener.of(Mark, "paradex", "PEPE-PERP")
            assert {mark.open_interest for mark in marks if mark.mark_price} == {None}, "it does not fit their format"
        assert system.admin("/errors") == {venue: [] for venue in VENUES}
        assert not system.log("ws.closed")
        assert not system.log("sim.frame_failed")
