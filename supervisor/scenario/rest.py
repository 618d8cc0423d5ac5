"""REST in a scenario: requests wait for answers from the file, and answers wait for their requests."""

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

T = TypeVar("T")

#: Result of a request: the body, or the error.
Answer = bytes | RestError
_TOO_MANY: Final = frozenset({418, 429})
_WORD: Final = re.compile(r"[^/?&\s]+")


def words_of(request: RestRequest) -> frozenset[str]:
    """Return the words by which an answer can select a request.

    These are its method, its path (whole and in parts), and the contents of its query and JSON body: ``key=value``, and
    text values alone.
    """
    address = urlsplit(request.path)
    values = dict(parse_qsl(address.query)) | _values_of(request.body)
    words = {request.method, address.path, *_WORD.findall(address.path)}
    words |= {f"{key}={value}" for key, value in values.items()}
    return frozenset(words | {value for value in values.values() if isinstance(value, str)})


def _values_of(body: bytes | None) -> dict[str, Any]:
    try:
        values = msgspec.json.decode(body or b"{}")
    except ValueError:
        return {}
    return values if isinstance(values, dict) else {}


def answer_of(step: ScenarioStep) -> Answer:
    """Return the result that an ``answer`` or ``refuse`` step delivers."""
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
    handle: Callable[[Answer], None]


class ScriptedRest:
    """Matching of requests and answers, oldest first.

    Args:
        clock: Clock of the scenario.
        report: Receives a line for each request.
    """

    def __init__(self, clock: Clock, report: ScenarioReport) -> None:
        self._clock = clock
        self._report = report
        self._waiting: list[_Waiting] = []
        self._answers: list[tuple[frozenset[str], Answer]] = []

    @property
    def unused(self) -> int:
        """Number of answers without a request."""
        return len(self._answers)

    def report(self, request: RestRequest, *names: str) -> frozenset[str]:
        """Report a request and its purpose; return the words by which an answer can select it."""
        sent = request.made_at(self._clock.wall())
        line = {"on": "rest", "request": f"{sent.method} {redacted(sent.path)}", "for": " ".join(names)}
        values = _values_of(sent.body)
        self._report.add(
            **line, **({"body": msgspec.json.decode(redacted(msgspec.json.encode(values)))} if values else {})
        )
        return words_of(sent)

    def wait(self, words: frozenset[str], handle: Callable[[Answer], None]) -> None:
        """Call ``handle`` with the answer to a request, at once if the file has supplied it."""
        for number, (wanted, answer) in enumerate(self._answers):
            if wanted <= words:
                del self._answers[number]
                handle(answer)
                return
        self._waiting.append(_Waiting(words, handle))

    def deliver(self, to: str, answer: Answer) -> None:
        """Answer the oldest pending request that ``to`` selects; keep the answer when none is pending."""
        wanted = frozenset(to.split())
        for number, waiting in enumerate(self._waiting):
            if wanted <= waiting.words:
                del self._waiting[number]
                waiting.handle(answer)
                return
        self._answers.append((wanted, answer))

    def forget(self, *words: str) -> None:
        """Drop pending requests with these words."""
        wanted = frozenset(words)
        self._waiting = [one for one in self._waiting if not wanted <= one.words]


class ScriptedFlow(Generic[T]):
    """REST flow of an account; each call waits for its answer while the scenario continues.

    Args:
        steps: REST flow to run.
        rest: Receives the requests.
        name: Purpose of the flow.
        done: Receives the result.
        failed: Receives one of :data:`workers.accounts.close_reason.FAILURES`.
    """

    def __init__(
        self,
        steps: RestFlow[T],
        rest: ScriptedRest,
        name: str,
        done: Callable[[T], None],
        failed: Callable[[Exception], None],
    ) -> None:
        self.is_over = False
        self._steps = steps
        self._rest = rest
        self._name = name
        self._done = done
        self._failed = failed
        #: Reusable bodies by request words; the most specific match wins.
        self._answers: dict[frozenset[str], bytes] = {}
        #: Request that is pending.
        self._words: frozenset[str] = frozenset()

    def begin(self) -> None:
        """Send the first request."""
        self._run(None)

    def deliver(self, answers: Mapping[str, bytes]) -> None:
        """Answer the current request and matching later ones."""
        self._answers |= {frozenset(to.split()): body for to, body in answers.items()}
        body = self._body()
        if not self.is_over and body is not None:
            self._rest.forget(self._name)
            self._run(body)

    def _run(self, answer: Answer | None) -> None:
        """Continue until a request has no answer yet."""
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
            self._words = self._rest.report(request, self._name)
            answer = self._body()
            if answer is None:
                self._rest.wait(self._words | {self._name}, self._run)
                return

    def _body(self) -> bytes | None:
        fitting = [wanted for wanted in self._answers if wanted <= self._words]
        return self._answers[max(fitting, key=len)] if fitting else None


def redacted(text: bytes | str) -> str:
    """Return the reportable part of a request, without credentials and signatures."""
    return Hiding().text(without_hidden(text if isinstance(text, str) else text.decode("utf-8", "replace")))
