"""The last hour in one row."""

import pytest

from supervisor.overview.document import HourView, Timeline
from supervisor.terminal.timeline import bar, share

HOUR = HourView(0.0, 3_600.0, 0.0, [])


def timeline(*spans, share_live=None):
    return Timeline("aster", list(spans), [], share_live)


def test_each_character_is_for_what_mattered_most_in_its_time():
    spans = timeline((600.0, "live"), (1_200.0, "down"), (1_201.0, "live"), (2_400.0, "degraded"), (3_000.0, "live"))
    assert bar(spans, HOUR, 6) == "·─█─▒─"
    assert bar(spans, HOUR, 12) == "··──█───▒▒──"


def test_a_death_of_a_second_is_never_lost():
    spans = timeline((0.0, "live"), (1_805.0, "down"), (1_805.5, "live"))
    assert bar(spans, HOUR, 60).count("█") == 1


def test_until_now_and_without_anything():
    assert bar(timeline((0.0, "live"), (3_600.0, "person")), HOUR, 4) == "───▲"
    assert bar(timeline(), HOUR, 5) == "·····"
    assert bar(timeline((0.0, "outage"), (1_800.0, "stopped")), HOUR, 4) == "✕✕○○"
    assert bar(timeline((0.0, "live")), HOUR, 0) == ""


@pytest.mark.parametrize(("part", "text"), [(None, "-"), (1.0, "100 %"), (0.99999, "99.9 %"), (0.61, "61 %")])
def test_a_share_is_not_rounded_up(part, text):
    assert share(timeline(share_live=part)) == text
