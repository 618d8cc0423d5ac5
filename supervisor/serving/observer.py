"""Consumer of the gateway's own: the last funding rate and spread of each market, for the metrics."""

from __future__ import annotations

import threading
from typing import Final

from ipc.events import Bbo, Event, Funding
from ipc.feed import Feed
from ipc.log import get_log
from ipc.rundir import RunDir

log = get_log(__name__)

#: Events are read four times a second, which costs a third of reading each when it comes.
_DRAIN_S: Final = 0.25
_RETRY_S: Final = 1.0
_CHANNELS: Final = ("bbo", "mark", "funding")


class Observer:
    """Thread that follows prices and funding of all venues; the other methods are for any thread."""

    def __init__(self, run_dir: RunDir) -> None:
        self._run_dir = run_dir
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="observer", daemon=True)
        self._funding: dict[tuple[str, str], float] = {}
        self._spreads: dict[tuple[str, str], float] = {}

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def close(self) -> None:
        """End the thread."""
        self._stop.set()

    def funding(self) -> dict[tuple[str, str], float]:
        """Return the last funding rate by venue and symbol, a fraction for eight hours."""
        return dict(self._funding)

    def spreads(self) -> dict[tuple[str, str], float]:
        """Return the last spread by venue and symbol, a fraction of the middle price."""
        return dict(self._spreads)

    def _run(self) -> None:
        while not self._stop.is_set():
            try:
                self._follow()
            except Exception:
                log.exception("observer.ended")
                self._stop.wait(_RETRY_S)

    def _follow(self) -> None:
        with Feed(self._run_dir.path, channels=_CHANNELS) as feed:
            while not self._stop.wait(_DRAIN_S):
                while (event := feed.poll(0.0)) is not None:
                    self._update(event)

    def _update(self, event: Event) -> None:
        if event.symbol is None:
            return
        market = (event.venue, event.symbol)
        match event:
            case Funding(rate_8h=str(rate)):
                self._funding[market] = float(rate)
            case Bbo():
                spread = spread_of(event)
                if spread is None:
                    self._spreads.pop(market, None)
                else:
                    self._spreads[market] = spread


def spread_of(event: Bbo) -> float | None:
    """Return the spread as a fraction of the middle price; None when a side is empty."""
    if event.bid_price is None or event.ask_price is None:
        return None
    bid, ask = float(event.bid_price), float(event.ask_price)
    return 2 * (ask - bid) / (ask + bid) if ask + bid > 0 else None
