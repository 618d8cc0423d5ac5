"""State of a system read from its run directory, on boards that the test writes."""

from __future__ import annotations

import json
import os
import shutil
from types import SimpleNamespace

import click
import msgspec
import pytest

from ipc.board import ACCOUNT_SESSION, TCP_LISTENING, TCP_WAITING, CellWord, StreamWord, market_key
from ipc.errors import BoardError, UnknownStateError, UsageError
from ipc.health import Phase, Reason, Stream, StreamState, WorkerState, code_of
from ipc.rundir import AccountWords
from ipc.users import user_name
from supervisor.lock import Holder
from supervisor.proc import Usage, pid_namespace
from supervisor.status import document as module
from supervisor.status import process as status_process
from supervisor.status import reader
from supervisor.status.document import exit_code_of, pid_of, read_status, symbols_of
from supervisor.verbs.status import render

S = 1_000_000_000
MS = 1_000_000
LIGHTER_PID = 5003


@pytest.fixture
def now(boards, monkeypatch):
    monkeypatch.setattr(reader, "time", SimpleNamespace(monotonic_ns=lambda: boards.NOW))
    return boards.NOW


@pytest.fixture
def holder(monkeypatch):
    """Set what the kernel reports: the holder of the lock, and processes that are gone or stopped."""
    held = SimpleNamespace(pid=4711, gone=set(), stopped=set())
    monkeypatch.setattr(module, "holder_of", lambda _: None if held.pid is None else Holder(held.pid or None))
    monkeypatch.setattr(status_process, "usage_of", lambda pid: None if pid in held.gone else Usage(1.5, 4096))
    monkeypatch.setattr(reader, "clock_status", lambda: {"synchronised": True, "estimated_error_ms": 1.0})
    monkeypatch.setattr(reader, "is_stopped", lambda pid: pid in held.stopped)
    return held


@pytest.fixture
def system(boards, run_dir, now, holder):
    system = boards.WrittenSystem(run_dir)
    yield system
    system.board.close()


@pytest.fixture
def read(system, run_dir):
    return lambda: read_status(run_dir)


def stream_of(status, venue="lighter", stream="book"):
    return status["venues"][venue]["streams"][stream]


def verdict_line(status):
    return click.unstyle(render(status)).splitlines()[0]


def lines(status):
    """Lines with every stream, behind the verdict."""
    shown = click.unstyle(render(status, all_streams=True)).splitlines()
    return [line for line in shown[1:] if line]


# --- feeds over TCP and errors of the configuration ---


def test_feed_whose_address_is_in_use_is_shown(system, read):
    for process, port in ((system.described["venues"]["lighter"], 5603), (system.described["gateway"], 5605)):
        process["tcp"] = f"tcp://127.0.0.1:{port}"
    system.described["venues"]["lighter"]["account_tcp"] = "tcp://127.0.0.1:5609"
    system.describe()
    system.process("lighter", TCP=TCP_WAITING, ACCOUNT_TCP=TCP_LISTENING, KEYS_REFUSED=3)
    system.process("gateway", TCP=TCP_LISTENING)
    status = read()
    lighter = status["venues"]["lighter"]
    assert lighter["tcp"] == {"endpoint": "tcp://127.0.0.1:5603", "listening": False}
    assert lighter["account_tcp"] == {"endpoint": "tcp://127.0.0.1:5609", "listening": True}
    assert status["gateway"]["tcp"] == {"endpoint": "tcp://127.0.0.1:5605", "listening": True}
    assert status["venues"]["paradex"]["tcp"] is None
    (line,) = [line for line in lines(status) if line.startswith("lighter")]
    assert "tcp://127.0.0.1:5603 address_in_use  3 keys refused" in line
    assert "5609" not in line


def test_error_of_a_configuration_is_shown_beside_failed_and_escaped(system, read, run_dir):
    run_dir.error_file("lighter").write_text("feeds: \x1b[2J\nwrong")
    assert read()["venues"]["lighter"]["error"] is None, "left behind by an earlier generation"
    system.process("lighter", WorkerState.FAILED)
    status = read()
    assert status["venues"]["lighter"]["error"] == "feeds: \x1b[2J\nwrong"
    (line,) = [line for line in render(status, all_streams=True).splitlines() if line.startswith("lighter")]
    assert line.endswith(r"error: feeds: \x1b[2J\nwrong  needs you")


# --- the status page ---


def test_the_status_page_is_shown_and_whether_it_listens(system, read):
    assert "http" not in lines(read())[-1]
    system.described["gateway"]["http"] = "http://127.0.0.1:9464"
    system.describe()
    assert lines(read())[-1].endswith("  http://127.0.0.1:9464  not served: see the log")
    system.process("gateway", HTTP=TCP_WAITING)
    assert read()["gateway"]["http_listening"] is False
    system.process("gateway", HTTP=TCP_LISTENING)
    assert read()["gateway"]["http_listening"] is True
    assert lines(read())[-1].endswith("  http://127.0.0.1:9464")


def test_a_gateway_that_is_gone_listens_nowhere(system, read, holder):
    system.process("gateway", HTTP=TCP_LISTENING)
    holder.gone.add(5005)
    assert read()["gateway"]["http_listening"] is False


# --- the contract -----------------------------------------------------------------------------------------------------

VENUE_KEYS = "state since_s pid epoch restarts last_exit next_start_in_s feed streams"
STREAM_KEYS = "state reason age_ms limit_ms reconnects markets"


def test_every_key_of_the_contract_is_there(read):
    status = read()
    assert {"supervisor", "venues", "gateway", "simulator"} <= set(status)
    assert {"state", "pid", "uptime_s", "version"} <= set(status["supervisor"])
    assert {"state", "pid", "http"} <= set(status["gateway"])
    assert status["simulator"] is None
    assert list(status["venues"]) == ["lighter", "paradex"]
    for venue in status["venues"].values():
        assert set(VENUE_KEYS.split()) <= set(venue)
        for stream in venue["streams"].values():
            assert set(STREAM_KEYS.split()) <= set(stream)
            assert list(stream["markets"]) == ["BTC-PERP", "ETH-PERP"]


# --- another PID namespace --------------------------------------------------------------------------------------------


@pytest.fixture
def elsewhere(system, holder):
    """Make the system one of another PID namespace, whose parent has no pid here."""
    system.describe_simulator()
    system.described["pid_namespace"] = 1
    system.describe()
    holder.pid = 0


