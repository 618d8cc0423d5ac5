"""State that a process inherits from the program that started it, and its reset (daemon(7)).

Every verb needs its standard streams and signals; a program that runs for long resets the rest as well: descriptors,
umask, limits, and a current directory that was removed.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import MutableMapping
from typing import Final, TextIO

from ipc import start_directory
from ipc.descriptors import raise_limit
from ipc.errors import UsageError

#: Signals that a program may inherit as ignored and keep so: Python itself ignores two of them, so that writes fail
#: with an error instead; nohup(1) ignores SIGHUP, and a shell without job control SIGINT of background programs.
_KEPT: Final = frozenset({signal.SIGPIPE, signal.SIGXFSZ, signal.SIGHUP, signal.SIGINT})
#: Signals that a child ignores. The parent handles the terminal's SIGINT and SIGHUP; writes to a closed pipe or beyond
#: the file size limit fail with an error; SIGTTOU would stop a process in the background that writes to a terminal with
#: ``stty tostop``; SIGUSR2 is for programs that write a log of their own.
_IGNORED_BY_CHILD: Final = frozenset(
    {signal.SIGINT, signal.SIGHUP, signal.SIGPIPE, signal.SIGXFSZ, signal.SIGTTOU, signal.SIGUSR2}
)
#: Descriptors that a system of five venues needs at most, without consumers, with a reserve.
_MIN_DESCRIPTORS: Final = 256
_FIRST_FOREIGN: Final = 3
#: Variables of systemd that are addressed to the main process alone.
_SERVICE_VARIABLES: Final = (
    "NOTIFY_SOCKET",
    *("WATCHDOG_USEC", "WATCHDOG_PID"),
    *("LISTEN_FDS", "LISTEN_FDNAMES", "LISTEN_PID", "LISTEN_PIDFDID"),
)


def open_standard_streams() -> None:
    """Open standard streams that are closed; else a socket or file would get one of their numbers, and their output."""
    for number in range(_FIRST_FOREIGN):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)
    if sys.stdout is None:
        sys.stdout = open(1, "w", closefd=False)  # noqa: SIM115 - for as long as the program runs
    if sys.stderr is None:
        sys.stderr = open(2, "w", closefd=False)  # noqa: SIM115


def discard(stream: TextIO) -> None:
    """Redirect a standard stream that cannot be written to /dev/null, so that the flush at exit does not fail again."""
    nothing = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nothing, stream.fileno())
    os.close(nothing)


def reset_signals() -> None:
    """Set signals that were inherited as ignored to their defaults, and unblock all; keep our own handlers."""
    for number in _changeable():
        if is_ignored(number) and number not in _KEPT:
            signal.signal(number, signal.SIG_DFL)
    unblock_signals()


def reset_signals_of_child() -> None:
    """Remove the handlers of the parent in a forked child, and ignore what concerns the parent alone."""
    signal.set_wakeup_fd(-1)
    for number in _changeable():
        if number in _IGNORED_BY_CHILD:
            signal.signal(number, signal.SIG_IGN)
        elif is_ignored(number) or callable(signal.getsignal(number)):  # not those that a library installed
            signal.signal(number, signal.SIG_DFL)


def unblock_signals() -> None:
    """Let all signals through."""
    signal.pthread_sigmask(signal.SIG_SETMASK, ())


def is_ignored(number: int) -> bool:
    """Return whether this process ignores a signal."""
    return signal.getsignal(number) is signal.SIG_IGN


def _changeable() -> set[signal.Signals]:
    return signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP}


def reset_process_state() -> None:
    """Reset what a program that runs for long inherits beside streams and signals; idempotent.

    Call it before the program opens a file: all descriptors but the standard streams are closed.

    Raises:
        UsageError: The limit of file descriptors is too low to run a system.
    """
    signal.signal(signal.SIGTTOU, signal.SIG_IGN)  # log lines to a terminal with `stty tostop`
    close_foreign_descriptors()
    os.umask(0o077)
    start_directory.leave_if_removed()
    require_descriptors(raise_limit())


def require_descriptors(limit: int) -> None:
    """Refuse a limit of file descriptors with which a system cannot run.

    Raises:
        UsageError: It is too low.
    """
    if limit < _MIN_DESCRIPTORS:
        raise UsageError(
            f"the hard limit of {limit} file descriptors is too low, at least {_MIN_DESCRIPTORS} are needed",
            where="RLIMIT_NOFILE",
            advice="raise it: `ulimit -n`, LimitNOFILE= of a systemd service, `docker run --ulimit nofile=65536`",
        )


def close_foreign_descriptors() -> None:
    """Close all descriptors but the standard streams; do nothing without /proc.

    They are listed, because the limit may be a billion, and trying every number below it takes minutes.
    """
    os.closerange(_FIRST_FOREIGN, _FIRST_FOREIGN + 1)  # reading the list takes a descriptor
    try:
        listed = [int(name) for name in os.listdir("/proc/self/fd")]  # noqa: PTH208 - names alone are needed
    except OSError:
        return
    for descriptor in listed:
        if descriptor >= _FIRST_FOREIGN:
            os.closerange(descriptor, descriptor + 1)  # ignores the one that was the list


def forget_service_manager(environ: MutableMapping[str, str]) -> None:
    """Remove the variables that systemd addresses to the main process; a child must not notify or listen for it."""
    for name in _SERVICE_VARIABLES:
        environ.pop(name, None)


def controlling_terminal() -> int | None:
    """Return the first standard stream that is the controlling terminal; None when none is.

    A terminal that merely receives output, after ``setsid``, is none: its end is not announced to this process.
    """
    for descriptor in range(_FIRST_FOREIGN):
        try:
            os.tcgetpgrp(descriptor)
        except OSError:
            continue
        return descriptor
    return None
