"""Limit of file descriptors: what is asked for."""

from __future__ import annotations

import resource

import pytest

from ipc.descriptors import raise_limit

UNLIMITED = resource.RLIM_INFINITY


@pytest.mark.parametrize(
    ("soft", "hard", "wanted"),
    [
        (1024, 524_288, 65_536),
        (1024, 4096, 4096),
        (64, 64, 64),
        (1024, 1_073_741_816, 65_536),
        (1024, UNLIMITED, 65_536),
        (65_536, 524_288, 65_536),
    ],
)
def test_the_soft_limit_is_raised_to_the_hard_one_within_reason(monkeypatch, soft, hard, wanted):
    limits = (soft, hard)

    def change(_, new):
        nonlocal limits
        limits = new

    monkeypatch.setattr(resource, "getrlimit", lambda _: limits)
    monkeypatch.setattr(resource, "setrlimit", change)
    assert raise_limit() == wanted
    assert limits == (wanted, hard)


@pytest.mark.parametrize("soft", [100_000, 1_073_741_816, UNLIMITED])
def test_a_higher_limit_is_never_lowered(monkeypatch, soft):
    monkeypatch.setattr(resource, "getrlimit", lambda _: (soft, soft))
    monkeypatch.setattr(resource, "setrlimit", lambda *_: pytest.fail("changed"))
    assert raise_limit() >= 65_536
