"""Status page in Chromium, before a real system in every situation that it must show."""

from __future__ import annotations

import contextlib
import os
import signal
import urllib.request

import msgspec
import pytest
from browsers import Viewer, card, chromium
from overviews import sample
from prometheus_client import CollectorRegistry
from systems import VENUES, System, paraphina, wait_for
from tools import needs

from ipc.free_ports import free_ports
from supervisor.http_address import HttpAddress
from supervisor.serving.app import Application
from supervisor.serving.server import HttpServer

pytestmark = [pytest.mark.operate, needs("chromium")]

#: Starts and reconnects wait long enough for every state to be seen.
CONFIG = """
[supervisor]
backoff_base_ms = 4000
backoff_cap_ms = 4000
[venues.aster]
stale_ms = 3000
[venues.extended]
funding_poll_ms = 1000
"""
LIVE_TITLE = "● All 5 venues live"
LIVE = f'document.title === "{LIVE_TITLE}"'
CARDS = "[...document.querySelectorAll('#venues article')].map((one) => one.innerText)"
#: Bids and asks of the open book at one moment, once all ten levels are there.
LADDER = """
(([bids, asks]) => bids.length === 10 && asks.length === 10 && [bids, asks])(
  [2, 3].map((column) => [...document.querySelectorAll(`.ladder td:nth-child(${column})`)].map((one) => one.innerText)))
"""


@pytest.fixture(scope="module")
def browser():
    with chromium() as browser:
        yield browser


@pytest.fixture(scope="module")
def running():
    with System(config=CONFIG) as system:
        system.wait_live()
        yield system


@pytest.fixture
def system(running):
    yield running
    running.mend()
    running.wait_live()


@pytest.fixture
def viewer(browser, system):
    with Viewer(browser, system.url) as viewer:
        viewer.wait(LIVE)
        yield viewer


def kill(system, name):
    os.kill(system.pid(name), signal.SIGKILL)


def card_of(venue):
    """Return a CSS selector of a venue's card: cards are in the order of the venues."""
    return f"#venues article:nth-child({place(venue)})"


def place(venue):
    return VENUES.index(venue) + 1


def test_five_live_venues_are_seen_at_once(viewer):
    viewer.wait_shown(
        LIVE_TITLE,
        {
            "#headline": [LIVE_TITLE],
            "#detail": ["10 books"],
            "#about": ["simulated venues"],
            "#prices": ["Best bid", "Funding differs by"],
            **{card_of(venue): ["● live", "last book, limit", "2/2 books"] for venue in VENUES},
        },
        {".spark .area": 5, ".timeline": 5, "#streams tbody tr": 5, "#prices tbody tr": 10},
    )
    viewer.wait("document.querySelectorAll('.best').length >= 4")
    assert [text.split()[0] for text in viewer.page.evaluate(CARDS)] == list(VENUES)
    assert not viewer.is_scrolled_sideways()
    assert viewer.problems() == []


def test_a_killed_worker_heals_by_itself_and_is_remembered(viewer, system):
    kill(system, "lighter")
    assert viewer.wait_title("◐") == "◐ 4 of 5 live"
    # A state that is read before the parent has recorded the death says no reason yet.
    viewer.wait_shown(
        "◐ 4 of 5 live",
        {
            "#detail": ["lighter: killed from outside — heals by itself"],
            card_of("lighter"): ["■ down", "killed from outside", "next start in", "0/2 books"],
        },
        {
            f"{card_of('lighter')} .why[title^=killed]": 1,
            f"#streams tbody tr:nth-child({place('lighter')}) td[colspan]": 1,
            f"#prices tbody tr:nth-child({place('lighter')}) td.bad": 2,
        },
    )
    viewer.wait_shown(LIVE_TITLE, {card_of("lighter"): ["restarted"]})
    viewer.wait("document.querySelector('#events').innerText.includes('exited: killed from outside; live again')")
    viewer.wait(f"document.querySelector('.timeline:nth-child({place('lighter')}) .mark')")
    assert viewer.problems() == []


def test_a_stalled_stream_shows_the_age_of_its_last_book_beyond_the_limit(viewer, system):
    system.fault("aster", "stall")
    viewer.wait_shown(
        "◐ 4 of 5 live",
        {card_of("aster"): ["◐"], "#detail": ["heals by itself"]},
        {".bar .fill-down": 1, f"{card_of('aster')} .bar .fill-down": 1},
    )
    system.fault("aster", "clear")
    viewer.wait(LIVE)


