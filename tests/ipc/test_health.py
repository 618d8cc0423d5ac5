from __future__ import annotations

from enum import StrEnum

import pytest

from ipc.health import Phase, Reason, SelfFault, Stream, StreamState, WorkerState, code_of, word_of

#: What the board holds for each word. A reader of another build reads these numbers: only ever append.
STREAMS = {
    "book": 1,
    "book20": 2,
    "bbo": 3,
    "trade": 4,
    "mark": 5,
    "funding": 6,
    "funding_poll": 7,
    "liquidation": 8,
    "account": 9,
}
WORKER_STATES = {
    "starting": 1,
    "live": 2,
    "stale": 3,
    "backoff": 4,
    "killing": 5,
    "unkillable": 6,
    "stopped": 7,
    "failed": 8,
}
STREAM_STATES = {
    "connecting": 1,
    "subscribed": 2,
    "live": 3,
    "quiet": 4,
    "stale": 5,
    "resync": 6,
    "rest": 7,
    "backoff": 8,
    "off": 9,
    "failed": 10,
}
PHASES = {"resolving": 1, "connecting": 2, "subscribed": 3, "backoff": 4, "replaying": 5}
SELF_FAULTS = {"hang": 1, "exit": 2, "memory": 3}
REASONS = {
    "stale_watchdog": 1,
    "no_book": 2,
    "read_timeout": 3,
    "pong_timeout": 4,
    "server_close": 5,
    "server_shutdown": 6,
    "connect_failed": 7,
    "connect_timeout": 8,
    "dns_failed": 9,
    "tls_failed": 10,
    "refused": 11,
    "rate_limited": 12,
    "auth_failed": 13,
    "subscribe_error": 14,
    "parse_errors": 15,
    "seq_gap": 16,
    "crossed_book": 17,
    "soft_resync": 18,
    "rotation": 19,
    "crash": 20,
    "killed": 21,
    "clean_exit": 22,
    "wedged": 23,
    "stale_worker": 24,
    "start_timeout": 25,
    "memory": 26,
    "parent_lost": 27,
    "config_error": 28,
    "config_changed": 29,
    "unknown_market": 30,
    "delisted": 31,
    "outage": 32,
    "pipe_full": 33,
    "drill": 34,
    "requested": 35,
    "venue_disagrees": 36,
    "address_in_use": 37,
    "proxy_failed": 38,
    "descriptors": 39,
    "run_dir_lost": 40,
}
LISTS = [
    (Stream, STREAMS),
    (WorkerState, WORKER_STATES),
    (StreamState, STREAM_STATES),
    (Phase, PHASES),
    (SelfFault, SELF_FAULTS),
    (Reason, REASONS),
]


@pytest.mark.parametrize(("kind", "codes"), LISTS)
def test_numbers_on_the_board_never_change(kind: type[StrEnum], codes: dict[str, int]) -> None:
    assert {str(word): code_of(word) for word in kind} == codes


@pytest.mark.parametrize(("kind", "codes"), LISTS)
def test_number_gives_its_word_back(kind: type[StrEnum], codes: dict[str, int]) -> None:
    for text, code in codes.items():
        word = word_of(kind, code)
        assert type(word) is kind
        assert word == text


@pytest.mark.parametrize(("kind", "codes"), LISTS)
def test_numbers_of_a_newer_version_and_nonsense_are_no_word(kind: type[StrEnum], codes: dict[str, int]) -> None:
    for code in (0, len(codes) + 1, 2**64 - 1, -1):
        assert word_of(kind, code) is None


def test_no_word_is_zero() -> None:
    assert code_of(None) == 0


@pytest.mark.parametrize("text", ["backoff", "live", "stale", "failed", "connecting", "subscribed"])
def test_words_of_two_lists_that_are_spelt_alike_do_not_mix(text: str) -> None:
    holders = [(kind, codes) for kind, codes in LISTS if text in codes]
    assert len(holders) > 1
    for kind, codes in holders:
        word = kind(text)
        assert code_of(word) == codes[text]
        assert type(word_of(kind, codes[text])) is kind
