"""Makes the tools beside these tests importable, and offers what several of them need."""

from __future__ import annotations

import gc
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from clocks import FakeClock
from fake_account import PublishedAccount

from ipc.board import Board


@pytest.fixture
def clock():
    """A clock that only moves when it is asked to."""
    return FakeClock()


def descriptors():
    """Sockets that are open in this process; pipes and selectors are the servers' that play the peers."""
    names = {str(path.readlink()) for path in Path("/proc/self/fd").iterdir() if path.is_symlink()}
    return {name for name in names if name.startswith("socket:")}


@pytest.fixture
def no_descriptor_left():
    """The test closes every descriptor that it, or what it tests, opened.

    Selectors of the servers here wait for the collector; a socket that did so would warn, which fails the test.
    """
    before = descriptors()
    yield
    if descriptors() - before:
        gc.collect()
        assert not descriptors() - before


@pytest.fixture(scope="session")
def certificate(tmp_path_factory):
    """A self-signed certificate for 127.0.0.1 and localhost, as (certificate file, key file)."""
    openssl = shutil.which("openssl")
    if openssl is None:
        pytest.skip("there is no openssl command")
    folder = tmp_path_factory.mktemp("tls")
    cert, key = folder / "cert.pem", folder / "key.pem"
    curve = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes")
    names = ("-subj", "/CN=localhost", "-addext", "subjectAltName=IP:127.0.0.1,DNS:localhost")
    command = [openssl, "req", "-x509", *curve, *names, "-days", "2", "-keyout", str(key), "-out", str(cert)]
    subprocess.run(command, check=True, capture_output=True)
    return cert, key


@pytest.fixture
def events(caplog):
    """The log as a list of (event, fields), asked for by event: ``events("ws.closed")``."""
    caplog.set_level("DEBUG")

    def logged(name):
        return [record.fields for record in caplog.records if record.getMessage() == name]

    return logged


@pytest.fixture
def account(tmp_path):
    """An account that has published nothing yet, as its subscribers see it."""
    board = Board.create(tmp_path / "account.board", 1)
    yield PublishedAccount(board)
    board.close()
