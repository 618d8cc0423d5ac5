"""Names of sources, and which ones a consumer chooses."""

import pytest

from ipc.errors import FeedError
from ipc.lines import LINES
from ipc.remote import Remote
from ipc.sources import Source, SourceFilter, host_names
from ipc.systems import LocalSystem, RemoteSystem, described_processes, systems_of, tcp_ports

DESK, SPARE = Remote("192.0.2.7", 5600), Remote("192.0.2.8", 5600)


def chosen(texts, hosts):
    selected = SourceFilter(texts, hosts)
    return [str(Source(host, line)) for host in hosts for line in LINES if selected.has(host, line)]


@pytest.mark.parametrize(
    ("texts", "expected"),
    [
        (None, [":a", ":b"]),
        ([":a"], [":a"]),
        ([":b", ":a", ":b"], [":a", ":b"]),
    ],
)
def test_lines_of_the_only_system(texts, expected):
    assert chosen(texts, [""]) == expected


@pytest.mark.parametrize(
    ("texts", "expected"),
    [
        (None, ["h1:a", "h1:b", "h2:a", "h2:b"]),
        (["h2"], ["h2:a", "h2:b"]),
        (["h1:b"], ["h1:b"]),
        ([":a"], ["h1:a", "h2:a"]),
        (["h1", ":b"], ["h1:a", "h1:b", "h2:b"]),
    ],
)
def test_lines_of_several_systems(texts, expected):
    assert chosen(texts, ["h1", "h2"]) == expected


@pytest.mark.parametrize(
    ("texts", "hosts", "words"),
    [
        ([""], [""], "'': no source (a source is 'h1' (a system), ':a' (a line) or 'h1:a')"),
        ([":"], [""], "no source"),
        ([3], [""], "no source"),
        ([":c"], [""], ":c: no such line (lines are a and b;"),
        (["h1:A"], ["h1", "h2"], "no such line"),
        (["h3:a"], ["h1", "h2"], "h3:a: no such system in this feed (there is h1, h2;"),
        (["a"], ["h1", "h2"], "no such system in this feed"),
        (["h1"], [""], "the feed has one, so leave it out: ':a'"),
        (":a", [""], "':a': sources are a list (write [':a'])"),
        ([], [""], "an empty list of sources leaves none"),
    ],
)
def test_nonsense_is_refused_in_words(texts, hosts, words):
    with pytest.raises(FeedError) as caught:
        SourceFilter(texts, hosts)
    assert words in str(caught.value)


def test_an_only_system_needs_no_name():
    assert [host_names(1), host_names(3)] == [[""], ["h1", "h2", "h3"]]


# --- systems ----------------------------------------------------------------------------------------------------------


def named(run_dir, remote):
    """Name and place of each system."""
    systems = systems_of(run_dir, remote)
    return [(one.host, one.run_dir.path.name if isinstance(one, LocalSystem) else one.remote.host) for one in systems]


def test_run_directories_come_first(tmp_path):
    one, two = tmp_path / "one", tmp_path / "two"
    assert named(one, None) == [("", "one")]
    assert named(one, DESK) == [("", "192.0.2.7")]
    assert named([one, two], None) == [("h1", "one"), ("h2", "two")]
    assert named([one], DESK) == [("h1", "one"), ("h2", "192.0.2.7")]
    assert named(one, [DESK, SPARE]) == [("h1", "192.0.2.7"), ("h2", "192.0.2.8")]
    assert named(one, [DESK, None]) == [("h1", "one"), ("h2", "192.0.2.7")]


@pytest.mark.parametrize(
    ("run_dir", "remote", "words"),
    [
        ([], None, "no system to read"),
        ("/run/p", [], "no system to read"),
        (["/run/p", "/run/p"], None, "/run/p: this system is given twice"),
        ("/run/p", [DESK, DESK], "tcp://192.0.2.7:5600: this system is given twice"),
        ("/run/p", "192.0.2.7", "no system that can be read"),
        ("/run/p", ["192.0.2.7"], "no system that can be read"),
        (7, None, "no system that can be read"),
    ],
)
def test_what_is_no_system_is_refused_in_words(run_dir, remote, words):
    with pytest.raises(FeedError) as caught:
        systems_of(run_dir, remote)
    assert words in str(caught.value)


LINE_A = {
    "feed": "ipc:///r/lighter.feed",
    "account": None,
    "tcp": "tcp://[::1]:5603",
    "account_tcp": "tcp://[::1]:5609",
}
LINE_B = {"feed": "ipc:///r/lighter.b.feed", "account": "ipc:///r/lighter.b.account", "tcp": None, "account_tcp": None}
BOTH = {"venues": {"lighter": {**LINE_A, "lines": {"a": LINE_A, "b": LINE_B}}}}


def test_processes_are_those_that_are_described():
    assert described_processes({"venues": {"lighter": LINE_A}}) == {"lighter": ("ipc:///r/lighter.feed", None)}
    assert described_processes(BOTH)["lighter.b"] == ("ipc:///r/lighter.b.feed", "ipc:///r/lighter.b.account")
    assert {name: (one.feed, one.account) for name, one in tcp_ports(BOTH).items()} == {"lighter": (5603, 5609)}


@pytest.mark.parametrize("described", [{}, {"venues": None}, {"venues": {"lighter": 3}}, {"venues": {"lighter": {}}}])
def test_a_description_that_cannot_be_used_has_no_processes(described):
    assert described_processes(described) == {}


def test_a_system_over_tcp_has_fixed_ports_until_its_directory_arrives():
    system = RemoteSystem("", DESK)
    assert [system.feed("lighter", line) for line in LINES] == ["tcp://192.0.2.7:5603", None]
    assert [system.account("lighter", line) for line in LINES] == ["tcp://192.0.2.7:5609", None]
