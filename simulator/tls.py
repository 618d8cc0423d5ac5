"""Certificates of a simulation: a temporary authority, and the certificates that its servers present.

Private keys are never written to a file. Clients trust the authority through the certificate at ``ca_path``; OpenSSL
clients name that file in ``SSL_CERT_FILE``.
"""

from __future__ import annotations

import ssl
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

from ipc.errors import UsageError
from ipc.rundir import replace_file
from simulator.listener import AcceptMode
from simulator.settings import SimSettings

if TYPE_CHECKING:
    import trustme

#: TLS context by accept mode; empty without TLS.
Contexts: TypeAlias = Mapping[AcceptMode, ssl.SSLContext]

_LONG_AGO = datetime(2001, 1, 1, tzinfo=UTC)


def contexts(settings: SimSettings) -> Contexts:
    """Create an authority, write its certificate to ``ca_path``, and issue the servers' certificates.

    Create them once and pass them to each successive process with these settings: clients then still trust a restarted
    simulator.

    Raises:
        UsageError: trustme is not installed, or the file cannot be written.
    """
    if not settings.tls:
        return {}
    try:
        from trustme import CA  # noqa: PLC0415 - an extra: only a simulation with TLS needs it
    except ImportError as error:
        raise UsageError(
            "TLS needs trustme, which is not installed",
            where="simulator",
            advice="pip install 'paraphina-supervisor[tls-sim]'",
        ) from error
    names = dict.fromkeys(("127.0.0.1", "localhost", settings.host, *settings.names))
    known, unknown = CA(), CA()
    _write(settings.ca_path, known.cert_pem.bytes())
    return {
        AcceptMode.NORMAL: _context(known.issue_cert(*names)),
        AcceptMode.UNKNOWN_AUTHORITY: _context(unknown.issue_cert(*names)),
        AcceptMode.EXPIRED: _context(known.issue_cert(*names, not_after=_LONG_AGO)),
    }


def _context(certificate: trustme.LeafCert) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    certificate.configure_cert(context)
    return context


def _write(path: str, certificate: bytes) -> None:
    try:
        replace_file(Path(path), certificate)
    except OSError as error:
        raise UsageError(
            f"the authority's certificate cannot be written: {error.strerror}",
            where=path,
            advice="name a file in an existing directory that you can write to",
        ) from error
