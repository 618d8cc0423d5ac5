"""Fork of a child process and its first steps.

Fork is safe only from a single thread, which is checked. A child gets its own process group, dies with its parent
(PR_SET_PDEATHSIG follows the forking thread, the only one), closes all inherited descriptors but the standard streams,
and ends with ``os._exit``, so that no exit handler of the parent runs in it.
"""

from __future__ import annotations

import atexit
import ctypes
import faulthandler
import gc
import importlib
import os
import signal
import sys
import tempfile
from collections.abc import Callable, Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from ipc.errors import ConfigError, ParaphinaError
from ipc.log import get_log
from supervisor.proc import is_stopped, is_traced
from supervisor.process_state import (
    close_foreign_descriptors,
    forget_service_manager,
    reset_signals_of_child,
    unblock_signals,
)

log = get_log(__name__)

#: sysexits.h EX_CONFIG: no retry can fix it.
CONFIG_EXIT: Final = 78
_CRASH_EXIT: Final = 1
_PR_SET_PDEATHSIG: Final = 1
#: Descriptors of the two pipes that multiprocess opens for a child.
_PIPE_ENDS: Final = 4
_libc: Final = ctypes.CDLL(None, use_errno=True)


def _import_multiprocess() -> Any:
    """Return the package multiprocess.

    Its import takes the name of a directory of temporary files, and fails where no such directory can be written, as on
    a read-only root without ``/tmp``. It writes nothing there, so any name will do.
    """
    before, tempfile.tempdir = tempfile.tempdir, os.sep
    try:
        importlib.import_module("multiprocess.util")
        return importlib.import_module("multiprocess")
    finally:
        tempfile.tempdir = before


_multiprocess: Final = _import_multiprocess()
_context: Final = _multiprocess.get_context("fork")


class ForkError(ParaphinaError):
    """Fork that the kernel refused for lack of resources."""


@dataclass(slots=True)
class ForkedProcess:
    """Handle of a forked process; ``pidfd`` becomes readable when it exits."""

    process: Any
    pid: int
    pidfd: int

    def signal(self, number: int) -> None:
        """Send a signal; by pidfd, so that it never reaches another process with the same pid."""
        try:
            signal.pidfd_send_signal(self.pidfd, number)
        except ProcessLookupError:
            return
        except OSError:  # refused, as by a seccomp profile that does not know the call
            _signal_unreaped(os.kill, self.pid, number)

    def kill_group(self) -> None:
        """Send SIGKILL to the process and its group."""
        self.signal(signal.SIGKILL)
        _signal_unreaped(os.killpg, self.pid, signal.SIGKILL)

    def is_stopped(self) -> bool:
        """Return whether it is stopped (state T) and so reacts to SIGKILL and SIGCONT alone."""
        return is_stopped(self.pid)

    def is_traced(self) -> bool:
        """Return whether a debugger holds one of its threads."""
        return is_traced(self.pid)

    def reap(self) -> tuple[int | None, int | None]:
        """Reap the process; return (exit code, None) or (None, signal). Only once ``pidfd`` is readable."""
        self.process.join()
        code = int(self.process.exitcode)
        self.process.close()
        os.close(self.pidfd)
        return (code, None) if code >= 0 else (None, -code)


def prepare() -> None:
    """Freeze the garbage collector's objects; call once, after all imports and before the first fork.

    Pages that the collector never touches stay shared: a child takes 11 MiB instead of 19. The exit handler of
    multiprocess, which would wait for children that do not exit by themselves, is removed: they die with the parent.
    """
    atexit.unregister(_multiprocess.util._exit_function)  # noqa: SLF001 - it has no public switch
    gc.collect()
    gc.freeze()


def spawn(name: str, target: Callable[[], None]) -> ForkedProcess:
    """Fork a child that runs ``target``.

    Raises:
        ForkError: The kernel refused.
        RuntimeError: This process has more than one thread.
    """
    try:
        threads, before = _numbers("task"), _descriptors()
    except OSError as error:  # reading /proc takes a descriptor
        raise ForkError(f"cannot fork {name}: {error.strerror}") from error
    if len(threads) != 1:
        raise RuntimeError("the parent must have one thread when it forks")
    parent = os.getpid()
    process = _context.Process(target=_child, args=(target, name, parent), name=name)
    blocked = signal.pthread_sigmask(signal.SIG_SETMASK, signal.valid_signals())
    try:
        process.start()
        pidfd = os.pidfd_open(process.pid)
    except OSError as error:
        _undo(process, before)
        raise ForkError(f"cannot fork {name}: {error.strerror}") from error
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, blocked)
    return ForkedProcess(process, process.pid, pidfd)


def reap_orphans(own: Collection[int]) -> None:
    """Reap exited children that this process inherited, as PID 1 of a container does, but none of its ``own``.

    The exit code of an own child belongs to its :class:`ForkedProcess`. When the kernel shows one first, the orphans
    behind it are left for the next call.
    """
    while (pid := _first_exited(os.P_ALL, 0)) and pid not in own:
        os.waitpid(pid, 0)


def _first_exited(kind: int, pid: int) -> int | None:
    """Return the pid of an exited child, which stays unreaped; 0 when all run, None when there is no such child."""
    try:
        seen = os.waitid(kind, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    except ChildProcessError:
        return None
    return seen.si_pid if seen is not None else 0


def _signal_unreaped(send: Callable[[int, int], None], pid: int, number: int) -> None:
    """Signal a child by pid; only while it is not reaped, because the kernel may reuse the pid from then on.

    Forking another child makes multiprocess reap those that have exited.
    """
    if _first_exited(os.P_PID, pid) is None:
        return
    try:
        send(pid, number)
    except ProcessLookupError:
        return  # no process in the group
    except PermissionError as error:
        log.warning("child.signal_refused", worker_pid=pid, number=number, error=error.strerror)


def _descriptors() -> set[int]:
    """Return the open descriptors, without the one that reading the list takes."""
    return {descriptor for descriptor in _numbers("fd") if _is_open(descriptor)}


def _numbers(kind: str) -> list[int]:
    return [int(path.name) for path in Path("/proc/self", kind).iterdir()]


def _is_open(descriptor: int) -> bool:
    try:
        os.fstat(descriptor)
    except OSError:
        return False
    return True


def _undo(process: Any, before: set[int]) -> None:
    """Kill a child that cannot be watched, and close the pipes that multiprocess leaves open when a fork fails."""
    if process.pid is not None:
        _signal_unreaped(os.kill, process.pid, signal.SIGKILL)
        process.join()
    # The kernel assigns the lowest free numbers. Try each: there may be no descriptor left to read the list with.
    for descriptor in range(max(before) + _PIPE_ENDS + 1):
        if descriptor not in before and _is_open(descriptor):
            os.close(descriptor)


def _child(target: Callable[[], None], name: str, parent: int) -> None:
    """Run ``target`` in the child and exit."""
    code = _CRASH_EXIT
    try:
        _enter(parent)
        target()
        code = 0
    except ConfigError as error:
        log.error("child.config_error", child=name, error=str(error))
        code = CONFIG_EXIT
    except BaseException:
        log.exception("child.crashed", child=name)
    finally:
        _leave(code)


def _enter(parent: int) -> None:
    reset_signals_of_child()
    os.setpgid(0, 0)
    _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(_CRASH_EXIT)
    close_foreign_descriptors()
    forget_service_manager(os.environ)
    faulthandler.register(signal.SIGUSR1, file=2, all_threads=True, chain=False)
    unblock_signals()


def _leave(code: int) -> None:
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except (OSError, ValueError):
            continue
    os._exit(code)
