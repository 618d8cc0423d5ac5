from __future__ import annotations

import itertools

import msgspec
import pytest


@pytest.fixture
def stage(new_stage):
    return new_stage("paradex")


@pytest.fixture
def json_client(stage):
    return stage.connect("/v1")


@pytest.fixture
def sbe_client(stage):
    return stage.connect("/v1", sbeSchemaId="1", sbeSchemaVersion="1")


def request(client, method, channel, number=1):
    client.say({"jsonrpc": "2.0", "method": method, "params": {"channel": channel}, "id": number})
    return client.raw()


def call(client, method, channel):
    return [msgspec.json.decode(frame.payload) for frame in request(client, method, channel) if not frame.is_binary]


def refusal(client, method, channel):
    return call(client, method, channel)[0]["error"]


def binary(client, decode):
    return [decode(frame.payload) for frame in client.raw() if frame.is_binary]


def test_an_acknowledgement_precedes_the_first_data_and_ends_in_a_newline(json_client):
    ack, data = request(json_client, "subscribe", "bbo.BTC-USD-PERP", number=3)
    assert ack.payload.endswith(b"}\n")
    assert b'"result":{"channel":"bbo.BTC-USD-PERP"}' in ack.payload
    assert b'"id":3' in ack.payload
    assert b'"method":"subscription"' in data.payload


def test_times_of_acknowledgements_are_text_on_some_servers(stage):
    kinds = set()
    for _ in range(2):
        ack = call(stage.connect("/v1"), "subscribe", "trades.ALL")[0]
        kinds.add(type(ack["usIn"]))
        assert int(ack["usIn"]) + ack["usDiff"] == ack["usOut"]
    assert kinds == {int, str}


@pytest.mark.parametrize("symbol", ["BTC-PERP", "ETH-PERP", "PEPE-PERP"])
def test_naive_books_follow_in_both_encodings(stage, json_client, sbe_client, books, symbol):
    name = stage.venue.markets[symbol].listing.name
    as_json, as_sbe = books.ParadexBook(), books.ParadexBook()
    messages = call(json_client, "subscribe", f"order_book.{name}.deltas")
    sbe_client.say(
        {"jsonrpc": "2.0", "method": "subscribe", "params": {"channel": f"order_book.{name}.deltas"}, "id": 1}
    )
    stage.run(20)
    stage.venue.pause()
    for message in messages + json_client.heard():
        as_json.feed(message)
    for frame in sbe_client.raw():
        if frame.is_binary:
            as_sbe.feed_sbe(frame.payload)
    for book in (as_json, as_sbe):
        assert (book.bids, book.asks) == stage.book(symbol)
        assert book.seq == stage.venue.truth(symbol)["venue_seq"]
        assert book.frames > 20


def test_empty_deltas_count(stage, sbe_client, books):
    call(sbe_client, "subscribe", "order_book.BTC-USD-PERP.deltas")
    stage.run(10)
    events = binary(sbe_client, books.decode_sbe)
    assert any(not event["bids"] and not event["asks"] for event in events)
    assert [event["seq"] for event in events] == list(range(events[0]["seq"], events[0]["seq"] + len(events)))


@pytest.mark.parametrize(
    "suffix", ["snapshot@15@50ms", "snapshot@15@100ms", "snapshot@15@50ms@0_1", "interactive@15@200ms"]
)
def test_top_15_snapshots_are_complete(stage, json_client, books, suffix):
    messages = call(json_client, "subscribe", f"order_book.BTC-USD-PERP.{suffix}")[1:]
    stage.run(5)
    stage.venue.pause()
    messages += json_client.heard()
    book = books.ParadexBook()
    for message in messages:
        assert message["params"]["data"]["update_type"] == "s"
        book.feed(message)
    bids, _ = stage.book("BTC-PERP")
    assert sorted(book.bids, reverse=True) == sorted(bids, reverse=True)[:15]
    seqs = [message["params"]["data"]["seq_no"] for message in messages]
    assert all(before < after for before, after in itertools.pairwise(seqs))
    assert len(seqs) > 10


