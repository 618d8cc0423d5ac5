"""Credentials that simulated venues accept, and the tokens that they issue and verify.

The names and keys below belong to the single account of each venue. They are public and work only with a simulator.
Tokens are signed with a key derived from the seed, so that a restarted simulator still accepts them.
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

#: ``HL_VAULT_ADDRESS``. Any other address belongs to an empty account.
HYPERLIQUID_ADDRESS: Final = "0x00000000000000000000000000000000000051e0"
#: Address of an API wallet of that account: it signs, and its own account is empty.
HYPERLIQUID_AGENT: Final = "0x00000000000000000000000000000000000a9e17"
#: ``LIGHTER_ACCOUNT_INDEX`` and ``LIGHTER_API_KEY_INDEX``; tokens come from the admin API.
LIGHTER_ACCOUNT: Final = 1234
LIGHTER_KEY_INDEX: Final = 2
#: ``ASTER_API_KEY`` and ``ASTER_API_SECRET``.
ASTER_KEY: Final = "sim-key"
ASTER_SECRET: Final = "sim-secret"  # noqa: S105 - public on purpose
#: ``ASTER_USER`` and ``ASTER_SIGNER``: the address of the private key 1. Signatures are not verified.
ASTER_USER: Final = "0x7e5f4552091a69125d5dfcb7b8c2659029395bdf"
#: ``PARADEX_ACCOUNT``. Signatures are not verified.
PARADEX_ACCOUNT: Final = "0x51e0"
#: ``EXTENDED_API_KEY``.
EXTENDED_KEY: Final = "sim-api-key"

_RO = "ro"
#: Length of a signature of Lighter's own signer, in hexadecimal digits.
_SIGNED_DIGITS = 160


class Denial(Enum):
    """Reason to reject credentials."""

    MISSING = auto()
    MALFORMED = auto()
    INVALID = auto()
    EXPIRED = auto()


class DeniedError(Exception):
    """Raised for rejected credentials."""

    def __init__(self, denial: Denial) -> None:
        super().__init__(denial.name.lower())
        self.denial = denial


def seal(secret: str, text: str) -> str:
    """Return the HMAC-SHA256 in hexadecimal digits."""
    return hmac.new(secret.encode(), text.encode(), hashlib.sha256).hexdigest()


class TokenRegistry:
    """Known tokens, and those that were revoked before their expiry."""

    def __init__(self) -> None:
        self._numbers = count(1)
        self._known: set[str] = set()
        self._revoked: set[str] = set()

    def revoke_all(self) -> None:
        """Revoke all known tokens."""
        self._revoked |= self._known
        self._known.clear()

    def _register(self, token: str) -> str:
        """Register a valid token and return it.

        Raises:
            DeniedError: The token is revoked.
        """
        if token in self._revoked:
            raise DeniedError(Denial.EXPIRED)
        self._known.add(token)
        return token


class TokenIssuer(TokenRegistry):
    """Issuer of Lighter's tokens.

    Formats: ``{expiry}:{account}:{key index}:{seal}``, and ``ro:{account}:{single|all}:{expiry}:{seal}`` (read-only).

    Signatures of the venue's own signer cannot be verified here: any of the right length is accepted.

    Args:
        seed: Seed of the signing key.
        account: Account of the venue.
        key_index: Index of its API key.
    """

    def __init__(self, seed: object, account: int, key_index: int) -> None:
        super().__init__()
        self._secret = f"{seed}:token"
        self._account = str(account)
        self._key_index = str(key_index)

    def issue(self, expiry_s: int, *, is_read_only: bool = False) -> str:
        """Issue a token that is valid until ``expiry_s`` (wall clock)."""
        if is_read_only:
            body = f"{_RO}:{self._account}:single:{expiry_s}"
        else:
            body = f"{expiry_s}:{self._account}:{self._key_index}"
        salt = f"{next(self._numbers):08x}"
        return self._register(f"{body}:{salt}{seal(self._secret, body + salt)}")

    def check(self, token: str | None, now_s: float) -> None:
        """Verify a token.

        Raises:
            DeniedError: Missing, of another account, badly signed, or expired.
        """
        if not token:
            raise DeniedError(Denial.MISSING)
        body, _, sealed = token.rpartition(":")
        expiry = self._expiry(body)
        if expiry is None or not self._is_sealed(body, sealed):
            raise DeniedError(Denial.INVALID)
        if expiry <= now_s:
            raise DeniedError(Denial.EXPIRED)
        self._register(token)

    def _expiry(self, body: str) -> int | None:
        """Return the expiry that a token of this account states; None if malformed."""
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


class JwtIssuer(TokenRegistry):
    """Issuer of Paradex' bearer tokens: JWTs, signed with HS256 instead of the venue's algorithm.

    Args:
        seed: Seed of the signing key.
    """

    def __init__(self, seed: object) -> None:
        super().__init__()
        self._secret = f"{seed}:jwt".encode()

    def issue(self, account: str, now_s: float, lifetime_s: float) -> str:
        """Issue a token for an account."""
        claims = {"iss": "simulator", "sub": account, "iat": int(now_s), "exp": now_s + lifetime_s}
        parts = [{"alg": "HS256", "typ": "JWT"}, {**claims, "jti": str(next(self._numbers))}]
        text = ".".join(_encoded(msgspec.json.encode(part)) for part in parts)
        return self._register(f"{text}.{self._seal(text)}")

    def check(self, token: str | None, now_s: float) -> str:
        """Verify a token and return its account.

        Raises:
            DeniedError: Missing, malformed, badly signed, or expired.
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
        self._register(token)
        return str(claims["sub"])

    def _seal(self, text: str) -> str:
        return _encoded(hmac.new(self._secret, text.encode(), hashlib.sha256).digest())


class ListenKeys:
    """Issuer of Aster's listen key: at most one at a time, valid for a limited period.

    Args:
        seed: Seed of the keys.
        lifetime_s: Validity of a key.
    """

    def __init__(self, seed: object, lifetime_s: float) -> None:
        self._seed = seed
        self._lifetime_s = lifetime_s
        self._numbers = count(1)
        self._until_s = 0.0
        self._key = ""

    def current(self, now_s: float) -> str | None:
        """Return the key if it is valid now."""
        return self._key if self._key and now_s < self._until_s else None

    def open(self, now_s: float) -> str:
        """Return the valid key, or create one; its validity restarts now."""
        if self.current(now_s) is None:
            self._key = hashlib.sha256(f"{self._seed}:{next(self._numbers)}".encode()).hexdigest()
        self._until_s = now_s + self._lifetime_s
        return self._key

    def extend(self, now_s: float) -> bool:
        """Restart the validity of the key; return False if there is none."""
        if self.current(now_s) is None:
            return False
        self._until_s = now_s + self._lifetime_s
        return True

    def drop(self) -> str | None:
        """Invalidate the key and return it."""
        dropped, self._key = self._key or None, ""
        return dropped


def _encoded(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def _claims(text: str) -> dict[str, Any]:
    """Return the claims of a token with a valid signature.

    Raises:
        DeniedError: Malformed all the same.
    """
    body = text.partition(".")[2]
    try:
        claims: dict[str, Any] = msgspec.json.decode(base64.urlsafe_b64decode(body + "=" * (-len(body) % 4)))
    except (ValueError, binascii.Error) as error:
        raise DeniedError(Denial.MALFORMED) from error
    return claims
