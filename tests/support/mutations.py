"""Messages that are wrong in every way that a venue, a proxy or an adversary could make them; deterministic by a seed.

A text message is taken for JSON and changed where it means something: numbers in other spellings, of other types and
out of range, rows left out, repeated, moved and nested, levels doubled under another spelling. What is binary, and any
message now and then, is changed byte by byte.
"""

from __future__ import annotations

import copy
import json
import random
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from decimal import Decimal, InvalidOperation
from typing import Any, Final

__all__ = ["Mutator", "Way", "lists_of_rows", "places", "rows_at", "siblings", "with_rows"]

#: The keys and indices from a message's root to a place in it.
Way = tuple[Any, ...]


def _words(text: str) -> list[str]:
    return text.split()


#: Numbers as JSON text of their own: not what :mod:`json` writes.
_RAW_NUMBERS: Final = _words(
    """
    1e400 -1e400 1E-7 1e5 0E-8 -0 -0.0 NaN Infinity -Infinity 0.1e1 1e-400 1e999999999 123456789012345678901234567890
    9223372036854775807 9223372036854775808 18446744073709551616 -9223372036854775809 253402300800000 1e18
    -1 0 1 2 0.5 01 1_000 +1 .5 5. 0x10 1e
    """
)
#: What stands where a number, a name or a word should.
_TEXTS: Final = (
    *_words(
        """
    0 -0 -0.0 0E-8 0.000 1E-7 1e1 1e5 1e400 1e-400 1e999999999 NaN nan sNaN Infinity -inf -1 -5 +1 +100 1_00 1,5 1.2.3
    . 5. .5 -.5 --1 0x10 100.00 abc null true BTC ETH BTC-USD buy SELL ../../x %s%n {0}
    """
    ),
    *("", " ", " 100 ", "100\n", "a b", "\x00", "\ud83d", "\xe9" * 300, "\xb2"),
    *("\u0661\u0662\u0663", "\uff11\uff12", "1\u066b5", "\u1810"),  # digits and a point of other scripts
    *("9" * 40, "0." + "0" * 60 + "1", "9" * 5000, "1" * 129),
)
_VALUES: Final[tuple[Any, ...]] = (
    None,
    True,
    False,
    [],
    {},
    [[]],
    [None],
    {"a": 1},
    0,
    -1,
    1.5,
    2**31,
    2**63,
    -(2**70),
)
_MARK: Final = "\ue000raw:"
_MARKED: Final = re.compile(f'"{_MARK}([^"]*)"')
#: Keys under which rows have their ids.
_IDS: Final = frozenset({"id", "i", "tid", "trade_id", "trade_id_str"})
#: Deeper than a parser that recurses may go.
_DEPTHS: Final = (2, 40, 1100, 100_000)


def places(value: Any, way: Way = ()) -> Iterator[Way]:
    """Give the way to everything within a message."""
    for key, member in members(value):
        yield (*way, key)
        yield from places(member, (*way, key))


def members(value: Any) -> list[tuple[Any, Any]]:
    """Return the keys and values of an object, or the indices and elements of a list; nothing of anything else."""
    if isinstance(value, dict):
        return list(value.items())
    return list(enumerate(value)) if isinstance(value, list) else []


def replaced(message: Any, way: Way, change: Callable[[Any, Any], None]) -> Any:
    """Return a copy of a message in which ``change(holder, key)`` was done at a place."""
    message = copy.deepcopy(message)
    holder = message
    for key in way[:-1]:
        holder = holder[key]
    change(holder, way[-1])
    return message


def lists_of_rows(message: Any, way: Way = ()) -> Iterator[Way]:
    """Give the ways to all lists of objects within a message."""
    if isinstance(message, list) and message and all(isinstance(row, dict) for row in message):
        yield way
    for key, member in members(message):
        yield from lists_of_rows(member, (*way, key))


def rows_at(message: Any, way: Way) -> list[Any]:
    """Return the list at a place."""
    rows: list[Any] = _at(message, way)
    return rows


