"""Deduplication of trades: venues repeat recent ones after every (re)connect."""

from __future__ import annotations

from typing import Final

_REMEMBERED: Final = 4096


class SeenTrades:
    """Ids of the latest 4,096 trades of a market."""

    __slots__ = ("_ids",)

    def __init__(self) -> None:
        self._ids: dict[str, None] = {}

    def is_new(self, trade_id: str) -> bool:
        """Return whether a trade is new; record its id."""
        ids = self._ids
        if trade_id in ids:
            return False
        ids[trade_id] = None
        if len(ids) > _REMEMBERED:
            del ids[next(iter(ids))]
        return True
