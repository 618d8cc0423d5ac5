"""State of a feed's consumers on the board: their subscriptions, and the descriptors that they take."""

from __future__ import annotations

from ipc.board import Row, WorkerWord
from ipc.descriptors import DescriptorGuard
from ipc.publisher import Publisher


def write_consumers(words: Row, publisher: Publisher, descriptors: DescriptorGuard) -> None:
    """Write the words of a process's consumers; for its main thread."""
    words[WorkerWord.SUBSCRIPTIONS] = publisher.subscriptions
    words[WorkerWord.DESCRIPTORS] = descriptors.open
    words[WorkerWord.DESCRIPTOR_LIMIT] = descriptors.limit
    words[WorkerWord.REFUSING] = descriptors.is_refusing
