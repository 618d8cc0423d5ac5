"""Feeds over TCP: who can read them, and who cannot."""

from __future__ import annotations

import select
import socket
import time

import pytest
import zmq

from ipc import remote as module
from ipc.board import TCP_LISTENING, TCP_WAITING, Board, WorkerWord
from ipc.certificates import KeyDirectory
from ipc.connections import ConnectionState
from ipc.errors import ConfigError, FeedError
from ipc.events import Trade
from ipc.feed import Feed
from ipc.listener import FeedListener
from ipc.publisher import Publisher
from ipc.remote import Network, Remote, is_loopback, load_client_keys, port_of
from ipc.topics import VENUES, Topic


def free_port():
    """The first of a run of ports of which the ones used here are free."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1] - VENUES.index("lighter")


@pytest.fixture
def keys(tmp_path):
    """A server's directory of keys that knows one client; the stranger is known to another server."""
    server, other = KeyDirectory(tmp_path / "server"), KeyDirectory(tmp_path / "other")
    for directory, name in ((server, "desk"), (other, "stranger")):
        directory.create_server()
        directory.create_client(name)
    return tmp_path


class Published:
    """A publisher that repeats one trade until somebody has it."""

    def __init__(self, tmp_path, network):
        self._context = zmq.Context()
        self._listener = FeedListener(self._context, network)
        self.row = Board.in_memory().worker(0)
        self.publisher = Publisher(self._context, f"ipc://{tmp_path}/lighter.feed", 1)
        self.publisher.listen(self._listener, "lighter")
        self._feed = self.publisher.topic(Topic("trade", "lighter", "BTC-PERP"))
        self._count = 0
        #: Done at each step.
        self.also = lambda: None

    def step(self, feed):
        """Serve the network, publish one trade and return what the feed has of it."""
        self.also()
        self._listener.serve(time.monotonic_ns(), self.row)
        with self.publisher.exclusive():
            self._count += 1
            trade = Trade("lighter", "BTC-PERP", "BTC", None, "1", "1", "buy", str(self._count))
            self.publisher.send(self._feed, trade)
        return feed.poll(0.02)

    def reaches(self, feed, seconds):
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            if self.step(feed) is not None:
                return True
        return False

    def close(self):
        self.publisher.close()
        self._listener.close()
        self._context.term()


@pytest.fixture
def published(tmp_path, keys):
    """An encrypted publisher with the known client."""
    made = Published(tmp_path, Network("127.0.0.1", free_port(), str(keys / "server")))
    yield made
    made.close()


def remote(published, server, secret=None):
    """The publisher as a consumer with these certificates knows it."""
    keys = None if secret is None else load_client_keys(server / "server.key", secret)
    return Remote("127.0.0.1", published._listener._network.port, keys)


def becomes(feed, published, state):
    """Run both sides until the feed's connection has a state."""
    deadline = time.monotonic() + 15
    while feed.connection("lighter") is not state:
        assert time.monotonic() < deadline, f"still {feed.connection('lighter')}, not {state}"
        published.step(feed)


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


def test_a_known_client_reads_and_a_stranger_does_not(tmp_path, keys, published, logged):
    secrets = {"desk": keys / "server" / "desk.key_secret", "stranger": keys / "other" / "stranger.key_secret"}
    remotes = {name: remote(published, keys / "server", secret) for name, secret in secrets.items()}
    with (
        Feed(tmp_path, venues=["lighter"], channels=["trade"], remote=remotes["desk"]) as known,
        Feed(tmp_path, venues=["lighter"], channels=["trade"], remote=remotes["stranger"]) as stranger,
        Feed(tmp_path, venues=["lighter"], channels=["trade"], remote=remote(published, keys)) as keyless,
        Feed(tmp_path, venues=["lighter"], channels=["trade"]) as local,
    ):
        assert published.reaches(known, 10)
        assert published.reaches(local, 10), "on the run directory's socket nothing changes"
        assert local.connection("lighter") is None
        becomes(known, published, ConnectionState.CONNECTED)
        becomes(stranger, published, ConnectionState.KEY_REFUSED)
        becomes(keyless, published, ConnectionState.ENCRYPTION_MISMATCH)
        assert not any(published.step(one) for one in (stranger, keyless) for _ in range(20))
    assert published.row[WorkerWord.KEYS_REFUSED] >= 1
    (refused, *_) = [record.fields for record in logged.records if record.getMessage() == "feed.key_refused"]
    assert refused["of"] == remotes["stranger"].keys.public.decode()
    assert refused["address"] == "127.0.0.1"


