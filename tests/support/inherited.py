"""What a test run inherits from whatever started it, and must not depend on: signals that are ignored or blocked."""

from __future__ import annotations

import signal
from typing import Final

__all__ = ["reset_signals"]

#: By the interpreter itself; ``subprocess`` takes it back in its children.
_IGNORED_BY_PYTHON: Final = {signal.SIGPIPE, signal.SIGXFSZ}


def _go_on(*_: object) -> None:
    """Handle a hangup: the run that was started under nohup goes on."""


def reset_signals() -> None:
    """Handle signals as a process does that a shell started in the foreground, so that the processes of tests do.

    A handler, unlike SIG_IGN, ends with ``exec``: programs that tests start die of SIGHUP again, the run does not.
    """
    if signal.getsignal(signal.SIGHUP) is signal.SIG_IGN:
        signal.signal(signal.SIGHUP, _go_on)
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    for number in signal.valid_signals() - _IGNORED_BY_PYTHON:
        if signal.getsignal(number) is signal.SIG_IGN:
            signal.signal(number, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
