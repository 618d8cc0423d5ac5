"""Overview of a system for people: one verdict, the venues, the last hour, what happened, and prices.

Pure: the status document, events and times go in, the JSON of :mod:`supervisor.overview.document` comes out. The page,
``top`` and ``status`` show it, so they use the same words and the same order. Text from outside stays as it is;
each renderer escapes it.
"""
