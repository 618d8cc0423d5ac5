"""Removal of private values from recorded text: credentials, signatures, listen keys, account identities.

Values are recognised by their names, by their places in URLs and channels, and by their form. Each is replaced by a
placeholder of its type, the same one at every occurrence; everything else stays unchanged.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from typing import Final

#: Parts of names (letters and digits only) whose values are credentials or identities.
_PRIVATE: Final = (
    *("signature", "listenkey", "apikey", "secret", "jwt", "bearer", "authorization", "password", "passphrase"),
    *("privatekey", "cookie", "account", "user", "address", "wallet", "owner", "trader", "referral"),
    *("notification", "pool", "email", "mnemonic"),
)
#: The same, for whole names.
_PRIVATE_WHOLE: Final = frozenset({"auth", "sig", "maker", "taker", "client", "vault", "uid", "ip"})
#: A token may also be a coin, whose name is short.
_TOKEN_LENGTH: Final = 12
#: Values found to be private are removed everywhere, unless they are too short to be distinctive.
_MIN_KNOWN: Final = 6
_MIN_DIGITS: Final = 12

_SCALAR: Final = r'\\*"(?:[^"\\]|\\[^"])*?\\*"|-?\d+(?:\.\d+)?(?:[eE][+-]?\d+)?'
_LIST: Final = rf"\[\s*(?:{_SCALAR})(?:\s*,\s*(?:{_SCALAR}))*\s*\]"
_MEMBER: Final = re.compile(rf'(?P<head>\\*"(?P<name>[A-Za-z0-9_.\- ]+)\\*"\s*:\s*)(?P<value>{_SCALAR}|{_LIST})')
_ONE: Final = re.compile(_SCALAR)
_HEADER: Final = re.compile(
    r"(?i)(?<![\w-])(?P<name>[a-z][a-z0-9-]*)(?P<head>:\s+(?:bearer\s+|basic\s+)?)(?P<value>[^\"'\\\r\n,]+)"
)
_QUERY: Final = re.compile(r"(?<![\w-])(?P<name>[A-Za-z0-9_-]+)(?P<head>=|%3[Dd])(?P<value>[^&\s\"'\\#;,]+)")
_CHANNEL: Final = re.compile(r"(?<![A-Za-z_])(?P<name>[A-Za-z_]+)(?P<head>[/:.]|\s#?)(?P<value>\d+|0x[0-9a-fA-F]+)")
_PLACES: Final = (
    re.compile(r"(?P<head>://)(?P<value>[^/\s\"'\\@]+)(?=@)"),
    re.compile(r"(?P<head>by=(?:index|l1_address)&value=)(?P<value>[^&\s\"'\\]+)"),
)
_FORMS: Final = (
    re.compile(r"\beyJ[\w-]+\.[\w-]+\.?[\w-]*"),  # a JWT: RFC 7519
    re.compile(r"\b0x[0-9a-fA-F]{38,}"),  # addresses, hashes and signatures of chains
    re.compile(r"\bro:\d+:[^\s\"\\]+"),  # Lighter's read-only tokens
    re.compile(r"\b\d{9,}:\d+:\d+:[0-9a-fA-F]{16,}"),  # and signed tokens
    re.compile(r"(?<![\w+/])[A-Za-z0-9+/]{30,}={1,2}(?![\w=])"),  # base64 with its padding
    re.compile(
        r"(?:(?<![\w+-])|(?<=%[23][DdFf]))(?=[\w+-]*\d)(?=[\w+-]*[A-Za-z])[\w+-]{40,}={0,2}"
    ),  # keys of the other venues
)


class Hiding:
    """Consistent placeholders for private values across texts.

    Args:
        known: Values that are always private, such as the credentials of this machine.
    """

    def __init__(self, known: Iterable[str] = ()) -> None:
        self._numbers: dict[str, int] = {}
        #: Private values to remove anywhere, longest first, since one may contain another.
        self._anywhere: list[str] = []
        for value in known:
            self._numbers.setdefault(value, len(self._numbers) + 1)
            self._anywhere.append(value)
        self._anywhere.sort(key=len, reverse=True)

    def text(self, text: str) -> str:
        """Return ``text`` with private values replaced by placeholders."""
        return self._without(text, self._stand_in)

    def binary(self, payload: bytes) -> bytes:
        """Return ``payload`` with private text overwritten in place, at the same length."""

        def blot(value: str) -> str:
            self._number(value)
            return "x" * len(value)

        return self._without(payload.decode("latin-1"), blot).encode("latin-1")

    def _without(self, text: str, stand_in: Callable[[str], str]) -> str:
        def member(found: re.Match[str]) -> str:
            value = found["value"]
            if not _is_private(found["name"], value):
                return found[0]
            return found["head"] + _ONE.sub(lambda one: _quoted(one[0], stand_in), value)

        def named(found: re.Match[str]) -> str:
            if not _is_private(found["name"], found["value"]):
                return found[0]
            return found["name"] + found["head"] + stand_in(found["value"])

        text = _MEMBER.sub(member, text)
        for pattern in (_HEADER, _QUERY, _CHANNEL):
            text = pattern.sub(named, text)
        for pattern in _PLACES:
            text = pattern.sub(lambda found: found["head"] + stand_in(found["value"]), text)
        for pattern in _FORMS:
            text = pattern.sub(lambda found: stand_in(found[0]), text)
        for value in self._anywhere:
            text = text.replace(value, stand_in(value))
        return text

    def _stand_in(self, value: str) -> str:
        if value.startswith("hidden-") or _is_stand_in(value):
            return value
        number = self._number(value)
        if value.startswith("0x"):
            return f"0x{number:0{max(1, len(value) - 2)}x}"
        return str(number) if value.lstrip("-").replace(".", "", 1).isdecimal() else f"hidden-{number}"

    def _number(self, value: str) -> int:
        if value not in self._numbers:
            self._numbers[value] = len(self._numbers) + 1
            if _is_telling(value):
                self._anywhere = sorted((*self._anywhere, value), key=len, reverse=True)
        return self._numbers[value]


def _is_telling(value: str) -> bool:
    """Return whether a value found by its name is distinctive enough to be removed everywhere."""
    if any(pattern.fullmatch(value) for pattern in _FORMS):
        return False  # recognised by its form everywhere
    if value.isdecimal():
        return len(value) >= _MIN_DIGITS
    return len(value) >= _MIN_KNOWN and any(character.isdecimal() for character in value)


def _quoted(scalar: str, stand_in: Callable[[str], str]) -> str:
    """Replace the content of a quoted scalar, however its quotes are escaped."""
    text = scalar.strip('\\"')
    if not text:
        return scalar
    quote = scalar[: len(scalar) - len(scalar.lstrip('\\"'))]
    return quote + stand_in(text) + quote


def _is_private(name: str, value: str) -> bool:
    """Return whether values of this name identify someone or grant access."""
    plain = "".join(character for character in name.lower() if character.isalnum())
    if plain in _PRIVATE_WHOLE or any(part in plain for part in _PRIVATE):
        return True
    return "token" in plain and len(value) >= _TOKEN_LENGTH


def _is_stand_in(value: str) -> bool:
    """Return whether a value is a placeholder: hexadecimal zeros ending in a small number."""
    return value.startswith("0x") and len(value) >= 40 and value[2:-6].strip("0") == ""
