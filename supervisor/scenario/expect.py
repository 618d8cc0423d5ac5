"""Expectations: patterns of lines and states, and what to say of one that was missed.

A pattern is part of what it matches: an object matches when each of its members does, a list when it is as long and
each element matches, anything else when it is equal. ``on`` also matches the connections below it, and ``t`` may be a
range, ``[from, to]``.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any, Final

from supervisor.scenario.form import Expect
from supervisor.scenario.seen import Consumer, Line

#: Members that say what kind of line a pattern is about: a line that has them is the one that was meant.
_KINDS: Final = ("topic", "kind", "on", "book", "note", "account")
_ALIKE_S: Final = 0.051
_SHOWN: Final = 400


def missed(expect: Expect, lines: list[Line], consumer: Consumer, counts: Mapping[str, int]) -> Iterator[str]:
    """Say what does not hold, one text a finding.

    Args:
        expect: What must.
        lines: Those that it is about.
        consumer: As it is now.
        counts: So far.
    """
    yield from _seen(expect.seen, lines)
    for number, only in enumerate(expect.only):
        yield from _only(only.of, only.are, lines, f"only[{number}]")
    for number, pattern in enumerate(expect.never):
        found = next((line for line in lines if difference(pattern, line) is None), None)
        if found is not None:
            yield f"never[{number}]: it came: {_text(found)}"
    for symbol, pattern in expect.books.items():
        yield from _state(f"books.{symbol}", pattern, consumer.book(symbol))
    for topic, last in expect.last.items():
        yield from _state(f"last.{topic}", last, consumer.last(topic))
    if expect.account:
        yield from _state("account", expect.account, consumer.account_state())
    for name, wanted in expect.counts.items():
        if counts[name] != wanted:
            yield f"counts.{name}: {wanted} expected, {counts[name]} came"


def difference(pattern: object, value: object, place: str = "") -> str | None:
    """Return where a value is not as its pattern says; None when it matches."""
    match pattern:
        case dict() if isinstance(value, dict):
            parts = (_member(key, wanted, value, f"{place}.{key}".lstrip(".")) for key, wanted in pattern.items())
            return next((part for part in parts if part is not None), None)
        case list() if isinstance(value, list | tuple) and len(pattern) == len(value):
            elements = enumerate(zip(pattern, value, strict=True))
            found = (difference(wanted, one, f"{place}[{number}]") for number, (wanted, one) in elements)
            return next((part for part in found if part is not None), None)
        case _ if type(pattern) is type(value) and pattern == value:
            return None
        case int() | float() if _is_number(pattern) and _is_number(value) and pattern == value:
            return None
        case _:
            return f"{place or 'value'}: {_text(pattern)} expected, {_text(value)} came"


def _member(key: str, wanted: object, value: dict[str, Any], place: str) -> str | None:
    if key not in value:
        return None if wanted is None else f"{place}: {_text(wanted)} expected, nothing came"
    found = value[key]
    if key == "on" and isinstance(wanted, str) and str(found).startswith(f"{wanted}/"):
        return None
    if key == "t" and (window := _window(wanted)) is not None and isinstance(found, float):
        low, high = window
        return None if low <= found <= high else f"{place}: {_text(wanted)} expected, {found:g} came"
    return difference(wanted, found, place)


def _window(wanted: object) -> tuple[float, float] | None:
    """Return from when to when a time matches; None for what is neither a time nor a range."""
    match wanted:
        case [int() | float() as low, int() | float() as high]:
            return low, high
        case int() | float():
            return wanted - _ALIKE_S, wanted + _ALIKE_S
        case _:
            return None


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _seen(patterns: list[dict[str, Any]], lines: list[Line]) -> Iterator[str]:
    """Find patterns one behind the other; after one that is missed, the rest is looked for where it was."""
    start = 0
    for number, pattern in enumerate(patterns):
        place = next((at for at in range(start, len(lines)) if difference(pattern, lines[at]) is None), None)
        if place is None:
            after = f" behind {_text(lines[start - 1])}" if start else ""
            yield f"seen[{number}]: {_text(pattern)} did not come{after}{_nearest(pattern, lines[start:])}"
        else:
            start = place + 1


def _only(of: dict[str, Any], patterns: list[dict[str, Any]], lines: list[Line], where: str) -> Iterator[str]:
    found = [line for line in lines if difference(of, line) is None]
    for number, (pattern, line) in enumerate(zip(patterns, found, strict=False)):
        if (text := difference(pattern, line)) is not None:
            yield f"{where}.are[{number}]: {text}; in {_text(line)}"
    for number, pattern in list(enumerate(patterns))[len(found) :]:
        yield f"{where}.are[{number}]: {_text(pattern)} did not come; {len(found)} lines match {_text(of)}"
    for line in found[len(patterns) :]:
        yield f"{where}: one more came: {_text(line)}"


def _state(where: str, pattern: object, state: object) -> Iterator[str]:
    text = difference(pattern, state)
    if text is not None:
        yield f"{where}: {text}"


def _nearest(pattern: dict[str, Any], lines: list[Line]) -> str:
    """Show the line that was probably meant, by the most members that match."""
    meant = {key: pattern[key] for key in _KINDS if key in pattern}
    near = [line for line in lines if difference(meant, line) is None] if meant else []
    if not near:
        return ""
    best = max(near, key=lambda line: sum(difference({key: pattern[key]}, line) is None for key in pattern))
    return f"; nearest at {best['t']:g} s: {difference(pattern, best)}"


def _text(value: object) -> str:
    text = json.dumps(value, ensure_ascii=False, default=str)
    return text if len(text) <= _SHOWN else text[:_SHOWN] + "…"
