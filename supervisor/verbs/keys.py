"""``keys``: create and list the keys of feeds over TCP."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ipc.printable import joined_lines
from supervisor.verbs.options import json_option, print_json

if TYPE_CHECKING:
    from ipc.certificates import KeyDirectory

_directory = click.argument("directory", metavar="DIR", type=click.Path(path_type=Path))


@click.group()
def keys() -> None:
    """Create and list the keys of feeds over TCP; DIR is the directory in `[feeds] curve_dir`."""


@keys.command()
@_directory
@json_option
def server(directory: Path, as_json: bool) -> int:
    """Create a server's keys in DIR, and its directory of clients."""
    held = _open(directory)
    held.create_server()
    created = {"secret": str(held.server_secret), "public": str(held.server_public), "clients": str(held.clients)}
    _print(
        created,
        [
            f"created {held.server_secret} (stays here), {held.server_public} (for the clients) and {held.clients}/",
            f'next: set [feeds] curve_dir = "{directory.absolute()}", and create keys for each client:',
            f"  paraphina-supervisor keys client {directory} NAME",
        ],
        as_json=as_json,
    )
    return 0


@keys.command()
@_directory
@click.argument("name")
@click.option("--out", metavar="DIR2", type=click.Path(path_type=Path), help="Directory for the client's files.")
@json_option
def client(directory: Path, name: str, out: Path | None, as_json: bool) -> int:
    """Create the keys of a client NAME; a running system accepts them at once."""
    held = _open(directory)
    secret = held.create_client(name, out)
    server_key = (out or directory) / held.server_public.name
    allowed = held.clients / f"{name}.key"
    _print(
        {"secret": str(secret), "public": str(allowed), "server": str(server_key)},
        [
            f"created {allowed} (allows the client) and {secret} (its secret)",
            f"next: move {secret} to the client's machine and copy {server_key} there; keep the secret's mode 0600",
            f"there: Remote(HOST, PORT, load_client_keys('{server_key.name}', '{secret.name}'))",
        ],
        as_json=as_json,
    )
    return 0


@keys.command("list")
@_directory
@json_option
def list_keys(directory: Path, as_json: bool) -> int:
    """List the public keys of the server and of the clients that may connect."""
    from ipc.certificates import CertificateError, load_certificate
    from ipc.errors import ConfigError

    held = _open(directory)
    clients, problems = {}, []
    for path in held.client_files():
        try:
            clients[path.stem] = held.load_client(path).decode()
        except CertificateError as error:
            problems += error.problems
    own = load_certificate(held.server_public).public.decode()
    _print(
        {"server": own, "clients": clients},
        [f"{'server':<24} {own}", *(f"{name:<24} {key}" for name, key in clients.items())],
        as_json=as_json,
    )
    if problems:
        raise ConfigError(problems)
    return 0


def _open(directory: Path) -> KeyDirectory:
    from ipc.certificates import KeyDirectory

    return KeyDirectory(directory)


def _print(found: dict[str, Any], lines: list[str], *, as_json: bool) -> None:
    if as_json:
        print_json(found)
    else:
        click.echo(joined_lines(lines))
