"""Conversion of recordings to scenarios: a black box or raw recording becomes a file that can be shared.

Only the venue's frames and REST answers are kept: the worker sends its own messages again when the file is played.
Connection addresses are removed, and private values are replaced by placeholders (:mod:`supervisor.scenario.hiding`).
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Final

import msgspec

from ipc.health import Reason
from ipc.raw import RawRecord
from supervisor.journal.blackbox import RawRecording, played_venue
from supervisor.scenario.clock import NS
from supervisor.scenario.form import LISTING_KEYS
from supervisor.scenario.hiding import Hiding
from workers.accounts.secrets import environment_names

_REASONS: Final = frozenset(Reason)
_PURPOSES: Final = frozenset({"bridge", "soft", "compare"})
#: Account sessions are private: they are never recorded and never converted.
_ACCOUNT: Final = "account"
#: Shorter environment values are not credentials, and would match everywhere.
_MIN_SECRET: Final = 6


def scenario_of(recording: RawRecording, environ: Mapping[str, str]) -> str:
    """Return the content of a scenario file that plays a recording, one step a line.

    Args:
        recording: Raw recording that names its markets.
        environ: Environment; credentials in it are removed from the file.

    Raises:
        UsageError: It does not name its markets, or its venue is not known.
    """
    header = recording.header
    venue = played_venue(recording)
    hiding = Hiding(_secrets(environ))
    records = sorted(recording.records, key=lambda record: record.mono_ns)
    head = {
        "scenario": 1,
        "about": f"Recorded from {header.venue}, {header.reason}, version {header.version or 'unknown'}.",
        "venue": header.venue,
        "now": _iso(records[0].wall_ns),
        "options": {key: value for key, value in header.options.items() if value in venue.options.get(key, ())},
        "listings": [{key: row[key] for key in row if key in LISTING_KEYS} for row in header.listings],
    }
    # Two passes: a value identified by name in one place may appear unnamed in an earlier place.
    for _ in range(2):
        steps = list(_steps(records, hiding))
    lines = [f"{json.dumps(key)}: {hiding.text(json.dumps(value, ensure_ascii=False))}" for key, value in head.items()]
    return "{\n" + ",\n".join(lines) + ',\n"steps": [\n' + ",\n".join(steps) + "\n]}\n"


def _secrets(environ: Mapping[str, str]) -> Iterator[str]:
    for name in environment_names():
        value = environ.get(name, "")
        if len(value) >= _MIN_SECRET:
            yield value


def _iso(wall_ns: int) -> str | int:
    return datetime.fromtimestamp(wall_ns / NS, UTC).isoformat(timespec="microseconds") if wall_ns > 0 else 0


def _steps(records: Sequence[RawRecord], hiding: Hiding) -> Iterator[str]:
    opened: set[str] = set()
    first_ns = records[0].mono_ns
    for record in records:
        if _ACCOUNT in record.session.lower():
            continue
        at = {"at": round((record.mono_ns - first_ns) / NS, 9)}
        on = f"public/{record.session}"
        if record.kind not in {"open", "close", "out"} and record.session not in opened:
            yield _line({**at, "on": on, "open": "midway"})
        opened.add(record.session)
        for step, raw in _step(record, on, hiding):
            yield _line({**at, **step}, raw)


def _step(record: RawRecord, on: str, hiding: Hiding) -> Iterable[tuple[dict[str, Any], dict[str, str]]]:
    """Convert a record to a step, with those of its members that are already JSON."""
    match record.kind:
        case "open":
            return [({"on": on, "open": True}, {})]
        case "close":
            return [({"on": on, "close": _reason(record.text)}, {})]
        case "in":
            return [_frame(record, on, hiding)]
        case "book":
            text = hiding.text(record.text or "")
            return [({"on": on}, {"book": text})] if _is_json(text) else []
        case "rest" if record.symbol and record.purpose in _PURPOSES:
            return [_answer(record, hiding)]
        case _:
            return []


def _frame(record: RawRecord, on: str, hiding: Hiding) -> tuple[dict[str, Any], dict[str, str]]:
    if record.b64 is not None:
        blotted = msgspec.to_builtins(hiding.binary(record.payload))  # msgspec writes bytes as base64
        return {"on": on, "base64": blotted}, {}
    text = hiding.text(record.text or "")
    return ({"on": on}, {"frame": text}) if _is_json(text) else ({"on": on, "text": text}, {})


def _answer(record: RawRecord, hiding: Hiding) -> tuple[dict[str, Any], dict[str, str]]:
    step = {"on": "rest", "to": f"book {record.symbol}", "purpose": record.purpose}
    if record.reason:
        return {**step, "refuse": {"reason": _reason(record.reason)}}, {}
    text = hiding.text(record.text or "")
    if _is_json(text):
        return step, {"answer": text}
    return {**step, "refuse": {"reason": Reason.PARSE_ERRORS}}, {}


def _reason(text: str | None) -> str:
    """Return a recorded reason; recordings of other versions may use unknown ones."""
    return text if text in _REASONS else Reason.SERVER_CLOSE


def _is_json(text: str) -> bool:
    try:
        msgspec.json.decode(text.encode())
    except (ValueError, RecursionError):
        return False
    return True


def _line(step: dict[str, Any], raw: Mapping[str, str] | None = None) -> str:
    """Encode a step as JSON; embed existing JSON unchanged, numbers included."""
    head = json.dumps(step, ensure_ascii=False)
    more = "".join(f', "{key}": {text}' for key, text in (raw or {}).items())
    return f"{head[:-1]}{more}}}"
