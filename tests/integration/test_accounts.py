"""The desk's own accounts on all five venues of a running system: what consumers know of them is what is true.

The systems follow simulated accounts with the credentials that the simulator accepts, or with such that it does not.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
import urllib.request
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any, Self

import psutil
import pytest
import zmq
from systems import VENUES, Listener, System, wait_for

from ipc.accounts import AccountFeed
from ipc.decimals import is_zero, shortest
from ipc.events import Event, Fill, Gap, Heartbeat, Order, Status
from simulator.accounts.credentials import (
    ASTER_KEY,
    ASTER_SECRET,
    EXTENDED_KEY,
    HYPERLIQUID_ADDRESS,
    LIGHTER_ACCOUNT,
    LIGHTER_KEY_INDEX,
    PARADEX_ACCOUNT,
    JwtIssuer,
    TokenIssuer,
)
from workers.accounts.secrets import NAMES

pytestmark = pytest.mark.integration

OPEN = {"open", "untriggered"}
SEED = 1
HOURS_S = 8 * 3600
#: Where looks by REST are cheap they are frequent; elsewhere the venue's budget allows few.
PERIODS_MS = {"aster": 4000, "extended": 2500, "paradex": 2500, "hyperliquid": 60_000, "lighter": 60_000}
FREQUENT = tuple(venue for venue, period_ms in PERIODS_MS.items() if period_ms < 10_000)
WITH_LOGIN = tuple(venue for venue in VENUES if venue != "hyperliquid")
_FORMS = ("", "_FILE", "_COMMAND")


# --- systems ----------------------------------------------------------------------------------------------------------


def config(venues: Iterable[str] = VENUES) -> str:
    """Every account is followed; a refused credential is tried again after three seconds."""
    parts = [f'[venues.{venue}]\naccount = "desk"\naccount_period_ms = {PERIODS_MS[venue]}\n' for venue in venues]
    return "[supervisor]\nbackoff_base_ms = 100\n" + "".join(parts)


def without_secrets() -> dict[str, str]:
    """Nothing that anyone who runs these tests may have set."""
    return {name + form: "" for names in NAMES.values() for name in names for form in _FORMS}


class Desk(System):
    """A system that follows accounts; ``secrets`` are those that it was given.

    Args:
        given: Values by the name of the variable; with ``_FILE`` or ``_COMMAND`` behind it, the value is put into a
            file of that name, which is named or printed.
    """

    def __init__(self, given: Mapping[str, str], *arguments: str, text: str | None = None) -> None:
        super().__init__("--sim-rate", "10", *arguments, config=config() if text is None else text)
        self.secrets = tuple(given.values())
        self.env |= without_secrets()
        for name, value in given.items():
            path = self.path / name
            if name.endswith(_FORMS[1:]):
                self.renew(name, value)
            shown = {"_FILE": str(path), "_COMMAND": f"cat {path}"}.get(name[name.rfind("_") :], value)
            self.env[name] = shown

    def renew(self, name: str, value: str) -> None:
        """Replace the file that a secret is in."""
        path = self.path / name
        successor = path.with_suffix(".new")
        successor.touch(mode=0o600)
        successor.write_text(value + "\n")
        successor.replace(path)

    def account_truth(self, venue: str) -> dict[str, Any]:
        """What the account really is."""
        found: dict[str, Any] = self.admin(f"/truth/{venue}/account")
        return found

    def let_live(self, rate: float, venues: Iterable[str] = VENUES) -> None:
        """So many actions a second; with 0 the accounts stand still."""
        for venue in venues:
            self.admin(f"/account/{venue}", {"rate": rate, "run": rate > 0})

    def mend(self) -> None:
        """No faults, accounts that stand still."""
        super().mend()
        self.let_live(0)

    def do(self, venue: str, action: str, **more: str) -> dict[str, Any]:
        """Let something happen to an account."""
        done: dict[str, Any] = self.admin(f"/account/{venue}/do", {"action": action, **more})
        return done

    def stream(self, venue: str) -> dict[str, Any]:
        """The account's stream in the status."""
        found: dict[str, Any] = self.venue(venue)["streams"]["account"]
        return found

    def wait_state(self, states: Mapping[str, str], timeout_s: float = 30.0) -> None:
        """Wait until the account streams have these states."""

        def is_so() -> bool:
            return all(self.stream(venue)["state"] == state for venue, state in states.items())

        wait_for(is_so, timeout_s, what=f"accounts are {dict(states)}; log: {self.path / 'log'}")

    def public(self) -> dict[str, Any]:
        """What must not change when something is wrong with an account."""
        venues = {}
        for venue in VENUES:
            reported = self.venue(venue)
            streams = {name: one["reconnects"] for name, one in reported["streams"].items() if name != "account"}
            sessions = {n: one["reconnects"] for n, one in reported["sessions"].items() if not n.startswith("account")}
            venues[venue] = (reported["pid"], reported["restarts"], streams, sessions)
        return venues