def test_best_prices_are_null_in_deltas_and_set_in_snapshots(stage, sbe_client, books):
    call(sbe_client, "subscribe", "order_book.BTC-USD-PERP.deltas")
    call(sbe_client, "subscribe", "order_book.ETH-USD-PERP.snapshot@15@100ms")
    stage.run(2)
    events = {}
    for event in binary(sbe_client, books.decode_sbe):
        events.setdefault(event["strings"][0], event)
    stage.run(2)
    for event in binary(sbe_client, books.decode_sbe):
        if event["strings"] == ["BTC-USD-PERP"]:
            assert set(event["best"]) == {-(2**63)}
        else:
            assert event["best"][0] == event["bids"][0][0]
            assert event["best"][2] == event["asks"][0][0]


def test_the_touch_and_trades_have_the_sequence_of_the_book_with_gaps(stage, json_client):
    call(json_client, "subscribe", "bbo.BTC-USD-PERP")
    stage.run(10)
    seqs = [message["params"]["data"]["seq_no"] for message in json_client.heard()]
    assert seqs == sorted(seqs)
    assert any(after > before + 1 for before, after in itertools.pairwise(seqs))
    assert seqs[-1] <= stage.venue.truth("BTC-PERP")["venue_seq"]


def test_each_trade_has_its_own_frame(stage, json_client, sbe_client, books):
    call(json_client, "subscribe", "trades.ALL")
    call(sbe_client, "subscribe", "trades.BTC-USD-PERP")
    stage.run(20)
    rows = [m["params"]["data"] for m in json_client.heard() if m["params"]["data"]["market"] == "BTC-USD-PERP"]
    assert {row["side"] for row in rows} == {"BUY", "SELL"}
    assert all(len(row["id"]) == 28 for row in rows)
    events = binary(sbe_client, books.decode_sbe)
    assert [event["fields"][2] for event in events] == [round(float(row["price"]) * 1e8) for row in rows]
    assert [event["fields"][1] for event in events] == [1 if row["side"] == "BUY" else 2 for row in rows]
    assert rows[-1]["id"] == stage.venue.truth("BTC-PERP")["trades"][-1]["trade_id"]


def test_summaries_are_sent_every_second_and_funding_every_five(stage, json_client):
    call(json_client, "subscribe", "markets_summary.BTC-USD-PERP")
    call(json_client, "subscribe", "funding_data.BTC-USD-PERP")
    stage.run(10.01)
    channels = [message["params"]["channel"] for message in json_client.heard()]
    assert channels.count("markets_summary.BTC-USD-PERP") == 10
    assert channels.count("funding_data.BTC-USD-PERP") == 2


def test_binary_summaries_and_funding_match_json(stage, json_client, sbe_client, books):
    for channel in ("markets_summary.BTC-USD-PERP", "markets_summary.BTC-USD-96000-C", "funding_data.BTC-USD-PERP"):
        as_json = call(json_client, "subscribe", channel)[1]["params"]["data"]
        (event,) = [
            books.decode_sbe(frame.payload) for frame in request(sbe_client, "subscribe", channel) if frame.is_binary
        ]
        numbers = event["fields"]
        if event["template"] == 5:
            assert numbers[0] == pytest.approx(float(as_json["funding_rate"]) * 1e8, abs=1)
            assert numbers[1] == pytest.approx(float(as_json["funding_index"]) * 1e8, abs=1)
            assert event["length"] == 66
            continue
        names = ("mark_price", "underlying_price", "last_traded_price", "volume_24h", "open_interest", "funding_rate")
        for number, name in zip(numbers, (*names, "bid", "ask"), strict=False):
            if as_json[name]:
                assert number == pytest.approx(float(as_json[name]) * 1e8, rel=1e-6, abs=1)
            else:
                assert number == -(2**63)
        assert event["length"] == 240
        assert event["strings"] == [as_json["symbol"]]


def test_the_total_volume_saturates(stage, sbe_client, books):
    frames = request(sbe_client, "subscribe", "markets_summary.BTC-USD-PERP")
    (event,) = [books.decode_sbe(frame.payload) for frame in frames if frame.is_binary]
    assert event["fields"][8] == 2**63 - 1


