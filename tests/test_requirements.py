"""The records in requirements/: exact, complete, true, installed; and `.venv` is made again when it is not sound."""

from __future__ import annotations

import hashlib
import importlib.metadata
import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
import tomllib
import venv
import zipfile
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
RECORDS = ["run", "test", "operate", "lowest"]
# The record that this environment was installed from; `make test-versions` names others.
INSTALLED = os.environ.get("PARAPHINA_RECORD", "test")


def recorded(record: str) -> list[Requirement]:
    """Those that apply to this interpreter."""
    lines = (ROOT / f"requirements/{record}.txt").read_text().splitlines()
    found = [Requirement(line.removesuffix("\\")) for line in lines if line[:1].isalpha()]
    return [one for one in found if not one.marker or one.marker.evaluate()]


def version(requirement: Requirement) -> str:
    (exact,) = requirement.specifier
    assert exact.operator == "==", requirement
    return exact.version


def declared(record: str) -> list[Requirement]:
    """What pyproject.toml asks of a record."""
    project = PROJECT["project"]
    texts = [*project["dependencies"], *PROJECT["dependency-groups"]["build"], *PROJECT["build-system"]["requires"]]
    if record != "run":
        extras = project["optional-dependencies"].items()
        texts += [text for name, extra in extras if record == "operate" or name != "operate" for text in extra]
    asked = [Requirement(text) for text in texts]
    return [one for one in asked if one.name != project["name"] and (not one.marker or one.marker.evaluate())]


@pytest.mark.skipif(INSTALLED == "newest", reason="the newest versions have no record")
def test_what_is_installed_is_what_is_recorded():
    wrong = {}
    for requirement in recorded(INSTALLED):
        try:
            found = importlib.metadata.version(requirement.name)
        except importlib.metadata.PackageNotFoundError:
            found = "nothing"
        if found != version(requirement):
            wrong[requirement.name] = f"{found} instead of {version(requirement)}"
    assert wrong == {}, "run: make test"


@pytest.mark.parametrize("record", RECORDS)
def test_every_line_is_exact_with_hashes_and_names_no_index(record):
    text = (ROOT / f"requirements/{record}.txt").read_text()
    entries = re.split(r"^(?=[a-zA-Z])", text, flags=re.MULTILINE)
    assert entries.pop(0).endswith("#    make update\n")
    entry = re.compile(r"[\w.-]+==[\w.]+( ; [^\\\n]+)?( \\\n    --hash=sha256:[0-9a-f]{64})+\n")
    assert [text.splitlines()[0] for text in entries if not entry.fullmatch(text)] == []


@pytest.mark.parametrize("record", RECORDS)
def test_the_record_holds_all_that_is_asked_for(record):
    versions = {canonicalize_name(one.name): version(one) for one in recorded(record)}
    asked = declared(record)
    missing = [str(one) for one in asked if not one.specifier.contains(versions.get(canonicalize_name(one.name), ""))]
    assert missing == [], "run: make update"


def test_the_records_of_the_pinned_run_agree():
    tested, operated = ({one.name: version(one) for one in recorded(record)} for record in ("test", "operate"))
    assert [one.name for one in recorded("run") if tested.get(one.name) != version(one)] == []
    assert [name for name, exact in tested.items() if operated.get(name) != exact] == []


def test_each_lower_bound_is_the_version_that_is_tested():
    lowest = {canonicalize_name(one.name): version(one) for one in recorded("lowest")}
    for asked in declared("lowest"):
        (bound,) = [one.version for one in asked.specifier if one.operator == ">="]
        release, tested = Version(bound).release, Version(lowest[canonicalize_name(asked.name)]).release
        assert tested[: len(release)] == release, f"{asked}: {tested} is tested"


# The installation, in a copy of the checkout.


@pytest.fixture
def checkout(tmp_path):
    """The Makefile and what it installs with, beside a project and records of the tests' own."""
    root = tmp_path / "checkout"
    (root / "requirements").mkdir(parents=True)
    shutil.copy(ROOT / "Makefile", root)
    shutil.copy(ROOT / "requirements/install.py", root / "requirements")
    (root / "pyproject.toml").write_text(
        '[build-system]\nrequires = ["hatchling"]\nbuild-backend = "hatchling.build"\n'
        '[project]\nname = "paraphina-supervisor"\nversion = "0.1.0"\ndependencies = ["click"]\n'
        '[project.optional-dependencies]\ntest = ["ruff"]\n'
    )
    for record in RECORDS:
        (root / f"requirements/{record}.txt").touch()
    return root


