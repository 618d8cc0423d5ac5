"""The image of the program, built by buildah on a base of Debian packages, and containers that run it."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any, Self

import psutil
from contained import UNSHARE, enter
from systems import System, wait_for

from ipc.rundir import RunDir

ROOT = Path(__file__).parents[2]
CONTAINED = Path(__file__).with_name("contained.py")
#: What the base has beside the essential packages: what an official slim image of Python has.
PACKAGES = "python3,python3-venv,ca-certificates"
#: Documentation and translations, which slim images lack as well.
LEFT_OUT = ("/usr/share/doc/*", "/usr/share/locale/*", "/usr/share/man/*", "/usr/share/info/*")
#: Free memory that a storage may take: it copies every layer whole.
STORAGE_BYTES = 6 << 30


class BuildError(Exception):
    """Raised with the last lines of a program that failed."""


def run(*command: str | Path, timeout_s: float = 1200.0) -> str:
    """Run a program away from this environment's settings; return what it prints."""
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=timeout_s, check=False)
    if done.returncode:
        raise BuildError(f"{command[0]} {command[1]}: " + done.stderr[-2000:])
    return done.stdout.strip()


class Builder:
    """Storage of images of its own; a context manager that removes it.

    It asks no image registry: the base consists of the distribution's packages, and the program's dependencies come
    from a directory of wheels, so that nothing in the build reaches a network.
    """

    def __init__(self) -> None:
        self.path = Path(tempfile.mkdtemp(prefix="paraphina-image-", dir=_place()))
        storage = ("--root", str(self.path / "storage"), "--runroot", str(self.path / "run"))
        self._buildah = ("buildah", *storage, "--storage-driver", "vfs")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        subprocess.run([*self._buildah, "rm", "--all"], capture_output=True, check=False)
        shutil.rmtree(self.path, ignore_errors=True)

    def buildah(self, *arguments: str | Path) -> str:
        """Run buildah in this storage."""
        return run(*self._buildah, *arguments)

    def base(self, name: str = "localhost/python-base") -> str:
        """Make a base image; its name."""
        container = self.buildah("from", "scratch")
        left_out = [f"--dpkgopt=path-exclude={path}" for path in LEFT_OUT]
        root = self.buildah("mount", container)
        run("mmdebstrap", "--quiet", "--variant=minbase", f"--include={PACKAGES}", *left_out, _suite(), root)
        self.buildah("commit", "--quiet", "--rm", container, name)
        return name

    def wheels(self, base: str) -> Path:
        """Download the recorded wheels for the Python of a base; their directory."""
        container = self.buildah("from", base)
        version = "import sys; print('%d.%d' % sys.version_info[:2])"
        python = self.buildah("run", "--isolation", "chroot", container, "--", "python3", "-c", version)
        self.buildah("rm", container)
        directory = self.path / "wheels"
        options = ["--quiet", "--no-deps", "--only-binary=:all:", f"--python-version={python}", "--require-hashes"]
        run(
            *(sys.executable, "-m", "pip", "download", *options),
            *("--requirement", "requirements/run.txt", "--dest", directory),
        )
        return directory

    def build(self, base: str, wheels: Path, name: str = "localhost/paraphina-supervisor") -> str:
        """Build the image of the checkout; its name."""
        arguments = [f"--build-arg={one}" for one in (f"BASE={base}", "PIP_NO_INDEX=1", "PIP_FIND_LINKS=/wheels")]
        options = ["--quiet", "--isolation", "chroot", "--format", "docker", f"--volume={wheels}:/wheels:ro"]
        self.buildah("bud", *options, *arguments, "--file", "etc/container/Dockerfile", "--tag", name, ".")
        return name

    def settings(self, image: str) -> dict[str, Any]:
        """The settings that an image gives to its runtime."""
        found: dict[str, Any] = json.loads(self.buildah("inspect", "--type", "image", image))["Docker"]["config"]
        return found

    def directory(self, image: str) -> Path:
        """The files of an image."""
        return Path(self.buildah("mount", self.buildah("from", image)))


def _place() -> str | None:
    """The directory for storages: in memory where there is room and a root can be made; None for the disk."""
    memory = Path("/dev/shm")  # noqa: S108 - the storage has a name of its own
    flags = os.statvfs(memory).f_flag
    is_open = not flags & (os.ST_NODEV | os.ST_NOEXEC | os.ST_NOSUID)
    return str(memory) if is_open and shutil.disk_usage(memory).free > STORAGE_BYTES else None


def _suite() -> str:
    """The name of the distribution that runs here; its Python is recent enough where buildah is."""
    lines = Path("/etc/os-release").read_text().splitlines()
    return next(line.partition("=")[2] for line in lines if line.startswith("VERSION_CODENAME="))


class Container(System):
    """Image that runs as a container: the program is PID 1, and nothing but its volume can be written.

    Args:
        settings: The image's.
        root: Its files.
        arguments: Behind its entry point, in place of its command.
    """

    def __init__(self, settings: dict[str, Any], root: Path, *arguments: str) -> None:
        super().__init__(*arguments, sim=False)
        self.settings = settings
        self._root = root
        # As Kubernetes mounts an emptyDir: it belongs to the group fsGroup.
        volume = self.path / "volume"
        volume.mkdir()
        os.chown(volume, 0, int(settings["User"].split(":")[1]))
        volume.chmod(0o2777)
        self._volume = volume
        self.run_dir = RunDir(volume / "feeds")

    def command(self) -> list[str]:
        program = [*self.settings["Entrypoint"], *self.arguments]
        entered = [sys.executable, str(CONTAINED), json.dumps(self.settings), str(self._root), str(self._volume)]
        return [*UNSHARE, *entered, *program]

    def first(self) -> psutil.Process:
        """The supervisor, as seen from outside."""
        assert self.process is not None
        children = wait_for(psutil.Process(self.process.pid).children)
        assert isinstance(children[0], psutil.Process)
        return children[0]

    def execute(self, *command: str) -> subprocess.CompletedProcess[str]:
        """Run a program in the container, as `docker exec` and health checks do."""
        entered = enter(self.settings, self.first().pid, *command)
        return subprocess.run(entered, capture_output=True, text=True, timeout=60, check=False)

    def stop(self) -> int:
        assert self.process is not None
        if self.process.poll() is None:
            self.first().send_signal(getattr(signal, self.settings["StopSignal"]))
        return self.process.wait(60)
