"""Pictures of the status page in every situation, from a real run: ``make screenshots`` writes them to docs/images/."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

from browsers import Viewer, card, chromium
from playwright.sync_api import Browser
from systems import System, wait_for

ROOT = Path(__file__).parents[2]
IMAGES = ROOT / "docs" / "images"
#: Long enough for a picture between two starts.
CONFIG = """
[supervisor]
backoff_base_ms = 3000
backoff_cap_ms = 8000
[venues.extended]
funding_poll_ms = 1000
"""
#: Time in which the sparklines and the timeline get something to show, s.
_WARM_UP_S = 125
_LIVE = 'document.title === "● All 5 venues live"'


def kill(system: System, name: str) -> int:
    """Kill a process once it runs; return its pid."""
    pid = system.pid(name)
    os.kill(pid, signal.SIGKILL)
    return pid


def photograph(browser: Browser, system: System) -> None:
    """Bring about one situation after the other, and take the pictures."""
    system.fault("aster", "close")
    time.sleep(_WARM_UP_S)
    for scheme in ("light", "dark"):
        with Viewer(browser, system.url, scheme=scheme) as viewer:  # type: ignore[arg-type]
            viewer.wait(_LIVE)
            viewer.page.wait_for_timeout(2500)  # prices
            viewer.photograph(IMAGES / f"page-live-{scheme}.png")
    with Viewer(browser, f"{system.url}/#lighter:BTC-PERP") as viewer:
        viewer.wait("document.querySelectorAll('.ladder tbody tr').length === 10")
        viewer.page.locator("#prices").screenshot(path=IMAGES / "page-book.png")
    with Viewer(browser, system.url) as viewer:
        kill(system, "lighter")
        viewer.wait("document.querySelector('article.down')")
        viewer.photograph(IMAGES / "page-killed.png")
        viewer.wait(_LIVE)
        system.fault("extended", "refuse")
        system.fault("extended", "rest_error")
        viewer.wait("document.querySelector('article.outage')")
        viewer.page.wait_for_timeout(6000)
        viewer.photograph(IMAGES / "page-outage.png")
        system.mend()
        viewer.wait(_LIVE)
    with Viewer(browser, system.url, scheme="dark") as viewer:
        last = None
        for _ in range(5):
            wait_for(lambda last=last: system.pid("lighter") != last)
            last = kill(system, "lighter")
        viewer.wait("document.querySelector('article.person')")
        viewer.page.wait_for_timeout(2500)
        viewer.photograph(IMAGES / "page-crash-loop.png")
    with Viewer(browser, system.url, width=390, height=844, scheme="dark") as viewer:
        viewer.wait(f"document.querySelector(`{card('paradex').split(':')[0]}`)")
        viewer.page.wait_for_timeout(2500)
        viewer.photograph(IMAGES / "page-phone.png")


def main() -> None:
    """Take all pictures."""
    IMAGES.mkdir(parents=True, exist_ok=True)
    with System(config=CONFIG) as system, chromium() as browser:
        system.wait_live()
        photograph(browser, system)
    for path in sorted(IMAGES.glob("page-*.png")):
        print(f"{path.relative_to(ROOT)}: {path.stat().st_size // 1024} kB")  # noqa: T201


if __name__ == "__main__":
    main()
