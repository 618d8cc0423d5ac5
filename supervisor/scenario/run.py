"""Shared state of a scenario being played."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from ipc.board import Board
from supervisor.scenario.clock import Clock
from supervisor.scenario.form import Scenario
from supervisor.scenario.rest import ScriptedRest
from supervisor.scenario.seen import ScenarioReport
from workers.venues.venue import Venue


@dataclass(frozen=True, slots=True)
class ScenarioRun:
    """Scenario being played.

    Attributes:
        path: Its file, for errors.
        options: Venue options, with defaults for those the file does not set.
        report: Receives report lines.
        rest: Receives REST requests.
        board: Private board of this scenario.
    """

    path: str
    scenario: Scenario
    venue: Venue
    options: Mapping[str, str]
    clock: Clock
    report: ScenarioReport
    rest: ScriptedRest
    board: Board
