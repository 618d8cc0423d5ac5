"""Budgets that the two lines of a venue share, because venues count by address: each counts what the other spends.

Nothing is divided: a line that is alone, or whose other line spends nothing, has all of it.
"""

from __future__ import annotations

from typing import Final, NamedTuple

from ipc.board import Row, WorkerWord
from workers.protocol.pacing import TokenBucket

_NS: Final = 1_000_000_000
#: Spending is counted in thousandths.
_UNIT: Final = 1000


class SpendingWords(NamedTuple):
    """Words of a line's process on the board that describe one budget.

    Attributes:
        spent: What the line has spent, in thousandths; it starts from 0 with each generation.
        full_at: When the budget is full again if nobody spends, as the line counts it, monotonic ns.
        closed_until: End of the pause that the venue demands, monotonic ns; None where it demands none.
    """

    spent: int
    full_at: int
    closed_until: int | None = None


MESSAGES: Final = SpendingWords(WorkerWord.SPENT_MESSAGES, WorkerWord.MESSAGES_FULL_AT)
CONNECTS: Final = SpendingWords(WorkerWord.SPENT_CONNECTS, WorkerWord.CONNECTS_FULL_AT)
WEIGHT: Final = SpendingWords(WorkerWord.SPENT_WEIGHT, WorkerWord.WEIGHT_FULL_AT, WorkerWord.REST_CLOSED_UNTIL)
OPTIONAL_WEIGHT: Final = SpendingWords(WorkerWord.SPENT_OPTIONAL_WEIGHT, WorkerWord.OPTIONAL_WEIGHT_FULL_AT)
ACCOUNT_WEIGHT: Final = SpendingWords(
    WorkerWord.SPENT_ACCOUNT_WEIGHT, WorkerWord.ACCOUNT_WEIGHT_FULL_AT, WorkerWord.ACCOUNT_REST_CLOSED_UNTIL
)


class SharedSpending:
    """Spending of one budget: ours, which the other line reads, and the other line's, which we read.

    ``own`` and ``peer`` are the words of the two processes. One thread at a time may use it.
    """

    __slots__ = ("_counted", "_epoch", "_own", "_peer", "_words")

    def __init__(self, own: Row, peer: Row, words: SpendingWords) -> None:
        self._own = own
        self._peer = peer
        self._words = words
        #: The other line's generation, and what of its spending is counted.
        self._epoch = 0
        self._counted = 0

    def spend(self, amount: float, full_at_ns: int) -> None:
        """Publish that this line spent ``amount``, and when the budget is full again."""
        # In this order: a line that begins reads what was spent first, and rather counts it twice than not at all.
        self.mark_full_at(full_at_ns)
        self._own.add(self._words.spent, round(amount * _UNIT))

    def mark_full_at(self, full_at_ns: int) -> None:
        """Publish when the budget is full again."""
        self._own[self._words.full_at] = full_at_ns

    def peer_spent(self) -> float:
        """Return what the other line has spent since the last call."""
        epoch = self._peer[WorkerWord.EPOCH]
        if not epoch:
            return 0.0  # it never ran, or its words are being cleared for its next generation
        spent = self._peer[self._words.spent]
        if epoch != self._epoch or spent < self._counted:
            self._epoch, self._counted = epoch, 0
        new, self._counted = spent - self._counted, spent
        return new / _UNIT

    def peer_full_at_ns(self) -> int:
        """Return when the budget is full again as the other line counts it."""
        return self._peer[self._words.full_at]

    def close(self, until_ns: int) -> None:
        """Publish that the venue demands a pause."""
        if self._words.closed_until is not None:
            self._own[self._words.closed_until] = until_ns

    def peer_closed_until_ns(self) -> int:
        """Return until when the venue demands a pause of the other line."""
        return 0 if self._words.closed_until is None else self._peer[self._words.closed_until]


class SharedTokenBucket(TokenBucket):
    """Token bucket from which both lines of a venue acquire: each keeps one and removes what the other acquired.

    A line that begins adopts the other's, so that a restart frees no budget. Call :meth:`update` a few times a
    second: what the other acquired counts from when it is read.
    """

    __slots__ = ("_spending",)

    def __init__(self, capacity: float, per_s: float, spending: SharedSpending) -> None:
        super().__init__(capacity, per_s)
        self._spending = spending

    def acquire(self, tokens: float, now_ns: int) -> bool:
        """Remove ``tokens`` and return True, or return False when there are too few."""
        if not super().acquire(tokens, now_ns):
            return False
        self._spending.spend(tokens, self._full_at_ns(now_ns))
        return True

    def drain(self) -> None:
        """Empty the bucket, for the venue reported that its limit is reached; call :meth:`update` before."""
        super().drain()
        self._spending.mark_full_at(self._full_at_ns(self._at_ns))

    def update(self, now_ns: int) -> None:
        """Count what the other line has acquired since the last call."""
        self._fill(now_ns)

    def _fill(self, now_ns: int) -> None:
        is_first = not self._at_ns
        super()._fill(now_ns)
        spent = self._spending.peer_spent()
        if is_first:
            owed_s = max(0, self._spending.peer_full_at_ns() - now_ns) / _NS
            self._tokens = self.capacity - owed_s * self.per_s
        elif spent:
            # The other line acquires nothing that is not there, so it leaves no debt for us.
            self._tokens = max(min(self._tokens, 0.0), self._tokens - spent)
        if is_first or spent:
            self._spending.mark_full_at(self._full_at_ns(now_ns))

    def _full_at_ns(self, now_ns: int) -> int:
        return now_ns + int((self.capacity - self._tokens) / self.per_s * _NS)
