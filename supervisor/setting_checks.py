"""Checks of single settings: each converts a value from file, environment or command line, or says what is expected."""

from __future__ import annotations

import difflib
import ipaddress
import os
import re
from collections.abc import Callable, Iterable
from typing import Any, Final
from urllib.parse import urlsplit

from ipc.start_directory import absolute
from ipc.topics import base_of
from supervisor.http_address import HttpAddress
from workers.venues import VENUES

#: Returns the converted value, or raises ValueError with what is expected.
Check = Callable[[object], Any]
_MAX_MARKETS: Final = 256
_SPACE: Final = re.compile(r"\s")
_MAX_HOST_NAMES: Final = 32
_HOST_NAME: Final = re.compile(r"(?=.{1,253}$)[a-z0-9_]([a-z0-9_-]{0,62})(\.[a-z0-9_]([a-z0-9_-]{0,62}))*")
_ALIAS: Final = re.compile(r"(?!0x)[a-z][a-z0-9_-]{0,23}")


def whole(least: int, most: int) -> Check:
    """Return the check of a whole number within bounds."""

    def check(raw: object) -> int:
        try:
            number = int(raw) if isinstance(raw, str) else raw
        except ValueError:
            number = None
        if not isinstance(number, int) or isinstance(number, bool) or not least <= number <= most:
            raise ValueError(f"a whole number from {least} to {most}")
        return number

    return check


def share(raw: object) -> float:
    """Check a number from 0 to 1."""
    try:
        number = float(raw) if isinstance(raw, int | float | str) and not isinstance(raw, bool) else -1.0
    except ValueError:
        number = -1.0
    if not 0.0 <= number <= 1.0:
        raise ValueError("a number from 0 to 1")
    return number


def part(raw: object) -> float:
    """Check a number over 0, at most 1."""
    try:
        number = share(raw)
    except ValueError:
        number = 0.0
    if number == 0.0:
        raise ValueError("a number over 0, at most 1")
    return number


def one_of(*words: str) -> Check:
    """Return the check of one of some words."""

    def check(raw: object) -> str:
        if raw not in words:
            raise ValueError(f"one of {', '.join(words)}")
        return str(raw)

    return check


def names(raw: object) -> list[str]:
    """Check a list of names, in a list or separated by commas."""
    found = raw.split(",") if isinstance(raw, str) else raw
    if not isinstance(found, list) or not all(isinstance(name, str) for name in found):
        raise ValueError("a list of names")
    return [name.strip() for name in found if name.strip()]


def venues(raw: object) -> tuple[str, ...]:
    """Check names of venues; return them in the order of the venues."""
    found = names(raw)
    unknown = [name for name in found if name not in VENUES]
    if unknown:
        raise ValueError(f"names of venues, not {close(unknown[0], VENUES)}")
    if not found:
        raise ValueError("at least one venue")
    if len(set(found)) < len(found):
        raise ValueError("each venue once")
    return tuple(name for name in VENUES if name in found)


def markets(raw: object) -> tuple[str, ...]:
    """Check names of markets; return their base assets, each once."""
    bases = []
    for name in names(raw):
        base = base_of(name)
        if base is None:
            raise ValueError(f"base assets in capitals, as BTC or BTC-PERP; not {name!r}")
        bases.append(base)
    if not bases or len(bases) > _MAX_MARKETS:
        raise ValueError(f"1 to {_MAX_MARKETS} base assets")
    return tuple(dict.fromkeys(bases))


def url(*schemes: str) -> Check:
    """Return the check of a URL with one of some schemes."""

    def check(raw: object) -> str:
        if not isinstance(raw, str) or not _is_url(raw, schemes):
            raise ValueError(f"a URL that starts with {' or '.join(schemes)} and names a host")
        return raw.rstrip("/")

    return check


def _is_url(text: str, schemes: tuple[str, ...]) -> bool:
    """Return whether a worker can parse and dial a URL; else it would crash on every start."""
    try:
        parts = urlsplit(text)
        return parts.scheme in schemes and bool(parts.hostname) and parts.port != 0 and not _SPACE.search(text)
    except ValueError:
        return False


def host(raw: object) -> str:
    """Check an address to listen on."""
    try:
        return str(ipaddress.ip_address(str(raw)))
    except ValueError:
        raise ValueError("the address of this machine to listen on, as 127.0.0.1") from None


def flag(raw: object) -> bool:
    """Check a choice between true and false; in an environment variable also 1 and 0."""
    words = {"true": True, "1": True, "false": False, "0": False}
    found = words.get(raw.lower()) if isinstance(raw, str) else raw
    if not isinstance(found, bool):
        raise ValueError("true or false")  # noqa: TRY004 - as every check does
    return found


def http_address(raw: object) -> str:
    """Check an address for HTTP; empty for none. Return it with an absolute path, if it is a Unix socket."""
    if raw == "":
        return ""
    try:
        address = HttpAddress.parse(str(raw))
    except ValueError:
        raise ValueError('"127.0.0.1:9464", "[::1]:9464", "unix:/path/to/socket", or "" for none') from None
    return f"unix:{address.path}" if address.path else str(raw)


def host_names(raw: object) -> tuple[str, ...]:
    """Check names of hosts, without ports; return them in small letters."""
    found = [name.lower() for name in names(raw)]
    wrong = [name for name in found if not _HOST_NAME.fullmatch(name)]
    if wrong or len(found) > _MAX_HOST_NAMES:
        raise ValueError(f"at most {_MAX_HOST_NAMES} names of hosts without ports, as paraphina.example.com")
    return tuple(dict.fromkeys(found))


def alias(raw: object) -> str:
    """Check the public name of an account, which is part of topics: an address or a key is refused."""
    if not isinstance(raw, str) or not _ALIAS.fullmatch(raw):
        raise ValueError("a short name for the account, in small letters, digits, - and _ (never an address or a key)")
    return raw


def directory(raw: object) -> str:
    """Check that a directory of recordings exists; else workers would silently connect to the venues."""
    path = absolute_path(raw)
    # Path.is_dir() raises for a name that is too long, or below a directory without permission.
    if not os.path.isdir(path) or not os.access(path, os.R_OK | os.X_OK):  # noqa: PTH112
        raise ValueError("a directory that exists and can be read")
    return path


def new_directory(raw: object) -> str:
    """Check that a directory exists or that nothing has its name."""
    path = absolute_path(raw)
    if os.path.lexists(path) and not os.path.isdir(path):  # noqa: PTH112 - as in directory
        raise ValueError("a directory, or the name of one that can be created")
    return path


def absolute_path(raw: object) -> str:
    """Check a path; return it as an absolute one, because a system in the background leaves its directory."""
    # Unprintable characters (a zero byte, invalid UTF-8) fit neither a socket's path nor the description.
    if not isinstance(raw, str) or not raw or not raw.isprintable():
        raise ValueError("a path of printable characters")
    return absolute(raw)


def close(name: str, known: Iterable[str]) -> str:
    """Return the name with the most similar known one, or with all known ones."""
    near = difflib.get_close_matches(name, list(known), n=1)
    return f"{name!r}; did you mean {near[0]!r}?" if near else f"{name!r}; known are {', '.join(sorted(known))}"
