"""``paraphina-supervisor`` that reports what its processes load after the first fork: modules and files of packages.

Run it with a directory before the arguments. Each process writes there what it loads, a JSON array a line, into a file
with its name and pid.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import supervisor.parent
from supervisor.cli import main
from supervisor.system import System

ROOTS = (sys.prefix, sys.base_prefix, str(Path(__file__).parents[2]))
#: Read for tracebacks alone.
SOURCE = (".py",)


def report(directory: str, name: str) -> None:
    """Report everything that this process loads from now on."""
    file = os.open(Path(directory, f"{name}.{os.getpid()}"), os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        loaded = arguments[0] if event in {"import", "open"} else None
        if event == "open" and not (isinstance(loaded, str) and loaded.startswith(ROOTS)):
            return
        if isinstance(loaded, str) and not loaded.endswith(SOURCE) and os.getpid() == pid:
            os.write(file, json.dumps([event, loaded]).encode() + b"\n")

    pid = os.getpid()
    sys.addaudithook(hook)


def install(directory: str) -> None:
    """Report from the parent when it is prepared, and from each child when it begins."""
    run, prepare = System.run_child, supervisor.parent.prepare

    def run_child(system: System, name: str, *more: Any) -> None:
        report(directory, name)
        run(system, name, *more)

    def prepared(real: Callable[[], None] = prepare) -> None:
        real()
        report(directory, "parent")

    System.run_child = run_child  # type: ignore[method-assign]
    supervisor.parent.prepare = prepared


if __name__ == "__main__":
    install(sys.argv.pop(1))
    main()
