"""Feeds over TCP: who can read them, and who cannot."""

from __future__ import annotations

import socket
import time

import pytest
import zmq
import zmq.auth

from ipc.errors import ConfigError
from ipc.events import Trade
from ipc.feed import Feed
from ipc.publisher import Publisher
from ipc.remote import FeedListener, Network, Remote, is_loopback, load_client_keys, port_of
from ipc.topics import VENUES, Topic


def free_port():
    """The first of a run of ports of which the ones used here are free."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1] - VENUES.index("lighter")


@pytest.fixture
def keys(tmp_path):
    """A server's directory of keys that knows one client; the stranger is known to nobody."""
    (tmp_path / "server" / "clients").mkdir(parents=True)
    zmq.auth.create_certificates(tmp_path / "server", "server")
    for name in ("desk", "stranger"):
        zmq.auth.create_certificates(tmp_path, name)
    (tmp_path / "desk.key").rename(tmp_path / "server" / "clients" / "desk.key")
    for secret in tmp_path.rglob("*.key_secret"):
        secret.chmod(0o600)
    return tmp_path


class Published:
    """A publisher that repeats one trade until somebody has it."""

    def __init__(self, tmp_path, network):
        self._context = zmq.Context()
        self._listener = FeedListener(self._context, network)
        self.publisher = Publisher(self._context, f"ipc://{tmp_path}/lighter.feed", 1)
        self.publisher.listen(self._listener, "lighter")
        self._feed = self.publisher.topic(Topic("trade", "lighter", "BTC-PERP"))
        self._count = 0

    def reaches(self, feed, seconds):
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            with self.publisher.exclusive():
                self._count += 1
                trade = Trade("lighter", "BTC-PERP", "BTC", None, "1", "1", "buy", str(self._count))
                self.publisher.send(self._feed, trade)
            if feed.poll(0.02) is not None:
                return True
        return False

    def close(self):
        self.publisher.close()
        self._listener.close()
        self._context.term()


def test_on_loopback_no_keys_are_needed(tmp_path):
    network = Network("127.0.0.1", free_port())
    published = Published(tmp_path, network)
    with Feed(tmp_path, venues=["lighter"], channels=["trade"], remote=Remote("127.0.0.1", network.port)) as feed:
        assert published.reaches(feed, 10)
    published.close()


def test_beyond_loopback_keys_are_needed():
    context = zmq.Context()
    with pytest.raises(ConfigError, match=r"192\.0\.2\.1 is not loopback"):
        FeedListener(context, Network("192.0.2.1", 5600))
    context.term()


def test_a_known_client_reads_and_a_stranger_does_not(tmp_path, keys):
    network = Network("127.0.0.1", free_port(), str(keys / "server"))
    published = Published(tmp_path, network)
    server = keys / "server" / "server.key"
    remotes = {
        name: Remote("127.0.0.1", network.port, load_client_keys(server, keys / f"{name}.key_secret"))
        for name in ("desk", "stranger")
    }
    with Feed(tmp_path, venues=["lighter"], channels=["trade"], remote=remotes["desk"]) as feed:
        assert published.reaches(feed, 10)
    with Feed(tmp_path, venues=["lighter"], channels=["trade"], remote=remotes["stranger"]) as feed:
        assert not published.reaches(feed, 1)
    with Feed(tmp_path, venues=["lighter"], channels=["trade"], remote=Remote("127.0.0.1", network.port)) as feed:
        assert not published.reaches(feed, 1), "without keys"
    with Feed(tmp_path, venues=["lighter"], channels=["trade"]) as feed:
        assert published.reaches(feed, 10), "on the run directory's socket nothing changes"
    published.close()


def test_a_secret_key_that_others_may_read_is_refused(keys):
    (keys / "desk.key_secret").chmod(0o644)
    with pytest.raises(ConfigError, match="chmod 600"):
        load_client_keys(keys / "server" / "server.key", keys / "desk.key_secret")


@pytest.mark.parametrize("missing", ["server.key_secret", "clients"])
def test_a_directory_of_keys_that_is_incomplete_is_refused(keys, missing):
    path = keys / "server" / missing
    path.rename(path.with_name("away"))
    context = zmq.Context()
    with pytest.raises(ConfigError, match=missing.replace(".", r"\.")):
        FeedListener(context, Network("192.0.2.1", 5600, str(keys / "server")))
    context.term()


def test_a_port_that_is_taken_is_one_clear_error(tmp_path):
    network = Network("127.0.0.1", free_port())
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", port_of("lighter", network.port)))
        taken.listen()
        context = zmq.Context()
        publisher = Publisher(context, f"ipc://{tmp_path}/lighter.feed", 1)
        with pytest.raises(ConfigError, match="cannot be bound"):
            publisher.listen(FeedListener(context, network), "lighter")
        publisher.close()
        context.term()


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
def test_a_feed_is_read_by_either_version_of_the_internet_protocol(tmp_path, host):
    if host == "::1" and not has_ipv6():
        pytest.skip("no IPv6 here")
    network = Network(host, free_port())
    context = zmq.Context()
    publisher = Publisher(context, f"ipc://{tmp_path}/lighter.feed", 1)
    publisher.listen(FeedListener(context, network), "lighter")
    with context.socket(zmq.SUB) as reader:
        reader.linger = 0
        Remote(host, network.port).apply(reader)
        reader.connect(Remote(host, network.port).endpoint("lighter"))
        reader.subscribe(b"")
        assert publisher._socket.poll(10_000), "the subscription arrives"
    publisher.close()
    context.term()


def has_ipv6():
    try:
        with socket.socket(socket.AF_INET6) as probe:
            probe.bind(("::1", 0))
    except OSError:
        return False
    return True


def test_every_feed_and_account_has_a_port_of_its_own():
    ports = [port_of(name, 5600, account=account) for account in (False, True) for name in (*VENUES, "lifecycle")]
    assert sorted(ports) == list(range(5600, 5612))


@pytest.mark.parametrize(("host", "is_own"), [("127.0.0.1", True), ("::1", True), ("0.0.0.0", False), ("desk", False)])
def test_what_is_loopback(host, is_own):
    assert is_loopback(host) is is_own
