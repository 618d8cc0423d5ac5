"""``start`` up to the moment at which the parent takes over, and its errors; whole systems are tested elsewhere."""

from __future__ import annotations

import io
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import certifi
import click
import pytest

from ipc.errors import BoardError, UsageError
from supervisor import parent as parent_module
from supervisor.cli import main
from supervisor.verbs import start as module
from supervisor.verbs.start import Duration
from workers.net import dial as dialling
from workers.net.proxy import DialOptions

# --- durations --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("90", 90), ("90s", 90), ("5m", 300), ("2h", 7200), ("0.5", 0.5), ("1.5h", 5400), ("1e2", 100)],
)
def test_a_duration_in_seconds(text, seconds):
    assert Duration().convert(text, None, None) == seconds


@pytest.mark.parametrize("text", ["", "s", "0", "0s", "-5", "-5m", "soon", "5d", "nan", "inf", "infh", "5 m m"])
def test_what_is_no_duration(text):
    with pytest.raises(click.BadParameter, match="is no duration; write 90, 90s, 5m or 2h"):
        Duration().convert(text, None, None)


# --- the machine ------------------------------------------------------------------------------------------------------


def test_pid_1_does_not_go_to_the_background(cli, monkeypatch):
    monkeypatch.setattr(os, "getpid", lambda: 1)
    monkeypatch.setattr("supervisor.machine.require_machine", lambda: None)
    ran = cli("start", "--detach")
    assert ran.code == 2
    assert ran.err == (
        "paraphina-supervisor: --detach: PID 1 cannot go to the background: its end ends the container"
        " (start it without --detach; the runtime keeps its log)\n"
    )


def test_pid_1_handles_sigterm_while_it_still_loads(cli, parent, monkeypatch, signals):
    monkeypatch.setattr(os, "getpid", lambda: 1)
    monkeypatch.setattr("supervisor.machine.require_machine", lambda: None)
    assert cli("start").code == 7
    assert signal.getsignal(signal.SIGTERM) is signal.default_int_handler


def test_nothing_is_made_on_a_machine_that_lacks_a_requirement(cli, monkeypatch, tmp_path):
    def refuse(*_):
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "pidfd_open", refuse)
    ran = cli("start", "--run-dir", tmp_path / "run")
    assert (ran.code, (tmp_path / "run").exists()) == (2, False)
    assert ran.err.startswith("paraphina-supervisor: Linux with pidfds: pidfd_open is refused")


# --- what it does with its options ------------------------------------------------------------------------------------


@pytest.fixture
def parent(monkeypatch):
    """Stands in for the parent: what it was made of, and how long it was to run."""
    seen = {}

    class Parent:
        def __init__(self, system, run_dir, _instance, announce):
            seen.update(system=system, run_dir=run_dir)
            announce("a milestone")

        def run(self, for_s, ready):
            seen.update(for_s=for_s, ready=ready)
            return 7

    monkeypatch.setattr(parent_module, "Parent", Parent)
    monkeypatch.setattr("ipc.log.setup", lambda level: seen.update(level=level))
    return seen


def test_the_parents_code_is_the_codes_end_and_milestones_are_printed(cli, parent, run_dir):
    ran = cli("start", "--for", "2m")
    assert ran.code == 7
    assert parent["for_s"] == 120
    assert parent["run_dir"].path == run_dir.path
    first, second, third = ran.out.splitlines()
    assert first == "a milestone"
    assert second.endswith(f"pid {os.getpid()}, run directory {run_dir.path}")
    assert third == "status page and metrics: http://127.0.0.1:9464"


def test_without_a_page_none_is_announced(cli, parent, run_dir, monkeypatch):
    monkeypatch.setenv("PARAPHINA_GATEWAY_HTTP", "")
    assert "status page" not in cli("start").out
    assert parent["system"].http is None


def test_a_free_port_is_chosen_once_for_the_life_of_the_system(cli, parent, run_dir, monkeypatch):
    monkeypatch.setenv("PARAPHINA_GATEWAY_HTTP", "127.0.0.1:0")
    ran = cli("start")
    system = parent["system"]
    chosen = system.config.gateway.http
    assert chosen.port != 0
    assert f"status page and metrics: {chosen.url}\n" in ran.out
    assert system.describe()["gateway"]["http"] == chosen.url
    assert system.reloaded().config.gateway.http == chosen


def test_flags_win_over_the_file(cli, parent, tmp_path, run_dir):
    (tmp_path / "c.toml").write_text('[supervisor]\nvenues = ["aster"]\nrun_dir = "/nowhere"\nlog_level = "debug"\n')
    cli("start", "--config", tmp_path / "c.toml", "--venues", "paradex,lighter", "--run-dir", run_dir.path)
    assert list(parent["system"].config.venues) == ["lighter", "paradex"]
    assert parent["run_dir"].path == run_dir.path
    assert parent["level"] == "debug"


