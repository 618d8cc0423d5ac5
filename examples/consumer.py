"""Follow one market's book on every venue, in ten lines."""

import sys

from ipc.feed import Feed

with Feed(sys.argv[1] if len(sys.argv) > 1 else None, channels=["book"], symbols=["BTC-PERP"], name="example") as feed:
    for event in feed:
        for book in feed.books():
            if book.usable:
                print(book.venue, book.best_bid, book.best_ask)
            else:
                print(book.venue, "not usable:", book.reason)
