"""The format of scenario files: what a file may say, and how a mistake in one is reported.

A file is one JSON object. ``steps`` happen one after the other; each names the connection that it arrives on. The
format is described for users in ``docs/scenarios.md``.
"""

from __future__ import annotations

import base64
import binascii
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final, Literal

import msgspec

from ipc.errors import UsageError
from ipc.health import Reason

__all__ = ["ACTIONS", "AccountSpec", "Expect", "Only", "Refusal", "Scenario", "Settings", "Step", "load", "wall_ns_of"]

#: Version of the format.
FORMAT: Final = 1
#: What a step may do; each step does one of these.
ACTIONS: Final = (
    "open",
    "close",
    "frame",
    "text",
    "base64",
    "book",
    "ask",
    "answer",
    "answers",
    "refuse",
    "wait",
    "now",
    "expect",
)
#: Actions that happen to the clock or the reader, and so name no connection.
_NOWHERE: Final = frozenset({"wait", "now", "expect"})
#: Actions that only REST knows, and those that only sockets know.
_REST: Final = frozenset({"ask", "answer", "answers", "refuse"})
_SOCKET: Final = frozenset({"open", "close", "frame", "text", "base64", "book"})
_ADVICE: Final = "the format is described in docs/scenarios.md"
#: Shorter intervals would take too long to play.
_LEAST_EVERY_S: Final = 0.001


class Refusal(msgspec.Struct, forbid_unknown_fields=True, omit_defaults=True):
    """A REST request that fails: with an HTTP ``status`` and a ``body``, or without an answer, for a ``reason``."""

    status: int | None = None
    reason: Reason | None = None
    body: msgspec.Raw = msgspec.Raw()
    retry_after_s: float | None = None


class Only(msgspec.Struct, forbid_unknown_fields=True, omit_defaults=True):
    """The lines that match ``of`` are those of ``are``, in this order, and no others."""

    of: dict[str, Any]
    are: list[dict[str, Any]]


class Expect(msgspec.Struct, forbid_unknown_fields=True, omit_defaults=True):
    """What must hold.

    Attributes:
        seen: Patterns of lines that came in this order, others between them.
        only: Lines that are exactly these.
        never: Patterns of lines that did not come.
        books: A consumer's books, by symbol: ``usable``, ``reason``, ``bids``, ``asks``.
        last: A consumer's last event of a topic, by topic; null for none.
        account: A consumer's account: ``usable``, ``reason``, ``orders``, ``positions``, ``balances``, ``margin``.
        counts: ``invalid_rows``, ``malformed``, ``unrouted``, ``lost``, ``unused_answers``.
    """

    seen: list[dict[str, Any]] = []
    only: list[Only] = []
    never: list[dict[str, Any]] = []
    books: dict[str, dict[str, Any]] = {}
    last: dict[str, dict[str, Any] | None] = {}
    account: dict[str, Any] = {}
    counts: dict[str, int] = {}


