"""Status documents in every situation, and an overview built of them; no system is needed.

``python tests/support/overviews.py > tests/supervisor/overview/sample.json`` writes the committed sample.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[2]))

import msgspec

from ipc.events import Bbo, Funding, Lifecycle, Mark, Status
from ipc.health import Reason, Stream, StreamState
from supervisor.overview.document import Overview
from supervisor.overview.history import History
from supervisor.overview.model import build
from supervisor.overview.prices import Prices

#: Wall clock of the samples, Unix seconds.
NOW = 1_790_000_000.0
VENUES = ("hyperliquid", "aster", "extended", "lighter", "paradex")
SYMBOLS = ("BTC-PERP", "ETH-PERP")
STREAMS = {"book": 10_000, "bbo": None, "trade": None, "mark": 30_000, "funding": 30_000, "funding_poll": 30_000}
_NS = 1_000_000_000


def market(state: str = "live", age_ms: int | None = 120, limit_ms: int | None = 10_000, **more: Any) -> dict[str, Any]:
    """Return one market of a stream."""
    return {
        "state": state,
        "reason": None,
        "reason_ago_s": None,
        "age_ms": age_ms,
        "limit_ms": limit_ms,
        "since_ms": 1_200_000,
        "reconnects": 0,
        "gaps": 0,
        **more,
    }


def stream(state: str = "live", *, events: int = 0, **more: Any) -> dict[str, Any]:
    """Return a stream whose markets are all alike."""
    markets = {symbol: market(state, **more) for symbol in SYMBOLS}
    worst = markets[SYMBOLS[0]]
    names = ("state", "reason", "reason_ago_s", "age_ms", "limit_ms", "reconnects")
    numbers = {"p50": 900, "p99": 2_400}
    return {
        **{name: worst[name] for name in names},
        "events": events,
        "handling_us": numbers,
        "lag_ms": {"p50": 1.9, "p99": 7.5},
        "markets": markets,
    }


def process(state: str = "live", **more: Any) -> dict[str, Any]:
    """Return what the status document says of any process."""
    return {
        "state": state,
        "since_s": 1_200.0,
        "pid": 4_242,
        "uptime_s": 1_200.5,
        "stale_s": 0.0,
        "generation": 1,
        "crash_loop": False,
        "last_exit": None,
        "next_start_in_s": None,
        "error": None,
        "restarts": 0,
        "failures": 0,
        "exits": {},
        "cpu_s": 12.5,
        "rss_bytes": 47_000_000,
        **more,
    }


def exited(reason: str = "killed", ago_s: float = 8.5, **more: Any) -> dict[str, Any]:
    """Return a last exit."""
    return {"reason": reason, "code": None, "signal": 9, "uptime_s": 62.0, "ago_s": ago_s, **more}


def venue(state: str = "live", *, streams: dict[str, Any] | None = None, **more: Any) -> dict[str, Any]:
    """Return a venue; ``streams`` replaces some of its streams."""
    return {
        **process(state),
        "epoch": 7,
        "beat_age_ms": 30,
        "outage": False,
        "books": {"wanted": 2, "usable": 2},
        "stopped": None,
        "consumers": ["strategy-7"],
        "session_ends": {},
        "tcp": None,
        "account_tcp": None,
        "sessions": {"main": {"phase": "subscribed", "reason": None, "reconnects": 0}},
        "streams": {name: stream(limit_ms=limit) for name, limit in STREAMS.items()} | (streams or {}),
        **more,
    }


def not_running(state: str = "backoff", age_ms: int = 8_500, **more: Any) -> dict[str, Any]:
    """Return a venue whose process does not run."""
    off = {name: stream("off", age_ms=age_ms, limit_ms=limit, reason="killed") for name, limit in STREAMS.items()}
    given = {"pid": None, "books": {"wanted": 2, "usable": 0}, "last_exit": exited(), **more}
    return venue(state, streams=off, **given)


def without_book(state: str = "stale", reason: str | None = "stale_watchdog", age_ms: int = 17_000) -> dict[str, Any]:
    """Return a venue whose process runs and whose books are not usable."""
    book = stream("backoff", age_ms=age_ms, reason=reason, reason_ago_s=1.5, reconnects=2)
    return venue(state, streams={"book": book}, books={"wanted": 2, "usable": 0})


def system(venues: dict[str, Any] | None = None, **more: Any) -> dict[str, Any]:
    """Return a status document of five live venues, some of them replaced."""
    supervisor = {
        "state": "running",
        "is_alone": False,
        "pid": 4_000,
        "pid_namespace": "own",
        "uptime_s": 1_260.0,
        "version": "0.1.0",
        "run_dir": "/run/paraphina",
        "beat_age_ms": 120,
        "is_stopped": False,
        "loop_gap_max_ms": 2,
        "self_stalls": 0,
        "forks": 7,
        "clock": {"synchronised": True, "estimated_error_ms": 0.4},
        **more,
    }
    return {
        "supervisor": supervisor,
        "venues": {name: venue() for name in VENUES} | (venues or {}),
        "gateway": {**process(), "http": "http://127.0.0.1:9464", "http_listening": True, "tcp": None},
        "simulator": {**process(), "admin": "http://127.0.0.1:1"},
    }


def lifecycle(at: float, name: str, event: str, reason: Reason | None = None, **more: Any) -> Lifecycle:
    """Return a lifecycle event."""
    given = {"pid": 4_242, "generation": 1, "exit_code": None, "signal": None, "delay_s": None, "failures": 0}
    given |= {"restarts": 0, "uptime_s": None, "venue": name, "symbol": None, "venue_symbol": None, "exchange_ns": None}
    made = Lifecycle(**given | more, event=event, reason=reason)
    made.recv_ns = made.recv_mono_ns = round(at * _NS)
    return made


def changed(at: float, name: str, of: Stream, state: StreamState, reason: Reason | None = None) -> Status:
    """Return a status event of all markets of a stream."""
    made = Status(
        venue=name,
        symbol=None,
        venue_symbol=None,
        exchange_ns=None,
        stream=of,
        state=state,
        previous=None,
        reason=reason,
        attempt=1,
        backoff_s=None,
        pid=1,
        ages_ms=dict.fromkeys(SYMBOLS),
    )
    made.recv_ns = round(at * _NS)
    return made


def bbo(name: str, symbol: str, bid: str | None, ask: str | None, at: float = NOW - 0.1, epoch: int = 7) -> Bbo:
    """Return best prices."""
    made = Bbo(name, symbol, None, None, bid, "1", ask, "2", epoch=epoch)
    made.recv_ns = round(at * _NS)
    return made


def mark(name: str, symbol: str, price: str) -> Mark:
    """Return a mark price."""
    return Mark(name, symbol, None, None, price, None, None, None, None)


def funding(name: str, symbol: str, rate_8h: str, interval_s: int = 28_800) -> Funding:
    """Return a predicted funding rate."""
    rate = str(float(rate_8h) * interval_s / 28_800)
    due = round((NOW + 3_000) * _NS)
    given = (name, symbol, None, None, rate, rate, "fraction_per_interval", interval_s, rate_8h, due)
    return Funding(*given, "predicted", "mark")


def _prices() -> Prices:
    prices = Prices()
    quotes = {
        "BTC-PERP": ("80462.0", "80466.0", "80074.9", "80077.6", "80008.0", "80012.0"),
        "ETH-PERP": ("2397.8", "2397.9", "2395.70", "2395.88", "2395.24", "2395.40"),
    }
    rates = ("0.000102", "0.00005", "0.000160", "-0.000008", "0.000102")
    for symbol, texts in quotes.items():
        pairs = list(zip(texts[::2], texts[1::2], strict=True))
        for place, name in enumerate(VENUES):
            bid, ask = pairs[place % len(pairs)]
            prices.update(bbo(name, symbol, bid, ask, NOW - 0.05 * (place + 1)))
            prices.update(mark(name, symbol, bid))
            prices.update(funding(name, symbol, rates[place], 3_600 if place % 2 == 0 else 28_800))
    return prices


def sample() -> Overview:
    """Return an overview with something of everything: live, a venue that recovers, and one in a crash loop."""
    history = History()
    start = NOW - 1_260.0
    history.restore(
        [
            *(lifecycle(start + 0.1 * place, name, "started") for place, name in enumerate(VENUES)),
            *(lifecycle(start + 0.6 + 0.1 * place, name, "live") for place, name in enumerate(VENUES)),
            lifecycle(NOW - 700, "aster", "exited", Reason.KILLED),
            lifecycle(NOW - 698.8, "aster", "live"),
        ]
    )
    history.record(system(), NOW - 600)
    deaths = (62, 48, 41, 30, 8.5)
    for place, seconds in enumerate(range(600, -1, -1)):
        now = NOW - seconds
        if seconds == 400:
            for name in (Stream.BOOK, Stream.MARK):
                history.event(changed(now, "aster", name, StreamState.BACKOFF, Reason.SERVER_CLOSE))
        if seconds == 398:
            for name in (Stream.BOOK, Stream.MARK):
                history.event(changed(now, "aster", name, StreamState.LIVE))
        if seconds == 17:
            history.event(changed(now, "extended", Stream.BOOK, StreamState.BACKOFF, Reason.STALE_WATCHDOG))
        for death in deaths:
            if seconds == int(death):
                history.event(lifecycle(NOW - death, "lighter", "exited", Reason.KILLED))
            if death > 10 and seconds == int(death) - 3:
                history.event(lifecycle(now, "lighter", "live"))
        is_away = any(death >= seconds > death - 3 for death in deaths) or seconds < deaths[-1]
        lighter = not_running(age_ms=int(8_500 - 1_000 * seconds) if seconds < 8 else 400) if is_away else venue()
        if seconds < deaths[-1]:
            lighter |= {"crash_loop": True, "failures": 5, "restarts": 7, "next_start_in_s": 6.2}
        extended = without_book() if seconds < 17 else venue()
        document = system({"lighter": lighter, "extended": extended})
        for number, of in enumerate(document["venues"].values()):
            if of["pid"] is not None:
                wave = (place * 7 + number * 3) % 11
                of["streams"]["book"]["events"] = place * (40 + number * 4) + wave
        history.record(document, now)
    return build(document, history, _prices(), NOW)


def main() -> None:
    """Write the sample."""
    sys.stdout.write(msgspec.json.format(msgspec.json.encode(sample()), indent=1).decode() + "\n")


if __name__ == "__main__":
    main()
