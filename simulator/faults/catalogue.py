"""Faults of what a venue says of its markets and of the time."""

from __future__ import annotations

from typing import Annotated, ClassVar

from msgspec import Meta

from simulator.faults.fault import Args, Fault

__all__ = ["ClockSkew", "Delist", "UnknownMarket"]


class MarketArgs(Args, frozen=True, kw_only=True):
    """Parameters of faults that strike one market."""

    symbol: Annotated[str, Meta(description="which market, as BTC-PERP")]


class UnknownMarket(Fault[MarketArgs]):
    """A market vanishes from the catalogue, and nobody can subscribe to it; its books and trades go on."""

    name: ClassVar[str] = "unknown_market"
    parameters = MarketArgs

    def begin(self) -> None:
        """Hide it."""
        self.venue.hidden.add(self.args.symbol)

    def end(self) -> None:
        """Show it again."""
        self.venue.hidden.discard(self.args.symbol)


class Delist(Fault[MarketArgs]):
    """A market is delisted: the catalogue says so, and its streams are silent."""

    name: ClassVar[str] = "delist"
    parameters = MarketArgs

    def begin(self) -> None:
        """Withdraw it."""
        self.venue.delisted.add(self.args.symbol)

    def end(self) -> None:
        """Bring it back."""
        self.venue.delisted.discard(self.args.symbol)


class ClockSkewArgs(Args, frozen=True, kw_only=True):
    """Parameters of ``clock_skew``."""

    seconds: Annotated[float, Meta(description="how far the venue's clock is ahead; negative: behind")] = 25.0


class ClockSkew(Fault[ClockSkewArgs]):
    """The venue's clock is wrong, and so are all of its timestamps."""

    name: ClassVar[str] = "clock_skew"
    parameters = ClockSkewArgs

    def begin(self) -> None:
        """Set it wrong."""
        self.venue.skew_ms = int(self.args.seconds * 1000)

    def end(self) -> None:
        """Set it right."""
        self.venue.skew_ms = 0
