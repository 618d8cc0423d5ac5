"""``config``: show and validate the configuration, with the source of each value."""

from __future__ import annotations

import os
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import click

from ipc.errors import ConfigError
from ipc.printable import printable
from supervisor.verbs.options import json_option, print_json, print_json_text

if TYPE_CHECKING:
    from supervisor.config import Config

_config_option = click.option("--config", "path", metavar="FILE", help="A TOML file; see etc/paraphina.toml.")


@click.group()
def config() -> None:
    """Show or validate the configuration."""


@config.command()
@_config_option
@json_option
def show(path: str | None, as_json: bool) -> int:
    """Print every setting with its value and its source."""
    import msgspec

    from supervisor.config import load

    loaded = load(path, os.environ, {})
    unset, sources = _where_unset(loaded), _sources_of_proxies(loaded)
    settings = [
        setting
        if setting.value is not None
        else replace(setting, value=unset.get(setting.key), source=sources.get(setting.key, setting.source))
        for setting in loaded.settings
    ]
    if as_json:
        values = {s.key: {"value": s.value, "source": s.source} for s in settings}
        print_json_text(msgspec.json.encode(values).decode())
        return 0
    width = max(len(setting.key) for setting in settings)
    for setting in settings:
        value = ",".join(setting.value) if isinstance(setting.value, tuple) else setting.value
        value = '""' if value == "" else value
        click.echo(printable(f"{setting.key:<{width}}  {'-' if value is None else value!s:<24}  {setting.source}"))
    return 0


def _where_unset(loaded: Config) -> dict[str, Any]:
    """Describe the value of an unset key whose default depends on the venue or the system."""
    from ipc.rundir import default_path
    from workers.venues import VENUES

    found: dict[str, Any] = {
        "supervisor.run_dir": str(default_path(os.environ)),
        "supervisor.blackbox_dir": loaded.blackbox_dir,
    }
    for name, of in loaded.venues.items():
        keepalive = VENUES[name].keepalive
        found |= {f"venues.{name}.{key}": getattr(of, key) for key in ("markets", "fixture_dir", "ws_url", "rest_url")}
        proxy = of.dial.proxy_for(of.ws_url)
        found[f"venues.{name}.proxy"] = None if proxy is None else str(proxy)
        found[f"venues.{name}.proxy_auth_file"] = None if proxy is None else proxy.auth_file
        found |= {f"venues.{name}.{key}": getattr(of.dial, key) for key in ("ca_file", "source_address")}
        found[f"venues.{name}.ping_interval_ms"] = round(keepalive.interval_s * 1000)
        found[f"venues.{name}.pong_timeout_ms"] = round(keepalive.pong_within_s * 1000)
    return found


def _sources_of_proxies(loaded: Config) -> dict[str, str]:
    """Return where each venue's proxy is named, by the key of its own setting."""
    proxies = {name: of.dial.proxy_for(of.ws_url) for name, of in loaded.venues.items()}
    return {f"venues.{name}.proxy": proxy.source for name, proxy in proxies.items() if proxy is not None}


@config.command()
@_config_option
@json_option
def validate(path: str | None, as_json: bool) -> int:
    """Check the configuration and print each mistake on one line."""
    from supervisor.config import load

    try:
        load(path, os.environ, {})
    except ConfigError as error:
        if not as_json:
            raise
        print_json({"valid": False, "problems": error.problems})
        return error.exit_code
    if as_json:
        print_json({"valid": True, "problems": []})
    else:
        click.echo("the configuration is valid")
    return 0
