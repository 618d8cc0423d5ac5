"""Event loop on a simulated clock and poll, and once on the real ones."""

from __future__ import annotations

import os
import select
import signal
import time
from types import SimpleNamespace

import pytest

from supervisor import reactor as module
from supervisor.reactor import Reactor

S = 1_000_000_000
MS = 1_000_000


class Kernel:
    """Simulated time: it passes in a poll that finds nothing ready, with ``oversleep_ns`` added once."""

    def __init__(self):
        self.now_ns = 1_000 * S
        self.oversleep_ns = 0
        self.waits_ms = []

    def monotonic_ns(self):
        return self.now_ns

    def poll(self):
        kernel, real = self, select.poll()

        class Poll:
            register, unregister = real.register, real.unregister

            def poll(self, timeout_ms):
                ready = real.poll(0)
                kernel.waits_ms.append(timeout_ms)
                kernel.now_ns += kernel.oversleep_ns + (0 if ready else timeout_ms * MS)
                kernel.oversleep_ns = 0
                return ready

        return Poll()


@pytest.fixture
def kernel(monkeypatch):
    kernel = Kernel()
    monkeypatch.setattr(module, "time", SimpleNamespace(monotonic_ns=kernel.monotonic_ns))
    monkeypatch.setattr(module, "select", SimpleNamespace(poll=kernel.poll, POLLIN=select.POLLIN))
    return kernel


@pytest.fixture
def reactor(kernel, signals):
    reactor = Reactor()
    yield reactor
    reactor.close()


@pytest.fixture
def pipe():
    """Return a descriptor to watch, and a function that makes it readable."""
    made = []

    def make():
        reader, writer = os.pipe()
        made.extend((reader, writer))
        return reader, lambda: os.write(writer, b".")

    yield make
    for descriptor in made:
        os.close(descriptor)


def run_for(reactor, kernel, duration_ns):
    reactor.at(kernel.now_ns + duration_ns, reactor.stop)
    reactor.run()


# --- timers -----------------------------------------------------------------------------------------------------------


def test_timers_run_in_the_order_of_their_times(reactor, kernel):
    ran = []
    for after in (30, 10, 20):
        reactor.at(kernel.now_ns + after * MS, lambda after=after: ran.append(after))
    run_for(reactor, kernel, 50 * MS)
    assert ran == [10, 20, 30]


def test_timers_of_one_time_run_in_the_order_in_which_they_were_set(reactor, kernel):
    ran, at = [], kernel.now_ns + MS
    for name in "abcdef":
        reactor.at(at, lambda name=name: ran.append(name))
    run_for(reactor, kernel, 2 * MS)
    assert ran == list("abcdef")


def test_a_timer_never_runs_early_and_at_most_a_millisecond_late(reactor, kernel):
    lateness = []
    for after_ns in (1, 999_999, MS, 1_500_000, 7 * S):
        due = kernel.now_ns + after_ns
        reactor.at(due, lambda due=due: lateness.append(kernel.now_ns - due))
    run_for(reactor, kernel, 10 * S)
    assert len(lateness) == 5
    assert all(0 <= late < MS for late in lateness)


def test_a_timer_runs_once(reactor, kernel):
    ran = []
    reactor.at(kernel.now_ns, lambda: ran.append(1))
    run_for(reactor, kernel, 5 * S)
    assert ran == [1]


