"""The package is replaced on disk while a system runs: its processes are those of the old version, and whole."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import sys
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest
import zmq.auth
from ports import first_free_port
from systems import VENUES, System, wait_for

from simulator.accounts.credentials import (
    ASTER_USER,
    EXTENDED_KEY,
    HYPERLIQUID_ADDRESS,
    LIGHTER_ACCOUNT,
    LIGHTER_KEY_INDEX,
    PARADEX_ACCOUNT,
    TokenIssuer,
)

pytestmark = pytest.mark.integration

ROOT = Path(__file__).parents[2]
STARTER = ROOT / "tests" / "support" / "late_loads.py"
PACKAGES = ("ipc", "workers", "supervisor", "simulator")
#: Venues whose logins are signed by large libraries.
SIGNERS = ("aster", "paradex")
ANOTHER_VERSION = "raise SystemExit('another version')\n"


class Observed(System):
    """System that reports what its processes load after the first fork."""

    def command(self) -> list[str]:
        (self.path / "late").mkdir(exist_ok=True)
        self.env["PYTHONPATH"] = str(ROOT)
        return [sys.executable, str(STARTER), str(self.path / "late"), *self.verb()]

    def late(self) -> dict[str, list[Any]]:
        """What each kind of process loaded late, without repetitions."""
        found: dict[str, list[Any]] = {}
        for path in sorted((self.path / "late").iterdir()):
            records = [json.loads(line) for line in path.read_text().splitlines()]
            found[path.name.partition(".")[0]] = [list(one) for one in dict.fromkeys(map(tuple, records))]
        return found


def credentials() -> dict[str, str]:
    """Of all venues; aster's and paradex's are keys to sign with."""
    token = TokenIssuer(1, LIGHTER_ACCOUNT, LIGHTER_KEY_INDEX).issue(int(time.time()) + 3600)
    return {
        "HL_VAULT_ADDRESS": HYPERLIQUID_ADDRESS,
        "ASTER_USER": ASTER_USER,
        "ASTER_SIGNER": ASTER_USER,
        "ASTER_SIGNER_KEY": f"0x{1:064x}",
        "EXTENDED_API_KEY": EXTENDED_KEY,
        "LIGHTER_ACCOUNT_INDEX": str(LIGHTER_ACCOUNT),
        "LIGHTER_AUTH_TOKEN": token,
        "PARADEX_ACCOUNT": PARADEX_ACCOUNT,
        "PARADEX_PRIVATE_KEY": "0x1",
    }


@pytest.fixture
def simulated() -> Iterator[Observed]:
    pytest.importorskip("trustme")
    with Observed("--sim-tls", "--sim-rate", "10") as simulated:
        yield simulated


@pytest.fixture
def keys(tmp_path: Path) -> Path:
    """A directory with keys of a server and a client."""
    (tmp_path / "clients").mkdir()
    zmq.auth.create_certificates(tmp_path, "server")
    (tmp_path / "server.key_secret").chmod(0o600)
    zmq.auth.create_certificates(tmp_path / "clients", "client")
    return tmp_path


def config(simulated: System, keys: Path, port: int, signers_stale_ms: int = 2000) -> str:
    """Of venues with host names, accounts, and a feed over TCP with keys."""
    lines = ["[supervisor]\nbackoff_base_ms = 100\n"]
    lines += [f'[feeds]\ntcp = "127.0.0.1"\ntcp_port = {port}\ncurve_dir = "{keys}"\n']
    for venue, urls in simulated.run_dir.describe()["simulator"]["venues"].items():
        stale_ms = signers_stale_ms if venue in SIGNERS else 2000
        ws, rest = (url.replace("127.0.0.1", "localhost") for url in (urls["ws"], urls["rest"]))
        lines.append(
            f'[venues.{venue}]\nws_url = "{ws}"\nrest_url = "{rest}"\naccount = "desk"\nstale_ms = {stale_ms}\n'
        )
    return "".join(lines)


def accounts_are_live(system: System, venues: Iterable[str] = VENUES) -> bool:
    return all(system.venue(name)["streams"]["account"]["state"] == "live" for name in venues)


def inject(simulated: System, *faults: str, **arguments: Any) -> None:
    for venue in VENUES:
        for fault in faults:
            simulated.fault(venue, fault, **arguments)


def test_no_process_loads_anything_after_the_first_fork(simulated: Observed, keys: Path) -> None:
    simulated.wait_live()
    port = first_free_port(len(VENUES) * 2 + 1, iter(lambda: random.SystemRandom().randrange(5600, 9000), None))
    env = {**credentials(), "SSL_CERT_FILE": str(simulated.run_dir.path / "sim-ca.pem")}
    with Observed(sim=False, config=config(simulated, keys, port), env=env) as system:
        system.wait_live()
        wait_for(lambda: accounts_are_live(system), what=f"accounts; log: {system.path / 'log'}")
        inject(simulated, "garbage", count=20)
        wait_for(lambda: system.log(reason="parse_errors"))
        inject(simulated, "close", code=0)
        inject(simulated, "rest_malformed", "stall")
        wait_for(lambda: system.log("ws.cut", reason="stale_watchdog"))
        simulated.mend()
        inject(simulated, "rest_error", "upgrade_error")
        inject(simulated, "close", code=1001)
        (system.path / "config.toml").write_text(config(simulated, keys, port, 2500))
        os.kill(system.pid("gateway"), signal.SIGKILL)
        os.kill(system.pid("aster"), signal.SIGUSR1)
        assert system.process is not None
        for number in (signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2):
            system.process.send_signal(number)
        wait_for(lambda: system.log("supervisor.reloaded", changed=",".join(SIGNERS)))
        simulated.mend()
        wait_for(lambda: all(system.venue(name)["generation"] == 2 for name in SIGNERS), 60)
        system.wait_live()
        wait_for(lambda: accounts_are_live(system, SIGNERS), 60)
        assert system.stop() == 0
        assert system.late() == {name: [] for name in (*VENUES, "gateway", "parent")}
    os.kill(simulated.pid("simulator"), signal.SIGUSR1)
    assert simulated.late() == {name: [] for name in (*VENUES, "gateway", "parent", "simulator")}


class Installed(System):
    """System that runs a copy of the packages, whose files can be replaced."""

    def command(self) -> list[str]:
        site = self.path / "site"
        for package in PACKAGES:
            shutil.copytree(ROOT / package, site / package, ignore=shutil.ignore_patterns("__pycache__"))
        self.env["PYTHONPATH"] = str(site)
        self.cwd = self.path
        return super().command()

    def upgrade(self) -> None:
        """Replace every file of the packages."""
        for path in (self.path / "site").rglob("*.py"):
            path.write_text(ANOTHER_VERSION)
        for path in (self.path / "site").rglob("__pycache__"):
            shutil.rmtree(path)


def test_every_process_comes_back_after_an_upgrade_on_disk() -> None:
    with Installed("--venues", "lighter,paradex") as system:
        system.wait_live(["lighter", "paradex"])
        pids = {name: system.pid(name) for name in ("lighter", "gateway", "simulator")}
        system.upgrade()
        for pid in pids.values():
            os.kill(pid, signal.SIGKILL)
        for name, pid in pids.items():
            wait_for(lambda pid=pid, name=name: system.pid(name) != pid, what=name)
        system.wait_live(["lighter", "paradex"])
        wait_for(lambda: system.status()["gateway"]["state"] == "live")
        assert system.process is not None
        system.process.send_signal(signal.SIGHUP)
        wait_for(lambda: system.log("supervisor.reloaded"))
        assert {record["reason"] for record in system.log("worker.exited")} == {"killed"}
        assert system.status()["supervisor"]["state"] == "running"
