"""Progress of long verbs at a terminal; nothing anywhere else."""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final, TypeAlias

#: Receives how much is done and, if there is more to say, a short text beside it. Any thread may call it.
Advance: TypeAlias = Callable[[float, str], None]

_REDRAW_S: Final = 0.2


def is_shown() -> bool:
    """Return whether a person watches: standard error is a terminal that can move its cursor, and this is no CI job."""
    return sys.stderr.isatty() and not os.environ.get("CI") and os.environ.get("TERM", "") not in {"", "dumb"}


@contextmanager
def progress(what: str, total: float = 1.0, *, is_counted: bool = False) -> Iterator[Advance]:
    """Show a bar on standard error while the body runs, and remove it afterwards; do nothing without a terminal.

    Args:
        what: What is done, for example ``converting``.
        total: How much is to do.
        is_counted: Show "n of m" in place of a percentage.
    """
    if not is_shown():
        yield lambda _done, _text: None
        return
    from rich.console import Console  # noqa: PLC0415 - costs 60 ms, and is for terminals only
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn  # noqa: PLC0415
    from rich.table import Column  # noqa: PLC0415

    amount = "{task.completed:.0f} of {task.total:.0f}" if is_counted else "{task.percentage:.0f} %"
    columns = (
        TextColumn(what, markup=False),
        BarColumn(bar_width=16),
        TextColumn(amount),
        TimeRemainingColumn(),
        TextColumn(
            "{task.fields[text]}", markup=False, table_column=Column(no_wrap=True, overflow="ellipsis", ratio=1)
        ),
    )
    # Redrawn here, not from a thread, because `verify` forks. Standard output is rich's business only where it is the
    # same terminal; elsewhere its lines would end up on standard error.
    bar = Progress(
        *columns,
        console=Console(stderr=True),
        auto_refresh=False,
        transient=True,
        expand=True,
        redirect_stdout=sys.stdout.isatty(),
    )
    with bar:
        task = bar.add_task(what, total=total, text="")
        lock, due = threading.Lock(), 0.0

        def advance(done: float, text: str) -> None:
            nonlocal due
            with lock:
                bar.update(task, completed=done, text=text)
                if time.monotonic() >= due:
                    due = time.monotonic() + _REDRAW_S
                    bar.refresh()

        yield advance
