"""Protocol of one private connection: hello, subscriptions, pings, and the venue's updates."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final, Protocol

from ipc.board import Row, SessionWord
from ipc.errors import DecodeError
from ipc.health import Reason, StreamState
from ipc.log import get_log
from workers.accounts.publisher import AccountPublisher
from workers.net.frames import BINARY, PING, PONG
from workers.net.lifecycle import CloseReason
from workers.net.transport import Transport
from workers.protocol.keepalive import PingTimer
from workers.protocol.malformed import MalformedFrames
from workers.venues.account import AccountData, Expired, LoggedIn, Login, PrivateVenue
from workers.venues.account_values import fault_of, without_values
from workers.venues.listing import Markets
from workers.venues.venue import Ping, Pong, Refused

log = get_log(__name__)

_NS: Final = 1_000_000_000
#: A login that the venue does not confirm within this time failed.
_CONFIRM_NS: Final = 10 * _NS


class LoginListener(Protocol):
    """Reconciler as a private session sees it: what it fetches by REST depends on logins and missed data."""

    def logged_in(self, login: Login) -> None:
        """Handle a login that the venue accepted."""

    def ask(self) -> None:
        """Reconcile now, for data may have been missed."""

    def ask_later(self) -> None:
        """Reconcile soon, for REST may have what a row lacked."""


class PrivateSession:
    """Session of one private connection, from its opening to its end.

    ``confirmed_ns`` is when the venue accepted the login, 0 before.
    """

    def __init__(
        self,
        venue: PrivateVenue,
        alias: str,
        markets: Callable[[], Markets],
        transport: Transport,
        login: Login,
        publisher: AccountPublisher,
        reconciler: LoginListener,
        row: Row,
        clock: Callable[[], int] = time.monotonic_ns,
    ) -> None:
        self.confirmed_ns = 0
        self._venue = venue
        self._alias = alias
        self._markets = markets
        self._transport = transport
        self._login = login
        self._publisher = publisher
        self._reconciler = reconciler
        self._row = row
        self._clock = clock
        self._opened_ns = clock()
        keepalive = venue.keepalive
        self._ping_timer = PingTimer(int(keepalive.interval_s * _NS), int(keepalive.pong_within_s * _NS))
        self._ping_timer.start(self._opened_ns)
        self._malformed = MalformedFrames()

    def begin(self) -> None:
        """Send the hello; subscribe at once when there is no login to confirm."""
        for message in self._login.hello:
            self._transport.send(message)
        if not self._login.must_confirm:
            self._confirm()

    def process_batch(self) -> CloseReason | None:
        """Process what the socket holds, and time; return why the connection must be closed, if it must.

        Raise ClosedError when the connection has ended.
        """
        frames = self._transport.receive()
        now = self._clock()
        if frames:
            self._row[SessionWord.LAST_WS_RX] = now
            self._row.add(SessionWord.FRAMES, len(frames))
            self._publisher.mark_alive(now)
        for opcode, payload in frames:
            if opcode == PING:
                self._transport.pong(bytes(payload))
            elif opcode == PONG:
                self._ping_timer.pong()
            elif (close := self._handle_frame(bytes(payload), is_binary=opcode == BINARY)) is not None:
                return close
        return self._check_time(now)

    def _handle_frame(self, payload: bytes, *, is_binary: bool) -> CloseReason | None:
        try:
            items = self._venue.decode(payload, is_binary, self._markets(), self._alias)
        except DecodeError as error:
            return self._on_malformed(error.what)
        except Exception as error:  # a parser's fault costs this frame, not the thread
            return self._on_malformed(f"a frame cannot be read: {fault_of(error)}")
        self._malformed.in_row = 0
        updates = [item for item in items if isinstance(item, AccountData)]
        if updates and self._publisher.apply_pushed(updates):
            self._reconciler.ask_later()  # a row lacked something that REST may have
        closes = (self._handle(item) for item in items)
        return next((close for close in closes if close is not None), None)

    def _handle(self, item: object) -> CloseReason | None:
        match item:
            case LoggedIn() if not self.confirmed_ns:
                self._confirm()
            case Ping(reply):
                self._transport.send(reply)
            case Pong():
                self._ping_timer.pong()
            case Expired(text):
                return CloseReason(Reason.ROTATION, f"the login expired: {text}")
            case Refused(text, _, Reason() as reason, _):
                # Every subscription is needed: without one the account would be incomplete and appear complete.
                return CloseReason(reason, text)
            case _:
                pass
        return None

    def _confirm(self) -> None:
        self.confirmed_ns = self._clock()
        for message in self._login.subscribe:
            self._transport.send(message)
        self._publisher.publish_state(StreamState.SUBSCRIBED, None, None)
        self._reconciler.logged_in(self._login)

    def _on_malformed(self, error: str) -> CloseReason | None:
        """Reconcile everything, for the frame's content is unknown."""
        text = without_values(error)
        log.warning("account.malformed", venue=self._venue.venue, error=text)
        self._reconciler.ask()
        return CloseReason(Reason.PARSE_ERRORS, text) if self._malformed.add() else None

    def _check_time(self, now: int) -> CloseReason | None:
        if not self.confirmed_ns and now - self._opened_ns > _CONFIRM_NS:
            return CloseReason(Reason.CONNECT_TIMEOUT, "the venue did not answer the login")
        if self._ping_timer.is_overdue(now):
            return CloseReason(Reason.PONG_TIMEOUT, "a ping was not answered")
        if self._ping_timer.should_ping(now):
            ping = self._venue.keepalive.ping
            if ping is None:
                self._transport.ping()
            else:
                self._transport.send(ping)
        return None