def pids(status):
    processes = (status["supervisor"], status["gateway"], status["simulator"], *status["venues"].values())
    return [process["pid"] for process in processes]


@pytest.mark.usefixtures("elsewhere")
def test_from_another_namespace_there_are_states_and_ages_but_no_pids(read, holder):
    holder.gone.add(5003)  # whatever has that pid here is not looked at
    status = read()
    assert (status["supervisor"]["state"], status["supervisor"]["pid_namespace"]) == ("running", "other")
    assert pids(status) == [None] * 5
    assert stream_of(status)["age_ms"] == 50
    assert exit_code_of(status) == 0
    assert lines(status)[0] == (
        "supervisor   running    up 17 min  version 1.2.3  in another PID namespace: no pids"
        f"  {status['supervisor']['run_dir']}"
    )
    assert not any("pid" in line for line in lines(status)[1:])


@pytest.mark.usefixtures("elsewhere")
def test_the_parents_pid_as_the_kernel_translates_it_is_shown(read, holder):
    holder.pid = 4711
    status = read()
    assert pids(status) == [4711, None, None, None, None]


@pytest.mark.usefixtures("elsewhere")
def test_a_pid_of_another_namespace_is_refused(read):
    with pytest.raises(UnknownStateError, match="lighter: the system runs in another PID namespace, where pids differ"):
        pid_of(read(), "lighter")


def test_in_the_same_namespace_pids_are_shown(system, read):
    system.described["pid_namespace"] = pid_namespace()
    system.describe()
    assert read()["supervisor"]["pid_namespace"] == "own"
    assert read()["venues"]["lighter"]["pid"] == 5003


def test_a_simulator_is_reported_with_its_urls(system, read):
    system.describe_simulator()
    simulator = read()["simulator"]
    assert simulator["admin"] == "http://127.0.0.1:3"
    assert simulator["venues"] == {"lighter": {"ws": "ws://127.0.0.1:1", "rest": "http://127.0.0.1:2"}}
    assert (simulator["state"], simulator["pid"]) == ("live", 5006)


def test_it_is_plain_json(read):
    status = read()
    assert json.loads(json.dumps(status)) == status


def test_a_running_system(read, system):
    supervisor = read()["supervisor"]
    assert (supervisor["state"], supervisor["pid"], supervisor["uptime_s"]) == ("running", 4711, 1000.0)
    assert (supervisor["version"], supervisor["beat_age_ms"], supervisor["forks"]) == ("1.2.3", 100, 3)


def test_a_live_venue(read, system, run_dir):
    system.process("lighter", EPOCH=77, RESTARTS=2, RSS_BYTES=9, BEAT=system.board.header[6], DROPS=4)
    venue = read()["venues"]["lighter"]
    assert (venue["state"], venue["since_s"], venue["pid"], venue["epoch"]) == ("live", 990.0, 5003, 77)
    assert (venue["restarts"], venue["last_exit"], venue["next_start_in_s"]) == (2, None, None)
    assert venue["feed"] == f"ipc://{run_dir.path}/lighter.feed"
    assert venue["time_to_fresh_ms"] == 1000
    assert venue["books"] == {"wanted": 2, "usable": 2}
    assert (venue["rss_bytes"], venue["beat_age_ms"], venue["drops"]) == (9, 100, 4)
    assert (venue["crash_loop"], venue["outage"]) == (False, False)


def test_a_death_that_is_recorded_while_it_is_read_is_shown_with_the_next_reading(read, system, monkeypatch):
    """Either all of a process's words are from before the record, or all from after it."""

    def usage_of(pid):
        if pid == LIGHTER_PID:
            system.process("lighter", WorkerState.BACKOFF, PID=0, EXIT_REASON=Reason.KILLED, EXIT_AT=1)
            return None
        return Usage(1.5, 4096)

    monkeypatch.setattr(status_process, "usage_of", usage_of)
    seen = [read()["venues"]["lighter"] for _ in range(2)]
    assert [(venue["state"], venue["streams"]["book"]["reason"]) for venue in seen] == [
        ("stopped", None),
        ("backoff", "killed"),
    ]


def test_a_process_whose_start_the_parent_has_not_recorded_is_away(read, system):
    system.process("lighter", WorkerState.BACKOFF, EXIT_REASON=Reason.KILLED, EXIT_AT=1)
    venue = read()["venues"]["lighter"]
    assert (venue["state"], venue["pid"], venue["cpu_s"]) == ("backoff", None, None)
    assert (venue["books"]["usable"], venue["streams"]["book"]["reason"]) == (0, "killed")


def test_what_never_was_is_none(read, system):
    system.process("lighter", EPOCH=0, FIRST_FRESH=0, BEAT=0, STATE_SINCE=0)
    venue = read()["venues"]["lighter"]
    assert [venue[key] for key in ("epoch", "time_to_fresh_ms", "beat_age_ms", "since_s")] == [None] * 4
    assert (venue["exits"], venue["session_ends"], venue["account_session_ends"]) == ({}, {}, {})
    book = venue["streams"]["book"]
    assert (book["reason_ago_s"], book["events"], book["handling_us"], book["lag_ms"]) == (None, 0, None, None)


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ({"EXIT_REASON": Reason.CRASH, "EXIT_CODE": 2}, {"reason": "crash", "code": 1, "signal": None}),
        ({"EXIT_REASON": Reason.CLEAN_EXIT, "EXIT_CODE": 1}, {"reason": "clean_exit", "code": 0, "signal": None}),
        ({"EXIT_REASON": Reason.WEDGED, "EXIT_SIGNAL": 9}, {"reason": "wedged", "code": None, "signal": 9}),
    ],
)
def test_the_last_exit(read, system, now, words, expected):
    system.process("lighter", EXIT_AT=now - 60 * S, EXIT_UPTIME_NS=5 * S, **words)
    last = read()["venues"]["lighter"]["last_exit"]
    assert {key: last[key] for key in expected} == expected
    assert (last["uptime_s"], last["ago_s"]) == (5.0, 60.0)


@pytest.mark.parametrize(("in_s", "expected"), [(4, 4.0), (-4, 0.0)])
def test_the_next_start(read, system, now, in_s, expected):
    system.process("lighter", WorkerState.BACKOFF, NEXT_START=now + in_s * S, PID=0)
    venue = read()["venues"]["lighter"]
    assert (venue["state"], venue["next_start_in_s"], venue["pid"]) == ("backoff", expected, None)


