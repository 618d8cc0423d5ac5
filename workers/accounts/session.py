"""What is said on one connection to an account: hello, subscriptions, pings, and what the venue tells."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final, Protocol

from ipc.board import Row, SessionWord
from ipc.errors import DecodeError
from ipc.health import Reason, StreamState
from ipc.log import get_log
from workers.accounts.close_reason import CloseReason
from workers.accounts.publisher import AccountPublisher
from workers.net.frames import BINARY, PING, PONG
from workers.net.transport import Transport
from workers.venues.account import Expired, LoggedIn, Login, PrivateVenue, StatementItem
from workers.venues.account_values import fault_of, without_values
from workers.venues.venue import Markets, Ping, Pong, Refused

__all__ = ["LoginListener", "PrivateSession"]

log = get_log(__name__)

_NS: Final = 1_000_000_000
_CONFIRM_NS: Final = 10 * _NS
#: Malformed frames in a row that end a connection.
_MALFORMED: Final = 5


class LoginListener(Protocol):
    """What a connection tells whoever asks REST for the whole account."""

    def logged_in(self, login: Login) -> None:
        """Take note of a login that the venue accepted."""

    def ask(self) -> None:
        """Take note that something may have been missed."""

    def ask_later(self) -> None:
        """Take note that REST may tell what a row could not say."""


class PrivateSession:
    """One connection, from its opening to its end; ``confirmed_ns`` is when the venue accepted the login, 0 before.

    Args:
        side: The venue's private side.
        alias: What the account is called.
        markets: The markets that are known now.
        transport: The open connection.
        login: What to say.
        statement: Takes what comes.
        reconciler: Is told when the login is accepted, and when something was missed.
        row: The session's words on the board.
        clock: Monotonic, ns.
    """

    def __init__(
        self,
        side: PrivateVenue,
        alias: str,
        markets: Callable[[], Markets],
        transport: Transport,
        login: Login,
        statement: AccountPublisher,
        reconciler: LoginListener,
        row: Row,
        clock: Callable[[], int] = time.monotonic_ns,
    ) -> None:
        self.confirmed_ns = 0
        self._side = side
        self._alias = alias
        self._markets = markets
        self._transport = transport
        self._login = login
        self._statement = statement
        self._reconciler = reconciler
        self._row = row
        self._clock = clock
        self._opened_ns = self._pinged_ns = clock()
        self._pong_due_ns = 0
        self._malformed = 0

    def begin(self) -> None:
        """Say hello; without a login to confirm, say at once what to send."""
        for message in self._login.hello:
            self._transport.send(message)
        if not self._login.must_confirm:
            self._confirm()

    def turn(self) -> CloseReason | None:
        """Take what came, and mind the time; why the connection must end, if it must.

        Raises:
            ClosedError: It ended.
        """
        frames = self._transport.receive()
        now = self._clock()
        if frames:
            self._row[SessionWord.LAST_WS_RX] = now
            self._row.add(SessionWord.FRAMES, len(frames))
            self._statement.mark_alive(now)
        for opcode, payload in frames:
            if opcode == PING:
                self._transport.pong(bytes(payload))
            elif opcode == PONG:
                self._pong_due_ns = 0
            elif (end := self._take(bytes(payload), is_binary=opcode == BINARY)) is not None:
                return end
        return self._mind(now)

    def _take(self, payload: bytes, *, is_binary: bool) -> CloseReason | None:
        try:
            items = self._side.decode(payload, is_binary, self._markets(), self._alias)
        except DecodeError as error:
            return self._take_malformed(error.what)
        except Exception as error:  # a parser's fault costs this frame, not the thread
            return self._take_malformed(f"a frame cannot be read: {fault_of(error)}")
        self._malformed = 0
        told = [item for item in items if isinstance(item, StatementItem)]
        if told and self._statement.apply_pushed(told):
            self._reconciler.ask_later()  # what the row said, REST may tell
        ends = (self._obey(item) for item in items)
        return next((end for end in ends if end is not None), None)

    def _obey(self, item: object) -> CloseReason | None:
        match item:
            case LoggedIn() if not self.confirmed_ns:
                self._confirm()
            case Ping(reply):
                self._transport.send(reply)
            case Pong():
                self._pong_due_ns = 0
            case Expired(text):
                return CloseReason(Reason.ROTATION, f"the login expired: {text}")
            case Refused(text, _, Reason() as reason, _):
                # Whatever it was, it was needed: a connection without it would tell of a part as if it were all.
                return CloseReason(reason, text)
            case _:
                pass
        return None

    def _confirm(self) -> None:
        self.confirmed_ns = self._clock()
        for message in self._login.subscribe:
            self._transport.send(message)
        self._statement.publish_state(StreamState.SUBSCRIBED, None, None)
        self._reconciler.logged_in(self._login)

    def _take_malformed(self, error: str) -> CloseReason | None:
        """What it said is unknown, so everything is asked for."""
        self._malformed += 1
        text = without_values(error)
        log.warning("account.malformed", venue=self._side.venue, error=text)
        self._reconciler.ask()
        return CloseReason(Reason.PARSE_ERRORS, text) if self._malformed >= _MALFORMED else None

    def _mind(self, now: int) -> CloseReason | None:
        keepalive = self._side.keepalive
        if not self.confirmed_ns and now - self._opened_ns > _CONFIRM_NS:
            return CloseReason(Reason.CONNECT_TIMEOUT, "the venue did not answer the login")
        if self._pong_due_ns and now > self._pong_due_ns:
            return CloseReason(Reason.PONG_TIMEOUT, "a ping was not answered")
        if now - self._pinged_ns >= keepalive.interval_s * _NS:
            self._pinged_ns = now
            self._pong_due_ns = self._pong_due_ns or now + int(keepalive.pong_within_s * _NS)
            if keepalive.ping is None:
                self._transport.ping()
            else:
                self._transport.send(keepalive.ping)
        return None
