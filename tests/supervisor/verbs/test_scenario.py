"""``scenario``: every scenario of the project holds, and mistakes are one line."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from ipc.raw import encode_line
from ipc.ring import KINDS, Ring
from ipc.topics import VENUES

ROOT = Path(__file__).parents[3]
FILES = sorted((ROOT / "tests/scenarios").glob("*.json"))
BIDS, ASKS = [("99", "1")], [("100", "1")]


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_every_scenario_comes_as_expected(cli, path):
    ran = cli("scenario", "--expect", path)
    assert (ran.out, ran.code) == (f"{path}: as expected\n", 0)


def write(tmp_path, *steps, name="one.json", **head):
    path = tmp_path / name
    listing = {"base": "BTC", "wire": "1", "venue_symbol": "BTC", "market_id": "1"}
    file = {"scenario": 1, "venue": "lighter", "listings": [listing], "steps": list(steps), **head}
    path.write_text(json.dumps(file))
    return path


def test_it_prints_what_is_seen_and_what_is_sent_with_times(cli, tmp_path):
    ran = cli("scenario", write(tmp_path, {"wait": 1.5}, {"on": "public", "text": "bad\x1b[31m"}))
    assert (ran.code, ran.err) == (0, "")
    lines = ran.out.splitlines()
    assert lines[0].startswith("     0.000  instrument.lighter.BTC-PERP  instrument")
    assert '     0.000  public/main <- {"type":"subscribe","channel":"order_book/1"}' in lines
    assert any(line.startswith("     1.500  public/main note: ws.malformed") for line in lines)
    assert "\x1b" not in ran.out


def test_a_failed_request_is_a_sentence(cli, tmp_path):
    refuse = {"on": "rest", "refuse": {"status": 429, "body": {"code": 7}}}
    ran = cli("scenario", write(tmp_path, {"on": "account", "open": True}, {"on": "rest", "ask": "account"}, refuse))
    assert "     0.000  rest -> account failed: auth_failed: environment:LIGHTER_ACCOUNT_INDEX: not set" in ran.out
    assert '(the file may contain placeholder credentials: "account": {"credentials": {…}})' in ran.out


def test_json_is_one_object_a_line(cli, tmp_path):
    path = write(tmp_path, expect={"counts": {"malformed": 1}})
    lines = [json.loads(line) for line in cli("scenario", "--json", path).out.splitlines()]
    assert all(line["file"] == str(path) for line in lines)
    assert {"t", "topic", "kind"} <= lines[0].keys()
    ran = cli("scenario", "--json", "--expect", path)
    last = json.loads(ran.out.splitlines()[-1])
    assert (ran.code, last["ok"]) == (1, False)
    assert last["missed"] == [f"{path}:expect at 0 s: counts.malformed: 1 expected, 0 came"]


def test_a_missed_expectation_is_exit_code_1_and_says_what(cli, tmp_path):
    good = write(tmp_path, name="good.json")
    bad = write(tmp_path, expect={"books": {"BTC-PERP": {"usable": True}}})
    ran = cli("scenario", "--expect", good, bad)
    assert ran.code == 1
    assert ran.out.splitlines() == [
        f"{good}: as expected",
        f"{bad}: 1 missed",
        f"  {bad}:expect at 0 s: books.BTC-PERP: usable: true expected, false came",
    ]
    assert cli("scenario", bad).code == 0


@pytest.mark.parametrize(
    ("content", "what"),
    [
        ("{", "not a scenario: "),
        ('{"scenario": 1, "venue": "lighter", "steps": [{"wait": "x"}]}', ":steps[0].wait: Expected "),
        ('{"scenario": 1, "venue": "nyse", "steps": []}', ":venue: unknown venue 'nyse' (venues are "),
        ('{"scenario": 1, "venue": "lighter", "steps": [{"on": "public", "text": ""}]}', ":steps[0]: 'public' is no"),
        (None, "cannot be read: "),
    ],
)
def test_what_is_no_scenario_is_one_line_and_exit_code_2(cli, tmp_path, content, what):
    path = tmp_path / "f.json"
    if content is not None:
        path.write_text(content)
    ran = cli("scenario", path)
    assert ran.code == 2
    (line,) = ran.err.splitlines()
    assert f"{path}" in line
    assert what in line


def test_no_file_at_all(cli):
    assert cli("scenario").code == 2
    text = cli("scenario", "--help").out
    assert all(part in text for part in ("--expect", "--json", "docs/scenarios.md", "Exit codes"))


def test_what_the_page_shows_is_printed(cli, tmp_path):
    page = (ROOT / "docs/scenarios.md").read_text()
    path = tmp_path / "lost-update.json"
    path.write_text(page.split("```json\n")[1].split("```")[0])
    shown = page.split("```text\n")[1].split("```")[0].splitlines()
    printed = cli("scenario", path).out.splitlines()
    assert [line for line in shown if line not in printed] == []


def test_every_example_of_the_page_holds(cli, tmp_path):
    page = (ROOT / "docs/scenarios.md").read_text()
    paths = []
    for number, example in enumerate(page.split("```json\n")[1:]):
        paths.append(tmp_path / f"{number}.json")
        paths[-1].write_text(example.split("```")[0])
    ran = cli("scenario", "--expect", *paths)
    assert (ran.out, ran.code) == ("".join(f"{path}: as expected\n" for path in paths), 0)


def test_the_listings_of_the_page_are_listings(cli, tmp_path):
    page = (ROOT / "docs/scenarios.md").read_text()
    rows = re.findall(r"^\| (\w+) \| `(\{\"base\".*\})` \|$", page, re.MULTILINE)
    assert {venue for venue, _ in rows} == set(VENUES)
    for venue, listing in rows:
        path = write(tmp_path, venue=venue, listings=[json.loads(listing)], name=f"{venue}.json")
        assert "instrument." + venue + ".BTC-PERP" in cli("scenario", path).out


# --- of black boxes ---------------------------------------------------------------------------------------------------


@pytest.fixture
def box(tmp_path, raw_script):
    """A book and a lost update, as a worker's black box."""
    raw_script.add("open", b"ws://x").book("subscribed", 0, 10, BIDS, ASKS).book("update", 12, 13, [("99.5", "2")])
    ring = Ring(tmp_path / "ring", 131_072)
    for record in raw_script.records:
        number = raw_script.head.sessions.index(record.session)
        ring.put(KINDS.index(record.kind), number, record.mono_ns, record.wall_ns, record.payload)
    path = tmp_path / "lighter-seq_gap.blackbox"
    path.write_bytes(encode_line(raw_script.head) + ring.snapshot())
    ring.close()
    return path