@pytest.fixture
def account(system, run_dir, now):
    """Account of lighter: its words on the board and its file."""
    system.described["venues"]["lighter"]["streams"].append("account")
    system.describe()
    cell = system.board.cell(system.described["processes"]["lighter"]["slot"], 0, Stream.ACCOUNT)

    def write(state, reason, words, *, late_ns=0):
        cell[CellWord.STATE], cell[CellWord.REASON] = code_of(state), code_of(reason)
        cell[CellWord.SINCE] = now - 5 * S
        reported = AccountWords("desk", *words[:2], now - 5 * S - late_ns, *words[2:])
        run_dir.account_description("lighter").write_bytes(msgspec.json.encode(reported))

    return write


def of_account(read):
    reported = read()["venues"]["lighter"]["streams"]["account"]
    return reported["account"], reported["state"], reported["reason"], reported["detail"]


def test_an_accounts_state_comes_with_the_reason_and_the_text_that_belong_to_it(read, account):
    refused = (StreamState.FAILED, Reason.AUTH_FAILED, "the token has expired")
    account(StreamState.LIVE, Reason.SERVER_CLOSE, refused, late_ns=-1)  # the board is about to follow
    assert of_account(read) == ("desk", "failed", "auth_failed", "the token has expired")
    account(StreamState.FAILED, Reason.AUTH_FAILED, refused)
    assert of_account(read) == ("desk", "failed", "auth_failed", "the token has expired")


def test_a_text_that_could_not_be_replaced_is_not_shown_beside_another_reason(read, account):
    account(StreamState.BACKOFF, Reason.SERVER_CLOSE, (StreamState.FAILED, Reason.AUTH_FAILED, "expired"), late_ns=1)
    assert of_account(read) == ("desk", "backoff", "server_close", None)


def test_an_account_of_a_system_that_is_over_is_off(read, account, holder):
    account(StreamState.LIVE, Reason.AUTH_FAILED, (StreamState.LIVE, Reason.AUTH_FAILED, None))
    holder.pid = None
    assert of_account(read) == ("desk", "off", "parent_lost", None)


def test_sessions_by_their_names(read, system, run_dir, now):
    run_dir.worker_description("lighter").write_text('{"sessions": ["main", "poll"]}')
    system.session("lighter", 0, Phase.SUBSCRIBED, FRAMES=5, LAST_WS_RX=now - 200 * MS, RECONNECTS=2)
    system.session("lighter", 1, Phase.BACKOFF, NEXT_ACTION=now + 3 * S, LAST_REASON=Reason.DNS_FAILED, ATTEMPT=4)
    sessions = read()["venues"]["lighter"]["sessions"]
    assert (sessions["main"]["phase"], sessions["main"]["frames"], sessions["main"]["silent_ms"]) == (
        "subscribed",
        5,
        200,
    )
    assert (sessions["main"]["reconnects"], sessions["main"]["next_action_in_s"]) == (2, None)
    assert sessions["poll"]["phase"] == "backoff"
    assert (sessions["poll"]["reason"], sessions["poll"]["next_action_in_s"]) == ("dns_failed", 3.0)
    assert sessions["poll"]["silent_ms"] is None


def test_invalid_rows_of_all_sessions_are_added_up(system, read, run_dir):
    run_dir.worker_description("lighter").write_text('{"sessions": ["poll", "fetch", "main"]}')
    system.session("lighter", 0, Phase.SUBSCRIBED, INVALID_ROWS=2)
    system.session("lighter", 2, Phase.SUBSCRIBED, INVALID_ROWS=3)
    venue = read()["venues"]["lighter"]
    assert [one["invalid_rows"] for one in venue["sessions"].values()] == [2, 0, 3]
    assert venue["invalid_rows"] == 5
    assert "5 invalid rows left out" in next(line for line in lines(read()) if line.startswith("lighter"))


# --- streams ----------------------------------------------------------------------------------------------------------


def test_one_market_as_it_is(system, read):
    system.cell("lighter", "book", "BTC-PERP", StreamState.RESYNC, reason=Reason.SEQ_GAP, age_ms=300, since_ms=70)
    market = stream_of(read())["markets"]["BTC-PERP"]
    assert (market["state"], market["reason"], market["age_ms"]) == ("resync", "seq_gap", 300)
    assert (market["limit_ms"], market["since_ms"], market["reconnects"]) == (10_000, 70, 0)


def test_age_counts_from_the_last_good_data_also_while_the_connection_is_away(system, read, now):
    row = system.board.cell(3, 0, Stream.BOOK)
    row[CellWord.LAST_PARSED] = row[CellWord.LAST_PUBLISHED] = 0
    row[CellWord.LAST_GOOD] = now - 23_400 * MS
    assert stream_of(read())["markets"]["BTC-PERP"]["age_ms"] == 23_400


def test_what_came_during_the_reading_is_no_time_old(system, read, now):
    row = system.board.cell(3, 0, Stream.BOOK)
    row[CellWord.LAST_GOOD] = row[CellWord.SINCE] = now + 9 * MS
    market = stream_of(read())["markets"]["BTC-PERP"]
    assert (market["age_ms"], market["since_ms"]) == (0, 0)


def test_age_goes_on_with_a_dead_parent(system, read, now, holder):
    holder.pid = None
    system.board.cell(3, 0, Stream.BOOK)[CellWord.LAST_GOOD] = now - 90 * S
    assert stream_of(read())["markets"]["BTC-PERP"]["age_ms"] == 90_000


def test_a_cell_of_another_market_says_nothing_of_this_one(system, read, now):
    """The configuration was changed, and the worker not restarted yet: SOL has taken the place of ETH."""
    for symbol, place in (("BTC-PERP", 0), ("ETH-PERP", 1)):
        for stream in Stream:
            system.board.cell(3, place, stream)[CellWord.MARKET] = market_key(symbol)
    system.cell("lighter", "book", "ETH-PERP", StreamState.STALE, reason=Reason.NO_BOOK, age_ms=31_000)
    system.described["venues"]["lighter"]["symbols"] = ["ETH-PERP", "SOL-PERP"]
    system.describe()
    markets = stream_of(read())["markets"]
    assert (markets["ETH-PERP"]["state"], markets["ETH-PERP"]["age_ms"]) == ("stale", 31_000)
    sol = markets["SOL-PERP"]
    assert (sol["state"], sol["reason"], sol["age_ms"], sol["events"]) == ("off", None, None, 0)


