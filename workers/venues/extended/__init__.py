"""Extended: market data, REST, accounts."""
