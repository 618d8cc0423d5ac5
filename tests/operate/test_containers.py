"""Image, compose file and Kubernetes manifests: under their validators, and what they must agree on."""

from __future__ import annotations

import http.client
import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import yaml
from systems import System, wait_for

from ipc.topics import VENUES
from supervisor.config import Config, load
from supervisor.parent import _STOP_BUDGET_NS

pytestmark = pytest.mark.operate

ROOT = Path(__file__).parents[2]
DOCKERFILE = ROOT / "etc/container/Dockerfile"
COMPOSE = ROOT / "etc/container/compose.yaml"
CONTAINER_CONFIG = ROOT / "etc/container/paraphina.toml"
ALL_VENUES = ROOT / "etc/kubernetes/all-venues.yaml"
PER_VENUE = ROOT / "etc/kubernetes/per-venue.yaml"
MANIFESTS = [ALL_VENUES, PER_VENUE]
MIB = 1 << 20
UNITS = {"Mi": MIB, "Gi": 1024 * MIB, "m": MIB, "g": 1024 * MIB}
#: Resident memory of the parent, with a reserve.
PARENT_BYTES = 64 * MIB
#: What compose-lint finds and we decided: the image is built here, so it has no digest, and a limit of the CPU makes
#: processes look stalled.
DECIDED = {"CL-0019", "CL-0026"}


