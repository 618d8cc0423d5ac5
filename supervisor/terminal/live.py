"""Loop of ``top`` at a terminal: keys in, screens out, twice a second."""

from __future__ import annotations

import os
import sys
import time
from dataclasses import replace
from typing import Final

from rich.console import Console
from rich.live import Live
from rich.text import Text

from ipc.control import UNKILLABLE_STATES, ControlRequest, ask
from ipc.errors import ParaphinaError
from ipc.rundir import RunDir
from supervisor.overview.document import Overview
from supervisor.terminal.raw import RawTerminal
from supervisor.terminal.screen import render
from supervisor.terminal.view import View, ViewCommand, chosen_venue, keys_in, pressed
from supervisor.terminal.watcher import Watcher

_REDRAW_S: Final = 0.5
_DRAIN_S: Final = 0.25
#: Longest wait for the supervisor's answer: nothing is redrawn meanwhile.
_ANSWER_S: Final = 2.0


def watch(watcher: Watcher, directory: RunDir) -> None:
    """Show the system until the user quits; the terminal is restored on every way out."""
    # Of a size in the environment nobody would say that it has changed.
    environ = {name: value for name, value in os.environ.items() if name not in {"COLUMNS", "LINES"}}
    console = Console(file=sys.stdout, highlight=False, _environ=environ)
    with Live(console=console, auto_refresh=False, screen=True, redirect_stdout=False, redirect_stderr=False) as live:

        def leave() -> None:
            console.set_alt_screen(enable=False)
            console.show_cursor(show=True)

        def enter() -> None:
            console.set_alt_screen(enable=True)
            console.show_cursor(show=False)

        with RawTerminal(sys.stdin.fileno(), leave, enter) as terminal:
            _Loop(watcher, directory, terminal, live).run()


class _Loop:
    """Loop with its state: the view, and the overview that is shown."""

    def __init__(self, watcher: Watcher, directory: RunDir, terminal: RawTerminal, live: Live) -> None:
        self._watcher = watcher
        self._directory = directory
        self._terminal = terminal
        self._live = live
        self._view = View()
        self._shown = watcher.overview()
        #: Why the state cannot be read now; empty while it can.
        self._error = ""

    def run(self) -> None:
        """Redraw and handle keys until ``q``, or until the terminal is gone."""
        due = 0.0
        while True:
            now = time.monotonic()
            if now >= due:
                due = now + _REDRAW_S
                self._update()
                self._draw()
            try:
                data = self._terminal.read(min(_DRAIN_S, due - now))
            except EOFError:
                return
            self._watcher.drain()
            for key in keys_in(data):
                self._view, command = pressed(self._view, key, self._shown)
                if command is not None:
                    if command.verb == "quit":
                        return
                    self._restart(command)
            if data:
                self._draw()

    def _update(self) -> None:
        """Read the state of now, also while paused: the past is recorded."""
        try:
            overview = self._watcher.overview()
        except ParaphinaError as error:
            self._error = str(error)
            return
        self._error = ""
        if not self._view.is_paused:
            self._shown = overview

    def _draw(self) -> None:
        console = self._live.console
        view = replace(self._view, message=self._view.message or self._error)
        self._live.update(render(self._shown, view, *console.size, self._log(console.height)), refresh=True)

    def _log(self, count: int) -> list[str]:
        venue = chosen_venue(self._view, self._shown)
        if self._view.mode != "log" or venue is None:
            return []
        try:
            return self._watcher.log_lines(venue.name, count)
        except ParaphinaError as error:
            return [str(error)]

    def _restart(self, command: ViewCommand) -> None:
        """Ask the supervisor to restart a worker; its answer is the message."""
        self._view = replace(self._view, message=f"{command.venue}: asking the supervisor …")
        self._draw()
        try:
            reply = ask(self._directory.control, ControlRequest("restart", target=command.venue), _ANSWER_S)
        except ParaphinaError as error:
            message = str(error)
        else:
            is_stuck = not UNKILLABLE_STATES.isdisjoint(reply.data.get("states", {}).values())
            message = f"{command.venue}: {'not restarted, its process survived SIGKILL' if is_stuck else 'restarting'}"
        self._view = replace(self._view, message=message)


def show_once(overview: Overview, width: int | None) -> None:
    """Print the overview; ``width`` None for that of the terminal."""
    console = Console(file=sys.stdout, highlight=False, width=width)
    shown: Text = render(overview, View(), console.width, None)
    console.print(shown)
