"""Children, settings and description of a system."""

from __future__ import annotations

import os
import signal
from functools import partial
from importlib.metadata import PackageNotFoundError
from urllib.parse import urlsplit

import pytest

from ipc.board import PROCESSES, Board, WorkerWord
from ipc.errors import ConfigError, UsageError
from ipc.health import Reason
from ipc.rundir import RunDir, default_path
from simulator.settings import SimSettings, VenuePorts
from supervisor import system as module
from supervisor.child import Handover
from supervisor.config import load
from supervisor.logfile import open_log
from supervisor.system import GATEWAY, SIMULATOR, SimulatorPlan, SlotTable, System, program_version, worker_settings

BEFORE = Handover(epoch=77, reason=Reason.CRASH)
VENUES = ("hyperliquid", "aster", "extended", "lighter", "paradex")


def configured(**flags):
    return load(None, {}, {key.replace("__", "."): value for key, value in flags.items()})


def simulation(*venues):
    ports = {name: VenuePorts(20_000 + 2 * n, 20_001 + 2 * n) for n, name in enumerate(venues)}
    urls = {name: (f"ws://127.0.0.1/{name}", f"http://127.0.0.1/{name}") for name in venues}
    return SimulatorPlan(SimSettings(ports, 30_000, tuple(venues)), "http://127.0.0.1:30000", urls)


def test_the_children_in_the_order_of_their_start(run_dir):
    assert list(System(configured(), run_dir).slots) == [*VENUES, GATEWAY]


def test_the_simulator_is_started_before_who_connects_to_it(run_dir):
    assert list(System(configured(), run_dir, simulation(*VENUES)).slots) == [SIMULATOR, *VENUES, GATEWAY]


def test_every_child_has_its_own_place_and_the_board_has_them(run_dir):
    slots = System(configured(), run_dir, simulation(*VENUES)).slots
    assert len(set(slots.values())) == 7
    assert all(0 <= slot < PROCESSES for slot in slots.values())


def test_a_process_keeps_its_slot_when_the_configuration_changes(run_dir):
    venues = iter(["paradex", "aster,lighter", "paradex,aster"])
    system = System(configured(), run_dir, None, lambda: configured(supervisor__venues=next(venues)))
    slots = system.slots
    for _ in range(3):
        system = system.reloaded()
        assert system.slots.items() <= slots.items()


def test_a_new_process_gets_a_slot_that_was_never_used(run_dir):
    system = System(
        configured(supervisor__venues="paradex"), run_dir, None, lambda: configured(supervisor__venues="aster")
    )
    slots = system.slots
    assert system.reloaded().slots["aster"] not in slots.values()


def test_the_board_has_a_slot_for_each_of_24_processes_and_no_more():
    table = SlotTable()
    assert sorted(table[str(number)] for number in range(PROCESSES)) == list(range(24))
    for name in ("another", "another"):
        with pytest.raises(UsageError, match="no board slot is left for 'another'"):
            table[name]
    assert table["7"] == 7


def test_only_workers_follow_markets(run_dir):
    system = System(configured(supervisor__markets="BTC,SOL"), run_dir)
    assert system.markets_of("lighter") == ("BTC", "SOL")
    assert system.markets_of(GATEWAY) == system.markets_of(SIMULATOR) == ()


