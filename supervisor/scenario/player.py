"""Player of scenarios: each step is applied to its connection; the clock advances between steps."""

from __future__ import annotations

import logging
import math
import traceback
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import msgspec
import zmq

from ipc.board import Board
from ipc.errors import UsageError
from ipc.health import Reason
from supervisor.scenario.account import AccountPart
from supervisor.scenario.clock import Clock
from supervisor.scenario.expect import missed
from supervisor.scenario.form import LISTING_KEYS, Expect, Scenario, ScenarioStep, wall_ns_of
from supervisor.scenario.public import Public
from supervisor.scenario.rest import Answer, ScriptedRest, answer_of
from supervisor.scenario.run import ScenarioRun
from supervisor.scenario.seen import Consumer, Line, ObservedFeed, ScenarioReport
from workers.venues import VENUES
from workers.venues.listing import Listing
from workers.venues.venue import Venue

_TICK_NS: Final = 50_000_000
_FRAMES: Final = frozenset({"frame", "text", "base64"})
#: Tolerance for times that are sums of fractions, s.
_ROUNDING: Final = 1e-9


@dataclass(frozen=True, slots=True)
class Played:
    """Result: report lines and missed expectations."""

    lines: list[Line] = field(default_factory=list)
    missed: list[str] = field(default_factory=list)


def play(scenario: Scenario, path: str) -> Played:
    """Play a scenario from its first step to its last.

    Args:
        scenario: Scenario to play.
        path: Its file, for errors.

    Raises:
        UsageError: The file uses something that its venue does not have; the error names the step.
    """
    venue = VENUES.get(scenario.venue)
    if venue is None:
        advice = f"venues are {', '.join(VENUES)}"
        raise UsageError(f"unknown venue {scenario.venue!r}", where=f"{path}:venue", advice=advice)
    clock = Clock(wall_ns_of(scenario.now))
    report = ScenarioReport(clock)
    context: zmq.Context[zmq.Socket[bytes]] = zmq.Context(0)
    board = Board.in_memory()
    try:
        with _at(f"{path}:options"):
            options = _options(venue, scenario.options)
        player = _Player(
            ScenarioRun(path, scenario, venue, options, clock, report, ScriptedRest(clock, report), board), context
        )
        with _logged_to(report):
            player.run()
        return Played(report.lines, player.missed)
    finally:
        context.destroy(linger=0)
        board.close()


