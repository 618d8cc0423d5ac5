from __future__ import annotations

import json
import logging
import os
import re
import sys
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from ipc import log as log_module
from ipc.log import (
    EventLog,
    FoldRepeats,
    JsonFormatter,
    PrettyFormatter,
    StderrHandler,
    flush_repeats,
    get_log,
    hide,
    setup,
)

WINDOW_S = 10.0
BURST = 5


class Seconds:
    """Clock in seconds that the test advances."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


class Pipe:
    """A pipe whose reading end is read only on request."""

    def __init__(self) -> None:
        self.reader, self.writer = os.pipe()
        os.set_blocking(self.reader, False)

    def read(self) -> bytes:
        found = []
        while True:
            try:
                data = os.read(self.reader, 1 << 16)
            except BlockingIOError:
                break
            if not data:
                break
            found.append(data)
        return b"".join(found)

    def lines(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.read().splitlines()]

    def fill(self, leave: int = 0) -> None:
        """Fill the pipe and take ``leave`` pages out of it again."""
        os.set_blocking(self.writer, False)
        while True:
            try:
                os.write(self.writer, b"x" * 4096)
            except BlockingIOError:
                break
        os.set_blocking(self.writer, True)
        for _ in range(leave):
            assert len(os.read(self.reader, 4096)) == 4096


@pytest.fixture
def pipe() -> Iterator[Pipe]:
    pipe = Pipe()
    yield pipe
    os.close(pipe.reader)
    os.close(pipe.writer)


@pytest.fixture
def root(monkeypatch) -> Iterator[logging.Logger]:
    """The root logger with an empty memory of repeats; put back as it was."""
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    chatty = {name: logging.getLogger(name).level for name in ("urllib3", "websockets", "asyncio")}
    monkeypatch.setattr(log_module, "_fold", FoldRepeats())
    yield root
    root.handlers[:] = handlers
    root.setLevel(level)
    for name, before in chatty.items():
        logging.getLogger(name).setLevel(before)


def record(event: str, level: int = logging.WARNING, **fields: object) -> logging.LogRecord:
    made = logging.LogRecord("ipc.test", level, __file__, 1, event, None, None)
    made.fields = fields
    return made


def handler_on(pipe: Pipe) -> StderrHandler:
    handler = StderrHandler(pipe.writer)
    handler.setFormatter(JsonFormatter())
    return handler


def emit(handler: StderrHandler, *records: logging.LogRecord) -> None:
    """Hand records over in a thread of its own: one that blocks fails the test, and does not stop the others."""
    thread = threading.Thread(target=lambda: [handler.emit(one) for one in records], daemon=True)
    thread.start()
    thread.join(20)
    assert not thread.is_alive(), "writing a line blocks"


# --- lines --------------------------------------------------------------------------------------------------------


def test_json_line_has_time_level_event_process_logger_and_fields() -> None:
    line = json.loads(JsonFormatter().format(record("ws.stale", venue="lighter", age_ms=12, ok=False)))
    assert line == {
        "ts": pytest.approx(time.time(), abs=60),
        "level": "warning",
        "event": "ws.stale",
        "pid": os.getpid(),
        "logger": "ipc.test",
        "venue": "lighter",
        "age_ms": 12,
        "ok": False,
    }


def test_json_line_is_one_line_whatever_the_fields_hold() -> None:
    text = JsonFormatter().format(record("odd", text='a\nb"c\u2028', path=os, nested={"a": [1, None]}))
    assert "\n" not in text
    assert json.loads(text)["text"] == 'a\nb"c\u2028'
    assert json.loads(text)["path"] == str(os)


def test_fields_that_are_none_are_left_out() -> None:
    assert "reason" not in json.loads(JsonFormatter().format(record("ws.closed", reason=None)))
    assert "reason" not in PrettyFormatter().format(record("ws.closed", reason=None))


def test_pretty_line_reads_time_level_event_fields() -> None:
    text = PrettyFormatter().format(record("ws.stale", venue="lighter", stream="book"))
    assert re.fullmatch(r"\d\d:\d\d:\d\d\.\d{3} WARNING ws\.stale venue=lighter stream=book", text)


def test_pretty_line_without_fields_has_no_blank_at_its_end() -> None:
    assert PrettyFormatter().format(record("stopped", logging.INFO)).endswith(" INFO    stopped")


def failing_record() -> logging.LogRecord:
    try:
        raise KeyError("lost")
    except KeyError:
        made = record("worker.failed", logging.ERROR)
        made.exc_info = sys.exc_info()
        return made


def test_traceback_stands_in_the_json_object() -> None:
    text = JsonFormatter().format(failing_record())
    assert "\n" not in text
    traceback = json.loads(text)["traceback"]
    assert traceback.startswith("Traceback (most recent call last)")
    assert traceback.endswith("KeyError: 'lost'")


def test_traceback_stands_below_the_pretty_line() -> None:
    first, *rest = PrettyFormatter().format(failing_record()).splitlines()
    assert first.endswith("worker.failed")
    assert rest[0].startswith("Traceback")
    assert rest[-1] == "KeyError: 'lost'"


def test_records_of_other_libraries_are_lines_as_well() -> None:
    made = logging.LogRecord("urllib3", logging.WARNING, __file__, 1, "retry %d of %s", (2, "x"), None)
    assert json.loads(JsonFormatter().format(made))["event"] == "retry 2 of x"
    assert PrettyFormatter().format(made).endswith("WARNING retry 2 of x")


# --- repeats ------------------------------------------------------------------------------------------------------


def test_burst_passes_and_what_follows_in_the_window_is_folded() -> None:
    fold = FoldRepeats(Seconds())
    assert [fold.filter(record("ws.stale")) for _ in range(BURST + 3)] == [True] * BURST + [False] * 3


def test_next_record_after_the_window_tells_how_many_were_folded() -> None:
    clock = Seconds()
    fold = FoldRepeats(clock)
    for _ in range(BURST + 3):
        fold.filter(record("ws.stale"))
    clock.now += WINDOW_S
    after = record("ws.stale", age_ms=1)
    assert fold.filter(after)
    assert after.fields == {"age_ms": 1, "repeated": 3}
    again = record("ws.stale")
    assert fold.filter(again)
    assert again.fields == {}


def test_window_that_folded_nothing_adds_no_count() -> None:
    clock = Seconds()
    fold = FoldRepeats(clock)
    fold.filter(record("ws.stale"))
    clock.now += WINDOW_S
    after = record("ws.stale")
    assert fold.filter(after)
    assert after.fields == {}


@pytest.mark.parametrize("key", ["venue", "stream", "symbol", "reason"])
def test_records_that_differ_in_place_or_reason_are_not_folded_together(key: str) -> None:
    fold = FoldRepeats(Seconds())
    assert all(fold.filter(record("ws.stale", **{key: str(number)})) for number in range(20))


def test_records_that_differ_in_level_or_event_are_not_folded_together() -> None:
    fold = FoldRepeats(Seconds())
    for event, level in (("a", logging.INFO), ("a", logging.ERROR), ("b", logging.INFO)):
        assert all(fold.filter(record(event, level)) for _ in range(BURST))


def test_records_that_differ_in_other_fields_are_folded_together() -> None:
    fold = FoldRepeats(Seconds())
    assert sum(fold.filter(record("ws.stale", age_ms=number)) for number in range(20)) == BURST


def test_drain_gives_finished_windows_once() -> None:
    clock = Seconds()
    fold = FoldRepeats(clock)
    for _ in range(BURST + 2):
        fold.filter(record("ws.stale", venue="aster"))
    fold.filter(record("quiet"))
    assert fold.drain() == []
    clock.now += WINDOW_S
    assert fold.drain() == [((logging.WARNING, "ws.stale", "aster", None, None, None, None), 2)]
    assert fold.drain() == []


def test_kinds_that_are_remembered_are_bounded() -> None:
    fold = FoldRepeats(Seconds())
    for number in range(5000):
        fold.filter(record(f"event.{number}"))
    assert len(fold._seen) <= 1024


def test_count_of_a_kind_that_makes_room_for_others_is_logged() -> None:
    clock = Seconds()
    fold = FoldRepeats(clock)
    for _ in range(BURST + 2):
        fold.filter(record("first"))
    for number in range(2000):
        fold.filter(record(f"event.{number}"))
    clock.now += WINDOW_S
    assert [count for kind, count in fold.drain() if kind[1] == "first"] == [2]


def test_flush_tells_of_repeats_that_did_not_come_again(pipe, root, monkeypatch) -> None:
    clock = Seconds()
    monkeypatch.setattr(log_module, "_fold", FoldRepeats(clock))
    setup(pretty=False, fd=pipe.writer)
    for _ in range(BURST + 4):
        get_log("ipc.test").warning("ws.stale", venue="aster", reason="no_book")
    flush_repeats()
    assert len(pipe.lines()) == BURST
    clock.now += WINDOW_S
    flush_repeats()
    (line,) = pipe.lines()
    assert (line["event"], line["level"]) == ("log.repeated", "warning")
    assert (line["of"], line["venue"], line["reason"], line["count"]) == ("ws.stale", "aster", "no_book", 4)


def test_flush_tells_of_every_event_that_was_repeated(pipe, root, monkeypatch) -> None:
    clock = Seconds()
    monkeypatch.setattr(log_module, "_fold", FoldRepeats(clock))
    setup(pretty=False, fd=pipe.writer)
    events = [f"event.{number}" for number in range(BURST + 1)]
    for event in events * (BURST + 1):
        get_log("ipc.test").warning(event)
    pipe.read()
    clock.now += WINDOW_S
    flush_repeats()
    assert [line["of"] for line in pipe.lines()] == events


# --- a reader that stands still -----------------------------------------------------------------------------------


def test_full_pipe_loses_lines_which_are_counted_and_reported(pipe) -> None:
    handler = handler_on(pipe)
    pipe.fill()
    emit(handler, *[record("ws.stale")] * 3)
    assert handler.lost == 3
    pipe.read()
    emit(handler, *[record("ws.connected")] * 2)
    written, *lines = pipe.lines()
    assert written == {"event": "log.lost", "lines": 3}
    assert [line["event"] for line in lines] == ["ws.connected", "ws.connected"]
    assert handler.lost == 3


def test_later_losses_are_reported_separately(pipe) -> None:
    handler = handler_on(pipe)
    written = []
    for count in (2, 1):
        pipe.fill()
        emit(handler, *[record("ws.stale")] * count)
        pipe.read()
        emit(handler, record("ws.connected"))
        written.append(pipe.lines()[0]["lines"])
    assert written == [2, 1]


def test_reader_that_stands_still_blocks_nobody(pipe) -> None:
    handler = handler_on(pipe)
    emit(handler, *[record("flood", n=number) for number in range(3000)])
    assert handler.lost > 0
    assert len(pipe.lines()) + handler.lost == 3000


def test_reader_that_is_gone_costs_a_line_and_no_error(pipe) -> None:
    handler = handler_on(pipe)
    os.close(pipe.reader)
    try:
        emit(handler, record("ws.stale"))
    finally:
        pipe.reader = os.open(os.devnull, os.O_RDONLY)
    assert handler.lost == 1


def test_line_longer_than_the_kernel_writes_at_once_arrives_whole(pipe) -> None:
    emit(handler_on(pipe), record("long", text="ä" * 9000))
    (line,) = pipe.lines()
    assert line["text"] == "ä" * 9000


def test_text_that_is_no_unicode_is_escaped(pipe) -> None:
    handler = StderrHandler(pipe.writer)
    handler.setFormatter(PrettyFormatter())
    emit(handler, record("odd", text="\udc80"))
    assert rb"text=\udc80" in pipe.read()


class Unreadable:
    """A value that cannot be shown."""

    def __str__(self) -> str:
        raise ValueError


def test_field_that_cannot_be_shown_costs_its_line_and_no_error(pipe) -> None:
    handler = handler_on(pipe)
    emit(handler, record("odd", value=Unreadable()))
    assert handler.lost == 1


def test_secrets_are_hidden_in_every_form_that_a_line_gives_them() -> None:
    hide("key-\x1b\x7f-of-venue")
    made = record("odd", text="it is key-\x1b\x7f-of-venue")
    for formatter in (PrettyFormatter(), JsonFormatter()):
        assert "of-venue" not in log_module.without_hidden(formatter.format(made))


def test_line_that_was_cut_off_does_not_spoil_the_next_one(pipe) -> None:
    handler = handler_on(pipe)
    pipe.fill(leave=1)
    emit(handler, record("long", text="y" * 9000))
    assert handler.lost == 1
    written = pipe.read()
    emit(handler, record("ws.connected"))
    _half, *lines = (written + pipe.read()).splitlines()
    assert [json.loads(line)["event"] for line in lines] == ["log.lost", "ws.connected"]


class Unprintable:
    def __str__(self) -> str:
        raise RuntimeError("no text")


def test_field_without_a_text_costs_its_line_and_no_error(pipe) -> None:
    handler = handler_on(pipe)
    handler.emit(record("odd", thing=Unprintable()))
    assert handler.lost == 1


@pytest.mark.parametrize(
    "write",
    [
        lambda: logging.getLogger("urllib3").warning("%d tries", "many"),
        lambda: get_log("ipc.test").warning("markets.missing", symbol=["BTC-PERP"]),
    ],
    ids=["format that does not fit", "list as a folding key"],
)
def test_odd_record_never_raises_into_the_program(pipe, root, write: Callable[[], None]) -> None:
    setup(pretty=False, fd=pipe.writer)
    write()


# --- secrets ------------------------------------------------------------------------------------------------------


@pytest.fixture
def hidden(monkeypatch) -> None:
    monkeypatch.setattr(log_module, "_hidden", {})


def test_hidden_text_is_never_written(pipe, hidden) -> None:
    hide("0xSECRET1")
    handler = handler_on(pipe)
    emit(handler, record("signed", key="0xSECRET1", text="a 0xSECRET1 and 0xSECRET1"))
    try:
        raise ValueError("bad key 0xSECRET1")
    except ValueError:
        made = record("failed")
        made.exc_info = sys.exc_info()
    emit(handler, made)
    written = pipe.read()
    assert b"SECRET1" not in written
    assert json.loads(written.splitlines()[0])["text"] == "a (hidden) and (hidden)"


def test_text_too_short_to_be_a_secret_is_not_hidden(pipe, hidden) -> None:
    hide("12345")
    emit(handler_on(pipe), record("signed", key="12345"))
    assert pipe.lines()[0]["key"] == "12345"


def test_number_of_an_account_tears_no_holes_into_other_numbers(pipe, hidden) -> None:
    hide("123456")
    emit(handler_on(pipe), record("written", seq=91234567, key="123456"))
    assert pipe.lines()[0]["seq"] == 91234567


@pytest.mark.parametrize("secret", ['pass"word', "back\\slash", "pässword", "two\nlines"])
def test_hidden_text_is_not_written_escaped_either(pipe, hidden, secret: str) -> None:
    hide(secret)
    emit(handler_on(pipe), record("signed", key=secret))
    assert secret not in pipe.lines()[0]["key"]


def test_hidden_text_is_not_written_as_part_of_a_url(pipe, hidden) -> None:
    hide("a/secret+token=")
    emit(handler_on(pipe), record("called", url="http://x/?auth=a%2Fsecret%2Btoken%3D"))
    assert b"secret" not in pipe.read()


def test_a_secret_in_use_stays_hidden_however_many_come(pipe, hidden) -> None:
    for number in range(1000):
        hide(f"token-{number}")
        hide("0xSECRET1")
    emit(handler_on(pipe), record("signed", key="0xSECRET1"))
    assert b"SECRET1" not in pipe.read()


# --- setup --------------------------------------------------------------------------------------------------------


def test_setup_sends_every_logger_to_the_one_descriptor(pipe, root) -> None:
    handler = setup("warning", pretty=False, fd=pipe.writer)
    assert root.handlers == [handler]
    log = get_log("ipc.test")
    log.debug("a")
    log.info("b")
    log.warning("c", venue="aster")
    log.error("d")
    assert [(line["event"], line["level"]) for line in pipe.lines()] == [("c", "warning"), ("d", "error")]


def test_debug_level_lets_everything_of_ours_through_but_no_chatter(pipe, root) -> None:
    setup("debug", pretty=False, fd=pipe.writer)
    get_log("ipc.test").debug("a")
    logging.getLogger("urllib3").info("chatter")
    assert [line["event"] for line in pipe.lines()] == ["a"]


def test_exception_carries_the_traceback_of_what_is_being_handled(pipe, root) -> None:
    setup(pretty=False, fd=pipe.writer)
    try:
        raise KeyError("lost")
    except KeyError:
        get_log("ipc.test").exception("worker.failed", venue="aster")
    (line,) = pipe.lines()
    assert (line["level"], line["venue"]) == ("error", "aster")
    assert line["traceback"].endswith("KeyError: 'lost'")


@pytest.mark.parametrize(("is_terminal", "kind"), [(True, PrettyFormatter), (False, JsonFormatter)])
def test_lines_are_pretty_on_a_terminal_only(pipe, root, monkeypatch, is_terminal: bool, kind: type) -> None:  # noqa: FBT001
    monkeypatch.setattr(sys.stderr, "isatty", lambda: is_terminal)
    assert type(setup(fd=pipe.writer).formatter) is kind


def test_setup_folds_repeats(pipe, root) -> None:
    setup(pretty=False, fd=pipe.writer)
    for _ in range(20):
        get_log("ipc.test").info("again")
    assert len(pipe.lines()) == BURST


def test_log_of_a_module_writes_as_that_module(pipe, root) -> None:
    setup(pretty=False, fd=pipe.writer)
    EventLog(logging.getLogger("ipc.one")).info("a")
    get_log("ipc.two").info("b")
    assert [line["logger"] for line in pipe.lines()] == ["ipc.one", "ipc.two"]