def test_a_stopped_process_is_replaced(viewer, system):
    os.kill(system.pid("hyperliquid"), signal.SIGSTOP)
    viewer.wait_title("◐ 4 of 5 live")
    viewer.wait("document.querySelector('#events').innerText.includes('hung')")
    viewer.wait(LIVE)


def test_a_venue_that_an_operator_stopped_is_grey_and_bad_for_nobody(viewer, system):
    run_dir = str(system.run_dir.path)
    assert paraphina("stop", "paradex", "--run-dir", run_dir).returncode == 0
    # Its streams are off a little later than it counts as stopped.
    viewer.wait_shown(
        "● All 4 venues live",
        {card_of("paradex"): ["○ stopped"], "#detail": ["stopped by"], "#streams": ["○ stopped: stopped by"]},
        {"article.stopped": 1, "#venues .bad": 0},
    )
    assert paraphina("start", "paradex", "--run-dir", run_dir).returncode == 0
    viewer.wait(LIVE)
    assert viewer.problems() == []


def test_an_outage_of_a_venue_is_purple_and_nobody_is_needed(browser, system):
    system.fault("extended", "refuse")
    system.fault("extended", "rest_error")
    with Viewer(browser, system.url, may_inject=True) as viewer:
        viewer.wait("document.querySelector('article.outage')")
        viewer.wait_shown(
            "◐ 4 of 5 live",
            {
                "#detail": ["venue outage — heals by itself when the venue is back"],
                card_of("extended"): ["✕ venue outage"],
            },
            {"article.outage": 1},
        )
        assert viewer.accessibility_findings() == []
    system.mend()
    with Viewer(browser, system.url) as viewer:
        viewer.wait(LIVE)
        viewer.wait("document.querySelector('.block-outage')")


def test_ten_levels_of_a_book_on_demand_and_at_most_four_books(viewer, system):
    viewer.page.locator("#prices a", has_text="paradex").first.click()
    bids, asks = ([float(text) for text in side] for side in viewer.wait(LADDER))
    assert bids == sorted(bids, reverse=True)
    assert asks == sorted(asks)
    assert bids[0] < asks[0]
    others = [f"{venue}:ETH-PERP" for venue in VENUES[:4]]
    shown = [state(system, book)["book"] for book in others]
    assert [book["why"] for book in shown[:3]] == ["the book is being opened"] * 3
    assert "4 books are open already" in shown[3]["why"]
    assert state(system, "lighter:NO-PERP")["book"]["why"] == "no such market here"
    viewer.page.locator(".ladder a", has_text="close").click()
    viewer.wait("!document.querySelector('.ladder')")
    assert viewer.problems() == []


def state(system, book):
    with urllib.request.urlopen(f"{system.url}/state.json?book={book}", timeout=10) as answer:
        return msgspec.json.decode(answer.read())


def test_a_hidden_page_does_not_poll_and_shows_the_present_once_it_is_seen(viewer):
    requests = []
    viewer.page.on("request", lambda request: requests.append(request.url))
    set_hidden(viewer, hidden=True)
    viewer.page.wait_for_timeout(1500)  # the poll under way
    requests.clear()
    viewer.page.wait_for_timeout(3500)
    assert requests == []
    assert viewer.page.title() == LIVE_TITLE, "no lost connection while nobody looks"
    set_hidden(viewer, hidden=False)
    wait_for(lambda: viewer.page.wait_for_timeout(50) or requests, 10)
    viewer.wait(LIVE)


def set_hidden(viewer, *, hidden):
    viewer.page.evaluate(
        "(hidden) => { Object.defineProperty(document, 'hidden', { get: () => hidden, configurable: true });"
        " document.dispatchEvent(new Event('visibilitychange')); }",
        hidden,
    )


def test_eight_tabs_stay_live(viewer):
    tabs = [viewer.page, *(viewer.open_tab() for _ in range(7))]
    for tab in tabs:
        viewer.wait(LIVE, page=tab)
    before = [tab.inner_text("#about") for tab in tabs]
    for tab, text in zip(tabs, before, strict=True):
        wait_for(lambda tab=tab, text=text: tab.inner_text("#about") != text)
    assert viewer.problems() == []


