"""Programs that tests in tests/operate need, and the Debian packages that they come from."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

PACKAGES = Path(__file__).parents[2] / "requirements" / "operate.debian"


def packages() -> dict[str, Path]:
    """Return the Debian packages of the record, each with the file by which it is recognised."""
    lines = [line.split() for line in PACKAGES.read_text().splitlines() if line and not line.startswith("#")]
    return {package: Path(file) for package, file in lines}


def is_present(tool: str) -> bool:
    """Return whether a program is on the PATH, or a package of the record is installed."""
    known = packages()
    return shutil.which(tool) is not None or (tool in known and known[tool].exists())


def needs(*tools: str) -> pytest.MarkDecorator:
    """Skip a test or a module without these programs or packages, naming those that are missing."""
    missing = [tool for tool in tools if not is_present(tool)]
    reason = f"not installed: {', '.join(missing)} (requirements/debian.sh)"
    return pytest.mark.skipif(bool(missing), reason=reason)
