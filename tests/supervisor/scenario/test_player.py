"""Scenarios through the real sessions: what a consumer sees, and what goes to the venue, on a clock of their own."""

from __future__ import annotations

import pytest

from ipc.errors import UsageError

BIDS, ASKS = [("99", "1")], [("100", "1")]
WHOLE = ("subscribed", 0, 10, BIDS, ASKS)
TOPIC = "book.lighter.BTC-PERP"


def kinds(playing):
    return [line["kind"] for line in playing.events(TOPIC)]


# --- frames and time ----------------------------------------------------------------------------------------------


def test_frames_become_events_and_a_consumers_book(playing, book):
    playing(book(*WHOLE), {"wait": 1}, book("update", 10, 11, [("99.5", "2")]))
    assert kinds(playing) == ["book_snapshot", "book_delta"]
    assert [line["t"] for line in playing.events(TOPIC)] == [0, 1]
    assert playing.usable() == [(0, "BTC-PERP", None)]


def test_what_the_worker_says_first_is_a_subscription(playing):
    playing()
    assert {"type": "subscribe", "channel": "order_book/1"} in playing.sends()


def test_a_lost_update_makes_the_book_unusable_at_once_and_is_subscribed_again(playing, book):
    playing(book(*WHOLE), {"wait": 1}, book("update", 12, 13, [("98", "1")]), {"wait": 0.1})
    assert kinds(playing) == ["book_snapshot", "gap"]
    assert playing.usable() == [(0, "BTC-PERP", None), (1, "BTC-PERP", "seq_gap")]
    assert {"type": "unsubscribe", "channel": "order_book/1"} in playing.sends()


def test_an_hour_passes_in_a_moment_and_the_feed_stays_alive(playing, book):
    frame = book("update", 10, 10, [("99", "1")])
    playing(book(*WHOLE), {"wait": 3600, "every": 300, "with": [frame]}, settings={"stale_s": 4000})
    assert playing.lines[-1]["t"] == 3600
    assert [line for line in playing.usable() if line[2] == "heartbeat_lost"] == []


def test_repeated_frames_come_at_their_times(playing, book):
    step = {"wait": 2, "every": 0.5, "with": [book(*WHOLE)]}
    playing(step)
    assert [line["t"] for line in playing.events(TOPIC)] == [0.5, 1, 1.5, 2]


def test_steps_may_say_when(playing, book):
    playing(book(*WHOLE, at=0.25), book("update", 10, 11, [("99.5", "2")], at=1.5))
    assert [line["t"] for line in playing.events(TOPIC)] == [0.25, 1.5]


def test_one_scenario_always_gives_the_same(playing, book):
    steps = (book(*WHOLE), {"wait": 12}, book("update", 12, 13, [("98", "1")]), {"wait": 3})
    assert playing(*steps).lines == playing(*steps).lines


def test_a_frame_that_cannot_be_read_is_noted(playing):
    assert "ws.malformed" in playing({"on": "public", "text": "rubbish"}).notes()


def test_malformed_frames_in_a_row_close_the_connection_which_stays_closed(playing, book):
    playing(*[{"on": "public", "text": "rubbish"}] * 10, {"wait": 0.1}, book(*WHOLE))
    (end,) = [line for line in playing.lines if "close" in line]
    assert (end["on"], end["close"]) == ("public/main", "parse_errors")
    assert "frame on a closed connection" in playing.notes()
    assert kinds(playing) == []


def test_a_connection_that_closes_loses_its_books_and_opens_when_the_file_says(playing, book):
    playing(
        book(*WHOLE),
        {"on": "public", "close": "server_close"},
        {"wait": 1},
        {"on": "public", "open": True},
        book("subscribed", 0, 20, BIDS, ASKS),
    )
    assert kinds(playing) == ["book_snapshot", "gap", "book_snapshot"]
    assert [reason for _, _, reason in playing.usable()] == [None, "server_close", None]


def test_a_connection_that_the_file_opens_is_not_open_before(playing):
    playing({"wait": 1}, {"on": "public", "open": True})
    assert [line["t"] for line in playing.lines if "open" in line] == [1]


