"""Find words that the project does not use: in names, in prose, and at the beginning of docstrings.

Run it with paths to list what it finds there: ``python tests/support/language.py ipc workers/net``.
"""

from __future__ import annotations

import ast
import io
import re
import sys
import tokenize
from collections.abc import Iterator
from pathlib import Path

#: Words that no part of a name is, split at underscores and capitals.
PARTS = frozenset(
    """
    anew bury climb condemn condemned contested cutter deaf desk drip fruitless ground hurry inherited joiner
    joiners keeper ladder ladders lane lanes lasting look looks mind misdeed misdeeds mirror obey office parcel
    poison poisoned reception rehearsal rehearse relist rung rungs survived take takes talk talker tape tell
    tells todo told unpushed whoever zombie
    """.split()  # noqa: SIM905 - a list to read
)
#: Whole names, without leading underscores.
NAMES = frozenset(
    """
    AccountSide Broken Caller Course End Gate Ground Life Named Note Route Reporter Reports Statement Steps
    account_memory begin_turn course cut drive end_of end_turn held_back is_held_back is_trusted let_in lose
    no_book_ends protect says shown_ns stays_down turn void want
    """.split()  # noqa: SIM905 - a list to read
)
#: Words that no sentence uses.
PROSE = re.compile(r"\b(anew|whoever|for ever|joiners?|poison(?:ed|s|ing)?|told)\b", re.IGNORECASE)
#: How no docstring begins: it says what to expect of a call in the imperative, or what a class is.
OPENINGS = re.compile(r"(The|A|An|What|Whether|How|Where|When|It|One|All)\b")
_LOGGERS = frozenset({"debug", "info", "warning", "error", "exception", "log", "note"})


def parts_of(name: str) -> list[str]:
    """Split a name at underscores, dots and capitals; return its parts in lower case."""
    return [part.lower() for part in re.findall(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+", name)]


def is_forbidden(name: str) -> bool:
    """Return whether a name, or a part of it, is on a list."""
    return name.strip("_") in NAMES or not PARTS.isdisjoint(parts_of(name))


def names_in(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """Yield the names that a file defines: classes, functions, attributes, enum members and log events."""
    for node in ast.walk(tree):
        if isinstance(node, ast.ClassDef):
            yield node.lineno, node.name
            for item in node.body:
                targets = item.targets if isinstance(item, ast.Assign) else [getattr(item, "target", None)]
                yield from ((item.lineno, target.id) for target in targets if isinstance(target, ast.Name))
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield node.lineno, node.name
        elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
            yield node.lineno, node.attr
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in _LOGGERS:
            event = node.args[0] if node.args else None
            if isinstance(event, ast.Constant) and re.fullmatch(r"[a-z_]+\.[a-z_.]+", str(event.value)):
                yield node.lineno, str(event.value)


def docstrings_in(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """Yield the docstrings of a file with their lines."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            text = ast.get_docstring(node)
            if text:
                yield getattr(node, "lineno", 1), text


def prose_in(path: Path) -> Iterator[tuple[int, str]]:
    """Yield what a file says to people: all of a text, the comments and strings of a program."""
    text = path.read_text()
    if path.suffix != ".py":
        yield from enumerate(text.splitlines(), 1)
        return
    words = {tokenize.COMMENT, tokenize.STRING, getattr(tokenize, "FSTRING_MIDDLE", tokenize.STRING)}
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type in words:
            yield token.start[0], token.string


def findings(path: Path, *, is_test: bool) -> Iterator[str]:
    """Yield what is wrong in a file; of a test's names only the words that no sentence uses count."""
    if path.suffix == ".py":
        tree = ast.parse(path.read_text())
        for line, name in [(1, path.stem), *names_in(tree)]:
            words = name.replace("_", " ")
            if PROSE.search(words) or (not is_test and is_forbidden(name)):
                yield f"{path}:{line}: name {name}"
        if not is_test:
            for line, text in docstrings_in(tree):
                opening = OPENINGS.match(text)
                if opening:
                    yield f"{path}:{line}: a docstring begins with {opening[0]}"
    for line, text in prose_in(path):
        for found in PROSE.finditer(text):
            yield f"{path}:{line}: prose: {found[0]}"


def main() -> None:
    """List the findings below the given paths."""
    for place in map(Path, sys.argv[1:]):
        for path in sorted(place.rglob("*.*")) if place.is_dir() else [place]:
            if path.suffix in {".py", ".md"}:
                sys.stdout.writelines(f"{line}\n" for line in findings(path, is_test=path.parts[0] == "tests"))


if __name__ == "__main__":
    main()