def test_the_bare_summary_sends_options_with_empty_strings(stage, json_client):
    rows = {
        m["params"]["data"]["symbol"]: m["params"]["data"]
        for m in call(json_client, "subscribe", "markets_summary")[1:]
    }
    option = rows["BTC-USD-96000-C"]
    assert option["funding_rate"] == option["ask"] == ""
    assert option["bid"]
    assert float(rows["BTC-USD-PERP"]["open_interest"]) > 0


def test_the_rate_is_for_eight_hours(stage, json_client):
    row = call(json_client, "subscribe", "funding_data.BTC-USD-PERP")[1]["params"]["data"]
    hourly = stage.venue.markets["BTC-PERP"].funding_e12 / 1e12
    assert float(row["funding_rate"]) == pytest.approx(8 * hourly)
    assert row["funding_period_hours"] == 8


def test_a_misspelt_touch_is_acknowledged_and_silent(stage, json_client):
    assert call(json_client, "subscribe", "bbo.BTC-USD-PERP.fast")[0]["result"]
    stage.run(10)
    assert json_client.heard() == []


@pytest.mark.parametrize(
    "channel", ["order_book.BTC-USD-PERP.deltas@15@50ms", "order_book.BTC-USD-PERP.interactive_deltas@15"]
)
def test_deltas_accept_no_suffix(json_client, channel):
    error = refusal(json_client, "subscribe", channel)
    assert error["code"] == -32600
    assert error["message"] == "invalid subscribe request"
    assert error["data"] == "no parameters expected for deltas topic."


@pytest.mark.parametrize(
    "channel",
    ["order_book.BTC-USD-PERP", "order_book.btc-usd-perp.deltas", "bbo.NOPE-USD-PERP", "nothing", "trades", ""],
)
def test_invalid_channels(json_client, channel):
    assert refusal(json_client, "subscribe", channel)["data"] == "invalid channel"


def test_a_second_subscription_and_an_idle_unsubscription_are_errors(stage, json_client):
    call(json_client, "subscribe", "trades.ALL")
    assert refusal(json_client, "subscribe", "trades.ALL")["code"] == -32600
    assert call(json_client, "unsubscribe", "trades.ALL")[0]["result"] == {"channel": "trades.ALL"}
    assert refusal(json_client, "unsubscribe", "trades.ALL")["code"] == -32600
    stage.run(5)
    assert json_client.heard() == []


def test_a_market_has_one_book_on_a_binary_connection(json_client, sbe_client):
    for client, is_refused in ((json_client, False), (sbe_client, True)):
        call(client, "subscribe", "order_book.BTC-USD-PERP.deltas")
        answer = call(client, "subscribe", "order_book.BTC-USD-PERP.snapshot@15@100ms")[0]
        assert ("error" in answer) == is_refused
        assert "result" in call(client, "subscribe", "order_book.ETH-USD-PERP.snapshot@15@100ms")[0]


def test_json_rpc_errors(json_client):
    def code(message):
        json_client.say(message)
        return json_client.heard()[0]["error"]["code"]

    assert code("nonsense") == -32700
    assert code([1]) == -32600
    assert code({"method": "subscribe", "id": 1}) == -32600
    assert code({"jsonrpc": "2.0", "method": "dance", "id": 1}) == -32601
    assert code({"jsonrpc": "2.0", "method": "subscribe", "params": {}, "id": 1}) == -32602
    assert code({"jsonrpc": "2.0", "method": "auth", "params": {"bearer": "x"}, "id": 1}) == 40110
    assert code({"jsonrpc": "2.0", "method": "auth", "params": {"bearer": "a.b.c"}, "id": 1}) == 40111


@pytest.mark.parametrize(
    "query",
    [
        {"sbeSchemaId": "2", "sbeSchemaVersion": "1"},
        {"sbeSchemaId": "1"},
        {"sbeSchemaVersion": "1"},
        {"sbeSchemaId": "1", "sbeSchemaVersion": "-1"},
        {"sbeSchemaId": "1", "sbeSchemaVersion": "x"},
    ],
)
def test_a_wrong_schema_is_rejected_at_the_upgrade(stage, query):
    assert stage.knock("/v1", **query).status == 400


