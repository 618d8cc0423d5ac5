"""Arbitration of several sources of one feed: lines of a venue, or systems on several hosts. Pure.

:mod:`.positions` says what orders the states of a topic, :mod:`.books`, :mod:`.values` and :mod:`.trades` decide for
one topic each, and :mod:`.arbitration` brings the sources' messages to them.
"""
