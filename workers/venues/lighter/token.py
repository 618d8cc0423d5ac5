"""Tokens for Lighter's account channels and REST: configured, or made from an API key.

A token names its account and expiry: ``<expiry>:<account>:<API key>:<hex>``, or, read-only,
``ro:<account>:<single or all>:<expiry>:<hex>``, where ``all`` includes the account's sub-accounts.

Source: Lighter, API documentation (API keys, auth tokens, WebSocket account channels) and its Python SDK.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

from workers.accounts import signers
from workers.accounts.secrets import Secrets
from workers.venues.account import LoginError
from workers.venues.lighter import LOGIN_METHODS

(_INDEX, _TOKEN), (_, _KEY_INDEX, _PRIVATE_KEY) = LOGIN_METHODS
#: Names of all secrets that an account may use.
SECRETS: Final = (_INDEX, _TOKEN, _KEY_INDEX, _PRIVATE_KEY)

_NS_PER_S: Final = 1_000_000_000
#: Lifetime of a token made here; the venue allows at most 8 hours.
_LIFETIME_S: Final = 7 * 3600
_MAX_DIGITS: Final = 18
_CHAIN_MAINNET: Final = 304
_CHAIN_TESTNET: Final = 300


@dataclass(frozen=True, slots=True)
class Token:
    """Token with its expiry, wall clock."""

    text: str = field(repr=False)
    expiry_ns: int


def can_get_token(secrets: Secrets) -> bool:
    """Return whether there is an account index, and a token or the keys to make one."""
    return secrets.has(_INDEX) and (secrets.has(_TOKEN) or secrets.has(_KEY_INDEX, _PRIVATE_KEY))


def index_of(secrets: Secrets) -> int:
    """Return the index of the account.

    Raises:
        LoginError: The configured index is not a number.
    """
    return _parse_number(secrets, _INDEX)


def token_of(secrets: Secrets, index: int, url: str, now_wall_ns: int) -> Token:
    """Return a valid token of the account ``index``; a configured token takes precedence over a key.

    Raises:
        LoginError: The token has expired, is malformed or another account's, or cannot be made.
    """
    text = secrets.get(_TOKEN) if secrets.has(_TOKEN) else _make_token(secrets, index, url, now_wall_ns)
    expiry_ns = _expiry_s(text, index) * _NS_PER_S
    if expiry_ns <= now_wall_ns:
        raise LoginError(f"{_TOKEN} has expired: make a new one")
    return Token(text, expiry_ns)


def _parse_number(secrets: Secrets, name: str) -> int:
    text = secrets.get(name)
    if not _is_number(text):
        raise LoginError(f"{name} is not a number")
    return int(text)


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdecimal() and len(text) <= _MAX_DIGITS


def _expiry_s(token: str, index: int) -> int:
    """Return the expiry of a token, Unix time in s; reject one that is malformed or another account's."""
    match token.split(":"):
        case ["ro", owner, scope, expiry, _]:
            is_ours = scope == "all" or owner == str(index)
        case [expiry, owner, _, _]:
            is_ours = owner == str(index)
        case _:
            raise LoginError(f"{_TOKEN} does not have the form of a token")
    if not (token.isascii() and token.isprintable() and " " not in token and _is_number(expiry)):
        raise LoginError(f"{_TOKEN} does not have the form of a token")
    if not is_ours:
        raise LoginError(f"{_TOKEN} belongs to another account than {_INDEX}")
    return int(expiry)


def _make_token(secrets: Secrets, index: int, url: str, now_wall_ns: int) -> str:
    """Make a token with the venue's signer, a shared library of its SDK that works offline.

    Raises:
        LoginError: There is no signer, or it rejects the key.
    """
    try:
        sdk = signers.load("lighter.signer_client")
    except ImportError:
        # Its dependencies conflict with ours.
        advice = f"install it in a separate environment that {_TOKEN}_COMMAND calls, or set {_TOKEN}"
        raise LoginError(f"making a token needs lighter-sdk ({advice})") from None
    key_index = _parse_number(secrets, _KEY_INDEX)
    private_key = secrets.get(_PRIVATE_KEY).removeprefix("0x")
    chain = _CHAIN_TESTNET if "testnet" in url else _CHAIN_MAINNET
    signer = sdk.get_signer()
    refusal = sdk.decode_and_free(signer.CreateClient(url.encode(), private_key.encode(), chain, key_index, index))
    if refusal is not None:  # the text may contain the key
        raise LoginError(f"the signer rejects {_PRIVATE_KEY}")
    made = signer.CreateAuthToken(now_wall_ns // _NS_PER_S + _LIFETIME_S, key_index, index)
    token, refusal = sdk.decode_and_free(made.str), sdk.decode_and_free(made.err)
    if refusal is not None or not token:
        raise LoginError(f"the signer cannot make a token from {_PRIVATE_KEY}")
    return str(token)