def tool(name: str, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
    """Run a validator of this environment."""
    program = Path(sys.executable).with_name(name)
    if not program.exists():
        pytest.skip(f"not installed: {name} (make operate-installed)")
    return subprocess.run([program, *arguments], capture_output=True, text=True, timeout=120, check=False)


def documents(path: Path) -> dict[str, dict[str, Any]]:
    """The documents of a manifest by their kind."""
    return {one["kind"]: one for one in yaml.safe_load_all(path.read_text())}


def pod_of(path: Path) -> dict[str, Any]:
    found: dict[str, Any] = documents(path)["Deployment"]["spec"]["template"]
    return found


def container_of(path: Path) -> dict[str, Any]:
    [container] = pod_of(path)["spec"]["containers"]
    assert isinstance(container, dict)
    return container


def size(text: str) -> int:
    """Bytes of a size such as 64Mi or 2g."""
    digits = text.rstrip("MGimg")
    return int(digits) * UNITS[text[len(digits) :]]


def volume(path: Path, name: str) -> dict[str, Any]:
    [found] = [one for one in pod_of(path)["spec"]["volumes"] if one["name"] == name]
    assert isinstance(found, dict)
    return found


def config_of(path: Path, text: str, variables: dict[str, str], arguments: list[str], tmp_path: Path) -> Config:
    """The configuration that a container runs with; raises ConfigError when it is invalid."""
    file = tmp_path / f"{path.stem}.toml"
    file.write_text(text)
    flags: dict[str, object] = {}
    if "--venues" in arguments:
        flags["supervisor.venues"] = arguments[arguments.index("--venues") + 1]
    return load(str(file), {name: value for name, value in variables.items() if name != "PARAPHINA_CONFIG"}, flags)


# --- validators -------------------------------------------------------------------------------------------------------


def test_hadolint_finds_nothing() -> None:
    done = tool("hadolint", DOCKERFILE)
    assert (done.returncode, done.stdout) == (0, "")


def test_the_compose_file_has_the_schema_of_compose() -> None:
    done = tool("check-jsonschema", "--builtin-schema", "vendor.compose-spec", COMPOSE)
    assert done.returncode == 0, done.stdout


def test_compose_lint_finds_what_was_decided_alone() -> None:
    done = tool("compose-lint", "check", "--format", "json", COMPOSE)
    assert done.returncode == 0, done.stdout
    assert {one["rule_id"] for one in json.loads(done.stdout)["findings"]} == DECIDED


@pytest.mark.parametrize("path", MANIFESTS, ids=lambda path: path.stem)
def test_manifests_are_valid(path: Path, tmp_path: Path) -> None:
    done = tool("kubernetes-validate", "--strict", path)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count(" passed ") == len(documents(path)) == 3
    misspelt = tmp_path / path.name
    misspelt.write_text(path.read_text().replace("readOnlyRootFilesystem", "readonlyRootFilesystem"))
    assert tool("kubernetes-validate", "--strict", misspelt).returncode != 0


@pytest.mark.parametrize("venue", VENUES)
def test_the_manifest_of_one_venue_serves_any(venue: str, tmp_path: Path) -> None:
    path = tmp_path / "venue.yaml"
    path.write_text(PER_VENUE.read_text().replace("lighter", venue))
    assert container_of(path)["args"] == ["start", "--venues", venue]
    assert {one["metadata"]["name"] for one in documents(path).values()} == {f"paraphina-{venue}"}
    text = documents(path)["ConfigMap"]["data"]["paraphina.toml"]
    assert list(config_of(path, text, {}, container_of(path)["args"], tmp_path).venues) == [venue]


# --- what they must agree on ------------------------------------------------------------------------------------------


def test_both_manifests_have_the_same_pod_but_for_name_venue_and_size() -> None:
    pods = [pod_of(path) for path in MANIFESTS]
    names = [pod["metadata"]["labels"].pop("app.kubernetes.io/name") for pod in pods]
    assert names == ["paraphina", "paraphina-lighter"]
    for pod, path in zip(pods, MANIFESTS, strict=True):
        [container] = pod["spec"]["containers"]
        assert set(container["livenessProbe"]) == set(container["readinessProbe"])
        del container["args"], container["resources"]
        pod["spec"]["volumes"].remove(volume(path, "config"))
    assert pods[0] == pods[1]


@pytest.mark.parametrize("path", MANIFESTS, ids=lambda path: path.stem)
def test_probes_and_scrape_ask_the_port_that_is_listened_on(path: Path) -> None:
    container = container_of(path)
    variables = {one["name"]: one["value"] for one in container["env"]}
    [port] = container["ports"]
    assert variables["PARAPHINA_GATEWAY_HTTP"] == f"0.0.0.0:{port['containerPort']}"
    assert pod_of(path)["metadata"]["annotations"]["prometheus.io/port"] == str(port["containerPort"])
    probes = {kind: container[f"{kind}Probe"] for kind in ("liveness", "readiness", "startup")}
    assert {kind: probe["httpGet"]["path"] for kind, probe in probes.items()} == {
        "liveness": "/livez",
        "readiness": "/readyz",
        "startup": "/livez",
    }
    assert {probe["httpGet"]["port"] for probe in probes.values()} == {port["name"]}
    assert probes["startup"]["periodSeconds"] * probes["startup"]["failureThreshold"] == 90
    assert "127.0.0.1', 9464" in DOCKERFILE.read_text()
    assert f"EXPOSE {port['containerPort']}\n" in DOCKERFILE.read_text()
    [rule] = documents(path)["NetworkPolicy"]["spec"]["ingress"]
    assert [one["port"] for one in rule["ports"]] == [port["name"]]


@pytest.mark.parametrize("path", MANIFESTS, ids=lambda path: path.stem)
def test_nobody_is_root_and_nothing_can_be_changed(path: Path) -> None:
    pod, container = pod_of(path)["spec"], container_of(path)
    uid = pod["securityContext"]["runAsUser"]
    assert f"ARG UID={uid}\n" in DOCKERFILE.read_text()
    assert yaml.safe_load(COMPOSE.read_text())["services"]["feeds"]["user"] == f"{uid}:{uid}"
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["securityContext"]["fsGroup"] == uid
    assert (pod["automountServiceAccountToken"], pod["enableServiceLinks"]) == (False, False)
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert pod["terminationGracePeriodSeconds"] > _STOP_BUDGET_NS / 1e9


@pytest.mark.parametrize("path", MANIFESTS, ids=lambda path: path.stem)
def test_the_parent_of_a_pod_acts_on_memory_before_the_kernel(path: Path, tmp_path: Path) -> None:
    container = container_of(path)
    text = documents(path)["ConfigMap"]["data"]["paraphina.toml"]
    variables = {one["name"]: one["value"] for one in container["env"]}
    config = config_of(path, text, variables, container["args"], tmp_path)
    assert config.gateway.is_remote
    run_bytes = size(volume(path, "run")["emptyDir"]["sizeLimit"])
    processes = len(config.venues) + 1  # the gateway
    wanted = processes * config.memory_limit_mb * MIB + run_bytes + PARENT_BYTES
    assert f"{wanted // MIB} MiB" in path.read_text()
    assert size(container["resources"]["limits"]["memory"]) > 1.1 * wanted


def test_the_parent_of_the_compose_file_acts_on_memory_before_the_kernel(tmp_path: Path) -> None:
    service = yaml.safe_load(COMPOSE.read_text())["services"]["feeds"]
    config = config_of(COMPOSE, CONTAINER_CONFIG.read_text(), service["environment"], [], tmp_path)
    assert config.gateway.is_remote
    [tmpfs] = service["tmpfs"]
    run_bytes = size(tmpfs.split("size=")[1].split(",")[0])
    wanted = (len(config.venues) + 1) * config.memory_limit_mb * MIB + run_bytes + PARENT_BYTES
    assert size(service["mem_limit"]) > 1.1 * wanted
    assert service["memswap_limit"] == service["mem_limit"]


def test_black_boxes_have_room(tmp_path: Path) -> None:
    config = config_of(COMPOSE, CONTAINER_CONFIG.read_text(), {}, [], tmp_path)
    kept = len(config.venues) * config.blackbox_keep * config.blackbox_kb * 1024
    for path in MANIFESTS:
        assert size(volume(path, "state")["emptyDir"]["sizeLimit"]) > kept


def test_the_published_port_is_on_loopback() -> None:
    service = yaml.safe_load(COMPOSE.read_text())["services"]["feeds"]
    assert service["ports"] == ["127.0.0.1:9464:9464"]
    assert service["environment"]["PARAPHINA_GATEWAY_HTTP"] == "0.0.0.0:9464"
    assert (service["read_only"], service["cap_drop"], service["init"]) == (True, ["ALL"], False)
    assert service["security_opt"] == ["no-new-privileges:true"]


# --- an outage --------------------------------------------------------------------------------------------------------


def code(url: str, path: str) -> int:
    """The code of an answer."""
    connection = http.client.HTTPConnection(urlsplit(url).netloc, timeout=10)
    try:
        connection.request("GET", path)
        return connection.getresponse().status
    finally:
        connection.close()


@pytest.mark.parametrize("down", [("lighter",), tuple(VENUES)], ids=["one venue", "all venues"])
def test_an_outage_restarts_no_pod_and_takes_none_out_of_service(down: tuple[str, ...]) -> None:
    with System() as system:
        system.wait_live()
        for venue in down:
            system.fault(venue, "refuse")
            system.fault(venue, "rest_error", status=503)

        def is_out() -> bool:
            codes = {path: code(system.url, path) for path in ("/livez", "/readyz")}
            assert set(codes.values()) == {200}, codes
            # The worker reports the outage, the parent the state.
            venues = [system.venue(venue) for venue in down]
            return all(venue["outage"] and venue["state"] != "live" for venue in venues)

        wait_for(is_out, 120, every_s=0.25, what="an outage")
        for _ in range(20):
            assert is_out()
            time.sleep(0.25)
        system.mend()
        system.wait_live()
