"""The alert rules and their routes, as promtool, amtool and an Alertmanager judge them."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest
import yaml
from alerting import ALERTMANAGER, RULES, Alertmanager, alerts, shortened
from systems import wait_for
from tools import needs

pytestmark = pytest.mark.operate

ROOT = Path(__file__).parents[2]
ALERTS = {
    "ParaphinaDown": "page",
    "ParaphinaNoBooks": "page",
    "ParaphinaVenueStale": "page",
    "ParaphinaVenueFlapping": "page",
    "ParaphinaNeedsPerson": "ticket",
    "ParaphinaBooksMissing": "ticket",
    "ParaphinaFundingStale": "ticket",
    "ParaphinaTooManyRestarts": "ticket",
    "ParaphinaSlowConsumer": "ticket",
    "ParaphinaMachineTooBusy": "ticket",
    "ParaphinaMemoryGrows": "ticket",
    "ParaphinaVenueOutage": "notice",
    "ParaphinaAlive": "none",
}


def run(*command: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, capture_output=True, text=True, timeout=200)


def promtool_test(place: Path, rules: str) -> str:
    """What the tests say of these rules; "" when they pass."""
    (place / "rules.yml").write_text(rules)
    (place / "rules_test.yml").write_text((RULES.parent / "rules_test.yml").read_text())
    done = run("promtool", "test", "rules", place / "rules_test.yml")
    return "" if done.returncode == 0 else done.stdout + done.stderr


def with_expression(rules: str, expression: str) -> str:
    """The rules with one expression for every alert."""
    parsed = yaml.safe_load(rules)
    for group in parsed["groups"]:
        for rule in group["rules"]:
            if "alert" in rule:
                rule["expr"] = expression
    return yaml.safe_dump(parsed)


# --- the rules ------------------------------------------------------------------------------


@needs("promtool")
def test_prometheus_accepts_the_rules_and_the_example():
    done = run("promtool", "check", "config", RULES.parent / "prometheus.yml")
    assert done.returncode == 0, done.stderr
    assert "14 rules found" in done.stdout


@needs("promtool")
def test_each_alert_fires_when_it_must_and_only_then(tmp_path):
    assert promtool_test(tmp_path, RULES.read_text()) == ""


@needs("promtool")
@pytest.mark.parametrize("expression", ["vector(1)", "vector(0) == 1"])
def test_an_alert_that_fires_always_or_never_is_noticed(tmp_path, expression):
    said = promtool_test(tmp_path, with_expression(RULES.read_text(), expression))
    expected = ALERTS.keys() - ({"ParaphinaAlive"} if expression == "vector(1)" else set())
    assert [name for name in expected if f'alertname="{name}"' not in said] == []


def test_there_are_these_alerts_each_with_words_for_people():
    found = alerts()
    assert {name: rule["labels"]["severity"] for name, rule in found.items()} == ALERTS
    for name, rule in found.items():
        assert rule["annotations"].keys() == {"summary", "description", "runbook"}
        assert rule["annotations"]["runbook"] == f"docs/runbook.md#{name.lower()}"


def test_the_evaluations_that_alerts_count_are_a_fixed_time_apart():
    assert {group["interval"] for group in yaml.safe_load(RULES.read_text())["groups"]} == {"15s"}


# --- shortened times ------------------------------------------------------------------------------


def test_durations_are_divided_and_nothing_else():
    text = (
        "    interval: 15s\n    expr: sum_over_time(x_1h:rate5m[15m:15s]) > 30 and predict_linear(y[2h], 86400) > 1e9\n"
        "    for: 1m\n    summary: nothing for 10m\n"
    )
    assert shortened(text, 10) == (
        "    interval: 1500ms\n    expr: sum_over_time(x_1h:rate5m[90000ms:1500ms]) > 30 and "
        "predict_linear(y[720000ms], 86400) > 1e9\n    for: 6000ms\n    summary: nothing for 10m\n"
    )


def test_every_duration_of_the_rules_is_divided():
    before, after = RULES.read_text(), shortened(RULES.read_text(), 10)
    durations = re.compile(r"\[\w+\]|for: \w+|interval: \w+")
    assert len(durations.findall(before)) == len(durations.findall(after)) > 30
    assert [found for found in durations.findall(after) if not re.search(r"\d+ms\]?$", found)] == []
    assert yaml.safe_load(shortened(before, 1)).keys() == yaml.safe_load(before).keys()


def test_a_duration_that_cannot_be_divided_is_refused():
    with pytest.raises(ValueError, match="15s cannot be divided by 7"):
        shortened("  for: 15s\n", 7)


# --- who hears of them ------------------------------------------------------------------------------


@needs("amtool")
def test_alertmanager_accepts_the_example():
    done = run("amtool", "check-config", ALERTMANAGER)
    assert done.returncode == 0, done.stderr
    assert {"3 inhibit rules", "4 receivers"} <= {line.strip(" -") for line in done.stdout.splitlines()}


@needs("amtool")
@pytest.mark.parametrize("name", ALERTS)
def test_each_severity_has_its_receiver(name):
    labels = [f"alertname={name}", f"severity={ALERTS[name]}", f"--verify.receivers={ALERTS[name]}"]
    done = run("amtool", "config", "routes", "test", f"--config.file={ALERTMANAGER}", *labels)
    assert done.returncode == 0, done.stdout + done.stderr


def alert(name: str, **labels: str) -> dict[str, str]:
    own = {"alertname": name, "severity": ALERTS[name], "job": "paraphina", "instance": "one"}
    return {**own, **labels}


@pytest.fixture(scope="module")
def alertmanager():
    with Alertmanager() as server:
        yield server


@needs("prometheus-alertmanager")
@pytest.mark.parametrize(
    ("cause", "suppressed", "heard"),
    [
        (
            alert("ParaphinaDown", instance="a"),
            [
                alert("ParaphinaNoBooks", instance="a"),
                alert("ParaphinaVenueStale", instance="a", venue="lighter"),
                alert("ParaphinaVenueFlapping", instance="a", venue="lighter"),
            ],
            [alert("ParaphinaVenueStale", instance="b", venue="lighter"), alert("ParaphinaMemoryGrows", instance="a")],
        ),
        (
            alert("ParaphinaNoBooks", instance="c"),
            [
                alert("ParaphinaVenueStale", instance="c", venue="lighter"),
                alert("ParaphinaVenueFlapping", instance="c", venue="aster"),
            ],
            [alert("ParaphinaNeedsPerson", instance="c", process="aster"), alert("ParaphinaVenueStale", instance="d")],
        ),
        (
            alert("ParaphinaVenueStale", instance="e", venue="lighter"),
            [alert("ParaphinaVenueFlapping", instance="e", venue="lighter")],
            [alert("ParaphinaVenueFlapping", instance="e", venue="aster")],
        ),
    ],
)
def test_one_cause_gives_one_call(alertmanager, cause, suppressed, heard):
    alertmanager.send(cause, *suppressed, *heard)
    sent = [cause, *suppressed, *heard]

    def states():
        found = [one for one in alertmanager.alerts() if one["labels"] in sent]
        by_labels = {tuple(sorted(one["labels"].items())): one["status"]["state"] for one in found}
        return [by_labels.get(tuple(sorted(labels.items()))) for labels in sent]

    expected = ["active", *["suppressed"] * len(suppressed), *["active"] * len(heard)]
    wait_for(lambda: states() == expected, 60, 0.2, str(expected))
