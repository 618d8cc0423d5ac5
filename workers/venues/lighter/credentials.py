"""Credentials of a Lighter account; importable without signing libraries."""

from __future__ import annotations

from typing import Final

#: Sets of secrets, each of which suffices to log in.
LOGIN_METHODS: Final = (
    ("LIGHTER_ACCOUNT_INDEX", "LIGHTER_AUTH_TOKEN"),
    ("LIGHTER_ACCOUNT_INDEX", "LIGHTER_API_KEY_INDEX", "LIGHTER_API_PRIVATE_KEY_HEX"),
)