class Settings(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """Settings of the worker, and what else it finds: whether the venue answers pings, whether its other books flow."""

    stale_s: float = 10.0
    ping_s: float | None = None
    pongs: bool = True
    flows: bool = True


class AccountSpec(msgspec.Struct, forbid_unknown_fields=True, omit_defaults=True):
    """The account: what it is called, and invented credentials for what cannot be asked without any."""

    alias: str = "desk"
    credentials: dict[str, str] = {}


class Step(msgspec.Struct, forbid_unknown_fields=True, omit_defaults=True, rename={"with_": "with"}):
    """One thing that happens; see :data:`ACTIONS`.

    Attributes:
        on: The connection: ``public``, ``public/<name>``, ``account``, ``rest``.
        line: Which of a venue's lines it belongs to; this version plays ``a`` alone.
        at: When, s from the start: time passes until then.
        to: Which request an answer is for, in words; the oldest that waits when empty.
        purpose: What a recorded book answer was for; given at once, asked for or not.
    """

    on: str = ""
    line: Literal["a", "b"] = "a"
    at: float | None = None
    note: str = ""
    open: Literal[True, "midway"] | None = None
    close: Reason | None = None
    frame: msgspec.Raw = msgspec.Raw()
    text: str | None = None
    base64: str | None = None
    book: msgspec.Raw = msgspec.Raw()
    ask: Literal["account"] | None = None
    answer: msgspec.Raw = msgspec.Raw()
    answers: dict[str, msgspec.Raw] | None = None
    refuse: Refusal | None = None
    to: str = ""
    purpose: Literal["bridge", "soft", "compare"] | None = None
    wait: float | None = None
    every: float | None = None
    with_: list[Step] = []
    now: str | int | None = None
    expect: Expect | None = None

    @property
    def action(self) -> str:
        """Which of :data:`ACTIONS` it is."""
        return _actions(self)[0]

    @property
    def payload(self) -> tuple[bool, bytes]:
        """The frame that it brings: whether it is binary, and its bytes."""
        if self.base64 is not None:
            return True, base64.b64decode(self.base64)
        return False, bytes(self.frame) if self.text is None else self.text.encode()


class _File(msgspec.Struct, forbid_unknown_fields=True, omit_defaults=True):
    """A file, its steps not yet looked at."""

    scenario: Literal[1]
    venue: str
    steps: list[msgspec.Raw]
    about: str = ""
    now: str | int = "2026-01-01T00:00:00Z"
    settings: Settings = Settings()
    options: dict[str, str] = {}
    listings: list[dict[str, Any]] | None = None
    markets: list[str] | None = None
    account: AccountSpec | None = None
    expect: Expect | None = None


class Scenario(msgspec.Struct):
    """A scenario file.

    Attributes:
        path: Where it was read.
        venue: Whose connections these are.
        steps: What happens, in order.
        now_ns: The wall clock at the start.
        listings: The venue's markets, as :class:`workers.venues.venue.Listing` has them; None when REST answers.
        markets: The bases that are followed; None for all.
        expect: What must hold at the end, of all that came.
    """

    path: str
    venue: str
    steps: list[Step]
    now_ns: int
    about: str = ""
    settings: Settings = Settings()
    options: dict[str, str] = {}
    listings: list[dict[str, Any]] | None = None
    markets: list[str] | None = None
    account: AccountSpec | None = None
    expect: Expect | None = None


_decoder: Final = msgspec.json.Decoder(_File)
_step_decoder: Final = msgspec.json.Decoder(Step)


def load(path: Path) -> Scenario:
    """Read a scenario.

    Raises:
        UsageError: It cannot be read, or says something that the format does not have; names the step.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise UsageError(f"cannot be read: {error.strerror}", where=str(path)) from error
    return parse(content.removeprefix(b"\xef\xbb\xbf"), str(path))


def parse(content: bytes, path: str) -> Scenario:
    """Take a scenario from the content of a file; see :func:`load`."""
    try:
        file = _decoder.decode(content)
    except (ValueError, RecursionError) as error:
        raise UsageError(f"not a scenario: {error}", where=path, advice=_ADVICE) from error
    steps = [_step(raw, f"{path}:steps[{number}]") for number, raw in enumerate(file.steps)]
    return Scenario(
        path=path,
        steps=steps,
        now_ns=wall_ns_of(file.now, f"{path}:now"),
        **{name: getattr(file, name) for name in _COMMON},
    )


_COMMON: Final = ("venue", "about", "settings", "options", "listings", "markets", "account", "expect")


def wall_ns_of(text: str | int, where: str) -> int:
    """Return a wall-clock time, ns: of ISO 8601 text, or of ns as they are.

    Raises:
        UsageError: It is neither.
    """
    if isinstance(text, int):
        return text
    try:
        moment = datetime.fromisoformat(text)
    except ValueError as error:
        advice = "write 2026-01-31T12:00:00Z, or ns since 1970"
        raise UsageError(f"{text!r} is no time", where=where, advice=advice) from error
    moment = moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)
    return round(moment.timestamp() * 1_000_000) * 1000


def _step(raw: msgspec.Raw, where: str) -> Step:
    try:
        step = _step_decoder.decode(raw)
    except (ValueError, RecursionError) as error:
        raise UsageError(f"not a step: {error}", where=where, advice=_ADVICE) from error
    _check(step, where)
    return step


def _actions(step: Step) -> list[str]:
    return [name for name in ACTIONS if _is_given(getattr(step, name))]


def _is_given(value: object) -> bool:
    return bool(bytes(value)) if isinstance(value, msgspec.Raw) else value is not None


def _check(step: Step, where: str) -> None:
    """Look at what types do not tell: one action a step, on a connection that has such."""
    found = _actions(step)
    if len(found) != 1:
        what = f"it does {' and '.join(found)} at once" if found else "it does nothing"
        raise UsageError(what, where=where, advice=f"a step has exactly one of {', '.join(ACTIONS)}")
    if step.line != "a":
        raise UsageError("line b is not played by this version", where=where, advice="leave line out, or say a")
    action, on = found[0], step.on
    kind = on.partition("/")[0]
    if action in _NOWHERE:
        if on:
            raise UsageError(f"{action} happens on no connection", where=where, advice='leave "on" out')
    elif action in _REST and kind != "rest":
        raise UsageError(f"{action} on {on or 'no connection'!r}", where=where, advice='say "on": "rest"')
    elif action in _SOCKET and kind not in {"public", "account"}:
        advice = 'say "on": "public", the name of one as "public/<name>", or "on": "account"'
        raise UsageError(f"{action} on {on or 'no connection'!r}", where=where, advice=advice)
    _check_values(step, action, where)


def _check_values(step: Step, action: str, where: str) -> None:
    times = {"at": step.at, "wait": step.wait, "every": step.every}
    for name, value in times.items():
        if value is not None and not 0 <= value < 10**7:
            raise UsageError(f"{name} {value} is no number of seconds", where=where, advice="0 or more")
    if step.with_ or step.every is not None:
        if action != "wait" or (step.every or 0) < _LEAST_EVERY_S or not step.with_:
            advice = '{"wait": 10, "every": 0.5, "with": [{"on": "public", "frame": …}]}'
            raise UsageError("what is repeated needs wait, every and with", where=where, advice=advice)
        for number, one in enumerate(step.with_):
            _check(one, f"{where}.with[{number}]")
    if step.base64 is not None:
        try:
            base64.b64decode(step.base64, validate=True)
        except binascii.Error as error:
            raise UsageError(f"not base64: {error}", where=where) from error
    if step.refuse is not None and step.refuse.status is None and step.refuse.reason is None:
        raise UsageError("refuse says neither status nor reason", where=where, advice='{"refuse": {"status": 429}}')
