"""Secrets: where they come from, who may read them, and that nothing shows them."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ipc import log as log_module
from ipc import start_directory
from ipc.errors import ConfigError
from ipc.log import StderrHandler, get_log, hide
from workers.accounts import secrets as module
from workers.accounts.secrets import NAMES, Secrets, scrub_environment
from workers.private_file import is_private
from workers.venues import VENUES
from workers.venues.account import private_venue

NAME = "ASTER_API_SECRET"
PLANTED = "planted-3f9a1c77e0"


def secrets(**environ: str) -> Secrets:
    return Secrets((NAME, "ASTER_API_KEY"), environ)


def problem(found: Secrets) -> str:
    with pytest.raises(ConfigError) as caught:
        found.get(NAME)
    assert PLANTED not in str(caught.value)
    assert caught.value.__cause__ is None
    (reported,) = caught.value.problems
    return reported


@pytest.fixture
def private(tmp_path: Path) -> Path:
    path = tmp_path / "secret"
    path.write_text(f"{PLANTED}\n")
    path.chmod(0o600)
    return path


@pytest.fixture(autouse=True)
def hidden(monkeypatch: pytest.MonkeyPatch) -> dict[str, None]:
    """What the log hides; a set of each test's own."""
    texts: dict[str, None] = {}
    monkeypatch.setattr(log_module, "_hidden", texts)
    return texts


# --- where they come from -----------------------------------------------------------------------------------------


