"""Trades seen before: venues repeat recent ones after every (re)connect."""

from __future__ import annotations

from typing import Final

__all__ = ["SeenTrades"]

_REMEMBERED: Final = 4096


class SeenTrades:
    """The ids of a market's latest trades, so that none is told twice; remembers 4,096 of them."""

    __slots__ = ("_ids",)

    def __init__(self) -> None:
        self._ids: dict[str, None] = {}

    def is_new(self, trade_id: str) -> bool:
        """Whether a trade was not seen before; it is remembered."""
        ids = self._ids
        if trade_id in ids:
            return False
        ids[trade_id] = None
        if len(ids) > _REMEMBERED:
            del ids[next(iter(ids))]
        return True
