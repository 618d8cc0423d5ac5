"""Courses of REST calls: one after the other, and what a refusal does to them."""

from __future__ import annotations

from typing import Any

import pytest
from fake_account import FakeClient

from ipc.board import Board, WorkerWord
from ipc.errors import DecodeError
from ipc.health import Reason
from workers.accounts.rest_flow import RestFlowRunner
from workers.duty import LineDuty
from workers.net.rest import RestError
from workers.venues.account import LoginError, RestFlow
from workers.venues.venue import RestRequest


def refusal(status: int | None = 400, reason: Reason = Reason.REFUSED, body: bytes = b'{"code":7}') -> RestError:
    return RestError(reason, f"HTTP {status}", status=status, body=body)


class Course:
    """Asks for two paths; ``heard`` holds the answers, ``is_over`` whether it was ended."""

    def __init__(self, *errors: Exception) -> None:
        self.heard: list[bytes] = []
        self.errors = list(errors)
        self.is_over = False

    def steps(self) -> RestFlow[str]:
        try:
            for path in ("/one", "/two"):
                self.heard.append((yield RestRequest(path)))
                if self.errors:
                    raise self.errors.pop(0)
        finally:
            self.is_over = True
        return "done"


def drive(course: Course, *answers: Any) -> tuple[str, FakeClient]:
    client = FakeClient(*answers)
    return RestFlowRunner(client).run(course.steps()), client  # type: ignore[arg-type]


def test_the_calls_of_a_course_are_made_one_after_the_other() -> None:
    course = Course()
    result, client = drive(course, b"1", b"2")
    assert result == "done"
    assert course.heard == [b"1", b"2"]
    assert [request.path for request in client.requests] == ["/one", "/two"]


def test_a_course_without_a_call_has_a_result() -> None:
    def steps() -> RestFlow[int]:
        yield from ()
        return 5

    assert RestFlowRunner(FakeClient()).run(steps()) == 5  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "fault", [KeyError("secret"), ValueError("secret"), OverflowError("secret"), TypeError("secret")]
)
def test_a_parsers_fault_is_an_answer_that_cannot_be_read(fault: Exception) -> None:
    with pytest.raises(DecodeError, match=type(fault).__name__) as failed:
        drive(Course(fault), b"1")
    assert "secret" not in failed.value.what


@pytest.mark.parametrize("status", [400, 401, 403, 404, 422])
def test_a_refusal_goes_into_the_course_which_knows_the_venues_words(status: int) -> None:
    course = Course(LoginError("-1022: the signature is wrong"))
    with pytest.raises(LoginError, match="-1022"):
        drive(course, refusal(status, body=b'{"code":-1022}'))
    assert course.heard == [b'{"code":-1022}']


def test_a_refusal_that_the_course_can_use_is_an_answer() -> None:
    course = Course()
    result, _ = drive(course, refusal(404, body=b"[]"), b"2")
    assert (result, course.heard) == ("done", [b"[]", b"2"])


def test_a_refusal_in_words_that_the_course_does_not_know_is_reported_as_it_came() -> None:
    course = Course(DecodeError("what is this"))
    with pytest.raises(RestError) as caught:
        drive(course, refusal(404, body=b"<html>"))
    assert caught.value.status == 404


def test_refused_credentials_in_words_that_the_course_does_not_know_are_refused_all_the_same() -> None:
    course = Course(DecodeError("what is this"))
    with pytest.raises(LoginError) as caught:
        drive(course, refusal(401, Reason.AUTH_FAILED, b"<html>"))
    assert caught.value.reason is Reason.AUTH_FAILED


@pytest.mark.parametrize(
    "error",
    [
        refusal(500),
        refusal(503),
        refusal(429, Reason.RATE_LIMITED),
        refusal(418, Reason.RATE_LIMITED),
        refusal(None, Reason.READ_TIMEOUT),
        refusal(302),
    ],
)
def test_what_is_no_refusal_is_not_shown_to_the_course(error: RestError) -> None:
    course = Course()
    with pytest.raises(RestError) as caught:
        drive(course, error)
    assert caught.value is error
    assert course.heard == []


@pytest.mark.parametrize("error", [DecodeError("malformed"), LoginError("no"), refusal(503)])
def test_a_course_is_ended_whatever_ends_it(error: Exception) -> None:
    course = Course() if isinstance(error, RestError) else Course(error)
    with pytest.raises(type(error)):
        drive(course, error if isinstance(error, RestError) else b"1")
    assert course.is_over


def over_budget(wait_s: float) -> RestError:
    return RestError(Reason.RATE_LIMITED, "over the budget", retry_after_s=wait_s)


def test_a_course_waits_for_our_own_budget() -> None:
    waits: list[float] = []
    course, client = Course(), FakeClient(over_budget(2.0), over_budget(0.5), b"1", b"2")
    assert RestFlowRunner(client, waits.append).run(course.steps()) == "done"  # type: ignore[arg-type]
    assert waits == [2.0, 0.5]
    assert [request.path for request in client.requests] == ["/one", "/one", "/one", "/two"]


@pytest.mark.parametrize("error", [over_budget(300.0), refusal(429, Reason.RATE_LIMITED)])
def test_a_course_does_not_wait_for_a_venue_that_has_had_enough(error: RestError) -> None:
    def wait(_seconds: float) -> None:
        raise AssertionError("it waits")

    with pytest.raises(RestError) as caught:
        RestFlowRunner(FakeClient(error), wait).run(Course().steps())  # type: ignore[arg-type]
    assert caught.value is error


def test_a_course_that_waits_ends_when_the_worker_does() -> None:
    with pytest.raises(RestError):
        RestFlowRunner(FakeClient(over_budget(2.0)), lambda _seconds: True).run(Course().steps())  # type: ignore[arg-type]


def test_a_call_is_signed_each_time_that_it_is_tried() -> None:
    def steps() -> RestFlow[None]:
        yield RestRequest("/bare", sign=lambda now_wall_ns: RestRequest(f"/signed?{now_wall_ns}"))

    client = FakeClient(over_budget(0.0), b"1")
    RestFlowRunner(client, lambda _seconds: None).run(steps())  # type: ignore[arg-type]
    first, second = (request.path for request in client.requests)
    assert first.startswith("/signed?")
    assert first != second


def test_every_call_has_a_deadline() -> None:
    deadlines: list[float] = []

    class Client(FakeClient):
        def call(self, _request: RestRequest, deadline_s: float) -> bytes:
            deadlines.append(deadline_s)
            return b"x"

    RestFlowRunner(Client()).run(Course().steps())  # type: ignore[arg-type]
    assert deadlines == [10.0, 10.0]


def test_the_duty_is_read_before_each_call() -> None:
    words = Board.in_memory().worker(1)
    words[WorkerWord.DUTY] = 1

    def lose(_request: Any) -> bytes:
        words[WorkerWord.DUTY] = 0
        return b"1"

    course, client = Course(), FakeClient(lose)
    with pytest.raises(RestError) as ended:
        RestFlowRunner(client, duty=LineDuty(words)).run(course.steps())  # type: ignore[arg-type]
    assert ended.value.reason is Reason.REQUESTED
    assert [request.path for request in client.requests] == ["/one"]
    assert course.is_over