def good_token() -> str:
    """A token of Lighter's, as its client makes it."""
    return TokenIssuer(SEED, LIGHTER_ACCOUNT, LIGHTER_KEY_INDEX).issue(int(time.time()) + HOURS_S + next(_more))


def good_jwt() -> str:
    """A token of Paradex's that was got elsewhere."""
    return JwtIssuer(SEED).issue(PARADEX_ACCOUNT, time.time(), HOURS_S + next(_more))


#: Makes every token another one.
_more = iter(range(10_000))


def good() -> dict[str, str]:
    """Credentials that are accepted, in every form."""
    return {
        "HL_VAULT_ADDRESS_FILE": HYPERLIQUID_ADDRESS,
        "ASTER_API_KEY": ASTER_KEY,
        "ASTER_API_SECRET_COMMAND": ASTER_SECRET,
        "EXTENDED_API_KEY": EXTENDED_KEY,
        "LIGHTER_ACCOUNT_INDEX": str(LIGHTER_ACCOUNT),
        "LIGHTER_AUTH_TOKEN_FILE": good_token(),
        "PARADEX_JWT_FILE": good_jwt(),
    }


def wrong() -> dict[str, str]:
    """Credentials that are not, in every form; they look as good ones do."""
    head = f"{int(time.time()) + HOURS_S}:{LIGHTER_ACCOUNT}:{LIGHTER_KEY_INDEX}"
    return {
        "HL_VAULT_ADDRESS_COMMAND": "planted-address-5d20",
        "ASTER_API_KEY_FILE": "planted-key-77c1",
        "ASTER_API_SECRET": "planted-secret-0b9e",
        "EXTENDED_API_KEY_FILE": "planted-key-e4d8",
        "LIGHTER_ACCOUNT_INDEX": str(LIGHTER_ACCOUNT),
        "LIGHTER_AUTH_TOKEN": f"{head}:{'5eaf00d1' * 9}",
        "PARADEX_JWT_COMMAND": "planted-head-1f.planted-body-2f.planted-seal-3f",
    }


# --- consumers --------------------------------------------------------------------------------------------------------


#: Name of the consumers below.
READER = "positions"


class Reader:
    """A consumer of all accounts, in a thread: keeps every event."""

    def __init__(self, system: System) -> None:
        self.events: list[Event] = []
        self._feed = AccountFeed(system.run_dir.path, name=READER)
        self._stop = threading.Event()
        self._lock = threading.Lock()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join(10)
        self._feed.close()

    def _run(self) -> None:
        while not self._stop.is_set():
            with self._lock:
                event = self._feed.poll(0.0)
                if event is not None:
                    self.events.append(event)
            if event is None:
                time.sleep(0.002)

    def of(self, kind: type, venue: str) -> list[Any]:
        """Events so far, by kind and venue."""
        return [event for event in list(self.events) if isinstance(event, kind) and event.venue == venue]

    def reason(self, venue: str) -> str | None:
        """Why an account may be wrong."""
        with self._lock:
            return self._feed.account(venue).reason

    def differences(self, venue: str, truth: Mapping[str, Any]) -> list[str]:
        """In what the account that is known is not the true one."""
        with self._lock:
            account = self._feed.account(venue)
            if account.reason is not None:
                return [f"not usable: {account.reason}"]
            found = [
                *_unlike(
                    "order", _orders(truth["orders"], OPEN), {k: _order(v) for k, v in account.open_orders.items()}
                ),
                *_unlike("position", _positions(truth), {k: shortest(v.size) for k, v in account.positions.items()}),
                *_unlike("balance", _balances(truth), {k: shortest(v.total) for k, v in account.balances.items()}),
                *_closed_otherwise(truth["orders"], account.orders.values()),
            ]
            margin = account.margin
        reported = {name: value for name in truth["margin"] if (value := getattr(margin, name, None)) is not None}
        found += [f"margin {name}" for name, value in reported.items() if shortest(value) != truth["margin"][name]]
        return found + ([] if reported else ["no margin"])

    def fills(self, venue: str) -> dict[str, Any]:
        """Every fill by its id.

        Raises:
            AssertionError: One was reported twice.
        """
        fills = self.of(Fill, venue)
        twice = [fill_id for fill_id, times in Counter(fill.fill_id for fill in fills).items() if times > 1]
        assert twice == [], f"{venue} reported fills twice"
        return {fill.fill_id: _fill(fill) for fill in fills}


