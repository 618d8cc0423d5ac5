"""Lighter: market data, REST, accounts."""
