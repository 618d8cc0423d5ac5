"""A verb as a person uses it: in the foreground of a terminal, with keys, signals and a size."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import sys
import termios
import threading
from typing import Self

from systems import System, wait_for

#: Runs a command in the foreground of a terminal as a shell does: says when it stops, and continues it after Enter.
SHELL = """
import os, signal, sys
os.login_tty(0)
signal.signal(signal.SIGTTOU, signal.SIG_IGN)
pid = os.fork()
if pid == 0:
    os.setpgid(0, 0)
    os.tcsetpgrp(0, os.getpid())
    signal.signal(signal.SIGTTOU, signal.SIG_DFL)
    os.execv(sys.argv[1], sys.argv[1:])
print("PID", pid, flush=True)
while True:
    _, status = os.waitpid(pid, os.WUNTRACED)
    os.tcsetpgrp(0, os.getpgrp())
    if not os.WIFSTOPPED(status):
        print("ENDED", os.waitstatus_to_exitcode(status), flush=True)
        break
    print("STOPPED", flush=True)
    sys.stdin.readline()
    os.tcsetpgrp(0, pid)
    os.kill(pid, signal.SIGCONT)
"""
CODES = re.compile(r"\x1b(?:\[[0-9;?]*[@-~]|\][^\x07]*\x07|[=>()][0-9A-Za-z]?)")
ENTERED, LEFT, CURSOR_SHOWN = "\x1b[?1049h", "\x1b[?1049l", "\x1b[?25h"
SCREEN_END = "\x1b[J"


def lines_of(frame: str) -> list[str]:
    """The lines of a frame, without codes."""
    return CODES.sub("", frame).replace("\r", "").split("\n")


class Session:
    """A verb on a running system in the foreground of a pseudo-terminal; a context manager."""

    def __init__(
        self, system: System, *arguments: str, verb: str = "top", rows: int = 24, columns: int = 80, **env: str
    ) -> None:
        self.master, self.slave = os.openpty()
        termios.tcsetwinsize(self.master, (rows, columns))
        self.before = termios.tcgetattr(self.slave)
        self._parts: list[bytes] = []
        command = [sys.executable, "-c", SHELL, sys.executable, "-m", "supervisor", verb]
        command += ["--run-dir", str(system.run_dir.path), *arguments]
        environment = {**os.environ, "TERM": "xterm-256color", "NO_COLOR": "", **env}
        standard = {"stdin": self.slave, "stdout": self.slave, "stderr": self.slave}
        self.shell = subprocess.Popen(command, env=environment, **standard)  # type: ignore[call-overload]
        self._thread = threading.Thread(target=self._read, args=(os.dup(self.master),), daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self.shell.poll() is None:
            with contextlib.suppress(ProcessLookupError, AttributeError):
                os.kill(self.pid, signal.SIGKILL)
            self.shell.kill()
        self.shell.wait()
        os.close(self.slave)
        self._thread.join(5)
        os.close(self.master)

    def _read(self, reader: int) -> None:
        """Read from a descriptor of its own: the number of a closed one may be that of the next session's terminal."""
        with contextlib.suppress(OSError):
            while data := os.read(reader, 65_536):
                self._parts.append(data)
        os.close(reader)

    @property
    def output(self) -> str:
        """Everything that was written."""
        return b"".join(self._parts).decode(errors="replace")

    @property
    def pid(self) -> int:
        """The pid of the verb."""
        found = wait_for(lambda: re.search(r"PID (\d+)", self.output))
        return int(found[1])

    @property
    def screen(self) -> list[str]:
        """The lines of the last whole frame, without codes."""
        frames = self.output.split("\x1b[H")
        frame = next((frame for frame in reversed(frames) if self._is_whole(frame)), frames[-1])
        return [line.rstrip() for line in lines_of(frame)]

    def _is_whole(self, frame: str) -> bool:
        """Whether all of a frame came: its last line is as long as the others, or it ends with a code."""
        rows, columns = termios.tcgetwinsize(self.master)
        lines = lines_of(frame)
        return SCREEN_END in frame or (len(lines) == rows and len(lines[-1]) >= columns)

    def press(self, keys: str) -> None:
        """Type."""
        os.write(self.master, keys.encode())

    def until(self, text: str, timeout_s: float = 30.0) -> list[str]:
        """Wait for a screen that contains a text, and return it."""

        def find() -> list[str] | None:
            screen = self.screen
            return screen if text in "\n".join(screen) else None

        try:
            found: list[str] = wait_for(find, timeout_s)
        except AssertionError as error:
            shown = "\n".join(self.screen)
            raise AssertionError(f"no {text!r} within {timeout_s} s:\n{shown}") from error
        return found

    def ended(self) -> int:
        """Wait for the end; check that the terminal is as before; return the exit code."""
        found = wait_for(lambda: re.search(r"ENDED (-?\d+)", self.output))
        assert termios.tcgetattr(self.slave) == self.before
        written = self.output
        assert written.rindex(LEFT) > written.rindex(ENTERED)
        assert written.rindex(CURSOR_SHOWN) > written.rindex("\x1b[?25l")
        return int(found[1])