def test_the_directory_may_come_from_the_file(cli, parent, tmp_path, run_dir, monkeypatch):
    monkeypatch.delenv("PARAPHINA_RUN_DIR")
    (tmp_path / "c.toml").write_text(f'[supervisor]\nrun_dir = "{run_dir.path}/deeper"\n')
    cli("start", "--config", tmp_path / "c.toml")
    assert parent["run_dir"].path == run_dir.path / "deeper"
    assert (run_dir.path / "deeper").stat().st_mode & 0o777 == 0o700


def test_the_directory_is_the_usual_one_when_nobody_says(cli, parent, run_dir, monkeypatch):
    monkeypatch.delenv("PARAPHINA_RUN_DIR")
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(run_dir.path))
    cli("start")
    assert parent["run_dir"].path == run_dir.path / "paraphina"


def test_live_venues_without_a_simulator(cli, parent):
    cli("start")
    assert parent["system"].simulation is None
    assert parent["system"].config.venues["lighter"].ws_url.startswith("wss://")


def test_the_simulator_takes_the_venues_place(cli, parent):
    cli("start", "--sim", "--sim-rate", "100", "--sim-seed", "9", "--venues", "lighter,aster")
    system = parent["system"]
    settings = system.simulation.settings
    assert (settings.rate, settings.seed, settings.venues) == (100.0, 9, ("aster", "lighter"))
    for name, venue in system.config.venues.items():
        assert (venue.ws_url, venue.rest_url) == system.simulation.urls[name]
        assert venue.ws_url.startswith("ws://127.0.0.1:")


def test_simulated_venues_are_reached_directly(cli, parent, monkeypatch):
    monkeypatch.setenv("PARAPHINA_PROXY", "http://proxy.desk:3128")
    monkeypatch.setenv("PARAPHINA_LIGHTER_SOURCE_ADDRESS", "192.0.2.7")
    monkeypatch.setenv("PARAPHINA_CA_FILE", certifi.where())
    cli("start", "--sim", "--venues", "lighter")
    assert parent["system"].config.venues["lighter"].dial == DialOptions()
    assert parent["system"].reloaded().config.venues["lighter"].dial == DialOptions()


def test_authorities_of_every_venue_are_loaded_before_the_fork(cli, parent, monkeypatch):
    monkeypatch.setattr(dialling, "_contexts", {})
    monkeypatch.setenv("PARAPHINA_LIGHTER_CA_FILE", certifi.where())
    cli("start", "--venues", "lighter,aster")
    assert set(dialling._contexts) == {None, certifi.where()}


def test_reading_again_keeps_the_simulators_addresses_and_the_flags(cli, parent, monkeypatch):
    cli("start", "--sim", "--venues", "lighter")
    system = parent["system"]
    monkeypatch.setenv("PARAPHINA_LIGHTER_STALE_MS", "7000")
    again = system.reloaded().config
    assert list(again.venues) == ["lighter"]
    assert again.venues["lighter"].stale_ms == 7000
    assert again.venues["lighter"].ws_url == system.config.venues["lighter"].ws_url


def say(output):
    """Announce a milestone in a new interpreter; return its exit code and its errors."""
    program = "from supervisor.verbs.start import _say; _say('all 5 venues are live'); _say('and so on')"
    done = subprocess.run([sys.executable, "-c", program], stdout=output, stderr=subprocess.PIPE, timeout=60)
    return done.returncode, done.stderr


def test_a_reader_of_the_milestones_that_left_is_no_reason_to_stop():
    reader, writer = os.pipe()
    os.close(reader)
    assert say(writer) == (0, b"")
    os.close(writer)


def test_a_closed_terminal_is_no_reason_to_stop():
    master, slave = os.openpty()
    os.close(master)
    assert say(slave) == (0, b"")
    os.close(slave)


def test_a_terminal_that_takes_no_output_stops_nothing():
    """After Ctrl-S, or behind a reader that is stopped, a write would wait."""
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    os.write(writer, bytes(10_000_000))
    os.set_blocking(writer, True)
    assert say(writer) == (0, b"")
    os.close(reader)
    os.close(writer)


# --- errors -----------------------------------------------------------------------------------------------------------


def test_a_wrong_configuration_is_a_line_a_mistake(cli, tmp_path):
    (tmp_path / "c.toml").write_text("[supervisor]\ntick_ms = 1\n[venues.lihgter]\nx = 1\n")
    ran = cli("start", "--config", tmp_path / "c.toml", "--venues", "binance")
    assert ran.code == 2
    assert len(ran.err.splitlines()) == 3
    assert ran.out == ""


