"""Credentials of an Aster account; importable without signing libraries."""

from __future__ import annotations

from typing import Final

#: Sets of secrets, each of which suffices to log in.
LOGIN_METHODS: Final = (("ASTER_API_KEY", "ASTER_API_SECRET"), ("ASTER_USER", "ASTER_SIGNER", "ASTER_SIGNER_KEY"))
