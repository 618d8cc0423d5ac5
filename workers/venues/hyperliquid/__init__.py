"""Hyperliquid: market data, REST, accounts."""