def test_a_worker_gets_its_configuration(run_dir):
    environ = {"PARAPHINA_PARADEX_STALE_MS": "7000", "PARAPHINA_PARADEX_PING_INTERVAL_MS": "9000"}
    environ |= {"PARAPHINA_PARADEX_FUNDING_POLL_MS": "600", "PARAPHINA_WS_HEALTHY_THRESHOLD_MS": "5"}
    environ |= {"PARAPHINA_PARADEX_WS_CONNECT_TIMEOUT_MS": "800", "PARAPHINA_PARADEX_WS_READ_TIMEOUT_MS": "900"}
    environ |= {"PARAPHINA_PARADEX_ACCOUNT": "desk", "PARADEX_FIXTURE_DIR": "/dev"}
    environ |= {"PARAPHINA_BLACKBOX_DIR": "/boxes", "PARAPHINA_PARADEX_SOURCE_ADDRESS": "192.0.2.7"}
    config = load(None, environ, {"supervisor.markets": "SOL"})
    described = worker_settings(config, config.venues["paradex"], run_dir, slot=4, generation=3, before=BEFORE)
    assert (described.venue, described.slot, described.bases) == ("paradex", 4, ("SOL",))
    assert (described.run_dir, described.feed) == (str(run_dir.path), f"ipc://{run_dir.path}/paradex.feed")
    assert (described.stale_ms, described.ping_interval_ms, described.funding_poll_ms) == (7000, 9000, 600)
    assert (described.connect_timeout_ms, described.read_timeout_ms, described.watchdog_tick_ms) == (800, 900, 200)
    assert described.options == {"encoding": "sbe"}
    assert (described.ws_url, described.rest_url) == (
        config.venues["paradex"].ws_url,
        config.venues["paradex"].rest_url,
    )
    assert (described.generation, described.last_epoch, described.last_reason) == (3, 77, Reason.CRASH)
    assert (described.has_parent, described.fixture_dir, described.is_paced) == (True, "/dev", True)
    assert (described.account, described.account_period_ms) == ("desk", 60_000)
    assert (described.blackbox_kb, described.blackbox_dir, described.blackbox_keep) == (1024, "/boxes", 20)
    assert described.dial is config.venues["paradex"].dial
    assert described.dial.source_address == "192.0.2.7"
    assert described.backoff == config.backoff
    assert described.backoff.healthy_s == 0.005


def test_a_worker_may_play_as_fast_as_it_can(run_dir):
    config = load(None, {"PARAPHINA_FIXTURE_SPEED": "max"}, {})
    assert not worker_settings(config, config.venues["lighter"], run_dir, slot=0).is_paced


# --- what it says of itself -------------------------------------------------------------------------------------------


def test_description_tells_where_everything_is(run_dir):
    described = System(configured(supervisor__venues="lighter"), run_dir).describe()
    assert described["version"] == program_version()
    assert described["simulator"] is None
    assert described["gateway"] == {
        "feed": f"ipc://{run_dir.path}/lifecycle.feed",
        "http": "http://127.0.0.1:9464",
        "tcp": None,
    }
    (venue,) = described["venues"].values()
    assert venue["feed"] == f"ipc://{run_dir.path}/lighter.feed"
    assert venue["symbols"] == ["BTC-PERP", "ETH-PERP"]
    assert described["processes"] == {"lighter": {"slot": 0}, GATEWAY: {"slot": 1}}
    assert {"book", "trade", "mark", "funding", "funding_poll"} <= set(venue["streams"])
    assert venue["account"] is None
    assert "account" not in venue["streams"]
    assert (venue["ws"], venue["rest"]) == (module.VENUES["lighter"].ws_url, module.VENUES["lighter"].rest_url)


def test_an_account_has_an_endpoint_and_a_stream(run_dir):
    venue = System(configured(venues__lighter__account="desk"), run_dir).describe()["venues"]["lighter"]
    assert venue["account"] == f"ipc://{run_dir.path}/lighter.account"
    assert venue["streams"][-1] == "account"


@pytest.mark.parametrize("venue", VENUES)
def test_every_described_stream_is_a_word_of_health(run_dir, venue):
    streams = System(configured(), run_dir).describe()["venues"][venue]["streams"]
    assert len(streams) == len(set(streams))
    assert all(isinstance(stream, str) for stream in streams)


def test_proxies_are_described_without_credentials(run_dir):
    hosts = [urlsplit(module.VENUES["aster"].ws_url).hostname, urlsplit(module.VENUES["lighter"].rest_url).hostname]
    environ = {"HTTPS_PROXY": "http://desk:planted@proxy.desk:3128", "NO_PROXY": hosts[0]}
    system = System(load(None, environ, {"supervisor.venues": "aster,lighter"}), run_dir)
    found = {name: (venue["proxy"], venue["rest_proxy"]) for name, venue in system.describe()["venues"].items()}
    url = "http://proxy.desk:3128"
    assert found == {"aster": (None, url), "lighter": (url, url)}
    assert "planted" not in repr(system)


def test_a_simulator_is_described_with_its_urls(run_dir):
    described = System(configured(supervisor__venues="lighter"), run_dir, simulation("lighter")).describe()["simulator"]
    assert described["admin"] == "http://127.0.0.1:30000"
    assert described["venues"] == {"lighter": {"ws": "ws://127.0.0.1/lighter", "rest": "http://127.0.0.1/lighter"}}