class _Player:
    """State of a scenario being played; ``missed`` holds unmet expectations."""

    def __init__(self, run: ScenarioRun, context: zmq.Context[zmq.Socket[bytes]]) -> None:
        self.missed: list[str] = []
        self._path = run.path
        self._scenario = run.scenario
        self._clock = run.clock
        self._report = run.report
        self._rest = run.rest
        self._venue = run.venue
        self._consumer = consumer = Consumer(run.venue.name, run.clock, run.report)
        self._public = Public(run, ObservedFeed(context, "public", run.clock, consumer.handle))
        self._account = AccountPart(run, ObservedFeed(context, "account", run.clock, consumer.handle_account))
        #: First report line that the next expectation covers.
        self._from = 0

    def run(self) -> None:
        """Play every step, then check the file's overall expectations."""
        with _at(f"{self._path}:listings"):
            if self._scenario.listings is not None:
                self._public.list_markets([_listing(row) for row in self._scenario.listings])
                self._listed(is_first=True)
        if self._is_open_from_the_start("account", is_needed=True):
            self._account.open()
        for number, together in _reads(self._scenario.steps):
            self._try(together, f"{self._path}:steps[{number}]")
        if self._scenario.expect is not None:
            with _at(f"{self._path}:expect"):
                self._judge(self._scenario.expect, self._report.lines, f"{self._path}:expect")

    def _try(self, steps: list[ScenarioStep], where: str) -> None:
        """Run steps; an exception in the worker's code counts as a missed expectation, and play continues."""
        try:
            with _at(where):
                self._do(steps, where)
        except UsageError:
            raise
        except Exception as error:
            place = traceback.extract_tb(error.__traceback__)[-1]
            text = f"{type(error).__name__}: {error} ({Path(place.filename).name}:{place.lineno})"
            self._report.add(note="crash", error=text)
            self.missed.append(f"{where}: a worker crashes: {text}")

    def _do(self, steps: list[ScenarioStep], where: str) -> None:
        """Run one step, or several frames that arrive in one socket read."""
        step = steps[0]
        if step.at is not None:
            if step.at < self._clock.t - _ROUNDING:
                raise UsageError(f"at {step.at:g} is over", advice=f"it is {self._clock.t:g} s after the start by then")
            self._pass_until(step.at)
        match step.action:
            case "wait":
                self._wait(step, where)
            case "now" if step.now is not None:
                self._clock.set_wall(wall_ns_of(step.now))
            case "expect" if step.expect is not None:
                self._judge(step.expect, self._report.lines[self._from :], where)
                self._from = len(self._report.lines)
            case _ if step.kind == "rest":
                self._handle_rest(step)
            case _ if step.kind == "account":
                self._do_account(step)
            case _ if _is_public_frame(step):
                self._public.frames(self._session(step.on), [one.payload for one in steps])
            case _:
                self._do_public(step)
        self._public.resend(self._consumer.state.snapshot_requests())

    def _wait(self, step: ScenarioStep, where: str) -> None:
        start, end = self._clock.t, self._clock.t + (step.wait or 0)
        rounds = math.floor((step.wait or 0) / step.every + _ROUNDING) if step.every else 0
        for number in range(1, rounds + 1):
            self._pass_until(start + number * (step.every or 0))
            for place, one in enumerate(step.with_):
                with _at(f"{where}.with[{place}]"):
                    self._do([one], f"{where}.with[{place}]")
        self._pass_until(end)

    def _pass_until(self, t: float) -> None:
        """Advance the clock to ``t`` seconds after the start."""
        end_ns = self._clock.mono_at(t)
        while self._clock.mono() < end_ns:
            self._clock.move_to(min(end_ns, self._clock.mono() + _TICK_NS))
            self._public.tick()
            self._account.tick()
            self._consumer.report_usability()
            self._public.resend(self._consumer.state.snapshot_requests())

    def _do_public(self, step: ScenarioStep) -> None:
        if step.action == "book":
            self._public.adopt(self._session(step.on), bytes(step.book))
            return
        names = list(self._public.sessions) if step.on == "public" else [self._session(step.on)]
        for name in names:
            if step.open is not None:
                self._public.open(name, is_midway=step.open == "midway")
            else:
                self._public.close(name, step.close or Reason.SERVER_CLOSE)

    def _do_account(self, step: ScenarioStep) -> None:
        if step.open is not None:
            self._account.open()
        elif step.close is not None:
            self._account.close(step.close)
        elif self._account.is_open:
            is_binary, payload = step.payload
            self._account.frame(payload, is_binary=is_binary)
        else:
            self._report.add(note="frame on a closed connection", on="account")

    def _handle_rest(self, step: ScenarioStep) -> None:
        what, _, rest = step.to.partition(" ")
        if step.ask is not None:
            self._account.ask()
        elif step.answers is not None:
            answers = {to: bytes(body) for to, body in step.answers.items()}
            if what == "listings":
                self._list(answers)
            else:
                self._account.answer(answers)
        elif what == "listings":
            self._list({"": answer_of(step)})
        elif what == "poll":
            self._public.poll(rest, answer_of(step))
        elif step.purpose is not None:
            self._public.recorded(rest, step.purpose, answer_of(step))
        else:
            self._rest.deliver(step.to, answer_of(step))

    def _list(self, answers: Mapping[str, Answer]) -> None:
        """Answer the requests for the venue's market list."""
        bodies = []
        for request in self._venue.listing_requests():
            words = self._rest.report(request, "listings")
            found = next((body for to, body in answers.items() if set(to.split()) <= words), None)
            if found is None:
                raise UsageError(f"no answer for {request.method} {request.path}", advice="the venue asks for several")
            bodies.append(found)
        is_first = not self._public.sessions
        self._public.list_answered(bodies)
        self._listed(is_first=is_first)

    def _listed(self, *, is_first: bool) -> None:
        """Open the connections of the first market list, except those that the file opens itself."""
        self._account.list_markets(self._public.listed)
        for name in self._public.sessions if is_first else ():
            if self._is_open_from_the_start("public", f"public/{name}"):
                self._public.open(name)

    def _is_open_from_the_start(self, *names: str, is_needed: bool = False) -> bool:
        """Return whether a connection is open before the first step: unless its own first step opens it.

        With ``is_needed``, a connection that no step names is closed.
        """
        first = next((step for step in _flat(self._scenario.steps) if step.on in names), None)
        return not is_needed if first is None else first.open is None

    def _session(self, on: str) -> str:
        """Return the public connection that a step refers to."""
        names = list(self._public.sessions)
        name = on.partition("/")[2] or (names[0] if len(names) == 1 else "")
        if name in names:
            return name
        advice = f"say {', '.join(f'public/{one}' for one in names[:8])}" if names else "list its markets before"
        what = "could be one of several" if on == "public" and names else "is no connection of this venue"
        raise UsageError(f"{on!r} {what}", advice=advice)

    def _judge(self, expect: Expect, lines: list[Line], where: str) -> None:
        sessions = self._public.sessions.values()
        notes = [line["note"] for line in self._report.lines if "note" in line]
        counts = {
            "invalid_rows": sum(str(note).endswith(".invalid_row") for note in notes),
            "malformed": sum(str(note).endswith(".malformed") for note in notes),
            "unrouted": sum(session.faults.unrouted for session in sessions),
            "lost": self._consumer.state.lost + self._consumer.account.lost,
            "unused_answers": self._rest.unused,
        }
        t = round(self._clock.t, 3)
        self.missed += [f"{where} at {t:g} s: {text}" for text in missed(expect, lines, self._consumer, counts)]


