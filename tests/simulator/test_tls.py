from __future__ import annotations

import ssl
import sys

import pytest

from ipc.errors import UsageError
from simulator.listener import AcceptMode
from simulator.settings import SimSettings
from simulator.tls import contexts


def make(path, **changes):
    return SimSettings(ports={}, admin_port=9, venues=(), tls=True, ca_path=str(path), **changes)


@pytest.fixture
def ca_path(tmp_path):
    return tmp_path / "ca.pem"


def shake_hands(server_context, ca_path, name="127.0.0.1"):
    """Perform a handshake in memory; raise the client's error."""
    to_client, to_server = ssl.MemoryBIO(), ssl.MemoryBIO()
    server = server_context.wrap_bio(to_server, to_client, server_side=True)
    client = ssl.create_default_context(cafile=str(ca_path)).wrap_bio(to_client, to_server, server_hostname=name)
    done = set()
    while len(done) < 2:
        for side in (client, server):
            try:
                side.do_handshake()
                done.add(side)
            except ssl.SSLWantReadError:
                pass


def test_a_plain_simulation_has_no_certificates(tmp_path):
    assert contexts(SimSettings(ports={}, admin_port=9, venues=())) == {}
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["127.0.0.1", "localhost", "127.0.0.7"])
def test_clients_that_trust_the_authority_accept_every_name_of_the_server(ca_path, name):
    shake_hands(contexts(make(ca_path, host="127.0.0.7"))[AcceptMode.NORMAL], ca_path, name)


def test_certificates_are_for_further_names_as_well(ca_path):
    served = contexts(make(ca_path, names=("a.example", "b.example")))[AcceptMode.NORMAL]
    for name in ("127.0.0.1", "a.example", "b.example"):
        shake_hands(served, ca_path, name)


def test_another_name_is_not_trusted(ca_path):
    with pytest.raises(ssl.SSLCertVerificationError, match="mismatch"):
        shake_hands(contexts(make(ca_path))[AcceptMode.NORMAL], ca_path, "api.example.com")


@pytest.mark.parametrize(
    ("accept_mode", "complaint"),
    [(AcceptMode.UNKNOWN_AUTHORITY, "unable to get|self.signed|signature"), (AcceptMode.EXPIRED, "has expired")],
)
def test_bad_certificates_are_bad_for_their_own_reason(ca_path, accept_mode, complaint):
    with pytest.raises(ssl.SSLCertVerificationError, match=complaint):
        shake_hands(contexts(make(ca_path))[accept_mode], ca_path)


def test_every_simulation_has_its_own_authority(ca_path, tmp_path):
    first = contexts(make(ca_path))
    contexts(make(tmp_path / "other.pem"))
    with pytest.raises(ssl.SSLCertVerificationError):
        shake_hands(first[AcceptMode.NORMAL], tmp_path / "other.pem")
    shake_hands(first[AcceptMode.NORMAL], ca_path)


def test_no_private_key_stays_in_a_file(ca_path, tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    contexts(make(ca_path))
    assert [path.name for path in tmp_path.iterdir()] == ["ca.pem"]
    assert b"PRIVATE KEY" not in ca_path.read_bytes()


def test_a_file_that_cannot_be_written_is_refused_with_advice(tmp_path):
    with pytest.raises(UsageError, match="cannot be written") as refused:
        contexts(make(tmp_path / "nowhere" / "ca.pem"))
    assert refused.value.where == str(tmp_path / "nowhere" / "ca.pem")


def test_without_trustme_the_advice_is_to_install_it(ca_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "trustme", None)
    with pytest.raises(UsageError) as refused:
        contexts(make(ca_path))
    assert "tls-sim" in refused.value.advice
    assert refused.value.exit_code == 2
