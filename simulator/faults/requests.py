"""Faults of REST requests."""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated, ClassVar, Literal

from msgspec import Meta

from simulator.faults.fault import Args, Fault
from simulator.rest import HttpRequest, HttpResponse, html, plain


class PathArgs(Args, frozen=True, kw_only=True):
    """Parameters of a fault that can be limited to some paths."""

    path: Annotated[str, Meta(description="prefix of affected paths")] = "/"


class RestErrorArgs(PathArgs, frozen=True, kw_only=True):
    """Parameters of ``rest_error``."""

    status: Annotated[Literal[400, 401, 403, 404, 418, 429, 500, 502, 503, 504], Meta(description="HTTP status")] = 503
    empty: Annotated[bool, Meta(description="response without body")] = False
    text: Annotated[str | None, Meta(description="body, whatever it contains; null: the venue's own")] = None
    retry_after: Annotated[int, Meta(ge=0, description="seconds in the Retry-After header of 429 and 418")] = 1


class RestErrorFault(Fault[RestErrorArgs]):
    """REST requests fail with an HTTP status, in the venue's own format or with any text."""

    name: ClassVar[str] = "rest_error"
    parameters = RestErrorArgs

    def before_answer(self, request: HttpRequest) -> HttpResponse | None:
        """Return the error response."""
        if not request.path.startswith(self.args.path):
            return None
        response = self.venue.failure(self.args.status)
        if self.args.empty:
            response = HttpResponse(self.args.status)
        elif self.args.text is not None:
            response = plain(self.args.text, self.args.status)
        if self.args.status in {418, 429}:
            return response.with_headers(Retry_After=str(self.args.retry_after))
        return response


class HttpHtml(Fault[PathArgs]):
    """REST requests get status 502 and an HTML page of the gateway."""

    name: ClassVar[str] = "http_html"
    parameters = PathArgs

    def before_answer(self, request: HttpRequest) -> HttpResponse | None:
        """Return the error response."""
        return html(502) if request.path.startswith(self.args.path) else None


class RestMalformed(Fault[PathArgs]):
    """REST bodies are truncated, with status and length that look valid."""

    name: ClassVar[str] = "rest_malformed"
    parameters = PathArgs

    def after_answer(self, request: HttpRequest, response: HttpResponse) -> HttpResponse:
        """Truncate the body."""
        if not request.path.startswith(self.args.path):
            return response
        return replace(response, body=response.body[: len(response.body) * 2 // 3])


class RestSlowArgs(PathArgs, frozen=True, kw_only=True):
    """Parameters of ``rest_slow``."""

    seconds: Annotated[float, Meta(gt=0, description="time to send it")] = 10.0
    part: Annotated[Literal["body", "headers"], Meta(description="slow part")] = "body"


class RestSlow(Fault[RestSlowArgs]):
    """REST bodies, or headers, arrive slowly."""

    name: ClassVar[str] = "rest_slow"
    parameters = RestSlowArgs

    def after_answer(self, request: HttpRequest, response: HttpResponse) -> HttpResponse:
        """Slow the response down."""
        if not request.path.startswith(self.args.path):
            return response
        return replace(response, trickle_s=self.args.seconds, trickles_headers=self.args.part == "headers")


class RestCut(Fault[PathArgs]):
    """Connection closes after the headers of a REST response, without the promised body."""

    name: ClassVar[str] = "rest_cut"
    parameters = PathArgs

    def after_answer(self, request: HttpRequest, response: HttpResponse) -> HttpResponse:
        """Cut the response after its headers."""
        return replace(response, is_cut=True) if request.path.startswith(self.args.path) else response