def test_a_second_instance_leaves_the_authority_that_the_first_is_trusted_by(command, run_dir, held_lock):
    (run_dir.path / "sim-ca.pem").write_text("of the first")
    ran = command("start", "--sim", "--sim-tls")
    assert ran.code == 2
    assert f"(pid {held_lock})" in ran.err
    assert (run_dir.path / "sim-ca.pem").read_text() == "of the first"


def test_a_second_instance_is_refused(command, run_dir, held_lock):
    for options in ([], ["--sim"], ["--detach"]):
        ran = command("start", *options, env={"XDG_STATE_HOME": str(run_dir.path.parent)})
        assert ran.code == 2
        assert f"a supervisor is already running here (pid {held_lock})" in ran.err
        assert "Traceback" not in ran.err
    assert not run_dir.control.exists()


def test_a_second_instance_leaves_the_board_of_the_first_alone(command, run_dir, held_lock):
    run_dir.board.write_bytes(b"the first one's")
    command("start")
    assert run_dir.board.read_bytes() == b"the first one's"


@pytest.mark.parametrize("options", [[], ["--detach"]], ids=["foreground", "detached"])
@pytest.mark.parametrize(
    ("kind", "wanted"),
    [
        ("link", "the run directory is a symbolic link"),
        ("dangling link", "the run directory is a symbolic link"),
        ("file", "the run directory is not a directory"),
        ("below a file", "the run directory cannot be made"),
        ("too long", "bytes too long for Unix sockets"),
        ("not to be made", "the run directory cannot be made"),
    ],
)
def test_a_directory_that_cannot_be_used(cli, run_dir, kind, wanted, options):
    place = run_dir.path.parent
    path = place / "other"
    if kind == "link":
        path.symlink_to(run_dir.path)
    elif kind == "dangling link":
        path.symlink_to(place / "nowhere")
    elif kind == "file":
        path.touch()
    elif kind == "below a file":
        path.touch()
        path = path / "run"
    elif kind == "too long":
        path = place / ("x" * 100)
    else:
        path = "/proc/paraphina"
    ran = cli("start", "--run-dir", path, *options)
    assert ran.code == 2
    assert wanted in ran.err
    assert "--run-dir" in ran.err


def test_a_place_that_is_not_writable(run_dir, forking):
    place = run_dir.path.parent
    place.chmod(0o555)

    def scenario():
        if os.geteuid() == 0:
            os.setuid(65_534)  # nothing is read-only to root
        sys.stderr = said = io.StringIO()
        try:
            main(["start", "--run-dir", str(place / "other")])
        except SystemExit as left:
            return left.code, said.getvalue()

    code, said = forking.in_fork(scenario)
    place.chmod(0o700)
    assert code == 2
    assert f"{place}/other: the run directory cannot be made: Permission denied" in said


def test_a_directory_of_somebody_else(cli, run_dir, monkeypatch):
    uid = os.getuid()
    monkeypatch.setattr("ipc.rundir.os.getuid", lambda: uid + 1)
    ran = cli("start")
    assert ran.code == 2
    assert f"the run directory belongs to uid {uid}, not to you" in ran.err


@pytest.mark.parametrize("verb", ["start", "check"])
def test_an_open_directory_is_refused_and_left_as_it_is(cli, parent, run_dir, verb):
    """As root, ``--run-dir /tmp`` would close it for everybody."""
    run_dir.path.chmod(0o1777)
    ran = cli(verb)
    assert ran.code == {"start": 2, "check": 1}[verb]
    assert "has mode 1777 and not 0700 (choose another with --run-dir)" in ran.err + ran.out
    assert run_dir.path.stat().st_mode & 0o7777 == 0o1777
    assert list(run_dir.path.iterdir()) == []


# --- in the background ------------------------------------------------------------------------------------------------


def await_detached(run_dir, said, pid=4711, *, as_json=False):
    reader, writer = os.pipe()
    os.write(writer, said)
    os.close(writer)
    try:
        return module._await_detached(reader, pid, run_dir, as_json=as_json)
    finally:
        os.close(reader)


def test_the_foreground_comes_back_with_pid_and_directory(run_dir, capsys):
    assert await_detached(run_dir, b"0 ok\n") == 0
    printed = capsys.readouterr().out
    assert "pid 4711" in printed
    assert str(run_dir.path) in printed
    assert "status page" not in printed


def test_the_foreground_prints_the_address_of_the_status_page(run_dir, capsys):
    run_dir.description.write_text(json.dumps({"gateway": {"http": "http://127.0.0.1:9464"}}))
    assert await_detached(run_dir, b"0 ok\n") == 0
    assert capsys.readouterr().out.endswith(", status page http://127.0.0.1:9464\n")