def test_a_recorded_book_is_taken_over(playing):
    snapshot = {
        "kind": "book_snapshot",
        "venue": "lighter",
        "symbol": "BTC-PERP",
        "venue_symbol": "BTC",
        "exchange_ns": None,
        "bids": [["99", "1"]],
        "asks": [["100", "1"]],
        "depth": None,
        "venue_seq": 5,
        "cause": "refresh",
    }
    playing({"on": "public/main", "open": "midway"}, {"on": "public/main", "book": snapshot})
    assert playing.usable() == [(0, "BTC-PERP", None)]


def test_unanswered_pings_end_the_connection_only_where_the_file_says_so(playing):
    wait = {"wait": 200}
    assert [line for line in playing(wait).lines if line.get("close") == "pong_timeout"] == []
    playing(wait, settings={"pongs": False, "stale_s": 500})
    assert [line["close"] for line in playing.lines if "close" in line] == ["pong_timeout"]


def test_a_venue_of_many_connections_wants_them_named(playing):
    listings = [{"base": "BTC", "wire": "BTC-USD", "venue_symbol": "BTC-USD"}]
    with pytest.raises(UsageError, match=r"file.json:steps\[0\].*say public/book.BTC-PERP"):
        playing({"on": "public", "frame": {}}, venue="extended", listings=listings)
    playing({"on": "public/book.BTC-PERP", "close": "server_close"}, venue="extended", listings=listings)
    opened = [line["on"] for line in playing.lines if "open" in line]
    assert "public/book.BTC-PERP" in opened
    assert len(opened) > 3


def test_an_unknown_venue_an_option_and_a_listing_are_named(playing):
    with pytest.raises(UsageError, match=r"file.json:venue: unknown venue 'nyse' \(venues are hyperliquid"):
        playing(venue="nyse")
    with pytest.raises(UsageError, match=r"file.json:options: paradex has no option encoding = morse.*sbe or json"):
        playing(venue="paradex", options={"encoding": "morse"})
    with pytest.raises(UsageError, match=r"file.json:listings: not a listing"):
        playing(listings=[{"base": "BTC"}])
    with pytest.raises(UsageError, match=r"file.json:listings: unknown keys lott \(a listing has base, wire"):
        playing(listings=[{"base": "BTC", "wire": "1", "venue_symbol": "BTC", "lott": "1"}])


def test_times_that_are_over_and_topics_of_nobody_are_named(playing):
    with pytest.raises(UsageError, match=r"steps\[1\]: at 1 is over \(it is 5 s after the start by then\)"):
        playing({"wait": 5}, {"at": 1, "on": "public", "text": "x"})
    for topic in ("funding", "funding.aster.BTC-PERP", "book.lighter.BTC-PERP", "order.lighter.desk"):
        with pytest.raises(UsageError, match=rf"steps\[0\]: '{topic}' is no topic of this venue"):
            playing({"expect": {"last": {topic: None}}})
    with pytest.raises(UsageError, match=r"file.json:expect: 'x' is no topic of this venue"):
        playing(expect={"last": {"x": None}})


def test_a_wrong_repeated_step_is_named(playing):
    with pytest.raises(UsageError, match=r"steps\[0\]\.with\[1\]: 'public/x' is no connection"):
        playing({"wait": 1, "every": 1, "with": [{"wait": 0}, {"on": "public/x", "text": ""}]})


@pytest.mark.parametrize("event", [5, {"a": 1}, {"kind": "trade"}])
def test_a_recorded_book_that_is_none_is_named(playing, event):
    with pytest.raises(UsageError, match=r"steps\[0\]: not a book_snapshot"):
        playing({"on": "public", "book": event})


def test_a_wrong_connection_among_frames_is_named_with_its_step(playing):
    frames = [{"on": "public", "text": "x"}, {"on": "public/main", "text": "x"}, {"on": "public/x", "text": "x"}]
    with pytest.raises(UsageError, match=r"steps\[2\]: 'public/x' is no connection of this venue \(say public/main\)"):
        playing(*frames)


def test_frames_before_there_are_markets(playing):
    with pytest.raises(UsageError, match=r"steps\[0\]: 'public' is no connection.*list its markets before"):
        playing({"on": "public", "text": "x"}, listings=None)


