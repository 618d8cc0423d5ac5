"""``keys``: what it creates, prints and refuses; the files themselves are tested with :mod:`ipc.certificates`."""

from __future__ import annotations

import json

import pytest

from ipc.certificates import load_secret
from ipc.remote import load_client_keys


@pytest.fixture
def made(cli, tmp_path):
    """A directory with a server's keys."""
    assert cli("keys", "server", tmp_path / "keys").code == 0
    return tmp_path / "keys"


def test_a_server_and_a_client_fit_together(cli, made, tmp_path):
    ran = cli("keys", "client", made, "desk", "--out", tmp_path / "desk", "--json")
    assert ran.code == 0
    found = json.loads(ran.out)
    keys = load_client_keys(found["server"], found["secret"])
    assert keys.server_public == load_secret(made / "server.key_secret")[0]
    assert found["public"] == str(made / "clients" / "desk.key")
    listed = json.loads(cli("keys", "list", made, "--json").out)
    assert listed == {"server": keys.server_public.decode(), "clients": {"desk": keys.public.decode()}}


def test_the_text_says_what_to_copy(cli, made):
    ran = cli("keys", "client", made, "desk")
    assert ran.code == 0
    assert f"move {made / 'desk.key_secret'} to the client's machine and copy {made / 'server.key'} there" in ran.out
    secret = load_secret(made / "desk.key_secret")[1].decode()
    assert secret not in ran.out + cli("keys", "list", made).out


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        (("server", "keys"), "server.key: exists already (move it away first"),
        (("client", "keys", "../desk"), "no name of a client: '../desk'"),
        (("client", "nowhere", "desk"), "server.key: cannot be read: there is no such file"),
        (("list", "nowhere"), "cannot be read"),
    ],
)
def test_refusals_are_one_line_each(cli, made, monkeypatch, arguments, error):
    monkeypatch.chdir(made.parent)
    ran = cli("keys", *arguments)
    assert (ran.code, ran.out) == (2, "")
    (line,) = ran.err.splitlines()
    assert error in line


def test_a_certificate_that_cannot_be_used_is_named_and_the_others_are_listed(cli, made):
    assert cli("keys", "client", made, "desk").code == 0
    (made / "clients" / "broken.key").write_text("nothing")
    ran = cli("keys", "list", made)
    assert ran.code == 2
    assert [line.split()[0] for line in ran.out.splitlines()] == ["server", "desk"]
    assert f"{made / 'clients' / 'broken.key'}: not a ZeroMQ certificate" in ran.err


def test_a_directory_that_cannot_be_written_is_one_clear_error(cli, tmp_path):
    (tmp_path / "file").write_text("")
    ran = cli("keys", "server", tmp_path / "file")
    assert ran.code == 2
    assert f"{tmp_path / 'file'}: is not a directory" in ran.err
