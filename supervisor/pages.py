"""Pages ``docs/states.md`` and ``docs/metrics.md``, printed from the tables of the program by ``make docs``."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import fields
from typing import Final

from supervisor import child
from supervisor.config import load
from supervisor.kill_rules import RULES, KillLimits
from supervisor.lifecycle import TABLE, ChildState
from supervisor.serving.histograms import BOUNDS_S
from supervisor.serving.metric_table import METRICS

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
_METRICS_PAGE: Final = """# Metrics

Printed by `make docs` from the table in `supervisor/serving/metric_table.py`.

The gateway serves them at `/metrics`, by default at <http://127.0.0.1:9464/metrics>, in the text format of Prometheus,
compressed if the scraper accepts it. They are computed at each scrape from the board, which all
processes share: counters outlive the gateway, and a scrape costs nothing in the workers. Counters of a worker's own
work begin at 0 with each of its lives, as `rate()` and `increase()` expect.

A scrape needs about 5 ms of CPU time with two markets a venue. With more than ten markets, scrape every 15 seconds,
set `per_market = false` in `[gateway]`, or ask for some metrics only: `/metrics?name[]=paraphina_books_usable`.

## Labels

| label | values |
|---|---|
| `process` | a process of the supervisor: a venue's worker, `gateway`, `simulator` |
| `venue` | a venue, whatever processes serve it |
| `line` | one of the redundant workers of a venue: `a`, for there is one; aggregate with `max without (line)` |
| `stream` | `book`, `bbo`, `trade`, `mark`, `funding`, `funding_poll` and others, as `status` shows them |
| `symbol` | a market, as `BTC-PERP` |
| `session` | a connection or REST thread of a worker |
| `state` | for [processes](states.md) and [streams](operations.md); a series each, of which one is 1 |
| `reason` | a word of the [table of reasons](operations.md#reasons) |

## All metrics

Times are Unix time. A value that does not exist now, such as the memory of a process that does not run, has no series.
Prices are followed only while somebody looks at the page or scrapes at least every three minutes: funding rates and
spreads begin with the scrape that comes two seconds after the first one.

{metrics}
## Histograms

`paraphina_handling_seconds` and `paraphina_exchange_lag_seconds` exist for the streams `book` and `trade`. Their
buckets end at {bounds} s.
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


def metrics() -> str:
    """Return the page of the metrics."""
    rows = [
        (f"`{spec.name}`", spec.kind.value, ", ".join(f"`{one}`" for one in spec.labels), spec.help) for spec in METRICS
    ]
    bounds = ", ".join(f"{bound:.6f}" for bound in BOUNDS_S)
    return _METRICS_PAGE.format(metrics=_table(("metric", "kind", "labels", "meaning"), rows), bounds=bounds)
