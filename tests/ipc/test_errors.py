from __future__ import annotations

import pytest

from ipc import errors
from ipc.errors import (
    AlreadyRunningError,
    BoardError,
    BookUnusableError,
    ConfigError,
    DecodeError,
    FeedError,
    NotRunningError,
    ParaphinaError,
    RunDirError,
    UnknownStateError,
    UsageError,
)


def test_text_says_where_what_and_what_to_do() -> None:
    error = ParaphinaError("is empty", where="paraphina.toml:markets", advice="name a market")
    assert str(error) == "paraphina.toml:markets: is empty (name a market)"
    assert (error.what, error.where, error.advice) == ("is empty", "paraphina.toml:markets", "name a market")


@pytest.mark.parametrize(
    ("place", "text"),
    [
        ({}, "broken"),
        ({"where": "lighter.book"}, "lighter.book: broken"),
        ({"advice": "try again"}, "broken (try again)"),
    ],
)
def test_text_leaves_out_what_is_not_known(place: dict[str, str], text: str) -> None:
    assert str(ParaphinaError("broken", **place)) == text


@pytest.mark.parametrize(
    ("kind", "code"),
    [
        (ParaphinaError, 1),
        (DecodeError, 1),
        (FeedError, 1),
        (UsageError, 2),
        (RunDirError, 2),
        (AlreadyRunningError, 2),
        (NotRunningError, 3),
        (UnknownStateError, 4),
        (BoardError, 4),
    ],
)
def test_exit_codes_are_those_of_the_command_line(kind: type[ParaphinaError], code: int) -> None:
    assert kind("broken").exit_code == code


def test_configuration_error_lists_every_problem() -> None:
    error = ConfigError(["a.toml:x: is wrong", "a.toml:y: is missing"])
    assert error.problems == ["a.toml:x: is wrong", "a.toml:y: is missing"]
    assert str(error) == "a.toml:x: is wrong\na.toml:y: is missing"
    assert error.exit_code == 2


def test_unusable_book_names_its_market_and_the_rule_that_failed() -> None:
    error = BookUnusableError("lighter", "BTC-PERP", "seq_gap")
    assert error.reason == "seq_gap"
    assert str(error) == "lighter.BTC-PERP: the book is not usable: seq_gap"
    assert error.exit_code == 1


def test_decode_error_is_a_value_error_so_that_parsers_need_to_catch_only_one() -> None:
    assert issubclass(DecodeError, ValueError)


def test_every_public_error_is_of_the_one_tree() -> None:
    for name in (name for name, value in vars(errors).items() if isinstance(value, type)):
        assert issubclass(getattr(errors, name), ParaphinaError)
