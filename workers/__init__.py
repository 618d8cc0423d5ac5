"""Worker processes: one per venue, from its sockets to ZeroMQ."""
