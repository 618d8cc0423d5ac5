"""Metrics of a written system: names, labels, and values that mean what they say."""

from __future__ import annotations

import copy
import re
from pathlib import Path
from types import SimpleNamespace

import pytest
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.parser import text_string_to_metric_families

from ipc.board import BUCKETS, Board, StreamWord, WorkerWord
from ipc.health import Reason, Stream, WorkerState, code_of
from supervisor.lock import Holder
from supervisor.pages import metrics as metrics_page
from supervisor.proc import Usage
from supervisor.serving import histograms
from supervisor.serving.metric_table import METRICS, Kind
from supervisor.serving.metrics import Reading, StatusCollector
from supervisor.status import process as status_process
from supervisor.status import reader as status_reader
from supervisor.status.document import read_status

ROOT = Path(__file__).parents[3]
WALL_S = 1_790_000_000.0
LIGHTER = 3


@pytest.fixture
def system(boards, run_dir, monkeypatch):
    """Written system whose processes run, as the kernel reports."""
    monkeypatch.setattr(status_reader, "time", SimpleNamespace(monotonic_ns=lambda: boards.NOW))
    monkeypatch.setattr(status_reader, "clock_status", lambda: {"synchronised": True, "estimated_error_ms": 0.1})
    monkeypatch.setattr(status_process, "usage_of", lambda _pid: Usage(1.5, 10_000_000))
    monkeypatch.setattr("supervisor.status.document.holder_of", lambda _path: Holder(4711))
    system = boards.WrittenSystem(run_dir)
    yield system
    system.board.close()


@pytest.fixture
def status(system, run_dir):
    return lambda: read_status(run_dir)


def scraped(reading, *, per_market=True):
    """Samples by name and labels, as a scraper parses them."""
    registry = CollectorRegistry()
    registry.register(StatusCollector(lambda: reading, per_market=per_market))
    parsed = text_string_to_metric_families(generate_latest(registry).decode())
    return {(one.name, *sorted(one.labels.items())): one.value for family in parsed for one in family.samples}


def value(samples, name, **labels):
    return samples[(name, *sorted(labels.items()))]


def full(status):
    """Status with everything that a system can have."""
    status = copy.deepcopy(status)
    for process in (*status["venues"].values(), status["gateway"]):
        process["exits"] = {"killed": 2}
        process["descriptors"] = {"open": 20, "limit": 1024, "refusing": False}
    for venue in status["venues"].values():
        venue["session_ends"] = {"server_close": 3}
        venue["stopped"] = None
        venue["consumers"] = ["desk", "risk"]
        venue["sessions"] = {"main": {"frames": 9}}
    return status


def full_reading(document, **changed):
    one = histograms.merge([1] * BUCKETS, 5_000_000_000)
    streams = {Stream.BOOK: histograms.StreamHistograms(one, one)}
    given = {
        "status": full(document),
        "histograms": dict.fromkeys(document["venues"], streams),
        "funding": {("lighter", "BTC-PERP"): 0.0001},
        "spreads": {("lighter", "BTC-PERP"): 0.00002},
        "wall_s": WALL_S,
    }
    return Reading(**{**given, **changed})


def exported(spec):
    """Names of a metric's samples."""
    if spec.kind is Kind.HISTOGRAM:
        return {f"{spec.name}_{suffix}" for suffix in ("bucket", "sum", "count")}
    return {spec.name}


def test_every_metric_of_the_table_is_exported_with_its_labels(status):
    samples = scraped(full_reading(status()))
    for spec in METRICS:
        for name in exported(spec):
            labels = [{key for key, _ in sample[1:]} - {"le"} for sample in samples if sample[0] == name]
            assert labels, name
            assert all(found == set(spec.labels) for found in labels), name
    assert {sample[0] for sample in samples} == {name for spec in METRICS for name in exported(spec)}


