"""Checks of recordings: order, time, books and checksums of events; lines and time of raw frames.

Pure: a check receives lines with their positions and fills a report. :mod:`supervisor.journal.verify` finds the files
and distributes the work. Books are rebuilt as a consumer does (:mod:`ipc.replica`), so an error here would have been an
error for every consumer.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from ipc.codec import decode
from ipc.errors import DecodeError
from ipc.events import BookDelta, BookSnapshot, Event, Gap, Heartbeat
from ipc.orderbook import BadLevelError, OrderBook
from ipc.raw import RawHeader, RawRecord, decode_line
from ipc.replica import BAD_LEVEL, NO_SNAPSHOT, BookReplica
from ipc.topics import BOOK_CHANNELS, Topic, topic_of
from supervisor.journal.findings import RecordingReport, SpanReport, TopicReport, VerifyReport
from supervisor.journal.format import Header, publisher_of
from supervisor.journal.format import topic_of as topic_in

#: A worker's threads stamp messages before they acquire the publisher, so on a topic with two writers receive times may
#: be out of order. A book has one writer.
_TURN_NS: Final = 1_000_000_000
#: Time without a heartbeat, which comes every second, that counts as a silence.
SILENCE_NS: Final = 5_000_000_000
#: Deviation of the wall clock from the monotonic clock that counts as a clock step.
_STEP_NS: Final = 500_000_000
_MS: Final = 1_000_000
#: Channel names of configured streams.
_CHANNELS: Final = {"funding_poll": "funding"}
_ALWAYS: Final = ("heartbeat", "status", "instrument")
#: Channels that may be empty in a quiet market or while a fixture is played.
_SILENT: Final = frozenset({"trade", "liquidation", "status"})
#: Events that are republished with their original times, or by another thread.
_REPEATS: Final = frozenset({"refresh", "rest"})


class _Publisher:
    """Publisher (a worker or the gateway) across its epochs."""

    __slots__ = ("epoch", "offset_ns", "topics")

    def __init__(self) -> None:
        self.epoch = 0
        #: Wall clock minus monotonic clock; None before the first event.
        self.offset_ns: int | None = None
        self.topics: list[_Topic] = []


class _Topic:
    """State of one topic."""

    __slots__ = ("book", "is_foreign", "mono_ns", "name", "parts", "publisher", "report", "seq", "slack_ns", "symbol")

    def __init__(self, name: str, publisher: _Publisher, report: TopicReport, *, is_foreign: bool) -> None:
        self.name = name
        self.parts = parts = Topic.parse(name)
        self.symbol = parts.symbol or None
        self.publisher = publisher
        self.report = report
        self.is_foreign = is_foreign
        self.seq: int | None = None
        self.mono_ns = 0
        has_book = parts.channel in BOOK_CHANNELS
        self.slack_ns = 0 if has_book else _TURN_NS
        self.book = BookReplica(parts.venue, parts.symbol) if has_book else None

    def begin_epoch(self) -> None:
        """Reset the state for a new epoch of the publisher."""
        self.seq = None
        self.mono_ns = 0
        if self.book is not None:
            self.book.invalidate(NO_SNAPSHOT)


class EventsCheck:
    """Check of the events of some venues, file by file in the order written.

    Args:
        owns: Selects the publishers (venues, or ``lifecycle``) to check; events of others are skipped.
        owns_rest: Whether to report problems that belong to no publisher.
    """

    def __init__(self, owns: Callable[[str], bool] = lambda _: True, *, owns_rest: bool = True) -> None:
        self.report = VerifyReport()
        self._owns = owns
        self._owns_rest = owns_rest
        self._recording: str | None = None
        self._last_file = 0
        self._file = ""
        self._line = 0
        self._has_header = False
        self._topics: dict[bytes, _Topic] = {}
        self._publishers: dict[str, _Publisher] = {}
        self._config: dict[str, dict[str, Any]] = {}
        self._spans: dict[str, SpanReport] = {}

    def begin_file(self, name: str, header: Header | None) -> None:
        """Start a file; the next lines belong to it."""
        self._file, self._line = name, 0
        self._has_header = header is not None
        if header is None:
            return
        self._config.update(header.config)
        self._spans = self.report.recordings.setdefault(header.recording, RecordingReport()).venues
        if header.recording != self._recording:
            self._recording = header.recording
            self._publishers.clear()
            self._topics.clear()
        elif header.file != self._last_file + 1 and self._owns_rest:
            self.report.note("missing_file", name, 1, "", f"file {header.file} comes after file {self._last_file}")
        self._last_file = header.file

    def end_file(self, torn: int) -> None:
        """End a file; ``torn`` bytes of an incomplete line remain."""
        if torn and self._owns_rest:
            self.report.note("torn_line", self._file, self._line + 1, "", f"{torn} bytes without the end of the line")
        if self._has_header and self._recording is not None:
            self.report.recordings[self._recording].files[self._last_file] = max(0, self._line - 1)

    def finish(self) -> VerifyReport:
        """Finish after the last file; report what never appeared."""
        for topic in self._topics.values():
            if topic.book is not None and topic.report.events and not topic.report.snapshots:
                self.report.note("no_snapshot", "", 0, topic.name, "the book is never whole, so it was not checked")
        for venue, config in self._config.items():
            if self._owns(venue):
                self._report_missing(venue, config)
        return self.report

    def _report_missing(self, venue: str, config: dict[str, Any]) -> None:
        seen = {Topic.parse(name).channel for name in self.report.topics.get(venue, ())}
        if not seen:
            self.report.problem("missing_venue", "", 0, venue, "nothing of it was recorded")
            return
        streams = [str(stream) for stream in config.get("streams", ()) if stream != "account"]
        wanted = [*_ALWAYS, *(_CHANNELS.get(stream, stream) for stream in streams)]
        for channel in dict.fromkeys(wanted):
            if channel in seen:
                continue
            if channel in _SILENT:
                self.report.note("silent_channel", "", 0, f"{channel}.{venue}", "nothing was recorded")
            else:
                self.report.problem("missing_channel", "", 0, f"{channel}.{venue}", "nothing was recorded")

    def check_line(self, line: bytes, number: int) -> None:
        """Check the next line."""
        self._line = number
        if number == 1 and self._has_header:
            return
        # No decoding yet: a line of another publisher costs a slice and a dictionary access. Garbage matches no topic.
        topic = self._topics.get(line[10 : line.find(b'"', 10)])
        if topic is None:
            topic = self._new_topic(line)
        if topic is None or topic.is_foreign:
            return
        try:
            event = decode(line)
        except DecodeError as error:
            self._problem("bad_line", topic.name, error.what)
            return
        if event is None:
            self.report.note("newer_kind", self._file, number, topic.name, "left out")
        elif event.venue != topic.parts.venue or (topic.symbol is not None and event.symbol != topic.symbol):
            self._problem("bad_line", topic.name, f"an event of {event.venue}, {event.symbol}")
        else:
            self._follow(topic, event)

    def _new_topic(self, line: bytes) -> _Topic | None:
        """Register the topic of a line; return None when it names none."""
        try:
            name = topic_in(line)
            publisher = publisher_of(name)
        except ValueError as error:
            if self._owns_rest:
                self._problem("bad_line", "", error.what if isinstance(error, DecodeError) else "no topic")
            return None
        return self._topics.get(name.encode()) or self._add_topic(name, publisher)

    def _add_topic(self, name: str, publisher: str) -> _Topic:
        of = self._publishers.setdefault(publisher, _Publisher())
        report = TopicReport()
        is_foreign = not self._owns(publisher)
        if not is_foreign:
            report = self.report.topics.setdefault(publisher, {}).setdefault(name, report)
        topic = self._topics[name.encode()] = _Topic(name, of, report, is_foreign=is_foreign)
        of.topics.append(topic)
        return topic

    def _follow(self, topic: _Topic, event: Event) -> None:
        """Check an event's position in its topic and in time, then apply it to the book."""
        publisher = topic.publisher
        if event.epoch != publisher.epoch and not self._begin_epoch(topic, event):
            return
        report = topic.report
        report.events += 1
        seq = topic.seq
        topic.seq = event.seq
        if seq is None:
            report.epochs += 1
        elif event.seq != seq + 1 and not self._on_break(topic, seq, event.seq):
            return
        if event.recv_mono_ns >= topic.mono_ns:
            topic.mono_ns = event.recv_mono_ns
        elif event.recv_mono_ns + topic.slack_ns < topic.mono_ns and _REPEATS.isdisjoint(event.flags):
            back_ms = (topic.mono_ns - event.recv_mono_ns) / _MS
            self._problem("time_order", topic.name, f"seq {event.seq} was received {back_ms:.1f} ms before the last")
        if event.recv_ns:
            report.first_ns = report.first_ns or event.recv_ns
            report.last_ns = event.recv_ns
            offset_ns = event.recv_ns - event.recv_mono_ns
            if publisher.offset_ns is None or abs(offset_ns - publisher.offset_ns) > _STEP_NS:
                self._on_step(topic, event, offset_ns)
        if topic.book is not None:
            self._on_book(topic, topic.book, event)
        elif type(event) is Heartbeat:
            self._on_heartbeat(topic.parts.venue, event)

    def _begin_epoch(self, topic: _Topic, event: Event) -> bool:
        publisher = topic.publisher
        if event.epoch < publisher.epoch:
            self._problem("epoch_order", topic.name, f"epoch {event.epoch} after {publisher.epoch}")
            return False
        publisher.epoch = event.epoch
        for other in publisher.topics:
            other.begin_epoch()
        return True

    def _on_break(self, topic: _Topic, last: int, seq: int) -> bool:
        """Handle a sequence break; return whether the event is new."""
        if seq <= last:
            topic.seq = last
            self._problem("repeated", topic.name, f"seq {seq} after {last}")
            return False
        self._mark_lost(topic, seq - last - 1)
        self._problem("seq_gap", topic.name, f"{seq - last - 1} lost, seq {last + 1} to {seq - 1}")
        return True

    def _mark_lost(self, topic: _Topic, count: int) -> None:
        topic.report.lost += count
        if topic.book is not None:
            topic.book.invalidate("seq_gap")

    def _on_step(self, topic: _Topic, event: Event, offset_ns: int) -> None:
        publisher = topic.publisher
        if not _REPEATS.isdisjoint(event.flags):
            return
        if publisher.offset_ns is not None:
            step_ms = (offset_ns - publisher.offset_ns) / _MS
            self.report.note("clock_step", self._file, self._line, topic.name, f"the wall clock went {step_ms:+.0f} ms")
        publisher.offset_ns = offset_ns

    def _on_book(self, topic: _Topic, book: BookReplica, event: Event) -> None:
        if type(event) is BookDelta:
            if book.fault is not None:
                return
            book.apply_delta(event)
            if book.fault is not None:
                self._fault(topic, book, event)
        elif type(event) is BookSnapshot:
            topic.report.snapshots += 1
            if not book.apply_snapshot(event):
                self._problem("drift", topic.name, f"the refresh at seq {event.seq} is another book than was made")
            if book.fault in {BAD_LEVEL, "crossed_book"}:
                self._fault(topic, book, event)
        elif type(event) is Gap:
            topic.report.gaps += 1
            book.apply_gap(event)

    def _fault(self, topic: _Topic, book: BookReplica, event: BookSnapshot | BookDelta) -> None:
        if book.fault == BAD_LEVEL:
            self._problem("bad_level", topic.name, f"seq {event.seq}: {_bad_level(event)}")
            return
        bids, asks = book.indicative(1)
        self._problem("crossed_book", topic.name, f"seq {event.seq}: bid {bids[0][0]}, ask {asks[0][0]}")

    def _on_heartbeat(self, venue: str, beat: Heartbeat) -> None:
        span = self._spans.setdefault(venue, SpanReport(beat.publish_ns, beat.publish_ns, is_joined=beat.seq == 1))
        if beat.publish_ns - span.last_ns > SILENCE_NS:
            span.silences += 1
            span.silent_ns += beat.publish_ns - span.last_ns
        span.last_ns = max(span.last_ns, beat.publish_ns)
        for name, seq in beat.seqs.items():
            topic = self._topics.get(name.encode())
            if topic is not None and topic.seq is not None and topic.seq < seq:
                self._mark_lost(topic, seq - topic.seq)
                self._problem("lost_tail", name, f"{seq - topic.seq} lost, seq {topic.seq + 1} to {seq}")
                topic.seq = seq
        for symbol, theirs in beat.books.items():
            name = topic_of("book", venue, symbol)
            topic = self._topics.get(name.encode())
            if topic is None or topic.book is None or topic.seq != theirs.seq:
                continue
            if not topic.book.agrees_with(theirs):
                self._problem("checksum", name, f"at seq {theirs.seq} the worker had another book")

    def _problem(self, kind: Any, topic: str, text: str) -> None:
        self.report.problem(kind, self._file, self._line, topic, text)


