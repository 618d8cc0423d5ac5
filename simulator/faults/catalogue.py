"""Faults of the catalogue and of the venue's clock."""

from __future__ import annotations

from typing import Annotated, ClassVar

from msgspec import Meta

from simulator.faults.fault import Args, Fault


class MarketArgs(Args, frozen=True, kw_only=True):
    """Parameters of faults of one market."""

    symbol: Annotated[str, Meta(description="market, as BTC-PERP")]


class UnknownMarket(Fault[MarketArgs]):
    """Market disappears from the catalogue and refuses new subscriptions; existing streams continue."""

    name: ClassVar[str] = "unknown_market"
    can_have_peer: ClassVar[bool] = False
    parameters = MarketArgs

    def begin(self) -> None:
        """Hide the market."""
        self.venue.hidden.add(self.args.symbol)

    def end(self) -> None:
        """Show the market again."""
        self.venue.hidden.discard(self.args.symbol)


class Delist(Fault[MarketArgs]):
    """Market is delisted: marked in the catalogue, and its streams are silent."""

    name: ClassVar[str] = "delist"
    can_have_peer: ClassVar[bool] = False
    parameters = MarketArgs

    def begin(self) -> None:
        """Delist the market."""
        self.venue.delisted.add(self.args.symbol)

    def end(self) -> None:
        """List the market again."""
        self.venue.delisted.discard(self.args.symbol)


class ClockSkewArgs(Args, frozen=True, kw_only=True):
    """Parameters of ``clock_skew``."""

    seconds: Annotated[float, Meta(description="how far the venue's clock is ahead; negative: behind")] = 25.0


class ClockSkew(Fault[ClockSkewArgs]):
    """Clock of the venue is wrong, and so are its timestamps."""

    name: ClassVar[str] = "clock_skew"
    can_have_peer: ClassVar[bool] = False
    parameters = ClockSkewArgs

    def begin(self) -> None:
        """Set the clock wrong."""
        self.venue.skew_ms = int(self.args.seconds * 1000)

    def end(self) -> None:
        """Set the clock right."""
        self.venue.skew_ms = 0
