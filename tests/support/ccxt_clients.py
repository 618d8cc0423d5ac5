"""ccxt against the simulator: somebody else's clients, with only their URLs changed."""

from __future__ import annotations

SYMBOLS = {
    "hyperliquid": ("BTC/USDC:USDC", "ETH/USDC:USDC"),
    "aster": ("BTC/USDT:USDT", "ETH/USDT:USDT"),
    "extended": ("BTC/USDC:USDC", "ETH/USDC:USDC"),
    "lighter": ("BTC/USDC:USDC", "ETH/USDC:USDC"),
    "paradex": ("BTC/USD:USDC", "ETH/USD:USDC"),
}


def point_at(exchange, urls):
    """Change the URLs of an exchange of ccxt, and nothing else."""
    api = exchange.urls["api"]
    if exchange.id == "hyperliquid":
        api.update(public=urls.rest, private=urls.rest)
        api["ws"]["public"] = urls.ws
    elif exchange.id == "aster":
        api.update(fapiPublic=urls.rest + "/fapi", sapiPublic=urls.rest + "/api")
        api["ws"]["public"]["swap"] = urls.ws + "/stream"
    elif exchange.id == "paradex":
        api.update(v1=urls.rest, ws=urls.ws)
    elif exchange.id == "extended":
        api.update(rest=urls.rest.removesuffix("/api/v1"), ws=urls.ws)
    else:
        root = urls.rest.removesuffix("/api/v1")
        api.update(root=root, public=root, private=root, ws=urls.ws)


async def follow(exchange, symbol):
    while True:
        await exchange.watch_order_book(symbol)