def test_a_client_that_expects_another_server_is_distinguished_from_silence(tmp_path, keys, published):
    other = remote(published, keys / "other", keys / "server" / "desk.key_secret")
    with Feed(tmp_path, venues=["lighter"], channels=["trade"], remote=other) as feed:
        becomes(feed, published, ConnectionState.HANDSHAKE_FAILED)
        book = feed.book("lighter", "BTC-PERP")
        deadline = time.monotonic() + 15
        while book.reason != "handshake_failed":
            assert time.monotonic() < deadline, book.reason
            feed.poll(0.1)


def test_a_new_key_works_at_once_and_a_removed_one_is_refused_at_the_next_connect(tmp_path, keys, published):
    certificate = keys / "server" / "clients" / "desk.key"
    certificate.rename(tmp_path / "desk.key")
    desk = remote(published, keys / "server", keys / "server" / "desk.key_secret")
    with Feed(tmp_path, venues=["lighter"], channels=["trade"], remote=desk) as feed:
        becomes(feed, published, ConnectionState.KEY_REFUSED)
        (tmp_path / "desk.key").rename(certificate)
        becomes(feed, published, ConnectionState.CONNECTED)
        assert published.reaches(feed, 10)
        certificate.unlink()
        with Feed(tmp_path, venues=["lighter"], channels=["trade"], remote=desk) as second:
            becomes(second, published, ConnectionState.KEY_REFUSED)
        assert published.reaches(feed, 10), "a connection that exists is kept"


def test_a_certificate_that_cannot_be_read_affects_no_other_client(tmp_path, keys, published, logged):
    (keys / "server" / "clients" / "broken.key").write_text("nothing")
    desk = remote(published, keys / "server", keys / "server" / "desk.key_secret")
    with Feed(tmp_path, venues=["lighter"], channels=["trade"], remote=desk) as feed:
        assert published.reaches(feed, 10)
    assert "feed.certificate_unusable" in logged.events


def test_a_server_that_is_not_there_is_unreachable(tmp_path):
    nobody = Remote("127.0.0.1", free_port())
    with Feed(tmp_path, venues=["lighter"], channels=["trade"], remote=nobody) as feed:
        deadline = time.monotonic() + 15
        while feed.book("lighter", "BTC-PERP").reason != "unreachable":
            assert time.monotonic() < deadline
            feed.poll(0.1)
        assert feed.connection("lighter") is ConnectionState.UNREACHABLE
        with pytest.raises(FeedError, match="aster: no such venue in this feed; it has lighter"):
            feed.connection("aster")
        feed.close()


def test_a_secret_key_that_others_may_read_is_refused(keys):
    (keys / "server" / "desk.key_secret").chmod(0o644)
    with pytest.raises(ConfigError, match="chmod 600"):
        load_client_keys(keys / "server" / "server.key", keys / "server" / "desk.key_secret")


@pytest.mark.parametrize("missing", ["server.key_secret", "clients"])
def test_a_directory_of_keys_that_is_incomplete_is_refused(keys, missing):
    path = keys / "server" / missing
    path.rename(path.with_name("away"))
    context = zmq.Context()
    with pytest.raises(ConfigError, match=missing.replace(".", r"\.")):
        FeedListener(context, Network("192.0.2.1", 5600, str(keys / "server")))
    context.term()


