"""Events in the life of the system, folded to a few lines.

An exit and the recovery from it are one, and so are streams that failed of one cause:

``book, mark backoff: venue closed the connection; live again after 1.2 s``
``exited: killed from outside; live again after 1.2 s``
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import Final

from ipc.events import Lifecycle, Status
from ipc.health import Reason, StreamState
from supervisor.overview.document import EventView
from supervisor.overview.words import counted, duration, reason_words, stream_name, stream_words

#: Stands where a venue would, for what concerns the whole system.
SYSTEM: Final = "system"
_MAX_EPISODES: Final = 100
#: Streams that fail within this time of each other, for the same reason, are one event.
_TOGETHER_S: Final = 5.0
#: Episodes of a kind that are folded into one line.
_REPEATED: Final = 3
#: Shorter waits for the next start are not mentioned.
_LONG_WAIT_S: Final = 2.0

_TROUBLED: Final = frozenset(
    {StreamState.BACKOFF, StreamState.STALE, StreamState.RESYNC, StreamState.REST, StreamState.FAILED}
)
_RECOVERED: Final = frozenset({StreamState.LIVE, StreamState.QUIET})
_PLANNED: Final = frozenset({Reason.REQUESTED, Reason.CONFIG_CHANGED})
#: Lifecycle events that begin an episode, and its first words.
_OPENINGS: Final = {
    "started": "started",
    "stale": "no fresh data",
    "killing": "being ended",
    "exited": "exited",
    "unkillable": "survived SIGKILL",
    "failed": "failed",
    "stopped": "stopped",
}
#: How far an episode of a process has come; a later step replaces the words of an earlier one.
_ORDER: Final = ("started", "stale", "killing", "exited", "unkillable", "failed", "stopped")


class _Episode:
    """Trouble of one process, or of some of its streams, until it is over."""

    def __init__(self, at: float, venue: str, step: str, reason: Reason | None) -> None:
        self.at = at
        self.venue = venue
        #: Lifecycle event, or state of the streams.
        self.step = step
        self.reason = reason
        #: Streams with this trouble; none for a process.
        self.streams: list[str] = []
        #: Markets that have it still, by stream and symbol.
        self.open: set[tuple[str, str | None]] = set()
        self.recovered_at: float | None = None
        self.delay_s: float | None = None

    @property
    def is_of_streams(self) -> bool:
        """True for trouble of streams."""
        return bool(self.streams)

    @property
    def head(self) -> str:
        """Text of the event, without its end."""
        words = reason_words(self.reason)
        if self.is_of_streams:
            what = f"{', '.join(map(stream_name, self.streams))} {stream_words(self.step)}"
        elif self.reason in _PLANNED and self.step in {"killing", "exited"}:
            what = "restarted"
        else:
            what = _OPENINGS[self.step]
        return what if words is None else f"{what}: {words}"

    @property
    def ending(self) -> str:
        """Text of its end; empty while it goes on."""
        if self.recovered_at is not None:
            again = "live" if self.step == "started" else "live again"
            return f"; {again} after {duration(self.recovered_at - self.at)}"
        if self.delay_s is not None and self.delay_s >= _LONG_WAIT_S:
            return f"; next start after {duration(self.delay_s)}"
        return ""


class Happenings:
    """Folded list of what happened to processes and streams; bounded."""

    def __init__(self) -> None:
        self._episodes: deque[_Episode] = deque(maxlen=_MAX_EPISODES)
        #: Episode of each process that is not over.
        self._open: dict[str, _Episode] = {}

    def lifecycle(self, event: Lifecycle, at: float) -> None:
        """Add a lifecycle event."""
        name, step = event.venue, event.event
        current = self._open.get(name)
        if step == "live":
            if current is not None:
                current.recovered_at = at
                del self._open[name]
            return
        if step == "restarting":
            if current is not None:
                current.delay_s = event.delay_s
            return
        if step not in _OPENINGS or (step == "started" and current is not None):
            return
        if current is None:
            self._open[name] = current = self._begin(at, name, step, event.reason)
        elif _ORDER.index(step) >= _ORDER.index(current.step):
            self._continue(current, step, event.reason, at)
        if step == "exited":
            self._close_streams(name)
        if step == "stopped":
            del self._open[name]

    def status(self, event: Status, at: float) -> bool:
        """Add a status event; return whether it began new trouble."""
        stream = str(event.stream)
        markets: set[tuple[str, str | None]] = {(stream, symbol) for symbol in event.ages_ms or [event.symbol]}
        if event.state in _RECOVERED:
            self._recover(event.venue, markets, at)
            return False
        if event.state not in _TROUBLED:
            return False
        known = self._matching(event, at)
        if known is None:
            for episode in self._of_streams(event.venue):
                episode.open -= markets
            known = self._begin(at, event.venue, str(event.state), event.reason)
            known.streams.append(stream)
            known.open |= markets
            return True
        if stream not in known.streams:
            known.streams.append(stream)
        known.open |= markets
        return False

    def latest_text(self, venue: str) -> str:
        """Return what happened last to a venue, without how it ended."""
        return next((episode.head for episode in reversed(self._episodes) if episode.venue == venue), "")

    def lines(self, limit: int) -> list[EventView]:
        """Return the newest ``limit`` lines, newest first; repetitions are one line."""
        starts, others = _starts(self._episodes)
        lines = [] if starts is None else [starts]
        groups: list[list[_Episode]] = []
        for episode in reversed(others):
            same = next((g for g in groups if g[0].venue == episode.venue), None)
            if same is not None and same[0].head == episode.head:
                same.append(episode)
            else:
                groups.insert(0, [episode])
        for group in groups:
            lines += [_folded(group)] if len(group) >= _REPEATED else map(_line, group)
        return sorted(lines, key=lambda line: -line.at)[:limit]

    def _begin(self, at: float, venue: str, step: str, reason: Reason | None) -> _Episode:
        episode = _Episode(at, venue, step, reason)
        self._episodes.append(episode)
        return episode

    def _continue(self, current: _Episode, step: str, reason: Reason | None, at: float) -> None:
        """Move an open episode to its next step; an exit of an episode that had exited is a new one."""
        if step == "exited" == current.step:
            self._open[current.venue] = self._begin(at, current.venue, step, reason)
            return
        current.step = step
        current.reason = reason or current.reason

    def _of_streams(self, venue: str) -> list[_Episode]:
        return [episode for episode in self._episodes if episode.venue == venue and episode.open]

    def _matching(self, event: Status, at: float) -> _Episode | None:
        """Return the episode that a trouble belongs to: of the same state and reason, and open or just begun."""
        for episode in reversed(self._episodes):
            if at - episode.at > _TOGETHER_S and not episode.open:
                continue
            is_same = episode.is_of_streams and episode.venue == event.venue and episode.step == str(event.state)
            if is_same and episode.reason == event.reason and episode.recovered_at is None:
                return episode
        return None

    def _recover(self, venue: str, markets: set[tuple[str, str | None]], at: float) -> None:
        for episode in self._of_streams(venue):
            episode.open -= markets
            if not episode.open:
                episode.recovered_at = at

    def _close_streams(self, venue: str) -> None:
        """Forget the open troubles of streams whose process is gone."""
        for episode in self._of_streams(venue):
            episode.open.clear()


def _starts(episodes: Sequence[_Episode]) -> tuple[EventView | None, list[_Episode]]:
    """Return one line for the processes that started together, and the other episodes."""
    first = next((one.at for one in episodes if one.step == "started"), 0.0)
    together = [one for one in episodes if one.step == "started" and one.at - first < _TOGETHER_S]
    if len(together) < _REPEATED:
        return None, list(episodes)
    lives = [one.recovered_at for one in together if one.recovered_at is not None]
    is_all = len(lives) == len(together)
    ending = f"; all live after {duration(max(lives) - first)}" if is_all else f"; {len(lives)} are live"
    text = f"{counted(len(together), 'process', 'processes')} started{ending}"
    line = EventView(_rounded(first), SYSTEM, text, None)
    return line, [one for one in episodes if one not in together]


def _rounded(at: float) -> float:
    return round(at, 3)


def _line(episode: _Episode) -> EventView:
    reason = None if episode.reason is None else str(episode.reason)
    return EventView(_rounded(episode.at), episode.venue, f"{episode.head}{episode.ending}", reason)


def _folded(group: list[_Episode]) -> EventView:
    """Return one line for a repetition; the group's newest episode comes first."""
    newest, oldest = group[0], group[-1]
    what, _, reason = newest.head.partition(": ")
    times = f"{what} {counted(len(group), 'time')} in {duration(newest.at - oldest.at)}"
    text = f"{times}: {reason}{newest.ending}" if reason else f"{times}{newest.ending}"
    return EventView(_rounded(newest.at), newest.venue, text, None if newest.reason is None else str(newest.reason))
