from __future__ import annotations

import os
from pathlib import Path

import pytest

from ipc.errors import ParaphinaError
from ipc.watched_files import WatchedFiles, identity_of, is_own_file, unlink_own


@pytest.fixture
def path(tmp_path: Path) -> Path:
    (tmp_path / "run").mkdir()
    return tmp_path / "run" / "file"


@pytest.fixture
def files(path: Path) -> WatchedFiles:
    return WatchedFiles(path.parent)


def test_identity_is_that_of_the_name_and_not_of_what_a_link_points_to(path: Path) -> None:
    assert identity_of(path) is None
    assert identity_of(path / "below") is None
    path.touch()
    link = path.with_name("link")
    link.symlink_to(path)
    assert identity_of(path) == (path.stat().st_dev, path.stat().st_ino)
    assert identity_of(link) not in {None, identity_of(path)}
    assert [is_own_file(one) for one in (path, link, path.parent, path / "below")] == [True, False, False, False]


def test_name_is_removed_only_while_it_belongs_to_the_file(path: Path) -> None:
    path.touch()
    other = path.with_name("other")
    other.touch()
    unlink_own(path, identity_of(other))
    unlink_own(path, None)
    assert path.exists()
    unlink_own(path, identity_of(path))
    assert not path.exists()


@pytest.mark.parametrize("loss", [Path.unlink, lambda path: (path.unlink(), path.symlink_to("/dev/null"))])
def test_lost_file_is_created_again_and_reported(path: Path, files: WatchedFiles, logged, loss) -> None:
    path.touch()
    files.add(path, lambda: (path.unlink(missing_ok=True), path.write_text("again")))
    files.check()
    assert path.read_text() == ""
    loss(path)
    files.check()
    files.check()
    assert path.read_text() == "again"
    assert logged.events == ["run_dir.restored"]


def test_file_that_its_owner_recognises_is_left_alone(path: Path, files: WatchedFiles) -> None:
    path.write_text("first")
    held = identity_of(path)
    files.add(path, lambda: path.write_text("again"), lambda: identity_of(path) == held)
    files.check()
    assert path.read_text() == "first"
    path.rename(path.with_name("away"))
    path.write_text("of another")
    files.check()
    assert path.read_text() == "again"


def test_file_that_was_never_written_is_not_reported(path: Path, files: WatchedFiles, logged) -> None:
    files.add(path, lambda: None)
    files.check()
    assert logged.events == []


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), ParaphinaError("cannot be bound")])
def test_failure_is_reported_once_and_tried_again_and_costs_no_other_file(
    path: Path, files: WatchedFiles, logged, error: Exception
) -> None:
    errors = [error, error]

    def restore() -> None:
        if errors:
            raise errors.pop()
        path.touch()

    other = path.with_name("other")
    files.add(path, restore)
    files.add(other, other.touch)
    for _ in range(3):
        files.check()
    assert path.exists()
    assert other.exists()
    events = [(record.getMessage(), Path(record.fields["path"]).name) for record in logged.records]
    assert events == [("run_dir.not_restored", "file"), ("run_dir.restored", "other"), ("run_dir.restored", "file")]
    assert logged.records[0].fields["reason"] == "run_dir_lost"


@pytest.mark.parametrize("place", ["nowhere", "link", "another user's"])
def test_nothing_is_written_into_a_directory_that_is_not_ours(path: Path, monkeypatch, place: str) -> None:
    directory = path.parent.with_name(place)
    if place == "link":
        directory.symlink_to(path.parent)
    elif place != "nowhere":
        directory.mkdir()
        owner = os.getuid()
        monkeypatch.setattr(os, "getuid", lambda: owner + 1)
    files = WatchedFiles(directory)
    files.add(directory / "file", lambda: pytest.fail("written"))
    files.check()
