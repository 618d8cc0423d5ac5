"""Format of scenario files, and the errors reported for invalid ones.

A file is one JSON object. ``steps`` run in order; each names its connection. The
format is documented in ``docs/scenarios.md``.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any, Final, Literal

import msgspec
from msgspec import Meta

from ipc.errors import UsageError
from ipc.health import Reason
from workers.venues.listing import Listing

_REST: Final = ("rest",)
_SOCKETS: Final = ("public", "account")
_NOWHERE: Final = ("",)
#: Actions and the connections they apply to; each step has exactly one.
ACTIONS: Final[Mapping[str, tuple[str, ...]]] = {
    "open": _SOCKETS,
    "close": _SOCKETS,
    "frame": _SOCKETS,
    "text": _SOCKETS,
    "base64": _SOCKETS,
    "book": ("public",),
    "ask": _REST,
    "answer": _REST,
    "answers": _REST,
    "refuse": _REST,
    "wait": _NOWHERE,
    "now": _NOWHERE,
    "expect": _NOWHERE,
}
#: Keys of a listing; see :class:`workers.venues.venue.Listing`.
LISTING_KEYS: Final = tuple(key for key in Listing.__dataclass_fields__ if key != "symbol")
_ADVICE: Final = "the format is described in docs/scenarios.md"
_PLACE: Final = re.compile(r" - at (?:`key` in )?`\$\.?(.+)`$")
_BYTE: Final = re.compile(r"\(byte (\d+)\)$")

#: Durations, s; repeated steps have a lower bound, since shorter intervals would take too long to play.
Seconds = Annotated[float, Meta(ge=0, lt=10**7)]
Interval = Annotated[float, Meta(ge=0.001, lt=10**7)]
#: A wall-clock time: ISO 8601 or ns since 1970.
Moment = datetime | Annotated[int, Meta(ge=0, lt=2**62)]


class ScriptedRefusal(msgspec.Struct, forbid_unknown_fields=True, omit_defaults=True):
    """REST request that fails: with an HTTP ``status`` and a ``body``, or without an answer, for a ``reason``."""

    status: Annotated[int, Meta(ge=100, lt=1000)] | None = None
    reason: Reason | None = None
    body: msgspec.Raw = msgspec.Raw()
    retry_after_s: Seconds | None = None


class Only(msgspec.Struct, forbid_unknown_fields=True, omit_defaults=True):
    """Expectation that the lines matching ``of`` are exactly ``are``, in this order."""

    of: dict[str, Any]
    are: list[dict[str, Any]]


class Expect(msgspec.Struct, forbid_unknown_fields=True, omit_defaults=True):
    """Expectations of a scenario or a step.

    Attributes:
        seen: Patterns of lines that appear in this order, with any others between them.
        only: Exact lists of lines per pattern.
        never: Patterns that no line matches.
        books: A consumer's books, by symbol: ``usable``, ``reason``, ``bids``, ``asks``.
        last: A consumer's last event of a topic, by topic; null for none.
        account: A consumer's account: ``usable``, ``reason``, ``orders``, ``positions``, ``balances``, ``margin``.
        counts: Counters so far.
    """

    seen: list[dict[str, Any]] = []
    only: list[Only] = []
    never: list[dict[str, Any]] = []
    books: dict[str, dict[str, Any]] = {}
    last: dict[str, dict[str, Any] | None] = {}
    account: dict[str, Any] = {}
    counts: dict[Literal["invalid_rows", "malformed", "unrouted", "lost", "unused_answers"], int] = {}


class Settings(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """Settings of the worker and of its surroundings: whether the venue answers pings, whether its other books flow."""

    stale_s: Interval = 10.0
    ping_s: Interval | None = None
    pongs: bool = True
    flows: bool = True


class AccountSpec(msgspec.Struct, forbid_unknown_fields=True, omit_defaults=True):
    """Account: its alias, and placeholder credentials for requests that need some."""

    alias: str = "desk"
    credentials: dict[str, str] = {}


class ScenarioStep(msgspec.Struct, forbid_unknown_fields=True, omit_defaults=True, rename={"with_": "with"}):
    """Step of a scenario; see :data:`ACTIONS`.

    Attributes:
        on: The connection: ``public``, ``public/<name>``, ``account``, ``rest``.
        line: Line (``a`` or ``b``) of the venue; this version plays only ``a``.
        at: Time from the start, s; the clock advances to it.
        to: Words that select the request that an answer is for; the oldest pending one when empty.
        purpose: Purpose of a recorded book answer, which is delivered at once, requested or not.
    """

    on: str = ""
    line: Literal["a", "b"] = "a"
    at: Seconds | None = None
    note: str = ""
    open: bool | Literal["midway"] | None = None
    close: Reason | None = None
    frame: msgspec.Raw = msgspec.Raw()
    text: str | None = None
    base64: bytes | None = None
    book: msgspec.Raw = msgspec.Raw()
    ask: Literal["account"] | None = None
    answer: msgspec.Raw = msgspec.Raw()
    answers: dict[str, msgspec.Raw] | None = None
    refuse: ScriptedRefusal | None = None
    to: str = ""
    purpose: Literal["bridge", "soft", "compare"] | None = None
    wait: Seconds | None = None
    every: Interval | None = None
    with_: list[ScenarioStep] = []
    now: Moment | None = None
    expect: Expect | None = None

    @property
    def actions(self) -> list[str]:
        """Names of the :data:`ACTIONS` given; exactly one after validation."""
        return [name for name in ACTIONS if _is_given(getattr(self, name))]

    @property
    def action(self) -> str:
        """Name of the action."""
        return self.actions[0]

    @property
    def kind(self) -> str:
        """Kind of connection: ``public``, ``account``, ``rest``; empty for none."""
        return self.on.partition("/")[0]

    @property
    def payload(self) -> tuple[bool, bytes]:
        """Frame of the step: whether it is binary, and its bytes."""
        if self.base64 is not None:
            return True, self.base64
        return False, bytes(self.frame) if self.text is None else self.text.encode()


class Scenario(msgspec.Struct, forbid_unknown_fields=True, omit_defaults=True):
    """Scenario file.

    Attributes:
        scenario: Version of the format.
        venue: Venue of the connections.
        steps: Steps, in order.
        about: Description.
        now: Wall clock at the start.
        listings: Markets as :class:`workers.venues.venue.Listing` describes them; None when REST answers supply them.
        markets: Base assets to follow; None for all.
        expect: Expectations at the end.
    """

    scenario: Literal[1]
    venue: str
    steps: list[ScenarioStep]
    about: str = ""
    now: Moment = datetime(2026, 1, 1, tzinfo=UTC)
    settings: Settings = Settings()
    options: dict[str, str] = {}
    listings: list[dict[str, Any]] | None = None
    markets: list[str] | None = None
    account: AccountSpec | None = None
    expect: Expect | None = None


_decoder: Final = msgspec.json.Decoder(Scenario)


def load(path: Path) -> Scenario:
    """Read a scenario.

    Raises:
        UsageError: It cannot be read, or violates the format; the error names the place.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise UsageError(f"cannot be read: {error.strerror}", where=str(path)) from error
    return parse(content.removeprefix(b"\xef\xbb\xbf"), str(path))


