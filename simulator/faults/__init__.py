"""Registry of the faults that can be injected, by name."""

from __future__ import annotations

from typing import Any

from simulator.faults import accept_modes, accounts, books, catalogue, feed, requests, rows, sockets
from simulator.faults.fault import Fault

_MODULES = (feed, sockets, requests, books, rows, catalogue, accounts, accept_modes)

#: Every class of these modules that sets ``name``: to add a fault, add its class.
FAULTS: dict[str, type[Fault[Any]]] = {
    vars(kind)["name"]: kind
    for module in _MODULES
    for kind in vars(module).values()
    if isinstance(kind, type) and issubclass(kind, Fault) and "name" in vars(kind)
}
