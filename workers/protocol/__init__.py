"""Protocol of a venue connection without input and output: session, subscriptions, book sync, recovery, pacing.

Nothing here knows a socket, a clock, a thread or the log. Callers report what happened and when, and execute the
requested actions: :mod:`workers.net` for live connections, fixtures and drills without a network.
"""
