"""Admin API, JSON over HTTP: true state of venues and accounts, faults, pausing, activity and statistics.

============================== ==================================================================================
``GET /truth/{venue}/account``  the account: orders, fills, positions, balances, margin
``GET /truth/{venue}/{symbol}`` whole book, last trades and sequence number of a market
``POST /pause``                 bring all subscribers up to date, then stop the markets
``POST /resume``                let the markets move again
``POST /activity/{venue}/{symbol}`` ``{"factor": 0}``: set a market's activity; 1 is normal, 0 is still
``POST /account/{venue}``       ``{"rate": 0.5, "run": true}``: actions per second of the account's script, on or off
``POST /account/{venue}/do``    ``{"action": "fill", ...}``: perform an action of the account now
``POST /account/{venue}/token`` issue a token that a live client would sign itself
``POST /fault/{venue}``         ``{"fault": name, ...}``: start a fault; ``{"fault": "clear"}`` ends all of the venue
``GET /faults``                 available and active faults
``GET /stats``                  connections, subscriptions, frames, requests
``GET /errors``                 by venue: frames and responses that the simulator failed to build, with counts
============================== ==================================================================================
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import msgspec

from ipc.errors import UsageError
from simulator.fault_controller import FaultController
from simulator.rest import HttpRequest, HttpResponse, Routes, json
from simulator.venue import SimulatedVenue


class Admin:
    """Routes of the admin API."""

    def __init__(self, venues: Mapping[str, SimulatedVenue], controller: FaultController) -> None:
        self._venues = venues
        self._controller = controller
        self._routes = Routes()
        for method, path, answer in (
            ("GET", "/truth/{venue}/account", lambda _, venue: self._venue(venue).accounts.truth()),
            ("GET", "/truth/{venue}/{symbol}", self._truth),
            ("POST", "/pause", lambda _: self._each(SimulatedVenue.pause)),
            ("POST", "/resume", lambda _: self._each(SimulatedVenue.resume)),
            ("POST", "/activity/{venue}/{symbol}", self._activity),
            ("POST", "/account/{venue}", self._account),
            ("POST", "/account/{venue}/do", self._do),
            ("POST", "/account/{venue}/token", self._token),
            ("POST", "/fault/{venue}", self._fault),
            ("GET", "/faults", lambda _: self._controller.describe()),
            ("GET", "/stats", lambda _: {"venues": {name: _statistics(venue) for name, venue in venues.items()}}),
            ("GET", "/errors", lambda _: {name: one.failures.describe() for name, one in venues.items()}),
        ):
            self._routes.add(method, path, _checked(answer))

    def answer(self, request: HttpRequest) -> HttpResponse:
        """Answer a request."""
        return self._routes.answer(request) or json({"error": "not found", "advice": ["see /faults, /stats"]}, 404)

    def _truth(self, request: HttpRequest, venue: str, symbol: str) -> Any:
        del request
        return self._market(venue, symbol).truth(symbol)

    def _each(self, action: Callable[[SimulatedVenue], None]) -> Any:
        for venue in self._venues.values():
            action(venue)
        return {"ok": True}

    def _activity(self, request: HttpRequest, venue: str, symbol: str) -> Any:
        factor = _body(request).get("factor")
        if not isinstance(factor, int | float) or factor < 0:
            raise UsageError("factor must be a number that is not negative", where="factor", advice="0, 0.1, 1, 10")
        self._market(venue, symbol).set_activity(symbol, float(factor))
        return {"ok": True}

    def _account(self, request: HttpRequest, venue: str) -> Any:
        self._venue(venue).accounts.set_activity(_body(request))
        return {"ok": True}

    def _do(self, request: HttpRequest, venue: str) -> Any:
        return {"ok": True, **self._venue(venue).accounts.do(_body(request))}

    def _token(self, request: HttpRequest, venue: str) -> Any:
        return self._venue(venue).accounts.token(_body(request) if request.body else {})

    def _fault(self, request: HttpRequest, venue: str) -> Any:
        return {"ok": True, "id": self._controller.inject(venue, _body(request))}

    def _venue(self, name: str) -> SimulatedVenue:
        found = self._venues.get(name)
        if found is None:
            raise UsageError(f"no venue {name!r}", where="venue", advice=", ".join(self._venues))
        return found

    def _market(self, venue: str, symbol: str) -> SimulatedVenue:
        found = self._venue(venue)
        if symbol not in found.markets:
            raise UsageError(f"no market {symbol!r}", where="symbol", advice=", ".join(found.markets))
        return found


def _checked(answer: Callable[..., Any]) -> Callable[..., HttpResponse]:
    """Convert results to responses, and usage errors to status 400."""

    def respond(request: HttpRequest, **names: str) -> HttpResponse:
        try:
            return json(answer(request, **names))
        except UsageError as error:
            return json({"error": f"{error.where}: {error.what}", "advice": error.advice.split(", ")}, 400)

    return respond


def _body(request: HttpRequest) -> dict[str, Any]:
    try:
        body = msgspec.json.decode(request.body)
    except (ValueError, RecursionError) as error:
        raise UsageError("the body is not JSON", where="body", advice='{"fault": "stall"}') from error
    if not isinstance(body, dict):
        raise UsageError("the body is not a JSON object", where="body", advice='{"fault": "stall"}')
    return body


def _statistics(venue: SimulatedVenue) -> dict[str, Any]:
    connections = [
        {
            "id": session.number,
            "path": session.upgrade.path,
            "frames": session.frames,
            "subscribed": session.subscribed(),
        }
        for session in venue.sessions
    ]
    return {
        "connections": connections,
        "connections_total": venue.accepted,
        "frames": venue.frames,
        "subscriptions": venue.subscriptions.total,
        "rest": dict(venue.routes.counts),
    }
