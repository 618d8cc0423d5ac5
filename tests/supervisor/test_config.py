"""Settings, where each comes from, and mistakes: all of them at once."""

from __future__ import annotations

import os

import certifi
import pytest

from ipc import start_directory
from ipc.certificates import KeyDirectory
from ipc.errors import ConfigError
from supervisor.config import load, state_path
from workers.venues import VENUES

WORDS = {"hyperliquid": "HL", "aster": "ASTER", "extended": "EXTENDED", "lighter": "LIGHTER", "paradex": "PARADEX"}

#: Key, default, environment variable, a value for the file, the same as text for the others, what they become.
SUPERVISOR = [
    ("venues", tuple(WORDS), "PARAPHINA_VENUES", '["lighter", "aster"]', "lighter,aster", ("aster", "lighter")),
    ("markets", ("BTC", "ETH"), "PARAPHINA_MARKETS", '["SOL", "BTC-PERP"]', "SOL, BTC-PERP", ("SOL", "BTC")),
    ("lines", 1, "PARAPHINA_LINES", "2", "2", 2),
    ("limit_share", 1.0, "PARAPHINA_LIMIT_SHARE", "0.5", "0.5", 0.5),
    ("run_dir", None, "PARAPHINA_RUN_DIR", '"/run/p"', "/run/p", "/run/p"),
    ("tick_ms", 250, None, "100", None, 100),
    ("first_restart", "backoff", None, '"immediate"', None, "immediate"),
    ("backoff_base_ms", 1000, None, "20", None, 20),
    ("backoff_cap_ms", 30_000, None, "5000", None, 5000),
    ("jitter", 0.1, None, "0", None, 0.0),
    ("fixture_dir", None, "ROADMAP_B_FIXTURE_DIR", '"/dev"', "/dev", "/dev"),
    ("fixture_speed", "recorded", "PARAPHINA_FIXTURE_SPEED", '"max"', "max", "max"),
    ("blackbox_kb", 1024, None, "0", None, 0),
    ("blackbox_dir", None, "PARAPHINA_BLACKBOX_DIR", '"/var/boxes"', "/var/boxes", "/var/boxes"),
    ("blackbox_keep", 20, None, "3", None, 3),
    ("log_level", "info", "PARAPHINA_LOG_LEVEL", '"debug"', "debug", "debug"),
]
HEALTH = [
    ("healthy_threshold_ms", 60_000, "PARAPHINA_WS_HEALTHY_THRESHOLD_MS", "1500", "1500", 1500),
    ("watchdog_tick_ms", 200, None, "50", None, 50),
    ("start_timeout_ms", 30_000, None, "9000", None, 9000),
    ("memory_limit_mb", 1024, None, "0", None, 0),
]
FEEDS = [
    ("tcp", None, "PARAPHINA_FEEDS_TCP", '"127.0.0.2"', "127.0.0.2", "127.0.0.2"),
    ("tcp_port", 5600, "PARAPHINA_FEEDS_TCP_PORT", "7000", "7000", 7000),
    ("curve_dir", None, "PARAPHINA_FEEDS_CURVE_DIR", '"/dev"', "/dev", "/dev"),
]
GATEWAY = [
    ("http", "127.0.0.1:9464", "PARAPHINA_GATEWAY_HTTP", '"[::1]:0"', "[::1]:0", "[::1]:0"),
    ("remote", False, "PARAPHINA_GATEWAY_REMOTE", "true", "1", True),
    ("hosts", (), "PARAPHINA_GATEWAY_HOSTS", '["Desk.example.com", "desk"]', "Desk.example.com,desk",
     ("desk.example.com", "desk")),
    ("per_market", True, "PARAPHINA_GATEWAY_PER_MARKET", "false", "False", False),
]  # fmt: skip
#: ``proxy_auth_file``, the fourth, is tested with the others' sense in test_network.py.
NETWORK = [
    ("proxy", None, "PARAPHINA_PROXY", '"http://Proxy.desk/"', "http://proxy.desk:80", "http://proxy.desk:80"),
    ("ca_file", None, "PARAPHINA_CA_FILE", f'"{certifi.where()}"', certifi.where(), certifi.where()),
    ("source_address", None, "PARAPHINA_SOURCE_ADDRESS", '"fd00:0::7"', "fd00::7", "fd00::7"),
]
VENUE = [
    ("markets", None, None, '["DOGE"]', "DOGE", ("DOGE",)),
    ("lines", None, "PARAPHINA_<V>_LINES", "2", "2", 2),
    ("stale_ms", 10_000, "PARAPHINA_<V>_STALE_MS", "20000", "20000", 20_000),
    ("connect_timeout_ms", 15_000, "PARAPHINA_<V>_WS_CONNECT_TIMEOUT_MS", "5000", "5000", 5000),
    ("read_timeout_ms", 30_000, "PARAPHINA_<V>_WS_READ_TIMEOUT_MS", "40000", "40000", 40_000),
    ("ping_interval_ms", None, "PARAPHINA_<V>_PING_INTERVAL_MS", "7000", "7000", 7000),
    ("pong_timeout_ms", None, None, "2500", "2500", 2500),
    ("funding_poll_ms", 10_000, "PARAPHINA_<V>_FUNDING_POLL_MS", "500", "500", 500),
    ("fixture_dir", None, "<V>_FIXTURE_DIR", '"/dev"', "/dev", "/dev"),
    ("account", None, "PARAPHINA_<V>_ACCOUNT", '"desk-1"', "desk-1", "desk-1"),
    ("account_period_ms", 60_000, None, "5000", "5000", 5000),
    ("ws_url", None, None, '"wss://example.org/ws/"', None, "wss://example.org/ws"),
    ("rest_url", None, None, '"http://127.0.0.1:8080/"', None, "http://127.0.0.1:8080"),
    *((key, default, variable.replace("A_", "A_<V>_", 1), *rest) for key, default, variable, *rest in NETWORK),
]
LINE_B = [
    ("tcp_port", None, None, "5700", None, 5700),
    *(row for row in VENUE if row[0] in {"ws_url", "rest_url"}),
    *((key, default, variable.replace("A_", "A_<V>_LINE_B_", 1), *rest) for key, default, variable, *rest in NETWORK),
]