def make(checkout: Path, target: str, **variables: str) -> subprocess.CompletedProcess[str]:
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(("PIP_", "MAKE", "MFLAGS"))}
    command = ["make", "--no-print-directory", target, f"PYTHON={sys.executable}"]
    return subprocess.run(command, cwd=checkout, env=inherited | variables, capture_output=True, text=True, timeout=300)


@pytest.fixture
def install(checkout, monkeypatch):
    """The installer of the copy; a pip that only notes its arguments, and a count of the environments made."""
    spec = importlib.util.spec_from_file_location("install", checkout / "requirements/install.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    module.made = 0

    def create(place: Path) -> None:
        module.remove(place)
        venv.create(place, symlinks=True)
        packages = place / f"lib/python{wanted(module)[0]}/site-packages"
        (packages / "pip").mkdir()
        (packages / "pip/__init__.py").touch()
        (packages / "pip/__main__.py").write_text(
            f"import os, sys\nprint(*sys.argv[1:], file=open({str(checkout / 'pip.log')!r}, 'a'))\n"
            "sys.exit(int(os.environ.get('PIP_ENDS_WITH', '0')))"
        )
        module.made += 1

    monkeypatch.setattr(module, "create", create)
    return module


def wanted(install) -> list[str]:
    return install.identity(install.ROOT / ".venv")


def pip_calls(checkout: Path) -> list[str]:
    return (checkout / "pip.log").read_text().splitlines()


def test_an_environment_is_installed_once(install, checkout):
    install.main("run")
    install.main("run")
    assert install.made == 1
    assert len(pip_calls(checkout)) == 2


def test_the_suite_is_installed_on_top_of_the_program_and_covers_it(install, checkout):
    for record in ("run", "test", "run", "test"):
        install.main(record)
    assert install.made == 1
    assert [Path(call.split()[-1]).name for call in pip_calls(checkout)] == [
        "run.txt", "checkout", "run.txt", "test.txt", "checkout"
    ]  # fmt: skip


def test_nothing_is_installed_but_by_hash_and_nothing_is_built_in_isolation(install, checkout):
    install.main("test")
    *pinned, project = pip_calls(checkout)
    assert all("--require-hashes" in call for call in pinned)
    assert "--no-deps" in project
    assert all("--no-build-isolation" in call for call in [*pinned, project])


def test_the_newest_versions_are_installed_each_time(install):
    install.main("newest", "build/newest")
    install.main("newest", "build/newest")
    assert install.made == 2


def without_pip(place: Path) -> None:
    shutil.rmtree(next(place.glob("lib/python*/site-packages/pip")))


def interrupted(place: Path) -> None:
    (place / "installed.json").unlink()


def half_written(place: Path) -> None:
    (place / "installed.json").write_text("{")


def python_is_gone(place: Path) -> None:
    (place / "bin/python").unlink()
    (place / "bin/python").symlink_to("/nonexistent/python3")


def of_another_python(place: Path) -> None:
    state = json.loads((place / "installed.json").read_text())
    state["identity"][0] = "3.10"
    (place / "installed.json").write_text(json.dumps(state))


def python_became_another(place: Path) -> None:
    (place / "bin/python").unlink()
    (place / "bin/python").write_text("#!/bin/sh\necho 3.10\n")
    (place / "bin/python").chmod(0o755)


def moved_here(place: Path) -> None:
    state = json.loads((place / "installed.json").read_text())
    state["identity"][2] = "/elsewhere/.venv"
    (place / "installed.json").write_text(json.dumps(state))


def records_changed(place: Path) -> None:
    (place.parent / "requirements/run.txt").write_text("click==2\n")


def a_file(place: Path) -> None:
    shutil.rmtree(place)
    place.write_text("")


def a_link(place: Path) -> None:
    shutil.rmtree(place)
    place.symlink_to("/nonexistent")


@pytest.mark.parametrize(
    "break_it",
    [
        without_pip,
        interrupted,
        half_written,
        python_is_gone,
        of_another_python,
        python_became_another,
        moved_here,
        records_changed,
        a_file,
        a_link,
    ],
)
def test_an_unsound_environment_is_made_again(install, checkout, break_it):
    place = checkout / ".venv"
    install.main("run")
    break_it(place)
    install.main("run")
    assert install.made == 2
    assert install.installed(place, wanted(install)) == "run"


def test_an_installation_that_failed_is_not_taken_for_finished(install, checkout, monkeypatch):
    monkeypatch.setenv("PIP_ENDS_WITH", "1")
    with pytest.raises(SystemExit):
        install.main("run")
    monkeypatch.setenv("PIP_ENDS_WITH", "0")
    install.main("run")
    assert install.made == 2


def test_nothing_outside_the_checkout_is_removed(install, tmp_path):
    with pytest.raises(SystemExit, match="not below"):
        install.main("run", str(tmp_path / "elsewhere"))


def test_an_environment_that_cannot_be_made_is_no_environment_and_advice_is_given(checkout, tmp_path):
    (tmp_path / "venv.py").write_text("import os, sys\nos.mkdir(sys.argv[1])\nsys.exit(1)")
    made = make(checkout, "run-installed", PYTHONPATH=str(tmp_path))
    assert made.returncode != 0
    assert "apt install python3-venv" in made.stderr
    assert not (checkout / ".venv").exists()


# With a real environment and pip, from an index that is a directory.

METADATA = {
    "METADATA": "Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n",
    "WHEEL": "Wheel-Version: 1.0\nGenerator: tests\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    "RECORD": "",
}
BACKEND = f"""
import zipfile
def build_editable(folder, config_settings=None, metadata_directory=None):
    stem = "paraphina_supervisor-0.1.0"
    with zipfile.ZipFile(f"{{folder}}/{{stem}}-py3-none-any.whl", "w") as wheel:
        for file, text in {METADATA!r}.items():
            wheel.writestr(f"{{stem}}.dist-info/{{file}}", text.format(name="paraphina-supervisor", version="0.1.0"))
        wheel.writestr(f"{{stem}}.dist-info/entry_points.txt", "[console_scripts]\\nparaphina-supervisor=click:main\\n")
    return f"{{stem}}-py3-none-any.whl"
"""
GOOD = {"click": "def main(): print('the recorded click runs')", "hatchling/build": BACKEND, "ruff": ""}
BROKEN = "raise RuntimeError('a broken release')"


def publish(index: Path, name: str, version: str, module: str, source: str) -> str:
    """Write a wheel of one module; its line in a record."""
    path = index / f"{name}-{version}-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as wheel:
        wheel.writestr(f"{module}.py", source)
        for file, text in METADATA.items():
            wheel.writestr(f"{name}-{version}.dist-info/{file}", text.format(name=name, version=version))
    return f"{name}=={version} --hash=sha256:{hashlib.sha256(path.read_bytes()).hexdigest()}\n"


@pytest.mark.integration
def test_newer_releases_on_the_index_are_not_taken(checkout, tmp_path):
    index = tmp_path / "index"
    index.mkdir()
    lines = {}
    for module, source in GOOD.items():
        name = module.split("/")[0]
        lines[name] = publish(index, name, "1.0", module, source)
        publish(index, name, "99.0", module, BROKEN)
    (checkout / "requirements/run.txt").write_text(lines["click"] + lines["hatchling"])
    (checkout / "requirements/test.txt").write_text("".join(lines.values()))
    offline = {"PIP_NO_INDEX": "1", "PIP_FIND_LINKS": str(index), "PIP_CONFIG_FILE": os.devnull}

    demo = make(checkout, "demo", **offline)
    assert (demo.returncode, demo.stdout) == (0, "the recorded click runs\n"), demo.stderr
    suite = make(checkout, "test-installed", **offline)
    assert suite.returncode == 0, suite.stderr
    python = checkout / ".venv/bin/python"
    held = {path.name for path in (checkout / ".venv").glob("lib/python*/site-packages/*.dist-info")}
    assert {f"{name}-1.0.dist-info" for name in lines} <= held
    # They were on offer: without the record pip takes them.
    free = [python, "-m", "pip", "install", "--dry-run", "--upgrade", "click", "hatchling", "ruff"]
    taken = subprocess.run(free, env=os.environ | offline, capture_output=True, text=True, timeout=300).stdout
    assert all(f"{name}-99.0" in taken for name in lines)