def test_a_timer_may_set_the_next(reactor, kernel):
    ran, began = [], kernel.now_ns

    def tick():
        ran.append((kernel.now_ns - began) // MS)
        reactor.at(kernel.now_ns + 250 * MS, tick)

    reactor.at(began, tick)
    run_for(reactor, kernel, S - MS)
    assert ran == [0, 250, 500, 750]


def test_overdue_timers_all_run_in_one_round(reactor, kernel):
    ran = []
    for after in (3, 1, 2):
        reactor.at(kernel.now_ns - after * S, lambda after=after: ran.append(after))
    run_for(reactor, kernel, 0)
    assert ran == [3, 2, 1]
    assert len(kernel.waits_ms) == 1


def test_no_timer_is_no_busy_loop(reactor, kernel, pipe):
    reader, make_readable = pipe()

    def late():
        make_readable()
        reactor.watch(reader, reactor.stop)

    reactor.at(kernel.now_ns, late)
    reactor.run()
    assert kernel.waits_ms == [0, 1000]


def test_stop_ends_the_loop_after_the_callback_at_hand(reactor, kernel):
    ran = []
    reactor.at(kernel.now_ns, lambda: (reactor.stop(), ran.append("rest of it")))
    reactor.at(kernel.now_ns + S, lambda: ran.append("later"))
    reactor.run()
    assert ran == ["rest of it"]


def test_stop_ends_the_loop_before_the_next_callback_of_the_same_round(reactor, kernel):
    ran = []
    reactor.at(kernel.now_ns, reactor.stop)
    reactor.at(kernel.now_ns, lambda: ran.append("after the end"))
    reactor.run()
    assert ran == []


def test_it_can_run_again(reactor, kernel):
    for _ in range(2):
        run_for(reactor, kernel, S)


# --- descriptors ------------------------------------------------------------------------------------------------------


def test_a_readable_descriptor_is_called(reactor, kernel, pipe):
    reader, make_readable = pipe()
    heard = []

    def read():
        heard.append(os.read(reader, 10))

    reactor.watch(reader, read)
    make_readable()
    run_for(reactor, kernel, 10 * MS)
    assert heard == [b"."]


def test_an_unwatched_descriptor_is_not(reactor, kernel, pipe):
    reader, make_readable = pipe()
    heard = []
    reactor.watch(reader, lambda: heard.append(1))
    reactor.watch(reader, None)
    reactor.watch(reader, None)
    make_readable()
    run_for(reactor, kernel, 10 * MS)
    assert heard == []


def test_unwatching_another_in_a_callback_holds_at_once(reactor, kernel, pipe):
    """Both are ready in the same round; the first callback removes the other."""
    (one, ready_one), (two, ready_two) = pipe(), pipe()
    heard = []

    def only_one_of(name, other):
        heard.append(name)
        reactor.watch(one, None)
        reactor.watch(two, None)
        del other

    reactor.watch(one, lambda: only_one_of("one", two))
    reactor.watch(two, lambda: only_one_of("two", one))
    ready_one()
    ready_two()
    run_for(reactor, kernel, 10 * MS)
    assert len(heard) == 1


def test_a_callback_may_unwatch_itself(reactor, kernel, pipe):
    reader, make_readable = pipe()
    heard = []
    reactor.watch(reader, lambda: (heard.append(1), reactor.watch(reader, None)))
    make_readable()
    run_for(reactor, kernel, 10 * MS)
    assert heard == [1]


def test_a_callback_may_watch_more(reactor, kernel, pipe):
    (one, ready_one), (two, ready_two) = pipe(), pipe()
    heard = []
    reactor.watch(
        one, lambda: (reactor.watch(one, None), reactor.watch(two, lambda: (heard.append(2), reactor.stop())))
    )
    ready_one()
    ready_two()
    reactor.run()
    assert heard == [2]


def test_watching_again_replaces_the_callback(reactor, kernel, pipe):
    reader, make_readable = pipe()
    heard = []
    reactor.watch(reader, lambda: heard.append("old"))
    reactor.watch(reader, lambda: (heard.append("new"), reactor.stop()))
    make_readable()
    reactor.run()
    assert heard == ["new"]


def test_a_hung_up_descriptor_is_called_too(reactor, kernel):
    reader, writer = os.pipe()
    os.close(writer)
    reactor.watch(reader, reactor.stop)
    reactor.run()
    reactor.watch(reader, None)
    os.close(reader)


# --- signals ----------------------------------------------------------------------------------------------------------


def test_a_signal_only_enqueues_and_is_handled_in_the_loop(reactor, kernel):
    heard = []
    reactor.on_signal(signal.SIGUSR2, lambda: heard.append(1))
    os.kill(os.getpid(), signal.SIGUSR2)
    assert heard == [], "nothing runs in the handler"
    run_for(reactor, kernel, 10 * MS)
    assert heard == [1]


def test_a_closed_terminal_is_reported_once(reactor, kernel):
    """Its descriptor stays ready, and would keep the loop from sleeping."""
    master, slave = os.openpty()
    heard = []
    reactor.watch_hangup(slave, lambda: heard.append(1))
    os.write(master, b"typed\n")
    run_for(reactor, kernel, 10 * MS)
    assert heard == [], "input is not for the loop"
    os.close(master)
    run_for(reactor, kernel, 10 * MS)
    before = len(kernel.waits_ms)
    run_for(reactor, kernel, 10 * MS)
    assert heard == [1]
    assert len(kernel.waits_ms) <= before + 2
    os.close(slave)


def test_a_burst_of_one_signal_is_handled_once(reactor, kernel):
    heard = []
    reactor.on_signal(signal.SIGUSR2, lambda: heard.append(1))
    for _ in range(100):
        os.kill(os.getpid(), signal.SIGUSR2)
    run_for(reactor, kernel, 10 * MS)
    assert heard == [1]


def test_each_signal_has_its_callback(reactor, kernel):
    heard = []
    reactor.on_signal(signal.SIGUSR1, lambda: heard.append("usr1"))
    reactor.on_signal(signal.SIGUSR2, lambda: heard.append("usr2"))
    os.kill(os.getpid(), signal.SIGUSR2)
    os.kill(os.getpid(), signal.SIGUSR1)
    run_for(reactor, kernel, 10 * MS)
    assert sorted(heard) == ["usr1", "usr2"]


def test_a_signal_with_a_handler_of_someone_else_is_ignored_by_the_loop(reactor, kernel):
    reactor.on_signal(signal.SIGUSR1, lambda: None)
    signal.signal(signal.SIGUSR2, lambda *_: None)
    os.kill(os.getpid(), signal.SIGUSR2)
    run_for(reactor, kernel, 10 * MS)


def test_close_gives_back_the_descriptors_and_the_wakeup(kernel, signals, forking):
    before = forking.descriptors()
    reactor = Reactor()
    reactor.on_signal(signal.SIGUSR2, lambda: None)
    reactor.close()
    assert forking.descriptors() == before
    assert signal.set_wakeup_fd(-1) == -1


# --- the gap ----------------------------------------------------------------------------------------------------------


def test_a_loop_that_wakes_as_asked_has_no_gap(reactor, kernel):
    for after in range(1, 10):
        reactor.at(kernel.now_ns + after * 100 * MS, lambda: None)
    run_for(reactor, kernel, S)
    assert reactor.gap_ns == 0


def test_the_gap_is_how_much_longer_than_asked_the_loop_was_away(reactor, kernel):
    kernel.oversleep_ns = 15 * S
    run_for(reactor, kernel, 250 * MS)
    assert reactor.gap_ns == 15 * S


def test_the_longest_gap_is_kept_until_it_is_read(reactor, kernel):
    for oversleep_ns in (2 * S, 5 * S, S):
        kernel.oversleep_ns = oversleep_ns
        run_for(reactor, kernel, 100 * MS)
    assert reactor.gap_ns == 5 * S


def test_a_stall_within_a_callback_is_a_gap_too(reactor, kernel):
    def stalled():
        kernel.now_ns += 15 * S

    reactor.at(kernel.now_ns + 100 * MS, stalled)
    run_for(reactor, kernel, 200 * MS)
    assert reactor.gap_ns >= 14 * S


# --- once for real ----------------------------------------------------------------------------------------------------


def test_on_the_real_clock_a_timer_is_never_early(signals):
    reactor, came = Reactor(), []
    due = time.monotonic_ns() + 20 * MS
    reactor.at(due, lambda: (came.append(time.monotonic_ns() - due), reactor.stop()))
    reactor.run()
    reactor.close()
    assert came[0] >= 0


def test_a_signal_wakes_a_sleeping_loop(signals):
    """The loop would sleep for a minute; the alarm that comes after a few ms ends that."""
    reactor, began = Reactor(), time.monotonic()
    reactor.on_signal(signal.SIGALRM, reactor.stop)
    reactor.at(time.monotonic_ns() + 60 * S, lambda: None)
    signal.setitimer(signal.ITIMER_REAL, 0.02)
    reactor.run()
    reactor.close()
    assert time.monotonic() - began < 30