def test_a_crash_is_a_finding_and_the_rest_is_played(playing, book, monkeypatch):
    def fall(*_):
        raise KeyError("a fault of ours")

    monkeypatch.setattr("workers.protocol.book_sync.BookSync.on_snapshot", fall)
    playing(book(*WHOLE), {"wait": 1}, {"expect": {"seen": [{"note": "crash"}]}})
    (text,) = playing.missed
    assert text.startswith("file.json:steps[0]: a worker crashes: KeyError: 'a fault of ours' (test_player.py:")
    assert playing.lines[-1]["t"] <= 1


# --- REST -----------------------------------------------------------------------------------------------------------


def test_a_mute_book_is_compared_and_the_answer_comes_when_the_file_says(playing, book, rest_book):
    to = {"on": "rest", "to": "book BTC-PERP"}
    playing(book(*WHOLE), {"wait": 12}, {**to, "answer": rest_book("99", "100")}, {"wait": 1})
    assert playing.requests() == ["book BTC-PERP compare"]
    assert [line["t"] for line in playing.lines if "answered" in line] == [12]
    states = [line["state"] for line in playing.events("status.lighter") if line["stream"] == "book"]
    assert states[-1] == "quiet"


def test_an_answer_may_wait_for_its_request(playing, book, rest_book):
    answer = {"on": "rest", "to": "book BTC-PERP", "answer": rest_book("99", "100")}
    playing(book(*WHOLE), answer, {"wait": 12}, {"expect": {"counts": {"unused_answers": 0}}})
    assert playing.missed == []
    (answered,) = [line for line in playing.lines if "answered" in line]
    assert 10 < answered["t"] < 11


def test_a_refused_answer(playing, book):
    playing(book(*WHOLE), {"wait": 12}, {"on": "rest", "refuse": {"status": 429}}, {"wait": 0.5})
    (failed,) = [line for line in playing.lines if "failed" in line]
    assert (failed["failed"], failed["reason"]) == ("book BTC-PERP compare", "rate_limited")
    assert playing.usable() == [(0, "BTC-PERP", None)]


def test_without_an_answer_it_stays_unanswered(playing, book):
    playing(book(*WHOLE), {"wait": 15})
    assert playing.requests() == ["book BTC-PERP compare"]


def test_a_bridged_book_is_joined_to_the_answer(playing):
    def depth(first, last, before):
        data = {"e": "depthUpdate", "E": 1, "T": 1, "s": "BTCUSDT", "U": first, "u": last, "pu": before}
        return {
            "on": "public",
            "frame": {"stream": "btcusdt@depth@100ms", "data": {**data, "b": [["99", "2"]], "a": []}},
        }

    body = {"lastUpdateId": 10, "E": 1, "T": 1, "bids": [["99", "1"]], "asks": [["100", "1"]]}
    playing(
        depth(9, 12, 8),
        {"on": "rest", "to": "book", "answer": body},
        venue="aster",
        listings=[{"base": "BTC", "wire": "BTCUSDT", "venue_symbol": "BTCUSDT"}],
    )
    assert playing.requests() == ["book BTC-PERP bridge"]
    assert [line["kind"] for line in playing.events("book.aster.BTC-PERP")] == ["book_snapshot", "book_delta"]
    assert playing.usable() == [(0, "BTC-PERP", None)]


MARKET = {
    "symbol": "BTC-USD-PERP",
    "base_currency": "BTC",
    "quote_currency": "USD",
    "settlement_currency": "USDC",
    "order_size_increment": "0.001",
    "price_tick_size": "0.1",
    "asset_kind": "PERP",
    "market_kind": "cross",
    "funding_period_hours": 8,
}


def test_markets_may_come_by_rest(playing):
    step = {"on": "rest", "to": "listings", "answer": {"results": [MARKET]}}
    playing(step, venue="paradex", listings=None)
    (event,) = playing.events("instrument.paradex.BTC-PERP")
    assert event["funding_interval_s"] == 28_800
    assert playing.requests() == ["listings"]
    assert [line["on"] for line in playing.lines if "open" in line] == ["public/main"]


