"""An account as its subscribers see it, for the tests of each venue."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from fake_account import Told

from ipc.board import Board


@pytest.fixture
def account(tmp_path: Path) -> Iterator[Told]:
    """An account of which nothing was told yet."""
    board = Board.create(tmp_path / "account.board", 1)
    yield Told(board)
    board.close()