def _unlike(what: str, truth: Mapping[str, Any], known: Mapping[str, Any]) -> list[str]:
    keys = sorted({*truth, *known})
    return [f"{what} {key}: {known.get(key)} is {truth.get(key)}" for key in keys if truth.get(key) != known.get(key)]


def _orders(rows: Iterable[Mapping[str, Any]], statuses: set[str]) -> dict[str, Any]:
    names = ("client_id", "symbol", "side", "price", "size", "filled", "status")
    return {row["order_id"]: tuple(row[name] for name in names) for row in rows if row["status"] in statuses}


def _order(order: Order) -> tuple[Any, ...]:
    price = None if order.price is None else shortest(order.price)
    numbers = (price, shortest(order.size), shortest(order.filled))
    return order.client_id, order.symbol or order.venue_symbol, order.side, *numbers, order.status


def _closed_otherwise(rows: Iterable[Mapping[str, Any]], orders: Iterable[Order]) -> list[str]:
    """Orders that are over, but not as they are said to be; how one ended may be unknown."""
    truth = {row["order_id"]: row["status"] for row in rows}
    over = [order for order in orders if order.status not in OPEN and order.order_id in truth]
    wrong = [order for order in over if order.status not in {"closed", truth[order.order_id]}]
    return [f"order {order.order_id}: {order.status} is {truth[order.order_id]}" for order in wrong]


def _positions(truth: Mapping[str, Any]) -> dict[str, str]:
    return {row["symbol"]: row["size"] for row in truth["positions"]}


def _balances(truth: Mapping[str, Any]) -> dict[str, str]:
    return {row["asset"]: row["total"] for row in truth["balances"]}


def _fill(fill: Fill) -> tuple[Any, ...]:
    numbers = tuple(None if text is None else shortest(text) for text in (fill.price, fill.size, fill.fee))
    return fill.symbol or fill.venue_symbol, fill.order_id, fill.side, *numbers, fill.fee_asset, fill.liquidity


def true_fills(truth: Mapping[str, Any]) -> dict[str, Any]:
    """Every fill by its id, as :meth:`Reader.fills` has them."""
    names = ("symbol", "order_id", "side", "price", "size", "fee", "fee_asset", "liquidity")
    return {row["fill_id"]: tuple(row[name] for name in names) for row in truth["fills"]}


def wait_equal(desk: Desk, reader: Reader, venues: Iterable[str] = VENUES, timeout_s: float = 45.0) -> None:
    """Wait until what a consumer knows of accounts that stand still is what is true, fill by fill."""
    truths = {venue: desk.account_truth(venue) for venue in venues}
    deadline = time.monotonic() + timeout_s
    for venue, truth in truths.items():
        while (found := reader.differences(venue, truth)) or set(reader.fills(venue)) != set(true_fills(truth)):
            assert time.monotonic() < deadline, (venue, found, set(reader.fills(venue)) ^ set(true_fills(truth)))
            time.sleep(0.05)
        assert reader.fills(venue) == true_fills(truth), venue


@contextlib.contextmanager
def untouched(desk: Desk) -> Iterator[None]:
    """Nothing of the public feeds changes meanwhile: no gap, no restart, no reconnect."""
    before = desk.public()
    with Listener(desk, channels=["book"], symbols=["BTC-PERP"]) as listener:
        for venue in VENUES:
            wait_for(lambda venue=venue: listener.book(venue, "BTC-PERP")[0] is None, what=f"{venue} is usable")
        yield
        wait_for(lambda: all(listener.book(venue, "BTC-PERP")[0] is None for venue in VENUES))
        assert listener.of(Gap) == []
        changes = [one for one in listener.of(Status) if "refresh" not in one.flags]
        unwell = [one for one in changes if one.state not in {"live", "subscribed", "quiet"}]
        assert [(one.venue, one.stream, one.symbol, one.state) for one in unwell] == []
        assert {one.epoch for one in listener.of(Heartbeat, "lighter")} == {desk.venue("lighter")["epoch"]}
    desk.wait_live()
    assert desk.public() == before


