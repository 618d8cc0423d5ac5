"""One venue process: socket to ZeroMQ."""