def with_rows(message: Any, way: Way, rows: list[Any]) -> Any:
    """Return a copy of a message with other rows in one of its lists."""
    return replaced(message, way, _put(rows)) if way else rows


def siblings(row: Mapping[str, Any], count: int) -> list[dict[str, Any]]:
    """Return copies of a row that differ in what identifies them."""
    return [{key: _renumbered(key, value, number) for key, value in row.items()} for number in range(count)]


def _renumbered(key: str, value: Any, number: int) -> Any:
    if key not in _IDS or isinstance(value, bool):
        return copy.deepcopy(value)
    if isinstance(value, int):
        return value + number
    return str(int(value) + number) if isinstance(value, str) and value.isdecimal() else value


class Mutator:
    """A source of wrong messages; the same seed gives the same ones for the same calls.

    Args:
        seed: Of all that is random.
    """

    def __init__(self, seed: int | str) -> None:
        self._dice = random.Random(seed)

    def frame(self, payload: bytes, others: Sequence[bytes] = ()) -> bytes:
        """Return a wrong copy of a message, of which a part may be from one of the ``others``."""
        dice = self._dice
        if dice.random() < 0.08:
            return self.of_bytes(payload)
        try:
            message = json.loads(payload)
        except (ValueError, RecursionError):
            return self.of_bytes(payload)
        for _ in range(dice.choice((1, 1, 1, 2, 3))):
            message = self.of_json(message, others)
        payload = self.written(message)
        depth = dice.choice(_DEPTHS) if dice.random() < 0.01 else 0
        return b"[" * depth + payload + b"]" * depth

    def of_json(self, message: Any, others: Sequence[bytes] = ()) -> Any:
        """Return a copy of a message with one thing in it changed."""
        dice = self._dice
        ways = list(places(message))
        if not ways:
            return dice.choice(_VALUES)
        way = dice.choice(ways)
        if dice.random() < 0.5:  # numbers are where it hurts
            numbers = [one for one in ways if _is_number(_at(message, one))]
            way = dice.choice(numbers or ways)
        return replaced(message, way, self._change(_at(message, way), others))

    def of_row(self, row: Any) -> Any:
        """Return a copy of a row in which one value is of another kind, or gone."""
        ways = list(places(row))
        if not ways:
            return self._dice.choice(_VALUES)
        return replaced(row, self._dice.choice(ways), self._change(_at(row, self._dice.choice(ways)), ()))

    def of_bytes(self, payload: bytes) -> bytes:
        """Return a copy with some bytes changed, lost or added."""
        dice, data = self._dice, bytearray(payload)
        for _ in range(dice.choice((1, 1, 2, 4))):
            at = dice.randrange(len(data) + 1)
            match dice.randrange(7):
                case 0:
                    del data[at:]
                case 1 if data:
                    data[at % len(data)] ^= 1 << dice.randrange(8)
                case 2:
                    data[at:at] = dice.randbytes(dice.choice((1, 2, 8)))
                case 3:
                    del data[at : at + dice.choice((1, 2, 4, 8, 40))]
                case 4:
                    data[at:at] = data[at : at + dice.choice((1, 8, 16, 64))]
                case 5:
                    size = dice.choice((1, 2, 4, 8))
                    data[at : at + size] = self._boundary(size)
                case _:
                    data += dice.choice((b"\x00", b"}", b"\xff\xfe", b" " * 20, dice.randbytes(5)))
        return bytes(data)

    def raw(self, text: str) -> str:
        """Return what stands for a number that JSON is to hold letter by letter."""
        return _MARK + text

    def _boundary(self, size: int) -> bytes:
        bits = 8 * size
        value = self._dice.choice((0, 1, (1 << bits) - 1, 1 << (bits - 1), (1 << (bits - 1)) - 1, (1 << bits) - 2))
        return value.to_bytes(size, self._dice.choice(("little", "little", "big")))

    def written(self, message: Any) -> bytes:
        """Return a message as JSON, in which what :meth:`raw` gave stands letter by letter."""
        text = json.dumps(message, ensure_ascii=self._dice.random() < 0.5)
        text = _MARKED.sub(lambda match: match[1], text.replace(json.dumps(_MARK)[1:-1], _MARK))
        return text.encode("utf-8", "surrogatepass")

    def _change(self, value: Any, others: Sequence[bytes]) -> Callable[[Any, Any], None]:
        """Return what to do at a place that holds ``value``."""
        dice = self._dice
        if isinstance(value, list) and value and dice.random() < 0.7:
            return self._list_change(value)
        choice = dice.random()
        if choice < 0.12:
            return _remove
        if choice < 0.2:
            return self._move
        if choice < 0.25 and others:
            return _put(self._part_of(dice.choice(others)))
        if choice < 0.65 and _is_number(value):
            return _put(self._number_like(value))
        if choice < 0.8:
            return _put(dice.choice(_TEXTS))
        if choice < 0.9:
            return _put(self.raw(dice.choice(_RAW_NUMBERS)))
        return _put(copy.deepcopy(dice.choice(_VALUES)))

    def _list_change(self, value: list[Any]) -> Callable[[Any, Any], None]:
        dice, rows = self._dice, copy.deepcopy(value)
        at, to = dice.randrange(len(rows)), dice.randrange(len(rows) + 1)
        match dice.randrange(8):
            case 0:
                rows.insert(to, copy.deepcopy(rows[at]))
            case 1:
                rows.insert(to, _respelt(rows[at]))
            case 2:
                rows.reverse()
            case 3:
                dice.shuffle(rows)
            case 4:
                rows.pop(at)
            case 5:
                rows.insert(to, dice.choice(_VALUES))
            case 6:
                rows = rows[:to]
            case _:
                rows[at] = self.of_row(rows[at])
        return _put(rows)

    def _number_like(self, value: Any) -> Any:
        """Return a number in the place of another: the same in other words, or near it, or of another sign."""
        number, dice = Decimal(str(value)), self._dice
        try:
            texts = (
                *(f"{number:E}", f"-{value}", f"0{value}", f"+{value}", f" {value}", f"{value}x", "0", "0.0", "-0"),
                *(f"{number * 1000:f}", f"{number / 1000:f}", f"{number + 1:f}", f"{number - 1:f}"),
                *(_with_a_zero(str(number)), str(value).translate(_ARABIC), f"{number.scaleb(25):f}"),
            )
        except (ArithmeticError, ValueError):
            texts = ("0",)
        text = dice.choice(texts)
        return text if dice.random() < (0.85 if isinstance(value, str) else 0.3) else self.raw(text)

    def _move(self, holder: Any, key: Any) -> None:
        """Change places with something else that the holder holds."""
        other = self._dice.choice([name for name, _ in members(holder)])
        holder[key], holder[other] = holder[other], holder[key]

    def _part_of(self, payload: bytes) -> Any:
        try:
            message = json.loads(payload)
        except (ValueError, RecursionError):
            return None
        ways = list(places(message))
        return _at(message, self._dice.choice(ways)) if ways else message


_ARABIC: Final = str.maketrans("0123456789", "".join(chr(0x660 + digit) for digit in range(10)))


def _respelt(value: Any) -> Any:
    """Return a row whose first number is written in another way: the same level twice."""
    row = copy.deepcopy(value)
    for way in places(row):
        held = _at(row, way)
        if isinstance(held, str) and _is_number(held):
            return replaced(row, way, _put(_with_a_zero(held)))
    return row


def _with_a_zero(text: str) -> str:
    """Return the same number with another zero behind its point."""
    return f"{text}0" if "." in text else f"{text}.0"


def _remove(holder: Any, key: Any) -> None:
    del holder[key]


def _put(value: Any) -> Callable[[Any, Any], None]:
    def put(holder: Any, key: Any) -> None:
        holder[key] = value

    return put


def _at(message: Any, way: Way) -> Any:
    for key in way:
        message = message[key]
    return message


def _is_number(value: Any) -> bool:
    if isinstance(value, bool) or not isinstance(value, int | float | str) or len(str(value)) > 60:
        return False
    try:
        return Decimal(str(value)).is_finite()
    except InvalidOperation:
        return False
