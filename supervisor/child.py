"""One supervised child: its life, its process and its ladder of signals, as the parent holds them."""

from __future__ import annotations

import signal
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from ipc.board import Row
from ipc.health import Reason
from supervisor.lifecycle import ProcessLifecycle
from supervisor.spawn import Child

__all__ = ["Handover", "KillSequence", "Supervised"]

_MS: Final = 1_000_000
_NS: Final = 1_000_000_000
#: After the request for a stack dump, before SIGTERM.
_DUMP_NS: Final = 200 * _MS
#: After SIGTERM, before SIGKILL: for one that still runs, and for one whose beat is lost.
_GRACE_NS: Final = 2 * _NS
_WEDGED_GRACE_NS: Final = 500 * _MS
#: After SIGKILL, before a person is called.
_SURVIVED_NS: Final = 5 * _NS


@dataclass(frozen=True, slots=True)
class Handover:
    """What a generation takes over from the one before, off the board that is then cleared."""

    epoch: int = 0
    #: Why it ended; None when there was none.
    reason: Reason | None = None
    #: For the gateway: number of the last event that it published.
    published: int = 0


@dataclass(slots=True)
class KillSequence:
    """The signals that end a process, one rung after the other, each at its time.

    A process that is stopped can act on none but the last, so it gets that at once. An operator's wish needs no dump.
    """

    reason: Reason
    steps: list[tuple[int, int | None]]

    @classmethod
    def begin(cls, reason: Reason, now_ns: int, *, is_stopped: bool) -> KillSequence:
        """The ladder for a reason."""
        if is_stopped:
            return cls(reason, [(now_ns, signal.SIGKILL), (now_ns + _SURVIVED_NS, None)])
        is_planned = reason in {Reason.REQUESTED, Reason.CONFIG_CHANGED}
        term_ns = now_ns if is_planned else now_ns + _DUMP_NS
        kill_ns = term_ns + (_WEDGED_GRACE_NS if reason is Reason.WEDGED else _GRACE_NS)
        dump: list[tuple[int, int | None]] = [] if is_planned else [(now_ns, signal.SIGUSR1)]
        return cls(
            reason, [*dump, (term_ns, signal.SIGTERM), (kill_ns, signal.SIGKILL), (kill_ns + _SURVIVED_NS, None)]
        )

    def due(self, now_ns: int) -> list[int | None]:
        """The rungs whose time has come: signals to send, and None for "it should be gone by now"."""
        due = []
        while self.steps and self.steps[0][0] <= now_ns:
            at, number = self.steps.pop(0)
            due.append(number)
            # A parent that comes late gives every later rung its time all the same.
            self.steps = [(later + now_ns - at, step) for later, step in self.steps]
        return due

    def hurry(self, now_ns: int) -> None:
        """Go to SIGKILL at once."""
        self.steps = [(now_ns, signal.SIGKILL), (now_ns + _SURVIVED_NS, None)]


@dataclass(slots=True)
class Supervised:
    """A child under supervision.

    Attributes:
        name: A venue, ``gateway`` or ``simulator``.
        slot: Its place on the board.
        row: Its words there.
        life: What has become of it.
        target: What it runs; called in the child with its generation and what the one before left.
        markets: How many markets it writes cells for.
        is_judged: Whether its words tell of health (the simulator only lives or dies).
    """

    name: str
    slot: int
    row: Row
    life: ProcessLifecycle
    target: Callable[[int, Handover], None]
    markets: int = 0
    is_judged: bool = True
    child: Child | None = None
    #: What the last generation took over; the next takes over no less.
    before: Handover = field(default_factory=Handover)
    ladder: KillSequence | None = None
    #: Since when it is stale, while it is.
    stale_since_ns: int = 0
    #: Whether its first life was told of on the terminal.
    announced: bool = False
