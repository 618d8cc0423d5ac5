"""What a process shows of the secrets in its environment, seen in processes of their own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import Any

import pytest

PLANTED = "planted-3f9a1c77e0"
NAMES = ("ASTER_API_SECRET", "PARADEX_JWT_FILE", "LIGHTER_AUTH_TOKEN_COMMAND")
LOOK = """
import ctypes, json, os, resource, subprocess, sys
from pathlib import Path
from workers.accounts.process_hardening import harden_process

harden_process()
pid = os.fork()
if pid:
    sys.exit(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
child = subprocess.run([sys.executable, "-c", "import os; print(os.environ.get('ASTER_API_SECRET'))"],
                       capture_output=True, text=True)
print(json.dumps({
    "environ": Path("/proc/self/environ").read_text(),
    "known": os.environ.get("ASTER_API_SECRET"),
    "passed": child.stdout.strip(),
    "core": resource.getrlimit(resource.RLIMIT_CORE)[0],
    "dumpable": ctypes.CDLL(None).prctl(3, 0, 0, 0, 0),
}))
"""


def seen(**environ: str) -> dict[str, Any]:
    """What a fork of a program shows that was started with these variables."""
    own = ("ASTER", "PARADEX", "LIGHTER")
    clean = {key: value for key, value in os.environ.items() if not key.startswith(own) and "proxy" not in key.lower()}
    command = [sys.executable, "-c", LOOK]
    done = subprocess.run(command, env={**clean, **environ}, capture_output=True, text=True, check=True)
    found: dict[str, Any] = json.loads(done.stdout)
    return found


@pytest.mark.parametrize("name", NAMES)
def test_secrets_are_not_in_the_environment_that_the_kernel_shows(name: str) -> None:
    found = seen(**{name: PLANTED, "BESIDE": "plain"})
    assert PLANTED not in found["environ"]
    assert f"{name}={'-' * len(PLANTED)}" in found["environ"].split("\0")
    assert "BESIDE=plain" in found["environ"].split("\0")


@pytest.mark.parametrize("name", ["HTTPS_PROXY", "all_proxy", "HTTP_PROXY"])
def test_credentials_of_a_proxy_are_not_either(name: str) -> None:
    found = seen(**{name: f"http://desk:{PLANTED}@proxy"})
    assert PLANTED not in found["environ"]
    assert found["dumpable"] == 0


def test_proxy_without_credentials_is_no_secret() -> None:
    found = seen(HTTPS_PROXY="http://proxy")
    assert "HTTPS_PROXY=http://proxy" in found["environ"].split("\0")
    assert found["dumpable"] == 1


def test_anyone_needs_them_has_them_still() -> None:
    found = seen(ASTER_API_SECRET=PLANTED)
    assert (found["known"], found["passed"]) == (PLANTED, PLANTED)


def test_nobody_can_dump_or_attach() -> None:
    found = seen(ASTER_API_SECRET=PLANTED)
    assert (found["core"], found["dumpable"]) == (0, 0)


def test_without_secrets_a_process_is_as_any_other() -> None:
    assert seen(BESIDE="plain")["dumpable"] == 1
