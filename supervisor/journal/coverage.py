"""Coverage of a recording: the venues that the system ran, as the recorder found them, and which of them it recorded.

The coverage until then is in the header of every file; the whole of it in one more file of the recording, its summary.
"""

from __future__ import annotations

import re
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import msgspec

from ipc.errors import NotRunningError, UnknownStateError
from ipc.feed_state import LIFECYCLE
from ipc.rundir import RunDir
from supervisor.lock import holder_of

_FEED: Final = ".feed"
#: Names that are safe in a path and in a topic.
_NAME: Final = re.compile(r"[A-Za-z0-9_-]{1,64}")


class VenuePresence(msgspec.Struct):
    """Venue of the recorded system.

    Attributes:
        since_ns: When the recorder found it, wall clock.
        until_ns: When it was no longer there, by a reload or because the system ended; 0 while it is.
        recorded: False when it was left out.
    """

    since_ns: int
    until_ns: int = 0
    recorded: bool = True


class Coverage(msgspec.Struct, kw_only=True):
    """Coverage of a recording so far.

    Attributes:
        began_ns: Start of the recording, wall clock.
        wanted: Requested venues; None for all that the system runs.
        described: True when the description of a running system was read, so that ``venues`` is complete.
        venues: Every venue of the system since then.
    """

    began_ns: int = 0
    wanted: list[str] | None = None
    described: bool = False
    venues: dict[str, VenuePresence] = {}

    def left_out(self) -> list[str]:
        """Return the venues that the system ran and that were not recorded."""
        return [name for name, presence in self.venues.items() if not presence.recorded]


class Summary(msgspec.Struct, kw_only=True):
    """Summary of a recording, in ``recording-<stamp>.json``; replaced whenever a file is complete or a venue is found.

    Attributes:
        journal: Version of the journal's format.
        recording: Stamp of the recording.
        written: Events in each complete file.
        ended_ns: End of the recording, wall clock; 0 until then.
        coverage: Coverage until then.
    """

    journal: int = 1
    recording: str = ""
    written: list[int] = []
    ended_ns: int = 0
    coverage: Coverage


def summary_path(directory: Path, recording: str) -> Path:
    """Return the path of the summary of a recording."""
    return directory / f"recording-{recording}.json"


def read_summary(directory: Path, recording: str) -> Summary | None:
    """Read the summary of a recording; return None when there is none, or it cannot be read."""
    if not recording or _NAME.fullmatch(recording.replace(".", "")) is None:
        return None
    try:
        return msgspec.json.decode(summary_path(directory, recording).read_bytes(), type=Summary)
    except (OSError, ValueError, RecursionError):
        return None


class SystemWatch:
    """Watch on the venues of the system in a run directory; it may start, stop and reload meanwhile.

    Args:
        run_dir: Run directory, which need not exist.
        wanted: Venues to record; None for all.
    """

    def __init__(self, run_dir: RunDir, wanted: Sequence[str] | None) -> None:
        self.coverage = Coverage(began_ns=time.time_ns(), wanted=None if wanted is None else list(wanted))
        self._run_dir = run_dir
        self._known: set[str] = set()
        self._changed_ns = -1

    def wants(self, name: str) -> bool:
        """Return whether a venue is to be recorded."""
        wanted = self.coverage.wanted
        return _NAME.fullmatch(name) is not None and (wanted is None or name in wanted)

    def has_changed(self) -> bool:
        """Return whether a file has appeared in the directory since the last look; cheap."""
        try:
            changed_ns = self._run_dir.path.stat().st_mtime_ns
        except OSError:
            changed_ns = -1
        return changed_ns != self._changed_ns

    def find_new(self) -> list[str]:
        """Read the venues of the system; return those that are to be recorded and were not known before."""
        try:
            self._changed_ns = self._run_dir.path.stat().st_mtime_ns
        except OSError:
            self._changed_ns = -1
        venues = running_venues(self._run_dir)
        self._note(venues, time.time_ns())
        feeds = (path.name.removesuffix(_FEED) for path in self._run_dir.path.glob(f"*{_FEED}"))
        names = (*(venues or ()), *sorted(feeds), *(self.coverage.wanted or ()))
        new = [name for name in dict.fromkeys(names) if name != LIFECYCLE and self.wants(name)]
        new = [name for name in new if name not in self._known]
        self._known.update(new)
        return new

    def _note(self, venues: dict[str, Any] | None, now_ns: int) -> None:
        """Note which venues are there now; None when no system runs."""
        of = self.coverage.venues
        self.coverage.described |= venues is not None
        for name in venues or ():
            of.setdefault(name, VenuePresence(now_ns, recorded=self.wants(name))).until_ns = 0
        for name, presence in of.items():
            if name not in (venues or ()) and not presence.until_ns:
                presence.until_ns = now_ns


def running_venues(run_dir: RunDir) -> dict[str, Any] | None:
    """Return the description of each venue of the running system; None when none runs or it is not described yet."""
    try:
        if holder_of(run_dir.lock) is None:
            return None
        described, holder = run_dir.describe(), run_dir.lock.read_bytes()
    except (NotRunningError, UnknownStateError, OSError):
        return None
    # Both pids are those of the holder's own namespace; they differ while the description is an earlier system's.
    if str(described.get("pid")).encode() != holder.strip():
        return None
    venues = described.get("venues")
    return venues if isinstance(venues, dict) else None
