"""What is written is what is: pages that are generated, links that lead somewhere, lists that are complete."""

import importlib
import json
import re
import tomllib
from itertools import pairwise
from pathlib import Path

import pytest

from ipc.codec import json_schema
from ipc.health import Reason, Stream
from ipc.orderbook import OrderBook
from ipc.topics import CHANNELS, VENUES
from supervisor import cli
from supervisor import pages as supervisor_pages
from workers import pages
from workers.protocol import book_sync as books
from workers.venues import VENUES as REGISTRY
from workers.venues import funding
from workers.venues.aster import market_data as aster
from workers.venues.aster import rest as aster_rest
from workers.venues.aster.market_data import Aster
from workers.venues.extended import market_data as extended
from workers.venues.funding import SETTLED_PERIOD_S
from workers.venues.hyperliquid import market_data as hyperliquid
from workers.venues.hyperliquid.market_data import Hyperliquid
from workers.venues.lighter import market_data as lighter
from workers.venues.paradex import market_data as paradex

ROOT = Path(__file__).parents[1]
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")])
LINK = re.compile(r"\]\(([^)#:]+)(?:#[^)]*)?\)")


def test_the_schema_beside_the_docs_is_the_schema():
    written = json.loads((ROOT / "docs/schema/events.schema.json").read_text())
    assert written == json.loads(json.dumps(json_schema())), "run: make docs"


def test_the_page_of_states_is_the_table():
    assert (ROOT / "docs/states.md").read_text() == supervisor_pages.states(), "run: make docs"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page):
    broken = [link for link in LINK.findall(page.read_text()) if not (page.parent / link).exists()]
    assert broken == []


def test_every_name_on_the_architecture_page_exists():
    names = re.findall(r"`([a-z_.]+):([\w.]+)`", (ROOT / "docs/architecture.md").read_text())
    assert len(names) > 40
    for module, name in names:
        found = importlib.import_module(module)
        for part in name.split("."):
            found = getattr(found, part)


def test_every_reason_is_explained_to_operators():
    text = (ROOT / "docs/operations.md").read_text()
    assert [reason.value for reason in Reason if f"`{reason.value}`" not in text] == []


def test_every_public_channel_is_explained_to_consumers():
    text = (ROOT / "docs/consumers.md").read_text()
    assert [channel for channel in CHANNELS if f"| `{channel}` |" not in text] == []


@pytest.mark.parametrize("venue", VENUES)
def test_every_venue_has_its_page(venue):
    assert (ROOT / f"docs/venues/{venue}.md").read_text().startswith("# ")


@pytest.mark.parametrize("venue", VENUES)
def test_numbers_in_the_page_of_a_venue_are_those_of_its_code(venue):
    page = (ROOT / f"docs/venues/{venue}.md").read_text()
    assert page == pages.with_numbers(page, REGISTRY[venue]), "run: make docs"


def minutes(seconds):
    return f"{seconds / 60:g} min"


#: What the prose of the pages says in numbers, and the code decides; each with its words.
SAID = {
    "hyperliquid": [
        f"`l2Book` with `fast`: {hyperliquid._FAST_DEPTH} levels",
        f"`l2Book`: {hyperliquid.FULL_DEPTH} levels",
        f"silent for {Hyperliquid.continuity.silence_s[Stream.BOOK]:g} s",
        f"(`book20`: {Hyperliquid.continuity.silence_s[Stream.BOOK20]:g} s)",
        f"gives {hyperliquid.FULL_DEPTH} levels",
        f"a coin every {minutes(funding.SETTLED_PERIOD_S)}utes",
    ],
    "aster": [
        f"{aster._MARKETS_PER_CONNECTION} markets a connection",
        f"REST snapshot of {aster_rest.REST_DEPTH} levels",
        f"open interest {aster_rest.OPEN_INTEREST_PERIOD_S:g} s, settled rates {minutes(funding.SETTLED_PERIOD_S)}",
        f"change for {Aster.continuity.soft_resync.after_s:g} s",
        f"or {books._MAX_OLD}\nold changes",
    ],
    "extended": [f"up to {extended._MAX_SOCKETS_PER_STREAM} markets", f"settled rates {minutes(SETTLED_PERIOD_S)}"],
    "lighter": [
        f"one for {lighter._MARKETS_PER_CONNECTION} markets",
        f"at most {lighter.rest.REST_ORDERS} a side",
        f"a market every {minutes(SETTLED_PERIOD_S)}utes",
    ],
    "paradex": [
        f"gives {paradex.rest.REST_DEPTH} levels",
        f"({paradex.rest.DEFAULT_INTERVAL_S // 3600} h as a rule",
        f"schema {paradex.sbe.SCHEMA_ID}, version {paradex.sbe.VERSIONS[0]}",
    ],
}


@pytest.mark.parametrize(("venue", "words"), [(venue, words) for venue, all_of in SAID.items() for words in all_of])
def test_prose_of_a_venue_says_what_its_code_does(venue, words):
    assert words in (ROOT / f"docs/venues/{venue}.md").read_text()


def test_every_verb_is_in_the_readme_or_in_the_pages():
    text = "".join(page.read_text() for page in PAGES)
    assert [verb for verb in cli._VERBS if not re.search(rf"`(paraphina-supervisor )?{verb}\b", text)] == []


def test_golden_checksums():
    golden = json.loads((ROOT / "docs/schema/crc32-top10.json").read_text())
    for vector in golden["vectors"]:
        book = OrderBook()
        book.replace([tuple(level) for level in vector["bids"]], [tuple(level) for level in vector["asks"]])
        assert book.crc32_top10() == vector["crc32_top10"], vector["what"]


def test_the_changelog_knows_the_version():
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    text = (ROOT / "CHANGELOG.md").read_text()
    assert "## Unreleased" in text or f"## {version}" in text


def test_decisions_are_numbered_without_a_hole_and_listed():
    numbers = [int(page.name[:4]) for page in sorted((ROOT / "docs/adr").glob("0*.md"))]
    assert all(after == before + 1 for before, after in pairwise(numbers))
    listed = (ROOT / "docs/adr/README.md").read_text()
    assert [page.name for page in (ROOT / "docs/adr").glob("0*.md") if page.name not in listed] == []
