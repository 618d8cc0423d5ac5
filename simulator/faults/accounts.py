"""Faults of accounts: private messages lost, repeated or out of order, credentials that expire or are refused."""

from __future__ import annotations

from typing import ClassVar

from simulator.accounts.service import STREAM
from simulator.faults.fault import Args, Fault
from simulator.faults.feed import CountArgs, FrameFault
from simulator.session import ClientSession, OutgoingFrame
from simulator.wire import Frame

__all__ = [
    "BuilderOrders",
    "ExpireCredentials",
    "HedgeLegs",
    "LosePrivate",
    "RefuseCredentials",
    "ReorderPrivate",
    "RepeatPrivate",
]


class PrivateFault(FrameFault[CountArgs]):
    """Strikes what subscribers are told of an account, but not the states with which channels start."""

    parameters = CountArgs

    def concerns(self, outgoing: OutgoingFrame) -> bool:
        """Whether a frame tells of something that happened to the account."""
        return outgoing.stream == STREAM and outgoing.kind == "data"


class LosePrivate(PrivateFault):
    """The next private messages of each subscriber are lost on their way."""

    name: ClassVar[str] = "lose_private"

    def strike(self, key: tuple[ClientSession, str], frames: list[Frame]) -> list[Frame]:
        """Lose it."""
        del key, frames
        return []


class RepeatPrivate(PrivateFault):
    """The next private messages of each subscriber come twice."""

    name: ClassVar[str] = "repeat_private"

    def strike(self, key: tuple[ClientSession, str], frames: list[Frame]) -> list[Frame]:
        """Say it again."""
        del key
        return frames + frames


class ReorderPrivate(PrivateFault):
    """The next private messages of each subscriber come in pairs, the second one first."""

    name: ClassVar[str] = "reorder_private"
    strikes: ClassVar[int] = 2

    def strike(self, key: tuple[ClientSession, str], frames: list[Frame]) -> list[Frame]:
        """Hold the first one until the second has gone."""
        return self.swap(key, frames)


class ExpireCredentials(Fault[Args]):
    """Tokens and listen keys that were handed out expire now; sockets stay open."""

    name: ClassVar[str] = "expire_credentials"
    venues: ClassVar[tuple[str, ...]] = ("aster", "lighter", "paradex")

    def begin(self) -> None:
        """Let them expire."""
        self.venue.accounts.expire()
        self.finish()


class RefuseCredentials(Fault[Args]):
    """Nobody can log in, whatever the credentials; who is in stays in."""

    name: ClassVar[str] = "refuse_credentials"
    venues: ClassVar[tuple[str, ...]] = ("aster", "extended", "lighter", "paradex")

    def begin(self) -> None:
        """Refuse."""
        self.venue.accounts.refuses_logins = True

    def end(self) -> None:
        """Accept again, unless another fault wants otherwise."""
        self.venue.accounts.refuses_logins = bool(self.others)


class HedgeLegs(Fault[Args]):
    """The account holds both sides of each market; a push tells the leg that changed, and a payment names one leg."""

    name: ClassVar[str] = "hedge_legs"
    venues: ClassVar[tuple[str, ...]] = ("aster",)

    def begin(self) -> None:
        """Open both sides."""
        self.venue.accounts.hedge(is_hedged=True)

    def end(self) -> None:
        """Close what is beside the position, unless another fault wants otherwise."""
        self.venue.accounts.hedge(is_hedged=bool(self.others))


class BuilderOrders(Fault[Args]):
    """The account trades on a builder's market, whose orders and positions are told to those who name its dex."""

    name: ClassVar[str] = "builder_orders"
    venues: ClassVar[tuple[str, ...]] = ("hyperliquid",)

    def begin(self) -> None:
        """Trade there."""
        self.venue.accounts.trade_on_builder(is_wanted=True)

    def end(self) -> None:
        """Trade on the core dex, unless another fault wants otherwise."""
        self.venue.accounts.trade_on_builder(is_wanted=bool(self.others))