def _reads(steps: list[ScenarioStep]) -> Iterator[tuple[int, list[ScenarioStep]]]:
    """Yield groups of steps with the number of the first; simultaneous frames of a connection form one group."""
    together: list[ScenarioStep] = []
    for number, step in enumerate(steps):
        if together and not _is_of_one_read(together[-1], step):
            yield number - len(together), together
            together = []
        together.append(step)
    if together:
        yield len(steps) - len(together), together


def _is_of_one_read(last: ScenarioStep, step: ScenarioStep) -> bool:
    """Return whether two steps belong to one socket read."""
    are_frames = _is_public_frame(last) and _is_public_frame(step)
    return are_frames and last.on == step.on and step.at in {None, last.at}


def _is_public_frame(step: ScenarioStep) -> bool:
    return step.action in _FRAMES and step.kind == "public"


def _flat(steps: list[ScenarioStep]) -> Iterator[ScenarioStep]:
    for step in steps:
        yield step
        yield from _flat(step.with_)


def _options(venue: Venue, given: Mapping[str, str]) -> dict[str, str]:
    """Return the venue's options, with defaults for those not given."""
    for key, value in given.items():
        if value not in venue.options.get(key, ()):
            known = "; ".join(f"{name}: {' or '.join(values)}" for name, values in venue.options.items()) or "none"
            raise UsageError(f"{venue.name} has no option {key} = {value}", advice=f"it has {known}")
    return {key: given.get(key, values[0]) for key, values in venue.options.items()}


def _listing(row: dict[str, Any]) -> Listing:
    if unknown := row.keys() - LISTING_KEYS:
        raise UsageError(
            f"unknown keys {', '.join(sorted(unknown))}", advice=f"a listing has {', '.join(LISTING_KEYS)}"
        )
    try:
        return msgspec.convert({**row, "symbol": None}, Listing)
    except msgspec.ValidationError as error:
        advice = 'say at least {"base": "BTC", "wire": "BTC", "venue_symbol": "BTC"}'
        raise UsageError(f"not a listing: {error}", advice=advice) from error


@contextmanager
def _at(where: str) -> Iterator[None]:
    """Add the place to an error that names none."""
    try:
        yield
    except UsageError as error:
        if error.where:
            raise
        raise UsageError(error.what, where=where, advice=error.advice) from error


class _Notes(logging.Handler):
    """Log handler that turns records from WARNING up into report lines."""

    def __init__(self, report: ScenarioReport) -> None:
        super().__init__(logging.WARNING)
        self._report = report

    def emit(self, record: logging.LogRecord) -> None:
        """Add a log record to the report."""
        fields = {key: value for key, value in getattr(record, "fields", {}).items() if value is not None}
        self._report.add(**{**fields, "note": record.getMessage()})


@contextmanager
def _logged_to(report: ScenarioReport) -> Iterator[None]:
    """Redirect the program's log to the report."""
    root = logging.getLogger()
    handlers, root.handlers[:] = list(root.handlers), [_Notes(report)]
    try:
        yield
    finally:
        root.handlers[:] = handlers
