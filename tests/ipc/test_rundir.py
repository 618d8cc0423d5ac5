from __future__ import annotations

import os
import socket
import stat
from pathlib import Path

import msgspec
import pytest

from ipc.errors import NotRunningError, RunDirError, UnknownStateError
from ipc.health import Reason, StreamState
from ipc.rundir import AccountWords, RunDir, default_path, replace_file, run_dir_of


def test_default_is_the_users_runtime_directory() -> None:
    assert default_path({"XDG_RUNTIME_DIR": "/run/user/7"}) == Path("/run/user/7/paraphina")


def test_run_dir_that_is_named_goes_before_that_of_the_environment_and_that_before_the_default():
    environ = {"XDG_RUNTIME_DIR": "/run/user/7", "PARAPHINA_RUN_DIR": "/run/desk"}
    assert run_dir_of("/run/other", environ).path == Path("/run/other")
    assert run_dir_of(None, environ).path == Path("/run/desk")
    assert run_dir_of(None, environ | {"PARAPHINA_RUN_DIR": ""}).path == Path("/run/user/7/paraphina")


@pytest.mark.parametrize("environ", [{}, {"XDG_RUNTIME_DIR": ""}])
def test_default_without_a_runtime_directory_is_shared_memory_by_uid(environ: dict[str, str]) -> None:
    assert str(default_path(environ)) == f"/dev/shm/paraphina-{os.getuid()}"  # noqa: S108


def test_names_in_the_directory_are_those_that_others_rely_on() -> None:
    run_dir = RunDir(Path("/r"))
    assert run_dir.feed("lighter") == "ipc:///r/lighter.feed"
    assert run_dir.account("hyperliquid") == "ipc:///r/hyperliquid.account"
    assert run_dir.raw("lighter") == "ipc:///r/lighter.raw"
    names = [
        run_dir.feed_path("lighter"),
        run_dir.control,
        run_dir.board,
        run_dir.lock,
        run_dir.description,
        run_dir.worker_description("aster"),
        run_dir.market_cache("aster"),
        run_dir.ring("aster"),
        run_dir.account_checkpoint("aster"),
        run_dir.account_description("aster"),
    ]
    assert list(map(str, names)) == [
        "/r/lighter.feed",
        "/r/control",
        "/r/board",
        "/r/supervisor.lock",
        "/r/describe.json",
        "/r/aster.json",
        "/r/aster.markets.json",
        "/r/aster.ring",
        "/r/aster.account.memory",
        "/r/aster.account.json",
    ]


def names_in(directory: Path) -> list[str]:
    return [entry.name for entry in directory.iterdir()]


# --- preparing ----------------------------------------------------------------------------------------------------