@pytest.mark.parametrize(("asked", "served"), [("0", 0), ("1", 1), ("2", 2), ("3", 2)])
def test_the_version_is_at_most_the_requested_one_and_the_server_s(stage, books, asked, served):
    client = stage.connect("/v1", sbeSchemaId="1", sbeSchemaVersion=asked)
    call(client, "subscribe", "bbo.BTC-USD-PERP")
    stage.run(3)
    assert {event["version"] for event in binary(client, books.decode_sbe)} == {served}


def test_a_server_may_refuse_a_version_above_its_own(new_stage):
    stage = new_stage("paradex", sbe_version=1, refuses_newer_sbe=True)
    knock = {version: stage.knock("/v1", sbeSchemaId="1", sbeSchemaVersion=version) for version in ("1", "2")}
    assert {version: getattr(found, "status", None) for version, found in knock.items()} == {"1": None, "2": 400}


def test_too_many_connections_are_rejected(stage):
    refused = [getattr(stage.knock("/v1"), "status", None) for _ in range(21)]
    assert refused == [None] * 20 + [429]
    assert stage.knock("/other").status == 404


def test_a_pong_is_due_within_five_seconds(stage, json_client):
    stage.run(55.5)
    assert json_client.wire.pings == 1
    json_client.session.on_pong()
    stage.run(59)
    assert json_client.wire.close_code is None
    stage.run(1)
    assert json_client.wire.close_code == 1008


def test_the_catalogue_has_an_option_and_no_delisted_market(stage):
    rows = {row["symbol"]: row for row in stage.get("/v1/markets")["results"]}
    assert rows["BTC-USD-PERP"]["asset_kind"] == "PERP"
    assert rows["BTC-USD-PERP"]["price_tick_size"] == "0.1"
    assert rows["BTC-USD-96000-C"]["asset_kind"] == "PERP_OPTION"
    assert rows["kPEPE-USD-PERP"]["funding_period_hours"] == "8"
    assert "MATIC-USD-PERP" not in rows
    assert len(stage.get("/v1/markets", market="ETH-USD-PERP")["results"]) == 1


def test_rest_answers(stage):
    book = stage.get("/v1/orderbook/BTC-USD-PERP", depth="100")
    assert {float(p): float(q) for p, q in book["bids"]} == stage.book("BTC-PERP")[0]
    assert book["seq_no"] == stage.venue.truth("BTC-PERP")["venue_seq"]
    assert stage.get("/v1/bbo/BTC-USD-PERP")["bid"] == book["bids"][0][0]
    assert stage.get("/v1/bbo/BTC-USD-96000-C")["ask"] == ""
    assert stage.get("/v1/orderbook/BTC-USD-PERP/interactive")["market"] == "BTC-USD-PERP"
    assert stage.get("/v1/markets/summary", market="BTC-USD-PERP")["results"][0]["symbol"] == "BTC-USD-PERP"
    assert len(stage.get("/v1/markets/summary", market="ALL")["results"]) == 4
    assert stage.get("/v1/trades", market="BTC-USD-PERP")["results"]
    assert stage.get("/v1/system/state") == {"status": "ok"}
    assert stage.get("/v1/system/time")["server_time"].isdigit()


def test_funding_history_pages_on_with_a_cursor(stage):
    now = stage.venue.now_ms()
    begin = str(now - 100_000)
    page = stage.get("/v1/funding/data", market="BTC-USD-PERP", start_at=begin, end_at=str(now), page_size="15")
    rest = stage.get("/v1/funding/data", market="BTC-USD-PERP", start_at=begin, page_size="15", cursor=page["next"])
    times = [row["created_at"] for row in page["results"] + rest["results"]]
    assert len(times) == 20
    assert all(before - after == 5_000 for before, after in itertools.pairwise(times))
    assert rest["next"] is None


def test_rest_errors(stage):
    missing = stage.ask("/v1/orderbook/NOPE-USD-PERP")
    assert missing.status == 400
    assert b'"error":"INVALID_MARKET"' in missing.body
    assert stage.ask("/v1/markets", market="NOPE").status == 400
    assert stage.ask("/v1/markets/summary").status == 400
    assert stage.ask("/v1/orderbook/BTC-USD-PERP", depth="x").status == 400
    assert stage.ask("/v1/nope").status == 404