#: Sections that have what ``[network]`` has.
SECTIONS = [f"venues.{venue}{table}" for venue in WORDS for table in ("", ".line_b")]


def rows():
    for section, table in (
        *(("supervisor", SUPERVISOR), ("health", HEALTH), ("feeds", FEEDS)),
        *(("network", NETWORK), ("gateway", GATEWAY)),
    ):
        for key, default, variable, *rest in table:
            yield pytest.param(section, key, default, variable, *rest, id=f"{section}.{key}")
    for venue, word in WORDS.items():
        for section, table in ((f"venues.{venue}", VENUE), (f"venues.{venue}.line_b", LINE_B)):
            for key, default, variable, *rest in table:
                name = variable.replace("<V>", word) if variable else None
                yield pytest.param(section, key, default, name, *rest, id=f"{section}.{key}")


@pytest.fixture
def write(tmp_path):
    def write(text):
        path = tmp_path / "paraphina.toml"
        path.write_text(text)
        return str(path)

    return write


def setting(config, key):
    (found,) = [of for of in config.settings if of.key == key]
    return found.value, found.source


def mistakes(path=None, environ=None, flags=None):
    with pytest.raises(ConfigError) as wrong:
        load(path, environ or {}, flags or {})
    return wrong.value.problems


# --- every key, from everywhere ---------------------------------------------------------------------------------------


def test_every_setting_is_in_the_tables_of_this_test():
    keys = {f"{param.values[0]}.{param.values[1]}" for param in rows()} | {"venues.paradex.encoding"}
    keys |= {f"{section}.proxy_auth_file" for section in ("network", *SECTIONS)}
    assert {of.key for of in load(None, {}, {}).settings} == keys


@pytest.mark.parametrize(("section", "key", "default", "variable", "in_file", "as_text", "value"), list(rows()))
def test_default_then_file_then_environment_then_flag(write, section, key, default, variable, in_file, as_text, value):
    dotted = f"{section}.{key}"
    assert setting(load(None, {}, {}), dotted) == (default, "default")
    path = write(f"[{section}]\n{key} = {in_file}\n")
    assert setting(load(path, {}, {}), dotted) == (value, f"{path}:{dotted}")
    if variable is not None:
        assert setting(load(path, {variable: as_text}, {}), dotted) == (value, f"environment:{variable}")
    environ = {variable: as_text} if variable else {}
    raw = as_text if as_text is not None else value
    assert setting(load(path, environ, {dotted: raw}), dotted) == (value, "flag")


def test_relative_paths_belong_to_the_directory_of_the_start_also_when_read_again(write, tmp_path, monkeypatch):
    monkeypatch.setattr(start_directory, "_left", None)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "recorded" / "lighter").mkdir(parents=True)
    (tmp_path / "own").mkdir()
    (tmp_path / "paraphina.toml").write_text(
        '[supervisor]\nrun_dir = "run"\nfixture_dir = "recorded"\n[venues.aster]\nfixture_dir = "own"\n'
    )
    environ = {"PARAPHINA_CONFIG": "paraphina.toml", "XDG_STATE_HOME": "state"}

    def paths():
        config = load(None, environ, {})
        of = config.venues
        return [config.run_dir, of["lighter"].fixture_dir, of["aster"].fixture_dir, config.blackbox_dir]

    before = paths()
    start_directory.leave()
    wanted = ["run", "recorded/lighter", "own", "state/paraphina/blackbox"]
    assert before == paths() == [str(tmp_path / path) for path in wanted]


