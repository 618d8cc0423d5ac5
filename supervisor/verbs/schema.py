"""``schema``: the event contract as JSON Schema, for other languages' tools."""

from __future__ import annotations

import json

import click


@click.command()
def schema() -> int:
    """Print the JSON Schema of the events."""
    from ipc.codec import json_schema

    click.echo(json.dumps(json_schema(), indent=2))
    return 0
