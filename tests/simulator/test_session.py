from __future__ import annotations

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ipc.topics import VENUES
from simulator.session import ClientSubscriptions, decoded

PATHS = {
    "hyperliquid": "/ws",
    "aster": "/ws",
    "extended": "/stream.extended.exchange/v1/orderbooks/BTC-USD",
    "lighter": "/stream",
    "paradex": "/v1",
}
#: Valid members of messages, so that random ones pass the first check.
WORDS = st.sampled_from(
    ["subscribe", "SUBSCRIBE", "ping", "post", "l2Book", "BTC", "order_book/0", "bbo.ALL", "2.0", "info", "combined"]
)
KEYS = st.sampled_from(
    ["method", "subscription", "type", "coin", "params", "channel", "id", "jsonrpc", "request", "payload", "nSigFigs"]
)
#: One per venue is enough.
STAGES = {}
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-3, 2**40) | st.floats(allow_nan=False, allow_infinity=False) | WORDS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=5),
    max_leaves=12,
)


@pytest.mark.parametrize("venue", VENUES)
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(message=st.dictionaries(KEYS, VALUES, max_size=6) | VALUES)
def test_no_message_breaks_a_session(new_stage, venue, message):
    if venue not in STAGES:
        STAGES[venue] = new_stage(venue, is_started=False)
    client = STAGES[venue].connect(PATHS[venue])
    client.say(message)
    client.say(msgspec.json.encode(message).decode()[:-1])
    STAGES[venue].run(0.2)


def test_invalid_json_is_none():
    assert decoded(b"{") is None
    assert decoded(b"[" * 100_000) is None
    assert decoded(b'{"a":1}') == {"a": 1}


def test_subscriptions_are_indexed_by_key_and_by_session():
    subscriptions, first, second = ClientSubscriptions(), object(), object()
    assert subscriptions.add(first, "a")
    assert not subscriptions.add(first, "a")
    subscriptions.add(first, "b")
    subscriptions.add(second, "a")
    assert subscriptions.to("a") == [first, second]
    assert subscriptions.keys_of(first) == ["a", "b"]
    assert subscriptions.total == 3
    assert subscriptions.remove(first, "a")
    assert not subscriptions.remove(first, "a")
    subscriptions.drop(first)
    assert subscriptions.to("b") == []
    assert subscriptions.active() == ["a"]


def test_pings_end_with_the_session(new_stage):
    stage = new_stage("paradex", is_started=False)
    client = stage.connect("/v1")
    stage.run(56)
    client.leave()
    stage.run(300)
    assert client.wire.pings == 1
    assert client.wire.close_code is None


def test_the_next_ping_does_not_extend_the_timeout_of_an_unanswered_one(new_stage):
    stage = new_stage("aster", is_started=False)
    client = stage.connect("/ws")
    stage.run(1199)
    assert client.wire.pings == 3
    assert client.wire.close_code is None
    stage.run(2)
    assert client.wire.close_code == 1008