# --- accounts that can be read ----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def desk() -> Iterator[Desk]:
    with Desk(good()) as running:
        running.wait_live()
        yield running


@pytest.fixture(scope="module")
def reader(desk: Desk) -> Iterator[Reader]:
    with Reader(desk) as reading:
        yield reading


def test_consumers_know_what_the_venues_know(desk: Desk, reader: Reader) -> None:
    desk.let_live(5)
    desk.wait_state(dict.fromkeys(VENUES, "live"))
    before = {venue: len(reader.of(Order, venue)) for venue in VENUES}
    wait_for(lambda: all(len(reader.of(Order, venue)) >= before[venue] + 8 for venue in VENUES))
    desk.let_live(0)
    wait_equal(desk, reader)
    for venue in VENUES:
        assert len(reader.fills(venue)) > 5
        assert all(event.account == "desk" for event in reader.of(Order, venue))


def test_a_late_subscriber_is_sent_everything(desk: Desk) -> None:
    desk.let_live(0)
    with Reader(desk) as late:
        wait_equal(desk, late, timeout_s=15)


@pytest.mark.usefixtures("reader")
def test_readers_of_accounts_are_listed_by_their_names(desk: Desk) -> None:
    wait_for(lambda: all(READER in desk.venue(name)["consumers"] for name in VENUES))


def test_tail_shows_what_the_accounts_hold(desk: Desk) -> None:
    """Accounts that stand still: each venue has one margin to tell of, and more than one of the rest."""

    def tail(count: int, *prefixes: str) -> list[dict[str, Any]]:
        arguments = (*prefixes, "--json", "--count", str(count), "--run-dir", str(desk.run_dir.path))
        return [json.loads(line) for line in printed(desk, "tail", *arguments).splitlines()]

    margins = tail(5, "margin.")
    assert {one["venue"] for one in margins} == set(VENUES)
    shown = tail(4, "order.lighter", "fill.lighter", "balance.lighter.desk")
    assert {one["kind"] for one in shown} <= {"order", "fill", "balance"}
    assert {one["account"] for one in (*margins, *shown)} == {"desk"}


def test_every_venue_has_an_endpoint_and_two_sessions_of_its_own(desk: Desk) -> None:
    for venue in VENUES:
        assert (desk.run_dir.path / f"{venue}.account").is_socket()
        assert {"account", "account_rest"} <= set(desk.venue(venue)["sessions"])
        reported = desk.stream(venue)
        assert (reported["state"], reported["account"], reported["detail"]) == ("live", "desk", None)


def test_what_comes_twice_or_out_of_order_is_reported_once_and_ends_in_the_truth(desk: Desk, reader: Reader) -> None:
    desk.let_live(0)
    for fault in ("repeat_private", "reorder_private"):
        for venue in VENUES:
            desk.fault(venue, fault, count=60)
        for _ in range(3):
            for venue in VENUES:
                desk.do(venue, "market", symbol="BTC-PERP")
                desk.do(venue, "place", symbol="ETH-PERP")
        for venue in VENUES:
            desk.fault(venue, "clear")
    wait_equal(desk, reader, FREQUENT)
    for venue in sorted(set(VENUES) - set(FREQUENT)):
        assert set(reader.fills(venue)) == set(true_fills(desk.account_truth(venue)))


@pytest.mark.parametrize(
    ("venue", "fault"),
    [
        ("aster", "hedge_legs"),
        ("hyperliquid", "builder_orders"),
        *((venue, fault) for venue in VENUES for fault in ("invalid_row", "unknown_status")),
    ],
)
def test_an_account_is_known_while_it_is_reported_in_parts_or_in_words_that_are_new(
    desk: Desk, reader: Reader, venue: str, fault: str
) -> None:
    desk.fault(venue, fault)
    desk.let_live(10.0, [venue])
    time.sleep(4)
    desk.let_live(0, [venue])
    if fault == "hedge_legs":
        desk.do(venue, "funding")
    desk.fault(venue, "clear")
    wait_equal(desk, reader, [venue], 90)


def test_what_was_lost_is_found_by_the_next_look(desk: Desk, reader: Reader) -> None:
    desk.let_live(0)
    for venue in FREQUENT:
        wait_for(lambda venue=venue: reader.reason(venue) is None)
        desk.fault(venue, "lose_private", count=100)
        for action in ("market", "place", "market"):
            desk.do(venue, action, symbol="BTC-PERP")
        desk.fault(venue, "clear")
    wait_equal(desk, reader, FREQUENT)


