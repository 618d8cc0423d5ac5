"""Frames that the simulator cannot build are counted and skipped; no connection ends."""

from __future__ import annotations

import logging

import msgspec
import pytest

from ipc.topics import VENUES
from simulator.admin import Admin
from simulator.failures import Failures
from simulator.rest import HttpRequest
from simulator.venues.paradex import sbe as paradex_sbe

NULL = -(2**63)
CHANNELS = {
    "hyperliquid": (
        "/ws",
        [{"method": "subscribe", "subscription": {"type": "l2Book", "coin": coin}} for coin in ("BTC", "ETH")],
    ),
    "aster": ("/ws/btcusdt@depth@100ms/ethusdt@depth@100ms", []),
    "extended": ("/stream.extended.exchange/v1/orderbooks", []),
    "lighter": ("/stream", [{"type": "subscribe", "channel": f"order_book/{number}"} for number in (0, 1)]),
    "paradex": (
        "/v1",
        [
            {"jsonrpc": "2.0", "id": 1, "method": "subscribe", "params": {"channel": f"order_book.{name}.deltas"}}
            for name in ("BTC-USD-PERP", "ETH-USD-PERP")
        ],
    ),
}


def summaries(stage, books, market):
    client = stage.connect("/v1", sbeSchemaId="1", sbeSchemaVersion="1")
    params = {"channel": f"markets_summary.{market}"}
    client.say({"jsonrpc": "2.0", "id": 1, "method": "subscribe", "params": params})
    stage.run(3)
    frames = [books.decode_sbe(frame.payload) for frame in client.raw() if frame.is_binary]
    assert client.wire.close_code is None
    assert not client.wire.is_aborted
    return [frame["fields"] for frame in frames if frame["template"] == 4]


def test_an_open_interest_that_does_not_fit_is_sent_as_missing(new_stage, books):
    stage = new_stage("paradex", bases=("BTC", "PEPE"))
    thousands, usual = summaries(stage, books, "kPEPE-USD-PERP"), summaries(stage, books, "BTC-USD-PERP")
    assert len(thousands) >= 3
    assert {fields[4] for fields in thousands} == {NULL}
    assert all(fields[0] > 0 for fields in thousands), "the mark price is sent"
    assert all(fields[4] > 0 for fields in usual)


@pytest.mark.parametrize(("number", "written"), [(2**63 - 1, 2**63 - 1), (2**63, NULL), (-(2**70), NULL), (-5, -5)])
def test_a_number_fits_or_is_missing(number, written):
    assert paradex_sbe.fitting(number) == written


@pytest.mark.parametrize("name", VENUES)
def test_a_market_that_cannot_be_encoded_does_not_affect_others_or_the_connection(new_stage, fakes, monkeypatch, name):
    monkeypatch.setattr(fakes, "EXPECTED_FAILURES", {"BTC-PERP"})
    stage = new_stage(name)
    path, requests = CHANNELS[name]
    client = stage.connect(path)
    for request in requests:
        client.say(request)
    stage.run(2)
    client.raw()
    make = type(stage.venue).text

    def text(value):
        frame = make(stage.venue, value)
        if b"BTC" in frame.payload or b"order_book:1" in frame.payload:
            raise OverflowError("does not fit")
        return frame

    monkeypatch.setattr(stage.venue, "text", text)
    stage.run(6)
    assert client.raw(), "the other market goes on"
    assert "BTC-PERP" in {row["symbol"] for row in stage.venue.failures.describe()}
    assert client.wire.close_code is None
    assert not client.wire.is_aborted
    assert {row["error"] for row in stage.venue.failures.describe()} == {"OverflowError"}


def test_a_request_that_cannot_be_answered_does_not_close_the_connection(new_stage, fakes, monkeypatch):
    monkeypatch.setattr(fakes, "EXPECTED_FAILURES", {""})
    stage = new_stage("lighter")
    client = stage.connect("/stream")
    monkeypatch.setattr(stage.venue, "first_frames", lambda *_: 1 / 0)
    client.say({"type": "subscribe", "channel": "order_book/1"})
    client.raw()
    client.say({"type": "ping"})
    assert client.heard() == [{"type": "pong"}]
    assert stage.venue.failures.counts["request", "", "ZeroDivisionError"] == 1
    monkeypatch.setattr(stage.venue.routes, "answer", lambda _: 1 / 0)
    assert stage.ask("/api/v1/orderBooks").status == 500
    assert stage.venue.failures.counts["rest", "", "ZeroDivisionError"] == 1


def test_failures_are_logged_at_powers_of_ten_and_listed_by_the_admin_api(caplog, new_stage, monkeypatch):
    failures = Failures("paradex")
    with caplog.at_level(logging.ERROR):
        for number in range(120):
            with failures.guard("mark", "PEPE-PERP"):
                raise OverflowError(str(number))
    assert [record.fields["count"] for record in caplog.records] == [1, 10, 100]
    stage = new_stage("paradex")
    monkeypatch.setattr(stage.venue, "failures", failures)
    response = Admin({"paradex": stage.venue}, stage.controller).answer(HttpRequest("GET", "/errors"))
    row = {"what": "mark", "symbol": "PEPE-PERP", "error": "OverflowError", "count": 120, "last": "119"}
    assert msgspec.json.decode(response.body) == {"paradex": [row]}


def test_kinds_of_failures_are_bounded():
    failures = Failures("paradex")
    for number in range(2000):
        with failures.guard("mark", f"M{number}-PERP"):
            raise ValueError
    assert len(failures.counts) <= 501
    assert failures.counts.total() == 2000
