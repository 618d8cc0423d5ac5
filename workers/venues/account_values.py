"""What venues' words and numbers about orders and positions mean: the rules that all private sides share."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from traceback import extract_tb
from typing import Final, Literal, TypeAlias

from ipc.decimals import is_zero, number

__all__ = [
    "MarginMode",
    "OrderStatus",
    "above_zero",
    "fault_of",
    "fill_type",
    "margin_mode",
    "order_status",
    "priced",
    "without_values",
]

OrderStatus: TypeAlias = Literal["open", "untriggered", "filled", "canceled", "rejected", "expired", "closed"]
MarginMode: TypeAlias = Literal["cross", "isolated"]

_MARGIN_MODES: Final[Mapping[str, MarginMode]] = {"cross": "cross", "crossed": "cross", "isolated": "isolated"}
#: From the first quote to the last of its kind; to the end where it is not closed.
_QUOTED: Final = re.compile(r"""(['"])(?:.*\1|.*)""", re.DOTALL)


def order_status(
    table: Mapping[str, OrderStatus], word: str, size: str, filled: str, *, waits: bool = False
) -> OrderStatus:
    """Return the state of an order.

    The quantity decides before the venue's word: an order that is filled in full is ``filled``. A word that is not in
    the table closes nothing, because closed is final: such an order stays open until a word that we know comes.

    Args:
        table: The venue's words.
        word: The one that came.
        size: As placed, decimal text; zero for orders that close whatever there is.
        filled: Of it so far, decimal text.
        waits: The order waits for a trigger price: open then means ``untriggered``.

    Raises:
        ValueError: ``size`` or ``filled`` is not a decimal.
    """
    if not is_zero(size) and number(filled) >= number(size):
        return "filled"
    status = table.get(word, "open")
    return "untriggered" if waits and status == "open" else status


def fill_type(table: Mapping[str, str], word: str, liquidity: str | None) -> str:
    """Return the type of a fill; a word that is not in the table stays the venue's, in lower case.

    The liquidated account takes: for the maker of the same trade, whose order was hit, it is a trade like any other.

    Args:
        table: The venue's words.
        word: The one that came.
        liquidity: Of our side: ``maker``, ``taker``, or None where the venue does not say.
    """
    kind = table.get(word) or word.lower()
    return "trade" if kind == "liquidation" and liquidity == "maker" else kind


def priced(price: str | None) -> str | None:
    """Return a price; None where the venue writes zero, or nothing, because there is none.

    Raises:
        ValueError: Not a decimal.
    """
    return price if price and not is_zero(price) else None


def above_zero(price: str | None) -> str | None:
    """Return a computed price, such as that of a liquidation; None where it is zero or below and is never reached.

    Raises:
        ValueError: Not a decimal.
    """
    return price if price and number(price) > 0 else None


def margin_mode(word: str | None) -> MarginMode | None:
    """Return the margin mode, however the venue spells it; None for an unknown one."""
    return _MARGIN_MODES.get((word or "").lower())


def without_values(error: str) -> str:
    """Return the text of an error without what it quotes: an account's values are private."""
    return _QUOTED.sub("…", error)


def fault_of(error: Exception) -> str:
    """Return which fault a parser has and where, without its message, which may quote private values."""
    frame = extract_tb(error.__traceback__)[-1]
    return f"{type(error).__name__} in {Path(frame.filename).name}, line {frame.lineno}"