def test_no_data_has_no_age_and_no_limit_is_none(system, read):
    system.forget("lighter", "trade", "BTC-PERP")
    system.cell("lighter", "trade", "BTC-PERP", limit_ms=0)
    market = stream_of(read(), stream="trade")["markets"]["BTC-PERP"]
    assert (market["age_ms"], market["limit_ms"]) == (None, None)


WORST_FIRST = ["failed", "stale", "backoff", "connecting", "resync", "rest", "subscribed", "quiet", "live", "off"]


@pytest.mark.parametrize("better", WORST_FIRST[1:])
def test_the_worst_market_decides_the_state(system, read, better):
    worse = WORST_FIRST[WORST_FIRST.index(better) - 1]
    for one, other in ((better, worse), (worse, better)):
        system.cell("lighter", "book", "BTC-PERP", StreamState(one))
        system.cell("lighter", "book", "ETH-PERP", StreamState(other))
        assert stream_of(read())["state"] == worse


def test_every_state_has_its_rank(system, read):
    assert set(WORST_FIRST) == {state.value for state in StreamState}


def test_age_and_limit_are_the_worst_markets(system, read):
    system.cell("lighter", "book", "ETH-PERP", StreamState.STALE, age_ms=35_000, limit_ms=20_000)
    stream = stream_of(read())
    assert (stream["state"], stream["age_ms"], stream["limit_ms"]) == ("stale", 35_000, 20_000)


def test_a_quiet_market_does_not_lend_its_age_to_a_stale_one(system, read):
    system.cell("lighter", "book", "BTC-PERP", StreamState.QUIET, age_ms=35_000, limit_ms=60_000)
    system.cell("lighter", "book", "ETH-PERP", StreamState.STALE, age_ms=12_000, limit_ms=10_000)
    stream = stream_of(read())
    assert (stream["state"], stream["age_ms"], stream["limit_ms"]) == ("stale", 12_000, 10_000)


def test_a_failed_market_that_never_had_data_shows_no_age(system, read):
    system.forget("lighter", "book", "ETH-PERP")
    system.cell("lighter", "book", "ETH-PERP", StreamState.FAILED, reason=Reason.UNKNOWN_MARKET)
    stream = stream_of(read())
    assert (stream["state"], stream["reason"], stream["age_ms"]) == ("failed", "unknown_market", None)


def test_the_reason_is_the_worst_markets(system, read):
    system.cell("lighter", "book", "BTC-PERP", StreamState.LIVE, reason=Reason.ROTATION, since_ms=10)
    system.cell("lighter", "book", "ETH-PERP", StreamState.STALE, reason=Reason.NO_BOOK, since_ms=900)
    assert stream_of(read())["reason"] == "no_book"


def test_a_reason_stays_when_all_is_well_again(system, read):
    assert stream_of(read())["reason"] is None
    system.cell("lighter", "book", "ETH-PERP", reason=Reason.SEQ_GAP, since_ms=900)
    assert stream_of(read())["reason"] == "seq_gap"


def test_reconnects_are_those_of_the_market_with_the_most(system, read):
    system.cell("lighter", "book", "ETH-PERP", reconnects=3)
    system.cell("lighter", "book", "BTC-PERP", reconnects=1)
    assert stream_of(read())["reconnects"] == 3


def test_the_reason_is_the_last_one(boards, run_dir, now, holder):
    system = boards.WrittenSystem(run_dir, ("BTC-PERP", "ETH-PERP", "SOL-PERP"))
    system.cell("lighter", "book", "ETH-PERP", reason=Reason.SEQ_GAP, reason_ago_s=90)
    system.cell("lighter", "book", "SOL-PERP", reason=Reason.ROTATION, reason_ago_s=12.5)
    stream = stream_of(read_status(run_dir))
    assert (stream["reason"], stream["reason_ago_s"]) == ("rotation", 12.5)
    system.board.close()


@pytest.mark.parametrize(
    ("state", "ago_s", "reason"),
    [
        ("live", 3599, "seq_gap"),
        ("live", 3601, None),
        ("quiet", 3601, None),
        ("stale", 4999, "seq_gap"),
        ("resync", 4999, "seq_gap"),
        ("off", 4999, "seq_gap"),
    ],
)
def test_a_reason_is_forgotten_after_an_hour_unless_the_stream_is_still_unwell(system, read, state, ago_s, reason):
    system.cell("lighter", "book", "ETH-PERP", StreamState(state), reason=Reason.SEQ_GAP, reason_ago_s=ago_s)
    market = stream_of(read())["markets"]["ETH-PERP"]
    assert (market["reason"], market["reason_ago_s"]) == (reason, ago_s if reason else None)
    assert stream_of(read())["reason"] == reason


def test_the_reason_of_a_process_that_ended_is_as_old_as_its_end(system, read, now):
    system.process("lighter", WorkerState.BACKOFF, PID=0, EXIT_REASON=Reason.KILLED, EXIT_AT=now - 7 * S)
    assert {of["reason_ago_s"] for of in read()["venues"]["lighter"]["streams"].values()} == {7.0}


def test_a_word_of_a_newer_version_is_not_guessed(system, read):
    system.board.cell(3, 0, Stream.BOOK)[CellWord.REASON] = 9999
    assert stream_of(read())["markets"]["BTC-PERP"]["reason"] is None


# --- counters and histograms ------------------------------------------------------------------------------------------


def test_exits_and_ends_of_sessions_are_counted_by_reason(system, read, run_dir):
    run_dir.worker_description("lighter").write_text(
        '{"sessions": ["poll", "fetch", "one", "two"], "account_sessions": ["account", "account_rest"]}'
    )
    system.board.exits(3)[code_of(Reason.KILLED)] = 2
    system.board.exits(3)[code_of(Reason.WEDGED)] = 1
    system.board.exits(5)[code_of(Reason.MEMORY)] = 4
    system.board.exits(3)[63] = 9  # of a newer version
    for session, count in ((2, 3), (3, 4), (ACCOUNT_SESSION, 5), (9, 6)):
        system.board.ends(3, session)[code_of(Reason.SERVER_CLOSE)] = count
    status = read()
    venue = status["venues"]["lighter"]
    assert venue["exits"] == {"killed": 2, "wedged": 1}
    assert (venue["session_ends"], venue["account_session_ends"]) == ({"server_close": 7}, {"server_close": 5})
    assert status["gateway"]["exits"] == {"memory": 4}
    assert status["venues"]["paradex"]["session_ends"] == {}


