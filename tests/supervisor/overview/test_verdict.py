"""The first line of every view says what is wrong, and whether a person must act."""

import pytest
from overviews import VENUES, exited, not_running, process, stream, system, venue, without_book

from supervisor.overview.condition import condition_of
from supervisor.overview.verdict import kind_of, verdict
from supervisor.status.document import exit_code_of

ALIKE = {"main": {"phase": "backoff", "reason": "dns_failed", "reconnects": 9}}


def line(status, rate=None):
    return verdict(status, rate).line


def test_all_live():
    assert line(system(), 238.4) == "● All 5 venues live — 10 books, 238 events/s"
    assert line(system()) == "● All 5 venues live — 10 books"
    only = system()
    only["venues"] = {"aster": venue()}
    assert line(only) == "● The venue is live — 2 books"


def test_one_worker_was_killed_and_comes_back():
    waits = system({"lighter": not_running(next_start_in_s=0.7)})
    assert line(waits) == "◐ 4 of 5 live — lighter: killed from outside — heals by itself"
    starts = system({"lighter": venue("starting", last_exit=exited(), books={"wanted": 2, "usable": 0})})
    assert line(starts) == "◐ 4 of 5 live — lighter: starting — heals by itself"


def test_one_venue_is_stale():
    assert line(system({"extended": without_book()})) == (
        "◐ 4 of 5 live — extended: book: no book within the limit; socket cut — heals by itself"
    )
    silent = venue("stale", streams={"book": stream("stale", age_ms=17_000)}, books={"wanted": 2, "usable": 0})
    assert line(system({"extended": silent})) == "◐ 4 of 5 live — extended: book stale — heals by itself"


def test_one_venue_is_in_outage():
    assert line(system({"aster": venue("stale", outage=True, books={"wanted": 2, "usable": 0})})) == (
        "◐ 4 of 5 live — aster: venue outage — heals by itself when the venue is back"
    )


def test_one_venue_is_in_a_crash_loop():
    loops = not_running(crash_loop=True, failures=5, next_start_in_s=6.2)
    found = verdict(system({"lighter": loops}))
    assert found.level == "person"
    assert found.line == (
        "▲ lighter needs you — 5 deaths in a row, last: killed from outside; "
        "read: paraphina-supervisor logs --venue lighter; 4 of 5 live"
    )


def test_the_supervisor_is_gone():
    off = {name: stream("off", reason="parent_lost") for name in ("book", "mark")}
    gone = system({name: venue("stopped", pid=None, streams=off) for name in VENUES}, state="dead", uptime_s=None)
    assert line(gone) == "▲ The supervisor is gone: nothing runs — start with: paraphina-supervisor start"


def test_it_was_stopped_in_order():
    off = {name: stream("off", reason="requested") for name in ("book", "mark")}
    ended = venue("stopped", pid=None, last_exit=exited("requested"), streams=off)
    found = verdict(system(dict.fromkeys(VENUES, ended), state="dead", uptime_s=None))
    assert (found.level, found.line) == ("none", "■ Stopped: nothing runs — start with: paraphina-supervisor start")


def test_a_death_that_the_supervisor_has_not_seen_yet_is_no_stop():
    off = {name: stream("off") for name in ("book", "mark")}
    died = venue("stopped", pid=None, last_exit=exited("requested", ago_s=300.0), streams=off)
    died["books"] = {"wanted": 2, "usable": 0}
    assert line(system({"aster": died})) == "◐ 4 of 5 live — aster: does not run — heals by itself"


def test_only_the_gateway_is_away():
    away = system()
    away["gateway"] |= process("backoff", pid=None, last_exit=exited(), next_start_in_s=0.8)
    assert line(away) == (
        "◐ All 5 venues live — page, metrics and lifecycle events are away: gateway killed from outside, "
        "next start in 0.8 s; feeds go on — heals by itself"
    )
    away["gateway"] |= {"crash_loop": True, "failures": 5}
    assert verdict(away).level == "person"
    busy = system()
    busy["gateway"]["http_listening"] = False
    assert line(busy).startswith("▲ The gateway needs you — http://127.0.0.1:9464 cannot be opened")
    busy["gateway"]["since_s"] = 0.1  # it is opening it
    assert line(busy).startswith("● All 5 venues live")


