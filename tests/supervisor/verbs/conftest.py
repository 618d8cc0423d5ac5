"""Journals by hand, for the verbs that work on such."""

from written_journals import raw_script, say, say_events, script

__all__ = ["raw_script", "say", "say_events", "script"]
