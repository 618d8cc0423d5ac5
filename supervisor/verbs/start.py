"""``start``: run the system in the foreground or background."""

from __future__ import annotations

import contextlib
import os
import select
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click
from click.core import ParameterSource

from ipc.errors import ConfigError, ParaphinaError, UsageError
from ipc.printable import printable
from supervisor.verbs.completion import complete_venue, complete_venues
from supervisor.verbs.options import (
    FiniteRange,
    configured_run_dir,
    end_as_interrupted,
    json_option,
    open_run_dir,
    print_json,
    run_dir_option,
)

if TYPE_CHECKING:
    from ipc.rundir import RunDir
    from supervisor.config import Config
    from supervisor.http_address import PortChoice
    from supervisor.system import SimulatorPlan

#: Parameters that go with a VENUE.
_OPTIONS_OF_VENUE: Final = frozenset({"venue", "run_dir", "as_json"})
#: Time allowed for the background process to fork all children.
_READY_S: Final = 30.0


class Duration(click.ParamType[float]):
    """Duration in seconds, or a number followed by ``s``, ``m`` or ``h``."""

    name = "duration"
    _UNITS: Final = {"s": 1.0, "m": 60.0, "h": 3600.0}

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """Return the duration in seconds."""
        text = str(value)
        unit = self._UNITS.get(text[-1:], 0.0)
        try:
            seconds = float(text[:-1]) * unit if unit else float(text)
        except ValueError:
            seconds = -1.0
        if not 0 < seconds < float("inf"):
            self.fail(f"{text!r} is no duration; write 90, 90s, 5m or 2h", param, ctx)
        return seconds


@click.command()
@click.argument("venue", required=False, shell_complete=complete_venue)
@click.option("--sim", is_flag=True, help="Use the built-in simulated venues: no internet, no keys.")
@click.option(
    "--sim-rate", type=FiniteRange(1, 1000), default=50.0, show_default=True, help="Frames per second and venue."
)
@click.option("--sim-seed", type=int, default=1, show_default=True, help="Same seed, same market.")
@click.option("--sim-tls", is_flag=True, help="Let the simulated venues speak TLS, as the real ones do.")
@click.option("--venues", metavar="A,B", help="Only these venues.", shell_complete=complete_venues)
@click.option("--lines", type=click.IntRange(1, 2), help="Processes per venue: with two, one may fail unnoticed.")
@click.option("--config", "config_path", metavar="FILE", help="A TOML file; see etc/paraphina.toml.")
@run_dir_option
@click.option("--for", "for_s", type=Duration(), metavar="DURATION", help="Stop after so long: 90, 5m, 2h.")
@click.option("--detach", is_flag=True, help="Go to the background once everything is forked.")
@json_option
@click.pass_context
def start(
    context: click.Context,
    venue: str | None,
    sim: bool,
    sim_rate: float,
    sim_seed: int,
    sim_tls: bool,
    venues: str | None,
    lines: int | None,
    config_path: str | None,
    run_dir: str | None,
    for_s: float | None,
    detach: bool,
    as_json: bool,
) -> int:
    """Run the system: one process per venue, supervised. Or start VENUE again, which `stop VENUE` has stopped.

    TERM and INT shut it down gracefully; a second signal stops it at once. HUP reloads the configuration. A terminal
    that is closed shuts it down as well, except under nohup. --json is for VENUE and --detach.
    """
    if venue is not None:
        return _start_venue(context, venue, run_dir, as_json=as_json)
    if as_json and not detach:
        raise UsageError(
            "a system in the foreground has no answer to print", where="--json", advice="its log is JSON already"
        )
    from supervisor.process_state import reset_process_state

    reset_process_state()
    from supervisor.config import load
    from supervisor.machine import require_machine

    require_machine()
    if detach and os.getpid() == 1:
        raise UsageError(
            "PID 1 cannot go to the background: its end ends the container",
            where="--detach",
            advice="start it without --detach; the runtime keeps its log",
        )
    if os.getpid() == 1:
        end_as_interrupted()  # until the parent has its handlers: the kernel gives PID 1 no signal without one
    flags: dict[str, object] = {}
    if venues is not None:
        flags["supervisor.venues"] = venues
    if lines is not None:
        flags["supervisor.lines"] = lines
    if run_dir is not None:
        flags["supervisor.run_dir"] = run_dir

    def read() -> Config:
        return load(config_path, os.environ, flags)

    config = read()
    directory = configured_run_dir(config.run_dir)
    if sim_tls and not sim:
        raise UsageError("there are no simulated venues", where="--sim-tls", advice="it goes with --sim")
    ca_path = str(directory.simulator_ca) if sim_tls else ""
    simulated = partial(_simulation, rate=sim_rate, seed=sim_seed, ca_path=ca_path) if sim else None
    if detach:
        return _detach(read, directory, simulated, for_s, as_json=as_json)
    return _run(read, directory, simulated, for_s, _say, None)