def test_events_of_all_markets_are_added_up(system, read):
    system.board.cell(3, 0, Stream.BOOK)[CellWord.EVENTS] = 40
    system.board.cell(3, 1, Stream.BOOK)[CellWord.EVENTS] = 2
    stream = stream_of(read())
    assert (stream["events"], stream["markets"]["ETH-PERP"]["events"]) == (42, 2)


def test_handling_time_and_lag_are_estimated_from_their_histograms(system, read):
    row = system.board.stream(3, Stream.BOOK)
    row[StreamWord.HANDLING + 5] = 98  # 131 to 262 µs
    row[StreamWord.HANDLING + 10] = 2  # 4.2 to 8.4 ms
    row[StreamWord.LAG + 0] = 3  # below 8.2 µs
    stream = stream_of(read())
    assert stream["handling_us"] == {"p50": 198.0, "p99": 6290.0}
    assert stream["lag_ms"] == {"p50": 0.0041, "p99": 0.00811}
    assert stream_of(read(), stream="trade")["handling_us"] is None


def test_what_the_kernel_says_of_a_process(system, read, now, holder):
    system.process("lighter", FORKED=now - 30 * S, RSS_BYTES=7)
    status = read()
    venue, gateway = status["venues"]["lighter"], status["gateway"]
    assert (venue["cpu_s"], venue["rss_bytes"], venue["uptime_s"]) == (1.5, 7, 30.0)
    assert (gateway["cpu_s"], gateway["rss_bytes"]) == (1.5, 4096)
    holder.gone.add(5003)
    gone = read()["venues"]["lighter"]
    assert (gone["cpu_s"], gone["rss_bytes"], gone["uptime_s"]) == (None, None, None)


def test_time_stale_includes_the_span_that_lasts(system, read, now):
    system.process("lighter", STALE_NS=3 * S, STATE_SINCE=now - 2 * S)
    assert read()["venues"]["lighter"]["stale_s"] == 3.0
    system.process("lighter", WorkerState.STALE)
    assert read()["venues"]["lighter"]["stale_s"] == 5.0


@pytest.mark.parametrize(("answer", "line"), [(True, False), (None, False), (False, True)])
def test_a_clock_that_is_not_synchronised_has_its_line(read, monkeypatch, answer, line):
    found = {"synchronised": answer, "estimated_error_ms": None if answer is None else 16_000.0}
    monkeypatch.setattr(reader, "clock_status", lambda: found)
    status = read()
    assert status["supervisor"]["clock"] == found
    assert any(one.startswith("clock        not synchronised") for one in lines(status)) is line


# --- running, draining, dead, none ------------------------------------------------------------------------------------


def test_a_draining_system(system, read):
    system.header(PARENT_DRAINING=1)
    status = read()
    assert (status["supervisor"]["state"], status["supervisor"]["pid"]) == ("draining", 4711)
    assert status["venues"]["lighter"]["state"] == "live"


def test_a_dead_one_has_no_processes_but_its_story(system, read, holder, now):
    system.process("lighter", RESTARTS=2, EXIT_REASON=Reason.CRASH, EXIT_CODE=2, EXIT_AT=now - S, NEXT_START=now + S)
    system.describe_simulator()
    holder.pid = None
    status = read()
    supervisor = status["supervisor"]
    assert (supervisor["state"], supervisor["pid"], supervisor["uptime_s"], supervisor["version"]) == (
        ("dead", None, None, "1.2.3")
    )
    for process in (*status["venues"].values(), status["gateway"], status["simulator"]):
        assert (process["state"], process["pid"], process["next_start_in_s"]) == ("stopped", None, None)
    venue = status["venues"]["lighter"]
    assert (venue["restarts"], venue["last_exit"]["reason"]) == (2, "crash")
    assert {stream["state"] for stream in venue["streams"].values()} == {"off"}


def test_never_started(run_dir):
    status = read_status(run_dir)
    assert status["supervisor"] == {"state": "none", "pid": None, "uptime_s": None, "version": None}
    assert (status["venues"], status["simulator"]) == ({}, None)
    assert {"state", "pid", "http"} <= set(status["gateway"])
    assert exit_code_of(status) == 3


@pytest.mark.parametrize("removed", ["description", "directory"])
def test_a_system_that_restores_its_files_was_started(system, read, run_dir, removed, holder):
    if removed == "description":
        run_dir.description.unlink()
    else:
        shutil.rmtree(run_dir.path)
    status = read()
    assert status["supervisor"] == {"state": "running", "pid": 4711, "uptime_s": None, "version": None}
    assert exit_code_of(status) == 1
    assert lines(status) == ["supervisor   running    pid 4711"]
    run_dir.path.mkdir(exist_ok=True)


def test_a_run_directory_that_does_not_exist(run_dir):
    run_dir.path.rmdir()
    assert read_status(run_dir)["supervisor"]["state"] == "none"


def test_a_description_without_a_board_and_without_a_holder_is_none(system, read, run_dir, holder):
    run_dir.board.unlink()
    holder.pid = None
    assert read()["supervisor"]["state"] == "none"


def test_a_running_system_without_a_board_cannot_be_read(system, read, run_dir):
    run_dir.board.unlink()
    with pytest.raises(BoardError) as unknown:
        read()
    assert unknown.value.exit_code == 4


@pytest.mark.parametrize("content", [b"", b"short", b"x" * 100])
def test_a_board_that_is_none_cannot_be_read(system, read, run_dir, content):
    run_dir.board.unlink()
    run_dir.board.write_bytes(content)
    with pytest.raises(UnknownStateError, match="not a board of this version"):
        read()


@pytest.mark.parametrize("content", ["", "{", "[]", "\x00"])
def test_a_description_that_is_none_cannot_be_read(system, read, run_dir, content):
    run_dir.description.write_text(content)
    with pytest.raises(UnknownStateError):
        read()


