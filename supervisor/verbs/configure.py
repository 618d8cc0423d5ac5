"""``config``: what the configuration says, and from where each value comes."""

from __future__ import annotations

import os

import click

from supervisor.verbs.options import json_option

__all__ = ["config"]

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

    settings = load(path, os.environ, {}).settings
    if as_json:
        click.echo(msgspec.json.encode({s.key: {"value": s.value, "source": s.source} for s in settings}))
        return 0
    width = max(len(setting.key) for setting in settings)
    for setting in settings:
        value = ",".join(setting.value) if isinstance(setting.value, tuple) else setting.value
        click.echo(f"{setting.key:<{width}}  {value!s:<24}  {setting.source}")
    return 0


@config.command()
@_config_option
def validate(path: str | None) -> int:
    """Check the configuration; every mistake in one line."""
    from supervisor.config import load

    load(path, os.environ, {})
    click.echo("the configuration is valid")
    return 0
