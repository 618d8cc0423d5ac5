"""The certificates of a simulation: an authority that lives as long as it does, and what a server shows.

Its private keys are never kept in a file. Clients trust it by the certificate that is written to ``ca_path``; with
OpenSSL it is enough to name that file in ``SSL_CERT_FILE``.
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

__all__ = ["Contexts", "contexts"]

#: How TLS is spoken, by how those who connect are received; empty where it is not.
Contexts: TypeAlias = Mapping[AcceptMode, ssl.SSLContext]

_LONG_AGO = datetime(2001, 1, 1, tzinfo=UTC)


def contexts(settings: SimSettings) -> Contexts:
    """Make an authority, write its certificate to ``ca_path``, and issue what the servers show.

    Made once and passed to every process that serves these settings, one after the other, they let a simulator that is
    started again be trusted as before.

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
    names = dict.fromkeys(("127.0.0.1", "localhost", settings.host))
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
            advice="name a file in a directory that exists and is yours",
        ) from error
