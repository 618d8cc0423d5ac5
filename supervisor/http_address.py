"""Address of the gateway's HTTP server: an IP address and a port, or a Unix socket."""

from __future__ import annotations

import ipaddress
import os
import socket
from dataclasses import dataclass, replace
from typing import Final

from ipc.free_ports import free_ports
from ipc.remote import is_ipv6, is_loopback
from ipc.start_directory import absolute

_UNIX: Final = "unix:"
#: Linux: sun_path is 108 bytes with its final zero.
_MAX_SOCKET_PATH: Final = 107
_MAX_PORT: Final = 65_535


@dataclass(frozen=True, slots=True)
class HttpAddress:
    """Address to listen on.

    Attributes:
        host: IP address; empty for a Unix socket.
        port: TCP port; 0 for any free one (:class:`PortChoice`).
        path: Absolute path of a Unix socket; empty for TCP.
    """

    host: str = ""
    port: int = 0
    path: str = ""

    @classmethod
    def parse(cls, text: str) -> HttpAddress:
        """Return the address that ``host:port``, ``[IPv6]:port`` or ``unix:/path`` names; ValueError for others."""
        if text.startswith(_UNIX):
            path = text.removeprefix(_UNIX)
            if not path or not path.isprintable() or len(os.fsencode(absolute(path))) > _MAX_SOCKET_PATH:
                raise ValueError(text)
            return cls(path=absolute(path))
        host, colon, port = text.rpartition(":")
        if not colon or not port.isascii() or not port.isdigit() or int(port) > _MAX_PORT:
            raise ValueError(text)
        if host == "localhost":
            host = "127.0.0.1"
        is_bracketed = host.startswith("[") and host.endswith("]")
        address = ipaddress.ip_address(host[1:-1] if is_bracketed else host)
        if is_bracketed != (address.version == 6):
            raise ValueError(text)
        return cls(str(address), int(port))

    @property
    def url(self) -> str:
        """URL for people and consumers; ``unix:/path`` for a Unix socket."""
        if self.path:
            return _UNIX + self.path
        host = f"[{self.host}]" if is_ipv6(self.host) else self.host
        return f"http://{host}:{self.port}"

    @property
    def is_local(self) -> bool:
        """True when only this machine reaches it."""
        return bool(self.path) or is_loopback(self.host)

    @property
    def family(self) -> socket.AddressFamily:
        """Address family of the socket."""
        if self.path:
            return socket.AF_UNIX
        return socket.AF_INET6 if is_ipv6(self.host) else socket.AF_INET


class PortChoice:
    """Chosen port for each host whose port is configured as 0; the same for the life of the system."""

    def __init__(self) -> None:
        self._ports: dict[str, int] = {}

    def resolve(self, address: HttpAddress | None) -> HttpAddress | None:
        """Return an address with its port; UsageError if there is no free one."""
        if address is None or address.path or address.port:
            return address
        if address.host not in self._ports:
            [self._ports[address.host]] = free_ports(1, address.host)
        return replace(address, port=self._ports[address.host])