@pytest.mark.parametrize(
    "change",
    [
        lambda described: described.clear(),
        lambda described: described.pop("gateway"),
        lambda described: described.update(venues=[]),
        lambda described: described["venues"]["lighter"].pop("symbols"),
        lambda described: described["venues"]["lighter"].update(streams=["hologram"]),
    ],
    ids=["empty", "no gateway", "a list of venues", "no symbols", "a newer stream"],
)
def test_a_description_of_another_shape_cannot_be_read(system, read, change):
    change(system.described)
    system.describe()
    with pytest.raises(UnknownStateError):
        read()


def test_the_real_lock_decides(boards, run_dir, now, start_holder):
    system = boards.WrittenSystem(run_dir)
    assert read_status(run_dir)["supervisor"]["state"] == "dead"
    holder = start_holder(run_dir.lock)
    assert read_status(run_dir)["supervisor"]["pid"] == holder.pid
    holder.kill()
    holder.wait()
    assert read_status(run_dir)["supervisor"]["state"] == "dead"
    system.board.close()


# --- processes that do not run, or do nothing -------------------------------------------------------------------------


def words_of(venue):
    """Return the states, reasons and usable books that a venue is reported with."""
    streams = venue["streams"].values()
    markets = [market for stream in streams for market in stream["markets"].values()]
    states = {of["state"] for of in [*streams, *markets]}
    return states, {of["reason"] for of in [*streams, *markets]}, venue["books"]


@pytest.mark.parametrize("state", [WorkerState.BACKOFF, WorkerState.STOPPED, WorkerState.FAILED])
def test_a_process_that_does_not_run_has_no_books_and_says_why(system, read, run_dir, now, state):
    run_dir.worker_description("lighter").write_text('{"sessions": ["main"]}')
    system.session("lighter", 0, Phase.SUBSCRIBED, NEXT_ACTION=now + S, LAST_REASON=Reason.ROTATION)
    system.process("lighter", state, PID=0, EXIT_REASON=Reason.CRASH, EXIT_CODE=2, EXIT_AT=now - S, RSS_BYTES=7, BEAT=1)
    status = read()
    venue = status["venues"]["lighter"]
    assert words_of(venue) == ({"off"}, {"crash"}, {"wanted": 2, "usable": 0})
    assert (venue["state"], venue["pid"], venue["rss_bytes"], venue["beat_age_ms"]) == (str(state), None, None, None)
    assert venue["streams"]["book"]["age_ms"] == 50, "ages go on"
    assert (venue["sessions"]["main"]["phase"], venue["sessions"]["main"]["next_action_in_s"]) == ("none", None)
    assert words_of(status["venues"]["paradex"])[0] == {"live"}
    assert exit_code_of(status) == 1


def test_a_process_that_is_gone_before_the_parent_noticed_does_not_run(system, read, holder):
    system.process("lighter", EXIT_REASON=Reason.CRASH)  # of the generation before
    holder.gone.add(5003)
    status = read()
    venue = status["venues"]["lighter"]
    assert words_of(venue) == ({"off"}, {None}, {"wanted": 2, "usable": 0})
    assert (venue["state"], venue["pid"]) == ("stopped", None)
    assert pid_of(status, "lighter") is None


def test_processes_of_a_killed_parent_were_lost_with_it(read, holder):
    holder.pid = None
    assert words_of(read()["venues"]["lighter"]) == ({"off"}, {"parent_lost"}, {"wanted": 2, "usable": 0})


def test_processes_of_a_system_that_was_stopped_say_so(system, read, holder):
    system.process("lighter", WorkerState.STOPPED, PID=0, EXIT_REASON=Reason.REQUESTED)
    holder.pid = None
    assert words_of(read()["venues"]["lighter"])[:2] == ({"off"}, {"requested"})


@pytest.mark.parametrize(("age_s", "states", "usable"), [(2.9, {"live"}, 2), (3.1, {"stale"}, 0)])
def test_a_worker_without_a_beat_delivers_nothing(system, read, now, age_s, states, usable):
    system.process("lighter", BEAT=now - int(age_s * S))
    venue = read()["venues"]["lighter"]
    assert (words_of(venue)[0], venue["books"]["usable"], venue["pid"]) == (states, usable, 5003)
    assert words_of(venue)[1] == ({"wedged"} if usable == 0 else {None})


def test_a_worker_that_has_not_resolved_its_markets_wants_the_configured_ones(system, read, now):
    system.process("lighter", BOOKS_WANTED=0, BOOKS_USABLE=0, RESOLVED=0)
    assert read()["venues"]["lighter"]["books"] == {"wanted": 2, "usable": 0}
    system.process("lighter", RESOLVED=now, BOOKS_WANTED=1)
    assert read()["venues"]["lighter"]["books"]["wanted"] == 1


# --- a parent that does nothing ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(("age_s", "state", "code"), [(2.9, "running", 0), (3.1, "stalled", 1)])
def test_a_parent_without_a_beat_is_stalled(system, read, now, age_s, state, code):
    system.header(PARENT_BEAT=now - int(age_s * S))
    status = read()
    assert (status["supervisor"]["state"], exit_code_of(status)) == (state, code)


def test_a_parent_that_has_just_started_is_not_stalled(system, read, now):
    system.header(PARENT_BEAT=0, PARENT_STARTED=now - S)
    assert (read()["supervisor"]["state"], read()["supervisor"]["beat_age_ms"]) == ("running", 1000)


def test_long_ticks_are_no_stall(system, read, now):
    system.described["tick_ms"] = 10_000
    system.describe()
    system.header(PARENT_BEAT=now - 19 * S)
    assert read()["supervisor"]["state"] == "running"
    system.header(PARENT_BEAT=now - 21 * S)
    assert read()["supervisor"]["state"] == "stalled"


def test_a_stall_while_draining_is_a_stall(system, read, now):
    system.header(PARENT_BEAT=now - 4 * S, PARENT_DRAINING=1)
    assert read()["supervisor"]["state"] == "stalled"


def test_a_stalled_parent_is_described_with_what_to_do(system, read, now, holder):
    system.header(PARENT_BEAT=now - 12 * S)
    assert verdict_line(read()).endswith(
        "it last worked 12.0 s ago: feeds go on, nothing is restarted; look at its log, or end it with: kill -9 4711"
    )
    holder.stopped.add(4711)
    assert read()["supervisor"]["is_stopped"] is True
    line = verdict_line(read())
    assert "it is stopped (state T), and last worked 12.0 s ago: " in line
    assert "let it go on with: kill -CONT 4711" in line
    assert "kill -9 4711" in line


