"""Shared code of all processes: events, books, feeds, the board and control messages."""