def test_a_stream_that_tells_nothing_any_more_is_made_again(desk: Desk, reader: Reader) -> None:
    """Where looks are frequent: it stays open and answers pings, but every message is lost."""
    desk.let_live(0)
    before = desk.venue("extended")["sessions"]["account"]["reconnects"]
    desk.fault("extended", "lose_private", count=10_000)
    deadline = time.monotonic() + 40
    while desk.venue("extended")["sessions"]["account"]["reconnects"] == before:
        assert time.monotonic() < deadline
        desk.do("extended", "market", symbol="BTC-PERP")
        time.sleep(1)
    desk.fault("extended", "clear")
    assert desk.log("account.state", venue="extended", reason="seq_gap")
    wait_equal(desk, reader, ["extended"])


def test_what_was_lost_and_what_happened_meanwhile_is_found_when_it_connects_again(desk: Desk, reader: Reader) -> None:
    desk.let_live(0)
    for venue in VENUES:
        desk.fault(venue, "lose_private", count=100)
        desk.do(venue, "market", symbol="ETH-PERP")
        desk.fault(venue, "clear")
        before = desk.venue(venue)["sessions"]["account"]["reconnects"]
        desk.fault(venue, "close")
        desk.do(venue, "market", symbol="BTC-PERP")
        desk.do(venue, "place", symbol="BTC-PERP")
        wait_for(lambda venue=venue, before=before: desk.venue(venue)["sessions"]["account"]["reconnects"] > before)
    wait_equal(desk, reader)


@pytest.fixture
def renewed(desk: Desk) -> Iterator[Callable[[], None]]:
    """Replaces the tokens; done once more in the end, whatever became of the test."""

    def renew() -> None:
        desk.renew("LIGHTER_AUTH_TOKEN_FILE", good_token())
        desk.renew("PARADEX_JWT_FILE", good_jwt())

    yield renew
    renew()


def test_credentials_that_expire_are_named_and_those_that_replace_them_are_taken(
    desk: Desk, reader: Reader, renewed: Callable[[], None]
) -> None:
    desk.let_live(0)
    with untouched(desk):
        for venue in ("aster", "lighter", "paradex"):
            desk.fault(venue, "expire_credentials")
        # Paradex notices it when it asks REST; there the connection outlives its token.
        desk.wait_state({"lighter": "failed", "paradex": "failed"})
        for venue, text in (("lighter", "the token has expired"), ("paradex", "the JWT is invalid or has expired")):
            reported = desk.stream(venue)
            assert reported["reason"] == "auth_failed"
            assert text in reported["detail"]
        for venue in ("aster", "lighter", "paradex"):
            desk.do(venue, "market", symbol="BTC-PERP")
        renewed()
        # Aster's key to the stream is rebuilt without anybody's help.
        wait_equal(desk, reader, ("aster", "lighter", "paradex"))
        desk.wait_state(dict.fromkeys(VENUES, "live"))
        assert desk.stream("lighter")["detail"] is None


def test_a_venue_that_refuses_for_a_while_is_tried_again(desk: Desk, reader: Reader) -> None:
    desk.let_live(0)
    for venue in WITH_LOGIN:
        desk.fault(venue, "refuse_credentials")
    # The public connections go with it, so this is not the place to look at them.
    for venue in WITH_LOGIN:
        desk.fault(venue, "close")
    for venue in WITH_LOGIN:
        wait_for(lambda venue=venue: desk.stream(venue)["reason"] == "auth_failed", what=f"{venue} is refused")
        assert reader.reason(venue) is not None
    for venue in WITH_LOGIN:
        desk.fault(venue, "clear")
        desk.do(venue, "market", symbol="BTC-PERP")
    wait_equal(desk, reader, WITH_LOGIN)


def test_workers_that_are_killed_lose_nothing_and_tell_nothing_twice(desk: Desk, reader: Reader) -> None:
    desk.let_live(5)
    epochs = {venue: desk.venue(venue)["epoch"] for venue in VENUES}
    for venue in VENUES:
        os.kill(desk.pid(venue), signal.SIGKILL)
    for venue in VENUES:
        wait_for(lambda venue=venue: (desk.venue(venue)["epoch"] or 0) > epochs[venue], what=f"{venue} is back")
    desk.let_live(0)
    wait_equal(desk, reader)
    for venue in VENUES:
        assert reader.of(Heartbeat, venue)[-1].epoch > epochs[venue]


