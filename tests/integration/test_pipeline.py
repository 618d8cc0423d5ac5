"""Without faults every book is always usable, and the truth; in fake time, in one process.

With faults: ``test_updates``.
"""

from __future__ import annotations

import pytest
from pipeline import Pipeline

VENUES = ["hyperliquid", "aster", "extended", "lighter", "paradex"]


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
