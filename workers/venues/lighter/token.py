"""The tokens that open Lighter's account channels and REST answers: given ready-made, or made of an API key.

A token says whose it is and until when it is valid: ``<expiry>:<account>:<API key>:<hex>``, or, for reading alone,
``ro:<account>:<single or all>:<expiry>:<hex>``, where ``all`` stands for the account's sub-accounts as well.

Source: Lighter, API documentation (API keys, auth tokens, WebSocket account channels) and its Python SDK.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

from workers.accounts import signers
from workers.accounts.secrets import Secrets
from workers.venues.account import LoginError
from workers.venues.lighter.credentials import LOGIN_METHODS

__all__ = ["SECRETS", "Token", "has_token", "index_of", "token_of"]

(_INDEX, _TOKEN), (_, _KEY_INDEX, _PRIVATE_KEY) = LOGIN_METHODS
#: What an account may be configured with.
SECRETS: Final = (_INDEX, _TOKEN, _KEY_INDEX, _PRIVATE_KEY)

_NS_PER_S: Final = 1_000_000_000
#: A token made here is valid for this long; 8 hours are the most that there is.
_LIFETIME_S: Final = 7 * 3600
_MAX_DIGITS: Final = 18
_CHAIN_MAINNET: Final = 304
_CHAIN_TESTNET: Final = 300


@dataclass(frozen=True, slots=True)
class Token:
    """A token, and until when it is valid, wall clock."""

    text: str = field(repr=False)
    expiry_ns: int


def has_token(secrets: Secrets) -> bool:
    """Whether there is an account, and a token of it or what makes one."""
    return secrets.has(_INDEX) and (secrets.has(_TOKEN) or secrets.has(_KEY_INDEX, _PRIVATE_KEY))


def index_of(secrets: Secrets) -> int:
    """The venue's number of the account.

    Raises:
        LoginError: What is configured is no number.
    """
    return _number(secrets, _INDEX)


def token_of(secrets: Secrets, index: int, url: str, now_wall_ns: int) -> Token:
    """A token of the account ``index`` that is valid now; one that is given goes before a key.

    Raises:
        LoginError: It has expired, is another account's or none at all, or cannot be made.
    """
    text = secrets.get(_TOKEN) if secrets.has(_TOKEN) else _made(secrets, index, url, now_wall_ns)
    expiry_ns = _expiry_s(text, index) * _NS_PER_S
    if expiry_ns <= now_wall_ns:
        raise LoginError(f"{_TOKEN} has expired: make a new one")
    return Token(text, expiry_ns)


def _number(secrets: Secrets, name: str) -> int:
    text = secrets.get(name)
    if not _is_number(text):
        raise LoginError(f"{name} is no number")
    return int(text)


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdecimal() and len(text) <= _MAX_DIGITS


def _expiry_s(token: str, index: int) -> int:
    """Until when a token is valid, Unix time in s."""
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
        raise LoginError(f"{_TOKEN} is of another account than {_INDEX}")
    return int(expiry)


def _made(secrets: Secrets, index: int, url: str, now_wall_ns: int) -> str:
    """A token made by the venue's signer, a shared library that comes with its SDK and calls no one for this.

    Raises:
        LoginError: There is no signer, or it does not take the key.
    """
    try:
        sdk = signers.load("lighter.signer_client")
    except ImportError:
        # Its own dependencies clash with ours.
        advice = f"install it into an environment of its own and let {_TOKEN}_COMMAND call it there, or use {_TOKEN}"
        raise LoginError(f"making a token needs lighter-sdk ({advice})") from None
    key_index = _number(secrets, _KEY_INDEX)
    private_key = secrets.get(_PRIVATE_KEY).removeprefix("0x")
    chain = _CHAIN_TESTNET if "testnet" in url else _CHAIN_MAINNET
    signer = sdk.get_signer()
    refusal = sdk.decode_and_free(signer.CreateClient(url.encode(), private_key.encode(), chain, key_index, index))
    if refusal is not None:  # its text may hold the key
        raise LoginError(f"the signer does not take {_PRIVATE_KEY}")
    made = signer.CreateAuthToken(now_wall_ns // _NS_PER_S + _LIFETIME_S, key_index, index)
    token, refusal = sdk.decode_and_free(made.str), sdk.decode_and_free(made.err)
    if refusal is not None or not token:
        raise LoginError(f"the signer makes no token of {_PRIVATE_KEY}")
    return str(token)
