"""Hyperliquid: its WebSocket side. Books come as whole snapshots; there is no sequence number anywhere.

Source: Hyperliquid, API documentation, WebSocket subscriptions, timeouts and rate limits; error texts, cadences and the
abrupt end after an unknown coin as observed on the live venue.
"""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal
from functools import partial
from typing import Any, ClassVar, NamedTuple

import msgspec

from simulator.decimals import pointed
from simulator.listing import Contract, SimulatedListing, contracts, list_market
from simulator.market import Market, MarketStep, MarketTrade
from simulator.rest import HttpRequest, HttpResponse, plain
from simulator.schedule import Job, Schedule
from simulator.session import ClientSession, OutgoingFrame, decoded
from simulator.settings import SimSettings
from simulator.venue import Levels, SimulatedVenue, Traffic
from simulator.venues.hyperliquid import rest as shapes
from simulator.venues.hyperliquid.account import USER_DEFAULTS, HyperliquidAccounts, is_address
from simulator.wire import Frame, Upgrade, UpgradeRefusal, Wire

__all__ = ["SimulatedHyperliquid"]

_SILENCE_S = 60
_FAST_S, _FAST_DEPTH = 0.5, 5
_SLOW_S, _SLOW_DEPTH = 5.0, 20
_BACKLOG = 10
_MOST_CHANNELS, _MOST_USERS = 1000, 15
_DIGITS: tuple[Any, ...] = (None, 2, 3, 4, 5)
_MANTISSAS: tuple[Any, ...] = (1, 2, 5)

_BUILT = Contract("TSLA", Decimal(400), activity=0.05)
#: Size decimals by the power of ten of the price.
_SIZE_PLACES = {0: 1, 1: 2, 2: 2, 3: 4}


class Wanted(NamedTuple):
    """A subscription, with all defaults filled in."""

    type: str
    coin: str = ""
    digits: int | None = None
    mantissa: int | None = None
    fast: bool = False
    user: str = ""
    dex: str = ""

    def echo(self) -> dict[str, Any]:
        """As the venue repeats it."""
        if self.user:
            defaults = USER_DEFAULTS[self.type]
            return {
                "type": self.type,
                "user": self.user,
                **defaults,
                **({"dex": self.dex} if "dex" in defaults else {}),
            }
        if self.type == "allMids":
            return {"type": self.type, "dex": ""}
        plain_echo: dict[str, Any] = {"type": self.type, "coin": self.coin}
        if self.type != "l2Book":
            return plain_echo
        return {**plain_echo, "nSigFigs": self.digits, "mantissa": self.mantissa, "fast": self.fast}

    def __str__(self) -> str:
        """As it stands in an error text."""
        return msgspec.json.encode(self.echo()).decode()


def parse_wanted(subscription: dict[str, Any]) -> Wanted | None:
    """The subscription that a client asks for, or None when it makes no sense."""
    kind, coin = subscription.get("type"), subscription.get("coin")
    if kind == "allMids":
        return Wanted("allMids")
    if kind in USER_DEFAULTS:
        user, dex = subscription.get("user"), subscription.get("dex", "") if "dex" in USER_DEFAULTS[kind] else ""
        return Wanted(kind, user=user.lower(), dex=dex) if is_address(user) and isinstance(dex, str) else None
    if not isinstance(coin, str) or kind not in {"l2Book", "bbo", "trades", "activeAssetCtx"}:
        return None
    if kind != "l2Book":
        return Wanted(kind, coin)
    digits, mantissa = subscription.get("nSigFigs"), subscription.get("mantissa")
    if digits not in _DIGITS or (mantissa is not None and (digits != 5 or mantissa not in _MANTISSAS)):
        return None
    return Wanted(kind, coin, digits, mantissa, subscription.get("fast") is True)