def _start_venue(context: click.Context, venue: str, run_dir: str | None, *, as_json: bool) -> int:
    """Start a stopped venue of a running system.

    Raises:
        UsageError: An option is given that belongs to the start of a system.
    """
    from supervisor.verbs.control import start_venue

    given = [name for name in context.params if context.get_parameter_source(name) is ParameterSource.COMMANDLINE]
    others = [parameter for parameter in context.command.params if parameter.name in {*given} - _OPTIONS_OF_VENUE]
    if others:
        raise UsageError(
            f"starts a system, and {venue} is a venue of one that runs",
            where=others[0].opts[0],
            advice=f"leave it out; to start a system with this venue alone: --venues {venue}",
        )
    return start_venue(open_run_dir(run_dir), venue, as_json=as_json)


def _say(line: str) -> None:
    """Print a milestone, unless standard output was closed, or takes nothing now: a terminal after Ctrl-S."""
    from supervisor.process_state import discard

    try:
        if not select.select([], [1], [], 0)[1]:
            return
        sys.stdout.write(printable(line) + "\n")
        sys.stdout.flush()
    except OSError:
        discard(sys.stdout)


def _run(
    read: Callable[[], Config],
    directory: RunDir,
    simulated: Callable[[Config], SimulatorPlan] | None,
    for_s: float | None,
    say: Callable[[str], None],
    ready: Callable[[], None] | None,
    log_file: Path | None = None,
) -> int:
    """Supervise in this process; ``log_file`` is the file that standard error goes to, when we rotate it."""
    from ipc import log
    from supervisor.http_address import PortChoice
    from supervisor.lock import Instance
    from supervisor.parent import Parent
    from supervisor.preload import preload
    from supervisor.system import System, program_version
    from workers.accounts.process_hardening import harden_process
    from workers.net.dial import tls_context

    config = read()
    log.setup(config.log_level)
    instance = Instance(directory)  # before any file is written: another system may be using it
    harden_process()
    simulation = None if simulated is None else simulated(config)
    ports = PortChoice()
    config = _with_port(_redirected(config, simulation), ports)
    if simulation is None or simulation.settings.tls:
        for venue in config.venues.values():
            tls_context(venue.dial.ca_file)

    def reread() -> Config:
        return _with_port(_redirected(read(), simulation), ports)

    is_serving = config.gateway.http is not None
    preload(config.venues, os.environ, is_simulated=simulated is not None, is_serving=is_serving)
    system = System(config, directory, simulation, reread, log_file)
    parent = Parent(system, directory, instance, say)
    say(f"paraphina-supervisor {program_version()}, pid {os.getpid()}, run directory {directory.path}")
    for venue in config.venues.values():
        if venue.single_line is not None:
            say(f"{venue.name} has one line: {venue.single_line}")
    if system.http is not None:
        say(f"status page and metrics: {system.http}")
    try:
        return parent.run(for_s, ready)
    except ConfigError:
        raise
    except Exception:
        log.get_log(__name__).exception("supervisor.crashed")
        raise
    finally:
        instance.close()


def _simulation(config: Config, rate: float, seed: int, ca_path: str) -> SimulatorPlan:
    """Plan a simulator of the configured venues on free ports.

    With a ``ca_path`` it speaks TLS, and this process and its children trust only its CA.
    """
    from simulator.settings import SimSettings, admin_url, endpoints, pick_ports
    from simulator.tls import contexts
    from supervisor.system import SimulatorPlan

    ports = pick_ports(tuple(config.venues))
    settings = SimSettings(
        ports=ports.venues,
        admin_port=ports.admin,
        venues=tuple(config.venues),
        bases=config.bases,
        rate=rate,
        seed=seed,
        tls=bool(ca_path),
        ca_path=ca_path,
    )
    tls_contexts = contexts(settings)
    if ca_path:
        os.environ["SSL_CERT_FILE"] = ca_path
    urls = {name: (url.ws, url.rest) for name, url in endpoints(settings).items()}
    return SimulatorPlan(settings, admin_url(settings), urls, tls_contexts)


