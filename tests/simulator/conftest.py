"""Fixtures that load the helper modules of these tests by path."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest


def _load(name: str) -> ModuleType:
    unique = f"simulator_tests_{name}"
    if unique not in sys.modules:
        spec = importlib.util.spec_from_file_location(unique, Path(__file__).with_name(f"{name}.py"))
        assert spec is not None
        assert spec.loader is not None
        sys.modules[unique] = module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
    return sys.modules[unique]


@pytest.fixture(scope="session")
def new_stage():
    """Return a factory of stages: ``new_stage("lighter", rate=50)``."""
    return _load("fakes").Stage


@pytest.fixture(scope="session")
def fakes():
    return _load("fakes")


@pytest.fixture(scope="session")
def simproc():
    return _load("simproc")


@pytest.fixture(scope="module")
def sim(simproc):
    """Start a simulator of all venues in its own process."""
    with simproc.SimulatorProcess(simproc.make_settings(pace=10.0)) as process:
        yield process


@pytest.fixture(scope="module")
def secure_sim(simproc, tmp_path_factory):
    """Start the same over TLS."""
    ca_path = tmp_path_factory.mktemp("authority") / "ca.pem"
    with simproc.SimulatorProcess(simproc.make_settings(pace=10.0, tls=True, ca_path=str(ca_path))) as process:
        yield process


@pytest.fixture(scope="session")
def readers():
    """Return clients of accounts, one per venue."""
    return _load("readers")


@pytest.fixture(scope="session")
def books():
    return _load("books")
