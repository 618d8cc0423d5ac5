"""Catalogue of drills: each fault, its required effect and its time limit. Pure data and arithmetic."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Literal, TypeAlias

from simulator.faults import FAULTS
from workers.venues import VENUES
from workers.venues.venue import Rule

#: Effect of a fault: a new process, a new connection, a new snapshot, or nothing that a consumer notices.
Effect: TypeAlias = Literal["restart", "reconnect", "resync", "none"]

#: The drill of the parent itself.
PARENT: Final = "parent_kill"


@dataclass(frozen=True, slots=True)
class Conditions:
    """Settings of the drilled system, s.

    Attributes:
        stale_s: Age at which a book is stale.
        ping_s: Interval between our pings; ``pong_s`` is the limit for the answer.
        first_s: First backoff delay of sessions and processes.
        beat_s: Watchdog silence after which a worker counts as wedged.
        connect_s: For name, TCP, TLS and upgrade together.
    """

    stale_s: float = 10.0
    ping_s: float = 30.0
    pong_s: float = 10.0
    first_s: float = 1.0
    beat_s: float = 2.0
    connect_s: float = 15.0


#: Delay before a worker requests a missing book again, s.
_RESYNC_RETRY_S: Final = 5.0
#: Allowance for a machine with two busy cores, s.
_SLACK_S: Final = 1.5


@dataclass(frozen=True, slots=True)
class Drill:
    """Drill: a fault with its required effect and limit.

    Attributes:
        name: Name on the command line.
        kind: ``process`` (done to the worker) or ``network`` (done by the simulator).
        effect: Required effect.
        text: One-line description.
        duration_s: Upper limit from the fault to the first fresh book, before the allowance.
        arguments: Returns the simulator fault's parameters for given conditions.
        fault: Simulator fault, when its name differs.
        needs_tls: Whether it requires TLS.
        rule_effects: Effect per continuity rule, where it differs.
    """

    name: str
    kind: Literal["process", "network"]
    effect: Effect
    text: str
    duration_s: Callable[[Conditions], float]
    arguments: Callable[[Conditions], Mapping[str, Any]] = lambda _: {}
    fault: str = ""
    needs_tls: bool = False
    rule_effects: Mapping[Rule, Effect] = field(default_factory=dict)

    def effect_on(self, venue: str) -> Effect:
        """Return the effect that is required on a venue."""
        return self.rule_effects.get(VENUES[venue].continuity.rule, self.effect)

    def applies_to(self, venue: str) -> bool:
        """Return whether the simulator has this fault for a venue."""
        venues = FAULTS[self.fault or self.name].venues if self.kind == "network" else ()
        return not venues or venue in venues

    def limit_s(self, conditions: Conditions) -> float:
        """Return the limit from the fault to the first fresh book, s."""
        return self.duration_s(conditions) + _SLACK_S


def _restart(extra_s: float = 0.0) -> Callable[[Conditions], float]:
    return lambda of: of.first_s + extra_s


def _wedge(ladder_s: float) -> Callable[[Conditions], float]:
    return lambda of: of.beat_s + ladder_s + of.first_s


def _stale(of: Conditions) -> float:
    return of.stale_s + of.first_s


def _while_stale(of: Conditions) -> Mapping[str, Any]:
    """Keep the fault until the watchdog has closed the connection, so that the next one succeeds."""
    return {"duration_s": of.stale_s + 0.3}


def _reconnect(of: Conditions) -> float:
    return of.first_s


def _second_try(extra_s: float) -> Callable[[Conditions], float]:
    """Allow for a first attempt that fails after ``extra_s``, and a doubled second delay."""
    return lambda of: 3.0 * of.first_s + extra_s


def _resync(_: Conditions) -> float:
    return 3.5


def _mute(of: Conditions) -> float:
    """Allow for the stale limit and two subscription attempts with a fixed pause between them."""
    return 2.0 * of.stale_s + _RESYNC_RETRY_S + of.first_s


def _while_mute(of: Conditions) -> Mapping[str, Any]:
    return {"duration_s": of.stale_s + 1.0}


def _two_books(of: Conditions) -> float:
    """Allow for an invalid first snapshot; the next follows a pause or, on a new connection, the stale limit."""
    return max(_RESYNC_RETRY_S, of.stale_s) + 3.0 * of.first_s + _resync(of)


def _for(seconds: float, **more: Any) -> Callable[[Conditions], Mapping[str, Any]]:
    return lambda _: {"duration_s": seconds, **more}


def _until_next_try(**more: Any) -> Callable[[Conditions], Mapping[str, Any]]:
    return lambda of: {"duration_s": of.first_s + 0.5, **more}


def _process(name: str, text: str, duration_s: Callable[[Conditions], float]) -> Drill:
    return Drill(name, "process", "restart", text, duration_s)


def _network(name: str, effect: Effect, text: str, duration_s: Callable[[Conditions], float], **more: Any) -> Drill:
    return Drill(name, "network", effect, text, duration_s, **more)


def _certificate(name: str, text: str) -> Drill:
    arguments = _until_next_try(cut=True)
    return _network(name, "reconnect", text, _second_try(0.5), arguments=arguments, needs_tls=True)


def _bad_book(name: str, flaw: str, text: str) -> Drill:
    more = {"arguments": lambda _: {"flaw": flaw}, "fault": "bad_book", "rule_effects": _CONNECTION_RECONNECTS}
    return _network(name, "resync", text, _two_books, **more)


def _harmless(name: str, text: str, *, fault: str = "", **arguments: Any) -> Drill:
    return _network(name, "none", text, _resync, arguments=_for(2.0, **arguments), fault=fault)


#: Where frames of a connection are numbered together, only a new connection restores a book.
_CONNECTION_RECONNECTS: Final[Mapping[Rule, Effect]] = {Rule.CONNECTION: "reconnect"}
_RECONNECTS: Final[Mapping[str, Any]] = {"rule_effects": _CONNECTION_RECONNECTS}
#: Where every frame is a whole book, the next one replaces a bad one.
_HARMLESS_WHOLE: Final[Mapping[Rule, Effect]] = {Rule.SNAPSHOTS: "none", **_CONNECTION_RECONNECTS}
_HARMLESS_TWICE: Final[Mapping[Rule, Effect]] = {Rule.BRIDGE: "none", **_HARMLESS_WHOLE}
#: Frames without numbers are ordered by their times.
_BY_TIME_RESYNCS: Final[Mapping[Rule, Effect]] = {Rule.SNAPSHOTS: "resync"}

DRILLS: Final[dict[str, Drill]] = {
    drill.name: drill
    for drill in (
        _process("kill", "SIGKILL", _restart()),
        _process("segv", "a segmentation fault", _restart()),
        _process("exit", "exits with code 0", _restart()),
        _process("stop", "SIGSTOP", _wedge(0.3)),
        _process("hang", "holds the interpreter lock", _wedge(0.9)),
        _process("memory", "grows without limit", _restart(8.0)),
        _network("stall", "reconnect", "sockets stay open, no data", _stale, arguments=_while_stale),
        _network("half_open", "reconnect", "the peer vanishes without closing", _stale, arguments=_while_stale),
        _network("slow_drip", "reconnect", "bytes trickle", _stale, arguments=_while_stale),
        _network(
            "no_pong",
            "reconnect",
            "pings stay unanswered, data goes on",
            lambda of: of.ping_s + of.pong_s + of.first_s,
            arguments=lambda of: {"duration_s": of.ping_s + of.pong_s + 0.3},
        ),
        _network("close", "reconnect", "a close frame", _reconnect),
        _network(
            "cut",
            "reconnect",
            "TCP closes without a close frame",
            _reconnect,
            arguments=lambda _: {"code": 0},
            fault="close",
        ),
        _network("shutdown", "reconnect", "the venue announces a restart", _reconnect),
        _network("age_cut", "reconnect", "cut for its age", _reconnect),
        _network(
            "refuse",
            "reconnect",
            "closed, and connections refused for a while",
            _second_try(0.5),
            arguments=_until_next_try(),
        ),
        _network(
            "tls_hang",
            "reconnect",
            "cut, and the next handshake is never answered",
            lambda of: 3.0 * of.first_s + of.connect_s,
            arguments=lambda of: {"cut": True, "duration_s": of.first_s + of.connect_s + 0.3},
        ),
        _certificate("tls_bad_certificate", "cut, and the next certificate is of an unknown authority"),
        _certificate("tls_expired", "cut, and the next certificate has expired"),
        _network(
            "huge_frame", "reconnect", "a frame over every limit", _reconnect, arguments=lambda _: {"size": 20 * 2**20}
        ),
        _network("drop_delta", "resync", "a book update is lost", _resync, **_RECONNECTS),
        _network("corrupt_delta", "resync", "a level with an invalid price", _resync, **_RECONNECTS),
        _network("crossed_book", "resync", "an update that crosses the book", _resync, **_RECONNECTS),
        _network("reorder_delta", "resync", "two updates change places", _resync, rule_effects=_HARMLESS_WHOLE),
        _network("duplicate_delta", "resync", "an update comes twice", _resync, rule_effects=_HARMLESS_TWICE),
        _network("garbage", "none", "an invalid frame", _resync),
        _network("invalid_utf8", "none", "text that is not UTF-8", _resync),
        _network(
            "wrong_schema", "reconnect", "SBE of another schema for a while", _second_try(0.5), arguments=_for(0.5)
        ),
        _network(
            "clock_skew",
            "none",
            "the venue's clock is wrong for a while",
            _resync,
            arguments=_for(1.0),
            rule_effects=_BY_TIME_RESYNCS,
        ),
        _harmless("rest_error", "REST answers 503"),
        _harmless("rest_slow", "REST drips"),
        _harmless("rest_malformed", "REST answers rubbish"),
        _harmless("http_html", "REST answers with a web page"),
        _network(
            "mute_book",
            "resync",
            "one book falls silent, and REST disproves it",
            _mute,
            arguments=_while_mute,
            **_RECONNECTS,
        ),
        _bad_book("unsorted_book", "unsorted", "a whole book with levels out of order"),
        _bad_book("doubled_level", "doubled", "a whole book with a price twice, spelt differently"),
        _bad_book("empty_level", "zero_size", "a whole book with a level of size zero"),
        _bad_book("negative_level", "negative", "a whole book with a negative size"),
        _bad_book("bad_number", "not_decimal", "a whole book with an invalid price behind the best one"),
        _network("restart_ids", "resync", "ids of updates restart from a low number", _two_books, **_RECONNECTS),
        _harmless("exponents", "prices and sizes written as 8.1E+4"),
        _harmless("thin_market", "a market with a handful of levels"),
        _harmless("invalid_row", "an invalid row among the valid ones"),
        _harmless("unknown_status", "a market and orders in a state that is new"),
        _harmless("fractional_interval", "funding intervals as fractions and text"),
        _harmless("flat_errors", "errors with their code at the top level"),
        _harmless("hedge_legs", "an account with both sides of a position"),
        _harmless("builder_orders", "an account on a builder's market"),
        _harmless("rest_404", "REST answers 404 without a body", fault="rest_error", status=404, empty=True),
        _harmless("rest_headers", "REST headers drip", fault="rest_slow", part="headers"),
        _harmless("rest_cut", "REST answers end before their body"),
    )
}
