"""Entry point of the simulator process."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Callable

from ipc.log import get_log
from simulator.schedule import Schedule
from simulator.server import Simulation
from simulator.settings import SimSettings, admin_url
from simulator.tls import Contexts, contexts

log = get_log(__name__)

#: Time to send close frames.
_CLOSE_DELAY_S = 0.1


def run(settings: SimSettings, ready: Callable[[], None] | None = None, tls_contexts: Contexts | None = None) -> None:
    """Serve until SIGTERM or SIGINT.

    Args:
        settings: What to simulate.
        ready: Called once, when all ports are listening.
        tls_contexts: Result of :func:`simulator.tls.contexts` for the same settings, so that clients still trust a
            restarted simulator; None creates them now.

    Raises:
        UsageError: TLS is not available.
        ParaphinaError: A port cannot be bound.
    """
    asyncio.run(_serve(settings, ready, contexts(settings) if tls_contexts is None else tls_contexts))


async def _serve(settings: SimSettings, ready: Callable[[], None] | None, tls_contexts: Contexts) -> None:
    loop, stopped = asyncio.get_running_loop(), asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopped.set)
    simulation = Simulation(settings, Schedule(loop), tls_contexts)
    simulation.start()
    log.info("sim.started", admin=admin_url(settings), venues=",".join(settings.venues))
    if ready is not None:
        ready()
    await stopped.wait()
    simulation.stop()
    await asyncio.sleep(_CLOSE_DELAY_S)
    log.info("sim.stopped")
