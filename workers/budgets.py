"""Budgets of one worker: of messages, REST weight and connects, within what its venue allows an address.

The venue's two lines share each of them. ``limit_share`` is the part of the address that this system uses.
"""

from __future__ import annotations

import time
from typing import Final

from ipc.board import Board
from workers.net.budget import MinuteBudget
from workers.protocol import spending
from workers.protocol.pacing import TokenBucket
from workers.protocol.spending import SharedSpending, SharedTokenBucket, SpendingWords
from workers.settings import WorkerSettings
from workers.venues.venue import VenueLimits

#: Shares of the venue's REST limit: of public data, and of the account. Other programs use the same IP address.
REST_SHARE: Final = 0.6
ACCOUNT_SHARE: Final = 0.35
#: Share for fetches that no book depends on: comparisons, precautions, books without a stream; part of the public one.
OPTIONAL_SHARE: Final = 0.25


class Budgets:
    """Budgets that the threads of a worker share.

    Attributes:
        messages: Client messages; for one thread at a time (the publisher's lock).
        rest: REST weight of public data.
        optional: Of it, what fetches may use that no book depends on.
        account: REST weight of the account.
        connects: New connections; None where nothing has to be counted: the venue sets no limit, or one line has all
            of it and, backing off, remains far below it.
    """

    def __init__(self, limits: VenueLimits, settings: WorkerSettings, board: Board) -> None:
        self._settings = settings
        self._board = board
        share = settings.limit_share
        self.messages = self._bucket(limits, share)
        weight = limits.rest_weight_per_min * share
        self.rest = self._budget(weight * REST_SHARE, spending.WEIGHT)
        self.optional = self._budget(weight * OPTIONAL_SHARE, spending.OPTIONAL_WEIGHT)
        self.account = self._budget(weight * ACCOUNT_SHARE, spending.ACCOUNT_WEIGHT)
        is_limited = limits.connects_per_min is not None and (settings.peer_slot is not None or share < 1)
        self.connects = (
            self._budget(limits.connects_per_min * share, spending.CONNECTS)
            if limits.connects_per_min is not None and is_limited
            else None
        )

    def update(self) -> None:
        """Count what the other line has spent; requires the lock of ``messages``, and another line."""
        if isinstance(self.messages, SharedTokenBucket):
            self.messages.update(time.monotonic_ns())
        for budget in (self.rest, self.optional, self.account, self.connects):
            if budget is not None:
                budget.update()

    def _bucket(self, limits: VenueLimits, share: float) -> TokenBucket:
        if not limits.messages_per_address:
            return TokenBucket(limits.burst, limits.messages_per_s)
        capacity, per_s = limits.burst * share, limits.messages_per_s * share
        shared = self._spending(spending.MESSAGES)
        return TokenBucket(capacity, per_s) if shared is None else SharedTokenBucket(capacity, per_s, shared)

    def _budget(self, per_min: float, words: SpendingWords) -> MinuteBudget:
        return MinuteBudget(per_min, spending=self._spending(words))

    def _spending(self, words: SpendingWords) -> SharedSpending | None:
        """Return the spending that is shared with the other line; None without one."""
        peer = self._settings.peer_slot
        if peer is None:
            return None
        return SharedSpending(self._board.worker(self._settings.slot), self._board.worker(peer), words)
