"""``check``: the machine, the directory, and the venues through a REST client of the test's own."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from importlib import metadata
from types import SimpleNamespace

import certifi
import psutil
import pytest

from ipc.certificates import KeyDirectory
from ipc.events import BookSnapshot, Gap
from ipc.health import Reason
from ipc.topics import FEED_PORTS
from supervisor import temporary
from supervisor.config import load
from supervisor.machine import findings
from supervisor.status import clock
from supervisor.verbs import check
from workers.accounts.secrets import environment_names
from workers.net import rest
from workers.net.rest import RestError
from workers.venues import VENUES

META = b'{"universe":[{"name":"BTC","szDecimals":5,"maxLeverage":40}]}'
BOOK = b'{"coin":"BTC","time":1,"levels":[[{"px":"1","sz":"1","n":1}],[{"px":"2","sz":"1","n":1}]]}'
ONE_SIDED = b'{"coin":"BTC","time":1,"levels":[[{"px":"1","sz":"1","n":1}],[]]}'


def lines(ran):
    return [(line[:4].strip(), line[5:]) for line in ran.out.splitlines()]


@pytest.fixture(autouse=True)
def clock_status(monkeypatch):
    """Say what the kernel answers of its clock, whatever this machine's does."""
    answer = {"synchronised": True, "estimated_error_ms": 0.1}
    monkeypatch.setattr(clock, "clock_status", lambda: answer)
    return answer


@pytest.fixture(autouse=True)
def _plain_network(monkeypatch):
    """Authorities, and none of the variables of proxies that this machine may have."""
    monkeypatch.setenv("SSL_CERT_FILE", certifi.where())
    for name in ("https_proxy", "http_proxy", "all_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)


def test_all_is_well(cli, run_dir):
    ran = cli("check")
    assert ran.code == 0
    assert lines(ran) == [
        *(("ok", what) for what, _ in findings()),
        ("ok", "clock synchronised"),
        ("ok", "import name `supervisor` is ours"),
        ("ok", f"run directory {run_dir.path}"),
        ("ok", "no other supervisor in it"),
        ("ok", "certificates of authorities"),
    ]


@pytest.mark.parametrize(
    ("answer", "line"),
    [
        (False, "clock not synchronised: times and lags of events may be wrong; check the NTP service"),
        (None, "clock: this machine does not say whether it is synchronised"),
    ],
)
def test_a_clock_that_is_not_synchronised_is_shown_and_fails_nothing(cli, clock_status, answer, line):
    clock_status["synchronised"] = answer
    ran = cli("check")
    assert ran.code == 0
    assert ("ok", line) in lines(ran)


def test_keys_of_feeds_over_tcp(cli, tmp_path, monkeypatch):
    keys = KeyDirectory(tmp_path / "keys")
    monkeypatch.setenv("PARAPHINA_FEEDS_TCP", "127.0.0.1")
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        monkeypatch.setenv("PARAPHINA_FEEDS_TCP_PORT", str(port - FEED_PORTS["lifecycle"]))
        ran = cli("check")
    assert ran.code == 1
    (busy,) = [text for state, text in lines(ran) if state == "FAIL"]
    assert busy.startswith("TCP ports of 127.0.0.1: ")
    assert f"{port}: Address already in use" in busy
    monkeypatch.setenv("PARAPHINA_FEEDS_CURVE_DIR", str(keys.path))
    keys.create_server()
    keys.create_client("desk")
    ran = cli("check")  # another program may have taken the port by now
    assert ran.code in {0, 1}
    assert ("ok", f"keys in {keys.path}: the server's, and of 1 clients") in lines(ran)
    (keys.clients / "desk.key").write_bytes((keys.path / "desk.key_secret").read_bytes())
    ran = cli("check")
    assert ran.code == 2
    assert f"{keys.clients / 'desk.key'}: holds a client's SECRET key" in ran.err


def test_another_supervisor(cli, run_dir, held_lock):
    ran = cli("check")
    assert ran.code == 1
    assert ("FAIL", f"no other supervisor in it: a supervisor runs there (pid {held_lock})") in lines(ran)


def test_a_directory_that_does_not_exist_is_not_created(cli, run_dir):
    place = run_dir.path.parent / "new" / "run"
    ran = cli("check", "--run-dir", place)
    assert ("ok", f"run directory {place} can be created") in lines(ran)
    assert not place.parent.exists()


def test_a_directory_that_cannot_be_used(cli, run_dir):
    link = run_dir.path.parent / "link"
    link.symlink_to(run_dir.path)
    ran = cli("check", "--run-dir", link)
    assert ran.code == 1
    assert any(
        what.startswith(f"run directory {link}: {link}: the run directory is a symbolic link") for _, what in lines(ran)
    )


def test_a_wrong_configuration_is_a_usage_error(cli, tmp_path):
    (tmp_path / "c.toml").write_text("[supervisor]\ntick_ms = 1\n")
    ran = cli("check", "--config", tmp_path / "c.toml")
    assert (ran.code, ran.out) == (2, "")
    assert "supervisor.tick_ms: 1 will not do" in ran.err


def test_another_system(cli, monkeypatch):
    monkeypatch.setattr(sys, "platform", "darwin")
    ran = cli("check")
    assert ran.code == 1
    assert lines(ran)[0] == ("FAIL", "Linux with pidfds: darwin has none; this program needs Linux 5.4 or newer")


def test_a_refused_kernel_call_is_in_the_same_words_as_at_the_start(cli, monkeypatch):
    def refuse(*_):
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "pidfd_open", refuse)
    ran = cli("check")
    assert ran.code == 1
    assert ("FAIL", next(f"{what}: {problem}" for what, problem in findings())) in lines(ran)
    assert cli("start").err == f"paraphina-supervisor: {lines(ran)[0][1]}\n"


