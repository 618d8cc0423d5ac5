"""The dialogue about subscriptions: its pace, what is asked again, and how one that kills its connection is found."""

from __future__ import annotations

import pytest
from fake_venue import subscription

from ipc.health import Stream
from workers.protocol.pacing import TokenBucket
from workers.protocol.subscriptions import SubscriptionManager
from workers.venues.venue import ChannelSubscription, ConnectionSpec, VenueLimits

NS = 1_000_000_000
NOW = 1_000 * NS
BOOK, TRADES, MARK = (subscription("BTC-PERP", stream) for stream in (Stream.BOOK, Stream.TRADE, Stream.MARK))
ALL = (BOOK, TRADES, MARK)
FAST = VenueLimits(burst=100, messages_per_s=100, rest_weight_per_min=1)


def talk(*subscriptions, limits=FAST, in_url=False):
    return SubscriptionManager(ConnectionSpec("main", "ws://venue.test", subscriptions, in_url=in_url), pace_of(limits))


def pace_of(limits):
    return TokenBucket(limits.burst, limits.messages_per_s)


@pytest.fixture
def open_talk():
    """All three subscriptions on an open connection, asked for and confirmed."""
    dialogue = talk(*ALL)
    dialogue.opened(NOW)
    dialogue.sends(NOW)
    for one in ALL:
        dialogue.answered(one.key, NOW)
    return dialogue


def keys(subscriptions):
    return [one.key for one in subscriptions]


# --- asking -------------------------------------------------------------------------------------------------------


def test_everything_is_asked_for_once_when_the_connection_opens():
    dialogue = talk(*ALL)
    dialogue.opened(NOW)
    assert dialogue.sends(NOW) == [one.subscribe for one in ALL]
    assert dialogue.sends(NOW + NS) == []


def test_everything_is_asked_for_again_on_the_next_connection(open_talk):
    open_talk.closed(NOW)
    open_talk.opened(NOW + NS)
    assert open_talk.sends(NOW + NS) == [one.subscribe for one in ALL]


