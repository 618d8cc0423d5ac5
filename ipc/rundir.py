"""Run directory of a system: its sockets, board and descriptions.

One directory is one system. It is private (0700), never a link, and its path short enough that every Unix socket path
in it fits the kernel's limit of 107 bytes. The mode of a directory that was there before is never changed.
"""

from __future__ import annotations

import os
import re
import stat
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import msgspec

from ipc.errors import ForeignSystemError, NotRunningError, RunDirError, UnknownStateError
from ipc.health import Reason, StreamState
from ipc.lines import LINES, process_of
from ipc.topics import VENUES
from ipc.users import owner_of

#: Linux: sun_path is 108 bytes with its final zero.
_MAX_SOCKET_PATH: Final = 107
#: The longest name of a socket that is bound here.
_LONGEST_SOCKET: Final = max(VENUES, key=len) + ".account"
_PRIVATE: Final = 0o700
_WORKERS: Final = "|".join(re.escape(process_of(venue, line)) for venue in VENUES for line in LINES)
#: Names of the directory's files, so that nothing else in it is ever removed.
_SOCKET_NAME: Final = re.compile(rf"control|lifecycle\.feed(\.closed)?|({_WORKERS})\.(feed|account|raw)(\.closed)?")
_FILE_NAME: Final = re.compile(
    r"board|supervisor\.lock|describe\.json|sim-ca\.pem"
    rf"|({_WORKERS}|gateway|simulator)\.error"
    rf"|({_WORKERS})\.(ring|json|markets\.json|account\.memory|account\.json|account\.[a-z0-9_-]+\.published)"
)
#: File that :func:`replace_file` and the board's and black box's constructors rename into place.
_TEMPORARY_NAME: Final = re.compile(r"\.(?P<name>.+)\.(?P<pid>[0-9]+)")


def default_path(environ: Mapping[str, str]) -> Path:
    """Return ``$XDG_RUNTIME_DIR/paraphina``, else ``/dev/shm/paraphina-<uid>``."""
    runtime = environ.get("XDG_RUNTIME_DIR")
    return Path(runtime) / "paraphina" if runtime else Path(f"/dev/shm/paraphina-{os.getuid()}")  # noqa: S108


def run_dir_of(path: str | Path | None, environ: Mapping[str, str]) -> RunDir:
    """Return the run directory at ``path``, else at ``$PARAPHINA_RUN_DIR``, else the default one."""
    path = path or environ.get("PARAPHINA_RUN_DIR")
    return RunDir(Path(path) if path else default_path(environ))


def replace_file(path: Path, data: bytes) -> None:
    """Replace a file atomically: a reader sees the old content or the new."""
    temporary = path.with_name(f".{path.name}.{threading.get_native_id()}")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
        temporary.replace(path)
    except OSError:
        temporary.unlink(missing_ok=True)
        raise


def _make_private(path: Path) -> None:
    """Create a directory and missing ones above it for us alone, whatever the umask; leave an existing one as it is."""
    if os.path.lexists(path):
        return
    _make_private(path.parent)
    try:
        path.mkdir(_PRIVATE)
    except FileExistsError:
        return
    path.chmod(_PRIVATE)


def _is_known(name: str) -> bool:
    temporary = _TEMPORARY_NAME.fullmatch(name)
    name = name if temporary is None else temporary["name"]
    return _SOCKET_NAME.fullmatch(name) is not None or _FILE_NAME.fullmatch(name) is not None


def _is_alive(pid: int) -> bool:
    return os.path.exists(f"/proc/{pid}")  # noqa: PTH110 - pathlib costs start-up time of ``status``


class AccountWords(msgspec.Struct, frozen=True):
    """State of an account's stream with its reason and text, in one file so that readers see them together.

    Attributes:
        account: Alias of the account.
        state: State of the stream; None before the first.
        reason: Last reason; kept when the stream is live again.
        since_ns: Monotonic time of the change to this state; 0 before the first.
        detail: Reason in words, without secrets; None when there is nothing to explain.
        invalid_rows: Number of rows of frames and responses that were rejected; not in the file when 0.
    """

    account: str | None = None
    state: StreamState | None = None
    reason: Reason | None = None
    since_ns: int = 0
    detail: str | None = None
    invalid_rows: int | msgspec.UnsetType = msgspec.UNSET


