"""Programs at a terminal of 100 columns, with each of their outputs there or in a pipe."""

from __future__ import annotations

import os
import pty
import subprocess
import sys
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[2]


class Ran(NamedTuple):
    """What a program wrote: to the terminal, to the pipes of its outputs, and its exit code."""

    shown: str
    out: str
    err: str
    code: int


def at_terminal(
    arguments: Sequence[str], *, is_error_terminal: bool = True, is_output_terminal: bool = False, **env: str
) -> Ran:
    """Run Python with ``arguments`` in an environment without CI."""
    master, slave = pty.openpty()
    shown = bytearray()

    def read() -> None:
        while True:
            try:
                data = os.read(master, 65_536)
            except OSError:
                return
            if not data:
                return
            shown.extend(data)

    reader = threading.Thread(target=read, daemon=True)
    reader.start()
    done = subprocess.run(
        [sys.executable, *arguments],
        cwd=ROOT,
        env={"PATH": os.environ["PATH"], "TERM": "xterm-256color", "COLUMNS": "100", **env},
        stdin=subprocess.DEVNULL,
        stdout=slave if is_output_terminal else subprocess.PIPE,
        stderr=slave if is_error_terminal else subprocess.PIPE,
        timeout=120,
        check=False,
    )
    os.close(slave)
    reader.join(20)
    os.close(master)
    return Ran(shown.decode(), (done.stdout or b"").decode(), (done.stderr or b"").decode(), done.returncode)
