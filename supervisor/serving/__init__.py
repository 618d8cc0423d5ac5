"""Gateway's HTTP server: status page, metrics and health, read-only."""
