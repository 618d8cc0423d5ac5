"""The terminal is as before on every way out."""

import os
import signal
import termios

import pytest

from supervisor.terminal.raw import RawTerminal


@pytest.fixture
def pty():
    master, slave = os.openpty()
    yield master, slave
    for descriptor in (master, slave):
        os.close(descriptor)


@pytest.fixture
def raw(pty, signals):
    called = []
    return RawTerminal(pty[1], lambda: called.append("leave"), lambda: called.append("enter"))


def is_raw(descriptor):
    return not termios.tcgetattr(descriptor)[3] & (termios.ICANON | termios.ECHO)


def test_keys_come_one_by_one(pty, raw):
    with raw:
        assert is_raw(pty[1])
        assert raw.read(0.01) == b""
        os.write(pty[0], b"q")
        assert raw.read(10) == b"q"
    assert not is_raw(pty[1])


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, SystemExit])
def test_an_error_restores_it(pty, raw, error):
    before = termios.tcgetattr(pty[1])
    handlers = [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGTSTP, signal.SIGWINCH)]
    with pytest.raises(error), raw:
        raise error
    assert termios.tcgetattr(pty[1]) == before
    assert [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGTSTP, signal.SIGWINCH)] == handlers


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGHUP, 129)])
def test_signals_end_it_in_order(pty, raw, number, code):
    signal.signal(signal.SIGHUP, signal.SIG_DFL)
    with pytest.raises(SystemExit) as left, raw:
        signal.raise_signal(number)
    assert left.value.code == code
    assert not is_raw(pty[1])


def test_nohup_is_respected(pty, raw):
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    with raw:
        signal.raise_signal(signal.SIGHUP)


def test_a_change_of_size_wakes_it(pty, raw):
    with raw:
        signal.raise_signal(signal.SIGWINCH)
        assert raw.read(60) == b""
        assert raw.read(0) == b""


def test_a_terminal_that_is_gone_is_the_end(signals):
    master, slave = os.openpty()
    with RawTerminal(slave, lambda: None, lambda: None) as raw:
        os.close(master)
        with pytest.raises(EOFError):
            raw.read(10)
    os.close(slave)


def test_without_a_terminal_there_are_no_keys(tmp_path, signals):
    with (tmp_path / "file").open("w+b") as file:
        file.write(b"qqq")
        file.seek(0)
        with RawTerminal(file.fileno(), lambda: None, lambda: None) as raw:
            assert raw.read(0.01) == b""
