"""Faults of accounts: private messages lost, repeated or reordered, credentials expired or refused."""

from __future__ import annotations

from typing import ClassVar

from simulator.accounts.service import STREAM
from simulator.faults.fault import Args, Fault
from simulator.faults.feed import CountArgs, FrameFault
from simulator.session import ClientSession, OutgoingFrame
from simulator.wire import Frame


class PrivateFault(FrameFault[CountArgs]):
    """Base of faults that hit private updates, but not the snapshots at the start of channels."""

    parameters = CountArgs

    def matches(self, outgoing: OutgoingFrame) -> bool:
        """Return whether a frame is a private update."""
        return outgoing.stream == STREAM and outgoing.kind == "data"


class LosePrivate(PrivateFault):
    """Each subscriber loses its next private messages."""

    name: ClassVar[str] = "lose_private"

    def change(self, _key: tuple[ClientSession, str], _frames: list[Frame]) -> list[Frame]:
        """Drop the frames."""
        return []


class RepeatPrivate(PrivateFault):
    """Each subscriber gets its next private messages twice."""

    name: ClassVar[str] = "repeat_private"

    def change(self, _key: tuple[ClientSession, str], frames: list[Frame]) -> list[Frame]:
        """Send the frames twice."""
        return frames + frames


class ReorderPrivate(PrivateFault):
    """Each subscriber gets its next private messages in swapped pairs."""

    name: ClassVar[str] = "reorder_private"
    frames_per_change: ClassVar[int] = 2

    def change(self, key: tuple[ClientSession, str], frames: list[Frame]) -> list[Frame]:
        """Hold the first frame back until the second is sent."""
        return self.swap(key, frames)


class ExpireCredentials(Fault[Args]):
    """Issued tokens and listen keys expire now; sockets stay open."""

    name: ClassVar[str] = "expire_credentials"
    can_have_peer: ClassVar[bool] = False
    venues: ClassVar[tuple[str, ...]] = ("aster", "lighter", "paradex")

    def begin(self) -> None:
        """Expire them."""
        self.venue.accounts.expire()
        self.finish()


class RefuseCredentials(Fault[Args]):
    """Every login is refused, whatever the credentials; existing sessions continue."""

    name: ClassVar[str] = "refuse_credentials"
    can_have_peer: ClassVar[bool] = False
    venues: ClassVar[tuple[str, ...]] = ("aster", "extended", "lighter", "paradex")

    def begin(self) -> None:
        """Refuse logins."""
        self.venue.accounts.refuses_logins = True

    def end(self) -> None:
        """Accept logins again, unless another such fault is active."""
        self.venue.accounts.refuses_logins = bool(self.others)


class HedgeLegs(Fault[Args]):
    """Hedge mode: updates contain only the changed leg, and a payment names one leg."""

    name: ClassVar[str] = "hedge_legs"
    can_have_peer: ClassVar[bool] = False
    venues: ClassVar[tuple[str, ...]] = ("aster",)

    def begin(self) -> None:
        """Switch hedge mode on."""
        self.venue.accounts.hedge(is_hedged=True)

    def end(self) -> None:
        """Switch hedge mode off, unless another such fault is active."""
        self.venue.accounts.hedge(is_hedged=bool(self.others))


class BuilderOrders(Fault[Args]):
    """Trading moves to a builder's market, whose orders and positions are sent only to clients that name its dex."""

    name: ClassVar[str] = "builder_orders"
    can_have_peer: ClassVar[bool] = False
    venues: ClassVar[tuple[str, ...]] = ("hyperliquid",)

    def begin(self) -> None:
        """Trade on the builder's market."""
        self.venue.accounts.trade_on_builder(is_wanted=True)

    def end(self) -> None:
        """Trade on the core dex, unless another such fault is active."""
        self.venue.accounts.trade_on_builder(is_wanted=bool(self.others))
