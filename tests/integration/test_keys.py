"""Feeds over TCP with keys: a whole system, its verb ``keys``, and consumers that are admitted, refused, or misled."""

from __future__ import annotations

import asyncio
import json
import socket
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from ipc.accounts import AccountFeed
from ipc.aio import AsyncFeed
from ipc.connections import ConnectionState
from ipc.feed import Feed
from ipc.remote import ClientKeys, Remote, load_client_keys, port_of
from tests.support.ports import first_free_port
from tests.support.systems import System, paraphina, wait_for

pytestmark = pytest.mark.integration

VENUE = "hyperliquid"
BTC = (VENUE, "BTC-PERP")
#: Ports of a system from its first one on.
PORTS = 12
#: Far longer than anything takes.
PATIENCE_S = 20.0


def free_ports() -> int:
    """Return the first of twelve free ports."""
    return first_free_port(PORTS, range(21_000, 30_000, 37))


def verb(*arguments: str | Path) -> dict[str, object]:
    """Run ``keys`` and return what it prints."""
    result = paraphina("keys", *map(str, arguments), "--json")
    assert result.returncode == 0, result.stderr
    return json.loads(result.stdout)


class Encrypted:
    """System of one venue whose feeds are encrypted, while another program holds two of its ports."""

    def __init__(self, path: Path) -> None:
        self.port = free_ports()
        self.keys = path / "keys"
        verb("server", self.keys)
        verb("client", self.keys, "desk", "--out", path / "desk")
        verb("server", path / "other")
        self.path = path
        config = f'[feeds]\ntcp = "127.0.0.1"\ntcp_port = {self.port}\ncurve_dir = "{self.keys}"\n'
        self.system = System("--venues", VENUE, config=config)
        self.busy = [socket.create_server(("127.0.0.1", port_of(name, self.port))) for name in (VENUE, "lifecycle")]

    def free(self) -> None:
        """End the other program."""
        for one in self.busy:
            one.close()

    def client(self, name: str, server: Path | None = None) -> ClientKeys:
        """Return the keys of a client, with the key of its server or of another."""
        return load_client_keys((server or self.path / name) / "server.key", self.path / name / f"{name}.key_secret")

    def feed(self, keys: ClientKeys | None, port: int | None = None) -> Feed:
        self.free()
        return Feed(self.path, venues=[VENUE], remote=Remote("127.0.0.1", port or self.port, keys))


@pytest.fixture(scope="module")
def encrypted(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Encrypted]:
    made = Encrypted(tmp_path_factory.mktemp("curve"))
    with made.system:
        yield made
    made.free()


def read_until(feed: Feed | AccountFeed, state: ConnectionState, name: str = VENUE) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while feed.connection(name) is not state:
        assert time.monotonic() < deadline, f"{feed.connection(name)}, not {state}"
        feed.poll(0.05)


def test_busy_port_is_shown_and_bound_once_it_is_free(encrypted: Encrypted) -> None:
    system = encrypted.system
    system.wait_live([VENUE])
    feed = {"endpoint": f"tcp://127.0.0.1:{port_of(VENUE, encrypted.port)}", "listening": False}
    assert wait_for(lambda: system.venue(VENUE)["tcp"]) == feed
    gateway = wait_for(lambda: system.status()["gateway"]["tcp"], what="the gateway says how its feed is")
    assert not gateway["listening"]
    text = paraphina("status", "--run-dir", str(system.run_dir.path)).stdout.decode()
    assert f"{feed['endpoint']} address_in_use" in text
    encrypted.free()
    wait_for(lambda: system.venue(VENUE)["tcp"]["listening"] and system.status()["gateway"]["tcp"]["listening"])
    assert system.venue(VENUE)["generation"] == 1
    assert len(system.log("feed.not_listening", reason="address_in_use")) == 2
    assert len(system.log("feed.listening")) == 2


def test_keys_made_by_the_verb_admit_their_client(encrypted: Encrypted) -> None:
    with encrypted.feed(encrypted.client("desk")) as feed:
        assert feed.wait_live([BTC], PATIENCE_S)
        assert feed.connection(VENUE) is ConnectionState.CONNECTED
        read_until(feed, ConnectionState.CONNECTED, "lifecycle")


