"""``sim``: the simulated venues alone, for use with other clients."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from ipc.printable import printable
from supervisor.verbs.completion import complete_venues
from supervisor.verbs.options import FiniteRange, json_option, print_json


@click.command()
@click.option("--venues", metavar="A,B", help="Only these venues.", shell_complete=complete_venues)
@click.option("--markets", metavar="BTC,ETH", default="BTC,ETH", show_default=True, help="Base assets.")
@click.option("--rate", type=FiniteRange(1, 1000), default=50.0, show_default=True, help="Frames/s and venue.")
@click.option("--seed", type=int, default=1, show_default=True, help="Same seed, same market.")
@click.option("--pace", type=FiniteRange(min=0.001), default=1.0, show_default=True, help="Shortens keep-alives.")
@click.option("--tls", is_flag=True, help="Speak TLS, as the real venues do.")
@click.option(
    "--ca-path",
    metavar="FILE",
    default="paraphina-sim-ca.pem",
    show_default=True,
    help="With --tls: where the certificate of the authority is written, for clients to trust.",
)
@json_option
def sim(
    venues: str | None, markets: str, rate: float, seed: int, pace: float, tls: bool, ca_path: str, as_json: bool
) -> int:
    """Run the simulated venues in the foreground and print their addresses."""
    from supervisor.process_state import reset_process_state

    reset_process_state()
    from ipc import log
    from ipc.descriptors import raise_limit
    from ipc.topics import VENUES
    from simulator.main import run
    from simulator.settings import SimSettings, admin_url, endpoints, pick_ports

    raise_limit()
    log.setup("warning")
    names = tuple(name.strip() for name in venues.split(",")) if venues else VENUES
    bases = tuple(base.strip() for base in markets.split(","))
    ports = pick_ports(names)
    settings = SimSettings(
        ports=ports.venues,
        admin_port=ports.admin,
        venues=names,
        bases=bases,
        rate=rate,
        seed=seed,
        pace=pace,
        tls=tls,
        ca_path=ca_path,
    )

    def ready() -> None:
        if as_json:
            addresses = {name: {"ws": urls.ws, "rest": urls.rest} for name, urls in endpoints(settings).items()}
            trusted = str(Path(ca_path).absolute()) if tls else None
            print_json({"venues": addresses, "admin": admin_url(settings), "ca": trusted})
            sys.stdout.flush()
            return
        for name, urls in endpoints(settings).items():
            click.echo(f"{name:<12} {urls.ws}   {urls.rest}")
        click.echo(f"{'admin':<12} {admin_url(settings)}")
        if tls:
            click.echo(printable(f"{'trust':<12} SSL_CERT_FILE={Path(ca_path).absolute()}"))

    run(settings, ready)
    return 0
