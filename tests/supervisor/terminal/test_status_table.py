"""The table of ``status``: one line a venue, readable in 80 columns, searchable by the reason's word."""

import click
import pytest
from overviews import exited, not_running, stream, system, venue, without_book

from supervisor.terminal.status_table import render

CUT = "no book within the limit; socket cut"


def table(status, **options):
    return click.unstyle(render(status, **options)).splitlines()


def test_the_verdict_comes_first_and_every_venue_has_a_line():
    shown = table(system({"extended": without_book(), "lighter": not_running(next_start_in_s=0.7)}))
    assert shown == [
        f"◐ 3 of 5 live — extended: book: {CUT}, lighter: killed from outside — heals by itself",
        "supervisor   running    pid 4000  up 21 min  version 0.1.0  /run/paraphina",
        "",
        "  venue        state  book age  limit  books  why",
        "● hyperliquid  live      0.1 s  10 s     2/2  live for 20 min",
        "● aster        live      0.1 s  10 s     2/2  live for 20 min",
        f"◐ extended     stale      17 s  10 s     0/2  book: {CUT}, 1.5 s ago (stale_watchdog)",
        "■ lighter      down      8.5 s  10 s     0/2  next start in 0.7 s; killed from outside (killed)",
        "● paradex      live      0.1 s  10 s     2/2  live for 20 min",
        "",
        "gateway      live       pid 4242  http://127.0.0.1:9464",
        "simulator    live       pid 4242  http://127.0.0.1:1",
    ]


@pytest.mark.parametrize("width", [60, 80, 132])
def test_lines_are_wrapped_behind_their_columns(width):
    status = system({"extended": without_book(), "lighter": not_running(crash_loop=True, failures=5)})
    shown = table(status, width=width)
    assert max(len(line) for line in shown) <= width
    words = " ".join(" ".join(shown).split())
    assert "lighter needs you" in words
    assert "(stale_watchdog)" in words


def test_a_table_of_live_venues_is_not_wider_than_80_columns():
    assert max(map(len, table(system()))) <= 80
    restarted = table(system({"aster": venue(last_exit=exited(ago_s=9.8))}), width=80)
    assert max(map(len, restarted)) <= 80


def test_every_stream_is_shown_on_request():
    shown = table(system(), all_streams=True)
    assert sum(line.startswith("    book ") for line in shown) == 5
    assert any(line.startswith("hyperliquid  live       pid 4242  books 2/2  restarts 0") for line in shown)
    assert not any("why" in line for line in shown)


def test_streams_that_are_not_fine_have_a_line():
    streams = {"mark": stream("backoff", reason="server_close", reason_ago_s=12.0, age_ms=31_000, limit_ms=30_000)}
    streams["trade"] = stream("stale", age_ms=500_000)
    shown = table(system({"aster": venue(streams=streams)}))
    assert [line for line in shown if line.startswith("    ")] == [
        "    mark         backoff        31 s of 30 s   venue closed the connection (server_close) 12 s ago"
    ]


def test_only_what_is_unusual_is_remarked():
    busy = {"endpoint": "tcp://127.0.0.1:5603", "listening": False}
    odd = venue(tcp=busy, keys_refused=3, invalid_rows=2, subscriptions=250_000)
    shown = table(system({"aster": odd}))
    assert [line.strip() for line in shown if line.startswith("    ")] == [
        "tcp://127.0.0.1:5603 address_in_use",
        "3 keys refused",
        "2 invalid rows left out",
        "250000 subscriptions",
    ]


def test_a_page_that_is_not_served_is_remarked():
    status = system()
    status["gateway"]["http_listening"] = False
    assert table(status)[-2].endswith("http://127.0.0.1:9464  not served: see the log")
    status["gateway"] |= {"state": "stopped", "pid": None}
    assert table(status)[-2].endswith("http://127.0.0.1:9464")


def test_a_venue_that_was_stopped_says_by_whom():
    off = venue("stopped", pid=None, stopped={"by": "trader", "ago_s": 180.0}, books={"wanted": 0, "usable": 0})
    (line,) = [line for line in table(system({"aster": off})) if line.startswith("○")]
    assert line.split()[:3] == ["○", "aster", "stopped"]
    assert line.endswith("0/0  stopped by trader 3 min ago")


def test_signs_and_words_carry_it_without_colour():
    text = render(system({"lighter": not_running()}))
    assert "\x1b[" in text
    assert {line[0] for line in click.unstyle(text).splitlines() if line} >= {"◐", "●", "■"}
