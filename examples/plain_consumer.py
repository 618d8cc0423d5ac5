"""Order book without our library: pyzmq, the standard library, and every rule that a consumer must follow.

    python examples/plain_consumer.py RUN_DIR lighter BTC-PERP

Prints the best bid and offer whenever they may be traded on.
"""

import json
import os
import sys
import time
import zlib
from decimal import Decimal

import zmq

run_dir, venue, symbol = sys.argv[1:4]
topic = f"book.{venue}.{symbol}"
socket = zmq.Context().socket(zmq.SUB)
socket.setsockopt(zmq.RECONNECT_IVL, 10)  # find a restarted worker within milliseconds
# The last one only names this program to operators: nothing is published on it.
for prefix in (topic, f"heartbeat.{venue}", f"status.{venue}", f"consumer.plain-{os.getpid()}"):
    socket.subscribe(prefix.encode())
socket.connect(f"ipc://{run_dir}/{venue}.feed")

epoch, last, usable = 0, 0, False  # of the topic
requested = time.monotonic()  # a subscription is a request, also the one of a socket that reconnects
bids: dict[float, tuple[str, str]] = {}  # a level is its value, never its text
asks: dict[float, tuple[str, str]] = {}


def request_snapshot() -> None:
    """Request a snapshot: the worker answers every subscription, including one that exists already."""
    socket.subscribe(topic.encode())
    socket.unsubscribe(topic.encode())


def shortest(number: str) -> str:
    """Return the shortest plain decimal."""
    text = f"{Decimal(number):f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


def checksum() -> int:
    """Return the checksum of the ten best levels a side."""
    best = ([bids[p] for p in sorted(bids, reverse=True)[:10]], [asks[p] for p in sorted(asks)[:10]])
    b, a = (",".join(f"{shortest(p)}:{shortest(q)}" for p, q in side) for side in best)
    return zlib.crc32(f"b:{b};a:{a}".encode())


heard = alive = time.monotonic()  # last heartbeat and last message of this epoch
while True:
    if time.monotonic() - heard > 3:  # no heartbeat: the book is unusable
        usable = False
    if not socket.poll(500):
        continue
    name, payload = socket.recv_multipart()
    event = json.loads(payload)
    if event["epoch"] < epoch and time.monotonic() - alive < 5:
        continue  # a publisher that should have exited
    if event["epoch"] != epoch:
        epoch, last, usable, requested = event["epoch"], 0, False, time.monotonic()  # the worker restarted
    alive = time.monotonic()
    if event["kind"] == "heartbeat":
        heard = time.monotonic()
        if event["seqs"].get(topic, 0) > last:  # the tail was lost
            last, usable = event["seqs"][topic], False
        theirs = event["books"].get(symbol)
        if usable and theirs and theirs["seq"] == last:
            usable = theirs["usable"] and theirs["crc32_top10"] in (None, checksum())  # else it has drifted
        if not usable and theirs and theirs["usable"] and time.monotonic() - requested >= 1.5:
            requested = time.monotonic()
            request_snapshot()
    if name.decode() != topic or event["seq"] <= last:
        continue
    if last and event["seq"] > last + 1:
        usable = False  # a message was lost
    last = event["seq"]
    if event["kind"] == "gap":
        usable = False
    elif event["kind"] == "book_snapshot":
        bids = {float(p): (p, q) for p, q in event["bids"]}
        asks = {float(p): (p, q) for p, q in event["asks"]}
        usable, requested = not {"rest", "crossed_by_venue"} & set(event["flags"]), 0.0
    elif usable:  # changes before the first snapshot are ignored
        for side, changes in ((bids, event["bids"]), (asks, event["asks"])):
            for price, size in changes:
                if float(size) == 0:
                    side.pop(float(price), None)
                else:
                    side[float(price)] = (price, size)
    if usable and bids and asks:
        print(bids[max(bids)], asks[min(asks)], flush=True)
