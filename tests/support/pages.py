"""Pages of reports, taken apart: well-formed as XML, which is stricter than HTML."""

from __future__ import annotations

import re
from xml.etree import ElementTree as ET

#: Elements that a page may contain; none of them loads or runs anything.
KNOWN = {
    *(
        "html",
        "head",
        "meta",
        "title",
        "style",
        "body",
        "header",
        "main",
        "section",
        "h1",
        "h2",
        "h3",
        "p",
        "div",
        "span",
    ),
    *("table", "thead", "tbody", "tfoot", "tr", "th", "td", "ul", "li", "br", "figure", "figcaption"),
    *("svg", "rect", "line", "path", "circle", "text"),
}


def parsed(page: str) -> ET.Element:
    """Return the root of a page, which must be well-formed and contain nothing that loads, runs or styles in place."""
    root = ET.fromstring(page)  # noqa: S314 - our own
    assert {element.tag for element in root.iter()} <= KNOWN
    for element in root.iter():
        names = set(element.keys())
        assert not [name for name in names if name.startswith("on") or name in {"style", "src", "href"}], element
    return root


def texts(root: ET.Element, tag: str) -> list[str]:
    """Return the texts of all elements of a tag."""
    return ["".join(element.itertext()) for element in root.iter(tag)]


def coordinates(path: str) -> list[tuple[float, float]]:
    """Return the points of an SVG path."""
    return [(float(x), float(y)) for x, y in re.findall(r"[ML](-?[\d.]+) (-?[\d.]+)", path)]
