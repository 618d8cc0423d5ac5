"""A session on a clock that moves when it is asked to: what happens to it, what it publishes, what it asks for."""

from __future__ import annotations

from fake_venue import BTC, ETH, FakeVenue

from ipc.health import Reason, Stream
from workers.protocol.actions import CloseConnection, FetchBook, LogEvent, Send, StateChanged
from workers.protocol.policy import Policy
from workers.protocol.session import MarketSession
from workers.venues.venue import Ack, Unsubscribed

__all__ = ["Stage"]

NS = 1_000_000_000


class Stage:
    """One session of a fake venue.

    ``published`` holds what it published, as (stream, symbol, event); ``actions`` what it asked for and the test has
    not taken yet. ``flows`` is what the session knows of the venue's other books. While ``is_obliging``, the
    venue answers every request to subscribe or unsubscribe at once.
    """

    def __init__(
        self, venue=None, listings=(BTC, ETH), *, stale_s=10.0, ping_s=20.0, pong_s=10.0, stagger=0.0, is_covered=None
    ):
        self.venue = venue or FakeVenue()
        self.now = 10_000 * NS
        self.flows = True
        self.is_obliging = True
        self.published = []
        self.actions = []
        policy = Policy(
            stale_ns=int(stale_s * NS),
            ping_ns=int(ping_s * NS),
            pong_ns=int(pong_s * NS),
            venue_flows=lambda _now: self.flows,
            stagger=stagger,
            is_covered=is_covered,
        )
        self.plan = self.venue.connections(listings, self.venue.ws_url, {})[0]
        self.session = MarketSession(self.venue, self.plan, listings, policy)

    # --- what happens ---

    def connect(self, cause="subscribe"):
        """Open the connection."""
        self.session.connecting(self.now)
        self.session.opened(self.now, cause)
        return self.tick()

    def say(self, *items):
        """A frame with these items comes; the events that are published because of it."""
        return self._collect(self.session.received(False, self.venue.frame(*items), self.now))

    def say_rubbish(self, count=1):
        for _ in range(count):
            self._collect(self.session.received(False, b"rubbish", self.now))

    def tick(self):
        return self._collect(self.session.tick(self.now))

    def wait(self, seconds, every_s=0.1):
        """Time passes; the events that are published because of that. Ends early when the session wants to end."""
        events = []
        end = self.now + round(seconds * NS)
        while self.now < end and not self.closing:
            self.now = min(end, self.now + round(every_s * NS))
            events += self.tick()
        return events

    def answer(self, book=None, reason=None):
        """REST answers the oldest fetch that is still waited for."""
        fetch = self.take(FetchBook)[0]
        return self._collect(self.session.fetched(fetch.stream, fetch.purpose, book, reason, self.now))

    def end(self, reason=Reason.SERVER_CLOSE):
        self.actions = [action for action in self.actions if not isinstance(action, CloseConnection)]
        return self._collect(self.session.closed(reason, self.now))

    def reconnect(self, reason=Reason.SERVER_CLOSE):
        self.end(reason)
        return self.connect()

    # --- what came of it ---

    def take(self, kind):
        """The actions of one kind that were asked for since they were last taken."""
        taken = [action for action in self.actions if isinstance(action, kind)]
        self.actions = [action for action in self.actions if not isinstance(action, kind)]
        return taken

    def sent(self):
        return [action.message for action in self.take(Send)]

    def notes(self):
        return [action.event for action in self.take(LogEvent)]

    def states(self, route):
        """Return the states that a route was set to, in order."""
        changed = [action for action in self.take(StateChanged) if action.stream is route]
        return [action.previous for action in changed[1:]] + [route.state] if changed else []

    @property
    def closing(self):
        """Why the session wants to end; None when it does not."""
        wishes = [action for action in self.actions if isinstance(action, CloseConnection)]
        return wishes[0].reason if wishes else None

    def route(self, stream=Stream.BOOK, symbol="BTC-PERP"):
        return next(one for one in self.session.streams if one.kind is stream and one.symbol == symbol)

    def is_fetching(self):
        """Whether REST was asked for a book and has not answered."""
        return any(isinstance(action, FetchBook) for action in self.actions)

    def _collect(self, publications):
        todo = self.session.actions.drain()
        self.actions += todo
        events = [event for _, event in publications if event is not None]
        self.published += [(route.kind, route.symbol, event) for route, event in publications if event is not None]
        for message in [action.message for action in todo if isinstance(action, Send)]:
            events += self._oblige(message.decode())
        return events

    def _oblige(self, message):
        answer = {"+": Ack, "-": Unsubscribed}.get(message[0])
        return self.say(answer(message[1:])) if answer is not None and self.is_obliging else []
