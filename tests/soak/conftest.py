"""Soak tests run for an hour and more, so they run only when they are asked for: ``pytest -m soak tests/soak``."""

from __future__ import annotations

import gc
import sys
from collections.abc import Callable, Iterator

import psutil
import pytest


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Skip what was not asked for."""
    if "soak" in config.option.markexpr:
        return
    for item in items:
        if item.get_closest_marker("soak") is not None:
            item.add_marker(pytest.mark.skip(reason="only on request: pytest -m soak tests/soak"))


@pytest.fixture(autouse=True)
def _nothing_left_behind() -> Iterator[None]:
    """Consumers leave no thread and no descriptor in this process, and systems no process below it."""
    process = psutil.Process()
    threads, descriptors = process.num_threads(), process.num_fds()
    yield
    gc.collect()
    assert process.children(recursive=True) == []
    assert process.num_threads() <= threads
    assert process.num_fds() <= descriptors


@pytest.fixture
def say(capsys: pytest.CaptureFixture[str]) -> Callable[[str], None]:
    """Show progress and figures while the test runs."""

    def show(line: str) -> None:
        with capsys.disabled():
            sys.stdout.write(f"\n{line}")
            sys.stdout.flush()

    return show
