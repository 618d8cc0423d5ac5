"""``worker``: one venue without a parent."""

from __future__ import annotations

import pytest

from ipc.board import Board, HeaderWord


@pytest.fixture
def started(monkeypatch, signals):
    """Stands in for the worker: its settings and its board."""
    seen = []

    class Worker:
        def __init__(self, settings, board, _stop):
            seen.append((settings, board))

        def run(self):
            return

    monkeypatch.setattr("workers.worker.Worker", Worker)
    monkeypatch.setattr("ipc.log.setup", lambda _: None)
    yield seen
    for _, board in seen:
        board.close()


def test_it_runs_with_a_board_of_its_own_and_no_parent(cli, started, run_dir):
    assert cli("worker", "lighter").code == 0
    ((settings, board),) = started
    assert (settings.venue, settings.has_parent, settings.run_dir) == ("lighter", False, str(run_dir.path))
    with_file = Board.attach(run_dir.board)
    assert with_file.header[HeaderWord.CREATED_WALL_NS] == board.header[HeaderWord.CREATED_WALL_NS]
    with_file.close()
    assert list(run_dir.describe()["venues"]) == ["lighter"]


def test_its_addresses_can_be_given(cli, started):
    cli("worker", "lighter", "--ws-url", "ws://127.0.0.1:1", "--rest-url", "http://127.0.0.1:2")
    assert (started[0][0].ws_url, started[0][0].rest_url) == ("ws://127.0.0.1:1", "http://127.0.0.1:2")


@pytest.mark.parametrize(
    ("arguments", "wanted"),
    [
        (["binance"], "unknown venue 'binance' (venues are hyperliquid, aster, extended, lighter, paradex)"),
        (["lighter", "--ws-url", "example.org"], "--ws-url: 'example.org' will not do"),
        ([], "Missing argument 'VENUE'"),
    ],
)
def test_what_cannot_be_run_is_a_usage_error(cli, started, arguments, wanted):
    ran = cli("worker", *arguments)
    assert ran.code == 2
    assert wanted in ran.err
    assert started == []


def test_a_directory_that_is_taken(cli, started, held_lock):
    ran = cli("worker", "lighter")
    assert ran.code == 2
    assert f"already running here (pid {held_lock})" in ran.err
    assert started == []


def test_the_directory_may_come_from_the_file(cli, started, run_dir, tmp_path, monkeypatch):
    monkeypatch.delenv("PARAPHINA_RUN_DIR")
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(run_dir.path.parent))
    (tmp_path / "c.toml").write_text(f'[supervisor]\nrun_dir = "{run_dir.path}"\n')
    cli("worker", "lighter", "--config", str(tmp_path / "c.toml"))
    assert started[0][0].run_dir == str(run_dir.path)
