"""Rows beside a wrong one: what each of them leads to alone, all of them together still do."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import chain
from typing import Any, Final

import msgspec
from fuzzed import FindingError, shown
from mutations import Mutator, Way, lists_of_rows, rows_at, siblings, with_rows

__all__ = ["Rows", "is_json", "judge_neighbours", "several_rows"]

#: Rows of a message: the one in the middle goes wrong.
_ROWS: Final = 3
#: What a row tells, by what identifies it: gives the ids of fills or trades in a message.
Decode = Callable[[bytes], Iterable[str]]


@dataclass(frozen=True)
class Rows:
    """A message with several rows in one of its lists, each of which tells of something of its own."""

    message: Any
    way: Way
    rows: list[dict[str, Any]]


def several_rows(payloads: Iterable[bytes], decode: Decode) -> Iterator[Rows]:
    """Give a message of several rows for every message that has a row which tells of something."""
    for payload in payloads:
        try:
            message = json.loads(payload)
        except ValueError:
            continue
        for way in lists_of_rows(message):
            rows = siblings(rows_at(message, way)[0], _ROWS)
            alone = [list(decode(json.dumps(with_rows(message, way, [row])).encode())) for row in rows]
            together = list(decode(json.dumps(with_rows(message, way, rows)).encode()))
            if len(set(together)) > len(set(alone[0])) > 0 and sorted(together) == sorted(chain(*alone)):
                yield Rows(message, way, rows)


def is_json(payload: bytes) -> bool:
    """Tell whether a message can be read at all."""
    try:
        msgspec.json.decode(payload)
    except (ValueError, RecursionError):
        return False
    return True


def judge_neighbours(found: Rows, mutator: Mutator, decode: Decode, seed: str) -> None:
    """Make the row in the middle wrong, and look for what the others tell.

    Raises:
        FindingError: An event of a valid row is missing.
    """
    first, middle, last = found.rows
    wrong = mutator.of_row(middle)
    payload = mutator.written(with_rows(found.message, found.way, [first, wrong, last]))
    if not is_json(payload):
        return  # then there are no rows
    expected = Counter(decode(json.dumps(with_rows(found.message, found.way, [first, last])).encode()))
    try:
        reported = Counter(decode(payload))
    except Exception as error:
        reported, why = Counter[str](), f"{type(error).__name__}: {error}"
    else:
        why = f"reported are {dict(reported)}"
    if any(reported[one] < times for one, times in expected.items()):
        advice = f"PARAPHINA_FUZZ_ROUND={seed!r} repeats it; the message:"
        raise FindingError(f"beside a wrong row {dict(expected)} was not reported: {why}\n{advice}\n{shown(payload)}")
