"""Third-party clients follow the account when only URLs and credentials are configured.

Where a client would sign with a library of the venue's, it is given the token that the signature would get it.
"""

from __future__ import annotations

import asyncio

import ccxt.pro
import pytest

pytestmark = pytest.mark.integration

SYMBOLS = {
    "hyperliquid": "ETH/USDC:USDC",
    "aster": "ETH/USDT:USDT",
    "extended": "ETH/USDC:USDC",
    "lighter": "ETH/USDC:USDC",
    "paradex": "ETH/USD:USDC",
}
#: Not on aster: ccxt 4.5.90 requires a market type there, and ignores the given one.
WATCHED = [venue for venue in SYMBOLS if venue != "aster"]
#: Private key of the address that the simulated venue accepts.
KEY = "0x" + 63 * "0" + "1"


@pytest.fixture
def account(sim):
    """Return the simulator with its accounts' scripts off."""
    for venue in SYMBOLS:
        assert sim.ask(f"/account/{venue}", {"run": False})[0] == 200
    yield sim
    for venue in SYMBOLS:
        sim.ask(f"/account/{venue}", {"run": True, "rate": 0.5})


def client(sim, venue):
    exchange = getattr(ccxt.pro, venue)({"enableRateLimit": False})
    api, urls = exchange.urls["api"], sim.urls[venue]
    if venue == "hyperliquid":
        exchange.walletAddress = "0x00000000000000000000000000000000000051e0"
        api.update(public=urls.rest, private=urls.rest)
        api["ws"]["public"] = urls.ws
    elif venue == "aster":
        exchange.privateKey = KEY
        exchange.options.update(builderFee=False, defaultType="swap")
        rest = urls.rest + "/fapi"
        api.update(fapiPublic=rest, fapiPrivate=rest, sapiPublic=urls.rest + "/api", sapiPrivate=urls.rest + "/api")
    elif venue == "extended":
        exchange.apiKey, exchange.privateKey = "sim-api-key", KEY
        api.update(rest=urls.rest.removesuffix("/api/v1"), ws=urls.ws)
    elif venue == "paradex":
        token = sim.ask("/account/paradex/token", {"lives_s": 600})[1]["token"]
        exchange.options.update(authToken=token, expires=2**40)
        api.update(v1=urls.rest, ws=urls.ws)
    else:
        token = sim.ask("/account/lighter/token", {"lives_s": 600})[1]["token"]
        made = {"deadline": 2**40, "token": token}
        exchange.options.update(accountIndex=1234, apiKeyIndex=2, auths={"1234": {"2": made, "254": made}})
        exchange.preLoadLighterLibrary = exchange.load_account = nothing
        root = urls.rest.removesuffix("/api/v1")
        api.update(root=root, public=root, private=root, ws=urls.ws)
    return exchange


async def nothing(*arguments):
    del arguments


async def until(sim, exchange, watch, path, order, is_heard):
    """Perform actions until the client reports one; return its reports."""
    outcomes = []
    while True:
        task = asyncio.create_task(getattr(exchange, watch)(SYMBOLS[exchange.id]))
        while not task.done():
            outcomes.append((await asyncio.to_thread(sim.ask, path, order))[1])
            await asyncio.wait([task], timeout=0.3)
        if is_heard(task.result(), outcomes):
            return task.result(), outcomes


async def follow(sim, venue, watch, order, is_heard=lambda *_: True):
    exchange = client(sim, venue)
    try:
        await exchange.load_markets()
        return await until(sim, exchange, watch, f"/account/{venue}/do", order, is_heard)
    finally:
        await exchange.close()


@pytest.mark.parametrize("venue", WATCHED)
def test_ccxt_watches_orders(account, venue):
    order = {"action": "place", "symbol": "ETH-PERP", "side": "buy", "size": "0.25"}
    heard, outcomes = asyncio.run(asyncio.wait_for(follow(account, venue, "watch_orders", order), 30))
    placed = {row["order_id"]: row for outcome in outcomes for row in outcome["orders"]}
    row = heard[-1]
    assert row["symbol"] == SYMBOLS[venue]
    known = {order["order_id"] for order in account.ask(f"/truth/{venue}/account")[1]["orders"]}
    assert row["id"] in known
    new = [one for one in heard if one["id"] in placed]
    assert all((one["side"], one["amount"], one["status"]) == ("buy", 0.25, "open") for one in new)
    assert new or venue in {"extended", "lighter"}  # which start with the existing orders


