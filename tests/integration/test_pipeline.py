"""A consumer's book is the truth or is not usable, whatever the links on its way do; in fake time, in one process."""

from __future__ import annotations

import os

import pytest
from pipeline import Faults, Pipeline

VENUES = ["hyperliquid", "aster", "extended", "lighter", "paradex"]
UPDATES = 20_000
BAD = Faults(drop=0.002, repeat=0.002, swap=0.002, disconnect_per_s=0.02, lose_message=0.002, restart_per_s=0.01)


def follow(venue: str, seed: int, updates: int, encoding: str = "sbe") -> Pipeline:
    """Run until so many updates have come, with faults; look at every checkpoint."""
    pipeline = Pipeline(venue, seed, encoding=encoding)
    pipeline.run(3)
    usable = checks = 0
    while pipeline.updates < updates:
        pipeline.faults = BAD
        pipeline.run(pipeline.dice.uniform(0.5, 4.0))
        pipeline.settle()
        usable += pipeline.check()
        checks += 2
        pipeline.resume()
    assert usable > 0.5 * checks, f"usable at {usable} of {checks} checkpoints"
    pipeline.faults = Faults()
    pipeline.run(15)
    pipeline.settle()
    assert pipeline.check() == 2, "without faults every book comes back"
    return pipeline


@pytest.mark.parametrize("venue", VENUES)
def test_a_book_is_the_truth_or_unusable(venue: str) -> None:
    pipeline = follow(venue, seed=11, updates=UPDATES)
    assert pipeline.messages > UPDATES / 3


def test_paradex_as_json_too() -> None:
    follow("paradex", seed=12, updates=UPDATES // 4, encoding="json")


@pytest.mark.parametrize("venue", VENUES)
def test_without_faults_every_book_is_always_usable(venue: str) -> None:
    pipeline = Pipeline(venue, seed=13)
    pipeline.run(3)
    for _ in range(5):
        pipeline.run(2)
        pipeline.settle()
        assert pipeline.check() == 2
        pipeline.resume()
    assert pipeline.mirror.lost == 0


@pytest.mark.soak
@pytest.mark.parametrize("venue", VENUES)
def test_a_million_updates(venue: str) -> None:
    follow(venue, seed=int(os.environ.get("PARAPHINA_SEED", "14")), updates=1_000_000)
