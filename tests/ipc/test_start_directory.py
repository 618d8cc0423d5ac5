"""Relative paths keep their meaning after a program left its directory."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from ipc import start_directory as module
from ipc.errors import UsageError


@pytest.fixture(autouse=True)
def place(monkeypatch, tmp_path):
    """A current directory that is restored."""
    (tmp_path / "start").mkdir()
    monkeypatch.chdir(tmp_path / "start")
    monkeypatch.setattr(module, "_left", None)
    return tmp_path / "start"


def test_an_absolute_path_is_kept(place):
    assert module.absolute("/a/../b") == "/a/../b"


@pytest.mark.parametrize("path", ["c.toml", "../keys", "a/b", "~/x"])
def test_a_relative_path_before_and_after_the_directory_was_left(place, path):
    before = module.absolute(path)
    module.leave()
    assert Path.cwd() == Path("/")
    assert module.absolute(path) == before == f"{place}/{path}"


def test_leaving_twice_keeps_the_first_directory(place):
    module.leave()
    module.leave()
    assert module.directory() == str(place)


def test_a_directory_that_exists_is_not_left(place):
    module.leave_if_removed()
    assert Path.cwd() == place


def test_a_relative_path_in_a_removed_directory_is_refused(place):
    place.rmdir()
    for _ in range(2):
        with pytest.raises(UsageError, match=r"^c.toml: a relative path, .* \(give an absolute path\)$"):
            module.absolute("c.toml")
        assert module.absolute("/c.toml") == "/c.toml"
        assert module.directory() == "/"
        module.leave_if_removed()
    assert os.getcwd() == "/"  # noqa: PTH109
