"""Naive account clients, one per venue: log in, follow private channels, and read the account over REST."""

from __future__ import annotations

import hashlib
import hmac
from decimal import Decimal
from typing import Any
from urllib.parse import urlencode

import msgspec

__all__ = ["READERS", "Reader", "held", "states", "trades"]

ADDRESS = "0x00000000000000000000000000000000000051e0"
ROOT = "/stream.extended.exchange/v1/"


class Reader:
    """Client's view of an account: orders and fills by id, positions by the venue's market name.

    ``repeated`` counts fills that came again, ``errors`` holds what the venue complained about.
    """

    name = ""

    def __init__(self, stage: Any) -> None:
        self.stage = stage
        self.accounts = stage.venue.accounts
        self.orders: dict[str, tuple[str, Decimal]] = {}
        self.fills: dict[str, tuple[str, Decimal, Decimal, str]] = {}
        self.positions: dict[str, tuple[Decimal, Decimal]] = {}
        self.repeated = 0
        self.errors: list[Any] = []
        self.client: Any = None

    def log_in(self) -> Reader:
        """Connect and subscribe to everything."""
        raise NotImplementedError

    def feed(self, message: Any) -> None:
        """Learn from a message."""
        raise NotImplementedError

    def read(self) -> None:
        """Learn from REST."""
        raise NotImplementedError

    def take(self) -> int:
        """Learn from what came; the number of messages."""
        messages = self.client.heard()
        for message in messages:
            self.feed(message)
        return len(messages)

    def get(self, path: str, **query: str) -> Any:
        """The JSON of a REST request with the credentials."""
        response = self.ask(path, **query)
        assert response.status == 200, response
        return msgspec.json.decode(response.body)

    def ask(self, path: str, method: str = "GET", **query: str) -> Any:
        """A REST request with the credentials."""
        raise NotImplementedError

    def order(self, order_id: Any, status: str, filled: Any) -> None:
        self.orders[str(order_id)] = (status, Decimal(filled))

    def fill(self, fill_id: Any, side: str, price: Any, size: Any, liquidity: str) -> None:
        self.repeated += str(fill_id) in self.fills
        self.fills[str(fill_id)] = (side, Decimal(price), Decimal(size), liquidity)

    def position(self, market: str, size: Any, entry: Any) -> None:
        if Decimal(size):
            self.positions[market] = (Decimal(size), Decimal(entry))
        else:
            self.positions.pop(market, None)


class HyperliquidReader(Reader):
    name = "hyperliquid"

    def log_in(self) -> Reader:
        self.client = self.stage.connect("/ws")
        kinds = ("orderUpdates", "userFills", "userFundings", "userEvents", "clearinghouseState", "spotState")
        for kind in kinds:
            self.client.say({"method": "subscribe", "subscription": {"type": kind, "user": ADDRESS}})
        return self

    def feed(self, message: Any) -> None:
        channel, data = message["channel"], message.get("data")
        if channel == "orderUpdates":
            self._orders(data)
        elif channel == "userFills":
            self._fills(data["fills"])
        elif channel == "clearinghouseState":
            self._state(data["clearinghouseState"])
        elif channel == "error":
            self.errors.append(data)

    def read(self) -> None:
        self._orders(self.get("historicalOrders")[::-1])
        self._fills(self.get("userFillsByTime", startTime=0))
        self._state(self.get("clearinghouseState"))

    def ask(self, path: str, method: str = "POST", **query: Any) -> Any:
        return self.stage.ask("/info", method, {"type": path, "user": ADDRESS, **query})

    def _orders(self, rows: Any) -> None:
        for row in rows:
            order = row["order"]
            ending = next((word for word in ("canceled", "rejected") if row["status"].lower().endswith(word)), None)
            filled = Decimal(order["origSz"]) - Decimal(order["sz"])
            self.order(order["oid"], ending or row["status"], filled)

    def _fills(self, rows: Any) -> None:
        for row in rows:
            liquidity = "taker" if row["crossed"] else "maker"
            self.fill(row["tid"], {"B": "buy", "A": "sell"}[row["side"]], row["px"], row["sz"], liquidity)

    def _state(self, state: Any) -> None:
        self.positions = {}
        for row in state["assetPositions"]:
            self.position(row["position"]["coin"], row["position"]["szi"], row["position"]["entryPx"])