def test_names_follow_the_rules_of_prometheus():
    for spec in METRICS:
        assert re.fullmatch(r"paraphina_[a-z0-9_]+", spec.name)
        assert (spec.kind is Kind.COUNTER) == spec.name.endswith("_total"), spec.name
        assert (spec.kind is Kind.INFO) == spec.name.endswith("_info"), spec.name
        assert {"pid", "epoch", "generation"}.isdisjoint(spec.labels)
        assert spec.help.endswith("."), spec.name
        assert ("line" in spec.labels) == spec.name.startswith(
            ("paraphina_stream_", "paraphina_session_", "paraphina_handling", "paraphina_exchange_lag")
        )
    assert len({spec.name for spec in METRICS}) == len(METRICS)


def test_the_documentation_is_printed_from_the_table():
    assert (ROOT / "docs" / "metrics.md").read_text() == metrics_page()


def test_exits_are_counted_by_their_reason(status, system):
    exits = system.board.exits(LIGHTER)
    exits[code_of(Reason.KILLED)], exits[code_of(Reason.WEDGED)] = 3, 1
    samples = scraped(Reading(status(), wall_s=WALL_S))
    counts = {dict(key[1:])["reason"]: one for key, one in samples.items() if key[0] == "paraphina_process_exits_total"}
    assert counts == {"killed": 3, "wedged": 1}


def test_exactly_one_state_is_1(status):
    samples = scraped(full_reading(status()))
    sums = {}
    for (name, *labels), one in samples.items():
        if name.endswith("_state"):
            key = (name, *(label for label in labels if label[0] != "state"))
            sums[key] = sums.get(key, 0) + one
    assert len(sums) == 3 + 2 * 4
    assert set(sums.values()) == {1.0}


def test_times_are_unix_time(status, system):
    system.cell("lighter", "book", "BTC-PERP", age_ms=2500)
    samples = scraped(full_reading(status()))
    assert value(samples, "paraphina_supervisor_start_time_seconds") == WALL_S - 1000
    assert value(samples, "paraphina_supervisor_last_beat_timestamp_seconds") == WALL_S - 0.1
    assert value(samples, "paraphina_process_start_time_seconds", process="lighter") == WALL_S - 999
    of = {"venue": "lighter", "stream": "book", "symbol": "BTC-PERP", "line": "a"}
    assert value(samples, "paraphina_stream_last_update_timestamp_seconds", **of) == WALL_S - 2.5


def test_a_running_stale_span_counts(status, system, boards):
    system.process("lighter", STALE_NS=3_000_000_000)
    assert value(scraped(full_reading(status())), "paraphina_process_stale_seconds_total", process="lighter") == 3.0
    system.process("lighter", WorkerState.STALE, STATE_SINCE=boards.NOW - 4_000_000_000)
    assert value(scraped(full_reading(status())), "paraphina_process_stale_seconds_total", process="lighter") == 7.0


def test_a_stop_and_an_outage(status, system):
    system.process("lighter", OUTAGE_SINCE=1)
    document = status()
    samples = scraped(full_reading(document))
    assert value(samples, "paraphina_venue_outage", venue="lighter") == 1
    assert value(samples, "paraphina_venue_outage", venue="paradex") == 0
    assert value(samples, "paraphina_venue_stopped", venue="lighter") == 0
    stopped = full(document)
    stopped["venues"]["lighter"]["stopped"] = {"by": "root", "ago_s": 1.0}
    assert value(scraped(full_reading(document, status=stopped)), "paraphina_venue_stopped", venue="lighter") == 1


def test_a_process_that_does_not_run_has_no_memory_and_no_start(status, system):
    system.process("lighter", WorkerState.BACKOFF, PID=0, EXIT_REASON=Reason.KILLED)
    samples = scraped(Reading(status(), wall_s=WALL_S))
    assert value(samples, "paraphina_process_state", process="lighter", state="backoff") == 1
    assert not any(name[0] == "paraphina_process_start_time_seconds" and "lighter" in str(name) for name in samples)
    assert value(samples, "paraphina_books_usable", venue="lighter") == 0


def test_counters_never_fall_while_the_board_grows(status, system):
    counters = {spec.name for spec in METRICS if spec.kind is Kind.COUNTER}
    before = scraped(full_reading(status()))
    row = system.board.worker(LIGHTER)
    for word in (WorkerWord.RESTARTS, WorkerWord.DROPS):
        row.add(word, 5)
    row.add(WorkerWord.STALE_NS, 5_000_000_000)
    system.header(FORKS=8)
    after = scraped(full_reading(status()))
    assert {key for key in before if key[0] in counters} <= after.keys()
    grown = {key[0] for key in before if key[0] in counters and after[key] > before[key]}
    assert grown == {
        "paraphina_process_restarts_total",
        "paraphina_publish_full_pipes_total",
        "paraphina_process_stale_seconds_total",
        "paraphina_supervisor_forks_total",
    }
    assert all(after[key] >= before[key] for key in before if key[0] in counters)


