from __future__ import annotations

import errno
import os
import struct
import subprocess
import sys
import time
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import pytest

from ipc.board import (
    ACCOUNT_SESSION,
    BUCKETS,
    MARKETS,
    PROCESSES,
    REASONS,
    SESSIONS,
    STREAMS,
    Board,
    CellWord,
    HeaderWord,
    SessionWord,
    StreamWord,
    WorkerWord,
    market_key,
)
from ipc.errors import BoardError
from ipc.health import Phase, Stream, code_of

CREATED = 1_700_000_000_000_000_000
SIZE = 6_869_120
#: Word numbers as readers of any build know them. Reuse none; a change of these needs a new version of the board.
HEADER_WORDS = {
    "MAGIC": 0,
    "VERSION": 1,
    "SIZE": 2,
    "CREATED_WALL_NS": 3,
    "PARENT_STARTED": 5,
    "PARENT_BEAT": 6,
    "PARENT_DRAINING": 7,
    "LOOP_GAP_MAX_NS": 8,
    "SELF_STALLS": 9,
    "FORKS": 10,
    "COUNT": 16,
}
WORKER_WORDS = {
    "GENERATION": 0,
    "PID": 1,
    "FORKED": 2,
    "STATE": 3,
    "STATE_SINCE": 4,
    "RESTARTS": 5,
    "FAILURES": 6,
    "EXIT_REASON": 7,
    "EXIT_CODE": 8,
    "EXIT_SIGNAL": 9,
    "EXIT_AT": 10,
    "EXIT_UPTIME_NS": 11,
    "NEXT_START": 12,
    "CRASH_LOOP": 13,
    "STALE_NS": 14,
    "LIVE_AT": 15,
    "SELF_FAULT": 16,
    "STOPPED_AT": 17,
    "STOPPED_BY": 18,
    "DUTY": 19,
    "EPOCH": 24,
    "BOOTED": 25,
    "MAIN_LOOPS": 26,
    "BOOKS_WANTED": 27,
    "BOOKS_USABLE": 28,
    "DROPS": 29,
    "RSS_BYTES": 30,
    "OUTAGE_SINCE": 31,
    "THREAD_RESTARTS": 32,
    "FIRST_FRESH": 33,
    "LAST_FRESH": 34,
    "RESOLVING": 35,
    "RESOLVE_FAILED": 36,
    "PUBLISHED": 37,
    "HTTP": 38,
    "HELD_BACK": 39,
    "RESOLVED": 40,
    "TCP": 41,
    "ACCOUNT_TCP": 42,
    "KEYS_REFUSED": 43,
    "SUBSCRIPTIONS": 44,
    "DESCRIPTORS": 45,
    "DESCRIPTOR_LIMIT": 46,
    "REFUSING": 47,
    "BEAT": 48,
    "MAIN_SEEN": 49,
    "CUTS": 50,
    "SPENT_MESSAGES": 52,
    "SPENT_WEIGHT": 53,
    "SPENT_CONNECTS": 54,
    "REST_CLOSED_UNTIL": 55,
    "SPENT_OPTIONAL_WEIGHT": 56,
    "SPENT_ACCOUNT_WEIGHT": 57,
    "ACCOUNT_REST_CLOSED_UNTIL": 58,
    "MESSAGES_FULL_AT": 59,
    "WEIGHT_FULL_AT": 60,
    "CONNECTS_FULL_AT": 61,
    "OPTIONAL_WEIGHT_FULL_AT": 62,
    "ACCOUNT_WEIGHT_FULL_AT": 63,
    "COUNT": 64,
}
SESSION_WORDS = {
    "PHASE": 0,
    "CONNECT_START": 1,
    "DEADLINE": 2,
    "NEXT_ACTION": 3,
    "ATTEMPT": 4,
    "RECONNECTS": 5,
    "LAST_REASON": 6,
    "LAST_WS_RX": 7,
    "OPENED": 8,
    "FRAMES": 9,
    "FIRST_FRESH": 12,
    "LAST_FRESH": 13,
    "FAILED_CYCLES": 14,
    "INVALID_ROWS": 16,
    "COUNT": 24,
}
STREAM_WORDS = {"HANDLING": 0, "HANDLING_SUM": 24, "LAG": 32, "LAG_SUM": 56, "COUNT": 64}
CELL_WORDS = {
    "LAST_DATA_RX": 0,
    "LAST_PARSED": 1,
    "LAST_PUBLISHED": 2,
    "STATE": 3,
    "REASON": 4,
    "LIMIT_MS": 5,
    "RECONNECTS": 6,
    "GAPS": 8,
    "SINCE": 9,
    "LAST_GOOD": 10,
    "EVENTS": 11,
    "REASON_AT": 12,
    "MARKET": 13,
    "COUNT": 14,
}
#: Stores two patterns in turn for as long as it lives; a torn word would be a mixture of them.
TOGGLE = """
import sys
from pathlib import Path
from ipc.board import Board
row = Board.attach(Path(sys.argv[1]), writable=True).worker(2)
while True:
    row[5] = 0x0123456789ABCDEF
    row[5] = 0xFEDCBA9876543210
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "board"


@pytest.fixture
def board(path: Path) -> Iterator[Board]:
    board = Board.create(path, CREATED)
    yield board
    board.close()


def word_in_file(path: Path, number: int) -> int:
    return struct.unpack_from("<Q", path.read_bytes(), number * 8)[0]


def names_in(directory: Path) -> list[str]:
    return [entry.name for entry in directory.iterdir()]


# --- layout -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "numbers"),
    [
        (HeaderWord, HEADER_WORDS),
        (WorkerWord, WORKER_WORDS),
        (StreamWord, STREAM_WORDS),
        (SessionWord, SESSION_WORDS),
        (CellWord, CELL_WORDS),
    ],
)
def test_words_keep_their_numbers(words: type, numbers: dict[str, int]) -> None:
    assert {name: number for name, number in vars(words).items() if name.isupper()} == numbers


def test_board_has_room_for_as_much_as_it_always_had() -> None:
    assert (PROCESSES, SESSIONS, MARKETS, REASONS, BUCKETS) == (24, 32, 256, 64, 24)
    assert [str(stream) for stream in STREAMS] == [str(stream) for stream in Stream]
    assert len(STREAMS) == 9


def test_new_file_is_a_header_and_zeros(board: Board, path: Path) -> None:
    content = path.read_bytes()
    assert content[:8] == b"paraphbd"
    assert struct.unpack_from("<QQQ", content, 8) == (4, SIZE, CREATED)
    assert len(content) == SIZE
    assert not any(content[32:])


def test_file_is_for_its_owner_alone(board: Board, path: Path) -> None:
    assert path.stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize(
    ("place", "offset"),
    [
        (lambda board: (board.header, HeaderWord.PARENT_STARTED), 5),
        (lambda board: (board.worker(0), WorkerWord.GENERATION), 16),
        (lambda board: (board.worker(23), WorkerWord.CUTS), 16 + 23 * 35_776 + 50),
        (lambda board: (board.session(0, 0), SessionWord.PHASE), 720),
        (lambda board: (board.session(1, 31), SessionWord.INVALID_ROWS), 16 + 35_776 + 704 + 31 * 24 + 16),
        (lambda board: (board.exits(2), 63), 16 + 2 * 35_776 + 64 + 63),
        (lambda board: (board.stream(0, Stream.BOOK), StreamWord.HANDLING), 144),
        (lambda board: (board.stream(1, Stream.MARK), StreamWord.LAG), 16 + 35_776 + 128 + 4 * 64 + 32),
        (lambda board: (board.ends(0, 0), 0), 1488),
        (lambda board: (board.ends(1, 31), 7), 16 + 35_776 + 1472 + 31 * 64 + 7),
        (lambda board: (board.cell(0, 0, Stream.BOOK), CellWord.LAST_DATA_RX), 3536),
        (lambda board: (board.cell(0, 0, Stream.BBO), CellWord.STATE), 3536 + 2 * 14 + 3),
        (lambda board: (board.cell(2, 5, Stream.MARK), CellWord.GAPS), 16 + 2 * 35_776 + 3520 + (5 * 9 + 4) * 14 + 8),
        (lambda board: (board.cell(23, 255, Stream.ACCOUNT), CellWord.SINCE), 858_640 - 14 + 9),
    ],
)
def test_word_stands_in_the_file_where_it_always_stood(board: Board, path: Path, place, offset: int) -> None:
    row, word = place(board)
    row[word] = 0x1122334455667788
    assert word_in_file(path, offset) == 0x1122334455667788


def test_no_two_words_share_a_place(board: Board) -> None:
    rows = [board.header]
    for slot in range(PROCESSES):
        rows += [board.worker(slot), board.exits(slot)]
        rows.extend(board.stream(slot, stream) for stream in STREAMS)
        rows.extend(board.session(slot, number) for number in range(SESSIONS))
        rows.extend(board.ends(slot, number) for number in range(SESSIONS))
        rows.extend(board.cell(slot, market, stream) for market in range(MARKETS) for stream in STREAMS)
    spans = sorted((row.at, row.at + row.count) for row in rows)
    assert spans[0][0] == 0
    assert all(one[1] == other[0] for one, other in pairwise(spans))
    assert spans[-1][1] * 8 == SIZE


# --- rows ---------------------------------------------------------------------------------------------------------


def test_row_counts_and_zeroes_its_own_words(board: Board) -> None:
    row, neighbour = board.session(1, 2), board.session(1, 3)
    neighbour[SessionWord.PHASE] = 9
    for word in range(SessionWord.COUNT):
        row[word] = word + 1
    row.add(SessionWord.FRAMES)
    row.add(SessionWord.RECONNECTS, 1000)
    assert (row[SessionWord.FRAMES], row[SessionWord.RECONNECTS]) == (11, 1006)
    row.zero(SessionWord.OPENED, SessionWord.FRAMES)
    assert (row[SessionWord.LAST_WS_RX], row[SessionWord.OPENED], row[SessionWord.FRAMES]) == (8, 0, 11)
    row.zero(SessionWord.FIRST_FRESH)
    assert [row[word] for word in range(SessionWord.FIRST_FRESH, SessionWord.COUNT)] == [0] * 12
    row.zero()
    assert not any(row[word] for word in range(SessionWord.COUNT))
    assert neighbour[SessionWord.PHASE] == 9


def test_words_hold_64_bits_without_a_sign(board: Board) -> None:
    row = board.worker(0)
    row[WorkerWord.EPOCH] = 2**64 - 1
    assert row[WorkerWord.EPOCH] == 2**64 - 1
    for value in (-1, 2**64):
        with pytest.raises(ValueError):
            row[WorkerWord.EPOCH] = value


def test_sessions_are_the_public_ones_that_were_ever_used(board: Board) -> None:
    for number in (0, 7, ACCOUNT_SESSION - 1, ACCOUNT_SESSION, SESSIONS - 1):
        board.session(3, number)[SessionWord.PHASE] = code_of(Phase.BACKOFF)
    board.session(4, 1)[SessionWord.PHASE] = 1
    assert [row.at for row in board.sessions(3)] == [board.session(3, number).at for number in (0, 7, 29)]


@pytest.mark.parametrize("slot", [0, 3, PROCESSES - 1])
@pytest.mark.parametrize("markets", [0, 2, MARKETS])
def test_clearing_a_worker_touches_only_what_it_writes(board: Board, slot: int, markets: int) -> None:
    for word in range(len(board.words)):
        board.words[word] = word + 1
    board.clear_worker(slot, markets)
    block = 16 + slot * 35_776
    cells = block + 3520
    cleared = {*range(block + 24, block + 64), *range(block + 128, cells + markets * 9 * 14)}
    cleared -= {*range(cells + 5, cells + markets * 9 * 14, 14)}  # LIMIT_MS
    cleared -= {*range(cells + 10, cells + markets * 9 * 14, 14)}  # LAST_GOOD
    cleared -= {*range(cells + 13, cells + markets * 9 * 14, 14)}  # MARKET
    found = board.words.tolist()
    assert found == [0 if word in cleared else word + 1 for word in range(len(found))]


def good_stamps(board: Board, slot: int, markets: int, stream: Stream = Stream.BOOK) -> list[int]:
    return [board.cell(slot, market, stream)[CellWord.LAST_GOOD] for market in range(markets)]


def test_last_good_data_moves_with_its_market(board: Board) -> None:
    board.assign_markets(3, ["BTC-PERP", "ETH-PERP", "SOL-PERP"])
    for stream in (Stream.BOOK, Stream.TRADE):
        for market in range(3):
            board.cell(3, market, stream)[CellWord.LAST_GOOD] = 10 + market
    board.cell(3, 0, Stream.ACCOUNT)[CellWord.LAST_GOOD] = 99
    board.cell(4, 0, Stream.BOOK)[CellWord.LAST_GOOD] = 77
    board.clear_worker(3, 3)
    assert good_stamps(board, 3, 4) == [10, 11, 12, 0]
    board.assign_markets(3, ["SOL-PERP", "DOGE-PERP", "BTC-PERP", "XRP-PERP"])
    assert good_stamps(board, 3, 4) == good_stamps(board, 3, 4, Stream.TRADE) == [12, 0, 10, 0]
    keys = [board.cell(3, market, Stream.BOOK)[CellWord.MARKET] for market in range(5)]
    assert keys == [*map(market_key, ("SOL-PERP", "DOGE-PERP", "BTC-PERP", "XRP-PERP")), 0]
    board.assign_markets(3, ["ETH-PERP"])
    assert good_stamps(board, 3, 4) == [0, 0, 0, 0], "nobody followed it in between"
    assert board.cell(3, 0, Stream.ACCOUNT)[CellWord.LAST_GOOD] == 99
    assert board.cell(3, 0, Stream.ACCOUNT)[CellWord.MARKET] == 0
    assert good_stamps(board, 4, 1) == [77]


# --- create and attach --------------------------------------------------------------------------------------------


def test_reader_sees_what_the_writer_stores(board: Board, path: Path) -> None:
    reader = Board.attach(path)
    board.cell(1, 2, Stream.FUNDING)[CellWord.LIMIT_MS] = 10_000
    assert reader.cell(1, 2, Stream.FUNDING)[CellWord.LIMIT_MS] == 10_000
    reader.close()


def test_reader_cannot_write(board: Board, path: Path) -> None:
    reader = Board.attach(path)
    with pytest.raises(TypeError):
        reader.worker(0)[0] = 1
    reader.close()


def test_second_process_may_attach_to_write(board: Board, path: Path) -> None:
    writer = Board.attach(path, writable=True)
    writer.worker(0)[WorkerWord.BEAT] = 7
    writer.close()
    assert board.worker(0)[WorkerWord.BEAT] == 7


def test_rows_of_a_closed_board_are_dead(path: Path) -> None:
    board = Board.create(path, CREATED)
    row = board.worker(0)
    board.close()
    with pytest.raises(ValueError):
        _ = row[0]


def test_contents_outlive_their_writer(path: Path) -> None:
    board = Board.create(path, CREATED)
    board.worker(0)[WorkerWord.EPOCH] = 5
    board.close()
    reader = Board.attach(path)
    assert reader.worker(0)[WorkerWord.EPOCH] == 5
    reader.close()


def test_board_appears_whole_by_one_rename(path: Path, monkeypatch) -> None:
    renamed = []

    def rename(self: Path, target: Path) -> Path:
        assert not target.exists()
        content = self.read_bytes()
        assert struct.unpack_from("<8sQQQ", content) == (b"paraphbd", 4, SIZE, CREATED)
        assert len(content) == SIZE
        renamed.append(target)
        os.rename(self, target)  # noqa: PTH104 - the method is replaced
        return target

    monkeypatch.setattr(Path, "rename", rename)
    Board.create(path, CREATED).close()
    assert renamed == [path]
    assert names_in(path.parent) == ["board"]


def test_readers_survive_that_the_board_is_created_again(board: Board, path: Path) -> None:
    board.worker(0)[WorkerWord.EPOCH] = 5
    old = Board.attach(path)
    inode = path.stat().st_ino
    Board.create(path, CREATED + 1).close()
    assert old.worker(0)[WorkerWord.EPOCH] == 5
    assert path.stat().st_ino != inode
    new = Board.attach(path)
    assert (new.worker(0)[WorkerWord.EPOCH], new.header[HeaderWord.CREATED_WALL_NS]) == (0, CREATED + 1)
    for reader in (old, new):
        reader.close()


def test_full_disk_is_an_error_that_leaves_the_old_board_alone(board: Board, path: Path, monkeypatch) -> None:
    board.worker(0)[WorkerWord.EPOCH] = 5

    def no_room(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "posix_fallocate", no_room)
    with pytest.raises(BoardError, match="No space left on device") as caught:
        Board.create(path, CREATED)
    assert caught.value.where == str(path)
    assert names_in(path.parent) == ["board"]
    assert word_in_file(path, 16 + WorkerWord.EPOCH) == 5


def test_board_in_a_directory_that_is_gone_cannot_be_made(tmp_path: Path) -> None:
    with pytest.raises(BoardError, match="No such file or directory"):
        Board.create(tmp_path / "gone" / "board", CREATED)


def test_leftover_of_a_killed_creator_is_replaced(path: Path) -> None:
    path.with_name(f".board.{os.getpid()}").write_bytes(b"x" * (SIZE + 100))
    Board.create(path, CREATED).close()
    assert path.stat().st_size == SIZE
    assert not any(path.read_bytes()[32:])


def test_board_that_is_not_there_cannot_be_opened(path: Path) -> None:
    with pytest.raises(BoardError, match="No such file or directory") as caught:
        Board.attach(path)
    assert caught.value.exit_code == 4


@pytest.mark.parametrize(
    "spoil",
    [
        lambda _: b"",
        lambda content: content[:20],
        lambda content: content[:-8],
        lambda content: content + bytes(8),
        lambda content: b"q" + content[1:],
        lambda content: content[:8] + struct.pack("<Q", 1) + content[16:],
        lambda content: content[:16] + struct.pack("<Q", SIZE - 8) + content[24:],
    ],
    ids=["empty", "shorter than a header", "short", "long", "magic", "version", "size"],
)
@pytest.mark.parametrize("writable", [False, True])
def test_what_is_no_board_of_this_version_is_refused(path: Path, spoil, writable: bool) -> None:  # noqa: FBT001
    Board.create(path, CREATED).close()
    path.write_bytes(spoil(path.read_bytes()))
    with pytest.raises(BoardError, match="not a board of this version") as caught:
        Board.attach(path, writable=writable)
    assert caught.value.advice


def test_refused_file_leaves_no_descriptor_open(path: Path) -> None:
    path.write_bytes(b"rubbish")
    before = len(names_in(Path("/proc/self/fd")))
    with pytest.raises(BoardError):
        Board.attach(path)
    assert len(names_in(Path("/proc/self/fd"))) == before


def test_directory_in_place_of_the_board_is_refused(path: Path) -> None:
    path.mkdir()
    with pytest.raises(BoardError):
        Board.attach(path)


def test_reader_in_another_process_never_sees_half_a_word(board: Board, path: Path) -> None:
    whole = {0, 0x0123456789ABCDEF, 0xFEDCBA9876543210}
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    writer = subprocess.Popen([sys.executable, "-c", TOGGLE, str(path)], env=environment)
    try:
        row, last, turns = board.worker(2), 0, 0
        deadline = time.monotonic() + 30
        while turns < 2_000 and time.monotonic() < deadline:
            value = row[5]
            assert value in whole
            turns += value != last
            last = value
            assert writer.poll() is None
        assert turns == 2_000
    finally:
        writer.kill()
        writer.wait()
