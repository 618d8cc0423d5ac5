"""Journals by hand, as the tests of the journal package write them, for the verbs that work on such."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType


def _journals() -> ModuleType:
    unique = "supervisor_tests_journals"
    if unique not in sys.modules:
        path = Path(__file__).parents[1] / "journal/conftest.py"
        spec = importlib.util.spec_from_file_location(unique, path)
        assert spec is not None
        assert spec.loader is not None
        sys.modules[unique] = module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
    return sys.modules[unique]


script = _journals().script
raw_script = _journals().raw_script
say = _journals().say
say_events = _journals().say_events
