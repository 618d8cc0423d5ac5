"""Notifications to systemd."""

from __future__ import annotations

import os
import signal
import socket

import pytest

from supervisor.notify import Notifier

S = 1_000_000_000


@pytest.fixture
def manager(tmp_path, monkeypatch):
    """Return a function for systemd's end of the socket: it returns what was sent since its last call."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        monkeypatch.chdir(tmp_path)
        listener.bind("notify")
        listener.setblocking(False)

        def sent():
            found = []
            try:
                while True:
                    found.append(listener.recv(4096).decode())
            except BlockingIOError:
                return found

        yield sent


def test_nothing_is_sent_without_a_socket():
    notifier = Notifier({})
    assert not notifier.is_wanted
    notifier.ready()
    notifier.checked("5/5 live", S)
    notifier.close()


def test_it_is_ready_once(manager):
    notifier = Notifier({"NOTIFY_SOCKET": "notify"})
    assert notifier.is_wanted
    notifier.ready()
    notifier.ready()
    assert manager() == ["READY=1"]
    notifier.close()


def test_a_reload_ends_in_ready_and_means_nothing_before(manager):
    notifier = Notifier({"NOTIFY_SOCKET": "notify"})
    notifier.reloading(S)
    notifier.reloaded()
    assert manager() == []
    notifier.ready()
    notifier.reloading(7 * S)
    notifier.reloaded()
    assert manager() == ["READY=1", "RELOADING=1\nMONOTONIC_USEC=7000000", "READY=1"]
    notifier.close()


def test_status_is_sent_when_it_changes_and_the_beat_three_times_as_often_as_required(manager):
    notifier = Notifier({"NOTIFY_SOCKET": "notify", "WATCHDOG_USEC": "3000000", "WATCHDOG_PID": str(os.getpid())})
    for tick in range(9):
        notifier.checked("5/5 live", S + tick * S // 4)
    assert manager() == ["STATUS=5/5 live", "WATCHDOG=1", "WATCHDOG=1", "WATCHDOG=1"]
    notifier.close()


@pytest.mark.parametrize("owed", [{}, {"WATCHDOG_USEC": "3000000", "WATCHDOG_PID": "1"}, {"WATCHDOG_USEC": "soon"}])
def test_no_beat_is_sent_that_nobody_watches(manager, owed):
    notifier = Notifier({"NOTIFY_SOCKET": "notify", **owed})
    notifier.checked("5/5 live", S)
    assert manager() == ["STATUS=5/5 live"]
    notifier.close()


def test_an_abstract_name_is_one():
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        listener.bind(f"\0paraphina-{os.getpid()}")
        notifier = Notifier({"NOTIFY_SOCKET": f"@paraphina-{os.getpid()}"})
        notifier.stopping()
        assert listener.recv(100) == b"STOPPING=1"
        notifier.close()


def test_a_manager_that_is_gone_harms_nobody(tmp_path):
    notifier = Notifier({"NOTIFY_SOCKET": str(tmp_path / "gone")})
    notifier.ready()
    notifier.close()


# --- by the parent ----------------------------------------------------------------------------------------------------


@pytest.fixture
def watched(manager, monkeypatch, new_world):
    monkeypatch.setenv("NOTIFY_SOCKET", "notify")
    return new_world


def test_a_system_is_ready_when_every_venue_was_live_and_says_how_they_are(watched, manager):
    world = watched(supervisor__venues="lighter,paradex")
    world.at(10, lambda: world.the("paradex").die())
    world.signal_at(20, signal.SIGHUP)
    world.run(30)
    sent = manager()
    assert sent[0] == "READY=1"
    assert sent[1:4] == ["STATUS=2/2 live", "STATUS=1/2 live, paradex backoff", "STATUS=2/2 live"]
    assert sent[4].startswith("RELOADING=1\n")
    assert sent[5:7] == ["READY=1", "STOPPING=1"]


def test_a_venue_that_never_comes_delays_ready_for_a_minute_at_most(watched, manager):
    world = watched(supervisor__venues="lighter,paradex")
    world.born = lambda child: setattr(child, "is_fresh", child.name != "paradex")
    told_at_59 = []
    world.at(59, lambda: told_at_59.extend(manager()))
    world.run(62)
    assert "READY=1" not in told_at_59
    assert "STATUS=1/2 live, paradex starting" in told_at_59
    assert "READY=1" in manager()


def test_a_refused_reload_is_over_too(watched, manager):
    world = watched(supervisor__venues="lighter")
    world.at(9, lambda: world.environ.update({"PARAPHINA_LIGHTER_STALE_MS": "soon"}))
    world.signal_at(10, signal.SIGHUP)
    world.run(20)
    sent = manager()
    assert sent[sent.index(next(one for one in sent if one.startswith("RELOADING"))) + 1] == "READY=1"
