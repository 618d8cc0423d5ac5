"""State of the screen of ``top``, and how keys change it. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Final, Literal, NamedTuple, TypeAlias

from supervisor.overview.document import Overview, VenueView

Mode: TypeAlias = Literal["venues", "streams", "log", "help"]
Sort: TypeAlias = Literal["order", "age", "rate", "restarts"]

_SORTS: Final[tuple[Sort, ...]] = ("order", "age", "rate", "restarts")
_ARROWS: Final = {"A": "up", "B": "down", "C": "right", "D": "left"}
_NAMED: Final = {
    "\r": "enter",
    "\n": "enter",
    "\t": "right",
    "\x1b": "escape",
    "\x7f": "escape",
    "\x03": "q",
    "\x04": "q",
}


@dataclass(frozen=True, slots=True)
class View:
    """Choices of the user: what the screen shows.

    Attributes:
        mode: Venues, the streams or the log of the chosen venue, or help.
        chosen: Name of the chosen venue; None for the first.
        sort: Order of the venues; ``order`` is that of the configuration.
        symbol: Number of the symbol whose prices come first.
        is_paused: True while the screen does not change.
        confirms: Venue whose restart waits for ``y``; None for none.
        message: Shown once in the last line.
    """

    mode: Mode = "venues"
    chosen: str | None = None
    sort: Sort = "order"
    symbol: int = 0
    is_paused: bool = False
    confirms: str | None = None
    message: str = ""


class ViewCommand(NamedTuple):
    """Request that follows from a key: ``quit``, or ``restart`` of a venue."""

    verb: Literal["quit", "restart"]
    venue: str = ""


def keys_in(data: bytes) -> Iterator[str]:
    """Yield the keys in what a terminal sent: names for arrows, enter and escape, else the character."""
    text = data.decode(errors="replace")
    at = 0
    while at < len(text):
        one = text[at]
        if one == "\x1b" and text[at + 1 : at + 2] in {"[", "O"}:
            after = at + 2
            while after < len(text) and not "@" <= text[after] <= "~":  # parameters of the sequence (ECMA-48)
                after += 1
            yield _ARROWS.get(text[after : after + 1], "unknown")
            at = after + 1
            continue
        yield _NAMED.get(one, one)
        at += 1


def ordered(overview: Overview, sort: Sort) -> list[VenueView]:
    """Return the venues in an order; the largest number first, what is unknown last."""
    venues = overview.venues
    if sort == "age":
        return sorted(venues, key=lambda venue: -(venue.age_s if venue.age_s is not None else -1.0))
    if sort == "rate":
        return sorted(venues, key=lambda venue: -(venue.events_per_s if venue.events_per_s is not None else -1.0))
    if sort == "restarts":
        return sorted(venues, key=lambda venue: -venue.restarts)
    return list(venues)


def chosen_venue(view: View, overview: Overview) -> VenueView | None:
    """Return the chosen venue: the first when none is chosen or it is gone; None without venues."""
    venues = ordered(overview, view.sort)
    return next((venue for venue in venues if venue.name == view.chosen), venues[0] if venues else None)


def pressed(view: View, key: str, overview: Overview) -> tuple[View, ViewCommand | None]:
    """Return the view after a key, and the command that it stands for, if any."""
    venue = chosen_venue(view, overview)
    if view.confirms is not None:
        asked = replace(view, confirms=None, message="")
        return asked, ViewCommand("restart", view.confirms) if key in {"y", "Y"} else None
    view = replace(view, message="")
    match key:
        case "q":
            return view, ViewCommand("quit")
        case "?":
            return replace(view, mode="venues" if view.mode == "help" else "help"), None
        case "escape":
            return replace(view, mode="venues"), None
        case "p":
            return replace(view, is_paused=not view.is_paused), None
        case "s":
            return replace(view, sort=_SORTS[(_SORTS.index(view.sort) + 1) % len(_SORTS)]), None
        case "left" | "right" if overview.prices:
            step = 1 if key == "right" else -1
            return replace(view, symbol=(view.symbol + step) % len(overview.prices)), None
    return (view if venue is None else _of_venue(view, key, overview, venue)), None


def _of_venue(view: View, key: str, overview: Overview, venue: VenueView) -> View:
    """Return the view after a key that is about the venues."""
    names = [one.name for one in ordered(overview, view.sort)]
    match key:
        case "up" | "k":
            return replace(view, chosen=names[max(0, names.index(venue.name) - 1)])
        case "down" | "j":
            return replace(view, chosen=names[min(len(names) - 1, names.index(venue.name) + 1)])
        case "enter":
            return replace(view, mode="venues" if view.mode == "streams" else "streams", chosen=venue.name)
        case "l":
            return replace(view, mode="venues" if view.mode == "log" else "log", chosen=venue.name)
        case "r":
            return replace(view, confirms=venue.name, chosen=venue.name)
    if key.isascii() and key.isdigit() and 1 <= int(key) <= len(names):
        return replace(view, chosen=names[int(key) - 1])
    return view
