"""The socket of an account: log in, say what to send, pass on what comes, notice when it is dead.

It has its own connection, endpoint and backoff, so that nothing of it touches the venue's public feed. A credential
that the venue refuses is tried again seldom; everything else as a public connection is.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from threading import Event
from typing import Final

from ipc.board import Row, SessionWord
from ipc.health import Phase, Reason, StreamState, code_of
from ipc.log import hide
from workers.accounts.close_reason import FAILURES, CloseReason, close_reason_of
from workers.accounts.publisher import AccountPublisher
from workers.accounts.reconciler import Reconciler
from workers.accounts.rest_flow import RestFlowRunner
from workers.accounts.secrets import Secrets, missing
from workers.accounts.session import PrivateSession
from workers.backoff import Backoff, BackoffPolicy
from workers.net.interrupter import SocketInterrupter
from workers.net.transport import Transport, WebSocketTransport
from workers.venues.account import Login, LoginError, PrivateVenue
from workers.venues.venue import Markets

__all__ = ["AccountConnection"]

_NS: Final = 1_000_000_000
_TICK_S: Final = 0.2
_TURN_DEADLINE_NS: Final = 2 * _NS
_MAX_MESSAGE: Final = 16 * 1024 * 1024
#: A refused credential is tried again after this many first delays, and seldom enough not to be banned for it.
_AUTH_FACTOR: Final = 30.0
_AUTH_CAP: Final = 300.0
#: A login that expires sooner is not made anew without a pause.
_ROTATES_AFTER_NS: Final = 10 * _NS


class AccountConnection:
    """Runs as a thread.

    Args:
        side: The venue's private side.
        secrets: Its credentials.
        alias: What the account is called.
        ws_url: Base URL.
        markets: The markets that are known now.
        statement: Takes what comes.
        reconciler: Is told when there is a login.
        caller: Makes the calls that a login takes.
        cutter: Through which the watchdog ends it.
        row: Its words on the board.
        connect_ns: DNS, TCP, TLS and upgrade together.
        policy: Backoff.
        stop: Set when the worker ends.
    """

    def __init__(
        self,
        side: PrivateVenue,
        secrets: Secrets,
        alias: str,
        ws_url: str,
        markets: Callable[[], Markets],
        statement: AccountPublisher,
        reconciler: Reconciler,
        caller: RestFlowRunner,
        cutter: SocketInterrupter,
        row: Row,
        connect_ns: int,
        policy: BackoffPolicy,
        stop: Event,
    ) -> None:
        self._side = side
        self._secrets = secrets
        self._alias = alias
        self._ws_url = ws_url
        self._markets = markets
        self._statement = statement
        self._reconciler = reconciler
        self._caller = caller
        self._cutter = cutter
        self._row = row
        self._connect_ns = connect_ns
        self._stop = stop
        self._backoff = Backoff(policy)
        self._auth_backoff = Backoff(
            BackoffPolicy(policy.base_s * _AUTH_FACTOR, policy.base_s * _AUTH_CAP, jitter=policy.jitter)
        )
        #: What the reconciler wants of this thread: to send something, or to end the connection.
        self._wishes: deque[bytes | CloseReason] = deque()
        self._up_ns = 0

    def send(self, message: bytes) -> None:
        """Have a message sent; any thread may."""
        self._wishes.append(message)

    def end(self, reason: Reason, text: str) -> None:
        """Have the connection made anew; any thread may."""
        self._wishes.append(CloseReason(reason, text))

    def run(self) -> None:
        """Log in, converse, wait, for ever."""
        while not self._stop.is_set():
            end = self._live_once()
            self._row[SessionWord.DEADLINE] = 0
            self._reconciler.logged_out()
            if not self._stop.is_set():
                self._wait(end)

    # --- one login --------------------------------------------------------------------------------------------------

    def _live_once(self) -> CloseReason:
        transport: Transport | None = None
        try:
            self._begin()
            login = self._log_in()
            transport = self._open(login)
            return self._converse(transport, login)
        except FAILURES as error:
            return close_reason_of(error, self._side.secrets)
        finally:
            if transport is not None:
                transport.close()

    def _begin(self) -> None:
        row = self._row
        now = time.monotonic_ns()
        self._wishes.clear()
        self._up_ns = 0
        self._cutter.begin()
        for word in (SessionWord.LAST_WS_RX, SessionWord.OPENED, SessionWord.NEXT_ACTION):
            row[word] = 0
        row[SessionWord.CONNECT_START] = now
        row[SessionWord.ATTEMPT] = self._backoff.failures + self._auth_backoff.failures + 1
        row[SessionWord.PHASE] = code_of(Phase.CONNECTING)
        # Refused credentials are refused until they are accepted, and told once, however often they are tried.
        if self._statement.state is not StreamState.FAILED:
            self._statement.publish_state(StreamState.CONNECTING, None, None, attempt=self._backoff.failures + 1)

    def _log_in(self) -> Login:
        """What a connection takes.

        Raises:
            LoginError: The credentials are missing, or the venue refuses them.
        """
        if not self._side.is_configured(self._secrets):
            raise LoginError(missing(self._side.venue))
        login = self._caller.run(self._side.login(self._secrets, self._ws_url, self._markets(), time.time_ns()))
        hide(login.token)
        return login

    def _open(self, login: Login) -> Transport:
        row = self._row
        deadline_ns = time.monotonic_ns() + self._connect_ns
        self._cutter.begin()
        row[SessionWord.DEADLINE] = deadline_ns
        transport = WebSocketTransport(
            login.url,
            headers=login.headers,
            cutter=self._cutter,
            deadline_ns=deadline_ns,
            tick_s=_TICK_S,
            max_message=_MAX_MESSAGE,
        )
        row[SessionWord.OPENED] = row[SessionWord.LAST_WS_RX] = time.monotonic_ns()
        row[SessionWord.PHASE] = code_of(Phase.SUBSCRIBED)
        return transport

    def _converse(self, transport: Transport, login: Login) -> CloseReason:
        talk = PrivateSession(
            self._side, self._alias, self._markets, transport, login, self._statement, self._reconciler, self._row
        )
        talk.begin()
        while not self._stop.is_set():
            self._row[SessionWord.DEADLINE] = time.monotonic_ns() + _TURN_DEADLINE_NS
            end = talk.turn() or self._obey(transport)
            self._up_ns = talk.confirmed_ns
            if end is not None:
                return end
        return CloseReason(Reason.REQUESTED, "the worker stops")

    def _obey(self, transport: Transport) -> CloseReason | None:
        while self._wishes:
            wish = self._wishes.popleft()
            if isinstance(wish, CloseReason):
                return wish
            transport.send(wish)
        return None

    # --- its end ----------------------------------------------------------------------------------------------------

    def _wait(self, end: CloseReason) -> None:
        row = self._row
        row[SessionWord.LAST_REASON] = code_of(end.reason)
        row.add(SessionWord.RECONNECTS, int(row[SessionWord.OPENED] != 0))
        delay_s = self._delay_s(end)
        row[SessionWord.NEXT_ACTION] = time.monotonic_ns() + int(delay_s * _NS)
        row[SessionWord.PHASE] = code_of(Phase.BACKOFF)
        state = StreamState.FAILED if end.is_refused else StreamState.BACKOFF
        attempt = self._backoff_of(end).failures
        self._statement.publish_state(state, end.reason, end.text, attempt=attempt, backoff_s=round(delay_s, 3))
        self._stop.wait(delay_s)

    def _delay_s(self, end: CloseReason) -> float:
        """How long to wait; an accepted login proves itself by lasting, for it may be refused a moment later."""
        healthy_ns = time.monotonic_ns() - self._up_ns if self._up_ns else 0
        if end.reason is Reason.ROTATION and healthy_ns >= _ROTATES_AFTER_NS:
            if self._backoff.is_healthy(healthy_ns):
                self._backoff.reset()
            return 0.0
        return max(self._backoff_of(end).failed(healthy_ns) / _NS, end.wait_s)

    def _backoff_of(self, end: CloseReason) -> Backoff:
        return self._auth_backoff if end.is_refused else self._backoff