def _bad_level(event: BookSnapshot | BookDelta) -> str:
    """Describe what is wrong with the levels of an event that a replica rejected."""
    book = OrderBook()
    try:
        (book.replace if isinstance(event, BookSnapshot) else book.apply)(event.bids, event.asks)
    except BadLevelError as error:
        return str(error)
    return "a level that is none"


class RawCheck:
    """Check of the raw frames of one venue, file by file.

    Args:
        venue: Their venue.
    """

    def __init__(self, venue: str) -> None:
        self.report = VerifyReport()
        self._venue = venue
        self._raw = TopicReport()
        self.report.topics[venue] = {"raw": self._raw}
        self._file = ""
        self._line = 0
        self._has_listings = False
        self._mono_ns: dict[str, int] = {}

    def begin_file(self, name: str, header: RawHeader | None) -> None:
        """Start a file; the next lines, header included, belong to it."""
        self._file, self._line = name, 0
        self._has_listings = self._has_listings or (header is not None and bool(header.listings))

    def end_file(self, torn: int) -> None:
        """End a file; ``torn`` bytes of an incomplete line remain."""
        if torn:
            self.report.note("torn_line", self._file, self._line + 1, "", f"{torn} bytes without the end of the line")

    def check_line(self, line: bytes, number: int) -> None:
        """Check the next line."""
        self._line = number
        try:
            item = decode_line(line)
        except DecodeError as error:
            self._problem("bad_line", error.what)
            return
        if isinstance(item, RawRecord):
            self._on_record(item)
        elif item.venue != self._venue:
            self._problem("bad_line", f"a recording of {item.venue}")
        else:
            self._has_listings = self._has_listings or bool(item.listings)

    def finish(self) -> VerifyReport:
        """Finish after the last file."""
        if not self._has_listings:
            self._file = ""
            self._problem("no_listings", "no header names the markets")
        return self.report

    def _on_record(self, record: RawRecord) -> None:
        report = self._raw
        report.events += 1
        report.first_ns = report.first_ns or record.wall_ns
        report.last_ns = record.wall_ns
        report.epochs += record.kind == "open"
        if record.kind == "book":
            return  # it carries the time of the preceding frame
        last_ns = self._mono_ns.get(record.session, 0)
        if record.mono_ns < last_ns:
            back_ms = (last_ns - record.mono_ns) / _MS
            self._problem("time_order", f"{record.session}: {record.kind} comes {back_ms:.1f} ms before the last one")
        self._mono_ns[record.session] = record.mono_ns

    def _problem(self, kind: Any, text: str) -> None:
        self.report.problem(kind, self._file, self._line, f"raw.{self._venue}", text)