def test_hints_name_a_venue_and_a_symbol_that_exist_here(run_dir):
    text = "\n".join(System(configured(supervisor__venues="paradex", supervisor__markets="SOL"), run_dir).hints())
    assert "book paradex SOL-PERP" in text
    assert "status --pid paradex" in text


def test_hints_name_the_status_page_where_there_is_one(run_dir):
    assert System(configured(), run_dir).hints()[0] == "in a browser: http://127.0.0.1:9464"
    assert "browser" not in "\n".join(System(configured(gateway__http=""), run_dir).hints())


def test_hints_tell_of_an_unusual_directory_and_only_of_that(run_dir, monkeypatch):
    monkeypatch.setenv("XDG_RUNTIME_DIR", "/run/user/77")
    usual = System(configured(), RunDir(default_path({"XDG_RUNTIME_DIR": "/run/user/77"})))
    assert "--run-dir" not in "\n".join(usual.hints())
    assert usual.run_dir_is_default
    unusual = System(configured(), run_dir)
    assert f"--run-dir {run_dir.path}" in "\n".join(unusual.hints())


def test_a_program_that_is_not_installed_has_no_version(monkeypatch):
    def missing(_):
        raise PackageNotFoundError

    monkeypatch.setattr(module, "version", missing)
    assert program_version.__wrapped__() == "unknown"


def test_the_version_is_that_of_the_start_also_after_an_upgrade(monkeypatch):
    running = program_version()
    monkeypatch.setattr(module, "version", lambda _: "99.0")
    assert program_version() == running


# --- read again -------------------------------------------------------------------------------------------------------


def test_without_a_way_to_read_again_it_stays_as_it_is(run_dir):
    system = System(configured(), run_dir)
    assert system.reloaded() is system


def test_reading_again_changes_the_configuration_alone(run_dir):
    system = System(configured(), run_dir, None, lambda: configured(supervisor__venues="lighter"))
    again = system.reloaded()
    assert list(again.config.venues) == ["lighter"]
    assert (again.run_dir, again.reread) == (system.run_dir, system.reread)
    assert list(system.config.venues) == list(VENUES)


def test_a_mistake_is_passed_on(run_dir):
    def read():
        return configured(supervisor__venues="binance")

    with pytest.raises(ConfigError):
        System(configured(), run_dir, None, read).reloaded()


def test_a_venue_that_is_not_simulated_cannot_be_added(run_dir):
    system = System(configured(supervisor__venues="lighter"), run_dir, simulation("lighter"), configured)
    with pytest.raises(UsageError, match="aster, extended, hyperliquid, paradex is not simulated here"):
        system.reloaded()


# --- what runs in a child ---------------------------------------------------------------------------------------------


@pytest.fixture
def environ(monkeypatch):
    """An environment with a secret of two venues, which the test's children may change."""
    environ = {"ASTER_API_SECRET": "a", "EXTENDED_API_KEY": "e", "PATH": "/bin"}
    scrub = partial(module.scrub_environment, environ)
    monkeypatch.setattr(module, "scrub_environment", scrub)
    return environ


@pytest.fixture
def started(monkeypatch, environ):
    """Record the programs that would run, with their arguments."""
    seen = []

    class Fake:
        def __init__(self, *arguments):
            self.arguments = arguments

        def run(self):
            seen.append((type(self).__name__, *self.arguments))

    monkeypatch.setattr("workers.worker.Worker", type("Worker", (Fake,), {}))
    monkeypatch.setattr("supervisor.gateway.Gateway", type("Gateway", (Fake,), {}))
    monkeypatch.setattr("supervisor.serving.pages.Serving", lambda *arguments: arguments)
    return seen


@pytest.fixture
def board(run_dir):
    board = Board.create(run_dir.board, 1)
    yield board
    board.close()


def test_child_leaves_the_text_of_its_configuration_error(run_dir, board, monkeypatch, signals):
    def refuse(*_):
        raise ConfigError(["feeds.tcp: wrong"])

    monkeypatch.setattr("workers.worker.Worker", refuse)
    system = System(configured(), run_dir)
    with pytest.raises(ConfigError):
        system.run_child("aster", board, 1, BEFORE)
    assert run_dir.config_error("aster") == "feeds.tcp: wrong"


