"""Scenarios: a file of what happens to one venue's connections, played through the real sessions on its own clock."""