def test_unusable_connections_are_named_on_both_sides(encrypted: Encrypted) -> None:
    stranger = encrypted.path / "stranger"
    verb("client", encrypted.path / "other", "stranger", "--out", stranger)
    (stranger / "server.key").write_bytes((encrypted.keys / "server.key").read_bytes())
    desk = encrypted.client("desk")
    expected = {
        "key_refused": encrypted.feed(encrypted.client("stranger")),
        "handshake_failed": encrypted.feed(encrypted.client("desk", encrypted.path / "other")),
        "unreachable": encrypted.feed(desk, free_ports()),
        "encryption_mismatch": encrypted.feed(None),
    }
    books = {state: feed.book(*BTC) for state, feed in expected.items()}
    began = time.monotonic()
    while {state: book.reason for state, book in books.items()} != {state: state for state in books}:
        assert time.monotonic() - began < PATIENCE_S, {state: book.reason for state, book in books.items()}
        for feed in expected.values():
            feed.poll(0.02)
    for state, feed in expected.items():
        assert feed.connection(VENUE) == state
        feed.close()
    stranger_key = encrypted.client("stranger").public.decode()
    (refused, *_) = wait_for(lambda: encrypted.system.log("feed.key_refused", of=stranger_key))
    assert refused["address"] == "127.0.0.1"
    assert wait_for(lambda: encrypted.system.venue(VENUE)["keys_refused"])


def test_other_feeds_name_them_too(encrypted: Encrypted) -> None:
    nobody = Remote("127.0.0.1", free_ports())

    deadline = time.monotonic() + PATIENCE_S

    async def read() -> None:
        async with AsyncFeed(encrypted.path, venues=[VENUE], remote=nobody) as feed:
            while feed.book(*BTC).reason != "unreachable":
                assert time.monotonic() < deadline, feed.book(*BTC).reason
                await feed.wait_live([BTC], 0.1)

    with AccountFeed(encrypted.path, venues=[VENUE], remote=nobody) as accounts:
        asyncio.run(read())
        read_until(accounts, ConnectionState.UNREACHABLE)
        while accounts.account(VENUE).reason != "unreachable":
            assert time.monotonic() < deadline, accounts.account(VENUE).reason
            accounts.poll(0.05)


def test_new_key_works_without_a_restart_and_a_removed_one_not_after_one(encrypted: Encrypted) -> None:
    verb("client", encrypted.keys, "late", "--out", encrypted.path / "late")
    certificate = encrypted.keys / "clients" / "late.key"
    late = encrypted.client("late")
    with encrypted.feed(late) as feed:
        assert feed.wait_live([BTC], PATIENCE_S)
        certificate.unlink()
        with encrypted.feed(late) as second:
            read_until(second, ConnectionState.KEY_REFUSED)
        assert feed.book(*BTC).usable, "a connection that exists is kept"
        assert paraphina("restart", VENUE, "--run-dir", str(encrypted.system.run_dir.path)).returncode == 0
        read_until(feed, ConnectionState.KEY_REFUSED)
    assert set(verb("list", encrypted.keys)["clients"]) == {"desk"}


def test_start_ends_when_no_worker_accepts_its_configuration(tmp_path: Path) -> None:
    env = {"LIGHTER_FIXTURE_DIR": str(tmp_path)}
    systems = [System("--venues", "lighter", *arguments, env=env).start() for arguments in ((), ("--detach",))]
    try:
        for system in systems:
            assert system.process.wait(PATIENCE_S) == 2
            assert f"paraphina-supervisor: {tmp_path}: no recording of lighter" in (system.path / "log").read_text()
            assert system.status()["supervisor"]["state"] == "dead"
    finally:
        for system in systems:
            system.__exit__()


def test_keys_that_cannot_be_used_are_found_before_the_start(tmp_path: Path) -> None:
    (tmp_path / "keys").mkdir()
    config = tmp_path / "config.toml"
    config.write_text(f'[feeds]\ntcp = "192.0.2.1"\ncurve_dir = "{tmp_path / "keys"}"\n')
    verbs = (("config", "validate"), ("check",), ("start", "--run-dir", str(tmp_path / "run")))
    with ThreadPoolExecutor() as pool:
        results = list(pool.map(lambda words: paraphina(*words, "--config", str(config)), verbs))
    for result in results:
        assert result.returncode == 2
        first, second = result.stderr.decode().splitlines()
        assert "keys/server.key_secret: does not exist; create it with: paraphina-supervisor keys server" in first
        assert "keys/clients: cannot be read" in second
