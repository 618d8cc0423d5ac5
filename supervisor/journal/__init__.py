"""Journals: recordings of the feeds; checking, conversion and replay."""
