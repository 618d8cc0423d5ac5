"""Interpretation of venues' words and numbers about orders and positions, shared by all private sides."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from traceback import extract_tb
from typing import Final, Literal, TypeAlias, TypedDict

from ipc.decimals import is_zero, number
from workers.venues.listing import Listing

OrderStatus: TypeAlias = Literal["open", "untriggered", "filled", "canceled", "rejected", "expired", "closed"]
MarginMode: TypeAlias = Literal["cross", "isolated"]

_MARGIN_MODES: Final[Mapping[str, MarginMode]] = {"cross": "cross", "crossed": "cross", "isolated": "isolated"}
#: From the first quote to the last of its kind; to the end where it is unclosed.
_QUOTED: Final = re.compile(r"""(['"])(?:.*\1|.*)""", re.DOTALL)


class CommonFields(TypedDict):
    """Fields of every account event."""

    venue: str
    symbol: str | None
    venue_symbol: str | None
    exchange_ns: int | None
    account: str
    snapshot: bool


def common_fields(
    venue: str, listing: Listing | None, exchange_ns: int | None, account: str, *, snapshot: bool = False
) -> CommonFields:
    """Return the fields of an event about a market, or, without a listing, about the whole account."""
    return {
        "venue": venue,
        "symbol": None if listing is None else listing.symbol,
        "venue_symbol": None if listing is None else listing.venue_symbol,
        "exchange_ns": exchange_ns,
        "account": account,
        "snapshot": snapshot,
    }


def order_status(
    table: Mapping[str, OrderStatus], word: str, size: str, filled: str, *, waits: bool = False
) -> OrderStatus:
    """Return the state of an order.

    The quantity has precedence over the venue's word: an order that is filled in full is ``filled``. An unknown word
    leaves an order open, because closed states are final.

    Args:
        table: State by the venue's word.
        word: Word received.
        size: Size as placed, decimal text; zero for orders that close a whole position.
        filled: Filled size so far, decimal text.
        waits: The order waits for a trigger price, so that open means ``untriggered``.

    Raises:
        ValueError: ``size`` or ``filled`` is not a decimal.
    """
    if not is_zero(size) and number(filled) >= number(size):
        return "filled"
    status = table.get(word, "open")
    return "untriggered" if waits and status == "open" else status


def fill_type(table: Mapping[str, str], word: str, liquidity: str | None) -> str:
    """Return the type of a fill; an unknown word is kept, in lower case.

    The liquidated account is the taker: for the maker of the same trade it is an ordinary trade.

    Args:
        table: Type by the venue's word.
        word: Word received.
        liquidity: ``maker`` or ``taker`` of our side; None where the venue does not say.
    """
    kind = table.get(word) or word.lower()
    return "trade" if kind == "liquidation" and liquidity == "maker" else kind


def priced(price: str | None) -> str | None:
    """Return a price; None where the venue writes zero or an empty text for no price.

    Raises:
        ValueError: Not a decimal.
    """
    return price if price and not is_zero(price) else None


def above_zero(price: str | None) -> str | None:
    """Return a computed price, such as a liquidation price; None where it is not above zero and thus never reached.

    Raises:
        ValueError: Not a decimal.
    """
    return price if price and number(price) > 0 else None


def margin_mode(word: str | None) -> MarginMode | None:
    """Return the margin mode for the venue's spelling; None for an unknown one."""
    return _MARGIN_MODES.get((word or "").lower())


def without_values(error: str) -> str:
    """Return an error text without its quoted parts: an account's values are private."""
    return _QUOTED.sub("…", error)


def fault_of(error: Exception) -> str:
    """Return type and place of an exception in a parser, without its message, which may quote private values."""
    frame = extract_tb(error.__traceback__)[-1]
    return f"{type(error).__name__} in {Path(frame.filename).name}, line {frame.lineno}"