def test_prices_of_a_book_that_cannot_be_used_are_left_out(status, system, boards):
    key = ("paraphina_spread_ratio", ("symbol", "BTC-PERP"), ("venue", "lighter"))
    assert scraped(full_reading(status()))[key] == 0.00002
    resync = full(status())
    resync["venues"]["lighter"]["streams"]["book"]["markets"]["BTC-PERP"]["state"] = "resync"
    samples = scraped(full_reading(status(), status=resync))
    assert key not in samples
    assert value(samples, "paraphina_funding_rate_8h_ratio", venue="lighter", symbol="BTC-PERP") == 0.0001


def test_prices_of_a_venue_that_was_removed_are_left_out(status):
    gone = {("gone", "BTC-PERP"): 1.0, ("lighter", "GONE-PERP"): 1.0}
    samples = scraped(full_reading(status(), spreads=gone, funding={("gone", "BTC-PERP"): 1.0}))
    assert "paraphina_spread_ratio" not in {key[0] for key in samples}
    assert "gone" not in str(samples)


def test_series_by_market_can_be_left_out(status):
    samples = scraped(full_reading(status()), per_market=False)
    assert not any("symbol" in dict(key[1:]) for key in samples)
    kept = [spec for spec in METRICS if not spec.is_per_market]
    assert {key[0] for key in samples} == {name for spec in kept for name in exported(spec)}


def test_describing_reads_nothing():
    def fail():
        raise AssertionError("read")

    collector = StatusCollector(fail)
    assert len(list(collector.describe())) == len(METRICS)
    CollectorRegistry().register(collector)


def test_some_metrics_can_be_asked_for_by_name(status):
    registry = CollectorRegistry()
    registry.register(StatusCollector(lambda: full_reading(status())))
    text = generate_latest(registry.restricted_registry(["paraphina_books_usable"])).decode()
    assert [line for line in text.splitlines() if not line.startswith("#")] == [
        'paraphina_books_usable{venue="lighter"} 2.0',
        'paraphina_books_usable{venue="paradex"} 2.0',
    ]


# --- histograms -------------------------------------------------------------------------------------------------------


def test_buckets_are_merged_without_loss(system, run_dir):
    row = system.board.stream(LIGHTER, Stream.BOOK)
    durations = [1_000, 100_000, 131_071, 131_072, 3_000_000, 8_000_000_000, 9_000_000_000, 100_000_000_000]
    for ns in durations:
        row.add(StreamWord.HANDLING + min(BUCKETS - 1, (ns >> 13).bit_length()))
        row.add(StreamWord.HANDLING_SUM, ns)
    read = histograms.read(Board.attach(run_dir.board), LIGHTER)
    merged = read[Stream.BOOK].handling
    assert [bound for bound, _ in merged.buckets][-1] == "+Inf"
    assert len(merged.buckets) == 10
    for bound, count in merged.buckets:
        assert count == sum(ns < float(bound) * 1e9 for ns in durations), bound
    assert merged.sum_s == pytest.approx(sum(durations) / 1e9)
    assert read[Stream.BOOK].lag.buckets[-1] == ("+Inf", 0.0)
    assert set(read) == {Stream.BOOK, Stream.TRADE}


def test_a_scraper_reads_the_histograms(status):
    samples = scraped(full_reading(status()))
    of = {"venue": "lighter", "stream": "book", "line": "a"}
    assert value(samples, "paraphina_handling_seconds_count", **of) == BUCKETS
    assert value(samples, "paraphina_handling_seconds_sum", **of) == 5.0
    assert value(samples, "paraphina_handling_seconds_bucket", le="0.000131072", **of) == 5


def test_codes_of_reasons_fit(system):
    assert max(map(code_of, Reason)) < 64
