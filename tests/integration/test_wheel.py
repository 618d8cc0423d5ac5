"""The program as users install it: a wheel in an environment of its own."""

from __future__ import annotations

import os
import subprocess
import sys
import venv
import zipfile
from pathlib import Path

import pytest

pytestmark = pytest.mark.integration

ROOT = Path(__file__).parents[2]
PACKAGES = {"ipc", "simulator", "supervisor", "workers"}


def environment(**env: str) -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if name != "PYTHONPATH"} | env


def run(*command: str | Path, **env: str) -> subprocess.CompletedProcess[str]:
    """Away from the source, which must not be imported instead."""
    done = subprocess.run(command, cwd="/", env=environment(**env), capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    return done


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    out = tmp_path_factory.mktemp("wheel")
    build = ["--no-deps", "--no-build-isolation"]
    run(sys.executable, "-m", "pip", "wheel", "--quiet", *build, "--wheel-dir", out, ROOT)
    (wheel,) = out.glob("*.whl")
    return wheel


def test_wheel_holds_the_packages_with_their_types_and_nothing_else(wheel):
    names = zipfile.ZipFile(wheel).namelist()
    assert {name.split("/")[0] for name in names if ".dist-info" not in name} == PACKAGES
    assert {f"{package}/py.typed" for package in PACKAGES} <= set(names)
    assert {f"supervisor/serving/page/{name}" for name in ("index.html", "page.css", "page.js")} <= set(names)
    assert not [name for name in names if "test" in name.rsplit("/", 1)[-1]]


def test_installed_wheel_runs_the_simulated_system(wheel, tmp_path):
    venv.create(tmp_path / "env", with_pip=False)
    python = tmp_path / "env" / "bin" / "python"
    install = [sys.executable, "-m", "pip", "--python", python, "install", "--quiet"]
    run(*install, "--require-hashes", "--requirement", ROOT / "requirements/run.txt")
    run(*install, "--no-deps", wheel)
    program = tmp_path / "env" / "bin" / "paraphina-supervisor"
    command, env = [program, "start", "--sim", "--for", "120"], environment(PARAPHINA_RUN_DIR=str(tmp_path / "run"))
    with (
        (tmp_path / "log").open("w") as log,
        subprocess.Popen(command, cwd="/", env=env, stdout=subprocess.PIPE, stderr=log, text=True) as system,
    ):
        are_live = any("all 5 venues are live" in line for line in system.stdout)
        system.terminate()
        system.stdout.read()
    assert are_live, (tmp_path / "log").read_text()
    assert system.returncode == 0, (tmp_path / "log").read_text()
