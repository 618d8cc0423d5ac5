"""Certificates: created with the right modes, never overwritten, and checked before they are used."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest
import zmq.auth

from ipc.certificates import CertificateError, KeyDirectory, load_certificate, load_secret
from ipc.errors import UsageError


@pytest.fixture
def held(tmp_path: Path) -> KeyDirectory:
    """A directory with a server's pair and one client."""
    directory = KeyDirectory(tmp_path / "keys")
    directory.create_server()
    directory.create_client("desk")
    return directory


def mode_of(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


@pytest.mark.parametrize("umask", [0o000, 0o022, 0o777])
def test_modes_are_right_whatever_the_umask(tmp_path: Path, umask: int) -> None:
    keys, out = KeyDirectory(tmp_path / "keys"), tmp_path / "out"
    before = os.umask(umask)
    try:
        keys.create_server()
        keys.create_client("desk", out)
    finally:
        os.umask(before)
    assert [mode_of(path) for path in (keys.path, keys.clients, out)] == [0o700, 0o700, 0o700]
    assert [mode_of(path) for path in (keys.server_secret, out / "desk.key_secret")] == [0o600, 0o600]
    assert [mode_of(p) for p in (keys.server_public, keys.clients / "desk.key", out / "server.key")] == [0o644] * 3
    assert keys.problems() == []


def test_directory_that_exists_keeps_its_mode(tmp_path: Path) -> None:
    (tmp_path / "keys").mkdir()
    (tmp_path / "keys").chmod(0o750)
    KeyDirectory(tmp_path / "keys").create_server()
    assert mode_of(tmp_path / "keys") == 0o750


def test_libraries_of_others_read_the_files(held: KeyDirectory) -> None:
    public, secret = zmq.auth.load_certificate(held.server_secret)
    assert zmq.curve_public(secret) == public
    assert zmq.auth.load_certificate(held.server_public) == (public, None)
    assert set(zmq.auth.load_certificates(held.clients)) == {load_secret(held.path / "desk.key_secret")[0]}


def test_files_of_other_libraries_are_read(tmp_path: Path) -> None:
    public, secret = zmq.auth.create_certificates(tmp_path, "made")
    Path(secret).chmod(0o600)
    assert load_certificate(Path(public)).public == load_secret(Path(secret))[0]


def test_nothing_is_overwritten(held: KeyDirectory, tmp_path: Path) -> None:
    files = [path for path in held.path.rglob("*") if path.is_file()]
    before = {path: path.read_bytes() for path in files}
    with pytest.raises(UsageError, match="exists already"):
        held.create_server()
    with pytest.raises(UsageError, match="exists already"):
        held.create_client("desk")
    with pytest.raises(UsageError, match="exists already"):
        held.create_client("desk", tmp_path / "elsewhere")
    assert {path: path.read_bytes() for path in held.path.rglob("*") if path.is_file()} == before


def test_one_directory_for_a_client_takes_the_key_of_one_server(held: KeyDirectory, tmp_path: Path) -> None:
    out = tmp_path / "out"
    held.create_client("first", out)
    held.create_client("second", out)
    other = KeyDirectory(tmp_path / "other")
    other.create_server()
    with pytest.raises(UsageError, match="another server"):
        other.create_client("third", out)
    assert other.client_files() == []


@pytest.mark.parametrize("name", ["", "../desk", "a/b", ".hidden", "server", "two words", "x" * 65, "\x1b[2J", "-n"])
def test_names_with_parts_of_paths_are_refused(held: KeyDirectory, name: str) -> None:
    before = sorted(held.path.rglob("*"))
    with pytest.raises(UsageError, match="no name of a client"):
        held.create_client(name)
    assert sorted(held.path.rglob("*")) == before


def damage_missing(held: KeyDirectory) -> None:
    held.server_secret.unlink()


def damage_open(held: KeyDirectory) -> None:
    held.server_secret.chmod(0o640)


def damage_format(held: KeyDirectory) -> None:
    held.server_secret.write_text("no certificate")


def damage_key(held: KeyDirectory) -> None:
    held.server_secret.write_text('public-key = "short"\nsecret-key = "short"\n')


def damage_no_secret(held: KeyDirectory) -> None:
    held.server_secret.write_bytes(held.server_public.read_bytes())


def damage_pair(held: KeyDirectory) -> None:
    other = load_certificate(held.path / "desk.key_secret").public.decode()
    own = load_certificate(held.server_secret).public.decode()
    held.server_secret.write_text(held.server_secret.read_text().replace(own, other))


def damage_no_clients(held: KeyDirectory) -> None:
    (held.clients / "desk.key").unlink()
    held.clients.rmdir()


def damage_client(held: KeyDirectory) -> None:
    (held.clients / "desk.key").write_bytes(b"\xff")


def damage_client_secret(held: KeyDirectory) -> None:
    (held.clients / "desk.key").write_bytes((held.path / "desk.key_secret").read_bytes())


def damage_clients_mode(held: KeyDirectory) -> None:
    held.clients.chmod(0o777)


@pytest.mark.parametrize(
    ("damage", "problem"),
    [
        (damage_missing, "server.key_secret: does not exist; create it with: paraphina-supervisor keys server"),
        (damage_open, "server.key_secret: must be yours alone; do: chmod 600"),
        (damage_format, "server.key_secret: not a ZeroMQ certificate"),
        (damage_key, "server.key_secret: not a ZeroMQ certificate"),
        (damage_no_secret, "server.key_secret: holds no secret key"),
        (damage_pair, "server.key_secret: its two keys are no pair"),
        (damage_no_clients, "clients: cannot be read: No such file or directory"),
        (damage_clients_mode, "clients: everybody can write there"),
        (damage_client, "clients/desk.key: not a ZeroMQ certificate"),
        (damage_client_secret, "clients/desk.key: holds a client's SECRET key"),
    ],
)
def test_every_damage_is_one_problem_with_its_file(held: KeyDirectory, damage, problem: str) -> None:
    assert held.problems() == []
    damage(held)
    (found,) = held.problems()
    assert found.startswith(f"{held.path}/{problem}")


def test_no_text_shows_a_secret(held: KeyDirectory) -> None:
    found = load_certificate(held.server_secret)
    assert found.secret is not None
    assert found.secret.decode() not in repr(found)
    damage_client_secret(held)
    with pytest.raises(CertificateError) as caught:
        held.load_client(held.clients / "desk.key")
    assert load_certificate(held.path / "desk.key_secret").secret.decode() not in str(caught.value)
