"""Free TCP ports of this machine."""

from __future__ import annotations

import random
import socket
from typing import Final

from ipc.errors import UsageError

#: Below Linux's ephemeral range (32768 and up): while a port is closed, the system cannot assign it to an outgoing
#: connection, and no client can connect to itself.
_PORTS: Final = range(20_000, 32_000)


def free_ports(count: int, host: str) -> list[int]:
    """Return free ports of an IP address; other programs may still bind them first.

    Raises:
        UsageError: There are not enough.
    """
    found: list[int] = []
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    for port in random.SystemRandom().sample(_PORTS, len(_PORTS)):
        with socket.socket(family) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((host, port))
            except OSError:
                continue
        found.append(port)
        if len(found) == count:
            return found
    raise UsageError(f"no {count} free ports", where=host, advice="end other programs that listen there")
