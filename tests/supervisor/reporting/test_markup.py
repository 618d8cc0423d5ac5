"""HTML of the reports: nothing from outside becomes markup."""

from __future__ import annotations

import base64
import hashlib
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pages import parsed, texts

from supervisor.reporting.markup import Html, html, page, section, table, tag
from supervisor.reporting.style import STYLE

EVIL = "<script>alert('x')</script>&\"\x00\x1b[31m\u202e"


@given(st.text())
def test_every_text_stays_text(text):
    root = parsed(page("t", "●", "live", text, [text], [section(text, tag("p", text, title=text), about=text)]))
    shown = "".join(root.itertext())
    assert {element.tag for element in root.iter("p")} == {"p"}
    assert "\x00" not in shown
    (paragraph,) = [element for element in root.iter("p") if "title" in element.keys()]  # noqa: SIM118 - XML's
    assert paragraph.get("title") == "".join(paragraph.itertext())


def test_markup_and_controls_from_outside_are_shown_and_not_obeyed():
    text = tag("td", EVIL, title=EVIL)
    assert "<script" not in text
    assert "&lt;script&gt;alert(&#x27;x&#x27;)&lt;/script&gt;&amp;&quot;" in text
    assert text.isprintable()


def test_what_is_html_already_is_not_escaped_again():
    assert html([Html("<b>"), "<b>", 1.5, 2, None]) == "<b>&lt;b&gt;1.52"
    assert html(123_456_789) == "123456789"
    assert tag("meta", charset="utf-8") == '<meta charset="utf-8"/>'
    assert tag("p", class_="n", aria_label=None) == '<p class="n"></p>'


def test_the_policy_allows_the_style_element_alone():
    root = parsed(page("t", "●", "live", "v", [], []))
    (policy,) = [meta.get("content") for meta in root.iter("meta") if meta.get("http-equiv")]
    assert policy is not None
    (style,) = texts(root, "style")
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    rules = dict(rule.strip().split(" ", 1) for rule in policy.split(";"))
    assert rules == {
        "default-src": "'none'",
        "style-src": f"'sha256-{digest}'",
        "base-uri": "'none'",
        "form-action": "'none'",
    }


def test_the_style_names_no_other_file():
    assert not re.search(r"url\(|@import|@font-face|[<&]", STYLE)


@pytest.mark.parametrize("rows", [[], [("a", "1", "x")], [("a", EVIL, EVIL), ("b", None, "")]])
def test_a_table_has_as_many_cells_in_every_row_and_aligns_numbers(rows):
    root = parsed(page("t", "●", "live", "v", [], [table("name", ("what", "number", "text"), rows, texts=(0, 2))]))
    assert {len(list(row)) for row in root.iter("tr")} == {3}
    assert [cell.get("class") for row in root.iter("tr") for cell in list(row)[1:]] == ["n", None] * (len(rows) + 1)
    assert all(row[0].get("scope") == "row" for row in root.find(".//tbody"))
