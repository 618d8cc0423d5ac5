"""What a worker is told when it starts. Made by the configuration, sent over the fork, never changed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from ipc.health import Reason
from ipc.remote import Network
from workers.backoff import BackoffPolicy

__all__ = ["WorkerSettings"]


@dataclass(frozen=True, slots=True)
class WorkerSettings:
    """The settings of one venue's worker; durations in ms.

    Attributes:
        venue: Its name.
        slot: Its place on the board.
        run_dir: Path of the run directory.
        feed: ZeroMQ endpoint to bind.
        bases: The markets to follow, by base asset, in the order of their board cells.
        ws_url: Base URL of the WebSocket side.
        rest_url: Base URL of the REST side.
        options: The venue's own settings.
        stale_ms: Age at which a book is stale.
        connect_timeout_ms: DNS, TCP, TLS and upgrade together.
        read_timeout_ms: Silence, of any kind, after which a connection is dead.
        ping_interval_ms: Between pings of ours; None takes the venue's.
        pong_timeout_ms: After a ping of ours, for the answer; None takes the venue's.
        funding_poll_ms: Between two polls of funding.
        watchdog_tick_ms: Between two looks of the watchdog.
        backoff: Of its sessions.
        generation: How many times the parent started this worker.
        last_epoch: Of the generation before; this one's is higher.
        last_reason: Why the generation before ended; None for the first.
        fixture_dir: Recorded frames to play instead of connecting; None connects.
        is_paced: Whether a fixture keeps the recorded timing.
        blackbox_kb: Size of the ring of raw frames; 0 for none.
        blackbox_dir: Where black boxes are saved; None saves none.
        blackbox_keep: How many of a venue stay.
        network: Where its feeds listen on TCP; None has them on the run directory's sockets alone.
        account: What the desk's account on this venue is called; None follows none.
        account_period_ms: Between two looks at the whole account.
        has_parent: Whether it must end when its parent does.
    """

    venue: str
    slot: int
    run_dir: str
    feed: str
    bases: tuple[str, ...]
    ws_url: str
    rest_url: str
    options: Mapping[str, str] = field(default_factory=dict)
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
