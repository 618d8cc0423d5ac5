"""Pagination of an account's lists, and decoding of their rows one by one."""

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

Row = TypeVar("Row")
Parsed = TypeVar("Parsed")
Event = TypeVar("Event", bound=AccountEvent)

_lists: Final = msgspec.json.Decoder(list[msgspec.Raw] | None)
#: Upper bound against lists that never end.
_MAX_PAGES: Final = 1000


class Page(NamedTuple, Generic[Event]):
    """Page of a list.

    Attributes:
        items: In the venue's order.
        cursor: Start of the next page; None or empty where the venue names none.
        is_last: The venue has no more rows, or the rest is not needed.
    """

    items: list[Event | InvalidRow]
    cursor: str | None
    is_last: bool


@dataclass(frozen=True, slots=True)
class Pages(Generic[Event]):
    """Pages of a list, joined.

    Attributes:
        events: In the venue's order.
        invalid: Rows that were left out.
        covers: Everything when all pages were read and all rows were valid, else nothing.
        is_cut: Reading stopped before the last page.
    """

    events: list[Event]
    invalid: list[InvalidRow]
    covers: Covers
    is_cut: bool


def raw_rows(section: msgspec.Raw) -> list[msgspec.Raw]:
    """Return the rows of a list; none for null. Anything else is returned as a single row, which parses as invalid."""
    try:
        return _lists.decode(section) or []
    except ValueError:
        return [section]


def events_of(
    rows: Iterable[Row], parse: Callable[[Row], Parsed], build: Callable[[Parsed], Iterable[Event]], what: str
) -> list[Event | InvalidRow]:
    """Parse rows one by one; a row that is malformed, or of another account, becomes an ``InvalidRow``.

    Args:
        rows: As received.
        parse: Checks the types of one row.
        build: Returns a row's events; raises ValueError for a row of another account.
        what: Name of the rows in reports.
    """
    found = each_row(rows, lambda row: list(build(parse(row))), what)
    return [item for items in found for item in ([items] if isinstance(items, InvalidRow) else items)]


def page_of(items: list[Event | InvalidRow], cursor: str | None) -> Page[Event]:
    """Return a page of a list that is read completely; an empty page is the last one."""
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
    """Parse a page of a list, newest first, and drop the rows older than ``since_ms``.

    The page is the last one when its last row is older; a single row out of order does not end the list.

    Args:
        rows: As received.
        parse: Checks the types of one row.
        build: Returns a row's events.
        what: Name of the rows in reports.
        cursor: Start of the next page.
        time_of: Returns a row's time, ms; a row without a time is kept.
        since_ms: Wall-clock time of the oldest row to keep.
    """
    read, invalid = split_rows(each_row(rows, parse, what))
    is_recent = [(time_of(row) or since_ms) >= since_ms for row in read]
    items = events_of(compress(read, is_recent), lambda row: row, build, what)
    has_more = is_recent[-1] if is_recent else bool(invalid)
    return Page([*invalid, *items], cursor, is_last=not has_more)


def oldest_first(fills: Pages[Fill]) -> list[Fill]:
    """Return fills listed newest first in order of time, without duplicates of overlapping pages."""
    return list({(fill.fill_id, fill.side): fill for fill in fills.events}.values())[::-1]


def closed_orders(newest_first: Sequence[Order]) -> list[Order]:
    """Return the closed orders of a history, oldest first, so that the newest of an order's rows is applied last."""
    return [order for order in reversed(newest_first) if not order.is_open]


def all_pages(
    what: str, request: Callable[[str], RestRequest], read: Callable[[bytes], Page[Event]]
) -> RestFlow[Pages[Event]]:
    """Request page after page until the venue names no further one.

    A repeated cursor, or more than 1000 pages, end the list early; the incomplete list is reported as an invalid row.

    Args:
        what: Name of the list in reports.
        request: Returns the request of a page for its cursor, quoted for a query; empty for the first page.
        read: Parses an answer; its exceptions end the flow.
    """
    items: list[Event | InvalidRow] = []
    cursors: set[str] = set()
    cursor, is_complete = "", False
    while len(cursors) < _MAX_PAGES:
        body = yield request(cursor)
        page = read(body)
        items += page.items
        is_complete = page.is_last or not page.cursor
        if is_complete or page.cursor is None or page.cursor in cursors:
            break
        cursors.add(page.cursor)
        cursor = quote(page.cursor, safe="")
    events, invalid = split_rows(items)
    if not is_complete:
        invalid.append(InvalidRow(what, f"the list ends early, after {len(cursors)} pages"))
    return Pages(events, invalid, unless_invalid(invalid), is_cut=not is_complete)
