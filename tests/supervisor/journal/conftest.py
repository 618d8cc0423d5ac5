"""Journals by hand."""

from written_journals import new_raw_script, new_script, raw_script, say, say_events, script

__all__ = ["new_raw_script", "new_script", "raw_script", "say", "say_events", "script"]
