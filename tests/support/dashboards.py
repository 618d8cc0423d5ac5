"""The dashboard's queries, as Grafana sends them, and the names of metrics in them."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

DASHBOARD = Path(__file__).parents[2] / "etc" / "grafana" / "paraphina.json"
_METRIC = re.compile(r"\bparaphina_[a-z0-9_]+")
_LABEL_VALUES = re.compile(r"label_values\((.+), (\w+)\)")


def dashboard() -> dict[str, Any]:
    """Return the dashboard."""
    return json.loads(DASHBOARD.read_text())


def panels() -> list[dict[str, Any]]:
    """Return the panels that show data."""
    return [panel for panel in dashboard()["panels"] if panel["type"] != "row"]


def variables() -> dict[str, tuple[str, str]]:
    """Return by variable the series, and the label of theirs, that its values come from."""
    queries = {one["name"]: one["query"] for one in dashboard()["templating"]["list"] if one["type"] == "query"}
    found = {name: _LABEL_VALUES.fullmatch(query["query"]) for name, query in queries.items()}
    assert all(found.values()), queries
    return {name: (match[1], match[2]) for name, match in found.items() if match is not None}


def filled(expression: str, rate_interval: str = "1m", **values: str) -> str:
    """Return an expression with every variable replaced; by ``.*``, as for "All", without a value."""
    expression = expression.replace("$__rate_interval", rate_interval)
    return re.sub(r"\$(\w+)", lambda found: values.get(found[1], ".*"), expression)


def expressions(rate_interval: str = "1m", **values: str) -> dict[str, str]:
    """Return every query of a panel by a name that says where it is, its variables replaced."""
    return {
        f"{panel['title']} {target['refId']}": filled(target["expr"], rate_interval, **values)
        for panel in panels()
        for target in panel["targets"]
    }


def metrics_in(text: str) -> set[str]:
    """Return the names of this project's metrics in an expression."""
    return set(_METRIC.findall(text))