def test_a_stalled_parent_of_another_namespace_has_no_pid_to_kill(system, read, now, holder):
    system.header(PARENT_BEAT=now - 12 * S)
    system.described["pid_namespace"] = 1
    system.describe()
    holder.pid = 0
    assert verdict_line(read()).endswith("; it runs in another pid namespace: look at it there")


# --- a worker without a parent ----------------------------------------------------------------------------------------


@pytest.fixture
def alone(system, now):
    """Worker of lighter as ``paraphina-supervisor worker lighter`` runs it: no word of a parent is on its board."""
    system.described |= {"is_alone": True, "venues": {"lighter": system.described["venues"]["lighter"]}}
    system.describe()
    system.header(PARENT_STARTED=0, PARENT_BEAT=0, FORKS=0)
    for name in ("lighter", "gateway"):
        system.process(name, PID=0, STATE=0, STATE_SINCE=0, GENERATION=0)
    system.process("lighter", BOOTED=now - 9 * S, BEAT=now - MS, FIRST_FRESH=now - 8 * S, LAST_FRESH=now - MS)
    return system


def test_a_worker_alone_is_no_dead_system(alone, read):
    status = read()
    assert (status["supervisor"]["state"], status["supervisor"]["pid"]) == ("none", None)
    venue = status["venues"]["lighter"]
    assert (venue["state"], venue["pid"], words_of(venue)[0]) == ("live", 4711, {"live"})
    assert (status["gateway"]["state"], status["gateway"]["pid"]) == ("stopped", None)
    assert exit_code_of(status) == 0
    assert (status["supervisor"]["is_alone"], status["supervisor"]["uptime_s"]) == (True, None)
    assert (venue["uptime_s"], venue["beat_age_ms"]) == (9.0, 1)
    assert lines(status)[0].startswith("supervisor   none")
    assert lines(status)[0].endswith("no supervisor: lighter runs alone, up 9.0 s, last beat 0.0 s ago")
    assert lines(status)[1].split()[:4] == ["lighter", "live", "pid", "4711"]


def test_a_worker_alone_is_judged_by_its_own_words(alone, read, now):
    alone.process("lighter", LAST_FRESH=now - 2 * S)
    assert (read()["venues"]["lighter"]["state"], exit_code_of(read())) == ("stale", 1)
    alone.process("lighter", FIRST_FRESH=0, LAST_FRESH=0)
    assert read()["venues"]["lighter"]["state"] == "starting"


def test_a_worker_alone_that_has_ended_is_not_running(alone, read, holder):
    holder.pid = None
    status = read()
    assert (status["venues"]["lighter"]["state"], status["venues"]["lighter"]["pid"]) == ("stopped", None)
    assert (status["supervisor"]["state"], status["supervisor"]["is_alone"]) == ("dead", False)
    assert exit_code_of(status) == 3
    assert "alone" not in lines(status)[0]


# --- exit codes -------------------------------------------------------------------------------------------------------


def test_all_well_is_zero(read):
    assert exit_code_of(read()) == 0


@pytest.mark.parametrize("state", [state for state in WorkerState if state is not WorkerState.LIVE])
def test_a_worker_that_is_not_live_is_one(system, read, state):
    system.process("paradex", state)
    assert exit_code_of(read()) == 1


@pytest.mark.parametrize("stream", ["book", "mark", "funding_poll"])
@pytest.mark.parametrize("state", ["stale", "failed", "backoff", "connecting", "resync", "rest"])
def test_a_required_stream_that_is_not_well_is_one(system, read, stream, state):
    system.cell("paradex", stream, "ETH-PERP", StreamState(state))
    assert exit_code_of(read()) == 1


@pytest.mark.parametrize("state", ["quiet", "off"])
def test_quiet_is_well(system, read, state):
    system.cell("paradex", "book", "ETH-PERP", StreamState(state))
    assert exit_code_of(read()) == 0


def test_trades_may_be_silent(system, read):
    system.cell("paradex", "trade", "ETH-PERP", StreamState.STALE, age_ms=999_000)
    assert exit_code_of(read()) == 0


def test_draining_is_one(system, read):
    system.header(PARENT_DRAINING=1)
    assert exit_code_of(read()) == 1


def test_dead_is_three(read, holder):
    holder.pid = None
    assert exit_code_of(read()) == 3


# --- the pid of one ---------------------------------------------------------------------------------------------------


def test_pid_of_a_process_that_is_there(system, read):
    system.process("lighter", PID=os.getpid())
    assert pid_of(read(), "lighter") == os.getpid()


@pytest.mark.parametrize("name", ["lighter", "simulator"])
def test_pid_of_one_that_does_not_run(system, read, name):
    system.process("lighter", PID=0)
    assert pid_of(read(), name) is None


def test_pid_that_is_gone_is_none(system, read, holder):
    system.process("gateway", PID=4_194_305)
    holder.gone.add(4_194_305)
    assert pid_of(read(), "gateway") is None


def test_pid_of_nobody_names_those_that_are(read):
    with pytest.raises(UsageError, match=r"no process 'binance' here .*lighter, paradex, gateway, simulator"):
        pid_of(read(), "binance")


# --- for people -------------------------------------------------------------------------------------------------------


def test_a_line_a_process_and_a_line_a_stream(read, run_dir):
    reported = lines(read())
    heads = [line.split()[0] for line in reported]
    streams = ["book", "trade", "mark", "funding_poll"]
    assert heads == ["supervisor", "lighter", *streams, "paradex", *streams, "gateway"]
    assert reported[0].split()[1:] == [
        "running",
        "pid",
        "4711",
        "up",
        "17",
        "min",
        "version",
        "1.2.3",
        str(run_dir.path),
    ]


def test_a_stream_line_says_why(system, read):
    system.cell("lighter", "book", "ETH-PERP", StreamState.STALE, reason=Reason.NO_BOOK, age_ms=12_300, reconnects=3)
    (line,) = [line for line in lines(read()) if "stale" in line]
    assert line.split()[:2] == ["book", "stale"]
    assert " 12 s of 10 s " in line
    assert line.endswith("no usable book in time (no_book) 1.0 s ago; 3 reconnects; BTC-PERP live")


