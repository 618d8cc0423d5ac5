"""The systemd unit: what systemd says of it, and the system in its sandbox with its notifications."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import signal
import socket
import struct
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest
from sandboxed import DISTRIBUTION_PYTHON, sandbox, settings
from systems import System, paraphina, wait_for
from tools import needs

from ipc.topics import VENUES
from simulator.accounts.credentials import ASTER_USER, PARADEX_ACCOUNT
from supervisor.config import load
from supervisor.parent import _READY_NS, _STOP_BUDGET_NS

pytestmark = pytest.mark.operate

ROOT = Path(__file__).parents[2]
UNIT = ROOT / "etc/systemd/paraphina.service"
SYSUSERS = ROOT / "etc/systemd/paraphina.sysusers"
PROGRAM = "/opt/paraphina/bin/paraphina-supervisor"
ANALYZE = needs("systemd-analyze")
UNITS = {"M": 1 << 20, "G": 1 << 30}
#: The parent, and the files in the run directory, which a service is charged for.
REST_BYTES = 256 << 20
#: Exposure that `systemd-analyze security` calls OK begins at 2; the unit had 1.5 when this was written.
MAX_EXPOSURE = 1.5


def value(key: str) -> str:
    """The last value of a setting."""
    return settings(UNIT.read_text())[key][-1]


def analyze(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    command = ["systemd-analyze", "--no-pager", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


# --- what systemd says ------------------------------------------------------------------------------------------------


@ANALYZE
def test_systemd_finds_nothing_to_criticise(tmp_path: Path) -> None:
    installed = tmp_path / UNIT.name
    installed.write_text(UNIT.read_text().replace(PROGRAM, str(Path(sys.executable).with_name("paraphina-supervisor"))))
    done = analyze("verify", "--man=no", installed)
    assert (done.returncode, done.stdout + done.stderr) == (0, "")
    installed.write_text(installed.read_text().replace("WatchdogSec", "WatchdogSecs"))
    assert "'WatchdogSecs'" in analyze("verify", "--man=no", installed).stderr


@ANALYZE
def test_exposure_is_low() -> None:
    done = analyze("security", "--offline=true", UNIT)
    exposure = re.search(r"Overall exposure level for paraphina.service: ([\d.]+) ", done.stdout)
    assert exposure is not None, done.stderr
    assert float(exposure[1]) <= MAX_EXPOSURE


@needs("systemd-sysusers")
def test_the_user_of_the_unit_is_the_one_that_is_created(tmp_path: Path) -> None:
    (tmp_path / "etc").mkdir()
    command = ["systemd-sysusers", f"--root={tmp_path}", SYSUSERS]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, "Creating user 'paraphina'" in done.stderr) == (0, True), done.stderr
    name, _, _, _, _, home, shell = (tmp_path / "etc/passwd").read_text().strip().split(":")
    assert (name, home, Path(shell).name) == (value("User"), "/var/lib/paraphina", "nologin")
    assert f"/var/lib/{value('StateDirectory')}" == home
    assert value("Group") in {line.split(":")[0] for line in (tmp_path / "etc/group").read_text().splitlines()}


def test_the_parent_acts_on_memory_before_the_kernel() -> None:
    config = load(None, {}, {})
    size = value("MemoryMax")
    processes = len(config.venues) + 1  # the gateway
    assert int(size[:-1]) * UNITS[size[-1]] >= processes * (config.memory_limit_mb << 20) + REST_BYTES


def test_readiness_comes_before_the_limit_of_a_start() -> None:
    assert int(value("TimeoutStartSec")) > _READY_NS / 1e9
    assert int(value("TimeoutStopSec")) > _STOP_BUDGET_NS / 1e9


# --- the sandbox, without systemd -------------------------------------------------------------------------------------


def require_sandbox() -> None:
    if os.getuid():
        pytest.skip("the sandbox is made by root")
    done = subprocess.run([DISTRIBUTION_PYTHON, "-c", "import seccomp"], capture_output=True, check=False)
    if done.returncode:
        pytest.skip("not installed: python3-seccomp (requirements/debian.sh)")
    done = subprocess.run([*sandbox(UNIT), "true"], capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip(f"no sandbox can be made here: {done.stderr.strip()}")


@dataclass(frozen=True, slots=True)
class Message:
    """Notification, and who sent it."""

    pid: int
    text: str


class Manager:
    """systemd's end of the notification socket."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(str(path))
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
        self._socket.setblocking(False)
        self.messages: list[Message] = []

    def close(self) -> None:
        self._socket.close()

    def count(self) -> int:
        """How many messages came so far."""
        while True:
            try:
                text, ancillary, _, _ = self._socket.recvmsg(4096, socket.CMSG_SPACE(struct.calcsize("3i")))
            except BlockingIOError:
                return len(self.messages)
            [(_, _, credentials)] = ancillary
            self.messages.append(Message(struct.unpack("3i", credentials)[0], text.decode()))

    def wait(self, text: str, after: int = 0, timeout_s: float = 60.0) -> int:
        """Wait for a message that begins so behind the first ``after``; how many came up to it."""

        def find() -> int | None:
            places = range(after, self.count())
            return next((at + 1 for at in places if self.messages[at].text.startswith(text)), None)

        found: int = wait_for(find, timeout_s, what=text)
        return found