def test_a_clash_of_import_names(cli, monkeypatch):
    real = metadata.distribution
    monkeypatch.setattr(metadata, "distribution", lambda name: object() if name == "supervisor" else real(name))
    ran = cli("check")
    assert ran.code == 1
    assert "install this program into an environment of its own" in ran.out


# --- live -------------------------------------------------------------------------------------------------------------


@pytest.fixture
def hyperliquid(monkeypatch, cli):
    """Checks one venue live, whose REST interface gives these answers in turn."""

    def run(*answers):
        left = list(answers)
        closed = []

        class Client:
            def __init__(self, venue, *_, **__):
                assert venue is VENUES["hyperliquid"]

            def call(self, *_):
                answer = left.pop(0)
                if isinstance(answer, Exception):
                    raise answer
                return answer

            def close(self):
                closed.append(True)

        monkeypatch.setattr(rest, "RestClient", Client)
        monkeypatch.setattr(check, "_watch_venues", lambda *_, **__: [], raising=False)
        monkeypatch.setenv("PARAPHINA_VENUES", "hyperliquid")
        monkeypatch.setenv("PARAPHINA_MARKETS", "BTC")
        ran = cli("check", "--live")
        assert closed == [True]
        return ran.code, lines(ran)[len([*findings()]) + 5 :]

    return run


def test_a_venue_that_lists_and_has_books(hyperliquid):
    assert hyperliquid(META, BOOK) == (
        0,
        [("ok", "hyperliquid lists 1 of 1 markets"), ("ok", "hyperliquid book BTC-PERP")],
    )


def test_what_a_list_holds_that_cannot_be_carried_is_reported_once_and_fails_nothing(hyperliquid):
    rows = b'[{"name":"a\\u001b[2J","szDecimals":1},{"name":"SOL","szDecimals":-1},'
    rows += b'{"name":"%b","szDecimals":1},{"name":"BTC"' % (b"N" * 200)
    code, found = hyperliquid(META.replace(b'[{"name":"BTC"', rows), BOOK)
    assert code == 0
    assert found[1:3] == [
        ("ok", "hyperliquid lists markets whose names cannot be carried: 'a\\x1b[2J', '" + "N" * 64 + "'"),
        ("ok", "hyperliquid lists 1 rows that cannot be read, the first: not a whole number from 0 to 18: '-1'"),
    ]