class AsterReader(Reader):
    name = "aster"

    def log_in(self) -> Reader:
        response = self.ask("/fapi/v1/listenKey", "POST")
        assert response.status == 200, response
        self.client = self.stage.connect("/ws/" + msgspec.json.decode(response.body)["listenKey"])
        return self

    def ask(self, path: str, method: str = "GET", **query: str) -> Any:
        query |= {"timestamp": str(self.stage.venue.schedule.wall_ms()), "recvWindow": "5000"}
        text = urlencode(query).encode()
        signature = hmac.new(b"sim-secret", text, hashlib.sha256).hexdigest()
        return self.stage.ask(path, method, headers={"x-mbx-apikey": "sim-key"}, **query, signature=signature)

    def feed(self, message: Any) -> None:
        if message["e"] == "ORDER_TRADE_UPDATE":
            row = message["o"]
            self.order(row["i"], self._status(row["X"]), row["z"])
            if Decimal(row["l"]):
                liquidity = "maker" if row["m"] else "taker"
                self.fill(f"{row['s']}:{row['t']}", row["S"].lower(), row["L"], row["l"], liquidity)
        elif message["e"] == "ACCOUNT_UPDATE":
            for row in message["a"].get("P", []):
                self.position(row["s"], row["pa"], row["ep"])
        else:
            self.errors.append(message["e"])

    def read(self) -> None:
        for row in self.get("/fapi/v1/openOrders"):
            self.order(row["orderId"], self._status(row["status"]), row["executedQty"])
        for symbol in ("BTCUSDT", "ETHUSDT", "1000PEPEUSDT"):
            for row in self.get("/fapi/v1/allOrders", symbol=symbol, startTime="0", limit="1000"):
                self.order(row["orderId"], self._status(row["status"]), row["executedQty"])
            for row in self.get("/fapi/v1/userTrades", symbol=symbol, startTime="0", limit="1000"):
                liquidity = "maker" if row["maker"] else "taker"
                self.fill(f"{symbol}:{row['id']}", row["side"].lower(), row["price"], row["qty"], liquidity)
        self.positions = {}
        for row in self.get("/fapi/v2/positionRisk"):
            self.position(row["symbol"], row["positionAmt"], row["entryPrice"])

    def _status(self, word: str) -> str:
        return "open" if word in {"NEW", "PARTIALLY_FILLED"} else word.lower()


class LighterReader(Reader):
    name = "lighter"
    token = ""

    def log_in(self) -> Reader:
        self.token = self.accounts.token({})["token"]
        self.client = self.stage.connect("/stream")
        for name in ("account_all_orders", "account_all_trades", "account_all_positions"):
            self.client.say({"type": "subscribe", "channel": f"{name}/1234", "auth": self.token})
        return self

    def ask(self, path: str, method: str = "GET", **query: str) -> Any:
        return self.stage.ask(f"/api/v1/{path}", method, headers={"authorization": self.token}, **query)

    def feed(self, message: Any) -> None:
        for rows in (message.get("orders") or {}).values():
            self._orders(rows)
        for rows in (message.get("trades") or {}).values():
            self._fills(rows)
        self._positions((message.get("positions") or {}).values())
        if "error" in message:
            self.errors.append(message["error"]["code"])

    def read(self) -> None:
        own = {"account_index": "1234"}
        self._orders(self.get("accountActiveOrders", **own, market_id="255")["orders"])
        self._orders(self.get("accountInactiveOrders", **own, limit="100")["orders"])
        self._fills(self.get("trades", **own, sort_by="timestamp", limit="100")["trades"])
        self.positions = {}
        self._positions(self.get("account", by="index", value="1234")["accounts"][0]["positions"])

    def _orders(self, rows: Any) -> None:
        words = {
            "pending": "untriggered",
            "canceled-margin-not-allowed": "rejected",
            "canceled-expired": "expired",
        }
        for row in rows:
            status = words.get(row["status"], row["status"].partition("-")[0])
            self.order(row["order_index"], status, row["filled_base_amount"])

    def _fills(self, rows: Any) -> None:
        for row in rows:
            is_sale = row["ask_account_id"] == 1234
            liquidity = "maker" if row["is_maker_ask"] == is_sale else "taker"
            self.fill(row["trade_id"], "sell" if is_sale else "buy", row["price"], row["size"], liquidity)

    def _positions(self, rows: Any) -> None:
        for row in rows:
            self.position(row["symbol"], row["sign"] * Decimal(row["position"]), row["avg_entry_price"])