def test_listening_beyond_loopback_without_keys_is_a_mistake():
    (mistake,) = mistakes(None, {"PARAPHINA_FEEDS_TCP": "192.0.2.1"})
    assert mistake == "feeds.tcp: 192.0.2.1 is not loopback; set feeds.curve_dir as well"


def test_every_problem_of_the_keys_is_a_mistake(tmp_path):
    keys = KeyDirectory(tmp_path / "keys")
    environ = {"PARAPHINA_FEEDS_TCP": "192.0.2.1", "PARAPHINA_FEEDS_CURVE_DIR": str(keys.path)}
    keys.create_server()
    keys.create_client("desk")
    network = load(None, environ, {}).network
    assert network is not None
    assert network.curve_dir == str(keys.path)
    keys.server_secret.chmod(0o644)
    (keys.clients / "broken.key").write_text("nothing")
    open_to_others, broken = mistakes(None, environ)
    assert open_to_others.startswith(f"feeds.curve_dir: {keys.server_secret}: must be yours alone; do: chmod 600")
    assert broken.startswith(f"feeds.curve_dir: {keys.clients / 'broken.key'}: not a ZeroMQ certificate")


def test_the_environment_wins_over_the_file(write):
    path = write("[venues.lighter]\nstale_ms = 11000\n[health]\nhealthy_threshold_ms = 1\n")
    config = load(path, {"PARAPHINA_LIGHTER_STALE_MS": "12000"}, {})
    assert config.venues["lighter"].stale_ms == 12_000
    assert config.backoff.healthy_s == 0.001


@pytest.mark.parametrize(("venue", "word"), list(WORDS.items()))
def test_the_users_variables_reach_the_workers(venue, word):
    environ = {
        f"PARAPHINA_{word}_STALE_MS": "11001",
        f"PARAPHINA_{word}_WS_CONNECT_TIMEOUT_MS": "11002",
        f"PARAPHINA_{word}_WS_READ_TIMEOUT_MS": "11003",
        f"PARAPHINA_{word}_PING_INTERVAL_MS": "11004",
        f"PARAPHINA_{word}_FUNDING_POLL_MS": "11005",
        "PARAPHINA_WS_HEALTHY_THRESHOLD_MS": "11006",
    }
    config = load(None, environ, {})
    of = config.venues[venue]
    numbers = of.stale_ms, of.connect_timeout_ms, of.read_timeout_ms, of.ping_interval_ms, of.funding_poll_ms
    assert numbers == (11_001, 11_002, 11_003, 11_004, 11_005)
    assert config.backoff.healthy_s == 11.006
    others = [other.stale_ms for name, other in config.venues.items() if name != venue]
    assert others == [10_000] * 4


@pytest.mark.parametrize(("venue", "word"), list(WORDS.items()))
def test_a_venue_can_be_played_from_its_fixtures(venue, word):
    config = load(None, {f"{word}_FIXTURE_DIR": "/dev"}, {})
    directories = {name: of.fixture_dir for name, of in config.venues.items()}
    assert directories == {name: "/dev" if name == venue else None for name in WORDS}


def test_one_directory_for_all_fixtures_serves_the_venues_that_it_has(tmp_path):
    (tmp_path / "lighter").mkdir()
    (tmp_path / "paradex").mkdir()
    environ = {"ROADMAP_B_FIXTURE_DIR": str(tmp_path), "PARADEX_FIXTURE_DIR": "/dev"}
    venues = load(None, environ, {}).venues
    assert venues["lighter"].fixture_dir == str(tmp_path / "lighter")
    assert venues["paradex"].fixture_dir == "/dev"
    assert venues["aster"].fixture_dir is None


def test_a_directory_of_fixtures_that_does_not_exist_is_a_mistake(tmp_path):
    mistakes(None, {"ROADMAP_B_FIXTURE_DIR": str(tmp_path / "typo")})


def test_a_directory_that_cannot_even_be_looked_for_is_a_mistake_and_no_crash():
    """A running supervisor loads it again on a reload."""
    (problem,) = mistakes(None, {"ROADMAP_B_FIXTURE_DIR": "/" + "x" * 300})
    assert "a directory that exists and can be read" in problem


def test_the_directory_for_all_fixtures_shows_as_a_source(tmp_path):
    (tmp_path / "lighter").mkdir()
    sources = [of.source for of in load(None, {"ROADMAP_B_FIXTURE_DIR": str(tmp_path)}, {}).settings]
    assert "environment:ROADMAP_B_FIXTURE_DIR" in sources