@pytest.mark.parametrize("of", ["box", "recording"])
def test_a_black_box_or_a_recording_becomes_a_scenario(cli, box, raw_script, tmp_path, of):
    path = box if of == "box" else raw_script.write(tmp_path / "raw")
    out = tmp_path / "bug.json"
    ran = cli("fixture", "from-blackbox", path, "--scenario", out)
    assert (ran.code, ran.err) == (0, "")
    assert ran.out.splitlines()[1] == f"  paraphina-supervisor scenario {out}"
    played = cli("scenario", out)
    assert [line.split()[2] for line in played.out.splitlines() if " book.lighter.BTC-PERP " in line] == [
        "book_snapshot",
        "gap",
    ]


def test_a_scenario_of_a_black_box_for_programs(cli, box, tmp_path):
    ran = cli("fixture", "from-blackbox", box, "--scenario", tmp_path / "bug.json", "--json")
    made = json.loads(ran.out)
    assert (ran.code, made["venue"], made["scenario"]) == (0, "lighter", str(tmp_path / "bug.json"))
    assert made["records"] > 0


def test_nothing_is_overwritten_and_one_place_is_named(cli, box, tmp_path):
    out = tmp_path / "bug.json"
    out.write_text("mine")
    ran = cli("fixture", "from-blackbox", box, "--scenario", out)
    assert (ran.code, out.read_text()) == (2, "mine")
    assert "there is a file already (name another)" in ran.err
    for places in ([], ["--scenario", out, "--out", tmp_path / "x"]):
        ran = cli("fixture", "from-blackbox", box, *places)
        assert ran.code == 2
        assert "say either where (--out DIR, or --scenario FILE)" in ran.err