@dataclass(frozen=True, slots=True)
class RunDir:
    """Paths in a run directory."""

    path: Path

    def prepare(self) -> None:
        """Create the directory, or check that it is ours and private; raise RunDirError if it cannot be used."""
        self._check_length()
        try:
            _make_private(self.path)
            found = self.path.lstat()
        except OSError as error:
            raise self._error(f"cannot be made: {error.strerror}", "choose another with --run-dir") from error
        self._check_private(found)

    def exists(self) -> bool:
        """Return whether the directory exists; raise RunDirError if it, or a new one, could not be used."""
        self._check_length()
        try:
            self._check_private(self.path.lstat())
        except FileNotFoundError:
            self._check_creatable()
            return False
        except OSError as error:
            raise self._error(f"cannot be used: {error.strerror}", "choose another with --run-dir") from error
        return True

    def _check_creatable(self) -> None:
        above = next(parent for parent in self.path.absolute().parents if os.path.lexists(parent))
        if not above.is_dir() or not os.access(above, os.W_OK | os.X_OK):
            raise self._error(f"cannot be made in {above}", "choose another with --run-dir")

    def _check_length(self) -> None:
        longest = len(os.fsencode(self.path / _LONGEST_SOCKET))
        if longest > _MAX_SOCKET_PATH:
            excess = longest - _MAX_SOCKET_PATH
            raise self._error(
                f"has a path that is {excess} bytes too long for Unix sockets", "choose a shorter one with --run-dir"
            )

    def _check_private(self, found: os.stat_result) -> None:
        if stat.S_ISLNK(found.st_mode):
            raise self._error("is a symbolic link", "name the directory itself with --run-dir")
        if not stat.S_ISDIR(found.st_mode):
            raise self._error("is not a directory", "choose another with --run-dir")
        if found.st_uid != os.getuid():
            raise self._error(f"belongs to uid {found.st_uid}, not to you", "choose another with --run-dir")
        mode = stat.S_IMODE(found.st_mode)
        if mode & 0o777 != _PRIVATE:
            # The sticky bit marks a directory for everybody, as /tmp.
            own = "" if mode & stat.S_ISVTX else f"if it is yours alone: chmod 700 {self.path}; else "
            raise self._error(f"has mode {mode:04o} and not 0700", f"{own}choose another with --run-dir")
        if not os.access(self.path, os.W_OK | os.X_OK):
            raise self._error("is not writable", "choose another with --run-dir")

    def entries(self) -> Iterator[os.DirEntry[str]]:
        """Yield what the directory holds under names that this program gives."""
        with os.scandir(self.path) as found:
            yield from (entry for entry in found if _is_known(entry.name))

    def remove_leftovers(self) -> None:
        """Remove the sockets and temporary files of dead processes; only for the holder of the lock."""
        for entry in list(self.entries()):
            temporary = _TEMPORARY_NAME.fullmatch(entry.name)
            is_socket = stat.S_ISSOCK(entry.stat(follow_symlinks=False).st_mode)
            if is_socket or (temporary is not None and not _is_alive(int(temporary["pid"]))):
                Path(entry.path).unlink(missing_ok=True)

    def _error(self, what: str, advice: str) -> RunDirError:
        return RunDirError(f"the run directory {what}", where=str(self.path), advice=advice)

    def feed_path(self, venue: str) -> Path:
        """Return the socket of a venue's public feed."""
        return self.path / f"{venue}.feed"

    def feed(self, venue: str) -> str:
        """Return the ZeroMQ endpoint of a venue's public feed; ``lifecycle`` is the gateway's."""
        return f"ipc://{self.feed_path(venue)}"

    def account(self, venue: str) -> str:
        """Return the ZeroMQ endpoint of a venue's account feed."""
        return f"ipc://{self.account_path(venue)}"

    def account_path(self, venue: str) -> Path:
        """Return the socket of a venue's account feed."""
        return self.path / f"{venue}.account"

    def raw(self, venue: str) -> str:
        """Return the ZeroMQ endpoint of a venue's raw frames."""
        return f"ipc://{self.path / f'{venue}.raw'}"

    def ring(self, venue: str) -> Path:
        """Return the black box of a venue's worker."""
        return self.path / f"{venue}.ring"

    def account_checkpoint(self, venue: str) -> Path:
        """Return the file in which a worker keeps the state of its account across restarts."""
        return self.path / f"{venue}.account.memory"

    def account_published(self, venue: str, alias: str) -> Path:
        """Return the file of fills and payments of an account that workers have published."""
        return self.path / f"{venue}.account.{alias}.published"

    def account_description(self, venue: str) -> Path:
        """Return the description of an account by its worker."""
        return self.path / f"{venue}.account.json"

    @property
    def control(self) -> Path:
        """Control socket of the parent."""
        return self.path / "control"

    @property
    def simulator_ca(self) -> Path:
        """Certificate of the simulated venues, for clients that check it."""
        return self.path / "sim-ca.pem"

    @property
    def board(self) -> Path:
        """Shared board."""
        return self.path / "board"

    @property
    def lock(self) -> Path:
        """Lock file of the supervisor."""
        return self.path / "supervisor.lock"

    @property
    def description(self) -> Path:
        """Description of the system by its parent."""
        return self.path / "describe.json"

    def worker_description(self, venue: str) -> Path:
        """Return the description of a worker."""
        return self.path / f"{venue}.json"

    def error_file(self, name: str) -> Path:
        """Return the file of the configuration error that a process ended with."""
        return self.path / f"{name}.error"

    def config_error(self, name: str) -> str | None:
        """Return the text of the configuration error that a process ended with; None when there is none."""
        try:
            return self.error_file(name).read_text(encoding="utf-8", errors="replace")
        except OSError:
            return None

    def market_cache(self, venue: str) -> Path:
        """Return the cached list of a venue's markets."""
        return self.path / f"{venue}.markets.json"

    def write_description(self, described: Mapping[str, Any]) -> None:
        """Replace :attr:`description`; raise RunDirError, with the old content kept, if it cannot be written."""
        try:
            replace_file(self.description, msgspec.json.encode(described))
        except OSError as error:
            raise self._error(f"takes no description: {error.strerror}", "make room, or choose another") from error

    def describe(self) -> dict[str, Any]:
        """Return :attr:`description`; raise NotRunningError if missing, UnknownStateError if it cannot be read."""
        try:
            return self._read(self.description)
        except FileNotFoundError:
            raise NotRunningError(
                "no supervisor has run here", where=str(self.path), advice="start one with: paraphina-supervisor start"
            ) from None

    def describe_worker(self, venue: str) -> dict[str, Any]:
        """Return the description of a worker; empty before it was written."""
        try:
            return self._read(self.worker_description(venue))
        except (FileNotFoundError, UnknownStateError):
            return {}

    def account_words(self, venue: str) -> AccountWords:
        """Return the state of a worker's account; without a name when none can be read."""
        try:
            return msgspec.json.decode(self.account_description(venue).read_bytes(), type=AccountWords)
        except (OSError, ValueError, RecursionError):
            return AccountWords()

    def _read(self, path: Path) -> dict[str, Any]:
        try:
            return msgspec.json.decode(path.read_bytes(), type=dict[str, Any])
        except FileNotFoundError:
            raise
        except PermissionError as error:
            raise ForeignSystemError(owner_of(path.parent)) from error
        except (OSError, ValueError, RecursionError) as error:
            raise UnknownStateError(f"cannot be read: {error}", where=str(path)) from error
