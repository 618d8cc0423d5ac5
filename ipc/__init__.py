"""What processes share: events, books, feeds, the board and control messages."""