def test_a_relative_file_and_command_belong_to_the_directory_of_the_start(
    private: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A system in the background leaves it."""
    monkeypatch.setattr(start_directory, "_left", None)
    monkeypatch.chdir(private.parent)
    in_file, in_command = secrets(**{f"{NAME}_FILE": "secret"}), secrets(**{f"{NAME}_COMMAND": "cat secret"})
    start_directory.leave()
    assert (in_file.get(NAME), in_command.get(NAME)) == (PLANTED, PLANTED)
    assert secrets(**{f"{NAME}_FILE": "secret"}).get(NAME) == PLANTED


def test_a_secret_comes_from_its_variable(private: Path) -> None:
    assert secrets(**{NAME: PLANTED}).get(NAME) == PLANTED
    assert secrets(**{NAME: PLANTED, f"{NAME}_FILE": "/nowhere"}).get(NAME) == PLANTED


def test_a_secret_comes_from_a_file_without_its_line_end(private: Path) -> None:
    assert secrets(**{f"{NAME}_FILE": str(private), f"{NAME}_COMMAND": "false"}).get(NAME) == PLANTED


def test_a_file_is_read_again_at_each_use(private: Path) -> None:
    found = secrets(**{f"{NAME}_FILE": str(private)})
    assert found.get(NAME) == PLANTED
    private.write_text("another-one")
    assert found.get(NAME) == "another-one"


def test_a_file_that_is_replaced_is_read_again(private: Path, tmp_path: Path) -> None:
    found = secrets(**{f"{NAME}_FILE": str(private)})
    found.get(NAME)
    successor = tmp_path / "new"
    successor.write_text("another-one")
    successor.chmod(0o600)
    successor.replace(private)
    assert found.get(NAME) == "another-one"


def test_a_secret_comes_from_what_a_command_prints(private: Path) -> None:
    assert secrets(**{f"{NAME}_COMMAND": f"cat '{private}'"}).get(NAME) == PLANTED


def test_an_empty_variable_is_none(private: Path) -> None:
    found = secrets(**{NAME: "", f"{NAME}_FILE": "", f"{NAME}_COMMAND": f"cat {private}"})
    assert found.get(NAME) == PLANTED
    assert not secrets(**{NAME: "", f"{NAME}_FILE": "", f"{NAME}_COMMAND": ""}).has(NAME)


def test_what_is_configured_is_known_without_reading_it() -> None:
    found = secrets(**{f"{NAME}_FILE": "/nowhere", "ASTER_API_KEY": "k"})
    assert found.has(NAME)
    assert found.has(NAME, "ASTER_API_KEY")
    assert not secrets(**{NAME: "s"}).has(NAME, "ASTER_API_KEY")
    assert secrets().has()


def test_a_secret_that_is_not_configured_is_named_with_its_forms() -> None:
    assert problem(secrets()) == f"environment:{NAME}: not set (nor {NAME}_FILE, nor {NAME}_COMMAND)"


def test_a_secret_of_another_venue_is_not_looked_for() -> None:
    found = Secrets(NAMES["paradex"], {"ASTER_API_KEY": PLANTED, "PARADEX_JWT": "j"})
    assert not found.has("ASTER_API_KEY")


# --- who may read them --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", [0o600, 0o400, 0o700])
def test_a_file_that_is_ours_alone_is_taken(private: Path, mode: int) -> None:
    private.chmod(mode)
    assert secrets(**{f"{NAME}_FILE": str(private)}).get(NAME) == PLANTED


@pytest.mark.parametrize("mode", [0o640, 0o620, 0o610, 0o604, 0o602, 0o601, 0o666, 0o777, 0o440])
def test_a_file_that_is_open_to_others_is_refused(private: Path, mode: int) -> None:
    private.chmod(mode)
    reported = problem(secrets(**{f"{NAME}_FILE": str(private)}))
    assert reported == f"environment:{NAME}_FILE: {private} must be yours alone; do: chmod 600 {private}"


OURS, ANOTHERS, ROOTS = 1000, 1001, 0
#: Modes that are taken by owner; root's as Kubernetes and systemd grant them.
TAKEN = {OURS: {0o600, 0o400}, ANOTHERS: set(), ROOTS: {0o600, 0o400, 0o440, 0o640}}
MODES = (0o600, 0o400, 0o440, 0o640, 0o660, 0o444, 0o604, 0o441)


@pytest.mark.parametrize("owner", TAKEN)
def test_a_file_is_ours_alone_or_granted_by_root(owner: int) -> None:
    found = {mode: os.stat_result((0o100000 | mode, 0, 0, 1, owner, 0, 0, 0, 0, 0)) for mode in MODES}
    assert {mode for mode in MODES if is_private(found[mode], OURS)} == TAKEN[owner]


def test_a_file_of_somebody_else_is_refused(private: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    private.chmod(0o604)
    monkeypatch.setattr(os, "getuid", lambda: private.stat().st_uid + 1)
    assert "must be yours alone" in problem(secrets(**{f"{NAME}_FILE": str(private)}))


def test_a_link_is_judged_by_the_file_that_it_leads_to(private: Path, tmp_path: Path) -> None:
    link = tmp_path / "link"
    link.symlink_to(private)
    assert secrets(**{f"{NAME}_FILE": str(link)}).get(NAME) == PLANTED
    private.chmod(0o644)
    assert "must be yours alone" in problem(secrets(**{f"{NAME}_FILE": str(link)}))


def test_a_file_that_was_opened_to_others_is_refused_from_then_on(private: Path) -> None:
    found = secrets(**{f"{NAME}_FILE": str(private)})
    found.get(NAME)
    private.chmod(0o644)
    assert "must be yours alone" in problem(found)


@pytest.mark.parametrize("kind", ["missing", "directory", "dangling link", "not text"])
def test_a_file_that_cannot_be_read_is_named_with_the_reason(tmp_path: Path, private: Path, kind: str) -> None:
    path = tmp_path / "other"
    match kind:
        case "directory":
            path.mkdir(mode=0o700)
        case "dangling link":
            path.symlink_to(tmp_path / "nowhere")
        case "not text":
            path.write_bytes(PLANTED.encode() + b"\xff")
            path.chmod(0o600)
    reported = problem(secrets(**{f"{NAME}_FILE": str(path)}))
    assert reported.startswith(f"environment:{NAME}_FILE: {path} cannot be read: ")


@pytest.mark.parametrize(
    ("command", "why"),
    [
        (f"sh -c 'echo {PLANTED} >&2; exit 3'", "CalledProcessError"),
        (f"/nowhere/{PLANTED}", "FileNotFoundError"),
        (f"echo 'no end {PLANTED}", "ValueError"),
        ("printf '\\377'", "UnicodeDecodeError"),
    ],
)
def test_a_command_that_fails_is_named_without_what_it_said(command: str, why: str) -> None:
    assert problem(secrets(**{f"{NAME}_COMMAND": command})) == f"environment:{NAME}_COMMAND: it failed: {why}"


def test_a_command_that_does_not_end_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_COMMAND_S", 0.05)
    found = secrets(**{f"{NAME}_COMMAND": f"sh -c 'echo {PLANTED}; exec sleep 60'"})
    assert problem(found).endswith("TimeoutExpired")


# --- nothing shows them -------------------------------------------------------------------------------------------


def test_secrets_show_their_names_alone(private: Path) -> None:
    found = secrets(**{NAME: PLANTED, "ASTER_API_KEY_FILE": str(private)})
    assert repr(found) == str(found) == f"{found}" == "Secrets(ASTER_API_SECRET, ASTER_API_KEY)"


@pytest.mark.parametrize("form", ["", "_FILE", "_COMMAND"])
def test_whatever_was_read_is_hidden_from_the_log(private: Path, hidden: dict[str, None], form: str) -> None:
    value = {"": PLANTED, "_FILE": str(private), "_COMMAND": f"cat {private}"}[form]
    secrets(**{f"{NAME}{form}": value}).get(NAME)
    assert set(hidden) == {PLANTED}


@pytest.fixture
def written(tmp_path: Path) -> Iterator[Any]:
    """What is written to the log, as text; ``written(pretty=True)`` starts with an empty log."""
    path = tmp_path / "log"
    files = []

    def begin(*, pretty: bool) -> Any:
        files.append(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_APPEND, 0o600))
        logger = logging.getLogger("planted")
        formatter = log_module.PrettyFormatter() if pretty else log_module.JsonFormatter()
        handler = StderrHandler(files[-1])
        handler.setFormatter(formatter)
        logger.handlers[:], logger.propagate = [handler], False
        logger.setLevel(logging.DEBUG)
        return path.read_text

    yield begin
    logging.getLogger("planted").handlers.clear()
    for file in files:
        os.close(file)


@pytest.mark.parametrize("pretty", [True, False])
def test_no_line_and_no_traceback_in_the_log_holds_a_secret(written: Any, pretty: Any) -> None:
    read = written(pretty=pretty)
    hide(PLANTED)
    log = get_log("planted")
    log.info(PLANTED, text=f"a {PLANTED} b", **{PLANTED: 1})
    log.warning("event", url=f"wss://x/ws/{PLANTED}", nested={"a": [PLANTED]})
    try:
        raise ValueError(f"bad {PLANTED}")
    except ValueError:
        log.exception("thread.crashed")
    text = read()
    assert PLANTED not in text
    assert text.count("(hidden)") >= 6
    assert "Traceback" in text


def test_what_is_too_short_for_a_secret_tears_no_holes_into_the_log(written: Any) -> None:
    read = written(pretty=False)
    hide("1234")
    hide("")
    get_log("planted").info("worker.started", pid=1234)
    assert "1234" in read()


def test_a_secret_within_another_one_does_not_show_the_rest(written: Any) -> None:
    read = written(pretty=False)
    for number in range(100, 140):
        index, rest = f"281474976710{number}", f"rest-of-token-{number}"
        hide(index)
        hide(f"1790000000:{index}:2:{rest}")
        get_log("planted").info("ws.sent", text=f"auth 1790000000:{index}:2:{rest}")
    assert "rest-of-token" not in read()


def test_renewed_tokens_do_not_pile_up(hidden: dict[str, None]) -> None:
    for number in range(100_000):
        hide(f"renewed-token-{number}")
    assert len(hidden) < 100_000


# --- whose they are -----------------------------------------------------------------------------------------------


def test_every_venue_has_its_names_and_its_side_asks_for_no_others() -> None:
    assert set(NAMES) == set(VENUES)
    for venue in VENUES:
        assert set(private_venue(venue, {}).secrets) == set(NAMES[venue])


def every_form(venue: str) -> dict[str, str]:
    return {name + form: PLANTED for name in NAMES[venue] for form in ("", "_FILE", "_COMMAND")}


@pytest.mark.parametrize("keep", [None, *NAMES])
def test_the_environment_keeps_one_venues_secrets_at_most(keep: str | None) -> None:
    environ = {"PATH": "/bin", "PARAPHINA_LIGHTER_ACCOUNT": "desk", "OTHER_API_KEY": "theirs"}
    environ |= {key: value for venue in NAMES for key, value in every_form(venue).items()}
    scrub_environment(environ, keep)
    kept = {"PATH", "PARAPHINA_LIGHTER_ACCOUNT", "OTHER_API_KEY"} | set(every_form(keep) if keep else ())
    assert set(environ) == kept


def test_scrubbing_reaches_programs_that_are_started_later(monkeypatch: pytest.MonkeyPatch) -> None:
    for key, value in every_form("paradex").items():
        monkeypatch.setenv(key, value)
    scrub_environment(keep="aster")
    command = [sys.executable, "-c", "import os; print(os.environ)"]
    assert PLANTED not in subprocess.run(command, capture_output=True, check=True, text=True).stdout
