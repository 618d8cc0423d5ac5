"""Settings of a worker: the defaults that operators rely on, the same for every venue."""

from __future__ import annotations

import dataclasses

import pytest

from ipc.health import Stream
from workers.protocol.policy import Policy
from workers.protocol.session import MarketSession
from workers.settings import WorkerSettings
from workers.venues import VENUES
from workers.venues.listing import Listing

NS = 1_000_000_000
BTC = Listing("BTC", "1", "BTC-USD", market_id="1", funding_interval_s=3600)


def defaults():
    return WorkerSettings("aster", 0, "/run", "ipc://feed", ("BTC",), "ws://x", "http://x")


def test_defaults():
    settings = defaults()
    assert settings.stale_ms == 10_000
    assert settings.connect_timeout_ms == 15_000
    assert settings.read_timeout_ms == 30_000
    assert settings.funding_poll_ms == 10_000
    assert settings.watchdog_tick_ms == 200
    backoff = settings.backoff
    assert (backoff.base_s, backoff.cap_s, backoff.healthy_s, backoff.first_immediate) == (1.0, 30.0, 60.0, False)


def test_settings_never_change():
    with pytest.raises(dataclasses.FrozenInstanceError):
        defaults().stale_ms = 1


def sessions_of(venue, stale_s):
    options = {key: allowed[0] for key, allowed in venue.options.items()}
    policy = Policy(stale_ns=stale_s * NS, ping_ns=NS, pong_ns=NS)
    plans = venue.connections((BTC,), "ws://x", options)
    return [MarketSession(venue, plan, (BTC,), policy) for plan in plans]


@pytest.mark.parametrize("name", VENUES)
@pytest.mark.parametrize("stale_s", [10, 25])
def test_book_of_every_venue_is_stale_after_the_same_setting(name, stale_s):
    routes = [route for session in sessions_of(VENUES[name], stale_s) for route in session.book_streams]
    limits = {route.limit_ns for route in routes if route.kind is Stream.BOOK}
    assert limits == {stale_s * NS}


@pytest.mark.parametrize("name", VENUES)
def test_funding_of_every_venue_is_polled_as_well(name):
    polls = VENUES[name].polls((BTC,))
    assert any(poll.stream is Stream.FUNDING_POLL and poll.period_s is None for poll in polls)


def test_only_aster_has_a_soft_resync():
    assert [name for name, venue in VENUES.items() if venue.continuity.soft_resync] == ["aster"]
