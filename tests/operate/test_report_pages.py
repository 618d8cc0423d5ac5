"""Pages of real reports in a browser: nothing loaded, nothing refused, legible for everyone on every screen."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from measured import results
from systems import System, paraphina
from tools import needs

from bench.page import results_page

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

pytestmark = [pytest.mark.operate, needs("chromium")]

PAGES = ("run/report.html", "run/comparison.html", "drill/drill.html", "bench.html")
ARGUMENTS = (
    *("--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking"),
    *("--disable-component-update", "--disable-sync"),
)
#: The fault comes after this long.
CALM_S = 4
WATCHED_S = 14


@pytest.fixture(scope="module")
def reports(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Reports of a short run with a killed worker, of it beside a calm one, of drills, and of made-up measurements."""
    place = tmp_path_factory.mktemp("reports")
    with System() as system:
        system.wait_live()
        where = ("--run-dir", str(system.run_dir.path))
        assert paraphina("shadow", "--duration", f"{CALM_S}s", "--report", str(place / "calm"), *where).returncode in {
            0,
            1,
        }
        command = [sys.executable, "-m", "supervisor", "shadow", "--duration", f"{WATCHED_S}s"]
        run = subprocess.Popen([*command, "--report", str(place / "run"), *where], stdout=subprocess.DEVNULL)
        time.sleep(CALM_S)
        os.kill(system.pid("lighter"), signal.SIGKILL)
        system.fault("aster", "close")
        assert run.wait(60) in {0, 1}
        faults = ("close", "garbage", "wrong_schema")
        assert paraphina("drill", *faults, "--report", str(place / "drill"), *where).returncode in {0, 1}
    assert paraphina("report", str(place / "run"), "--compare", str(place / "calm")).returncode in {0, 1}
    (place / "bench.html").write_text(results_page(results()), encoding="utf-8")
    return place


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    playwright = pytest.importorskip("playwright.sync_api")
    with playwright.sync_playwright() as running:
        chromium = running.chromium.launch(executable_path="/usr/bin/chromium", args=list(ARGUMENTS))
        yield chromium
        chromium.close()


def opened(browser: Browser, path: Path, **more: object) -> tuple[Page, list[str]]:
    """Open a page; return it with everything that it asked for or that the browser complained about."""
    page = browser.new_context(**more).new_page()  # type: ignore[arg-type]
    noticed: list[str] = []
    page.on("console", lambda message: noticed.append(message.text))
    page.on("pageerror", lambda error: noticed.append(str(error)))
    page.on("request", lambda request: noticed.append(request.url))
    page.goto(path.as_uri())
    return page, noticed


@pytest.mark.parametrize("name", PAGES)
def test_a_page_loads_nothing_and_its_policy_refuses_nothing(browser: Browser, reports: Path, name: str) -> None:
    page, noticed = opened(browser, reports / name)
    assert noticed == [(reports / name).as_uri()]
    assert page.evaluate("getComputedStyle(document.querySelector('table')).borderCollapse") == "collapse"
    assert page.locator("h1").count() == 1
    assert page.locator("script, [style], link, img").count() == 0
    page.context.close()


@pytest.mark.parametrize("name", PAGES)
def test_the_policy_refuses_scripts_and_styles_that_are_not_ours(browser: Browser, reports: Path, name: str) -> None:
    forged = reports / f"forged-{Path(name).name}"
    text = (reports / name).read_text()
    script, style = "<script>document.title = 'owned'</script>", "<style>h1 { display: none }</style>"
    forged.write_text(text.replace("</main>", f"{script}{style}</main>"))
    page, noticed = opened(browser, forged)
    assert "owned" not in page.title()
    assert page.locator("h1").is_visible()
    assert len([line for line in noticed if "Content Security Policy" in line]) == 2
    page.context.close()


@pytest.mark.parametrize("name", PAGES)
@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [390, 1200])
def test_axe_finds_nothing_and_the_page_does_not_scroll_sideways(
    browser: Browser, reports: Path, name: str, scheme: str, width: int
) -> None:
    axe = pytest.importorskip("axe_playwright_python.sync_playwright")
    screen = {"viewport": {"width": width, "height": 844}, "color_scheme": scheme, "bypass_csp": True}
    page, _ = opened(browser, reports / name, **screen)
    found = axe.Axe().run(page).response["violations"]
    assert [(one["id"], [node["html"] for node in one["nodes"]]) for one in found] == []
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    page.context.close()


@pytest.mark.parametrize("name", PAGES)
def test_paper_is_white_whatever_the_screen(browser: Browser, reports: Path, name: str) -> None:
    page, _ = opened(browser, reports / name, color_scheme="dark")
    background = "getComputedStyle(document.body).backgroundColor"
    assert page.evaluate(background) != "rgb(255, 255, 255)"
    page.emulate_media(media="print", color_scheme="dark")
    assert page.evaluate(background) == "rgb(255, 255, 255)"
    assert len(page.pdf(format="A4")) > 10_000
    page.context.close()
