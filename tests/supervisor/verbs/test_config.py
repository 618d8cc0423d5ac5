"""``config show`` and ``config validate``."""

from __future__ import annotations

import json

import pytest

from supervisor.config import load
from workers.venues import VENUES


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "paraphina.toml"
    path.write_text('[supervisor]\nmarkets = ["SOL"]\n[venues.lighter]\nstale_ms = 11000\n')
    return path


def test_show_names_value_and_source_of_every_setting(cli, file, monkeypatch):
    monkeypatch.setenv("PARAPHINA_ASTER_STALE_MS", "12000")
    ran = cli("config", "show", "--config", file)
    assert ran.code == 0
    rows = {line.split()[0]: line.split()[1:] for line in ran.out.splitlines()}
    assert rows["supervisor.markets"] == ["SOL", f"{file}:supervisor.markets"]
    assert rows["venues.lighter.stale_ms"] == ["11000", f"{file}:venues.lighter.stale_ms"]
    assert rows["venues.aster.stale_ms"] == ["12000", "environment:PARAPHINA_ASTER_STALE_MS"]
    assert rows["venues.extended.stale_ms"] == ["10000", "default"]
    assert set(rows) == {setting.key for setting in load(None, {}, {}).settings}


def test_show_for_programs(cli, file):
    shown = json.loads(cli("config", "show", "--json", "--config", file).out)
    assert shown["supervisor.markets"] == {"value": ["SOL"], "source": f"{file}:supervisor.markets"}
    assert shown["supervisor.jitter"] == {"value": 0.1, "source": "default"}


def test_what_nobody_set_is_shown_as_it_holds(cli, file, monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    monkeypatch.delenv("PARAPHINA_RUN_DIR", raising=False)
    shown = json.loads(cli("config", "show", "--json", "--config", file).out)
    wanted = {
        "supervisor.run_dir": f"{tmp_path}/paraphina",
        "supervisor.blackbox_dir": f"{tmp_path}/paraphina/blackbox",
        "venues.lighter.markets": ["SOL"],
        "venues.lighter.ws_url": VENUES["lighter"].ws_url,
        "venues.lighter.rest_url": VENUES["lighter"].rest_url,
        "venues.hyperliquid.ping_interval_ms": VENUES["hyperliquid"].keepalive.interval_s * 1000,
    }
    assert {key: shown[key] for key in wanted} == {
        key: {"value": value, "source": "default"} for key, value in wanted.items()
    }
    assert shown["feeds.tcp"] == {"value": None, "source": "default"}


def test_proxies_are_shown_where_they_hold_and_without_credentials(cli, file, monkeypatch):
    for name in ("https_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HTTPS_PROXY", "http://desk:planted@proxy.desk:3128")
    monkeypatch.setenv("PARAPHINA_ASTER_PROXY", "socks5://other.desk")
    monkeypatch.setenv("PARAPHINA_SOURCE_ADDRESS", "192.0.2.7")
    file.write_text('[venues.paradex]\nproxy = ""\n')
    shown = json.loads(cli("config", "show", "--json", "--config", file).out)
    assert {key: shown[key] for key in ("network.proxy", *(f"venues.{name}.proxy" for name in VENUES))} == {
        "network.proxy": {"value": None, "source": "default"},
        "venues.hyperliquid.proxy": {"value": "http://proxy.desk:3128", "source": "environment:HTTPS_PROXY"},
        "venues.aster.proxy": {"value": "socks5://other.desk:1080", "source": "environment:PARAPHINA_ASTER_PROXY"},
        "venues.extended.proxy": {"value": "http://proxy.desk:3128", "source": "environment:HTTPS_PROXY"},
        "venues.lighter.proxy": {"value": "http://proxy.desk:3128", "source": "environment:HTTPS_PROXY"},
        "venues.paradex.proxy": {"value": "", "source": f"{file}:venues.paradex.proxy"},
    }
    assert shown["venues.aster.source_address"] == {"value": "192.0.2.7", "source": "default"}
    text = cli("config", "show", "--config", file).out
    assert "planted" not in text
    assert next(line.split() for line in text.splitlines() if "paradex.proxy " in line)[1] == '""'


def test_the_file_may_come_from_the_environment(cli, file, monkeypatch):
    monkeypatch.setenv("PARAPHINA_CONFIG", str(file))
    assert json.loads(cli("config", "show", "--json").out)["venues.lighter.stale_ms"]["value"] == 11_000


def test_validate_says_that_it_is_valid(cli, file):
    ran = cli("config", "validate", "--config", file)
    assert (ran.code, ran.out) == (0, "the configuration is valid\n")


@pytest.mark.parametrize("verb", ["show", "validate"])
def test_every_mistake_is_a_line(cli, file, verb):
    file.write_text("[supervisor]\ntick_ms = 1\njitter = 7\n[oops]\n")
    ran = cli("config", verb, "--config", file)
    assert ran.code == 2
    assert ran.out == ""
    assert len(ran.err.splitlines()) == 3
    assert all(line.startswith(f"paraphina-supervisor: {file}:") for line in ran.err.splitlines())


def test_a_missing_file(cli, tmp_path):
    ran = cli("config", "validate", "--config", tmp_path / "none.toml")
    assert (ran.code, ran.err) == (
        2,
        f"paraphina-supervisor: {tmp_path}/none.toml: cannot be read: No such file or directory\n",
    )
