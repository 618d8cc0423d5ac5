from __future__ import annotations

import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from ipc.sequence import Epochs, PublisherSequence, Verdict

BOOK = "book.lighter.BTC-PERP"
TRADE = "trade.lighter.BTC-PERP"
SECOND = 1_000_000_000
WALL = st.integers(0, 2**63)


class SequenceAgainstItsHistory(RuleBasedStateMachine):
    """Model that judges every message from the whole history."""

    topics = st.sampled_from([BOOK, TRADE])

    def __init__(self) -> None:
        super().__init__()
        self.sequence = PublisherSequence()
        self.now = 1_000 * SECOND
        self.believed: list[tuple[int, str, int, int]] = []  # epoch, topic, highest seq known, when; the last life last
        self.ignored_lives = 0

    @property
    def epoch(self) -> int:
        return self.believed[-1][0] if self.believed else 0

    def highest(self, topic: str) -> int | None:
        life = [entry for entry in self.believed if entry[0] == self.epoch]
        start = max((at for at, entry in enumerate(self.believed) if entry[0] != self.epoch), default=-1) + 1
        known = [seq for _, name, seq, _ in self.believed[start:] if name == topic]
        assert life or not self.believed
        return max(known, default=None)

    @rule(seconds=st.sampled_from([0.0, 0.5, 4.999, 5.0, 60.0]))
    def time_passes(self, seconds: float) -> None:
        self.now += int(seconds * SECOND)

    @rule(topic=topics, epoch=st.integers(1, 4), seq=st.integers(1, 8))
    def hear(self, topic: str, epoch: int, seq: int) -> None:
        expected = self.judge(topic, epoch, seq)
        assert self.sequence.judge(topic, epoch, seq, self.now) is expected

    def judge(self, topic: str, epoch: int, seq: int) -> Verdict:
        heard = self.believed[-1][3] if self.believed else 0
        if epoch < self.epoch and self.now - heard < 5 * SECOND:
            self.ignored_lives += 1
            return Verdict.STALE_EPOCH
        known = self.highest(topic) if epoch == self.epoch else None
        is_new = epoch != self.epoch
        self.believed.append((epoch, topic, max(seq, known or 0), self.now))
        if is_new:
            return Verdict.NEW_EPOCH
        if known is None or seq == known + 1:
            return Verdict.APPLY
        return Verdict.IGNORE if seq <= known else Verdict.GAP

    @rule(book=st.integers(0, 9), trade=st.integers(0, 9))
    def compare_with_a_heartbeat(self, book: int, trade: int) -> None:
        counted = {topic: seq for topic, seq in ((BOOK, book), (TRADE, trade)) if seq}
        lost = [topic for topic in counted if (known := self.highest(topic)) is not None and counted[topic] > known]
        assert sorted(self.sequence.missed_tail(counted)) == sorted(lost)
        for topic in lost:
            # What a heartbeat tells is no sign of life by itself: the message that carried it was.
            self.believed.insert(len(self.believed) - 1, (self.epoch, topic, counted[topic], self.believed[-1][3]))

    @invariant()
    def knows_where_every_topic_stands(self) -> None:
        assert self.sequence.epoch == self.epoch
        assert self.sequence.stale == self.ignored_lives
        for topic in (BOOK, TRADE):
            assert self.sequence.last(topic) == self.highest(topic)


TestSequenceAgainstItsHistory = SequenceAgainstItsHistory.TestCase
TestSequenceAgainstItsHistory.settings = settings(max_examples=100, stateful_step_count=25)


@pytest.fixture
def sequence() -> PublisherSequence:
    sequence = PublisherSequence()
    assert sequence.judge(BOOK, 100, 5, SECOND) is Verdict.NEW_EPOCH
    return sequence


def test_first_message_of_a_publisher_is_its_new_life_wherever_it_begins(sequence: PublisherSequence) -> None:
    assert sequence.epoch == 100
    assert sequence.last(BOOK) == 5


def test_next_message_is_applied(sequence: PublisherSequence) -> None:
    assert sequence.judge(BOOK, 100, 6, SECOND) is Verdict.APPLY


def test_repeated_and_late_messages_are_ignored_and_change_nothing(sequence: PublisherSequence) -> None:
    for seq in (5, 4, 1):
        assert sequence.judge(BOOK, 100, seq, SECOND) is Verdict.IGNORE
    assert sequence.last(BOOK) == 5


