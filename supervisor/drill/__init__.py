"""Drills: inject a fault into a running system and measure how long it takes to be noticed and to be over."""