class Service(System):
    """System in the unit's sandbox, with the environment that systemd gives it."""

    unit = UNIT

    def __init__(self, *arguments: str, config: str = "", env: dict[str, str] | None = None) -> None:
        super().__init__(*arguments, config=config, env=env)
        self.manager = Manager(self.path / "notify")
        self.env |= {
            "NOTIFY_SOCKET": str(self.manager.path),
            "WATCHDOG_USEC": str(int(value("WatchdogSec")) * 1_000_000),
        }

    def command(self) -> list[str]:
        return [*sandbox(self.unit), sys.executable, "-m", "supervisor", *self.verb()]

    def stop(self) -> int:
        self.manager.close()
        return super().stop()

    def in_sandbox(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run a verb as ExecReload= does."""
        command = [*sandbox(self.unit), sys.executable, "-m", "supervisor", *arguments]
        return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False, env=self.env)

    def errors(self) -> list[dict[str, object]]:
        """Log records of errors. A busy machine causes warnings."""
        return self.log(level="error")


@pytest.fixture(scope="module")
def service() -> Iterator[Service]:
    require_sandbox()
    with Service() as system:
        system.wait_live()
        yield system


def test_all_venues_are_live_in_the_sandbox(service: Service) -> None:
    assert service.process is not None
    held = Path(f"/proc/{service.process.pid}/status").read_text()
    assert re.search(r"^NoNewPrivs:\t1$", held, re.MULTILINE)
    assert re.search(r"^Seccomp:\t2$", held, re.MULTILINE)
    assert re.search(r"^CapEff:\t0+$", held, re.MULTILINE)
    assert set(service.status()["venues"]) == set(VENUES)
    assert service.errors() == []


def test_the_sandbox_refuses_what_the_unit_refuses() -> None:
    require_sandbox()
    program = """
import ctypes, mmap, os, socket, time
def refused(attempt):
    try:
        attempt()
    except OSError:
        return True
    return False
libc = ctypes.CDLL(None, use_errno=True)
print([
    refused(lambda: socket.socket(socket.AF_NETLINK, socket.SOCK_RAW)),
    refused(lambda: mmap.mmap(-1, 4096, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)),
    refused(lambda: os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(1))),
    refused(lambda: os.setpriority(os.PRIO_PROCESS, 0, 5)),
    refused(lambda: open("/etc/paraphina-was-here", "w")),
    refused(lambda: open("/proc/meminfo")),
    libc.unshare(0x10000000) == -1,
    refused(lambda: time.clock_settime(time.CLOCK_REALTIME, time.time())),
])
assert libc.adjtimex(bytes(1024)) >= 0
os.sched_setscheduler(0, os.SCHED_OTHER, os.sched_param(0))
socket.socket(socket.AF_INET6).close()
"""
    command = [*sandbox(UNIT), sys.executable, "-c", program]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert (done.stdout.strip(), done.stderr) == (str([True] * 8), "")


def test_without_the_exception_for_libzmq_the_start_is_refused(tmp_path: Path) -> None:
    require_sandbox()
    unit = tmp_path / UNIT.name
    unit.write_text(UNIT.read_text().replace("SystemCallFilter=sched_setscheduler\n", ""))
    command = [*sandbox(unit), sys.executable, "-m", "supervisor", "start", "--sim"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 2
    assert done.stderr.startswith("paraphina-supervisor: scheduling of threads: sched_setscheduler is refused")


def test_a_killed_worker_comes_back_in_the_sandbox(service: Service) -> None:
    pid = service.pid("lighter")
    os.kill(pid, signal.SIGKILL)
    wait_for(lambda: service.venue("lighter")["pid"] not in {None, pid})
    service.wait_live()
    assert {record.get("venue") for record in service.errors()} <= {"lighter"}


def test_pages_and_metrics_are_served_from_the_sandbox(service: Service) -> None:
    for path in ("/livez", "/readyz", "/metrics", "/status.json", "/"):
        with urllib.request.urlopen(service.url + path, timeout=20) as answer:
            assert (answer.status, bool(answer.read())) == (200, True), path


def test_the_service_is_ready_reloads_and_only_its_main_process_notifies(service: Service) -> None:
    assert service.process is not None
    manager = service.manager
    manager.wait("READY=1")
    manager.wait("STATUS=5/5 live")
    before = manager.count()
    verb, reload, option, run_dir = value("ExecReload").split()
    assert (verb, option, run_dir) == (PROGRAM, "--run-dir", "%t/paraphina")
    done = service.in_sandbox(reload, option, str(service.run_dir.path), "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["restarting"] == []
    reloading = manager.wait("RELOADING=1\nMONOTONIC_USEC=", before)
    manager.wait("READY=1", reloading)
    assert {one.pid for one in manager.messages} == {service.process.pid}


def test_a_parent_that_is_stopped_misses_its_beat_and_is_replaced_with_its_children() -> None:
    require_sandbox()
    limit_s = int(value("WatchdogSec"))
    with Service("--venues", "lighter") as service:
        manager = service.manager
        manager.wait("READY=1")
        first = manager.wait("WATCHDOG=1")
        manager.wait("WATCHDOG=1", first)
        assert service.process is not None
        children = service.descendants()
        service.process.send_signal(signal.SIGSTOP)
        wait_for(lambda: psutil.Process(service.process.pid).status() == psutil.STATUS_STOPPED)
        before = manager.count()
        time.sleep(limit_s)
        assert manager.count() == before
        # What systemd does then: WatchdogSignal=, and SIGCONT so that it arrives.
        service.process.send_signal(signal.SIGABRT)
        service.process.send_signal(signal.SIGCONT)
        assert service.process.wait(60) == -signal.SIGABRT
        assert psutil.wait_procs(children, timeout=60)[1] == []
        service.start()  # Restart=always
        manager.wait("READY=1", before)
        service.wait_live(["lighter"])


def test_a_configuration_error_is_not_retried() -> None:
    assert value("RestartPreventExitStatus").split()[0] == "2"
    done = paraphina("start", "--config", "/nowhere/paraphina.toml")
    assert done.returncode == 2


def test_accounts_with_signers_log_in_from_the_sandbox() -> None:
    """Native code of the signing libraries might ask for memory that can be written and executed."""
    require_sandbox()
    for library in ("eth_account", "starknet_py"):
        if importlib.util.find_spec(library) is None:  # importing it would raise this process's recursion limit
            pytest.skip(f"{library} is not installed")
    keys = {
        "ASTER_USER": ASTER_USER,
        "ASTER_SIGNER": ASTER_USER,
        "ASTER_SIGNER_KEY": f"0x{1:064x}",
        "PARADEX_ACCOUNT": PARADEX_ACCOUNT,
        "PARADEX_PRIVATE_KEY": "0x1",
    }
    signers = ("aster", "paradex")
    config = "".join(f'[venues.{venue}]\naccount = "desk"\n' for venue in signers)
    with Service("--venues", ",".join(signers), config=config, env=keys) as service:
        service.wait_live(signers)
        for venue in signers:
            wait_for(
                lambda venue=venue: service.venue(venue)["streams"]["account"]["state"] == "live",
                what=f"account on {venue}; log: {service.path / 'log'}",
            )
        assert service.errors() == []
