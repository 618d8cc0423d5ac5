"""What the simulated venues share: markets that live on, a catalogue, clients, and the truth about it all.

A venue adds its protocol to this in ``simulator.venues``. What goes wrong on purpose is in ``simulator.faults``, and
hooks in here: before a frame is sent, when a client connects, when a REST request comes.
"""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Hashable, Iterable
from dataclasses import dataclass, replace
from enum import Enum, auto
from functools import partial
from http import HTTPStatus
from itertools import count
from typing import TYPE_CHECKING, Any, ClassVar, Literal, NamedTuple, Protocol, TypeAlias

import msgspec

from simulator.decimals import shortest
from simulator.failures import Failures
from simulator.limits import RateLimit
from simulator.listing import SimulatedListing
from simulator.market import Market, MarketStep, MarketTrade
from simulator.rest import HttpRequest, HttpResponse, Routes, plain
from simulator.schedule import Schedule
from simulator.session import ClientSession, ClientSubscriptions, Kind, OutgoingFrame
from simulator.settings import SimSettings
from simulator.wire import Frame, Socket, Upgrade, UpgradeRefusal, Wire

if TYPE_CHECKING:
    from simulator.accounts.service import AccountService

__all__ = ["AcceptMode", "Hook", "Levels", "Port", "SimulatedVenue", "Traffic", "VenueListener"]

#: The text of the first price in a book frame, in any of the shapes that venues have.
_FIRST_PRICE = re.compile(rb'((?:"(?:p|px|price)":|\[\[)")[^"]*')
_RESTARTS = 10
_MOST_STEPS_A_SECOND = 1000.0
_FEWEST_STEPS_A_SECOND = 0.5
#: A market that steps more often than this does several steps at a time.
_SHORTEST_BEAT_S = 0.005


class Levels(NamedTuple):
    """The levels of one side of a book frame, to be changed in place, and how the venue writes them.

    Attributes:
        rows: Best first.
        price: The key of a level's price; ``size`` likewise.
        zero: Stands for nothing; ``negative`` for less than nothing, and ``none`` is no number at all.
    """

    rows: list[Any]
    price: Any
    size: Any
    zero: Any = "0"
    negative: Any = "-5"
    none: Any = "NaN"


class Hook(Protocol):
    """A fault, as seen from where frames, connections and requests pass."""

    def before_send(self, session: ClientSession, outgoing: OutgoingFrame, frames: list[Frame]) -> list[Frame]:
        """What goes out instead of ``frames``."""

    def on_upgrade(self, upgrade: Upgrade) -> UpgradeRefusal | None:
        """A refusal for someone who connects."""

    def before_answer(self, request: HttpRequest) -> HttpResponse | None:
        """An answer in place of the venue's own."""

    def after_answer(self, request: HttpRequest, response: HttpResponse) -> HttpResponse:
        """What goes out instead of ``response``."""


class AcceptMode(Enum):
    """How those who connect to a port are received."""

    NORMAL = auto()
    #: They are accepted in TCP, and hear nothing more.
    SILENT = auto()
    #: In TLS they are shown a certificate of an authority that nobody knows.
    UNKNOWN_AUTHORITY = auto()
    #: In TLS they are shown a certificate that has expired.
    EXPIRED = auto()


Port: TypeAlias = Literal["ws", "rest"]


class VenueListener(Protocol):
    """A port of a venue.

    Attributes:
        accept_mode: How those are received who connect from now on.
    """

    accept_mode: AcceptMode

    def shut(self) -> None:
        """Refuse connections at the TCP level."""

    def open(self) -> None:
        """Accept connections, on the same port as before."""


@dataclass(frozen=True, slots=True)
class Traffic:
    """How many frames a second a market costs a client that has subscribed to all of its usual channels.

    Attributes:
        steady: Frames that come anyway.
        batches: At most so many merged book frames.
        per_step: Frames that each step of the market brings beside the merged ones.
    """

    steady: float
    batches: float
    per_step: float

    def steps_for(self, rate: float, markets: int) -> float:
        """Steps a second and market so that ``markets`` markets bring about ``rate`` frames a second."""
        spare = rate / max(1, markets) - self.steady
        steps = spare / (1 + self.per_step) if self.batches else spare / self.per_step
        if self.batches and steps > self.batches:
            steps = (spare - self.batches) / self.per_step
        return min(_MOST_STEPS_A_SECOND, max(_FEWEST_STEPS_A_SECOND, steps))


