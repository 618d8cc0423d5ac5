"""Mutation check: change one thing in a core module, run its tests, and list the changes that no test notices.

Run from the project's root: ``python tests/support/mutants.py [--seed N] [--count N]``. Mutants are drawn with a fixed
seed in equal shares from the modules below: constants, comparisons, removed calls, swapped enum members. The tree is
copied; the checkout stays unchanged. The exit code is 1 when more than two of forty survive, 2 when the tests fail
without a mutant.
"""

from __future__ import annotations

import argparse
import ast
import copy
import os
import random
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
#: Share, its modules, and the tests nearest to them.
SHARES = {
    "lifecycle": (
        ["workers/net/lifecycle.py"],
        [
            "tests/workers/net/test_connection.py",
            "tests/workers/accounts/test_connection.py",
            "tests/workers/accounts/test_session.py",
        ],
    ),
    "child": (["supervisor/child.py"], ["tests/supervisor/test_child.py", "tests/supervisor/test_parent.py"]),
    "book sync": (["workers/protocol/book_sync.py"], ["tests/workers/protocol"]),
    "fetch state": (
        ["workers/protocol/book_fetch.py", "workers/protocol/streams.py", "workers/protocol/recovery.py"],
        ["tests/workers/protocol"],
    ),
    "table": (
        ["supervisor/lifecycle.py", "supervisor/kill_rules.py"],
        ["tests/supervisor/test_lifecycle.py", "tests/supervisor/test_kill_rules.py"],
    ),
}
_SWAPS = {
    ast.Lt: ast.LtE,
    ast.LtE: ast.Lt,
    ast.Gt: ast.GtE,
    ast.GtE: ast.Gt,
    ast.Eq: ast.NotEq,
    ast.NotEq: ast.Eq,
    ast.Is: ast.IsNot,
    ast.IsNot: ast.Is,
    ast.In: ast.NotIn,
    ast.NotIn: ast.In,
}
_ENUMS = frozenset(
    """
    Action BookPhase ChildEvent ChildState FetchState Phase Reason Resync Rule SessionWord StreamState WorkerState
    WorkerWord
    """.split()  # noqa: SIM905 - a list to read
)
_TIMEOUT_S = 240
_SURVIVORS_ALLOWED = 2


@dataclass(frozen=True)
class Mutant:
    """Changed module: its path, the line and kind of the change, and the new source."""

    share: str
    path: str
    line: int
    text: str
    source: str


def candidates(tree: ast.Module) -> Iterator[tuple[ast.AST, str]]:
    """Yield the nodes that can be mutated, with the kind of mutation; the arguments of decorators stay."""
    decorators = {
        id(part)
        for node in ast.walk(tree)
        for decorator in getattr(node, "decorator_list", ())
        for part in ast.walk(decorator)
    }
    for node in ast.walk(tree):
        if id(node) in decorators:
            continue
        if isinstance(node, ast.Constant) and type(node.value) in {int, float, bool}:
            yield node, "constant"
        elif isinstance(node, ast.Compare) and type(node.ops[0]) in _SWAPS:
            yield node, "comparison"
        elif isinstance(node, ast.Expr) and isinstance(node.value, ast.Call):
            yield node, "removed call"
        elif isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id in _ENUMS:
            yield node, "enum member"


def mutated(tree: ast.Module, index: int, chance: random.Random) -> tuple[int, str, str] | None:
    """Apply mutation number ``index`` to a copy of a tree; return line, description and source; None if impossible."""
    changed = copy.deepcopy(tree)
    node, kind = list(candidates(changed))[index]
    before = ast.unparse(node)
    if isinstance(node, ast.Constant):
        value: Any = node.value
        node.value = not value if isinstance(value, bool) else value * 10 if value else 1
    elif isinstance(node, ast.Compare):
        node.ops[0] = _SWAPS[type(node.ops[0])]()
    elif isinstance(node, ast.Attribute):
        enum = node.value.id  # type: ignore[attr-defined]
        members = {
            other.attr
            for other in ast.walk(tree)
            if isinstance(other, ast.Attribute) and isinstance(other.value, ast.Name) and other.value.id == enum
        }
        others = sorted(members - {node.attr})
        if not others:
            return None
        node.attr = chance.choice(others)
    else:
        assert isinstance(node, ast.Expr)
        node.value = ast.Constant(value=None)
    after = ast.unparse(node)
    return getattr(node, "lineno", 0), f"{kind}: {before} -> {after}", ast.unparse(changed)


def draw(seed: int, count: int) -> list[Mutant]:
    """Draw mutants in equal shares."""
    chance = random.Random(seed)
    drawn = []
    for share, (paths, _tests) in SHARES.items():
        trees = {path: ast.parse((ROOT / path).read_text()) for path in paths}
        places = [(path, index) for path, tree in trees.items() for index, _ in enumerate(candidates(tree))]
        chance.shuffle(places)
        made = 0
        for path, index in places:
            change = mutated(trees[path], index, chance)
            if change is not None and made < count // len(SHARES):
                drawn.append(Mutant(share, path, *change))
                made += 1
    return drawn


def survives(mutant: Mutant) -> bool:
    """Return whether the nearest tests pass on a copy of the tree with the mutant."""
    with tempfile.TemporaryDirectory(prefix="mutant-") as place:
        for part in (
            *("ipc", "workers", "supervisor", "simulator", "tests", "docs", "etc", "examples"),
            "pyproject.toml",
        ):
            source = ROOT / part
            if source.is_dir():
                shutil.copytree(source, Path(place, part), ignore=shutil.ignore_patterns("__pycache__"))
            else:
                shutil.copy(source, place)
        Path(place, mutant.path).write_text(mutant.source)
        tests = SHARES[mutant.share][1]
        command = [
            sys.executable,
            "-m",
            "pytest",
            "-q",
            "-x",
            "-p",
            "no:cacheprovider",
            "-m",
            "not integration and not soak and not operate",
        ]
        environ = os.environ | {"PYTHONPATH": place, "PYTHONDONTWRITEBYTECODE": "1"}
        try:
            done = subprocess.run([*command, *tests], cwd=place, env=environ, capture_output=True, timeout=_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            return False
        return done.returncode == 0


def originals() -> list[Mutant]:
    """Return one module of each share without a change: its tests must pass, or they would kill every mutant."""
    return [Mutant(share, paths[0], 0, "", (ROOT / paths[0]).read_text()) for share, (paths, _tests) in SHARES.items()]


def main() -> int:
    """Run the mutants and list the survivors; return the exit code."""
    parser = argparse.ArgumentParser(description="Run drawn mutants of the core modules.")
    parser.add_argument("--seed", type=int, default=11)
    parser.add_argument("--count", type=int, default=40)
    options = parser.parse_args()
    mutants = draw(options.seed, options.count)
    with ThreadPoolExecutor(max_workers=os.cpu_count()) as pool:
        red = [
            one.share for one, passes in zip(originals(), pool.map(survives, originals()), strict=True) if not passes
        ]
        if red:
            sys.stderr.write(f"tests fail without any mutant: {', '.join(red)}\n")
            return 2
        alive = [mutant for mutant, lives in zip(mutants, pool.map(survives, mutants), strict=True) if lives]
    lines = [f"{mutant.path}:{mutant.line}: survived: {mutant.text}" for mutant in alive]
    sys.stdout.write("\n".join([*lines, f"{len(mutants)} mutants, {len(alive)} survived (seed {options.seed})\n"]))
    return int(len(alive) > _SURVIVORS_ALLOWED)


if __name__ == "__main__":
    sys.exit(main())
