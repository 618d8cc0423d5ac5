"""The desk's own accounts: what a venue tells of orders, fills, positions and balances. No order entry here."""
