"""Names of a feed's consumers: each subscribes to ``consumer.<name>``, which nobody publishes.

So a publisher sees who reads it, over every transport and in every language, without a protocol of its own.
"""

from __future__ import annotations

import os
import re
import sys
from pathlib import Path
from typing import Final

from ipc.errors import FeedError

#: Names that a publisher keeps: a client may subscribe to any number.
MAX_NAMES: Final = 1000
_PREFIX: Final = "consumer."
_NAME: Final = re.compile(r"[A-Za-z0-9_.-]{1,64}")
_FOREIGN: Final = re.compile(r"[^A-Za-z0-9_.-]+")
#: Of a program's name; the rest is for the pid.
_PROGRAM_LENGTH: Final = 48
#: What ``sys.argv`` begins with when there is no program.
_NO_PROGRAM: Final = frozenset({"", "-c", "-m", "-"})
#: First bytes of a subscription to a name.
TOPIC_PREFIX: Final = _PREFIX.encode()


def default_name() -> str:
    """Return the program's name and pid: ``quoter-1234``."""
    path = Path(sys.argv[0] if sys.argv else "")
    program = path.parent.name if path.stem == "__main__" else path.stem
    if str(path) in _NO_PROGRAM or not program:
        program = "python"
    return name_of(program)


def name_of(program: str) -> str:
    """Return a program's name with the pid of this process, for programs of which several may run."""
    return f"{_FOREIGN.sub('_', program)[:_PROGRAM_LENGTH]}-{os.getpid()}"


def checked_name(name: str | None) -> str:
    """Return a consumer's name, :func:`default_name` for None; raise FeedError if it is none."""
    if name is None:
        return default_name()
    if not isinstance(name, str) or _NAME.fullmatch(name) is None:
        raise FeedError(
            "no name for a consumer", where=repr(name), advice="use 1 to 64 letters, digits, dots, hyphens, underscores"
        )
    return name


def topic_of_consumer(name: str) -> str:
    """Return the topic that a consumer subscribes to for its name alone."""
    return _PREFIX + name


class ConsumerNames:
    """Names that consumers subscribe to, each as often as it is subscribed; for the holder of the publisher's lock.

    Names that no consumer of ours has are ignored, and so are new ones beyond :data:`MAX_NAMES`. ``changes`` counts
    changes of :meth:`names`.
    """

    def __init__(self) -> None:
        self.changes = 0
        self._counts: dict[str, int] = {}

    def update(self, topic: bytes, *, is_new: bool) -> None:
        """Apply a subscription to a topic with :data:`TOPIC_PREFIX`, or its end."""
        name = topic[len(TOPIC_PREFIX) :].decode(errors="replace")
        count = self._counts.get(name, 0)
        if is_new:
            if count or (len(self._counts) < MAX_NAMES and _NAME.fullmatch(name)):
                self._counts[name] = count + 1
                self.changes += not count
        elif count > 1:
            self._counts[name] = count - 1
        elif count:
            del self._counts[name]
            self.changes += 1

    def names(self) -> list[str]:
        """Return the names, sorted."""
        return sorted(self._counts)
