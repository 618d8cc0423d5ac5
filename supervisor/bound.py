"""``python -m supervisor.bound PID VERB …``: the command line, asked to stop when the process that started it is gone.

The kernel sends SIGTERM when the thread that started it ends, however that ends, so start it from the main thread.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys
from typing import Final

from supervisor.cli import main

_PR_SET_PDEATHSIG: Final = 1


def bound_command(*arguments: str) -> list[str]:
    """Return the command that runs the command line with these arguments, bound to this process."""
    return [sys.executable, "-m", "supervisor.bound", str(os.getpid()), *arguments]


def run(arguments: list[str]) -> None:
    """Run the command line for the process that the first argument names; do nothing if it is gone already."""
    starter, *rest = arguments
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
    if os.getppid() == int(starter):
        main(rest)


if __name__ == "__main__":
    run(sys.argv[1:])
