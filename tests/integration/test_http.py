"""HTTP server of a running system: probes, status and metrics, through deaths, outages, floods and reloads."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from prometheus_client.parser import text_string_to_metric_families
from systems import VENUES, Listener, System, wait_for

from ipc.events import Lifecycle
from supervisor.serving.metric_table import METRICS, Kind
from supervisor.status.document import read_status

pytestmark = pytest.mark.integration

#: Metrics that exist only after something happened, or where the kernel or the venue says so.
_OCCASIONAL = {
    "paraphina_clock_synchronised",
    "paraphina_process_exits_total",
    "paraphina_session_ends_total",
    "paraphina_consumers",
}


@pytest.fixture(scope="module")
def system():
    with System() as system:
        system.wait_live()
        yield system


def get(url, path="/livez", **headers):
    """Status code, headers and body of an answer."""
    request = urllib.request.Request(url + path, headers=headers)
    try:
        with urllib.request.urlopen(request, timeout=20) as answer:
            return answer.status, answer.headers, answer.read()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.headers, error.read()


def answers(url, path="/livez", **headers):
    """Whether a request is answered with 200."""
    try:
        return get(url, path, **headers)[0] == 200
    except OSError:
        return False


def samples(url):
    """Samples of a scrape by name and labels."""
    families = text_string_to_metric_families(get(url, "/metrics")[2].decode())
    return {(one.name, *sorted(one.labels.items())): one.value for family in families for one in family.samples}


def test_every_documented_metric_is_in_a_scrape(system):
    names = {f"{spec.name}_bucket" if spec.kind is Kind.HISTOGRAM else spec.name for spec in METRICS} - _OCCASIONAL
    wait_for(lambda: names <= {key[0] for key in samples(system.url)}, what=f"{sorted(names)} are in a scrape")


def test_counters_grow_and_states_sum_to_1(system):
    before = samples(system.url)
    time.sleep(1.0)
    after = samples(system.url)
    counters = {spec.name for spec in METRICS if spec.kind is Kind.COUNTER}
    assert [key for key in before if key[0] in counters and after[key] < before[key]] == []
    for venue in VENUES:
        key = ("paraphina_stream_events_total", ("line", "a"), ("stream", "book"), ("venue", venue))
        wait_for(lambda key=key: samples(system.url)[key] > before[key])
    sums = {}
    for (name, *labels), value in after.items():
        if name.endswith("_state"):
            kept = (name, *(label for label in labels if label[0] != "state"))
            sums[kept] = sums.get(kept, 0) + value
    assert set(sums.values()) == {1.0}


def test_the_status_is_that_of_the_command_line(system):
    _, headers, body = get(system.url, "/status.json")
    served, printed = json.loads(body), system.status()
    assert headers["Content-Type"] == "application/json"
    assert served.keys() == printed.keys()
    assert served["venues"].keys() == printed["venues"].keys()
    assert served["venues"]["lighter"].keys() == printed["venues"]["lighter"].keys()
    assert served["gateway"]["http"] == printed["gateway"]["http"] == system.url
    assert served["gateway"]["http_listening"] is True


def test_the_address_is_printed_at_the_start(system):
    assert f"status page and metrics: {system.url}\n" in (system.path / "out").read_text()


def untouched_by_the_gateway(system):
    """What of a system must stay as it is when the gateway dies."""
    status = read_status(system.run_dir)
    workers = {name: (of["pid"], of["epoch"], of["restarts"], of["exits"]) for name, of in status["venues"].items()}
    return workers, status["simulator"]["pid"], status["supervisor"]["pid"]


def test_a_gateway_that_is_killed_serves_again_at_the_same_address_and_nothing_else_notices(system):
    url, pid, before = system.url, system.pid("gateway"), untouched_by_the_gateway(system)
    assert answers(url)
    with system.feed(channels=["book", "trade"]) as feed:
        books = [feed.book(venue, symbol) for venue in VENUES for symbol in ("BTC-PERP", "ETH-PERP")]
        wait_for(lambda: (feed.poll(0.1), all(book.usable for book in books))[1])
        os.kill(pid, signal.SIGKILL)
        killed = time.monotonic()
        while True:
            due = time.monotonic() + 0.1
            while time.monotonic() < due:
                feed.poll(0.05)
                assert all(book.usable for book in books)
            if system.pid("gateway") != pid and answers(url):
                break
        took = time.monotonic() - killed
        assert feed.lost == 0
    assert took < 10  # 1.3 s on an idle machine
    assert system.url == url
    assert answers(url, "/readyz")
    assert untouched_by_the_gateway(system) == before


def test_probes_do_not_look_at_venues(system):
    for venue in VENUES:
        system.fault(venue, "refuse")
    wait_for(lambda: all(system.venue(venue)["books"]["usable"] == 0 for venue in VENUES), 60)
    assert answers(system.url, "/livez")
    assert answers(system.url, "/readyz")
    system.mend()
    system.wait_live()


def test_a_flood_of_requests_does_not_delay_lifecycle_events(system):
    """Nor does a crowd of clients that never finish."""
    url = system.url
    host = urlsplit(url)
    stop = threading.Event()

    def flood():
        while not stop.is_set():
            with contextlib.suppress(OSError, http.client.HTTPException):
                connection = http.client.HTTPConnection(host.hostname, host.port, timeout=20)
                for _ in range(20):
                    connection.request("GET", "/metrics")
                    connection.getresponse().read()
                connection.close()

    with contextlib.ExitStack() as stack:
        for _ in range(70):
            client = stack.enter_context(socket.create_connection((host.hostname, host.port), timeout=20))
            with contextlib.suppress(OSError):
                client.sendall(b"GET /metrics HTTP/1.1\r\nX: ")
        threads = [threading.Thread(target=flood) for _ in range(3)]
        for thread in threads:
            thread.start()
        stack.callback(lambda: [thread.join(30) for thread in threads])
        stack.callback(stop.set)
        listener = stack.enter_context(Listener(system, venues=["lighter"], channels=["bbo", "lifecycle"]))
        wait_for(lambda: listener.of(venue="lighter"))
        pid = system.pid("lighter")
        os.kill(pid, signal.SIGKILL)

        def delays():
            events = [event for event in listener.of(Lifecycle) if event.event == "exited"]
            return [at - event.recv_mono_ns / 1e9 for at, event in listener.events if event in events]

        delay = wait_for(delays)[0]
    assert delay < 5  # some milliseconds on an idle machine
    system.wait_live()


def test_a_parent_that_is_stopped_is_not_alive():
    with System("--venues", "lighter", "--sim-rate", "10") as system:
        system.wait_live(["lighter"])
        assert answers(system.url)
        system.process.send_signal(signal.SIGSTOP)
        url = read_status(system.run_dir)["gateway"]["http"]
        wait_for(lambda: get(url)[0] == 503, 40)
        assert get(url)[2] == b"the supervisor does not work: it is stopped or stuck\n"
        assert answers(url, "/readyz")
        system.process.send_signal(signal.SIGCONT)
        wait_for(lambda: answers(url))


CONFIG = """
[gateway]
http = "{http}"
hosts = {hosts}
per_market = {per_market}
"""


@pytest.fixture
def configured():
    """System of one venue whose address is in its file, with a function that changes the file and reloads."""
    with contextlib.ExitStack() as stack:

        def start(http, hosts="[]", per_market="true"):
            config = CONFIG.format(http=http, hosts=hosts, per_market=per_market)
            system = System("--venues", "lighter", "--sim-rate", "10", config=config)
            del system.env["PARAPHINA_GATEWAY_HTTP"]
            stack.enter_context(system)
            system.wait_live(["lighter"])
            return system

        def change(system, http, hosts="[]", per_market="true"):
            config = CONFIG.format(http=http, hosts=hosts, per_market=per_market)
            (system.path / "config.toml").write_text(config)
            command = [sys.executable, "-m", "supervisor", "reload", "--json", "--run-dir", str(system.run_dir.path)]
            return json.loads(subprocess.run(command, capture_output=True, check=True, timeout=60).stdout)

        yield start, change


def test_a_reload_changes_the_server_and_restarts_the_gateway_alone(configured):
    start, change = configured
    system = start("127.0.0.1:0")
    url, worker = system.url, system.pid("lighter")
    assert get(url, Host="desk.example.com")[0] == 421
    reply = change(system, "127.0.0.1:0", '["desk.example.com"]', "false")
    assert reply["restarting"] == ["gateway"]
    wait_for(lambda: system.url == url and answers(url, Host="desk.example.com"))
    assert not any("symbol" in dict(key[1:]) for key in samples(url))
    change(system, "")
    wait_for(lambda: not answers(url))
    wait_for(lambda: read_status(system.run_dir)["gateway"]["state"] == "live")
    assert read_status(system.run_dir)["gateway"]["http"] is None
    path = system.run_dir.path / "page"
    change(system, f"unix:{path}")
    wait_for(path.exists)
    assert system.url == f"unix:{path}"
    with socket.socket(socket.AF_UNIX) as client:
        client.settimeout(20)
        client.connect(str(path))
        client.sendall(b"GET /livez HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
        assert client.makefile("rb").read().endswith(b"\r\n\r\nlive\n")
    assert system.pid("lighter") == worker
    assert system.stop() == 0
    assert not path.exists()


def test_without_an_address_nothing_of_it_is_loaded(configured):
    start, _ = configured
    system = start("")
    maps = [Path(f"/proc/{process.pid}").joinpath("task") for process in system.descendants()]
    assert maps
    gateway = system.pid("gateway")
    names = {path.joinpath("comm").read_text().strip() for path in Path(f"/proc/{gateway}/task").iterdir()}
    assert not [name for name in names if "http" in name or "observer" in name]
    status = read_status(system.run_dir)["gateway"]
    assert (status["http"], status["http_listening"], status["state"]) == (None, False, "live")
    program = (
        "import sys\nfrom supervisor.config import load\nfrom supervisor.preload import preload\n"
        "import supervisor.parent, supervisor.system\n"
        "preload(load(None, {}, {}).venues, {}, is_simulated=True, is_serving=False)\n"
        "print([name for name in sys.modules if name.startswith(('waitress', 'prometheus', 'supervisor.serving'))])"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout == "[]\n"


def test_a_port_in_use_is_one_error_and_no_obstacle(configured):
    start, _ = configured
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        system = start(f"127.0.0.1:{port}")
        wait_for(lambda: system.log("http.not_listening", reason="address_in_use"))
        gateway = read_status(system.run_dir)["gateway"]
        assert (gateway["state"], gateway["http_listening"]) == ("live", False)

        def status():
            return subprocess.run(
                [sys.executable, "-m", "supervisor", "status", "--run-dir", str(system.run_dir.path)],
                capture_output=True,
                text=True,
                timeout=60,
                check=False,
            )

        remark = f"http://127.0.0.1:{port}  not served: see the log"
        wait_for(lambda: remark in status().stdout)
        assert status().returncode == 0
    assert system.url == f"http://127.0.0.1:{port}"
    assert answers(system.url)
    assert len(system.log("http.not_listening")) == len(system.log("http.listening")) == 1


@pytest.mark.parametrize(
    ("http", "said"),
    [
        ("0.0.0.0:9464", "gateway.http: 0.0.0.0:9464 is not loopback"),
        ("nonsense", "'nonsense' will not do; it takes"),
        ("127.0.0.1", "'127.0.0.1' will not do; it takes"),
    ],
)
def test_a_wrong_address_is_one_line_and_code_2(http, said, tmp_path):
    environment = {**os.environ, "PARAPHINA_GATEWAY_HTTP": http}
    command = [sys.executable, "-m", "supervisor", "start", "--sim", "--run-dir", str(tmp_path / "run")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, env=environment, check=False)
    assert done.returncode == 2
    assert len(done.stderr.splitlines()) == 1
    assert said in done.stderr