@pytest.mark.parametrize(
    ("environ", "path"),
    [
        ({"XDG_STATE_HOME": "/state", "HOME": "/home/desk"}, "/state/paraphina"),
        ({"HOME": "/home/desk"}, "/home/desk/.local/state/paraphina"),
        ({"XDG_STATE_HOME": "", "HOME": "/home/desk"}, "/home/desk/.local/state/paraphina"),
    ],
)
def test_where_logs_and_black_boxes_go(environ, path):
    assert str(state_path(environ)) == path
    assert load(None, environ, {}).blackbox_dir == f"{path}/blackbox"


def test_an_empty_variable_is_none():
    assert setting(load(None, {"PARAPHINA_LIGHTER_STALE_MS": ""}, {}), "venues.lighter.stale_ms")[1] == "default"


def test_the_defaults_are_those_of_the_contract():
    config = load(None, {}, {})
    assert tuple(config.venues) == tuple(VENUES)
    policy = config.backoff
    assert (policy.base_s, policy.cap_s, policy.healthy_s, policy.jitter) == (1.0, 30.0, 60.0, 0.1)
    assert not policy.first_immediate
    assert (config.watchdog_tick_ms, config.start_timeout_ms) == (200, 30_000)
    for name, venue in config.venues.items():
        limits = venue.stale_ms, venue.connect_timeout_ms, venue.read_timeout_ms, venue.funding_poll_ms
        assert limits == (10_000, 15_000, 30_000, 10_000)
        assert venue.ping_interval_ms is None, "each venue has its own"
        assert (venue.ws_url, venue.rest_url) == (VENUES[name].ws_url, VENUES[name].rest_url)
        assert venue.markets == ("BTC", "ETH")


def test_the_file_may_be_named_by_the_environment_and_the_argument_wins(write, tmp_path):
    path = write("[supervisor]\ntick_ms = 100\n")
    other = tmp_path / "other.toml"
    other.write_text("[supervisor]\ntick_ms = 200\n")
    assert load(None, {"PARAPHINA_CONFIG": path}, {}).tick_ms == 100
    assert load(str(other), {"PARAPHINA_CONFIG": path}, {}).tick_ms == 200
    assert load(None, {"PARAPHINA_CONFIG": ""}, {}).tick_ms == 250


def test_only_the_wanted_venues_are_configured_in_their_usual_order():
    config = load(None, {}, {"supervisor.venues": "paradex, lighter"})
    assert tuple(config.venues) == ("lighter", "paradex")


def test_a_venues_markets_replace_the_common_ones(write):
    path = write('[supervisor]\nmarkets = ["BTC", "SOL"]\n[venues.aster]\nmarkets = ["DOGE", "DOGE-PERP"]\n')
    config = load(path, {}, {})
    assert config.venues["aster"].markets == ("DOGE",)
    assert config.venues["lighter"].markets == ("BTC", "SOL")
    assert config.bases == ("BTC", "SOL", "DOGE")


def test_a_venues_own_option(write):
    assert load(None, {}, {}).venues["paradex"].options == {"encoding": "sbe"}
    path = write('[venues.paradex]\nencoding = "json"\n')
    assert load(path, {}, {}).venues["paradex"].options == {"encoding": "json"}
    (mistake,) = mistakes(write('[venues.paradex]\nencoding = "xml"\n'))
    assert "'xml' will not do; it takes one of sbe, json" in mistake
    (mistake,) = mistakes(write('[venues.lighter]\nencoding = "json"\n'))
    assert "unknown key 'encoding'" in mistake