class HyperliquidSession(ClientSession):
    """One connection."""

    venue: SimulatedHyperliquid

    def __init__(self, venue: SimulatedVenue, wire: Wire, upgrade: Upgrade) -> None:
        super().__init__(venue, wire, upgrade)
        self._books: dict[Wanted, Job] = {}
        self._told: dict[Wanted, Any] = {}

    def begin(self) -> None:
        """Greet in plain text, and watch for silence of our own."""
        if self.venue.settings.greeting:
            self.send(shapes.GREETING)
        self.add_job(self.venue.schedule.every(self.venue.scaled(1), self._end_when_silent))

    def receive(self, text: bytes) -> None:
        """Act on a request."""
        if not self.venue.messages.acquire():
            self._error("Cannot send more than 2000 messages per minute.")
            return
        match decoded(text):
            case {"method": "ping"}:
                if not self.venue.mutes_pings:
                    self.last_data_s = self.venue.schedule.mono_s()
                    self.reply({"channel": "pong"})
            case {"method": "subscribe", "subscription": {"type": str()} as subscription}:
                self._subscribe(subscription)
            case {"method": "unsubscribe", "subscription": {"type": str()} as subscription}:
                self._unsubscribe(subscription)
            case {"method": "post", "id": int(number), "request": {"type": "info", "payload": dict(query)}}:
                self._post(number, query)
            case _:
                said = text.decode(errors="replace")
                self._error(f"Error parsing JSON into valid websocket request: {said}")

    def on_gone(self) -> None:
        """Forget the client."""
        for job in self._books.values():
            job.cancel()
        super().on_gone()

    def catch_up(self) -> None:
        """Send the books that changed since they were last sent."""
        for wanted in self._books:
            market = self.venue.find_even_hidden(wanted.coin)
            if market is not None and self._levels(wanted, market) != self._told.get(wanted):
                self._send_book(wanted, market)

    def _subscribe(self, subscription: dict[str, Any]) -> None:
        wanted = parse_wanted(subscription)
        if wanted is None:
            self._error(f"Invalid subscription {msgspec.json.encode(subscription).decode()}")
        elif wanted.coin and self.venue.find(wanted.coin) is None:
            self.wire.abort()
        elif self.venue.subscriptions.has(self, wanted):
            self._error(f"Already subscribed: {wanted}")
        elif self.venue.subscriptions.total >= _MOST_CHANNELS:
            self._error(f"Cannot subscribe to more than {_MOST_CHANNELS} channels.")
        elif wanted.user and len({*self.venue.users(), wanted.user}) > _MOST_USERS:
            self._error(f"Cannot track more than {_MOST_USERS} total users.")
        else:
            self.venue.subscriptions.add(self, wanted)
            self._acknowledge("subscribe", wanted)
            self._tell_first(wanted)

    def _unsubscribe(self, subscription: dict[str, Any]) -> None:
        wanted = parse_wanted(subscription)
        if wanted is None:
            self._error(f"Invalid subscription {msgspec.json.encode(subscription).decode()}")
        elif not self.venue.subscriptions.remove(self, wanted):
            self._error(f"Already unsubscribed: {wanted}")
        else:
            if wanted in self._books:
                self._books.pop(wanted).cancel()
            self._acknowledge("unsubscribe", wanted)

    def _acknowledge(self, method: str, wanted: Wanted) -> None:
        data = {"method": method, "subscription": wanted.echo()}
        self.reply({"channel": "subscriptionResponse", "data": data})

    def _tell_first(self, wanted: Wanted) -> None:
        market = self.venue.find(wanted.coin)
        if wanted.user:
            for outgoing in self.venue.accounts.first_frames(wanted.type, wanted.user, wanted.dex):
                self.push(outgoing)
        elif market is None:
            self.venue.tell_mids(self)
        elif wanted.type == "l2Book":
            self._send_book(wanted, market)
            period = _FAST_S if wanted.fast else _SLOW_S
            self._books[wanted] = self.venue.schedule.every(period, partial(self._send_book, wanted, market))
        else:
            self.push(self.venue.first_parcel(wanted, market))

    def _levels(self, wanted: Wanted, market: Market) -> Any:
        depth = _FAST_DEPTH if wanted.fast else _SLOW_DEPTH
        return shapes.book(market, 0, depth, wanted.digits, wanted.mantissa)["levels"]

    def _send_book(self, wanted: Wanted, market: Market) -> None:
        stream, symbol = "book" if wanted.fast else "book20", market.listing.symbol
        with self.venue.failures.guard(stream, symbol):
            levels = self._told[wanted] = self._levels(wanted, market)
            data = {"coin": wanted.coin, "time": self.venue.block_ms(), "levels": levels}
            # Only fast frames are marked: an ordinary one of a thin market has as few levels.
            marked = {**data, "fast": True} if wanted.fast else data
            self.push(OutgoingFrame(stream, symbol, "snapshot", self.venue.text({"channel": "l2Book", "data": marked})))

    def _post(self, number: int, query: dict[str, Any]) -> None:
        payload = {"type": query.get("type"), "data": self.venue.info.answer(query)}
        self.reply({"channel": "post", "data": {"id": number, "response": {"type": "info", "payload": payload}}})

    def _error(self, text: str) -> None:
        self.reply({"channel": "error", "data": text})

    def _end_when_silent(self) -> None:
        if self.venue.schedule.mono_s() - self.last_data_s > self.venue.scaled(_SILENCE_S):
            self.wire.close(1000, "Inactive")


