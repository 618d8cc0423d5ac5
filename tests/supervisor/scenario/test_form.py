"""The format: what a file may say, and the one clear error when it says something else."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from ipc.errors import UsageError
from supervisor.scenario.form import ACTIONS, load, parse, wall_ns_of

FRAME = {"on": "public", "frame": {}}


def file(*steps, **head):
    return json.dumps({"scenario": 1, "venue": "lighter", "steps": list(steps), **head}).encode()


def problem(content):
    with pytest.raises(UsageError) as caught:
        parse(content, "f.json")
    return str(caught.value)


def test_a_frame_stays_as_it_was_written():
    text = b'{"scenario":1,"venue":"lighter","steps":[{"on":"public","frame":{"a": 8.0, "b" : 1E-7}}]}'
    (step,) = parse(text, "f").steps
    assert step.payload == (False, b'{"a": 8.0, "b" : 1E-7}')


def test_text_and_binary_frames():
    text, binary = parse(file({"on": "public", "text": "hi"}, {"on": "public/main", "base64": "AAE="}), "f").steps
    assert text.payload == (False, b"hi")
    assert binary.payload == (True, b"\x00\x01")
    assert (text.action, binary.action) == ("text", "base64")


@pytest.mark.parametrize(
    ("step", "what"),
    [
        ({}, "it does nothing (a step has exactly one of open,"),
        ({**FRAME, "wait": 1}, "it does frame and wait at once"),
        ({"on": "public", "fram": {}}, "unknown field `fram`"),
        ({"frame": {}}, 'frame on \'no connection\' (say "on": "public"'),
        ({"on": "rest", "frame": {}}, "frame on 'rest'"),
        ({"on": "public", "answer": {}}, 'answer on \'public\' (say "on": "rest")'),
        ({"on": "public", "wait": 1}, "wait on 'public' (leave \"on\" out)"),
        ({"on": "account", "book": {}}, 'book on \'account\' (say "on": "public"'),
        ({"on": "rest/x", "answer": {}}, "answer on 'rest/x'"),
        ({**FRAME, "every": 1}, "what is repeated needs wait, every and with"),
        ({"wait": 1, "every": 1}, "what is repeated needs wait, every and with"),
        ({**FRAME, "to": "book"}, "to and purpose are of answers"),
        ({"on": "rest", "refuse": {}}, "refuse says neither status nor reason"),
        ({"on": "public", "open": False}, "open is false (say true,"),
        ({**FRAME, "line": "b"}, "line b is not played by this version"),
    ],
)
def test_a_wrong_step_is_named_with_what_to_write_instead(step, what):
    text = problem(file(FRAME, step))
    assert text.startswith("f.json:steps[1]: ")
    assert what in text
    assert "\n" not in text


@pytest.mark.parametrize(
    ("step", "what"),
    [
        ({"on": "public", "close": "boredom"}, "close: Invalid enum value 'boredom'"),
        ({"on": "public", "base64": "?"}, "base64: Invalid base64"),
        ({"on": "public", "base64": "é"}, "base64: Invalid base64"),
        ({"wait": -1}, "wait: Expected `float` >= 0.0"),
        ({"wait": 1e300}, "wait: Expected `float` < 10000000.0"),
        ({"wait": "1"}, "wait: Expected `float | null`, got `str`"),
        ({"wait": 1, "every": 0, "with": [FRAME]}, "every: Expected `float` >= 0.001"),
        ({"wait": 1, "every": 1, "with": [{"wait": -1}]}, "with[0].wait: Expected `float` >= 0.0"),
        ({"now": 10**26}, "now: "),
        ({"now": -1}, "now: "),
        ({"on": "rest", "refuse": {"status": "x"}}, "refuse.status: Expected `int | null`, got `str`"),
        ({"expect": {"counts": {"foo": 1}}}, "expect.counts: Invalid enum value 'foo'"),
    ],
)
def test_a_wrong_value_is_named_with_its_key(step, what):
    text = problem(file(FRAME, step))
    assert text.startswith(f"f.json:steps[1].{what}")
    assert text.endswith(" (the format is described in docs/scenarios.md)")


@pytest.mark.parametrize("settings", [{"stale_s": -1}, {"stale_s": 1e300}, {"ping_s": 0}, {"pongs": 1}])
def test_a_wrong_setting_is_named(settings):
    (key,) = settings
    assert problem(file(settings=settings)).startswith(f"f.json:settings.{key}: Expected ")


def test_what_is_no_json_is_named_with_its_line():
    assert problem(b'{\n"scenario": 1,\n"venue": lighter}').startswith("f.json:3: not a scenario: JSON is malformed")


def test_a_wrong_step_among_repeated_ones_is_named():
    assert "f.json:steps[0].with[1]: it does nothing" in problem(file({"wait": 1, "every": 1, "with": [FRAME, {}]}))


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"scenario": 1}', b"[" * 10_000])
def test_what_is_no_scenario_is_said_so(content):
    assert problem(content).startswith("f.json: not a scenario: ")


def test_another_version_of_the_format_is_refused():
    assert "Invalid enum value 2" in problem(b'{"scenario": 2, "venue": "lighter", "steps": []}')


def test_a_file_that_is_not_there(tmp_path):
    with pytest.raises(UsageError, match="cannot be read: No such file"):
        load(tmp_path / "none.json")


def test_a_byte_order_mark_is_passed_over(tmp_path):
    path = tmp_path / "f.json"
    path.write_bytes(b"\xef\xbb\xbf" + file(FRAME))
    assert len(load(path).steps) == 1


def test_times():
    def now(text):
        return wall_ns_of(parse(file(now=text), "f").now)

    assert now("1970-01-01T00:00:01Z") == 1_000_000_000
    assert now("1970-01-01T00:00:01.000002") == 1_000_002_000
    assert now("1970-01-01T01:00:01+01:00") == 1_000_000_000
    assert now(7) == 7
    assert problem(file(now="noon")).startswith("f.json:now: Invalid RFC3339 encoded datetime")


def test_every_action_is_described():
    page = (Path(__file__).parents[3] / "docs/scenarios.md").read_text()
    assert [action for action in ACTIONS if f"`{action}`" not in page] == []
