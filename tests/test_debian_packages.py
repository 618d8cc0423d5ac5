"""The Debian packages that `make test-operate` uses: their list, their installation, and skipping without them."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

import pytest
from tools import is_present, needs, packages

ROOT = Path(__file__).parents[1]
INSTALLER = ROOT / "requirements" / "debian.sh"


def test_every_package_of_the_list_has_a_file_by_which_it_is_recognised():
    known = packages()
    assert {"chromium", "prometheus", "prometheus-alertmanager"} <= known.keys()
    assert [name for name, file in known.items() if not file.is_absolute()] == []


def test_a_missing_program_skips_and_is_named():
    mark = needs("sh", "no-such-program", "no-such-package").mark
    assert mark.args == (True,)
    assert mark.kwargs["reason"].startswith("not installed: no-such-program, no-such-package")


def test_a_program_that_is_there_does_not_skip():
    assert is_present("sh")
    assert needs("sh").mark.args == (False,)


def run_installer(tmp_path, programs: dict[str, str]) -> subprocess.CompletedProcess[str]:
    """The installer with a list of one missing package, and nothing on the PATH but these programs and a shell's."""
    place = tmp_path / "requirements"
    place.mkdir()
    installer = place / INSTALLER.name
    installer.write_text(INSTALLER.read_text().replace("/usr/sbin/policy-rc.d", str(tmp_path / "policy-rc.d")))
    (place / "operate.debian").write_text("# a comment\nsh /bin/sh\nmissing /nonexistent\n")
    path = tmp_path / "bin"
    path.mkdir()
    for name in ("dirname", "env", "tee", "chmod", "rm", "true"):
        (path / name).symlink_to(f"/usr/bin/{name}")
    for name, script in programs.items():
        (path / name).write_text(f"#!/bin/sh\n{script}\n")
        (path / name).chmod(0o755)
    command = ["/bin/sh", str(installer)]
    return subprocess.run(command, env={**os.environ, "PATH": str(path)}, capture_output=True, text=True, timeout=60)


@pytest.mark.parametrize(
    ("programs", "why"),
    [
        ({}, "no apt-get here"),
        ({"apt-get": "exit 1", "id": "echo 1000", "sudo": "exit 1"}, "neither root nor sudo without a password"),
        ({"apt-get": "exit 100", "id": "echo 0"}, "apt-get update failed"),
        ({"apt-get": 'case "$*" in *install*) exit 100;; esac', "id": "echo 0"}, "apt-get install failed"),
    ],
)
def test_an_installation_that_is_impossible_is_no_failure_and_says_why(tmp_path, programs, why):
    done = run_installer(tmp_path, programs)
    assert (done.returncode, done.stdout) == (0, f"not installed: missing ({why}); the tests that need them skip\n")
    assert not (tmp_path / "policy-rc.d").exists()


def test_only_what_is_missing_is_installed_and_no_service_starts(tmp_path):
    policy = tmp_path / "policy-rc.d"
    apt = f'echo "$DEBIAN_FRONTEND $*" >>{tmp_path}/calls; {policy} prometheus start; echo $? >>{tmp_path}/calls'
    done = run_installer(tmp_path, {"apt-get": apt, "id": "echo 1000", "sudo": 'shift; exec "$@"'})
    assert (done.returncode, done.stdout, done.stderr) == (0, "installed: missing\n", "")
    calls = (tmp_path / "calls").read_text().splitlines()
    assert [re.sub(r" -o \S+", "", call) for call in calls] == [
        "noninteractive -qq update",
        "101",
        "noninteractive -qq install --yes --no-install-recommends missing",
        "101",
    ]
    assert not policy.exists()
