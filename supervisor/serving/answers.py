"""Answers of the HTTP server: their text, and the headers that every one of them has. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from http import HTTPStatus
from typing import Final

#: Nothing from elsewhere, no inline code, no frames. The page's scripts build text nodes only.
_CONTENT_SECURITY_POLICY: Final = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self' data:; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'"
)
SECURITY_HEADERS: Final = (
    ("Content-Security-Policy", _CONTENT_SECURITY_POLICY),
    ("X-Content-Type-Options", "nosniff"),
    ("Referrer-Policy", "no-referrer"),
    ("Cross-Origin-Resource-Policy", "same-origin"),
    ("Cache-Control", "no-store"),
)
METHODS: Final = ("GET", "HEAD")
_TEXT: Final = "text/plain; charset=utf-8"


@dataclass(frozen=True, slots=True)
class HttpAnswer:
    """HttpAnswer to a request, without the headers that all have."""

    status: HTTPStatus
    body: bytes
    content_type: str = _TEXT
    headers: tuple[tuple[str, str], ...] = ()

    @property
    def status_line(self) -> str:
        """Status code with its phrase."""
        return f"{self.status.value} {self.status.phrase}"

    def all_headers(self) -> list[tuple[str, str]]:
        """Return every header, the length of the body included, which HEAD leaves out."""
        own = [("Content-Type", self.content_type), ("Content-Length", str(len(self.body)))]
        return [*own, *self.headers, *SECURITY_HEADERS]


def text(status: HTTPStatus, line: str) -> HttpAnswer:
    """Return one line of text."""
    return HttpAnswer(status, f"{line}\n".encode())


def error(status: HTTPStatus) -> HttpAnswer:
    """Return an error, which says nothing about the request."""
    headers = (("Allow", ", ".join(METHODS)),) if status == HTTPStatus.METHOD_NOT_ALLOWED else ()
    return HttpAnswer(status, f"{status.value} {status.phrase}\n".encode(), headers=headers)


def status_of(code: int) -> HTTPStatus:
    """Return the status of a code; the error of a server for one that is not known."""
    try:
        return HTTPStatus(code)
    except ValueError:
        return HTTPStatus.INTERNAL_SERVER_ERROR
