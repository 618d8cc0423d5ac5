"""Credentials of a Paradex account; importable without signing libraries."""

from __future__ import annotations

from typing import Final

#: Sets of secrets, each of which suffices to log in.
LOGIN_METHODS: Final = (("PARADEX_JWT",), ("PARADEX_ACCOUNT", "PARADEX_PRIVATE_KEY"))
