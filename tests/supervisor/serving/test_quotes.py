"""Quotes of the gateway, from a real publisher."""

from __future__ import annotations

import pytest
import zmq
from systems import wait_for

from ipc.codec import encode
from ipc.events import Bbo, Mark
from ipc.publisher import Publisher
from ipc.topics import Topic
from supervisor.serving.quotes import Quotes, latest

VENUES = ("lighter",)


@pytest.fixture
def publish(context, run_dir):
    """Publish events of BTC-PERP, the last one of each kind also for late subscribers."""
    publisher = Publisher(context, run_dir.feed("lighter"), 1, refresh_ns=0)

    def publish(*events):
        with publisher.exclusive():
            for event in events:
                topic = Topic(type(event).__name__.lower(), "lighter", "BTC-PERP")
                publisher.send_latest(publisher.topic(topic), "ws", event)

    yield publish
    publisher.close()


@pytest.fixture
def quotes(context, run_dir):
    quotes = Quotes(context, run_dir)
    yield quotes
    quotes.close()


def bbo(bid):
    return Bbo("lighter", "BTC-PERP", "1", None, bid, "1", "101", "1")


def mark():
    return Mark("lighter", "BTC-PERP", "1", None, "100", None, None, None, None)


def received(quotes, publish, *, with_marks=False):
    """Return what is read once the subscription is in effect, which sends the last events."""
    return wait_for(lambda: (publish(), quotes.read(VENUES, with_marks=with_marks))[1])


def test_of_a_markets_quotes_only_the_last_one_is_decoded():
    eth, btc, funding = b"bbo.lighter.ETH-PERP", b"bbo.lighter.BTC-PERP", b"funding.lighter.BTC-PERP"
    messages = [(btc, b"1"), (funding, b"2"), (eth, b"3"), (btc, b"4"), (funding, b"5")]
    assert sorted(latest(messages)) == [b"2", b"3", b"4", b"5"]


def test_marks_come_while_they_are_wanted(quotes, publish):
    publish(bbo("90"), mark())
    assert not any(isinstance(event, Mark) for event in received(quotes, publish))
    assert [type(event) for event in received(quotes, publish, with_marks=True)] == [Mark]
    wait_for(
        lambda: (quotes.read(VENUES, with_marks=False), publish(mark()), quotes.read(VENUES, with_marks=False))[2] == []
    )


def test_it_is_open_from_the_first_read_until_it_is_closed(quotes, publish):
    assert quotes.open_s == 0
    quotes.read(VENUES, with_marks=False)
    assert quotes.open_s > 0
    quotes.close()
    assert quotes.open_s == 0


def test_what_is_no_event_is_left_out(context, run_dir, quotes):
    socket = context.socket(zmq.PUB)
    socket.bind(run_dir.feed("lighter"))

    def read():
        socket.send_multipart([b"funding.lighter.BTC-PERP", b"\x00garbage"])
        socket.send_multipart([b"bbo.lighter.BTC-PERP", encode(bbo("90"))])
        return quotes.read(VENUES, with_marks=False)

    assert {type(event) for event in wait_for(read)} == {Bbo}
    socket.close()
