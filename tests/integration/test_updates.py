"""Updates with faults of links and venue: every book that a consumer trusts is the truth. The long form is a soak."""

from __future__ import annotations

import pytest
from storm import SETTINGS
from systems import VENUES, System, wait_for
from updates import GapWatch, follow, upset

UPDATES = 20_000


@pytest.mark.parametrize("venue", VENUES)
def test_a_book_is_the_truth_or_unusable(venue: str) -> None:
    seen = follow(venue, seed=11, updates=UPDATES)
    assert seen.messages > UPDATES / 3
    assert seen.gaps
    assert seen.faults


def test_paradex_as_json_too() -> None:
    follow("paradex", seed=12, updates=UPDATES // 4, encoding="json")


@pytest.mark.integration
def test_a_book_is_unusable_when_a_consumer_has_read_its_gap() -> None:
    with System(config=SETTINGS) as system, GapWatch(system) as watch:
        system.wait_live()
        for seed in range(20):
            upset(system, 1.0, seed, (0.05, 0.2))
            if all(watch.late_ms.values()):
                break
        wait_for(lambda: all(watch.late_ms.values()), what="every venue had a gap")
        assert watch.trusted == []
