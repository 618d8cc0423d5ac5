"""Alert rules with shortened times, and a Prometheus and an Alertmanager of the tests' own."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import tempfile
import urllib.parse
import urllib.request
from pathlib import Path
from typing import Any, Self

import psutil
import yaml
from systems import wait_for

ROOT = Path(__file__).parents[2]
RULES = ROOT / "etc" / "prometheus" / "rules.yml"
ALERTMANAGER = ROOT / "etc" / "alertmanager" / "alertmanager.yml"
#: How long Prometheus keeps to one evaluation or scrape, unscaled.
INTERVAL_MS = 15_000
_UNITS_MS = {"ms": 1, "s": 1000, "m": 60_000, "h": 3_600_000, "d": 86_400_000}
_DURATION = re.compile(r"(\d+)(ms|[smhd])")
#: Where a duration of a rule stands: ranges of selectors and subqueries, and the values of two keys.
_PLACES = re.compile(r"\[[\dsmhd:]+\]|^\s*(?:for|interval): *[\dsmhd]+$", re.MULTILINE)


def shortened(rules: str, factor: int) -> str:
    """Return the text of a rule file with every duration divided by ``factor``; numbers without a unit stay.

    Raises:
        ValueError: A duration is not a whole number of milliseconds afterwards.
    """

    def divide(found: re.Match[str]) -> str:
        ms, rest = divmod(int(found[1]) * _UNITS_MS[found[2]], factor)
        if rest or not ms:
            raise ValueError(f"{found[0]} cannot be divided by {factor}")
        return f"{ms}ms"

    return _PLACES.sub(lambda place: _DURATION.sub(divide, place[0]), rules)


def alerts() -> dict[str, dict[str, Any]]:
    """Return the alerting rules by name."""
    groups = yaml.safe_load(RULES.read_text())["groups"]
    return {rule["alert"]: rule for group in groups for rule in group["rules"] if "alert" in rule}


class Server:
    """Program that serves HTTP on loopback, with a temporary directory; a context manager.

    The kernel gives it its port: one that is chosen before may be taken when the program listens. ``address`` has the
    port once the program listens.
    """

    ready = "/-/ready"

    def __init__(self) -> None:
        self.path = Path(tempfile.mkdtemp(prefix="pp-", dir="/dev/shm"))
        self.address = "127.0.0.1:0"
        self._process: subprocess.Popen[bytes] | None = None

    def command(self) -> list[str]:
        """Return the command line."""
        raise NotImplementedError

    def __enter__(self) -> Self:
        with (self.path / "log").open("wb") as log:
            self._process = subprocess.Popen(self.command(), cwd=self.path, stdout=log, stderr=log)
        try:
            wait_for(self._is_ready, 60, 0.1, f"an answer; {self._log()}")
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        assert self._process is not None
        self._process.terminate()
        try:
            self._process.wait(20)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        shutil.rmtree(self.path, ignore_errors=True)

    def get(self, path: str, **query: str) -> Any:
        """Return the JSON that a path answers."""
        url = f"http://{self.address}{path}?{urllib.parse.urlencode(query)}"
        with urllib.request.urlopen(url, timeout=20) as answer:
            return json.load(answer)

    def _log(self) -> str:
        return (self.path / "log").read_text()[-2000:]

    def _is_ready(self) -> bool:
        assert self._process is not None
        assert self._process.poll() is None, self._log()
        if self.address.endswith(":0"):
            connections = psutil.Process(self._process.pid).net_connections("tcp")
            ports = [one.laddr.port for one in connections if one.status == psutil.CONN_LISTEN]
            if not ports:
                return False
            (port,) = ports
            self.address = f"127.0.0.1:{port}"
        try:
            with urllib.request.urlopen(f"http://{self.address}{self.ready}", timeout=5) as answer:
                return answer.status == 200
        except OSError:
            return False


class Prometheus(Server):
    """Prometheus with the project's rules, their times divided by ``factor``.

    Args:
        targets: Addresses of systems to scrape, by the name that their series have as ``instance``.
        factor: What durations are divided by.
    """

    def __init__(self, targets: dict[str, str], factor: int) -> None:
        super().__init__()
        every = f"{INTERVAL_MS // factor}ms"
        (self.path / "rules.yml").write_text(shortened(RULES.read_text(), factor))
        scraped = [{"targets": [address], "labels": {"instance": name}} for name, address in targets.items()]
        config = {
            "global": {"scrape_interval": every, "scrape_timeout": every, "evaluation_interval": every},
            "rule_files": ["rules.yml"],
            "scrape_configs": [{"job_name": "paraphina", "static_configs": scraped}],
        }
        (self.path / "prometheus.yml").write_text(yaml.safe_dump(config))

    def command(self) -> list[str]:
        """Return the command line."""
        return [
            "prometheus",
            "--config.file=prometheus.yml",
            "--storage.tsdb.path=data",
            f"--web.listen-address={self.address}",
            "--log.level=warn",
        ]

    def query(self, expression: str) -> list[dict[str, Any]]:
        """Return the samples of an expression now."""
        return self.get("/api/v1/query", query=expression)["data"]["result"]

    def query_range(self, expression: str, start: float, end: float, step: float) -> list[dict[str, Any]]:
        """Return the series of an expression between two moments (Unix seconds)."""
        window = {"start": str(start), "end": str(end), "step": str(step)}
        return self.get("/api/v1/query_range", query=expression, **window)["data"]["result"]


class Alertmanager(Server):
    """Alertmanager with the project's routes and inhibitions."""

    def command(self) -> list[str]:
        """Return the command line."""
        return [
            "prometheus-alertmanager",
            f"--config.file={ALERTMANAGER}",
            "--storage.path=data",
            f"--web.listen-address={self.address}",
            "--cluster.listen-address=",
            "--log.level=warn",
        ]

    def send(self, *labels: dict[str, str]) -> None:
        """Raise alerts with these labels."""
        body = json.dumps([{"labels": one} for one in labels]).encode()
        request = urllib.request.Request(f"http://{self.address}/api/v2/alerts", body)
        request.add_header("Content-Type", "application/json")
        with urllib.request.urlopen(request, timeout=20) as answer:
            assert answer.status == 200

    def alerts(self) -> list[dict[str, Any]]:
        """Return the alerts that it holds, with their receivers and whether they are suppressed."""
        return self.get("/api/v2/alerts")
