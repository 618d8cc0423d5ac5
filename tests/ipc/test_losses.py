from __future__ import annotations

import pytest

from ipc.losses import LossLog

S = 1_000_000_000
TRADE = "trade.lighter.BTC-PERP"


@pytest.fixture
def logged(caplog: pytest.LogCaptureFixture):
    return lambda: [
        (record.fields["consumer"], record.fields["venue"], record.fields["topic"], record.fields["lost"])
        for record in caplog.records
        if record.getMessage() == "feed.lost"
    ]


def test_a_loss_is_logged_at_once_and_later_ones_together(logged) -> None:
    losses = LossLog("quoter")
    for second in range(25):
        losses.add("lighter", TRADE, 2, second * S)
    assert logged() == [("quoter", "lighter", TRADE, lost) for lost in (2, 20, 20)]
    losses.flush(29 * S)
    assert len(logged()) == 3
    losses.flush(30 * S)
    losses.flush(60 * S)
    assert logged()[3:] == [("quoter", "lighter", TRADE, 8)]


def test_each_venue_has_its_own_period(logged) -> None:
    losses = LossLog("quoter")
    losses.add("lighter", TRADE, 1, 0)
    losses.add("aster", "book.aster.BTC-PERP", 3, S)
    assert [(venue, lost) for _, venue, _, lost in logged()] == [("lighter", 1), ("aster", 3)]


def test_the_line_names_the_last_topic(logged) -> None:
    losses = LossLog("quoter")
    losses.add("lighter", TRADE, 1, 0)
    losses.add("lighter", TRADE, 1, S)
    losses.add("lighter", "bbo.lighter.BTC-PERP", 1, 2 * S)
    losses.flush(10 * S)
    assert logged()[-1] == ("quoter", "lighter", "bbo.lighter.BTC-PERP", 2)