def fills_of(outcomes):
    """Return the fills of orders, by either form of their ids."""
    fills = [row for outcome in outcomes for row in outcome["fills"]]
    return {row["fill_id"].rpartition(":")[2]: row for row in fills} | {row["fill_id"]: row for row in fills}


def sold(heard, outcomes):
    """Return whether the client reported one of them; it starts with the existing fills."""
    return any(row["id"] in fills_of(outcomes) for row in heard)


@pytest.mark.parametrize("venue", [venue for venue in WATCHED if venue != "lighter"])
def test_ccxt_watches_fills(account, venue):
    # On lighter it connects without a token, as if every account were a public pool.
    order = {"action": "market", "symbol": "ETH-PERP", "side": "sell", "size": "0.01"}
    heard, outcomes = asyncio.run(asyncio.wait_for(follow(account, venue, "watch_my_trades", order, sold), 30))
    row = next(row for row in heard if sold([row], outcomes))
    true = fills_of(outcomes)[row["id"]]
    assert (row["side"], row["price"], row["amount"]) == ("sell", float(true["price"]), float(true["size"]))
    assert row["takerOrMaker"] in {"taker", None}
    assert row["fee"]["cost"] == pytest.approx(float(true["fee"]), rel=1e-6)


async def read(sim, venue):
    exchange = client(sim, venue)
    try:
        await exchange.load_markets()
        orders = await exchange.fetch_open_orders(SYMBOLS[venue])
        positions = await exchange.fetch_positions() if venue != "aster" else []
        kind = {"type": "swap"} if venue in {"aster", "lighter", "hyperliquid"} else {}
        return orders, positions, await exchange.fetch_balance(kind)
    finally:
        await exchange.close()


@pytest.mark.parametrize("venue", SYMBOLS)
def test_ccxt_reads_the_account_over_rest(account, venue):
    place = {"action": "place", "symbol": "ETH-PERP", "side": "buy", "size": "0.25"}
    for order in (place, {"action": "market", "symbol": "ETH-PERP", "side": "buy", "size": "3"}):
        assert account.ask(f"/account/{venue}/do", order)[0] == 200
    orders, positions, balance = asyncio.run(asyncio.wait_for(read(account, venue), 30))
    truth = account.ask(f"/truth/{venue}/account")[1]
    live = [row for row in truth["orders"] if row["status"] in {"open", "untriggered"} and row["symbol"] == "ETH-PERP"]
    assert {row["id"] for row in orders} == {row["order_id"] for row in live}
    if venue != "aster":  # where it requests leverage brackets first
        held = {row["symbol"]: float(row["contracts"]) for row in positions if row["contracts"]}
        true = {row["symbol"]: float(row["size"]) for row in truth["positions"]}
        assert held[SYMBOLS[venue]] == pytest.approx(abs(true["ETH-PERP"]))
        assert len(held) == len(true)
    totals = [row["total"] for row in truth["balances"]] + [truth["margin"]["equity"]]
    asset = {"aster": "USDT", "extended": "BTC"}.get(venue, "USDC")
    reported = balance[asset]["total"]
    assert any(reported == pytest.approx(float(total), rel=1e-3) for total in totals)


def test_ccxt_gets_a_listen_key_for_a_wallets_signature(account):
    async def attempt():
        exchange = client(account, "aster")
        try:
            return await exchange.fapiPrivatePostV3ListenKey()
        finally:
            await exchange.close()

    answer = asyncio.run(asyncio.wait_for(attempt(), 30))
    assert len(answer["listenKey"]) == 64


@pytest.mark.parametrize("venue", ["aster", "extended", "paradex"])
def test_ccxt_is_refused_with_wrong_credentials(account, venue):
    async def attempt():
        exchange = client(account, venue)
        exchange.apiKey = "other"
        exchange.privateKey = "0x" + 63 * "0" + "2"
        exchange.options["authToken"] = "a.b.c"
        try:
            await exchange.load_markets()
            with pytest.raises(ccxt.BaseError):
                await exchange.fetch_open_orders(SYMBOLS[venue])
        finally:
            await exchange.close()

    asyncio.run(asyncio.wait_for(attempt(), 30))
