"""Hyperliquid: published channels. Books are complete snapshots; there are no sequence numbers.

Source: Hyperliquid, API documentation, WebSocket subscriptions, timeouts and rate limits; cadences as observed on the
live venue.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from decimal import Decimal
from functools import partial
from typing import Any, ClassVar

import msgspec

from simulator.decimals import pointed
from simulator.listing import Contract, SimulatedListing, contracts, list_market
from simulator.market import Market, MarketStep, MarketTrade
from simulator.rest import HttpRequest, HttpResponse, plain
from simulator.schedule import Schedule
from simulator.session import ClientSession, OutgoingFrame
from simulator.settings import SimSettings
from simulator.venue import Levels, SimulatedVenue, Traffic
from simulator.venues.hyperliquid import messages
from simulator.venues.hyperliquid.account import HyperliquidAccounts
from simulator.venues.hyperliquid.session import HyperliquidChannel, HyperliquidSession
from simulator.wire import Frame, Upgrade, UpgradeRefusal, Wire

_BACKLOG = 10
_BUILT = Contract("TSLA", Decimal(400), activity=0.05)
#: Size decimals by the power of ten of the price.
_SIZE_PLACES = {0: 1, 1: 2, 2: 2, 3: 4}


class SimulatedHyperliquid(SimulatedVenue):
    """Simulated Hyperliquid."""

    name: ClassVar[str] = "hyperliquid"
    #: Two books and the context by timer; the touch and trades as they happen.
    traffic: ClassVar[Traffic] = Traffic(steady=3.2, batches=0, per_step=0.68)
    has_deltas: ClassVar[bool] = False
    bids_open: ClassVar[bytes] = b'"levels":[['
    accounts: HyperliquidAccounts
    #: Answers a query of the info endpoint that arrives on a connection.
    answer_info: Callable[[dict[str, Any]], Any]

    def __init__(self, settings: SimSettings, schedule: Schedule) -> None:
        super().__init__(settings, schedule)
        self.messages = self.rate_limit(2000, 60)
        self._seconds = 0

    def listings(self) -> list[SimulatedListing]:
        """Return the perpetuals on a grid of five significant digits, one of them a builder's, and two spot pairs."""
        perps = [_list(contract, max_places=6) for contract in contracts(self.settings.bases)]
        spots = [
            _list(Contract(base, contracts([base])[0].price, activity=0.05), max_places=8, name=name)
            for base, name in (("PURR", "PURR/USDC"), ("HYPE", "@1"))
        ]
        return [*perps, _list(_BUILT, max_places=6, name=messages.BUILT), *spots]

    def connect(self, upgrade: Upgrade, wire: Wire) -> ClientSession | UpgradeRefusal:
        """Accept connections on the one path."""
        return HyperliquidSession(self, wire, upgrade, self) if upgrade.path == "/ws" else UpgradeRefusal(404)

    def not_found(self, request: HttpRequest) -> HttpResponse:
        """Return the response to a request other than ``POST /info``."""
        return plain("Method Not Allowed", 405) if request.path == "/info" else plain("Not Found", 404)

    def block_ms(self) -> int:
        """Return the time of the last block, which is behind the clock."""
        return self.now_ms() - messages.BLOCK_LAG_MS

    def on_step(self, market: Market, step: MarketStep) -> None:
        """Publish the touch and trades; books have their own timers."""
        coin = market.listing.name
        if step.touch_moved:
            self.publish(HyperliquidChannel("bbo", coin), "bbo", market, "data", lambda: self._bbo(market))
        if step.trades:
            self.publish(
                HyperliquidChannel("trades", coin), "trade", market, "data", lambda: self._trades(market, step.trades)
            )

    def on_second(self) -> None:
        """Publish marks, and every other second all mid prices."""
        for market in self.listed():
            key = HyperliquidChannel("activeAssetCtx", market.listing.name)
            self.publish(key, "mark", market, "data", partial(self._context, market))
        self._seconds += 1
        if self._seconds % 2 == 0:
            for session in self.subscriptions.to(HyperliquidChannel("allMids")):
                self.publish_mids(session)

    def flush(self) -> None:
        """Send the books that changed since their last frame."""
        for session in list(self.sessions):
            if isinstance(session, HyperliquidSession):
                session.catch_up()

    def book_seq(self, _market: Market) -> int | None:
        """Return None: the venue has no sequence numbers."""
        return None

    def bid_row(self, market: Market, price: int, size: int) -> Any:
        """Return an entry."""
        return messages.entry(market, price, size)

    def bids_in(self, message: Any) -> Levels:
        """Return the bids of a message."""
        return Levels(message["data"]["levels"][0], "px", "sz")

    def with_bid(self, market: Market, frame: Frame, price: int, size: int) -> Frame:
        """Return a book frame whose worst bid makes room for a new one, so that its depth stays the same."""
        longer = msgspec.json.decode(super().with_bid(market, frame, price, size).payload)
        bids = longer["data"]["levels"][0]
        if len(bids) > 1:
            bids.pop()
        return self.text(longer)

    def trade_id(self, market: Market, trade: MarketTrade) -> str:
        """Return ``tid``."""
        return str(messages.trade_id(market, trade))

    def users(self) -> set[str]:
        """Return the addresses with subscriptions."""
        return {key.user for key in self.subscriptions.active() if isinstance(key, HyperliquidChannel) and key.user}

    def first_frame(self, channel: HyperliquidChannel, market: Market) -> OutgoingFrame:
        """Return the frame that a new subscription starts with; recent trades are not marked as a backlog."""
        symbol = market.listing.symbol
        if channel.type == "bbo":
            return OutgoingFrame("bbo", symbol, "data", self._bbo(market))
        if channel.type == "trades":
            return OutgoingFrame("trade", symbol, "data", self._trades(market, list(market.trades)[-_BACKLOG:]))
        return OutgoingFrame("mark", symbol, "data", self._context(market))

    def publish_mids(self, session: ClientSession) -> None:
        """Send the mid prices of all books."""
        with self.failures.guard("other"):
            frame = self.text({"channel": "allMids", "data": {"mids": self.mids("")}})
            session.push(OutgoingFrame("other", "", "data", frame))

    def first_account_frames(self, channel: HyperliquidChannel) -> list[OutgoingFrame]:
        """Return the frames that a new subscription to a user's channel starts with."""
        return self.accounts.first_frames(channel.type, channel.user, channel.dex)

    def mids(self, dex: str) -> dict[str, str]:
        """Return the mid price of each book of a dex; the core one includes the spot pairs."""
        here = [market for market in self.listed() if self.is_live(market) and messages.dex_of(market) == dex]
        contexts = {market.listing.name: messages.asset_ctx(market, is_live=True) for market in here}
        return {coin: ctx["midPx"] for coin, ctx in contexts.items() if ctx["midPx"] is not None}

    def _trades(self, market: Market, trades: Sequence[MarketTrade]) -> Frame:
        return self.text({"channel": "trades", "data": messages.trade_rows(market, trades)})

    def _bbo(self, market: Market) -> Frame:
        touch = [best and messages.entry(market, *best) for best in (market.bids.best(), market.asks.best())]
        return self.text(
            {"channel": "bbo", "data": {"coin": market.listing.name, "time": self.block_ms(), "bbo": touch}}
        )

    def _context(self, market: Market) -> Frame:
        ctx = messages.asset_ctx(market, is_live=self.is_live(market))
        if not messages.is_spot(market):
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
