"""Plays a scenario: each step happens to the connection that it names, and between steps time passes."""

from __future__ import annotations

import logging
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import count, groupby
from pathlib import Path
from typing import Any, Final

import msgspec
import zmq

from ipc.board import Board
from ipc.errors import UsageError
from ipc.health import Reason
from ipc.raw import RawRecord, make
from supervisor.scenario.account import AccountPart
from supervisor.scenario.clock import NS, Clock
from supervisor.scenario.expect import missed
from supervisor.scenario.form import AccountSpec, Expect, Scenario, Step, wall_ns_of
from supervisor.scenario.public import Public
from supervisor.scenario.rest import Desk, answer_of
from supervisor.scenario.seen import Consumer, Feed, Line, Report
from workers.venues import VENUES
from workers.venues.venue import Listing, Venue

__all__ = ["Played", "play"]

_TICK_NS: Final = 50_000_000
_FRAMES: Final = frozenset({"frame", "text", "base64"})
_numbers = count()


@dataclass(frozen=True, slots=True)
class Played:
    """What a scenario gave: the lines of its report, and what was expected and did not come."""

    lines: list[Line] = field(default_factory=list)
    missed: list[str] = field(default_factory=list)


def play(scenario: Scenario) -> Played:
    """Play a scenario from its first step to its last.

    Raises:
        UsageError: The file asks for something that its venue does not have; names the step.
    """
    context: zmq.Context[zmq.Socket[bytes]] = zmq.Context(0)
    board = Board.in_memory()
    try:
        player = _Player(scenario, context, board)
        with _told(player.report):
            player.run()
        return Played(player.report.lines, player.missed)
    finally:
        context.destroy(linger=0)
        board.close()


