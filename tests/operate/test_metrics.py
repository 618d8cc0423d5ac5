"""Metrics of a running system, as Prometheus' own checker sees them."""

from __future__ import annotations

import shutil
import subprocess
import urllib.request

import pytest
from systems import System, wait_for
from tools import needs

pytestmark = pytest.mark.operate


def with_prices(system):
    """Return all metrics once prices are among them."""
    with urllib.request.urlopen(system.url + "/metrics", timeout=20) as answer:
        text = answer.read()
    return text if b"paraphina_funding_rate_8h_ratio{" in text else None


@needs("promtool")
def test_promtool_finds_nothing_wrong():
    with System() as system:
        system.wait_live()
        text = wait_for(lambda: with_prices(system))
    command = [shutil.which("promtool"), "check", "metrics"]
    checked = subprocess.run(command, input=text, capture_output=True, timeout=60)
    assert (checked.returncode, checked.stdout, checked.stderr) == (0, b"", b"")
