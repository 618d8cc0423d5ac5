"""The image, built without a registry or a network for pip, and the program in it: PID 1, read-only, unprivileged.

`make soak-image`: the build takes one to five minutes, by the speed of the disk.
"""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from contained import UNSHARE
from images import Builder, BuildError, Container
from systems import wait_for
from tools import needs

from supervisor.system import program_version

pytestmark = [pytest.mark.soak, needs("buildah", "mmdebstrap")]

COMPOSE = Path(__file__).parents[2] / "etc/container/compose.yaml"
#: Of the stop signal, in Kubernetes; the program needs at most five.
GRACE_S = 10
ORPHANS = 20


@dataclass(frozen=True, slots=True)
class Image:
    """The image: settings and files."""

    settings: dict[str, Any]
    root: Path

    def container(self, *arguments: str) -> Container:
        return Container(self.settings, self.root, *arguments)


@pytest.fixture(scope="module")
def image() -> Iterator[Image]:
    if os.getuid():
        pytest.skip("containers are made by root")
    done = subprocess.run([*UNSHARE, "true"], capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip(f"no namespaces can be made here: {done.stderr.strip()}")
    with Builder() as builder:
        try:
            base = builder.base()
            wheels = builder.wheels(base)
        except BuildError as error:
            pytest.skip(f"the distribution or the wheels cannot be fetched: {error}")
        name = builder.build(base, wheels)
        yield Image(builder.settings(name), builder.directory(name))


@pytest.fixture(autouse=True)
def _nothing_left_behind() -> None:
    """Replace the check of the other soak tests: one container serves all tests here."""


@pytest.fixture(scope="module")
def container(image: Image) -> Iterator[Container]:
    """With the variables of the compose file, which names a configuration that is not here."""
    yaml = pytest.importorskip("yaml")
    service = yaml.safe_load(COMPOSE.read_text())["services"]["feeds"]
    variables = [f"{name}={value}" for name, value in service["environment"].items() if name != "PARAPHINA_CONFIG"]
    settings = {**image.settings, "Env": [*image.settings["Env"], *variables]}
    with Container(settings, image.root, "start", "--sim") as running:
        running.wait_live()
        yield running


def test_the_image_holds_the_program_and_nothing_that_builds(image: Image) -> None:
    settings, packages = image.settings, image.root / "opt/paraphina/lib"
    assert (settings["Entrypoint"], settings["Cmd"]) == (["paraphina-supervisor"], ["start"])
    assert settings["User"] == "10001:10001"
    found = {path.name for path in packages.glob("python3.*/site-packages/*")}
    assert {"ipc", "workers", "supervisor", "simulator", "zmq"} <= found
    assert not found & {"pip", "hatchling", "setuptools", "tests"}
    assert not (image.root / "source").exists()
    assert "paraphina" not in (image.root / "etc/passwd").read_text()


def test_the_program_runs(image: Image) -> None:
    with image.container("--version") as version:
        assert version.process is not None
        assert version.process.wait(60) == 0
        assert (version.path / "out").read_text() == f"{program_version()}\n"


def test_five_venues_are_live_without_a_home_a_name_and_a_temporary_directory(container: Container) -> None:
    held = container.execute("sh", "-c", "touch /tmp/x /dev/shm/x /home/x; id -un; env; cat /proc/1/status")
    assert held.stderr.count("Read-only file system") + held.stderr.count("No such file") >= 3
    assert "cannot find name for user ID 10001" in held.stderr
    assert "\nHOME=" not in held.stdout
    assert "NoNewPrivs:\t1" in held.stdout
    assert f"CapEff:\t{0:016x}" in held.stdout
    assert "Uid:\t10001\t10001\t10001\t10001" in held.stdout
    assert container.log(level="error") == []


def test_the_health_check_succeeds(container: Container) -> None:
    kind, *command = container.settings["Healthcheck"]["Test"]
    assert kind == "CMD"
    done = container.execute(*command)
    assert (done.returncode, done.stderr) == (0, "")
    assert container.status()["gateway"]["http"] == "http://0.0.0.0:9464"


def test_a_health_check_fails_when_the_parent_is_stuck(container: Container) -> None:
    _, *command = container.settings["Healthcheck"]["Test"]
    container.first().suspend()
    try:
        wait_for(lambda: container.execute(*command).returncode == 1, 60, every_s=1)
    finally:
        container.first().resume()
    wait_for(lambda: container.execute(*command).returncode == 0)


def test_status_is_known_inside_and_outside(container: Container) -> None:
    container.wait_live()
    done = container.execute("paraphina-supervisor", "status", "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["supervisor"]["pid"] == 1
    assert container.status()["supervisor"]["pid_namespace"] == "other"


def test_a_worker_in_the_container_comes_back_and_orphans_are_reaped(container: Container) -> None:
    own = {child.pid for child in container.first().children()}
    for _ in range(ORPHANS):
        assert container.execute("sh", "-c", "sleep 0.3 & exit 0").returncode == 0
    wait_for(lambda: {child.pid for child in container.first().children()} == own, what="no zombie is left")
    before = container.venue("lighter")["restarts"]
    killed = "kill -9 $(paraphina-supervisor status --pid lighter)"
    assert container.execute("sh", "-c", killed).returncode == 0
    wait_for(lambda: container.venue("lighter")["restarts"] == before + 1)
    container.wait_live()


def test_the_stop_signal_ends_it_in_order(image: Image) -> None:
    with image.container("start", "--sim", "--venues", "lighter") as running:
        running.wait_live(["lighter"])
        assert running.process is not None
        running.first().terminate()
        assert running.process.wait(GRACE_S) == 0
        assert running.log("supervisor.stopped", exit_code=0)
