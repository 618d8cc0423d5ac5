"""Description of a worker for ``status`` and saved black boxes: the texts that the board has no room for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import msgspec

from ipc.log import get_log
from ipc.rundir import replace_file
from workers.accounts.runner import SESSION_NAMES
from workers.venues.listing import Listing

log = get_log(__name__)


def write_description(
    path: Path,
    venue: str,
    sessions: Sequence[str],
    listings: Sequence[Listing],
    options: Mapping[str, str],
    consumers: Sequence[str],
    *,
    has_account: bool,
) -> None:
    """Write names of sessions, markets and consumers, options and listings; log when the disk refuses it."""
    text: Mapping[str, object] = {
        "sessions": sessions,
        "account_sessions": SESSION_NAMES if has_account else [],
        "markets": {str(one.symbol): one.venue_symbol for one in listings},
        "options": options,
        "consumers": consumers,
        "listings": [msgspec.to_builtins(one) for one in listings],
    }
    try:
        replace_file(path, msgspec.json.encode(text))
    except OSError as error:
        log.warning("worker.undescribed", venue=venue, error=str(error))