def test_a_refused_list_is_noted(playing):
    playing({"on": "rest", "to": "listings", "refuse": {"status": 503}}, venue="paradex", listings=None)
    (note,) = [line for line in playing.lines if "note" in line]
    assert (note["note"], note["error"]) == ("markets.unresolved", "HTTP 503: ")


def test_a_list_that_is_none_is_noted(playing):
    playing({"on": "rest", "to": "listings", "answer": {"error": "X"}}, venue="paradex", listings=None)
    assert playing.notes() == ["markets.unresolved"]


def test_a_venue_that_asks_twice_for_its_list_wants_both_answers(playing):
    with pytest.raises(UsageError, match=r"no answer for GET /fapi/v3/exchangeInfo"):
        playing({"on": "rest", "to": "listings", "answers": {"fundingInfo": []}}, venue="aster", listings=None)


def test_polls(playing):
    rates = {"code": 200, "funding_rates": [{"market_id": 1, "exchange": "lighter", "symbol": "BTC", "rate": 0.0001}]}
    playing({"on": "rest", "to": "poll predicted", "answer": rates})
    (event,) = playing.events("funding.lighter.BTC-PERP")
    assert (event["source"], event["flags"]) == ("rest", ["rest"])
    playing({"on": "rest", "to": "poll predicted", "refuse": {"reason": "read_timeout"}})
    assert playing.notes() == ["poll.failed"]
    with pytest.raises(UsageError, match=r"no poll 'weather' \(say one of: poll predicted"):
        playing({"on": "rest", "to": "poll weather", "answer": {}})


# --- the wall clock ---------------------------------------------------------------------------------------------------


def test_the_wall_clock_may_be_set(playing, book):
    step = {"on": "rest", "to": "poll predicted", "answer": {"code": 200, "funding_rates": []}}
    playing({"now": "2030-01-01T00:00:00Z"}, step, now="2026-01-01T00:00:00Z")
    assert playing.missed == []


# --- the account ------------------------------------------------------------------------------------------------------

ADDRESS = "0x" + "5a" * 20
ACCOUNT = {"alias": "desk", "credentials": {"HL_VAULT_ADDRESS": ADDRESS}}


def hl_order(oid, status="open", at=10):
    order = {
        "coin": "ETH",
        "side": "B",
        "limitPx": "10",
        "sz": "2",
        "oid": oid,
        "timestamp": 5,
        "origSz": "2",
        "orderType": "Limit",
        "reduceOnly": False,
    }
    return {"order": order, "status": status, "statusTimestamp": at}


def pushed(*orders):
    return {"on": "account", "frame": {"channel": "orderUpdates", "data": list(orders)}}


STATE = {
    "marginSummary": {"accountValue": "5", "totalNtlPos": "0", "totalRawUsd": "5", "totalMarginUsed": "0"},
    "crossMaintenanceMarginUsed": "0",
    "withdrawable": "5",
    "assetPositions": [],
    "time": 10,
}


def everything(**more):
    return {
        "userFillsByTime": [],
        "userFunding": [],
        "frontendOpenOrders": [],
        "historicalOrders": [],
        "clearinghouseState": STATE,
        "spotClearinghouseState": {"balances": []},
        "perpDexs": [None],
        **more,
    }


def orders(playing):
    return [(line["order_id"], line["status"]) for line in playing.events("order.hyperliquid.desk")]


def test_the_accounts_frames_reach_a_consumer_of_the_account(playing):
    playing(pushed(hl_order(7)), venue="hyperliquid", listings=None, account={"alias": "desk"})
    assert orders(playing) == [("7", "open")]


def test_a_login_is_sent_and_never_shown_with_its_credentials(playing):
    playing(pushed(hl_order(7)), venue="hyperliquid", listings=None, account=ACCOUNT)
    assert playing.sends("account")[0]["method"] == "subscribe"
    playing({"on": "rest", "answers": everything()}, venue="hyperliquid", listings=None, account=ACCOUNT)
    assert playing.requests()[0] == "account"


