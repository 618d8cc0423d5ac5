"""Drills: inject a fault into a running system and measure detection and recovery."""
