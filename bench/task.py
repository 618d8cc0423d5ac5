"""Task and result of the measured programs: a JSON object each way, on command line and stdout."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

#: Where the packages are.
ROOT = Path(__file__).resolve().parent.parent
_LIMIT_S = 120.0


@dataclass(frozen=True)
class Task:
    """Read ``frames`` frames of a venue's stream and measure the CPU time from the first ones that were handled.

    Attributes:
        venue: The venue.
        kind: Kind of frames; one of :data:`bench.frames.KINDS`.
        frames: Their number.
        ws_url: Base URL of the WebSocket side.
        rest_url: Base URL of the REST side.
        endpoint: Endpoint to publish on; empty for the program's default.
        subscribers: Number of subscribers to wait for before connecting.
        markets: Number of markets that the frames are about, in turn.
        warm: Frames of each market handled before the clock runs.
    """

    venue: str
    kind: str
    frames: int
    ws_url: str
    rest_url: str = ""
    endpoint: str = ""
    subscribers: int = 0
    markets: int = 1
    warm: int = 1

    @classmethod
    def of_command_line(cls) -> Task:
        """Return the task of this program."""
        return cls(**json.loads(sys.argv[1]))


@dataclass(frozen=True)
class TaskResult:
    """Result of a task.

    Attributes:
        frames: Frames handled while the clock ran.
        cpu_s: CPU time of the whole process meanwhile.
        thread_s: Of that, the thread that reads; 0 where unknown.
        wall_s: Real time meanwhile.
        is_complete: Whether the last frame was handled.
    """

    frames: int
    cpu_s: float
    wall_s: float
    is_complete: bool
    thread_s: float = 0.0

    @property
    def us_per_frame(self) -> float:
        """CPU time of the process a frame, µs."""
        return self.cpu_s / max(self.frames, 1) * 1e6


def reply(outcome: TaskResult) -> None:
    """Print the result and exit at once, without waiting for threads and sockets."""
    print(json.dumps(asdict(outcome)), flush=True)
    os._exit(0)


def ask(python: str | Path, module: str, task: Task) -> TaskResult:
    """Run a measured program to its end.

    Raises:
        RuntimeError: It failed, or did not handle every frame.
    """
    command = [str(python), "-m", module, json.dumps(asdict(task))]
    try:
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=_LIMIT_S, check=False)
    except subprocess.TimeoutExpired:
        raise RuntimeError(f"{module} on {task.venue} {task.kind}: not done within {_LIMIT_S:g} s") from None
    if done.returncode:
        raise RuntimeError(f"{module} failed on {task.venue} {task.kind}: {done.stderr.strip()[-800:]}")
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    outcome = TaskResult(**found)
    if not outcome.is_complete:
        raise RuntimeError(f"{module} on {task.venue} {task.kind}: not every one of {task.frames} frames was handled")
    return outcome