class SimulatedVenue(ABC):
    """A simulated venue: its markets and its clients.

    Attributes:
        markets: By our symbol, or by the venue's name for what is no perpetual.
        sessions: Open connections, oldest first.
        numbers: Counts connections.
        accepted: Connections so far.
        routes: Of the REST side.
        hooks: Faults at work.
        hidden: Symbols that are listed no more (by fault).
        delisted: Symbols that were delisted (by fault): they stay listed, and their streams are silent.
        skew_ms: How far the venue's clock is ahead (by fault).
        mutes_pings: Whether pings stay unanswered (by fault).
        has_flat_errors: Whether errors have their code at the top level (by fault), where both shapes occur.
        listeners: Its ports; none where it is not served.
        accounts: Keeps the account that the venue serves.
        frames: Frames sent so far.
        failures: Frames and answers that could not be made.
        book_sent_ns: Wall clock of the last book frame by symbol.
    """

    name: ClassVar[str]
    traffic: ClassVar[Traffic]
    #: Whether books are told in changes that build on each other.
    has_deltas: ClassVar[bool] = True
    #: What stands before the first bid of a book frame.
    bids_open: ClassVar[bytes]
    #: How the path of the REST book ends with which clients begin; empty where streams begin with one.
    first_book: ClassVar[str] = ""
    accounts: AccountService

    def __init__(self, settings: SimSettings, schedule: Schedule) -> None:
        self.settings = settings
        self.schedule = schedule
        self.subscriptions = ClientSubscriptions()
        self.sessions: dict[ClientSession, None] = {}
        self.numbers = count(1)
        self.accepted = 0
        self.routes = Routes()
        self.hooks: list[Hook] = []
        self.hidden: set[str] = set()
        self.delisted: set[str] = set()
        self.skew_ms = 0
        self.mutes_pings = False
        self.has_flat_errors = False
        self.frames = 0
        self.failures = Failures(self.name)
        self.book_sent_ns: dict[str, int] = {}
        self.listeners: dict[Port, VenueListener] = {}
        self.is_paused = False
        self._restarts = count()
        self._activity: dict[str, float] = {}
        self._credit: dict[str, float] = {}
        now = schedule.wall_ms()
        made = [Market(listing, f"{settings.seed}:{self.name}", now) for listing in self.listings()]
        self.markets = {market.listing.symbol: market for market in made}
        self._by_name = {market.listing.name: market for market in made}

    # What a venue says of itself.

    @abstractmethod
    def listings(self) -> list[SimulatedListing]:
        """The markets of this venue."""

    @abstractmethod
    def connect(self, upgrade: Upgrade, wire: Wire) -> ClientSession | UpgradeRefusal:
        """A session for a client that connects, unless its URL or headers are wrong."""

    @abstractmethod
    def not_found(self, request: HttpRequest) -> HttpResponse:
        """The answer to a REST path that does not exist."""

    @abstractmethod
    def on_step(self, market: Market, step: MarketStep) -> None:
        """Tell subscribers what a step changed, or remember it for their next batch."""

    @abstractmethod
    def on_second(self) -> None:
        """Tell subscribers what is told every second; marks have just moved."""

    @abstractmethod
    def flush(self) -> None:
        """Send every subscriber what it is behind on."""

    @abstractmethod
    def book_seq(self, market: Market) -> int | None:
        """The sequence number of a subscriber that has the book up to date; None if each has its own."""

    @abstractmethod
    def bid_row(self, market: Market, price: int, size: int) -> Any:
        """A bid as it stands in a book frame."""

    @abstractmethod
    def bids_in(self, message: Any) -> Levels:
        """The bids of a message that tells a book."""

    @abstractmethod
    def trade_id(self, market: Market, trade: MarketTrade) -> str:
        """The id under which a trade is told."""

    # What the server calls.

    def start(self) -> None:
        """Let the markets live."""
        trading = [market for market in self.markets.values() if market.listing.contract.live]
        busy = sum(market.listing.contract.activity for market in trading)
        steps = self.traffic.steps_for(self.settings.rate, max(1, round(busy)))
        period_s = max(1 / steps, _SHORTEST_BEAT_S)
        for market in trading:
            self._activity.setdefault(market.listing.symbol, market.listing.contract.activity)
            self.schedule.every(period_s, partial(self._beat, market, steps * period_s))
        self.schedule.every(1.0, self._second)
        self.accounts.start()

    def accept(self, upgrade: Upgrade, socket: Socket) -> ClientSession | UpgradeRefusal:
        """Decide about a client that connects."""
        for hook in self.hooks:
            refusal = hook.on_upgrade(upgrade)
            if refusal is not None:
                return refusal
        return self.connect(upgrade, socket)

    def answer(self, request: HttpRequest) -> HttpResponse:
        """Answer a REST request."""
        for hook in self.hooks:
            early = hook.before_answer(request)
            if early is not None:
                self.routes.count(request)
                return early
        response = self.failure(500)
        with self.failures.guard("rest"):
            response = self.routes.answer(request) or self.not_found(request)
        for hook in self.hooks:
            response = hook.after_answer(request, response)
        return response

    # What the admin API calls.

    def pause(self) -> None:
        """Bring every subscriber up to date, then hold the markets still."""
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
        """The whole book and the last 200 trades of a market, as they are and not as they were told."""
        market = self.markets[symbol]
        trades = [
            {
                "trade_id": self.trade_id(market, trade),
                "price": self.price_text(market, trade.price),
                "size": self.size_text(market, trade.size),
                "side": trade.side,
            }
            for trade in list(market.trades)[-200:]
        ]
        return {
            "venue_seq": self.book_seq(market),
            "bids": self._levels(market, market.bids.top()),
            "asks": self._levels(market, market.asks.top()),
            "trades": trades,
            "sent_ns": self.book_sent_ns.get(symbol),
        }

    # What venues and faults use.

    def now_ms(self) -> int:
        """The venue's clock, in milliseconds."""
        return self.schedule.wall_ms() + self.skew_ms

    def now_us(self) -> int:
        """The venue's clock, in microseconds."""
        return self.schedule.wall_ns() // 1000 + self.skew_ms * 1000

    def scaled(self, seconds: float) -> float:
        """How long a documented period takes at this pace."""
        return seconds / self.settings.pace

    def rate_limit(self, limit: int, window_s: float) -> RateLimit:
        """A rate limit of this venue."""
        return RateLimit(limit, self.scaled(window_s), self.schedule.mono_s)

    def find(self, name: str) -> Market | None:
        """The market that the venue calls ``name``."""
        market = self._by_name.get(name)
        return None if market is None or market.listing.symbol in self.hidden else market

    def find_even_hidden(self, name: str) -> Market | None:
        """The market that the venue calls ``name``, also when nobody new can subscribe to it."""
        return self._by_name.get(name)

    def listed(self) -> list[Market]:
        """The markets of the catalogue."""
        return [market for symbol, market in self.markets.items() if symbol not in self.hidden]

    def is_live(self, market: Market) -> bool:
        """Whether a market is traded."""
        return market.listing.contract.live and market.listing.symbol not in self.delisted

    def publish(self, key: Hashable, stream: str, market: Market, kind: Kind, make: Callable[[], Frame]) -> None:
        """Send the same frame to all who have subscribed to ``key``; without any, it is not even made."""
        sessions = self.subscriptions.to(key)
        if not sessions:
            return
        with self.failures.guard(stream, market.listing.symbol):
            outgoing = OutgoingFrame(stream, market.listing.symbol, kind, make())
            for session in sessions:
                session.push(outgoing)

    def text(self, value: Any) -> Frame:
        """A text frame with JSON."""
        return Frame(msgspec.json.encode(value))

    def garbage(self, session: ClientSession) -> Frame:
        """A frame that no client of this venue can decode."""
        del session
        return Frame(b'\x01\x02 {"channel": ]]')

    def corrupt(self, frame: Frame) -> Frame | None:
        """A book frame with rubbish for the first price; None when it has no level."""
        payload, count = _FIRST_PRICE.subn(rb"\1rubbish", frame.payload, count=1)
        return replace(frame, payload=payload) if count else None

    def edit_bids(self, frame: Frame, edit: Callable[[Levels], None]) -> Frame:
        """A book frame, or the body of a REST book, with other bids."""
        message = msgspec.json.decode(frame.payload)
        edit(self.bids_in(message))
        return self.text(message)

    def restart_ids(self) -> None:  # noqa: B027 - not every venue has numbers
        """Number updates from the beginning again, as after a restart of the engine, where they have numbers."""

    def restarted_id(self, span: int) -> int:
        """Where ids begin after a restart: each time ``span`` lower, so that none comes twice within ten restarts."""
        return span * (_RESTARTS - next(self._restarts) % _RESTARTS)

    def first_live(self) -> Market:
        """The first market that is traded."""
        return next(market for market in self.markets.values() if self.is_live(market))

    def with_bid(self, market: Market, frame: Frame, price: int, size: int) -> Frame:
        """A book frame with one more bid, before the others."""
        before, mark, after = frame.payload.partition(self.bids_open)
        level = msgspec.json.encode(self.bid_row(market, price, size))
        comma = b"" if after.startswith(b"]") else b","
        return replace(frame, payload=before + mark + level + comma + after)

    def announce_shutdown(self) -> float:
        """Tell clients of a restart, if the venue does such a thing; in how many seconds it comes."""
        return 0.0

    def failure(self, status: int) -> HttpResponse:
        """How this venue says that a request failed with an HTTP status."""
        return plain(HTTPStatus(status).phrase, status)

    def price_text(self, market: Market, price: int) -> str:
        """A price, as short as can be."""
        return shortest(price, market.listing.price_places)

    def size_text(self, market: Market, size: int) -> str:
        """A size, as short as can be."""
        return shortest(size, market.listing.size_places)

    def _levels(self, market: Market, levels: Iterable[tuple[int, int]]) -> list[list[str]]:
        return [[self.price_text(market, price), self.size_text(market, size)] for price, size in levels]

    def _beat(self, market: Market, steps: float) -> None:
        """Do so many steps, times the market's activity; fractions are saved."""
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
