"""No verb passes on what a terminal would act on: texts of venues, of files and of other programs."""

from __future__ import annotations

import json
import re

import pytest

from ipc.errors import ConfigError, ParaphinaError
from supervisor import cli as command_line
from supervisor.cli import main
from supervisor.verbs import check as checks
from supervisor.verbs.status import render

EVIL = "x\x1b]0;owned\x07\u202e\x9b2J\x7f\u2028\ny"
SHOWN = "x\\x1b]0;owned\\x07\\u202e\\x9b2J\\x7f\\u2028\\ny"
#: Our own colours and the end of a line are no harm.
OURS = re.compile(r"\x1b\[[0-9;]*m|\n")


def is_safe(text):
    return OURS.sub("", text).isprintable()


@pytest.mark.parametrize(
    "error", [ParaphinaError(EVIL), ParaphinaError("a", where=EVIL, advice=EVIL), ConfigError([EVIL, "b"])]
)
def test_errors_are_one_line_each(monkeypatch, capsys, error):
    def fail(**_):
        raise error

    monkeypatch.setattr(command_line.paraphina_supervisor, "main", fail)
    with pytest.raises(SystemExit):
        main([])
    err = capsys.readouterr().err
    assert SHOWN in err
    assert is_safe(err)
    assert len(err.splitlines()) == (2 if isinstance(error, ConfigError) else 1)


def test_a_mistyped_argument_is_repeated_escaped(cli):
    for arguments in ((EVIL,), ("status", f"--{EVIL}"), ("verify", EVIL), ("tail", EVIL), ("logs", "-n", EVIL)):
        ran = cli(*arguments)
        assert ran.code == 2
        assert is_safe(ran.err), arguments


def test_an_unexpected_error_is_escaped(command, tmp_path):
    program = f"raise ValueError({EVIL!r})"
    (tmp_path / "sitecustomize.py").write_text(
        f"import supervisor.cli as cli\ndef fail(**_): {program}\ncli.paraphina_supervisor.main = fail\n"
    )
    ran = command("status", env={"PYTHONPATH": str(tmp_path)})
    assert ran.code == 1
    assert ran.err.split("\n")[-3:] == [f"ValueError: {SHOWN[:-3]}", "y", ""]
    assert is_safe(ran.err)


@pytest.fixture
def system(boards, run_dir, held_lock):
    system = boards.WrittenSystem(run_dir)
    yield system
    system.board.close()


def test_status_escapes_details_and_names(cli, system):
    state = json.loads(cli("status", "--json").out)
    state["supervisor"]["state"] = "running"
    plain = [render(state, all_streams=is_long) for is_long in (False, True)]
    state["venues"][EVIL] = state["venues"].pop("lighter")
    book = state["venues"][EVIL]["streams"]["book"]
    book |= {"detail": EVIL, "markets": {EVIL: {**book["markets"]["BTC-PERP"], "state": "stale"}}}
    state["supervisor"] |= {"run_dir": EVIL, "version": EVIL}
    for is_long, before in zip((False, True), plain, strict=True):
        text = render(state, all_streams=is_long)
        assert is_safe(text)
        assert text.count(SHOWN) >= 4
        assert len(text.splitlines()) == len(before.splitlines())


def test_check_escapes_findings(cli, monkeypatch, tmp_path):
    monkeypatch.setattr(checks, "_check_machine", lambda: [(EVIL, None), ("a", EVIL)])
    out = cli("check", "--run-dir", str(tmp_path / "run")).out
    assert out.splitlines()[:2] == [f"ok   {SHOWN}", f"FAIL a: {SHOWN}"]
    assert is_safe(out)


def test_decode_escapes_what_it_reports_and_what_it_prints(cli, tmp_path):
    file = tmp_path / "frames"
    trade = {"coin": "BTC", "side": "B", "px": EVIL, "sz": "1", "time": 1, "hash": "0x", "tid": 1}
    frame = {"channel": "trades", "data": [trade, {**trade, "px": "1", "tid": 2}]}
    file.write_text(json.dumps(frame) + "\n" + '{"channel": "' + "\\u001b[2J" + '"}\n')
    ran = cli("decode", "--venue", "hyperliquid", file)
    assert ran.code == 1
    assert is_safe(ran.out + ran.err)
    assert "owned" in ran.err


def test_verify_escapes_what_it_found(cli, tmp_path, script):
    script.everything().lines.append('{"topic":"trade.\x7f\u202e\x9b2J.BTC-PERP","kind":"trade"}\n'.encode())
    directory = tmp_path / "a\x1b[2Jb"
    script.write(directory)
    ran = cli("verify", directory)
    assert ran.code == 1
    assert "a\\x1b[2Jb" in ran.out
    assert is_safe(ran.out)
    as_json = cli("verify", directory, "--json").out
    assert is_safe(as_json)
    assert json.loads(as_json)["problems"][0]["file"].startswith(str(directory))


def test_fixture_info_escapes_the_recording(cli, tmp_path, raw_script):
    raw_script.head.reason = EVIL
    path = raw_script.add("open", b"ws://x", session=EVIL).write(tmp_path)
    for arguments in (("fixture", "info", path), ("fixture", "info", path, "--json")):
        assert is_safe(cli(*arguments).out)
