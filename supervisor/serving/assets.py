"""Files of the status page, read when the program starts: an upgrade on disk does not mix two versions."""

from __future__ import annotations

from collections.abc import Mapping
from http import HTTPStatus
from pathlib import Path
from typing import Final

from supervisor.serving.answers import HttpAnswer

_PAGE: Final = Path(__file__).parent / "page"
_TYPES: Final = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
}


def _answer(name: str) -> HttpAnswer:
    path = _PAGE / name
    return HttpAnswer(HTTPStatus.OK, path.read_bytes(), _TYPES[path.suffix])


#: By path.
ASSETS: Final[Mapping[str, HttpAnswer]] = {
    "/": _answer("index.html"),
    "/page.css": _answer("page.css"),
    "/page.js": _answer("page.js"),
}
