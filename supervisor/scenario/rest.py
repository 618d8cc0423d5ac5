"""REST in a scenario: requests wait for the answers of the file, and answers for the requests that they are for."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final, Generic, TypeVar
from urllib.parse import parse_qsl, urlsplit

import msgspec

from ipc.health import Reason
from ipc.log import without_hidden
from supervisor.scenario.clock import Clock
from supervisor.scenario.form import ScenarioStep
from supervisor.scenario.hiding import Hiding
from supervisor.scenario.seen import ScenarioReport
from workers.accounts.close_reason import FAILURES
from workers.accounts.rest_flow import advance
from workers.net.rest import RestError
from workers.venues.account import RestFlow
from workers.venues.venue import RestRequest

__all__ = ["Answer", "ScriptedFlow", "ScriptedRest", "answer_of", "words_of"]

T = TypeVar("T")

#: What a request gets: the body, or why there is none.
Answer = bytes | RestError
_TOO_MANY: Final = frozenset({418, 429})
_WORD: Final = re.compile(r"[^/?&\s]+")


def words_of(request: RestRequest) -> frozenset[str]:
    """Return the words that an answer may name a request by.

    These are its method, its path whole and in its parts, and what its query and its JSON body say: ``key=value``, and
    values that are text alone.
    """
    address = urlsplit(request.path)
    said = dict(parse_qsl(address.query)) | _said(request.body)
    words = {request.method, address.path, *_WORD.findall(address.path)}
    words |= {f"{key}={value}" for key, value in said.items()}
    return frozenset(words | {value for value in said.values() if isinstance(value, str)})


def _said(body: bytes | None) -> dict[str, Any]:
    try:
        said = msgspec.json.decode(body or b"{}")
    except ValueError:
        return {}
    return said if isinstance(said, dict) else {}


def answer_of(step: ScenarioStep) -> Answer:
    """Return what a step of ``answer`` or ``refuse`` answers with."""
    refuse = step.refuse
    if refuse is None:
        return bytes(step.answer)
    body = bytes(refuse.body)
    if refuse.status is None:
        return RestError(refuse.reason or Reason.READ_TIMEOUT, "no answer")
    found = Reason.RATE_LIMITED if refuse.status in _TOO_MANY else Reason.REFUSED
    reason = refuse.reason or (Reason.AUTH_FAILED if refuse.status == 401 else found)
    text = f"HTTP {refuse.status}: {body[:200].decode('utf-8', 'replace')}"
    return RestError(reason, text, status=refuse.status, retry_after_s=refuse.retry_after_s, body=body)


@dataclass
class _Waiting:
    words: frozenset[str]
    take: Callable[[Answer], None]


class ScriptedRest:
    """Where requests and answers meet, the oldest first.

    Args:
        clock: The scenario's.
        report: Takes a line for each request.
    """

    def __init__(self, clock: Clock, report: ScenarioReport) -> None:
        self._clock = clock
        self._report = report
        self._waiting: list[_Waiting] = []
        self._answers: list[tuple[frozenset[str], Answer]] = []

    @property
    def unused(self) -> int:
        """How many answers nobody has asked for."""
        return len(self._answers)

    def show(self, request: RestRequest, *names: str) -> frozenset[str]:
        """Report a request as it is sent now, and what it is for; return the words that an answer may name it by."""
        sent = request.made_at(self._clock.wall())
        line = {"on": "rest", "request": f"{sent.method} {shown(sent.path)}", "for": " ".join(names)}
        said = _said(sent.body)
        self._report.add(**line, **({"body": msgspec.json.decode(shown(msgspec.json.encode(said)))} if said else {}))
        return words_of(sent)

    def wait(self, words: frozenset[str], take: Callable[[Answer], None]) -> None:
        """Have ``take`` called with the answer to a request: at once when the file had it before."""
        for number, (wanted, answer) in enumerate(self._answers):
            if wanted <= words:
                del self._answers[number]
                take(answer)
                return
        self._waiting.append(_Waiting(words, take))

    def give(self, to: str, answer: Answer) -> None:
        """Answer the oldest request that ``to`` names; keep the answer when none waits."""
        wanted = frozenset(to.split())
        for number, waiting in enumerate(self._waiting):
            if wanted <= waiting.words:
                del self._waiting[number]
                waiting.take(answer)
                return
        self._answers.append((wanted, answer))

    def forget(self, *words: str) -> None:
        """Drop the requests that have these words: nobody waits for them any more."""
        wanted = frozenset(words)
        self._waiting = [one for one in self._waiting if not wanted <= one.words]


class ScriptedFlow(Generic[T]):
    """A private side's course of REST calls, each of which waits for its answer while the scenario goes on.

    Args:
        steps: The course.
        desk: Where it asks.
        name: What it is for.
        done: Takes the result.
        failed: Takes one of :data:`workers.accounts.close_reason.FAILURES`.
    """

    def __init__(
        self,
        steps: RestFlow[T],
        desk: ScriptedRest,
        name: str,
        done: Callable[[T], None],
        failed: Callable[[Exception], None],
    ) -> None:
        self.is_over = False
        self._steps = steps
        self._desk = desk
        self._name = name
        self._done = done
        self._failed = failed
        #: Bodies by words of the requests alone, for as many as they fit; the most words win.
        self._answers: dict[frozenset[str], bytes] = {}
        #: What is asked and has no answer yet.
        self._words: frozenset[str] = frozenset()

    def begin(self) -> None:
        """Ask for the first thing."""
        self._run(None)

    def give(self, answers: Mapping[str, bytes]) -> None:
        """Answer what is asked now and from now on."""
        self._answers |= {frozenset(to.split()): body for to, body in answers.items()}
        body = self._body()
        if not self.is_over and body is not None:
            self._desk.forget(self._name)
            self._run(body)

    def _run(self, answer: Answer | None) -> None:
        """Go on until something is asked that has no answer yet."""
        while True:
            try:
                request = next(self._steps) if answer is None else advance(self._steps, answer)
            except StopIteration as end:
                self.is_over = True
                self._done(end.value)
                return
            except FAILURES as error:
                self.is_over = True
                self._failed(error)
                return
            self._words = self._desk.show(request, self._name)
            answer = self._body()
            if answer is None:
                self._desk.wait(self._words | {self._name}, self._run)
                return

    def _body(self) -> bytes | None:
        fitting = [wanted for wanted in self._answers if wanted <= self._words]
        return self._answers[max(fitting, key=len)] if fitting else None


def shown(text: bytes | str) -> str:
    """Return part of a request for the report, without credentials and signatures."""
    return Hiding().text(without_hidden(text if isinstance(text, str) else text.decode("utf-8", "replace")))
