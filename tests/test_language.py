"""Names and prose: plain terms of the field, one name for one thing."""

from __future__ import annotations

import ast
from collections import defaultdict
from pathlib import Path

import pytest
from language import findings, is_forbidden, names_in, parts_of

ROOT = Path(__file__).parents[1]
SOURCE = ("ipc", "workers", "supervisor", "simulator", "bench", "examples", "requirements")
TEXTS = [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")]
#: Lists the words.
LISTS = ROOT / "tests/support/language.py"


def programs(folder):
    return sorted((ROOT / folder).rglob("*.py"))


@pytest.mark.parametrize("folder", SOURCE)
def test_source_uses_plain_names_and_words(folder):
    assert [line for path in programs(folder) for line in findings(path, is_test=False)] == []


def test_tests_and_pages_use_plain_words():
    paths = [path for path in programs("tests") if path not in {LISTS, Path(__file__)}]
    assert [line for path in paths for line in findings(path, is_test=True)] == []
    assert [line for path in TEXTS for line in findings(path, is_test=True)] == []


def test_no_public_class_name_is_defined_twice():
    places = defaultdict(list)
    for folder in SOURCE:
        for path in programs(folder):
            for node in ast.walk(ast.parse(path.read_text())):
                if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                    places[node.name].append(str(path.relative_to(ROOT)))
    assert {name: paths for name, paths in places.items() if len(paths) > 1} == {}


def test_the_lists_find_what_they_forbid(tmp_path):
    assert parts_of("_TrainingGround.look_at_HTTPServer") == ["training", "ground", "look", "at", "http", "server"]
    assert is_forbidden("_poll_lane")
    assert not is_forbidden("background")
    names = [name for _, name in names_in(ast.parse("class A:\n    b = 1\n    def c(self):\n        self.d = 1\n"))]
    assert names == ["A", "b", "c", "d"]
    path = tmp_path / "module.py"
    path.write_text('def f():\n    """Whether it starts anew."""  # whoever\n    log.info("lane.mute")\n')
    assert [line.partition(":")[2] for line in findings(path, is_test=False)] == [
        "3: name lane.mute",
        "1: a docstring begins with Whether",
        "2: prose: anew",
        "2: prose: whoever",
    ]
