"""Drives the courses of REST calls of private sides, and makes frames that go wrong in every way."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qsl, urlsplit

from hypothesis import strategies as st

from workers.accounts.secrets import Secrets
from workers.venues.account import RestFlow
from workers.venues.venue import RestRequest

#: When requests are sent.
NOW_NS = 1_790_000_123_456_000_000
#: Anything that JSON can hold; numbers as large as a venue may send them.
ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**64), 2**64) | st.floats(allow_nan=False) | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)


@dataclass
class Course:
    """What a course led to, and what it asked for on the way."""

    result: Any = None
    requests: list[RestRequest] = field(default_factory=list)

    def paths(self) -> list[str]:
        """The paths that were asked for, without their queries."""
        return [urlsplit(request.path).path for request in self.requests]

    def query(self, number: int) -> dict[str, str]:
        """The query of one of the requests."""
        return dict(parse_qsl(urlsplit(self.requests[number].path).query))


def drive(steps: RestFlow[Any], answers: Mapping[str, Any]) -> Course:
    """Run a course to its end.

    Args:
        steps: The course.
        answers: By path: the answer, or a list of answers that come one after the other (a tuple is one answer that
            is a list).
    """
    course = Course()
    left = {path: list(bodies) if isinstance(bodies, list) else [bodies] * 99 for path, bodies in answers.items()}
    body: bytes | None = None
    try:
        while True:
            request = (next(steps) if body is None else steps.send(body)).made_at(NOW_NS)
            course.requests.append(request)
            answer = left[urlsplit(request.path).path].pop(0)
            body = answer if isinstance(answer, bytes) else json.dumps(answer).encode()
    except StopIteration as end:
        course.result = end.value
    return course


def secrets_of(names: Sequence[str], **values: str) -> Secrets:
    """Secrets by name."""
    return Secrets(tuple(names), values)


def _places(value: Any, way: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The way to everything within a message."""
    members = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, member in members:
        yield (*way, key)
        yield from _places(member, (*way, key))


@st.composite
def gone_wrong(draw: st.DrawFn, frames: Sequence[Any]) -> bytes:
    """One of ``frames`` with something in it taken away or replaced, or cut off."""
    frame = copy.deepcopy(draw(st.sampled_from(list(frames))))
    for _ in range(draw(st.integers(1, 3))):
        places = list(_places(frame))
        if not places:
            break
        *way, key = draw(st.sampled_from(places))
        holder = frame
        for step in way:
            holder = holder[step]
        if draw(st.booleans()):
            del holder[key]
        else:
            holder[key] = draw(ANYTHING)
    body = json.dumps(frame).encode()
    return body[: draw(st.integers(0, len(body)))] if draw(st.integers(0, 9)) == 0 else body
