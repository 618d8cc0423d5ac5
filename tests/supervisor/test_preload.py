"""Imports before the first fork, each in a new interpreter."""

from __future__ import annotations

import ast
import importlib.util
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest

from supervisor.config import load
from supervisor.preload import preload
from workers.accounts import signers
from workers.venues import VENUES

ROOT = Path(__file__).parents[2]
#: Loaded with the plan of a simulation.
WHEN_SIMULATED = {"supervisor.system": {"simulator.main"}, "simulator.tls": {"trustme"}}
PROGRAM = """
import sys, threading
from pathlib import Path
import supervisor.parent
from supervisor.config import load
from supervisor.preload import preload
flags = {"supervisor.venues": "aster,paradex", **{f"venues.{name}.account": "desk" for name in sys.argv[1:]}}
limit = sys.getrecursionlimit()
environ = dict.fromkeys(("ASTER_USER", "ASTER_SIGNER", "ASTER_SIGNER_KEY", "PARADEX_PRIVATE_KEY"), "unread")
preload(load(None, {}, flags).venues, environ, is_simulated=False, is_serving=True)
print((sorted(sys.modules), len(list(Path("/proc/self/task").iterdir())), sys.getrecursionlimit() == limit))
"""


@cache
def loaded(*accounts: str) -> set[str]:
    """Preload with accounts of these venues; return the modules."""
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, *accounts], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    modules, threads, has_same_limit = ast.literal_eval(done.stdout)
    assert (threads, has_same_limit) == (1, True)
    return set(modules)


def test_a_broken_library_is_a_problem_of_its_account_alone(monkeypatch, caplog):
    def fail(*_):
        raise OSError("a shared library is missing")

    monkeypatch.setattr(signers, "load", fail)
    flags = {"supervisor.venues": "paradex", "venues.paradex.account": "desk"}
    preload(load(None, {}, flags).venues, {"PARADEX_PRIVATE_KEY": "unread"}, is_simulated=False, is_serving=False)
    [record] = [record for record in caplog.records if record.getMessage() == "preload.failed"]
    assert record.fields == {"venue": "paradex", "error": "OSError('a shared library is missing')"}


def late_imports(path: Path) -> set[str]:
    """Modules that functions of a file import."""
    functions = [node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.FunctionDef)]
    nodes = [node for function in functions for node in ast.walk(function)]
    plain = {alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names}
    return plain | {node.module for node in nodes if isinstance(node, ast.ImportFrom) and node.module}


def test_what_a_function_imports_is_loaded_already():
    modules = loaded()
    places = {name: ROOT.joinpath(*name.split(".")).with_suffix(".py") for name in modules}
    late = {name: late_imports(place) - modules for name, place in places.items() if place.exists()}
    assert len(late) > 100
    assert {name: found for name, found in late.items() if found} == WHEN_SIMULATED


def test_the_private_side_of_every_venue_but_no_signing_library():
    modules = loaded()
    assert modules >= {f"workers.venues.{name}.account" for name in VENUES}
    assert modules >= {"supervisor.gateway", "workers.worker", "encodings.idna"}
    assert modules.isdisjoint({"eth_account", "starknet_py", "simulator.main"})


@pytest.mark.parametrize(("venue", "library"), [("aster", "eth_account"), ("paradex", "starknet_py")])
def test_the_library_that_the_credentials_of_an_account_need(venue, library):
    if importlib.util.find_spec(library) is None:  # importing it would raise this process's recursion limit
        pytest.skip(f"{library} is not installed")
    modules = loaded(venue)
    assert {"eth_account", "starknet_py"} & modules == {library}
