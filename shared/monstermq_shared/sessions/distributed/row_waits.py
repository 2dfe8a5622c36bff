"""Kept sessions that wait until the rows of a partition reflect a marker of theirs (E5)."""

from collections.abc import Iterator, Mapping
from heapq import heapify, heappop, heappush
from itertools import count

from monstermq_shared.sessions.distributed.kept import KeptSession

STALE_MAX = 1_000
"""More of those that wait no longer, beyond as many as wait, are cleared away."""


class RowWaits:
    """All of them.

    Looking costs as much as there is to find: tens of thousands may wait for a projector that is
    away, and marks are looked at many times a second.

    Args:
        partitions: Of the bus.
    """

    def __init__(self, partitions: int) -> None:
        # Partition -> who waits, with the offset of the marker.
        self._marks: list[dict[KeptSession, int]] = [{} for _ in range(partitions)]
        # Partition -> heap of the same by offset, and of some that wait no longer; numbers keep
        # sessions from being compared.
        self._heaps: list[list[tuple[int, int, KeptSession]]] = [[] for _ in range(partitions)]
        self._numbers = count()

    def __bool__(self) -> bool:
        """Whether anybody waits."""
        return any(self._marks)

    def counts(self) -> dict[int, int]:
        """Return partition -> how many wait there; those where nobody does are out."""
        return {partition: len(marks) for partition, marks in enumerate(self._marks) if marks}

    def add(self, session: KeptSession, partition: int, mark: int) -> None:
        """A session waits until its rows reflect what stands at an offset, in place of before."""
        marks, heap = self._marks[partition], self._heaps[partition]
        marks[session] = mark
        heappush(heap, (mark, next(self._numbers), session))
        if len(heap) > 2 * len(marks) + STALE_MAX:
            heap[:] = [(at, next(self._numbers), each) for each, at in marks.items()]
            heapify(heap)

    def take(self, positions: Mapping[int, int]) -> list[tuple[KeptSession, int]]:
        """Return sessions with the partition whose rows reflect the log up to their markers."""
        return [
            (session, partition)
            for partition, upto in positions.items()
            for session in self._below(partition, upto)
        ]

    def _below(self, partition: int, upto: int) -> Iterator[KeptSession]:
        marks, heap = self._marks[partition], self._heaps[partition]
        while heap and heap[0][0] < upto:
            mark, _, session = heappop(heap)
            if marks.get(session) == mark:
                del marks[session]
                yield session

    def forget(self, session: KeptSession) -> None:
        """It waits for nothing any more."""
        for marks in self._marks:
            marks.pop(session, None)
