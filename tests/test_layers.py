"""Who may import whom. Arrows run downwards only, and the simulator knows nothing of the connectors that it tests."""

import ast
import re
import subprocess
import sys
from graphlib import CycleError, TopologicalSorter
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from ipc.topics import VENUES
from workers import venues

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


def import_graph(packages):
    """Return by module the modules that it imports, wherever in the file: also for type checking and in functions.

    A package stands for its ``__init__``. Neither names in strings count, nor that ``import a.b`` runs ``a`` first.
    """
    files = {path.relative_to(ROOT).with_suffix(""): path for package in packages for path in modules(package)}
    paths = {".".join(place.parts).removesuffix(".__init__"): path for place, path in files.items()}
    graph = {}
    for name, path in paths.items():
        nodes = [node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.ImportFrom)]
        members = [(node.module, f"{node.module}.{alias.name}") for node in nodes for alias in node.names]
        found = {member if member in paths else module for module, member in members}
        graph[name] = ({*imported(path)} - {module for module, _ in members} | found) & paths.keys() - {name}
    return graph


def test_no_import_circle_anywhere():
    graph = import_graph(("ipc", "workers", "supervisor", "simulator", "bench"))
    assert "simulator.venue" in graph["simulator.server"]
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        pytest.fail(" <- ".join(error.args[1]))


PURE = {
    "workers/venues": {"socket", "time", "threading", "ssl", "requests", "websocket", "zmq", "logging", "ipc.log"},
    "workers/protocol": {"socket", "time", "threading", "ssl", "requests", "websocket", "zmq", "logging", "ipc.log"},
    "supervisor/lifecycle.py": {"os", "time", "signal", "ipc.log", "multiprocess"},
    "supervisor/kill_rules.py": {"os", "time", "signal", "ipc.log"},
    "ipc/feed_state.py": {"zmq", "time", "socket"},
    "supervisor/overview": {"os", "time", "signal", "socket", "threading", "zmq", "ipc.log", "ipc.feed"},
    "supervisor/reporting": {"os", "time", "socket", "threading", "pathlib", "logging", "ipc.log", "zmq"},
    "supervisor/terminal/view.py": {"os", "time", "signal", "sys", "ipc.log", "rich"},
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


def venue_modules():
    return [path for name in VENUES for path in modules(f"workers/venues/{name}")]


def common_modules():
    """Return the modules that serve all venues alike."""
    own = set(venue_modules())
    return [path for package in ("ipc", "workers", "supervisor") for path in modules(package) if path not in own]


def strings(path):
    """Yield the string constants of a file, docstrings apart."""
    tree = ast.parse(path.read_text())
    documented = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    nodes = [node for node in ast.walk(tree) if isinstance(node, documented) and ast.get_docstring(node)]
    docstrings = {id(node.body[0].value) for node in nodes}
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in docstrings:
            yield node.value


def test_no_code_but_the_registry_and_a_venues_folder_names_a_venue():
    names = re.compile(rf"\b({'|'.join(VENUES)})\b")
    assert all((ROOT / "workers" / "venues" / name / "market_data.py").is_file() for name in VENUES)
    found = [
        f"{path.relative_to(ROOT)}: {text}"
        for path in common_modules()
        if path != ROOT / "ipc" / "topics.py"
        for text in strings(path)
        if names.search(text)
    ]
    assert found == []


#: Words of a protocol: URLs, paths of requests, names in camelCase or CAPITALS_WITH_UNDERSCORES.
PROTOCOL_WORD = re.compile(r"(wss?|https?)://.+|/\w[\w/.-]*|[a-z0-9]+[A-Z]\w*|[A-Z][A-Z0-9]*_[A-Z0-9_]+")


def test_common_code_knows_no_word_of_a_venues_protocol():
    words = {text for path in venue_modules() for text in strings(path) if PROTOCOL_WORD.fullmatch(text)}
    words |= {urlsplit(word).hostname for word in words if "://" in word}
    words |= {option for venue in venues.VENUES.values() for option in venue.options}
    assert {"l2Book", "depthUpdate", "fstream.asterdex.com", "/orderBooks", "LIGHTER_AUTH_TOKEN", "encoding"} <= words
    found = [
        f"{path.relative_to(ROOT)}: {text}" for path in common_modules() for text in strings(path) if text in words
    ]
    assert found == []


def test_common_code_imports_venues_only_through_the_registry():
    folders = tuple(f"workers.venues.{name}" for name in VENUES)
    found = [
        f"{path.relative_to(ROOT)}: {name}"
        for path in common_modules()
        for name in imported(path)
        if name.startswith(folders)
    ]
    assert found == []


def test_public_sides_and_credentials_load_without_account_modules():
    program = "import sys, workers.venues, workers.accounts.secrets; print(*sys.modules)"
    loaded = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, check=True, text=True, cwd=ROOT
    ).stdout.split()
    assert [name for name in loaded if name.endswith((".account", ".signing", ".token", ".auth", ".signers"))] == []
