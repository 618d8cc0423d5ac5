"""Command line as a whole: help, errors and exit codes."""

from __future__ import annotations

import os
import subprocess
import sys

import click
import pytest

from ipc.errors import AlreadyRunningError, BoardError, ConfigError, FeedError, NotRunningError, ParaphinaError
from supervisor import cli as module

VERBS = tuple(module._VERBS)
#: What the contract promises, whatever else there is.
PROMISED = {
    *("start", "stop", "restart", "status", "tail", "book", "funding", "decode", "check", "config", "schema", "sim"),
    *("worker", "shadow", "report", "drill"),
}
HEAVY = ("zmq", "requests", "websocket", "websockets", "rich", "msgspec", "multiprocess", "prometheus_client", "psutil")


def loaded_after(*arguments):
    """Run a command in a new interpreter; return the heavy modules that it loaded, and its output."""
    program = f"""
import sys
from supervisor.cli import main
try:
    main({list(arguments)!r})
except SystemExit as left:
    code = left.code
print("LOADED", *[name for name in {HEAVY!r} if name in sys.modules])
print("CODE", code)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60)
    assert done.stderr == ""
    *printed, loaded, code = done.stdout.splitlines()
    return loaded.split()[1:], int(code.split()[1]), "\n".join(printed)


def test_the_contracts_verbs_are_there():
    assert set(VERBS) >= PROMISED


def test_help_names_every_verb_and_loads_nothing_heavy():
    loaded, code, printed = loaded_after("--help")
    assert (loaded, code) == ([], 0)
    words = [line.split()[0] for line in printed.splitlines() if line.startswith("  ") and line.strip()]
    assert [word for word in words if word in VERBS] == list(VERBS)


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_has_help(cli, verb):
    ran = cli(verb, "--help")
    assert ran.code == 0
    assert ran.out.startswith(f"Usage: paraphina-supervisor {verb} ")


@pytest.mark.parametrize("verb", ["start", "decode", "tail", "check"])
def test_a_verbs_help_loads_nothing_heavy(verb):
    loaded, code, _ = loaded_after(verb, "--help")
    assert (set(loaded) - {"msgspec"}, code) == (set(), 0), "msgspec comes with the run directory"


def test_the_verbs_own_text_matches_the_table(cli):
    for verb, (_, text) in module._VERBS.items():
        assert text.split()[0] in " ".join(cli(verb, "--help").out.split()), verb


@pytest.mark.parametrize("option", ["-h", "--help"])
def test_both_spellings_of_help(cli, option):
    assert "Exit codes: 0 ok, 1 degraded, 2 usage or configuration, 3 not running, 4" in cli(option).out


def test_version(cli):
    ran = cli("--version")
    assert ran.code == 0
    assert ran.out.strip()


def test_without_a_verb_the_help_is_shown(cli):
    ran = cli()
    assert "Commands:" in ran.out + ran.err


def test_an_unknown_verb_is_a_usage_error(cli):
    ran = cli("explode")
    assert ran.code == 2
    assert "No such command 'explode'" in ran.err


@pytest.mark.parametrize(
    "arguments",
    [
        ("status", "--nonsense"),
        ("start", "--for", "soon"),
        ("start", "--for", "0"),
        ("start", "--sim-rate", "0"),
        ("start", "--sim-seed", "x"),
        ("decode",),
        ("book", "lighter"),
        ("tail", "--count", "0"),
        ("config",),
        ("config", "explode"),
        ("sim", "--pace", "0"),
        ("sim", "--pace", "nan"),
        ("start", "--sim", "--sim-rate", "nan"),
        ("record", "--out", "x", "--rotate-mb", "inf"),
        ("record", "--out", "x", "--rotate-mb", "nan"),
        ("shadow", "--duration", "1", "--report", "x", "--compress", "nan"),
        ("--nonsense",),
    ],
    ids=" ".join,
)
def test_wrong_options_are_usage_errors_without_a_traceback(cli, arguments):
    ran = cli(*arguments)
    assert ran.code == 2
    assert "Usage: paraphina-supervisor" in ran.err + ran.out


# --- errors become lines and codes ------------------------------------------------------------------------------------


@pytest.fixture
def verb(monkeypatch):
    """Make ``start`` raise or return something."""

    def install(does):
        command = click.Command("start", callback=does)
        monkeypatch.setattr(module._Verbs, "get_command", lambda *_: command)

    return install


def raises(error):
    def does():
        raise error

    return does


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (ParaphinaError("went wrong"), 1),
        (FeedError("nothing came"), 1),
        (AlreadyRunningError("another one"), 2),
        (NotRunningError("nobody"), 3),
        (BoardError("not a board"), 4),
    ],
)
def test_an_error_of_ours_is_one_line_and_its_code(cli, verb, error, code):
    verb(raises(error))
    ran = cli("start")
    assert (ran.code, ran.err) == (code, f"paraphina-supervisor: {error.what}\n")


def test_an_error_names_place_and_remedy(cli, verb):
    verb(raises(NotRunningError("no supervisor is running here", where="/run/p", advice="start one")))
    assert cli("start").err == "paraphina-supervisor: /run/p: no supervisor is running here (start one)\n"


def test_mistakes_of_a_configuration_are_a_line_each(cli, verb):
    verb(raises(ConfigError(["a.toml:x: wrong", "environment:Y: wrong too"])))
    ran = cli("start")
    assert ran.code == 2
    assert ran.err.splitlines() == [
        "paraphina-supervisor: a.toml:x: wrong",
        "paraphina-supervisor: environment:Y: wrong too",
    ]


@pytest.mark.parametrize(("returned", "code"), [(0, 0), (1, 1), (None, 0)])
def test_what_a_verb_returns_is_the_code(cli, verb, returned, code):
    verb(lambda: returned)
    assert cli("start").code == code


def test_an_interrupt_is_130(cli, verb):
    verb(raises(KeyboardInterrupt()))
    assert cli("start").code == 130


def broken_pipe(arguments):
    """Run a verb whose output nobody reads."""
    reader, writer = os.pipe()
    os.close(reader)
    program = "from supervisor.cli import main; main()"
    with os.fdopen(writer, "wb") as output:
        return subprocess.run(
            [sys.executable, "-c", program, *arguments], stdout=output, stderr=subprocess.PIPE, text=True, timeout=60
        )


def test_a_reader_that_left_is_no_traceback():
    done = broken_pipe(["schema"])
    assert "Traceback" not in done.stderr
    assert "Exception ignored" not in done.stderr


def test_a_reader_that_left_is_no_failure():
    assert broken_pipe(["schema"]).returncode == 0


@pytest.mark.parametrize("arguments", [["start", "--config", "/nowhere"], ["start", "--nonsense"]], ids=str)
def test_an_error_that_nobody_can_read_keeps_its_code(arguments):
    with open("/dev/full", "wb") as full:  # noqa: PTH123
        done = subprocess.run([sys.executable, "-m", "supervisor", *arguments], stderr=full, timeout=60)
    assert done.returncode == 2


def test_an_output_without_room_is_one_line():
    with open("/dev/full", "wb") as full:  # noqa: PTH123
        done = subprocess.run(
            [sys.executable, "-m", "supervisor", "schema"], stdout=full, stderr=subprocess.PIPE, text=True, timeout=60
        )
    wanted = "paraphina-supervisor: the output cannot be written: No space left on device\n"
    assert (done.returncode, done.stderr) == (4, wanted)


def test_streams_that_were_closed_are_opened_to_nowhere(tmp_path):
    """Output would go to a journal, lock or socket that took the number of a standard stream."""
    program = """
import os
from supervisor import process_state
process_state.open_standard_streams()
print("nobody reads this", flush=True)
taken = os.open("taken", os.O_RDWR | os.O_CREAT)
os.write(taken, b"number %d" % taken)
"""
    closed = 'exec "$0" -c "$1" <&- >&- 2>&-'
    subprocess.run(["/bin/sh", "-c", closed, sys.executable, program], cwd=tmp_path, timeout=60, check=True)
    assert (tmp_path / "taken").read_text() == "number 3"


def test_what_the_system_refuses_names_the_file(cli, verb):
    verb(raises(PermissionError(13, "Permission denied", "/root/x")))
    ran = cli("start")
    assert (ran.code, ran.err) == (2, "paraphina-supervisor: /root/x: cannot be used: Permission denied\n")


def test_an_error_that_is_nobodys_mistake_keeps_its_traceback(cli, verb):
    verb(raises(ConnectionResetError(104, "Connection reset by peer")))
    with pytest.raises(ConnectionResetError):
        cli("start")


def test_the_module_can_be_run():
    done = subprocess.run([sys.executable, "-m", "supervisor", "--help"], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0
    assert done.stdout.startswith("Usage: paraphina-supervisor ")
