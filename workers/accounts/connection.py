"""Private connection of an account: login, subscriptions, backoff.

It has its own socket, endpoint and backoff, so that it does not affect the public feed. A credential that the venue
refuses is retried at long intervals; all else is retried as on a public connection.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from threading import Event
from typing import ClassVar, Final

from ipc.board import Row, SessionWord
from ipc.health import Reason, StreamState
from ipc.log import hide
from workers.accounts.close_reason import FAILURES, close_reason_of
from workers.accounts.publisher import AccountPublisher
from workers.accounts.reconciler import Reconciler
from workers.accounts.rest_flow import RestFlowRunner
from workers.accounts.secrets import Secrets, missing
from workers.accounts.session import PrivateSession
from workers.backoff import Backoff, BackoffPolicy
from workers.duty import LineDuty
from workers.net.budget import MinuteBudget
from workers.net.interrupter import SocketInterrupter
from workers.net.lifecycle import CloseReason, ConnectionLifecycle
from workers.net.proxy import DIRECT, DialOptions
from workers.net.transport import Transport
from workers.venues.account import Login, LoginError, PrivateVenue
from workers.venues.listing import Markets

_NS: Final = 1_000_000_000
_TICK_S: Final = 0.2
_BATCH_DEADLINE_NS: Final = 2 * _NS
_MAX_MESSAGE: Final = 16 * 1024 * 1024
#: Delays after a refused credential are the usual ones times this, so that the venue does not ban the client.
_AUTH_FACTOR: Final = 30.0
_AUTH_CAP: Final = 300.0
#: A login that expires sooner is not repeated without a pause.
_ROTATES_AFTER_NS: Final = 10 * _NS


class AccountConnection(ConnectionLifecycle):
    """Private connection of an account, over its whole life; :meth:`run` is a thread's target.

    ``connect_ns`` limits DNS, TCP, proxy, TLS and upgrade together. While the venue's other line has the ``duty`` it is
    off; ``adopt`` is called when it begins again.
    """

    failures: ClassVar[tuple[type[Exception], ...]] = FAILURES

    def __init__(
        self,
        venue: PrivateVenue,
        secrets: Secrets,
        alias: str,
        ws_url: str,
        markets: Callable[[], Markets],
        publisher: AccountPublisher,
        reconciler: Reconciler,
        rest_flows: RestFlowRunner,
        interrupter: SocketInterrupter,
        row: Row,
        ends: Row,
        connect_ns: int,
        policy: BackoffPolicy,
        stop: Event,
        dial_options: DialOptions = DIRECT,
        connects: MinuteBudget | None = None,
        duty: LineDuty | None = None,
        adopt: Callable[[], None] = lambda: None,
    ) -> None:
        super().__init__(
            row,
            ends,
            interrupter,
            stop,
            connect_ns=connect_ns,
            backoff=Backoff(policy),
            tick_s=_TICK_S,
            max_message=_MAX_MESSAGE,
            dial_options=dial_options,
            connects=connects,
        )
        self._duty = duty or LineDuty()
        self._adopt = adopt
        self._is_off = False
        self._venue = venue
        self._secrets = secrets
        self._alias = alias
        self._ws_url = ws_url
        self._markets = markets
        self._publisher = publisher
        self._reconciler = reconciler
        self._rest_flows = rest_flows
        self._auth_backoff = Backoff(
            BackoffPolicy(policy.base_s * _AUTH_FACTOR, policy.base_s * _AUTH_CAP, jitter=policy.jitter)
        )
        #: What the reconciler requests: to send a message, or to close the connection.
        self._requests: deque[bytes | CloseReason] = deque()
        self._login: Login | None = None
        self._session: PrivateSession | None = None

    def run(self) -> None:
        """Connect, converse and back off until stopped; do nothing while the other line has the account."""
        while not self.stop.is_set():
            if not self._duty.is_ours:
                self._stay_off()
                continue
            if self._is_off:
                self._is_off = False
                self._adopt()
            self._run_cycle()

    def _stay_off(self) -> None:
        """Leave the account to the other line until this one has it again."""
        self._is_off = True
        self.row[SessionWord.PHASE] = self.row[SessionWord.NEXT_ACTION] = 0
        self._publisher.hand_over()
        self._duty.wait_until_ours(self.stop)

    def _sleep(self, delay_s: float) -> None:
        self._duty.wait(self.stop, delay_s)

    def send(self, message: bytes) -> None:
        """Send a message soon; any thread may call it."""
        self._requests.append(message)

    def end(self, reason: Reason, text: str) -> None:
        """Reconnect soon; any thread may call it."""
        self._requests.append(CloseReason(reason, text))

    @property
    def _attempt(self) -> int:
        return self._backoff.failures + self._auth_backoff.failures + 1

    def _on_connecting(self, now_ns: int) -> None:  # noqa: ARG002 - every connection has it
        self._requests.clear()
        self._session = None
        # Refused credentials stay refused until they are accepted; the state is published once.
        if self._publisher.state is not StreamState.FAILED:
            self._publisher.publish_state(StreamState.CONNECTING, None, None, attempt=self._backoff.failures + 1)

    def _connect(self) -> Transport:
        """Log in and open the connection; raise LoginError for missing or refused credentials."""
        if not self._venue.is_configured(self._secrets):
            raise LoginError(missing(self._venue.venue))
        flow = self._venue.login(self._secrets, self._ws_url, self._markets(), time.time_ns())
        self._login = self._rest_flows.run(flow)
        hide(self._login.token)
        return self._open(self._login.url, self._login.headers, self._login.fallback_url)

    def _on_opened(self, now_ns: int) -> None:
        """Do nothing more: the session starts with its first message."""

    def _start(self, transport: Transport) -> CloseReason | None:
        assert self._login is not None  # noqa: S101 - it opened the connection
        self._session = PrivateSession(
            self._venue, self._alias, self._markets, transport, self._login, self._publisher, self._reconciler, self.row
        )
        self._session.begin()
        return None

    def process_batch(self, transport: Transport) -> CloseReason | None:
        """Process what the socket holds, and requests of the reconciler; return why the connection must be closed."""
        assert self._session is not None  # noqa: S101 - the conversation has started
        if not self._duty.is_ours:
            return CloseReason(Reason.REQUESTED, "the other line has the account")
        self.row[SessionWord.DEADLINE] = time.monotonic_ns() + _BATCH_DEADLINE_NS
        return self._session.process_batch() or self._execute(transport)

    def _execute(self, transport: Transport) -> CloseReason | None:
        while self._requests:
            request = self._requests.popleft()
            if isinstance(request, CloseReason):
                return request
            transport.send(request)
        return None

    def _reason_of(self, error: Exception) -> CloseReason:
        return close_reason_of(error, self._venue.secrets)

    def _on_closed(self, close: CloseReason, *, was_open: bool) -> None:  # noqa: ARG002 - every connection has it
        self._reconciler.logged_out()

    def _back_off(self, close: CloseReason) -> None:
        if self._duty.is_ours:  # else this was no failure, and there is no next attempt
            super()._back_off(close)

    def _on_backoff(self, close: CloseReason, delay_s: float | None) -> None:
        state = StreamState.FAILED if close.is_refused else StreamState.BACKOFF
        attempt = self._backoff_of(close).failures
        backoff_s = None if delay_s is None else round(delay_s, 3)
        self._publisher.publish_state(state, close.reason, close.text, attempt=attempt, backoff_s=backoff_s)

    def _delay_s(self, close: CloseReason) -> float:
        """Return how long to wait; only a login that lasts counts as healthy, for it may be refused a moment later."""
        confirmed_ns = self._session.confirmed_ns if self._session is not None else 0
        healthy_ns = time.monotonic_ns() - confirmed_ns if confirmed_ns else 0
        if close.reason is Reason.ROTATION and healthy_ns >= _ROTATES_AFTER_NS:
            if self._backoff.is_healthy(healthy_ns):
                self._backoff.reset()
            return 0.0
        return max(self._backoff_of(close).failed(healthy_ns) / _NS, close.wait_s)

    def _backoff_of(self, close: CloseReason) -> Backoff:
        return self._auth_backoff if close.is_refused else self._backoff
