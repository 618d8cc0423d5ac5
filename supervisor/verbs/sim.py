"""``sim``: the simulated venues alone, for other clients."""

from __future__ import annotations

import click

__all__ = ["sim"]


@click.command()
@click.option("--venues", metavar="A,B", help="Only these venues.")
@click.option("--markets", metavar="BTC,ETH", default="BTC,ETH", show_default=True, help="Base assets.")
@click.option("--rate", type=click.FloatRange(1, 1000), default=50.0, show_default=True, help="Frames/s and venue.")
@click.option("--seed", type=int, default=1, show_default=True, help="Same seed, same market.")
@click.option("--pace", type=click.FloatRange(min=0.001), default=1.0, show_default=True, help="Shortens keep-alives.")
def sim(venues: str | None, markets: str, rate: float, seed: int, pace: float) -> int:
    """Run the simulated venues in the foreground and print their addresses."""
    from ipc import log
    from simulator.main import run
    from simulator.settings import VENUES, SimSettings, admin_url, endpoints, pick_ports

    log.setup("warning")
    names = tuple(name.strip() for name in venues.split(",")) if venues else VENUES
    bases = tuple(base.strip() for base in markets.split(","))
    ports = pick_ports(names)
    settings = SimSettings(
        ports=ports.venues, admin_port=ports.admin, venues=names, bases=bases, rate=rate, seed=seed, pace=pace
    )

    def ready() -> None:
        for name, urls in endpoints(settings).items():
            click.echo(f"{name:<12} {urls.ws}   {urls.rest}")
        click.echo(f"{'admin':<12} {admin_url(settings)}")

    run(settings, ready)
    return 0
