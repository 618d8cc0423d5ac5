"""Wrong private messages and answers of all five venues: nothing breaks, no event breaks the schema, every fill is
reported once, and no fill is lost to an invalid row beside it.

See :mod:`fuzzed` for how long, and how a finding is repeated.
"""

from __future__ import annotations

import json
import random

import pytest
from accounts_fuzzed import Answers, FuzzedAccount, Life
from fuzzed import FindingError, rounds, sample_frames, shown
from mutations import Mutator, lists_of_rows, rows_at, with_rows
from neighbours import is_json, judge_neighbours, several_rows

from ipc.errors import DecodeError
from ipc.events import Fill, Payment
from ipc.topics import VENUES

PER_ROUND = 400


@pytest.fixture(scope="module")
def life_of():
    lives: dict[str, Life] = {}
    return lambda name: lives.get(name) or lives.setdefault(name, Life(name))


@pytest.mark.parametrize("name", VENUES)
def test_wrong_private_frames(life_of, name: str) -> None:
    life = life_of(name)
    samples = sample_frames(name)
    payloads = [payload for payload, _ in life.frames]
    for seed in rounds(f"private:{name}", 2):
        mutator, dice, reported = Mutator(seed), random.Random(seed), FuzzedAccount(life)
        for number in range(PER_ROUND):
            payload, binary = dice.choice(samples if samples and dice.random() < 0.3 else life.frames)
            if number % 4:
                payload = mutator.of_bytes(payload) if binary else mutator.frame(payload, payloads)
            fault = reported.push(payload, binary=binary)
            if fault:
                text = (
                    f"{name} private: {fault}\nPARAPHINA_FUZZ_ROUND={seed!r} repeats it; the frame:\n{shown(payload)}"
                )
                raise FindingError(text)


@pytest.mark.parametrize("name", VENUES)
def test_wrong_private_answers(life_of, name: str) -> None:
    life = life_of(name)
    for seed in rounds(f"answers:{name}", 2):
        mutator, dice, reported = Mutator(seed), random.Random(seed), FuzzedAccount(life)
        answers = Answers(life, lambda body, m=mutator, d=dice: m.frame(body) if d.random() < 0.3 else body)
        for _ in range(20):
            snapshot, fault = answers.snapshot()
            fault = fault or (None if snapshot is None else reported.answer(snapshot))
            if fault:
                advice = f"PARAPHINA_FUZZ_ROUND={seed!r} repeats it; the answers:\n{answers.shown()}"
                raise FindingError(f"{name} answers: {fault}\n{advice}")
        right = Answers(life, lambda body: body)
        snapshot, fault = right.snapshot()
        assert snapshot is not None, fault
        assert reported.answer(snapshot) is None


@pytest.mark.parametrize("name", VENUES)
def test_no_fill_is_lost_to_a_wrong_row_beside_it(life_of, name: str) -> None:
    life = life_of(name)

    def reported_by(payload: bytes) -> list[str]:
        items = life.decode(payload, binary=False)
        return [f"{i.fill_id} {i.price} {i.size} {i.side} {i.fee}" for i in items if isinstance(i, Fill)] + [
            f"{i.payment_id} {i.amount}" for i in items if isinstance(i, Payment)
        ]

    texts = [payload for payload, binary in (*life.frames, *sample_frames(name)) if not binary]
    messages = list(several_rows(_readable(texts, reported_by), reported_by))
    if name in {"hyperliquid", "extended", "lighter"}:  # elsewhere a frame has one fill
        assert messages
    for seed in rounds(f"neighbours:{name}"):
        mutator = Mutator(seed)
        for number in range(PER_ROUND if messages else 0):
            judge_neighbours(messages[number % len(messages)], mutator, reported_by, seed)


def _readable(payloads, decode):
    for payload in payloads:
        try:
            if decode(payload):
                yield payload
        except DecodeError:
            pass


@pytest.mark.parametrize("name", VENUES)
def test_no_fill_is_lost_to_a_wrong_row_in_an_answer(life_of, name: str) -> None:
    life = life_of(name)
    right = Answers(life, lambda body: body)
    snapshot, _ = right.snapshot()
    assert snapshot is not None
    every = {event.fill_id for event in snapshot.events if isinstance(event, Fill)}
    assert len(every) > 10
    for seed in rounds(f"rows:{name}"):
        mutator, dice = Mutator(seed), random.Random(seed)
        for _ in range(10):
            spoilt: list[str] = []

            def spoil(body: bytes, spoilt=spoilt, mutator=mutator, dice=dice) -> bytes:
                """Make one row of every answer with fills wrong, but the last, by which the next page is asked for."""
                message = json.loads(body)
                ways = [way for way in lists_of_rows(message) if len(rows_at(message, way)) > 2]
                if not ways:
                    return body
                way = dice.choice(ways)
                rows = list(rows_at(message, way))
                at = dice.randrange(len(rows) - 1)
                spoilt.append(json.dumps(rows[at]))
                rows[at] = mutator.of_row(rows[at])
                wrong = mutator.written(with_rows(message, way, rows))
                return wrong if is_json(wrong) else body

            answers = Answers(life, spoil)
            partial, fault = answers.snapshot()
            reported = {event.fill_id for event in partial.events if isinstance(event, Fill)} if partial else set()
            lost = {fill_id for fill_id in every - reported if not any(_is_in(fill_id, row) for row in spoilt)}
            if lost or fault:
                advice = f"PARAPHINA_FUZZ_ROUND={seed!r} repeats it; the rows before they were made wrong:"
                what = f"{name}: {len(lost)} of {len(every)} fills lost beside wrong rows ({fault or sorted(lost)[:3]})"
                raise FindingError("\n".join([what, advice, *spoilt, "answers:", answers.shown()]))


def _is_in(fill_id: str, row: str) -> bool:
    """Whether a row is that of a fill: ids are parts of ours."""
    return any(part in row for part in fill_id.split(":")[-1:])