def test_a_venue_without_our_market(hyperliquid):
    code, found = hyperliquid(META.replace(b"BTC", b"XYZ"))
    assert (code, found) == (1, [("FAIL", "hyperliquid lists 0 of 1 markets: BTC: unknown_market")])


def test_a_book_with_an_empty_side(hyperliquid):
    code, found = hyperliquid(META, ONE_SIDED)
    assert (code, found[1]) == (1, ("FAIL", "hyperliquid book BTC-PERP: a side is empty"))


@pytest.mark.parametrize(
    ("bids", "asks", "problem"),
    [
        (
            '[{"px":"1","sz":"1"},{"px":"2","sz":"1"}]',
            '[{"px":"3","sz":"1"}]',
            "price '1' is out of order or stands twice",
        ),
        ('[{"px":"4","sz":"1"}]', '[{"px":"3","sz":"1"}]', "it is crossed"),
    ],
)
def test_a_book_that_is_none(hyperliquid, bids, asks, problem):
    code, found = hyperliquid(META, f'{{"coin":"BTC","time":1,"levels":[{bids},{asks}]}}'.encode())
    assert (code, found[1]) == (1, ("FAIL", f"hyperliquid book BTC-PERP: {problem}"))


def test_an_open_door_with_the_wrong_thing_behind_it(hyperliquid):
    code, found = hyperliquid(b"<html>maintenance</html>")
    assert code == 1
    assert found[0][0] == "FAIL"
    assert found[0][1].startswith("hyperliquid at https://")


ADVICE = " (where only a proxy leads out, name it in network.proxy or HTTPS_PROXY)"


@pytest.mark.parametrize(
    ("error", "advice"),
    [
        (RestError(Reason.CONNECT_TIMEOUT, "no answer"), ADVICE),
        (RestError(Reason.DNS_FAILED, "no answer"), ADVICE),
        (RestError(Reason.REFUSED, "no answer"), ADVICE),
        (RestError(Reason.REFUSED, "HTTP 403: no answer", status=403), ""),
        (RestError(Reason.TLS_FAILED, "no answer"), ""),
    ],
)
def test_a_venue_that_does_not_answer(hyperliquid, error, advice):
    code, found = hyperliquid(error)
    assert code == 1
    assert found[0][1].endswith(f"no answer{advice}")


# --- watching ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def watched(monkeypatch, run_dir):
    """What is found when a feed of lighter and paradex gives these events, and holds books that drifted."""

    def watch(*events, drifts=0):
        left = list(events)

        class Feed:
            def __init__(self, *_, **__):
                pass

            def __enter__(self):
                return self

            def __exit__(self, *_):
                pass

            def poll(self, _):
                return left.pop(0) if left else None

            def books(self):
                return [SimpleNamespace(venue="lighter", drifts=drifts)]

        monkeypatch.setattr("ipc.feed.Feed", Feed)
        config = load(None, {}, {"supervisor.venues": "lighter,paradex"})
        return dict(check._watch(config, SimpleNamespace(run_dir=run_dir, has_ended=False), 0.02))

    return watch


def book_of(venue):
    return BookSnapshot(venue, "BTC-PERP", "BTC", None, [], [], None, None)


def found_of(watched, *events, **arguments):
    """By venue: the rule's line without its numbers, and what is wrong."""
    found = watched(*events, **arguments)
    return {line.split()[0]: (int(line.split()[6]), problem) for line, problem in found.items()}


def test_a_feed_without_gaps_keeps_its_rule(watched):
    found = found_of(watched, book_of("lighter"), book_of("paradex"), book_of("lighter"))
    assert found == {"lighter": (2, None), "paradex": (1, None)}


def test_gaps_drift_and_silence_are_reported(watched):
    gap = Gap("lighter", "BTC-PERP", "BTC", None, "book", Reason.SEQ_GAP, 1, 3, "resync")
    found = found_of(watched, book_of("lighter"), gap, gap, drifts=1)
    assert found == {
        "lighter": (1, "2 gaps (seq_gap), 1 books differed"),
        "paradex": (0, "no book update at all"),
    }


