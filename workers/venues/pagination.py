"""Read rows of an account's frames and answers one by one, and lists page by page."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import compress
from typing import Final, Generic, NamedTuple, TypeVar
from urllib.parse import quote

import msgspec

from ipc.events import AccountEvent, Fill, Order
from workers.venues.account import Covers, RestFlow, unless_invalid
from workers.venues.rows import InvalidRow, each_row, split_rows
from workers.venues.venue import RestRequest

__all__ = ["Page", "Pages", "all_pages", "ended", "events_of", "oldest_first", "page_of", "raw_rows", "recent_page"]

Row = TypeVar("Row")
Parsed = TypeVar("Parsed")
Event = TypeVar("Event", bound=AccountEvent)

_lists: Final = msgspec.json.Decoder(list[msgspec.Raw] | None)
#: More pages than any list has that ends.
_MOST_PAGES: Final = 1000


class Page(NamedTuple, Generic[Event]):
    """One answer.

    Attributes:
        items: In the venue's order.
        cursor: Where the next page begins; None or empty where the venue names none.
        is_last: The rest is not wanted, or the venue has no more.
    """

    items: list[Event | InvalidRow]
    cursor: str | None
    is_last: bool


@dataclass(frozen=True, slots=True)
class Pages(Generic[Event]):
    """All that was read.

    Attributes:
        events: In the venue's order.
        invalid: Rows that were left out.
        covers: Everything when every page was read and every row was valid: what is missing is missing at the venue.
        is_cut: The list ended before its last page.
    """

    events: list[Event]
    invalid: list[InvalidRow]
    covers: Covers
    is_cut: bool


def raw_rows(section: msgspec.Raw) -> list[msgspec.Raw]:
    """Return the rows of a list; none for null. A section of another type is one row, which is invalid as such."""
    try:
        return _lists.decode(section) or []
    except ValueError:
        return [section]


def events_of(
    rows: Iterable[Row],
    parse: Callable[[Row], Parsed],
    build: Callable[[Parsed], Iterable[Event]],
    what: str,
) -> list[Event | InvalidRow]:
    """Read rows one by one; a row that is malformed, or none of ours, is an InvalidRow.

    Args:
        rows: As they came.
        parse: Checks the types of one row.
        build: Makes a row's events; raises ValueError for a row that is none of ours.
        what: What the rows are called in the report.
    """
    found = each_row(rows, lambda row: list(build(parse(row))), what)
    return [item for items in found for item in ([items] if isinstance(items, InvalidRow) else items)]


def page_of(items: list[Event | InvalidRow], cursor: str | None) -> Page[Event]:
    """Return a page of a list that is wanted as a whole; an empty page is the last one."""
    return Page(items, cursor, is_last=not items)


def recent_page(
    rows: Iterable[Row],
    parse: Callable[[Row], Parsed],
    build: Callable[[Parsed], Iterable[Event]],
    what: str,
    *,
    cursor: str | None,
    time_of: Callable[[Parsed], int | None],
    since_ms: int,
) -> Page[Event]:
    """Read a page of a list, newest first, of which only what is not older than ``since_ms`` is wanted.

    It is the last page when its end is older; a single row that is out of order ends nothing.

    Args:
        rows: As they came.
        parse: Checks the types of one row.
        build: Makes a row's events.
        what: What the rows are called in the report.
        cursor: Where the next page begins.
        time_of: A row's time, ms; one without a time is wanted.
        since_ms: From when on rows are wanted.
    """
    read, invalid = split_rows(each_row(rows, parse, what))
    is_wanted = [(time_of(row) or since_ms) >= since_ms for row in read]
    items = events_of(compress(read, is_wanted), lambda row: row, build, what)
    goes_on = is_wanted[-1] if is_wanted else bool(invalid)
    return Page([*invalid, *items], cursor, is_last=not goes_on)


def oldest_first(fills: Pages[Fill]) -> list[Fill]:
    """Return fills that came newest first in the order of their times, and those that two pages share once."""
    return list({(fill.fill_id, fill.side): fill for fill in fills.events}.values())[::-1]


def ended(newest_first: Sequence[Order]) -> list[Order]:
    """Return the orders of a history that are over, oldest first: of several rows of an order the last told stands."""
    return [order for order in reversed(newest_first) if not order.is_open]


def all_pages(
    what: str, request: Callable[[str], RestRequest], read: Callable[[bytes], Page[Event]]
) -> RestFlow[Pages[Event]]:
    """Ask for page after page, until the venue names no further one.

    A cursor that comes again, or more than 1000 pages, end the list early: it is not whole then, and that is reported.

    Args:
        what: What the list is called in the report.
        request: Makes the request of a page from its cursor, ready for a query; empty for the first one.
        read: Reads an answer; what it raises ends the course.
    """
    items: list[Event | InvalidRow] = []
    cursors: set[str] = set()
    cursor, is_whole = "", False
    while len(cursors) < _MOST_PAGES:
        body = yield request(cursor)
        page = read(body)
        items += page.items
        is_whole = page.is_last or not page.cursor
        if is_whole or page.cursor is None or page.cursor in cursors:
            break
        cursors.add(page.cursor)
        cursor = quote(page.cursor, safe="")
    events, invalid = split_rows(items)
    if not is_whole:
        invalid.append(InvalidRow(what, f"the list ends early, after {len(cursors)} pages"))
    return Pages(events, invalid, unless_invalid(invalid), is_cut=not is_whole)
