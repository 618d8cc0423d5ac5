"""The list of what a session asks for: in its order, once, and without repeating itself."""

from __future__ import annotations

import pytest
from fake_venue import BTC, subscription

from ipc.health import Reason, Stream, StreamState
from workers.protocol.actions import ActionQueue, CloseConnection, FetchBook, LogEvent, Send, SendPing, StateChanged
from workers.protocol.book_fetch import FetchState
from workers.protocol.streams import MarketStream


@pytest.fixture
def actions():
    return ActionQueue()


@pytest.fixture
def route():
    return MarketStream(Stream.BOOK, BTC, subscription("BTC-PERP", Stream.BOOK), None)


def test_actions_come_in_their_order_and_once(actions, route):
    assert not actions
    actions.send(b"a", b"b")
    actions.ping()
    actions.log_event("ws.refused", text="no")
    actions.close(Reason.NO_BOOK, "none")
    assert actions
    expected = [
        Send(b"a"),
        Send(b"b"),
        SendPing(),
        LogEvent("ws.refused", {"text": "no"}),
        CloseConnection(Reason.NO_BOOK, "none"),
    ]
    assert actions.drain() == expected
    assert not actions
    assert actions.drain() == []


def test_nothing_to_send_is_nothing_to_do(actions):
    actions.send()
    assert not actions


def test_change_is_reported_with_what_was_before(actions, route):
    actions.change(route, StreamState.LIVE, None)
    actions.change(route, StreamState.STALE, Reason.STALE_WATCHDOG)
    assert actions.drain() == [StateChanged(route, StreamState.OFF), StateChanged(route, StreamState.LIVE)]
    assert (route.state, route.reason) == (StreamState.STALE, Reason.STALE_WATCHDOG)


def test_no_change_is_not_reported_but_another_reason_is(actions, route):
    actions.change(route, StreamState.LIVE, None)
    actions.drain()
    actions.change(route, StreamState.LIVE, None)
    assert not actions
    actions.change(route, StreamState.LIVE, Reason.CROSSED_BOOK)
    assert actions.drain() == [StateChanged(route, StreamState.LIVE)]


def test_book_is_fetched_once_at_a_time(actions, route):
    actions.fetch(route, "bridge", 5)
    actions.fetch(route, "compare", 9)
    assert actions.drain() == [FetchBook(route, "bridge")]
    assert (route.fetch.requested_ns, route.fetch.state) == (5, FetchState.IN_FLIGHT)
    route.fetch.finish(is_rate_limited=False)
    actions.fetch(route, "compare", 9)
    assert actions.drain() == [FetchBook(route, "compare")]
