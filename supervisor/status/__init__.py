"""State of a system, read from its run directory alone: the document that every reader of it starts from."""
