"""Simulated venues: markets, REST routes, clients, and the true state that tests compare with.

A venue in ``simulator.venues`` adds its protocol. Faults of ``simulator.faults`` hook in before a frame is sent, when
a client connects, and around every REST request.
"""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from functools import partial
from http import HTTPStatus
from itertools import count
from typing import Any, ClassVar, NamedTuple

import msgspec

from simulator.accounts.service import AccountService
from simulator.decimals import shortest
from simulator.listener import Port, VenueListener
from simulator.listing import SimulatedListing
from simulator.market import Market, MarketStep, MarketTrade
from simulator.rest import HttpRequest, HttpResponse, Routes, plain
from simulator.schedule import Schedule
from simulator.session import ClientSession, VenueState
from simulator.settings import SimSettings
from simulator.wire import Frame, Socket, Upgrade, UpgradeRefusal, Wire

#: First price in the text of a book frame, in any of the venues' shapes.
_FIRST_PRICE = re.compile(rb'((?:"(?:p|px|price)":|\[\[)")[^"]*')
_RESTARTS = 10
_MAX_STEPS_PER_S = 1000.0
_MIN_STEPS_PER_S = 0.5
#: Busier markets do several steps at a time.
_MIN_STEP_PERIOD_S = 0.005
_TRUTH_TRADES = 200


class Levels(NamedTuple):
    """Levels of one side of a book frame, to be edited in place, and the venue's notation.

    Attributes:
        rows: Best first.
        price: Key of a level's price; ``size`` likewise.
        zero: Notation of zero; ``negative`` of a negative number, ``none`` is not a number.
    """

    rows: list[Any]
    price: Any
    size: Any
    zero: Any = "0"
    negative: Any = "-5"
    none: Any = "NaN"


@dataclass(frozen=True, slots=True)
class Traffic:
    """Frames per second that a market sends to a client with all of the usual subscriptions.

    Attributes:
        steady: Frames that do not depend on steps.
        batches: Upper bound of merged book frames.
        per_step: Frames per step of the market, beside the merged ones.
    """

    steady: float
    batches: float
    per_step: float

    def steps_for(self, rate: float, markets: int) -> float:
        """Return steps per second and market so that ``markets`` markets send about ``rate`` frames per second."""
        spare = rate / max(1, markets) - self.steady
        steps = spare / (1 + self.per_step) if self.batches else spare / self.per_step
        if self.batches and steps > self.batches:
            steps = (spare - self.batches) / self.per_step
        return min(_MAX_STEPS_PER_S, max(_MIN_STEPS_PER_S, steps))


