"""Which module writes which attribute of a market stream: each has one writer."""

from __future__ import annotations

import ast
import dataclasses
from functools import cache
from pathlib import Path

import pytest

from workers.protocol.book_fetch import BookFetch
from workers.protocol.streams import MarketStream, RecoveryState

ROOT = Path(__file__).parents[3]
PROTOCOL = "workers/protocol"
WRITERS = {
    **{name: set() for name in ("kind", "subscription", "limit_ns", "book_sync", "seen", "recovery", "fetch")},
    "state": {f"{PROTOCOL}/streams.py", f"{PROTOCOL}/book_fetch.py"},  # of the stream, and of its fetch
    "reason": {f"{PROTOCOL}/streams.py"},
    **{name: {f"{PROTOCOL}/session.py"} for name in ("listing", "applied_ns", "is_backlog_due")},
    **{name: {f"{PROTOCOL}/recovery.py"} for name in ("phase", "is_published_valid")},
    **{field.name: {f"{PROTOCOL}/recovery.py"} for field in dataclasses.fields(RecoveryState)},
    "requested_ns": {f"{PROTOCOL}/book_fetch.py"},
    **{name: {"workers/net/connection.py"} for name in ("cell_offset", "histograms_offset", "feed")},
    "stamped_ns": {"workers/net/connection.py", "workers/net/counts.py"},  # set, and forgotten with what was noted
}
#: Variables that hold a market stream, its recovery or its fetch; ``self`` inside their classes.
HOLDERS = {"stream", "market_stream", "route", "recovery", "fetch"}
CLASSES = {"MarketStream", "RecoveryState", "BookFetch"}


def holder(node):
    """Return the last name of what an attribute belongs to: ``recovery`` of ``stream.recovery.phase``."""
    value = node.value
    return value.attr if isinstance(value, ast.Attribute) else getattr(value, "id", None)


def writes(tree):
    """Yield the attributes that a module assigns to market streams, outside of their ``__init__``."""
    for node in ast.walk(tree):
        if isinstance(node, ast.ClassDef) and node.name in CLASSES:
            yield from (
                target.attr
                for method in node.body
                if isinstance(method, ast.FunctionDef) and method.name != "__init__"
                for target in ast.walk(method)
                if isinstance(target, ast.Attribute) and isinstance(target.ctx, ast.Store)
            )
        elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store) and holder(node) in HOLDERS:
            yield node.attr


@cache
def written():
    paths = (ROOT / "workers").rglob("*.py")
    return {str(path.relative_to(ROOT)): set(writes(ast.parse(path.read_text()))) for path in paths}


def writers(attribute):
    return {path for path, attributes in written().items() if attribute in attributes}


@pytest.mark.parametrize("attribute", WRITERS)
def test_attribute_of_a_market_stream_has_the_writer_that_is_documented(attribute):
    assert writers(attribute) == WRITERS[attribute]


def test_every_attribute_has_a_documented_writer():
    fields = {field.name for field in (*dataclasses.fields(MarketStream), *dataclasses.fields(RecoveryState))}
    public = {name for name in BookFetch.__slots__ if not name.startswith("_")}
    assert (fields | public) - set(WRITERS) == {"last_rest_book_ns"}, "of which the worker's main thread is the writer"


def test_the_moment_of_the_last_rest_book_has_one_writer():
    assert len(writers("last_rest_book_ns")) == 1