def test_pid_directory_and_log_for_programs(run_dir, capsys):
    assert await_detached(run_dir, b"0 ok\n", as_json=True) == 0
    shown = json.loads(capsys.readouterr().out)
    assert (shown["pid"], shown["run_dir"]) == (4711, str(run_dir.path))
    assert shown["log"].endswith("/paraphina/log")


def test_a_usage_error_in_the_background_is_one_in_the_foreground(run_dir):
    with pytest.raises(UsageError, match="already running") as refused:
        await_detached(run_dir, b"2 a supervisor is already running here\n")
    assert refused.value.exit_code == 2


def test_a_usage_error_is_not_said_to_stand_in_the_log(run_dir):
    with pytest.raises(UsageError) as refused:
        await_detached(run_dir, b"2 a supervisor is already running here\n")
    assert "see its log" not in str(refused.value)


def test_a_background_that_ends_without_a_word(run_dir):
    with pytest.raises(Exception, match=r"it ended before everything ran .*see its log") as ended:
        await_detached(run_dir, b"")
    assert ended.value.exit_code == 1


def test_the_exit_code_of_the_background_is_kept(run_dir):
    with pytest.raises(Exception, match="no room") as failed:
        await_detached(run_dir, b"4 the board cannot be made: no room\n")
    assert failed.value.exit_code == BoardError.exit_code


def test_a_log_that_cannot_be_written_is_reported_without_a_traceback(command, run_dir):
    ran = command("start", "--sim", "--detach", "--for", "1", env={"XDG_STATE_HOME": "/proc/none"})
    assert ran.code == 2
    assert ran.err.startswith("paraphina-supervisor: /proc/none/paraphina/log: the log cannot be written: ")


def left_terminal(forking, tmp_path, before=None):
    log = tmp_path / "paraphina" / "log"
    if before is not None:
        log.parent.mkdir()
        log.write_bytes(before)

    def scenario():
        # The scenario leads its process group, and only another process may found a session.
        pid = os.fork()
        if pid == 0:
            module._leave_terminal(log)
            os.write(1, b"out ")
            os.write(2, b"err")
            os._exit(0 if os.getsid(0) == os.getpid() and os.read(0, 1) == b"" else 1)
        return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])

    assert forking.in_fork(scenario) == 0
    return log


def test_the_background_has_a_session_no_input_and_a_log(forking, tmp_path):
    log = left_terminal(forking, tmp_path)
    assert log.read_bytes() == b"out err"
    assert log.stat().st_mode & 0o777 == 0o600
    assert log.parent.stat().st_mode & 0o777 == 0o700


def test_the_background_trusts_the_authorities_that_the_foreground_would(forking, tmp_path, monkeypatch):
    """OpenSSL ignores a file that does not exist, and every connection would fail."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SSL_CERT_FILE", "my:ca.pem")
    monkeypatch.setenv("SSL_CERT_DIR", "more:/etc/ssl:")

    def scenario():
        pid = os.fork()
        if pid == 0:
            module._leave_terminal(tmp_path / "log")
            os.write(1, f"{os.environ['SSL_CERT_FILE']} {os.environ['SSL_CERT_DIR']} {Path.cwd()}".encode())
            os._exit(0)
        return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])

    assert forking.in_fork(scenario) == 0
    assert (tmp_path / "log").read_text() == f"{tmp_path}/my:ca.pem {tmp_path}/more:/etc/ssl: /"


def test_the_log_goes_on(forking, tmp_path):
    assert left_terminal(forking, tmp_path, b"before ").read_bytes() == b"before out err"


def test_an_error_of_the_parent_reaches_the_foreground(command, run_dir):
    """The board cannot take the place of a directory."""
    run_dir.board.mkdir()
    (run_dir.board / "in the way").touch()
    ran = command("start", "--sim", "--detach", "--for", "1", env={"XDG_STATE_HOME": str(run_dir.path.parent)})
    assert ran.code in {1, 4}
    assert "the board cannot be made" in ran.err
    assert "Traceback" not in ran.err


def test_a_crash_in_the_background_is_in_the_log(forking, monkeypatch, run_dir, tmp_path):
    class Crashing:
        def __init__(self, *_):
            pass

        def run(self, _for_s, ready):
            ready()
            raise OSError("a fault of the parent")

    monkeypatch.setattr(parent_module, "Parent", Crashing)
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    monkeypatch.setenv("PARAPHINA_RUN_DIR", str(run_dir.path))

    def scenario():
        module.start.main(["--detach"], standalone_mode=False)
        _, status = os.wait()
        return os.waitstatus_to_exitcode(status)

    assert forking.in_fork(scenario) == 1
    reported = json.loads((tmp_path / "paraphina" / "log").read_text().splitlines()[-1])
    assert reported["event"] == "supervisor.crashed"
    assert "a fault of the parent" in reported["traceback"]
