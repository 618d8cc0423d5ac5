"""The kernel's word on the clock: what is made of its answers, and that the real call changes nothing."""

from __future__ import annotations

import ctypes
from types import SimpleNamespace

import pytest

from supervisor.status import clock as module
from supervisor.status.clock import clock_status


def kernel(answer, status=0, error_us=0):
    """An adjtimex that answers so, after checking that it is asked to change nothing."""

    def adjtimex(pointer):
        words = ctypes.cast(pointer, ctypes.POINTER(ctypes.c_long))
        assert words[0] == 0
        words[4], words[5] = error_us, status
        return answer

    return SimpleNamespace(adjtimex=adjtimex)


@pytest.mark.parametrize(
    ("answer", "status", "error_us", "expected"),
    [
        (0, 0x2001, 1_500, (True, 1.5)),
        (5, 0x0040, 16_000_000, (False, 16_000.0)),
        (0, 0x2041, 1_000, (False, 1.0)),
        (-1, 0, 0, (None, None)),
    ],
)
def test_answers_of_the_kernel(monkeypatch, answer, status, error_us, expected):
    monkeypatch.setattr(module, "_libc", kernel(answer, status, error_us))
    found = clock_status()
    assert (found["synchronised"], found["estimated_error_ms"]) == expected


def test_real_kernel_answers_or_refuses():
    found = clock_status()
    assert found["synchronised"] in {True, False, None}
    assert (found["estimated_error_ms"] is None) == (found["synchronised"] is None)
    assert found["estimated_error_ms"] is None or found["estimated_error_ms"] >= 0