def test_an_order_that_rest_does_not_list_was_closed_unseen(playing):
    playing(
        pushed(hl_order(7)),
        {"wait": 1},
        {"on": "rest", "answers": everything()},
        {"expect": {"account": {"usable": True, "orders": {"7": {"status": "closed"}}}}},
        venue="hyperliquid",
        listings=None,
        account=ACCOUNT,
    )
    assert orders(playing) == [("7", "open"), ("7", "closed")]
    assert playing.missed == []


def test_a_push_overtakes_an_answer_that_was_asked_for_before(playing):
    playing(
        {"on": "rest", "ask": "account"},
        {"wait": 1},
        pushed(hl_order(7)),
        {"wait": 1},
        {"on": "rest", "answers": everything()},
        venue="hyperliquid",
        listings=None,
        account=ACCOUNT,
    )
    assert orders(playing) == [("7", "open")]


def test_single_answers_and_refusals_of_the_account(playing):
    playing(
        {"on": "account", "open": True},
        {"on": "rest", "ask": "account"},
        {"on": "rest", "to": "POST", "refuse": {"status": 500}},
        venue="hyperliquid",
        listings=None,
        account=ACCOUNT,
    )
    (failed,) = [line for line in playing.lines if "failed" in line]
    assert (failed["failed"], failed["reason"]) == ("account", "refused")


def test_credentials_that_are_missing_or_unknown_are_named(playing):
    listings = [{"base": "ETH", "wire": "ETHUSDT", "venue_symbol": "ETHUSDT"}]
    with pytest.raises(UsageError, match=r"file.json:account: unknown credentials HL_KEY \(aster has ASTER_API_KEY"):
        playing(venue="aster", listings=listings, account={"credentials": {"HL_KEY": "x"}})
    with pytest.raises(UsageError, match="unknown credentials ASTER_API_KEY_COMMAND"):
        playing(venue="aster", listings=listings, account={"credentials": {"ASTER_API_KEY_COMMAND": "id"}})


def test_credentials_that_are_none_are_refused_as_in_a_worker(playing):
    account = {"credentials": {"HL_VAULT_ADDRESS": "0x12"}}
    playing({"on": "account", "open": True}, venue="hyperliquid", listings=None, account=account)
    (failed,) = [line for line in playing.lines if "failed" in line]
    assert (failed["failed"], failed["reason"]) == ("login", "auth_failed")
    assert "is no address" in failed["text"]


def test_the_environments_credentials_are_not_used(playing, monkeypatch):
    monkeypatch.setenv("HL_VAULT_ADDRESS", "0x" + "99" * 20)
    playing({"on": "account", "open": True}, venue="hyperliquid", listings=None)
    assert playing.sends("account") == []


def test_a_closed_account_connection_takes_no_frames(playing):
    steps = ({"on": "account", "open": True}, {"on": "account", "close": "server_close"}, pushed(hl_order(7)))
    playing(*steps, venue="hyperliquid", listings=None)
    assert orders(playing) == []
    assert playing.notes() == ["frame on a closed connection"]


def test_malformed_account_frames_end_the_connection(playing):
    steps = [{"on": "account", "text": "{rubbish"}] * 10
    playing(*steps, venue="hyperliquid", listings=None)
    (end,) = [line for line in playing.lines if "close" in line]
    assert (end["on"], end["close"]) == ("account", "parse_errors")
    playing(*steps[:2], {"expect": {"counts": {"malformed": 2}}}, venue="hyperliquid", listings=None)
    assert playing.missed == []


def test_a_request_is_named_by_its_own_words_and_not_by_what_it_is_for(playing):
    empty = {"next": None, "results": []}
    reported = {"account_value": "12", "free_collateral": "5"}
    calls = ("fills", "orders", "orders-history", "positions", "balance")
    playing(
        {"on": "rest", "answers": {"account": reported, **dict.fromkeys(calls, empty)}},
        venue="paradex",
        listings=None,
        account={"alias": "desk", "credentials": {"PARADEX_JWT": "a.b.c"}},
    )
    assert [line["answered"] for line in playing.lines if "answered" in line] == ["account"]
    assert [line["equity"] for line in playing.events("margin.paradex.desk")] == ["12"]
