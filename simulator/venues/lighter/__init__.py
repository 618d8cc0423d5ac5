"""Lighter: the simulated venue. ``build`` makes it of its parts."""
