"""Journals: what the feeds said, kept in files, checked, converted and said again."""
