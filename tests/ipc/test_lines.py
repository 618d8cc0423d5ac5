"""Names of lines: a keeps the venue's, b has its own; events name their line only where there are two."""

from __future__ import annotations

import msgspec
import pytest
import zmq

from ipc.codec import encode
from ipc.events import Trade
from ipc.lines import LINES, line_of, other_line, process_of, venue_of
from ipc.publisher import Publisher
from ipc.topics import VENUES, Topic


@pytest.mark.parametrize("venue", VENUES)
@pytest.mark.parametrize("line", LINES)
def test_venue_and_line_of_a_process_are_those_it_was_named_by(venue, line):
    process = process_of(venue, line)
    assert (venue_of(process), line_of(process)) == (venue, line)
    assert other_line(other_line(line)) == line != other_line(line)


def test_line_a_and_an_only_line_keep_the_venues_name():
    assert process_of("lighter", "a") == process_of("lighter", None) == "lighter"
    assert process_of("lighter", "b") == "lighter.b"
    assert venue_of("gateway") == "gateway"


@pytest.mark.parametrize(("line", "expected"), [(None, None), ("a", "a"), ("b", "b")])
def test_publisher_names_its_line_in_each_event(short_dir, line, expected):
    context = zmq.Context()
    publisher = Publisher(context, f"ipc://{short_dir}/lighter.feed", 7, line=line)
    event = Trade("lighter", "BTC-PERP", "1", None, "1", "2", "buy", "3")
    with publisher.exclusive():
        publisher.send(publisher.topic(Topic("trade", "lighter", "BTC-PERP")), event)
    publisher.close()
    context.term()
    assert msgspec.json.decode(encode(event)).get("line") == expected
    assert ("line" in msgspec.json.decode(encode(event))) == (expected is not None)
