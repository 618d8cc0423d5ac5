"""File descriptors of a process: its limit, the number in use, and a guard that keeps some free.

Every consumer takes a descriptor. When none is left libzmq ends the process (``ipc``) or busies a core (``tcp``), and
the process cannot open a connection to its venue either. So the guard stops accepting consumers before: connected ones
go on, the others find no feed and connect again until there is room.

libzmq accepts up to fifty connections a millisecond. The guard checks again before the fastest burst could have reached
its reserve; the reserve covers its own delay, and the hundred connections that wait to be accepted.
"""

from __future__ import annotations

import os
import resource
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Final

from ipc.health import HIGH_DESCRIPTORS, Reason
from ipc.log import get_log

if TYPE_CHECKING:
    from ipc.listening import ListeningSocket

log = get_log(__name__)

#: Soft limit that a process gives itself: more would cost memory and buy nothing.
_MAX_LIMIT: Final = 65_536
#: Descriptors to keep free, and their largest part of the limit.
_RESERVE: Final = 512
_RESERVE_SHARE: Final = 0.4
#: Connections that libzmq accepts in a second at most, measured with bare connects.
_PEAK_PER_S: Final = 50_000
_MIN_WAIT_S: Final = 0.001
_MAX_WAIT_S: Final = 1.0
#: Least time without new consumers, so that those who wait do not come in waves.
_CLOSED_S: Final = 1.0
#: Factor of the time that a check takes and the time until the next: counting costs more on older kernels.
_CHECK_SHARE: Final = 50
#: Share of descriptors in use below which many may be reported again.
_HIGH_NO_MORE: Final = 0.7
_DIRECTORY: Final = "/proc/self/fd"


def raise_limit() -> int:
    """Raise the soft limit of descriptors to the hard one, at most to 65,536; return it."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _MAX_LIMIT if hard == resource.RLIM_INFINITY else min(hard, _MAX_LIMIT)
    if soft == resource.RLIM_INFINITY or soft >= wanted:
        return limit()
    resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
    return wanted


def limit() -> int:
    """Return the soft limit of descriptors."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return _MAX_LIMIT if soft == resource.RLIM_INFINITY else soft


def count_open() -> int:
    """Return the number of open descriptors of this process."""
    # The size of the directory since Linux 6.2, else 0.
    return os.stat(_DIRECTORY).st_size or len(os.listdir(_DIRECTORY)) - 1  # noqa: PTH116, PTH208 - often, and fast


def reserve_of(limit: int) -> int:
    """Return the number of descriptors that stay free of consumers."""
    return min(_RESERVE, int(limit * _RESERVE_SHARE))


class DescriptorGuard:
    """Guard of a process's descriptors, which refuses consumers of ``sockets`` (others may be added) if few are free.

    ``open`` and ``limit`` are the numbers of the last check; ``is_refusing`` is True while consumers are refused.
    """

    def __init__(
        self,
        name: str,
        sockets: Sequence[ListeningSocket],
        *,
        count: Callable[[], int] = count_open,
        limit: Callable[[], int] = limit,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self.open = 0
        self.limit = 0
        self.is_refusing = False
        self._name = name
        self._sockets = sockets
        self._count = count
        self._read_limit = limit
        self._monotonic = monotonic
        self._refused_at = 0.0
        self._is_high = False

    def run(self, wait: Callable[[float], bool]) -> None:
        """Guard until ``wait``, called with a time in s, returns True; for a thread of its own."""
        while not wait(self.check()):
            pass

    def check(self) -> float:
        """Count, and refuse or accept consumers; return the time until the next check, s."""
        start = self._monotonic()
        self.open, self.limit = self._count(), self._read_limit()
        took_s = self._monotonic() - start
        reserve = reserve_of(self.limit)
        room = self.limit - reserve - self.open
        if not self.is_refusing and room <= 0:
            self._refuse(start)
        elif self.is_refusing and room >= reserve // 4 and start - self._refused_at >= _CLOSED_S:
            self._accept()
        self._report_high()
        wait_s = _CLOSED_S / 4 if self.is_refusing else room / _PEAK_PER_S
        return min(max(wait_s, took_s * _CHECK_SHARE, _MIN_WAIT_S), _MAX_WAIT_S)

    def _refuse(self, now: float) -> None:
        self.is_refusing, self._refused_at = True, now
        for one in self._sockets:
            one.refuse_peers()
        log.error("descriptors.refusing", of=self._name, reason=Reason.DESCRIPTORS, open=self.open, limit=self.limit)

    def _accept(self) -> None:
        self.is_refusing = False
        for one in self._sockets:
            one.accept_peers()
        log.info("descriptors.accepting", of=self._name, open=self.open, limit=self.limit)

    def _report_high(self) -> None:
        """Warn once when the descriptors in use are many, until they are few again."""
        if self._is_high != (self.open >= self.limit * (_HIGH_NO_MORE if self._is_high else HIGH_DESCRIPTORS)):
            self._is_high = not self._is_high
            if self._is_high:
                log.warning(
                    "descriptors.high", of=self._name, reason=Reason.DESCRIPTORS, open=self.open, limit=self.limit
                )
