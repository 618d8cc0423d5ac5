"""Credentials of a Hyperliquid account; importable without signing libraries."""

from __future__ import annotations

from typing import Final

#: Sets of secrets, each of which suffices to log in.
LOGIN_METHODS: Final = (("HL_VAULT_ADDRESS",),)
