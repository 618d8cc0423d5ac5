"""JWT of a Paradex account: configured, or requested with a signature of the account's Stark key.

Source: Paradex, REST API documentation (authentication) and its Python SDK for the signed message.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Mapping
from typing import Any, Final

import msgspec

from ipc.health import Reason
from workers.accounts import signers
from workers.accounts.secrets import Secrets
from workers.venues.account import LoginError, RestFlow
from workers.venues.paradex import LOGIN_METHODS
from workers.venues.venue import RestRequest, parsed

(_JWT,), (_ACCOUNT, _PRIVATE_KEY) = LOGIN_METHODS
#: Names of all secrets that an account may use.
SECRETS: Final = (_JWT, _ACCOUNT, _PRIVATE_KEY)

_NS_PER_S: Final = 1_000_000_000
#: Validity of a signature, s. A JWT is valid for 5 minutes in any case.
_SIGNATURE_S: Final = 300
_JWT_FORM: Final = re.compile(r"[A-Za-z0-9_.=-]+")
_ADDRESS_FORM: Final = re.compile(r"0x[0-9a-fA-F]{1,64}")
#: Address and private key that everybody knows.
_PUBLIC_KEY: Final = "0x1"
_CHAIN_MAINNET: Final = "PRIVATE_SN_PARACLEAR_MAINNET"
_CHAIN_TESTNET: Final = "PRIVATE_SN_POTC_SEPOLIA"
#: Words in error codes that concern the credentials.
_CREDENTIALS: Final = ("TOKEN", "SIGNATURE", "ONBOARD", "STARKNET_ADDRESS", "UNAUTHORIZED", "JWT")


class _Answer(msgspec.Struct):
    jwt_token: str


class _Error(msgspec.Struct):
    error: str
    message: str | None = None


_answers: Final = msgspec.json.Decoder(_Answer)
_errors: Final = msgspec.json.Decoder(_Error)


def can_get_jwt(secrets: Secrets) -> bool:
    """Return whether there is a JWT, or the keys to get one."""
    return secrets.has(_JWT) or secrets.has(_ACCOUNT, _PRIVATE_KEY)


def jwt_of(secrets: Secrets, ws_url: str, now_wall_ns: int) -> RestFlow[str]:
    """Return a JWT; a configured one takes precedence over a key and is read on each call.

    Raises:
        LoginError: The JWT is malformed, or the venue grants none.
    """
    if secrets.has(_JWT):
        token, origin = secrets.get(_JWT), _JWT
    else:
        body = yield _auth_request(secrets, ws_url, now_wall_ns // _NS_PER_S)
        error = error_of(body, "auth")
        if error is not None:
            raise error
        token, origin = parsed(_answers, body, "auth").jwt_token, "the answer to auth"
    if not _JWT_FORM.fullmatch(token):
        raise LoginError(f"{origin} is not a JWT: it has characters that a JWT cannot have")
    return token


def preload_signer(secrets: Secrets) -> None:
    """Load the signing library if it is needed, with what it loads at its first signature: one with a public key."""
    if secrets.has(_PRIVATE_KEY) and not secrets.has(_JWT):
        with contextlib.suppress(LoginError):  # not installed; the login reports it
            _signature(_message(_CHAIN_MAINNET, 0, _SIGNATURE_S), _PUBLIC_KEY, _PUBLIC_KEY)


def error_of(body: bytes, what: str) -> LoginError | None:
    """Return the error in the answer ``body``; None when it is not an error."""
    try:
        error = _errors.decode(body)
    except (ValueError, RecursionError):
        return None
    code = error.error.upper()
    if any(word in code for word in _CREDENTIALS):
        # The venue's text could repeat the credentials.
        cause = "the JWT is invalid or has expired" if "TOKEN" in code or "JWT" in code else "the login is rejected"
        return LoginError(f"{what}: {error.error[:40]}: {cause}: check {_JWT}, or {_ACCOUNT} and {_PRIVATE_KEY}")
    reason = Reason.RATE_LIMITED if "RATE" in code or "TOO_MANY" in code else Reason.REFUSED
    return LoginError(f"{what}: {error.error}: {error.message}", reason)


def _auth_request(secrets: Secrets, ws_url: str, now_s: int) -> RestRequest:
    address = secrets.get(_ACCOUNT)
    if not _ADDRESS_FORM.fullmatch(address):
        raise LoginError(f"{_ACCOUNT} is not an address: expected 0x and up to 64 hexadecimal digits")
    expiry_s = now_s + _SIGNATURE_S
    chain = _CHAIN_TESTNET if "testnet" in ws_url else _CHAIN_MAINNET
    signature = _signature(_message(chain, now_s, expiry_s), address, secrets.get(_PRIVATE_KEY))
    headers = (
        ("PARADEX-STARKNET-ACCOUNT", address),
        ("PARADEX-STARKNET-SIGNATURE", signature),
        ("PARADEX-TIMESTAMP", str(now_s)),
        ("PARADEX-SIGNATURE-EXPIRATION", str(expiry_s)),
    )
    return RestRequest("/auth", method="POST", headers=headers)


def _message(chain: str, now_s: int, expiry_s: int) -> Mapping[str, Any]:
    """Return the message to sign: the request itself, as Starknet's typed data."""

    def fields(*names: str) -> list[dict[str, str]]:
        return [{"name": name, "type": "felt"} for name in names]

    return {
        "domain": {"name": "Paradex", "chainId": hex(int.from_bytes(chain.encode(), "big")), "version": "1"},
        "primaryType": "Request",
        "types": {
            "StarkNetDomain": fields("name", "chainId", "version"),
            "Request": fields("method", "path", "body", "timestamp", "expiration"),
        },
        "message": {"method": "POST", "path": "/v1/auth", "body": "", "timestamp": now_s, "expiration": expiry_s},
    }


def _signature(message: Mapping[str, Any], address: str, private_key: str) -> str:
    """Return the Stark signature of a message, as its header has it.

    Raises:
        LoginError: There is no library to sign with, or the key is invalid.
    """
    try:
        typed_data = signers.load("starknet_py.utils.typed_data")
        signing = signers.load("starknet_py.hash.utils")
    except ImportError:
        advice = f"pip install 'paraphina-supervisor[private]', or use {_JWT}"
        raise LoginError(f"signing with a Stark key needs starknet-py ({advice})") from None
    try:
        digest = typed_data.TypedData.from_dict(message).message_hash(int(address, 16))
        r, s = signing.message_signature(digest, int(private_key, 16))
    except Exception:
        # The library's errors may contain the key.
        raise LoginError(f"{_PRIVATE_KEY} is not a Stark key") from None
    return f'["{r}","{s}"]'
