"""Who may import whom. Arrows run downwards only, and the simulator knows nothing of the connectors that it tests."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
MAY_IMPORT = {
    "ipc": set(),
    "workers": {"ipc"},
    "simulator": {"ipc"},
    "supervisor": {"ipc", "workers", "simulator"},
}
#: Modules of PyPI's supervisor, which has the same import name.
SUPERVISORD = {
    *("childutils", "compat", "confecho", "datatypes", "dispatchers", "events", "http", "http_client", "loggers"),
    *("options", "pidproxy", "poller", "process", "rpcinterface", "socket_manager", "states", "supervisorctl"),
    *("supervisord", "templating", "web", "xmlrpc"),
}


def modules(package):
    return sorted((ROOT / package).rglob("*.py"))


def imported(path):
    """Dotted names that a file imports, wherever in it."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: a relative import"
            yield node.module


@pytest.mark.parametrize("package", MAY_IMPORT)
def test_packages_import_downwards_only(package):
    forbidden = set(MAY_IMPORT) - MAY_IMPORT[package] - {package}
    found = [
        f"{path.relative_to(ROOT)}: {name}"
        for path in modules(package)
        for name in imported(path)
        if name.split(".")[0] in forbidden
    ]
    assert found == []


PURE = {
    "workers/venues": {"socket", "time", "threading", "ssl", "requests", "websocket", "zmq", "logging", "ipc.log"},
    "workers/protocol": {"socket", "time", "threading", "ssl", "requests", "websocket", "zmq", "logging", "ipc.log"},
    "supervisor/lifecycle.py": {"os", "time", "signal", "ipc.log", "multiprocess"},
    "supervisor/kill_rules.py": {"os", "time", "signal", "ipc.log"},
    "ipc/feed_state.py": {"zmq", "time", "socket"},
    "supervisor/scenario": {"socket", "time", "threading", "ssl", "requests", "websocket"},
}


@pytest.mark.parametrize("place", PURE)
def test_what_decides_does_no_input_and_output(place):
    paths = [ROOT / place] if place.endswith(".py") else modules(place)
    assert paths
    found = [
        f"{path.relative_to(ROOT)}: {name}"
        for path in paths
        for name in imported(path)
        if name in PURE[place] or name.split(".")[0] in PURE[place]
    ]
    assert found == []


def test_no_module_takes_a_name_of_supervisord():
    assert [path for path in (ROOT / "supervisor").iterdir() if path.stem in SUPERVISORD] == []


def test_no_code_but_the_registries_and_the_simulator_names_a_venue():
    names = {"hyperliquid", "aster", "extended", "lighter", "paradex"}
    allowed = {"ipc/topics.py", "workers/settings.py", "supervisor/config.py", "supervisor/drill/catalogue.py"}
    found = [
        f"{path.relative_to(ROOT)}: {node.value}"
        for package in ("ipc", "workers", "supervisor")
        for path in modules(package)
        if str(path.relative_to(ROOT)) not in allowed and path.parent.name not in {"venues", "accounts"}
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Constant) and node.value in names
    ]
    assert found == []
