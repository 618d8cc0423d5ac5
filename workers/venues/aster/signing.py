"""Signatures of calls to Aster: with an API key and its secret, or with the private key of an API wallet.

V1 uses an HMAC-SHA256 of the query, V3 the EIP-712 signature of a wallet authorised by the account. Their paths differ;
the answers do not.

Source: Aster, futures API documentation V1 (signed endpoints, account endpoints) and V3 (authentication signature
payload, nonce mechanism, account endpoints).
"""

from __future__ import annotations

import contextlib
import hashlib
import hmac
import re
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import ClassVar, Final
from urllib.parse import urlencode

from workers.accounts import signers
from workers.accounts.secrets import Secrets
from workers.venues.account import LoginError
from workers.venues.aster import LOGIN_METHODS
from workers.venues.venue import RestRequest

#: What it takes to sign in either way.
HMAC_SECRETS, WALLET_SECRETS = LOGIN_METHODS

#: Validity of a request after its timestamp, ms; the maximum, to tolerate clock differences.
_WINDOW_MS: Final = 60_000
#: EIP-712 domain of the signatures: a chain without a deployed contract.
_DOMAIN: Final = {"name": "AsterSignTransaction", "version": "1", "chainId": 1666, "verifyingContract": f"0x{0:040x}"}
#: Form of a key that is safe in a header.
_KEY_FORM: Final = re.compile(r"[A-Za-z0-9_-]+")

#: Private key that everybody knows.
_PUBLIC_KEY: Final = f"0x{1:064x}"


class Signer(ABC):
    """Source of signed requests for one flow of calls; each is signed when it is sent."""

    #: Paths by call.
    paths: ClassVar[Mapping[str, str]]

    def request(
        self, call: str, parameters: Mapping[str, str | int] | None = None, *, method: str = "GET", weight: int = 1
    ) -> RestRequest:
        """Return a request; all signed parameters are in its query."""
        bare = RestRequest(self.paths[call], method=method, weight=weight, headers=self._headers())

        def sign(now_wall_ns: int) -> RestRequest:
            return replace(bare, path=f"{bare.path}?{self._signed(parameters or {}, now_wall_ns)}")

        return replace(bare, sign=sign)

    @abstractmethod
    def _signed(self, parameters: Mapping[str, str | int], now_wall_ns: int) -> str:
        """Return the query with its signature."""

    def _headers(self) -> tuple[tuple[str, str], ...]:
        return ()


@dataclass(slots=True)
class _KeySigner(Signer):
    """Signer for V1: an API key in a header, and an HMAC of the query."""

    paths: ClassVar[Mapping[str, str]] = {
        "listenKey": "/fapi/v1/listenKey",
        "openOrders": "/fapi/v1/openOrders",
        "allOrders": "/fapi/v1/allOrders",
        "userTrades": "/fapi/v1/userTrades",
        "positionRisk": "/fapi/v2/positionRisk",
        "balance": "/fapi/v2/balance",
        "account": "/fapi/v4/account",
    }
    key: str = field(repr=False)
    secret: str = field(repr=False)

    def _signed(self, parameters: Mapping[str, str | int], now_wall_ns: int) -> str:
        now_ms = now_wall_ns // 1_000_000
        query = urlencode({**parameters, "recvWindow": _WINDOW_MS, "timestamp": now_ms})
        signature = hmac.new(self.secret.encode(), query.encode(), hashlib.sha256)
        return f"{query}&signature={signature.hexdigest()}"

    def _headers(self) -> tuple[tuple[str, str], ...]:
        return (("X-MBX-APIKEY", self.key),)


@dataclass(slots=True)
class _WalletSigner(Signer):
    """Signer for V3: the query is signed as a typed message, with a unique nonce in microseconds."""

    paths: ClassVar[Mapping[str, str]] = {
        "listenKey": "/fapi/v3/listenKey",
        "openOrders": "/fapi/v3/openOrders",
        "allOrders": "/fapi/v3/allOrders",
        "userTrades": "/fapi/v3/userTrades",
        "positionRisk": "/fapi/v3/positionRisk",
        "balance": "/fapi/v3/balance",
        "account": "/fapi/v3/accountWithJoinMargin",
    }
    user: str = field(repr=False)
    signer: str = field(repr=False)
    private_key: str = field(repr=False)
    _nonce: int = 0

    def _signed(self, parameters: Mapping[str, str | int], now_wall_ns: int) -> str:
        self._nonce = max(self._nonce + 1, now_wall_ns // 1000)
        query = urlencode({**parameters, "nonce": self._nonce, "user": self.user, "signer": self.signer})
        return f"{query}&signature={_typed_signature(query, self.private_key)}"


def _typed_signature(text: str, private_key: str) -> str:
    """Return the EIP-712 signature of a text by an API wallet, in hexadecimal.

    Raises:
        LoginError: The signing library is missing, or the key is invalid.
    """
    try:
        library = signers.load("eth_account")
        messages = signers.load("eth_account.messages")
    except ImportError:
        advice = "pip install 'paraphina-supervisor[private]', or use ASTER_API_KEY and ASTER_API_SECRET"
        raise LoginError(f"signing with a wallet needs eth-account ({advice})") from None
    types = {"Message": [{"name": "msg", "type": "string"}]}
    try:
        message = messages.encode_typed_data(_DOMAIN, types, {"msg": text})
        signature: bytes = library.Account.sign_message(message, private_key).signature
    except Exception:
        # The library's errors may hold the key.
        raise LoginError("ASTER_SIGNER_KEY is no private key") from None
    return f"0x{bytes(signature).hex()}"


def preload_signer(secrets: Secrets) -> None:
    """Load the signing library if it is needed, with what it loads at its first signature: one with a public key."""
    if secrets.has(*WALLET_SECRETS):
        with contextlib.suppress(LoginError):  # not installed; the login reports it
            _typed_signature("", _PUBLIC_KEY)


def can_sign(secrets: Secrets) -> bool:
    """Return whether the secrets suffice for either method."""
    return secrets.has(*HMAC_SECRETS) or secrets.has(*WALLET_SECRETS)


def signer_of(secrets: Secrets) -> Signer:
    """Return the signer for a flow of calls; with secrets for both methods, the newer one, by wallet.

    Raises:
        LoginError: The API key is malformed.
    """
    if secrets.has(*WALLET_SECRETS):
        user, signer, private_key = map(secrets.get, WALLET_SECRETS)
        return _WalletSigner(user, signer, private_key)
    key, secret = map(secrets.get, HMAC_SECRETS)
    if not _KEY_FORM.fullmatch(key):
        raise LoginError("ASTER_API_KEY is no API key: it has characters that none has")
    return _KeySigner(key, secret)
