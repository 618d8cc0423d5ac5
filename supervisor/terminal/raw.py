"""Terminal that gives keys one by one, and is as it was before on every way out."""

from __future__ import annotations

import contextlib
import os
import select
import signal
import termios
import tty
from collections.abc import Callable
from types import FrameType
from typing import Any, Final, Self

#: Signals that end the program; the exit code is that of a shell for a program that they killed.
_ENDING: Final = (signal.SIGTERM, signal.SIGHUP)
_KILLED: Final = 128
_READ: Final = 1_024


class RawTerminal:
    """Keyboard without line editing and echo; a context manager.

    Ctrl-C still interrupts. Ctrl-Z gives the terminal back until the program continues; SIGTERM and SIGHUP end it by
    :class:`SystemExit`, so that context managers run.

    Args:
        descriptor: Standard input; without a terminal there, no key is read.
        leave: Gives the screen back, before the program is suspended.
        enter: Takes the screen again, afterwards.
    """

    def __init__(self, descriptor: int, leave: Callable[[], object], enter: Callable[[], object]) -> None:
        self._descriptor = descriptor
        self._leave = leave
        self._enter = enter
        self._attributes: list[Any] | None = None
        self._handlers: dict[int, Any] = {}
        self._woken, self._waker = -1, -1
        self._previous_waker = -1

    def __enter__(self) -> Self:
        if os.isatty(self._descriptor):
            self._attributes = termios.tcgetattr(self._descriptor)
        self._woken, self._waker = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        self._previous_waker = signal.set_wakeup_fd(self._waker, warn_on_full_buffer=False)
        for number in _ENDING:
            if signal.getsignal(number) is not signal.SIG_IGN:  # nohup
                self._handle(number, _end)
        self._handle(signal.SIGTSTP, self._suspend)
        self._handle(signal.SIGCONT, self._resume)
        self._handle(signal.SIGWINCH, lambda *_: None)  # wakes :meth:`read`
        self._set_raw()
        return self

    def __exit__(self, *_: object) -> None:
        self._set_cooked()
        for number, handler in self._handlers.items():
            signal.signal(number, handler)
        signal.set_wakeup_fd(self._previous_waker)
        os.close(self._woken)
        os.close(self._waker)

    def read(self, timeout_s: float) -> bytes:
        """Return what was typed; nothing when it took longer than ``timeout_s``, or a signal came.

        Raises:
            EOFError: The terminal is gone.
        """
        sources = [self._woken] if self._attributes is None else [self._woken, self._descriptor]
        ready, _, _ = select.select(sources, [], [], max(0.0, timeout_s))
        if self._woken in ready:
            with contextlib.suppress(BlockingIOError):
                os.read(self._woken, _READ)
        if self._descriptor not in ready:
            return b""
        try:
            data = os.read(self._descriptor, _READ)
        except OSError as error:
            raise EOFError from error
        if not data:
            raise EOFError
        return data

    def _handle(self, number: int, handler: Callable[[int, FrameType | None], object]) -> None:
        self._handlers[number] = signal.signal(number, handler)

    def _set_raw(self) -> None:
        if self._attributes is not None:
            tty.setcbreak(self._descriptor, termios.TCSADRAIN)

    def _set_cooked(self) -> None:
        if self._attributes is not None:
            with contextlib.suppress(termios.error):  # the terminal is gone
                termios.tcsetattr(self._descriptor, termios.TCSADRAIN, self._attributes)

    def _suspend(self, number: int, _frame: FrameType | None) -> None:
        """Give the terminal back and stop, as the signal would have; goes on after SIGCONT."""
        self._leave()
        self._set_cooked()
        signal.signal(number, signal.SIG_DFL)
        signal.raise_signal(number)
        signal.signal(number, self._suspend)
        self._resume()

    def _resume(self, *_: object) -> None:
        """Take the terminal again; also after SIGSTOP, when the shell has set it as it likes."""
        self._set_raw()
        self._enter()


def _end(number: int, _frame: FrameType | None) -> None:
    raise SystemExit(_KILLED + number)