def test_child_removes_the_error_of_the_one_before(run_dir, board, started, signals):
    run_dir.error_file("aster").write_text("old")
    System(configured(), run_dir).run_child("aster", board, 4, BEFORE)
    assert run_dir.config_error("aster") is None


def test_description_holds_the_tcp_endpoints(run_dir):
    described = System(configured(feeds__tcp="127.0.0.1", supervisor__venues="lighter"), run_dir).describe()
    assert described["gateway"]["tcp"] == "tcp://127.0.0.1:5605"
    assert described["venues"]["lighter"]["tcp"] == "tcp://127.0.0.1:5603"
    assert described["venues"]["lighter"]["account_tcp"] == "tcp://127.0.0.1:5609"


def test_a_venues_child_is_a_worker(run_dir, board, started, signals):
    System(configured(), run_dir).run_child("aster", board, 4, BEFORE)
    kind, settings, its_board, stop = started[0]
    assert (kind, settings.venue, settings.generation, settings.last_epoch) == ("Worker", "aster", 4, 77)
    assert its_board is board
    assert not stop.is_set()


def test_a_worker_keeps_its_own_secrets_alone(run_dir, board, started, signals, environ):
    System(configured(), run_dir).run_child("aster", board, 1, Handover())
    assert environ == {"ASTER_API_SECRET": "a", "PATH": "/bin"}


def test_the_gateway_keeps_no_secret(run_dir, board, started, signals, environ):
    System(configured(), run_dir).run_child(GATEWAY, board, 1, Handover())
    assert environ == {"PATH": "/bin"}


def test_the_simulator_keeps_no_secret(run_dir, board, monkeypatch, environ):
    monkeypatch.setattr("simulator.main.run", lambda *_, **__: None)
    System(configured(supervisor__venues="lighter"), run_dir, simulation("lighter")).run_child(
        SIMULATOR, board, 1, Handover()
    )
    assert environ == {"PATH": "/bin"}


def test_the_gateways_child_takes_over_from_the_one_before(run_dir, board, started, signals):
    before = Handover(epoch=9, published=12)
    system = System(configured(), run_dir)
    system.run_child(GATEWAY, board, 2, before)
    kind, directory, row, inherited, _, network, log_file, server = started[0]
    assert (network, log_file) == (None, None)
    assert server == (
        system.config.gateway,
        system.config.gateway.http,
        run_dir,
        board,
        [system.slots[name] for name in VENUES],
    )
    assert (kind, directory, inherited) == ("Gateway", run_dir, before)
    assert row.at == board.worker(system.slots[GATEWAY]).at


def test_a_term_signal_asks_a_child_to_stop(run_dir, board, started, forking):
    def scenario():
        System(configured(), run_dir).run_child("aster", board, 1, Handover())
        os.kill(os.getpid(), signal.SIGTERM)
        return started[0][-1].is_set()

    assert forking.in_fork(scenario) is True


def test_a_child_goes_on_in_a_log_that_was_created_again(run_dir, board, started, forking, tmp_path):
    log = tmp_path / "log"

    def scenario():
        os.dup2(open_log(log), 2)
        System(configured(), run_dir, log_file=log).run_child("aster", board, 1, Handover())
        os.write(2, b"before")
        log.rename(tmp_path / "log.moved")
        os.kill(os.getpid(), signal.SIGUSR2)
        os.write(2, b"after")

    forking.in_fork(scenario)
    assert (tmp_path / "log.moved").read_bytes() == b"before"
    assert log.read_bytes() == b"after"


def test_the_simulators_child_says_when_it_listens(run_dir, board, monkeypatch):
    seen = []

    def run(settings, ready, tls_contexts):
        seen.append((settings, tls_contexts, board.worker(0)[WorkerWord.FIRST_FRESH]))
        ready()

    monkeypatch.setattr("simulator.main.run", run)
    of = simulation("lighter")
    System(configured(supervisor__venues="lighter"), run_dir, of).run_child(SIMULATOR, board, 1, Handover())
    assert seen == [(of.settings, of.tls_contexts, 0)]
    assert board.worker(0)[WorkerWord.FIRST_FRESH] > 0