class _Player:
    """One scenario while it is played; ``missed`` holds what was expected and did not come."""

    def __init__(self, scenario: Scenario, context: zmq.Context[zmq.Socket[bytes]], board: Board) -> None:
        venue = VENUES.get(scenario.venue)
        if venue is None:
            advice = f"venues are {', '.join(VENUES)}"
            raise UsageError(f"unknown venue {scenario.venue!r}", where=f"{scenario.path}:venue", advice=advice)
        self.missed: list[str] = []
        self._scenario = scenario
        self._venue = venue
        self._clock = clock = Clock(scenario.now_ns)
        self.report = report = Report(clock)
        self._consumer = Consumer(venue.name, clock, report)
        number = next(_numbers)
        self._feed = Feed(context, f"public-{number}", clock, self._consumer.hear)
        self._account_feed = Feed(context, f"account-{number}", clock, self._consumer.hear_account)
        self._desk = desk = Desk(clock, report)
        spec = scenario.account or AccountSpec()
        where = f"{scenario.path}:account"
        options = _options(venue, scenario)
        self._public = Public(venue, options, scenario, clock, self._feed, report, desk, board)
        self._account = AccountPart(venue, options, spec, clock, self._account_feed, report, desk, board, where)
        #: Where the lines begin that the next expectation is about.
        self._from = 0

    def run(self) -> None:
        """Play every step, then look at what the file expects of the whole."""
        path = self._scenario.path
        with _at(f"{path}:listings"):
            if self._scenario.listings is not None:
                self._list([_listing(row) for row in self._scenario.listings])
        if self._is_open_from_the_start("account", is_needed=True):
            self._account.open()
        steps = list(enumerate(self._scenario.steps))
        for _, group in groupby(steps, key=_Reads()):
            together = list(group)
            self._try([step for _, step in together], f"{path}:steps[{together[0][0]}]")
        if self._scenario.expect is not None:
            self._judge(self._scenario.expect, self.report.lines, f"{path}:expect")

    # --- steps --------------------------------------------------------------------------------------------------------

    def _try(self, steps: list[Step], where: str) -> None:
        """Do steps; a fault of ours that they meet is a finding, and what follows is played all the same."""
        try:
            with _at(where):
                self._do(steps, where)
        except UsageError:
            raise
        except Exception as error:
            place = traceback.extract_tb(error.__traceback__)[-1]
            text = f"{type(error).__name__}: {error} ({Path(place.filename).name}:{place.lineno})"
            self.report.add(note="crash", error=text)
            self.missed.append(f"{where}: a worker crashes: {text}")

    def _do(self, steps: list[Step], where: str) -> None:
        """Do one step, or several frames that one read of the sockets gives."""
        step = steps[0]
        if step.at is not None:
            self._pass_until(self._clock.mono_at(step.at))
        kind = step.on.partition("/")[0]
        if step.wait is not None:
            self._wait(step)
        elif step.now is not None:
            self._clock.set_wall(wall_ns_of(step.now, where))
        elif step.expect is not None:
            self._judge(step.expect, self.report.lines[self._from :], where)
            self._from = len(self.report.lines)
        elif kind == "rest":
            self._rest(step)
        elif kind == "account":
            for one in steps:
                self._do_account(one)
        elif step.action in _FRAMES:
            self._frames(steps)
        else:
            self._do_public(step)
        self._public.resend(self._consumer.mirror.asks())

    def _wait(self, step: Step) -> None:
        end_ns = self._clock.mono() + round((step.wait or 0) * NS)
        while step.every and self._clock.mono() + round(step.every * NS) <= end_ns:
            self._pass_until(self._clock.mono() + round(step.every * NS))
            for one in step.with_:
                self._do([one], "with")
        self._pass_until(end_ns)

    def _pass_until(self, mono_ns: int) -> None:
        while self._clock.mono() < mono_ns:
            self._clock.move_to(min(mono_ns, self._clock.mono() + _TICK_NS))
            self._public.tick()
            self._account.tick()
            self._consumer.look()
            self._public.resend(self._consumer.mirror.asks())

    def _frames(self, steps: list[Step]) -> None:
        records = []
        for step in steps:
            name = self._session(step.on)
            if self._public.is_open(name):
                records.append(self._record("in", name, *step.payload))
            else:
                self.report.add(note="frame on a closed connection", on=f"public/{name}")
        self._public.play(*records)

    def _do_public(self, step: Step) -> None:
        if step.action == "book":
            self._public.play(self._record("book", self._session(step.on), False, bytes(step.book)))
            return
        names = list(self._public.sessions) if step.on == "public" else [self._session(step.on)]
        for name in names:
            if step.open is not None:
                self._public.open(name, is_midway=step.open == "midway")
            else:
                self._public.close(name, step.close or Reason.SERVER_CLOSE)

    def _do_account(self, step: Step) -> None:
        if step.open is not None:
            self._account.open()
        elif step.close is not None:
            self._account.close(step.close)
        elif step.action == "book":
            raise UsageError("an account has no book", advice='say "on": "public"')
        elif self._account.is_open:
            is_binary, payload = step.payload
            self._account.frame(payload, is_binary=is_binary)
        else:
            self.report.add(note="frame on a closed connection", on="account")

    def _rest(self, step: Step) -> None:
        what, _, rest = step.to.partition(" ")
        if step.ask is not None:
            self._account.ask()
        elif step.answers is not None:
            self._answers({to: bytes(body) for to, body in step.answers.items()}, is_listed=what == "listings")
        elif what == "listings":
            self._answers({"": bytes(step.answer)}, is_listed=True)
        elif what == "poll":
            self._public.poll(rest, answer_of(step))
        elif step.purpose is not None:
            self._public.recorded(rest, step.purpose, answer_of(step))
        else:
            self._desk.give(step.to, answer_of(step))

    def _answers(self, answers: dict[str, bytes], *, is_listed: bool) -> None:
        if not is_listed:
            self._account.answer(answers)
            return
        bodies = []
        for request in self._venue.listing_requests():
            words = self._desk.show(request, "listings")
            found = next((body for to, body in answers.items() if set(to.split()) <= words), None)
            if found is None:
                raise UsageError(f"no answer for {request.method} {request.path}", advice="the venue asks for several")
            bodies.append(found)
        before = self._public.sessions
        self._public.list_answered(bodies)
        self._listed(is_first=not before)

    def _list(self, listings: list[Listing]) -> None:
        self._public.list_markets(listings)
        self._listed(is_first=True)

    def _listed(self, *, is_first: bool) -> None:
        """Open what the file does not open itself, once there is something to open."""
        self._account.list_markets(self._public.listed)
        for name in self._public.sessions if is_first else ():
            if self._is_open_from_the_start("public", f"public/{name}"):
                self._public.open(name)

    def _is_open_from_the_start(self, *names: str, is_needed: bool = False) -> bool:
        """Whether the first thing that the file says of a connection is another than that it opens."""
        first = next((step for step in _flat(self._scenario.steps) if step.on in names), None)
        return not is_needed if first is None else first.open is None

    def _session(self, on: str) -> str:
        """Return which public connection a step means."""
        names = list(self._public.sessions)
        name = on.partition("/")[2] or (names[0] if len(names) == 1 else "")
        if name in names:
            return name
        advice = f"say {', '.join(f'public/{one}' for one in names[:8])}" if names else "list its markets before"
        raise UsageError(f"{on!r} is no connection of this venue, or one of several", advice=advice)

    def _record(self, kind: Any, name: str, is_binary: bool, payload: bytes) -> RawRecord:  # noqa: FBT001
        return make(kind, name, self._clock.mono(), self._clock.wall(), payload, is_binary=is_binary)

    def _judge(self, expect: Expect, lines: list[Line], where: str) -> None:
        sessions = self._public.sessions.values()
        notes = [line["note"] for line in self.report.lines if "note" in line]
        counts = {
            "invalid_rows": sum(str(note).endswith(".invalid_row") for note in notes),
            "malformed": sum(str(note).endswith(".malformed") for note in notes),
            "unrouted": sum(session.unrouted for session in sessions),
            "lost": self._consumer.mirror.lost + self._consumer.account.lost,
            "unused_answers": self._desk.unused,
        }
        t = round(self._clock.t, 3)
        self.missed += [f"{where} at {t:g} s: {text}" for text in missed(expect, lines, self._consumer, counts)]


