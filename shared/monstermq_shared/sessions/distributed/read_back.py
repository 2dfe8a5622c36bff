"""R4: what this edge appended, and waits to read in the log before it acts on it."""

from collections import deque
from typing import Generic, TypeVar

T = TypeVar("T")

Place = tuple[int, int]
"""The sequence of a record of this edge, and which fact of it."""


class ReadBack(Generic[T]):
    """Those who wait for one log, per partition in order of their places.

    How many there are is bounded by what may be on its way to the log. Nobody waits where the log
    is read no more.

    Args:
        partitions: Of the log.
    """

    def __init__(self, partitions: int) -> None:
        self._waiters: list[deque[tuple[Place, T]]] = [deque() for _ in range(partitions)]
        self._stopped: set[int] = set()

    def __len__(self) -> int:
        """Return how many wait."""
        return sum(map(len, self._waiters))

    def expect(self, partition: int, place: Place, waiter: T) -> None:
        """Let somebody wait for what was appended last to a partition."""
        if partition not in self._stopped:
            self._waiters[partition].append((place, waiter))

    def stop(self, partition: int) -> list[T]:
        """A partition is read no more (R6); return who has waited for it."""
        self._stopped.add(partition)
        waiters, self._waiters[partition] = self._waiters[partition], deque()
        return [waiter for _, waiter in waiters]

    def read(self, partition: int, place: Place) -> tuple[T | None, list[T]]:
        """A record of ours is read.

        Returns:
            Who waits for it, if anybody does; and those who will never read theirs: it was to come
            before, so it was refused, and its sequence is not used again (R1).
        """
        waiters = self._waiters[partition]
        refused: list[T] = []
        while waiters and waiters[0][0] <= place:
            at, waiter = waiters.popleft()
            if at == place:
                return waiter, refused
            refused.append(waiter)
        return None, refused
