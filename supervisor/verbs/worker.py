"""``worker``: one venue without a parent, for containers."""

from __future__ import annotations

import os
import signal
import threading
import time

import click

from ipc.errors import UsageError
from supervisor.verbs.completion import complete_venue
from supervisor.verbs.options import configured_run_dir, run_dir_option


@click.command()
@click.argument("venue", shell_complete=complete_venue)
@click.option("--config", "config_path", metavar="FILE", help="A TOML file; see etc/paraphina.toml.")
@click.option("--ws-url", metavar="URL", help="In place of the venue's WebSocket address.")
@click.option("--rest-url", metavar="URL", help="In place of the venue's REST address.")
@run_dir_option
def worker(venue: str, config_path: str | None, ws_url: str | None, rest_url: str | None, run_dir: str | None) -> int:
    """Run one VENUE in the foreground, with its own board and no parent to restart it."""
    from supervisor.process_state import reset_process_state

    reset_process_state()
    from ipc import log
    from ipc.board import Board
    from supervisor.config import load
    from supervisor.guard import GuardThread, RunDirGuard
    from supervisor.lock import Instance
    from supervisor.system import System, worker_settings
    from workers.accounts.process_hardening import harden_process
    from workers.accounts.secrets import scrub_environment
    from workers.venues import VENUES
    from workers.worker import Worker

    if venue not in VENUES:
        raise UsageError(f"unknown venue {venue!r}", advice=f"venues are {', '.join(VENUES)}")
    flags: dict[str, object] = {"supervisor.venues": venue, f"venues.{venue}.lines": 1}
    if run_dir is not None:
        flags["supervisor.run_dir"] = run_dir
    for key, url in (("ws_url", ws_url), ("rest_url", rest_url)):
        if url is not None:
            flags[f"venues.{venue}.{key}"] = url
    config = load(config_path, os.environ, flags)
    directory = configured_run_dir(config.run_dir)
    log.setup(config.log_level)
    instance = Instance(directory)
    harden_process()
    scrub_environment(keep=venue)
    board = Board.create(directory.board, time.time_ns())
    system = System(config, directory)
    settings = worker_settings(config, config.venues[venue], directory, slot=system.slots[venue], has_parent=False)
    described = {**system.describe(), "is_alone": True}
    directory.write_description(described)
    guard = RunDirGuard(directory, instance, board)
    guard.files.add(directory.description, lambda: directory.write_description(described))
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    thread = GuardThread(guard, stop)
    try:
        Worker(settings, board, stop).run()
    finally:
        stop.set()
        thread.join()
        instance.close()
    return 0
