"""What the parts of one scenario share while it is played."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from ipc.board import Board
from supervisor.scenario.clock import Clock
from supervisor.scenario.form import Scenario
from supervisor.scenario.rest import ScriptedRest
from supervisor.scenario.seen import ScenarioReport
from workers.venues.venue import Venue

__all__ = ["ScenarioRun"]


@dataclass(frozen=True, slots=True)
class ScenarioRun:
    """One scenario while it is played.

    Attributes:
        path: Its file, for errors.
        options: The venue's, those that the file does not name at their defaults.
        report: Takes what happens.
        desk: Takes REST requests.
        board: Of this scenario alone.
    """

    path: str
    scenario: Scenario
    venue: Venue
    options: Mapping[str, str]
    clock: Clock
    report: ScenarioReport
    desk: ScriptedRest
    board: Board