class SimulatedHyperliquid(SimulatedVenue):
    """The venue."""

    name: ClassVar[str] = "hyperliquid"
    #: Two books and the context by the clock; the touch and the trades as they happen.
    traffic: ClassVar[Traffic] = Traffic(steady=3.2, batches=0, per_step=0.68)
    has_deltas: ClassVar[bool] = False
    bids_open: ClassVar[bytes] = b'"levels":[['
    accounts: HyperliquidAccounts

    def __init__(self, settings: SimSettings, schedule: Schedule) -> None:
        super().__init__(settings, schedule)
        self.accounts = HyperliquidAccounts(self)
        self.messages = self.rate_limit(2000, 60)
        self.info = shapes.Info(self)
        self.routes.add("POST", "/info", self.info.serve)
        self._seconds = 0

    def listings(self) -> list[SimulatedListing]:
        """Perpetuals on a grid of five significant digits, one of a builder among them, and two spot pairs."""
        perps = [_list(contract, max_places=6) for contract in contracts(self.settings.bases)]
        spots = [
            _list(Contract(base, contracts([base])[0].price, activity=0.05), max_places=8, name=name)
            for base, name in (("PURR", "PURR/USDC"), ("HYPE", "@1"))
        ]
        return [*perps, _list(_BUILT, max_places=6, name=shapes.BUILT), *spots]

    def connect(self, upgrade: Upgrade, wire: Wire) -> ClientSession | UpgradeRefusal:
        """Everything is served on one path."""
        return HyperliquidSession(self, wire, upgrade) if upgrade.path == "/ws" else UpgradeRefusal(404)

    def not_found(self, request: HttpRequest) -> HttpResponse:
        """Only ``POST /info`` exists here."""
        return plain("Method Not Allowed", 405) if request.path == "/info" else plain("Not Found", 404)

    def is_spot(self, market: Market) -> bool:
        """Whether a market is no perpetual."""
        return not market.listing.symbol.endswith("-PERP") and not shapes.dex_of(market)

    def block_ms(self) -> int:
        """The time of the last block, which is behind the clock."""
        return self.now_ms() - shapes.BLOCK_LAG_MS

    def on_step(self, market: Market, step: MarketStep) -> None:
        """Tell of the touch and of trades; books wait for their turn."""
        coin = market.listing.name
        if step.touch_moved:
            self.publish(Wanted("bbo", coin), "bbo", market, "data", lambda: self._bbo(market))
        if step.trades:
            self.publish(Wanted("trades", coin), "trade", market, "data", lambda: self._trades(market, step.trades))

    def on_second(self) -> None:
        """Tell of marks, and every other second of all middles."""
        for market in self.listed():
            key = Wanted("activeAssetCtx", market.listing.name)
            self.publish(key, "mark", market, "data", partial(self._context, market))
        self._seconds += 1
        if self._seconds % 2 == 0:
            for session in self.subscriptions.to(Wanted("allMids")):
                self.tell_mids(session)

    def flush(self) -> None:
        """Send the books that wait for their turn."""
        for session in list(self.sessions):
            if isinstance(session, HyperliquidSession):
                session.catch_up()

    def book_seq(self, market: Market) -> int | None:
        """There is none."""
        del market
        return None

    def bid_row(self, market: Market, price: int, size: int) -> Any:
        """An entry."""
        return shapes.entry(market, price, size)

    def bids_in(self, message: Any) -> Levels:
        """Entries."""
        return Levels(message["data"]["levels"][0], "px", "sz")

    def with_bid(self, market: Market, frame: Frame, price: int, size: int) -> Frame:
        """The new bid takes the place of the worst: no frame has more levels than its subscription shows."""
        longer = msgspec.json.decode(super().with_bid(market, frame, price, size).payload)
        bids = longer["data"]["levels"][0]
        if len(bids) > 1:
            bids.pop()
        return self.text(longer)

    def trade_id(self, market: Market, trade: MarketTrade) -> str:
        """``tid``."""
        return str(shapes.trade_id(market, trade))

    def wanted_by(self, kind: str, user: str, dex: str = "") -> Wanted:
        """A subscription to a user's channel."""
        return Wanted(kind, user=user, dex=dex)

    def users(self) -> set[str]:
        """The addresses that somebody follows."""
        return {key.user for key in self.subscriptions.active() if isinstance(key, Wanted) and key.user}

    def first_parcel(self, wanted: Wanted, market: Market) -> OutgoingFrame:
        """What a subscriber of ``wanted`` is told at once; for trades that is a backlog which is not marked as one."""
        symbol = market.listing.symbol
        if wanted.type == "bbo":
            return OutgoingFrame("bbo", symbol, "data", self._bbo(market))
        if wanted.type == "trades":
            return OutgoingFrame("trade", symbol, "data", self._trades(market, list(market.trades)[-_BACKLOG:]))
        return OutgoingFrame("mark", symbol, "data", self._context(market))

    def tell_mids(self, session: ClientSession) -> None:
        """Send the middles of all books."""
        with self.failures.guard("other"):
            frame = self.text({"channel": "allMids", "data": {"mids": self.info.all_mids({})}})
            session.push(OutgoingFrame("other", "", "data", frame))

    def _trades(self, market: Market, trades: Sequence[MarketTrade]) -> Frame:
        return self.text({"channel": "trades", "data": shapes.trade_rows(market, trades)})

    def _bbo(self, market: Market) -> Frame:
        touch = [best and shapes.entry(market, *best) for best in (market.bids.best(), market.asks.best())]
        return self.text(
            {"channel": "bbo", "data": {"coin": market.listing.name, "time": self.block_ms(), "bbo": touch}}
        )

    def _context(self, market: Market) -> Frame:
        ctx = shapes.asset_ctx(market, is_live=self.is_live(market))
        if not self.is_spot(market):
            return self.text({"channel": "activeAssetCtx", "data": {"coin": market.listing.name, "ctx": ctx}})
        kept = {name: ctx[name] for name in ("markPx", "midPx", "prevDayPx", "dayNtlVlm")}
        data = {"coin": market.listing.name, "ctx": {**kept, "circulatingSupply": pointed(10**9, 0)}}
        return self.text({"channel": "activeSpotAssetCtx", "data": data})


def _list(contract: Contract, max_places: int, name: str = "") -> SimulatedListing:
    power = contract.price.adjusted()
    size_places = 5 if power > 3 else _SIZE_PLACES.get(power, 0)
    price_places = max(0, min(max_places - size_places, 4 - power))
    perp = f"k{contract.base}" if contract.multiplier > 1 else contract.base
    return list_market(contract, name or perp, price_places, size_places, symbol=name)
