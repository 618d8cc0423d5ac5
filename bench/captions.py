"""Names of measured durations, with their aims: the same in the Markdown tables and on the page."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

START_S: Final = {"live_s": "start --sim to five live venues (aim: 3 s)"}
START_MS: Final = {
    "restart_ms": "worker killed to its book usable again",
    "help_ms": "--help above a bare interpreter (aim: 150 ms)",
    "status_ms": "status above a bare interpreter (aim: 250 ms)",
    "bare_ms": "a bare interpreter",
}


def joins(found: Mapping[str, Any]) -> dict[str, str]:
    """Return the names of the measurements of consumers that join."""
    storm = f"{found['consumers']} consumers of {found['topics']} topics"
    return {
        "storm_first_s": f"{storm}: first book of the last (aim: 2 s)",
        "storm_all_s": "the same: all books of all",
        "killed_s": "worker killed to its book usable in ten consumers (aim: 1.3 s)",
        "churn_s": f"first book after {found['pairs']} subscriptions and cancellations of another (aim: 1 s)",
    }
