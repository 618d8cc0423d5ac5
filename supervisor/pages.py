"""Page ``docs/states.md``, printed from the tables that the parent works with; ``make docs`` writes it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import fields
from typing import Final

from supervisor import child
from supervisor.config import load
from supervisor.kill_rules import RULES, KillLimits
from supervisor.lifecycle import TABLE, ChildState

_MS: Final = 1_000_000
_NS: Final = 1_000_000_000
_PAGE: Final = """# States of a process, and what makes the supervisor kill it

Printed by `make docs` from the tables in `supervisor/lifecycle.py` and `supervisor/kill_rules.py`.

## Transitions

They hold for workers, the gateway and the simulator. An event that is not listed is ignored in that state. `back off`
plans the next start after the backoff delay, `start at once` without one; `kill` begins the kill sequence; `alert` logs
that an operator must act.

{transitions}
Some states are published under another name:

{names}
## Kill rules

The supervisor checks them in this order on every tick; the first that applies gives the reason of the kill. A limit in
brackets is the default of a setting. Rules are suspended for a while after the supervisor itself was stalled,
while a debugger holds the process, and {released} after it released it.

{rules}
## Kill sequence

SIGUSR1 (stack dump), SIGTERM {dump} later, SIGKILL to the process group {grace} after that ({wedged} if `wedged`), and
{timeout} later the event `kill_timeout`. A planned kill (`requested`, `config_changed`) begins with SIGTERM. A stopped
process gets SIGKILL at once.
"""


def _table(heads: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> str:
    lines = [f"| {' | '.join(cells)} |\n" for cells in (heads, *rows)]
    lines.insert(1, "|---" * len(heads) + "|\n")
    return "".join(lines)


def _seconds(ns: int) -> str:
    return f"{ns / _NS:g} s"


def transitions() -> list[tuple[str, str, str, str]]:
    """Return state, event, next state and actions of every transition."""
    return [
        (state.value, event.value, after.value, ", ".join(action.value for action in actions))
        for state, outcomes in TABLE.items()
        for event, (after, actions) in outcomes.items()
    ]


def kill_rules() -> list[tuple[str, str, str]]:
    """Return condition, reason and exemptions of every kill rule."""
    defaults = load(None, {}, {})
    limits = KillLimits(start_ns=defaults.start_timeout_ms * _MS)
    values = {limit.name: getattr(limits, limit.name) for limit in fields(limits)}
    texts = {name: _seconds(value) if name.endswith("_ns") else str(value) for name, value in values.items()}
    texts["start_ns"] = f"`start_timeout_ms` ({texts['start_ns']})"
    texts["memory_bytes"] = f"`memory_limit_mb` ({defaults.memory_limit_mb} MB)"
    return [
        (
            rule.text.format(texts[rule.threshold]),
            f"`{rule.reason}`",
            "; ".join(exemption.text for exemption in rule.exemptions),
        )
        for rule in RULES
    ]


def states() -> str:
    """Return the page."""
    names = [(state.value, state.public.value) for state in ChildState if state.value != state.public.value]
    return _PAGE.format(
        transitions=_table(("state", "event", "next", "actions"), transitions()),
        names=_table(("state", "published as"), names),
        rules=_table(("condition", "reason", "not killed while"), kill_rules()),
        released=_seconds(KillLimits(start_ns=0).released_ns),
        dump=_seconds(child.DUMP_NS),
        grace=_seconds(child.GRACE_NS),
        wedged=_seconds(child.WEDGED_GRACE_NS),
        timeout=_seconds(child.KILL_TIMEOUT_NS),
    )
