"""HTML by construction: text is always escaped, and only :func:`tag` makes :class:`Html`. Pure."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterable, Sequence
from html import escape
from typing import Final, TypeAlias, Union

from ipc.printable import printable
from supervisor.reporting.style import STYLE


class Html(str):
    """Text that is HTML already; every other text is escaped when it becomes part of a page."""

    __slots__ = ()


Content: TypeAlias = Union[Html, str, float, Iterable["Content"], None]  # noqa: UP007 - a forward reference

_VOID: Final = frozenset({"meta", "br"})


def html(content: Content) -> Html:
    """Return content as HTML: escaped text, a number as Python writes it, nothing for None."""
    if isinstance(content, Html):
        return content
    if content is None:
        return Html()
    if isinstance(content, str):
        return Html(escape(printable(content)))
    if isinstance(content, Iterable):
        return Html("".join(map(html, content)))
    return Html(f"{content:.12g}")


def tag(name: str, /, *content: Content, **attributes: str | float | None) -> Html:
    """Return an element.

    Args:
        name: Name of the element.
        content: Its children, in order.
        attributes: ``class_`` stands for ``class``, ``aria_label`` for ``aria-label``; None leaves one out.
    """
    written = "".join(
        f' {key.rstrip("_").replace("_", "-")}="{html(value)}"'
        for key, value in attributes.items()
        if value is not None
    )
    return Html(f"<{name}{written}/>" if name in _VOID else f"<{name}{written}>{html(content)}</{name}>")


def page(title: str, sign: str, kind: str, verdict: str, facts: Sequence[str], sections: Iterable[Html]) -> str:
    """Return a whole page.

    The content security policy in it allows the one style element by its hash, and nothing else: no script, no image,
    no connection. A file has no headers, so the policy is an element.

    Args:
        title: Name of the report, also in the browser's tab.
        sign: Sign of the verdict, beside its colour.
        kind: Colour of the verdict; a class of :mod:`supervisor.reporting.style`.
        verdict: The result in one sentence.
        facts: What was measured, when and where.
        sections: Parts of the page.
    """
    digest = base64.b64encode(hashlib.sha256(STYLE.encode()).digest()).decode()
    policy = f"default-src 'none'; style-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'"
    head = tag(
        "head",
        tag("meta", charset="utf-8"),
        tag("meta", http_equiv="Content-Security-Policy", content=policy),
        tag("meta", name="viewport", content="width=device-width, initial-scale=1"),
        tag("meta", name="color-scheme", content="light dark"),
        tag("meta", name="referrer", content="no-referrer"),
        tag("title", f"{sign} {title}: {verdict}"),
        tag("style", Html(STYLE)),
    )
    header = tag(
        "header",
        tag("p", title, class_="title"),
        tag("h1", tag("span", sign, class_="sign", aria_hidden="true"), " ", verdict, class_=kind),
        [tag("p", fact, class_="fact") for fact in facts],
    )
    body = tag("body", header, tag("main", sections))
    return f"<!DOCTYPE html>\n{tag('html', head, body, lang='en')}\n"


def section(title: str, *content: Content, about: str = "") -> Html:
    """Return a section with a heading and, below it, a sentence about what is shown."""
    return tag("section", tag("h2", title), tag("p", about, class_="about") if about else None, content)


def table(
    title: str,
    columns: Sequence[str],
    rows: Iterable[Sequence[Content]],
    *,
    texts: Iterable[int] = (0,),
    is_wide: bool = False,
) -> Html:
    """Return a table whose first column names its rows.

    Args:
        title: Name of the table, for those who cannot see it.
        columns: Headings, with units.
        rows: Cells of each row.
        texts: Columns of text; the others are numbers, which are aligned right.
        is_wide: Scrolls sideways below its first column where the screen is narrow.
    """
    words = frozenset(texts)
    classes = [None if index in words else "n" for index in range(len(columns))]
    head = tag("tr", [tag("th", name, scope="col", class_=of) for name, of in zip(columns, classes, strict=True)])
    body = [
        tag(
            "tr",
            tag("th", row[0], scope="row"),
            [tag("td", cell, class_=classes[i]) for i, cell in enumerate(row[1:], 1)],
        )
        for row in rows
    ]
    whole = tag("table", tag("thead", head), tag("tbody", body), aria_label=title, class_="wide" if is_wide else None)
    return tag("div", whole, class_="scroll", tabindex="0", role="region", aria_label=title)