def mode_of(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_directory_is_made_with_its_parents_and_private(short_dir: Path) -> None:
    RunDir(short_dir / "a" / "b").prepare()
    assert mode_of(short_dir / "a" / "b") == 0o700


@pytest.mark.parametrize("umask", [0o000, 0o077, 0o777])
def test_directory_is_private_whatever_the_umask(short_dir: Path, umask: int) -> None:
    before = os.umask(umask)
    try:
        RunDir(short_dir / "run").prepare()
    finally:
        os.umask(before)
    assert mode_of(short_dir / "run") == 0o700


@pytest.mark.parametrize("mode", [0o755, 0o777, 0o1777, 0o500, 0o000])
@pytest.mark.parametrize("use", [RunDir.prepare, RunDir.exists])
def test_directory_of_another_mode_is_refused_and_left_as_it_is(short_dir: Path, mode: int, use) -> None:
    (short_dir / "run").mkdir()
    (short_dir / "run").chmod(mode)
    with pytest.raises(RunDirError, match=f"has mode {mode:04o} and not 0700") as refused:
        use(RunDir(short_dir / "run"))
    assert (f"chmod 700 {short_dir / 'run'}" in refused.value.advice) is (mode != 0o1777)
    assert mode_of(short_dir / "run") == mode


def test_directories_above_it_are_private_as_well_when_they_are_created(short_dir: Path) -> None:
    before = os.umask(0)
    try:
        RunDir(short_dir / "a" / "b" / "run").prepare()
    finally:
        os.umask(before)
    assert mode_of(short_dir / "a") == mode_of(short_dir / "a" / "b") == 0o700


def test_set_group_id_that_a_directory_inherits_does_not_matter(short_dir: Path) -> None:
    short_dir.chmod(0o2700)
    (short_dir / "run").mkdir(0o700)
    assert mode_of(short_dir / "run") == 0o2700
    RunDir(short_dir / "run").prepare()


def test_existence_creates_nothing(short_dir: Path) -> None:
    run_dir = RunDir(short_dir / "a" / "run")
    assert run_dir.exists() is False
    assert not (short_dir / "a").exists()
    run_dir.prepare()
    assert run_dir.exists() is True


def test_directory_that_could_not_be_created_does_not_merely_not_exist(short_dir: Path) -> None:
    (short_dir / "file").touch()
    with pytest.raises(RunDirError, match="cannot be used: Not a directory"):
        RunDir(short_dir / "file" / "run").exists()


def test_directory_below_one_of_others_could_not_be_created(short_dir: Path, monkeypatch) -> None:
    monkeypatch.setattr(os, "access", lambda path, _mode: path != short_dir)
    with pytest.raises(RunDirError, match=f"cannot be made in {short_dir}"):
        RunDir(short_dir / "a" / "run").exists()


# --- what it holds ------------------------------------------------------------------------------------------------


def test_only_names_that_this_program_gives_are_its_entries(short_dir: Path) -> None:
    run_dir = RunDir(short_dir)
    known = ["board", "aster.feed", "control", "lighter.account.desk-1.published", ".board.77", ".aster.json.5"]
    known += ["gateway.error", "aster.error", "aster.feed.closed"]
    for name in (*known, "notes", "binance.feed", ".hidden", ".notes.77", "board.77", "aster.feed.old"):
        (short_dir / name).touch()
    assert sorted(entry.name for entry in run_dir.entries()) == sorted(known)


def test_leftovers_of_dead_processes_are_removed(short_dir: Path) -> None:
    dead, kept = 2**22 + 1, [f".board.{os.getpid()}", "board", "aster.account.memory", "notes", f".notes.{2**22 + 1}"]
    for name in (f".board.{dead}", f".aster.markets.json.{dead}", f".board.{2**70}", *kept):
        (short_dir / name).touch()
    for name in ("aster.feed", "control", "of-another-program"):
        with socket.socket(socket.AF_UNIX) as left:
            left.bind(str(short_dir / name))
    RunDir(short_dir).remove_leftovers()
    assert sorted(names_in(short_dir)) == sorted([*kept, "of-another-program"])


def test_directory_that_is_fit_is_left_as_it_is(short_dir: Path) -> None:
    RunDir(short_dir / "run").prepare()
    (short_dir / "run" / "board").touch()
    RunDir(short_dir / "run").prepare()
    assert names_in(short_dir / "run") == ["board"]


def test_link_to_a_directory_of_ours_is_refused(short_dir: Path) -> None:
    (short_dir / "real").mkdir()
    (short_dir / "run").symlink_to("real")
    with pytest.raises(RunDirError, match="is a symbolic link") as caught:
        RunDir(short_dir / "run").prepare()
    assert caught.value.where == str(short_dir / "run")
    assert "--run-dir" in caught.value.advice
    assert caught.value.exit_code == 2


def test_link_to_nothing_is_refused(short_dir: Path) -> None:
    (short_dir / "run").symlink_to("nothing")
    with pytest.raises(RunDirError):
        RunDir(short_dir / "run").prepare()
    assert not (short_dir / "nothing").exists()


def test_file_in_its_place_is_refused(short_dir: Path) -> None:
    (short_dir / "run").touch()
    with pytest.raises(RunDirError, match="is not a directory"):
        RunDir(short_dir / "run").prepare()


def test_file_that_took_its_place_meanwhile_is_refused(short_dir: Path, monkeypatch) -> None:
    (short_dir / "run").touch()
    monkeypatch.setattr(Path, "mkdir", lambda *_, **__: None)
    with pytest.raises(RunDirError, match="is not a directory"):
        RunDir(short_dir / "run").prepare()


def test_directory_of_another_user_is_refused_and_not_touched(short_dir: Path, monkeypatch) -> None:
    (short_dir / "run").mkdir(mode=0o755)
    before = mode_of(short_dir / "run")
    owner = os.getuid()
    monkeypatch.setattr(os, "getuid", lambda: owner + 1)
    with pytest.raises(RunDirError, match=f"belongs to uid {owner}, not to you"):
        RunDir(short_dir / "run").prepare()
    assert mode_of(short_dir / "run") == before


def test_directory_that_cannot_be_written_is_refused(short_dir: Path, monkeypatch) -> None:
    monkeypatch.setattr(os, "access", lambda *_: False)
    with pytest.raises(RunDirError, match="is not writable"):
        RunDir(short_dir / "run").prepare()


def test_directory_below_a_file_cannot_be_made(short_dir: Path) -> None:
    (short_dir / "file").touch()
    with pytest.raises(RunDirError, match="cannot be made: Not a directory"):
        RunDir(short_dir / "file" / "run").prepare()


def path_of_length(parent: Path, bytes_of_socket: int, *, letter: str = "x") -> Path:
    """A directory in which the path of the longest socket has so many bytes."""
    room = bytes_of_socket - len(os.fsencode(parent / "d" / "hyperliquid.account")) + 1
    size = len(os.fsencode(letter))
    return parent / ("y" * (room % size) + letter * (room // size))


@pytest.mark.parametrize("letter", ["x", "ä"])
def test_path_as_long_as_sockets_allow_is_taken(short_dir: Path, letter: str) -> None:
    path = path_of_length(short_dir, 107, letter=letter)
    RunDir(path).prepare()
    assert len(os.fsencode(path / "hyperliquid.account")) == 107


@pytest.mark.parametrize("letter", ["x", "ä"])
@pytest.mark.parametrize("length", [108, 109])
def test_path_too_long_for_sockets_is_refused_before_anything_is_made(
    short_dir: Path, letter: str, length: int
) -> None:
    path = path_of_length(short_dir, length, letter=letter)
    with pytest.raises(RunDirError, match=f"{length - 107} bytes too long for Unix sockets"):
        RunDir(path).prepare()
    assert not path.exists()


# --- files --------------------------------------------------------------------------------------------------------


def test_file_is_replaced_whole_and_for_its_owner_alone(tmp_path: Path) -> None:
    path = tmp_path / "describe.json"
    for content in (b"a long first version", b"second"):
        replace_file(path, content)
        assert path.read_bytes() == content
    assert mode_of(path) == 0o600
    assert names_in(tmp_path) == ["describe.json"]


def test_reader_of_the_old_file_keeps_it(tmp_path: Path) -> None:
    path = tmp_path / "describe.json"
    replace_file(path, b"old")
    with path.open("rb") as reader:
        replace_file(path, b"new")
        assert reader.read() == b"old"


def test_failure_to_replace_leaves_the_old_file_and_no_other(tmp_path: Path, monkeypatch) -> None:
    path = tmp_path / "describe.json"
    replace_file(path, b"old")

    def refuse(*_: object) -> None:
        raise PermissionError("no")

    monkeypatch.setattr(Path, "replace", refuse)
    with pytest.raises(PermissionError):
        replace_file(path, b"new")
    assert path.read_bytes() == b"old"
    assert names_in(tmp_path) == ["describe.json"]


# --- descriptions -------------------------------------------------------------------------------------------------


def test_description_is_read(tmp_path: Path) -> None:
    replace_file(RunDir(tmp_path).description, b'{"venues": {"lighter": {"feed": "ipc:///x"}}}')
    assert RunDir(tmp_path).describe() == {"venues": {"lighter": {"feed": "ipc:///x"}}}


@pytest.mark.parametrize("name", [".", "gone"])
def test_without_a_description_nothing_ever_ran_here(tmp_path: Path, name: str) -> None:
    with pytest.raises(NotRunningError, match="no supervisor has run here") as caught:
        RunDir(tmp_path / name).describe()
    assert "start" in caught.value.advice
    assert caught.value.exit_code == 3


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"null", b'{"a": "\xff"}'])
def test_description_that_cannot_be_read_leaves_the_state_unknown(tmp_path: Path, content: bytes) -> None:
    replace_file(RunDir(tmp_path).description, content)
    with pytest.raises(UnknownStateError, match="cannot be read") as caught:
        RunDir(tmp_path).describe()
    assert caught.value.where == str(RunDir(tmp_path).description)
    assert caught.value.exit_code == 4


def test_description_that_may_not_be_read_leaves_the_state_unknown(tmp_path: Path) -> None:
    RunDir(tmp_path).description.mkdir()
    with pytest.raises(UnknownStateError):
        RunDir(tmp_path).describe()


def test_description_nested_without_end_leaves_the_state_unknown(tmp_path: Path) -> None:
    replace_file(RunDir(tmp_path).description, b'{"a":' + b"[" * 200_000)
    with pytest.raises(UnknownStateError):
        RunDir(tmp_path).describe()


def test_worker_says_of_itself_what_it_wrote(tmp_path: Path) -> None:
    replace_file(RunDir(tmp_path).worker_description("aster"), b'{"pid": 7}')
    assert RunDir(tmp_path).describe_worker("aster") == {"pid": 7}


def test_worker_says_of_its_account_what_it_wrote(tmp_path: Path) -> None:
    assert RunDir(tmp_path).account_words("aster") == AccountWords()
    words = AccountWords("desk", StreamState.FAILED, Reason.AUTH_FAILED, 5, "the key is unknown")
    replace_file(RunDir(tmp_path).account_description("aster"), msgspec.json.encode(words))
    assert RunDir(tmp_path).account_words("aster") == words
    replace_file(RunDir(tmp_path).account_description("aster"), b"{")
    assert RunDir(tmp_path).account_words("aster") == AccountWords()


def test_worker_that_wrote_nothing_or_rubbish_says_nothing(tmp_path: Path) -> None:
    assert RunDir(tmp_path).describe_worker("aster") == {}
    replace_file(RunDir(tmp_path).worker_description("aster"), b"{")
    assert RunDir(tmp_path).describe_worker("aster") == {}