# --- accounts that cannot ---------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def refused() -> Iterator[Desk]:
    with Desk(wrong()) as running:
        running.wait_live()
        yield running


#: What each venue's wrong credential is called in words.
WRONG = {
    "hyperliquid": "HL_VAULT_ADDRESS is no address",
    "aster": "the key is unknown",
    "extended": "401",
    "lighter": "the token is not valid",
    "paradex": "the JWT is",
}


def failed(desk: Desk, venue: str) -> dict[str, Any]:
    """The stream of an account, once it has failed; it says why."""

    def look() -> dict[str, Any] | None:
        reported = desk.stream(venue)
        return reported if reported["detail"] is not None else None

    found: dict[str, Any] = wait_for(look, what=f"{venue} says why")
    return found


@pytest.mark.parametrize("venue", VENUES)
def test_wrong_credentials_are_reported_with_one_clear_reason(refused: Desk, venue: str) -> None:
    reported = failed(refused, venue)
    assert reported["reason"] == "auth_failed"
    assert WRONG[venue] in reported["detail"]


@pytest.mark.parametrize("path", ["/state.json", "/status.json", "/metrics"])
def test_what_venues_say_of_accounts_is_not_served_over_http(refused: Desk, path: str) -> None:
    details = [failed(refused, venue)["detail"] for venue in VENUES]
    read = partial(urllib.request.urlopen, refused.url + path, timeout=20)

    def served() -> str | None:
        with read() as answer:
            text: str = answer.read().decode()
        return text if path == "/metrics" or text.count("auth_failed") >= len(VENUES) else None

    text = wait_for(served, what="the failures are served")
    parts = [words for words in WRONG.values() if not words.isdigit()]  # any price may have the digits of a code
    assert [words for words in (*details, *parts, *refused.secrets, '"desk"') if words in text] == []


@pytest.mark.parametrize("venue", VENUES)
def test_wrong_credentials_need_a_person(refused: Desk, venue: str) -> None:
    assert failed(refused, venue)["state"] == "failed"
    said = [(record["state"], record["text"]) for record in refused.log("account.state", venue=venue, level="error")]
    assert said
    assert len(said) == len(set(said)), "each once, however often it is tried"


def test_wrong_credentials_leave_the_public_feeds_alone(refused: Desk) -> None:
    with untouched(refused):
        tries = refused.venue("lighter")["sessions"]["account"]["attempt"]
        wait_for(lambda: refused.venue("lighter")["sessions"]["account"]["attempt"] > tries + 1)


def test_consumers_of_an_account_that_cannot_be_read_are_reported_why(refused: Desk) -> None:
    with Reader(refused) as consumer:
        for venue in VENUES:
            wait_for(
                lambda venue=venue: consumer.reason(venue) == "auth_failed", what=f"{venue} is reported as refused"
            )


def test_status_says_in_words_what_is_wrong(refused: Desk) -> None:
    for venue in VENUES:
        failed(refused, venue)
    text = printed(refused, "status", "--run-dir", str(refused.run_dir.path)).decode()
    reported = [line for line in text.splitlines() if line.startswith("    account ")]
    assert len(reported) == len(VENUES)
    for venue, line in zip(VENUES, reported, strict=True):
        assert "auth_failed" in line
        assert WRONG[venue] in line


def checked(desk: Desk, *arguments: str, **env: str) -> dict[str, str]:
    """What ``check`` finds of each account's credentials: empty when they are well, by venue."""
    found = {}
    for line in printed(desk, "check", "--config", str(desk.path / "config.toml"), *arguments, env=env).splitlines():
        words, _, problem = line.decode()[5:].partition(": ")
        if "credentials" in words:
            assert line.startswith(b"FAIL" if problem else b"ok"), line
            found[words.split()[0]] = problem
    return found


def test_check_tells_wrong_credentials(refused: Desk) -> None:
    reported = checked(refused, "--sim", "--for", "3")
    for venue in VENUES:
        assert "auth_failed" in reported[venue]
        assert WRONG[venue] in reported[venue]