def test_immediate_first_restart_and_jitter_reach_the_policy(write):
    path = write('[supervisor]\nfirst_restart = "immediate"\njitter = 0\nbackoff_base_ms = 50\nbackoff_cap_ms = 200\n')
    policy = load(path, {}, {}).backoff
    assert [policy.delay_ns(n, 0.9) // 1_000_000 for n in range(1, 6)] == [0, 50, 100, 200, 200]


# --- mistakes ---------------------------------------------------------------------------------------------------------


def test_all_mistakes_are_reported_at_once(write):
    path = write(
        """
        typo = 1
        [supervisor]
        tick_ms = "fast"
        runn_dir = "/run/x"
        [helth]
        x = 1
        [venues.lihgter]
        stale_ms = 1
        [venues.lighter]
        stale_ms = true
        ws_url = "ftp://example.org"
        markets = ["btc"]
        """
    )
    environ = {"PARAPHINA_ASTER_STALE_MS": "soon", "PARAPHINA_HL_STALE": "1"}
    told = mistakes(path, environ, {"supervisor.venues": "binance"})
    expected = [
        f"{path}:typo: unknown section 'typo'",
        f"{path}:helth: unknown section 'helth'; did you mean 'health'?",
        f"{path}:venues.lihgter: unknown venue 'lihgter'; did you mean 'lighter'?",
        f"{path}:supervisor.runn_dir: unknown key 'runn_dir'; did you mean 'run_dir'?",
        f"{path}:supervisor.tick_ms: 'fast' will not do; it takes a whole number from 20 to 10000",
        "--venues: 'binance' will not do; it takes names of venues, not 'binance'",
        "environment:PARAPHINA_ASTER_STALE_MS: 'soon' will not do; it takes a whole number from 100 to 3600000",
        f"{path}:venues.lighter.stale_ms: True will not do; it takes a whole number from 100 to 3600000",
        f"{path}:venues.lighter.ws_url: 'ftp://example.org' will not do; it takes a URL that starts with ws or wss",
        f"{path}:venues.lighter.markets: ['btc'] will not do; it takes base assets in capitals",
        "environment:PARAPHINA_HL_STALE: unknown variable 'PARAPHINA_HL_STALE'; did you mean 'PARAPHINA_HL_STALE_MS'?",
    ]
    assert len(told) == len(expected)
    for text in expected:
        assert any(mistake.startswith(text) for mistake in told), text


def test_the_error_has_one_line_a_mistake_and_the_exit_code_of_a_usage_error(write):
    with pytest.raises(ConfigError) as wrong:
        load(write("[supervisor]\ntick_ms = 1\njitter = 2\n"), {}, {})
    assert str(wrong.value).splitlines() == wrong.value.problems
    assert len(wrong.value.problems) == 2
    assert wrong.value.exit_code == 2


def test_a_key_that_resembles_none_gets_the_list(write):
    (mistake,) = mistakes(write("[health]\nzzz = 1\n"))
    assert mistake.endswith("known are healthy_threshold_ms, memory_limit_mb, start_timeout_ms, watchdog_tick_ms")


@pytest.mark.parametrize(
    ("section", "line", "wanted"),
    [
        ("supervisor", "tick_ms = 19", "a whole number from 20 to 10000"),
        ("supervisor", "tick_ms = 100.5", "a whole number"),
        ("supervisor", 'tick_ms = "1e3"', "a whole number"),
        ("supervisor", "tick_ms = [100]", "a whole number"),
        ("supervisor", "jitter = 1.01", "a number from 0 to 1"),
        ("supervisor", "jitter = nan", "a number from 0 to 1"),
        ("supervisor", "jitter = true", "a number from 0 to 1"),
        ("supervisor", 'jitter = "little"', "a number from 0 to 1"),
        ("health", "memory_limit_mb = true", "a whole number from 0"),
        ("supervisor", 'first_restart = "now"', "one of backoff, immediate"),
        ("supervisor", 'log_level = "INFO"', "one of debug, info, warning, error"),
        ("supervisor", "venues = 5", "a list of names"),
        ("supervisor", "venues = [1]", "a list of names"),
        ("supervisor", "venues = []", "at least one venue"),
        ("supervisor", 'venues = ["lihgter"]', "did you mean 'lighter'?"),
        ("supervisor", "markets = []", "1 to 256 base assets"),
        ("supervisor", 'markets = ["BTC", "ETH/USD"]', "not 'ETH/USD'"),
        ("supervisor", "run_dir = 5", "a path"),
        ("supervisor", 'run_dir = ""', "a path"),
        ("venues.hyperliquid", "funding_poll_ms = 499", "a whole number from 500"),
        ("venues.hyperliquid", "stale_ms = -1", "a whole number from 100"),
        ("venues.hyperliquid", 'rest_url = "example.org"', "a URL that starts with http or https"),
        ("venues.hyperliquid", "rest_url = 5", "a URL that starts with http or https"),
        ("venues.hyperliquid", 'ws_url = "wss://"', "names a host"),
        ("venues.hyperliquid", 'ws_url = "wss://example.org:stream"', "names a host"),
        ("venues.hyperliquid", 'rest_url = "http://[::1"', "names a host"),
    ],
)
def test_a_wrong_value_is_named_with_what_would_be_right(write, section, line, wanted):
    path = write(f"[{section}]\n{line}\n")
    (mistake,) = mistakes(path)
    assert mistake.startswith(f"{path}:{section}.{line.split()[0]}: ")
    assert wanted in mistake


@pytest.mark.parametrize("text", ["--5", "²"])
def test_text_that_is_almost_a_number_gets_the_same_advice(text):
    (mistake,) = mistakes(None, {"PARAPHINA_LIGHTER_STALE_MS": text})
    assert mistake.endswith("it takes a whole number from 100 to 3600000")


@pytest.mark.parametrize("text", ["0x" + "ab" * 20, "Desk", "a" * 25, "the desk", "desk.1", "1st"])
def test_an_account_that_may_be_a_secret_is_refused_without_being_shown(text):
    (mistake,) = mistakes(None, {"PARAPHINA_HL_ACCOUNT": text})
    assert mistake.startswith("environment:PARAPHINA_HL_ACCOUNT: what is given will not do; it takes a short name")
    assert text not in mistake


def test_too_many_markets(write):
    names = ", ".join(f'"M{n}"' for n in range(257))
    (mistake,) = mistakes(write(f"[supervisor]\nmarkets = [{names}]\n"))
    assert "1 to 256 base assets" in mistake


@pytest.mark.parametrize("text", ["supervisor = 5\n", "venues = 5\n", "[venues]\nlighter = 5\n"])
def test_a_value_where_a_section_belongs(write, text):
    (mistake,) = mistakes(write(text))
    assert "a section is wanted" in mistake


def test_bad_toml_is_reported_with_its_line(write):
    path = write("[supervisor]\ntick_ms = 100\nmarkets = [BTC]\n")
    (mistake,) = mistakes(path)
    assert mistake.startswith(f"{path}: not a TOML file: ")
    assert "line 3" in mistake


def test_a_file_that_is_no_text(tmp_path):
    (tmp_path / "binary").write_bytes(b"\xff\xfe\x00")
    (mistake,) = mistakes(str(tmp_path / "binary"))
    assert "not a TOML file" in mistake


def test_a_missing_file_is_named(tmp_path):
    path = tmp_path / "missing.toml"
    assert mistakes(str(path)) == [f"{path}: cannot be read: No such file or directory"]
    assert mistakes(None, {"PARAPHINA_CONFIG": str(path)}) == [f"{path}: cannot be read: No such file or directory"]


def test_what_is_no_regular_file_is_refused_and_nobody_waits_for_it(tmp_path):
    os.mkfifo(tmp_path / "fifo")
    for path in (tmp_path, tmp_path / "fifo", "/dev/null", "/dev/zero"):
        assert mistakes(str(path)) == [f"{path}: not a regular file"]


def test_a_file_of_a_megabyte_is_read_and_a_larger_one_is_none(write):
    path = write("[supervisor]\ntick_ms = 30\n" + "#" * 999_971)
    assert load(path, {}, {}).tick_ms == 30
    (mistake,) = mistakes(write("#" * 1_000_001))
    assert mistake == f"{path}: larger than 1000000 bytes; a configuration has some hundred lines"


def test_a_byte_order_mark_does_not_matter(write):
    assert load(write("\ufeff[supervisor]\ntick_ms = 30\n"), {}, {}).tick_ms == 30


@pytest.mark.parametrize("source", ["file", "flag", "environment"])
def test_a_venue_that_is_listed_twice_is_a_mistake(write, source):
    text = "lighter,paradex, lighter"
    path = write('[supervisor]\nvenues = ["lighter", "paradex", "lighter"]\n') if source == "file" else None
    environ = {"PARAPHINA_VENUES": text} if source == "environment" else None
    (mistake,) = mistakes(path, environ, {"supervisor.venues": text} if source == "flag" else None)
    assert mistake.endswith("will not do; it takes each venue once")


def test_a_directory_that_is_named_must_be_one(tmp_path):
    (tmp_path / "file").touch()
    file = str(tmp_path / "file")
    (one, other) = mistakes(None, {"LIGHTER_FIXTURE_DIR": str(tmp_path / "typo"), "PARAPHINA_BLACKBOX_DIR": file})
    assert one.endswith(f"'{file}' will not do; it takes a directory, or the name of one that can be created")
    assert other.endswith(f"'{tmp_path}/typo' will not do; it takes a directory that exists and can be read")
    assert load(None, {"PARAPHINA_BLACKBOX_DIR": str(tmp_path / "new")}, {}).blackbox_dir == str(tmp_path / "new")


@pytest.mark.parametrize("word", list(WORDS.values()))
def test_an_unknown_variable_of_a_venue_is_a_mistake(word):
    (mistake,) = mistakes(None, {f"PARAPHINA_{word}_STALE_SEC": "10"})
    assert mistake.startswith(f"environment:PARAPHINA_{word}_STALE_SEC: unknown variable")
    assert f"did you mean 'PARAPHINA_{word}_STALE_MS'?" in mistake


def test_a_mistake_for_a_venue_that_is_not_wanted_is_still_one():
    flags = {"supervisor.venues": "lighter"}
    assert len(mistakes(None, {"PARAPHINA_HL_STALE_MS": "x"}, flags)) == 1


def test_variables_of_others_are_left_alone():
    load(None, {"PATH": "/bin", "PARAPHINA_OTHER": "1", "HL_STALE_MS": "x", "PARAPHINAHL_X": "1"}, {})


def test_a_misspelt_common_variable_is_a_mistake():
    (mistake,) = mistakes(None, {"PARAPHINA_WS_HEALTHY_TRESHOLD_MS": "1000"})
    assert "PARAPHINA_WS_HEALTHY_THRESHOLD_MS" in mistake


@pytest.mark.parametrize(
    "url",
    ["wss://", "wss://:443/x", "wss://[::1", "wss://host:99999", "wss://host:port/x", "wss://ho st", "wss://host:0"],
)
def test_an_address_that_cannot_be_one_is_a_mistake_and_no_crash_of_a_worker(url):
    (mistake,) = mistakes(None, {}, {"venues.lighter.ws_url": url})
    assert "a URL that starts with ws or wss and names a host" in mistake


@pytest.mark.parametrize("path", ["a\0b", "/run/\udcff", "a\nb"], ids=["zero byte", "no UTF-8", "line end"])
def test_a_path_that_cannot_be_written_down_is_a_mistake(path):
    (mistake,) = mistakes(None, {}, {"supervisor.run_dir": path})
    assert mistake.startswith("--run-dir: ")
    assert mistake.isprintable()


@pytest.mark.parametrize(
    "text", [f"[supervisor]\ntick_ms = {'9' * 5000}\n", f"a = {'[' * 20_000}"], ids=["digits", "nesting"]
)
def test_what_the_parser_of_toml_gives_up_on_is_a_mistake(write, text):
    (mistake,) = mistakes(write(text))
    assert ": not a TOML file: " in mistake


@pytest.mark.parametrize(
    ("variable", "meant"),
    [
        ("PARAPHINA_HYPERLIQUID_STALE_MS", "PARAPHINA_HL_STALE_MS"),
        ("PARAPHINA_HYPERLIQUID_FUNDING_POLL_MS", "PARAPHINA_HL_FUNDING_POLL_MS"),
        ("HYPERLIQUID_FIXTURE_DIR", "HL_FIXTURE_DIR"),
    ],
)
def test_hyperliquid_spelt_out_in_a_variable_is_not_silently_nothing(variable, meant):
    assert mistakes(None, {variable: "9000"}) == [
        f"environment:{variable}: unknown variable {variable!r}; did you mean {meant!r}?"
    ]


def test_an_unknown_venue_is_reported_once_with_the_known_ones():
    (mistake,) = mistakes(None, {}, {"supervisor.venues": "lighter,xyz"})
    assert mistake == (
        "--venues: 'lighter,xyz' will not do; it takes names of venues, "
        "not 'xyz'; known are aster, extended, hyperliquid, lighter, paradex"
    )


# --- the gateway's HTTP server ----------------------------------------------------------------------------------------


def gateway(**variables):
    return load(None, {f"PARAPHINA_GATEWAY_{key.upper()}": value for key, value in variables.items()}, {}).gateway


def test_an_empty_variable_turns_http_off():
    assert gateway(http="").http is None
    assert gateway(remote="", hosts="").http.url == "http://127.0.0.1:9464"  # for others it is as good as none


def test_other_machines_reach_it_only_with_permission():
    assert gateway(http="0.0.0.0:9464", remote="true").http.url == "http://0.0.0.0:9464"
    assert gateway(http="unix:/run/http").http.url == "unix:/run/http"
    for address in ("0.0.0.0:9464", "[::]:9464", "10.0.0.7:9464"):
        [problem] = mistakes(environ={"PARAPHINA_GATEWAY_HTTP": address})
        assert problem.startswith(f"gateway.http: {address} is not loopback")
        assert "gateway.remote = true" in problem


@pytest.mark.parametrize(
    ("key", "value"),
    [
        *(("http", "9464"), ("http", "example.com:80"), ("http", "unix:"), ("remote", "yes"), ("per_market", "2")),
        *(("hosts", "desk:9464"), ("hosts", "http://desk"), ("hosts", "-desk"), ("hosts", "a b"), ("hosts", "*")),
        ("hosts", ",".join(f"h{number}" for number in range(33))),
    ],
)
def test_mistakes_of_the_gateway(key, value):
    name = f"PARAPHINA_GATEWAY_{key.upper()}"
    [problem] = mistakes(environ={name: value})
    assert problem.startswith(f"environment:{name}: {value!r} will not do; it takes ")


# --- two lines --------------------------------------------------------------------------------------------------------


def test_venues_have_one_line_unless_two_are_wanted():
    assert {venue.lines for venue in load(None, {}, {}).venues.values()} == {(None,)}
    assert {venue.lines for venue in load(None, {"PARAPHINA_LINES": "2"}, {}).venues.values()} == {("a", "b")}


@pytest.mark.parametrize(("lines", "own", "expected"), [("2", "1", (None,)), ("1", "2", ("a", "b"))])
def test_a_venues_own_number_of_lines_has_precedence(lines, own, expected):
    config = load(None, {"PARAPHINA_LINES": lines, "PARAPHINA_ASTER_LINES": own}, {})
    assert config.venues["aster"].lines == expected
    assert config.venues["lighter"].lines != expected


def test_a_recording_is_played_on_one_line(tmp_path):
    config = load(None, {"PARAPHINA_LINES": "2", "LIGHTER_FIXTURE_DIR": str(tmp_path)}, {})
    assert config.venues["lighter"].lines == (None,)


@pytest.mark.parametrize("lines", ["0", "3", "two"])
def test_there_are_one_or_two_lines(lines):
    (problem,) = mistakes(environ={"PARAPHINA_LINES": lines})
    assert problem.startswith(f"environment:PARAPHINA_LINES: '{lines}' will not do")


def test_line_b_goes_its_own_way_where_it_is_given_one(write):
    path = write("""
[supervisor]
lines = 2
[network]
source_address = "192.0.2.1"
[venues.lighter]
ws_url = "wss://first.example"
[venues.lighter.line_b]
source_address = "192.0.2.2"
rest_url = "https://second.example"
""")
    lighter = load(path, {}, {}).venues["lighter"]
    first, second = (lighter.of_line(line) for line in lighter.lines)
    assert (first.ws_url, first.dial.source_address) == ("wss://first.example", "192.0.2.1")
    assert (second.ws_url, second.dial.source_address) == ("wss://first.example", "192.0.2.2")
    assert (first.rest_url == second.rest_url, second.rest_url) == (False, "https://second.example")
    assert second.markets == first.markets


def test_a_line_without_a_way_of_its_own_goes_that_of_the_venue():
    lighter = load(None, {"PARAPHINA_LINES": "2", "PARAPHINA_LIGHTER_SOURCE_ADDRESS": "192.0.2.7"}, {}).venues[
        "lighter"
    ]
    assert lighter.of_line("b").dial == lighter.of_line("a").dial
    assert lighter.of_line("b").ws_url == lighter.of_line("a").ws_url


@pytest.mark.parametrize("text", ["[venues.lighter]\nline_b = 3\n", "[venues.lighter.line_b]\nstale_ms = 1000\n"])
def test_mistakes_in_the_table_of_line_b_are_named(write, text):
    (problem,) = mistakes(path := write(text))
    assert problem.startswith(f"{path}:venues.lighter.line_b")


LINES_ON_TCP = """
[supervisor]
lines = 2
venues = ["lighter", "aster"]
[feeds]
tcp = "127.0.0.1"
[venues.lighter.line_b]
"""


def test_lines_b_have_the_ports_that_are_free_or_their_own(write):
    network = load(write(LINES_ON_TCP), {}, {}).network
    assert network.ports == {
        "lighter": (5603, 5609),
        "aster": (5601, 5607),
        "aster.b": (5611, 5612),
        "lighter.b": (5613, 5614),
        "lifecycle": (5605, None),
    }
    own = load(write(LINES_ON_TCP + "tcp_port = 7000"), {}, {}).network
    assert (own.endpoint("lighter.b"), own.endpoint("aster.b")) == ("tcp://127.0.0.1:7000", "tcp://127.0.0.1:5611")


def test_a_port_that_another_process_has_is_refused_by_its_key(write):
    assert mistakes(write(LINES_ON_TCP + "tcp_port = 5605")) == [
        "venues.lighter.line_b.tcp_port: TCP port 5605 is that of lifecycle; choose another tcp_port",
        "venues.lighter.line_b.tcp_port: TCP port 5606 is that of hyperliquid; choose another tcp_port",
    ]


@pytest.mark.parametrize("value", ["0", "-1", "1.1", "half"])
def test_the_part_of_the_limits_is_over_0_and_at_most_1(value):
    (problem,) = mistakes(environ={"PARAPHINA_LIMIT_SHARE": value})
    assert problem.endswith("it takes a number over 0, at most 1")


@pytest.mark.parametrize(("count", "lines"), [(100, ("a", "b")), (101, (None,))])
def test_two_lines_must_fit_into_the_venues_limits(count, lines):
    markets = ",".join(f"M{number}" for number in range(count))
    venues = load(None, {"PARAPHINA_LINES": "2", "PARAPHINA_MARKETS": markets}, {}).venues
    assert (venues["hyperliquid"].lines, venues["aster"].lines) == (lines, ("a", "b"))
    assert (venues["hyperliquid"].single_line is None) == (count == 100)
