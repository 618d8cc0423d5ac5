"""Tests with a browser, Prometheus and validators run only when they are asked for: ``make test-operate``.

Each file sets ``pytestmark = pytest.mark.operate``, and ``@needs("chromium")`` from tests/support/tools.py where a test
needs a program. Without the record ``operate`` (requirements/) none of them is collected, as their imports would fail.
"""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import pytest

collect_ignore_glob = [] if find_spec("promql_parser") else ["test_*.py"]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Refuse a test here without the marker: ``make test`` would run it, without the programs that it needs."""
    here = Path(__file__).parent
    unmarked = [item for item in items if here in item.path.parents and item.get_closest_marker("operate") is None]
    if unmarked:
        names = ", ".join(sorted({item.path.name for item in unmarked}))
        raise pytest.UsageError(f"without pytest.mark.operate: {names}")
