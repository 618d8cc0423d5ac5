"""PID namespace of this process: pids that another one wrote mean nothing here when it has another namespace."""

from __future__ import annotations

import os


def pid_namespace() -> int | None:
    """Return the inode of this process's PID namespace; None without /proc."""
    try:
        return os.stat("/proc/self/ns/pid").st_ino  # noqa: PTH116 - pathlib costs start-up time of ``status``
    except OSError:
        return None
