"""Text from outside, made safe for a terminal: venues, files and other programs write what they like.

Use it where text becomes a line of a terminal, and nowhere before: logs, events and ``--json`` keep the text itself.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

#: Characters outside the Basic Multilingual Plane begin here; JSON escapes them as two surrogates.
_SUPPLEMENTARY = 0x10000


def printable(text: str) -> str:
    r"""Return a text as one line in which a terminal shows every character: ``\x1b`` and ``\u202e`` are escapes.

    Escaped are controls, line and paragraph separators, directional and other invisible characters, and surrogates.
    """
    if text.isprintable():
        return text
    return "".join(one if one.isprintable() else ascii(one)[1:-1] for one in text)


def printable_lines(text: str) -> str:
    """Return a text of several lines, such as a traceback, with every line escaped."""
    return text if text.isprintable() else "\n".join(map(printable, text.split("\n")))


def joined_lines(lines: Iterable[str]) -> str:
    """Join lines, each of which stays one line."""
    return "\n".join(map(printable, lines))


def printable_values(value: Any) -> Any:
    """Return plain data with every text in it escaped, keys included."""
    if isinstance(value, str):
        return printable(value)
    if isinstance(value, Mapping):
        return {printable_values(key): printable_values(of) for key, of in value.items()}
    if isinstance(value, list | tuple):
        return [printable_values(one) for one in value]
    return value


def printable_json(text: str) -> str:
    """Return a JSON text, of one line, as equal JSON whose every character a terminal shows."""
    return text if text.isprintable() else "".join(one if one.isprintable() else _json_escape(one) for one in text)


def _json_escape(one: str) -> str:
    code = ord(one)
    if code < _SUPPLEMENTARY:
        return f"\\u{code:04x}"
    code -= _SUPPLEMENTARY
    return f"\\u{0xD800 + (code >> 10):04x}\\u{0xDC00 + (code & 0x3FF):04x}"
