"""Report lines as text: time, connection, event."""

from __future__ import annotations

import json
from typing import Any, Final

from ipc.printable import printable
from supervisor.scenario.seen import Line

_LEVELS: Final = 3
#: Fields that the topic already contains, or that are rarely useful.
_SAID: Final = frozenset({"t", "topic", "kind", "venue", "symbol", "venue_symbol", "account", "exchange_ns", "ages_ms"})


def text_of(line: Line) -> str:
    """Return a line of the report as text."""
    return f"{line['t']:>10.3f}  {_what(line)}"


def _what(line: Line) -> str:
    rest = {key: value for key, value in line.items() if key not in {"t", "on", "note", "book", "usable", "reason"}}
    if "topic" in line:
        return f"{line['topic']:<28} {line['kind']}  {_fields(line)}".rstrip()
    if "book" in line or ("account" in line and "usable" in line):
        name = line.get("book") or line["account"]
        return f"{name} is {'usable' if line['usable'] else 'not usable: ' + str(line['reason'])}"
    if "note" in line:
        where = f"{line['on']} " if "on" in line else ""
        fields = {**rest, **({"reason": line["reason"]} if line.get("reason") else {})}
        return f"{where}note: {line['note']}  {_pairs(fields)}".rstrip()
    return f"{line['on']} {_traffic(line, rest)}"


def _traffic(line: Line, rest: dict[str, Any]) -> str:
    match line:
        case {"open": _}:
            return "opens"
        case {"close": reason, "text": text}:
            return f"is closed by us: {reason}: {text}"
        case {"send": message}:
            return f"<- {_short(message)}"
        case {"request": request, "for": purpose}:
            body = f" {_short(line['body'])}" if "body" in line else ""
            return f"<- {request}{body}  ({purpose})"
        case {"answered": what}:
            extra = {key: value for key, value in rest.items() if key != "answered"}
            return f"-> {what} {_pairs(extra)}".rstrip()
        case {"failed": what, "reason": reason, "text": text}:
            advice = f" ({line['advice']})" if "advice" in line else ""
            return f"-> {what} failed: {reason}: {_short(text)}".rstrip(" :") + advice
        case _:
            return _pairs(rest)


def _fields(line: Line) -> str:
    shown = {key: value for key, value in line.items() if key not in _SAID and value not in (None, [], {})}
    for side in ("bids", "asks"):
        levels = line.get(side)
        if isinstance(levels, list) and levels:
            more = f" +{len(levels) - _LEVELS}" if len(levels) > _LEVELS else ""
            shown[side] = " ".join(f"{size}@{price}" for price, size in levels[:_LEVELS]) + more
    return _pairs(shown)


def _pairs(fields: dict[str, Any]) -> str:
    return " ".join(f"{key}={_short(value)}" for key, value in fields.items())


def _short(value: object) -> str:
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    text = printable(text)
    return text if len(text) <= 160 else text[:160] + "…"
