"""Private side of a worker: orders, fills, positions and balances of the configured account. It sends no orders."""
