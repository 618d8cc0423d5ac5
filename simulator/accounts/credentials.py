"""The credentials that simulated venues accept, and the tokens that they hand out and check.

The names and keys below are those of the one account that each venue serves. They are public, and good for nothing
but a simulator. Tokens are sealed with a key made from the seed, so that a simulator that is started again knows them.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
from enum import Enum, auto
from itertools import count
from typing import Any, Final

import msgspec

__all__ = [
    "ASTER_KEY",
    "ASTER_SECRET",
    "ASTER_USER",
    "EXTENDED_KEY",
    "HYPERLIQUID_ADDRESS",
    "HYPERLIQUID_AGENT",
    "LIGHTER_ACCOUNT",
    "LIGHTER_KEY_INDEX",
    "PARADEX_ACCOUNT",
    "Denial",
    "DeniedError",
    "JwtIssuer",
    "ListenKeys",
    "TokenIssuer",
    "seal",
]

#: ``HL_VAULT_ADDRESS``. Any other address is that of an empty account.
HYPERLIQUID_ADDRESS: Final = "0x00000000000000000000000000000000000051e0"
#: The address of an API wallet of that account: it signs, and has an account of its own, which is empty.
HYPERLIQUID_AGENT: Final = "0x00000000000000000000000000000000000a9e17"
#: ``LIGHTER_ACCOUNT_INDEX`` and ``LIGHTER_API_KEY_INDEX``; tokens come from the admin API.
LIGHTER_ACCOUNT: Final = 1234
LIGHTER_KEY_INDEX: Final = 2
#: ``ASTER_API_KEY`` and ``ASTER_API_SECRET``.
ASTER_KEY: Final = "sim-key"
ASTER_SECRET: Final = "sim-secret"  # noqa: S105 - it is meant to be known
#: ``ASTER_USER`` and ``ASTER_SIGNER``: the address of the private key 1. Signatures are not computed after.
ASTER_USER: Final = "0x7e5f4552091a69125d5dfcb7b8c2659029395bdf"
#: ``PARADEX_ACCOUNT``. Signatures are not computed after.
PARADEX_ACCOUNT: Final = "0x51e0"
#: ``EXTENDED_API_KEY``.
EXTENDED_KEY: Final = "sim-api-key"

_RO = "ro"
#: The length of a signature by Lighter's own signer, in hexadecimal digits.
_SIGNED_DIGITS = 160


class Denial(Enum):
    """Why credentials are not accepted."""

    MISSING = auto()
    MALFORMED = auto()
    INVALID = auto()
    EXPIRED = auto()


class DeniedError(Exception):
    """Credentials are not accepted."""

    def __init__(self, denial: Denial) -> None:
        super().__init__(denial.name.lower())
        self.denial = denial


def seal(secret: str, text: str) -> str:
    """HMAC-SHA256 in hexadecimal digits."""
    return hmac.new(secret.encode(), text.encode(), hashlib.sha256).hexdigest()


class Revocations:
    """Tokens that were handed out or seen, and those of them that were made to expire before their time."""

    def __init__(self) -> None:
        self._known: set[str] = set()
        self._revoked: set[str] = set()

    def note(self, token: str) -> str:
        """Remember a token, which is returned."""
        self._known.add(token)
        return token

    def revoke_all(self) -> None:
        """Let every token expire that is known."""
        self._revoked |= self._known
        self._known.clear()

    def check(self, token: str) -> None:
        """Remember a good token.

        Raises:
            DeniedError: It was made to expire.
        """
        if token in self._revoked:
            raise DeniedError(Denial.EXPIRED)
        self._known.add(token)


class TokenIssuer:
    """Lighter's tokens: ``{expiry}:{account}:{key index}:{seal}``, and ``ro:{account}:{single|all}:{expiry}:{seal}``.

    What the venue's own signer makes cannot be computed after here: any seal of that length is taken for good.

    Args:
        seed: Makes the key.
        account: The account that is served.
        key_index: Its API key.
    """

    def __init__(self, seed: object, account: int, key_index: int) -> None:
        self._secret = f"{seed}:token"
        self._account = str(account)
        self._key_index = str(key_index)
        self._numbers = count(1)
        self._revocations = Revocations()

    def issue(self, expiry_s: int, *, is_read_only: bool = False) -> str:
        """A token that is good until ``expiry_s`` (wall clock)."""
        if is_read_only:
            body = f"{_RO}:{self._account}:single:{expiry_s}"
        else:
            body = f"{expiry_s}:{self._account}:{self._key_index}"
        salt = f"{next(self._numbers):08x}"
        return self._revocations.note(f"{body}:{salt}{seal(self._secret, body + salt)}")

    def revoke_all(self) -> None:
        """Let every token expire that is known."""
        self._revocations.revoke_all()

    def check(self, token: str | None, now_s: float) -> None:
        """Accept a token.

        Raises:
            DeniedError: It is missing, not of the account, badly sealed, or expired.
        """
        if not token:
            raise DeniedError(Denial.MISSING)
        body, _, sealed = token.rpartition(":")
        expiry = self._expiry(body)
        if expiry is None or not self._is_sealed(body, sealed):
            raise DeniedError(Denial.INVALID)
        if expiry <= now_s:
            raise DeniedError(Denial.EXPIRED)
        self._revocations.check(token)

    def _expiry(self, body: str) -> int | None:
        """When a token of this account expires, by its own words; None when they make no sense."""
        match body.split(":"):
            case ["ro", account, "single" | "all", expiry] if account == self._account and expiry.isdecimal():
                return int(expiry)
            case [expiry, account, index] if (account, index) == (self._account, self._key_index):
                return int(expiry) if expiry.isdecimal() else None
        return None

    def _is_sealed(self, body: str, sealed: str) -> bool:
        if len(sealed) == _SIGNED_DIGITS:
            return all(digit in "0123456789abcdef" for digit in sealed)
        return hmac.compare_digest(sealed[8:].encode(), seal(self._secret, body + sealed[:8]).encode())


class JwtIssuer:
    """Paradex's bearer tokens: JWTs, sealed with HS256 here, where the venue takes another algorithm.

    Args:
        seed: Makes the key.
    """

    def __init__(self, seed: object) -> None:
        self._secret = f"{seed}:jwt".encode()
        self._numbers = count(1)
        self._revocations = Revocations()

    def issue(self, account: str, now_s: float, lasts_s: float) -> str:
        """A token for an account."""
        claims = {"iss": "simulator", "sub": account, "iat": int(now_s), "exp": now_s + lasts_s}
        parts = [{"alg": "HS256", "typ": "JWT"}, {**claims, "jti": str(next(self._numbers))}]
        text = ".".join(_encoded(msgspec.json.encode(part)) for part in parts)
        return self._revocations.note(f"{text}.{self._seal(text)}")

    def revoke_all(self) -> None:
        """Let every token expire that is known."""
        self._revocations.revoke_all()

    def check(self, token: str | None, now_s: float) -> str:
        """The account that a token is for.

        Raises:
            DeniedError: It is missing, no token, badly sealed, or expired.
        """
        if not token:
            raise DeniedError(Denial.MISSING)
        if token.count(".") != 2:
            raise DeniedError(Denial.MALFORMED)
        text, _, sealed = token.rpartition(".")
        if not hmac.compare_digest(sealed.encode(), self._seal(text).encode()):
            raise DeniedError(Denial.INVALID)
        claims = _claims(text)
        if claims["exp"] <= now_s:
            raise DeniedError(Denial.EXPIRED)
        self._revocations.check(token)
        return str(claims["sub"])

    def _seal(self, text: str) -> str:
        return _encoded(hmac.new(self._secret, text.encode(), hashlib.sha256).digest())


class ListenKeys:
    """Aster's key to the user data stream: there is at most one, which is good for a while.

    Args:
        seed: Makes the keys.
        lasts_s: For how long a key is good.
    """

    def __init__(self, seed: object, lasts_s: float) -> None:
        self._seed = seed
        self._lasts_s = lasts_s
        self._numbers = count(1)
        self._until_s = 0.0
        self._key = ""

    def current(self, now_s: float) -> str | None:
        """The key that is good now."""
        return self._key if self._key and now_s < self._until_s else None

    def open(self, now_s: float) -> str:
        """The key, another one if there is none that is good; it is good for the whole time from now on."""
        if self.current(now_s) is None:
            self._key = hashlib.sha256(f"{self._seed}:{next(self._numbers)}".encode()).hexdigest()
        self._until_s = now_s + self._lasts_s
        return self._key

    def extend(self, now_s: float) -> bool:
        """Let the key be good for the whole time again; False when there is none."""
        if self.current(now_s) is None:
            return False
        self._until_s = now_s + self._lasts_s
        return True

    def drop(self) -> str | None:
        """Let the key be good no more; which one that was."""
        dropped, self._key = self._key or None, ""
        return dropped


def _encoded(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def _claims(text: str) -> dict[str, Any]:
    """What a token whose seal is good claims.

    Raises:
        DeniedError: It is no token all the same.
    """
    body = text.partition(".")[2]
    try:
        claims: dict[str, Any] = msgspec.json.decode(base64.urlsafe_b64decode(body + "=" * (-len(body) % 4)))
    except (ValueError, binascii.Error) as error:
        raise DeniedError(Denial.MALFORMED) from error
    return claims
