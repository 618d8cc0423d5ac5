"""Install a record and the checkout into an environment: ``python3 requirements/install.py RECORD [DIRECTORY]``.

`run` is what the program and its build need, `test` what the suite needs as well, `operate` what the tests with a
browser and validators need beside, `lowest` the lowest versions that pyproject.toml allows. pip compares every file
with the record's hashes and builds with what is installed (no build isolation), so it takes nothing that is not
recorded, whatever an index offers. `newest` alone has no record.

An environment (`.venv` by default) is kept only if it was finished by this interpreter, in this place, from the records
as they are, and still starts; otherwise it is removed and made again.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
# Which files a record takes, in their order: what builds comes with the first one.
FILES = {
    "run": ("run",),
    "test": ("run", "test"),
    "operate": ("run", "operate"),
    "lowest": ("run", "lowest"),
    "newest": (),
}
# Which records make another one unnecessary.
COVERED_BY = {
    "run": ("run", "test", "operate"),
    "test": ("test", "operate"),
    "operate": ("operate",),
    "lowest": ("lowest",),
    "newest": (),
}
# Which records can be completed to another one.
INCLUDED_IN = {"run": (), "test": ("run",), "operate": ("run", "test"), "lowest": ("run",), "newest": ()}
STATE = "installed.json"
VERSION = "'{0}.{1}'.format(*sys.version_info)"
ADVICE = "no environment could be made; on Debian and Ubuntu: apt install python3-venv"


def identity(place: Path) -> list[str]:
    """Return what an environment in this place must have been made by and from."""
    import tomllib  # noqa: PLC0415 - older interpreters must get as far as the error that names the version needed

    inputs = hashlib.sha256(Path(__file__).read_bytes())
    pyproject = tomllib.loads((ROOT / "pyproject.toml").read_text())
    inputs.update(json.dumps([pyproject["build-system"], pyproject["project"]], sort_keys=True).encode())
    for record in sorted((ROOT / "requirements").glob("*.txt")):
        inputs.update(record.read_bytes())
    return ["{}.{}".format(*sys.version_info), sys.base_prefix, str(place), inputs.hexdigest()]


def installed(place: Path, wanted: list[str]) -> str | None:
    """Return the record that the environment holds; None if it is unfinished, foreign, outdated or broken."""
    probe = f"import pip, sys; print({VERSION})"
    try:
        state = json.loads((place / STATE).read_text())
        answer = subprocess.run([place / "bin/python", "-c", probe], check=False, capture_output=True, text=True)
    except (OSError, ValueError):
        return None
    is_usable = state["identity"] == wanted and answer.stdout.strip() == wanted[0]
    return state["record"] if is_usable else None


def create(place: Path) -> None:
    """Make an environment with pip and nothing else, in place of whatever is there."""
    remove(place)
    # The interpreter that runs this may be the one of the environment that was just removed.
    python = getattr(sys, "_base_executable", sys.executable)
    if subprocess.run([python, "-m", "venv", place], check=False).returncode:
        remove(place)
        sys.exit(ADVICE)


def remove(place: Path) -> None:
    """Remove the environment, or the file or link that has its name."""
    if place.is_symlink() or place.is_file():
        place.unlink()
    elif place.exists():
        shutil.rmtree(place)


def commands(record: str) -> list[list[str]]:
    """Return the arguments of each `pip install` that a record takes."""
    if record == "newest":
        return [["--upgrade", "--editable", f"{ROOT}[test]"]]
    pinned = [["--require-hashes", "--requirement", f"{ROOT}/requirements/{file}.txt"] for file in FILES[record]]
    return [["--no-build-isolation", *command] for command in [*pinned, ["--no-deps", "--editable", str(ROOT)]]]


def install(record: str, place: Path) -> None:
    """Bring the environment to this record; do nothing if it holds it already."""
    wanted = identity(place)
    held = installed(place, wanted)
    if held in COVERED_BY[record]:
        return
    if held not in INCLUDED_IN[record]:
        create(place)
    # Until the end it counts as unfinished: what was interrupted is not continued.
    (place / STATE).unlink(missing_ok=True)
    for command in commands(record):
        pip = [str(place / "bin/python"), "-m", "pip", "--quiet", "--disable-pip-version-check", "install"]
        if code := subprocess.run([*pip, *command], check=False).returncode:
            sys.exit(code)
    (place / STATE).write_text(json.dumps({"identity": wanted, "record": record}))


def main(record: str, directory: str = ".venv") -> None:
    """Install the record into a directory below the checkout."""
    if sys.version_info < (3, 11):  # noqa: UP036 - an older interpreter gets as far as here
        sys.exit("Python 3.11 or newer is needed, not {}.{}: make PYTHON=python3.12 ...".format(*sys.version_info))
    place = ROOT / directory
    if ROOT not in place.parents:
        sys.exit(f"{place} is not below {ROOT}")
    install(record, place)


if __name__ == "__main__":
    try:
        main(*sys.argv[1:])
    except KeyboardInterrupt:
        sys.exit(130)
