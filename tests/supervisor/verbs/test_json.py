"""``--json``: every verb that answers has it, and prints JSON alone."""

from __future__ import annotations

import importlib
import json
from pathlib import Path

import click
import pytest

from supervisor import cli as module
from supervisor.verbs.options import print_json

#: Verbs without ``--json``, and why.
EXEMPT = {
    "decode": "its output is JSON, one event a line",
    "schema": "its output is JSON",
    "worker": "runs until it is stopped and answers nothing; its log is JSON",
}


def commands():
    """Yield every verb, those of groups with both names."""
    for name, (place, _) in module._VERBS.items():
        command = getattr(importlib.import_module(place), name)
        if isinstance(command, click.Group):
            yield from ((f"{name} {sub}", of) for sub, of in command.commands.items())
        else:
            yield name, command


COMMANDS = dict(commands())


def test_every_verb_is_seen():
    assert {name.split()[0] for name in COMMANDS} == set(module._VERBS)
    assert {"config show", "config validate", "fixture from-blackbox", "keys list"} <= set(COMMANDS)


@pytest.mark.parametrize("name", COMMANDS)
def test_every_verb_has_json_or_a_reason(name):
    options = {option for parameter in COMMANDS[name].params for option in parameter.opts}
    assert ("--json" in options) is not (name in EXEMPT), EXEMPT.get(name, "add json_option, or a reason")


def test_start_in_the_foreground_has_no_answer(cli):
    ran = cli("start", "--sim", "--json")
    assert (ran.code, ran.out) == (2, "")
    assert "--json: a system in the foreground has no answer to print (its log is JSON already)" in ran.err


def test_drills_are_listed_as_json(cli):
    rows = json.loads(cli("drill", "--list", "--json").out)
    assert (rows[-1]["kind"], rows[-1]["text"]) == ("process", "SIGKILL to the parent itself")
    assert len(rows) == len(cli("drill", "--list").out.splitlines())


def test_a_valid_configuration(cli):
    ran = cli("config", "validate", "--json")
    assert (ran.code, json.loads(ran.out)) == (0, {"valid": True, "problems": []})


def test_every_mistake_of_a_configuration(cli, tmp_path):
    path = tmp_path / "a.toml"
    path.write_text('extra = 1\n[supervisor]\ntick_ms = "soon"\n')
    ran = cli("config", "validate", "--config", path, "--json")
    found = json.loads(ran.out)
    assert (ran.code, ran.err, found["valid"], len(found["problems"])) == (2, "", False, 2)


def test_no_text_reaches_a_terminal_unescaped(capsys):
    value = {"name": "a\x1b[31m\u202e\udc80é", "path": Path("/x")}
    print_json(value)
    shown = capsys.readouterr().out
    assert shown.strip().isprintable()
    assert json.loads(shown)["name"] == value["name"]
