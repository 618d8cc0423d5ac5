"""Viewer of a page in Chromium, which notices everything that a page must not do."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, Self

from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Page, sync_playwright

CHROMIUM = "/usr/bin/chromium"
_ARGUMENTS = [
    *("--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
]
_VIOLATIONS = """
window.violations = [];
addEventListener("securitypolicyviolation", (event) => window.violations.push(event.violatedDirective));
"""
#: What a page lacks at one moment of a title, of words in elements and of numbers of elements.
_LACKING = """
([title, words, counts]) => {
  const lacking = document.title === title ? [] : [`the title ${title}`];
  for (const [selector, wanted] of Object.entries(words)) {
    const shown = [...document.querySelectorAll(selector)].map((one) => one.innerText).join(" ").replace(/\\s+/g, " ");
    lacking.push(...wanted.filter((text) => !shown.includes(text)).map((text) => `${text} in ${selector}: ${shown}`));
  }
  for (const [selector, wanted] of Object.entries(counts)) {
    const found = document.querySelectorAll(selector).length;
    if (found !== wanted) lacking.push(`${wanted} of ${selector}: ${found}`);
  }
  return lacking;
}
"""
#: What Chromium logs when a server is away; no problem of the page.
_FAILED_REQUEST = "Failed to load resource"


@contextlib.contextmanager
def chromium() -> Iterator[Browser]:
    """Run a browser."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=_ARGUMENTS)
        try:
            yield browser
        finally:
            browser.close()


class Viewer:
    """Open page, its tab alone in a window; a context manager.

    Args:
        browser: Browser.
        url: Page.
        width: Width of the window in pixels.
        height: Height.
        scheme: Colour scheme.
        may_inject: Let tests run scripts of their own, which the page's policy forbids.
    """

    def __init__(
        self,
        browser: Browser,
        url: str,
        *,
        width: int = 1280,
        height: int = 800,
        scheme: Literal["light", "dark"] = "light",
        may_inject: bool = False,
    ) -> None:
        self._context = browser.new_context(
            viewport={"width": width, "height": height}, color_scheme=scheme, bypass_csp=may_inject
        )
        self._context.add_init_script(_VIOLATIONS)
        self._url = url
        self._messages: list[str] = []
        self.page = self.open_tab()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._context.close()

    def open_tab(self) -> Page:
        """Open the page in one more tab."""
        page = self._context.new_page()
        page.on("console", lambda message: self._on_console(message.type, message.text))
        page.on("pageerror", lambda error: self._messages.append(f"uncaught: {error}"))
        page.goto(self._url)
        return page

    def _on_console(self, kind: str, text: str) -> None:
        if kind in {"error", "warning"}:
            self._messages.append(f"{kind}: {text}")

    def problems(self, *, server_was_away: bool = False) -> list[str]:
        """Return errors on the console, uncaught exceptions and violations of the policy, in all tabs."""
        violations = [f"policy: {one}" for page in self._context.pages for one in page.evaluate("window.violations")]
        known = (text for text in self._messages if not (server_was_away and _FAILED_REQUEST in text))
        return [*known, *violations]

    def wait(self, expression: str, timeout_s: float = 30.0, page: Page | None = None) -> Any:
        """Wait until an expression is true in a tab, and return it.

        Evaluated from outside: the page's policy forbids what ``wait_for_function`` does.
        """
        page = page or self.page
        deadline = time.monotonic() + timeout_s
        while not (found := page.evaluate(expression)):
            if time.monotonic() > deadline:
                raise AssertionError(f"not so within {timeout_s} s: {expression}; the page: {page.inner_text('body')}")
            page.wait_for_timeout(50)
        return found

    def wait_title(self, *words: str, timeout_s: float = 30.0) -> str:
        """Wait until the tab's title has these words, and return it."""
        condition = " && ".join(f"document.title.includes({word!r})" for word in words)
        return str(self.wait(f"{condition} && document.title", timeout_s))

    def wait_shown(
        self,
        title: str,
        words: Mapping[str, Sequence[str]],
        counts: Mapping[str, int] | None = None,
        timeout_s: float = 30.0,
    ) -> None:
        """Wait until the page shows all of this at one moment: the next poll may change any of it.

        Args:
            title: Title of the tab.
            words: Words by the CSS selector of the elements that contain them.
            counts: Numbers of elements by CSS selector.
            timeout_s: Longest wait.
        """
        wanted = [title, dict(words), dict(counts or {})]
        deadline = time.monotonic() + timeout_s
        while lacking := self.page.evaluate(_LACKING, wanted):
            if time.monotonic() > deadline:
                shown = self.page.inner_text("body")
                raise AssertionError(f"not so within {timeout_s} s: {lacking}; the page: {shown}")
            self.page.wait_for_timeout(50)

    def text(self, selector: str) -> str:
        """Return the text of an element, with single spaces."""
        return " ".join(self.page.locator(selector).inner_text().split())

    def accessibility_findings(self) -> list[str]:
        """Return what axe-core finds."""
        violations = Axe().run(self.page).response["violations"]
        return [f"{one['id']}: {node['html'][:200]}" for one in violations for node in one["nodes"]]

    def is_scrolled_sideways(self) -> bool:
        """Return whether the page is wider than the window."""
        return bool(self.page.evaluate("document.documentElement.scrollWidth > innerWidth"))

    def photograph(self, path: Path, *, whole: bool = False) -> None:
        """Save a picture of the window, or of the whole page."""
        self.page.screenshot(path=path, full_page=whole)


def card(venue: str) -> str:
    """Return a selector of a venue's card."""
    return f"#venues article:has(h3:text-matches('^{venue}'))"
