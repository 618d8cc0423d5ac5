"""Network input and output of a worker: sockets, WebSocket frames, REST, and the threads that block on them.

Decisions are made in :mod:`workers.protocol`; the threads here carry them out.
"""
