"""The runbook: a section for every alert and every reason, and every command in it works."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from alerting import Alertmanager, alerts
from systems import wait_for
from tools import is_present

from ipc.health import Reason
from ipc.rundir import RunDir
from supervisor.overview import words
from supervisor.status.document import EXIT_OK, exit_code_of, read_status

pytestmark = pytest.mark.operate

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "runbook.md").read_text()
#: A line of a phone held upright has about 45 characters; each of the three answers takes at most six.
LONGEST = 6 * 45
#: Commands that cannot run here, by how they begin, and why.
ELSEWHERE = {
    "sudo ": "needs root, the service's user and systemd",
    "systemctl ": "needs systemd",
    "journalctl ": "needs systemd",
    "kubectl ": "needs a cluster",
    "ssh ": "needs another host",
    "kill -": "has a placeholder for a pid",
    "dmesg ": "the kernel's log is closed to containers",
    "ping ": "raw sockets are closed to containers",
    "vmstat ": "is not installed everywhere",
    "ss ": "is not installed everywhere",
}
#: Commands that report what they measure, which on a busy machine may be a lost update: exit code 1 is an answer too.
MEASURING = ("paraphina-supervisor check ",)
#: Programs by which a command within a sentence is recognised.
PROGRAMS = re.compile(
    r"(paraphina-supervisor|amtool|promtool|curl|date|getent|uptime|sudo|systemctl|journalctl|kubectl|ssh|kill|dmesg"
    r"|ping|vmstat|ss) "
)


def commands() -> list[str]:
    """Every command of the page, in its order."""
    blocks = re.findall(r"^```console\n(.*?)^```$|`([^`\n]+)`", PAGE, re.MULTILINE | re.DOTALL)
    found = []
    for block, inline in blocks:
        lines = [line.removeprefix("$ ") for line in block.splitlines() if line.startswith("$ ")]
        found += lines or [inline] * bool(PROGRAMS.match(inline))
    return found


def elsewhere(command: str) -> str | None:
    """Why a command cannot run here; None if it can."""
    return next((why for start, why in ELSEWHERE.items() if command.startswith(start)), None)


def sections(level: str) -> dict[str, str]:
    """The sections of a level, by heading."""
    parts = re.split(rf"^{level} (.+)$", PAGE, flags=re.MULTILINE)[1:]
    return dict(zip(parts[::2], parts[1::2], strict=True))


def anchor(heading: str) -> str:
    """The anchor that Markdown gives to a heading."""
    return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")


ANSWERS = sections("###")


def test_every_alert_has_a_section_where_its_link_leads():
    anchors = {anchor(heading) for heading in ANSWERS}
    links = {name: rule["annotations"]["runbook"].partition("#") for name, rule in alerts().items()}
    assert {file for file, _, _ in links.values()} == {"docs/runbook.md"}
    assert [name for name, (_, _, target) in links.items() if target not in anchors] == []


def test_every_reason_has_a_section():
    assert [str(reason) for reason in Reason if str(reason) not in ANSWERS] == []


def test_no_section_is_about_something_that_does_not_exist():
    assert ANSWERS.keys() == {*alerts(), *map(str, Reason)}


@pytest.mark.parametrize("heading", ANSWERS)
def test_a_section_says_in_three_short_lines_what_it_means_where_to_look_and_what_to_do(heading):
    text = ANSWERS[heading].partition("\n## ")[0]
    answers = re.findall(r"^\* \*\*(\w+)\*\*: (.+)$", text, re.MULTILINE)
    assert [name for name, _ in answers] == ["Means", "Look", "Do"]
    assert [answer for _, answer in answers if len(re.sub(r"\]\([^)]*\)", "", answer)) > LONGEST] == []
    assert re.sub(r"```console\n.*?```", "", text, flags=re.DOTALL).count("\n* ") == 3


def test_reasons_are_called_what_the_page_and_top_call_them():
    wrong = {
        reason: words.REASONS[reason]
        for reason in Reason
        if f"* **Means**: *{words.REASONS[reason]}*" not in ANSWERS[reason]
    }
    assert wrong == {}


def test_links_within_the_page_lead_somewhere():
    anchors = {anchor(heading) for level in ("##", "###") for heading in sections(level)}
    assert [link for link in re.findall(r"\]\(#([^)]+)\)", PAGE) if link not in anchors] == []


def test_what_cannot_run_here_is_known_with_its_reason():
    """An entry that no command needs would hide one that could run."""
    assert [start for start in ELSEWHERE if not any(command.startswith(start) for command in commands())] == []
    assert len([command for command in commands() if elsewhere(command) is None]) > 30


class Shell:
    """A shell in which a background system runs, as an operator's; with an Alertmanager of its own."""

    def __init__(self, alertmanager: str | None) -> None:
        self.path = Path(tempfile.mkdtemp(prefix="pp-", dir="/dev/shm"))
        self.run_dir = RunDir(self.path / "run")
        own = {
            "HOME": str(self.path),
            "PATH": f"{ROOT / '.venv' / 'bin'}:{os.environ['PATH']}",
            "PARAPHINA_RUN_DIR": str(self.run_dir.path),
            "PARAPHINA_GATEWAY_HTTP": "127.0.0.1:0",
            "XDG_STATE_HOME": str(self.path / "state"),
        }
        self.env = {**os.environ, **own}
        if alertmanager is not None:
            # Debian's amtool looks in the first place, the original in the second.
            for place in ("prometheus/amtool.yml", "amtool/config.yml"):
                config = self.path / ".config" / place
                config.parent.mkdir(parents=True)
                config.write_text(f"alertmanager.url: http://{alertmanager}\nauthor: operator\n")

    def run(self, command: str) -> subprocess.CompletedProcess[str]:
        """Run a command of the page, with the places and addresses of this system."""
        adapted = (
            command.replace("http://127.0.0.1:9464", self._url())
            .replace("--live", "--sim")
            .replace("start --detach", "start --detach --sim")
            .replace("/dev/shm/paraphina-check", str(self.path / "check"))  # noqa: S108 - a run directory
            .replace("/etc/paraphina/keys", str(self.path / "keys"))
        )
        return subprocess.run(
            ["/bin/sh", "-c", adapted],
            cwd=ROOT,
            env=self.env,
            capture_output=True,
            text=True,
            timeout=120,
            stdin=subprocess.DEVNULL,
        )

    def is_live(self) -> bool:
        """Whether every stream is, and the page is served."""
        status = read_status(self.run_dir)
        return exit_code_of(status) == EXIT_OK and bool(status["gateway"].get("http_listening"))

    def is_stopped(self) -> bool:
        """Whether no supervisor runs."""
        return read_status(self.run_dir)["supervisor"]["state"] == "dead"

    def _url(self) -> str:
        gateway = read_status(self.run_dir)["gateway"]
        return (gateway.get("http") or "http://127.0.0.1:9464").rstrip("/")


