"""Consumers of feeds as their process describes them: subscriptions and descriptors on the board, names in a file."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

from ipc.board import Row, WorkerWord
from ipc.descriptors import DescriptorGuard
from ipc.publisher import Publisher

#: Least time between two descriptions of the consumers' names.
_DESCRIBE_NS: Final = 1_000_000_000


def write_consumers(words: Row, publisher: Publisher, descriptors: DescriptorGuard) -> None:
    """Write the words of a process's consumers; for its main thread."""
    words[WorkerWord.SUBSCRIPTIONS] = publisher.subscriptions
    words[WorkerWord.DESCRIPTORS] = descriptors.open
    words[WorkerWord.DESCRIPTOR_LIMIT] = descriptors.limit
    words[WorkerWord.REFUSING] = descriptors.is_refusing


class ConsumerDescription:
    """Names of the consumers of a process's publishers as it describes them; for its main thread.

    Args:
        publishers: Publishers that know them.
        describe: Writes the description with :attr:`names`.

    ``names`` are those of the last description, sorted.
    """

    def __init__(self, publishers: Sequence[Publisher], describe: Callable[[], None]) -> None:
        self.names: list[str] = []
        self._publishers = tuple(publishers)
        self._describe = describe
        self._seen = 0
        self._due_ns = 0

    def update(self, now_ns: int) -> None:
        """Describe the consumers if they changed, at most once a second."""
        changes = sum(publisher.consumers.changes for publisher in self._publishers)
        if changes == self._seen or now_ns < self._due_ns:
            return
        self._seen, self._due_ns = changes, now_ns + _DESCRIBE_NS
        names = sorted({name for publisher in self._publishers for name in publisher.consumer_names()})
        if names != self.names:
            self.names = names
            self._describe()