def test_check_tells_expired_credentials_and_those_that_are_accepted(refused: Desk) -> None:
    hour_ago = time.time() - 3600
    right = {
        "HL_VAULT_ADDRESS": HYPERLIQUID_ADDRESS,
        "ASTER_API_KEY": ASTER_KEY,
        "ASTER_API_SECRET": ASTER_SECRET,
        "EXTENDED_API_KEY": EXTENDED_KEY,
        "LIGHTER_ACCOUNT_INDEX": str(LIGHTER_ACCOUNT),
    }
    expired = {
        "LIGHTER_AUTH_TOKEN": TokenIssuer(SEED, LIGHTER_ACCOUNT, LIGHTER_KEY_INDEX).issue(int(hour_ago)),
        "PARADEX_JWT": JwtIssuer(SEED).issue(PARADEX_ACCOUNT, hour_ago, 300),
    }
    reported = checked(refused, "--sim", "--for", "3", **(without_secrets() | right | expired))
    assert "LIGHTER_AUTH_TOKEN has expired" in reported["lighter"]
    assert "the JWT is invalid or has expired" in reported["paradex"]
    assert [reported[venue] for venue in ("hyperliquid", "aster", "extended")] == [""] * 3


def test_a_system_with_a_wrong_credential_is_degraded(refused: Desk) -> None:
    command = [sys.executable, "-m", "supervisor", "status", "--run-dir", str(refused.run_dir.path)]
    assert subprocess.run(command, capture_output=True, check=False).returncode == 1


@pytest.fixture(scope="module")
def bare() -> Iterator[Desk]:
    """No credentials at all, and one account that is not followed: Paradex's."""
    followed = [venue for venue in VENUES if venue != "paradex"]
    with Desk({}, text=config(followed)) as running:
        running.wait_live()
        yield running


@pytest.mark.parametrize("venue", [venue for venue in VENUES if venue != "paradex"])
def test_missing_credentials_are_reported_by_their_names(bare: Desk, venue: str) -> None:
    reported = failed(bare, venue)
    assert (reported["state"], reported["reason"]) == ("failed", "auth_failed")
    assert reported["detail"].startswith("no credentials; set ")
    assert NAMES[venue][0] in reported["detail"]


def test_check_tells_missing_credentials_without_asking_anybody(bare: Desk) -> None:
    reported = checked(bare)
    assert set(reported) == set(VENUES) - {"paradex"}
    for venue, problem in reported.items():
        assert problem.startswith("no credentials; set ")
        assert NAMES[venue][0] in problem


def test_without_a_name_there_is_no_account_at_all(bare: Desk) -> None:
    reported = bare.venue("paradex")
    assert "account" not in reported["streams"]
    assert not any(name.startswith("account") for name in reported["sessions"])
    assert not list(bare.run_dir.path.glob("paradex.account*"))
    assert bare.run_dir.describe()["venues"]["paradex"]["account"] is None
    assert not bare.log("account.state", venue="paradex")
    # Hyperliquid's worker has the same connections, and the account's two threads.
    threads = {venue: psutil.Process(bare.pid(venue)).num_threads() for venue in ("paradex", "hyperliquid")}
    assert threads["hyperliquid"] == threads["paradex"] + 2


# --- nothing shows a secret -------------------------------------------------------------------------------------------


def published(desk: Desk, seconds: float = 1.5) -> bytes:
    """All that a late subscriber is sent on both endpoints of all venues."""
    context: zmq.Context[Any] = zmq.Context()
    socket = context.socket(zmq.SUB)
    socket.setsockopt(zmq.LINGER, 0)
    socket.subscribe(b"")
    for venue in VENUES:
        for endpoint in (desk.run_dir.feed(venue), desk.run_dir.account(venue), desk.run_dir.raw(venue)):
            socket.connect(endpoint)
    found, deadline = [], time.monotonic() + seconds
    while time.monotonic() < deadline:
        if socket.poll(100):
            found += socket.recv_multipart()
    context.destroy(linger=0)
    assert len(found) > 100
    return b"\n".join(found)


def files(path: Path) -> dict[str, bytes]:
    """The content of every file below a directory."""
    return {str(file): file.read_bytes() for file in path.rglob("*") if file.is_file() and not file.is_symlink()}


def printed(
    desk: Desk,
    *arguments: str,
    code: str = "from supervisor.cli import main; main()",
    env: Mapping[str, str] | None = None,
) -> bytes:
    """What a verb prints, with the environment and the directory of the system."""
    command = [sys.executable, "-c", code, *arguments]
    done = subprocess.run(command, capture_output=True, timeout=60, check=False, env={**desk.env, **(env or {})})
    assert done.stdout or done.stderr, arguments
    return done.stdout + done.stderr