def test_nothing_ever_ran_and_nothing_is_known_yet():
    nothing = {"supervisor": {"state": "none", "pid": None, "uptime_s": None, "version": None}, "venues": {}}
    nothing |= {"gateway": {"state": "stopped", "pid": None, "http": None}, "simulator": None}
    assert line(nothing) == "■ Nothing runs here — start with: paraphina-supervisor start"
    nothing["supervisor"]["state"] = "running"
    assert line(nothing) == "◐ Starting — or restoring its files: no venue is known yet"


def test_stalled_and_draining():
    stalled = verdict(system(state="stalled", beat_age_ms=12_000, is_stopped=True))
    assert stalled.line == (
        "▲ The supervisor needs you — it is stopped (state T), and last worked 12.0 s ago: feeds go on, nothing is "
        "restarted; let it go on with: kill -CONT 4000, or end it with: kill -9 4000"
    )
    assert line(system(state="draining")) == "■ Stopping — all venues are being ended"


def test_a_venue_that_an_operator_stopped_counts_as_neither_bad_nor_live():
    by = {"by": "trader", "ago_s": 180.0}
    off = venue("stopped", pid=None, stopped=by, books={"wanted": 0, "usable": 0})
    one = verdict(system({"aster": off}), 120.0)
    assert one.line == "● All 4 venues live — 8 books, 120 events/s; aster stopped by trader 3 min ago"
    assert kind_of("aster", off) == kind_of("aster", {**off, "state": "killing", "pid": 7}) == "stopped"
    assert kind_of("aster", {**off, "state": "unkillable", "pid": 7}) == "person"
    two = line(system({"aster": off, "extended": off, "lighter": without_book()}))
    assert two.startswith("◐ 2 of 3 live — lighter: book")
    assert two.endswith("; aster and extended stopped by trader 3 min ago")
    everything = verdict(system(dict.fromkeys(VENUES, off)))
    assert (everything.level, everything.headline) == ("none", "All venues are stopped")


def test_a_clock_that_is_not_synchronised_is_mentioned():
    assert line(system(clock={"synchronised": False})).endswith("; clock not synchronised")
    assert "clock" not in line(system(clock={"synchronised": None}))


def test_a_worker_alone():
    alone = system(state="none", uptime_s=None)
    alone["venues"] = {"lighter": venue()}
    alone["gateway"] |= {"state": "stopped", "pid": None}
    assert line(alone) == "● Live, without a supervisor — 2 books"
    alone["venues"] = {"lighter": venue("stopped", pid=None)}
    assert line(alone).startswith("■ Nothing runs here")


def test_a_recovery_that_takes_too_long_needs_a_person():
    late = verdict(system({"extended": without_book(age_ms=130_000)}))
    assert late.level == "person"
    assert late.detail == (
        "no usable book for 2 min, last: no book within the limit; socket cut; "
        "read: paraphina-supervisor logs --venue extended; 4 of 5 live"
    )
    outage = without_book(age_ms=10_000_000) | {"outage": True}
    assert verdict(system({"extended": outage})).level == "heals"
    never = venue("starting", since_s=150.0, streams={"book": stream("connecting", age_ms=None)})
    never["books"]["usable"] = 0
    assert verdict(system({"extended": never})).headline == "extended needs you"


def test_all_venues_that_fail_alike_point_to_this_machine():
    away = {name: without_book(reason="dns_failed", age_ms=31_000) | {"sessions": ALIKE} for name in VENUES}
    assert line(system(away)) == (
        "▲ No venue can be reached — all 5 fail alike: venue's host name was not found; "
        "check this machine's network: paraphina-supervisor check"
    )
    outage = {name: without_book(age_ms=31_000) | {"outage": True} for name in VENUES}
    assert verdict(system(outage)).headline == "No venue can be reached"
    soon = {name: without_book(reason="dns_failed", age_ms=11_000) | {"sessions": ALIKE} for name in VENUES}
    assert verdict(system(soon)).level == "heals"
    assert verdict(system(away | {"aster": venue()})).level == "heals"


