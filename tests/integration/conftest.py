"""What whole systems are looked at with."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def _faults_are_undone(request):
    """Whatever a test does to a system that it shares with others, and however it ends, they find none of it."""
    shared = [request.getfixturevalue(name) for name in ("system", "sim", "desk") if name in request.fixturenames]
    yield
    for system in shared:
        system.mend()


@pytest.fixture(scope="session")
def node_modules(tmp_path_factory):
    """A directory with Node's ZeroMQ: the one that is there, else one that npm fills."""
    if shutil.which("node") is None:
        pytest.skip("needs Node")
    own = tmp_path_factory.mktemp("node")
    places = [Path(os.environ.get("NODE_PATH") or ROOT / "node_modules"), own / "node_modules"]
    npm = shutil.which("npm")
    if npm is not None and not (places[0] / "zeromq").exists():
        command = [npm, "install", "--no-audit", "--no-fund", "--prefix", str(own), "zeromq@6"]
        with contextlib.suppress(subprocess.TimeoutExpired):
            subprocess.run(command, capture_output=True, timeout=120, check=False)
    for place in places:
        if (place / "zeromq").exists():
            return place
    pytest.skip("needs Node's package zeromq (in NODE_PATH, or to be had with npm)")
