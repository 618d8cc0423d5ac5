"""Completion of venues, processes and symbols in a shell: what the run directory describes, else what there can be.

A key press is answered at once and prints no error, whatever the run directory holds.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import click

from ipc.errors import ParaphinaError
from ipc.topics import VENUES
from supervisor.verbs.options import open_run_dir


def complete_venue(context: click.Context, _: click.Parameter, incomplete: str) -> list[str]:
    """Return the venues that begin with a text."""
    return _beginning(_symbols(context) or VENUES, incomplete)


def complete_process(context: click.Context, _: click.Parameter, incomplete: str) -> list[str]:
    """Return the venues, and the gateway, that begin with a text."""
    return _beginning([*(_symbols(context) or VENUES), "gateway"], incomplete)


def complete_venues(_: click.Context, __: click.Parameter, incomplete: str) -> list[str]:
    """Return lists of venues, separated by commas, that begin with a text."""
    *before, last = incomplete.split(",")
    return [",".join([*before, name]) for name in _beginning(VENUES, last) if name not in before]


def complete_symbol(context: click.Context, _: click.Parameter, incomplete: str) -> list[str]:
    """Return the symbols, of the venue if one is given, that begin with a text; none without a system."""
    venue = context.params.get("venue")
    found = _symbols(context)
    of_venues = [found.get(venue, [])] if venue is not None else found.values()
    return _beginning(dict.fromkeys(symbol for symbols in of_venues for symbol in symbols), incomplete)


def _beginning(names: Iterable[str], incomplete: str) -> list[str]:
    return [name for name in names if name.startswith(incomplete)]


def _symbols(context: click.Context) -> Mapping[str, list[str]]:
    """Return the symbols of each venue of the system; nothing when they cannot be read."""
    try:
        described: Any = open_run_dir(context.params.get("run_dir")).describe()
        return {str(name): [str(symbol) for symbol in of["symbols"]] for name, of in described["venues"].items()}
    except (ParaphinaError, OSError, KeyError, TypeError, AttributeError):
        return {}
