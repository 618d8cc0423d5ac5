"""Retry-After, the header by which a server or a proxy asks for a pause. Pure but for the clock."""

from __future__ import annotations

import email.utils
import time
from typing import Final

_CAP_S: Final = 300.0


def retry_after_s(header: str | None, now_wall_s: float | None = None) -> float | None:
    """Return the delay of a Retry-After header, s (RFC 9110 section 10.2.3: seconds or a date), capped.

    None without a header, and for an invalid one.
    """
    if header is None:
        return None
    try:
        asked = float(header)
    except ValueError:
        try:
            when = email.utils.parsedate_to_datetime(header).timestamp()
        except (ValueError, OverflowError):
            return None
        asked = when - (time.time() if now_wall_s is None else now_wall_s)
    return min(max(asked, 0.0), _CAP_S) if asked == asked else None  # noqa: PLR0124 - "nan" is a float too
