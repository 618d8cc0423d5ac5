"""The Grafana dashboard: its form, its queries, and that its metrics exist."""

from __future__ import annotations

import json
import os
import re
import signal
import urllib.request
from collections import Counter
from itertools import combinations
from pathlib import Path

import jsonschema
import promql_parser
import pytest
from alerting import RULES, alerts
from dashboards import dashboard, expressions, filled, metrics_in, panels, variables
from systems import System, wait_for

from supervisor.overview import words

pytestmark = pytest.mark.operate

SCHEMA = json.loads(Path(__file__).with_name("dashboard.schema.json").read_text())


def test_it_has_the_form_that_grafana_understands():
    jsonschema.Draft202012Validator.check_schema(SCHEMA)
    found = jsonschema.Draft202012Validator(SCHEMA).iter_errors(dashboard())
    assert [f"{error.json_path}: {error.message}" for error in found] == []


@pytest.mark.parametrize("misspelt", ["gridPosition", "expression", "Unit"])
def test_a_misspelt_key_is_found(misspelt):
    broken = dashboard()
    panel = next(one for one in broken["panels"] if one["type"] != "row")
    places = {"gridPosition": panel, "expression": panel["targets"][0], "Unit": panel["fieldConfig"]["defaults"]}
    places[misspelt][misspelt] = {}
    assert not jsonschema.Draft202012Validator(SCHEMA).is_valid(broken)


def test_ids_are_unique_and_no_panel_covers_another():
    everything = dashboard()["panels"]
    assert [number for number, count in Counter(panel["id"] for panel in everything).items() if count > 1] == []

    def overlap(one, other):
        return all(one[at] < other[at] + other[size] and other[at] < one[at] + one[size] for at, size in ("xw", "yh"))

    grids = {panel["title"]: panel["gridPos"] for panel in everything}
    assert len(grids) == len(everything)
    assert [names for names in combinations(grids, 2) if overlap(grids[names[0]], grids[names[1]])] == []
    assert [title for title, at in grids.items() if at["x"] + at["w"] > 24] == []


def test_queries_of_a_panel_have_names_of_their_own():
    for panel in panels():
        assert [target["refId"] for target in panel["targets"]] == list("ABCDEFGH"[: len(panel["targets"])])


def test_venue_market_system_and_data_source_can_be_chosen():
    assert [one["name"] for one in dashboard()["templating"]["list"]] == ["datasource", "instance", "venue", "symbol"]
    queries = " ".join(target["expr"] for panel in panels() for target in panel["targets"])
    assert [name for name in variables() if f'=~"${name}"' not in queries] == []


@pytest.mark.parametrize("name", expressions())
def test_every_query_is_valid(name):
    promql_parser.parse(expressions()[name])


def test_the_verdict_names_the_same_faults_as_the_alert():
    verdict = next(panel for panel in panels() if panel["title"] == "Verdict")["targets"][0]["expr"]
    assert metrics_in(alerts()["ParaphinaNeedsPerson"]["expr"]) <= metrics_in(verdict)


def mapped(title: str) -> dict[str, str]:
    """The words of a panel by value."""
    panel = next(panel for panel in panels() if panel["title"] == title)
    return {value: of["text"] for value, of in panel["fieldConfig"]["defaults"]["mappings"][0]["options"].items()}


def test_it_says_the_same_words_as_the_page_and_top():
    states = re.findall(
        r'(\d) \* max by \(process\) \(paraphina_process_state{[^}]*state="(\w+)"}', expressions()["Processes A"]
    )
    assert {value: words.WORKER_STATES[state] for value, state in states} == mapped("Processes")
    assert {words.KINDS["outage"], words.KINDS["stopped"]} <= set(mapped("Books of each venue").values())
    assert [said[0] for said in mapped("Verdict").values()] == [
        words.LEVEL_SIGNS[name] for name in ("fine", "heals", "person")
    ]


@pytest.fixture(scope="module")
def exported():
    """A function: the names of the series that a real system exports, after a restart and a reconnect."""
    with System("--venues", "lighter,aster") as system:
        system.wait_live(["lighter", "aster"])

        def names():
            with urllib.request.urlopen(f"{system.url}/metrics", timeout=20) as answer:
                lines = answer.read().decode().splitlines()
            return {line.split("{")[0].split(" ")[0] for line in lines if not line.startswith("#")}

        system.fault("lighter", "close")
        os.kill(system.pid("aster"), signal.SIGKILL)
        wait_for(lambda: {"paraphina_process_exits_total", "paraphina_session_ends_total"} <= names(), 60, 0.5)
        system.wait_live(["lighter", "aster"])
        yield names


@pytest.mark.parametrize("what", ["queries", "variables", "rules"])
def test_every_metric_is_one_that_is_exported(exported, what):
    text = {
        "queries": " ".join(expressions().values()),
        "variables": " ".join(filled(series) for series, _ in variables().values()),
        "rules": RULES.read_text(),
    }[what]
    wanted = metrics_in(text)
    assert len(wanted) >= 3
    wait_for(lambda: wanted <= exported(), 60, 0.5, f"{sorted(wanted)} are exported")
