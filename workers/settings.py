"""Settings of a worker: created from the configuration, passed over the fork, immutable."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from ipc.health import Reason
from ipc.lines import Line, process_of
from ipc.remote import Network
from workers.backoff import BackoffPolicy
from workers.net.proxy import DIRECT, DialOptions


@dataclass(frozen=True, slots=True)
class WorkerSettings:
    """Settings of one venue's worker; durations in ms.

    Attributes:
        slot: Index of the worker on the board.
        line: Line that this worker is; None for a venue's only one.
        peer_slot: Index of the venue's other line on the board; None without one.
        limit_share: Part of the venue's limits per IP address that this system may use, over 0 and at most 1.
        feed: ZeroMQ endpoint to bind.
        bases: Base assets of the markets to follow, in the order of their board cells.
        options: Settings that only this venue has.
        dial: Proxy, authorities and source address of its connections.
        stale_ms: Age at which a book is stale.
        connect_timeout_ms: Limit for DNS, TCP, TLS and upgrade together.
        read_timeout_ms: Silence, of any kind, after which a connection is closed.
        ping_interval_ms: Interval of our pings; None uses the venue's.
        pong_timeout_ms: Limit for the answer to a ping; None uses the venue's.
        generation: Number of starts of this worker by the parent.
        last_epoch: Epoch of the previous generation; the new one is higher.
        last_reason: Why the previous generation ended; None for the first.
        fixture_dir: Directory of recorded frames to play; None connects to the venue.
        is_paced: Whether a fixture keeps the recorded timing.
        blackbox_kb: Size of the ring of raw frames; 0 disables it.
        blackbox_dir: Directory of saved black boxes; None saves none.
        blackbox_keep: Number of saved black boxes to keep per venue.
        network: TCP addresses of its feeds; None serves them on local sockets only.
        account: Alias of the account on this venue; None follows none.
        has_parent: Whether to exit when the parent does.
    """

    venue: str
    slot: int
    run_dir: str
    feed: str
    bases: tuple[str, ...]
    ws_url: str
    rest_url: str
    options: Mapping[str, str] = field(default_factory=dict)
    dial: DialOptions = DIRECT
    stale_ms: int = 10_000
    connect_timeout_ms: int = 15_000
    read_timeout_ms: int = 30_000
    ping_interval_ms: int | None = None
    pong_timeout_ms: int | None = None
    funding_poll_ms: int = 10_000
    watchdog_tick_ms: int = 200
    backoff: BackoffPolicy = field(default_factory=BackoffPolicy)
    generation: int = 1
    last_epoch: int = 0
    last_reason: Reason | None = None
    fixture_dir: str | None = None
    is_paced: bool = True
    blackbox_kb: int = 1024
    blackbox_dir: str | None = None
    blackbox_keep: int = 20
    network: Network | None = None
    account: str | None = None
    account_period_ms: int = 60_000
    has_parent: bool = True
    line: Line | None = None
    peer_slot: int | None = None
    limit_share: float = 1.0

    @property
    def process(self) -> str:
        """Name of the process, of its files and in its log: the venue's, and ``<venue>.b`` for line b."""
        return process_of(self.venue, self.line)
