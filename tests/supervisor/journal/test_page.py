"""The page on journals: its queries run on a journal of everything, exactly as they are printed; its commands exist."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import click
import duckdb
import pytest

from ipc.codec import decode
from ipc.events import Bbo, Trade
from supervisor import cli
from supervisor.journal.findings import Kind
from supervisor.journal.parquet import convert

PAGE = (Path(__file__).parents[3] / "docs/journals.md").read_text()


def blocks(language):
    return re.findall(rf"```{language}\n(.*?)```", PAGE, re.DOTALL)


@pytest.fixture
def parquet(tmp_path, script, say, monkeypatch):
    """A directory of that name, as the page has it; the books in it are usual ones."""
    script.everything().book(say.gap(), say.snapshot(cause="resync"))
    script.say("bbo", Bbo("lighter", "BTC-PERP", "1", None, "99", "1", "100", "2"))
    script.say("trade", say.trade(2, price="100.5", size="1.5"))
    convert(script.write(tmp_path), tmp_path / "parquet")
    monkeypatch.chdir(tmp_path)


def test_there_are_queries():
    assert len(blocks("sql")) >= 4
    assert len(blocks("python")) >= 2


@pytest.mark.parametrize("query", blocks("sql"), ids=lambda query: query.split()[3])
def test_a_query_for_duckdb_runs_and_finds_something(parquet, query):
    rows = duckdb.sql(query).fetchall()
    assert rows
    assert all(value is not None for row in rows for value in row)


def test_the_query_of_trades_is_right(parquet):
    ((venue, symbol, _, trades, volume, vwap),) = duckdb.sql(blocks("sql")[0]).fetchall()
    assert (venue, symbol, trades, volume) == ("lighter", "BTC-PERP", 2, 2.0)
    assert vwap == pytest.approx((99.5 * 0.5 + 100.5 * 1.5) / 2)


@pytest.mark.parametrize(("code", "name"), list(zip(blocks("python"), ["rates", "levels"], strict=True)))
def test_a_query_for_polars_runs_and_finds_something(parquet, capsys, code, name):
    names = {}
    exec(code, names)  # noqa: S102 - the page's own code
    frame = names[name]
    assert len(frame) > 0
    assert not any(column.is_null().any() for column in frame)
    assert "shape:" in capsys.readouterr().out


def test_the_line_that_is_shown_is_an_event():
    (line,) = blocks("json")
    assert isinstance(decode(line.encode()), Trade)


@pytest.mark.parametrize(
    "line",
    [line.split("#")[0] for block in blocks("sh") for line in block.splitlines() if "paraphina-supervisor" in line],
)
def test_the_commands_that_are_shown_exist(line):
    words = shlex.split(line)
    command = cli.paraphina_supervisor
    context = click.Context(command)
    for word in words[words.index("paraphina-supervisor") + 1 :]:
        if isinstance(command, click.Group):
            command = command.get_command(context, word)
            assert command is not None, word
        elif word.startswith("--"):
            assert any(word in parameter.opts for parameter in command.params), word


def test_every_finding_is_explained():
    assert [kind for alias in Kind.__args__ for kind in alias.__args__ if f"`{kind}`" not in PAGE] == []