@pytest.mark.parametrize(("width", "scheme"), [(1280, "light"), (1280, "dark"), (390, "dark")])
def test_it_is_accessible_in_both_schemes_and_never_scrolls_sideways(browser, system, width, scheme):
    url = f"{system.url}/#lighter:BTC-PERP"
    with Viewer(browser, url, width=width, height=844, scheme=scheme, may_inject=True) as viewer:
        viewer.wait(LIVE)
        viewer.wait("document.querySelectorAll('.ladder tbody tr').length === 10")
        assert not viewer.is_scrolled_sideways()
        assert viewer.accessibility_findings() == []
        dark = viewer.page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(14, 18, 22)"
        assert dark == (scheme == "dark")
        assert viewer.page.locator(f"{card('lighter')} .spark").is_visible() == (width > 640)


def test_a_dead_gateway_is_noticed_and_the_last_hour_survives_it(viewer, system):
    viewer.wait("document.querySelectorAll('#events li').length >= 2")
    before = viewer.page.locator("#events li").last.inner_text()
    exits = viewer.page.locator(".timeline path.mark").count()
    assert exits >= 1, "the tests before have killed something"
    kill(system, "gateway")
    # All at one moment: the gateway is back soon.
    detail = viewer.wait(
        "document.title === '■ No connection' && document.querySelector('main.faded') && "
        "document.querySelector('#detail').innerText"
    )
    assert detail.startswith("this page shows the state of ")
    assert detail.endswith(" s ago; feeds go on without it")
    system.wait_live()
    wait_for(lambda: system.url, 60)
    viewer.wait_shown(LIVE_TITLE, {"#events": [before.split()[-1]]}, {"main.faded": 0, ".spark .area": 5})
    viewer.wait("document.querySelector('.timeline path.mark')")
    assert viewer.problems(server_was_away=True) == []


class HostileSource:
    """Source whose every text is hostile."""

    metrics = CollectorRegistry()

    def __init__(self, body):
        self._body = body

    def state_json(self, _book):
        return self._body

    def status(self):
        return {"venues": {}}

    def live(self):
        return True

    def ready(self):
        return True


ATTACK = "<script>document.title='x'</script><img src=x onerror=alert(1)>\u202e\x1b[31m\u0000\"'"


def hostile(value):
    """Return a document with an attack in every text."""
    if isinstance(value, str):
        return value + ATTACK
    if isinstance(value, dict):
        return {name: hostile(of) for name, of in value.items()}
    return [*map(hostile, value)] if isinstance(value, list | tuple) else value


@contextlib.contextmanager
def served(body):
    """Serve a document as the gateway does."""
    address = HttpAddress.parse(f"127.0.0.1:{free_ports(1, '127.0.0.1')[0]}")
    server = HttpServer(Application(HostileSource(body)), address)
    server.start()
    try:
        wait_for(lambda: server.is_listening)
        yield address.url
    finally:
        server.close()


def test_texts_from_outside_are_text(browser):
    document = hostile(msgspec.to_builtins(sample()))
    with served(msgspec.json.encode(document)) as url, Viewer(browser, url) as viewer:
        viewer.page.on("dialog", lambda dialog: pytest.fail(dialog.message))
        viewer.wait("document.querySelectorAll('#venues article').length === 5")
        assert "<script>" in viewer.page.title()
        assert viewer.page.locator("main script, main img").count() == 0
        shown = viewer.page.locator("body").inner_text()
        assert "<img src=x onerror=alert(1)>" in shown
        assert "\\u{202e}\\u{1b}[31m\\u{0}" in shown
        assert "\u202e" not in viewer.page.content()
        assert viewer.problems() == []


def test_a_crash_loop_needs_a_person(browser, system):
    with Viewer(browser, system.url) as viewer:
        pids = set()
        for _ in range(5):
            pid = wait_for(lambda: system.venue("paradex")["pid"] not in {None, *pids} and system.pid("paradex"), 30)
            pids.add(pid)
            os.kill(pid, signal.SIGKILL)
        assert viewer.wait_title("▲") == "▲ paradex needs you"
        viewer.wait_shown(
            "▲ paradex needs you",
            {"#detail": ["deaths in a row, last: killed from outside"], card_of("paradex"): ["▲ needs you"]},
        )
        assert viewer.problems() == []