def test_a_stream_without_data_or_limit(system, read):
    for symbol in system.symbols:
        system.forget("lighter", "trade", symbol)
        system.board.cell(3, system.symbols.index(symbol), Stream.TRADE)[CellWord.LIMIT_MS] = 0
    line = next(line for line in lines(read()) if "trade" in line)
    assert line.split() == ["trade", "live", "-", "of", "none"]


def test_a_venue_line_says_how_it_ended_and_when_it_comes_back(system, read, now):
    system.process(
        "lighter",
        WorkerState.BACKOFF,
        PID=0,
        RESTARTS=4,
        CRASH_LOOP=1,
        OUTAGE_SINCE=now,
        EXIT_REASON=Reason.KILLED,
        EXIT_SIGNAL=9,
        EXIT_AT=now - 3 * S,
        NEXT_START=now + 8 * S,
    )
    line = next(line for line in lines(read()) if line.startswith("lighter"))
    for part in (
        "backoff",
        "restarts 4",
        "last exit 3.0 s ago: killed from outside (killed, signal 9)",
        "next start in 8.0 s",
        "needs you",
    ):
        assert part in line
    assert "pid" not in line


def test_an_exit_code_is_shown_also_when_it_is_zero(system, read, now):
    system.process("lighter", EXIT_REASON=Reason.CLEAN_EXIT, EXIT_CODE=1, EXIT_AT=now - S)
    assert any("last exit 1.0 s ago: ended by itself (clean_exit, code 0)" in line for line in lines(read()))


def test_a_simulator_has_its_line(system, read):
    system.describe_simulator()
    assert lines(read())[-1].split() == ["simulator", "live", "pid", "5006", "http://127.0.0.1:3"]


def test_a_dead_system_says_so(read, holder):
    holder.pid = None
    reported = lines(read())
    assert reported[0].startswith("supervisor   dead")
    assert "stopped" in reported[1]


def test_never_started_is_one_line(run_dir):
    assert click.unstyle(render(read_status(run_dir))) == "■ Nothing runs here — start with: paraphina-supervisor start"


# --- what it follows --------------------------------------------------------------------------------------------------


def test_the_symbols_of_each_venue(system, run_dir):
    assert symbols_of(run_dir)["lighter"] == run_dir.describe()["venues"]["lighter"]["symbols"]


@pytest.mark.parametrize(
    "described", ["{}", '{"venues":[]}', '{"venues":null}', '{"venues":{"lighter":{}}}', '{"venues":{"lighter":3}}']
)
def test_a_description_of_another_version_is_reported(run_dir, described):
    run_dir.description.write_text(described)
    with pytest.raises(UnknownStateError, match="its description is of another version"):
        symbols_of(run_dir)


# --- consumers ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["lighter", "gateway"])
def test_subscriptions_and_descriptors_of_a_process_are_shown(system, read, name):
    system.process(name, SUBSCRIPTIONS=7, DESCRIPTORS=600, DESCRIPTOR_LIMIT=1024, REFUSING=1)
    found = read()
    process = found["gateway"] if name == "gateway" else found["venues"][name]
    assert process["subscriptions"] == 7
    assert process["descriptors"] == {"open": 600, "limit": 1024, "refusing": True}


def test_process_that_has_not_counted_its_descriptors_has_none(read):
    assert read()["venues"]["lighter"]["descriptors"] is None


@pytest.mark.parametrize(
    ("words", "shown"),
    [
        ({"DESCRIPTORS": 819}, None),
        ({"DESCRIPTORS": 820}, "descriptors 820 of 1024"),
        ({"DESCRIPTORS": 620, "REFUSING": 1}, "descriptors 620 of 1024, no further consumers are accepted"),
        ({"SUBSCRIPTIONS": 199_999}, None),
        ({"SUBSCRIPTIONS": 200_000}, "200000 subscriptions"),
    ],
)
def test_only_unusual_numbers_of_consumers_are_in_the_text(system, read, words, shown):
    for name in ("lighter", "gateway"):
        system.process(name, **{"DESCRIPTORS": 20, "DESCRIPTOR_LIMIT": 1024, **words})
    for name in ("lighter", "gateway"):
        (line,) = [line for line in lines(read()) if line.startswith(name)]
        if shown is None:
            assert "descriptors" not in line
            assert "subscriptions" not in line
        else:
            assert line.endswith(f"  {shown}")


# --- a venue that an operator stopped ---------------------------------------------------------------------------------


@pytest.fixture
def stopped(system, boards):
    """System in which paradex was stopped twelve seconds ago, in an outage."""
    words = {"PID": 0, "STOPPED_AT": boards.ago(12), "STOPPED_BY": os.getuid() + 1, "OUTAGE_SINCE": boards.ago(60)}
    system.process("paradex", WorkerState.STOPPED, EXIT_REASON=Reason.REQUESTED, **words)
    return system


def test_a_stopped_venue_says_who_stopped_it_and_wants_no_books(stopped, read):
    venue = read()["venues"]["paradex"]
    assert (venue["state"], venue["stopped"]) == ("stopped", {"by": user_name(os.getuid()), "ago_s": 12.0})
    assert (venue["books"], venue["outage"]) == ({"wanted": 0, "usable": 0}, False)
    assert {stream["state"] for stream in venue["streams"].values()} == {"off"}
    assert read()["venues"]["lighter"]["stopped"] is None


def test_an_operator_without_a_name_is_a_number(stopped, read, monkeypatch):
    monkeypatch.setattr(reader, "user_name", lambda _: None)
    assert read()["venues"]["paradex"]["stopped"]["by"] == f"uid {os.getuid()}"


@pytest.mark.parametrize(
    ("state", "code"), [(WorkerState.STOPPED, 0), (WorkerState.KILLING, 0), (WorkerState.UNKILLABLE, 1)]
)
def test_a_stopped_venue_degrades_nothing_unless_its_process_cannot_be_ended(stopped, read, state, code):
    stopped.process("paradex", state, PID=os.getpid())
    assert exit_code_of(read()) == code


def test_a_stopped_venue_excuses_no_other(stopped, read):
    stopped.process("lighter", WorkerState.STALE)
    assert exit_code_of(read()) == 1


def test_the_line_of_a_stopped_venue_says_who_and_when(stopped, read):
    line = next(line for line in lines(read()) if line.startswith("paradex"))
    assert f"books 0/0  stopped by {user_name(os.getuid())} 12 s ago" in line
