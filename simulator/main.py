"""The entry point of the simulator's process."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Callable

from ipc.log import get_log
from simulator.schedule import Schedule
from simulator.server import Simulation
from simulator.settings import SimSettings, admin_url

__all__ = ["run"]

log = get_log(__name__)

#: Time for close frames to leave.
_FAREWELL_S = 0.1


def run(settings: SimSettings, ready: Callable[[], None] | None = None) -> None:
    """Serve until SIGTERM or SIGINT.

    Args:
        settings: What to simulate.
        ready: Called once, when all ports listen.

    Raises:
        ParaphinaError: A port cannot be bound.
    """
    asyncio.run(_serve(settings, ready))


async def _serve(settings: SimSettings, ready: Callable[[], None] | None) -> None:
    loop, stopped = asyncio.get_running_loop(), asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopped.set)
    simulation = Simulation(settings, Schedule(loop))
    await simulation.start()
    log.info("sim.started", admin=admin_url(settings), venues=",".join(settings.venues))
    if ready is not None:
        ready()
    await stopped.wait()
    simulation.stop()
    await asyncio.sleep(_FAREWELL_S)
    log.info("sim.stopped")
