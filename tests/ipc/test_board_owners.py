"""Owners of board words: each word has one, and no other module writes it."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from fnmatch import fnmatch
from pathlib import Path

import pytest

from ipc.board import COUNTERS, OWNERS, CellWord, HeaderWord, Owner, SessionWord, StreamWord, WorkerWord

ROOT = Path(__file__).parents[2]
KINDS = {kind.__name__: kind for kind in (HeaderWord, WorkerWord, StreamWord, SessionWord, CellWord)}
#: Owners that a source file runs as; the first pattern that matches counts.
RUNS_AS = {
    "ipc/board.py": {Owner.CREATOR, Owner.MAIN, Owner.STREAM},  # names the cells before any thread has a stream
    "ipc/listener.py": {Owner.MAIN},
    "ipc/consumers.py": {Owner.MAIN},
    "supervisor/gateway.py": {Owner.MAIN, Owner.WATCHDOG},
    "supervisor/system.py": {Owner.MAIN},
    "supervisor/scenario/*": set(Owner),  # plays a whole worker on a board of its own
    "supervisor/*": {Owner.PARENT},
    "workers/watchdog.py": {Owner.WATCHDOG},
    "workers/net/connection.py": {Owner.SESSION, Owner.STREAM},
    "workers/net/stamps.py": {Owner.STREAM, Owner.PUBLISHING},
    "workers/net/*": {Owner.LISTINGS, Owner.SESSION, Owner.STREAM},
    "workers/accounts/*": {Owner.SESSION, Owner.STREAM},
    "workers/status.py": {Owner.STREAM},
    "workers/*": {Owner.MAIN, Owner.SESSION, Owner.STREAM, Owner.WATCHDOG},  # the main thread plays a fixture alone
}


def runs_as(path: str) -> set[Owner]:
    return next((owners for pattern, owners in RUNS_AS.items() if fnmatch(path, pattern)), set())


def words_in(node: ast.AST) -> Iterator[tuple[str, str]]:
    """Yield the words that an expression names."""
    for part in ast.walk(node):
        if isinstance(part, ast.Attribute) and isinstance(part.value, ast.Name) and part.value.id in KINDS:
            yield part.value.id, part.attr


def writes_in(tree: ast.AST) -> Iterator[tuple[int, str, str]]:
    """Yield every word that a file stores, with its line."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Subscript) and isinstance(node.ctx, ast.Store):
            yield from ((node.lineno, *word) for word in words_in(node.slice))
        elif isinstance(node, ast.Call) and getattr(node.func, "attr", None) in {"add", "__setitem__"} and node.args:
            yield from ((node.lineno, *word) for word in words_in(node.args[0]))


def owner_of(kind: str, word: str) -> Owner:
    number = getattr(KINDS[kind], word)
    return next(owner for owner, words in OWNERS[KINDS[kind]].items() if number in words)


def written() -> Iterator[tuple[str, int, str, str]]:
    for package in ("ipc", "simulator", "supervisor", "workers"):
        for path in sorted((ROOT / package).rglob("*.py")):
            for line, kind, word in writes_in(ast.parse(path.read_text())):
                yield str(path.relative_to(ROOT)), line, kind, word


@pytest.mark.parametrize("kind", KINDS.values())
def test_every_word_has_one_owner(kind: type) -> None:
    numbers = sorted(number for words in OWNERS[kind].values() for number in words)
    assert numbers == list(range(vars(kind)["COUNT"]))


def test_only_its_owner_writes_a_word() -> None:
    wrong = [
        f"{path}:{line} {kind}.{word} belongs to the {owner_of(kind, word)}"
        for path, line, kind, word in written()
        if owner_of(kind, word) not in runs_as(path)
    ]
    assert not wrong


def test_writes_are_found_in_all_their_forms() -> None:
    source = """
row[CellWord.STATE] = words[at + CellWord.REASON] = row[CellWord.GAPS]
row[CellWord.SINCE] += 1
row.add(WorkerWord.CUTS)
row.__setitem__(WorkerWord.BEAT, 1)
"""
    found = [word for _, _, word in writes_in(ast.parse(source))]
    assert sorted(found) == ["BEAT", "CUTS", "REASON", "SINCE", "STATE"]


def test_a_word_that_is_written_by_another_module_is_noticed() -> None:
    assert owner_of("WorkerWord", "RESTARTS") not in runs_as("workers/worker.py")
    assert owner_of("WorkerWord", "DROPS") not in runs_as("supervisor/parent.py")


@pytest.mark.parametrize("group", COUNTERS)
def test_every_counter_is_written(group: str) -> None:
    kinds = {"supervisor": "HeaderWord", "session": "SessionWord", "stream": "CellWord"}
    kind = kinds.get(group, "WorkerWord")
    numbers = {getattr(KINDS[kind], word) for _, _, of, word in written() if of == kind}
    assert set(COUNTERS[group].values()) <= numbers
