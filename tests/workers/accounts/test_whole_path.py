"""From a venue's own messages to what subscribers are sent: answers that lack something, contradict, or come again."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from courses import secrets_of
from fake_account import PublishedAccount

from ipc.board import Board
from workers.accounts.checkpoint import PublishedFills
from workers.venues.account import Login, PrivateVenue
from workers.venues.aster.account import AsterAccount
from workers.venues.hyperliquid.account import HyperliquidAccount

MS = 1_790_000_123_456
ADDRESS = "0x" + 40 * "a"
ALIVE = {"open", "untriggered"}


class Account:
    """One account of a venue: its frames and answers go the way that they go in a worker."""

    def __init__(self, side: PrivateVenue, board: Board, path: Path | None = None) -> None:
        published = None if path is None else PublishedFills(path, side.venue)
        self.side, self.reported = side, PublishedAccount(board, published)

    def push(self, *frames: Any) -> None:
        for frame in frames:
            body = json.dumps(frame).encode()
            self.reported.statement.apply_pushed(self.side.decode(body, False, {}, "desk"))  # type: ignore[arg-type]

    def look(self, **answers: Any) -> bool:
        """Ask for the whole account, and answer."""
        asked_at = self.reported.statement.push_count()
        return self.answer(asked_at, **answers)

    def answer(self, asked_at: int, **answers: Any) -> bool:
        keys = {"ASTER_API_KEY": "key", "ASTER_API_SECRET": "secret"}
        secrets = secrets_of(self.side.secrets, **(keys if self.side.venue == "aster" else {}))
        steps = self.side.snapshot(Login("", token=ADDRESS), secrets, {}, "desk", MS - 1000, MS * 1_000_000)
        request = next(steps)
        try:
            while True:
                request = steps.send(json.dumps(self._answer_to(request, answers)).encode())
        except StopIteration as end:
            return self.reported.statement.apply_snapshot(end.value, asked_at)

    def _answer_to(self, request: Any, answers: dict[str, Any]) -> Any:
        if self.side.venue == "aster":
            call = request.path.partition("?")[0].rpartition("/")[2]
            return answers.get(call, {} if call == "account" else [])
        query = json.loads(request.body)
        kind, dex = query["type"], query.get("dex", "")
        return answers.get(f"{kind}_{dex}" if dex else kind, HL_NOTHING[kind])

    def orders(self) -> list[tuple[str, str]]:
        return [(order.order_id, order.status) for order in self.reported.of("order")]

    def sizes(self) -> list[str]:
        return [position.size for position in self.reported.of("position")]


@pytest.fixture
def board(tmp_path: Path) -> Iterator[Board]:
    board = Board.create(tmp_path / "board", 1)
    yield board
    board.close()


@pytest.fixture
def hyperliquid(board: Board) -> Account:
    return Account(HyperliquidAccount(), board)


@pytest.fixture
def aster(board: Board) -> Account:
    return Account(AsterAccount(), board)


# --- messages -----------------------------------------------------------------------------------------------------

HL_STATE = {"marginSummary": {"accountValue": "812.4"}, "assetPositions": [], "time": MS}
HL_NOTHING: dict[str, Any] = {
    "userFillsByTime": [],
    "userFunding": [],
    "historicalOrders": [],
    "perpDexs": [None],
    "frontendOpenOrders": [],
    "clearinghouseState": HL_STATE,
    "spotClearinghouseState": {"balances": []},
}


def hl_order(coin: str = "ETH", oid: int = 701, **changes: Any) -> dict[str, Any]:
    words = {"coin": coin, "side": "B", "limitPx": "401.5", "sz": "2.0", "oid": oid, "timestamp": MS, "origSz": "2.0"}
    return words | changes


def hl_update(status: str = "open", ms: int = MS, **changes: Any) -> dict[str, Any]:
    return {"order": hl_order(**changes), "status": status, "statusTimestamp": ms}


def hl_updates(*rows: Any) -> dict[str, Any]:
    return {"channel": "orderUpdates", "data": list(rows)}


def hl_fill(tid: Any = 5, **changes: Any) -> dict[str, Any]:
    words = {"coin": "ETH", "px": "2510.5", "sz": "0.4", "side": "A", "time": MS, "dir": "Close Long", "oid": 48}
    return words | {"crossed": False, "fee": "0.12", "tid": tid, "feeToken": "USDC"} | changes


def hl_held(coin: str, size: str) -> dict[str, Any]:
    return HL_STATE | {"assetPositions": [{"position": {"coin": coin, "szi": size}}]}


def aster_update(*legs: tuple[str, str], ms: int = MS, reason: str = "ORDER", symbol: str = "BTCUSDT") -> Any:
    rows = [{"s": symbol, "pa": size, "ep": "60000", "up": "1.0", "mt": "isolated", "ps": leg} for leg, size in legs]
    return {"e": "ACCOUNT_UPDATE", "E": ms + 1, "T": ms, "a": {"m": reason, "B": [], "P": rows}}


def aster_risk(*legs: tuple[str, str], ms: int = 0, symbol: str = "BTCUSDT") -> list[dict[str, Any]]:
    return [{"symbol": symbol, "positionAmt": size, "positionSide": leg, "updateTime": ms} for leg, size in legs]


# --- a part is not the whole --------------------------------------------------------------------------------------


def test_an_order_on_a_builders_exchange_is_not_closed_by_a_list_of_another(hyperliquid: Account) -> None:
    row = hl_update(coin="xyz:TSLA", oid=501)
    hyperliquid.push(hl_updates(row))
    hyperliquid.look(historicalOrders=[row])
    assert hyperliquid.orders() == [("501", "open")]


def test_an_order_on_a_builders_exchange_is_closed_by_the_list_of_its_own(hyperliquid: Account) -> None:
    names = [None, {"name": "xyz"}]
    hyperliquid.push(hl_updates(hl_update(coin="xyz:TSLA", oid=501)))
    hyperliquid.look(perpDexs=names, frontendOpenOrders_xyz=[hl_order("xyz:TSLA", 501)])
    assert hyperliquid.orders() == [("501", "open")]
    hyperliquid.look(perpDexs=names)
    assert hyperliquid.orders() == [("501", "open"), ("501", "closed")]


def test_a_position_on_a_builders_exchange_comes_and_goes_with_its_own_state(hyperliquid: Account) -> None:
    names = [None, {"name": "xyz"}]
    hyperliquid.look(perpDexs=names, clearinghouseState_xyz=hl_held("xyz:TSLA", "3"))
    pushed = {"dex": "", "user": ADDRESS, "clearinghouseState": hl_held("ETH", "1")}
    hyperliquid.push({"channel": "clearinghouseState", "data": pushed})
    assert hyperliquid.sizes() == ["3", "1"]
    hyperliquid.look(perpDexs=[None], clearinghouseState=hl_held("ETH", "1"))
    assert hyperliquid.sizes() == ["3", "1"], "its exchange was not asked"
    hyperliquid.look(perpDexs=names, clearinghouseState=hl_held("ETH", "1"))
    assert hyperliquid.sizes() == ["3", "1", "0"]


@pytest.mark.parametrize("rubbish", [{"coin": "ETH"}, 5, hl_order(sz=[])])
def test_an_order_is_not_closed_by_a_list_with_a_row_that_cannot_be_read(hyperliquid: Account, rubbish: Any) -> None:
    hyperliquid.push(hl_updates(hl_update()))
    hyperliquid.look(frontendOpenOrders=[rubbish])
    assert hyperliquid.orders() == [("701", "open")]
    assert hyperliquid.reported.statement.invalid_rows == 1
    hyperliquid.look()
    assert hyperliquid.orders()[-1] == ("701", "closed")


# --- legs, and which of two wins ----------------------------------------------------------------------------------


def test_the_push_of_one_leg_leaves_the_other(aster: Account) -> None:
    aster.push(aster_update(("BOTH", "0"), ("LONG", "20"), ("SHORT", "-10")))
    aster.push(aster_update(("LONG", "20"), ms=MS + 3_600_000, reason="FUNDING_FEE"))
    aster.look(positionRisk=aster_risk(("LONG", "20"), ("SHORT", "-10"), ms=MS - 5000))
    assert set(aster.sizes()) == {"10"}


def test_an_answer_corrects_a_push_whose_time_is_later(aster: Account) -> None:
    aster.push(aster_update(("BOTH", "20"), ms=MS + 9000))
    aster.look(positionRisk=aster_risk(("BOTH", "15"), ms=MS - 5000))
    assert aster.sizes() == ["20", "15"]


def test_an_answer_that_a_push_overtook_does_not_correct_it(aster: Account) -> None:
    asked_at = aster.reported.statement.push_count()
    aster.push(aster_update(("BOTH", "20")))
    assert not aster.answer(asked_at, positionRisk=aster_risk(("BOTH", "15"), ms=MS + 9000))
    assert aster.sizes() == ["20"]


def test_a_net_is_not_guessed_while_a_leg_is_unknown(aster: Account) -> None:
    aster.push(aster_update(("LONG", "20")))
    assert aster.sizes() == []
    aster.look(positionRisk=aster_risk(("LONG", "20"), ("SHORT", "-5")))
    assert aster.sizes() == ["15"]


def test_a_leg_that_an_answer_does_not_list_is_flat_and_so_is_one_that_never_was(aster: Account) -> None:
    aster.look(positionRisk=aster_risk(("LONG", "20"), ("SHORT", "-5")))
    aster.look(positionRisk=aster_risk(("LONG", "20")))
    assert aster.sizes() == ["15", "20"]
    aster.push(aster_update(("SHORT", "-7"), symbol="ETHUSDT"))
    assert aster.sizes() == ["15", "20", "-7"], "the answer has shown that nothing else is held"
    aster.look()
    assert aster.sizes()[-2:] == ["0", "0"]


def test_a_leg_is_not_flat_by_an_answer_with_a_row_that_cannot_be_read(aster: Account) -> None:
    aster.look(positionRisk=aster_risk(("LONG", "20"), ("SHORT", "-5")))
    aster.look(positionRisk=[*aster_risk(("LONG", "21")), {"symbol": "BTCUSDT"}])
    assert aster.sizes() == ["15", "16"]


def test_legs_that_change_in_one_frame_make_one_event(aster: Account) -> None:
    aster.look()
    aster.push(aster_update(("BOTH", "0"), ("LONG", "20"), ("SHORT", "-10")))
    aster.push(aster_update(("LONG", "25"), ("SHORT", "-15")))
    aster.push(aster_update(("LONG", "30"), ("SHORT", "-15")))
    assert aster.sizes() == ["10", "15"]


# --- words that are new to us -------------------------------------------------------------------------------------


@pytest.mark.parametrize("word", ["accepted", "resting", "", "OPEN"])
def test_a_word_that_is_new_to_us_closes_nothing(hyperliquid: Account, word: str) -> None:
    hyperliquid.push(hl_updates(hl_update(word)), hl_updates(hl_update(ms=MS + 10)))
    hyperliquid.look(frontendOpenOrders=[hl_order()])
    assert {status for _, status in hyperliquid.orders()} == {"open"}
    hyperliquid.push(hl_updates(hl_update("marginCanceled", ms=MS + 20)))
    assert hyperliquid.orders()[-1] == ("701", "canceled")


@pytest.mark.parametrize(("word", "filled", "status"), [("NEW_ADL", "2", "filled"), ("NEW_INSURANCE", "1", "open")])
def test_quantity_decides_before_the_word(aster: Account, word: str, filled: str, status: str) -> None:
    order = {
        "s": "BTCUSDT",
        "c": "",
        "S": "BUY",
        "o": "LIMIT",
        "q": "2",
        "p": "0",
        "x": "CALCULATED",
        "X": word,
        "i": 9,
    }
    execution = order | {"z": filled, "l": "1", "L": "5", "t": 3, "T": MS}
    aster.push({"e": "ORDER_TRADE_UPDATE", "E": MS, "T": MS, "o": execution})
    assert aster.orders() == [("9", status)]
    assert [order.price for order in aster.reported.of("order")] == [None]
    assert len(aster.reported.of("fill")) == 1


# --- fills and payments -------------------------------------------------------------------------------------------


def test_a_forced_reduction_is_adl_and_their_liquidation_is_our_trade(hyperliquid: Account) -> None:
    theirs = {"liquidatedUser": "0x" + 40 * "c", "markPx": "2500.0", "method": "backstop"}
    hyperliquid.push({"channel": "user", "data": {"fills": [hl_fill(4, dir="Auto-Deleveraging")]}})
    row = hl_fill(5, dir="Auto-Deleveraging", crossed=True, liquidation=theirs)
    hyperliquid.push({"channel": "user", "data": {"fills": [row]}})
    hyperliquid.push({"channel": "userFills", "data": {"user": ADDRESS, "fills": [hl_fill(6, liquidation=theirs)]}})
    assert [(one.fill_id, one.fill_type) for one in hyperliquid.reported.of("fill")] == [
        ("4", "adl"),
        ("5", "adl"),
        ("6", "trade"),
    ]


def test_a_payment_on_a_builders_exchange_is_not_said_to_be_in_usdc(hyperliquid: Account) -> None:
    row = {"time": MS, "coin": "flx:GOLD", "usdc": "-0.52", "szi": "3.0", "fundingRate": "0.0000125"}
    hyperliquid.push({"channel": "userFundings", "data": {"user": ADDRESS, "fundings": [row, row | {"coin": "BTC"}]}})
    assert [(one.venue_symbol, one.asset) for one in hyperliquid.reported.of("payment")] == [
        ("flx:GOLD", None),
        ("BTC", "USDC"),
    ]


@pytest.mark.parametrize("price", ["abc", "", "-1", "0", "1_00", "NaN", None, [], {}])
def test_no_fill_is_lost_to_an_invalid_neighbour(hyperliquid: Account, price: Any) -> None:
    rows = [hl_fill(1), hl_fill(2, px=price), hl_fill(3)]
    hyperliquid.push({"channel": "userFills", "data": {"user": ADDRESS, "fills": rows}})
    assert [one.fill_id for one in hyperliquid.reported.of("fill")] == ["1", "3"]
    hyperliquid.look(userFillsByTime=[hl_fill(4), hl_fill(5, px=price), hl_fill(2)])
    assert [one.fill_id for one in hyperliquid.reported.of("fill")] == ["1", "3", "4", "2"]
    assert hyperliquid.reported.statement.invalid_rows == 2


def test_a_trade_with_ourselves_is_two_fills_each_once(hyperliquid: Account) -> None:
    rows = [hl_fill(5, side="A"), hl_fill(5, side="B")]
    hyperliquid.push({"channel": "userFills", "data": {"user": ADDRESS, "fills": rows}})
    hyperliquid.look(userFillsByTime=rows[::-1])
    assert [(one.fill_id, one.side) for one in hyperliquid.reported.of("fill")] == [("5", "sell"), ("5:buy", "buy")]


# --- over restarts ------------------------------------------------------------------------------------------------


def test_what_was_published_is_not_published_after_a_restart_but_sent_to_those_who_join(
    board: Board, tmp_path: Path
) -> None:
    path = tmp_path / "published"
    paid = {"time": MS, "coin": "BTC", "usdc": "-0.5"}
    before = Account(HyperliquidAccount(), board, path)
    before.push({"channel": "userFills", "data": {"user": ADDRESS, "fills": [hl_fill(1), hl_fill(2)]}})
    before.push({"channel": "userFundings", "data": {"fundings": [paid]}})
    after = Account(HyperliquidAccount(), board, path)
    after.push({"channel": "userFundings", "data": {"isSnapshot": True, "fundings": [paid]}})
    after.look(userFillsByTime=[hl_fill(1), hl_fill(2), hl_fill(3)])
    assert [one.fill_id for one in after.reported.of("fill")] == ["3"]
    assert after.reported.of("payment") == []
    topic = "fill.lighter.desk"
    assert sorted(one.fill_id for one in after.reported.publisher.latest(topic)) == ["1", "2", "3"]
    assert after.reported.statement.missing_from_stream() == 1, "the stream has not reported the third one"


def test_a_self_trade_keeps_its_two_ids_over_a_restart(board: Board, tmp_path: Path) -> None:
    path = tmp_path / "published"
    for _ in range(2):
        account = Account(HyperliquidAccount(), board, path)
        account.push({"channel": "user", "data": {"fills": [hl_fill(5), hl_fill(5, side="B")]}})
    assert account.reported.of("fill") == []
