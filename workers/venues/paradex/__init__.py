"""Paradex: market data, REST, accounts."""