def parse(content: bytes, path: str) -> Scenario:
    """Parse a scenario from the content of a file; see :func:`load`."""
    try:
        scenario = _decoder.decode(content)
    except (ValueError, RecursionError) as error:
        raise _problem(str(error), content, path) from error
    for number, step in enumerate(scenario.steps):
        _check(step, f"{path}:steps[{number}]")
    return scenario


def wall_ns_of(moment: Moment) -> int:
    """Return a wall-clock time, ns since 1970; a time that names no zone is UTC."""
    if isinstance(moment, int):
        return moment
    moment = moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)
    return round(moment.timestamp() * 1_000_000) * 1000


def _problem(text: str, content: bytes, path: str) -> UsageError:
    """Return the error of a file that could not be decoded, at its key or, where it is no JSON, its line."""
    if found := _PLACE.search(text):
        return UsageError(text[: found.start()], where=f"{path}:{found[1]}", advice=_ADVICE)
    if found := _BYTE.search(text):
        line = content.count(b"\n", 0, int(found[1])) + 1
        path = f"{path}:{line}"
    return UsageError(f"not a scenario: {text}", where=path, advice=_ADVICE)


def _is_given(value: object) -> bool:
    return bool(bytes(value)) if isinstance(value, msgspec.Raw) else value is not None


def _check(step: ScenarioStep, where: str) -> None:
    """Check what types do not express: one action per step, on a matching connection."""
    if (mistake := next(_mistakes(step), None)) is not None:
        what, advice = mistake
        raise UsageError(what, where=where, advice=advice)
    for number, one in enumerate(step.with_):
        _check(one, f"{where}.with[{number}]")


def _mistakes(step: ScenarioStep) -> Iterator[tuple[str, str]]:
    """Yield the mistakes of a step with their remedies; those after the first may be consequences."""
    found = step.actions
    if len(found) != 1:
        what = f"it does {' and '.join(found)} at once" if found else "it does nothing"
        yield what, f"a step has exactly one of {', '.join(ACTIONS)}"
    kinds = ACTIONS[found[0]]
    if step.on not in kinds and not (step.kind == "public" and "public" in kinds):
        yield f"{found[0]} on {step.on or 'no connection'!r}", _PLACES[kinds]
    if step.open is False:
        yield "open is false", 'say true, or "midway"'
    if step.line != "a":
        yield "line b is not played by this version", "leave line out, or say a"
    if (step.to or step.purpose) and kinds != _REST:
        yield "to and purpose are of answers", "leave them out"
    if (step.with_ or step.every is not None) and not (step.wait is not None and step.every and step.with_):
        example = '{"wait": 10, "every": 0.5, "with": [{"on": "public", "frame": …}]}'
        yield "what is repeated needs wait, every and with", example
    if step.refuse is not None and step.refuse.status is None and step.refuse.reason is None:
        yield "refuse says neither status nor reason", '{"refuse": {"status": 429}}'


_PLACES: Final = {
    _REST: 'say "on": "rest"',
    _SOCKETS: 'say "on": "public", the name of one as "public/<name>", or "on": "account"',
    ("public",): 'say "on": "public", or the name of one as "public/<name>"',
    _NOWHERE: 'leave "on" out',
}