def test_messages_keep_the_venues_pace():
    dialogue = talk(*ALL, limits=VenueLimits(burst=2, messages_per_s=2, rest_weight_per_min=1))
    dialogue.opened(NOW)
    assert dialogue.sends(NOW) == [BOOK.subscribe, TRADES.subscribe]
    assert dialogue.sends(NOW + NS // 4) == []
    assert dialogue.sends(NOW + NS // 2) == [MARK.subscribe]


def test_pace_is_kept_over_connections():
    """Venues count the messages of an address, whatever connection they come on."""
    dialogue = talk(BOOK, limits=VenueLimits(burst=2, messages_per_s=0.1, rest_weight_per_min=1))
    sent = []
    for second in range(20):
        now = NOW + second * NS
        dialogue.opened(now)
        sent += dialogue.sends(now)
        dialogue.answered(BOOK.key, now)
        dialogue.closed(now)
    assert sent == [BOOK.subscribe] * 3


def test_connections_that_share_a_pace_keep_it_together():
    pace = pace_of(VenueLimits(burst=2, messages_per_s=2, rest_weight_per_min=1))
    one, other = (
        SubscriptionManager(ConnectionSpec(name, "ws://venue.test", ALL), pace) for name in ("main", "main.2")
    )
    for dialogue in (one, other):
        dialogue.opened(NOW)
    assert len(one.sends(NOW)) == 2
    assert other.sends(NOW) == []
    assert len(other.sends(NOW + NS)) == 2


def test_posted_messages_go_first_and_at_the_same_pace():
    dialogue = talk(BOOK, limits=VenueLimits(burst=2, messages_per_s=1, rest_weight_per_min=1))
    dialogue.opened(NOW)
    dialogue.post(b"ping")
    dialogue.post(b"pong")
    assert dialogue.sends(NOW) == [b"ping", b"pong"]
    assert dialogue.sends(NOW + NS) == [BOOK.subscribe]


def test_posted_messages_of_the_last_connection_are_not_sent_on_the_next():
    dialogue = talk()
    dialogue.opened(NOW)
    dialogue.post(b"ping")
    dialogue.closed(NOW)
    dialogue.opened(NOW)
    assert dialogue.sends(NOW) == []


@pytest.mark.parametrize("is_in_url", [True, False])
def test_what_the_url_subscribes_is_active_without_a_message(is_in_url):
    silent = ChannelSubscription("book", (Stream.BOOK,), "BTC-PERP", BOOK.subscribe if is_in_url else None)
    dialogue = talk(silent, in_url=is_in_url)
    dialogue.opened(NOW)
    assert dialogue.sends(NOW) == []
    assert dialogue.closed(NOW) == []


# --- answers ------------------------------------------------------------------------------------------------------


def test_confirmed_subscription_is_active():
    dialogue = talk(BOOK)
    dialogue.opened(NOW)
    dialogue.sends(NOW)
    assert dialogue.answered(BOOK.key, NOW) is BOOK
    assert dialogue.overdue(NOW + 100 * NS) == []


def test_answers_may_name_the_request_instead():
    aliased = subscription("BTC-PERP", Stream.BOOK, alias="id:7")
    dialogue = talk(aliased, TRADES)
    dialogue.opened(NOW)
    dialogue.sends(NOW)
    assert dialogue.answered("id:7", NOW) is aliased
    assert dialogue.find("id:7") is dialogue.find(aliased.key) is aliased


def test_answers_about_something_else_are_nothing():
    dialogue = talk(BOOK)
    dialogue.opened(NOW)
    assert dialogue.answered("book.DOGE-PERP", NOW) is None
    assert dialogue.find("book.DOGE-PERP") is None
    assert dialogue.find(None) is None
    dialogue.left("book.DOGE-PERP", NOW)


def test_subscription_without_an_answer_is_asked_for_again_after_ten_seconds():
    dialogue = talk(BOOK, TRADES)
    dialogue.opened(NOW)
    dialogue.sends(NOW)
    dialogue.answered(BOOK.key, NOW)
    assert dialogue.overdue(NOW + 10 * NS) == []
    assert keys(dialogue.overdue(NOW + 11 * NS)) == [TRADES.key]
    assert dialogue.sends(NOW + 11 * NS) == [TRADES.subscribe]
    assert dialogue.overdue(NOW + 20 * NS) == []


def test_late_ack_of_an_old_connection_does_not_spare_the_new_one_its_request(open_talk):
    open_talk.closed(NOW)
    open_talk.answered(BOOK.key, NOW)
    open_talk.opened(NOW + NS)
    assert BOOK.subscribe in open_talk.sends(NOW + NS)


# --- subscribing again ---------------------------------------------------------------------------------------------


def test_resubscription_leaves_waits_for_the_answer_and_joins(open_talk):
    assert open_talk.resubscribe(BOOK, NOW)
    assert open_talk.sends(NOW) == [BOOK.unsubscribe]
    assert open_talk.sends(NOW + NS) == []
    open_talk.left(BOOK.key, NOW + NS)
    assert open_talk.sends(NOW + NS) == [BOOK.subscribe]
    assert open_talk.answered(BOOK.key, NOW + NS) is BOOK


def test_ack_while_leaving_is_the_answer_to_leaving(open_talk):
    """Some venues answer both with the same word."""
    open_talk.resubscribe(BOOK, NOW)
    open_talk.sends(NOW)
    assert open_talk.answered(BOOK.key, NOW) is None
    assert open_talk.sends(NOW) == [BOOK.subscribe]


def test_leaving_without_an_answer_is_taken_for_done_after_two_seconds(open_talk):
    open_talk.resubscribe(BOOK, NOW)
    open_talk.sends(NOW)
    assert open_talk.sends(NOW + 2 * NS) == []
    assert open_talk.sends(NOW + 2 * NS + 1) == [BOOK.subscribe]


def test_second_wish_while_the_first_is_under_way_sends_nothing(open_talk):
    for _ in range(3):
        assert open_talk.resubscribe(BOOK, NOW)
    assert open_talk.sends(NOW) == [BOOK.unsubscribe]
    open_talk.left(BOOK.key, NOW)
    assert open_talk.resubscribe(BOOK, NOW)
    assert open_talk.sends(NOW) == [BOOK.subscribe]


def test_venue_without_a_message_to_leave_cannot_resubscribe():
    one_way = subscription("BTC-PERP", Stream.BOOK, can_leave=False)
    dialogue = talk(one_way)
    dialogue.opened(NOW)
    assert not dialogue.resubscribe(one_way, NOW)
    assert dialogue.sends(NOW) == [one_way.subscribe]


def test_left_subscription_that_was_not_left_on_purpose_stays(open_talk):
    open_talk.left(BOOK.key, NOW)
    assert open_talk.sends(NOW) == []


def test_stream_of_the_url_is_resubscribed_by_message():
    dialogue = talk(BOOK, in_url=True)
    dialogue.opened(NOW)
    dialogue.resubscribe(BOOK, NOW)
    dialogue.sends(NOW)
    dialogue.left(BOOK.key, NOW)
    assert dialogue.sends(NOW) == [BOOK.subscribe]


def test_retry_asks_once_more(open_talk):
    open_talk.retry(BOOK, NOW)
    assert open_talk.sends(NOW) == [BOOK.subscribe]
    silent = ChannelSubscription("book", (Stream.BOOK,), "BTC-PERP")
    dialogue = talk(silent)
    dialogue.opened(NOW)
    dialogue.retry(silent, NOW)
    assert dialogue.sends(NOW) == []


# --- quarantine ---------------------------------------------------------------------------------------------------


def die(dialogue, now, *acknowledged):
    """A connection that answers some subscriptions and then dies; what turns out to be quarantined."""
    dialogue.opened(now)
    dialogue.sends(now)
    for one in acknowledged:
        dialogue.answered(one.key, now)
    return dialogue.closed(now)


def careful_talk():
    """After two connections in a row that died with unanswered subscriptions."""
    dialogue = talk(*ALL)
    for number in range(2):
        assert die(dialogue, NOW + number * NS) == []
    return dialogue


def test_after_two_deaths_with_unanswered_subscriptions_they_are_asked_for_one_at_a_time():
    dialogue = careful_talk()
    dialogue.opened(NOW)
    for one in ALL:
        assert dialogue.sends(NOW) == [one.subscribe]
        assert dialogue.sends(NOW) == []
        dialogue.answered(one.key, NOW)
    assert dialogue.sends(NOW) == []


def test_subscription_that_was_alone_unanswered_when_the_connection_died_is_quarantined():
    dialogue = careful_talk()
    dialogue.opened(NOW)
    dialogue.sends(NOW)
    dialogue.answered(BOOK.key, NOW)
    dialogue.sends(NOW)
    assert keys(dialogue.closed(NOW)) == [TRADES.key]
    dialogue.opened(NOW)
    assert dialogue.sends(NOW) == [BOOK.subscribe]
    dialogue.answered(BOOK.key, NOW)
    assert dialogue.sends(NOW) == [MARK.subscribe]


def test_venue_that_answers_nothing_quarantines_no_subscription():
    """Gateways in front of a venue that is down accept connections, and end them before anything is answered."""
    dialogue = talk(*ALL)
    for second in range(20):
        assert die(dialogue, NOW + second * NS) == []
    dialogue.opened(NOW + 20 * NS)
    sent = []
    for _ in ALL:
        sent += dialogue.sends(NOW + 20 * NS)
        for one in ALL:
            if one.subscribe in sent:
                dialogue.answered(one.key, NOW + 20 * NS)
    assert sorted(sent) == sorted(one.subscribe for one in ALL)


def test_bad_subscription_that_is_sent_first_is_found_by_the_answers_to_others():
    dialogue = careful_talk()
    assert die(dialogue, NOW) == []  # nothing was answered, so that the venue may be down
    dialogue.opened(NOW)
    for one in (TRADES, MARK):
        assert dialogue.sends(NOW) == [one.subscribe]
        dialogue.answered(one.key, NOW)
    assert dialogue.sends(NOW) == [BOOK.subscribe]
    assert keys(dialogue.closed(NOW)) == [BOOK.key]


@pytest.mark.parametrize("is_refused", [False, True])
def test_refusal_of_another_subscription_is_an_answer_as_well(is_refused):
    dialogue = careful_talk()
    dialogue.opened(NOW)
    dialogue.sends(NOW)
    (dialogue.refused if is_refused else dialogue.answered)(BOOK.key, NOW)
    dialogue.sends(NOW)
    assert keys(dialogue.closed(NOW)) == [TRADES.key]


def test_connection_that_we_end_ourselves_quarantines_nothing():
    dialogue = careful_talk()
    dialogue.opened(NOW)
    dialogue.sends(NOW)
    dialogue.answered(BOOK.key, NOW)
    dialogue.sends(NOW)
    assert dialogue.closed(NOW, by_server=False) == []


def test_quarantined_subscription_is_tried_again_after_ten_minutes():
    dialogue = careful_talk()
    die(dialogue, NOW)
    dialogue.opened(NOW)
    for one in (TRADES, MARK):
        dialogue.sends(NOW)
        dialogue.answered(one.key, NOW)
    dialogue.sends(NOW)
    assert keys(dialogue.closed(NOW)) == [BOOK.key]
    for age_s, is_asked in ((599, False), (600, True)):
        dialogue.opened(NOW + age_s * NS)
        sent = []
        for _ in ALL:
            messages = dialogue.sends(NOW + age_s * NS)
            sent += messages
            for one in ALL:
                if one.subscribe in messages:
                    dialogue.answered(one.key, NOW + age_s * NS)
        assert (BOOK.subscribe in sent) is is_asked
        dialogue.closed(NOW + age_s * NS)


def test_careful_connection_that_dies_with_everything_answered_ends_the_care():
    dialogue = careful_talk()
    dialogue.opened(NOW)
    for one in ALL:
        dialogue.sends(NOW)
        dialogue.answered(one.key, NOW)
    assert dialogue.closed(NOW) == []
    dialogue.opened(NOW)
    assert len(dialogue.sends(NOW)) == 3


def test_careful_connection_goes_on_after_an_answer_that_never_comes():
    dialogue = careful_talk()
    dialogue.opened(NOW)
    dialogue.sends(NOW)
    assert keys(dialogue.overdue(NOW + 11 * NS)) == [BOOK.key]
    assert dialogue.sends(NOW + 11 * NS) != []


def test_deaths_that_leave_nothing_unanswered_do_not_count():
    dialogue = talk(*ALL)
    die(dialogue, NOW)
    die(dialogue, NOW, *ALL)
    die(dialogue, NOW)
    dialogue.opened(NOW)
    assert len(dialogue.sends(NOW)) == 3


def test_attempt_that_does_not_connect_is_no_connection():
    dialogue = talk(*ALL)
    for _ in range(2):
        die(dialogue, NOW)
        dialogue.closed(NOW)
    dialogue.opened(NOW)
    assert len(dialogue.sends(NOW)) == 1


def test_attempt_that_does_not_connect_quarantines_nothing():
    dialogue = talk(BOOK, TRADES)
    for _ in range(2):
        die(dialogue, NOW, TRADES)
    assert dialogue.closed(NOW) == []