class SimulatedVenue(VenueState, ABC):
    """Simulated venue.

    Attributes:
        routes: REST routes.
        listeners: Its ports; empty if the venue is not served.
        accounts: Account service of the venue.
    """

    traffic: ClassVar[Traffic]
    #: Whether books are sent as deltas.
    has_deltas: ClassVar[bool] = True
    #: Bytes in front of the first bid of a book frame.
    bids_open: ClassVar[bytes]
    #: Path suffix of the REST book that clients start from; empty where streams start with a snapshot.
    first_book: ClassVar[str] = ""
    accounts: AccountService

    def __init__(self, settings: SimSettings, schedule: Schedule) -> None:
        super().__init__(settings, schedule)
        self.routes = Routes()
        self.listeners: dict[Port, VenueListener] = {}
        self._restarts = count()
        self._activity: dict[str, float] = {}
        #: Fractions of steps that are due, by symbol.
        self._credit: dict[str, float] = {}
        now = schedule.wall_ms()
        markets = [Market(listing, f"{settings.seed}:{self.name}", now) for listing in self.listings()]
        self.markets = {market.listing.symbol: market for market in markets}
        self._by_name = {market.listing.name: market for market in markets}

    # Implemented by each venue.

    @abstractmethod
    def listings(self) -> list[SimulatedListing]:
        """Return the markets of this venue."""

    @abstractmethod
    def connect(self, upgrade: Upgrade, wire: Wire) -> ClientSession | UpgradeRefusal:
        """Create a session for a client, or refuse its URL or headers."""

    @abstractmethod
    def not_found(self, request: HttpRequest) -> HttpResponse:
        """Return the response to an unknown REST path."""

    @abstractmethod
    def on_step(self, market: Market, step: MarketStep) -> None:
        """Publish the changes of a step, or keep them for the next batch."""

    @abstractmethod
    def on_second(self) -> None:
        """Publish what is due every second; marks have just moved."""

    @abstractmethod
    def flush(self) -> None:
        """Send all pending changes to subscribers."""

    @abstractmethod
    def book_seq(self, market: Market) -> int | None:
        """Return the sequence number of an up-to-date book; None if each subscriber has its own."""

    @abstractmethod
    def bid_row(self, market: Market, price: int, size: int) -> Any:
        """Return a bid in the format of a book frame."""

    @abstractmethod
    def bids_in(self, message: Any) -> Levels:
        """Return the bids of a book message."""

    @abstractmethod
    def trade_id(self, market: Market, trade: MarketTrade) -> str:
        """Return the id under which a trade is published."""

    def restart_ids(self) -> None:
        """Restart the numbers of updates from a low number, as after a restart of the engine."""

    def announce_shutdown(self) -> float:
        """Announce a restart to clients, if the venue does; return the seconds until it happens."""
        return 0.0

    def failure(self, status: int) -> HttpResponse:
        """Return an error response with this HTTP status, in the venue's format."""
        return plain(HTTPStatus(status).phrase, status)

    def garbage(self, _session: ClientSession) -> Frame:
        """Return a frame that no client of this venue can decode."""
        return Frame(b'\x01\x02 {"channel": ]]')

    # Called by the server.

    def start(self) -> None:
        """Start the markets and the account."""
        trading = [market for market in self.markets.values() if market.listing.contract.live]
        busy = sum(market.listing.contract.activity for market in trading)
        steps = self.traffic.steps_for(self.settings.rate, max(1, round(busy)))
        period_s = max(1 / steps, _MIN_STEP_PERIOD_S)
        for market in trading:
            self._activity.setdefault(market.listing.symbol, market.listing.contract.activity)
            self.schedule.every(period_s, partial(self._run_steps, market, steps * period_s))
        self.schedule.every(1.0, self._second)
        self.accounts.start()

    def accept(self, upgrade: Upgrade, socket: Socket) -> ClientSession | UpgradeRefusal:
        """Accept a client, or refuse it."""
        for hook in self.hooks_of(upgrade.peer):
            refusal = hook.on_upgrade(upgrade)
            if refusal is not None:
                return refusal
        return self.connect(upgrade, socket)

    def answer(self, request: HttpRequest) -> HttpResponse:
        """Answer a REST request."""
        hooks = self.hooks_of(request.peer)
        for hook in hooks:
            early = hook.before_answer(request)
            if early is not None:
                self.routes.count(request)
                return early
        response = self.failure(500)
        with self.failures.guard("rest"):
            response = self.routes.answer(request) or self.not_found(request)
        for hook in hooks:
            response = hook.after_answer(request, response)
        return response

    # Called by the admin API.

    def pause(self) -> None:
        """Bring every subscriber up to date, then stop the markets."""
        if not self.is_paused:
            self.is_paused = True
            self.flush()

    def resume(self) -> None:
        """Let the markets move again."""
        self.is_paused = False

    def set_activity(self, symbol: str, factor: float) -> None:
        """Make a market busier (above 1), quieter, or still (0)."""
        self._activity[symbol] = factor

    def truth(self, symbol: str) -> dict[str, Any]:
        """Return the true book and the last trades of a market, whatever was published."""
        market = self.markets[symbol]
        trades = [
            {
                "trade_id": self.trade_id(market, trade),
                "price": self.price_text(market, trade.price),
                "size": self.size_text(market, trade.size),
                "side": trade.side,
            }
            for trade in list(market.trades)[-_TRUTH_TRADES:]
        ]
        return {
            "venue_seq": self.book_seq(market),
            "bids": self._levels(market, market.bids.top()),
            "asks": self._levels(market, market.asks.top()),
            "trades": trades,
            "sent_ns": self.book_sent_ns.get(symbol),
        }

    # Used by venues and faults.

    def find(self, name: str) -> Market | None:
        """Return the market that the venue calls ``name``, unless it is hidden."""
        market = self._by_name.get(name)
        return None if market is None or market.listing.symbol in self.hidden else market

    def find_even_hidden(self, name: str) -> Market | None:
        """Return the market that the venue calls ``name``, also if new clients cannot subscribe to it."""
        return self._by_name.get(name)

    def listed(self) -> list[Market]:
        """Return the markets of the catalogue."""
        return [market for symbol, market in self.markets.items() if symbol not in self.hidden]

    def is_live(self, market: Market) -> bool:
        """Return whether a market is traded."""
        return market.listing.contract.live and market.listing.symbol not in self.delisted

    def first_live(self) -> Market:
        """Return the first market that is traded."""
        return next(market for market in self.markets.values() if self.is_live(market))

    def restarted_id(self, span: int) -> int:
        """Return the first id after a restart: ``span`` lower each time, so that ten restarts repeat none."""
        return span * (_RESTARTS - next(self._restarts) % _RESTARTS)

    def corrupt(self, frame: Frame) -> Frame | None:
        """Replace the first price of a book frame by an invalid one; return None if it has no level."""
        payload, replaced = _FIRST_PRICE.subn(rb"\1rubbish", frame.payload, count=1)
        return replace(frame, payload=payload) if replaced else None

    def edit_bids(self, frame: Frame, edit: Callable[[Levels], None]) -> Frame:
        """Return a book frame, or the body of a REST book, with edited bids."""
        message = msgspec.json.decode(frame.payload)
        edit(self.bids_in(message))
        return self.text(message)

    def with_bid(self, market: Market, frame: Frame, price: int, size: int) -> Frame:
        """Return a book frame with one more bid in front of the others."""
        before, mark, after = frame.payload.partition(self.bids_open)
        level = msgspec.json.encode(self.bid_row(market, price, size))
        comma = b"" if after.startswith(b"]") else b","
        return replace(frame, payload=before + mark + level + comma + after)

    def price_text(self, market: Market, price: int) -> str:
        """Format a price without trailing zeros."""
        return shortest(price, market.listing.price_places)

    def size_text(self, market: Market, size: int) -> str:
        """Format a size without trailing zeros."""
        return shortest(size, market.listing.size_places)

    def _levels(self, market: Market, levels: Iterable[tuple[int, int]]) -> list[list[str]]:
        return [[self.price_text(market, price), self.size_text(market, size)] for price, size in levels]

    def _run_steps(self, market: Market, steps: float) -> None:
        """Do ``steps`` steps, scaled by the market's activity; carry fractions over."""
        symbol = market.listing.symbol
        if self.is_paused or symbol in self.delisted:
            return
        credit = self._credit.get(symbol, 0.0) + steps * self._activity[symbol]
        while credit >= 1:
            credit -= 1
            self.on_step(market, market.step(self.now_ms()))
        self._credit[symbol] = credit

    def _second(self) -> None:
        for market in self.markets.values():
            market.reprice(self.now_ms())
        self.on_second()