class _Reads:
    """Groups frames of the public side that follow one another without time between them: one read gives them all."""

    def __init__(self) -> None:
        self._group = 0
        self._last: Step | None = None

    def __call__(self, numbered: tuple[int, Step]) -> int:
        step, last = numbered[1], self._last
        self._last = step
        is_more = last is not None and _is_public_frame(last) and _is_public_frame(step)
        if not is_more or (step.at is not None and last is not None and step.at != last.at):
            self._group += 1
        return self._group


def _is_public_frame(step: Step) -> bool:
    return step.action in _FRAMES and step.on.partition("/")[0] == "public"


def _flat(steps: list[Step]) -> Iterator[Step]:
    for step in steps:
        yield step
        yield from _flat(step.with_)


def _options(venue: Venue, scenario: Scenario) -> dict[str, str]:
    """Return the venue's options, those that the file does not name at their defaults."""
    for key, value in scenario.options.items():
        if value not in venue.options.get(key, ()):
            known = "; ".join(f"{name}: {' or '.join(values)}" for name, values in venue.options.items()) or "none"
            what = f"{venue.name} has no option {key} = {value}"
            raise UsageError(what, where=f"{scenario.path}:options", advice=f"it has {known}")
    return {key: scenario.options.get(key, values[0]) for key, values in venue.options.items()}


def _listing(row: dict[str, Any]) -> Listing:
    try:
        return msgspec.convert({**row, "symbol": None}, Listing)
    except msgspec.ValidationError as error:
        advice = 'say at least {"base": "BTC", "wire": "BTC", "venue_symbol": "BTC"}'
        raise UsageError(f"not a listing: {error}", advice=advice) from error


@contextmanager
def _at(where: str) -> Iterator[None]:
    """Name the place of an error that does not name one."""
    try:
        yield
    except UsageError as error:
        if error.where:
            raise
        raise UsageError(error.what, where=where, advice=error.advice) from error


class _Notes(logging.Handler):
    """Makes lines of the program's own log from WARNING up."""

    def __init__(self, report: Report) -> None:
        super().__init__(logging.WARNING)
        self._report = report

    def emit(self, record: logging.LogRecord) -> None:
        """Make a line of a record."""
        fields = {key: value for key, value in getattr(record, "fields", {}).items() if value is not None}
        self._report.add(**{**fields, "note": record.getMessage()})


@contextmanager
def _told(report: Report) -> Iterator[None]:
    """Have what the parts log reported, and nothing written anywhere else."""
    root = logging.getLogger()
    handlers, root.handlers[:] = list(root.handlers), [_Notes(report)]
    try:
        yield
    finally:
        root.handlers[:] = handlers
