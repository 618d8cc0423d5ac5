from __future__ import annotations

import subprocess

import pytest

from ipc.errors import ParaphinaError, UsageError
from supervisor.journal import parquet
from supervisor.journal.parquet import convert

pq = pytest.importorskip("pyarrow.parquet")


def partitions(directory):
    return sorted(str(path.parent.relative_to(directory)) for path in directory.rglob("*.parquet"))


def read(directory, channel):
    return [
        row
        for path in sorted(directory.rglob(f"channel={channel}/*"))
        for row in pq.ParquetFile(path).read().to_pylist()
    ]


def test_events_are_partitioned_by_date_venue_and_channel(tmp_path, script, say):
    script.everything()
    late = say.trade(2)
    late.recv_ns = say.WALL_NS + 86_400 * say.SECOND
    script.say("trade", late).say("trade", say.trade(1, venue="aster"))
    done = convert(script.write(tmp_path), tmp_path / "out")
    assert (done.events, done.bad, done.unknown) == (len(script.lines), 0, 0)
    found = partitions(tmp_path / "out")
    assert done.files == len(found)
    assert "date=2026-08-01/venue=lighter/channel=trade" in found
    assert "date=2026-07-31/venue=aster/channel=trade" in found
    assert {path.split("channel=")[1] for path in found} == {
        *("book", "bbo", "trade", "mark", "funding", "instrument", "status", "heartbeat", "lifecycle")
    }


def test_rows_keep_the_order_of_the_journal(tmp_path, script, say):
    for number in range(30):
        script.say("trade", say.trade(number))
    convert(script.write(tmp_path), tmp_path / "out")
    assert [row["trade_id"] for row in read(tmp_path / "out", "trade")] == [str(number) for number in range(30)]


def test_much_is_written_in_several_row_groups(tmp_path, script, say, monkeypatch):
    monkeypatch.setattr(parquet, "_ROWS", 8)
    monkeypatch.setattr(parquet, "_LEVELS", 12)
    for number in range(30):
        script.say("trade", say.trade(number)).book(say.snapshot())
    convert(script.write(tmp_path), tmp_path / "out")
    (trades,) = (tmp_path / "out").rglob("channel=trade/*")
    (books,) = (tmp_path / "out").rglob("channel=book/*")
    assert pq.ParquetFile(trades).num_row_groups == 4
    assert pq.ParquetFile(books).num_row_groups == 10
    assert len(read(tmp_path / "out", "book")) == 30


def test_a_refresh_without_a_time_of_receipt_has_the_date_of_its_sending(tmp_path, script, say):
    script.book(say.snapshot(cause="refresh", flags=("refresh",)))
    convert(script.write(tmp_path), tmp_path / "out")
    assert partitions(tmp_path / "out") == ["date=2026-07-31/venue=lighter/channel=book"]


def test_bad_lines_and_kinds_of_the_future_are_left_out_and_counted(tmp_path, script):
    script.everything()
    script.lines[3:3] = [b"hello\n", b'{"topic":"book.lighter.BTC-PERP","kind":"book_wave"}\n']
    done = convert(script.write(tmp_path), tmp_path / "out")
    assert (done.events, done.bad, done.unknown) == (len(script.lines) - 2, 1, 1)


def test_all_files_below_a_directory_are_one_journal(tmp_path, script, raw_script):
    script.everything()
    script.write(tmp_path / "in", 1, script.lines[:5])
    script.write(tmp_path / "in", 2, script.lines[5:])
    raw_script.frame({}).write(tmp_path / "in" / "lighter")
    assert convert(tmp_path / "in", tmp_path / "out").events == len(script.lines)


def test_what_is_there_is_not_written_over(tmp_path, script):
    path = script.everything().write(tmp_path)
    (tmp_path / "out").mkdir()
    with pytest.raises(UsageError, match="there already"):
        convert(path, tmp_path / "out")
    assert not list((tmp_path / "out").iterdir())


def test_raw_frames_are_not_converted(tmp_path, raw_script):
    with pytest.raises(UsageError, match="raw frames only"):
        convert(raw_script.frame({}).write(tmp_path), tmp_path / "out")


def test_a_conversion_that_breaks_off_leaves_nothing(tmp_path, script, say, monkeypatch):
    path = script.everything().write(tmp_path / "in")

    def interrupt(done):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        convert(path, tmp_path / "out", interrupt)
    assert [found.name for found in tmp_path.iterdir()] == ["in"]


def test_progress_ends_with_all(tmp_path, script, say):
    for number in range(5000):
        script.say("trade", say.trade(number))
    reported = []
    convert(script.write(tmp_path), tmp_path / "out", reported.append)
    assert reported == sorted(reported)
    assert 0 < reported[0] < reported[-1] == 1.0


def test_a_full_disk_leaves_nothing_and_one_error(tmp_path, script, say):
    place = tmp_path / "tiny"
    place.mkdir()
    mounted = subprocess.run(["/bin/mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", place], capture_output=True)
    if mounted.returncode:
        pytest.skip("only root may mount")
    try:
        for number in range(20_000):
            script.say("trade", say.trade(number * 7919, price=f"{number * 7919 % 1000}.{number}"))
        with pytest.raises(ParaphinaError, match="No space left") as reported:
            convert(script.write(tmp_path), place / "out")
        assert reported.value.exit_code == 1
        assert list(place.iterdir()) == []
    finally:
        subprocess.run(["/bin/umount", place], check=True)