def test_hole_is_a_gap_once_and_the_order_goes_on_behind_it(sequence: PublisherSequence) -> None:
    assert sequence.judge(BOOK, 100, 8, SECOND) is Verdict.GAP
    assert sequence.judge(BOOK, 100, 9, SECOND) is Verdict.APPLY
    assert sequence.judge(BOOK, 100, 7, SECOND) is Verdict.IGNORE


def test_topic_that_is_heard_of_later_begins_wherever_it_stands(sequence: PublisherSequence) -> None:
    assert sequence.judge(TRADE, 100, 70, SECOND) is Verdict.APPLY
    assert sequence.judge(TRADE, 100, 72, SECOND) is Verdict.GAP


def test_topics_do_not_share_a_sequence(sequence: PublisherSequence) -> None:
    sequence.judge(TRADE, 100, 70, SECOND)
    assert sequence.judge(BOOK, 100, 6, SECOND) is Verdict.APPLY


def test_new_epoch_voids_every_topic(sequence: PublisherSequence) -> None:
    sequence.judge(TRADE, 100, 70, SECOND)
    assert sequence.judge(BOOK, 101, 1, SECOND) is Verdict.NEW_EPOCH
    assert sequence.last(TRADE) is None
    assert sequence.judge(TRADE, 101, 1, SECOND) is Verdict.APPLY


def test_zombie_is_ignored_and_counted_while_its_successor_is_heard(sequence: PublisherSequence) -> None:
    for second in range(2, 20):
        assert sequence.judge(BOOK, 99, second, second * SECOND) is Verdict.STALE_EPOCH
        assert sequence.judge(BOOK, 100, 4 + second, second * SECOND) is Verdict.APPLY
    assert sequence.stale == 18
    assert sequence.epoch == 100


def test_zombie_is_adopted_when_nothing_else_was_heard_for_five_seconds(sequence: PublisherSequence) -> None:
    assert sequence.judge(BOOK, 99, 7, 6 * SECOND - 1) is Verdict.STALE_EPOCH
    assert sequence.judge(BOOK, 99, 8, 6 * SECOND) is Verdict.NEW_EPOCH
    assert sequence.judge(BOOK, 99, 9, 6 * SECOND) is Verdict.APPLY
    assert sequence.epoch == 99


def test_ignored_message_of_the_successor_is_a_sign_of_life_too(sequence: PublisherSequence) -> None:
    sequence.judge(BOOK, 100, 5, 4 * SECOND)
    assert sequence.judge(BOOK, 99, 8, 8 * SECOND) is Verdict.STALE_EPOCH


def test_successor_that_speaks_again_takes_over_from_an_adopted_zombie(sequence: PublisherSequence) -> None:
    sequence.judge(BOOK, 99, 8, 10 * SECOND)
    assert sequence.judge(BOOK, 100, 6, 10 * SECOND) is Verdict.NEW_EPOCH
    assert sequence.epoch == 100


def test_lost_tail_is_known_from_a_heartbeat_once(sequence: PublisherSequence) -> None:
    sequence.judge(TRADE, 100, 70, SECOND)
    counted = {BOOK: 7, TRADE: 70}
    assert sequence.missed_tail(counted) == {BOOK: 2}
    assert sequence.missed_tail(counted) == {}
    assert sequence.judge(BOOK, 100, 8, SECOND) is Verdict.APPLY


def test_heartbeat_that_knows_less_or_nothing_shows_no_loss(sequence: PublisherSequence) -> None:
    assert sequence.missed_tail({BOOK: 4}) == {}
    assert sequence.missed_tail({}) == {}
    assert sequence.last(BOOK) == 5


def test_topics_that_were_never_heard_of_are_not_missed(sequence: PublisherSequence) -> None:
    assert sequence.missed_tail({TRADE: 1000}) == {}
    assert sequence.last(TRADE) is None


@given(st.lists(WALL, min_size=1))
def test_epochs_rise_whatever_the_clock_does(clock: list[int]) -> None:
    epochs = [0]
    for now in clock:
        epochs.append(Epochs.following(epochs[-1], now))
        assert epochs[-1] > epochs[-2]
        assert epochs[-1] >= now
        assert epochs[-1] in {now, epochs[-2] + 1}


def test_epoch_is_the_wall_clock_when_none_is_given() -> None:
    before = time.time_ns()
    assert before <= Epochs.following(0) <= time.time_ns()
    assert Epochs.following(2**63) == 2**63 + 1