def pages(desk: Desk) -> bytes:
    """What the gateway shows, where it serves pages."""
    url = desk.status()["gateway"]["http"]
    paths = ("/", "/metrics", "/status.json") if url else ()
    return b"".join(urllib.request.urlopen(url + path, timeout=10).read() for path in paths)


def of_process(pid: int, what: str) -> bytes:
    """What the kernel tells of a process; nothing of one that has ended."""
    with contextlib.suppress(FileNotFoundError, ProcessLookupError):
        return Path(f"/proc/{pid}/{what}").read_bytes()
    return b""


def crash(desk: Desk, venue: str) -> None:
    """Kill a worker, and wait for the next."""
    before = desk.pid(venue)
    os.kill(before, signal.SIGKILL)
    wait_for(lambda: desk.pid(venue) != before, what="another worker")


def shown(desk: Desk) -> dict[str, bytes]:
    """Everything that a system shows, by where."""
    run_dir, text = str(desk.run_dir.path), str(desk.path / "config.toml")
    record = "from supervisor.verbs.record import record; record()"
    kept, report = desk.path / "state" / "journal", desk.path / "state" / "report"
    signalled = [process.pid for process in desk.descendants()]
    # Heartbeats too, for accounts that are refused have nothing more to tell after their first statuses.
    reported = ("order.", "fill.", "status.", "heartbeat.")
    assert desk.process is not None
    parent = desk.process.pid
    for pid in signalled:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGUSR1)  # stack dumps into the log
    found = {
        "config show": printed(desk, "config", "show", "--config", text),
        "config show --json": printed(desk, "config", "show", "--config", text, "--json"),
        "config validate": printed(desk, "config", "validate", "--config", text),
        "check": printed(desk, "check", "--config", text, "--run-dir", run_dir),
        "tail": printed(desk, "tail", *reported, "--count", "50", "--run-dir", run_dir),
        "status": printed(desk, "status", "--run-dir", run_dir),
        "status --json": printed(desk, "status", "--json", "--run-dir", run_dir),
        "shadow": printed(desk, "shadow", "--duration", "2", "--report", str(report), "--run-dir", run_dir),
        "record": printed(desk, "--out", str(kept), "--raw", "--for", "2", "--run-dir", run_dir, code=record),
        "pages": pages(desk),
        "events": published(desk),
        "environments": b"\n".join(of_process(pid, "environ") for pid in (parent, *signalled)),
        "arguments": b"\n".join(of_process(pid, "cmdline") for pid in signalled),
        "log": (desk.path / "log").read_bytes(),
        "output": (desk.path / "out").read_bytes(),
    }
    assert files(kept)
    assert files(report)
    return found | files(desk.run_dir.path) | files(desk.path / "state")


def held(desk: Desk, secrets: Iterable[str]) -> list[tuple[str, str]]:
    """Where a secret is shown, and which."""
    everything = shown(desk)
    assert len(everything) > 30
    hidden = [secret for secret in secrets if len(secret) > 5]
    return [(where, secret) for secret in hidden for where, data in everything.items() if secret.encode() in data]


def test_no_secret_in_use_is_shown_anywhere(desk: Desk, reader: Reader) -> None:
    desk.let_live(5)
    # A crash leaves a black box, and a login of which the log tells.
    crash(desk, "lighter")
    desk.wait_state(dict.fromkeys(VENUES, "live"))
    wait_for(lambda: list((desk.path / "state").rglob("*.blackbox")), what="a black box")
    found = held(
        desk, [*desk.secrets, desk_token(desk, "LIGHTER_AUTH_TOKEN_FILE"), desk_token(desk, "PARADEX_JWT_FILE")]
    )
    assert found == []
    assert not is_zero(str(len(reader.events)))


def desk_token(desk: Desk, name: str) -> str:
    """What a file holds by now."""
    return (desk.path / name).read_text().strip()


def test_no_secret_that_is_refused_is_shown_anywhere(refused: Desk) -> None:
    for venue in VENUES:
        failed(refused, venue)
    crash(refused, "paradex")
    wait_for(lambda: list((refused.path / "state").rglob("*.blackbox")), what="a black box")
    assert held(refused, refused.secrets) == []


def test_no_secret_is_passed_to_processes_that_have_no_business_with_it(desk: Desk) -> None:
    reported = json.dumps(desk.run_dir.describe())
    assert all(secret not in reported for secret in desk.secrets if len(secret) > 5)
    for process in desk.descendants():
        arguments = of_process(process.pid, "cmdline")
        assert all(secret.encode() not in arguments for secret in desk.secrets if len(secret) > 5)
