"""Completion in a shell, as the shells ask for it."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from ipc.topics import VENUES
from supervisor import cli as module

#: What an installed shell runs; tests run the module in its place.
PROGRAM = "paraphina-supervisor"


def asked(shell, *words, run_dir):
    """Complete the last word; return what the shell is given."""
    return subprocess.run(
        [sys.executable, "-c", "from supervisor.cli import main; main()"],
        env={
            **os.environ,
            "PARAPHINA_RUN_DIR": str(run_dir),
            "_PARAPHINA_SUPERVISOR_COMPLETE": f"{shell}_complete",
            "COMP_WORDS": " ".join([PROGRAM, *words]) if shell != "fish" else " ".join([PROGRAM, *words[:-1]]),
            "COMP_CWORD": str(len(words)) if shell != "fish" else words[-1],
        },
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def completed(*words, run_dir):
    """Return the completions of the last word in bash."""
    done = asked("bash", *words, run_dir=run_dir)
    assert done.stderr == ""
    return [line.partition(",")[2] for line in done.stdout.splitlines() if line]


@pytest.fixture
def described(boards, run_dir):
    """Run directory of a system of lighter and paradex."""
    boards.WrittenSystem(run_dir).board.close()
    return run_dir.path


def test_verbs_are_completed(run_dir):
    assert completed("st", run_dir=run_dir.path) == ["start", "stop", "status"]
    assert completed("", run_dir=run_dir.path) == list(module._VERBS)
    assert "--version" in completed("--", run_dir=run_dir.path)


@pytest.mark.parametrize("verb", ["stop", "start", "worker"])
def test_venues_of_the_system_are_completed(verb, described):
    assert completed(verb, "", run_dir=described) == ["lighter", "paradex"]
    assert completed(verb, "l", run_dir=described) == ["lighter"]


@pytest.mark.parametrize(
    ("words", "found"),
    [
        (["restart", ""], ["lighter", "paradex", "gateway"]),
        (["logs", "--venue", "g"], ["gateway"]),
        (["status", "--pid", "p"], ["paradex"]),
        (["book", "lighter", ""], ["BTC-PERP", "ETH-PERP"]),
        (["book", "aster", ""], []),
        (["top", "--symbol", "E"], ["ETH-PERP"]),
        (["record", "--venues", "lighter,"], [f"lighter,{name}" for name in VENUES if name != "lighter"]),
        (["stop", "--j"], ["--json"]),
    ],
    ids=" ".join,
)
def test_arguments_are_completed(words, found, described):
    assert completed(*words, run_dir=described) == found


def test_the_run_directory_on_the_line_counts(described, tmp_path):
    assert completed("stop", "--run-dir", str(described), "", run_dir=tmp_path / "none") == ["lighter", "paradex"]


@pytest.mark.parametrize("content", [None, b"", b"{", b"[]", b'{"venues": 7}', b'{"venues": {"a": 7}}', b"\xff"])
def test_what_cannot_be_read_gives_the_venues_that_there_can_be(content, run_dir):
    if content is not None:
        run_dir.description.write_bytes(content)
    assert completed("stop", "", run_dir=run_dir.path) == list(VENUES)
    assert completed("book", "lighter", "", run_dir=run_dir.path) == []


@pytest.mark.parametrize("shell", ["zsh", "fish"])
def test_other_shells_are_answered_too(shell, described):
    done = asked(shell, "stop", "l", run_dir=described)
    assert (done.stderr, "lighter" in done.stdout, "paradex" in done.stdout) == ("", True, False)


def script(shell):
    done = subprocess.run(
        [sys.executable, "-c", "from supervisor.cli import main; main()"],
        env={**os.environ, "_PARAPHINA_SUPERVISOR_COMPLETE": f"{shell}_source"},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_each_shell_has_a_script(shell, tmp_path):
    text = script(shell)
    assert "_PARAPHINA_SUPERVISOR_COMPLETE" in text
    assert PROGRAM in text
    program = shutil.which(shell)
    if program is not None:
        path = tmp_path / "script"
        path.write_text(text)
        assert subprocess.run([program, "-n", str(path)], timeout=60, check=False).returncode == 0


def test_bash_completes_with_the_script(described, tmp_path):
    bash = shutil.which("bash")
    if bash is None:
        pytest.skip("bash is not installed")
    program = tmp_path / PROGRAM
    program.write_text(f'#!/bin/sh\nexec {sys.executable} -c "from supervisor.cli import main; main()" "$@"\n')
    program.chmod(0o700)
    path = tmp_path / "script"
    path.write_text(script("bash"))
    lines = f"""
source {path}
COMP_WORDS=({PROGRAM} stop l)
COMP_CWORD=2
_paraphina_supervisor_completion {PROGRAM}
echo "${{COMPREPLY[@]}}"
"""
    env = {**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}", "PARAPHINA_RUN_DIR": str(described)}
    done = subprocess.run([bash, "-c", lines], env=env, capture_output=True, text=True, timeout=60, check=False)
    assert (done.stdout, done.stderr) == ("lighter\n", "")


def test_completion_of_verbs_imports_none_of_them(run_dir):
    program = (
        "import sys; from supervisor.cli import main\ntry:\n main()\nfinally:\n print(*sys.modules, file=sys.stderr)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        env={
            **os.environ,
            "_PARAPHINA_SUPERVISOR_COMPLETE": "bash_complete",
            "COMP_WORDS": f"{PROGRAM} ",
            "COMP_CWORD": "1",
        },
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert "start" in done.stdout
    loaded = done.stderr.split()
    assert "supervisor.cli" in loaded
    assert [name for name in loaded if name.startswith("supervisor.verbs.") or name in {"zmq", "msgspec", "rich"}] == []


def test_the_command_is_the_one_that_is_installed():
    assert (Path(__file__).parents[3] / "pyproject.toml").read_text().count(f'{PROGRAM} = "') == 1