# --- accounts ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def account_of(cli, monkeypatch):
    """What is found of Lighter's account with these secrets."""
    for name in environment_names():
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("PARAPHINA_LIGHTER_ACCOUNT", "desk")

    def look(**secrets):
        for name, value in secrets.items():
            monkeypatch.setenv(name, value)
        ran = cli("check")
        ((verdict, line),) = [one for one in lines(ran) if "account" in one[1]]
        assert ran.code == (0 if verdict == "ok" else 1)
        return line.removeprefix("lighter account desk has credentials")

    return look


def test_credentials_that_are_there(account_of):
    assert account_of(LIGHTER_ACCOUNT_INDEX="7", LIGHTER_AUTH_TOKEN="9999999999:7:2:ab") == ""


def test_credentials_that_are_missing(account_of):
    assert account_of().startswith(": no credentials; set LIGHTER_ACCOUNT_INDEX with LIGHTER_AUTH_TOKEN")


def test_credentials_that_have_expired(account_of):
    reported = account_of(LIGHTER_ACCOUNT_INDEX="7", LIGHTER_AUTH_TOKEN="1700000000:7:2:ab")
    assert reported == ": LIGHTER_AUTH_TOKEN has expired: make a new one"


def test_a_file_of_credentials_that_others_can_read(account_of, tmp_path):
    path = tmp_path / "token"
    path.write_text("9999999999:7:2:ab")
    path.chmod(0o644)
    assert "must be yours alone; do: chmod 600" in account_of(
        LIGHTER_ACCOUNT_INDEX="7", LIGHTER_AUTH_TOKEN_FILE=str(path)
    )


def test_accounts_are_waited_for_and_say_why(monkeypatch, run_dir):
    looks = [
        {"state": "subscribed"},
        {"state": "failed", "reason": "auth_failed", "detail": "the token is not valid"},
    ]

    def status(_):
        reported = looks.pop(0) if len(looks) > 1 else looks[0]
        return {"venues": {"lighter": {"streams": {"account": reported}}}}

    monkeypatch.setattr("supervisor.status.document.read_status", status)
    config = load(None, {}, {"supervisor.venues": "lighter", "venues.lighter.account": "desk"})
    ((what, problem),) = check._watch_accounts(config, run_dir.path)
    assert what == "lighter accepts the credentials of account desk"
    assert problem == "failed: auth_failed: the token is not valid"


@pytest.mark.integration
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
@pytest.mark.parametrize("verb", [("check", "--sim"), ("drill", "stall", "--venues", "lighter")], ids=lambda v: v[0])
def test_a_system_of_its_own_is_ended_when_it_is_asked_to_end(run_dir, number, verb):
    arguments = [*verb, "--run-dir", str(run_dir.path)] if verb[0] == "check" else list(verb)
    process = subprocess.Popen([sys.executable, "-m", "supervisor", *arguments], stdout=subprocess.DEVNULL)
    try:
        while not (started := psutil.Process(process.pid).children()) or not started[0].children():
            time.sleep(0.02)
        process.send_signal(number)
        assert process.wait(30) == 130
        assert not started[0].is_running()
    finally:
        process.kill()
        process.wait()


# --- for programs, and a temporary system that ends early -------------------------------------------------------------


def test_findings_for_programs(cli, run_dir, held_lock):
    ran = cli("check", "--json")
    assert ran.code == 1
    reported = json.loads(ran.out)
    assert {"check": f"run directory {run_dir.path}", "ok": True, "problem": None} in reported
    problem = f"a supervisor runs there (pid {held_lock})"
    assert {"check": "no other supervisor in it", "ok": False, "problem": problem} in reported


def test_a_temporary_system_that_ends_is_reported_at_once(cli, monkeypatch):
    class Ending(temporary.TemporarySystem):
        def start(self, *_):
            super().start("--venues", "binance")

    monkeypatch.setattr(temporary, "TemporarySystem", Ending)
    ran = cli("check", "--sim", "--for", "60", "--json")
    assert ran.code == 1
    last = json.loads(ran.out)[-1]
    assert (last["check"], last["ok"]) == ("the temporary system ran to the end", False)
    assert "binance" in last["problem"]
