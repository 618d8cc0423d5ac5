"""The list of what a session asks for: in its order, once, and without repeating itself."""

from __future__ import annotations

import pytest
from fake_venue import BTC, subscription

from ipc.health import Reason, Stream, StreamState
from workers.protocol.actions import ActionQueue, CloseConnection, FetchBook, LogEvent, Send, SendPing, StateChanged
from workers.protocol.streams import MarketStream


@pytest.fixture
def todo():
    return ActionQueue()


@pytest.fixture
def route():
    return MarketStream(Stream.BOOK, BTC, subscription("BTC-PERP", Stream.BOOK), None)


def test_actions_come_in_their_order_and_once(todo, route):
    assert not todo
    todo.send(b"a", b"b")
    todo.ping()
    todo.note("ws.refused", text="no")
    todo.close(Reason.NO_BOOK, "none")
    assert todo
    expected = [
        Send(b"a"),
        Send(b"b"),
        SendPing(),
        LogEvent("ws.refused", {"text": "no"}),
        CloseConnection(Reason.NO_BOOK, "none"),
    ]
    assert todo.take() == expected
    assert not todo
    assert todo.take() == []


def test_nothing_to_send_is_nothing_to_do(todo):
    todo.send()
    assert not todo


def test_change_is_told_with_what_was_before(todo, route):
    todo.change(route, StreamState.LIVE, None)
    todo.change(route, StreamState.STALE, Reason.STALE_WATCHDOG)
    assert todo.take() == [StateChanged(route, StreamState.OFF), StateChanged(route, StreamState.LIVE)]
    assert (route.state, route.reason) == (StreamState.STALE, Reason.STALE_WATCHDOG)


def test_no_change_is_not_told_but_another_reason_is(todo, route):
    todo.change(route, StreamState.LIVE, None)
    todo.take()
    todo.change(route, StreamState.LIVE, None)
    assert not todo
    todo.change(route, StreamState.LIVE, Reason.CROSSED_BOOK)
    assert todo.take() == [StateChanged(route, StreamState.LIVE)]


def test_book_is_fetched_once_at_a_time(todo, route):
    todo.fetch(route, "bridge", 5)
    todo.fetch(route, "compare", 9)
    assert todo.take() == [FetchBook(route, "bridge")]
    assert (route.fetched_ns, route.is_fetching) == (5, True)
    route.is_fetching = False
    todo.fetch(route, "compare", 9)
    assert todo.take() == [FetchBook(route, "compare")]