def _redirected(config: Config, simulation: SimulatorPlan | None) -> Config:
    """Replace the venues' addresses in the configuration by the simulator's, which are reached directly."""
    from dataclasses import replace

    from ipc.remote import is_loopback
    from supervisor.config import LineConfig
    from workers.net.proxy import DIRECT, DialOptions

    if simulation is None:
        return config
    venues = {}
    for name, venue in config.venues.items():
        ws_url, rest_url = simulation.urls.get(name, (venue.ws_url, venue.rest_url))
        line_b = venue.line_b
        if line_b is not None:
            address = line_b.dial.source_address
            dial = DialOptions(source_address=address if address is not None and is_loopback(address) else None)
            line_b = LineConfig(ws_url, rest_url, dial)
        venues[name] = replace(venue, ws_url=ws_url, rest_url=rest_url, dial=DIRECT, line_b=line_b)
    return replace(config, venues=venues)


def _with_port(config: Config, ports: PortChoice) -> Config:
    """Replace port 0 of the HTTP server by the one that was chosen at the start of the system."""
    from dataclasses import replace

    return replace(config, gateway=replace(config.gateway, http=ports.resolve(config.gateway.http)))


def _detach(
    read: Callable[[], Config],
    directory: RunDir,
    simulated: Callable[[Config], SimulatorPlan] | None,
    for_s: float | None,
    *,
    as_json: bool,
) -> int:
    """Fork into the background; return when all children run, or report what failed."""
    from supervisor.logfile import log_path

    reader, writer = os.pipe()
    pid = os.fork()
    if pid:
        os.close(writer)
        return _await_detached(reader, pid, directory, as_json=as_json)
    os.close(reader)
    code = 1
    try:
        log = log_path(os.environ)
        _leave_terminal(log)
        code = _run(read, directory, simulated, for_s, lambda _line: None, lambda: _report(writer, "ok", 0), log)
    except ParaphinaError as error:
        _report(writer, str(error), error.exit_code)
        code = error.exit_code
    except BaseException as error:
        _report(writer, f"{type(error).__name__}: {error}", 1)
        raise
    finally:
        os._exit(code)
    return code


def _await_detached(reader: int, pid: int, directory: RunDir, *, as_json: bool) -> int:
    """Wait until the background process reports that all children are forked, or why not."""
    from supervisor.logfile import log_path

    poll = select.poll()
    poll.register(reader, select.POLLIN)
    said = os.read(reader, 65_536).decode().strip() if poll.poll(_READY_S * 1000) else ""
    code, _, text = said.partition(" ")
    if text != "ok":
        if code == str(UsageError.exit_code):
            raise ConfigError(text.splitlines())
        error = ParaphinaError(text or "it ended before everything ran", advice=f"see its log, {log_path(os.environ)}")
        error.exit_code = int(code) if code.isdigit() and int(code) else 1
        raise error
    log, http = log_path(os.environ), None
    with contextlib.suppress(ParaphinaError):  # it has ended meanwhile
        http = directory.describe()["gateway"]["http"]
    if as_json:
        print_json({"pid": pid, "run_dir": str(directory.path), "log": str(log), "http": http})
    else:
        page = "" if http is None else f", status page {http}"
        click.echo(printable(f"running in the background, pid {pid}, run directory {directory.path}, log {log}{page}"))
    return 0


def _report(writer: int, text: str, code: int) -> None:
    with contextlib.suppress(OSError):
        os.write(writer, f"{code} {text}\n".encode())
        os.close(writer)


def _leave_terminal(log: Path) -> None:
    """Start a new session in ``/``, with standard input from /dev/null and output to the log."""
    from ipc import start_directory
    from supervisor.logfile import open_log

    os.setsid()
    start_directory.make_variables_absolute(os.environ, files=["SSL_CERT_FILE"], lists=["SSL_CERT_DIR"])
    start_directory.leave()
    try:
        log_file = open_log(log)
    except OSError as error:
        raise UsageError(
            f"the log cannot be written: {error.strerror}",
            where=str(log),
            advice="name a directory of yours in XDG_STATE_HOME",
        ) from error
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.dup2(log_file, 1)
    os.dup2(log_file, 2)
