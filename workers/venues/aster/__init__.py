"""Aster: market data, REST, accounts."""