@pytest.fixture(scope="module")
def shell() -> Iterator[Shell]:
    alertmanager = Alertmanager() if is_present("prometheus-alertmanager") else None
    if alertmanager is not None:
        alertmanager.__enter__()
    shell = Shell(alertmanager.address if alertmanager is not None else None)
    try:
        for command in (
            "paraphina-supervisor start --detach",
            "paraphina-supervisor keys server /etc/paraphina/keys",
            "paraphina-supervisor keys client /etc/paraphina/keys one",
            "kill -9 $(paraphina-supervisor status --pid lighter)",  # leaves a black box
        ):
            done = shell.run(command)
            assert done.returncode == 0, done.stderr
        wait_for(lambda: read_status(shell.run_dir)["venues"]["lighter"]["restarts"] == 1, what="the restart")
        yield shell
    finally:
        shell.run("paraphina-supervisor stop")
        shutil.rmtree(shell.path, ignore_errors=True)
        if alertmanager is not None:
            alertmanager.__exit__()


def test_every_command_works(shell):
    """In the order of the page, on one system that is live before each of them, unless the page has stopped it."""
    failed, skipped = [], set()
    for command in commands():
        program = command.split()[0]
        if elsewhere(command) is not None:
            continue
        if program in {"amtool", "promtool", "curl"} and not is_present(program):
            skipped.add(program)
            continue
        wait_for(lambda: shell.is_live() or shell.is_stopped(), 60, 0.2, f"all live before: {command}")
        answer = shell.run(command)
        if answer.returncode not in ({0, 1} if command.startswith(MEASURING) else {0}):
            failed.append(f"{command}: exit code {answer.returncode}: {answer.stderr or answer.stdout}")
    assert not failed, "\n".join(failed)
    if skipped:
        pytest.skip(f"all but those of programs that are not installed worked: {', '.join(sorted(skipped))}")
