"""Command line: table of verbs and conversion of errors. Each verb is imported when it is used."""

from __future__ import annotations

import errno
import importlib
import io
import os
import sys
import traceback
from collections.abc import Sequence
from types import TracebackType
from typing import Any, Final, NoReturn

import click
from click.shell_completion import CompletionItem

from ipc.errors import ConfigError, ForeignSystemError, ParaphinaError, UnknownStateError, UsageError
from ipc.printable import printable, printable_lines
from supervisor.process_state import discard, open_standard_streams, reset_signals

#: Verb to its module and its help line, so that help needs no import.
_VERBS: Final = {
    "start": ("supervisor.verbs.start", "Run the system, one supervised process per venue, or start a stopped venue."),
    "stop": ("supervisor.verbs.control", "Stop a running system, or one venue."),
    "restart": ("supervisor.verbs.control", "Restart one worker, or all of them."),
    "reload": ("supervisor.verbs.control", "Apply a changed configuration."),
    "status": ("supervisor.verbs.status", "Show how the system is, and why."),
    "top": ("supervisor.verbs.top", "Show verdict, venues, what happened and prices, redrawn."),
    "logs": ("supervisor.verbs.logs", "Show the log of a background system."),
    "tail": ("supervisor.verbs.inspect", "Print events as they come."),
    "book": ("supervisor.verbs.inspect", "Show an order book."),
    "funding": ("supervisor.verbs.inspect", "Show the funding rates of all venues."),
    "drill": ("supervisor.verbs.drill", "Inject faults and measure the recovery."),
    "shadow": ("supervisor.verbs.shadow", "Watch a running system and report on it."),
    "report": ("supervisor.verbs.shadow", "Judge a shadow run, or compare two."),
    "record": ("supervisor.verbs.record", "Record a running system's feeds into a journal."),
    "verify": ("supervisor.verbs.journal", "Check that recordings are complete and correct."),
    "convert": ("supervisor.verbs.journal", "Convert a journal into Parquet files."),
    "replay": ("supervisor.verbs.journal", "Publish a journal again, in a separate run directory."),
    "fixture": ("supervisor.verbs.fixture", "Manage recordings of raw frames, to be played instead of a venue."),
    "scenario": ("supervisor.verbs.scenario", "Play scenario files through a venue's sessions."),
    "decode": ("supervisor.verbs.decode", "Turn raw frames into normalised events."),
    "check": ("supervisor.verbs.check", "Check whether a system can run here."),
    "keys": ("supervisor.verbs.keys", "Create and list the keys of feeds over TCP."),
    "config": ("supervisor.verbs.config", "Show or validate the configuration."),
    "schema": ("supervisor.verbs.schema", "Print the JSON Schema of the events."),
    "sim": ("supervisor.verbs.sim", "Run the simulated venues in the foreground."),
    "worker": ("supervisor.verbs.worker", "Run one venue in the foreground, without a parent."),
}

#: Errors of a write for which there is no room.
_NO_ROOM: Final = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO})


class _Verbs(click.Group):
    """Click group that imports a verb when it is called."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - click's signature
        """Return the verbs in the order of the table."""
        return list(_VERBS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002
        """Import a verb."""
        place = _VERBS.get(cmd_name)
        if place is None:
            return None
        command = getattr(importlib.import_module(place[0]), cmd_name)
        assert isinstance(command, click.Command)  # noqa: S101 - true for every entry of the table
        return command

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        """Return the verbs and options that begin with a text, without importing any verb."""
        verbs = [CompletionItem(name, help=text) for name, (_, text) in _VERBS.items() if name.startswith(incomplete)]
        return [*verbs, *super(click.Group, self).shell_complete(ctx, incomplete)]

    def invoke(self, ctx: click.Context) -> Any:
        """Run a verb; a closed output pipe is no failure, and another user's system is to be asked by that user."""
        try:
            return super().invoke(ctx)
        except ForeignSystemError as error:
            raise ForeignSystemError(error.owner, ctx.invoked_subcommand or "") from error
        except BrokenPipeError:
            discard(sys.stdout)
            return 0

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002
        """Write the list of verbs without importing any."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, text) for name, (_, text) in _VERBS.items()])


@click.command(cls=_Verbs, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="paraphina-supervisor", message="%(version)s")
def paraphina_supervisor() -> None:
    """Market-data feeds from five perpetual-futures venues, one supervised process each.

    Exit codes: 0 ok, 1 degraded, 2 usage or configuration, 3 not running, 4 unknown.
    """


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line; print each expected error in one line and exit with its code."""
    open_standard_streams()
    reset_signals()
    sys.excepthook = _show_bug
    try:
        code = paraphina_supervisor.main(
            args=arguments,
            prog_name="paraphina-supervisor",
            standalone_mode=False,
            color=False if os.environ.get("NO_COLOR") else None,  # no-color.org; click does not read it
        )
    except click.Abort:
        sys.exit(130)
    except click.ClickException as error:
        shown = io.StringIO()
        error.show(shown)
        _report(shown.getvalue().rstrip())
        sys.exit(error.exit_code)
    except ParaphinaError as error:
        _leave(error)
    except OSError as error:
        _leave(_refused(error))
    sys.exit(code if isinstance(code, int) else 0)


def _show_bug(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """Print the traceback of an unexpected error, whose text may come from outside."""
    _report("".join(traceback.format_exception(kind, error, trace)).rstrip())


def _leave(error: ParaphinaError) -> NoReturn:
    lines = error.problems if isinstance(error, ConfigError) else [str(error)]
    _report("\n".join(printable(f"paraphina-supervisor: {line}") for line in lines))
    sys.exit(error.exit_code)


def _report(text: str) -> None:
    """Print an error; a standard error that cannot be written does not change the exit code."""
    try:
        click.echo(printable_lines(text), err=True)
    except OSError:
        discard(sys.stderr)


def _refused(error: OSError) -> ParaphinaError:
    """Convert an error that the user can fix: a path that cannot be used, or output that cannot be written.

    Raises:
        OSError: It is neither, and so a bug.
    """
    if error.filename is not None:
        return UsageError(f"cannot be used: {error.strerror}", where=os.fsdecode(error.filename))
    if error.errno not in _NO_ROOM:
        raise error
    discard(sys.stdout)
    return UnknownStateError(f"the output cannot be written: {error.strerror}")