def test_a_port_that_is_busy_is_bound_once_it_is_free(tmp_path, logged):
    network = Network("127.0.0.1", free_port())
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", port_of("lighter", network.port)))
        taken.listen()
        published = Published(tmp_path, network)
        with Feed(tmp_path, venues=["lighter"], channels=["trade"]) as local:
            assert published.reaches(local, 10), "the run directory's socket is served meanwhile"
        assert published.row[WorkerWord.TCP] == TCP_WAITING
        time.sleep(1.1)
        published._listener.serve(time.monotonic_ns(), published.row)
        assert published.row[WorkerWord.TCP] == TCP_WAITING
    with Feed(tmp_path, venues=["lighter"], channels=["trade"], remote=Remote("127.0.0.1", network.port)) as feed:
        assert published.reaches(feed, 15)
    assert published.row[WorkerWord.TCP] == TCP_LISTENING
    published.close()
    (busy,) = [record.fields for record in logged.records if record.getMessage() == "feed.not_listening"]
    assert busy["reason"] == "address_in_use"
    assert logged.events.count("feed.listening") == 1


def test_an_interface_that_is_not_up_yet_is_waited_for(tmp_path, keys):
    published = Published(tmp_path, Network("192.0.2.1", free_port(), str(keys / "server")))
    with Feed(tmp_path, venues=["lighter"], channels=["trade"]) as local:
        assert published.reaches(local, 10)
    assert published.row[WorkerWord.TCP] == TCP_WAITING
    published.close()


def test_an_address_that_can_never_be_bound_is_one_clear_error(tmp_path, keys):
    if not has_ipv6():
        pytest.skip("no IPv6 here")
    context = zmq.Context()
    publisher = Publisher(context, f"ipc://{tmp_path}/lighter.feed", 1)
    listener = FeedListener(context, Network("fe80::1", 5600, str(keys / "server")))
    with pytest.raises(ConfigError, match=r"^feeds\.tcp: tcp://\[fe80::1\]:5603 cannot be bound: Invalid argument$"):
        publisher.listen(listener, "lighter")
    listener.close()
    publisher.close()
    context.term()


class Relay:
    """Network between a consumer and the publisher's port; it can drop a connection without a word."""

    def __init__(self, port):
        self.listener = socket.create_server(("127.0.0.1", 0))
        #: The listener and both ends of the connections; those dropped stay open.
        self._peers = {self.listener: None}
        self._kept = []
        self._port = port

    def step(self):
        for ready in select.select(list(self._peers), [], [], 0)[0]:
            if ready is self.listener:
                near, _ = self.listener.accept()
                far = socket.create_connection(("127.0.0.1", self._port))
                self._peers |= {near: far, far: near}
            elif data := ready.recv(65_536):
                self._peers[ready].sendall(data)
            else:
                for end in (ready, self._peers[ready]):
                    self._peers.pop(end)
                    end.close()

    def drop(self):
        self._kept += [self._peers.pop(end) for end in list(self._peers) if end is not self.listener]

    def close(self):
        for end in (*self._peers, *self._kept):
            end.close()


def test_a_connection_that_the_network_drops_silently_is_made_again(tmp_path, keys, published, monkeypatch):
    faster = dict(module._OPTIONS) | {zmq.HEARTBEAT_IVL: 200, zmq.HEARTBEAT_TIMEOUT: 600}
    monkeypatch.setattr(module, "_OPTIONS", tuple(faster.items()))
    desk = remote(published, keys / "server", keys / "server" / "desk.key_secret")
    relay = Relay(port_of("lighter", desk.port))
    through = Remote("127.0.0.1", relay.listener.getsockname()[1] - VENUES.index("lighter"), desk.keys)
    published.also = relay.step
    with Feed(tmp_path, venues=["lighter"], channels=["trade"], remote=through) as feed:
        assert published.reaches(feed, 10)
        relay.drop()
        while feed.poll(0.1) is not None:
            pass
        assert published.reaches(feed, 15)
    relay.close()


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
def test_a_feed_is_read_by_either_version_of_the_internet_protocol(tmp_path, host):
    if host == "::1" and not has_ipv6():
        pytest.skip("no IPv6 here")
    network = Network(host, free_port())
    context = zmq.Context()
    publisher = Publisher(context, f"ipc://{tmp_path}/lighter.feed", 1)
    publisher.listen(FeedListener(context, network), "lighter")
    with Feed(tmp_path, venues=["lighter"], remote=Remote(host, network.port)) as reader:
        assert publisher._socket.poll(10_000), "the subscription arrives"
        deadline = time.monotonic() + 10
        while reader.connection("lighter") is not ConnectionState.CONNECTED:
            assert time.monotonic() < deadline
            reader.poll(0.02)
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
