from __future__ import annotations

import os
from pathlib import Path

import pytest

from ipc import users


def test_a_user_has_a_name() -> None:
    assert users.user_name(0) == users.sudo_name(0) == "root"


def test_a_user_without_a_name_is_a_number_to_sudo(monkeypatch: pytest.MonkeyPatch) -> None:
    def unknown(_: int) -> None:
        raise KeyError

    monkeypatch.setattr(users.pwd, "getpwuid", unknown)
    assert users.user_name(54_321) is None
    assert users.sudo_name(54_321) == "#54321"


def test_the_owner_of_a_directory(tmp_path: Path) -> None:
    assert users.owner_of(tmp_path) == users.sudo_name(os.getuid())
    assert users.owner_of(tmp_path / "unseen" / "missing") == users.owner_of(tmp_path)
    assert users.owner_of(Path("/nowhere")) == users.sudo_name(Path("/").stat().st_uid)
