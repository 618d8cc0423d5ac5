"""Imports that the children need, made before the first fork.

An upgrade replaces the package's files while a system runs: a module that a child imported later would be of the other
version, and crash together with those of this one. A restarted child also starts faster.
"""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from typing import Final

from ipc.log import get_log
from supervisor.config import VenueConfig
from workers.accounts.secrets import Secrets
from workers.venues import VENUES
from workers.venues.account import PrivateVenue, private_venue

log = get_log(__name__)

#: Programs of the children, and what libraries import at their first use.
_MODULES: Final = ("supervisor.gateway", "workers.worker", "encodings.idna", "multiprocess.popen_fork")
_SERVING: Final = "supervisor.serving.pages"
_SIMULATOR: Final = "simulator.main"


def preload(
    venues: Mapping[str, VenueConfig], environ: Mapping[str, str], *, is_simulated: bool, is_serving: bool
) -> None:
    """Import everything; signing libraries, which are large, only for accounts whose credentials need them.

    Args:
        venues: Configured venues. A reload may add others.
        environ: Variables that name the credentials.
        is_simulated: True when the simulator is a child as well.
        is_serving: True when the gateway serves HTTP.
    """
    wanted = ((_SIMULATOR, is_simulated), (_SERVING, is_serving))
    for module in (*_MODULES, *(name for name, is_wanted in wanted if is_wanted)):
        import_module(module)
    for name in VENUES:
        venue = venues.get(name)
        side = private_venue(name, venue.options if venue is not None else {})
        if venue is not None and venue.account is not None:
            _preload_signer(side, Secrets(side.secrets, environ))


def _preload_signer(side: PrivateVenue, secrets: Secrets) -> None:
    try:
        side.preload(secrets)
    except Exception as error:
        log.warning("preload.failed", venue=side.venue, error=repr(error))
