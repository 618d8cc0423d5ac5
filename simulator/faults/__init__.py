"""Registry of the faults that can be injected, by name."""

from __future__ import annotations

from typing import Any

from simulator.faults import accept_modes, accounts, books, catalogue, feed, requests, rows, sockets
from simulator.faults.fault import Fault

_KINDS: tuple[type[Fault[Any]], ...] = (
    feed.Stall,
    feed.DropDelta,
    sockets.CloseFault,
    sockets.Refuse,
    feed.Garbage,
    requests.RestErrorFault,
    sockets.HalfOpen,
    sockets.NoPong,
    sockets.SlowTrickle,
    sockets.UpgradeError,
    sockets.ShutdownFault,
    sockets.AgeCut,
    feed.DuplicateDelta,
    feed.ReorderDelta,
    feed.CorruptDelta,
    feed.CrossedBook,
    feed.HugeFrame,
    feed.InvalidUtf8,
    feed.WrongSchema,
    requests.RestSlow,
    requests.RestMalformed,
    requests.HttpHtml,
    requests.RestCut,
    books.MuteBook,
    books.BadBook,
    books.Exponents,
    books.RestartIds,
    books.ThinMarket,
    rows.InvalidRowFault,
    rows.UnknownStatus,
    rows.FractionalInterval,
    rows.FlatErrors,
    catalogue.UnknownMarket,
    catalogue.Delist,
    catalogue.ClockSkew,
    accounts.LosePrivate,
    accounts.RepeatPrivate,
    accounts.ReorderPrivate,
    accounts.ExpireCredentials,
    accounts.RefuseCredentials,
    accounts.HedgeLegs,
    accounts.BuilderOrders,
    accept_modes.TlsHang,
    accept_modes.TlsBadCertificate,
    accept_modes.TlsExpired,
)

#: To add a fault, add its class above.
FAULTS: dict[str, type[Fault[Any]]] = {kind.name: kind for kind in _KINDS}