@pytest.mark.parametrize(
    ("of", "what", "advice"),
    [
        (
            venue("failed", pid=None, error="markets: XX is no symbol"),
            "markets: XX is no symbol",
            "correct the configuration, then: paraphina-supervisor restart aster",
        ),
        (
            venue("unkillable"),
            "its process survived SIGKILL, and no second one is started beside it",
            "check disks and NFS",
        ),
        (
            venue(tcp={"endpoint": "tcp://127.0.0.1:5", "listening": False}),
            "tcp://127.0.0.1:5: another program uses the address",
            "end it, or set another tcp_port",
        ),
        (
            venue(streams={"account": {**stream("failed", reason="auth_failed"), "detail": "bad key"}}),
            "account: venue rejected the credentials (bad key)",
            "correct the credentials, then: paraphina-supervisor restart aster",
        ),
    ],
)  # fmt: skip
def test_what_no_retry_mends_needs_a_person(of, what, advice):
    found = verdict(system({"aster": of}))
    assert (found.level, found.headline) == ("person", "aster needs you")
    assert found.detail.startswith(f"{what}; {advice}; ")


def test_a_market_that_is_not_listed_is_named():
    book = stream()
    book["markets"]["ETH-PERP"] |= {"state": "failed", "reason": "unknown_market"}
    book |= {"state": "failed", "reason": "unknown_market"}
    found = verdict(system({"aster": venue(streams={"book": book})}))
    assert found.level == "person"
    assert found.detail.startswith("book of ETH-PERP: venue does not list this market; correct the markets of aster")


def test_several_that_need_a_person():
    both = {"aster": venue("unkillable"), "lighter": venue("failed", pid=None, error="E")}
    found = verdict(system(both))
    assert found.headline == "aster and lighter need you"
    assert found.detail.startswith("aster: its process survived SIGKILL")


def test_why_says_what_happened_last_and_when():
    restarted = venue(last_exit=exited(ago_s=8.7))
    assert condition_of("aster", restarted).why == "restarted 8.7 s ago: killed from outside"
    book = stream(reason="server_close", reason_ago_s=180.0)
    assert (
        condition_of("aster", venue(streams={"book": book})).why == "recovered 3 min ago: venue closed the connection"
    )
    later = venue(streams={"book": book}, last_exit=exited(ago_s=400.0))
    assert condition_of("aster", later).reason == "server_close"
    assert condition_of("aster", venue(last_exit=exited(ago_s=4_000.0))).why == "live for 20 min"
    waits = not_running(next_start_in_s=6.2)
    assert condition_of("aster", waits).why == "next start in 6.2 s; killed from outside"
    starting = venue("starting", last_exit=exited(ago_s=1.2))
    assert condition_of("aster", starting).why == "starting; ended 1.2 s ago: killed from outside"
    assert condition_of("aster", venue("killing")).why == "being ended"
    part = venue(books={"wanted": 2, "usable": 1})
    assert condition_of("aster", part)[:3] == ("degraded", "degraded", "1 of 2 books usable")


def test_a_rate_that_comes_once_an_hour_is_not_late_before_its_limit():
    waiting = stream("connecting", age_ms=None, limit_ms=36_000_000)
    assert kind_of("extended", venue(streams={"funding": waiting})) == "live"
    assert kind_of("extended", venue(streams={"mark": waiting})) == "degraded"
    assert kind_of("extended", venue(streams={"funding": {**waiting, "limit_ms": 30_000}})) == "degraded"


def test_fine_agrees_with_the_exit_code():
    for of in (venue(), without_book(), not_running(), venue("failed", pid=None)):
        status = system({"aster": of})
        assert (verdict(status).level == "fine") is (exit_code_of(status) == 0)


@pytest.mark.parametrize("reason", ["auth_failed", "unknown_market", "delisted"])
def test_sign_of_the_venue_and_verdict_agree_that_a_person_must_act(reason):
    troubled = venue(streams={"mark": stream("failed", reason=reason, reason_ago_s=12.0)})
    assert line(system({"aster": troubled})).startswith("▲ aster needs you")
    assert condition_of("aster", troubled)[:2] == ("person", "needs you")
    assert condition_of("aster", troubled).why.endswith(", 12 s ago")


def test_a_venue_that_needs_a_person_and_has_its_books_counts_as_live():
    looped = venue(crash_loop=True, failures=5, last_exit=exited("killed"))
    assert "; 5 of 5 live" in line(system({"lighter": looped}))
    looped["books"] = {"wanted": 2, "usable": 1}
    assert "; 4 of 5 live" in line(system({"lighter": looped}))
    rejected = {**venue()["streams"], "account": stream("failed", reason="auth_failed", reason_ago_s=3.0)}
    assert "; 5 of 5 live" in line(system({"aster": venue(streams=rejected)}))