class ParadexReader(Reader):
    name = "paradex"
    jwt = ""

    def log_in(self) -> Reader:
        self.jwt = self.accounts.token({})["token"]
        self.client = self.stage.connect("/v1")
        self.rpc("auth", bearer=self.jwt)
        for channel in ("orders.ALL", "fills.ALL", "positions", "account", "balance_events"):
            self.rpc("subscribe", channel=channel)
        return self

    def rpc(self, method: str, **params: Any) -> None:
        self.client.say({"jsonrpc": "2.0", "method": method, "params": params, "id": 7})

    def ask(self, path: str, method: str = "GET", **query: str) -> Any:
        return self.stage.ask(f"/v1/{path}", method, headers={"authorization": f"Bearer {self.jwt}"}, **query)

    def feed(self, message: Any) -> None:
        if "error" in message:
            self.errors.append(message["error"]["code"])
        channel = message.get("params", {}).get("channel", "")
        shapes = {"orders.ALL": self._order, "fills.ALL": self._fill, "positions": self._position}
        if channel in shapes:
            shapes[channel](message["params"]["data"])

    def read(self) -> None:
        for path, shape in (("orders-history", self._order), ("orders", self._order), ("fills", self._fill)):
            query: dict[str, str] = {}
            while True:
                page = self.get(path, page_size="50", start_at="0", **query)
                for row in page["results"]:
                    shape(row)
                if not page.get("next"):
                    break
                query = {"cursor": page["next"]}
        self.positions = {}
        for row in self.get("positions")["results"]:
            self._position(row)

    def _order(self, row: Any) -> None:
        words = {"": "filled", "NOT_ENOUGH_MARGIN": "rejected"}
        status = {"NEW": "open", "OPEN": "open", "UNTRIGGERED": "untriggered"}.get(row["status"])
        filled = Decimal(row["size"]) - Decimal(row["remaining_size"])
        self.order(row["id"], status or words.get(row["cancel_reason"], "canceled"), filled)

    def _fill(self, row: Any) -> None:
        self.fill(row["id"], row["side"].lower(), row["price"], row["size"], row["liquidity"].lower())

    def _position(self, row: Any) -> None:
        self.position(row["market"], row["size"], row["average_entry_price"])


class ExtendedReader(Reader):
    name = "extended"

    def log_in(self) -> Reader:
        self.client = self.stage.knock(ROOT + "account", headers={"user-agent": "test", "x-api-key": "sim-api-key"})
        return self

    def ask(self, path: str, method: str = "GET", **query: str) -> Any:
        return self.stage.ask(f"/api/v1/user/{path}", method, headers={"x-api-key": "sim-api-key"}, **query)

    def feed(self, message: Any) -> None:
        data = message["data"]
        for row in data.get("orders", []):
            self._order(row)
        for row in data.get("trades", []):
            self._fill(row)
        for row in data.get("positions", []):
            self._position(row)

    def read(self) -> None:
        for path, shape in (("orders/history", self._order), ("trades", self._fill)):
            query: dict[str, str] = {}
            while True:
                page = self.get(path, limit="50", **query)
                for row in page["data"]:
                    shape(row)
                if page["pagination"]["count"] < 50:
                    break
                query = {"cursor": str(page["pagination"]["cursor"])}
        for row in self.get("orders")["data"]:
            self._order(row)
        self.positions = {}
        for row in self.get("positions")["data"]:
            self._position(row)

    def _order(self, row: Any) -> None:
        words = {"CANCELLED": "canceled", "NEW": "open", "PARTIALLY_FILLED": "open", "TRIGGERED": "open"}
        self.order(row["id"], words.get(row["status"], row["status"].lower()), row["filledQty"])

    def _fill(self, row: Any) -> None:
        liquidity = "taker" if row["isTaker"] else "maker"
        self.fill(row["id"], row["side"].lower(), row["price"], row["qty"], liquidity)

    def _position(self, row: Any) -> None:
        sign = 1 if row["side"] == "LONG" else -1
        self.position(row["market"], sign * Decimal(row["size"]), row["openPrice"])


READERS: dict[str, type[Reader]] = {
    reader.name: reader for reader in (HyperliquidReader, AsterReader, ExtendedReader, LighterReader, ParadexReader)
}


def states(truth: Any) -> dict[str, tuple[str, Decimal]]:
    """Return the true states of orders in a reader's format."""
    return {row["order_id"]: (row["status"], Decimal(row["filled"])) for row in truth["orders"]}


def trades(truth: Any) -> dict[str, tuple[str, Decimal, Decimal, str]]:
    """Return the true fills in a reader's format."""
    return {
        row["fill_id"]: (row["side"], Decimal(row["price"]), Decimal(row["size"]), row["liquidity"])
        for row in truth["fills"]
    }


def held(stage: Any, truth: Any) -> dict[str, tuple[Decimal, Decimal]]:
    """Return the true positions in a reader's format."""
    return {
        stage.venue.markets[row["symbol"]].listing.name: (Decimal(row["size"]), Decimal(row["entry_price"]))
        for row in truth["positions"]
    }
