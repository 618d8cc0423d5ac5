"""What a recorder knows of the system: read from the system itself."""

from __future__ import annotations

import json

import pytest

from supervisor.journal.coverage import Coverage, Summary, SystemWatch, read_summary, running_venues, summary_path


@pytest.fixture
def describe(run_dir):
    """Write the description of the system that holds the lock, or of an earlier one."""

    def write(*venues, **more):
        pid = int(run_dir.lock.read_text()) if run_dir.lock.exists() else 1
        described = {"pid": pid, "venues": {name: {} for name in venues}, **more}
        run_dir.description.write_text(json.dumps(described))

    return write


def presences(watch):
    return {name: (one.recorded, one.until_ns > 0) for name, one in watch.coverage.venues.items()}


def test_a_running_system_is_described(run_dir, describe, held_lock):
    assert running_venues(run_dir) is None
    describe("lighter", "newcomer")
    assert running_venues(run_dir) == {"lighter": {}, "newcomer": {}}
    describe(venues=None)
    assert running_venues(run_dir) is None
    run_dir.description.write_text("cut")
    assert running_venues(run_dir) is None


def test_a_description_of_an_earlier_system_is_none(run_dir, describe, start_holder):
    describe("lighter")
    assert running_venues(run_dir) is None
    start_holder(run_dir.lock)
    assert running_venues(run_dir) is None
    describe("aster")
    assert running_venues(run_dir) == {"aster": {}}


def test_a_directory_that_does_not_exist_yet_has_nothing(tmp_path, run_dir):
    watch = SystemWatch(type(run_dir)(tmp_path / "later"), None)
    assert not watch.has_changed()
    assert watch.find_new() == []
    (tmp_path / "later").mkdir()
    (tmp_path / "later" / "b-side.feed").touch()
    (tmp_path / "later" / "lifecycle.feed").touch()
    assert watch.has_changed()
    assert watch.find_new() == ["b-side"]
    assert not watch.has_changed()
    assert watch.coverage.described is False


def test_every_venue_of_the_system_is_found_once_also_after_a_reload(run_dir, describe, held_lock):
    describe("lighter", "newcomer")
    watch = SystemWatch(run_dir, None)
    assert watch.find_new() == ["lighter", "newcomer"]
    describe("lighter", "another")
    assert watch.find_new() == ["another"]
    assert presences(watch) == {"lighter": (True, False), "newcomer": (True, True), "another": (True, False)}
    describe("lighter", "another", "newcomer")
    assert watch.find_new() == []
    assert presences(watch)["newcomer"] == (True, False)
    assert watch.coverage.described


def test_what_was_not_asked_for_is_left_out_and_known(run_dir, describe, held_lock):
    describe("lighter", "aster")
    watch = SystemWatch(run_dir, ["aster"])
    assert watch.find_new() == ["aster"]
    assert watch.coverage.left_out() == ["lighter"]
    assert watch.wants("aster")
    assert not watch.wants("lighter")


def test_a_name_that_is_no_file_name_is_not_recorded(run_dir, describe, held_lock):
    describe("../../evil", "a.b", "")
    watch = SystemWatch(run_dir, None)
    assert watch.find_new() == []
    assert watch.coverage.left_out() == ["../../evil", "a.b", ""]


def test_the_end_of_the_system_is_noted(run_dir, describe, start_holder):
    holder = start_holder(run_dir.lock)
    describe("lighter")
    watch = SystemWatch(run_dir, None)
    watch.find_new()
    holder.kill()
    holder.wait()
    watch.find_new()
    assert presences(watch) == {"lighter": (True, True)}


@pytest.mark.parametrize("content", [b"", b"[]", b'{"coverage":7}', b"\xff"])
def test_a_summary_that_cannot_be_read_is_none(tmp_path, content):
    assert read_summary(tmp_path, "20260731T120000.000Z") is None
    summary_path(tmp_path, "20260731T120000.000Z").write_bytes(content)
    assert read_summary(tmp_path, "20260731T120000.000Z") is None
    assert read_summary(tmp_path, "../x") is None


def test_a_summary_comes_back(tmp_path):
    summary_path(tmp_path, "x").write_text('{"recording":"x","written":[3],"ended_ns":5,"coverage":{"began_ns":1}}')
    expected = Summary(recording="x", written=[3], ended_ns=5, coverage=Coverage(began_ns=1))
    assert read_summary(tmp_path, "x") == expected
